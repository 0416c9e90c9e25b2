use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{self, FilterKey, FilterSpec, KindName, KindSpec, Mode, U32Key, U32Node, U32Spec};
use tidegate_classifiers::verdict::Control;

use crate::support::*;

/// A locked kind: one word of the packet.
fn u32_filter(priority: u32) -> FilterSpec {
    let node = U32Node { keys: vec![U32Key { value: 1, mask: 0xff, ..U32Key::default() }], ..U32Node::default() };
    let spec = FilterSpec { kind: KindSpec::U32(U32Spec::Node(Box::new(node))), ..matchall(priority) };
    with(spec, &[gact(Control::Shot)])
}

/// Two threads add `specs` at once to an empty block, again and again; after each round, `check` sees the two answers and
/// the block, and leaves it empty.
fn race(plane: &Plane, block: &Arc<Block>, specs: [FilterSpec; 2], check: impl Fn([Result<u32, &'static str>; 2])) {
    jitter(plane);
    let rounds = times(3_000, 1_000_000);
    let barrier = Barrier::new(3);
    let answers = [const { Mutex::new(None) }; 2];
    thread::scope(|scope| {
        for (spec, answer) in specs.iter().zip(&answers) {
            let barrier = &barrier;
            scope.spawn(move || {
                for _ in 0..rounds {
                    barrier.wait();
                    let told = request::add_filter(block, spec);
                    *answer.lock().unwrap() = Some(told.map(|id| id.handle).map_err(|error| error.errno()));
                    barrier.wait();
                }
            });
        }
        for _ in 0..rounds {
            barrier.wait();
            barrier.wait();
            check([0, 1].map(|who: usize| answers[who].lock().unwrap().take().expect("it was answered")));
            assert_eq!(request::list_chains(block), []);
            plane.reaper().drain();
            assert_eq!(plane.live(), LiveCounts { blocks: 1, ..LiveCounts::default() });
        }
    });
}

/// [KR-1], [TP-6], [TP-7], [TP-8], [CC-1], [NT-4]: who loses the race gives the chain back once, not twice.
#[test]
fn a_chain_that_two_adds_create_vanishes_exactly_once() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    let subscription = plane.subscribe(100);
    race(&plane, &block, [flower(1, 1), flower(1, 2)], |answers| {
        let mut given = answers.map(|answer| answer.expect("both adds succeed"));
        given.sort_unstable();
        assert_eq!(given, [1, 2]);
        assert_eq!(handles(&block, 1), [1, 2]);
        request::delete_filter(&block, FilterKey::priority(0, 1)).unwrap();
        assert_eq!(told(&subscription), ["+chain 0", "+filter ", "+filter ", "-proto 1", "-chain 0"]);
    });
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-2], [TP-9], [TP-10], [CC-2]: whoever of the two makes the proto, the one that fails leaves the other's filter there.
#[test]
fn the_filter_of_the_add_that_succeeds_is_there() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    race(&plane, &block, [flower(1, 1), with(flower(1, 2), &[MISSING])], |[good, bad]| {
        assert_eq!(bad, Err("EINVAL"));
        assert_eq!(handles(&block, 1), [good.expect("nothing is wrong with it")]);
        request::delete_filter(&block, FilterKey::priority(0, 1)).unwrap();
    });
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-3], [TP-10], [TP-16], [CC-3], [ER-40]: when both fail nothing is left of proto and chain, in whatever order.
#[test]
fn nothing_is_left_of_two_adds_that_fail() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    let subscription = plane.subscribe(100);
    race(&plane, &block, [with(flower(1, 1), &[MISSING]), with(flower(1, 2), &[MISSING])], |answers| {
        assert_eq!(answers, [Err("EINVAL"); 2]);
        assert_eq!(told(&subscription), [""; 0], "nobody saw anything");
    });
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-2], [TP-9], [TP-10], [CC-2]: who adopts a proto and then fails does not take it away from its filters.
///
/// Guard, the three states of `Obtained`: if `clean_up` takes `Adopted` for `Created` and removes the proto without the test for
/// emptiness (`retire` and `unlink` in the place of `remove_if_empty`), the winner's filter is gone.
#[test]
fn an_add_that_loses_and_fails_leaves_the_winner_alone() {
    let losers =
        [with(flower(1, 2), &[MISSING]), FilterSpec { protocol: 0x0800, ..flower(1, 2) }, matchall(1), u32_filter(1)];
    for winner in [flower(1, 1), matchall(1), u32_filter(1)] {
        for loser in &losers {
            if winner.kind.name() == KindName::U32 && loser.kind.name() == KindName::U32 {
                continue; // of two that hold the global lock, none is faster
            }
            let plane = Plane::standalone(1);
            let block = plane.private_block();
            let gates = Gates::of(&plane);
            gates.shut("bob", Point::ProtoBuilt);
            thread::scope(|scope| {
                let bob = spawn(scope, "bob", || request::add_filter(&block, loser));
                gates.wait_for("bob", Point::ProtoBuilt);
                request::add_filter(&block, &winner).unwrap();
                gates.open("bob", Point::ProtoBuilt);
                bob.join().unwrap().unwrap_err();
            });
            let alone = Plane::standalone(1).private_block();
            request::add_filter(&alone, &winner).unwrap();
            assert_eq!(request::dump(&block), request::dump(&alone), "{winner:?} beside {loser:?}");
            drop(block);
            assert_nothing_left(&plane);
        }
    }
}

/// [KR-3], [TP-10], [TP-16], [CC-3], [ER-40]: creator and adopter both fail, in either order; then the priority is free.
///
/// Guard: without `|| proto.kind().unlocked()` in `Obtained::clean_up`, the empty proto stays when the creator fails first.
#[test]
fn no_empty_proto_is_left_when_creator_and_adopter_fail() {
    for first in ["ann", "bob"] {
        let plane = Plane::standalone(1);
        let block = plane.private_block();
        let gates = Gates::of(&plane);
        for who in ["ann", "bob"] {
            gates.shut(who, Point::HandleReserved);
        }
        thread::scope(|scope| {
            let mut both = Vec::new();
            for (who, address) in [("ann", 1), ("bob", 2)] {
                let spec = with(flower(1, address), &[MISSING]);
                both.push(spawn(scope, who, || request::add_filter(&block, &{ spec })));
                gates.wait_for(who, Point::HandleReserved);
            }
            let second = if first == "ann" { "bob" } else { "ann" };
            for who in [first, second] {
                gates.open(who, Point::HandleReserved);
                let at = usize::from(who == "bob");
                assert!(soon(|| both[at].is_finished()));
            }
            both.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().unwrap_err().errno(), "EINVAL"));
        });
        assert_eq!(request::list_chains(&block), []);
        request::add_filter(&block, &FilterSpec { protocol: 0x0800, ..matchall(1) }).expect("the priority is free");
        drop(block);
        assert_nothing_left(&plane);
    }
}

/// [CC-3], [TP-13] (g), [TP-16]: the creator fails while an adopter is on its way; the adopter's filter is there.
///
/// Guard: with `filters.is_empty()` instead of `handles.is_empty()` in `Roster::retire_if_empty`, the proto goes under bob's feet.
#[test]
fn an_adopter_succeeds_though_the_creator_fails() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    let gates = Gates::of(&plane);
    gates.shut("ann", Point::HandleReserved);
    gates.shut("bob", Point::BeforeCommit);
    thread::scope(|scope| {
        let ann = spawn(scope, "ann", || request::add_filter(&block, &with(flower(1, 1), &[MISSING])));
        gates.wait_for("ann", Point::HandleReserved);
        let bob = spawn(scope, "bob", || request::add_filter(&block, &flower(1, 2)));
        gates.wait_for("bob", Point::BeforeCommit);
        gates.open("ann", Point::HandleReserved);
        ann.join().unwrap().unwrap_err();
        gates.open("bob", Point::BeforeCommit);
        bob.join().unwrap().unwrap();
    });
    assert_eq!(handles(&block, 1), [2], "handle 1 was reserved when bob asked");
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-4], [TP-17], [CC-22], [UL-3]: requests for an unlocked kind meet protos of a locked one and drop their last references.
/// That locked kinds are used under the global lock only is asserted by the implementation in debug builds.
#[test]
fn locked_and_unlocked_kinds_share_a_priority() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    jitter(&plane);
    let rounds = times(1_500, 200_000);
    together(4, |n| {
        for round in 0..rounds {
            let added = match n % 2 {
                0 => request::add_filter(&block, &flower(1, u64::from(round) * 4 + n as u64)),
                _ => request::add_filter(&block, &u32_filter(1)),
            };
            assert!(added.is_ok() || added.unwrap_err().errno() == "EINVAL", "{added:?}");
            let key =
                if fastrand::bool() { FilterKey::priority(0, 1) } else { key(0, 1, added.map_or(1, |id| id.handle)) };
            let deleted = request::delete_filter(&block, key);
            assert!(deleted.is_ok() || deleted.unwrap_err().errno() == "ENOENT", "{deleted:?}");
        }
    });
    let _ = request::delete_filter(&block, FilterKey::chain(0));
    assert_eq!(request::list_chains(&block), []);
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-5], [KR-6], [TP-4], [TP-14], [CC-13]: while a proto is being destroyed, an equal one is not created; an add that built
/// one in vain does not let others through.
///
/// Guard, the destroy registry: without the test of `is_dying` in `obtain`, both adds are through while the old proto is at
/// `Unlinked`.
#[test]
fn an_equal_proto_waits_until_its_predecessor_is_destroyed() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    let named = |name: &str, address| FilterSpec { name: name.into(), ..flower(1, address) };
    request::add_filter(&block, &named("old", 1)).unwrap();
    request::add_filter(&block, &FilterSpec { protocol: 0x0800, ..flower(2, 1) }).unwrap(); // the chain stays
    let subscription = plane.subscribe(100);
    let gates = Gates::of(&plane);
    gates.shut("ann", Point::Unlinked);
    gates.shut("bob", Point::ProtoBuilt);
    thread::scope(|scope| {
        let delete =
            || request::delete_filter(&block, FilterKey { kind: Some(KindName::Flower), ..FilterKey::priority(0, 1) });
        let ann = spawn(scope, "ann", delete);
        gates.wait_for("ann", Point::Unlinked);
        let bob = spawn(scope, "bob", || request::add_filter(&block, &named("bob's", 1)));
        gates.wait_for("bob", Point::ProtoBuilt);
        gates.open("bob", Point::ProtoBuilt);
        gates.wait_for_passes("bob", Point::Replay, 2);
        let cat = spawn(scope, "cat", || request::add_filter(&block, &named("cat's", 2)));
        a_while();
        assert!(!bob.is_finished() && !cat.is_finished(), "the predecessor is still being destroyed");
        assert_eq!(told(&subscription), ["-proto 1"]);
        gates.open("ann", Point::Unlinked);
        ann.join().unwrap().unwrap();
        bob.join().unwrap().expect("bob's add succeeds in the end");
        cat.join().unwrap().expect("cat's add succeeds in the end");
    });
    assert_eq!(handles(&block, 1), [1, 2]);
    drop(block);
    assert_nothing_left(&plane);
}

/// [TP-14]: a proto of another protocol need not wait for its predecessor, whose filters are still in the chain's index, and is not
/// refused because of them. With the index asked by priority alone (`Place::is_beside`) the add ends with EEXIST.
#[test]
fn a_proto_of_another_protocol_does_not_meet_the_filters_of_its_predecessor() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    request::add_filter(&block, &FilterSpec { protocol: 0x0800, ..matchall(1) }).unwrap();
    request::add_filter(&block, &matchall(2)).unwrap(); // the chain stays
    let gates = Gates::of(&plane);
    gates.shut("ann", Point::Unlinked);
    thread::scope(|scope| {
        let ann = spawn(scope, "ann", || request::delete_filter(&block, FilterKey::priority(0, 1)));
        gates.wait_for("ann", Point::Unlinked);
        request::add_filter(&block, &FilterSpec { protocol: 0x86dd, ..matchall(1) }).unwrap();
        gates.open("ann", Point::Unlinked);
        ann.join().unwrap().unwrap();
    });
    assert_eq!(handles(&block, 1), [1]);
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-8], [TP-12], [RP-1], [RP-3], [RP-5]: the priority goes away before each commit, 50 times in a row; each attempt begins
/// anew, and leaves nothing.
#[test]
fn an_add_is_replayed_as_often_as_its_proto_goes_away() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    let gates = Gates::of(&plane);
    let subscription = plane.subscribe(1_000);
    let wanted = FilterSpec { name: "wanted".into(), ..with(flower(1, 1), &[gact(Control::Shot).numbered(7)]) };
    gates.shut("ann", Point::HandleReserved);
    thread::scope(|scope| {
        let ann = spawn(scope, "ann", || request::add_filter(&block, &wanted));
        for _ in 0..50 {
            gates.wait_for("ann", Point::HandleReserved);
            request::add_filter(&block, &FilterSpec { handle: 99, ..flower(1, 2) }).unwrap();
            gates.shut("ann", Point::BeforeCommit);
            gates.open("ann", Point::HandleReserved);
            gates.wait_for("ann", Point::BeforeCommit);
            let key = FilterKey { kind: Some(KindName::Flower), ..FilterKey::priority(0, 1) };
            request::delete_filter(&block, key).unwrap();
            gates.shut("ann", Point::HandleReserved);
            gates.open("ann", Point::BeforeCommit);
        }
        gates.open("ann", Point::HandleReserved);
        ann.join().unwrap().expect("in the end nobody is in the way");
    });
    assert_eq!(gates.passes("ann", Point::Replay), 50);
    assert_eq!(told(&subscription).iter().filter(|event| *event == "+filter wanted").count(), 1, "[RP-3]");
    let action = request::get_action(&plane, tidegate_classifiers::request::ActionKind::Gact, 7).unwrap();
    assert_eq!((action.refs, action.binds), (1, 1), "attempts that failed hold nothing");
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-10], [PR-4], [CC-1]: nobody is refused because of a priority that it did not choose.
#[test]
fn automatic_priorities_of_many_at_once_are_all_different() {
    for _ in 0..times(20, 2_000) {
        let plane = Plane::standalone(1);
        let block = plane.private_block();
        jitter(&plane);
        let add = |n: usize| {
            let kind = [flower(0, 1), matchall(0)][n % 2].clone();
            let protocol = [0x0800, 0x86dd, 0x0806, 0x0003][n / 2 % 4];
            request::add_filter(&block, &FilterSpec { protocol, ..kind }).expect("there are enough priorities").priority
        };
        let mut priorities = together(32, add);
        priorities.sort_unstable();
        assert_eq!(priorities, (0xc000 - 31..=0xc000).collect::<Vec<_>>());
        drop(block);
        assert_nothing_left(&plane);
    }
}

/// [CC-4], [TP-15], [TP-16]: a filter that was added is there until somebody deletes it, also when the last other one goes in
/// the same moment.
#[test]
fn an_add_beside_the_deletion_of_the_last_filter_stays() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    jitter(&plane);
    for round in 0..times(2_000, 500_000) {
        let last = request::add_filter(&block, &flower(1, 1)).unwrap();
        let results: Vec<Result<u32, RequestError>> = together(2, |n| match n {
            0 => request::delete_filter(&block, last).map(|()| 0),
            _ => request::new_filter(&block, &flower(1, 2), Mode::Add).map(|id| id.handle),
        });
        let handle = results[1].expect("an add is not refused");
        results[0].expect("the filter was there");
        assert_eq!(handles(&block, 1), [handle], "round {round}");
        request::delete_filter(&block, key(0, 1, handle)).unwrap();
        assert_eq!(request::list_chains(&block), []);
    }
    drop(block);
    assert_nothing_left(&plane);
}
