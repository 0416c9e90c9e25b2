//! The command line in the grammar of tc.
//!
//! Words become requests in the words of the control socket (`command`), listings become what tc prints, as text or
//! JSON (`printer`); neither knows of sockets. [`run()`] brings the two together with a gateway.
#![forbid(unsafe_code)]

mod action; // action drop index 7
mod arguments; // words, one by one; prefixes, numbers
mod chain; // tc chain: chains and templates
mod command; // Command: what is asked; options, objects
mod filter; // tc filter: where, which, and what kind
mod flower; // flower: match keys
mod fw; // fw: the packet's mark
mod import; // what tc listed elsewhere, as filters of a file
mod matchall; // matchall: every packet
mod monitor; // tc monitor: what happens, as it happens
mod printer; // Printer: text or JSON, one field at a time
mod qdisc; // tc qdisc, tc class: hooks of ports
mod run; // run: a command line, or a batch of them
mod u32; // u32: words of the packet

pub use import::import;
pub use run::{Streams, run};

#[cfg(test)]
mod tests;
