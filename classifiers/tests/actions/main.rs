//! Kinds of actions beside plain evaluators of what they do.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod police; // buckets beside exact arithmetic; shared by threads
mod support; // a block with one list of actions, and frames to try it with
