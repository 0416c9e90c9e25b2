//! Races, one a test, with two or three threads under shuttle: whatever the schedule, only allowed outcomes; all allowed
//! ones are seen. See [`explore::explore`] for how, and how to replay a schedule that failed.
//!
//! ```sh
//! cargo nextest run -p tidegate-classifiers --features shuttle --test interleavings    # SOAK=1 for 50 times as many
//! ```
//!
//! Each test names the property it keeps, the rules and known races, and the line whose removal makes it fail; each of
//! these was tried once.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod explore; // many schedules of one race, and what must hold after each
mod specs; // filters and packets

mod actions; // shared actions: delete, bind, replace
mod blocks; // bind and unbind beside requests
mod chains; // chain add, delete, flush and goto
mod deletes; // filters and priorities that go while others come
mod flow_caches; // flow caches beside requests
mod groups; // mask groups of flower
mod handles; // two requests that want one handle
mod protos; // two requests that create one priority
mod transactions; // commits beside packets, requests and each other
mod workers; // packets beside requests
