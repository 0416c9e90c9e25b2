use std::sync::{Arc, Mutex};

use tidegate_classifiers::chain::ProtoList;
use tidegate_classifiers::plane::{Direction, HeadChange, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{FilterKey, add_filter, delete_filter, list_chains};

use crate::support::*;

fn ingress(port: u16) -> Hook {
    Hook { port: PortId(port), direction: Direction::Ingress }
}

/// Priorities of the heads it was told; nothing for none.
#[derive(Default)]
struct Heads(Mutex<Vec<Option<u32>>>);

impl HeadChange for Heads {
    fn head_changed(&self, head: &ProtoList) {
        self.0.lock().unwrap().push(head.first_priority());
    }
}

impl Heads {
    fn take(&self) -> Vec<Option<u32>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// [BL-1], [BL-4], [OBJ-1], [OBJ-2], [RQ-11], [BL-7]
#[test]
fn a_shared_block_lives_as_long_as_a_hook_or_a_request_holds_it() {
    let plane = Plane::standalone(1);
    assert_eq!(errno(plane.block(5)), "EINVAL");
    let first = plane.bind(ingress(1), 5, None).unwrap();
    let second = plane.bind(ingress(2), 5, None).unwrap();
    assert!(Arc::ptr_eq(first.block(), second.block()));
    add_filter(first.block(), &flower(0, 1, 1)).unwrap();
    drop(first);
    let held = plane.block(5).unwrap();
    drop(second);
    assert_eq!(listing(&held), [(0, 1, 1)], "a request may outlive the hook [BL-8]");
    drop(held);
    assert_eq!(errno(plane.block(5)), "EINVAL");
    assert_nothing_lives(&plane);
    let again = plane.bind(ingress(1), 5, None).unwrap();
    assert_eq!(list_chains(again.block()), [0; 0], "another block");
}

/// [BL-1]
#[test]
fn private_blocks_are_apart() {
    let plane = Plane::standalone(1);
    let (first, second) = (plane.bind(ingress(1), 0, None).unwrap(), plane.bind(ingress(2), 0, None).unwrap());
    add_filter(first.block(), &flower(0, 1, 1)).unwrap();
    assert_eq!(listing(second.block()), []);
    assert_ne!(first.block().id(), second.block().id());
}

/// [BL-5], [BL-6]
#[test]
fn a_hook_has_one_block_and_a_port_no_block_twice() {
    let plane = Plane::standalone(1);
    let bound = plane.bind(ingress(1), 5, None).unwrap();
    assert_eq!(errno(plane.bind(ingress(1), 6, None)), "EINVAL");
    let egress = Hook { direction: Direction::Egress, ..ingress(1) };
    assert_eq!(errno(plane.bind(egress, 5, None)), "EBUSY");
    drop(plane.bind(egress, 6, None).unwrap());
    drop(bound);
    plane.bind(egress, 5, None).unwrap();
    assert_nothing_lives(&plane);
}

/// [HC-1], [HC-4], [HC-6], [BL-2]
#[test]
fn subscribers_learn_each_new_head_of_chain_0() {
    let plane = Plane::standalone(1);
    let early = plane.bind(ingress(1), 5, None).unwrap();
    let block = Arc::clone(early.block());
    add_filter(&block, &flower(0, 7, 1)).unwrap();
    let heads = Arc::new(Heads::default());
    let late = plane.bind(ingress(2), 5, Some(Arc::clone(&heads) as Arc<dyn HeadChange>)).unwrap();
    assert_eq!(heads.take(), [Some(7)], "at once, because chain 0 is not empty");

    add_filter(&block, &flower(0, 9, 1)).unwrap();
    add_filter(&block, &flower(3, 1, 1)).unwrap();
    add_filter(&block, &flower(0, 7, 2)).unwrap();
    assert_eq!(heads.take(), [], "neither behind the head, nor in other chains, nor within the head");
    add_filter(&block, &flower(0, 5, 1)).unwrap();
    delete_filter(&block, FilterKey::priority(0, 5)).unwrap();
    delete_filter(&block, FilterKey::chain(0)).unwrap();
    add_filter(&block, &flower(0, 8, 1)).unwrap();
    assert_eq!(heads.take(), [Some(5), Some(7), None, Some(8)]);

    drop(late);
    assert_eq!(heads.take(), [None]);
    delete_filter(&block, FilterKey::chain(0)).unwrap();
    assert_eq!(heads.take(), [], "never again");
}

/// [HC-2], [HC-3], [CC-15]: whenever it subscribes, the last thing a subscriber was told is the head that is there.
#[test]
fn no_subscriber_ends_up_with_an_old_head() {
    let plane = Plane::standalone(1);
    let keeper = plane.bind(ingress(0), 5, None).unwrap();
    let block = keeper.block();
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for round in 0..400 {
                let id = add_filter(block, &flower(0, 1 + round % 3, 1)).unwrap();
                if round % 5 > 0 {
                    delete_filter(block, id).unwrap();
                } else {
                    delete_filter(block, FilterKey::chain(0)).unwrap();
                }
            }
            add_filter(block, &flower(0, 2, 1)).unwrap();
        });
        let mut subscribers = Vec::new();
        let mut port = 0;
        while !changes.is_finished() && port < 50 {
            port += 1;
            let heads = Arc::new(Heads::default());
            let binding = plane.bind(ingress(port), 5, Some(Arc::clone(&heads) as Arc<dyn HeadChange>)).unwrap();
            if port % 2 == 0 {
                drop(binding);
                assert_eq!(heads.take().last(), Some(&None));
            } else {
                subscribers.push((heads, binding));
            }
        }
        changes.join().unwrap();
        assert!(subscribers.iter().all(|(heads, _)| heads.take().last() == Some(&Some(2))));
    });
}

/// [CC-14], [BL-8], [KR-28], [KR-29]
#[test]
fn a_block_may_go_beside_requests() {
    let plane = Plane::standalone(1);
    std::thread::scope(|scope| {
        let binder = scope.spawn(|| {
            for round in 0..300 {
                let bound = plane.bind(ingress(round % 3), 5, None).expect("the index is never lost");
                add_filter(bound.block(), &flower(0, 1, 1)).ok();
            }
        });
        while !binder.is_finished() {
            if let Ok(block) = plane.block(5) {
                let id = add_filter(&block, &flower(0, 2, 2)).unwrap();
                delete_filter(&block, id).unwrap();
            }
        }
    });
    assert_nothing_lives(&plane);
}
