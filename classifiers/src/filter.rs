//! Filter: one rule with a handle.

use crate::action::{Actions, Outcome};
use crate::classify::Context;
use crate::counters::Counters;
use crate::packet::Packet;
use crate::port::Egress;

/// One rule of a proto: what happens to the packets it matches. What it matches is the kind's business.
#[derive(Debug)]
pub struct Filter {
    hits: Counters,
    actions: Actions,
    handle: u32,
    name: Box<str>,
}

impl Filter {
    pub(crate) fn new(handle: u32, name: &str, actions: Actions, workers: usize) -> Filter {
        Filter { hits: Counters::new(workers), actions, handle, name: name.into() }
    }

    /// Number within the proto.
    pub fn handle(&self) -> u32 {
        self.handle
    }

    /// The operator's name; empty if none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Packets that matched.
    pub fn hits(&self) -> &Counters {
        &self.hits
    }

    /// What it does to them.
    pub fn actions(&self) -> &Actions {
        &self.actions
    }

    /// Counts `packet`, which matched, and runs the actions.
    #[inline]
    pub(crate) fn apply<E: Egress>(&self, packet: &Packet, cx: &mut Context<'_, E>) -> Outcome<'_> {
        self.hits.hit(cx.worker, packet.l3_len(), cx.now_ns);
        self.actions.run(packet, cx)
    }
}
