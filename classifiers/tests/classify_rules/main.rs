//! What packets experience and requests are told, rule by rule.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod chains; // their life, their templates
mod commits; // what is there at which moment, and who hears of it
mod errors; // the catalogue: which mistake is which error
mod flower; // mask groups, ranges, fragments, what is refused
mod global_lock; // who takes it, and what goes on beside it
mod hooks; // binding, and what hooks are told
mod locks; // which are held when, and by whom
mod objects; // who holds what
mod oracle; // random filters and packets: the same answers as the naive evaluator
mod packets; // verdicts, counts, versions
mod release; // when memory goes
mod requests; // handles, priorities, the error catalogue, chains
mod stage; // requests in the middle of requests, workers that stand still
mod statistics; // what is counted, and when
mod support; // a block, a world and packets to try them with
mod survey; // what packets cost, by what chains hold
mod verdicts; // section 20, one by one
mod walk; // from proto to proto, from chain to chain
