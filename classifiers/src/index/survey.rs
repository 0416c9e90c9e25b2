//! Survey: what a packet costs in an index, computed from the index and not measured.

use super::bits::{BITS, Bits};
use super::bunch;
use super::era::Era;
use super::many::Many;
use super::rule::{Key, Rule};
use super::search::Query;
use super::simd::Plain;
use super::{ChainIndex, Contents};
use crate::flow_key::{FlowKey, WORDS};
use crate::generation::Generation;

/// Packets that are tried.
const SAMPLES: usize = 64;

/// Buckets that are looked into for the filter that a packet is made from.
const TRIES: usize = 16;

/// What an index holds, and what that costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Survey {
    /// Filters that are met, or could be when a transaction is committed.
    pub(crate) filters: usize,
    /// Different masks.
    pub(crate) masks: usize,
    /// Masks, or where filters are few these, that a packet is looked up in at most, on average of packets that filters are for.
    pub(crate) probes: f64,
}

impl ChainIndex {
    /// As it is now.
    pub(crate) fn survey(&self) -> Survey {
        let era = self.eras.enter();
        match self.contents.get(&era) {
            Some(Contents::Few(few)) => {
                let mut masks: Vec<_> = few.iter().map(|filter| filter.rule().map(Rule::mask)).collect();
                masks.sort_by_key(|mask| mask.map(|mask| mask.shape()));
                masks.dedup_by_key(|mask| mask.map(|mask| mask.shape()));
                #[expect(clippy::cast_precision_loss, reason = "less than ten")]
                Survey { filters: few.len(), masks: masks.len(), probes: few.len() as f64 }
            }
            Some(Contents::Many(many)) => {
                let (filters, masks) = self.books.lock().count();
                Survey { filters, masks, probes: many.probes(&era) }
            }
            None => Survey::default(),
        }
    }
}

impl Many {
    /// Masks that a packet may be looked up in: each one is made from two filters, and meets the first if it is there.
    fn probes(&self, era: &Era) -> f64 {
        let len = self.buckets().len();
        let at = |sample: usize| {
            let first = sample * len / SAMPLES;
            (first..).take(TRIES).find_map(|place| {
                let cell = self.buckets().any(place % len, era)?;
                bunch::any(&cell).and_then(|filter| filter.rule())
            })
        };
        let rules: Vec<&Rule> = (0..SAMPLES).filter_map(at).collect();
        let packets = rules.iter().zip(rules.iter().cycle().skip(1));
        let probes: usize = packets.map(|(rule, other)| self.candidates_of(&packet(rule, other), era)).sum();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let mean = probes as f64 / rules.len().max(1) as f64;
        mean
    }

    /// Masks that the dimensions do not rule out for packets of `key`.
    fn candidates_of(&self, key: &Key, era: &Era) -> usize {
        let query = Query { key, protocol: 0, from: 0, generation: Generation::default() }; // only the key counts
        let mut left: [Bits; 1] = Default::default();
        self.rule_out(Plain, &[query], &mut left, era);
        let [left] = left;
        let bits = (0..BITS).filter(|bit| left[bit / 64] >> (bit % 64) & 1 == 1);
        let tuples = |bit: usize| std::iter::successors(self.tuples().at(bit, era), |tuple| tuple.next(era)).count();
        bits.map(tuples).sum()
    }
}

/// What `rule` wants, and for what it leaves open what `other` wants.
fn packet(rule: &Rule, other: &Rule) -> [u64; WORDS] {
    let (value, mask, other): (FlowKey, _, _) = (rule.value(), rule.mask().key().words(), other.value());
    std::array::from_fn(|word| value.words()[word] & mask[word] | other.words()[word] & !mask[word])
}
