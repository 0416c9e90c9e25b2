//! Search: the first filters for packets, many packets at a time.
//!
//! Which tuples can have a filter for a packet is known from its dimensions; those are probed, beginning with the ones that
//! were there first. What is found ends the search in tuples whose filters all come later. The packets of a burst go
//! through each step together, so that their cache misses overlap.

use super::bits::{Bits, LANES, Set};
use super::bunch::{self, Cell};
use super::dimension::{Family, SLICES};
use super::era::Era;
use super::many::Many;
use super::rule::Key;
use super::shared::Either;
use super::simd::{self, Vectors};
use super::tuple::Tuple;
use crate::filter::Filter;
use crate::generation::Generation;

/// Most packets that go through the steps together.
pub(crate) const WIDTH: usize = 32;

/// Candidates of which it does not pay to rule out some more.
const ENOUGH: u32 = 4;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'p> {
    pub(crate) key: &'p Key,
    /// The packet's outer ethertype.
    pub(crate) protocol: u16,
    /// No filter of a proto before this one.
    pub(crate) from: u64,
    pub(crate) generation: Generation,
}

/// The search for one packet.
#[derive(Clone, Copy)]
struct State<'a> {
    /// The tuples that are left, and which words of them are not 0.
    candidates: Bits,
    lanes: u32,
    /// Others of the last bit.
    others: Option<&'a Tuple>,
    /// The tuple that is being looked into, and the hash of the packet there.
    tuple: Option<&'a Tuple>,
    hash: u32,
    /// The first entry with that hash.
    cell: Option<Cell<'a>>,
    best: Option<&'a Filter>,
}

impl Many {
    /// The first filter for each of up to [`WIDTH`] packets, into `found`, which is as long.
    pub(super) fn search<'a>(&'a self, queries: &[Query<'_>], found: &mut [Option<&'a Filter>], era: &'a Era) {
        struct Whole<'s, 'a, 'q>(&'a Many, &'s [Query<'q>], &'s mut [Option<&'a Filter>], &'a Era);
        impl simd::Search for Whole<'_, '_, '_> {
            #[inline(always)]
            fn run(self, vectors: impl Vectors) {
                let Whole(many, queries, found, era) = self;
                many.search_with(vectors, queries, found, era);
            }
        }
        self.level().run(Whole(self, queries, found, era));
    }

    #[inline(always)]
    fn search_with<'a>(
        &'a self,
        vectors: impl Vectors,
        queries: &[Query<'_>],
        found: &mut [Option<&'a Filter>],
        era: &'a Era,
    ) {
        if queries.len() > 1 {
            queries.iter().for_each(|query| self.prefetch(query, era));
        }
        let buckets = self.buckets();
        let mut states = [State::START; WIDTH];
        let (states, len) = (&mut states[..queries.len()], buckets.len());
        for (state, query) in states.iter_mut().zip(queries) {
            state.candidates = self.candidates(vectors, query, era);
            let lanes = state.candidates.iter().enumerate();
            state.lanes = lanes.fold(0, |lanes, (lane, word)| lanes | u32::from(*word != 0) << lane);
            self.choose(state, query, len, era);
        }
        let mut more = true;
        while more {
            more = false;
            for state in &mut *states {
                state.look(self, len, era);
            }
            for (state, query) in states.iter_mut().zip(queries) {
                if let Some(tuple) = state.tuple {
                    state.compare(self, tuple, query, era);
                    self.choose(state, query, len, era);
                    more |= state.tuple.is_some();
                }
            }
        }
        found.iter_mut().zip(states).for_each(|(found, state)| *found = state.best);
    }

    /// Has what a search for the packet's addresses begins with fetched.
    #[inline(always)]
    fn prefetch(&self, query: &Query<'_>, era: &Era) {
        for &at in Family::of(query.key).dimensions().0 {
            if let Some(next) = self.dimension(at).root(era).and_then(|root| root.behind(SLICES[at].of(query.key), era))
            {
                simd::prefetch(next);
            }
        }
    }

    /// The tuples that have a filter for the packet, as far as its dimensions can tell.
    #[inline(always)]
    fn candidates(&self, vectors: impl Vectors, query: &Query<'_>, era: &Era) -> Bits {
        let family = Family::of(query.key);
        let mut candidates = self.family(family).get(era).map_or([0; LANES], |Set(all)| *all);
        let (addresses, others) = family.dimensions();
        for &at in addresses {
            self.dimension(at).rule_out(vectors, SLICES[at].of(query.key), &mut candidates, era);
        }
        if candidates.iter().map(|word| word.count_ones()).sum::<u32>() > ENOUGH {
            for &at in others {
                self.dimension(at).rule_out(vectors, SLICES[at].of(query.key), &mut candidates, era);
            }
        }
        candidates
    }

    /// Chooses the next tuple to look into, and has its bucket fetched.
    #[inline(always)]
    fn choose<'a>(&'a self, state: &mut State<'a>, query: &Query<'_>, len: usize, era: &'a Era) {
        state.tuple = state.next(self, era);
        if let Some(tuple) = state.tuple {
            state.hash = self.hash(tuple, query.key, query.protocol);
            simd::prefetch(self.buckets().bucket(state.hash, len, era));
        }
    }
}

impl<'a> State<'a> {
    const START: State<'a> =
        State { candidates: [0; LANES], lanes: 0, others: None, tuple: None, hash: 0, cell: None, best: None };

    /// Finds the first entry in the bucket, and has it fetched.
    #[inline(always)]
    fn look(&mut self, many: &'a Many, len: usize, era: &'a Era) {
        self.cell = self.tuple.and_then(|_| many.buckets().bucket(self.hash, len, era).find(self.hash, era, &mut Some));
        match self.cell {
            Some(Either::One(filter)) => simd::prefetch(filter),
            Some(Either::Other(bunch)) => simd::prefetch(bunch),
            None => {}
        }
    }

    /// Whether the entry, or another one with this hash, has a better filter.
    #[inline(always)]
    fn compare(&mut self, many: &'a Many, tuple: &Tuple, query: &Query<'_>, era: &'a Era) {
        let first = self.cell.and_then(|cell| bunch::first(cell, tuple, query));
        let hit = first.or_else(|| many.buckets().find(self.hash, era, |cell| bunch::first(cell, tuple, query)));
        if let Some(filter) = hit
            && self.best.is_none_or(|best| filter.place().position() < best.place().position())
        {
            self.best = Some(filter);
        }
    }

    /// The next tuple to look into: one that may have a filter before the best one.
    #[inline(always)]
    fn next(&mut self, many: &'a Many, era: &'a Era) -> Option<&'a Tuple> {
        let last = self.best.map_or(u64::MAX, |best| best.place().proto());
        loop {
            let tuple = match self.others.take() {
                Some(tuple) => tuple,
                None => {
                    if self.lanes == 0 {
                        return None;
                    }
                    let lane = self.lanes.trailing_zeros() as usize % LANES;
                    let word = &mut self.candidates[lane];
                    let bit = lane * 64 + word.trailing_zeros() as usize;
                    *word &= *word - 1;
                    self.lanes &= !(u32::from(*word == 0) << lane);
                    let Some(tuple) = many.tuples().at(bit, era) else { continue }; // gone meanwhile
                    tuple
                }
            };
            self.others = tuple.next(era);
            if tuple.may_be_at(last) {
                return Some(tuple);
            }
        }
    }
}
