//! Shared: pointers that requests replace while workers follow them.
//!
//! Who follows one holds an [`Era`], requests too; what was replaced is [`Unlinked`], and set free when its era is over.
#![expect(unsafe_code, reason = "measured: a count a pointer would be a shared cache line a packet")]

use std::marker::PhantomData;
use std::ptr::null_mut;

use super::era::{Era, Unlinked};
use crate::sync::{Arc, AtomicPtr, Ordering};

/// What such a pointer can lead to. Asked of types one by one, because filters lead to each other in so many ways that the
/// compiler gives up.
pub(crate) trait Target: Send + Sync {}

/// A pointer to something, or to nothing. It owns one count of what it points to.
#[derive(Debug)]
pub(crate) struct Shared<T: Target>(AtomicPtr<T>);

impl<T: Target> Default for Shared<T> {
    fn default() -> Self {
        Shared(AtomicPtr::new(null_mut()))
    }
}

impl<T: Target> Shared<T> {
    pub(crate) fn new(value: Arc<T>) -> Shared<T> {
        Shared(AtomicPtr::new(Arc::into_raw(value).cast_mut()))
    }

    /// What it points to.
    #[inline]
    pub(crate) fn get<'a>(&'a self, _: &'a Era) -> Option<&'a T> {
        // SAFETY: null, or from `Arc::into_raw`. The count is given up when the pointer is dropped, which is borrowed, or as
        // `Unlinked`, whose `free` takes the proof that this era is over. A thread that entered after that era was ended sees the
        // successor, because ending an era comes after unlinking and entering the next one after that.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// The same, to keep.
    pub(crate) fn keep(&self, era: &Era) -> Option<Arc<T>> {
        self.get(era).map(|value| {
            // SAFETY: from `Arc::into_raw`, and there is a count as long as the era is held.
            unsafe {
                Arc::increment_strong_count(value);
                Arc::from_raw(value)
            }
        })
    }

    /// Points to `new` from now on.
    pub(crate) fn set(&self, new: Option<Arc<T>>) -> Option<Unlinked<T>> {
        let new = new.map_or(null_mut(), |new| Arc::into_raw(new).cast_mut());
        let old = self.0.swap(new, Ordering::AcqRel);
        // SAFETY: from `Arc::into_raw`; who swaps it out is the only one who does.
        (!old.is_null()).then(|| Unlinked::new(unsafe { Arc::from_raw(old) }))
    }
}

impl<T: Target> Drop for Shared<T> {
    fn drop(&mut self) {
        let value = *self.0.get_mut();
        if !value.is_null() {
            // SAFETY: from `Arc::into_raw`, and given up here only.
            drop(unsafe { Arc::from_raw(value) });
        }
    }
}

/// A pointer to one of two, or to nothing. It owns one count of what it points to.
#[derive(Debug)]
pub(crate) struct Fork<A: Target, B: Target>(AtomicPtr<A>, PhantomData<AtomicPtr<B>>);

/// What a fork points to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Either<A, B> {
    /// The address as it is.
    One(A),
    /// The address plus one.
    Other(B),
}

impl<A: Target, B: Target> Default for Fork<A, B> {
    fn default() -> Self {
        Fork::none()
    }
}

impl<A: Target, B: Target> Fork<A, B> {
    /// Both have even addresses, so that the lowest bit says which one it is.
    const EVEN: () = assert!(align_of::<A>() > 1 && align_of::<B>() > 1);

    /// To nothing.
    pub(super) const fn none() -> Fork<A, B> {
        Fork(AtomicPtr::new(null_mut()), PhantomData)
    }

    /// The address that stands for what it points to, as [`Either`] says.
    #[inline(always)]
    pub(super) fn address(&self) -> *mut A {
        self.0.load(Ordering::Acquire)
    }

    /// Whether an [`Fork::address`] stands for the other one.
    #[inline(always)]
    pub(super) fn is_other(address: *mut A) -> bool {
        address.addr() & 1 == 1
    }

    /// What it points to.
    #[inline]
    pub(crate) fn get<'a>(&'a self, _: &'a Era) -> Option<Either<&'a A, &'a B>> {
        let at = self.0.load(Ordering::Acquire);
        if at.is_null() {
            return None;
        }
        // SAFETY: from `raw`. As in `Shared::get`.
        Some(unsafe {
            match other(at) {
                Some(at) => Either::Other(&*at),
                None => Either::One(&*at),
            }
        })
    }

    /// The same, to keep.
    pub(crate) fn keep(&self, era: &Era) -> Option<Either<Arc<A>, Arc<B>>> {
        /// SAFETY: `value` is from `Arc::into_raw`, and has a count.
        unsafe fn keep<T>(value: &T) -> Arc<T> {
            // SAFETY: as the caller knows.
            unsafe {
                Arc::increment_strong_count(value);
                Arc::from_raw(value)
            }
        }
        // SAFETY: there is a count as long as the era is held.
        self.get(era).map(|value| unsafe {
            match value {
                Either::One(value) => Either::One(keep(value)),
                Either::Other(value) => Either::Other(keep(value)),
            }
        })
    }

    /// Points to `new` from now on.
    pub(crate) fn set(&self, new: Option<Either<Arc<A>, Arc<B>>>) -> Option<Either<Unlinked<A>, Unlinked<B>>> {
        let () = Self::EVEN;
        let new = match new {
            None => null_mut(),
            Some(Either::One(value)) => Arc::into_raw(value).cast_mut(),
            Some(Either::Other(value)) => Arc::into_raw(value).cast::<A>().cast_mut().map_addr(|at| at | 1),
        };
        // SAFETY: who swaps it out is the only one who does.
        unsafe { owned(self.0.swap(new, Ordering::AcqRel)) }.map(|old| match old {
            Either::One(old) => Either::One(Unlinked::new(old)),
            Either::Other(old) => Either::Other(Unlinked::new(old)),
        })
    }
}

/// The other one that `at` stands for, if it does.
#[inline]
fn other<A, B>(at: *mut A) -> Option<*const B> {
    (at.addr() & 1 == 1).then(|| at.map_addr(|at| at & !1).cast::<B>().cast_const())
}

/// SAFETY: `at` was made by `Fork::set`, and its count is given up here only.
unsafe fn owned<A, B>(at: *mut A) -> Option<Either<Arc<A>, Arc<B>>> {
    // SAFETY: from `Arc::into_raw`, as the caller knows.
    (!at.is_null()).then(|| unsafe {
        match other(at) {
            Some(at) => Either::Other(Arc::from_raw(at)),
            None => Either::One(Arc::from_raw(at)),
        }
    })
}

impl<A: Target, B: Target> Drop for Fork<A, B> {
    fn drop(&mut self) {
        // SAFETY: given up here only.
        drop(unsafe { owned::<A, B>(*self.0.get_mut()) });
    }
}
