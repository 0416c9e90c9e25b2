//! Trie: which tuples have a filter for a value of a dimension.
//!
//! Few spans lie in a leaf, which is made anew for each change. More of them are told apart by a byte: the ways of a fan have
//! the sets of those spans that are for whole ways, and what is for a part of a way lies behind it. So a search takes up
//! to four steps, and an update touches up to 256 ways a step, however many spans there are.

use std::collections::BTreeMap;
use std::mem;

use smallvec::SmallVec;

use super::bits::{self, Bits};
use super::era::{Era, Over, Unlinked};
use super::node::{BOUNDS, BYTE, Cursor, Fan, Leaf, Node, Own, byte};
use super::sets::{Loan, Set, Sets, Slot};
use super::shared::Either;
use super::span::Span;
use crate::sync::Arc;

/// The spans of one dimension.
#[derive(Debug, Default)]
pub(super) struct Trie {
    root: Node,
}

/// What an update took out.
#[derive(Debug)]
pub(crate) enum Cut {
    Node(Either<Unlinked<Leaf>, Unlinked<Fan>>),
    Set(Unlinked<Set>),
}

/// A change of tries and sets, by the one writer.
pub(super) struct Update<'a> {
    pub(super) sets: &'a mut Sets,
    pub(super) era: &'a Era,
    /// What it takes out.
    pub(super) cuts: Vec<Cut>,
}

/// Spans of a leaf, beyond which a byte tells them apart though they have few bounds: those of one set, side by side, or of many
/// tuples.
const SPANS: usize = 64;

/// Intervals in order, each by its last value.
type Intervals = SmallVec<[(u32, Loan); BOUNDS + 4]>;

impl Trie {
    /// Where a search begins.
    #[inline(always)]
    pub(super) fn root<'a>(&'a self, era: &'a Era) -> Cursor<'a> {
        Cursor::at(&self.root, era)
    }

    /// One filter more has `span`.
    pub(super) fn add(&self, span: Span, update: &mut Update<'_>) {
        update.add(&self.root, 0, span, 1);
    }

    /// One filter less has `span`.
    pub(super) fn remove(&self, span: Span, update: &mut Update<'_>) {
        update.remove(&self.root, 0, span);
    }
}

impl Update<'_> {
    /// Changes the set that is found in `slot`.
    pub(super) fn change_set(&mut self, slot: &Slot, change: impl FnOnce(&mut Bits)) {
        let mut bits = slot.loan().bits();
        change(&mut bits);
        let old = slot.set(self.sets.lend(&bits));
        self.take_back(old);
    }

    /// `filters` more have `span`, which lies behind `node`, at bit `depth`.
    fn add(&mut self, node: &Node, depth: u32, span: Span, filters: u32) {
        let (mut spans, mut intervals) = match node.get(self.era) {
            Some(Either::Other(fan)) => return self.add_to_fan(fan, depth, span, filters),
            Some(Either::One(leaf)) => {
                let mut spans = leaf.spans();
                if let Some(count) = spans.get_mut(&span) {
                    *count += filters;
                    return;
                }
                (mem::take(&mut *spans), leaf.intervals().collect())
            }
            None => (BTreeMap::new(), Intervals::from_iter([(u32::MAX, Loan::NONE)])),
        };
        spans.insert(span, filters);
        self.change_intervals(&mut intervals, span, |_, _| true, |bits| bits::put(bits, span.bit));
        self.set(node, depth, intervals, spans);
    }

    fn add_to_fan(&mut self, fan: &Fan, depth: u32, span: Span, filters: u32) {
        let (own, parts) = divide(span, depth);
        for part in parts {
            self.add(&fan.way(byte(part.low, depth)).behind, depth + BYTE, part, filters);
        }
        let Some(own) = own else { return };
        let mut all = fan.own();
        let count = all.entry(own).or_default();
        *count += filters;
        if *count == filters {
            self.change_ways(fan, own, |_| true, |bits| bits::put(bits, own.bit));
        }
    }

    /// A filter less has `span`, which lies behind `node`.
    fn remove(&mut self, node: &Node, depth: u32, span: Span) {
        match node.get(self.era) {
            Some(Either::Other(fan)) => {
                self.remove_from_fan(fan, depth, span);
                if fan.own().is_empty() && fan.ways().iter().all(|way| way.behind.get(self.era).is_none()) {
                    self.cuts.extend(node.set(None).map(Cut::Node));
                }
            }
            Some(Either::One(leaf)) => {
                let mut spans = leaf.spans();
                if !is_last(&mut spans, &span) {
                    return;
                }
                let (spans, mut intervals) = (mem::take(&mut *spans), leaf.intervals().collect());
                // Other spans of its tuple, or of others with its bit, that meet it.
                let (first, last) = (Span::first_of(span.bit), Span::last_of(span.bit));
                let others = spans.range(first..=last).map(|(other, _)| *other).filter(|other| other.meets(&span));
                let others: SmallVec<[Span; 4]> = others.collect();
                others.iter().for_each(|other| self.split(&mut intervals, *other));
                let alone = |first, last| !others.iter().any(|other| other.covers(first, last));
                self.change_intervals(&mut intervals, span, alone, |bits| bits::take(bits, span.bit));
                self.set(node, depth, intervals, spans);
            }
            None => {}
        }
    }

    fn remove_from_fan(&mut self, fan: &Fan, depth: u32, span: Span) {
        let (own, parts) = divide(span, depth);
        for part in parts {
            self.remove(&fan.way(byte(part.low, depth)).behind, depth + BYTE, part);
        }
        let Some(own) = own else { return };
        let mut all = fan.own();
        if !is_last(&mut all, &own) {
            return;
        }
        let others = || all.range(Own::first_of(own.bit)..=Own::last_of(own.bit)).map(|(other, _)| other);
        // Prefixes of one length do not meet; those of a tuple have one. But tuples may share a bit.
        let alike = |other: &Own| (other.ranged, other.more) == (own.ranged, own.more);
        let apart = !own.ranged && others().next().is_none_or(alike) && others().next_back().is_none_or(alike);
        let mut stays = [false; 256];
        if !apart {
            others().for_each(|other| stays[other.first.into()..=other.last().into()].fill(true));
        }
        self.change_ways(fan, own, |byte| !stays[usize::from(byte)], |bits| bits::take(bits, own.bit));
    }

    /// Makes `intervals` what lies behind `node`; `spans` are what they are of.
    fn set(&mut self, node: &Node, depth: u32, mut intervals: Intervals, spans: BTreeMap<Span, u32>) {
        intervals.dedup_by(|next, last| {
            let same = next.1 == last.1;
            if same {
                last.0 = next.0;
                self.take_back(next.1);
            }
            same
        });
        let new = if spans.is_empty() {
            None
        } else if intervals.len() <= BOUNDS + 1 && spans.len() <= SPANS {
            Some(Either::One(Arc::new(Leaf::new(&intervals, spans))))
        } else {
            intervals.into_iter().for_each(|(_, loan)| self.take_back(loan));
            let fan = Fan::new();
            spans.into_iter().for_each(|(span, filters)| self.add_to_fan(&fan, depth, span, filters));
            Some(Either::Other(Arc::new(fan)))
        };
        self.cuts.extend(node.set(new).map(Cut::Node));
    }

    /// Changes the sets of those intervals of `span` that are `wanted`, by their first and last value.
    fn change_intervals(
        &mut self,
        intervals: &mut Intervals,
        span: Span,
        wanted: impl Fn(u32, u32) -> bool,
        change: impl Fn(&mut Bits),
    ) {
        self.split(intervals, span);
        let mut first = 0;
        for (last, loan) in intervals {
            if span.covers(first, *last) && wanted(first, *last) {
                let mut bits = loan.bits();
                change(&mut bits);
                let old = mem::replace(loan, self.sets.lend(&bits));
                self.take_back(old);
            }
            first = last.wrapping_add(1);
        }
    }

    /// Divides intervals where `span` begins and ends.
    fn split(&mut self, intervals: &mut Intervals, span: Span) {
        for last in span.low.checked_sub(1).into_iter().chain([span.high]) {
            let at = intervals.partition_point(|(other, _)| *other < last);
            if intervals[at].0 != last {
                let loan = self.sets.lend_again(intervals[at].1);
                intervals.insert(at, (last, loan));
            }
        }
    }

    /// Changes the sets of those ways of `own` that are `wanted`.
    fn change_ways(&mut self, fan: &Fan, own: Own, wanted: impl Fn(u8) -> bool, change: impl Fn(&mut Bits)) {
        // Ways side by side mostly have one set.
        let mut last: Option<(Loan, Loan)> = None;
        for byte in (own.first..=own.last()).filter(|byte| wanted(*byte)) {
            let slot = &fan.way(byte).set;
            let old = slot.loan();
            let new = match last.filter(|(like, _)| *like == old) {
                Some((_, new)) => self.sets.lend_again(new),
                None => {
                    let mut bits = old.bits();
                    change(&mut bits);
                    self.sets.lend(&bits)
                }
            };
            last = Some((old, new));
            let old = slot.set(new);
            self.take_back(old);
        }
    }

    fn take_back(&mut self, loan: Loan) {
        self.cuts.extend(self.sets.take_back(loan).map(Cut::Set));
    }
}

impl Cut {
    /// When nobody can hold it any more.
    pub(super) fn free(self, over: &Over) {
        match self {
            Cut::Node(Either::One(leaf)) => leaf.free(over),
            Cut::Node(Either::Other(fan)) => fan.free(over),
            Cut::Set(set) => set.free(over),
        }
    }
}

/// What of `span`, at bit `depth`, is whole ways of a fan, and what lies behind a way each.
fn divide(span: Span, depth: u32) -> (Option<Own>, SmallVec<[Span; 2]>) {
    let rest = u32::MAX.checked_shr(depth + BYTE).unwrap_or(0);
    let (from, to) = (span.low & !rest, span.high | rest);
    let (cut_low, cut_high) = (from != span.low, to != span.high);
    let (mut first, mut last) = (usize::from(byte(from, depth)), usize::from(byte(to, depth)));
    let mut parts = SmallVec::new();
    if first == last && (cut_low || cut_high) {
        return (None, SmallVec::from_iter([span]));
    }
    if cut_low {
        parts.push(Span { high: span.low | rest, ..span });
        first += 1;
    }
    if cut_high {
        parts.push(Span { low: span.high & !rest, ..span });
        last -= 1;
    }
    #[expect(clippy::cast_possible_truncation, reason = "bytes")]
    let own = (first <= last).then(|| Own {
        bit: span.bit,
        ranged: span.ranged,
        more: (last - first) as u8,
        first: first as u8,
    });
    (own, parts)
}

/// Counts one filter less; whether there is none left.
fn is_last<T: Ord>(all: &mut BTreeMap<T, u32>, one: &T) -> bool {
    let Some(count) = all.get_mut(one) else { return false };
    *count -= 1;
    *count == 0 && all.remove(one).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::era::Eras;
    use super::super::simd::Plain;
    use super::*;

    fn span() -> impl Strategy<Value = Span> {
        // Few different bits, so that spans nest and meet.
        let key = prop_oneof![
            any::<u32>(),
            (0..4_u32).prop_map(|bits| bits << 30),
            (0..64_u32).prop_map(|low| 0xa0b0_c000 | low)
        ];
        let prefix = (key, 1..=32_u32, 0..40_u16).prop_map(|(key, len, bit)| Span::prefix(bit, key, len));
        let port = prop_oneof![any::<u16>(), 0..600_u16];
        let range = (port.clone(), port, 40..44_u16).prop_map(|(a, b, bit)| Span::range(bit, (a.min(b), a.max(b))));
        prop_oneof![prefix, range]
    }

    fn found(trie: &Trie, key: u32, era: &Era) -> Bits {
        let (mut bits, mut at, mut depth) = (Bits::default(), trie.root(era), 0);
        while !at.is_end() {
            at = at.step(Plain, key, depth, &mut bits, era);
            depth += BYTE;
            at.prefetch(key, depth); // as a search does, also where there is nothing more
        }
        bits
    }

    /// Most spans of a leaf behind `node`.
    fn most(node: &Node, era: &Era) -> usize {
        match node.get(era) {
            None => 0,
            Some(Either::One(leaf)) => leaf.spans().len(),
            Some(Either::Other(fan)) => fan.ways().iter().map(|way| most(&way.behind, era)).max().unwrap_or(0),
        }
    }

    /// Without the limit of spans, an update of one among many that lie side by side, or that are of many tuples, looks at all of them.
    #[test]
    fn a_leaf_has_few_spans_also_if_they_have_few_bounds() {
        let eras = Eras::new();
        let era = eras.enter();
        let (trie, mut sets) = (Trie::default(), Sets::default());
        let mut update = Update { sets: &mut sets, era: &era, cuts: Vec::new() };
        let side_by_side = (0..5000).map(|n| Span::prefix(7, 0x0a00_0000 + n, 32));
        let of_many_tuples = (0..500).map(|bit| Span::prefix(bit, 0x0b00_0000, 32));
        let all: Vec<Span> = side_by_side.chain(of_many_tuples).collect();
        all.iter().for_each(|span| trie.add(*span, &mut update));
        assert!(most(&trie.root, &era) <= SPANS, "{}", most(&trie.root, &era));
        assert_eq!(found(&trie, 0x0a00_1387, &era)[0], 1 << 7);
        assert_eq!(found(&trie, 0x0b00_0000, &era)[6], u64::MAX);
        all.iter().for_each(|span| trie.remove(*span, &mut update));
        assert!(trie.root(&era).is_end() && update.sets.is_empty());
        let cuts = update.cuts;
        drop(era);
        let mut past = eras.end();
        let over = past.over().unwrap();
        cuts.into_iter().for_each(|cut| cut.free(&over));
    }

    proptest! {
        /// A list of spans is the oracle. Nothing is found at the end, and nothing is lent.
        #[test]
        fn a_search_finds_exactly_the_spans_that_it_is_in(
            spans in prop::collection::vec(span(), 1..400),
            order in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 1..1200),
        ) {
            let eras = Eras::new();
            let era = eras.enter();
            let (trie, mut model, mut sets) = (Trie::default(), BTreeMap::<Span, u32>::new(), Sets::default());
            let mut update = Update { sets: &mut sets, era: &era, cuts: Vec::new() };
            let check = |trie: &Trie, model: &BTreeMap<Span, u32>| {
                for key in spans.iter().flat_map(|span| [span.low, span.high, span.low.wrapping_sub(1), span.high ^ 0x10]) {
                    let mut wanted = Bits::default();
                    let inside = |span: &&Span| span.covers(key, key);
                    model.keys().filter(inside).for_each(|span| bits::put(&mut wanted, span.bit));
                    assert_eq!(found(trie, key, &era), wanted, "{key:x}");
                }
            };
            for (add, at) in order {
                let span = *at.get(&spans);
                if add {
                    trie.add(span, &mut update);
                    *model.entry(span).or_default() += 1;
                } else if let Some(count) = model.get_mut(&span) {
                    *count -= 1;
                    if *count == 0 {
                        model.remove(&span);
                    }
                    trie.remove(span, &mut update);
                }
            }
            check(&trie, &model);
            for (span, count) in mem::take(&mut model) {
                (0..count).for_each(|_| trie.remove(span, &mut update));
            }
            check(&trie, &model);
            assert!(trie.root(&era).is_end() && update.sets.is_empty(), "nothing stays");
            let cuts = update.cuts;
            drop(era);
            let mut past = eras.end();
            let over = past.over().unwrap();
            cuts.into_iter().for_each(|cut| cut.free(&over));
        }
    }
}
