//! Races that went wrong in other hands, with real threads: some step by step, held at injection points, others by the
//! thousand. `SOAK=1` in the environment makes the long form of it.
//!
//! Debug builds check the order of locks and that no destructor runs under one [KR-73]: here in every test.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]
#![expect(clippy::cast_possible_truncation, reason = "threads and filters of a test are few")]

mod actions; // shared actions, found by index
mod chains; // flush, hidden chains, templates, rebinding
mod filters; // one handle, one mask group, many filters
mod flow_cache; // flow caches beside clients
mod index; // how packets find filters, while those come and go
mod load; // stalled workers, permanent flushers, everything at once
mod protos; // who creates, who adopts, who cleans up
mod support; // gates at injection points, small specifications
