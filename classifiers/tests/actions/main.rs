//! Kinds of actions beside plain evaluators of what they do.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod edits; // vlan, skbedit, csum, nat, pedit beside slow evaluators, and what later filters see of them
mod frames; // random frames
mod police; // buckets beside exact arithmetic; shared by threads
mod sample; // who is shown what
mod support; // a block with one list of actions, and frames to try it with
mod tunnel_key; // the tunnel of a packet beside a plain evaluator
