use std::time::Instant;

use tidegate_classifiers::inject::Point;
use tidegate_classifiers::request::{
    FilterKey, FilterSpec, KindSpec, Mode, add_chain, add_filter, delete_chain, delete_filter, dump, get_filter,
    list_chains, new_filter,
};

use crate::support::*;

/// [TP-3], [TP-4], [TP-6], [TP-7], [TP-8], [CC-1], [KR-1]: the loser's proto and its chain reference go once.
#[test]
fn of_two_who_create_one_priority_the_slower_joins_the_faster() {
    let (plane, block) = block();
    let events = plane.subscribe(100);
    let stage = Stage::of(&plane);
    let (slow, fast) = stage.stopped(
        Point::ProtoBuilt,
        || add_filter(&block, &flower(4, 1, 1)),
        || add_filter(&block, &flower(4, 1, 2)),
    );
    assert_eq!((fast.unwrap().handle, slow.unwrap().handle), (1, 2));
    assert_eq!(listing(&block), [(4, 1, 1), (4, 1, 2)]);
    assert_eq!(plane.live().protos, 1);
    for handle in [1, 2] {
        delete_filter(&block, key(4, 1, handle)).unwrap();
    }
    assert_eq!(list_chains(&block), [0; 0]);
    let told = told(&events);
    assert_eq!(told.iter().filter(|it| *it == "+chain 4").count(), 1);
    assert_eq!(told.last().unwrap(), "-chain 4");
    drop(block);
    assert_nothing_lives(&plane);
}

/// [TP-5], [TP-9], [TP-10], [CC-2], [KR-2]: the loser, whose kind is another one, leaves the winner alone.
#[test]
fn a_loser_of_another_kind_is_refused_and_takes_nothing_with_it() {
    let (plane, block) = block();
    let stage = Stage::of(&plane);
    let (slow, fast) = stage.stopped(
        Point::ProtoBuilt,
        || add_filter(&block, &FilterSpec { protocol: 3, ..flower(0, 1, 1) }),
        || add_filter(&block, &matchall(0, 1)),
    );
    fast.unwrap();
    assert_eq!(slow.unwrap_err().errno(), "EINVAL");
    assert_eq!(dump(&block)[0].kind, "matchall");
    assert_eq!(plane.live().protos, 1);
}

/// [TP-10], [CC-3], [KR-3]: the creator fails while the adopter has a handle; then the adopter fails too.
#[test]
fn when_creator_and_adopter_fail_no_proto_stays() {
    for adopter_fails in [true, false] {
        let (plane, block) = block();
        let stage = Stage::of(&plane);
        stage.fail_at(Point::Committed); // not a step that can fail: see below
        let (creator, adopter) = stage.stopped(
            Point::HandleReserved,
            || add_filter(&block, &with_handle(8, flower(0, 1, 1))),
            || {
                let spec = if adopter_fails { FilterSpec { kind: bad(), ..flower(0, 1, 2) } } else { flower(0, 1, 2) };
                let adopter = add_filter(&block, &spec);
                stage.fail_at(Point::BeforeCommit);
                adopter
            },
        );
        assert_eq!(creator.unwrap_err().errno(), "ENOMEM");
        assert_eq!(adopter.is_err(), adopter_fails);
        assert_eq!(listing(&block), if adopter_fails { vec![] } else { vec![(0, 1, 1)] });
        plane.reaper().drain();
        assert_eq!(plane.live().protos, usize::from(!adopter_fails));
        let other = add_filter(&block, &FilterSpec { protocol: IPV6, ..flower(0, 1, 3) });
        assert_eq!(other.is_ok(), adopter_fails, "an empty proto would block the priority");
    }
}

/// A flower match that is refused.
fn bad() -> KindSpec {
    let mut spec = tcp_to(1);
    spec.dst_port_range = Some((5, 5));
    KindSpec::Flower(Box::new(spec))
}

/// [CH-9], [CC-7], [KR-12]: an add that stands before its commit while the chain is flushed does not lose its filter.
#[test]
fn an_add_beside_a_flush_is_there_afterwards() {
    let (plane, block) = block();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    let stage = Stage::of(&plane);
    let (added, flushed) = stage.stopped(
        Point::BeforeCommit,
        || add_filter(&block, &flower(0, 1, 2)),
        || delete_filter(&block, FilterKey::chain(0)),
    );
    flushed.unwrap();
    assert_eq!(added.unwrap().handle, 1, "in a new proto");
    assert!(stage.passed(Point::Replay) > 0); // [RP-1], [RP-2]
    assert_eq!(listing(&block), [(0, 1, 1)]);
    assert_eq!(plane.live().protos, 1);
}

/// [CH-10], [TP-11], [RP-5]: and one that has built its proto does not list it in a chain that is being flushed.
#[test]
fn an_add_beside_a_flush_of_an_explicit_chain_comes_after_it() {
    let (plane, block) = block();
    add_chain(&block, 2).unwrap();
    add_filter(&block, &flower(2, 5, 1)).unwrap();
    let stage = Stage::of(&plane);
    let started = Instant::now();
    let (added, flushed) = stage.stopped(
        Point::ProtoBuilt,
        || add_filter(&block, &flower(2, 1, 2)),
        || delete_filter(&block, FilterKey::chain(2)),
    );
    flushed.unwrap();
    added.unwrap();
    assert!(started.elapsed() < SOON); // [KR-11]
    assert_eq!(stage.passed(Point::Replay), 1);
    assert_eq!(listing(&block), [(2, 1, 1)]);
}

/// [CC-8]: the chain is there again, implicit, without template.
#[test]
fn an_add_beside_a_chain_delete_makes_the_chain_anew() {
    let (plane, block) = block();
    add_chain(&block, 2).unwrap();
    let events = plane.subscribe(100);
    let stage = Stage::of(&plane);
    let (added, deleted) =
        stage.stopped(Point::BeforeCommit, || add_filter(&block, &flower(2, 1, 1)), || delete_chain(&block, 2));
    deleted.unwrap();
    added.unwrap();
    assert_eq!(told(&events), ["-chain 2", "+chain 2", "Add 2:1:1"]); // [NT-5]
    delete_filter(&block, key(2, 1, 1)).unwrap();
    assert_eq!(list_chains(&block), [0; 0]);
}

/// [TP-14], [CC-13], [KR-5], [KR-6]: a private proto that is discarded meanwhile does not end the wait.
#[test]
fn a_priority_comes_back_only_after_its_predecessor_is_destroyed() {
    let (plane, block) = block();
    let events = plane.subscribe(100);
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    let stage = Stage::of(&plane);
    std::thread::scope(|scope| {
        let (deleted, added) = stage.stopped(
            Point::Unlinked,
            || delete_filter(&block, key(0, 1, 1)),
            || {
                let added = scope.spawn(|| add_filter(&block, &flower(0, 1, 2)));
                std::thread::sleep(std::time::Duration::from_millis(50));
                assert!(!added.is_finished(), "the old one is still being destroyed");
                assert!(stage.passed(Point::Replay) > 0);
                added
            },
        );
        deleted.unwrap();
        added.join().unwrap().unwrap();
    });
    let told = told(&events);
    assert_eq!(told[1], "Add 0:1:1");
    assert_eq!(told[2], "-0:1:1");
    assert_eq!(told.last().unwrap(), "Add 0:1:1");
    assert_eq!(listing(&block), [(0, 1, 1)]);
}

/// [TP-15], [TP-16], [CC-4], [CC-24]: a handle that is reserved keeps the proto.
#[test]
fn a_proto_does_not_go_while_a_filter_is_being_built() {
    let (plane, block) = block();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    let stage = Stage::of(&plane);
    let (added, ()) = stage.stopped(
        Point::BeforeCommit,
        || add_filter(&block, &flower(0, 1, 2)),
        || {
            assert_eq!(errno(get_filter(&block, key(0, 1, 2))), "ENOENT"); // [FO-3], [KR-33]
            assert_eq!(errno(delete_filter(&block, key(0, 1, 2))), "ENOENT");
            delete_filter(&block, key(0, 1, 1)).unwrap();
            assert_eq!(listing(&block), []);
        },
    );
    assert_eq!(added.unwrap().handle, 2);
    assert_eq!(stage.passed(Point::Replay), 0, "the proto stayed");
    assert_eq!(listing(&block), [(0, 1, 2)]);
}

/// [FO-4], [CC-11], [KR-41]
#[test]
fn of_two_who_want_one_handle_one_gets_it() {
    for (mode, expected) in [(Mode::Add, Err("EEXIST")), (Mode::Replace, Ok(3))] {
        let (plane, block) = block();
        let stage = Stage::of(&plane);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let (first, second) = stage.stopped(
                Point::BeforeCommit,
                || new_filter(&block, &with_handle(3, flower(0, 1, 1)), mode),
                || {
                    let second = scope.spawn(|| new_filter(&block, &with_handle(3, flower(0, 1, 2)), mode));
                    while stage.passed(Point::Replay) == 0 {
                        assert!(started.elapsed() < SOON);
                        std::thread::yield_now();
                    }
                    second
                },
            );
            first.unwrap();
            let second = second.join().unwrap();
            assert_eq!(second.map(|id| id.handle).map_err(|error| error.errno()), expected);
        });
        assert_eq!(listing(&block), [(0, 1, 3)]);
    }
}

/// [CC-10], [KR-35]: the delete is not told that there was nothing, and the replacement not that it worked on nothing.
#[test]
fn replace_and_delete_of_one_handle_come_one_after_the_other() {
    for (mode, expected) in [(Mode::Change, Err("ENOENT")), (Mode::Replace, Ok(1))] {
        let (plane, block) = block();
        add_filter(&block, &flower(0, 1, 1)).unwrap();
        add_filter(&block, &flower(0, 1, 9)).unwrap();
        let stage = Stage::of(&plane);
        let (replaced, deleted) = stage.stopped(
            Point::BeforeCommit,
            || new_filter(&block, &with_handle(1, flower(0, 1, 2)), mode),
            || delete_filter(&block, key(0, 1, 1)),
        );
        deleted.unwrap();
        assert_eq!(replaced.map(|id| id.handle).map_err(|error| error.errno()), expected);
        assert_eq!(listing(&block).len(), 1 + usize::from(expected.is_ok()));
    }
}

/// [PR-4], [KR-10]
#[test]
fn automatic_priorities_are_never_shared() {
    let (plane, block) = block();
    let stage = Stage::of(&plane);
    let (slow, fast) = stage.stopped(
        Point::ProtoBuilt,
        || add_filter(&block, &flower(0, 0, 1)),
        || add_filter(&block, &matchall(0, 0)),
    );
    assert_eq!((fast.unwrap().priority, slow.unwrap().priority), (49152, 49151));

    std::thread::scope(|scope| {
        for thread in 0..8_u16 {
            let block = &block;
            scope.spawn(move || {
                for i in 0..20 {
                    let spec = if i % 2 == 0 { matchall(1, 0) } else { flower(1, 0, thread) };
                    add_filter(block, &spec).unwrap();
                }
            });
        }
    });
    let mut priorities: Vec<_> = listing(&block).iter().filter(|id| id.0 == 1).map(|id| id.1).collect();
    priorities.dedup();
    assert_eq!(priorities.len(), 160);
}

/// [CC-5], [KR-73]
#[test]
fn of_two_deletes_one_succeeds() {
    let (plane, block) = block();
    for port in 1..=500 {
        add_filter(&block, &flower(0, 1, port)).unwrap();
    }
    let deleted: usize = std::thread::scope(|scope| {
        let delete = || (1..=500).filter(|&handle| delete_filter(&block, key(0, 1, handle)).is_ok()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(delete)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(deleted, 500);
    drop(block);
    assert_nothing_lives(&plane);
}

/// [RP-4], [RP-5]: no spinning for ever; the client is told EBUSY.
#[test]
fn a_request_that_makes_no_progress_for_10_s_is_given_up() {
    let (plane, block) = block();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    let stage = Stage::of(&plane);
    let started = Instant::now();
    let (first, second) = stage.stopped(
        Point::BeforeCommit,
        || add_filter(&block, &with_handle(3, flower(0, 1, 2))),
        || add_filter(&block, &with_handle(3, flower(0, 1, 3))),
    );
    assert_eq!(second.unwrap_err().errno(), "EBUSY");
    assert!((10..14).contains(&started.elapsed().as_secs()));
    first.unwrap();
}
