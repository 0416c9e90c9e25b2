//! The kernel's half: an XDP program that gives each frame of a port to the host or to the AF_XDP socket of its queue,
//! and the way by which the gateway gives frames back to the host.
//!
//! The order is fixed by what drivers ask for and by what must not be lost:
//!
//! 1. [`Gate::attach`]: before sockets are bound, as zero-copy binds to queues that XDP already runs on;
//! 2. bind a socket to each queue, then [`Gate::set_socket`]: from here on frames arrive;
//! 3. [`HostPath::attach`] for each TAP, once it is up;
//! 4. to stop, [`Gate::detach`] first and close the sockets then, so that no frame goes to a socket that is going away.
#![deny(unsafe_code)]

mod counters; // GateCounters: frames by outcome
mod error; // GateError
mod gate; // Gate: load, attach, fill the maps, detach
mod host_path; // HostPath: frames written into a TAP are received on the port
mod link; // an XDP attachment that lives as long as its descriptor
mod occupant; // Occupant: what is attached to an interface already, and whose it is
mod owner; // Owner: the process that attached a program
mod pass; // PassList: what goes to the host
mod skeleton; // generated from the C programs

pub use counters::GateCounters;
pub use error::GateError;
pub use gate::{AttachMode, Gate, GateOptions, GenericPolicy, OnExit};
pub use host_path::HostPath;
pub use occupant::{Detached, detach_stale};
pub use pass::{Neighbours, PassList, Transport};

#[cfg(test)]
mod decision_tests; // the decision table, on the kernel's test run
