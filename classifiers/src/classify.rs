//! The data path: the one loop over chains and protos.

use std::ops::ControlFlow;

use crate::action::Outcome;
use crate::block::Block;
use crate::chain::ProtoList;
use crate::generation::Generation;
use crate::packet::Packet;
use crate::port::{Egress, WorkerId};
use crate::request::ETH_P_ALL;
use crate::sync::Loaded;
use crate::verdict::{DropReason, Verdict};

/// Restarts by `goto` and `reclassify` that one packet may cause [DP-8].
pub const RESTARTS_MAX: u32 = 16;

/// What classification needs besides the packet: whose counters, what time, whose dice, which world.
#[derive(Debug)]
pub struct Context<'a, E: Egress> {
    /// The worker that classifies; less than the number given to [`Block::new`].
    pub worker: WorkerId,
    /// What the worker read with [`Plane::generation`](crate::plane::Plane::generation) at the beginning of the burst, before it
    /// loaded any head.
    pub generation: Generation,
    /// Now, in ns on a monotone clock that never reads 0.
    pub now_ns: u64,
    /// For `random netrand`.
    pub rng: &'a mut fastrand::Rng,
    /// For mirred: the packet in hand, and the ports.
    pub egress: &'a mut E,
}

/// The way of one packet through the lists.
pub(crate) struct Walk<'a, 'c, E: Egress> {
    cx: &'a mut Context<'c, E>,
    /// Where a goto leads: kept alive here while it is walked.
    pub(crate) target: Option<Loaded<ProtoList>>,
}

impl Block {
    /// Walks the protos of `head`, which the worker loaded with [`Block::head`] for the burst, until a filter decides
    /// about `packet`. No filter does: the packet passes [DP-12].
    ///
    /// # Panics
    /// If `cx.worker` is not one of the workers this block was made for.
    #[inline]
    pub fn classify<E: Egress>(&self, head: &ProtoList, packet: &mut Packet, cx: &mut Context<'_, E>) -> Verdict {
        let mut walk = Walk { cx, target: None };
        let mut outcome = walk.list(head, packet);
        for _ in 0..RESTARTS_MAX {
            match outcome {
                Outcome::Continue => return Verdict::Pass, // [DP-12], and an empty chain [DP-9]
                Outcome::Final(verdict) => return verdict,
                Outcome::Reclassify => outcome = walk.list(head, packet), // [DP-6]
                Outcome::Goto => {
                    let target = walk.target.take();
                    outcome = target.map_or(Outcome::Continue, |list| walk.list(&list, packet)); // [DP-7]
                }
            }
        }
        match outcome {
            Outcome::Continue => Verdict::Pass,
            Outcome::Final(verdict) => verdict,
            Outcome::Reclassify | Outcome::Goto => Verdict::Drop(DropReason::ReclassifyLoop), // [DP-8]
        }
    }
}

impl<E: Egress> Walk<'_, '_, E> {
    /// What the first proto that decides says; `Continue` if none does.
    #[inline]
    fn list(&mut self, list: &ProtoList, packet: &mut Packet) -> Outcome {
        let decided = list.try_for_each(|entry| {
            // As it is now: an action of an earlier proto may have changed it.
            if entry.proto.protocol() != packet.protocol() && entry.proto.protocol() != ETH_P_ALL {
                return ControlFlow::Continue(()); // [DP-3]
            }
            match entry.view.classify(packet, self) {
                Outcome::Continue => ControlFlow::Continue(()), // [DP-5]
                outcome => ControlFlow::Break(outcome),
            }
        });
        match decided {
            ControlFlow::Break(outcome) => outcome,
            ControlFlow::Continue(()) => Outcome::Continue,
        }
    }
}

impl<'c, E: Egress> std::ops::Deref for Walk<'_, 'c, E> {
    type Target = Context<'c, E>;

    #[inline]
    fn deref(&self) -> &Context<'c, E> {
        self.cx
    }
}

impl<E: Egress> std::ops::DerefMut for Walk<'_, '_, E> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.cx
    }
}
