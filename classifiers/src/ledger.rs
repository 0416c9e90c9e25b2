//! Ledger: what the requests of a transaction have prepared so far, and what others took from it.

use std::fmt;

use crate::block::Block;
use crate::chain::{Chain, Pin};
use crate::error::{Refusal, Why};
use crate::proto::Proto;
use crate::request::Owner;
use crate::sync::{Arc, Lock, class};
use crate::transaction::Overtaken;

/// On whose behalf something is done: of a transaction, or of a plain request.
pub(crate) type By<'a> = Option<&'a Arc<Ledger>>;

/// The one thing that all requests of a transaction share. What they prepare is kept where it will be: a proto or a chain
/// holds a claim, which refers to the ledger. The ledger says where claims are.
pub(crate) struct Ledger {
    owner: Owner,
    state: Lock<State, { class::QUEUE }>,
}

#[derive(Default)]
struct State {
    /// Nothing can be overtaken any more.
    committing: bool,
    prepared: Prepared,
    overtaken: Vec<Overtaken>,
}

/// Where claims are. Some may be gone by now.
#[derive(Default)]
pub(crate) struct Prepared {
    /// Handles in protos.
    pub(crate) filters: Vec<(Arc<Proto>, u32)>,
    /// Chains that clients do not see yet.
    pub(crate) chains: Vec<Pin>,
    /// Chains that are to lose the reference of the client who asked for them.
    pub(crate) unasked: Vec<Arc<Chain>>,
    /// A transaction is a request in flight: it holds the blocks that it is about [OBJ-2].
    blocks: Vec<Arc<Block>>,
}

impl Ledger {
    /// Of a transaction that nothing was asked of yet.
    pub(crate) fn new(owner: Owner) -> Arc<Ledger> {
        Arc::new(Ledger { owner, state: Lock::default() })
    }

    /// Whose it is what the transaction makes.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn hold(&self, block: &Arc<Block>) {
        let blocks = &mut self.state.lock().prepared.blocks;
        if !blocks.iter().any(|held| Arc::ptr_eq(held, block)) {
            blocks.push(Arc::clone(block));
        }
    }

    pub(crate) fn note_filter(&self, proto: &Arc<Proto>, handle: u32) {
        self.state.lock().prepared.filters.push((Arc::clone(proto), handle));
    }

    pub(crate) fn note_chain(&self, chain: Pin) {
        self.state.lock().prepared.chains.push(chain);
    }

    pub(crate) fn note_unasked(&self, chain: &Arc<Chain>) {
        self.state.lock().prepared.unasked.push(Arc::clone(chain));
    }

    /// A plain request is about to take a claim away: under the lock that the claim is under, so that the commit comes
    /// either before, and then `Again` is the answer, or after, and then it does not take place [TX-6].
    pub(crate) fn overtake(&self, what: Overtaken) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.committing {
            return Err(Refusal::Again(Why::Committing));
        }
        state.overtaken.push(what);
        Ok(())
    }

    /// All claims stay as they are from now on, and what is prepared is the caller's; or else what was overtaken since this was
    /// asked last.
    pub(crate) fn freeze(&self) -> Result<Prepared, Vec<Overtaken>> {
        let mut state = self.state.lock();
        if !state.overtaken.is_empty() {
            return Err(std::mem::take(&mut state.overtaken));
        }
        state.committing = true;
        Ok(std::mem::take(&mut state.prepared))
    }

    /// Takes the handles out for which `which` is true.
    pub(crate) fn take_filters(&self, which: impl Fn(&Proto) -> bool) -> Vec<(Arc<Proto>, u32)> {
        self.state.lock().prepared.filters.extract_if(.., |(proto, _)| which(proto)).collect()
    }

    /// Everything that is prepared, to be taken back.
    pub(crate) fn give_up(&self) -> Prepared {
        std::mem::take(&mut self.state.lock().prepared)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}
