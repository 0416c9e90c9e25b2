//! Bind and unbind beside requests.

use std::sync::{Arc, Mutex};

use tidegate_classifiers::chain::ProtoList;
use tidegate_classifiers::plane::{Direction, HeadChange, Hook};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{FilterKey, add_filter, delete_filter, dump};

use crate::explore::{explore, three, two};
use crate::specs::{With, answer, done, flower};

const fn ingress(port: u16) -> Hook {
    Hook { port: PortId(port), direction: Direction::Ingress }
}

/// [CC-14], [BL-7], [KR-29]: the last hook lets go of a shared block while a request works on it and another hook wants one with
/// its number: a request works on the block that it found, and the number is good again at once. With a removal by index alone in
/// `Plane::forget`: the new block cannot be found.
#[test]
fn the_last_hook_goes_while_a_request_works() {
    explore(&["no block", "the old block", "a new block"], |rig| {
        let plane = &rig.plane;
        let old = plane.bind(ingress(1), 7, None).unwrap();
        add_filter(old.block(), &flower(1)).unwrap();
        let id = old.block().id();
        let ((), added, new) = three(
            || drop(old),
            || {
                let block = plane.block(7).ok()?;
                add_filter(&block, &flower(2)).unwrap();
                Some(block)
            },
            || plane.bind(ingress(2), 7, None).unwrap(),
        );
        let found = rig.plane.block(7).expect("it is bound");
        assert!(Arc::ptr_eq(&found, new.block()));
        assert_eq!(found.id(), id, "events know a shared block by its number");
        let there = dump(new.block()).len();
        assert!(
            added.as_ref().is_none_or(|block| Arc::ptr_eq(block, new.block())),
            "a block in use is the one to bind to"
        );
        let outcome = match (&added, there) {
            (None, 0) => "no block",
            (Some(_), 2) => "the old block",
            (Some(_), 1) => "a new block",
            _ => panic!("{there} filters"),
        };
        drop((found, added, new));
        assert!(rig.plane.block(7).is_err());
        outcome
    });
}

/// [CC-14], [BL-8]: the same with a delete in flight, and nobody who binds again. With a flush in `Binding`'s drop instead of
/// `Block`'s: the delete finds nothing.
#[test]
fn a_request_outlives_the_binding() {
    explore(&["in time", "too late"], |rig| {
        let plane = &rig.plane;
        let binding = plane.bind(ingress(1), 7, None).unwrap();
        add_filter(binding.block(), &flower(1).chain(5)).unwrap();
        let ((), deleted) = two(
            || drop(binding),
            || plane.block(7).ok().map(|block| done(delete_filter(&block, FilterKey::priority(5, 1)))),
        );
        assert!(rig.plane.block(7).is_err());
        match deleted {
            Some(answer) => {
                assert_eq!(answer, Ok(0));
                "in time"
            }
            None => "too late",
        }
    });
}

/// [HC-1], [HC-2], [HC-3]: a hook is bound while the head of chain 0 changes twice: what it is told last is the head. Without
/// chain 0's lock in `Block::subscribe`: it is told an older one last, or none.
#[test]
fn a_subscriber_ends_up_with_the_head() {
    explore(&["the head"], |rig| {
        let plane = &rig.plane;
        let other = plane.bind(ingress(1), 7, None).unwrap();
        let block = other.block();
        add_filter(block, &flower(1).priority(5)).unwrap();
        let told = Arc::new(Heads::default());
        let (binding, added, deleted) = three(
            || plane.bind(ingress(2), 7, Some(Arc::clone(&told) as Arc<dyn HeadChange>)).unwrap(),
            || answer(add_filter(block, &flower(1).priority(3))),
            || done(delete_filter(block, FilterKey::priority(0, 5))),
        );
        assert!(matches!((added, deleted), (Ok(_), Ok(_))), "{added:?} {deleted:?}");
        assert_eq!(told.last(), Some(Some(3)));
        drop(binding);
        assert_eq!(told.last(), Some(None), "told that there is nothing [HC-4]");
        "the head"
    });
}

/// Priorities that a subscriber was told.
#[derive(Default)]
struct Heads(Mutex<Vec<Option<u32>>>);

impl Heads {
    fn last(&self) -> Option<Option<u32>> {
        self.0.lock().unwrap().last().copied()
    }
}

impl HeadChange for Heads {
    fn head_changed(&self, head: &ProtoList) {
        self.0.lock().unwrap().push(head.first_priority());
    }
}
