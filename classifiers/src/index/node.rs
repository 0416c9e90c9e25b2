//! Nodes of a trie, and a search's step from one to the next.
//!
//! A leaf divides what leads to it into intervals, and has the set of tuples for each; there the way ends. A fan has a way for
//! each value of a byte. A step takes the same instructions through both, and also where there is nothing any more: which of
//! the three it is nobody could foretell, and the packets of a burst take their steps together.
#![expect(
    unsafe_code,
    reason = "measured: what a branch that is foretold wrongly costs is more than all else of a step"
)]

use std::collections::BTreeMap;
use std::hint::select_unpredictable;
use std::marker::PhantomData;
use std::mem::offset_of;

use super::era::Era;
use super::sets::{Loan, Slot};
use super::shared::{Fork, Target};
use super::simd::Vectors;
use super::span::Span;
use crate::prefetch;
use crate::sync::{TryLock, TryLocked};

/// Bounds of a leaf; for model checks so few that a handful of filters makes a tree.
pub(super) const BOUNDS: usize = if cfg!(feature = "shuttle") { 2 } else { 32 };

/// Bits that a fan tells apart.
pub(super) const BYTE: u32 = 8;

/// What a way leads to.
pub(super) type Node = Fork<Leaf, Fan>;

/// Intervals side by side. It never changes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Leaf {
    intervals: Intervals,
    /// What it is made of, with the number of filters that ask for it. For the writer, who takes it along to the next leaf.
    spans: TryLock<BTreeMap<Span, u32>>,
}

#[derive(Debug)]
#[repr(C, align(64))]
struct Intervals {
    /// Last value of each interval but the last one, in order; `u32::MAX` where there are fewer.
    lasts: [u32; BOUNDS],
    sets: [Slot; BOUNDS + 1],
}

/// A way for each value of a byte.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Fan {
    ways: [Way; 256],
    /// What whole ways are for, with the number of filters that ask for it. For the writer.
    own: TryLock<BTreeMap<Own, u32>>,
}

#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Way {
    /// The tuples for all of it.
    pub(super) set: Slot,
    /// What tells its values apart.
    pub(super) behind: Node,
}

/// Ways side by side, and the bit of a tuple with a filter for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Own {
    pub(super) bit: u16,
    pub(super) ranged: bool,
    /// How many there are besides the first one.
    pub(super) more: u8,
    pub(super) first: u8,
}

/// Where a search is. It was read from a way that leads there within the era.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(*mut Leaf, PhantomData<&'a Era>);

/// Where nothing comes any more.
static END: Intervals = Intervals { lasts: [u32::MAX; BOUNDS], sets: [const { Slot::none() }; BOUNDS + 1] };
static NOTHING: Node = Node::none();

impl Target for Leaf {}
impl Target for Fan {}

impl Leaf {
    /// Of up to `BOUNDS + 1` intervals in order, each by its last value, the last of which is `u32::MAX`.
    pub(super) fn new(intervals: &[(u32, Loan)], spans: BTreeMap<Span, u32>) -> Leaf {
        let at = |i: usize| intervals.get(i).copied().unwrap_or((u32::MAX, Loan::NONE));
        let lasts = std::array::from_fn(|i| at(i).0);
        let sets = std::array::from_fn(|i| Slot::new(at(i).1));
        Leaf { intervals: Intervals { lasts, sets }, spans: TryLock::new(spans) }
    }

    /// Its intervals, each by its last value.
    pub(super) fn intervals(&self) -> impl Iterator<Item = (u32, Loan)> {
        let Intervals { lasts, sets } = &self.intervals;
        let len = lasts.iter().position(|last| *last == u32::MAX).unwrap_or(BOUNDS) + 1;
        lasts.iter().copied().chain([u32::MAX]).zip(sets.iter().map(Slot::loan)).take(len)
    }

    pub(super) fn spans(&self) -> TryLocked<'_, BTreeMap<Span, u32>> {
        self.spans.try_lock().unwrap_or_else(|| unreachable!("two writers at one leaf"))
    }
}

impl Fan {
    pub(super) fn new() -> Fan {
        Fan { ways: std::array::from_fn(|_| Way::default()), own: TryLock::default() }
    }

    pub(super) fn way(&self, byte: u8) -> &Way {
        &self.ways[usize::from(byte)]
    }

    pub(super) fn ways(&self) -> &[Way] {
        &self.ways
    }

    pub(super) fn own(&self) -> TryLocked<'_, BTreeMap<Own, u32>> {
        self.own.try_lock().unwrap_or_else(|| unreachable!("two writers at one fan"))
    }
}

impl Own {
    /// Before all others of `bit`.
    pub(super) fn first_of(bit: u16) -> Own {
        Own { bit, ranged: false, more: 0, first: 0 }
    }

    /// Behind all others of `bit`.
    pub(super) fn last_of(bit: u16) -> Own {
        Own { bit, ranged: true, more: u8::MAX, first: u8::MAX }
    }

    /// The last way.
    pub(super) fn last(&self) -> u8 {
        self.first + self.more
    }
}

impl<'a> Cursor<'a> {
    /// What a way leads to.
    #[inline(always)]
    pub(super) fn at(node: &'a Node, _: &'a Era) -> Cursor<'a> {
        Cursor(node.address(), PhantomData)
    }

    /// Whether nothing comes any more.
    #[inline(always)]
    pub(super) fn is_end(self) -> bool {
        self.0.is_null()
    }

    /// A step of a search for `key`, of which `depth` bits led here: puts the tuples that are found into `found`, and returns where the search
    /// goes on.
    #[inline(always)]
    pub(super) fn step<const W: usize>(
        self,
        vectors: impl Vectors,
        key: u32,
        depth: u32,
        found: &mut [u64; W],
        era: &'a Era,
    ) -> Cursor<'a> {
        let (is_fan, way) = (self.is_fan(), self.way(key, depth));
        let is_leaf = !is_fan & !self.is_end();
        let intervals = select_unpredictable(is_leaf, self.0.cast::<Intervals>().cast_const(), &raw const END);
        // SAFETY: a leaf begins with its intervals, and a way with its set. `way` is in the fan, if this is one. What a way led to when the
        // search read it is not set free in its era.
        let (set, behind) = unsafe {
            let at = vectors.below(&(*intervals).lasts, key) as usize;
            let set = select_unpredictable(is_fan, way.cast::<Slot>(), &raw const (*intervals).sets[at]);
            let behind = way.wrapping_byte_add(offset_of!(Way, behind)).cast::<Node>();
            (&*set, &*select_unpredictable(is_fan, behind, &raw const NOTHING))
        };
        vectors.unite(found, &set.get(era).0);
        Cursor::at(behind, era)
    }

    /// Has fetched what the step for `key` reads first.
    #[inline(always)]
    pub(super) fn prefetch(self, key: u32, depth: u32) {
        prefetch::line(select_unpredictable(self.is_fan(), self.way(key, depth).cast(), self.0.cast_const().cast()));
    }

    #[inline(always)]
    fn is_fan(self) -> bool {
        Node::is_other(self.0)
    }

    /// The way for `key`, if this is a fan.
    #[inline(always)]
    fn way(self, key: u32, depth: u32) -> *const Way {
        self.0.map_addr(|at| at & !1).cast::<Way>().wrapping_add(byte(key, depth).into()).cast_const()
    }
}

/// The byte of `key` from bit `depth` on; any byte where there are no more bits.
#[inline(always)]
pub(super) fn byte(key: u32, depth: u32) -> u8 {
    (key.wrapping_shl(depth) >> 24) as u8
}
