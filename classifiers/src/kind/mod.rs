//! Classifier kinds: how the filters of a proto are kept, and how they match.
//!
//! A kind has two sides. Requests use its [`Kind`]: the filters by handle, under the proto's lock. Workers use its [`View`]:
//! what the chain's list holds for the proto. To add a kind: a variant of `KindName`, `KindSpec`, [`Matches`] and [`View`],
//! a file here, and an arm in [`new`]. What is the same in all kinds is [`roster::Roster`]'s business; a kind that keeps
//! its filters by handle implements [`roster::Index`] only.

pub(crate) mod flower; // masked fields and port ranges
pub(crate) mod fw; // the packet's mark
mod matchall; // every packet
pub(crate) mod roster; // filters by handle, and the order of steps that changes them
mod seat; // a proto's place in its chain's index
pub(crate) mod u32; // words of the packet, in tables

use std::fmt::Debug;
use std::sync::Arc;

use crate::action::Outcome;
use crate::block::{Core, Template};
use crate::chain::ChainRef;
use crate::classify::Walk;
use crate::counters::Counters;
use crate::error::{Refusal, RequestError};
use crate::event::Event;
use crate::filter::Filter;
use crate::generation::{Generation, Span};
use crate::index::ChainIndex;
use crate::index::place::Place;
use crate::index::rule::Rule;
use crate::inject::Point;
use crate::ledger::{By, Ledger};
use crate::live::Class;
use crate::packet::Packet;
use crate::plane::Plane;
use crate::port::Egress;
use crate::proto::Proto;
use crate::request::{Cx, FilterSpec, FwSpec, KindName, KindSpec, Mode, Owner};

/// The control side of a proto.
///
/// An unlocked kind is safe against any of these beside any other, by the proto's lock [UL-4]. A locked kind is called under
/// the global lock only (but for `name`, `unlocked`, `has_filters` and publication).
pub(crate) trait Kind: Send + Sync + Debug {
    fn name(&self) -> KindName;

    /// Whether it does without the global lock [UL-1].
    fn unlocked(&self) -> bool;

    /// Whether the chain's index holds its filters.
    fn is_indexed(&self) -> bool {
        false
    }

    /// The proto is being listed, as `place` of the chain that `index` is of. Under the chain's lock, once.
    fn attach(&self, _index: &Arc<ChainIndex>, _place: u64) {}

    /// The proto is not listed any more: see [`Home`](crate::index::place::Home). Under the chain's lock.
    fn leave(&self) {}

    /// What it can do in transactions; nothing if its filters cannot be part of one.
    fn staged(&self) -> Option<&dyn Staged> {
        None
    }

    /// Adds a filter, or puts it in the place of `old` [FO-2]. After a failure everything is as before [ER-40].
    fn change(&self, change: &Change<'_>, old: Option<Arc<Filter>>) -> Result<Changed, Refusal>;

    /// Whether `filter` can be deleted on its own. The answer holds until the request ends.
    fn check_delete(&self, _: &Filter) -> Result<(), RequestError> {
        Ok(())
    }

    /// Takes `filter` out of `proto`, whose kind this is, and releases it; calls `told` under the proto's lock. Nothing if it
    /// was deleted or replaced before. In a transaction, prepares that.
    fn delete(
        &self,
        cx: &Cx<'_>,
        proto: &Arc<Proto>,
        filter: &Arc<Filter>,
        told: &mut dyn FnMut(),
    ) -> Result<Option<Deleted>, Refusal>;

    /// The filter with `handle` as `by` sees it; never one that is being built or deleted [OBJ-10], [CC-24], [TX-3].
    fn get(&self, by: By<'_>, handle: u32) -> Option<Arc<Filter>>;

    /// Up to `max` filters after `position` as `by` sees them, in the kind's order of listing, each with its position [WK-3].
    fn page(&self, by: By<'_>, position: Option<u64>, max: usize) -> Vec<(u64, Arc<Filter>)>;

    /// Whether `by` sees a filter.
    fn has_filters(&self, by: By<'_>) -> bool;

    /// What workers are to see, if the chain's list does not have it, and which version that is. Under the chain's lock.
    fn unpublished(&self) -> Option<(View, u64)>;

    /// The list has this version now: only from here on may a request rely on it. Under the same lock.
    fn set_published(&self, version: u64);

    /// No filter may be committed any more [OBJ-9]. Under the global lock, or when nobody else knows the block.
    fn retire(&self);

    /// The same, if there is a committed filter; `false` otherwise, or if it was done before: of a delete by handle and one of the
    /// priority only one may succeed [CC-5].
    fn retire_if_filters(&self) -> Result<bool, Refusal>;

    /// The same of a proto that a transaction has made, which loses all that it has prepared here; `false` if that was done before,
    /// or if the transaction is committed.
    fn retire_prepared(&self) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// Whether a request may make another proto of this priority: it sees no filter here, but others do, or packets of an
    /// earlier generation [TX-8]. With `now`, it does: nobody adds a filter here any more, unless the other one goes.
    fn supersede(&self, _: &Cx<'_>, _now: bool) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// Whether there is another proto of this priority, which filters are to go to.
    fn set_heir(&self, _: bool) {}

    /// The same, if there is no filter and none that is being built; `false` otherwise, or if it was done before [TP-15].
    fn retire_if_empty(&self) -> bool;

    /// Gives all filters back. Nobody holds the proto any more.
    fn destroy(&self, cx: &Cx<'_>) -> Vec<Arc<Filter>>;
}

/// What a kind does for transactions: the steps of a commit, and the way back.
pub(crate) trait Staged {
    /// What `ledger` has prepared for `handle` begins, and what it takes away ends, with `generation`. Nothing if nothing is
    /// prepared any more.
    fn stamp(&self, ledger: &Arc<Ledger>, handle: u32, generation: Generation) -> Option<Flip>;

    /// Packets see what was stamped: now requests do, and `told` is called under the proto's lock. Returns what it deletes, which
    /// stays where packets of earlier generations can find it; nothing also if it was done before.
    fn settle(&self, handle: u32, told: &mut dyn FnMut()) -> Option<Arc<Filter>>;

    /// Takes back what `ledger` has prepared for `handle`, if it is still prepared.
    fn withdraw(&self, cx: &Cx<'_>, ledger: &Arc<Ledger>, handle: u32) -> Option<Deleted>;

    /// No packet of an earlier generation is left: takes out what a commit has deleted, and releases it.
    fn unlink(&self, cx: &Cx<'_>, filter: Arc<Filter>) -> Deleted;
}

/// What a commit changes at one handle.
pub(crate) struct Flip {
    /// What goes.
    pub(crate) old: Option<Arc<Filter>>,
    /// What comes.
    pub(crate) new: Option<Arc<Filter>>,
}

impl Flip {
    /// What subscribers are told; nothing if nothing came of it.
    pub(crate) fn event(&self, proto: &Proto) -> Option<Event> {
        let block = proto.chain().core().id();
        match (&self.old, &self.new) {
            (None, None) => None,
            (Some(old), None) => Some(Event::FilterDeleted { block, filter: proto.filter_info(old) }),
            (old, Some(new)) => {
                let mode = if old.is_some() { Mode::Replace } else { Mode::Add };
                Some(Event::FilterAdded { block, mode, filter: proto.filter_info(new) })
            }
        }
    }
}

/// What a request wants of a kind.
pub(crate) struct Change<'a> {
    pub(crate) cx: &'a Cx<'a>,
    pub(crate) proto: &'a Arc<Proto>,
    pub(crate) spec: &'a FilterSpec,
    pub(crate) mode: Mode,
    /// Whose the filter will be.
    pub(crate) owner: Owner,
    pub(crate) template: Option<Arc<Template>>,
}

/// A filter that is complete, but not in its proto.
pub(crate) struct Built<'a> {
    pub(crate) filter: Arc<Filter>,
    plane: &'a Plane,
    event: Option<Arc<Event>>,
}

impl<'a> Change<'a> {
    /// The filter that is wanted, with its actions: everything that may take long or fail but the commit [FO-2].
    pub(crate) fn build(&self, handle: u32, matches: Matches, hits: Counters) -> Result<Built<'a>, Refusal> {
        let (plane, spec): (&'a Plane, _) = (self.cx.plane(), self.spec);
        plane.at(Point::HandleReserved)?;
        let (chain, by) = (self.proto.chain(), self.cx.by());
        let actions = plane.actions().bind(plane, chain.core(), &spec.actions, spec.options.skip_hw)?;
        let span = if by.is_some() { Span::pending() } else { Span::begun() };
        let (label, live) = ((&*spec.name, spec.options), plane.count(Class::Filter));
        let place = Place::new(self.proto.protocol(), self.proto.home());
        let filter = Filter::new(handle, label, matches, actions, (span, place), hits, live);
        let mut built = Built { filter: Arc::new(filter.owned_by(self.owner)), plane, event: None };
        let ready = ChainRef::announce(chain, self.template.as_ref(), by)
            .and_then(|()| plane.at(Point::BeforeCommit).map_err(Refusal::from));
        if let Err(refusal) = ready {
            return Err(built.discard(refusal));
        }
        built.event = (by.is_none() && plane.hub().is_heard()).then(|| {
            let (block, filter) = (chain.core().id(), self.proto.filter_info(&built.filter));
            Arc::new(Event::FilterAdded { block, mode: self.mode, filter })
        });
        Ok(built)
    }
}

impl Built<'_> {
    /// It was committed. Called under the lock of the commit, so that events come in the order of commits [NT-5].
    pub(crate) fn tell(&mut self) {
        self.event.take().into_iter().for_each(|event| self.plane.hub().send(event));
    }

    /// It was not, because of `refusal`. Called without locks.
    pub(crate) fn discard(self, refusal: Refusal) -> Refusal {
        let mut garbage = Vec::new();
        self.plane.actions().unbind(self.filter.actions(), &mut garbage);
        self.plane.reaper().push(garbage);
        refusal
    }
}

/// What became of a change.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) handle: u32,
    /// Out of everything but the hands of workers: to be released after the publication. In a transaction, what it had
    /// prepared before.
    pub(crate) old: Option<Arc<Filter>>,
    /// Workers do not see it yet: the chain's list is to be refreshed.
    pub(crate) publish: bool,
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deleted {
    /// As in [`Changed`].
    pub(crate) publish: bool,
    /// No filter is left.
    pub(crate) last: bool,
}

/// What a filter matches.
#[derive(Debug)]
pub(crate) enum Matches {
    Flower(Rule),
    Matchall,
    Fw(FwSpec),
    U32(u32::Entry),
}

impl Matches {
    /// As it was asked for.
    pub(crate) fn spec(&self) -> KindSpec {
        match self {
            Matches::Flower(rule) => KindSpec::Flower(Box::new(rule.spec())),
            Matches::Matchall => KindSpec::Matchall,
            Matches::Fw(spec) => KindSpec::Fw(*spec),
            Matches::U32(entry) => KindSpec::U32(entry.spec()),
        }
    }

    /// Packets that it was tried with, where that is counted [ST-7].
    pub(crate) fn runs(&self) -> u64 {
        match self {
            Matches::U32(entry) => entry.runs(),
            Matches::Flower(_) | Matches::Matchall | Matches::Fw(_) => 0,
        }
    }
}

/// The data side of a proto that the index does not hold: what workers read. Part of a chain's list, and as constant as
/// the list.
#[derive(Clone, Debug)]
pub(crate) enum View {
    /// No filter yet.
    Nothing,
    Fw(Arc<fw::Marks>),
    /// The root table; buckets are replaced in place.
    U32(Arc<u32::Table>),
}

impl View {
    /// What the filters say about `packet`; `Continue` if none matches.
    #[inline]
    pub(crate) fn classify<E: Egress>(&self, packet: &mut Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
        match self {
            View::Nothing => Outcome::Continue,
            View::Fw(marks) => marks.classify(packet, cx),
            View::U32(root) => root.classify(packet, cx),
        }
    }
}

/// The kind of a new proto in the block `core`, without filters.
pub(crate) fn new(name: KindName, core: &Core) -> Result<Box<dyn Kind>, RequestError> {
    match name {
        KindName::Flower => Ok(Box::new(roster::Roster::new(flower::Flower::new(core.plane())))),
        KindName::Matchall => Ok(Box::new(roster::Roster::new(matchall::Matchall::default()))),
        KindName::Fw => Ok(Box::new(roster::Roster::new(fw::Marks::default()))),
        KindName::U32 => Ok(Box::new(u32::U32::new(core)?)),
        KindName::Unknown => Err(RequestError::NotFound("kind")), // [ER-9]
    }
}

/// Whether filters of the kind can be part of a transaction [TX-12].
pub(crate) fn staged(name: KindName) -> bool {
    name != KindName::U32
}

/// Whether the kind does without the global lock [UL-6].
pub(crate) fn unlocked(name: KindName) -> bool {
    match name {
        KindName::Flower | KindName::Matchall | KindName::Fw => true,
        KindName::U32 | KindName::Unknown => false,
    }
}

/// A template as `spec` wants it.
pub(crate) fn template(spec: &KindSpec) -> Result<Template, RequestError> {
    match spec {
        KindSpec::Flower(wanted) => flower::check_template(wanted).map(|()| Template { spec: spec.clone() }),
        KindSpec::Matchall | KindSpec::Fw(_) | KindSpec::U32(_) => {
            Err(RequestError::Unsupported("templates of this kind")) // [ER-20]
        }
        KindSpec::Unknown => Err(RequestError::NotFound("kind")),
    }
}
