//! Trie: which tuples have a filter whose prefix an address begins with.
//!
//! A pair is a prefix of up to 32 bits and the bit of a tuple that has a filter with it. Some dozens of pairs lie in a list of
//! leaves, whose prefixes are compared 16 at once. More of them are told apart by a byte: a fan has 256 ways, each with the
//! set of those pairs that end with this byte, and what comes behind it. So a search takes up to four steps, and an update touches up
//! to 256 ways, however many pairs there are.

use std::array;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Weak;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use foldhash::fast::RandomState;

use super::bits::{self, Bits, Set};
use super::era::{Era, Over, Unlinked};
use super::shared::{Shared, Target};
use super::simd::Vectors;
use crate::sync::{Arc, TryLock, TryLocked};

/// Pairs of a leaf; for model checks so few that a handful of filters makes a tree.
pub(super) const PAIRS: usize = if cfg!(feature = "shuttle") { 2 } else { 16 };

/// Leaves of a list beyond which a byte tells its pairs apart.
const LEAVES: usize = if cfg!(feature = "shuttle") { 1 } else { 3 };

/// The pairs of one dimension, whose prefixes are at least a bit long.
#[derive(Debug, Default)]
pub(super) struct Trie {
    root: Shared<Node>,
}

/// What a search has before it.
#[derive(Debug)]
pub(crate) enum Node {
    Leaf(Leaf),
    Fan(Box<Fan>),
}

/// Pairs in no order. It never changes, but for the counts and the way to the next leaf.
#[derive(Debug)]
pub(crate) struct Leaf {
    keys: [u32; PAIRS],
    /// How many bits of a key do not count.
    shifts: [u8; PAIRS],
    len: u8,
    bits: [u16; PAIRS],
    next: Shared<Node>,
    /// Filters that have the pair.
    counts: [AtomicU32; PAIRS],
}

/// 256 ways, by the byte from bit `depth` on.
#[derive(Debug)]
pub(crate) struct Fan {
    depth: u8,
    ways: [Way; 256],
    /// The pairs that end here, with the number of filters that have them, for the writer.
    own: TryLock<BTreeMap<Own, u32>>,
}

/// What there is for one byte.
#[derive(Debug, Default)]
struct Way {
    /// Of the pairs that end with it.
    set: Shared<Set>,
    /// Of those that go on.
    behind: Shared<Node>,
}

/// A pair that ends in a fan: how many bits of the byte count, and those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Own {
    bit: u16,
    len: u8,
    byte: u8,
}

/// Each set that some way of some trie has, once.
#[derive(Debug, Default)]
pub(super) struct Sets(HashMap<Bits, Weak<Set>, RandomState>);

/// A prefix of a dimension, and a bit that stands for a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    /// Left-aligned; bits behind the prefix are 0.
    pub(super) key: u32,
    /// 1 to 32.
    pub(super) len: u8,
    pub(super) bit: u16,
}

/// What an update took out.
#[derive(Debug)]
pub(crate) enum Cut {
    Node(Unlinked<Node>),
    Set(Unlinked<Set>),
}

impl Target for Node {}

impl Trie {
    /// Where a search begins.
    #[inline]
    pub(super) fn root<'a>(&'a self, era: &'a Era) -> Option<&'a Node> {
        self.root.get(era)
    }

    /// One filter more has `pair`.
    pub(super) fn add(&self, pair: Pair, update: &mut Update<'_>) {
        update.add(&self.root, 0, pair, 1);
    }

    /// One filter less has `pair`.
    pub(super) fn remove(&self, pair: Pair, update: &mut Update<'_>) {
        update.remove(&self.root, pair);
    }
}

impl Node {
    /// One step of a search: puts the tuples whose prefixes are here and `key` begins with into `found`. Returns where the
    /// search goes on.
    #[inline(always)]
    pub(super) fn step<'a>(
        &'a self,
        vectors: impl Vectors,
        key: u32,
        found: &mut Bits,
        era: &'a Era,
    ) -> Option<&'a Node> {
        match self {
            Node::Leaf(leaf) => {
                let mut hits = vectors.prefixes(&leaf.keys, &leaf.shifts, key) & ((1 << leaf.len) - 1);
                // Mostly there is one, or none: without a branch, which nobody could foretell.
                loop {
                    let one = bits::one(leaf.bits[hits.trailing_zeros() as usize % PAIRS], hits != 0);
                    (0..bits::LANES).for_each(|lane| found[lane] |= one[lane]);
                    hits &= hits.wrapping_sub(1);
                    if hits == 0 {
                        break;
                    }
                }
                leaf.next.get(era)
            }
            Node::Fan(fan) => {
                let way = &fan.ways[byte(key, fan.depth)];
                if let Some(Set(set)) = way.set.get(era) {
                    (0..bits::LANES).for_each(|lane| found[lane] |= set[lane]);
                }
                way.behind.get(era)
            }
        }
    }

    /// What a search for `key` comes to next.
    #[inline(always)]
    pub(super) fn behind<'a>(&'a self, key: u32, era: &'a Era) -> Option<&'a Node> {
        match self {
            Node::Leaf(leaf) => leaf.next.get(era),
            Node::Fan(fan) => fan.ways[byte(key, fan.depth)].behind.get(era),
        }
    }

    fn leaf(&self) -> Option<&Leaf> {
        match self {
            Node::Leaf(leaf) => Some(leaf),
            Node::Fan(_) => None,
        }
    }
}

impl Leaf {
    fn of(pairs: &[(Pair, u32)], next: Option<Arc<Node>>) -> Arc<Node> {
        let at = |i: usize| pairs.get(i);
        Arc::new(Node::Leaf(Leaf {
            keys: array::from_fn(|i| at(i).map_or(0, |(pair, _)| pair.key)),
            shifts: array::from_fn(|i| at(i).map_or(0, |(pair, _)| 32 - pair.len)),
            #[expect(clippy::cast_possible_truncation, reason = "16 at most")]
            len: pairs.len() as u8,
            bits: array::from_fn(|i| at(i).map_or(0, |(pair, _)| pair.bit)),
            next: next.map(Shared::new).unwrap_or_default(),
            counts: array::from_fn(|i| AtomicU32::new(at(i).map_or(0, |(_, count)| *count))),
        }))
    }

    fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn pairs(&self) -> impl Iterator<Item = (Pair, u32)> {
        let pair = |i: usize| Pair { key: self.keys[i], len: 32 - self.shifts[i], bit: self.bits[i] };
        (0..self.len()).map(move |i| (pair(i), self.counts[i].load(Relaxed)))
    }

    fn count(&self, pair: Pair) -> Option<&AtomicU32> {
        self.pairs().position(|(other, _)| other == pair).map(|at| &self.counts[at])
    }
}

/// A change of tries and sets, by the one writer.
pub(super) struct Update<'a> {
    pub(super) sets: &'a mut Sets,
    pub(super) era: &'a Era,
    /// What it takes out.
    pub(super) cuts: Vec<Cut>,
}

impl Update<'_> {
    /// Changes the set that `set` leads to.
    pub(super) fn change_set(&mut self, set: &Shared<Set>, change: impl FnOnce(&mut Bits)) {
        let mut bits = set.get(self.era).map_or([0; bits::LANES], |Set(bits)| *bits);
        change(&mut bits);
        self.cuts.extend(set.set(self.sets.get(&bits)).map(Cut::Set));
    }

    /// `filters` more have `pair`, which lies behind `slot`, at bit `depth`.
    fn add(&mut self, slot: &Shared<Node>, depth: u8, pair: Pair, filters: u32) {
        if let Some(Node::Fan(fan)) = slot.get(self.era) {
            return self.add_to_fan(fan, pair, filters);
        }
        let leaves: Vec<&Leaf> = leaves(slot, self.era).collect();
        if let Some(count) = leaves.iter().find_map(|leaf| leaf.count(pair)) {
            count.fetch_add(filters, Relaxed);
            return;
        }
        let new = match leaves.first() {
            Some(first) if first.len() < PAIRS => {
                let pairs: Vec<_> = first.pairs().chain([(pair, filters)]).collect();
                Leaf::of(&pairs, first.next.keep(self.era))
            }
            _ if leaves.len() < LEAVES => Leaf::of(&[(pair, filters)], slot.keep(self.era)),
            _ => {
                let fan = Fan { depth, ways: array::from_fn(|_| Way::default()), own: TryLock::default() };
                for (pair, filters) in leaves.iter().flat_map(|leaf| leaf.pairs()).chain([(pair, filters)]) {
                    self.add_to_fan(&fan, pair, filters);
                }
                Arc::new(Node::Fan(Box::new(fan)))
            }
        };
        self.cuts.extend(slot.set(Some(new)).map(Cut::Node));
    }

    fn add_to_fan(&mut self, fan: &Fan, pair: Pair, filters: u32) {
        if pair.len > fan.depth + 8 {
            return self.add(&fan.ways[byte(pair.key, fan.depth)].behind, fan.depth + 8, pair, filters);
        }
        let own = Own::new(fan, pair);
        let count = &mut *fan.own();
        let count = count.entry(own).or_default();
        *count += filters;
        if *count == filters {
            self.change(fan, own, |bits| bits::put(bits, pair.bit), |_| true);
        }
    }

    /// A filter less has `pair`, which lies behind `slot`.
    fn remove(&mut self, slot: &Shared<Node>, pair: Pair) {
        if let Some(Node::Fan(fan)) = slot.get(self.era) {
            return self.remove_from_fan(fan, pair);
        }
        let mut way = slot;
        while let Some(leaf) = way.get(self.era).and_then(Node::leaf) {
            match leaf.count(pair) {
                Some(count) if count.fetch_sub(1, Relaxed) == 1 => {
                    let others: Vec<_> = leaf.pairs().filter(|(other, _)| *other != pair).collect();
                    let next = leaf.next.keep(self.era);
                    let new = if others.is_empty() { next } else { Some(Leaf::of(&others, next)) };
                    self.cuts.extend(way.set(new).map(Cut::Node));
                    return;
                }
                Some(_) => return,
                None => way = &leaf.next,
            }
        }
    }

    fn remove_from_fan(&mut self, fan: &Fan, pair: Pair) {
        if pair.len > fan.depth + 8 {
            return self.remove(&fan.ways[byte(pair.key, fan.depth)].behind, pair);
        }
        let (own, mut counts) = (Own::new(fan, pair), fan.own());
        let Entry::Occupied(mut count) = counts.entry(own) else { return };
        *count.get_mut() -= 1;
        if *count.get() > 0 {
            return;
        }
        count.remove();
        // Filters of one tuple have prefixes of one length, but tuples may share a bit.
        let (shortest, longest) = (Own { len: 0, byte: 0, ..own }, Own { len: u8::MAX, byte: u8::MAX, ..own });
        let others = || counts.range(shortest..=longest).map(|(other, _)| other);
        let alike = [others().next(), others().next_back()].into_iter().flatten().all(|other| other.len == own.len);
        let stays = |byte: u8| !alike && others().any(|other| other.covers(byte));
        self.change(fan, own, |bits| bits::take(bits, pair.bit), |byte| !stays(byte));
    }

    /// Changes the sets of those ways of `own` that are `wanted`.
    fn change(&mut self, fan: &Fan, own: Own, change: impl Fn(&mut Bits), wanted: impl Fn(u8) -> bool) {
        // Ways side by side mostly have one set.
        let (mut old, mut new): (Option<&Set>, Option<Arc<Set>>) = (None, None);
        let mut first = true;
        for byte in own.bytes().filter(|byte| wanted(*byte)) {
            let way = &fan.ways[usize::from(byte)];
            let there = way.set.get(self.era);
            if first || there.map(std::ptr::from_ref) != old.map(std::ptr::from_ref) {
                let mut bits = there.map_or([0; bits::LANES], |Set(bits)| *bits);
                change(&mut bits);
                (old, new, first) = (there, self.sets.get(&bits), false);
            }
            self.cuts.extend(way.set.set(new.clone()).map(Cut::Set));
        }
    }
}

impl Fan {
    fn own(&self) -> TryLocked<'_, BTreeMap<Own, u32>> {
        self.own.try_lock().unwrap_or_else(|| unreachable!("two writers at one fan"))
    }
}

impl Own {
    fn new(fan: &Fan, pair: Pair) -> Own {
        #[expect(clippy::cast_possible_truncation, reason = "a byte")]
        let byte = byte(pair.key, fan.depth) as u8;
        Own { bit: pair.bit, len: pair.len - fan.depth, byte }
    }

    fn covers(&self, byte: u8) -> bool {
        u16::from(self.byte ^ byte) >> (8 - self.len) == 0
    }

    /// All that it covers.
    fn bytes(&self) -> impl Iterator<Item = u8> {
        self.byte..=self.byte | u8::MAX.checked_shr(self.len.into()).unwrap_or(0)
    }
}

impl Sets {
    /// The set of `bits`; nothing if that is empty.
    fn get(&mut self, bits: &Bits) -> Option<Arc<Set>> {
        if bits.iter().all(|word| *word == 0) {
            return None;
        }
        if let Some(set) = self.0.get(bits).and_then(Weak::upgrade) {
            return Some(set);
        }
        if self.0.len().is_power_of_two() {
            self.0.retain(|_, set| set.strong_count() > 0);
        }
        let set = Arc::new(Set(*bits));
        self.0.insert(*bits, Arc::downgrade(&set));
        Some(set)
    }
}

impl Cut {
    /// When nobody can hold it any more.
    pub(super) fn free(self, over: &Over) {
        match self {
            Cut::Node(node) => node.free(over),
            Cut::Set(set) => set.free(over),
        }
    }
}

/// The byte of `key` from bit `depth` on.
#[inline]
fn byte(key: u32, depth: u8) -> usize {
    (key << depth >> 24) as usize
}

/// The leaves of the list in `slot`.
fn leaves<'a>(slot: &'a Shared<Node>, era: &'a Era) -> impl Iterator<Item = &'a Leaf> {
    let first = slot.get(era).and_then(Node::leaf);
    std::iter::successors(first, |leaf| leaf.next.get(era).and_then(Node::leaf))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::era::Eras;
    use super::super::simd::Plain;
    use super::*;

    fn pair() -> impl Strategy<Value = Pair> {
        // Few different bits, so that prefixes nest and meet.
        let key = prop_oneof![
            any::<u32>(),
            (0..4_u32).prop_map(|bits| bits << 30),
            (0..64_u32).prop_map(|low| 0xa0b0_c000 | low)
        ];
        (key, 1..=32_u8, 0..40_u16).prop_map(|(key, len, bit)| Pair { key: key >> (32 - len) << (32 - len), len, bit })
    }

    fn found(trie: &Trie, key: u32, era: &Era) -> Bits {
        let (mut bits, mut node) = (Bits::default(), trie.root(era));
        while let Some(at) = node {
            node = at.step(Plain, key, &mut bits, era);
        }
        bits
    }

    proptest! {
        /// A list of pairs is the oracle. Nothing is found at the end.
        #[test]
        fn a_search_finds_exactly_the_pairs_it_begins_with(
            pairs in prop::collection::vec(pair(), 1..400),
            order in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 1..1200),
        ) {
            let eras = Eras::new();
            let era = eras.enter();
            let (trie, mut model, mut sets) = (Trie::default(), BTreeMap::<Pair, u32>::new(), Sets::default());
            let mut update = Update { sets: &mut sets, era: &era, cuts: Vec::new() };
            let check = |trie: &Trie, model: &BTreeMap<Pair, u32>| {
                for key in pairs.iter().flat_map(|pair| [pair.key, pair.key | 1, pair.key ^ 0x10, !pair.key]) {
                    let mut wanted = Bits::default();
                    let begins = |pair: &&Pair| u64::from(pair.key ^ key) >> (32 - pair.len) == 0;
                    model.keys().filter(begins).for_each(|pair| bits::put(&mut wanted, pair.bit));
                    assert_eq!(found(trie, key, &era), wanted, "{key:x}");
                }
            };
            for (add, at) in order {
                let pair = *at.get(&pairs);
                if add {
                    trie.add(pair, &mut update);
                    *model.entry(pair).or_default() += 1;
                } else if let Some(count) = model.get_mut(&pair) {
                    *count -= 1;
                    if *count == 0 {
                        model.remove(&pair);
                    }
                    trie.remove(pair, &mut update);
                }
            }
            check(&trie, &model);
            for (pair, count) in std::mem::take(&mut model) {
                (0..count).for_each(|_| trie.remove(pair, &mut update));
            }
            check(&trie, &model);
            let cuts = update.cuts;
            drop(era);
            let mut past = eras.end();
            let over = past.over().unwrap();
            cuts.into_iter().for_each(|cut| cut.free(&over));
        }
    }
}
