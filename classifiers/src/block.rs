//! Block: chains bound to a port's hook.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::Guard;

use crate::chain::{Chain, ProtoList};
use crate::filter::Filter;

/// A set of chains. Requests change it, workers classify with it; any number of ports may be bound to one.
#[derive(Debug)]
pub struct Block {
    workers: usize,
    /// Chain 0: always here for workers, in `chains` only while it exists for clients.
    entry: Arc<Chain>,
    chains: Mutex<Chains>,
}

/// The chains of a block, in order of creation [CH-13]. Holding it is holding the block's lock: one request at a time
/// changes the block.
#[derive(Debug)]
pub(crate) struct Chains {
    entry: Arc<Chain>,
    members: Vec<Member>,
}

/// A chain of the block, and why it is there.
#[derive(Debug)]
struct Member {
    chain: Arc<Chain>,
    /// A client asked for it: it stays when it is empty [CH-3].
    explicit: bool,
    /// Gotos that lead to it: they keep it alive, but hidden if there is no other reason [OBJ-4].
    gotos: usize,
}

impl Block {
    /// A block without chains, for workers 0 to `workers - 1`.
    pub fn new(workers: usize) -> Arc<Block> {
        let entry = Arc::new(Chain::new(0));
        let chains = Mutex::new(Chains { entry: Arc::clone(&entry), members: Vec::new() });
        Arc::new(Block { workers, entry, chains })
    }

    /// The protos of chain 0 as they are now; empty if there is no chain 0. A worker loads this once a burst and drops
    /// it at the burst's end [DV-11].
    #[inline]
    pub fn head(&self) -> Guard<Arc<ProtoList>> {
        self.entry.protos()
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    /// Takes the block's lock. A request that panicked left the chains as they were before or after one of its steps,
    /// each of which is consistent: a poisoned lock is as good as another.
    pub(crate) fn chains(&self) -> MutexGuard<'_, Chains> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Block {
    /// Empties all chains: a goto and the chain it is in may keep each other alive.
    fn drop(&mut self) {
        for member in &self.chains().members {
            member.chain.publish(ProtoList::default());
        }
    }
}

impl Chains {
    /// The chains that clients see, in order of creation.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Arc<Chain>> {
        self.members.iter().filter(|member| !member.is_hidden()).map(|member| &member.chain)
    }

    /// The chain with `index`, if clients see one.
    pub(crate) fn get(&self, index: u32) -> Option<&Arc<Chain>> {
        self.listed().find(|chain| chain.index() == index)
    }

    /// The chain with `index`, created if it is not there. Until somebody has a reason for it, it is hidden.
    pub(crate) fn get_or_create(&mut self, index: u32) -> &Arc<Chain> {
        &self.member(index).chain
    }

    /// Creates the chain with `index`, or makes it visible, to stay until it is deleted [CH-2].
    pub(crate) fn make_explicit(&mut self, index: u32) {
        self.member(index).explicit = true;
    }

    /// Counts a goto to the chain with `index`, created hidden if it is not there.
    pub(crate) fn pin(&mut self, index: u32) -> Arc<Chain> {
        let member = self.member(index);
        member.gotos += 1;
        Arc::clone(&member.chain)
    }

    /// Takes back the pins of a filter that is gone, and removes chains that nothing needs any more [CH-4].
    pub(crate) fn unpin(&mut self, filter: &Filter) {
        for chain in filter.actions().iter().filter_map(|action| action.target()) {
            self.member(chain.index()).gotos -= 1;
        }
        self.members.retain(|member| !member.is_hidden() || member.gotos > 0);
    }

    /// At most one chain has an index [OBJ-6].
    fn member(&mut self, index: u32) -> &mut Member {
        let at = self.members.iter().position(|member| member.chain.index() == index).unwrap_or_else(|| {
            let chain = if index == 0 { Arc::clone(&self.entry) } else { Arc::new(Chain::new(index)) };
            self.members.push(Member { chain, explicit: false, gotos: 0 });
            self.members.len() - 1
        });
        &mut self.members[at]
    }
}

impl Member {
    /// Only gotos hold it, if anything: there for packets, not for clients [OBJ-4].
    fn is_hidden(&self) -> bool {
        !self.explicit && self.chain.protos().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{self, ActionSpec, ETH_P_ALL, FilterSpec, GactSpec, KindSpec};
    use crate::verdict::Control;

    /// [OBJ-12] makes cycles: chain, proto, filter, action, chain.
    #[test]
    fn a_block_frees_chains_that_gotos_keep_alive_in_a_circle() {
        let block = Block::new(1);
        for (chain, target) in [(0, 0), (1, 2), (2, 1)] {
            let control = Control::Goto(target);
            let goto = FilterSpec {
                chain,
                priority: 1,
                protocol: ETH_P_ALL,
                handle: 0,
                kind: KindSpec::Matchall,
                actions: [ActionSpec::Gact(GactSpec { control, random: None })].into_iter().collect(),
                name: "".into(),
            };
            request::add_filter(&block, &goto).unwrap();
        }
        let chains: Vec<_> = block.chains().listed().map(Arc::downgrade).collect();
        assert_eq!(chains.len(), 3);
        drop(block);
        assert!(chains.iter().all(|chain| chain.upgrade().is_none()));
    }
}
