//! Programmes of several threads, run on the implementation, and what happened.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::event::Event;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::request::{ActionKind, DumpFilter};

use crate::ask::{Answer, Ask, Outcome, Slot, Subject, events};

/// What each thread asks for, in order.
pub(crate) type Programme = Vec<Vec<Ask>>;

/// A request that was served between two moments.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) thread: usize,
    pub(crate) ask: Ask,
    pub(crate) outcome: Outcome,
    /// Ticks of one clock for all threads: no two moments are alike.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// What happened, and what was there in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// In order of their beginnings.
    pub(crate) ops: Vec<Op>,
    pub(crate) events: Vec<Event>,
    pub(crate) end: Vec<(Ask, Outcome)>,
}

/// What a refused request says when a test made it fail in the middle.
pub(crate) const INJECTED: &str = "ENOMEM";

/// Runs `programme`, whose threads are slowed down at injection points, and some requests made to fail there, as `seed` says.
/// When all is over, nothing is left [KR-76].
pub(crate) fn run(programme: &Programme, seed: u64) -> History {
    let subject = Subject::new();
    let subscription = subject.plane.subscribe(100_000);
    let calls = AtomicU64::new(0);
    subject.plane.set_hook(Some(Arc::new(move |_| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        match fastrand::Rng::with_seed(seed ^ call.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u8(..) {
            0..120 => {}
            120..220 => thread::yield_now(),
            220..252 => thread::sleep(Duration::from_micros(20)),
            252.. => return Err(RequestError::NoMemory("injected")),
        }
        Ok(())
    })));
    let (clock, barrier) = (AtomicU64::new(0), Barrier::new(programme.len()));
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let mut ops = thread::scope(|scope| {
        let (subject, tick, barrier) = (&subject, &tick, &barrier);
        let serve = move |thread: usize, asks: &[Ask]| -> Vec<Op> {
            barrier.wait();
            let op = |ask: &Ask| {
                let start = tick();
                let outcome = subject.run(ask);
                Op { thread, ask: ask.clone(), outcome, start, end: tick() }
            };
            asks.iter().map(op).collect()
        };
        let threads: Vec<_> =
            programme.iter().enumerate().map(|(n, asks)| scope.spawn(move || serve(n, asks))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a request panicked")).collect::<Vec<_>>()
    });
    ops.sort_by_key(|op| op.start);
    subject.plane.set_hook(None);
    subject.plane.reaper().drain();
    let listings = [
        Ask::Dump(Slot::Private, DumpFilter::default(), 100),
        Ask::DumpChains(Slot::Private, 100),
        Ask::DumpActions(ActionKind::Gact, 100),
        Ask::DumpActions(ActionKind::Mirred, 100),
    ];
    let end = listings.map(|ask| (ask.clone(), subject.run(&ask))).into();
    let events = events(&subscription);
    let plane = subject.tear_down();
    assert_eq!(plane.live(), LiveCounts::default(), "objects left over");
    History { ops, events, end }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4}..{:<4} thread {}: {:?}\n            => ", self.start, self.end, self.thread, self.ask)?;
        match &self.outcome {
            Ok(Answer::Records(records)) => {
                writeln!(f, "{} records", records.len())?;
                records.iter().try_for_each(|record| writeln!(f, "               {record:?}"))
            }
            outcome => writeln!(f, "{outcome:?}"),
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ops.iter().try_for_each(|op| write!(f, "{op}"))?;
        self.events.iter().try_for_each(|event| writeln!(f, "event: {event:?}"))?;
        self.end.iter().try_for_each(|(ask, outcome)| writeln!(f, "in the end, {ask:?}\n            => {outcome:?}"))
    }
}
