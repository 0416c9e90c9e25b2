//! Mask groups: what workers look keys up in.

use std::hash::{BuildHasher, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use foldhash::quality::FixedState;
use smallvec::{SmallVec, smallvec};

use super::super::roster::Rivals;
use super::super::versions::Versions;
use super::{Mask, Rule};
use crate::action::Outcome;
use crate::classify::Walk;
use crate::filter::Filter;
use crate::flow_key::FlowKey;
use crate::index::slot::{Eras, Slot};
use crate::packet::Packet;
use crate::port::Egress;
use crate::reap::Garbage;
use crate::tree::{Keyed, Tree};

/// Most filters of a group that are compared one by one.
const FEW: usize = 8;

/// The groups of a proto in order of creation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    pub(super) list: SmallVec<[Arc<Group>; 1]>,
}

/// The filters of one mask. It never changes, but for what is in a table.
#[derive(Debug)]
pub(crate) struct Group {
    mask: Arc<Mask>,
    seed: u64,
    eras: Arc<Eras>,
    members: Members,
}

#[derive(Clone, Debug)]
enum Members {
    /// Asked one by one: nothing is faster for a few.
    Few(SmallVec<[Arc<Filter>; 2]>),
    /// By the hash of the masked key.
    Many(Arc<Table>),
    /// With port ranges: asked one by one in order of insertion [FL-6].
    Ranged(Tree<Ranged>),
}

/// A hash table that is updated in place: a reader sees each bucket as it was before or after an update [IM-2], [DV-12].
/// Its number of buckets is a power of two and never changes; a group grows by another table.
#[derive(Debug)]
struct Table {
    buckets: Box<[Slot<Bucket>]>,
    /// Filters in it; under the proto's lock.
    len: AtomicUsize,
}

/// Filters whose hashes agree in the low bits.
#[derive(Debug)]
pub(crate) struct Bucket {
    filters: SmallVec<[Arc<Filter>; 2]>,
}

/// A member with port ranges.
#[derive(Clone, Debug)]
struct Ranged(Versions);

impl Groups {
    /// What the first match of the first group that has one says [FL-3]; `Continue` if none matches, and also if its actions
    /// say so: no other filter of the proto is tried then [FL-12].
    #[inline]
    pub(crate) fn classify<E: Egress>(&self, packet: &Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
        let key = packet.key();
        for group in &self.list {
            match &group.members {
                Members::Few(filters) => {
                    if let Some(filter) =
                        filters.iter().find(|filter| filter.rule().matches(key) && filter.lives_at(cx.generation))
                    {
                        return filter.apply(packet, cx);
                    }
                }
                Members::Many(table) => {
                    let era = group.eras.enter();
                    let mut filters =
                        table.bucket(group.hash_of(key)).load(&era).map_or(&[][..], Bucket::filters).iter();
                    if let Some(filter) =
                        filters.find(|filter| filter.rule().matches(key) && filter.lives_at(cx.generation))
                    {
                        return filter.apply(packet, cx);
                    }
                }
                Members::Ranged(tree) => {
                    let found = tree.try_for_each(|Ranged(filters)| match filters.at(cx.generation) {
                        Some(filter) if filter.rule().matches(key) => ControlFlow::Break(filter.apply(packet, cx)),
                        _ => ControlFlow::Continue(()),
                    });
                    if let ControlFlow::Break(outcome) = found {
                        return outcome;
                    }
                }
            }
        }
        Outcome::Continue
    }
}

impl Group {
    /// Of one filter.
    pub(super) fn new(filter: &Arc<Filter>, seed: u64, eras: &Arc<Eras>) -> Group {
        let members = match filter.rule().ranges {
            None => Members::Few(smallvec![Arc::clone(filter)]),
            Some(_) => Members::Ranged(Tree::default().with(Ranged(Versions::of(filter)))),
        };
        Group { mask: Arc::clone(&filter.rule().mask), seed, eras: Arc::clone(eras), members }
    }

    pub(super) fn mask(&self) -> &Arc<Mask> {
        &self.mask
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.members {
            Members::Few(filters) => filters.is_empty(),
            Members::Many(table) => table.len.load(Relaxed) == 0,
            Members::Ranged(tree) => tree.is_empty(),
        }
    }

    /// The members that match the same packets as `new` [FL-4].
    pub(super) fn rivals(&self, new: &Filter) -> Rivals {
        let alike = |filter: &&Arc<Filter>| filter.rule().same_as(new.rule());
        match &self.members {
            Members::Few(filters) => filters.iter().filter(alike).cloned().collect(),
            Members::Many(table) => {
                let (era, bucket) = (self.eras.enter(), table.bucket(self.hash(new.rule())));
                bucket.load(&era).map_or(&[][..], Bucket::filters).iter().filter(alike).cloned().collect()
            }
            Members::Ranged(tree) => {
                let mut rivals = Rivals::new();
                let _ = tree.try_for_each(|Ranged(filters)| {
                    rivals.extend(filters.iter().filter(alike).cloned());
                    ControlFlow::<()>::Continue(())
                });
                rivals
            }
        }
    }

    /// With `new`, in the place of `old`. A group in the place of this one, or nothing if this one was updated in place.
    pub(super) fn insert(&self, new: &Arc<Filter>, old: Option<&Filter>, garbage: &mut Vec<Garbage>) -> Option<Group> {
        let is_old = |filter: &Arc<Filter>| old.is_some_and(|old| std::ptr::eq(&**filter, old));
        match &self.members {
            Members::Few(filters) => {
                let mut filters = filters.clone();
                match filters.iter().position(is_old) {
                    Some(at) => filters[at] = Arc::clone(new),
                    None => filters.push(Arc::clone(new)),
                }
                let members =
                    if filters.len() <= FEW { Members::Few(filters) } else { self.table(filters.into_iter()) };
                Some(self.with(members))
            }
            Members::Many(table) => {
                let (era, bucket) = (self.eras.enter(), table.bucket(self.hash(new.rule())));
                let there = bucket.load(&era).map_or(&[][..], Bucket::filters);
                let mut filters: SmallVec<[Arc<Filter>; 2]> = SmallVec::with_capacity(there.len() + 1);
                filters.extend(there.iter().filter(|filter| !is_old(filter)).cloned());
                let replaced = filters.len() < there.len();
                filters.push(Arc::clone(new));
                garbage.extend(bucket.swap(Some(Arc::new(Bucket { filters }))).map(Garbage::Bucket));
                if replaced {
                    return None;
                }
                table.len.fetch_add(1, Relaxed);
                if let Some(old) = old {
                    self.unlink(table, old, garbage); // its key is another one: after the new one is there [FO-6]
                }
                self.resized(table)
            }
            Members::Ranged(tree) => {
                let there = tree.get(order(new));
                let filters = there.map_or_else(|| Versions::of(new), |Ranged(there)| there.with(new, old));
                Some(self.with(Members::Ranged(tree.with(Ranged(filters)))))
            }
        }
    }

    /// Without `filter`, as with `insert`.
    pub(super) fn remove(&self, filter: &Filter, garbage: &mut Vec<Garbage>) -> Option<Group> {
        match &self.members {
            Members::Few(filters) => {
                let others = filters.iter().filter(|other| !std::ptr::eq(&***other, filter));
                Some(self.with(Members::Few(others.cloned().collect())))
            }
            Members::Many(table) => {
                self.unlink(table, filter, garbage);
                self.resized(table)
            }
            Members::Ranged(tree) => {
                let others = tree.get(order(filter)).and_then(|Ranged(there)| there.without(filter));
                let tree = match others {
                    Some(others) => tree.with(Ranged(others)),
                    None => tree.without(order(filter)),
                };
                Some(self.with(Members::Ranged(tree)))
            }
        }
    }

    fn with(&self, members: Members) -> Group {
        Group { mask: Arc::clone(&self.mask), seed: self.seed, eras: Arc::clone(&self.eras), members }
    }

    fn unlink(&self, table: &Table, filter: &Filter, garbage: &mut Vec<Garbage>) {
        let (era, bucket) = (self.eras.enter(), table.bucket(self.hash(filter.rule())));
        let there = bucket.load(&era).map_or(&[][..], Bucket::filters);
        let others: SmallVec<_> = there.iter().filter(|other| !std::ptr::eq(&***other, filter)).cloned().collect();
        let rest = (!others.is_empty()).then(|| Arc::new(Bucket { filters: others }));
        garbage.extend(bucket.swap(rest).map(Garbage::Bucket));
        table.len.fetch_sub(1, Relaxed);
    }

    /// The group with another table, if this one is too small or much too large.
    fn resized(&self, table: &Table) -> Option<Group> {
        let (len, buckets) = (table.len.load(Relaxed), table.buckets.len());
        if len <= buckets && len * 8 >= buckets {
            return None;
        }
        let (era, mut filters) = (self.eras.enter(), Vec::with_capacity(len));
        for bucket in &table.buckets {
            filters.extend(bucket.load(&era).iter().flat_map(|bucket| &bucket.filters).cloned());
        }
        let members = if len <= FEW / 2 { Members::Few(filters.into()) } else { self.table(filters.into_iter()) };
        Some(self.with(members))
    }

    fn table(&self, filters: impl ExactSizeIterator<Item = Arc<Filter>>) -> Members {
        let len = filters.len();
        let mut buckets: Box<[Slot<Bucket>]> = (0..(len + 1).next_power_of_two()).map(|_| Slot::new(None)).collect();
        let mask = buckets.len() - 1;
        for filter in filters {
            let slot = &mut buckets[place(self.hash(filter.rule()), mask)];
            let mut there = slot.take().map_or_else(SmallVec::new, |bucket| bucket.filters.clone());
            there.push(filter);
            *slot = Slot::new(Some(Arc::new(Bucket { filters: there })));
        }
        Members::Many(Arc::new(Table { buckets, len: AtomicUsize::new(len) }))
    }

    /// Of the masked key of a rule.
    fn hash(&self, rule: &Rule) -> u64 {
        let mut hasher = FixedState::with_seed(self.seed).build_hasher();
        self.mask.terms.iter().zip(&rule.words).for_each(|(term, word)| hasher.write_u64(word & term.mask));
        hasher.finish()
    }

    /// Of the masked key of a packet.
    #[inline]
    fn hash_of(&self, key: &FlowKey) -> u64 {
        let mut hasher = FixedState::with_seed(self.seed).build_hasher();
        self.mask.terms.iter().for_each(|term| hasher.write_u64(key.words()[term.word] & term.mask));
        hasher.finish()
    }
}

impl Bucket {
    #[inline]
    fn filters(&self) -> &[Arc<Filter>] {
        &self.filters
    }
}

impl Table {
    #[inline]
    fn bucket(&self, hash: u64) -> &Slot<Bucket> {
        &self.buckets[place(hash, self.buckets.len() - 1)]
    }
}

#[inline]
fn place(hash: u64, mask: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
    let low = hash as usize;
    low & mask
}

impl Keyed for Ranged {
    fn key(&self) -> u64 {
        self.0.iter().next().map_or(0, |filter| order(filter)) // all have the same
    }
}

fn order(filter: &Filter) -> u64 {
    filter.rule().ranges.as_ref().map_or(0, |ranges| ranges.order.load(Relaxed))
}
