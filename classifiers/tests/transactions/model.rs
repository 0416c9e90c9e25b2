//! Random requests, plain and of two transactions, against a model: rules are a map, a transaction is what it changes in it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::request::{FilterKey, FilterSpec, Mode, add_chain, delete_filter, new_filter};
use tidegate_classifiers::transaction::{Conflict, Overtaken, Transaction};

use crate::support::*;

const PORTS: [u16; 4] = [80, 81, 82, 83];
const MARKS: [u32; 3] = [0, 1, 2];

#[derive(Clone, Debug)]
enum Request {
    New {
        priority: u32,
        handle: u32,
        kind: Kind,
        mode: Mode,
    },
    /// All of the priority for handle 0.
    Delete {
        priority: u32,
        handle: u32,
    },
    Flush,
}

/// What a filter looks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Flower { port: u16 },
    Matchall,
    Fw,
}

#[derive(Clone, Debug)]
enum Step {
    Plain(Request),
    /// Of a transaction, which begins if it is not open.
    Prepare(usize, Request),
    Commit(usize),
    Abort(usize),
}

/// Priority and handle.
type Place = (u32, u32);

/// What is at a place: what it looks for, and its number.
type Filter = (Kind, u16);

type Rules = BTreeMap<Place, Filter>;

/// An open transaction.
struct Open {
    tx: Transaction,
    changes: BTreeMap<Place, Option<Filter>>,
    /// What plain requests have overtaken for certain; there may be more.
    lost: BTreeSet<Place>,
}

fn request() -> impl Strategy<Value = Request> {
    let kind = prop_oneof![
        6 => prop::sample::select(&PORTS[..]).prop_map(|port| Kind::Flower { port }),
        1 => Just(Kind::Matchall),
        2 => Just(Kind::Fw),
    ];
    let mode = prop::sample::select(vec![Mode::Add, Mode::Add, Mode::Replace, Mode::Change]);
    prop_oneof![
        10 => (1..4_u32, 1..5_u32, kind, mode)
            .prop_map(|(priority, handle, kind, mode)| Request::New { priority, handle, kind, mode }),
        6 => (1..4_u32, 0..5_u32).prop_map(|(priority, handle)| Request::Delete { priority, handle }),
        1 => Just(Request::Flush),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => request().prop_map(Step::Plain),
        8 => (0..2_usize, request()).prop_map(|(who, request)| Step::Prepare(who, request)),
        2 => (0..2_usize).prop_map(Step::Commit),
        1 => (0..2_usize).prop_map(Step::Abort),
    ]
}

/// In CI and in the long form.
fn cases() -> u32 {
    if std::env::var_os("SOAK").is_some() { 20_000 } else { 200 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// [TX-1], [TX-3], [TX-4], [TX-6], [TX-7], [TX-8], [TX-9]
    #[test]
    fn transactions_are_changes_of_a_map(steps in prop::collection::vec(step(), 1..80)) {
        let rig = Rig::new();
        add_chain(&rig.block, 0).unwrap();
        let mut rules = Rules::new();
        let mut open: [Option<Open>; 2] = [None, None];
        for (n, step) in (1_u16..).zip(steps) {
            match step {
                Step::Plain(request) => plain(&rig, &mut rules, &mut open, &request, n),
                Step::Prepare(who, request) => prepare(&rig, &rules, &mut open, who, &request, n),
                Step::Abort(who) => drop(open[who].take()),
                Step::Commit(who) => {
                    if let Some(it) = open[who].take() {
                        let before = rig.burst();
                        let meets = met(&before);
                        open[who] = commit(it, &mut rules);
                        assert_eq!(met(&before), meets, "in a burst of before");
                    }
                }
            }
            check(&rig, &rules, &open);
        }
        drop(open);
        rig.next_burst();
        check(&rig, &rules, &[None, None]);
        rig.tear_down();
    }
}

fn plain(rig: &Rig, rules: &mut Rules, open: &mut [Option<Open>; 2], request: &Request, n: u16) {
    let before = rules.clone();
    let expected = serve(rules, request, n);
    assert_eq!(ask(rig, None, request, n), expected, "{request:?} to {before:?}");
    for it in open.iter_mut().flatten() {
        let in_the_way: Vec<Place> = match *request {
            Request::Flush => it.changes.keys().copied().collect(),
            // Another kind that the transaction gives the priority stays prepared.
            Request::Delete { priority, handle } => {
                let there = before.iter().find(|(at, _)| at.0 == priority).map(|(_, filter)| filter.0);
                let of_there = |change: &Option<Filter>| {
                    change.is_none_or(|(kind, _)| there.is_some_and(|there| same_kind(kind, there)))
                };
                let named = it.changes.iter().filter(|(at, _)| at.0 == priority && [0, at.1].contains(&handle));
                named.filter(|(_, change)| of_there(change)).map(|(at, _)| *at).collect()
            }
            Request::New { priority, handle, kind, .. } => {
                let clashes = |(&at, change): (&Place, &Option<Filter>)| {
                    let rival = change.is_some_and(|(other, _)| other == kind && kind != Kind::Fw);
                    let other_kind = change.is_some_and(|(other, _)| !same_kind(other, kind));
                    (at.0 == priority && (at.1 == handle || rival || other_kind)).then_some(at)
                };
                it.changes.iter().filter_map(clashes).collect()
            }
        };
        let certain = expected.is_ok() && *rules != before;
        let lost = if certain { in_the_way.clone() } else { Vec::new() };
        it.lost.extend(&lost);
        // A priority that the transaction made goes with whoever makes it, and so does what a refused request came upon.
        let perhaps = |at: &Place| {
            in_the_way.contains(at) || matches!(request, Request::New { priority, .. } if *priority == at.0)
        };
        let seen = seen(&prepared(&it.tx, &rig.block));
        let gone = |at: &Place, change: &Option<Filter>| {
            lost.contains(at) || perhaps(at) && seen.get(at).copied() != change.map(|(_, number)| number)
        };
        // What the transaction deletes there is of another kind, and is still deleted.
        let still_deletes = |at: &Place| rules.contains_key(at) && !seen.contains_key(at);
        let gone: Vec<Place> = it.changes.iter().filter(|(at, change)| gone(at, change)).map(|(at, _)| *at).collect();
        for at in gone {
            if still_deletes(&at) {
                it.changes.insert(at, None)
            } else {
                it.changes.remove(&at)
            };
        }
    }
}

fn prepare(rig: &Rig, rules: &Rules, open: &mut [Option<Open>; 2], who: usize, request: &Request, n: u16) {
    let begin = || Open { tx: rig.plane.begin(), changes: BTreeMap::new(), lost: BTreeSet::new() };
    let mut it = open[who].take().unwrap_or_else(begin);
    let other: BTreeMap<Place, Option<Filter>> = open[1 - who].iter().flat_map(|it| it.changes.clone()).collect();
    let mut will_be = view(rules, &it.changes);
    let seen_before = will_be.clone();
    let mut expected = serve(&mut will_be, request, n);
    let mut perhaps_busy = false;
    match *request {
        Request::New { priority, handle, kind, .. } => {
            let rival = |(at, change): (&Place, &Option<Filter>)| {
                at.0 == priority && change.is_some_and(|(other, _)| other == kind && kind != Kind::Fw)
            };
            if expected.is_ok() && (other.contains_key(&(priority, handle)) || other.iter().any(rival)) {
                expected = Err("EBUSY");
            }
            perhaps_busy = other.iter().any(|(at, change)| at.0 == priority && change.is_some());
        }
        // One after the other, up to the first that the other transaction has something to do with.
        Request::Delete { .. } | Request::Flush => {
            let gone: Vec<Place> = seen_before.keys().copied().filter(|at| !will_be.contains_key(at)).collect();
            if let Some(stop) = gone.iter().position(|at| other.contains_key(at)) {
                expected = Err("EBUSY");
                for at in &gone[..stop] {
                    it.changes.insert(*at, None);
                }
            }
        }
    }
    let answer = ask(rig, Some(&it.tx), request, n);
    assert!(answer == expected || perhaps_busy && answer == Err("EBUSY"), "{answer:?}, not {expected:?}: {request:?}");
    if answer.is_ok() {
        for at in seen_before.keys().chain(will_be.keys()) {
            let (before, after) = (seen_before.get(at), will_be.get(at));
            if before != after {
                it.changes.insert(*at, after.copied());
            }
        }
    }
    it.changes.retain(|at, change| change.is_some() || rules.contains_key(at)); // not what was prepared and taken back
    open[who] = Some(it);
}

/// What is still open after it.
fn commit(it: Open, rules: &mut Rules) -> Option<Open> {
    let Open { tx, changes, lost } = it;
    match tx.commit() {
        Ok(_) => {
            assert!(lost.is_empty(), "overtaken: {lost:?}");
            *rules = view(rules, &changes);
            None
        }
        Err(Conflict { transaction, overtaken }) => {
            let reported: BTreeSet<Place> = overtaken
                .iter()
                .map(|what| match what {
                    Overtaken::Filter { filter, .. } => (filter.priority, filter.handle),
                    Overtaken::Chain { .. } => panic!("the chain was there"),
                })
                .collect();
            assert!(lost.is_subset(&reported), "{lost:?} overtaken, {reported:?} reported");
            Some(Open { tx: transaction, changes, lost: BTreeSet::new() })
        }
    }
}

/// What a request makes of `rules`.
fn serve(rules: &mut Rules, request: &Request, n: u16) -> Result<(), &'static str> {
    match *request {
        Request::Flush => rules.clear(),
        Request::Delete { priority, handle: 0 } => {
            let before = rules.len();
            rules.retain(|at, _| at.0 != priority);
            if rules.len() == before {
                return Err("ENOENT");
            }
        }
        Request::Delete { priority, handle } => drop(rules.remove(&(priority, handle)).ok_or("ENOENT")?),
        Request::New { priority, handle, kind, mode } => {
            let mut others = rules.iter().filter(|(at, _)| at.0 == priority);
            if others.clone().any(|(_, (other, _))| !same_kind(*other, kind)) {
                return Err("EINVAL");
            }
            let there = rules.contains_key(&(priority, handle));
            if there && mode == Mode::Add {
                return Err("EEXIST");
            }
            if !there && mode == Mode::Change {
                return Err("ENOENT");
            }
            let taken = match kind {
                Kind::Fw => false,
                Kind::Matchall => others.next().is_some(),
                Kind::Flower { .. } => others.any(|(at, (other, _))| at.1 != handle && *other == kind),
            };
            if taken {
                return Err("EEXIST");
            }
            rules.insert((priority, handle), (kind, n));
        }
    }
    Ok(())
}

fn same_kind(a: Kind, b: Kind) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}

fn view(rules: &Rules, changes: &BTreeMap<Place, Option<Filter>>) -> Rules {
    let mut view = rules.clone();
    for (at, change) in changes {
        match change {
            Some(filter) => drop(view.insert(*at, *filter)),
            None => drop(view.remove(at)),
        }
    }
    view
}

/// The real thing.
fn ask(rig: &Rig, tx: Option<&Transaction>, request: &Request, n: u16) -> Result<(), &'static str> {
    let block = &rig.block;
    let delete = |key: FilterKey| match tx {
        Some(tx) => tx.delete_filter(block, key),
        None => delete_filter(block, key),
    };
    let result = match *request {
        Request::Flush => delete(FilterKey::chain(0)),
        Request::Delete { priority, handle } => delete(key(0, priority, handle)),
        Request::New { priority, handle: number, kind, mode } => {
            let spec: FilterSpec = match kind {
                Kind::Flower { port } => flower(0, priority, port, n),
                Kind::Matchall => matchall(0, priority, n),
                Kind::Fw => fw(0, priority, number, n),
            };
            let spec = handle(number, spec);
            match tx {
                Some(tx) => tx.new_filter(block, &spec, mode).map(drop),
                None => new_filter(block, &spec, mode).map(drop),
            }
        }
    };
    result.map_err(RequestError::errno)
}

fn seen(listing: &[(u32, u32, u32, u16)]) -> BTreeMap<Place, u16> {
    listing.iter().map(|&(_, priority, handle, number)| ((priority, handle), number)).collect()
}

/// Listings and packets show what the model says.
fn check(rig: &Rig, rules: &Rules, open: &[Option<Open>; 2]) {
    let numbers =
        |rules: &Rules| -> BTreeMap<Place, u16> { rules.iter().map(|(at, filter)| (*at, filter.1)).collect() };
    assert_eq!(seen(&listing(&rig.block)), numbers(rules));
    for it in open.iter().flatten() {
        assert_eq!(seen(&prepared(&it.tx, &rig.block)), numbers(&view(rules, &it.changes)));
    }
    let met = met(&rig.burst());
    let expected: Vec<u32> = packets().map(|(port, mark)| decide(rules, port, mark)).collect();
    assert_eq!(met, expected, "{rules:?}");
}

fn packets() -> impl Iterator<Item = (u16, u32)> {
    PORTS.into_iter().flat_map(|port| MARKS.map(|mark| (port, mark)))
}

fn met(burst: &Burst) -> Vec<u32> {
    let meet = |(port, mark)| {
        let mut packet = tcp(port);
        packet.set_mark(mark);
        burst.meet(&packet)
    };
    packets().map(meet).collect()
}

fn decide(rules: &Rules, port: u16, mark: u32) -> u32 {
    let fits = |(at, (kind, _)): &(&Place, &Filter)| match kind {
        Kind::Flower { port: wanted } => *wanted == port,
        Kind::Matchall => true,
        Kind::Fw => at.1 == mark,
    };
    rules.iter().find(fits).map_or(0, |(_, filter)| filter.1.into())
}
