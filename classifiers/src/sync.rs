//! Locks, atomics and published values: the one import switch between std and shuttle, and the lock order.
//!
//! # Lock order
//!
//! A thread takes locks from left to right only, and never two of one class:
//!
//! ```text
//! GLOBAL > REGISTRY > CHAIN > INNER > INDEX > ACTIONS > QUEUE
//! ```
//!
//! | class | lock | guards |
//! |---|---|---|
//! | `GLOBAL` | the plane's global lock | kinds that are not unlocked; chain requests, dumps, bindings, action requests [UL-2]; commits |
//! | `REGISTRY` | the plane's registry | shared blocks by index |
//! | `CHAIN` | `chain.filter_lock` | a chain's proto list and its publication, head-change callbacks |
//! | `INNER` | `block.lock` | chains of a block and their life-time fields |
//! | `INNER` | destroy registry | protos that are unlinked and not yet destroyed |
//! | `INNER` | `proto.lock` | `deleting`, and the kind's filters and handles; short |
//! | `INDEX` | a chain's index | what only its one writer needs; a leaf for protos |
//! | `ACTIONS` | action tables | actions by index, their counts; a leaf for protos |
//! | `QUEUE` | reaper's queue, event queues, counter pool, ledgers | short, nothing is called under them |
//!
//! So `block.lock` is never held while a `filter_lock` is taken [LK-2]. Debug builds keep a stack of the classes that the
//! thread holds and panic at the first lock that breaks the order, or at a destructor that would run under a chain's or
//! a block's lock [LK-4], [LK-6]. Workers take none of these locks [LK-7].

use std::ops::{Deref, DerefMut};

#[cfg(feature = "shuttle")]
use shuttle as std_or_shuttle;
#[cfg(not(feature = "shuttle"))]
use std as std_or_shuttle;

use std::sync::{PoisonError, TryLockError};
use std_or_shuttle::sync::{Condvar, Mutex, MutexGuard};

pub use std::sync::{Arc, Weak, atomic::Ordering};
pub use std_or_shuttle::{
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence},
    thread,
};

/// Lock classes: a lock may be taken only while all held ones have a smaller class.
pub(crate) mod class {
    pub(crate) const GLOBAL: u8 = 1;
    pub(crate) const REGISTRY: u8 = 2;
    pub(crate) const CHAIN: u8 = 3;
    pub(crate) const INNER: u8 = 4;
    pub(crate) const INDEX: u8 = 5;
    pub(crate) const ACTIONS: u8 = 6;
    pub(crate) const QUEUE: u8 = 7;
}

/// A mutex of a class. A request that panicked left what it guards as it was before or after one of its steps, each of
/// which is consistent: a poisoned lock is as good as another.
#[derive(Debug, Default)]
pub(crate) struct Lock<T, const CLASS: u8>(Mutex<T>);

/// Proof that the lock is held by this context.
#[derive(Debug)]
pub(crate) struct Locked<'a, T, const CLASS: u8> {
    guard: MutexGuard<'a, T>,
    _order: order::Held<CLASS>,
}

impl<T, const CLASS: u8> Lock<T, CLASS> {
    pub(crate) fn new(value: T) -> Self {
        Lock(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Locked<'_, T, CLASS> {
        let _order = order::Held::take();
        Locked { guard: self.0.lock().unwrap_or_else(PoisonError::into_inner), _order }
    }
}

impl<T, const CLASS: u8> Deref for Locked<'_, T, CLASS> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, const CLASS: u8> DerefMut for Locked<'_, T, CLASS> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A mutex that is only ever tried, so that it has no place in the order.
#[derive(Debug, Default)]
pub(crate) struct TryLock<T>(Mutex<T>);

/// Proof that it is held by this thread.
pub(crate) type TryLocked<'a, T> = MutexGuard<'a, T>;

impl<T> TryLock<T> {
    pub(crate) fn new(value: T) -> TryLock<T> {
        TryLock(Mutex::new(value))
    }

    /// Nothing if another thread has it.
    pub(crate) fn try_lock(&self) -> Option<TryLocked<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// A condition of the queue class's locks.
#[derive(Debug, Default)]
pub(crate) struct Changed(Condvar);

impl Changed {
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Gives up the lock until notified, or for `time` (which never passes under shuttle), or for no reason at all.
    pub(crate) fn wait<'a, T, const CLASS: u8>(
        &self,
        locked: Locked<'a, T, CLASS>,
        time: std::time::Duration,
    ) -> Locked<'a, T, CLASS> {
        let Locked { guard, _order } = locked;
        let guard = self.0.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0;
        Locked { guard, _order }
    }
}

/// A value that control threads replace and workers read: what a load returns never changes, and the next load may
/// return another one. Loading takes no lock; under shuttle, a lock stands in for it.
#[derive(Debug)]
pub struct Published<T>(
    #[cfg(not(feature = "shuttle"))] arc_swap::ArcSwap<T>,
    #[cfg(feature = "shuttle")] Mutex<Arc<T>>,
);

/// What a load found, as long as it is held. A worker drops it at the end of its burst at the latest [DV-11].
#[cfg(not(feature = "shuttle"))]
pub type Loaded<T> = arc_swap::Guard<Arc<T>>;
/// What a load found, as long as it is held. A worker drops it at the end of its burst at the latest [DV-11].
#[cfg(feature = "shuttle")]
pub type Loaded<T> = Arc<T>;

/// As if a load had found `value`.
pub(crate) fn loaded<T>(value: Arc<T>) -> Loaded<T> {
    #[cfg(not(feature = "shuttle"))]
    return arc_swap::Guard::from_inner(value);
    #[cfg(feature = "shuttle")]
    value
}

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        #[cfg(not(feature = "shuttle"))]
        return Published(arc_swap::ArcSwap::from_pointee(value));
        #[cfg(feature = "shuttle")]
        Published(Mutex::new(Arc::new(value)))
    }

    /// The value as it is now.
    #[inline]
    pub fn load(&self) -> Loaded<T> {
        #[cfg(not(feature = "shuttle"))]
        return self.0.load();
        #[cfg(feature = "shuttle")]
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes `value` what the next load finds, and returns what it was before: workers may hold it until their burst
    /// ends, so it goes to the reaper.
    #[must_use = "it belongs to the reaper"]
    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        #[cfg(not(feature = "shuttle"))]
        return self.0.swap(value);
        #[cfg(feature = "shuttle")]
        std::mem::replace(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), value)
    }
}

/// Like [`Published`], but there may be nothing. Eight bytes in production.
#[derive(Debug)]
pub(crate) struct PublishedOption<T>(
    #[cfg(not(feature = "shuttle"))] arc_swap::ArcSwapOption<T>,
    #[cfg(feature = "shuttle")] Mutex<Option<Arc<T>>>,
);

/// What a load found, if anything.
#[cfg(not(feature = "shuttle"))]
pub(crate) type LoadedOption<T> = arc_swap::Guard<Option<Arc<T>>>;
/// What a load found, if anything.
#[cfg(feature = "shuttle")]
pub(crate) type LoadedOption<T> = Option<Arc<T>>;

impl<T> Default for PublishedOption<T> {
    fn default() -> Self {
        #[cfg(not(feature = "shuttle"))]
        return PublishedOption(arc_swap::ArcSwapOption::empty());
        #[cfg(feature = "shuttle")]
        PublishedOption(Mutex::new(None))
    }
}

impl<T> PublishedOption<T> {
    /// The value as it is now.
    #[inline]
    pub(crate) fn load(&self) -> LoadedOption<T> {
        #[cfg(not(feature = "shuttle"))]
        return self.0.load();
        #[cfg(feature = "shuttle")]
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Published::swap`].
    #[must_use = "it belongs to the reaper"]
    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        #[cfg(not(feature = "shuttle"))]
        return self.0.swap(value);
        #[cfg(feature = "shuttle")]
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), value)
    }
}

/// Lets others run for a moment, because this thread can do nothing.
pub(crate) fn pause() {
    #[cfg(not(feature = "shuttle"))]
    thread::sleep(std::time::Duration::from_micros(100));
    #[cfg(feature = "shuttle")]
    thread::yield_now();
}

/// Asserts in debug builds that this thread holds neither a chain's nor a block's or proto's lock, so that a destructor
/// may run [LK-6].
#[inline]
pub(crate) fn assert_may_destroy() {
    order::assert_may_destroy();
}

/// Asserts in debug builds that this thread holds the global lock.
#[inline]
pub(crate) fn assert_global() {
    order::assert_global();
}

#[cfg(debug_assertions)]
mod order {
    use std::cell::RefCell;

    use super::class;
    #[cfg(feature = "shuttle")]
    use shuttle::thread_local;

    thread_local! {
        static HELD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    /// One entry of the thread's stack.
    #[derive(Debug)]
    pub(super) struct Held<const CLASS: u8>(());

    impl<const CLASS: u8> Held<CLASS> {
        pub(super) fn take() -> Self {
            HELD.with(|held| {
                let mut held = held.borrow_mut();
                assert!(held.iter().all(|&class| class < CLASS), "lock order: class {CLASS} while holding {held:?}");
                held.push(CLASS);
            });
            Held(())
        }
    }

    impl<const CLASS: u8> Drop for Held<CLASS> {
        fn drop(&mut self) {
            HELD.with(|held| {
                let mut held = held.borrow_mut();
                let at = held.iter().rposition(|&class| class == CLASS);
                held.remove(at.unwrap_or_else(|| unreachable!("every guard has its entry")));
            });
        }
    }

    pub(super) fn assert_global() {
        HELD.with(|held| assert!(held.borrow().contains(&class::GLOBAL), "a locked kind without the global lock"));
    }

    pub(super) fn assert_may_destroy() {
        HELD.with(|held| {
            let held = held.borrow();
            let bad = |&class: &u8| (class::CHAIN..=class::QUEUE).contains(&class);
            assert!(!held.iter().any(bad), "a destructor under locks of classes {held:?}");
        });
    }
}

#[cfg(not(debug_assertions))]
mod order {
    #[derive(Debug)]
    pub(super) struct Held<const CLASS: u8>(());

    impl<const CLASS: u8> Held<CLASS> {
        #[inline]
        pub(super) fn take() -> Self {
            Held(())
        }
    }

    #[inline]
    pub(super) fn assert_global() {}

    #[inline]
    pub(super) fn assert_may_destroy() {}
}

#[cfg(all(test, debug_assertions, not(feature = "shuttle")))]
mod tests {
    use super::*;

    type Chain = Lock<(), { class::CHAIN }>;
    type Inner = Lock<(), { class::INNER }>;

    /// [LK-1], [LK-2]
    #[test]
    fn locks_can_be_taken_in_order() {
        let (chain, inner) = (Chain::default(), Inner::default());
        for _ in 0..2 {
            let held = chain.lock();
            drop(inner.lock());
            let both = inner.lock();
            drop(held); // released in any order
            drop(both);
        }
    }

    /// [LK-2], [LK-4]
    #[test]
    #[should_panic(expected = "lock order")]
    fn a_chain_lock_under_a_block_lock_is_caught() {
        let (chain, inner) = (Chain::default(), Inner::default());
        let _block = inner.lock();
        let _chain = chain.lock();
    }

    #[test]
    #[should_panic(expected = "lock order")]
    fn two_locks_of_a_class_are_caught() {
        let (one, other) = (Inner::default(), Inner::default());
        let _one = one.lock();
        let _other = other.lock();
    }

    /// [LK-4]: what another context holds does not count.
    #[test]
    fn locks_of_other_threads_do_not_matter() {
        let (chain, inner) = (Chain::default(), Inner::default());
        let _held = inner.lock();
        thread::scope(|scope| scope.spawn(|| drop(chain.lock())).join()).unwrap();
    }

    /// [LK-6]
    #[test]
    #[should_panic(expected = "a destructor")]
    fn a_destructor_under_a_chain_lock_is_caught() {
        let chain = Chain::default();
        let _held = chain.lock();
        assert_may_destroy();
    }
}
