//! What a match does: lists of actions, run in order.

mod checksum; // checksums of the Internet
pub(crate) mod csum; // checksums made anew
pub(crate) mod gact; // a verdict, possibly by chance
mod headers; // where headers are in a frame
pub(crate) mod mirred; // a copy, or the packet itself, to a port
pub(crate) mod nat; // another IPv4 prefix
pub(crate) mod pedit; // words of the packet, changed in their bits
pub(crate) mod police; // a limit to a rate
pub(crate) mod sample; // packets shown to who listens
pub(crate) mod skbedit; // another mark
pub(crate) mod spec; // what an action is asked to do, whichever its kind
pub(crate) mod table; // actions by index: bound by filters, or standing alone
pub(crate) mod tunnel_key; // the tunnel that goes with a packet
pub(crate) mod vlan; // a tag more, less, or another one

use std::ops::{ControlFlow, Deref};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed},
};

use smallvec::SmallVec;

use crate::chain::{Pin, Protos};
use crate::classify::Walk;
use crate::counters::Counters;
use crate::error::RequestError;
use crate::live::{Class, Token};
use crate::packet::Packet;
use crate::plane::Plane;
use crate::port::{Egress, WorkerId};
use crate::prefetch;
use crate::request::{ACTIONS_MAX, ActionFlags, ActionInfo, ActionKind, ActionSpec, ActionUse, CHAIN_MAX, Cookie};
use crate::sync::{Lock, PublishedOption, class};
use crate::verdict::{Control, DropReason, Verdict};

/// Times that a list obeys `jump` for one packet [AV-4].
pub(crate) const JUMPS_MAX: u32 = 32;

/// Times that an action runs when it says `repeat` each time.
pub(crate) const REPEATS_MAX: u32 = 32;

/// What a filter says about a packet after its actions ran. Small: it is returned in a register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// Not matched after all.
    Continue,
    /// Decided.
    Final(Verdict),
    /// Once more from chain 0.
    Reclassify,
    /// On in [`Walk::target`].
    Goto,
}

/// The actions of a filter, in order. The filter is bound to each [AC-2].
#[derive(Debug, Default)]
pub(crate) struct Actions {
    list: List,
}

/// Two words: a vector that may grow has three.
#[derive(Debug)]
enum List {
    /// What most filters have.
    One([Arc<Action>; 1]),
    Any(Box<[Arc<Action>]>),
}

/// One action: of one filter, or shared by several, or of its own.
#[derive(Debug)]
pub(crate) struct Action {
    kind: ActionKind,
    /// Number within its kind: 0 until it is in the table.
    index: AtomicU32,
    /// Holders [AC-2]; written under the table's lock.
    refs: AtomicU32,
    /// Filters among the holders; written under the table's lock.
    binds: AtomicU32,
    /// What it does, until it is replaced.
    first: Params,
    /// Whether `current` counts instead of `first`: so that an action that was never replaced, as nearly all are, is read
    /// without any cost.
    replaced: AtomicBool,
    current: PublishedOption<Params>,
    /// Packets seen by `random determ`: one count for all workers.
    seen: AtomicU32,
    stats: Counters,
    /// What only requests look at.
    rare: Lock<Option<Box<Rare>>, { class::QUEUE }>,
    _live: Token,
}

/// What an action does: verdict, parameters and target as one, so that a packet sees all of them or none [AC-13].
#[derive(Debug)]
pub(crate) struct Params {
    spec: ActionSpec,
    /// The list that a `goto` leads to. The chain stays in its block by the pin in [`Rare`].
    target: Option<Arc<Protos>>,
}

/// What most actions do not have.
#[derive(Debug, Default)]
struct Rare {
    /// Keeps the chain of a goto in its block [OBJ-12].
    pin: Option<Pin>,
    cookie: Option<Cookie>,
    flags: ActionFlags,
}

impl Actions {
    /// The actions, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Action> {
        self.list.iter().map(|action| &**action)
    }

    /// Has the first one fetched.
    #[inline]
    pub(crate) fn prefetch(&self) {
        self.list.iter().take(1).for_each(|action| prefetch::value(&**action));
    }

    /// Has fetched what the first one counts on `worker`.
    #[inline]
    pub(crate) fn prefetch_counters(&self, worker: WorkerId) {
        self.list.iter().take(1).for_each(|action| action.stats.prefetch(worker));
    }

    /// Runs the list for `packet`. `pipe`, `jump` and `repeat` steer it, everything else ends it; at its end the
    /// packet passes [AV-1].
    #[inline]
    pub(crate) fn run<E: Egress>(&self, packet: &mut Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
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
                Control::Goto(_) if cx.target.is_some() => return Outcome::Goto,
                Control::Goto(_) => Verdict::Drop(DropReason::ChainNotFound), // [DP-10]
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

impl Default for List {
    fn default() -> Self {
        List::Any(Box::default())
    }
}

impl Deref for List {
    type Target = [Arc<Action>];

    #[inline]
    fn deref(&self) -> &[Arc<Action>] {
        match self {
            List::One(list) => list,
            List::Any(list) => list,
        }
    }
}

impl From<SmallVec<[Arc<Action>; 1]>> for Actions {
    fn from(list: SmallVec<[Arc<Action>; 1]>) -> Self {
        Actions { list: list.into_inner().map_or_else(|list| List::Any(list.into_boxed_slice()), List::One) }
    }
}

impl Action {
    /// An action that is in no table yet. `pin` is the chain that its goto leads to.
    fn new(plane: &Plane, spec: ActionSpec, wanted: &ActionUse, pin: Option<Pin>) -> Arc<Action> {
        let target = pin.as_ref().map(|pin| Arc::clone(pin.protos()));
        let (cookie, flags) = (wanted.cookie, wanted.flags);
        let rare = (pin.is_some() || cookie.is_some() || flags != ActionFlags::default())
            .then(|| Box::new(Rare { pin, cookie, flags }));
        Arc::new(Action {
            kind: spec.kind(),
            index: AtomicU32::new(0),
            refs: AtomicU32::new(0),
            binds: AtomicU32::new(0),
            first: Params { spec, target },
            replaced: AtomicBool::new(false),
            current: PublishedOption::default(),
            seen: AtomicU32::new(0),
            stats: plane.action_counters().take(),
            rare: Lock::new(rare),
            _live: plane.count(Class::Action),
        })
    }

    /// What was asked for, or what it was changed to.
    pub(crate) fn spec(&self) -> ActionSpec {
        self.with_params(|params| params.spec.clone())
    }

    /// Number within its kind.
    pub(crate) fn index(&self) -> u32 {
        self.index.load(Relaxed)
    }

    /// For listings. The counts are those of a moment.
    pub(crate) fn info(&self) -> ActionInfo {
        let (cookie, flags) = self.rare.lock().as_ref().map(|rare| (rare.cookie, rare.flags)).unwrap_or_default();
        ActionInfo {
            spec: self.spec(),
            index: self.index(),
            refs: self.refs.load(Relaxed),
            binds: self.binds.load(Relaxed),
            cookie,
            flags,
            hits: self.stats.sum(),
        }
    }

    /// Whether a request of its own made it. Under the table's lock.
    fn stands_alone(&self) -> bool {
        self.refs.load(Relaxed) > self.binds.load(Relaxed)
    }

    fn flags(&self) -> ActionFlags {
        self.rare.lock().as_ref().map(|rare| rare.flags).unwrap_or_default()
    }

    #[inline]
    fn with_params<R>(&self, f: impl FnOnce(&Params) -> R) -> R {
        if self.replaced.load(Acquire)
            && let Some(params) = self.current.load().as_ref()
        {
            return f(params);
        }
        f(&self.first)
    }

    /// Runs the action, again for as long as it says `repeat`, with the same parameters throughout [CC-20]. `Break`: it
    /// decided about the packet itself. Where it says `goto`, the list is in `cx`.
    #[inline]
    fn run<E: Egress>(&self, packet: &mut Packet, cx: &mut Walk<'_, '_, E>) -> ControlFlow<Verdict, Control> {
        self.with_params(|params| {
            let mut said = self.run_once(&params.spec, packet, cx);
            for _ in 1..REPEATS_MAX {
                match said {
                    ControlFlow::Continue(Control::Repeat) => said = self.run_once(&params.spec, packet, cx),
                    _ => break,
                }
            }
            if let ControlFlow::Continue(Control::Goto(_)) = said {
                cx.target = params.target.as_ref().map(|target| target.load()); // as it is now [DP-7]
            }
            said
        })
    }

    #[inline]
    fn run_once<E: Egress>(
        &self,
        spec: &ActionSpec,
        packet: &mut Packet,
        cx: &mut Walk<'_, '_, E>,
    ) -> ControlFlow<Verdict, Control> {
        self.stats.hit(cx.worker, packet.l3_len(), cx.now_ns); // [ST-5]
        match spec {
            ActionSpec::Gact(spec) => ControlFlow::Continue(gact::run(spec, &self.seen, &self.stats, cx)),
            ActionSpec::Mirred(spec) => mirred::run(*spec, &self.stats, cx),
            ActionSpec::Police(police) => ControlFlow::Continue(police::run(police, &self.stats, packet, cx)),
            ActionSpec::Skbedit(spec) => {
                spec.edit(packet);
                ControlFlow::Continue(spec.control)
            }
            ActionSpec::Vlan(spec) => {
                let done = spec.edit(cx).is_some();
                self.edited(done, spec.control, packet, cx)
            }
            ActionSpec::Csum(spec) => {
                let done = cx.egress.edit(|frame| spec.edit(frame)).is_some();
                self.edited(done, spec.control, packet, cx)
            }
            ActionSpec::Nat(spec) => {
                let done = cx.egress.edit(|frame| spec.edit(frame)).is_some();
                self.edited(done, spec.control, packet, cx)
            }
            ActionSpec::Pedit(spec) => {
                if !cx.egress.edit(|frame| spec.edit(frame)) {
                    self.stats.overlimit_one(cx.worker); // and what was done is done
                }
                self.edited(true, spec.control, packet, cx)
            }
            ActionSpec::Sample(spec) => ControlFlow::Continue(sample::run(spec, &self.stats, cx)),
            ActionSpec::TunnelKey(spec) => {
                packet.set_tunnel(spec.key);
                ControlFlow::Continue(spec.control)
            }
        }
    }

    /// Says `control` after the packet was edited; but if that could not be done, the packet is dropped, and counted.
    fn edited<E: Egress>(
        &self,
        done: bool,
        control: Control,
        packet: &mut Packet,
        cx: &Walk<'_, '_, E>,
    ) -> ControlFlow<Verdict, Control> {
        packet.parse_again(cx.egress.frame());
        if done {
            return ControlFlow::Continue(control);
        }
        self.stats.drop_one(cx.worker);
        ControlFlow::Break(Verdict::Drop(DropReason::Edit))
    }
}

/// Whether a filter can have these actions.
pub(crate) fn validate(uses: &[ActionUse]) -> Result<(), RequestError> {
    if uses.len() > ACTIONS_MAX {
        return Err(RequestError::Invalid("more than 32 actions")); // [AC-9]
    }
    for wanted in uses {
        match &wanted.spec {
            Some(spec) if spec.kind() != wanted.kind => {
                return Err(RequestError::Invalid("parameters of another action kind"));
            }
            Some(spec) => validate_one(spec)?,
            None => {}
        }
    }
    Ok(())
}

fn validate_one(spec: &ActionSpec) -> Result<(), RequestError> {
    if spec.controls().skip(1).any(|fallback| matches!(fallback, Control::Goto(_))) {
        return Err(RequestError::Invalid("goto cannot be the second verdict")); // [ER-28]
    }
    match spec {
        ActionSpec::Police(police) => police.validate()?,
        ActionSpec::Vlan(spec) => spec.validate()?,
        ActionSpec::Pedit(spec) => spec.validate()?,
        ActionSpec::Sample(spec) => spec.validate()?,
        _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Millions of filters have an action each: what a kind needs beyond three words, it keeps in a box.
    #[test]
    fn an_action_is_no_larger_for_the_kinds_there_are() {
        assert_eq!(size_of::<ActionSpec>(), 3 * size_of::<usize>());
        assert_eq!(size_of::<Params>(), 4 * size_of::<usize>());
    }
}
