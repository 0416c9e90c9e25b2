//! The control plane beside a sequential model of it: the same answers, listings and events, one request at a time; and
//! for concurrent requests, answers that some order of them explains.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod ask; // requests and answers as data, and their way to the implementation
mod concurrent; // requests of several clients at once
mod generate; // random requests that meet
mod history; // what several clients asked and were told
mod linearize; // whether an order explains a history
mod model; // what should happen
mod sequential; // one request after the other
