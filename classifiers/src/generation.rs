//! Generation: which filters a packet meets.
//!
//! An engine has one generation number. A worker reads it once a burst, and meets the filters in whose `Span` it lies.
//! Requests of their own give a filter a span that begins at 0: it is there as soon as workers can find it. What a
//! transaction prepares has a span that has not begun, and what it takes away keeps one without an end. The commit writes
//! the next number into all of these spans, which changes nothing yet, for no worker has read that number; then it makes
//! it the engine's number. That one store is the moment in which all ports, blocks and chains change.
//!
//! So numbers are given at the commit, not at the beginning: any number of transactions can be open, and the order of their
//! numbers is the order of their commits.

use std::fmt;

use crate::sync::{AtomicU64, Ordering};

/// How many transactions had been committed. Later is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

/// The generation of an engine.
#[derive(Debug, Default)]
pub(crate) struct Current(AtomicU64);

/// The generations in which packets meet a filter: `[born, dies)`.
#[derive(Debug)]
pub(crate) struct Span {
    born: AtomicU64,
    dies: AtomicU64,
}

/// A generation that never comes.
const NEVER: u64 = u64::MAX;

impl Generation {
    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The one after it.
    pub(crate) fn next(self) -> Generation {
        Generation(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Current {
    #[inline]
    pub(crate) fn load(&self) -> Generation {
        Generation(self.0.load(Ordering::Acquire))
    }

    /// The moment of a commit. Whoever reads `generation` sees all spans as they were written before.
    pub(crate) fn store(&self, generation: Generation) {
        self.0.store(generation.0, Ordering::Release);
    }
}

impl Span {
    /// From now on.
    pub(crate) fn begun() -> Span {
        Span { born: AtomicU64::new(0), dies: AtomicU64::new(NEVER) }
    }

    /// Not before a commit says so.
    pub(crate) fn pending() -> Span {
        Span { born: AtomicU64::new(NEVER), dies: AtomicU64::new(NEVER) }
    }

    #[inline]
    pub(crate) fn contains(&self, generation: Generation) -> bool {
        self.born.load(Ordering::Relaxed) <= generation.0 && generation.0 < self.dies.load(Ordering::Relaxed)
    }

    /// From `generation` on, which no worker has read yet.
    pub(crate) fn begin(&self, generation: Generation) {
        self.born.store(generation.0, Ordering::Relaxed);
    }

    /// No longer from `generation` on, which no worker has read yet.
    pub(crate) fn end(&self, generation: Generation) {
        self.dies.store(generation.0, Ordering::Relaxed);
    }
}
