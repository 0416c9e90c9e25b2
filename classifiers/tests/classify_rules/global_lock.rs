use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{self, ActionKind, DumpFilter, FilterKey, FilterSpec, KindName, Mode};
use tidegate_classifiers::verdict::Control;

use crate::stage::*;
use crate::support::*;

/// A gate that the thread named `locked` stops at, in a request that holds the global lock.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, open)| !*open).unwrap());
    }

    fn wait_until_somebody_stands_there(&self) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |(there, _)| !*there).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// Runs `free` and then starts all of `waiting` while a u32 request stands in the middle, holding the global lock. Those of
/// `free` must end, those of `waiting` must not, before it goes on; then they all do.
fn beside_the_global_lock(block: &Arc<Block>, free: &[&(dyn Fn() + Sync)], waiting: &[&(dyn Fn() + Sync)]) {
    let gate = Arc::new(Gate::default());
    let gate_too = Arc::clone(&gate);
    block.plane().set_hook(Some(Arc::new(move |point| {
        if point == Point::HandleReserved && thread::current().name() == Some("locked") {
            gate_too.pass();
        }
        Ok(())
    })));
    thread::scope(|scope| {
        let holder = || request::add_filter(block, &u32(100)).unwrap();
        thread::Builder::new().name("locked".into()).spawn_scoped(scope, holder).unwrap();
        gate.wait_until_somebody_stands_there();
        for request in free {
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                let run = || {
                    request();
                    done.store(true, SeqCst);
                };
                let runner = scope.spawn(run);
                for _ in 0..10_000 {
                    if runner.is_finished() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                if !runner.is_finished() {
                    gate.open(); // or nothing ends
                }
                assert!(done.load(SeqCst), "a request waits for the global lock");
            });
        }
        let done: Vec<_> = waiting.iter().map(|_| AtomicBool::new(false)).collect();
        thread::scope(|scope| {
            for (request, done) in waiting.iter().zip(&done) {
                scope.spawn(move || {
                    request();
                    done.store(true, SeqCst);
                });
            }
            thread::sleep(Duration::from_millis(100));
            let early: Vec<_> = done.iter().map(|done| done.load(SeqCst)).collect();
            gate.open();
            assert!(!early.contains(&true), "without the global lock: {early:?}");
        });
    });
    block.plane().set_hook(None);
}

/// [UL-1], [UL-2], [UL-6], [UL-7], [LK-8]: filters of flower, matchall and fw come and go while another request holds the global lock,
/// in the same chain; everything else waits.
#[test]
fn who_takes_the_global_lock_and_who_does_not() {
    let plane = Plane::standalone(1);
    let block = &plane.private_block();
    request::add_filter(block, &u32(90)).unwrap();
    request::add_filter(block, &in_chain(7, matchall(1, &[]))).unwrap();
    let round = |spec: FilterSpec| {
        let id = request::add_filter(block, &spec).unwrap();
        request::new_filter(block, &FilterSpec { handle: id.handle, ..spec.clone() }, Mode::Replace).ok(); // matchall's cannot be
        request::get_filter(block, id).unwrap();
        request::delete_filter(block, id).unwrap();
        request::add_filter(block, &spec).unwrap();
        let key = FilterKey { kind: Some(spec.kind.name()), ..FilterKey::priority(spec.chain, spec.priority) };
        request::delete_filter(block, key).unwrap();
    };
    let free: [&(dyn Fn() + Sync); 3] =
        [&|| round(FilterSpec { priority: 1, ..one(3) }), &|| round(matchall(2, &[])), &|| round(fw(3, 5))];
    let named_u32 = FilterKey { kind: Some(KindName::U32), ..key(0, 90, 0x8000_0800) };
    let waiting: [&(dyn Fn() + Sync); 12] = [
        &|| assert!(request::add_filter(block, &u32(101)).is_ok()),
        &|| assert!(request::add_filter(block, &unknown(102)).is_err()),
        &|| drop(request::get_filter(block, named_u32).unwrap()),
        &|| drop(request::get_filter(block, FilterKey { kind: None, ..named_u32 }).unwrap()),
        &|| request::delete_filter(block, FilterKey::chain(8)).unwrap(),
        &|| request::add_chain(block, 9).unwrap(),
        &|| drop(request::get_chain(block, 7).unwrap()),
        &|| drop(request::dump_page(block, &DumpFilter::default(), &mut Default::default(), 1).unwrap()),
        &|| drop(request::list_chains(block)),
        &|| drop(plane.bind(ingress(1), 5, None).unwrap()),
        &|| drop(request::add_actions(&plane, &[gact(Control::Ok).into()], Mode::Add).unwrap()),
        &|| drop(request::dump_actions(&plane, ActionKind::Gact, 0, 9)),
    ];
    beside_the_global_lock(block, &free, &waiting);
}

/// [UL-4], [UL-7], [KR-4]: two requests on one flower proto stand before their commits at once, two on u32 never do.
#[test]
fn requests_on_one_proto_overlap_where_the_kind_allows() {
    for (spec, most) in [(one(0), 2), (u32(2), 1)] {
        let block = &Block::new(1);
        let (now, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now_too, seen_too) = (Arc::clone(&now), Arc::clone(&seen));
        block.plane().set_hook(Some(Arc::new(move |point| {
            if point == Point::BeforeCommit {
                let inside = now_too.fetch_add(1, SeqCst) + 1;
                seen_too.fetch_max(inside, SeqCst);
                for _ in 0..100 {
                    if seen_too.load(SeqCst) > 1 {
                        break;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                now_too.fetch_sub(1, SeqCst);
            }
            Ok(())
        })));
        thread::scope(|scope| {
            for mac in 0..2 {
                let spec = if most == 2 { with_key(0, mac) } else { spec.clone() };
                scope.spawn(move || request::add_filter(block, &spec).unwrap());
            }
        });
        assert_eq!(seen.load(SeqCst), most, "{:?}", spec.kind.name());
    }
}

/// [UL-3], [RP-1]: a replay holds the global lock: who needs it waits, as behind a u32 request.
#[test]
fn a_replay_holds_the_global_lock() {
    let block = &Block::new(1);
    request::add_filter(block, &one(9)).unwrap();
    let (flushed, second) = (AtomicBool::new(false), Arc::new(Gate::default()));
    let (second_too, block_too) = (Arc::clone(&second), Arc::downgrade(block));
    block.plane().set_hook(Some(Arc::new(move |point| {
        if point == Point::BeforeCommit && thread::current().name() == Some("replays") {
            if flushed.swap(true, SeqCst) {
                second_too.pass();
            } else {
                request::delete_filter(&block_too.upgrade().unwrap(), FilterKey::priority(0, 1)).unwrap();
            }
        }
        Ok(())
    })));
    thread::scope(|scope| {
        let add = || request::add_filter(block, &one(1)).unwrap();
        thread::Builder::new().name("replays".into()).spawn_scoped(scope, add).unwrap();
        second.wait_until_somebody_stands_there();
        let listing = scope.spawn(|| request::list_chains(block));
        request::add_filter(block, &matchall(5, &[])).unwrap();
        thread::sleep(Duration::from_millis(50));
        let early = listing.is_finished();
        second.open();
        assert!(!early, "a listing takes the global lock, which a replay holds");
    });
}

/// [FO-12], [RP-6], [RP-2], [KR-22]: a handle that another request has reserved is not there; a chain whose proto is being destroyed is
/// what it is. Only new filters wait. Nor does a subscriber without room make anybody try again.
#[test]
fn only_new_filters_are_replayed() {
    let block = Block::new(1);
    request::add_filter(&block, &one(1)).unwrap();
    let deaf = block.plane().subscribe(0);
    let others = |block: &Arc<Block>| {
        let (replays, ()) = passes(block.plane(), Point::Replay, || {
            for _ in 0..10 {
                assert_eq!(errno(request::get_filter(block, key(0, 1, 2))), "ENOENT");
                assert_eq!(errno(request::delete_filter(block, key(0, 1, 2))), "ENOENT");
                assert_eq!(errno(request::add_chain(block, 0)), "EEXIST");
                request::get_chain(block, 0).unwrap();
                request::add_chain(block, 3).unwrap();
                request::delete_chain(block, 3).unwrap();
            }
        });
        assert_eq!(replays, 0);
        Ok(())
    };
    during(&block, Point::BeforeCommit, others, || request::add_filter(&block, &one(2))).unwrap();
    assert!(matches!(deaf.try_next(), Some(tidegate_classifiers::event::Notice::Lost(21))));
}
