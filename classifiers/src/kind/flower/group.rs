//! Mask groups: what workers look keys up in.

use std::hash::{BuildHasher, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use foldhash::quality::FixedState;
use smallvec::{SmallVec, smallvec};

use super::super::roster::Rivals;
use super::super::versions::Versions;
use super::{Mask, Rule};
use crate::action::Outcome;
use crate::classify::Walk;
use crate::filter::Filter;
use crate::flow_key::FlowKey;
use crate::index::era::Eras;
use crate::index::table::{Table, Writer};
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

#[derive(Debug)]
#[cfg_attr(feature = "shuttle", expect(clippy::large_enum_variant, reason = "the model checker's atomics are large"))]
enum Members {
    /// Asked one by one: nothing is faster for a few.
    Few(SmallVec<[Arc<Filter>; 2]>),
    /// By the hash of the masked key. Updated in place, and so for as long as there is one.
    Many(Table<Filter>),
    /// With port ranges: asked one by one in order of insertion [FL-6].
    Ranged(Tree<Ranged>),
}

/// A member with port ranges.
#[derive(Clone, Debug)]
struct Ranged(Versions);

impl Groups {
    /// What the first match of the first group that has one says [FL-3]; `Continue` if none matches, and also if its actions
    /// say so: no other filter of the proto is tried then [FL-12].
    #[inline]
    pub(crate) fn classify<E: Egress>(&self, packet: &mut Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
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
                    let alive = |filter: &Filter| filter.rule().matches(key) && filter.lives_at(cx.generation);
                    if let Some(filter) = table.find(group.hash_of(key), &era, alive) {
                        return filter.apply(packet, cx);
                    }
                }
                Members::Ranged(tree) => {
                    let found = tree.try_for_each(|Ranged(filters)| match filters.at(cx.generation) {
                        Some(filter) if filter.rule().matches(key) => ControlFlow::Break(filter),
                        _ => ControlFlow::Continue(()),
                    });
                    if let ControlFlow::Break(filter) = found {
                        return filter.apply(packet, cx);
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
            Members::Many(table) => table.write().len() == 0,
            Members::Ranged(tree) => tree.is_empty(),
        }
    }

    /// The members that match the same packets as `new` [FL-4].
    pub(super) fn rivals(&self, new: &Filter) -> Rivals {
        let alike = |filter: &Filter| filter.rule().same_as(new.rule());
        match &self.members {
            Members::Few(filters) => filters.iter().filter(|filter| alike(filter)).cloned().collect(),
            Members::Many(table) => table.write().matching(self.hash(new.rule()), alike).collect(),
            Members::Ranged(tree) => {
                let mut rivals = Rivals::new();
                let _ = tree.try_for_each(|Ranged(filters)| {
                    rivals.extend(filters.iter().filter(|filter| alike(filter)).cloned());
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
                let (mut table, hash) = (table.write(), self.hash(new.rule()));
                let gone = match old.map(|old| (old, self.hash(old.rule()))) {
                    Some((old, place)) if place == hash => table.replace(old, Arc::clone(new), hash),
                    old => {
                        table.insert(Arc::clone(new), hash);
                        old.and_then(|(old, place)| table.remove(old, place)) // after the new one is there [FO-6]
                    }
                };
                garbage.extend(gone.map(Garbage::Member));
                self.resize(&mut table, garbage);
                None
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
                let mut table = table.write();
                garbage.extend(table.remove(filter, self.hash(filter.rule())).map(Garbage::Member));
                self.resize(&mut table, garbage);
                None
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

    fn resize(&self, table: &mut Writer<'_, Filter>, garbage: &mut Vec<Garbage>) {
        garbage.extend(table.resize(|filter| self.hash(filter.rule())).map(Garbage::Buckets));
    }

    fn table(&self, filters: impl Iterator<Item = Arc<Filter>>) -> Members {
        let table = Table::new();
        let mut writer = table.write();
        for filter in filters {
            let hash = self.hash(filter.rule());
            writer.insert(filter, hash);
        }
        drop(writer);
        Members::Many(table)
    }

    /// Of the masked key of a rule.
    fn hash(&self, rule: &Rule) -> u64 {
        let mut hasher = FixedState::with_seed(self.seed).build_hasher();
        self.mask.terms.iter().zip(rule.words.iter()).for_each(|(term, word)| hasher.write_u64(word & term.mask));
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

impl Keyed for Ranged {
    fn key(&self) -> u64 {
        self.0.iter().next().map_or(0, |filter| order(filter)) // all have the same
    }
}

fn order(filter: &Filter) -> u64 {
    filter.rule().ranges.as_ref().map_or(0, |ranges| ranges.order.load(Relaxed))
}
