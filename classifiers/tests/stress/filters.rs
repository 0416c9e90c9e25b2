use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{self, FilterId, FilterKey, FilterSpec, Mode};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::load::{Worker, frame_from};
use crate::support::*;

/// [KR-33], [FO-3], [CC-24]: who looks for a handle finds all of the filter or nothing, and cannot delete what is not there.
///
/// Guard, the reserved handle: if `Flower::reserve` looks into `filters` in the place of `handles.take` and `take_lowest`, the
/// second add here gets handle 1 too.
#[test]
fn a_filter_that_is_being_built_is_not_found() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    request::add_filter(&block, &FilterSpec { handle: 9, ..flower(1, 9) }).unwrap();
    let gates = Gates::of(&plane);
    for point in [Point::HandleReserved, Point::BeforeCommit] {
        gates.shut("ann", point);
        thread::scope(|scope| {
            let ann = spawn(scope, "ann", || request::add_filter(&block, &flower(1, 1)));
            gates.wait_for("ann", point);
            assert_eq!(request::get_filter(&block, key(0, 1, 1)).unwrap_err().errno(), "ENOENT");
            assert_eq!(request::delete_filter(&block, key(0, 1, 1)).unwrap_err().errno(), "ENOENT");
            assert_eq!(handles(&block, 1), [9]);
            assert_eq!(request::add_filter(&block, &flower(1, 2)).unwrap().handle, 2, "1 is reserved");
            gates.open("ann", point);
            assert_eq!(ann.join().unwrap().unwrap().handle, 1);
        });
        for handle in [1, 2] {
            request::delete_filter(&block, key(0, 1, handle)).unwrap();
        }
    }
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-33], as fast as possible: a filter is found with its name and all its actions.
#[test]
fn a_filter_is_found_whole_or_not_at_all() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    jitter(&plane);
    let done = AtomicBool::new(false);
    let rounds = times(3_000, 500_000);
    thread::scope(|scope| {
        for n in 0..2 {
            let (block, done) = (&block, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let found = request::get_filter(block, key(0, 1, 5)).ok();
                    for info in request::dump(block).into_iter().chain(found) {
                        assert_eq!((&*info.name, info.actions.len()), ("whole", 3));
                    }
                    if n == 0 {
                        let _ = request::delete_filter(block, key(0, 1, 5));
                    }
                }
            });
        }
        let actions = [gact(Control::Pipe), gact(Control::Pipe), gact(Control::Shot)];
        let spec = FilterSpec { name: "whole".into(), handle: 5, ..with(flower(1, 1), &actions) };
        for _ in 0..rounds {
            request::new_filter(&block, &spec, Mode::Replace).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-34], [FO-5], [ER-25]: a replacement that fails leaves the old filter where it was, matching as before.
#[test]
fn a_replacement_that_fails_leaves_the_old_filter() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    let old = with(FilterSpec { handle: 3, name: "old".into(), ..flower(1, 1) }, &[gact(Control::Shot)]);
    request::add_filter(&block, &old).unwrap();
    request::add_filter(&block, &flower(1, 2)).unwrap();
    let before = request::dump(&block);
    let replace = |spec: FilterSpec| request::new_filter(&block, &FilterSpec { handle: 3, ..spec }, Mode::Replace);
    assert_eq!(replace(flower_masked(1, 1, 0xff)).unwrap_err().errno(), "EINVAL"); // another mask
    assert_eq!(replace(flower(1, 2)).unwrap_err().errno(), "EEXIST"); // the other one's key
    assert_eq!(replace(with(flower(1, 3), &[MISSING])).unwrap_err().errno(), "EINVAL");
    let gates = Gates::of(&plane);
    for point in [Point::ProtoObtained, Point::HandleReserved, Point::BeforeCommit] {
        gates.fail("ann", point);
        thread::scope(|scope| {
            let ann = spawn(scope, "ann", || replace(with(flower(1, 3), &[gact(Control::Ok)])));
            assert_eq!(ann.join().unwrap().unwrap_err().errno(), "ENOMEM");
        });
        gates.allow("ann", point);
        assert_eq!(request::dump(&block), before);
    }
    let mut worker = Worker::new(&block);
    assert!(matches!(worker.send(&frame_from(1)), Verdict::Drop(_)));
    assert_eq!(worker.send(&frame_from(3)), Verdict::Pass);
    assert_eq!(request::add_filter(&block, &flower(1, 4)).unwrap().handle, 2, "3 is still taken");
    drop((worker, block));
    assert_nothing_left(&plane);
}

/// [KR-35], [OBJ-11], [CC-6], [CC-10], [FO-6]: a replacement that another one, or a deletion, overtakes begins anew.
///
/// Guard: without `old.is_deleted()` at the commit in `Roster::change`, the overtaken replacement releases the old filter's
/// action a second time.
#[test]
fn a_replacement_that_is_overtaken_begins_anew() {
    for (mode, deletes) in [(Mode::Replace, false), (Mode::Change, false), (Mode::Replace, true), (Mode::Change, true)]
    {
        let plane = Plane::standalone(1);
        let block = plane.private_block();
        request::add_filter(&block, &flower(1, 9)).unwrap(); // handle 1: the proto stays
        let of = |name: &str, address| {
            with(FilterSpec { handle: 3, name: name.into(), ..flower(1, address) }, &[gact(Control::Shot)])
        };
        request::add_filter(&block, &of("old", 1)).unwrap();
        let gates = Gates::of(&plane);
        gates.shut("ann", Point::BeforeCommit);
        let ann = thread::scope(|scope| {
            let ann = spawn(scope, "ann", || request::new_filter(&block, &of("ann's", 2), mode));
            gates.wait_for("ann", Point::BeforeCommit);
            if deletes {
                request::delete_filter(&block, key(0, 1, 3)).unwrap();
            } else {
                request::new_filter(&block, &of("bob's", 3), Mode::Replace).unwrap();
            }
            gates.open("ann", Point::BeforeCommit);
            ann.join().unwrap()
        });
        assert_eq!(gates.passes("ann", Point::Replay), 1);
        let there = request::get_filter(&block, key(0, 1, 3));
        match (mode, deletes) {
            (Mode::Change, true) => {
                assert_eq!(ann.unwrap_err().errno(), "ENOENT");
                assert_eq!(there.unwrap_err().errno(), "ENOENT");
            }
            _ => assert_eq!((ann.unwrap().handle, &*there.unwrap().name), (3, "ann's")),
        }
        assert_eq!(plane.live().actions, usize::from(!(deletes && mode == Mode::Change)));
        drop(block);
        assert_nothing_left(&plane);
    }
}

/// [CC-10]: a deletion that a replacement overtakes deletes the new filter.
#[test]
fn a_replaced_filter_can_always_be_deleted() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    jitter(&plane);
    let spec = FilterSpec { handle: 3, ..flower(1, 1) };
    for _ in 0..times(2_000, 500_000) {
        request::add_filter(&block, &spec).unwrap();
        together(2, |n| match n {
            0 => request::delete_filter(&block, key(0, 1, 3)).expect("the handle is there all the time"),
            _ => _ = request::new_filter(&block, &spec, Mode::Replace).unwrap(),
        });
        let _ = request::delete_filter(&block, key(0, 1, 3));
        assert_eq!(request::dump(&block), []);
    }
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-36], [CC-12], [FL-5], [DD-2]: a mask group comes and goes with its only member, from 8 threads, beside dumps.
#[test]
fn a_mask_group_comes_and_goes_with_its_only_member() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    jitter(&plane);
    request::add_filter(&block, &FilterSpec { handle: 100, ..flower(1, 1) }).unwrap(); // the proto stays
    let rounds = times(1_000, 200_000);
    together(9, |n| {
        let n = n as u32;
        for round in 0..rounds {
            if n == 8 {
                assert!(request::dump(&block).iter().any(|info| info.handle == 100));
                continue;
            }
            // Two masks, and a value each: every other thread shares the group.
            let spec =
                FilterSpec { handle: n + 1, ..flower_masked(1, u64::from(n) << 8, [0xff00, 0xfff00][n as usize % 2]) };
            request::add_filter(&block, &spec).unwrap_or_else(|error| panic!("thread {n}, round {round}: {error}"));
            request::delete_filter(&block, key(0, 1, n + 1)).unwrap();
        }
    });
    assert_eq!(handles(&block, 1), [100]);
    plane.reaper().drain();
    assert_eq!(plane.live().groups, 1);
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-41], [FO-4], [CC-11]: a handle that another request has reserved is waited for: then it is there, or free.
#[test]
fn a_handle_that_is_reserved_is_waited_for() {
    for (mode, bob_fails, expected) in [
        (Mode::Add, false, Err("EEXIST")),
        (Mode::Add, true, Ok("ann's")),
        (Mode::Replace, false, Ok("ann's")),
        (Mode::Replace, true, Ok("ann's")),
    ] {
        let plane = Plane::standalone(1);
        let block = plane.private_block();
        let gates = Gates::of(&plane);
        gates.shut("bob", Point::HandleReserved);
        let of = |name: &str, address| FilterSpec { handle: 5, name: name.into(), ..flower(1, address) };
        let spec = if bob_fails { with(of("bob's", 1), &[MISSING]) } else { of("bob's", 1) };
        let ann = thread::scope(|scope| {
            let bob = spawn(scope, "bob", || request::add_filter(&block, &spec));
            gates.wait_for("bob", Point::HandleReserved);
            let ann = spawn(scope, "ann", || request::new_filter(&block, &of("ann's", 2), mode));
            gates.wait_for_passes("ann", Point::Replay, 3);
            assert!(!ann.is_finished());
            gates.open("bob", Point::HandleReserved);
            assert_eq!(bob.join().unwrap().is_err(), bob_fails);
            ann.join().unwrap()
        });
        let name = ann.map(|id| request::get_filter(&block, id).unwrap().name).map_err(RequestError::errno);
        assert_eq!(name.as_deref().map_err(|&errno| errno), expected);
        drop(block);
        assert_nothing_left(&plane);
    }
}

/// [CC-11], [KR-41]: of many exclusive adds of one handle one succeeds; without EXCL, all do.
#[test]
fn one_handle_for_many_at_once() {
    for mode in [Mode::Add, Mode::Replace] {
        for _ in 0..times(150, 20_000) {
            let plane = Plane::standalone(1);
            let block = plane.private_block();
            jitter(&plane);
            let results =
                together(6, |n| request::new_filter(&block, &FilterSpec { handle: 5, ..flower(1, n as u64) }, mode));
            let succeeded = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(succeeded, if mode == Mode::Add { 1 } else { 6 }, "{results:?}");
            assert!(results.iter().flat_map(|result| result.err()).all(|error| error.errno() == "EEXIST"));
            assert_eq!(handles(&block, 1), [5]);
            drop(block);
            assert_nothing_left(&plane);
        }
    }
}

/// [KR-51], [FO-6], [WK-9]: a replacement takes the place of the object that has the handle, and of no other.
#[test]
fn a_replacement_is_about_the_handle_and_nothing_else() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    let replace =
        |handle, address| request::new_filter(&block, &FilterSpec { handle, ..flower(1, address) }, Mode::Replace);
    assert_eq!(replace(0, 1).unwrap().handle, 1);
    assert_eq!(replace(0, 2).unwrap().handle, 2, "0 is no handle: another filter");
    assert_eq!(replace(u32::MAX, 3).unwrap().handle, u32::MAX);
    assert_eq!(replace(u32::MAX, 4).unwrap().handle, u32::MAX);
    assert_eq!(replace(1, 4).unwrap_err().errno(), "EEXIST", "the key is another one's");
    assert_eq!(replace(1, 1).unwrap().handle, 1, "its own key is its own");
    assert_eq!(replace(2, 5).unwrap().handle, 2);
    assert_eq!(replace(0, 2).unwrap().handle, 3, "that key is free again");
    assert_eq!(handles(&block, 1), [1, 2, 3, u32::MAX]);
    let mut worker = Worker::new(&block);
    for address in 0..6 {
        worker.send(&frame_from(address));
    }
    let hits: Vec<_> = request::dump(&block).iter().map(|info| info.hits.packets).collect();
    assert_eq!(hits, [1, 1, 1, 1]);
    drop((worker, block));
    assert_nothing_left(&plane);
}

/// [KR-81], [DD-4], [ST-6]: a handle that is given out again begins with new counters, and stays without its predecessor's
/// packets, which go on arriving.
#[test]
fn a_handle_used_again_does_not_inherit_hits() {
    let quiescence = crate::load::Bursts::default();
    let plane = Plane::new(1, quiescence.clone());
    let block = plane.private_block();
    let done = AtomicBool::new(false);
    let rounds = times(2_000, 500_000);
    let spec = |address| with(FilterSpec { handle: 1, ..flower(1, address) }, &[gact(Control::Ok)]);
    request::add_filter(&block, &spec(1)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut worker = Worker::new(&block);
            while !done.load(Ordering::Relaxed) {
                quiescence.burst(|| worker.send_many(8, |_| frame_from(1)));
            }
        });
        for round in 0..rounds {
            request::delete_filter(&block, key(0, 1, 1)).unwrap();
            request::add_filter(&block, &spec(2)).unwrap(); // no packet has this address
            plane.reaper().poll();
            let info = request::get_filter(&block, key(0, 1, 1)).unwrap();
            assert_eq!((info.hits.packets, info.actions[0].hits.packets), (0, 0), "round {round}");
            request::delete_filter(&block, key(0, 1, 1)).unwrap();
            request::add_filter(&block, &spec(1)).unwrap();
            plane.reaper().poll();
        }
        done.store(true, Ordering::Relaxed);
    });
    drop(block);
    assert_nothing_left(&plane);
}

/// Each of 10 threads has its own range of handles.
fn own(thread: usize, each: u32) -> impl Iterator<Item = FilterSpec> {
    let first = thread as u32 * each + 1;
    (first..first + each).map(|handle| FilterSpec { handle, ..flower(1, handle.into()) })
}

fn add_all(block: &Arc<Block>, each: u32) {
    together(10, |thread| own(thread, each).for_each(|spec| put(block, &spec, Mode::Add)));
}

fn put(block: &Arc<Block>, spec: &FilterSpec, mode: Mode) {
    assert_eq!(
        request::new_filter(block, spec, mode).unwrap(),
        FilterId { chain: 0, priority: 1, handle: spec.handle }
    );
}

/// [CC-25], [CC-5], tdc e41d, 0c44, 14be, ab62, 6e8f: 10 threads, each with a range of handles, or all with the same; the counts
/// are exact.
#[test]
fn ten_threads_add_delete_and_replace_with_exact_counts() {
    let each = times(1_500, 100_000);
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    let count = || request::dump(&block).len() as u32;
    let delete = |spec: &FilterSpec| request::delete_filter(&block, key(0, 1, spec.handle));

    add_all(&block, each); // e41d
    assert_eq!(count(), 10 * each);

    together(10, |thread| own(thread, each).for_each(|spec| put(&block, &spec, Mode::Replace))); // 14be
    assert_eq!(count(), 10 * each);

    together(10, |thread| match thread % 2 {
        0 => own(thread, each).for_each(|spec| delete(&spec).unwrap()),
        _ => own(thread, each).for_each(|spec| put(&block, &spec, Mode::Replace)), // 6e8f
    });
    assert_eq!(count(), 5 * each);

    together(10, |thread| match thread % 2 {
        0 => own(thread, each).for_each(|spec| put(&block, &spec, Mode::Add)),
        _ => own(thread, each).for_each(|spec| delete(&spec).unwrap()), // ab62
    });
    assert_eq!(count(), 5 * each);

    let deleted = AtomicU32::new(0);
    together(10, |_| {
        for spec in own(0, each) {
            match delete(&spec) {
                Ok(()) => _ = deleted.fetch_add(1, Ordering::Relaxed),
                Err(error) => assert_eq!(error.errno(), "ENOENT"), // 0c44
            }
        }
    });
    assert_eq!(deleted.into_inner(), each, "each filter is deleted by one");
    assert_eq!(count(), 4 * each);

    request::delete_filter(&block, FilterKey::chain(0)).unwrap();
    assert_eq!(request::list_chains(&block), []);
    drop(block);
    assert_nothing_left(&plane);
}

/// [CC-25], [WK-2], [KR-38]: while half of the filters are deleted, a dump has each of the other half exactly once.
#[test]
fn a_dump_beside_deletions_has_all_that_stays() {
    let each = times(1_000, 50_000);
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    add_all(&block, each);
    let dumps = together(3, |thread| match thread {
        0 => request::dump(&block),
        half => {
            let doomed = (1..=10 * each).filter(|handle| handle % 4 == half as u32 * 2 % 4);
            doomed.for_each(|handle| request::delete_filter(&block, key(0, 1, handle)).unwrap());
            Vec::new()
        }
    });
    let listed: Vec<u32> = dumps[0].iter().map(|info| info.handle).collect();
    assert!(listed.is_sorted_by(|a, b| a < b), "in ascending order, none twice");
    let odd: Vec<u32> = listed.into_iter().filter(|handle| handle % 2 == 1).collect();
    assert_eq!(odd, (1..=10 * each).step_by(2).collect::<Vec<_>>());
    assert_eq!(handles(&block, 1).len() as u32, 5 * each);
    drop(block);
    assert_nothing_left(&plane);
}
