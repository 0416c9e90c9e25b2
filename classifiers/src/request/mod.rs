//! What the control plane may ask: one function a verb. Every request path (file, socket, command line) goes through
//! these.
//!
//! Requests on different protos run in parallel; those on one proto overlap but for their commits [UL-7]. The global lock
//! is taken by requests that [UL-2] names: once, at the start, by the function that gives it back at the end [LK-8].

mod action; // actions that stand alone
pub(crate) mod chain; // chains and templates
pub(crate) mod dump; // listings, page by page
pub(crate) mod filter; // new, delete, get
mod replay; // once more, after an attempt met somebody in the middle of something
mod spec; // what requests say: plain data

pub use action::{add_actions, delete_actions, dump_actions, flush_actions, get_action};
pub use chain::{ChainCursor, add_chain, change_chain, delete_chain, dump_chains, get_chain, list_chains, survey};
pub use dump::{Cursor, dump, dump_page};
pub use filter::{add_filter, configure_filter, delete_filter, get_filter, new_filter};
pub use spec::*;

pub use crate::action::{
    csum::{CsumSpec, CsumTargets},
    gact::{GactSpec, Random, RandomMode},
    mirred::{MirredSpec, Target, TargetPorts},
    nat::NatSpec,
    pedit::{PeditAt, PeditHeader, PeditKey, PeditSpec},
    police::{Limit, Police, PoliceSpec},
    sample::SampleSpec,
    skbedit::SkbeditSpec,
    spec::{ActionKind, ActionSpec},
    tunnel_key::{TunnelEnds, TunnelKey, TunnelKeySpec},
    vlan::{VlanEdit, VlanSpec},
};

use std::cell::RefCell;

use crate::error::{Refusal, RequestError};
use crate::filter::Filter;
use crate::kind::Kind;
use crate::ledger::By;
use crate::plane::{Global, Plane};
use crate::reap::Garbage;
use crate::sync::Arc;

/// One attempt at a request: which plane, on whose behalf, and whether the global lock is held [UL-3].
pub(crate) struct Cx<'p> {
    plane: &'p Arc<Plane>,
    global: Option<Global<'p>>,
    by: By<'p>,
    owner: Owner,
    /// What the attempt unlinked: goes to the reaper at its end, all at once.
    garbage: RefCell<Vec<Garbage>>,
}

impl<'p> Cx<'p> {
    /// Takes the global lock if `global`.
    pub(crate) fn new(plane: &'p Arc<Plane>, global: bool) -> Cx<'p> {
        Cx {
            plane,
            global: global.then(|| plane.global()),
            by: None,
            owner: Owner::Client,
            garbage: RefCell::default(),
        }
    }

    /// The same, on behalf of `by`.
    pub(crate) fn on_behalf(mut self, by: By<'p>) -> Cx<'p> {
        self.by = by;
        self
    }

    pub(crate) fn by(&self) -> By<'p> {
        self.by
    }

    /// The same, making things that are `owner`'s.
    pub(crate) fn owned_by(mut self, owner: Owner) -> Cx<'p> {
        self.owner = owner;
        self
    }

    /// Whose it is what is made.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn plane(&self) -> &'p Arc<Plane> {
        self.plane
    }

    /// The global lock for one step with `kind`, if the kind needs it and this attempt does not hold it [TP-17].
    pub(crate) fn global_for(&self, kind: &dyn Kind) -> Option<Global<'p>> {
        (!kind.unlocked() && self.global.is_none()).then(|| self.plane.global())
    }

    /// Whether `kind` may be used by this attempt.
    pub(crate) fn may_use(&self, kind: &dyn Kind) -> bool {
        kind.unlocked() || self.global.is_some()
    }

    /// A filter that is unlinked: what it holds is given back at once, its memory after the last packet [DD-4].
    pub(crate) fn release(&self, filter: Arc<Filter>) {
        let mut garbage = self.garbage.borrow_mut();
        self.plane.actions().unbind(filter.actions(), &mut garbage);
        garbage.push(Garbage::Filter(filter));
    }

    /// What workers may still hold [DD-1].
    pub(crate) fn defer(&self, garbage: impl IntoIterator<Item = Garbage>) {
        self.garbage.borrow_mut().extend(garbage);
    }
}

impl Drop for Cx<'_> {
    fn drop(&mut self) {
        let garbage = self.garbage.take();
        if !garbage.is_empty() {
            self.plane.reaper().push(garbage);
        }
    }
}

/// What is left of an attempt under the global lock: nobody is in the middle of anything that it would have to wait for.
fn settled<T>(result: Result<T, Refusal>) -> Result<T, RequestError> {
    result.map_err(|refusal| match refusal {
        Refusal::Final(error) => error,
        Refusal::Again(_) => unreachable!("with the global lock nothing is left to wait for"),
    })
}

fn check_chain(index: u32) -> Result<(), RequestError> {
    if index > CHAIN_MAX {
        return Err(RequestError::Invalid("chain index above 268435455")); // [ER-21]
    }
    Ok(())
}
