//! fw and u32: what packets experience, and what requests are told.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod fw; // marks and masks
mod support; // a block, and packets to try it with
mod u32; // tables, nodes, ids, links, one rule after the other
mod u32_oracle; // random tables and packets: the same answers as a plain evaluator
mod u32_threads; // beside other kinds, and beside traffic
