//! The appliance: ports, queues, workers, control socket. The binary `tidegate` only wires it.
#![deny(unsafe_code)]
// The plane, its blocks and their locks make a deep type: rustdoc asks whether all of it is Send.
#![recursion_limit = "256"]

pub mod apply; // running blocks become what a configuration wants, at one instant
pub mod control; // the control socket: requests in, replies out
pub mod counters; // Counters: what happened to packets, one writer a slot
pub mod cpu; // which core a worker runs on
pub mod demo; // `tidegate demo`
pub mod engine; // Engine: starts and stops ports, workers, control socket
pub mod error; // EngineError
pub mod forward; // applies a Verdict to the packet in hand
pub mod handover; // Handover: queues that come to a worker and leave it while it runs
pub mod idle; // what a worker does when no packet waits
pub mod lab; // Lab: namespaces and veth pairs for demo, tests and bench
pub mod log; // logs, to the journal or stderr
pub mod memory; // MemoryRings: Rings in plain memory
pub mod pcap; // packets in the form that tcpdump reads
pub mod port; // Ports: what every worker must know of a port
pub mod preview; // Preview: what a file would change on a running gateway
pub mod quiesce; // Bursts: "every worker has moved on"
pub mod reload; // Coordinator: the file's filters become those that run; Desk: where that is ordered
mod report; // the engine's account of itself
pub mod rings; // Rings: what a worker runs on
pub mod rules; // Rules: the configuration's blocks, bound to ports
pub mod samples; // Samples: packets shown to who listens to their group
mod site; // Site: the ports of the running gateway, opened and closed beside each other
pub mod table; // the status as tables for people
pub mod worker; // Worker: run_burst() is the hot path
pub mod xdp; // Hook: a port's gate, and its way to the host
#[allow(unsafe_code)]
pub mod xsk; // XskRings: the unsafe fence around AF_XDP
