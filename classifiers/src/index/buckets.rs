//! Buckets: a hash table that grows by one bucket at a time, while searches read it.
//!
//! A bucket is a cache line with up to four entries, and leads on to another one if it needs more. With `n` buckets, an entry is in the
//! one that the low bits of its hash say, as many as `n` has, or one less if there is no such bucket yet. So with one bucket
//! more, one other bucket is divided: its entries are copied first, then there is one more, then they are
//! taken out. A search that finds nothing looks again if its bucket has been divided meanwhile.

use std::sync::atomic::AtomicU32;

use super::era::{Era, Over, Unlinked};
use super::shared::{Either, Fork, Shared, Target};
use crate::sync::{Arc, AtomicUsize, Ordering};

/// Entries of a bucket.
pub(super) const SLOTS: usize = 4;

/// Buckets at first: a power of two.
const FIRST: usize = if cfg!(feature = "shuttle") { 1 } else { 16 };

/// Most segments: there are never more hashes.
const SEGMENTS: usize = 29;

/// Entries by hash, each of one of two types.
#[derive(Debug)]
pub(super) struct Buckets<A: Target, B: Target> {
    /// The first has `FIRST` buckets, each other one as many as all before it.
    segments: [Shared<Segment<A, B>>; SEGMENTS],
    len: AtomicUsize,
}

#[derive(Debug)]
struct Segment<A: Target, B: Target>(Box<[Bucket<A, B>]>);

#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Bucket<A: Target, B: Target> {
    hashes: [AtomicU32; SLOTS],
    slots: [Fork<A, B>; SLOTS],
    more: Shared<Bucket<A, B>>,
}

impl<A: Target, B: Target> Target for Segment<A, B> {}
impl<A: Target, B: Target> Target for Bucket<A, B> {}

/// What an update took out.
#[derive(Debug)]
pub(crate) enum Gone<A: Target, B: Target> {
    Entry(Either<Unlinked<A>, Unlinked<B>>),
    Bucket(Unlinked<Bucket<A, B>>),
}

impl<A: Target, B: Target> Default for Bucket<A, B> {
    fn default() -> Self {
        Bucket { hashes: Default::default(), slots: Default::default(), more: Shared::default() }
    }
}

impl<A: Target, B: Target> Buckets<A, B> {
    pub(super) fn new() -> Buckets<A, B> {
        let buckets = Buckets { segments: Default::default(), len: AtomicUsize::new(0) };
        buckets.make_segment(0);
        buckets.len.store(FIRST, Ordering::Release);
        buckets
    }

    /// How many buckets there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// The bucket of `hash`, of `len`.
    #[inline(always)]
    pub(super) fn bucket<'a>(&'a self, hash: u32, len: usize, era: &'a Era) -> &'a Bucket<A, B> {
        self.at(place(hash, len), era)
    }

    /// The first entry with `hash` that `f` makes something of.
    #[inline]
    pub(super) fn find<'a, R>(
        &'a self,
        hash: u32,
        era: &'a Era,
        mut f: impl FnMut(Either<&'a A, &'a B>) -> Option<R>,
    ) -> Option<R> {
        let mut len = self.len();
        loop {
            let found = self.bucket(hash, len, era).find(hash, era, &mut f);
            let now = self.len();
            if found.is_some() || place(hash, now) == place(hash, len) {
                return found;
            }
            len = now;
        }
    }

    /// Some entry of a bucket, by its place.
    pub(super) fn any<'a>(&'a self, place: usize, era: &'a Era) -> Option<Either<&'a A, &'a B>> {
        self.at(place, era).slots.iter().find_map(|slot| slot.get(era))
    }

    /// The slot with the first entry with `hash` that `f` says yes to. For the writer.
    pub(super) fn slot<'a>(
        &'a self,
        hash: u32,
        era: &'a Era,
        mut f: impl FnMut(Either<&'a A, &'a B>) -> bool,
    ) -> Option<&'a Fork<A, B>> {
        self.bucket(hash, self.len(), era).chain(era).find_map(|bucket| {
            let mut slots = bucket.with(hash);
            slots.find(|slot| slot.get(era).is_some_and(&mut f))
        })
    }

    /// Puts an entry in. For the writer, as all below.
    pub(super) fn insert(&self, hash: u32, entry: Either<Arc<A>, Arc<B>>, era: &Era) {
        self.bucket(hash, self.len(), era).insert(hash, entry, era);
    }

    /// Gives up the buckets behind that of `hash` that are empty.
    pub(super) fn tidy(&self, hash: u32, era: &Era, gone: &mut Vec<Gone<A, B>>) {
        self.bucket(hash, self.len(), era).tidy(era, gone);
    }

    /// As many buckets as `entries` need, but one more at most than before.
    pub(super) fn grow(&self, entries: usize, era: &Era, gone: &mut Vec<Gone<A, B>>) {
        let len = self.len();
        if entries * 2 <= len * 5 {
            return;
        }
        if len.is_power_of_two() {
            self.make_segment(segment(len).0);
        }
        let (old, new) = (self.at(len - (1 << len.ilog2()), era), self.at(len, era));
        let moves = |hash: u32| place(hash, len + 1) == len;
        for bucket in old.chain(era) {
            for (hash, slot) in bucket.hashes.iter().zip(&bucket.slots) {
                let hash = hash.load(Ordering::Relaxed);
                if let Some(entry) = slot.keep(era).filter(|_| moves(hash)) {
                    new.insert(hash, entry, era);
                }
            }
        }
        self.len.store(len + 1, Ordering::Release);
        for bucket in old.chain(era) {
            for (hash, slot) in bucket.hashes.iter().zip(&bucket.slots) {
                if moves(hash.load(Ordering::Relaxed)) {
                    gone.extend(slot.set(None).map(Gone::Entry));
                }
            }
        }
        old.tidy(era, gone);
    }

    #[inline(always)]
    fn at<'a>(&'a self, place: usize, era: &'a Era) -> &'a Bucket<A, B> {
        let (segment, within) = segment(place);
        let Some(segment) = self.segments[segment].get(era) else { unreachable!("a bucket beyond the last one") };
        &segment.0[within]
    }

    fn make_segment(&self, segment: usize) {
        let len = if segment == 0 { FIRST } else { FIRST << (segment - 1) };
        let none = self.segments[segment].set(Some(Arc::new(Segment::new(len))));
        debug_assert!(none.is_none(), "a segment for a second time");
    }
}

impl<A: Target, B: Target> Segment<A, B> {
    #[cfg(not(feature = "shuttle"))]
    #[expect(unsafe_code, reason = "memory that is all zero comes without being touched, however much it is")]
    fn new(len: usize) -> Segment<A, B> {
        // SAFETY: a bucket is atomic integers and null pointers, all of them zeros.
        Segment(unsafe { Box::<[Bucket<A, B>]>::new_zeroed_slice(len).assume_init() })
    }

    #[cfg(feature = "shuttle")]
    fn new(len: usize) -> Segment<A, B> {
        Segment((0..len).map(|_| Bucket::default()).collect())
    }
}

impl<A: Target, B: Target> Bucket<A, B> {
    /// The first entry with `hash`, here or further on, that `f` makes something of.
    #[inline(always)]
    pub(super) fn find<'a, R>(
        &'a self,
        hash: u32,
        era: &'a Era,
        f: &mut impl FnMut(Either<&'a A, &'a B>) -> Option<R>,
    ) -> Option<R> {
        let mut bucket = self;
        loop {
            let has = |i: usize| u32::from(bucket.hashes[i].load(Ordering::Acquire) == hash) << i;
            let mut same = (0..SLOTS).fold(0, |same, i| same | has(i));
            while same != 0 {
                if let Some(entry) = bucket.slots[same.trailing_zeros() as usize % SLOTS].get(era)
                    && let Some(found) = f(entry)
                {
                    return Some(found);
                }
                same &= same - 1;
            }
            bucket = bucket.more.get(era)?;
        }
    }

    /// The slots with `hash`, taken or not.
    fn with(&self, hash: u32) -> impl Iterator<Item = &Fork<A, B>> {
        let has = move |other: &AtomicU32| other.load(Ordering::Relaxed) == hash;
        self.hashes.iter().zip(&self.slots).filter(move |(other, _)| has(other)).map(|(_, slot)| slot)
    }

    /// This one and those behind it.
    fn chain<'a>(&'a self, era: &'a Era) -> impl Iterator<Item = &'a Bucket<A, B>> {
        std::iter::successors(Some(self), |bucket| bucket.more.get(era))
    }

    fn insert(&self, hash: u32, entry: Either<Arc<A>, Arc<B>>, era: &Era) {
        let mut last = self;
        for bucket in self.chain(era) {
            if let Some(free) = bucket.slots.iter().position(|slot| slot.get(era).is_none()) {
                bucket.put(free, hash, entry);
                return;
            }
            last = bucket;
        }
        let more = Bucket::default();
        more.put(0, hash, entry);
        let none = last.more.set(Some(Arc::new(more)));
        debug_assert!(none.is_none(), "the last one leads nowhere");
    }

    /// The hash comes first, so that who finds the entry has found its hash.
    fn put(&self, slot: usize, hash: u32, entry: Either<Arc<A>, Arc<B>>) {
        self.hashes[slot].store(hash, Ordering::Release);
        let none = self.slots[slot].set(Some(entry));
        debug_assert!(none.is_none(), "a slot that is taken");
    }

    fn tidy(&self, era: &Era, gone: &mut Vec<Gone<A, B>>) {
        let mut bucket = self;
        while let Some(more) = bucket.more.get(era) {
            if more.slots.iter().all(|slot| slot.get(era).is_none()) {
                gone.extend(bucket.more.set(more.more.keep(era)).map(Gone::Bucket));
            } else {
                bucket = more;
            }
        }
    }
}

/// Where `hash` is, of `len` buckets.
#[inline(always)]
fn place(hash: u32, len: usize) -> usize {
    let hash = hash as usize;
    let all = len.next_power_of_two() - 1;
    let at = hash & all;
    // Without a branch: which it is nobody can foretell.
    std::hint::select_unpredictable(at < len, at, hash & (all >> 1))
}

/// The segment of a bucket, and where it is in there.
#[inline(always)]
fn segment(place: usize) -> (usize, usize) {
    match (place / FIRST).checked_ilog2() {
        None => (0, place),
        Some(log) => (log as usize + 1, place - (FIRST << log)),
    }
}

impl<A: Target, B: Target> Gone<A, B> {
    /// When nobody can hold it any more.
    pub(crate) fn free(self, over: &Over) {
        match self {
            Gone::Entry(Either::One(entry)) => entry.free(over),
            Gone::Entry(Either::Other(entry)) => entry.free(over),
            Gone::Bucket(bucket) => bucket.free(over),
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(not(feature = "shuttle"))]
    use proptest::prelude::*;

    use super::super::era::Eras;
    use super::*;
    use crate::sync::thread;

    #[test]
    fn buckets_are_in_segments_one_behind_the_other() {
        let mut next = (0, 0);
        for at in 0..FIRST * 40 {
            assert_eq!(segment(at), next);
            next.1 += 1;
            if next.1 == (if next.0 == 0 { FIRST } else { FIRST << (next.0 - 1) }) {
                next = (next.0 + 1, 0);
            }
        }
    }

    /// A count, and a string: two types.
    type Both = Buckets<u64, String>;

    impl Target for u64 {}
    impl Target for String {}

    fn all(table: &Both, hash: u32, era: &Era) -> Vec<u64> {
        let mut all = Vec::new();
        let none: Option<()> = table.find(hash, era, |entry| {
            all.push(match entry {
                Either::One(number) => *number,
                Either::Other(text) => text.parse().unwrap(),
            });
            None
        });
        assert_eq!(none, None);
        all.sort_unstable();
        all
    }

    /// A search for what stays, while others come and the table grows.
    fn a_search_beside_a_writer(stay: u32, come: u32) {
        let (eras, table) = (Eras::new(), Both::new());
        let hash = |number: u32| u32::MAX - number; // so that all move
        let insert = |number: u32| {
            let (era, mut gone) = (eras.enter(), Vec::new());
            table.insert(hash(number), Either::One(Arc::new(number.into())), &era);
            table.grow((number as usize + 1) * 3, &era, &mut gone);
            (eras.end(), gone)
        };
        let mut unlinked: Vec<_> = (0..stay).map(insert).collect();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for number in (0..stay).cycle().take(stay.max(come / 8) as usize) {
                    assert_eq!(all(&table, hash(number), &eras.enter()).first(), Some(&number.into()));
                }
            });
            unlinked.extend((stay..stay + come).map(insert));
            reader.join().unwrap();
        });
        for (mut past, gone) in unlinked {
            let over = past.over().unwrap();
            gone.into_iter().for_each(|gone| gone.free(&over));
        }
    }

    /// [IM-2]: taking entries out before there is a bucket more makes it fail, and so does a search that does not look again.
    #[cfg(feature = "shuttle")]
    #[test]
    fn in_any_order_what_stays_is_found() {
        shuttle::check_pct(|| a_search_beside_a_writer(3, 4), 20_000, 3);
    }

    /// The same with real threads.
    #[cfg(not(feature = "shuttle"))]
    #[test]
    fn what_stays_is_found() {
        a_search_beside_a_writer(100, 20_000);
    }

    #[cfg(not(feature = "shuttle"))]
    proptest! {
        /// A list of numbers by hash is the oracle; many have the same hash.
        #[test]
        fn entries_are_found_whatever_came_and_went(steps in prop::collection::vec((any::<bool>(), 0..300_u64), 0..2000)) {
            let eras = Eras::new();
            let era = eras.enter();
            let hash = |number: u64| ((number % 150) as u32).wrapping_mul(0x09f1_0301);
            let (table, mut model, mut gone) = (Both::new(), std::collections::BTreeSet::new(), Vec::new());
            let is = |number: u64| move |entry: Either<&u64, &String>| match entry {
                Either::One(other) => *other == number,
                Either::Other(text) => *text == number.to_string(),
            };
            for (add, number) in steps {
                if add && model.insert(number) {
                    let entry = if number % 3 == 0 { Either::Other(Arc::new(number.to_string())) } else { Either::One(Arc::new(number)) };
                    table.insert(hash(number), entry, &era);
                    table.grow(model.len() * 4, &era, &mut gone);
                } else if !add && model.remove(&number) {
                    let slot = table.slot(hash(number), &era, is(number)).unwrap();
                    gone.extend(slot.set(None).map(Gone::Entry));
                    table.tidy(hash(number), &era, &mut gone);
                }
            }
            for number in 0..150 {
                let wanted: Vec<u64> = model.iter().copied().filter(|other| hash(*other) == hash(number)).collect();
                prop_assert_eq!(all(&table, hash(number), &era), wanted);
            }
            drop(era);
            let mut past = eras.end();
            let over = past.over().unwrap();
            gone.into_iter().for_each(|gone| gone.free(&over));
        }
    }
}
