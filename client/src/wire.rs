//! What the messages of the control socket say. docs/control-socket.md shows each of them.
//!
//! Filters, chains and actions are JSON in the words of the configuration file, with `on` for the block they are in
//! ([`BlockName`]). What is listed has `handle`s, `index`es and `stats` besides.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::status::Status;

/// Version of the protocol. It grows when something that was understood no longer is; new requests and new fields of replies
/// are no reason.
pub const VERSION: u32 = 1;

/// What a client may ask.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What `tidegate status` shows, but for filters: [`Reply::Status`].
    Status {},
    /// Stops one worker and starts it afresh, with new sockets and new packet memory. Counters go on.
    RestartWorker {
        /// Which.
        worker: u16,
    },
    /// Has the configuration file read, and its filters become those that run: [`Reply::Reloaded`].
    Reload {
        /// Take it back after so many seconds, unless [`Request::Confirm`] comes before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm_s: Option<u64>,
    },
    /// Keeps what a reload made that is on trial.
    Confirm {},
    /// What the gateway was started with, but for blocks: [`Reply::Settings`].
    Settings {},
    /// Adds a filter: [`Reply::Filters`], with one place, or two if it is for IPv4 and IPv6.
    AddFilter {
        /// The keys of a `[[filter]]`. Priority and handle are given out if they are not there.
        filter: Value,
    },
    /// Adds a filter, or overwrites the one with this handle.
    ReplaceFilter {
        /// As to add.
        filter: Value,
    },
    /// Overwrites a filter, which must be there.
    ChangeFilter {
        /// As to add.
        filter: Value,
    },
    /// Deletes a filter; all of a priority, without a handle; all of a chain, without a priority.
    DeleteFilter {
        /// `on`, `chain`, `priority`, `protocol`, `kind`, `handle`; `on` alone must be there.
        filter: Value,
    },
    /// One filter: [`Reply::Filter`].
    GetFilter {
        /// As to delete.
        filter: Value,
    },
    /// A page of filters: [`Reply::FilterPage`].
    DumpFilters {
        /// `on`, and to list some only: `chain`, `priority`, `protocol`.
        filter: Value,
        /// Where the page before ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// At most so many records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<usize>,
    },
    /// Adds a chain, to stay until it is deleted.
    AddChain {
        /// `on`, `chain`; `kind`, `protocol` and `match` of a template.
        chain: Value,
    },
    /// Is refused by every chain, as in tc.
    ChangeChain {
        /// As to add.
        chain: Value,
    },
    /// Deletes a chain with all its filters.
    DeleteChain {
        /// `on`, `chain`.
        chain: Value,
    },
    /// One chain: [`Reply::Chain`].
    GetChain {
        /// `on`, `chain`.
        chain: Value,
    },
    /// A page of chains: [`Reply::ChainPage`].
    DumpChains {
        /// The block.
        on: BlockName,
        /// Where the page before ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// At most so many records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<usize>,
    },
    /// Adds actions of their own: [`Reply::Indexes`].
    AddActions {
        /// A list of action words, or of tables: `action`, `kind`, `index`, `cookie`.
        actions: Value,
    },
    /// Adds actions of their own, or overwrites those with these indexes: [`Reply::Indexes`].
    ReplaceActions {
        /// As to add.
        actions: Value,
    },
    /// Deletes actions that no filter uses.
    DeleteActions {
        /// `kind` and `index` of each.
        actions: Vec<Value>,
    },
    /// One action: [`Reply::Action`].
    GetAction {
        /// `kind` and `index`.
        action: Value,
    },
    /// Deletes all actions of a kind up to the first one that a filter uses: [`Reply::Flushed`].
    FlushActions {
        /// `gact` or `mirred`.
        kind: String,
    },
    /// A page of the actions of a kind, by index: [`Reply::ActionPage`].
    DumpActions {
        /// `gact` or `mirred`.
        kind: String,
        /// Where the page before ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// At most so many records.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<usize>,
    },
    /// Binds hooks of a port, all that are given or none: to the shared block of this index, which is made if it is not there;
    /// to a block of its own for 0.
    Bind {
        /// The port.
        port: String,
        /// Block of its ingress hook.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ingress: Option<u32>,
        /// Block of its egress hook.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        egress: Option<u32>,
    },
    /// Takes the blocks that [`Request::Bind`] bound off a port's hooks.
    Unbind {
        /// The port.
        port: String,
    },
    /// Every block that requests can name: [`Reply::Blocks`].
    DumpBlocks {},
    /// From now on, up to the next of these, nothing is done after a refusal: what follows it is refused with `ECANCELED`.
    /// So that many requests can be under way which are only good one after the other.
    UntilRefused {},
    /// From now on this connection carries [`Notice`]s, and nothing else.
    Subscribe {},
    /// From now on this connection carries [`Notice::Sample`] and [`Notice::Lost`], and nothing else.
    SubscribeSamples {
        /// What is shown under this number; everything without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<u32>,
    },
    /// From now on, requests of this connection take effect together, at [`Request::Commit`].
    Begin {},
    /// Lets everything since [`Request::Begin`] take effect at one instant: [`Reply::Committed`].
    Commit {},
    /// Forgets everything since [`Request::Begin`]. So does the end of the connection.
    Abort {},
}

/// How requests call a block: by its name in the file; by a port, for what its ingress hook is bound to; by `PORT/egress`; or
/// by the index of a shared block.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(untagged)]
pub enum BlockName {
    /// Index of a shared block.
    Index(u32),
    /// Any other.
    Name(String),
}

impl From<u32> for BlockName {
    fn from(index: u32) -> BlockName {
        BlockName::Index(index)
    }
}

impl From<&str> for BlockName {
    fn from(name: &str) -> BlockName {
        BlockName::Name(name.into())
    }
}

impl BlockName {
    /// For a table of JSON.
    pub fn to_value(&self) -> Value {
        match self {
            BlockName::Index(index) => (*index).into(),
            BlockName::Name(name) => name.as_str().into(),
        }
    }
}

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockName::Index(index) => index.fmt(f),
            BlockName::Name(name) => name.fmt(f),
        }
    }
}

/// What follows a request. What comes first on a connection is [`Reply::Welcome`], or a refusal.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Ok(Reply),
    /// It was refused, and nothing changed.
    Error(Refusal),
}

/// What a client gets.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The first message, to no request.
    Welcome {
        /// Version of the gateway.
        version: String,
        /// [`VERSION`] of the protocol.
        protocol: u32,
    },
    /// Done, nothing to say.
    Done,
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Reload`].
    Reloaded(ReloadReport),
    /// Every setting by its name in the file.
    Settings(BTreeMap<String, String>),
    /// Where filters are now.
    Filters(Vec<FilterId>),
    /// A filter.
    Filter(Value),
    /// Filters.
    FilterPage(Page<Record>),
    /// A chain.
    Chain(Value),
    /// Chains, in order of creation.
    ChainPage(Page<Value>),
    /// Indexes of actions, in the order of the request.
    Indexes(Vec<u32>),
    /// An action.
    Action(Value),
    /// Actions.
    ActionPage(Page<Value>),
    /// How many actions were deleted.
    Flushed(usize),
    /// Blocks.
    Blocks(Vec<BlockInfo>),
    /// The generation that packets see from now on.
    Committed(u64),
}

/// What a reload did.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ReloadReport {
    /// The generation that packets see since.
    pub generation: u64,
    /// Filters that came.
    pub added: usize,
    /// Filters that were changed, or got another place.
    pub replaced: usize,
    /// Filters that went.
    pub removed: usize,
    /// Filters that stayed, with their handles and counters.
    pub unchanged: usize,
    /// Ports that came, by name.
    #[serde(default)]
    pub ports_added: Vec<String>,
    /// Ports that went, by name.
    #[serde(default)]
    pub ports_removed: Vec<String>,
    /// Time to read the file, in ms.
    pub parse_ms: f64,
    /// Time to find the difference and to prepare it, in ms.
    pub prepare_ms: f64,
    /// Time for the commit, and for settling conflicts with clients, in ms.
    pub commit_ms: f64,
    /// It is taken back after so many seconds, unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_s: Option<u64>,
}

/// Part of a listing. What is there from the first page to the last is listed exactly once; what comes or goes meanwhile, at
/// most once [WK-6].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Page<T> {
    /// What is listed.
    pub records: Vec<T>,
    /// What to give as `after` for the next page; none at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Where a filter is in its block.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId {
    /// Chain index.
    pub chain: u32,
    /// Place in the chain.
    pub priority: u32,
    /// Number within the proto.
    pub handle: u32,
}

/// A record of a listing of filters [WK-4].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// `chain`, `priority`, `protocol` and `kind` of a proto: comes before its filters.
    Proto(Value),
    /// A filter.
    Filter(Value),
}

/// A block, and where packets meet it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct BlockInfo {
    /// How requests call it.
    pub on: BlockName,
    /// Index of a shared block, 0 of any other.
    pub index: u32,
    /// The hooks that are bound to it: `PORT` or `PORT/egress`.
    pub hooks: Vec<String>,
    /// Whether the configuration file made it.
    pub configured: bool,
}

/// What happened, to who subscribed. `on` is none of a block that requests cannot name any more.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Notice {
    /// A chain is there.
    ChainAdded {
        /// The block.
        on: Option<BlockName>,
        /// Chain index.
        chain: u32,
    },
    /// A chain is no longer there.
    ChainDeleted {
        /// The block.
        on: Option<BlockName>,
        /// Chain index.
        chain: u32,
    },
    /// A filter was added, replaced or changed.
    FilterAdded {
        /// The block.
        on: Option<BlockName>,
        /// What was asked for.
        mode: Mode,
        /// What is there now.
        filter: Value,
    },
    /// A filter was deleted.
    FilterDeleted {
        /// The block.
        on: Option<BlockName>,
        /// What was there.
        filter: Value,
    },
    /// A proto was deleted with all its filters.
    ProtoDeleted {
        /// The block.
        on: Option<BlockName>,
        /// Its `chain`, `priority`, `protocol` and `kind`.
        proto: Value,
    },
    /// Actions were added or replaced by a request of their own.
    ActionsAdded {
        /// What was asked for.
        mode: Mode,
        /// What is there now.
        actions: Vec<Value>,
    },
    /// Actions were deleted by a request of their own.
    ActionsDeleted {
        /// What was there.
        actions: Vec<Value>,
    },
    /// All actions of a kind up to the first one in use were deleted.
    ActionsFlushed {
        /// Kind.
        kind: String,
        /// How many.
        count: usize,
    },
    /// A packet was shown by an action `sample`; only to who asked for [`Request::SubscribeSamples`].
    Sample {
        /// The port that received it; none if that is gone.
        port: Option<String>,
        /// The number that it was shown under.
        group: u32,
        /// One in so many is shown.
        rate: u32,
        /// When, in us since 1970.
        time_us: u64,
        /// Bytes of the whole packet.
        length: u32,
        /// Its first bytes from the Ethernet header on, in hexadecimal digits.
        bytes: String,
    },
    /// So many events were lost here, because the subscriber was slow.
    Lost {
        /// How many.
        count: u64,
    },
}

/// What a request for a new object may find.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing.
    Add,
    /// Anything.
    Replace,
    /// The object.
    Change,
}

/// Why a request was refused.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Name of the error as the kernel spells it: what programs can rely on.
    pub errno: String,
    /// What is wrong, for people.
    pub message: String,
}

impl Refusal {
    /// `errno`, such as `ENOENT`, and why.
    pub fn new(errno: &str, message: impl Into<String>) -> Refusal {
        Refusal { errno: errno.into(), message: message.into() }
    }
}
