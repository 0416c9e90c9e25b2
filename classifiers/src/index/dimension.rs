//! Dimension: a field of the key by which a search rules tuples out, before it probes any.

use super::bits;
use super::era::Era;
use super::node::BYTE;
use super::rule::{Key, Mask, Rule};
use super::sets::Slot;
use super::simd::Vectors;
use super::span::Span;
use super::trie::{Trie, Update};
use crate::flow_key::{self as fields, FlowKey};
use crate::wire::ethertype::{IPV4, IPV6};

/// Packets that take their steps through a trie together: what is carried along for them fits into the nearest cache.
pub(super) const STEPPED: usize = 8;

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
    any: Slot,
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

    /// The family of all packets that filters with this mask and value are for, if there is one.
    pub(super) fn of_filters(mask: &Mask, value: &Key) -> Option<Family> {
        (mask.key().get(fields::ETH_TYPE) == fields::ETH_TYPE.max()).then(|| Family::of(value))
    }

    /// The dimensions that tell its packets apart.
    #[inline]
    pub(super) fn dimensions(self) -> &'static [usize] {
        match self {
            Family::V4 => &[0, 1, 6, 7, 8, 9],
            Family::V6 => &[2, 3, 4, 5, 6, 7, 8, 9],
            Family::Other => &[9],
        }
    }
}

/// What is known of the packets of a filter.
pub(super) struct Facts {
    value: FlowKey,
    mask: FlowKey,
    /// Ranges of source and destination ports.
    ranges: [Option<(u16, u16)>; 2],
    /// Nothing if packets of every family may be for it.
    family: Option<Family>,
    bit: u16,
}

impl Facts {
    /// Of `rule`, whose tuple has `bit`.
    pub(super) fn of(rule: Option<&Rule>, bit: u16) -> Facts {
        let (value, mask) = rule.map_or_else(Default::default, |rule| (rule.value(), *rule.mask().key()));
        let ranges = rule.map(Rule::ranges).unwrap_or_default();
        let family = rule.and_then(|rule| Family::of_filters(rule.mask(), value.words()));
        Facts { value, mask, ranges, family, bit }
    }

    pub(super) fn bit(&self) -> u16 {
        self.bit
    }

    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(|family| self.family.is_none_or(|only| only == *family))
    }

    /// The dimensions that tell these packets apart from others.
    pub(super) fn dimensions(&self) -> impl Iterator<Item = usize> {
        let of_all = self.family.is_none().then_some(0..SLICES.len()).into_iter().flatten();
        self.family.map(Family::dimensions).into_iter().flatten().copied().chain(of_all)
    }

    /// What the filter wants of the bits of dimension `at`: those up to the first one that it does not look at, or a range.
    /// Nothing if that is none.
    pub(super) fn span(&self, at: usize) -> Option<Span> {
        let len = SLICES[at].of(self.mask.words()).leading_ones();
        let range = match at {
            SRC_PORT => self.ranges[0],
            DST_PORT => self.ranges[1],
            _ => None,
        };
        match range {
            Some(range) => Some(Span::range(self.bit, range)),
            None => (len > 0).then(|| Span::prefix(self.bit, SLICES[at].of(self.value.words()), len)),
        }
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

/// Where ports are in [`SLICES`].
const DST_PORT: usize = 6;
const SRC_PORT: usize = 7;

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
    /// Leaves to the packets `group` those of their `candidates` that have a filter for their bits, `keys`.
    #[inline(always)]
    pub(super) fn rule_out<const N: usize, const W: usize>(
        &self,
        vectors: impl Vectors,
        keys: &[u32],
        group: &[usize],
        candidates: &mut [[u64; W]; N],
        era: &Era,
    ) {
        let root = self.trie.root(era);
        if root.is_end() {
            return; // all are in `any`
        }
        let len = keys.len().min(STEPPED);
        let (any, mut found, mut cursors) = (&self.any.get(era).0, [[0; W]; STEPPED], [root; STEPPED]);
        found[..len].iter_mut().for_each(|found| vectors.unite(found, any));
        let (mut depth, mut more) = (0, true);
        while more {
            more = false;
            for ((cursor, found), key) in cursors[..len].iter_mut().zip(&mut found).zip(keys) {
                *cursor = cursor.step(vectors, *key, depth, found, era);
                more |= !cursor.is_end();
                cursor.prefetch(*key, depth + BYTE);
            }
            depth += BYTE;
        }
        for (i, found) in group.iter().zip(&found) {
            vectors.intersect(&mut candidates[*i], found);
        }
    }

    /// A filter more, with `span`, or without one.
    pub(super) fn add(&self, span: Option<Span>, bit: u16, free: &mut Counts, update: &mut Update<'_>) {
        match span {
            Some(span) => self.trie.add(span, update),
            None => free.add(&self.any, bit, update),
        }
    }

    /// A filter less.
    pub(super) fn remove(&self, span: Option<Span>, bit: u16, free: &mut Counts, update: &mut Update<'_>) {
        match span {
            Some(span) => self.trie.remove(span, update),
            None => free.remove(&self.any, bit, update),
        }
    }
}

impl Counts {
    /// A filter more; the set in `slot` follows.
    pub(super) fn add(&mut self, slot: &Slot, bit: u16, update: &mut Update<'_>) {
        let at = usize::from(bit);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] += 1;
        if self.0[at] == 1 {
            update.change_set(slot, |bits| bits::put(bits, bit));
        }
    }

    /// A filter less.
    pub(super) fn remove(&mut self, slot: &Slot, bit: u16, update: &mut Update<'_>) {
        let count = &mut self.0[usize::from(bit)];
        *count -= 1;
        if *count == 0 {
            update.change_set(slot, |bits| bits::take(bits, bit));
        }
    }
}
