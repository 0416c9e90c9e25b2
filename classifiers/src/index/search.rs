//! Search: the first filters for packets, many packets at a time.
//!
//! Which tuples can have a filter for a packet is known from its dimensions; those are probed, beginning with the one whose first
//! filter comes first. What is found ends the search in tuples whose filters all come later. The packets of a burst go
//! through each step together, so that their cache misses overlap.

use std::hint::select_unpredictable;

use super::bits::{LANES, NARROW};
use super::bunch::{self, Cell};
use super::dimension::{Family, SLICES, STEPPED};
use super::era::Era;
use super::many::Many;
use super::rule::Key;
use super::shared::Either;
use super::simd::{self, Vectors};
use super::tuple::Tuple;
use crate::filter::Filter;
use crate::generation::Generation;
use crate::prefetch;

/// Most packets that go through the steps together.
pub(crate) const WIDTH: usize = 32;

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

/// The search for one packet, of which the tuples that are left are kept apart.
#[derive(Clone, Copy)]
struct State<'a> {
    /// No filter of the tuples that are left has a proto before this one.
    left: u64,
    /// Hash of the packet in the tuple that is being looked into.
    hash: u32,
    /// That tuple.
    tuple: Option<&'a Tuple>,
    /// The first entry with that hash.
    cell: Option<Cell<'a>>,
    best: Option<&'a Filter>,
    /// Other tuples of the last bit.
    others: Option<&'a Tuple>,
}

impl Many {
    /// The first filter for each of up to `N` packets, into `found`, which is as long.
    pub(super) fn search<'a, const N: usize>(
        &'a self,
        queries: &[Query<'_>],
        found: &mut [Option<&'a Filter>],
        era: &'a Era,
    ) {
        struct Whole<'s, 'a, 'q, const N: usize, const W: usize>(
            &'a Many,
            &'s [Query<'q>],
            &'s mut [Option<&'a Filter>],
            &'a Era,
        );
        impl<const N: usize, const W: usize> simd::Search for Whole<'_, '_, '_, N, W> {
            #[inline(always)]
            fn run(self, vectors: impl Vectors) {
                let Whole(many, queries, found, era) = self;
                many.search_with::<N, W>(vectors, queries, found, era);
            }
        }
        if self.is_wide() {
            self.level().run(Whole::<N, LANES>(self, queries, found, era));
        } else {
            self.level().run(Whole::<N, NARROW>(self, queries, found, era));
        }
    }

    #[inline(always)]
    fn search_with<'a, const N: usize, const W: usize>(
        &'a self,
        vectors: impl Vectors,
        queries: &[Query<'_>],
        found: &mut [Option<&'a Filter>],
        era: &'a Era,
    ) {
        let mut candidates = [[0; W]; N];
        self.rule_out(vectors, queries, &mut candidates, era);
        let len = self.buckets().len();
        let mut states = [State::START; N];
        let states = &mut states[..queries.len().min(N)];
        for ((state, candidates), query) in states.iter_mut().zip(&mut candidates).zip(queries) {
            self.choose(vectors, state, candidates, query, len, era);
        }
        let mut more = true;
        while more {
            more = false;
            for state in &mut *states {
                state.look(self, len, era);
            }
            for ((state, candidates), query) in states.iter_mut().zip(&mut candidates).zip(queries) {
                if let Some(tuple) = state.tuple {
                    state.compare(self, tuple, query, era);
                    self.choose(vectors, state, candidates, query, len, era);
                    more |= state.tuple.is_some();
                }
            }
        }
        found.iter_mut().zip(states).for_each(|(found, state)| *found = state.best);
    }

    /// Puts into `candidates` the tuples that have a filter for each packet, as far as its dimensions can tell.
    #[inline(always)]
    pub(super) fn rule_out<const N: usize, const W: usize>(
        &self,
        vectors: impl Vectors,
        queries: &[Query<'_>],
        candidates: &mut [[u64; W]; N],
        era: &Era,
    ) {
        // Packets of one family go together.
        let (mut groups, mut lens) = ([[0; N]; Family::ALL.len()], [0; Family::ALL.len()]);
        for (i, query) in queries.iter().enumerate().take(N) {
            let family = Family::of(query.key) as usize;
            groups[family][lens[family]] = i;
            lens[family] += 1;
        }
        for (family, (group, len)) in Family::ALL.into_iter().zip(groups.iter().zip(lens)) {
            if len == 0 {
                continue;
            }
            let (group, all) = (&group[..len], &self.family(family).get(era).0);
            group.iter().for_each(|i| vectors.unite(&mut candidates[*i], all));
            for group in group.chunks(STEPPED) {
                for &at in family.dimensions() {
                    let mut keys = [0; STEPPED];
                    keys.iter_mut().zip(group).for_each(|(key, i)| *key = SLICES[at].of(queries[*i].key));
                    self.dimension(at).rule_out(vectors, &keys[..group.len()], group, candidates, era);
                }
            }
        }
    }

    /// Chooses the next tuple to look into, and has its bucket fetched.
    #[inline(always)]
    fn choose<'a, const W: usize>(
        &'a self,
        vectors: impl Vectors,
        state: &mut State<'a>,
        candidates: &mut [u64; W],
        query: &Query<'_>,
        len: usize,
        era: &'a Era,
    ) {
        state.tuple = state.next(vectors, self, candidates, era);
        if let Some(tuple) = state.tuple {
            state.hash = self.hash(tuple, query.key, query.protocol);
            prefetch::value(self.buckets().bucket(state.hash, len, era));
        }
    }
}

impl<'a> State<'a> {
    const START: State<'a> = State { left: 0, hash: 0, tuple: None, cell: None, best: None, others: None };

    /// Finds the first entry in the bucket, and has it fetched.
    #[inline(always)]
    fn look(&mut self, many: &'a Many, len: usize, era: &'a Era) {
        self.cell = self.tuple.and_then(|_| many.buckets().bucket(self.hash, len, era).find(self.hash, era, &mut Some));
        match self.cell {
            Some(Either::One(filter)) => prefetch::value(filter),
            Some(Either::Other(bunch)) => prefetch::value(bunch),
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

    /// The next tuple to look into: of those that may have a filter before the best one, the one whose first filter comes first.
    #[inline(always)]
    fn next<const W: usize>(
        &mut self,
        vectors: impl Vectors,
        many: &'a Many,
        candidates: &mut [u64; W],
        era: &'a Era,
    ) -> Option<&'a Tuple> {
        let last = self.best.map_or(u64::MAX, |best| best.place().proto());
        loop {
            let tuple = match self.others.take() {
                Some(tuple) => tuple,
                None if self.left > last => return None,
                None => {
                    let bit = self.take_first(vectors, many, candidates)?;
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

    /// Takes out the candidate whose first filter comes first, and remembers when the others' comes.
    #[inline(always)]
    fn take_first<const W: usize>(
        &mut self,
        vectors: impl Vectors,
        many: &Many,
        candidates: &mut [u64; W],
    ) -> Option<usize> {
        let (mut first, mut second, mut at) = (u64::MAX, u64::MAX, None);
        let mut lanes = vectors.lanes(candidates);
        while lanes != 0 {
            let lane = lanes.trailing_zeros() as usize % W;
            let mut word = candidates[lane];
            while word != 0 {
                let bit = lane * 64 + word.trailing_zeros() as usize;
                let best = many.tuples().best(bit);
                let earlier = best < first;
                second = select_unpredictable(earlier, first, second.min(best));
                at = select_unpredictable(earlier, Some(bit), at);
                first = first.min(best);
                word &= word - 1;
            }
            lanes &= lanes - 1;
        }
        self.left = second;
        at.inspect(|bit| candidates[bit / 64 % W] &= !(1 << (bit % 64)))
    }
}
