//! Chains and templates.

use super::{ChainInfo, ChainSpec, Cx, check_chain};
use crate::block::Block;
use crate::error::RequestError;
use crate::kind;
use crate::sync::Arc;

/// Adds a chain, to stay until it is deleted [CH-2]. A chain that only gotos hold becomes visible again.
///
/// # Errors
/// `Invalid` for an index above [`CHAIN_MAX`](super::CHAIN_MAX); `Exists` if the chain is there, were it only for its filters
/// [ER-17]; `Unsupported` for a template of a kind that has none [ER-20], and whatever that kind refuses.
pub fn add_chain(block: &Arc<Block>, chain: impl Into<ChainSpec>) -> Result<(), RequestError> {
    make(block, chain.into(), true)
}

/// What tc calls a change: adds nothing, and so is always refused.
///
/// # Errors
/// `NotFound` if there is no such chain [ER-18], `Exists` if there is [ER-17]; the rest as [`add_chain`].
pub fn change_chain(block: &Arc<Block>, chain: impl Into<ChainSpec>) -> Result<(), RequestError> {
    make(block, chain.into(), false)
}

fn make(block: &Arc<Block>, ChainSpec { index, template }: ChainSpec, create: bool) -> Result<(), RequestError> {
    check_chain(index)?;
    let _cx = Cx::new(block.plane(), true);
    let template = template.as_ref().map(kind::template).transpose()?; // before anything is there to be undone [TM-4]
    block.core().make_explicit(index, template, create)
}

/// Deletes a chain with all its filters [CH-5]. Gotos to it find nothing from then on [CH-6].
///
/// # Errors
/// `Invalid` if clients see no such chain [ER-19].
pub fn delete_chain(block: &Arc<Block>, index: u32) -> Result<(), RequestError> {
    check_chain(index)?;
    block.plane().reaper().admit();
    {
        let cx = Cx::new(block.plane(), true);
        let chain = block.core().get(index).ok_or(ABSENT)?;
        chain.flush(&cx, true);
        block.core().make_absent(&chain);
    }
    block.plane().reaper().relieve();
    Ok(())
}

/// One chain.
///
/// # Errors
/// `Invalid` if clients see no such chain [ER-19].
pub fn get_chain(block: &Arc<Block>, index: u32) -> Result<ChainInfo, RequestError> {
    check_chain(index)?;
    let _cx = Cx::new(block.plane(), true);
    let chain = block.core().get(index).ok_or(ABSENT)?;
    Ok(block.core().info(&chain))
}

const ABSENT: RequestError = RequestError::Invalid("no such chain");

/// Where a listing of chains goes on: at this identity, or the next that is there. Holds nothing between pages [WK-7].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainCursor(u64);

/// Up to `max` more chains in order of creation [CH-13]; none at the end. Those that only gotos hold are left out [OBJ-4].
pub fn dump_chains(block: &Arc<Block>, cursor: &mut ChainCursor, max: usize) -> Vec<ChainInfo> {
    let _cx = Cx::new(block.plane(), true);
    let mut infos = Vec::new();
    while infos.len() < max
        && let Some(chain) = block.core().next(cursor.0, false)
    {
        cursor.0 = chain.id() + 1;
        infos.push(block.core().info(&chain));
    }
    infos
}

/// The indexes of all chains, in order of creation.
pub fn list_chains(block: &Arc<Block>) -> Vec<u32> {
    dump_chains(block, &mut ChainCursor::default(), usize::MAX).into_iter().map(|chain| chain.index).collect()
}
