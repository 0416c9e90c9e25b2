use std::sync::{Arc, Mutex};
use std::thread;

use tidegate_classifiers::chain::ProtoList;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::{Direction, HeadChange, Hook, Plane};
use tidegate_classifiers::port::WorkerId;
use tidegate_classifiers::request::{self, FilterKey};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::stage::*;
use crate::support::*;

/// A hook that classifies with the head it was told last. Older ones go after the test: a list must not be dropped where it
/// may be the last of its kind, under the chain's lock.
#[derive(Default)]
struct Last(Mutex<Vec<ProtoList>>);

impl HeadChange for Last {
    fn head_changed(&self, head: &ProtoList) {
        self.0.lock().unwrap().push(head.clone());
    }
}

impl Last {
    fn head(&self) -> ProtoList {
        self.0.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn forget(&self) {
        let lists = std::mem::take(&mut *self.0.lock().unwrap());
        drop(lists);
    }
}

/// [HC-5], [DV-7], [DP-16]: what a worker took at the beginning of its burst is what it was, whatever comes meanwhile.
#[test]
fn a_head_that_was_taken_does_not_change() {
    let (burst, _plane, block) = in_a_burst();
    let mut rig = Rig::over(Arc::clone(&block));
    for priority in 2..5 {
        request::add_filter(&block, &matchall(priority, &[mirror(1, Control::Continue)])).unwrap();
    }
    let head = block.head();
    for round in 0..100 {
        request::delete_filter(&block, FilterKey::chain(0)).unwrap();
        request::add_filter(&block, &matchall(1 + round % 7, &[gact(Control::Shot)])).unwrap();
        rig.world.mirrored.clear();
        assert_eq!(rig.send_to(&head, WorkerId(0), &tcp(80)), Verdict::Pass);
        assert_eq!((rig.world.mirrored.len(), head.first_priority()), (3, Some(2)));
    }
    drop(head);
    burst.end();
    assert_ne!(rig.send(&tcp(80)), Verdict::Pass);
}

/// [DV-10], [HC-4], [BL-4]: a hook that was unbound has nothing to classify with, though the block lives on.
#[test]
fn an_unbound_hook_has_no_filters() {
    let plane = Plane::standalone(1);
    let last = Arc::new(Last::default());
    let stays = plane.bind(ingress(1), 3, None).unwrap();
    let goes = plane.bind(ingress(2), 3, Some(Arc::clone(&last) as Arc<dyn HeadChange>)).unwrap();
    let mut rig = Rig::over(Arc::clone(stays.block()));
    request::add_filter(stays.block(), &matchall(1, &[gact(Control::Trap)])).unwrap();
    assert_eq!(last.head().first_priority(), Some(1));
    drop(goes);
    assert_eq!(rig.send_to(&rig.block.head_at(&last.head()), WorkerId(0), &tcp(80)), Verdict::Pass);
    request::add_filter(stays.block(), &matchall(2, &[])).unwrap();
    request::delete_filter(stays.block(), FilterKey::priority(0, 1)).unwrap();
    assert!(last.head().is_empty());
    assert_eq!(rig.send(&tcp(80)), Verdict::Pass);
}

/// [BL-2], [BL-5], [BL-6], [KR-26], [KR-27]: each refusal leaves what was there, and nothing else.
#[test]
fn a_bind_that_is_refused_undoes_what_it_did() {
    let plane = Plane::standalone(1);
    let last = Arc::new(Last::default());
    let subscriber = || Some(Arc::clone(&last) as Arc<dyn HeadChange>);
    let egress = Hook { direction: Direction::Egress, ..ingress(1) };
    let bound = plane.bind(ingress(1), 3, None).unwrap();
    let live = plane.live();
    for (hook, index, error) in
        [(ingress(1), 3, "EINVAL"), (ingress(1), 4, "EINVAL"), (ingress(1), 0, "EINVAL"), (egress, 3, "EBUSY")]
    {
        assert_eq!(errno(plane.bind(hook, index, subscriber())), error, "{hook:?} {index}");
        assert_eq!((plane.live(), errno(plane.block(4))), (live, "EINVAL"));
    }
    request::add_filter(bound.block(), &matchall(1, &[])).unwrap();
    assert!(last.head().is_empty(), "nobody subscribed");
    assert_eq!(Arc::strong_count(&last), 1);
    drop(plane.bind(egress, 4, subscriber()).unwrap());
    drop(bound);
    last.forget();
    drop(plane.bind(ingress(1), 4, subscriber()).unwrap());
    assert_eq!((plane.live(), Arc::strong_count(&last)), (LiveCounts::default(), 1));
}

/// [KR-25], [BL-8], [CC-14]: a hook is bound and unbound beside requests and packets that have the block of before.
#[test]
fn a_hook_is_used_again_while_others_hold_what_it_had() {
    let plane = Plane::standalone(9);
    let last = Arc::new(Last::default());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u16)
            .map(|worker| {
                let (plane, last) = (&plane, &last);
                scope.spawn(move || {
                    for round in 0..300_u32 {
                        let Ok(block) = plane.block(3) else { continue };
                        let id = request::add_filter(&block, &matchall(1 + u32::from(worker), &[])).unwrap();
                        let mut rig = Rig::over(Arc::clone(&block));
                        rig.send_to(&rig.block.head_at(&last.head()), WorkerId(worker), &tcp(80));
                        rig.send_to(&block.head(), WorkerId(worker), &tcp(80));
                        request::delete_filter(&block, id).unwrap_or_else(|error| panic!("{round}: {error}"));
                    }
                })
            })
            .collect();
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            drop(plane.bind(ingress(1), 3, Some(Arc::clone(&last) as Arc<dyn HeadChange>)).unwrap());
        }
    });
    assert!(last.head().is_empty());
    last.forget();
    assert_eq!(plane.live(), LiveCounts::default());
}

/// [NT-11], [BL-8], [BL-9]: the hook is gone when the last holder of the block lets it go; the chain is told all the same, after all locks
/// are given back.
#[test]
fn a_chain_is_told_when_its_port_is_long_gone() {
    let plane = Plane::standalone(1);
    let subscription = plane.subscribe(9);
    let binding = plane.bind(ingress(1), 3, None).unwrap();
    let request = Arc::clone(binding.block());
    drop(binding);
    let again = plane.bind(ingress(1), 4, None).unwrap();
    request::add_filter(&request, &in_chain(5, matchall(1, &[]))).unwrap();
    drop(request);
    drop(again);
    assert_eq!(told_briefly(&subscription), ["+chain 5", "+5/1/1", "-chain 5"]);
}
