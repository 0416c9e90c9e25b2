//! What a match does: lists of actions, run in order.

pub mod gact; // a verdict, possibly by chance
pub mod mirred; // a copy, or the packet itself, to a port

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::chain::Chain;
use crate::classify::Context;
use crate::counters::Counters;
use crate::error::RequestError;
use crate::packet::Packet;
use crate::port::Egress;
use crate::request::{ACTIONS_MAX, ActionSpec, CHAIN_MAX};
use crate::verdict::{Control, DropReason, Verdict};
use gact::Gact;
use mirred::Mirred;

/// Times that a list obeys `jump` for one packet [AV-4].
pub const JUMPS_MAX: u32 = 32;

/// Times that an action runs when it says `repeat` each time.
pub const REPEATS_MAX: u32 = 32;

/// What a filter says about a packet after its actions ran.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// Not matched after all.
    Continue,
    /// Decided.
    Final(Verdict),
    /// Once more from chain 0.
    Reclassify,
    /// On in this chain.
    Goto(&'a Chain),
}

/// The actions of a filter, in order.
#[derive(Debug)]
pub struct Actions {
    list: Box<[Action]>,
}

/// One action of a filter.
#[derive(Debug)]
pub struct Action {
    kind: Kind,
    /// The chain that the action's `goto` names, kept alive by it [OBJ-12].
    target: Option<Arc<Chain>>,
    stats: Counters,
}

#[derive(Debug)]
enum Kind {
    Gact(Gact),
    Mirred(Mirred),
}

impl Actions {
    /// Actions as `specs` want them, which [`validate`] found good. `pin` finds the chain for each goto, and counts
    /// it.
    pub(crate) fn new(specs: &[ActionSpec], workers: usize, mut pin: impl FnMut(u32) -> Arc<Chain>) -> Actions {
        let action = |&spec: &ActionSpec| Action {
            kind: match spec {
                ActionSpec::Gact(spec) => Kind::Gact(Gact::new(spec)),
                ActionSpec::Mirred(spec) => Kind::Mirred(Mirred::new(spec)),
            },
            target: goto(&spec).map(&mut pin),
            stats: Counters::new(workers),
        };
        Actions { list: specs.iter().map(action).collect() }
    }

    /// The actions, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Action> {
        self.list.iter()
    }

    /// Runs the list for `packet`. `pipe`, `jump` and `repeat` steer it, everything else ends it; at its end the
    /// packet passes [AV-1].
    #[inline]
    pub(crate) fn run<E: Egress>(&self, packet: &Packet, cx: &mut Context<'_, E>) -> Outcome<'_> {
        let mut next = 0;
        let mut jumps = 0;
        while let Some(action) = self.list.get(next) {
            let control = match action.run(packet, cx) {
                ControlFlow::Continue(control) => control,
                ControlFlow::Break(verdict) => return Outcome::Final(verdict),
            };
            let verdict = match control {
                Control::Pipe => {
                    next += 1;
                    continue;
                }
                Control::Jump(n) => {
                    jumps += 1;
                    if n == 0 || jumps == JUMPS_MAX {
                        break; // [AV-3], [AV-4]
                    }
                    next = n as usize; // from the beginning of the list [AV-2]
                    continue;
                }
                Control::Continue => return Outcome::Continue,
                Control::Reclassify => return Outcome::Reclassify,
                Control::Goto(_) => match &action.target {
                    Some(chain) => return Outcome::Goto(chain),
                    None => Verdict::Drop(DropReason::ChainNotFound), // [DP-10]
                },
                Control::Ok | Control::Repeat => Verdict::Pass,
                Control::Shot => Verdict::Drop(DropReason::Filter),
                Control::Stolen | Control::Queued => Verdict::Consume,
                Control::Trap => Verdict::Trap,
            };
            return Outcome::Final(verdict); // as the hook maps it [DP-13]
        }
        Outcome::Final(Verdict::Pass)
    }
}

impl Action {
    /// What was asked for.
    pub fn spec(&self) -> ActionSpec {
        match &self.kind {
            Kind::Gact(gact) => ActionSpec::Gact(gact.spec()),
            Kind::Mirred(mirred) => ActionSpec::Mirred(mirred.spec()),
        }
    }

    /// What it did.
    pub fn stats(&self) -> &Counters {
        &self.stats
    }

    /// The chain that its goto leads to.
    pub(crate) fn target(&self) -> Option<&Chain> {
        self.target.as_deref()
    }

    /// Runs the action, again for as long as it says `repeat`. `Break`: it decided about the packet itself.
    /// `Continue(Repeat)`: it said `repeat` to the last.
    #[inline]
    fn run<E: Egress>(&self, packet: &Packet, cx: &mut Context<'_, E>) -> ControlFlow<Verdict, Control> {
        for _ in 1..REPEATS_MAX {
            match self.run_once(packet, cx) {
                ControlFlow::Continue(Control::Repeat) => {}
                other => return other,
            }
        }
        self.run_once(packet, cx)
    }

    #[inline]
    fn run_once<E: Egress>(&self, packet: &Packet, cx: &mut Context<'_, E>) -> ControlFlow<Verdict, Control> {
        self.stats.hit(cx.worker, packet.l3_len(), cx.now_ns); // [ST-5]
        match &self.kind {
            Kind::Gact(gact) => ControlFlow::Continue(gact.run(&self.stats, cx)),
            Kind::Mirred(mirred) => mirred.run(&self.stats, cx),
        }
    }
}

/// Whether a filter can have these actions.
pub(crate) fn validate(specs: &[ActionSpec]) -> Result<(), RequestError> {
    if specs.len() > ACTIONS_MAX {
        return Err(RequestError::Invalid("more than 32 actions")); // [AC-9]
    }
    for spec in specs {
        if spec.controls().skip(1).any(|fallback| matches!(fallback, Control::Goto(_))) {
            return Err(RequestError::Invalid("goto cannot be the second verdict of random")); // [ER-28]
        }
        for control in spec.controls() {
            match control {
                Control::Goto(chain) if chain > CHAIN_MAX => {
                    return Err(RequestError::Invalid("goto: chain index above 268435455"));
                }
                Control::Jump(n) if n > JUMP_MAX => {
                    return Err(RequestError::Invalid("jump: more than 268435455 actions"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// What a jump can carry beside its code [ER-28].
const JUMP_MAX: u32 = 0x0fff_ffff;

/// The chain that the action may go to.
fn goto(spec: &ActionSpec) -> Option<u32> {
    spec.controls().find_map(|control| match control {
        Control::Goto(chain) => Some(chain),
        _ => None,
    })
}
