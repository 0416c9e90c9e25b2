use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_classifiers::flow_key::SRC_MAC;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::plane::{Direction, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    self, ChainCursor, ChainSpec, Cursor, DumpFilter, FilterKey, FilterSpec, KindSpec, Mode, Record,
};
use tidegate_classifiers::verdict::Control;

use crate::support::*;

fn in_chain(chain: u32, spec: FilterSpec) -> FilterSpec {
    FilterSpec { chain, ..spec }
}

fn goto(chain: u32, spec: FilterSpec) -> FilterSpec {
    with(spec, &[gact(Control::Goto(chain))])
}

/// [KR-11], [CH-11], [RP-4]: a flushed chain that stays takes filters again, whoever else looks at it.
///
/// Guard: with `others == 0` instead of `others == usize::from(member.explicitly_created)` before `end_flush` in `Core::put`,
/// the add is given up after 10 s.
#[test]
fn a_flushed_explicit_chain_takes_filters_again() {
    for chain in [0, 5] {
        let plane = Plane::standalone(1);
        let block = plane.private_block();
        request::add_chain(&block, chain).unwrap();
        request::add_filter(&block, &in_chain(9, goto(chain, matchall(1)))).unwrap();
        for round in 0..3 {
            request::add_filter(&block, &in_chain(chain, matchall(1))).unwrap();
            request::add_filter(&block, &in_chain(chain, matchall(2))).unwrap();
            let mut cursor = Cursor::default();
            let only = DumpFilter { chain: Some(chain), ..DumpFilter::default() };
            request::dump_page(&block, &only, &mut cursor, 2).unwrap();
            request::delete_filter(&block, FilterKey::chain(chain)).unwrap();
            let begin = Instant::now();
            request::add_filter(&block, &in_chain(chain, matchall(3))).unwrap();
            assert!(begin.elapsed() < Duration::from_secs(1), "chain {chain}, round {round}");
            let rest = request::dump_page(&block, &only, &mut cursor, 9).unwrap();
            assert!(matches!(rest[..], [Record::Proto(_), Record::Filter(_)]), "the cursor goes on with 3: {rest:?}");
            request::delete_filter(&block, FilterKey::chain(chain)).unwrap();
        }
        drop(block);
        assert_nothing_left(&plane);
    }
}

/// [KR-12], [CH-9], [CC-7]: an add that is held before its commit while the chain is flushed comes after the flush.
///
/// Guard, `deleting` at the commit: without `if state.deleting` in `Roster::change`, after `build`, the add says Ok and the
/// filter is nowhere.
#[test]
fn an_add_that_a_flush_overtakes_is_there_afterwards() {
    let deletes: [fn(&std::sync::Arc<tidegate_classifiers::block::Block>) -> _; 3] = [
        |block| request::delete_filter(block, FilterKey::chain(0)),
        |block| request::delete_chain(block, 0),
        |block| request::delete_filter(block, FilterKey::priority(0, 1)),
    ];
    for delete in deletes {
        let plane = Plane::standalone(1);
        let block = plane.private_block();
        request::add_filter(&block, &FilterSpec { name: "old".into(), ..flower(1, 1) }).unwrap();
        let subscription = plane.subscribe(100);
        let gates = Gates::of(&plane);
        gates.shut("ann", Point::BeforeCommit);
        thread::scope(|scope| {
            let ann =
                spawn(scope, "ann", || request::add_filter(&block, &FilterSpec { name: "new".into(), ..flower(1, 2) }));
            gates.wait_for("ann", Point::BeforeCommit);
            delete(&block).unwrap();
            assert_eq!(request::dump(&block), []);
            gates.open("ann", Point::BeforeCommit);
            ann.join().unwrap().unwrap();
        });
        assert_eq!(gates.passes("ann", Point::Replay), 1);
        let names: Vec<_> = request::dump(&block).into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["new".into()]);
        let events = told(&subscription);
        let at =
            |event: &str| events.iter().position(|it| it == event).unwrap_or_else(|| panic!("{event} in {events:?}"));
        assert!(at("-proto 1") < at("+filter new"), "{events:?}");
        drop(block);
        assert_nothing_left(&plane);
    }
}

/// [CH-10], [CC-7], [CC-8], [RP-2]: while a chain is deleted, no priority is created in it; the add comes after the deletion, into
/// a chain that clients see.
///
/// Guard, the flushing check: without the second `is_flushing` in `obtain`, the one under the chain's lock, bob puts his proto
/// into the chain while it goes.
#[test]
fn no_priority_is_created_in_a_chain_that_goes() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    request::add_chain(&block, 0).unwrap();
    request::add_filter(&block, &flower(1, 1)).unwrap();
    let subscription = plane.subscribe(100);
    let gates = Gates::of(&plane);
    gates.shut("ann", Point::Unlinked);
    gates.shut("bob", Point::ProtoBuilt);
    thread::scope(|scope| {
        let bob =
            spawn(scope, "bob", || request::add_filter(&block, &FilterSpec { name: "bob's".into(), ..flower(2, 1) }));
        gates.wait_for("bob", Point::ProtoBuilt);
        let ann = spawn(scope, "ann", || request::delete_chain(&block, 0));
        gates.wait_for("ann", Point::Unlinked);
        gates.open("bob", Point::ProtoBuilt);
        let cat =
            spawn(scope, "cat", || request::add_filter(&block, &FilterSpec { name: "cat's".into(), ..flower(3, 1) }));
        a_while();
        assert!(!bob.is_finished() && !cat.is_finished(), "the chain is still being flushed");
        gates.open("ann", Point::Unlinked);
        ann.join().unwrap().unwrap();
        bob.join().unwrap().unwrap();
        cat.join().unwrap().unwrap();
    });
    assert_eq!(request::list_chains(&block), [0]);
    assert_eq!(request::dump(&block).len(), 2);
    let events = told(&subscription);
    assert_eq!(events[..3], ["-proto 1", "-chain 0", "+chain 0"]);
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-13], [CH-8]: each of 1,000 protos is destroyed once, with readers beside it.
#[test]
fn a_flush_destroys_every_proto_once() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    for _ in 0..times(3, 300) {
        for priority in 1..=1000 {
            request::add_filter(&block, &matchall(priority)).unwrap();
        }
        let subscription = plane.subscribe(2_000);
        together(3, |n| match n {
            0 => request::delete_filter(&block, FilterKey::chain(0)).unwrap(),
            _ => (1..=1000).for_each(|priority| drop(request::get_filter(&block, key(0, priority, 1)))),
        });
        assert_eq!(told(&subscription).len(), 1001, "a proto each, and the chain");
    }
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-16], [WK-6], [WK-7], [CH-14]: 50 chains, some hidden, others coming and going; in pages of one, those that stay are
/// listed once.
#[test]
fn a_chain_that_stays_is_listed_exactly_once() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    for n in 0..50 {
        // Chain n is hidden for now: only a goto holds it.
        request::add_filter(&block, &in_chain(1000, goto(n, matchall(n + 1)))).unwrap();
    }
    let stays: Vec<u32> = (0..50).filter(|n| n % 3 == 0).collect();
    stays.iter().for_each(|&n| request::add_chain(&block, n).unwrap());
    let done = AtomicBool::new(false);
    let rounds = times(300, 50_000);
    thread::scope(|scope| {
        for n in [1, 2] {
            let (block, done) = (&block, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let chain = fastrand::u32(0..16) * 3 + n;
                    request::add_chain(block, chain).unwrap();
                    request::add_filter(block, &in_chain(chain, flower(1, 1))).unwrap();
                    request::delete_chain(block, chain).unwrap();
                }
            });
        }
        for _ in 0..rounds {
            let (mut cursor, mut listed) = (ChainCursor::default(), Vec::new());
            while let [chain] = &request::dump_chains(&block, &mut cursor, 1)[..] {
                listed.push(chain.index);
                assert!(listed.len() < 10_000, "a listing without end");
            }
            let of_those: Vec<u32> = listed.iter().copied().filter(|n| stays.contains(n)).collect();
            assert_eq!(of_those, stays, "in order of creation, which is that of the gotos [CH-13]");
        }
        done.store(true, Ordering::Relaxed);
    });
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-18], [TM-6], [CH-6]: what a template demanded is forgotten with the chain, though gotos keep the object.
#[test]
fn a_template_does_not_outlive_its_chain() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    request::add_filter(&block, &in_chain(1, goto(5, matchall(1)))).unwrap();
    let KindSpec::Flower(template) = flower_masked(1, 0, 0xff).kind else { unreachable!("a flower") };
    for _ in 0..100 {
        let spec = ChainSpec { index: 5, template: Some(KindSpec::Flower(template.clone())) };
        request::add_chain(&block, spec).unwrap();
        assert_eq!(request::add_filter(&block, &in_chain(5, flower(1, 1))).unwrap_err().errno(), "EINVAL");
        request::add_filter(&block, &in_chain(5, flower_masked(1, 1, 0xf))).unwrap();
        request::delete_chain(&block, 5).unwrap();
        request::add_filter(&block, &in_chain(5, flower(1, SRC_MAC.max()))).unwrap();
        assert_eq!(request::get_chain(&block, 5).unwrap().template, None);
        request::delete_chain(&block, 5).unwrap();
        request::add_chain(&block, 5).unwrap();
        request::add_filter(&block, &in_chain(5, flower(1, 7))).unwrap();
        request::delete_chain(&block, 5).unwrap();
    }
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-19], [TM-5], [CC-17]: a filter is in a templated chain only if it fits, or if it was there before.
#[test]
fn no_misfit_slips_into_a_templated_chain() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    jitter(&plane);
    for round in 0..times(2_000, 500_000) {
        let results = together(2, |n| match n {
            0 => {
                let template = Some(flower_masked(1, 0, 0xff).kind);
                request::add_chain(&block, ChainSpec { index: 0, template }).map_err(|error| error.errno())
            }
            _ => request::add_filter(&block, &flower(1, 1)).map(drop).map_err(|error| error.errno()),
        });
        let expected = [[Ok(()), Err("EINVAL")], [Err("EEXIST"), Ok(())]];
        // The request for the chain may also meet one that the refused add has not given back yet, or see it go again.
        let both_refused = results == [Err("EEXIST"), Err("EINVAL")];
        assert!(!both_refused && expected.iter().any(|it| results == it), "round {round}: {results:?}");
        request::delete_chain(&block, 0).unwrap();
    }
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-29], [BL-7], [CC-14]: whoever binds a block that is just going gets a new one; adds succeed or find no block.
#[test]
fn a_shared_block_can_be_bound_again_at_once() {
    let plane = Plane::standalone(1);
    jitter(&plane);
    let hook = |port| Hook { port: PortId(port), direction: Direction::Ingress };
    let one = |n: u32| FilterSpec { handle: 1, ..flower(n + 1, 1) };
    let done = AtomicBool::new(false);
    let rounds = times(2_000, 500_000);
    thread::scope(|scope| {
        for n in 0..3 {
            let (plane, done) = (&plane, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let added = plane.block(7).and_then(|block| request::new_filter(&block, &one(n), Mode::Replace));
                    assert!(added.is_ok() || added.unwrap_err().errno() == "EINVAL", "{added:?}");
                }
            });
        }
        for round in 0..rounds {
            let binding = plane.bind(hook(1), 7, None).unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(plane.bind(hook(1), 8, None).unwrap_err().errno(), "EINVAL"); // [BL-6]
            request::new_filter(binding.block(), &one(9), Mode::Replace).expect("its block is alive");
            drop(binding);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(plane.block(7).unwrap_err().errno(), "EINVAL");
    assert_nothing_left(&plane);
}

/// [CC-14], [OBJ-2], [BL-8]: a request that is on its way when the last hook goes ends well, on a block that nobody sees.
#[test]
fn a_request_outlives_the_binding_of_its_block() {
    let plane = Plane::standalone(1);
    let hook = Hook { port: PortId(1), direction: Direction::Ingress };
    let binding = plane.bind(hook, 7, None).unwrap();
    let gates = Gates::of(&plane);
    gates.shut("ann", Point::BeforeCommit);
    thread::scope(|scope| {
        let block = plane.block(7).unwrap();
        let ann = spawn(scope, "ann", move || request::add_filter(&block, &flower(1, 1)));
        gates.wait_for("ann", Point::BeforeCommit);
        drop(binding);
        let again = plane.bind(hook, 7, None).expect("the hook is free, and so is the index or the block lives");
        gates.open("ann", Point::BeforeCommit);
        ann.join().unwrap().unwrap();
        drop(again);
    });
    assert_nothing_left(&plane);
}
