//! What requests say: plain data, before anything of it exists, and listings of what does.

use std::ops::Deref;

use smallvec::SmallVec;

use crate::action::spec::{ActionKind, ActionSpec};
use crate::counters::Hits;
use crate::flow_key::{self, FlowKey};
use crate::port::PortId;

/// Ethertype wildcard: filters of protocol `all` see every packet.
pub const ETH_P_ALL: u16 = 0x0003;

/// Highest chain index [OBJ-3].
pub const CHAIN_MAX: u32 = 0x0fff_ffff;

/// At most this many actions in a filter [AC-9].
pub const ACTIONS_MAX: usize = 32;

/// What a request for a new filter may find [RQ-2].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nothing: the handle must be free.
    Add,
    /// Anything: creates or overwrites.
    Replace,
    /// The filter: it must exist.
    Change,
}

/// A classifier kind by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KindName {
    /// Masked fields and port ranges.
    Flower,
    /// Every packet.
    Matchall,
    /// The packet's mark.
    Fw,
    /// Words of the packet.
    U32,
    /// A name that no kind has: refused like any kind the priority does not have [RQ-8], or as not found [ER-9].
    Unknown,
}

impl KindName {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            KindName::Flower => "flower",
            KindName::Matchall => "matchall",
            KindName::Fw => "fw",
            KindName::U32 => "u32",
            KindName::Unknown => "unknown",
        }
    }
}

/// Which filters a delete or get is about. Handle 0: the whole priority. Priority 0: the whole chain, if nothing else is
/// given [RQ-4].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterKey {
    /// Chain index.
    pub chain: u32,
    /// Place in the chain; 0 if not given.
    pub priority: u32,
    /// Ethertype that the priority must have; 0 if any will do [RQ-6].
    pub protocol: u16,
    /// Number within the proto; 0 if not given.
    pub handle: u32,
    /// Kind that the priority must have, if given.
    pub kind: Option<KindName>,
}

impl FilterKey {
    /// All filters of a chain.
    pub const fn chain(chain: u32) -> FilterKey {
        FilterKey { chain, priority: 0, protocol: 0, handle: 0, kind: None }
    }

    /// All filters of a priority.
    pub const fn priority(chain: u32, priority: u32) -> FilterKey {
        FilterKey { priority, ..FilterKey::chain(chain) }
    }
}

impl From<FilterId> for FilterKey {
    fn from(FilterId { chain, priority, handle }: FilterId) -> FilterKey {
        FilterKey { handle, ..FilterKey::priority(chain, priority) }
    }
}

/// A chain that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainSpec {
    /// Number within the block, at most [`CHAIN_MAX`].
    pub index: u32,
    /// Kind and mask that its filters must keep to [TM-2]; values in it mean nothing [TM-3].
    pub template: Option<KindSpec>,
}

impl From<u32> for ChainSpec {
    fn from(index: u32) -> ChainSpec {
        ChainSpec { index, template: None }
    }
}

/// Whose a filter or a chain is. A reload changes what the configuration made, and nothing else [RL-2].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Who made it with a request of its own, or in a transaction.
    #[default]
    Client,
    /// The configuration. A filter stays its own when a client replaces or changes it.
    Configuration,
}

/// A chain in a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainInfo {
    /// Number within the block.
    pub index: u32,
    /// Who asked for it to stay; a client, if nobody did.
    pub owner: Owner,
    /// Its template, if it has one.
    pub template: Option<KindSpec>,
}

/// What a packet costs in a chain, by what the chain holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChainCost {
    /// Number within the block.
    pub chain: u32,
    /// Filters that are found by their keys.
    pub filters: usize,
    /// Different masks of theirs.
    pub masks: usize,
    /// How many of these masks a packet may have to be looked up in: an average over packets made from filters, computed from
    /// the index. Of up to eight filters, how many there are.
    pub probes: f64,
    /// Priorities whose kind has each packet ask them, one after the other: fw and u32.
    pub walked: usize,
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

impl FilterSpec {
    /// Where the filter is to be; priority and handle are 0 where they are left to the request.
    pub fn id(&self) -> FilterId {
        FilterId { chain: self.chain, priority: self.priority, handle: self.handle }
    }
}

impl FilterInfo {
    /// Where the filter is.
    pub fn id(&self) -> FilterId {
        FilterId { chain: self.chain, priority: self.priority, handle: self.handle }
    }

    /// Whether the match or an action is about `port`.
    pub fn names_port(&self, port: PortId) -> bool {
        self.matches.names_port(port) || self.actions.iter().any(|action| action.spec.names_port(port))
    }
}

impl ActionInfo {
    /// The action as it would be asked for by its number.
    pub fn wanted(&self) -> ActionUse {
        ActionUse { cookie: self.cookie, flags: self.flags, ..ActionUse::from(self.spec.clone()).numbered(self.index) }
    }
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
    /// Kind.
    pub kind: &'static str,
    /// Number within the proto.
    pub handle: u32,
    /// Whose it is.
    pub owner: Owner,
    /// The operator's name for it; empty if none.
    pub name: Box<str>,
    /// What it was given besides.
    pub options: FilterOptions,
    /// What it matches, as it was asked for.
    pub matches: KindSpec,
    /// Packets that matched.
    pub hits: Hits,
    /// Packets that a u32 node was tried with [ST-7]; 0 for other kinds.
    pub runs: u64,
    /// The actions, in order.
    pub actions: Vec<ActionInfo>,
}

/// A record of a listing [WK-4].
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A priority: comes before its filters.
    Proto(ProtoInfo),
    /// A filter.
    Filter(FilterInfo),
}

/// A proto in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtoInfo {
    /// Chain index.
    pub chain: u32,
    /// Place in the chain.
    pub priority: u32,
    /// Ethertype, or [`ETH_P_ALL`].
    pub protocol: u16,
    /// Kind.
    pub kind: &'static str,
}

/// Which filters a dump is about [WK-5].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpFilter {
    /// Of this chain only.
    pub chain: Option<u32>,
    /// Of this priority only; 0 for all.
    pub priority: u32,
    /// Of this protocol only; 0 for all.
    pub protocol: u16,
}

/// An action in a listing.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionInfo {
    /// What was asked for, or what it was changed to.
    pub spec: ActionSpec,
    /// Number within its kind.
    pub index: u32,
    /// Holders: filters, and the request that created it on its own [AC-2].
    pub refs: u32,
    /// Filters among them.
    pub binds: u32,
    /// The client's cookie.
    pub cookie: Option<Cookie>,
    /// What it was given besides.
    pub flags: ActionFlags,
    /// What it did.
    pub hits: Hits,
}

/// Up to 16 bytes that a client keeps with an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookie {
    bytes: [u8; 16],
    len: u8,
}

impl Cookie {
    /// From 1 to 16 bytes; nothing for any other number.
    pub fn new(bytes: &[u8]) -> Option<Cookie> {
        let mut cookie = Cookie { bytes: [0; 16], len: u8::try_from(bytes.len()).ok().filter(|&len| len > 0)? };
        cookie.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(cookie)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// An action in a filter, or an action of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionUse {
    /// Kind.
    pub kind: ActionKind,
    /// Number within the kind; 0 asks for an automatic one. A filter that gives the number of an action that is there
    /// shares it, and `spec` means nothing then [AC-4].
    pub index: u32,
    /// What it does. Without, there must be an action with this number; but gact has a default: pass [AC-4].
    pub spec: Option<ActionSpec>,
    /// The client's cookie. Without, a replaced action keeps its own [AC-5].
    pub cookie: Option<Cookie>,
    /// For an action that stands alone; one that a filter creates takes what they say of hardware from the filter.
    pub flags: ActionFlags,
}

/// What an action is given, and listed with, without any effect on packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ActionFlags {
    /// Counters need not be kept apart by worker. They are all the same.
    pub no_percpu: bool,
    /// Never offered to hardware [HW-1]. Filters that bind to an action that stands alone must say the same [AC-14].
    pub skip_hw: bool,
}

impl ActionUse {
    /// The action `index` of `kind`, which is there.
    pub const fn shared(kind: ActionKind, index: u32) -> ActionUse {
        ActionUse { kind, index, spec: None, cookie: None, flags: ActionFlags { no_percpu: false, skip_hw: false } }
    }

    /// As given, with a number.
    pub fn numbered(self, index: u32) -> ActionUse {
        ActionUse { index, ..self }
    }
}

impl From<ActionSpec> for ActionUse {
    fn from(spec: ActionSpec) -> ActionUse {
        let kind = spec.kind();
        ActionUse { spec: Some(spec), ..ActionUse::shared(kind, 0) }
    }
}

/// The actions of a filter, in order. Made from specifications, or from uses where an index matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActionList(SmallVec<[ActionUse; 1]>);

impl Deref for ActionList {
    type Target = [ActionUse];

    fn deref(&self) -> &[ActionUse] {
        &self.0
    }
}

impl<T: Into<ActionUse>> FromIterator<T> for ActionList {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> ActionList {
        ActionList(iter.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<ActionUse> + Clone> From<&[T]> for ActionList {
    fn from(uses: &[T]) -> ActionList {
        uses.iter().cloned().collect()
    }
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
    pub actions: ActionList,
    /// The operator's name for the filter, shown in listings; empty if none.
    pub name: Box<str>,
    /// What else it is given.
    pub options: FilterOptions,
}

/// What a filter is given, and listed with, without any effect on packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterOptions {
    /// Its traffic class [FL-18]. Nothing for kind u32, whose nodes have one of their own: [`U32Node::class`].
    pub class: Option<u32>,
    /// Never offered to hardware [HW-1]. There is none yet [HW-9].
    pub skip_hw: bool,
}

/// A classifier kind and its match.
#[derive(Clone, Debug, PartialEq)]
pub enum KindSpec {
    /// Masked fields and port ranges.
    Flower(Box<FlowerSpec>),
    /// Every packet of the protocol.
    Matchall,
    /// The packet's mark.
    Fw(FwSpec),
    /// Words of the packet, in tables.
    U32(U32Spec),
    /// Of a kind that does not exist: for requests that are refused.
    Unknown,
}

impl KindSpec {
    /// Whether packets are to have come in at `port`.
    pub fn names_port(&self, port: PortId) -> bool {
        match self {
            KindSpec::Flower(spec) => {
                spec.mask.get(flow_key::INDEV) != 0 && spec.value.get(flow_key::INDEV) == u64::from(port.0) + 1
            }
            KindSpec::Fw(spec) => spec.indev == Some(port),
            KindSpec::U32(U32Spec::Node(node)) => node.indev == Some(port),
            KindSpec::U32(U32Spec::Table { .. }) | KindSpec::Matchall | KindSpec::Unknown => false,
        }
    }

    /// The kind's name.
    pub const fn name(&self) -> KindName {
        match self {
            KindSpec::Flower(_) => KindName::Flower,
            KindSpec::Matchall => KindName::Matchall,
            KindSpec::Fw(_) => KindName::Fw,
            KindSpec::U32(_) => KindName::U32,
            KindSpec::Unknown => KindName::Unknown,
        }
    }
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

/// An fw match: `mark & mask == handle` [FW-1]. The handle must be given [HA-3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FwSpec {
    /// Which bits of the mark count; the same for all filters of a priority.
    pub mask: u32,
    /// Port that the packet came in at. A replacement without it keeps the old one.
    pub indev: Option<PortId>,
}

/// What a u32 request adds. Handles are `table << 20 | bucket << 12 | node` [HA-4]; a table's own handle has neither bucket
/// nor node, and table 0xfff stands for the root table of the priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum U32Spec {
    /// A table, for nodes to lead to [U3-1]. It has no actions, and cannot be replaced.
    Table {
        /// Buckets: a power of two, at most 256.
        divisor: u32,
    },
    /// A node in a table [U3-2]. It decides about a packet only if it has actions or a class [U3-5].
    Node(Box<U32Node>),
}

/// A u32 filter proper. Words and offsets count from the L3 header, in network byte order, with the outer VLAN tag left
/// out; a word beyond the packet's end ends the search of the whole priority [U3-4].
///
/// A replacement keeps the old node's table, keys, mark, hash, offset and eat, whatever it says; and link, port and class
/// if it does not give them [FO-7].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct U32Node {
    /// Handle of the table it goes to, with the bucket; 0 for the priority's root table [U3-6].
    pub table: u32,
    /// All must match; at most 255.
    pub keys: Vec<U32Key>,
    /// The packet's mark must match.
    pub mark: U32Mark,
    /// Handle of the table where the search goes on if all keys match; 0 takes an old link away.
    pub link: Option<u32>,
    /// What selects the bucket there. Without: bucket 0.
    pub hash: Option<U32Hash>,
    /// How far the next header is: where keys with [`U32Key::next_header`] begin to count in the linked table.
    pub offset: Option<U32Offset>,
    /// In the linked table, all keys count from the next header on.
    pub eat: bool,
    /// Port that the packet came in at.
    pub indev: Option<PortId>,
    /// Class: a match that needs no action to be one.
    pub class: Option<u32>,
}

/// A key of u32: `(word ^ value) & mask == 0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct U32Key {
    /// What the word is to be.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
    /// Where the word begins, in bytes.
    pub offset: i32,
    /// It counts from the next header on.
    pub next_header: bool,
}

/// A mark match of u32: `mark & mask == value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct U32Mark {
    /// What the mark is to be.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

/// What selects a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct U32Hash {
    /// Where the word begins, in bytes.
    pub offset: i16,
    /// Which bits count; they are shifted to the right until the lowest one is at the end.
    pub mask: u32,
}

impl U32Hash {
    /// The bucket for `word` in a table with `divisor` buckets: also what `sample` means [U3-6].
    #[inline]
    pub const fn bucket(self, word: u32, divisor: u32) -> u32 {
        match self.mask {
            0 => 0,
            mask => (word & mask) >> mask.trailing_zeros() & (divisor - 1),
        }
    }
}

/// How far the next header is: `plus`, and what a field of the packet says, rounded up to 4 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct U32Offset {
    /// In bytes.
    pub plus: u16,
    /// Added to it.
    pub field: Option<U32Field>,
}

/// A field of 16 bits: `(value & mask) >> shift`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct U32Field {
    /// Where it begins, in bytes.
    pub offset: i16,
    /// Which bits count.
    pub mask: u16,
    /// Less than 16 [U3-6].
    pub shift: u8,
}
