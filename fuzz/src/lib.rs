//! Fuzzing of what reads other people's bytes: the file, the grammar of tc, the control socket; and of what packets meet whatever
//! filters come and go. Tests, and nothing else.
//!
//! Each target replays the inputs that are kept in `__fuzz__/NAME/corpus`, and some random ones, wherever tests run.
//! `./dev fuzz` has libFuzzer look for more of them. A package of its own: coverage is counted in the whole test binary and
//! all that is built for it, which then needs libFuzzer.
#![cfg(test)]
#![forbid(unsafe_code)]

mod bytes; // any bytes on a connection
mod file; // any file
mod filters; // any filters, in any order, and packets
mod grammar; // any lines of a batch of tc
mod messages; // any messages, without a gateway
mod requests; // any requests of two clients
mod site; // Site: a gateway without packets, left as it was found
