//! Tuple: what filters with masks alike have in common. A search looks each of them up in one probe.

use std::collections::BTreeMap;
use std::iter::repeat_with;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use smallvec::SmallVec;

use super::bits::BITS;
use super::era::{Era, Unlinked};
use super::rule::{Mask, Term};
use super::shared::{Shared, Target};
use crate::handle::Handles;
use crate::sync::Arc;

/// Filters of one mask, and of protos of a protocol, or of protos of all protocols.
#[derive(Debug)]
pub(crate) struct Tuple {
    id: u32,
    bit: u16,
    mask: Arc<Mask>,
    /// The packet's protocol counts.
    exact: bool,
    /// Makes equal words of different tuples different keys.
    pub(super) salt: u64,
    /// No filter's proto is before this one.
    best: AtomicU64,
    /// Another one with this bit.
    next: Shared<Tuple>,
}

/// The tuples of an index, by bit.
#[derive(Debug)]
pub(super) struct Tuples {
    firsts: Box<[Shared<Tuple>]>,
    /// No filter's proto is before this one.
    bests: Box<[AtomicU64]>,
}

/// The same for the writer.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// Numbers of those that there are.
    by_shape: BTreeMap<Shape, u32>,
    by_id: Vec<Option<Listed>>,
    ids: Handles,
    /// Filters of each bit.
    filters: Vec<usize>,
    /// The one that was asked for last: the next filter is likely to be of it.
    last: u32,
}

#[derive(Debug)]
struct Listed {
    tuple: Arc<Tuple>,
    filters: usize,
}

/// What tells tuples apart.
type Shape = (SmallVec<[Term; 5]>, [bool; 2], bool);

impl Target for Tuple {}

impl Tuple {
    /// Number of the tuple, which no other one has.
    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The bit that stands for it.
    #[inline]
    pub(super) fn bit(&self) -> u16 {
        self.bit
    }

    #[inline]
    pub(super) fn mask(&self) -> &Mask {
        &self.mask
    }

    #[inline]
    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether a filter of a proto before `proto` could be here, or of that one.
    #[inline]
    pub(super) fn may_be_at(&self, proto: u64) -> bool {
        self.best.load(Relaxed) <= proto
    }

    /// Another one with this bit.
    #[inline]
    pub(super) fn next<'a>(&'a self, era: &'a Era) -> Option<&'a Tuple> {
        self.next.get(era)
    }
}

impl Tuples {
    pub(super) fn new() -> Tuples {
        let (firsts, bests) = (|| Shared::default(), || AtomicU64::new(u64::MAX));
        Tuples { firsts: repeat_with(firsts).take(BITS).collect(), bests: repeat_with(bests).take(BITS).collect() }
    }

    /// The first one with `bit`.
    #[inline]
    pub(super) fn at<'a>(&'a self, bit: usize, era: &'a Era) -> Option<&'a Tuple> {
        self.firsts[bit].get(era)
    }

    /// No filter of the tuples with `bit` has a proto before this one.
    #[inline(always)]
    pub(super) fn best(&self, bit: usize) -> u64 {
        self.bests[bit].load(Relaxed)
    }

    /// Finds that out for `bit`. For the writer.
    fn find_best(&self, bit: u16, era: &Era) {
        let bit = usize::from(bit);
        let tuples = std::iter::successors(self.at(bit, era), |tuple| tuple.next(era));
        self.bests[bit].store(tuples.map(|tuple| tuple.best.load(Relaxed)).min().unwrap_or(u64::MAX), Relaxed);
    }
}

impl Registry {
    /// The tuple of `mask`, for a filter more of the proto `proto`.
    pub(super) fn join(
        &mut self,
        tuples: &Tuples,
        (mask, exact): (&Arc<Mask>, bool),
        proto: u64,
        era: &Era,
        rng: &mut fastrand::Rng,
    ) -> (Arc<Tuple>, Option<Unlinked<Tuple>>) {
        let (id, unlinked) = match self.id(mask, exact) {
            Some(id) => (id, None),
            None => {
                let id = self.ids.take_lowest(u32::MAX).unwrap_or_else(|| unreachable!("more tuples than memory")) - 1;
                let bit = self.bit();
                let (best, head) = (AtomicU64::new(proto), &tuples.firsts[usize::from(bit)]);
                let next = head.keep(era).map(Shared::new).unwrap_or_default();
                let tuple = Arc::new(Tuple { id, bit, mask: Arc::clone(mask), exact, salt: rng.u64(..), best, next });
                let unlinked = head.set(Some(Arc::clone(&tuple)));
                let at = id as usize;
                self.by_id.resize_with(self.by_id.len().max(at + 1), || None);
                self.by_id[at] = Some(Listed { tuple, filters: 0 });
                self.by_shape.insert(shape(mask, exact), id);
                tuples.find_best(bit, era);
                (id, unlinked)
            }
        };
        self.last = id;
        let Some(listed) = &mut self.by_id[id as usize] else { unreachable!("it was found, or made") };
        listed.filters += 1;
        self.filters[usize::from(listed.tuple.bit)] += 1;
        if !listed.tuple.may_be_at(proto) {
            listed.tuple.best.store(proto, Relaxed);
            tuples.find_best(listed.tuple.bit, era);
        }
        (Arc::clone(&listed.tuple), unlinked)
    }

    /// The tuple of `mask`, if there is a filter.
    pub(super) fn find(&self, mask: &Arc<Mask>, exact: bool) -> Option<&Arc<Tuple>> {
        self.get(self.id(mask, exact)?)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_shape.len()
    }

    /// The tuple with this number.
    pub(super) fn get(&self, id: u32) -> Option<&Arc<Tuple>> {
        self.by_id.get(id as usize)?.as_ref().map(|listed| &listed.tuple)
    }

    fn id(&self, mask: &Arc<Mask>, exact: bool) -> Option<u32> {
        let is_it = |tuple: &&Arc<Tuple>| Arc::ptr_eq(&tuple.mask, mask) && tuple.exact == exact;
        match self.get(self.last).filter(is_it) {
            Some(tuple) => Some(tuple.id),
            None => self.by_shape.get(&shape(mask, exact)).copied(),
        }
    }

    /// A bit for another tuple: one that no other one has, or else the one with the fewest filters, because those make the
    /// fewest searches look where nothing is.
    fn bit(&mut self) -> u16 {
        if self.filters.len() < BITS {
            self.filters.push(0);
        }
        let bits = (0..).zip(&self.filters);
        bits.min_by_key(|(_, filters)| **filters).map_or(0, |(bit, _)| bit)
    }

    /// A filter less.
    pub(super) fn leave(&mut self, tuples: &Tuples, tuple: &Tuple, era: &Era) -> Option<Unlinked<Tuple>> {
        let listed = self.by_id.get_mut(tuple.id as usize)?;
        let filters = &mut listed.as_mut()?.filters;
        *filters -= 1;
        self.filters[usize::from(tuple.bit)] -= 1;
        if *filters > 0 {
            return None;
        }
        *listed = None; // searches have it by another count
        self.by_shape.remove(&shape(&tuple.mask, tuple.exact));
        self.ids.release(tuple.id + 1);
        let mut way = &tuples.firsts[usize::from(tuple.bit())];
        while let Some(other) = way.get(era).filter(|other| !std::ptr::eq(*other, tuple)) {
            way = &other.next;
        }
        let unlinked = way.set(tuple.next.keep(era));
        tuples.find_best(tuple.bit, era);
        unlinked
    }
}

fn shape(mask: &Mask, exact: bool) -> Shape {
    let (terms, ranged) = mask.shape();
    (terms.into(), ranged, exact)
}
