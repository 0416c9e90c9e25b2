//! Filter: one rule with a handle.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::action::{Actions, Outcome};
use crate::classify::Walk;
use crate::counters::Counters;
use crate::generation::{Generation, Span};
use crate::index::place::Place;
use crate::index::rule::Rule;
use crate::kind::Matches;
use crate::live::Token;
use crate::packet::Packet;
use crate::port::{Egress, WorkerId};
use crate::request::{FilterOptions, Owner};

/// One rule of a proto: what it matches, and what happens to those packets. Never changes; a replacement is another
/// filter with the same handle.
#[derive(Debug)]
pub(crate) struct Filter {
    matches: Matches,
    hits: Counters,
    actions: Actions,
    /// In which generations packets meet it.
    span: Span,
    handle: u32,
    /// Set once, under the proto's lock, by whoever deletes or replaces it [OBJ-11].
    deleted: AtomicBool,
    owner: Owner,
    /// Where in its chain it is asked.
    place: Place,
    /// What only requests look at.
    rare: Option<Box<Rare>>,
    _live: Token,
}

/// What most filters do not have.
#[derive(Debug, Default)]
struct Rare {
    name: Box<str>,
    options: FilterOptions,
}

impl Filter {
    pub(crate) fn new(
        handle: u32,
        (name, options): (&str, FilterOptions),
        matches: Matches,
        actions: Actions,
        (span, place): (Span, Place),
        hits: Counters,
        live: Token,
    ) -> Filter {
        let rare = (!name.is_empty() || options != FilterOptions::default())
            .then(|| Box::new(Rare { name: name.into(), options }));
        let (deleted, owner) = (AtomicBool::new(false), Owner::Client);
        Filter { matches, hits, actions, span, place, handle, deleted, owner, rare, _live: live }
    }

    /// The same, of another owner.
    pub(crate) fn owned_by(self, owner: Owner) -> Filter {
        Filter { owner, ..self }
    }

    /// Whose it is.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Number within the proto.
    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }

    /// The operator's name; empty if none.
    pub(crate) fn name(&self) -> &str {
        self.rare.as_ref().map_or("", |rare| &rare.name)
    }

    /// What it was given besides.
    pub(crate) fn options(&self) -> FilterOptions {
        self.rare.as_ref().map(|rare| rare.options).unwrap_or_default()
    }

    /// Packets that matched.
    pub(crate) fn hits(&self) -> &Counters {
        &self.hits
    }

    /// What it does to them.
    pub(crate) fn actions(&self) -> &Actions {
        &self.actions
    }

    /// In which generations packets meet it.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Whether packets of `generation` meet it.
    #[inline]
    pub(crate) fn lives_at(&self, generation: Generation) -> bool {
        self.span.contains(generation)
    }

    /// Where in its chain it is asked.
    #[inline]
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The same, while its proto is listed.
    #[inline]
    pub(crate) fn is_met_at(&self, generation: Generation) -> bool {
        self.lives_at(generation) && self.place.is_listed()
    }

    /// What it matches, where that is a masked key; nothing for every packet.
    #[inline]
    pub(crate) fn rule(&self) -> Option<&Rule> {
        match &self.matches {
            Matches::Flower(rule) => Some(rule),
            Matches::Matchall | Matches::Fw(_) | Matches::U32(_) => None,
        }
    }

    /// What it looks for, in its kind's terms.
    #[inline]
    pub(crate) fn matches(&self) -> &Matches {
        &self.matches
    }

    /// Whether it was deleted or replaced. Under the proto's lock, that is final knowledge.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Relaxed)
    }

    /// Only under the proto's lock.
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }

    /// Has fetched what [`Filter::apply`] begins with on `worker`.
    #[inline]
    pub(crate) fn prefetch(&self, worker: WorkerId) {
        self.hits.prefetch(worker);
        self.actions.prefetch();
    }

    /// Counts `packet`, which matched, and runs the actions.
    #[inline]
    pub(crate) fn apply<E: Egress>(&self, packet: &mut Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
        self.hits.hit(cx.worker, packet.l3_len(), cx.now_ns);
        self.actions.run(packet, cx)
    }
}
