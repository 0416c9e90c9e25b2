//! The control socket of a running gateway: the protocol, and a client for it.
//!
//! A filter is a table of the configuration file as JSON, in the same words. docs/control-socket.md describes every
//! message.
//!
//! ```no_run
//! use serde_json::json;
//! use tidegate_client::Client;
//!
//! let mut client = Client::connect("/run/tidegate/tidegate.sock")?;
//! let filter = json!({ "on": "wan", "match": { "ip_proto": "tcp", "dst_port": 23 }, "action": "drop" });
//! for added in client.add_filter(filter)? {
//!     println!("chain {} priority {} handle {:#x}", added.chain, added.priority, added.handle);
//! }
//! # Ok::<(), tidegate_client::ClientError>(())
//! ```
#![forbid(unsafe_code)]

pub mod client; // Client: one method a request; transactions, listings, events
pub mod error; // ClientError
pub mod frame; // messages on a stream of bytes
pub mod status; // Status: the gateway's account of itself
pub mod totals; // Totals: what happened to the packets of a port
pub mod wire; // what the messages say

pub use client::{Client, Events, Listing, Pipeline, Transaction};
pub use error::ClientError;
