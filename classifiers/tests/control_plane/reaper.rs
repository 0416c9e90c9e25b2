use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_classifiers::inject::Point;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::reap::Quiescence;
use tidegate_classifiers::request::{ActionKind, Mode, add_filter, delete_filter, get_action, new_filter};

use crate::support::*;

/// One worker that ends a burst when it is told to.
#[derive(Clone, Default)]
struct Bursts(Arc<AtomicU64>);

impl Quiescence for Bursts {
    fn snapshot(&self) -> Box<[u64]> {
        [self.0.load(Ordering::SeqCst)].into()
    }

    fn passed(&self, snapshot: &[u64]) -> bool {
        self.0.load(Ordering::SeqCst) > snapshot[0]
    }
}

impl Bursts {
    fn end_one(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// [DD-1], [DD-4], [DV-2], [KR-81]: the handle is free at once, the memory after the burst.
#[test]
fn what_is_unlinked_lives_until_the_worker_has_moved_on() {
    let bursts = Bursts::default();
    let plane = Plane::new(1, bursts.clone());
    let block = plane.private_block();
    add_filter(&block, &flower(0, 1, 9)).unwrap();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    delete_filter(&block, key(0, 1, 2)).unwrap();
    assert_eq!(add_filter(&block, &flower(0, 1, 2)).unwrap().handle, 2);
    assert_eq!(get_action(&plane, ActionKind::Gact, 2).unwrap().binds, 1);
    plane.reaper().poll();
    assert_eq!(plane.live().filters, 3);
    assert!(plane.reaper().pending() > 0);
    bursts.end_one();
    plane.reaper().poll();
    assert_eq!((plane.live().filters, plane.live().actions), (2, 2));
    assert_eq!(plane.reaper().pending(), 0);
}

/// [CC-21], [DD-3]: the chain of a goto goes after the action, which goes after the burst.
#[test]
fn a_goto_keeps_its_chain_until_no_packet_can_take_it() {
    let bursts = Bursts::default();
    let plane = Plane::new(1, bursts.clone());
    let block = plane.private_block();
    add_filter(&block, &goto(5, flower(0, 1, 1))).unwrap();
    new_filter(&block, &with_handle(1, flower(0, 1, 1)), Mode::Replace).unwrap();
    plane.reaper().poll();
    assert_eq!(plane.live().chains, 2);
    bursts.end_one();
    plane.reaper().poll();
    assert_eq!(plane.live().chains, 1);
}

/// [DD-7], [KR-80]: beside a worker that does not move, deletes wait at the limit, and nothing is freed early.
#[test]
fn deletes_wait_while_too_much_is_pending() {
    let bursts = Bursts::default();
    let plane = Plane::with_limits(1, bursts.clone(), 50, 10);
    let block = plane.private_block();
    for port in 1..=100 {
        add_filter(&block, &flower(0, 1, port)).unwrap();
    }
    settle(&plane, &bursts); // how much the adds have unlinked depends on where the seed puts their keys
    let before = plane.live().filters;
    let deleted = AtomicUsize::new(0);
    let stalled = std::thread::scope(|scope| {
        let deleter = scope.spawn(|| {
            for handle in 1..=100 {
                delete_filter(&block, key(0, 1, handle)).unwrap();
                deleted.fetch_add(1, Ordering::SeqCst);
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        let stalled = (deleter.is_finished(), plane.reaper().pending(), plane.live().filters);
        let added = add_filter(&block, &flower(7, 1, 1));
        while !deleter.is_finished() {
            bursts.end_one();
            std::thread::yield_now();
        }
        added.expect("the others go on");
        stalled
    });
    let (finished, pending, filters) = stalled;
    assert!(!finished);
    assert!((50..50 + 16).contains(&pending), "{pending} pending, and one request more may add few");
    assert_eq!(filters, before, "the worker may hold every one of them");
    assert_eq!(deleted.into_inner(), 100);
    settle(&plane, &bursts);
    assert_eq!(plane.live().filters, 1);
}

/// Ends bursts until nothing is pending: what the last requests unlinked may wait for a burst that begins after them.
fn settle(plane: &Plane, bursts: &Bursts) {
    while plane.reaper().pending() > 0 {
        bursts.end_one();
        plane.reaper().poll();
    }
}

/// [DD-2]: one consumer, in the order of unlinking; also what the engine itself unlinked.
#[test]
fn things_are_released_in_the_order_in_which_they_were_unlinked() {
    struct Logged(u32, Arc<std::sync::Mutex<Vec<u32>>>);
    impl Drop for Logged {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    let bursts = Bursts::default();
    let plane = Plane::new(1, bursts.clone());
    let log = Arc::default();
    for n in 0..100 {
        plane.reaper().defer(Arc::new(Logged(n, Arc::clone(&log))));
        if n % 10 == 0 {
            plane.reaper().poll();
        }
    }
    assert!(log.lock().unwrap().is_empty());
    std::thread::scope(|scope| {
        let drains: Vec<_> = (0..4).map(|_| scope.spawn(|| plane.reaper().drain())).collect();
        while !drains.iter().all(|thread| thread.is_finished()) {
            bursts.end_one();
            std::thread::yield_now();
        }
    });
    assert_eq!(*log.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

/// [LK-6], [KR-73]: not under a chain's or a block's lock: debug builds would panic.
#[test]
fn destructors_run_without_locks() {
    let (plane, block) = block();
    let stage = Stage::of(&plane);
    add_filter(&block, &goto(1, flower(0, 1, 1))).unwrap();
    delete_filter(&block, key(0, 1, 1)).unwrap();
    assert!(stage.passed(Point::Reaping) > 0);
    drop(stage);
    drop(block);
    assert_nothing_lives(&plane);
}
