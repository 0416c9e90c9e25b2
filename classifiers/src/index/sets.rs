//! Sets: each set of tuples that searches come to, once.
//!
//! Ways by the hundred lead to one set, so each leads to it by a bare pointer, and the table counts them. It has a set for
//! as long as one of them is lent, and what searches may still read for an era longer.
#![expect(
    unsafe_code,
    reason = "measured: with a count each, an update of a node costs as many atomic additions as it has ways"
)]

use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use foldhash::fast::RandomState;

use super::bits::{Bits, LANES};
use super::era::{Era, Unlinked};
use crate::sync::Arc;

/// A set that searches read; most read its first line only.
#[derive(Debug, PartialEq, Eq, Hash)]
#[repr(align(64))]
pub(crate) struct Set(pub(super) Bits);

/// What a search reads where no set is.
pub(super) static EMPTY: Set = Set([0; LANES]);

/// The sets that are lent, and how often each.
#[derive(Debug, Default)]
pub(super) struct Sets(HashSet<Lent, RandomState>);

#[derive(Debug)]
struct Lent {
    set: Arc<Set>,
    times: Cell<usize>,
}

/// A set that was lent; null stands for the empty one. It is there until it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it is to be given back"]
pub(super) struct Loan(*const Set);

/// Where searches find a set. It holds a loan.
#[derive(Debug, Default)]
pub(super) struct Slot(AtomicPtr<Set>);

impl Sets {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lends the set of `bits`.
    pub(super) fn lend(&mut self, bits: &Bits) -> Loan {
        if *bits == EMPTY.0 {
            return Loan::NONE;
        }
        if let Some(lent) = self.0.get(bits) {
            lent.times.update(|times| times + 1);
            return Loan(Arc::as_ptr(&lent.set));
        }
        let set = Arc::new(Set(*bits));
        let loan = Loan(Arc::as_ptr(&set));
        self.0.insert(Lent { set, times: Cell::new(1) });
        loan
    }

    /// Lends the same set once more.
    pub(super) fn lend_again(&mut self, loan: Loan) -> Loan {
        if let Some(Set(bits)) = loan.get() {
            self.0.get(bits).inspect(|lent| lent.times.update(|times| times + 1));
        }
        loan
    }

    /// Takes a loan back. Returns the set if that was the last one.
    pub(super) fn take_back(&mut self, loan: Loan) -> Option<Unlinked<Set>> {
        let Set(bits) = loan.get()?;
        let lent = self.0.get(bits)?;
        lent.times.update(|times| times - 1);
        if lent.times.get() > 0 {
            return None;
        }
        self.0.take(bits).map(|lent| Unlinked::new(lent.set))
    }
}

impl Loan {
    /// Of the empty set.
    pub(super) const NONE: Loan = Loan(null());

    fn get<'a>(self) -> Option<&'a Set> {
        // SAFETY: null, or lent: the table has it until it is taken back, and only the one writer of the table has loans.
        unsafe { self.0.as_ref() }
    }

    /// What is in the set.
    pub(super) fn bits(self) -> Bits {
        self.get().map_or(EMPTY.0, |Set(bits)| *bits)
    }
}

impl Slot {
    /// Of the empty set.
    pub(super) const fn none() -> Slot {
        Slot(AtomicPtr::new(null_mut()))
    }

    /// That searches find what `loan` is for.
    pub(super) fn new(loan: Loan) -> Slot {
        Slot(AtomicPtr::new(loan.0.cast_mut()))
    }

    /// The set.
    #[inline(always)]
    pub(super) fn get<'a>(&'a self, _: &'a Era) -> &'a Set {
        let set = self.0.load(Ordering::Acquire);
        let set = std::hint::select_unpredictable(set.is_null(), (&raw const EMPTY).cast_mut(), set);
        // SAFETY: a loan, which is taken back by the writer when no slot that searches come to has it any more; and then the set is
        // `Unlinked`, which is set free when this era is over.
        unsafe { &*set }
    }

    /// The loan that it holds. For the writer.
    pub(super) fn loan(&self) -> Loan {
        Loan(self.0.load(Ordering::Relaxed))
    }

    /// Holds `new` instead; returns what it held.
    pub(super) fn set(&self, new: Loan) -> Loan {
        Loan(self.0.swap(new.0.cast_mut(), Ordering::AcqRel))
    }
}

impl Default for Loan {
    fn default() -> Self {
        Loan::NONE
    }
}

impl Borrow<Bits> for Lent {
    fn borrow(&self) -> &Bits {
        &self.set.0
    }
}

impl Hash for Lent {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.set.0.hash(state);
    }
}

impl PartialEq for Lent {
    fn eq(&self, other: &Lent) -> bool {
        self.set.0 == other.set.0
    }
}

impl Eq for Lent {}
