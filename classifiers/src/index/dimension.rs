//! Dimension: a field of the key by which a search rules tuples out, before it probes any.

use super::bits::{self, Bits, LANES, Set};
use super::era::Era;
use super::rule::{Key, Rule};
use super::shared::Shared;
use super::simd::Vectors;
use super::trie::{Node, Pair, Trie, Update};
use crate::flow_key::{self as fields, FlowKey};
use crate::wire::ethertype::{IPV4, IPV6};

/// Bits of a key that a trie can tell apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    word: usize,
    shift: u32,
    /// Up to 32.
    width: u32,
}

/// A dimension of an index: the tuples that have a filter for a packet as far as these bits can tell.
#[derive(Debug, Default)]
pub(super) struct Dimension {
    trie: Trie,
    /// Tuples with filters that do not look at the bits.
    any: Shared<Set>,
}

/// Filters that do not look at the bits, by the bit of their tuple.
#[derive(Debug, Default)]
pub(super) struct Counts(Vec<u32>);

/// Which addresses a packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
    Other,
}

impl Family {
    pub(super) const ALL: [Family; 3] = [Family::V4, Family::V6, Family::Other];

    #[inline]
    pub(super) fn of(key: &Key) -> Family {
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the ethertype")]
        match key[fields::ETH_TYPE.word] as u16 {
            IPV4 => Family::V4,
            IPV6 => Family::V6,
            _ => Family::Other,
        }
    }

    /// The dimensions that tell its packets apart: addresses, and what tells less.
    #[inline]
    pub(super) fn dimensions(self) -> (&'static [usize], &'static [usize]) {
        match self {
            Family::V4 => (&[0, 1], &[6, 7, 8, 9]),
            Family::V6 => (&[2, 3, 4, 5], &[6, 7, 8, 9]),
            Family::Other => (&[], &[9]),
        }
    }
}

/// What is known of the packets of a filter.
pub(super) struct Facts {
    value: FlowKey,
    mask: FlowKey,
    /// Nothing if packets of every family may be for it.
    family: Option<Family>,
    bit: u16,
}

impl Facts {
    /// Of `rule`, whose tuple has `bit`.
    pub(super) fn of(rule: Option<&Rule>, bit: u16) -> Facts {
        let (value, mask) = rule.map_or_else(Default::default, |rule| (rule.value(), *rule.mask().key()));
        let family = (mask.get(fields::ETH_TYPE) != 0).then(|| Family::of(value.words()));
        Facts { value, mask, family, bit }
    }

    pub(super) fn bit(&self) -> u16 {
        self.bit
    }

    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(|family| self.family.is_none_or(|only| only == *family))
    }

    /// The dimensions that tell these packets apart from others.
    pub(super) fn dimensions(&self) -> impl Iterator<Item = usize> {
        let of_all = || self.family.is_none().then_some(0..SLICES.len()).into_iter().flatten();
        let of_one = self.family.into_iter().flat_map(|family| {
            let (addresses, others) = family.dimensions();
            addresses.iter().chain(others).copied()
        });
        of_one.chain(of_all())
    }

    /// What the filter wants of the bits of dimension `at` first: those up to the first one that it does not look at.
    /// Nothing if that is none.
    pub(super) fn pair(&self, at: usize) -> Option<Pair> {
        #[expect(clippy::cast_possible_truncation, reason = "32 at most")]
        let len = SLICES[at].of(self.mask.words()).leading_ones() as u8;
        let key = SLICES[at].of(self.value.words());
        (len > 0).then(|| Pair { key: key >> (32 - len) << (32 - len), len, bit: self.bit })
    }
}

/// The dimensions. Addresses of IPv6 have two each; what lies behind them is left to the probe.
pub(super) const SLICES: [Slice; 10] = [
    Slice::new(fields::SRC_IP_LOW, 0, 32),
    Slice::new(fields::DST_IP_LOW, 0, 32),
    Slice::new(fields::SRC_IP_HIGH, 0, 32),
    Slice::new(fields::DST_IP_HIGH, 0, 32),
    Slice::new(fields::SRC_IP_HIGH, 32, 32),
    Slice::new(fields::DST_IP_HIGH, 32, 32),
    Slice::new(fields::DST_PORT, 0, 16),
    Slice::new(fields::SRC_PORT, 0, 16),
    Slice::new(fields::IP_PROTO, 0, 8),
    Slice::new(fields::VLAN_ID, 0, 12),
];

impl Slice {
    const fn new(field: fields::Field, shift: u32, width: u32) -> Slice {
        Slice { word: field.word, shift: field.shift + shift, width }
    }

    /// These bits of `key`, left-aligned.
    #[inline]
    pub(super) fn of(self, key: &Key) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
        let bits = (key[self.word] >> self.shift) as u32;
        bits << (32 - self.width)
    }
}

impl Dimension {
    /// Where a search in the trie begins; nothing if all tuples are in `any`.
    #[inline]
    pub(super) fn root<'a>(&'a self, era: &'a Era) -> Option<&'a Node> {
        self.trie.root(era)
    }

    /// Leaves only those candidates that have a filter for the bits `key`.
    #[inline(always)]
    pub(super) fn rule_out(&self, vectors: impl Vectors, key: u32, candidates: &mut Bits, era: &Era) {
        let Some(root) = self.trie.root(era) else { return }; // all are in `any`
        let mut found = self.any.get(era).map_or([0; LANES], |Set(any)| *any);
        let mut next = Some(root);
        while let Some(node) = next {
            next = node.step(vectors, key, &mut found, era);
        }
        (0..LANES).for_each(|lane| candidates[lane] &= found[lane]);
    }

    /// A filter more, with `pair`, or without one.
    pub(super) fn add(&self, pair: Option<Pair>, bit: u16, free: &mut Counts, update: &mut Update<'_>) {
        match pair {
            Some(pair) => self.trie.add(pair, update),
            None => free.add(&self.any, bit, update),
        }
    }

    /// A filter less.
    pub(super) fn remove(&self, pair: Option<Pair>, bit: u16, free: &mut Counts, update: &mut Update<'_>) {
        match pair {
            Some(pair) => self.trie.remove(pair, update),
            None => free.remove(&self.any, bit, update),
        }
    }
}

impl Counts {
    /// A filter more; `set` follows.
    pub(super) fn add(&mut self, set: &Shared<Set>, bit: u16, update: &mut Update<'_>) {
        let at = usize::from(bit);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] += 1;
        if self.0[at] == 1 {
            update.change_set(set, |bits| bits::put(bits, bit));
        }
    }

    /// A filter less.
    pub(super) fn remove(&mut self, set: &Shared<Set>, bit: u16, update: &mut Update<'_>) {
        let count = &mut self.0[usize::from(bit)];
        *count -= 1;
        if *count == 0 {
            update.change_set(set, |bits| bits::take(bits, bit));
        }
    }
}
