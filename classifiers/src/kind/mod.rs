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
pub(crate) mod u32; // words of the packet, in tables

use std::fmt::Debug;
use std::sync::Arc;

use crate::action::Outcome;
use crate::block::{Core, Template};
use crate::chain::{Chain, ChainRef};
use crate::classify::Walk;
use crate::counters::Counters;
use crate::error::{Refusal, RequestError};
use crate::event::Event;
use crate::filter::Filter;
use crate::inject::Point;
use crate::live::Class;
use crate::packet::Packet;
use crate::plane::Plane;
use crate::port::Egress;
use crate::request::{Cx, FilterSpec, FwSpec, KindName, KindSpec, Mode, info};

/// The control side of a proto.
///
/// An unlocked kind is safe against any of these beside any other, by the proto's lock [UL-4]. A locked kind is called under
/// the global lock only (but for `name`, `unlocked` and `publish`).
pub(crate) trait Kind: Send + Sync + Debug {
    fn name(&self) -> KindName;

    /// Whether it does without the global lock [UL-1].
    fn unlocked(&self) -> bool;

    /// Adds a filter, or puts it in the place of `old` [FO-2]. After a failure everything is as before [ER-40].
    fn change(&self, change: &Change<'_>, old: Option<Arc<Filter>>) -> Result<Changed, Refusal>;

    /// Whether `filter` can be deleted on its own. The answer holds until the request ends.
    fn check_delete(&self, _: &Filter) -> Result<(), RequestError> {
        Ok(())
    }

    /// Takes `filter` out, and calls `told` under the proto's lock. Nothing if it was deleted or replaced before.
    fn delete(&self, cx: &Cx<'_>, filter: &Filter, told: &mut dyn FnMut()) -> Option<Deleted>;

    /// The committed filter with `handle`; never one that is being built or deleted [OBJ-10], [CC-24].
    fn get(&self, handle: u32) -> Option<Arc<Filter>>;

    /// Up to `max` filters after `position`, in the kind's order of listing, each with its position [WK-3].
    fn page(&self, position: Option<u64>, max: usize) -> Vec<(u64, Arc<Filter>)>;

    /// Whether there is a committed filter.
    fn has_filters(&self) -> bool;

    /// What workers are to see, if that is not what was taken last. Under the chain's lock.
    fn publish(&self) -> Option<View>;

    /// No filter may be committed any more [OBJ-9].
    fn retire(&self);

    /// The same, if there is a committed filter; `false` otherwise, or if it was done before: of a delete by handle and one of the
    /// priority only one may succeed [CC-5].
    fn retire_if_filters(&self) -> bool;

    /// The same, if there is no filter and none that is being built; `false` otherwise, or if it was done before [TP-15].
    fn retire_if_empty(&self) -> bool;

    /// Gives all filters back. Nobody holds the proto any more.
    fn destroy(&self, cx: &Cx<'_>) -> Vec<Arc<Filter>>;
}

/// What a request wants of a kind.
pub(crate) struct Change<'a> {
    pub(crate) cx: &'a Cx<'a>,
    pub(crate) chain: &'a Arc<Chain>,
    /// The proto's.
    pub(crate) priority: u32,
    /// The proto's.
    pub(crate) protocol: u16,
    pub(crate) spec: &'a FilterSpec,
    pub(crate) mode: Mode,
    pub(crate) template: Option<Arc<Template>>,
}

/// A filter that is complete, but not committed.
pub(crate) struct Built<'a> {
    pub(crate) filter: Arc<Filter>,
    plane: &'a Plane,
    event: Option<Arc<Event>>,
}

impl<'a> Change<'a> {
    /// The filter that is wanted, with its actions: everything that may take long or fail but the commit [FO-2].
    pub(crate) fn build(
        &self,
        kind: KindName,
        handle: u32,
        matches: Matches,
        hits: Counters,
    ) -> Result<Built<'a>, Refusal> {
        let (plane, spec): (&'a Plane, _) = (self.cx.plane(), self.spec);
        plane.at(Point::HandleReserved)?;
        let actions = plane.actions().bind(plane, self.chain.core(), &spec.actions)?;
        let filter = Filter::new(handle, spec.name.clone(), matches, actions, hits, plane.count(Class::Filter));
        let mut built = Built { filter: Arc::new(filter), plane, event: None };
        let ready = ChainRef::announce(self.chain, self.template.as_ref())
            .and_then(|()| plane.at(Point::BeforeCommit).map_err(Refusal::from));
        if let Err(refusal) = ready {
            return Err(built.discard(refusal));
        }
        built.event = plane.hub().is_heard().then(|| {
            let proto = (self.chain.index(), self.priority, self.protocol, kind);
            let (block, filter) = (self.chain.core().id(), info(proto, &built.filter));
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
    /// Out of everything but the hands of workers: to be released after the publication.
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
    Flower(flower::Rule),
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

/// The data side of a proto: what workers read. Part of a chain's list, and as constant as the list; but the hash tables of
/// large mask groups are updated in place [DV-12].
#[derive(Clone, Debug)]
pub(crate) enum View {
    /// No filter yet.
    Nothing,
    Flower(Arc<flower::group::Groups>),
    Matchall(Arc<Filter>),
    Fw(Arc<fw::Marks>),
    /// The root table; buckets are replaced in place.
    U32(Arc<u32::Table>),
}

impl View {
    /// What the filters say about `packet`; `Continue` if none matches.
    #[inline]
    pub(crate) fn classify<E: Egress>(&self, packet: &Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
        match self {
            View::Nothing => Outcome::Continue,
            View::Flower(groups) => groups.classify(packet, cx),
            View::Matchall(filter) => filter.apply(packet, cx),
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
