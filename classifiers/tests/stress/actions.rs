use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{self, ActionKind, ActionUse, FilterKey, FilterSpec, Mode};
use tidegate_classifiers::verdict::Control;

use crate::support::*;

const GACT: ActionKind = ActionKind::Gact;

/// [KR-56], [AC-12], [CC-18], [DD-1]: one index is bound, released, looked up and deleted at once; what is found is alive.
#[test]
fn an_action_that_is_found_by_index_is_alive() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    jitter(&plane);
    let rounds = times(4_000, 10_000_000);
    together(5, |n| {
        for round in 0..rounds {
            match n {
                0 | 1 => {
                    let spec = with(
                        FilterSpec { handle: n as u32 + 1, ..flower(1, n as u64) },
                        &[gact(Control::Shot).numbered(7)],
                    );
                    request::add_filter(&block, &spec).unwrap_or_else(|error| panic!("round {round}: {error}"));
                    let info = request::get_filter(&block, key(0, 1, spec.handle)).unwrap();
                    assert_eq!(info.actions[0].index, 7);
                    assert!(info.actions[0].refs >= 1, "this filter holds it");
                    request::delete_filter(&block, key(0, 1, spec.handle)).unwrap();
                }
                2 => {
                    let got = request::get_action(&plane, GACT, 7);
                    assert!(got.map_or_else(
                        |error| error.errno() == "ENOENT",
                        |info| info.refs >= 1 && info.refs >= info.binds
                    ));
                }
                3 => {
                    let deleted = request::delete_actions(&plane, &[(GACT, 7)]).map_err(|error| error.errno());
                    assert!(matches!(deleted, Ok(()) | Err("ENOENT" | "EPERM")), "{deleted:?}");
                }
                _ => {
                    let added = request::add_actions(&plane, &[gact(Control::Trap).numbered(7)], Mode::Add);
                    assert!(matches!(added.map_err(|error| error.errno()), Ok(_) | Err("EEXIST")));
                }
            }
        }
    });
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-57], [AC-8], [ER-40]: a list of 32 that fails at any place leaves nothing that others could have met half made.
#[test]
fn a_list_that_fails_leaves_no_action() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    jitter(&plane);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for n in 0..2 {
            let (plane, block, done) = (&plane, &block, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let index = fastrand::u32(1..=32);
                    let spec =
                        with(FilterSpec { handle: n + 1, ..flower(1, n.into()) }, &[ActionUse::shared(GACT, index)]);
                    request::add_filter(block, &spec).unwrap();
                    assert!(request::get_action(plane, GACT, index).is_ok_and(|info| info.binds >= 1));
                    request::delete_filter(block, key(0, 1, n + 1)).unwrap();
                }
            });
        }
        for _ in 0..times(30, 10_000) {
            for at in 0..32 {
                let one = |n: u32| if n == at { MISSING } else { gact(Control::Pipe).numbered(n + 1) };
                let list: Vec<_> = (0..32).map(one).collect();
                assert_eq!(request::add_filter(&block, &with(flower(1, 99), &list)).unwrap_err().errno(), "EINVAL");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(request::dump_actions(&plane, GACT, 0, 100), []);
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-58], [AC-2], [AC-5]: replacing an action that is there changes nobody's count; one that is not gets one reference, its
/// own.
#[test]
fn replacing_an_action_counts_nobody_twice() {
    for filters in 0..4 {
        for alone in [false, true] {
            let plane = Plane::standalone(1);
            let block = plane.private_block();
            if alone {
                request::add_actions(&plane, &[gact(Control::Shot).numbered(5)], Mode::Add).unwrap();
            }
            for n in 0..filters {
                request::add_filter(&block, &with(flower(1, n), &[gact(Control::Shot).numbered(5)])).unwrap();
            }
            for _ in 0..3 {
                request::add_actions(&plane, &[gact(Control::Trap).numbered(5)], Mode::Replace).unwrap();
                let info = request::get_action(&plane, GACT, 5).unwrap();
                let binds = u32::try_from(filters).unwrap();
                let own = u32::from(alone || filters == 0);
                assert_eq!((info.refs, info.binds), (binds + own, binds), "{filters} filters, alone: {alone}");
            }
            let bound = filters > 0;
            let deleted = request::delete_actions(&plane, &[(GACT, 5)]).map_err(|error| error.errno());
            assert_eq!(deleted, if bound { Err("EPERM") } else { Ok(()) });
            let _ = request::delete_filter(&block, FilterKey::chain(0));
            assert_eq!(request::get_action(&plane, GACT, 5).is_ok(), bound && alone, "[AC-3]");
            drop(block);
            assert_nothing_left(&plane);
        }
    }
}

/// [KR-61], [CC-19], [HA-5], [RP-4]: many filters create one index while somebody deletes it: all succeed, in bounded time.
#[test]
fn many_filters_create_one_action_at_once() {
    let begin = Instant::now();
    for _ in 0..times(100, 20_000) {
        let plane = Plane::standalone(1);
        let block = plane.private_block();
        jitter(&plane);
        together(9, |n| {
            if n == 8 {
                for _ in 0..20 {
                    let _ = request::delete_actions(&plane, &[(GACT, 7)]);
                }
            } else {
                request::add_filter(&block, &with(flower(1, n as u64), &[gact(Control::Shot).numbered(7)])).unwrap();
            }
        });
        let info = request::get_action(&plane, GACT, 7).unwrap();
        assert_eq!((info.refs, info.binds, plane.live().actions), (8, 8, 1));
        drop(block);
        assert_nothing_left(&plane);
    }
    assert!(begin.elapsed() < seconds(20, 3_600));
}
