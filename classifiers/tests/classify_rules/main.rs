//! What packets experience and requests are told, rule by rule.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod flower; // mask groups, ranges, fragments, what is refused
mod oracle; // random filters and packets: the same answers as the naive evaluator
mod requests; // handles, priorities, the error catalogue, chains
mod statistics; // what is counted, and when
mod support; // a block, a world and packets to try them with
mod verdicts; // section 20, one by one
mod walk; // from proto to proto, from chain to chain
