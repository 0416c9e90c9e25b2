//! A storm of updates: threads that add and delete flower filters as fast as requests go.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_key::{DST_PORT, FlowKey, IP_PROTO, SRC_PORT};
use tidegate_classifiers::request::{
    ActionList, ActionSpec, FilterId, FilterSpec, FlowerSpec, GactSpec, KindSpec, add_filter, delete_filter,
};
use tidegate_classifiers::verdict::Control;
use tidegate_engine::cpu;

use crate::disturbance::waited;
use crate::figure::SpeedRound;

/// Pairs of an add and a delete between two looks at the stop flag.
const STRIDE: u32 = 16;

/// Filters of one proto that belong to one thread, oldest first. No key ever comes twice.
#[derive(Debug)]
pub(crate) struct Storm {
    block: Arc<Block>,
    spec: FilterSpec,
    present: VecDeque<FilterId>,
    /// The next filter's key.
    next: u64,
    /// Distinguishes the keys of threads that share a proto.
    stream: u8,
}

/// What one thread did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blow {
    /// Adds and deletes.
    pub(crate) operations: u64,
    /// While it ran.
    pub(crate) span: Duration,
    /// Share of it for which others had its core.
    pub(crate) core_lost: f64,
}

impl Blow {
    /// Operations a second of the time in which it could run: what others took of its core is taken out.
    pub(crate) fn rate(&self) -> f64 {
        SpeedRound::new(self.operations, self.span, self.core_lost).rate
    }
}

impl Storm {
    /// What it remembers of each filter.
    pub(crate) const BYTES_EACH: usize = size_of::<FilterId>();

    /// Of the proto `priority` in `chain`, for IPv4; every filter has a 5-tuple and drops.
    pub(crate) fn new(block: &Arc<Block>, chain: u32, priority: u32, stream: u8) -> Storm {
        let spec = flower(chain, priority, 0x0800, Control::Shot);
        Storm { block: Arc::clone(block), spec, present: VecDeque::new(), next: 0, stream }
    }

    /// The same, with filters that have no action.
    pub(crate) fn without_action(mut self) -> Storm {
        self.spec.actions = ActionList::default();
        self
    }

    /// Adds filters until there are `count`.
    ///
    /// # Errors
    /// If one is refused.
    pub(crate) fn fill(&mut self, count: usize) -> Result<()> {
        self.present.reserve_exact(count + 1 - self.present.len().min(count));
        while self.present.len() < count {
            self.add()?;
        }
        Ok(())
    }

    /// Adds a filter, and deletes the oldest, until `stop`. Returns the number of operations.
    ///
    /// # Errors
    /// If one is refused.
    pub(crate) fn churn(&mut self, stop: &AtomicBool) -> Result<u64> {
        let mut operations = 0;
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..STRIDE {
                self.add()?;
                let oldest = self.present.pop_front().context("one was added")?;
                delete_filter(&self.block, oldest)?;
            }
            operations += 2 * u64::from(STRIDE);
        }
        Ok(operations)
    }

    fn add(&mut self) -> Result<()> {
        self.spec.kind = KindSpec::Flower(Box::new(five_tuple(self.stream, self.next)));
        self.next += 1;
        self.present.push_back(add_filter(&self.block, &self.spec)?);
        Ok(())
    }
}

/// Has every storm blow on a thread of its own, on the core beside it, for `span`.
///
/// # Errors
/// If a request is refused, or there is no such core.
pub(crate) fn blow(storms: Vec<(&mut Storm, u16)>, span: Duration) -> Result<Vec<Blow>> {
    let (stop, start) = (AtomicBool::new(false), Barrier::new(storms.len() + 1));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(storms)
            .map(|(number, (storm, core))| {
                let (stop, start) = (&stop, &start);
                let name = format!("storm-{number}");
                let run = {
                    let name = name.clone();
                    move || {
                        let ready = cpu::pin(core);
                        start.wait(); // first, or the others would wait for ever
                        ready?;
                        let (waited_before, clock) = (waited(&name)?, Instant::now());
                        let operations = storm.churn(stop)?;
                        let span = clock.elapsed();
                        let core_lost = (waited(&name)? - waited_before).div_duration_f64(span);
                        Ok(Blow { operations, span, core_lost })
                    }
                };
                thread::Builder::new().name(name).spawn_scoped(scope, run)
            })
            .collect::<Result<_, _>>()?;
        start.wait();
        thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a storm panicked"))).collect()
    })
}

/// A flower filter for every packet of `protocol`, until it is given something to match, with one action.
pub(crate) fn flower(chain: u32, priority: u32, protocol: u16, control: Control) -> FilterSpec {
    let action = ActionSpec::Gact(GactSpec { control, random: None });
    FilterSpec {
        chain,
        priority,
        protocol,
        handle: 0,
        kind: KindSpec::Flower(Box::default()),
        actions: [action].into_iter().collect(),
        name: "".into(),
        options: Default::default(),
    }
}

/// A UDP flow of its own for each number below 2^40, none of them the generator's: 10.0.0.0/8 never meets the benchmark's
/// own 198.18.0.0/15.
fn five_tuple(stream: u8, number: u64) -> FlowerSpec {
    let [_, _, _, high, a, b, c, d] = number.to_be_bytes();
    let mut value = FlowKey::EMPTY;
    value.set(IP_PROTO, 17);
    value.set_src_ipv4([10, b, c, d].into());
    value.set_dst_ipv4([10, stream, high, a].into());
    value.set(SRC_PORT, 1024);
    value.set(DST_PORT, 9);
    let mut mask = FlowKey::EMPTY;
    for field in [IP_PROTO, SRC_PORT, DST_PORT] {
        mask.set(field, field.max());
    }
    mask.set_src_ipv4([255; 4].into());
    mask.set_dst_ipv4([255; 4].into());
    FlowerSpec { value, mask, ..FlowerSpec::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tidegate_classifiers::request::dump;

    use super::*;

    #[test]
    fn no_two_numbers_or_streams_have_the_same_key() {
        let numbers = (0..1000).chain((0..24).map(|bit| 0x00ff_ffff + (1 << bit))).chain([(1 << 40) - 1]);
        let keys: Vec<_> = numbers.flat_map(|number| [0, 1].map(|stream| five_tuple(stream, number))).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    }

    #[test]
    fn a_storm_leaves_as_many_filters_as_there_were_and_none_of_the_old_ones() {
        let block = Block::new(1);
        let mut storms = [0, 1].map(|stream| Storm::new(&block, 0, 1, stream));
        storms.iter_mut().for_each(|storm| storm.fill(10).unwrap());
        let before: HashSet<_> = dump(&block).into_iter().map(|filter| format!("{:?}", filter.matches)).collect();
        let [a, b] = &mut storms;
        let blows = blow(vec![(a, 0), (b, 0)], Duration::from_millis(50)).unwrap();
        assert!(blows.iter().all(|blow| blow.operations > 0 && blow.rate() > 0.0), "{blows:?}");
        let after: Vec<_> = dump(&block).into_iter().map(|filter| format!("{:?}", filter.matches)).collect();
        assert_eq!((before.len(), after.len()), (20, 20));
        assert!(after.iter().all(|filter| !before.contains(filter)));
    }
}
