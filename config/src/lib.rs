//! Configuration text to checked rules.
//!
//! Two stages, two types: what the files say, a tree in which every value knows its place (`raw`); and what that means, a
//! [`Config`] (`resolve`). A `Config` is handed out only if nothing at all is wrong. Every mistake of a run is reported,
//! each as `file:line:column: problem; hint`.
#![forbid(unsafe_code)]

pub mod actions; // what a filter does, in words: drop, goto scan, mirror lan
mod block; // filters in their block: priorities, handles, what is there twice
pub mod diff; // what has to happen so that running filters become those of a file
pub mod error; // ConfigError: place, problem, hint; all of them, not the first
pub mod export; // running rules as a file
mod filter; // one [[filter]]
mod flower; // match = { ... }: keys, and the protocol that follows from them
mod fw; // match = { mark = 1 }
pub mod hex; // bytes as hexadecimal digits
pub mod json; // requests as JSON, in the words of the file
mod names; // names of ports, blocks and chains
pub mod place; // where in which file a value stands
mod ports; // PortNumbers: ports by number, while others come and go
mod raw; // what the files and variables say, layered by figment
mod resolve; // raw to checked: names bound, handles unique, goto targets known
pub mod show; // specifications back to words: what listings print
mod slow; // what is right and will be slow
pub mod table; // a table's fields, taken one by one
mod u32; // match = { keys = [...] }: words of the packet, and tables
pub mod units; // rates and sizes: 10mbit, 64k
mod words; // small grammars: prefixes, ports, flags, as people write them

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use error::{ConfigError, ConfigErrors, Problems, Wrong};
pub use names::{Names, Scope};
pub use ports::{PORTS_MAX, PortNumbers};
pub use raw::read_text;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::FilterSpec;
pub use words::choice;

/// A checked configuration: every name bound, every number in range.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Threads, rings and packet memory.
    pub workers: Workers,
    /// The control socket.
    pub control: Control,
    /// Ports in the order of the file.
    pub ports: Vec<Port>,
    /// Blocks: those the file names, and a private one for each port that has filters of its own.
    pub blocks: Vec<Block>,
    /// What is right and will be slow, in the order of the files and their lines.
    pub warnings: Vec<ConfigError>,
}

/// `[workers]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Number of workers; worker i owns queue i of every port. `None`: as many as the port with the most queues has.
    pub count: Option<u16>,
    /// Core of each worker; empty: not pinned.
    pub cores: Vec<u16>,
    /// What a worker does when no packet waits.
    pub idle: Idle,
    /// Packets taken from a ring at once, 1 to 256. Default 64.
    pub burst: u16,
    /// Entries of each ring, a power of two from 64 to 32768. Default 2048.
    pub ring_size: u32,
    /// Frames in a worker's UMEM. `None`: enough for the rings of every port, and of two that come later.
    pub frames: Option<u32>,
    /// Bytes of a frame's chunk, 2048 or 4096. Default 2048.
    pub chunk_size: u32,
    /// Back the UMEM with 2 MiB pages.
    pub huge_pages: bool,
    /// Entries of a worker's flow cache; 0: none. Default 65536.
    pub flow_cache: u32,
}

/// `idle = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Spins for ever: lowest latency, one core burnt.
    Busy,
    /// Spins a little, then sleeps until a packet comes. The default.
    Adaptive,
    /// Sleeps at once.
    Sleep,
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Path of the UNIX socket. Default `/run/tidegate/tidegate.sock`.
    pub socket: PathBuf,
    /// Group that may use it, besides root. Default `tidegate`; where there is no such group, root alone.
    pub group: String,
}

/// `[port.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The number that stands for it in filters.
    pub id: PortId,
    /// The name that filters and `forward_to` use.
    pub name: String,
    /// Network interface. Default: the port's name.
    pub interface: String,
    /// Where packets go that pass.
    pub forward_to: ForwardTo,
    /// How to attach and bind; `Auto` tries the best first.
    pub mode: Mode,
    /// What XDP does while nobody reads the rings.
    pub on_exit: OnExit,
    /// What goes to the kernel's stack before any filter is asked.
    pub host: PassList,
    /// Index into [`Config::blocks`] of the block bound to this port's ingress hook.
    pub block: Option<usize>,
}

/// `forward_to = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardTo {
    /// Out of this port.
    Port(PortId),
    /// Up into the kernel's stack, as if received on this interface.
    Host,
}

/// `mode = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Zero-copy, else native copy, else generic.
    Auto,
    /// `zero-copy` or fail.
    ZeroCopy,
    /// `native`: driver mode with copies, or fail.
    Native,
    /// `generic`: the kernel's fallback, slow, works everywhere.
    Generic,
}

/// `on_exit = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// Fail open: the kernel gets the packets. The default.
    Pass,
    /// Fail closed: packets are dropped until a gateway runs again or `tidegate detach` is called.
    Drop,
}

/// `[port.NAME.host]`: what always passes to the kernel, so that a wrong filter never locks the operator out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassList {
    /// ARP.
    pub arp: Neighbours,
    /// IPv6 neighbour and router discovery.
    pub nd: Neighbours,
    /// IP protocol numbers that pass whole, such as 89 for OSPF.
    pub protocols: Vec<u8>,
    /// The gateway's own addresses. Alone: everything to them passes. With `ports`: only those ports.
    pub addresses: Vec<IpAddr>,
    /// Ports, as source or destination: of the addresses if some are given, else of any.
    pub ports: Vec<(Transport, u16)>,
}

/// How much address resolution goes to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Neighbours {
    /// Nothing.
    None,
    /// What asks for or answers to one of `addresses`. The default where `forward_to` is a port.
    #[default]
    Own,
    /// All of it. The default where `forward_to` is `host`.
    All,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// 6
    Tcp,
    /// 17
    Udp,
    /// 132
    Sctp,
}

/// A set of chains that one or more ports are bound to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// Name; a private block bears its port's.
    pub name: String,
    /// Chains that the file names or declares; they exist even while they are empty.
    pub chains: Vec<Chain>,
    /// Filters in the order of the file, priorities and handles filled in.
    pub filters: Vec<FilterSpec>,
    /// What the file says of the numbers of each filter.
    pub numbers: Vec<Numbers>,
}

/// Which of a filter's numbers the file gives. The others are this program's choice: a filter that runs keeps those it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The priority is the file's. Otherwise only the order counts: after all filters of the chain that come before it.
    pub priority: bool,
    /// The handle is the file's.
    pub handle: bool,
}

/// `[block.NAME.chains]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Index, as `goto` in tc uses it.
    pub index: u32,
    /// Name, or the index in digits.
    pub name: String,
}

/// Reads `path`, its drop-ins (`DIR/NAME.d/*.toml` beside `DIR/NAME.toml`, in byte order of their names, dot files
/// skipped) and the `TIDEGATE_*` variables of the environment.
///
/// # Errors
/// All mistakes found, in the order of the files and their lines.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    load_with(path, environment())
}

/// Like [`load`], with these variables instead of the environment's.
///
/// # Errors
/// All mistakes found, in the order of the files and their lines, then of the variables and their names.
pub fn load_with(path: &Path, vars: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigErrors> {
    load_beside(path, vars, &PortNumbers::default())
}

/// Like [`load_with`], for a gateway whose ports have these numbers.
///
/// # Errors
/// As [`load_with`].
pub fn load_beside(
    path: &Path,
    vars: impl Iterator<Item = (String, String)>,
    running: &PortNumbers,
) -> Result<Config, ConfigErrors> {
    let mut problems = Problems::default();
    let root = raw::read(path, vars, &mut problems);
    let mut config = resolve::resolve(root, running, &mut problems);
    config.warnings = problems.take_warnings();
    problems.finish(config)
}

/// The environment's variables.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
