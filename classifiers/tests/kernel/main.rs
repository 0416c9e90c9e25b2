//! The kernel beside us: the same requests to the real `tc` and to ours, and the same packets through both.
//!
//! Needs root, `ip`, `tc` and a C compiler; works in a network namespace of its own. Which classifier and action kinds the
//! kernel has is found out: those it has not are left out, and printed.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod control; // random and hand-written scripts: the same answers, the same listings
mod generate; // random requests that meet
mod listing; // what both list, in the same words
mod netns; // a namespace with ports
mod packets; // random filters and packets: the same hits
mod request; // requests as data, for tc and for ours
mod tc; // the real tc, which says which errno it got

use netns::Netns;

/// A namespace, or nothing where tests cannot make one: then the test must end. In CI that is a failure.
fn namespace(name: &str) -> Option<Netns> {
    let made = Netns::new();
    if let Err(why) = &made {
        assert!(std::env::var_os("CI").is_none(), "{name}: {why}");
        eprintln!("{name}: not run: {why}");
    }
    made.ok()
}

/// A number from the environment: how much to do, and from which seed.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
