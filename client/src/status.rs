//! What the running gateway says of itself: plain data, as JSON on the control socket, and as a table for people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::totals::Totals;
use crate::wire::{BlockName, ReloadReport};

/// Everything `tidegate status` shows, at one moment.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// Version of the running binary.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Ports in the order of the file.
    pub ports: Vec<PortStatus>,
    /// Workers by number.
    pub workers: Vec<WorkerStatus>,
    /// What packets cost, in those chains of those blocks where that is most: up to 100.
    #[serde(default)]
    pub chains: Vec<ChainStatus>,
    /// Filters in listing order, block by block. A gateway sends none here: [`Client::status`](crate::Client::status) lists them,
    /// page by page.
    #[serde(default)]
    pub filters: Vec<FilterStatus>,
    /// What became of reloads.
    #[serde(default)]
    pub reload: ReloadStatus,
}

/// What became of reloads.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ReloadStatus {
    /// How many succeeded.
    pub reloads: u64,
    /// The last one that succeeded.
    pub last: Option<ReloadReport>,
    /// Why the last one failed, if it did: every reason, one a line.
    pub failed: Option<String>,
    /// Seconds until the last one is taken back, unless it is confirmed.
    pub confirm_left_s: Option<u64>,
}

/// One port.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct PortStatus {
    /// Name in the file.
    pub name: String,
    /// Network interface.
    pub interface: String,
    /// `up`, `no-carrier`, `down`, or `gone`.
    pub link: String,
    /// `zero-copy`, `native` (driver mode with copies), `generic`, or `detached`; the worst of its queues.
    pub mode: String,
    /// Name of the port that passing packets leave by, or `host`.
    pub forward_to: String,
    /// `pass` or `drop`.
    pub on_exit: String,
    /// Its queues.
    pub queues: Vec<QueueStatus>,
    /// What the XDP program decided, in packets by outcome.
    pub gate: BTreeMap<String, u64>,
    /// What the workers did with what they received here, and what they sent. Whole frames.
    pub totals: Totals,
    /// Averages over the last second.
    pub rates: Rates,
}

/// Averages over the last second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Rates {
    /// Packets received a second.
    pub received_pps: f64,
    /// Bits received a second.
    pub received_bps: f64,
    /// Packets sent a second.
    pub sent_pps: f64,
    /// Bits sent a second.
    pub sent_bps: f64,
    /// Packets dropped a second.
    pub dropped_pps: f64,
}

/// One queue of a port.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct QueueStatus {
    /// Queue id.
    pub queue: u32,
    /// Worker that owns it.
    pub worker: u16,
    /// Whether the kernel says that the socket is bound zero-copy.
    pub zero_copy: bool,
    /// What its worker received and sent by it, and what the kernel counted on its socket.
    pub totals: Totals,
}

/// What a packet costs in a chain: computed from what the chain holds, not measured.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ChainStatus {
    /// Block.
    pub block: String,
    /// Chain index.
    pub chain: u32,
    /// Filters that are found by their keys.
    pub filters: u64,
    /// Different masks of theirs.
    pub masks: u64,
    /// How many of these masks a packet may have to be looked up in, on average; of up to eight filters, how many there are.
    pub probes: f64,
    /// Priorities of kind fw and u32, which are asked one after the other.
    pub walked: u64,
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct WorkerStatus {
    /// Number.
    pub worker: u16,
    /// Core it is pinned to.
    pub core: Option<u16>,
    /// `running`, or `restarting`.
    pub state: String,
    /// Bursts since it started; grows while it lives.
    pub bursts: u64,
    /// Times it was restarted.
    pub restarts: u64,
    /// Frames in its UMEM.
    pub frames: u64,
    /// Its flow cache, if it has one.
    #[serde(default)]
    pub flow_cache: Option<FlowCacheStatus>,
}

/// A worker's flow cache: what became of packets that met more filters than are asked one by one.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct FlowCacheStatus {
    /// Flows that there is room for.
    pub entries: u64,
    /// Packets whose filter was known.
    pub hits: u64,
    /// Packets that were searched for.
    pub misses: u64,
    /// Packets that were searched for while it paused, because most were of new flows.
    pub passed_by: u64,
    /// Hits of all of them, 0 to 1.
    pub hit_rate: f64,
}

/// One filter and its hits: the gist of a listing's record.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct FilterStatus {
    /// Block.
    pub block: String,
    /// Chain index.
    pub chain: u32,
    /// Priority.
    pub priority: u32,
    /// Ethertype, such as `ip` or `all`.
    pub protocol: String,
    /// `flower`, `matchall`, `fw` or `u32`.
    pub kind: String,
    /// Handle within the proto: a number, or of u32 words such as `800:0:1`.
    pub handle: Value,
    /// The operator's name; empty if none.
    pub name: String,
    /// Actions as words.
    pub actions: Vec<String>,
    /// Packets that matched.
    pub packets: u64,
    /// Their bytes from L3 on.
    pub bytes: u64,
    /// Seconds since the last match.
    pub last_used_s: Option<u64>,
}

impl FilterStatus {
    /// From a filter as it is listed.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_listed(filter: Value) -> serde_json::Result<FilterStatus> {
        let Listed { on, chain, priority, protocol, kind, handle, name, actions, stats } =
            serde_json::from_value(filter)?;
        Ok(FilterStatus {
            block: on.to_string(),
            chain,
            priority,
            protocol,
            kind,
            handle,
            name,
            actions: actions.into_iter().map(|action| action.action).collect(),
            packets: stats.packets,
            bytes: stats.bytes,
            last_used_s: stats.used_ms.map(|ms| ms / 1000),
        })
    }
}

/// What counts of a filter that is listed.
#[derive(Deserialize)]
struct Listed {
    on: BlockName,
    #[serde(default)]
    chain: u32,
    priority: u32,
    protocol: String,
    kind: String,
    #[serde(default)]
    handle: Value,
    #[serde(default)]
    name: String,
    #[serde(default)]
    actions: Vec<ListedAction>,
    stats: Stats,
}

#[derive(Deserialize)]
struct ListedAction {
    action: String,
}

#[derive(Deserialize)]
struct Stats {
    packets: u64,
    bytes: u64,
    used_ms: Option<u64>,
}
