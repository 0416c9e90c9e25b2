//! The control socket, end to end, with filters but without packets: the real server and the real client, and clients that
//! are neither polite nor patient.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod events; // what subscribers see
mod hostile; // clients that hurt nobody but themselves
mod kit; // a service to talk to
mod parallel; // many clients at once
mod requests; // what requests do
mod sessions; // the examples of docs/control-socket.md
mod transactions; // begin, commit, abort
