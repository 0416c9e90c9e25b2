//! Filter: one rule with a handle.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::action::{Actions, Outcome};
use crate::classify::Walk;
use crate::counters::Counters;
use crate::kind::Matches;
use crate::live::Token;
use crate::packet::Packet;
use crate::port::Egress;

/// One rule of a proto: what it matches, and what happens to those packets. Never changes; a replacement is another
/// filter with the same handle.
#[derive(Debug)]
pub(crate) struct Filter {
    matches: Matches,
    hits: Counters,
    actions: Actions,
    handle: u32,
    /// Set once, under the proto's lock, by whoever deletes or replaces it [OBJ-11].
    deleted: AtomicBool,
    name: Box<str>,
    _live: Token,
}

impl Filter {
    pub(crate) fn new(
        handle: u32,
        name: Box<str>,
        matches: Matches,
        actions: Actions,
        hits: Counters,
        live: Token,
    ) -> Filter {
        Filter { matches, hits, actions, handle, deleted: AtomicBool::new(false), name, _live: live }
    }

    /// Number within the proto.
    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }

    /// The operator's name; empty if none.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Packets that matched.
    pub(crate) fn hits(&self) -> &Counters {
        &self.hits
    }

    /// What it does to them.
    pub(crate) fn actions(&self) -> &Actions {
        &self.actions
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

    /// Counts `packet`, which matched, and runs the actions.
    #[inline]
    pub(crate) fn apply<E: Egress>(&self, packet: &Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
        self.hits.hit(cx.worker, packet.l3_len(), cx.now_ns);
        self.actions.run(packet, cx)
    }
}
