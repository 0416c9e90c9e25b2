//! The rules of a set as filters of a block, and packets looked up there as a worker does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tidegate_classifiers::block::Block;
use tidegate_classifiers::classify::{Context, Found};
use tidegate_classifiers::flow_cache::FlowCache;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::{Egress, PortId, WorkerId};
use tidegate_classifiers::reap::NoWorkers;
use tidegate_classifiers::request::{FilterId, KindSpec, Mode, dump, get_filter, new_filter};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::disturbance::waited;
use crate::figure::SpeedRound;
use crate::rule_set::{Answer, Header, RuleSet};
use crate::storm::flower;

/// Packets that a worker takes from a ring at once, unless its file says otherwise.
pub(crate) const BURST: usize = 64;

/// The name of the thread that looks up, by which the time that it had no core is found.
pub(crate) const THREAD: &str = "classify";

/// A block with one filter for each rule.
#[derive(Debug)]
pub(crate) struct Filters {
    pub(crate) block: Arc<Block>,
    /// Of each rule.
    ids: Vec<FilterId>,
}

/// Packets that are looked up in turn, over and over.
#[derive(Debug)]
pub(crate) struct Lookups<'a> {
    filters: Filters,
    set: &'a RuleSet,
    /// One for each header.
    packets: Vec<Packet>,
    /// Headers in the order in which they come.
    trace: &'a [u32],
    /// Place in the trace.
    next: usize,
    /// The packets in hand.
    burst: Vec<Packet>,
    /// What became of them.
    verdicts: Vec<Verdict>,
    rng: fastrand::Rng,
    flow_cache: Option<FlowCache>,
    /// Packets that a filter dropped so far.
    dropped: u64,
    /// The time that workers would read.
    epoch: Instant,
}

impl Filters {
    /// What it remembers of each rule.
    pub(crate) const BYTES_EACH: usize = size_of::<FilterId>();

    /// Loads all rules by requests, each with a priority of its own by its rank, and the same action; also how long that took,
    /// from nothing, with all that it left behind released.
    ///
    /// # Errors
    /// If a request is refused.
    pub(crate) fn load(set: &RuleSet, ranks: &[u32], control: Control) -> Result<(Filters, Duration)> {
        let block = Plane::new(1, NoWorkers).private_block();
        let mut spec = flower(0, 0, set.version.ethertype(), control);
        let mut ids = Vec::with_capacity(set.rules.len());
        let clock = Instant::now();
        for (rule, rank) in set.rules.iter().zip(ranks) {
            spec.priority = rank + 1;
            spec.kind = KindSpec::Flower(Box::new(rule.flower()));
            ids.push(new_filter(&block, &spec, Mode::Add).with_context(|| format!("{rule:?}"))?);
        }
        block.plane().reaper().drain();
        Ok((Filters { block, ids }, clock.elapsed()))
    }

    /// Packets that the filter of a rule has matched so far.
    fn hits(&self, rule: u32) -> Result<u64> {
        Ok(get_filter(&self.block, self.ids[rule as usize])?.hits.packets)
    }
}

impl<'a> Lookups<'a> {
    /// Looks headers of `set` up in the order of `trace`, with a flow cache of so many entries; without one for 0.
    ///
    /// # Errors
    /// If a header makes no packet.
    pub(crate) fn new(filters: Filters, set: &'a RuleSet, trace: &'a [u32], flow_cache: u32) -> Result<Lookups<'a>> {
        let packet = |header: &Header| Packet::parse(&header.frame(set.version), PortId(0)).context("no packet");
        Ok(Lookups {
            filters,
            set,
            packets: set.headers.iter().map(packet).collect::<Result<_>>()?,
            trace,
            next: 0,
            burst: Vec::with_capacity(BURST),
            verdicts: Vec::with_capacity(BURST),
            rng: fastrand::Rng::with_seed(1),
            flow_cache: (flow_cache > 0).then(|| FlowCache::new(flow_cache)),
            dropped: 0,
            epoch: Instant::now(),
        })
    }

    /// Looks up headers whose answers are known.
    ///
    /// # Errors
    /// At the first burst whose packets were not counted by just the filters of these rules.
    pub(crate) fn check(&mut self, known: &[(u32, Answer)]) -> Result<()> {
        for burst in known.chunks(BURST) {
            let mut wanted = BTreeMap::<u32, u64>::new();
            burst.iter().filter_map(|&(_, answer)| answer).for_each(|rule| *wanted.entry(rule).or_default() += 1);
            let before = wanted.keys().map(|&rule| self.filters.hits(rule)).collect::<Result<Vec<_>>>()?;
            self.burst.clear();
            self.burst.extend(burst.iter().map(|&(header, _)| self.packets[header as usize]));
            let dropped_before = self.dropped;
            self.classify();
            for ((&rule, &packets), before) in wanted.iter().zip(&before) {
                let found = self.filters.hits(rule)? - before;
                let header = burst.iter().find(|&&(_, answer)| answer == Some(rule)).map_or(0, |&(header, _)| header);
                ensure!(
                    found == packets,
                    "a wrong answer: {packets} of {} packets belong to {:?}, and its filter took {found}; one of them is {:?}",
                    burst.len(),
                    self.set.rules[rule as usize],
                    self.set.headers[header as usize]
                );
            }
            let (wanted, dropped) = (wanted.values().sum::<u64>(), self.dropped - dropped_before);
            ensure!(dropped == wanted, "a wrong answer: {wanted} packets have a filter, and {dropped} were dropped");
        }
        Ok(())
    }

    /// Looks packets up for `span`, of which the time in [`classify`] counts. Called on the thread [`THREAD`].
    ///
    /// # Errors
    /// If the kernel does not keep account of threads.
    pub(crate) fn round(&mut self, span: Duration) -> Result<SpeedRound> {
        let (mut packets, mut busy) = (0, Duration::ZERO);
        let (waited_before, start) = (waited(THREAD)?, Instant::now());
        let whole = loop {
            self.next_burst();
            let (begin, end) = self.classify();
            busy += end - begin;
            packets += self.burst.len();
            if end - start >= span {
                break end - start;
            }
        };
        let core_lost = (waited(THREAD)? - waited_before).div_duration_f64(whole);
        Ok(SpeedRound::new(packets as u64, busy, core_lost))
    }

    /// The same without the flow cache.
    ///
    /// # Errors
    /// As [`Lookups::round`].
    pub(crate) fn round_without_cache(&mut self, span: Duration) -> Result<SpeedRound> {
        let flow_cache = self.flow_cache.take();
        let round = self.round(span);
        self.flow_cache = flow_cache;
        round
    }

    /// The share of packets since this was asked for last that the flow cache knew, if there is one.
    pub(crate) fn take_hit_rate(&mut self) -> Option<f64> {
        self.flow_cache.as_mut().map(|cache| cache.take_counts().hit_rate())
    }

    /// Packets that were dropped and not counted by a filter, or the other way round.
    ///
    /// # Errors
    /// If there is one.
    pub(crate) fn check_counters(&self) -> Result<()> {
        let counted: u64 = dump(&self.filters.block).iter().map(|filter| filter.hits.packets).sum();
        ensure!(counted == self.dropped, "{} packets were dropped, and filters counted {counted}", self.dropped);
        Ok(())
    }

    /// Takes the next packets of the trace in hand.
    fn next_burst(&mut self) {
        let end = (self.next + BURST).min(self.trace.len());
        self.burst.clear();
        self.burst.extend(self.trace[self.next..end].iter().map(|&header| self.packets[header as usize]));
        self.next = end % self.trace.len();
    }

    /// Looks up the packets in hand; when that began and ended.
    fn classify(&mut self) -> (Instant, Instant) {
        let begin = Instant::now();
        let now_ns = u64::try_from((begin - self.epoch).as_nanos()).unwrap_or(u64::MAX).max(1);
        classify(
            &self.filters.block,
            &mut self.burst,
            &mut self.verdicts,
            now_ns,
            &mut self.rng,
            self.flow_cache.as_mut(),
        );
        let end = Instant::now();
        self.dropped += self.verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Drop(_))).count() as u64;
        (begin, end)
    }
}

/// What a worker, which may have a flow cache, asks of a block for the packets of a burst, [`BURST`] at most, and all that is measured.
/// Their verdicts replace `verdicts`.
#[inline(never)] // so that a profile shows it
pub(crate) fn classify(
    block: &Block,
    packets: &mut [Packet],
    verdicts: &mut Vec<Verdict>,
    now_ns: u64,
    rng: &mut fastrand::Rng,
    flow_cache: Option<&mut FlowCache>,
) {
    let (generation, head) = (block.plane().generation(), block.head());
    let mut cx = Context { worker: WorkerId(0), generation, now_ns, rng, egress: &mut Nowhere };
    let mut found = [Found::default(); BURST];
    match flow_cache {
        None => head.find(&*packets, cx.worker, generation, &mut found),
        Some(cache) => head.find_cached(&*packets, cx.worker, generation, &mut found[..packets.len()], cache),
    }
    let each = packets.iter_mut().zip(found);
    verdicts.clear();
    verdicts.extend(each.map(|(packet, found)| block.classify_found(&head, found, packet, &mut cx)));
}

/// No ports, and no frame: a packet that is dropped needs neither.
#[derive(Debug)]
struct Nowhere;

impl Egress for Nowhere {
    fn frame(&self) -> &[u8] {
        &[]
    }

    fn ready(&self, _: PortId) -> bool {
        false
    }

    fn mirror(&mut self, _: PortId) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::ipv6_rules;
    use crate::rule_set::Order;

    fn known(set: &RuleSet, ranks: &[u32]) -> Vec<(u32, Answer)> {
        (0..).zip(&set.headers).map(|(id, header)| (id, set.search(ranks, header))).collect()
    }

    #[test]
    fn answers_are_those_of_the_search_and_every_packet_is_counted() {
        let set = ipv6_rules::generate(100, 500);
        let trace: Vec<u32> = (0..500).chain([3; 10]).collect();
        for (order, flow_cache) in [(Order::File, 0), (Order::Shuffled, 0), (Order::Shuffled, 1024)] {
            let ranks = order.ranks(100);
            let mut lookups =
                Lookups::new(Filters::load(&set, &ranks, Control::Shot).unwrap().0, &set, &trace, flow_cache).unwrap();
            for _ in 0..2 {
                lookups.check(&known(&set, &ranks)).unwrap(); // the second time, the cache knows them
            }
            assert_eq!(lookups.take_hit_rate().map(|rate| rate > 0.3), (flow_cache > 0).then_some(true));
            let rounds = thread::Builder::new().name(THREAD.into());
            let lookups = thread::scope(|scope| {
                let round = move || lookups.round(Duration::from_millis(5)).map(|round| (round, lookups));
                let (round, lookups) = rounds.spawn_scoped(scope, round).unwrap().join().unwrap().unwrap();
                assert!(round.rate > 0.0 && round.core_lost >= 0.0, "{round:?}");
                lookups
            });
            lookups.check_counters().unwrap();
        }
    }

    #[test]
    fn a_wrong_answer_is_seen() {
        let set = ipv6_rules::generate(100, 200);
        let ranks = Order::File.ranks(100);
        let trace: Vec<u32> = (0..200).collect();
        let right = known(&set, &ranks);
        let (other, none) = (right.iter().position(|(_, answer)| answer.is_some()).unwrap(), None);
        for wrong in [right[other].1.map(|rule| (rule + 1) % 100), none] {
            let mut lookups =
                Lookups::new(Filters::load(&set, &ranks, Control::Shot).unwrap().0, &set, &trace, 0).unwrap();
            let mut known = right.clone();
            known[other].1 = wrong;
            let error = lookups.check(&known).unwrap_err().to_string();
            assert!(error.starts_with("a wrong answer: "), "{error}");
        }
    }
}
