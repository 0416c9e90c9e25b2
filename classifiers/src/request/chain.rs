//! Chains and templates.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use super::{ChainCost, ChainInfo, ChainSpec, Cx, check_chain, filter, settled};
use crate::block::Block;
use crate::error::RequestError;
use crate::index::{ChainIndex, Survey};
use crate::kind;
use crate::ledger::By;
use crate::sync::Arc;

/// Adds a chain, to stay until it is deleted [CH-2]. A chain that only gotos hold becomes visible again.
///
/// # Errors
/// `Invalid` for an index above [`CHAIN_MAX`](super::CHAIN_MAX); `Exists` if the chain is there, were it only for its filters
/// [ER-17]; `Unsupported` for a template of a kind that has none [ER-20], and whatever that kind refuses.
pub fn add_chain(block: &Arc<Block>, chain: impl Into<ChainSpec>) -> Result<(), RequestError> {
    make(None, block, chain.into(), true)
}

/// What tc calls a change: adds nothing, and so is always refused.
///
/// # Errors
/// `NotFound` if there is no such chain [ER-18], `Exists` if there is [ER-17]; the rest as [`add_chain`].
pub fn change_chain(block: &Arc<Block>, chain: impl Into<ChainSpec>) -> Result<(), RequestError> {
    make(None, block, chain.into(), false)
}

pub(crate) fn make(
    by: By<'_>,
    block: &Arc<Block>,
    ChainSpec { index, template }: ChainSpec,
    create: bool,
) -> Result<(), RequestError> {
    check_chain(index)?;
    let _cx = Cx::new(block.plane(), true);
    let template = template.as_ref().map(kind::template).transpose()?; // before anything is there to be undone [TM-4]
    settled(block.core().make_explicit(index, template, create, by))
}

/// Deletes a chain with all its filters [CH-5]. Gotos to it find nothing from then on [CH-6].
///
/// # Errors
/// `Invalid` if clients see no such chain [ER-19].
pub fn delete_chain(block: &Arc<Block>, index: u32) -> Result<(), RequestError> {
    remove(None, block, index)
}

pub(crate) fn remove(by: By<'_>, block: &Arc<Block>, index: u32) -> Result<(), RequestError> {
    check_chain(index)?;
    block.plane().reaper().admit();
    {
        let cx = Cx::new(block.plane(), true).on_behalf(by);
        let chain = block.core().get(index, by).ok_or(ABSENT)?;
        settled(filter::flush(&cx, &chain))?;
        match by {
            None => block.core().make_absent(&chain),
            Some(_) => block.core().unask(&chain, by),
        }
    }
    block.plane().reaper().relieve();
    Ok(())
}

/// The chain stays no longer for its own sake.
pub(crate) fn release(by: By<'_>, block: &Arc<Block>, index: u32) {
    let _cx = Cx::new(block.plane(), true);
    if let Some(chain) = block.core().get(index, by) {
        block.core().unask(&chain, by);
    }
}

/// One chain.
///
/// # Errors
/// `Invalid` if clients see no such chain [ER-19].
pub fn get_chain(block: &Arc<Block>, index: u32) -> Result<ChainInfo, RequestError> {
    check_chain(index)?;
    let _cx = Cx::new(block.plane(), true);
    let chain = block.core().get(index, None).ok_or(ABSENT)?;
    Ok(block.core().info(&chain))
}

const ABSENT: RequestError = RequestError::Invalid("no such chain");

/// Where a listing of chains goes on: at this identity, or the next that is there. Holds nothing between pages [WK-7].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainCursor(u64);

/// For who keeps it outside of the program: any number is a cursor.
impl fmt::Display for ChainCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ChainCursor {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<ChainCursor, ParseIntError> {
        text.parse().map(ChainCursor)
    }
}

/// Up to `max` more chains in order of creation [CH-13]; none at the end. Those that only gotos hold are left out [OBJ-4].
pub fn dump_chains(block: &Arc<Block>, cursor: &mut ChainCursor, max: usize) -> Vec<ChainInfo> {
    let _cx = Cx::new(block.plane(), true);
    let mut infos = Vec::new();
    while infos.len() < max
        && let Some(chain) = block.core().next(cursor.0, None)
    {
        cursor.0 = chain.id() + 1;
        infos.push(block.core().info(&chain));
    }
    infos
}

/// What packets cost in each chain that clients see and that is not empty. It takes some microseconds a chain.
pub fn survey(block: &Arc<Block>) -> Vec<ChainCost> {
    let chains = list_chains(block).into_iter().filter_map(|index| block.core().get(index, None));
    let costs = chains.filter_map(|chain| {
        let list = chain.protos().load();
        let Survey { filters, masks, probes } = list.index().map(ChainIndex::survey).unwrap_or_default();
        let walked = list.count_walked();
        (filters + walked > 0).then(|| ChainCost { chain: chain.index(), filters, masks, probes, walked })
    });
    costs.collect()
}

/// The indexes of all chains, in order of creation.
pub fn list_chains(block: &Arc<Block>) -> Vec<u32> {
    dump_chains(block, &mut ChainCursor::default(), usize::MAX).into_iter().map(|chain| chain.index).collect()
}
