//! Objects that are alive, by type: what a leak test counts, and what they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::action::Action;
use crate::counters;
use crate::filter::Filter;

/// Types of objects that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Class {
    Block,
    Chain,
    Proto,
    Filter,
    Group,
    Action,
}

/// How many objects are in memory, whether in use or waiting for the reaper. Counted in debug builds and with the feature
/// `inject`; all 0 elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Blocks.
    pub blocks: usize,
    /// Chains, hidden ones included.
    pub chains: usize,
    /// Protos.
    pub protos: usize,
    /// Filters.
    pub filters: usize,
    /// Mask groups of flower.
    pub groups: usize,
    /// Actions.
    pub actions: usize,
}

/// Bytes that a flower filter with one action of its own takes. What is missing to what a process grows by is room that the
/// allocator and tables that may grow have to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// The filter.
    pub filter: usize,
    /// Its action.
    pub action: usize,
    /// Counters of both, for all workers.
    pub counters: usize,
    /// Where the filter is found by its handle, and the action by its index.
    pub numbers: usize,
    /// Its share of the chain's index, by which packets find it: a slot of the table.
    pub index: usize,
}

impl Footprint {
    /// With counters for `workers` workers.
    pub fn of(workers: usize) -> Footprint {
        const COUNTS: usize = 2 * size_of::<usize>(); // of an `Arc`
        Footprint {
            filter: COUNTS + size_of::<Filter>(),
            action: COUNTS + size_of::<Action>(),
            counters: counters::bytes(workers),
            numbers: 2 * size_of::<Arc<Filter>>(),
            index: crate::index::SLOT,
        }
    }
}

/// The counts of one plane.
#[derive(Debug, Default)]
pub(crate) struct Live([AtomicUsize; 6]);

impl Live {
    pub(crate) fn counts(&self) -> LiveCounts {
        let [blocks, chains, protos, filters, groups, actions] = self.0.each_ref().map(|count| count.load(Relaxed));
        LiveCounts { blocks, chains, protos, filters, groups, actions }
    }
}

/// One counted object, for as long as the token exists. Nothing at all where objects are not counted.
#[derive(Debug)]
pub(crate) struct Token {
    #[cfg(any(debug_assertions, feature = "inject"))]
    counted: (Arc<Live>, Class),
}

impl Token {
    #[cfg(any(debug_assertions, feature = "inject"))]
    pub(crate) fn new(live: &Arc<Live>, class: Class) -> Token {
        live.0[class as usize].fetch_add(1, Relaxed);
        Token { counted: (Arc::clone(live), class) }
    }

    #[cfg(not(any(debug_assertions, feature = "inject")))]
    #[inline]
    pub(crate) fn new(_: &Arc<Live>, _: Class) -> Token {
        Token {}
    }
}

#[cfg(any(debug_assertions, feature = "inject"))]
impl Drop for Token {
    fn drop(&mut self) {
        crate::sync::assert_may_destroy();
        self.counted.0.0[self.counted.1 as usize].fetch_sub(1, Relaxed);
    }
}
