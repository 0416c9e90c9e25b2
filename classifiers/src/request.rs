//! What the control plane may ask: one function a verb. Every request path (file, socket, command line) goes through
//! these.
//!
//! The specifications here are plain data: what is wanted, before anything of it exists.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::action::Actions;
use crate::block::Block;
use crate::counters::Hits;
use crate::error::RequestError;
use crate::filter::Filter;
use crate::flow_key::FlowKey;
use crate::port::PortId;
use crate::proto::Proto;
use crate::verdict::Control;

/// Ethertype wildcard: filters of protocol `all` see every packet.
pub const ETH_P_ALL: u16 = 0x0003;

/// Highest chain index [OBJ-3].
pub const CHAIN_MAX: u32 = 0x0fff_ffff;

/// At most this many actions in a filter [AC-9].
pub const ACTIONS_MAX: usize = 32;

/// Adds the chain `index`, to stay until it is deleted [CH-2].
///
/// # Errors
/// `Invalid` for an index above [`CHAIN_MAX`]; `Exists` if the chain is there, were it only for its filters [ER-17].
pub fn add_chain(block: &Arc<Block>, index: u32) -> Result<(), RequestError> {
    check_chain(index)?;
    let mut chains = block.chains();
    if chains.get(index).is_some() {
        return Err(RequestError::Exists("this chain"));
    }
    chains.make_explicit(index);
    Ok(())
}

/// Adds a filter, with its chain and its priority where they are new. When this returns, workers see it from their
/// next burst on [DV-1].
///
/// # Errors
/// `Invalid` if the specification contradicts itself or its priority's protocol or kind; `Exists` if the priority has
/// the handle, the flower key, or its one matchall filter; `NoSpace` if no automatic number is left. Nothing changed
/// then [ER-40].
pub fn add_filter(block: &Arc<Block>, spec: &FilterSpec) -> Result<FilterId, RequestError> {
    check_chain(spec.chain)?;
    let mut chains = block.chains();
    let list = chains.get(spec.chain).map(|chain| chain.protos().clone()).unwrap_or_default();
    let priority = if spec.priority == 0 { list.automatic_priority()? } else { spec.priority };
    let mut proto = match list.get(priority) {
        Some(proto) => proto.clone(),
        None => Proto::new(priority, spec)?,
    };
    let handle = proto.add(spec, |handle| {
        chains.get_or_create(spec.chain); // before the chains its gotos may create: the order is seen in listings
        let actions = Actions::new(&spec.actions, block.workers(), |chain| chains.pin(chain));
        Arc::new(Filter::new(handle, &spec.name, actions, block.workers()))
    })?;
    chains.get_or_create(spec.chain).publish(list.with(proto));
    Ok(FilterId { chain: spec.chain, priority, handle })
}

/// Deletes a filter, and its priority and chain with it where they have no other reason to be. Packets already in a
/// worker's hand may still match for one burst [DV-2].
///
/// # Errors
/// `NotFound` if there is no such chain, priority or handle [ER-12], [ER-15].
pub fn delete_filter(block: &Arc<Block>, chain: u32, priority: u32, handle: u32) -> Result<(), RequestError> {
    let mut chains = block.chains();
    let chain = chains.get(chain).ok_or(RequestError::NotFound("chain"))?;
    let list = chain.protos().clone();
    let mut proto = list.get(priority).ok_or(RequestError::NotFound("priority"))?.clone();
    let filter = proto.remove(handle)?;
    chain.publish(list.with(proto));
    chains.unpin(&filter);
    Ok(())
}

/// The indexes of the chains, in order of creation [CH-13]; those that only gotos hold are left out [OBJ-4].
pub fn list_chains(block: &Arc<Block>) -> Vec<u32> {
    block.chains().listed().map(|chain| chain.index()).collect()
}

/// All filters with what they did: chains in order of creation, priorities ascending, handles ascending [WK-3].
pub fn dump(block: &Arc<Block>) -> Vec<FilterInfo> {
    let chains = block.chains();
    let mut infos = Vec::new();
    for chain in chains.listed() {
        for proto in chain.protos().iter() {
            let info = |filter: &Arc<Filter>| FilterInfo {
                chain: chain.index(),
                priority: proto.priority(),
                protocol: proto.protocol(),
                kind: proto.kind().name(),
                handle: filter.handle(),
                name: filter.name().into(),
                hits: filter.hits().sum(),
                actions: filter
                    .actions()
                    .iter()
                    .map(|it| ActionInfo { spec: it.spec(), hits: it.stats().sum() })
                    .collect(),
            };
            infos.extend(proto.kind().filters().iter().map(info));
        }
    }
    infos
}

fn check_chain(index: u32) -> Result<(), RequestError> {
    if index > CHAIN_MAX {
        return Err(RequestError::Invalid("chain index above 268435455")); // [ER-21]
    }
    Ok(())
}

/// Where a filter is in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId {
    /// Chain index.
    pub chain: u32,
    /// Place in the chain.
    pub priority: u32,
    /// Number within the proto.
    pub handle: u32,
}

/// A filter in a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterInfo {
    /// Chain index.
    pub chain: u32,
    /// Place in the chain.
    pub priority: u32,
    /// Ethertype, or [`ETH_P_ALL`].
    pub protocol: u16,
    /// `flower` or `matchall`.
    pub kind: &'static str,
    /// Number within the proto.
    pub handle: u32,
    /// The operator's name for it; empty if none.
    pub name: Box<str>,
    /// Packets that matched.
    pub hits: Hits,
    /// The actions, in order.
    pub actions: Vec<ActionInfo>,
}

/// An action in a listing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActionInfo {
    /// What was asked for.
    pub spec: ActionSpec,
    /// What it did.
    pub hits: Hits,
}

/// A filter that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterSpec {
    /// Chain index, at most [`CHAIN_MAX`].
    pub chain: u32,
    /// Place in the chain, lower first. 0 asks for an automatic one [PR-1].
    pub priority: u32,
    /// Ethertype that the packet's outermost one must equal, or [`ETH_P_ALL`].
    pub protocol: u16,
    /// Number within the proto. 0 asks for an automatic one [HA-1].
    pub handle: u32,
    /// Kind, with what it matches.
    pub kind: KindSpec,
    /// Actions in order, at most [`ACTIONS_MAX`]. None at all means `ok` [AV-1].
    pub actions: SmallVec<[ActionSpec; 2]>,
    /// The operator's name for the filter, shown in listings; empty if none.
    pub name: Box<str>,
}

/// A classifier kind and its match.
#[derive(Clone, Debug, PartialEq)]
pub enum KindSpec {
    /// Masked fields and port ranges.
    Flower(Box<FlowerSpec>),
    /// Every packet of the protocol.
    Matchall,
}

/// A flower match: `packet & mask == value & mask`, and ports within the ranges [FL-1].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowerSpec {
    /// Values; bits outside the mask are ignored.
    pub value: FlowKey,
    /// Which bits count.
    pub mask: FlowKey,
    /// Inclusive range of the source port, min < max.
    pub src_port_range: Option<(u16, u16)>,
    /// Inclusive range of the destination port, min < max.
    pub dst_port_range: Option<(u16, u16)>,
}

/// An action that is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ActionSpec {
    /// A verdict, possibly by chance.
    Gact(GactSpec),
    /// A copy or the packet itself to a port.
    Mirred(MirredSpec),
}

impl ActionSpec {
    /// The action's kind: `gact` or `mirred`.
    pub const fn kind(&self) -> &'static str {
        match self {
            ActionSpec::Gact(_) => "gact",
            ActionSpec::Mirred(_) => "mirred",
        }
    }

    /// The control verdicts it may say.
    pub fn controls(&self) -> impl Iterator<Item = Control> + use<> {
        let (first, second) = match *self {
            ActionSpec::Gact(GactSpec { control, random }) => (Some(control), random.map(|random| random.control)),
            ActionSpec::Mirred(MirredSpec::Mirror { control, .. }) => (Some(control), None),
            ActionSpec::Mirred(MirredSpec::Redirect { .. }) => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// Generic verdict [AK-GACT].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GactSpec {
    /// What it says, or says unless the dice fall otherwise.
    pub control: Control,
    /// The other verdict, and when it is taken. Its verdict cannot be `Goto` [AC-10].
    pub random: Option<Random>,
}

/// When a generic verdict takes its second verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    /// How it is decided.
    pub mode: RandomMode,
    /// The second verdict.
    pub control: Control,
    /// One in this many; 0 counts as 1.
    pub one_in: u16,
}

/// How a generic verdict decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomMode {
    /// `netrand`: with probability 1 / one_in.
    Netrand,
    /// `determ`: every one_in-th packet.
    Determ,
}

/// Egress mirror or redirect to a port [AK-MIRRED].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirredSpec {
    /// Sends a copy, then says `control` (default `Pipe`).
    Mirror {
        /// Where the copy goes.
        port: PortId,
        /// What follows.
        control: Control,
    },
    /// Gives the packet away.
    Redirect {
        /// Where it goes.
        port: PortId,
    },
}
