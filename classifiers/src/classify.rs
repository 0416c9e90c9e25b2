//! The data path: the one loop over chains and protos.

use crate::action::Outcome;
use crate::block::Block;
use crate::chain::ProtoList;
use crate::packet::Packet;
use crate::port::{Egress, WorkerId};
use crate::verdict::{DropReason, Verdict};

/// Restarts by `goto` and `reclassify` that one packet may cause [DP-8].
pub const RESTARTS_MAX: u32 = 16;

/// What classification needs besides the packet: whose counters, what time, whose dice, which world.
#[derive(Debug)]
pub struct Context<'a, E: Egress> {
    /// The worker that classifies; less than the number given to [`Block::new`].
    pub worker: WorkerId,
    /// Now, in ns on a monotone clock that never reads 0.
    pub now_ns: u64,
    /// For `random netrand`.
    pub rng: &'a mut fastrand::Rng,
    /// For mirred: the packet in hand, and the ports.
    pub egress: &'a mut E,
}

impl Block {
    /// Walks the protos of `head`, which the worker loaded with [`Block::head`] for the burst, until a filter decides
    /// about `packet`. No filter does: the packet passes [DP-12].
    ///
    /// # Panics
    /// If `cx.worker` is not one of the workers this block was made for.
    #[inline]
    pub fn classify<E: Egress>(&self, head: &ProtoList, packet: &Packet, cx: &mut Context<'_, E>) -> Verdict {
        let mut restarts = 0;
        let mut list = head;
        let mut target; // keeps a goto's list alive while it is walked
        'list: loop {
            for proto in list.iter() {
                if !proto.sees(packet.protocol()) {
                    continue; // [DP-3]
                }
                let goto = match proto.classify(packet, cx) {
                    Outcome::Continue => continue, // [DP-5]
                    Outcome::Final(verdict) => return verdict,
                    Outcome::Reclassify => None,
                    Outcome::Goto(chain) => Some(chain),
                };
                if restarts == RESTARTS_MAX {
                    return Verdict::Drop(DropReason::ReclassifyLoop); // [DP-8]
                }
                restarts += 1;
                list = match goto {
                    None => head, // [DP-6]
                    Some(chain) => {
                        target = chain.protos(); // as it is now [DP-7]
                        &target
                    }
                };
                continue 'list;
            }
            return Verdict::Pass; // [DP-12], and an empty chain [DP-9]
        }
    }
}
