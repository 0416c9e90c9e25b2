//! Transactions: what their requests are told, what packets meet, and who is in whose way.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod support; // a plane with two workers, filters by number, packets

mod chains; // chains that come and go with a commit
mod commits; // what changes at one instant, and what does not
mod conflicts; // plain requests and other transactions in the way
mod kinds; // two versions of a filter in each kind; priorities that change theirs
mod mixture; // packets beside commits, with real threads
mod model; // random requests, against a model
