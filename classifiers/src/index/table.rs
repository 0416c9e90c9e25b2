//! Table: a hash table whose chains go through the members, and which workers read while requests change it.
//!
//! An insert allocates nothing, and a change touches one bucket. There is one writer at a time and any number of readers,
//! each of whom sees a chain as it was before or after a change [IM-2].
//!
//! A member carries two links, because a table that is resized has two sets of chains for a while: the new chains are made
//! with the links that the old ones do not use, and then the table leads to the new buckets. It is resized again only when
//! the old buckets have been set free, so that nobody follows those links any more; until then it may be too full.
#![expect(unsafe_code, reason = "measured: an allocation less a change, and 64 bytes less a filter")]

use std::iter;
use std::ptr::{null_mut, without_provenance_mut};

use super::era::{Era, Unlinked};
use crate::sync::{Arc, AtomicPtr, Ordering, TryLock, TryLocked, Weak, fence};

/// Fewest buckets; for model checks so few that a handful of members makes tables of several sizes.
const BUCKETS_MIN: usize = if cfg!(feature = "shuttle") { 1 } else { 16 };

/// What can be in a table: in one only, and once in its life.
pub(crate) trait Member: Sized + Send + Sync {
    fn links(&self) -> &Links<Self>;
}

/// The members behind this one, in either set of chains.
#[derive(Debug)]
pub(crate) struct Links<T>([AtomicPtr<T>; 2]);

/// Members by hash. Each is held by one count, which goes back when it is removed or the table dropped.
#[derive(Debug)]
pub(crate) struct Table<T: Member> {
    /// Never null; from `Arc::into_raw`.
    buckets: AtomicPtr<Buckets<T>>,
    state: TryLock<State<T>>,
}

/// Where chains begin.
#[derive(Debug)]
pub(crate) struct Buckets<T> {
    /// A power of two of them.
    heads: Box<[AtomicPtr<T>]>,
    /// Which link of a member leads on.
    lane: usize,
}

#[derive(Debug)]
struct State<T> {
    len: usize,
    /// The buckets before these, as long as somebody may read them.
    before: Weak<Buckets<T>>,
}

/// The right to change a table.
pub(crate) struct Writer<'a, T: Member> {
    table: &'a Table<T>,
    state: TryLocked<'a, State<T>>,
}

impl<T> Links<T> {
    /// Of what was never in a table. Nobody follows them.
    fn unused() -> *mut T {
        without_provenance_mut(usize::MAX)
    }
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Links([AtomicPtr::new(Self::unused()), AtomicPtr::new(Self::unused())])
    }
}

impl<T: Member> Table<T> {
    pub(crate) fn new() -> Table<T> {
        let buckets = Arc::new(Buckets::new(BUCKETS_MIN, 0));
        let state = State { len: 0, before: Weak::new() };
        Table { buckets: AtomicPtr::new(Arc::into_raw(buckets).cast_mut()), state: TryLock::new(state) }
    }

    /// A member with this hash, or one that shares its bucket, that is `wanted`.
    #[inline]
    pub(crate) fn find<'a>(&'a self, hash: u64, _: &'a Era, mut wanted: impl FnMut(&T) -> bool) -> Option<&'a T> {
        // SAFETY: the buckets are given up when the table is dropped, which is borrowed, or as `Unlinked`, whose `free` takes the
        // proof that this era is over. A thread that entered after that era was ended sees their successor, because ending an
        // era comes after unlinking and entering the next one after that.
        let buckets = unsafe { &*self.buckets.load(Ordering::Acquire) };
        let mut next = buckets.head(hash).load(Ordering::Acquire);
        // SAFETY: null or a member. It is given up as the buckets are: who finds the way to it finds it before it is unlinked. Its
        // links lead on to members likewise, also when it was unlinked meanwhile: they stay as they were as long as somebody
        // reads chains of this lane.
        while let Some(member) = unsafe { next.as_ref() } {
            if wanted(member) {
                return Some(member);
            }
            next = member.links().0[buckets.lane].load(Ordering::Acquire);
        }
        None
    }

    /// For one writer at a time: it is the caller who sees to that, by a lock.
    pub(crate) fn write(&self) -> Writer<'_, T> {
        let Some(state) = self.state.try_lock() else { unreachable!("two writers at one table") };
        Writer { table: self, state }
    }
}

impl<T: Member> Writer<'_, T> {
    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.state.len
    }

    /// The members with this hash, and of those that share its bucket, that are `wanted`.
    pub(crate) fn matching(&self, hash: u64, mut wanted: impl FnMut(&T) -> bool) -> impl Iterator<Item = Arc<T>> {
        let buckets = self.buckets();
        buckets.chain(buckets.head(hash)).filter_map(move |member| {
            // SAFETY: the table holds it by a count, and only this writer could give that up.
            let member = unsafe { &*member };
            wanted(member).then(|| {
                // SAFETY: it is from `Arc::into_raw`; as above.
                unsafe {
                    Arc::increment_strong_count(member);
                    Arc::from_raw(member)
                }
            })
        })
    }

    /// Makes `new` findable.
    pub(crate) fn insert(&mut self, new: Arc<T>, hash: u64) {
        let head = self.buckets().head(hash);
        self.link(new, head.load(Ordering::Relaxed), head);
        self.state.len += 1;
    }

    /// Makes `new` findable instead of `old`, of the same hash, in one step; only findable, if `old` is no member.
    pub(crate) fn replace(&mut self, old: &T, new: Arc<T>, hash: u64) -> Option<Unlinked<T>> {
        let Some(way) = self.way_to(old, hash) else {
            self.insert(new, hash);
            return None;
        };
        let next = old.links().0[self.buckets().lane].load(Ordering::Relaxed);
        let old = way.load(Ordering::Relaxed);
        self.link(new, next, way);
        // SAFETY: it was a member, and is none any more.
        Some(Unlinked::new(unsafe { Arc::from_raw(old) }))
    }

    /// Makes `old` unfindable. Nothing if it is no member.
    pub(crate) fn remove(&mut self, old: &T, hash: u64) -> Option<Unlinked<T>> {
        let way = self.way_to(old, hash)?;
        let next = old.links().0[self.buckets().lane].load(Ordering::Relaxed);
        let old = way.load(Ordering::Relaxed);
        way.store(next, Ordering::Release);
        self.state.len -= 1;
        // SAFETY: it was a member, and is none any more.
        Some(Unlinked::new(unsafe { Arc::from_raw(old) }))
    }

    /// As many buckets as members need, if there are too few or much too many, and nobody reads those before these.
    pub(crate) fn resize(&mut self, hash_of: impl Fn(&T) -> u64) -> Option<Unlinked<Buckets<T>>> {
        let (len, now) = (self.state.len, self.buckets());
        let sparse = len * 8 < now.heads.len() && now.heads.len() > BUCKETS_MIN;
        if len <= now.heads.len() && !sparse || self.state.before.strong_count() > 0 {
            return None;
        }
        fence(Ordering::Acquire); // with the release of the last count: the readers' loads came before
        let next = Buckets::new((len + 1).next_power_of_two().max(BUCKETS_MIN), 1 - now.lane);
        for member in now.heads.iter().flat_map(|head| now.chain(head)) {
            // SAFETY: as in `matching`.
            let (head, links) = unsafe { (next.head(hash_of(&*member)), (*member).links()) };
            links.0[next.lane].store(head.load(Ordering::Relaxed), Ordering::Relaxed);
            head.store(member, Ordering::Relaxed);
        }
        let old = self.table.buckets.swap(Arc::into_raw(Arc::new(next)).cast_mut(), Ordering::AcqRel);
        // SAFETY: it is from `Arc::into_raw`, and whoever swaps it out is the only one who does.
        let old = unsafe { Arc::from_raw(old) };
        self.state.before = Arc::downgrade(&old);
        Some(Unlinked::new(old))
    }

    /// The pointer that leads to `member`.
    fn way_to(&self, member: &T, hash: u64) -> Option<&AtomicPtr<T>> {
        let buckets = self.buckets();
        let head = buckets.head(hash);
        // SAFETY: as in `matching`.
        let ways = buckets.chain(head).map(|member| unsafe { &(*member).links().0[buckets.lane] });
        iter::once(head).chain(ways).find(|way| std::ptr::eq(way.load(Ordering::Relaxed), member))
    }

    /// Makes `way` lead to `new`, and `new` to `next`.
    fn link(&self, new: Arc<T>, next: *mut T, way: &AtomicPtr<T>) {
        let links = new.links();
        assert!(
            links.0.iter().all(|link| link.load(Ordering::Relaxed) == Links::unused()),
            "a member for a second time"
        );
        links.0[self.buckets().lane].store(next, Ordering::Relaxed);
        way.store(Arc::into_raw(new).cast_mut(), Ordering::Release);
    }

    fn buckets(&self) -> &Buckets<T> {
        // SAFETY: only this writer could give them up.
        unsafe { &*self.table.buckets.load(Ordering::Relaxed) }
    }
}

impl<T: Member> Buckets<T> {
    fn new(len: usize, lane: usize) -> Buckets<T> {
        Buckets { heads: (0..len).map(|_| AtomicPtr::new(null_mut())).collect(), lane }
    }

    #[inline]
    fn head(&self, hash: u64) -> &AtomicPtr<T> {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
        let low = hash as usize;
        &self.heads[low & (self.heads.len() - 1)]
    }

    /// The members of a chain. For who can be sure that they stay: the writer, or the last owner.
    fn chain(&self, head: &AtomicPtr<T>) -> impl Iterator<Item = *mut T> {
        let there = |member: *mut T| (!member.is_null()).then_some(member);
        iter::successors(there(head.load(Ordering::Relaxed)), move |&member| {
            // SAFETY: it is a member, as the caller knows.
            there(unsafe { (*member).links().0[self.lane].load(Ordering::Relaxed) })
        })
    }
}

impl<T: Member> Drop for Table<T> {
    fn drop(&mut self) {
        // SAFETY: it is from `Arc::into_raw`, and given up here only.
        let buckets = unsafe { Arc::from_raw(*self.buckets.get_mut()) };
        for head in &buckets.heads {
            let mut next = head.load(Ordering::Relaxed);
            while !next.is_null() {
                // SAFETY: it is from `Arc::into_raw`, and given up here only.
                let member = unsafe { Arc::from_raw(next) };
                next = member.links().0[buckets.lane].load(Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::super::era::{Eras, Past};
    use super::*;
    use crate::sync::thread;

    /// Says so when it goes.
    struct Canary<'a> {
        number: AtomicUsize,
        gone: &'a AtomicUsize,
        links: Links<Self>,
    }

    const GONE: usize = usize::MAX;

    impl Member for Canary<'_> {
        fn links(&self) -> &Links<Self> {
            &self.links
        }
    }

    impl Drop for Canary<'_> {
        fn drop(&mut self) {
            self.number.store(GONE, Relaxed);
            self.gone.fetch_add(1, Relaxed);
        }
    }

    fn canary(number: usize, gone: &AtomicUsize) -> Arc<Canary<'_>> {
        Arc::new(Canary { number: number.into(), gone, links: Links::default() })
    }

    /// Few different ones, so that members meet in buckets of any size.
    fn hash(canary: &Canary<'_>) -> u64 {
        hash_of(canary.number.load(Relaxed))
    }

    fn hash_of(number: usize) -> u64 {
        (number % 100 / 2) as u64
    }

    /// What a writer unlinked, as the reaper keeps it.
    #[derive(Default)]
    struct Pending<'a>(VecDeque<(Unlinks<'a>, Past)>);

    type Unlinks<'a> = (Option<Unlinked<Canary<'a>>>, Option<Unlinked<Buckets<Canary<'a>>>>);

    impl<'a> Pending<'a> {
        fn push(&mut self, unlinked: Unlinks<'a>, eras: &Eras) {
            self.0.push_back((unlinked, eras.end()));
        }

        fn free(&mut self) {
            while let Some(over) = self.0.front_mut().and_then(|(_, past)| past.over()) {
                let (member, buckets) = self.0.pop_front().map(|(unlinked, _)| unlinked).unwrap_or_default();
                member.into_iter().for_each(|member| member.free(&over));
                buckets.into_iter().for_each(|buckets| buckets.free(&over));
            }
        }
    }

    fn find(table: &Table<Canary<'_>>, number: usize, era: &Era) -> Option<usize> {
        let found = table.find(hash_of(number), era, |canary| canary.number.load(Relaxed) % 100 == number);
        found.map(|canary| canary.number.load(Relaxed))
    }

    /// Members with the numbers from 0 to 99, each with how often it was replaced in front. Readers always find those
    /// that are never removed, never meet one that was set free, and never an older one after a newer one. Without the
    /// question for `before` in `resize`, or with anything freed before its era is over: they do.
    fn readers_beside_a_writer(rounds: usize, keys: usize) {
        let (eras, gone, table) = (Eras::new(), AtomicUsize::new(0), Table::<Canary<'_>>::new());
        let mut members: Vec<Option<Arc<Canary<'_>>>> = vec![None; keys];
        for (number, member) in members.iter_mut().enumerate().step_by(2) {
            let new = member.insert(canary(number, &gone));
            table.write().insert(Arc::clone(new), hash(new));
        }
        let made = AtomicUsize::new(members.iter().flatten().count());
        let writing = AtomicUsize::new(1);
        let read = || {
            let mut last = vec![0; keys];
            while writing.load(Relaxed) > 0 {
                let era = eras.enter();
                for (number, last) in last.iter_mut().enumerate() {
                    let found = find(&table, number, &era);
                    thread::yield_now();
                    assert!(found.is_some() || number % 2 == 1, "{number} is not there");
                    let newest = found.unwrap_or(*last);
                    assert!((*last..GONE).contains(&newest), "{newest} after {last}");
                    *last = newest;
                }
                thread::yield_now();
            }
        };
        let mut write = || {
            let mut pending = Pending::default();
            for round in 1..=rounds {
                let at = round * 7 % keys;
                let number = round * 100 + at;
                let old = members[at].take();
                let mut writer = table.write();
                let unlinked = match &old {
                    Some(old) if at % 2 == 1 => writer.remove(old, hash(old)),
                    old => {
                        let new = members[at].insert(canary(number, &gone));
                        made.fetch_add(1, Relaxed);
                        match old {
                            Some(old) => writer.replace(old, Arc::clone(new), hash(new)),
                            None => {
                                writer.insert(Arc::clone(new), hash(new));
                                None
                            }
                        }
                    }
                };
                let buckets = writer.resize(hash);
                assert_eq!(writer.len(), members.iter().flatten().count());
                drop((old, writer));
                pending.push((unlinked, buckets), &eras);
                pending.free();
            }
            writing.store(0, Relaxed);
            pending
        };
        let mut pending = thread::scope(|scope| {
            scope.spawn(read);
            write()
        });
        pending.free();
        drop((pending, members, table));
        assert_eq!(gone.load(Relaxed), made.load(Relaxed), "each went, and went once");
    }

    #[cfg(feature = "shuttle")]
    #[test]
    fn in_any_order_readers_see_nothing_that_is_gone() {
        shuttle::check_pct(|| readers_beside_a_writer(12, 5), 20_000, 3);
    }

    #[cfg(not(feature = "shuttle"))]
    mod with_threads {
        use proptest::collection::vec;
        use proptest::prelude::*;

        use super::*;

        /// [IM-2], [DD-1]
        #[test]
        fn readers_see_nothing_that_is_gone() {
            readers_beside_a_writer(500_000, 99);
        }

        /// [DD-1]
        #[test]
        fn what_was_unlinked_stays_until_its_era_and_those_before_are_over() {
            let (eras, gone, table) = (Eras::new(), AtomicUsize::new(0), Table::<Canary<'_>>::new());
            let first = canary(1, &gone);
            table.write().insert(Arc::clone(&first), hash_of(1));
            let early = eras.enter();
            let old = table.write().replace(&first, canary(101, &gone), hash_of(1)).unwrap();
            drop(first);
            let mut past = eras.end();
            let late = eras.enter();
            assert_eq!(find(&table, 1, &late), Some(101));
            assert!(past.over().is_none(), "somebody is in it");
            drop(early);
            old.free(&past.over().unwrap());
            assert_eq!(gone.load(Relaxed), 1);
            drop(late);
            drop(table);
            assert_eq!(gone.load(Relaxed), 2, "a table that goes takes its members along");
        }

        #[test]
        #[should_panic(expected = "a member for a second time")]
        fn a_member_does_not_come_again() {
            let (gone, table) = (AtomicUsize::new(0), Table::new());
            let member = canary(1, &gone);
            table.write().insert(Arc::clone(&member), hash_of(1));
            assert!(table.write().remove(&member, hash_of(1)).is_some());
            table.write().insert(member, hash_of(1));
        }

        #[derive(Clone, Debug)]
        enum Step {
            /// Insert, or replace.
            Put(usize),
            Remove(usize),
            /// A reader comes, or the one that there is goes.
            Read,
        }

        fn steps() -> impl Strategy<Value = Vec<Step>> {
            let step = prop_oneof![
                6 => (0..100usize).prop_map(Step::Put),
                3 => (0..100usize).prop_map(Step::Remove),
                1 => Just(Step::Read),
            ];
            vec(step, 0..400)
        }

        proptest! {
            /// It does what a plain list does, also where a reader keeps it from being resized.
            #[test]
            fn it_is_a_multimap(steps in steps()) {
                let (eras, gone, table) = (Eras::new(), AtomicUsize::new(0), Table::<Canary<'_>>::new());
                let mut members: Vec<Option<Arc<Canary<'_>>>> = vec![None; 100];
                let (mut pending, mut reader) = (Pending::default(), None);
                for (round, step) in (1..).zip(steps) {
                    let mut writer = table.write();
                    let unlinked = match step {
                        Step::Put(at) => {
                            let new = canary(round * 100 + at, &gone);
                            match members[at].replace(Arc::clone(&new)) {
                                Some(old) => writer.replace(&old, new, hash_of(at)),
                                None => { writer.insert(new, hash_of(at)); None }
                            }
                        }
                        Step::Remove(at) => members[at].take().and_then(|old| writer.remove(&old, hash_of(at))),
                        Step::Read => {
                            reader = reader.is_none().then(|| eras.enter());
                            None
                        }
                    };
                    let buckets = writer.resize(hash);
                    drop(writer);
                    pending.push((unlinked, buckets), &eras);
                    pending.free();
                }
                drop(reader);
                let writer = table.write();
                prop_assert_eq!(writer.len(), members.iter().flatten().count());
                for (at, member) in members.iter().enumerate() {
                    let there = member.as_ref().map(|member| member.number.load(Relaxed));
                    prop_assert_eq!(find(&table, at, &eras.enter()), there);
                    let alike = writer.matching(hash_of(at), |canary| canary.number.load(Relaxed) % 100 == at);
                    prop_assert_eq!(alike.map(|canary| canary.number.load(Relaxed)).collect::<Vec<_>>(), there.as_slice());
                }
            }
        }
    }
}
