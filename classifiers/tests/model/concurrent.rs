use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use tidegate_classifiers::event::Event;
use tidegate_classifiers::request::{FilterInfo, Mode, Record};

use crate::ask::{Answer, Ask, Outcome};
use crate::generate::{ask_for_actions, ask_for_filters};
use crate::history::{self, History, Programme};
use crate::linearize::{self, Finding};

/// [CC-1], [CC-2], [CC-3], [CC-4], [CC-5], [CC-6], [CC-7], [CC-8], [CC-9], [CC-10], [CC-11], [CC-12], [CC-16], [CC-17],
/// [CC-24], [WK-6], [RP-3], [RP-5], [ER-36], [ER-40], [NT-5], [NT-6], [NT-8], [KR-1], [KR-2], [KR-3], [KR-8], [KR-11],
/// [KR-12], [KR-16], [KR-18], [KR-19], [KR-33], [KR-34], [KR-35], [KR-36], [KR-41], [KR-73], [KR-76]: whatever two to
/// four clients ask for at once, some order of their requests explains the answers, the listings and the end.
#[test]
fn some_order_explains_what_few_clients_are_told_about_filters() {
    explore("filters", ask_for_filters, 2..5, 3..6, seconds(6));
}

/// As above, with more clients.
#[test]
fn some_order_explains_what_eight_clients_are_told_about_filters() {
    explore("filters of many", ask_for_filters, 8..9, 1..4, seconds(4));
}

/// [CC-18], [CC-19], [AC-6], [AC-8], [AC-12], [KR-56], [KR-57], [KR-58]
#[test]
fn some_order_explains_what_clients_are_told_about_actions() {
    explore("actions", ask_for_actions, 2..5, 3..6, seconds(5));
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(if env::var_os("SOAK").is_some() { 600 } else { seconds })
}

/// Runs random programmes for a time. `MODEL_SEED` in the environment runs one programme many times instead.
fn explore<S: Strategy<Value = Ask> + 'static>(
    name: &str,
    ask: fn() -> S,
    threads: Range<usize>,
    requests: Range<usize>,
    time: Duration,
) {
    let seed = env::var("MODEL_SEED").ok().map(|seed| seed.parse::<u64>().expect("MODEL_SEED is a number"));
    let rounds = if seed.is_some() { 10_000 } else { 5 };
    let strategy = prop::collection::vec(prop::collection::vec(ask(), requests), threads);
    let begin = Instant::now();
    let (mut histories, mut too_large) = (0, 0);
    while begin.elapsed() < time {
        let seed = seed.unwrap_or_else(|| fastrand::u64(..));
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut tree = strategy.new_tree(&mut runner).expect("these strategies reject nothing");
        for round in 0..rounds {
            histories += 1;
            match judge(&tree.current(), seed.wrapping_add(round)) {
                Ok(large) => too_large += usize::from(large),
                Err(failure) => {
                    let failure = shrink(&mut tree, seed, failure);
                    panic!("{name}: no order explains this. MODEL_SEED={seed} runs its programme again.\n{failure}");
                }
            }
        }
    }
    eprintln!("{name}: {histories} histories, {too_large} too large to judge");
    assert!(too_large * 50 <= histories, "{too_large} of {histories} histories were too large to judge");
}

/// A smaller programme that fails too, within some time: a failure may need many rounds to show again.
fn shrink(tree: &mut dyn ValueTree<Value = Programme>, seed: u64, mut failure: String) -> String {
    let begin = Instant::now();
    let mut go_on = tree.simplify();
    while go_on && begin.elapsed() < Duration::from_secs(60) {
        let programme = tree.current();
        match (0..400).find_map(|round| judge(&programme, seed.wrapping_add(round)).err()) {
            Some(smaller) => {
                failure = smaller;
                go_on = tree.simplify();
            }
            None => go_on = tree.complicate(),
        }
    }
    failure
}

/// Runs a programme once. `true`: it could not be judged.
fn judge(programme: &Programme, seed: u64) -> Result<bool, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| history::run(programme, seed)));
    let history = ran.map_err(|_| format!("a panic in the programme\n{programme:#?}"))?;
    check_events(&history).map_err(|reason| format!("{reason}\n{history}"))?;
    match linearize::check(&history) {
        Finding::Explained => Ok(false),
        Finding::TooLarge => Ok(true),
        Finding::Impossible(reason) => Err(format!("{reason}\n\nHistory:\n{history}")),
    }
}

/// Who follows the events knows what is there [NT-5].
fn check_events(history: &History) -> Result<(), String> {
    let mut chains: BTreeMap<u32, BTreeMap<(u32, u32), FilterInfo>> = BTreeMap::new();
    for event in &history.events {
        let wrong = |what: &str| Err(format!("{what}: {event:?}"));
        match event {
            Event::ChainAdded { chain, .. } => match chains.insert(*chain, BTreeMap::new()) {
                None => {}
                Some(_) => return wrong("a chain that is there is added"),
            },
            Event::ChainDeleted { chain, .. } => match chains.remove(chain) {
                Some(filters) if filters.is_empty() => {}
                _ => return wrong("a chain is deleted that is not there, or not empty"),
            },
            Event::FilterAdded { mode, filter, .. } => {
                let Some(filters) = chains.get_mut(&filter.chain) else { return wrong("a filter in no chain") };
                let new = FilterInfo { actions: Vec::new(), ..filter.clone() };
                let old = filters.insert((filter.priority, filter.handle), new);
                match (mode, old) {
                    (Mode::Add, Some(_)) => return wrong("a filter that is there is added"),
                    (Mode::Change, None) => return wrong("a filter that is not there is changed"),
                    _ => {}
                }
            }
            Event::FilterDeleted { filter, .. } => {
                let gone = chains.get_mut(&filter.chain).and_then(|it| it.remove(&(filter.priority, filter.handle)));
                if gone != Some(FilterInfo { actions: Vec::new(), ..filter.clone() }) {
                    return wrong("a filter is deleted that is not there as it is told");
                }
            }
            Event::ProtoDeleted { proto, .. } => {
                let Some(filters) = chains.get_mut(&proto.chain) else { return wrong("a priority in no chain") };
                filters.retain(|&(priority, _), _| priority != proto.priority);
            }
            _ => {}
        }
    }
    let told: Vec<FilterInfo> = chains.into_values().flat_map(BTreeMap::into_values).collect();
    let mut there = filters_in(history.end.first().map(|(_, outcome)| outcome));
    there.sort_by_key(|filter| filter.chain);
    if told == there { Ok(()) } else { Err(format!("the events tell of\n{told:#?}\nbut there are\n{there:#?}")) }
}

fn filters_in(dump: Option<&Outcome>) -> Vec<FilterInfo> {
    let Some(Ok(Answer::Records(records))) = dump else { return Vec::new() };
    let filter = |record: &Record| match record {
        Record::Filter(filter) => Some(FilterInfo { actions: Vec::new(), ..filter.clone() }),
        Record::Proto(_) => None,
    };
    records.iter().filter_map(filter).collect()
}
