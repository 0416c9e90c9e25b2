//! The control plane, one rule after the other: life of chains and protos, filters, actions, events, bindings, listings and
//! deferred destruction; and the races of two requests, each stopped where it matters.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod actions; // shared, indexed, standing alone
mod bindings; // shared blocks, head changes
mod chains; // life cycle, templates
mod events; // who is told what, in which order
mod filters; // new, replace, change, delete, get
mod listings; // pages and cursors
mod races; // two requests on one thing
mod reaper; // what workers may hold
mod support; // a block, specifications, and requests that can be stopped
