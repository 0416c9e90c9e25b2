//! End to end: the real binary between veth pairs, in namespaces made for each test. The stations at the far ends are
//! AF_XDP sockets, so frames are compared byte for byte, VLAN tags included. After each test the packet equation must
//! hold on every port.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod access; // who may use the control socket
mod actions; // every verdict of section 20, mirror and redirect, on the wire
mod edits; // actions that edit packets, and limits to a rate
mod faults; // carrier loss, deleted ports, restarts, kill -9, foreign programs
mod frames; // frames to send
mod host; // the pass list, `forward_to = "host"`, trap
mod kit; // Site, Gateway: what tests are made of
mod live; // filters and bindings that come and go while packets do
mod ports; // ports that come and go by reloads while others serve
mod reload; // one file or the next, never a mixture; trials; mistakes; signals
mod series; // files that packets tell apart
mod traffic; // VLAN tags, IPv6, fragments, jumbo frames, queues, both ways
