//! Debug builds check the order at every lock, and panic where it is broken: a request in the middle of another one is
//! the test.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::chain::ProtoList;
use tidegate_classifiers::classify::Context;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::plane::{HeadChange, Plane};
use tidegate_classifiers::port::WorkerId;
use tidegate_classifiers::request::{self, FilterKey, FilterSpec};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::stage::*;
use crate::support::*;

/// [LK-5], [LK-6]: whatever a request does that takes long (building a proto, a filter, destroying them), another one gets
/// all locks of the same chain and block meanwhile, in the same thread.
#[test]
fn no_lock_is_held_while_something_is_built_or_destroyed() {
    let points = [
        Point::ProtoBuilt,
        Point::ProtoObtained,
        Point::HandleReserved,
        Point::BeforeCommit,
        Point::Committed,
        Point::Unlinked,
        Point::Reaping,
    ];
    for point in points {
        let block = Block::new(1);
        request::add_filter(&block, &matchall(9, &[])).unwrap();
        let other = |block: &Arc<Block>| {
            request::add_filter(block, &matchall(2, &[])).unwrap();
            request::delete_filter(block, FilterKey::priority(0, 2)).unwrap();
            request::add_chain(block, 3)
        };
        during(&block, point, other, || {
            request::add_filter(&block, &matchall(1, &[])).unwrap();
            request::delete_filter(&block, FilterKey::priority(0, 1)).unwrap();
        });
        assert_eq!(request::list_chains(&block), [0, 3], "{point:?}");
        assert_eq!(request::dump(&block).len(), 1, "{point:?}");
    }
}

/// What a subscriber does when it is told.
struct Told<F>(F);

impl<F: Fn(&ProtoList) + Send + Sync> HeadChange for Told<F> {
    fn head_changed(&self, head: &ProtoList) {
        (self.0)(head);
    }
}

/// [LK-1], [LK-4]: the registry's lock within a chain's. The panic is that of the check, so the check is there.
#[test]
#[cfg(debug_assertions)]
fn a_lock_out_of_order_ends_a_debug_build() {
    let plane = Plane::standalone(1);
    let caught = Arc::new(Mutex::new(String::new()));
    let (caught_too, plane_too) = (Arc::clone(&caught), Arc::downgrade(&plane));
    let subscriber = Told(move |_: &ProtoList| {
        let plane = plane_too.upgrade().unwrap();
        let request = || plane.block(7).is_ok();
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(request)) {
            *caught_too.lock().unwrap() = panic.downcast_ref::<String>().unwrap().clone();
        }
    });
    let binding = plane.bind(ingress(1), 0, Some(Arc::new(subscriber))).unwrap();
    request::add_filter(binding.block(), &matchall(1, &[])).unwrap();
    assert!(caught.lock().unwrap().contains("lock order"), "{caught:?}");
    assert_eq!(request::dump(binding.block()).len(), 1);
}

/// [LK-2], [HC-3]: a subscriber joins a block that has filters. It needs both locks, in an order that the check of debug builds
/// lets pass.
#[test]
fn joining_takes_the_chains_lock_before_the_blocks() {
    let plane = Plane::standalone(1);
    let first = plane.bind(ingress(1), 7, None).unwrap();
    request::add_filter(first.block(), &matchall(4, &[])).unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let heads_too = Arc::clone(&heads);
    let subscriber = Told(move |head: &ProtoList| heads_too.lock().unwrap().push(head.first_priority()));
    let second = plane.bind(ingress(2), 7, Some(Arc::new(subscriber))).unwrap();
    drop(second);
    assert_eq!(*heads.lock().unwrap(), [Some(4), None]);
}

/// [LK-3], [HC-6], [UL-7]: a subscriber that sleeps holds up who wants chain 0, and nobody else.
#[test]
fn a_subscriber_may_sleep() {
    let plane = Plane::standalone(1);
    let (woken, wake) = mpsc::channel::<()>();
    let wake = Mutex::new(wake);
    let subscriber = Told(move |head: &ProtoList| {
        if !head.is_empty() {
            wake.lock().unwrap().recv_timeout(Duration::from_secs(10)).expect("somebody else got stuck");
        }
    });
    let binding = plane.bind(ingress(1), 0, Some(Arc::new(subscriber))).unwrap();
    let block = binding.block();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            request::add_filter(block, &matchall(1, &[])).unwrap();
            done.store(true, SeqCst);
        });
        while block.head().is_empty() {
            std::thread::yield_now();
        }
        for _ in 0..100 {
            let id = request::add_filter(block, &in_chain(1, one(1))).unwrap();
            request::delete_filter(block, id).unwrap();
        }
        assert!(!done.load(SeqCst));
        woken.send(()).unwrap();
    });
    assert_eq!(request::dump(block).len(), 1);
}

/// [LK-7]: in the middle of a change, by the thread that holds the chain's lock, and by one that has to wait for it.
#[test]
fn packets_are_classified_while_locks_are_held() {
    let block = Block::new(1);
    request::add_filter(&block, &matchall(2, &[gact(Control::Trap)])).unwrap();
    let classify = |block: &Arc<Block>| {
        let mut cx = Context {
            worker: WorkerId(0),
            generation: block.plane().generation(),
            now_ns: 1,
            rng: &mut fastrand::Rng::with_seed(1),
            egress: &mut World::default(),
        };
        assert_eq!(block.classify(&block.head(), &mut tcp(80), &mut cx), Verdict::Trap);
        let block = Arc::clone(block);
        std::thread::spawn(move || {
            let mut rig = Rig::over(block);
            assert_eq!(rig.send(&tcp(80)), Verdict::Trap);
        })
        .join()
        .unwrap();
        Ok(())
    };
    let first = matchall(1, &[gact(Control::Continue)]);
    during(&block, Point::HeadChange, classify, || request::add_filter(&block, &first)).unwrap();
}

/// [LK-8]: also by those that fail in the middle. If one kept it, the next would wait for ever.
#[test]
fn who_takes_the_global_lock_gives_it_back() {
    let rig = Rig::new(&[u32(1)]);
    let block = &rig.block;
    let before = request::dump(block);
    for _ in 0..2 {
        assert_eq!(errno(request::add_filter(block, &unknown(2))), "ENOENT");
        assert_eq!(errno(request::add_filter(block, &flower_as_u32())), "EINVAL");
        assert_eq!(errno(request::get_filter(block, key(0, 1, 77))), "ENOENT");
        assert_eq!(errno(request::delete_filter(block, key(0, 1, 77))), "ENOENT");
        assert_eq!(errno(request::get_chain(block, 9)), "EINVAL");
        assert_eq!(errno(request::delete_chain(block, 9)), "EINVAL");
        request::delete_filter(block, FilterKey::chain(9)).unwrap();
        let hook = ingress(1);
        let binding = block.plane().bind(hook, 3, None).unwrap();
        assert_eq!(errno(block.plane().bind(hook, 4, None)), "EINVAL");
        drop(binding);
    }
    assert_eq!(request::dump(block), before);
}

/// Of the locked kind, where another is.
fn flower_as_u32() -> FilterSpec {
    FilterSpec { protocol: IPV4, ..u32(1) }
}
