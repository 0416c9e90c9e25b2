use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tidegate_classifiers::flow_key::{SRC_IP_LOW, SRC_MAC};
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::reap::NoWorkers;
use tidegate_classifiers::request::{self, FilterKey, FilterSpec, FlowerSpec, KindSpec};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::load::*;
use crate::support::*;

/// Ends a thread's loop also when the other one panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Some address for each number.
fn address(n: u64) -> u32 {
    (n * 0x9e37_79b9) as u32
}

/// A filter for the first `len` bits of the IPv4 source.
fn from_network(priority: u32, address: u32, len: u32) -> FilterSpec {
    let mask = u32::MAX << (32 - len);
    let mut spec = FlowerSpec::default();
    spec.value.set(SRC_IP_LOW, (address & mask).into());
    spec.mask.set(SRC_IP_LOW, mask.into());
    FilterSpec { protocol: 0x0800, kind: KindSpec::Flower(Box::new(spec)), ..matchall(priority) }
}

fn packet_from(address: u32) -> Packet {
    let mut frame = [0; 60];
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[26..30].copy_from_slice(&address.to_be_bytes());
    Packet::parse(&frame, PortId(0)).unwrap()
}

/// [IM-2]: while a thread adds and deletes prefixes of all lengths, so that the table grows, tries divide, and tuples come and go, every
/// packet of a filter that stays finds it.
#[test]
fn filters_that_stay_are_found_while_others_come_and_go() {
    const STAY: u64 = 200;
    let plane = Plane::new(1, NoWorkers);
    let block = plane.private_block();
    for n in 0..STAY {
        let shot = with(from_network(100 + n as u32, address(n), 32), &[gact(Control::Shot)]);
        request::add_filter(&block, &shot).unwrap();
    }
    let (done, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _done = Done(&done);
            for round in 0..times(60, 3000) {
                // Behind those that stay: other addresses, and prefixes of theirs.
                let mut added = Vec::new();
                for n in 0..1000_u64 {
                    let (priority, len) = (10_000 + (round + n as u32 * 3) % 2000, 1 + (n % 32) as u32);
                    let trap = with(from_network(priority, address(n), len), &[gact(Control::Trap)]);
                    added.extend(request::add_filter(&block, &trap));
                }
                for id in added {
                    request::delete_filter(&block, FilterKey::from(id)).unwrap();
                }
            }
        });
        let mut worker = Worker::new(&block);
        while !done.load(Ordering::Relaxed) {
            for n in 0..STAY {
                let verdict = worker.send(&packet_from(address(n)));
                assert_eq!(verdict, Verdict::Drop(DropReason::Filter), "{n}");
                seen.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert!(seen.into_inner() > 1000);
    drop(block);
    assert_nothing_left(&plane);
}

/// However filters come and go, an update takes a time that hardly depends on how many there are: filters of one key before
/// and behind each other, and each with a mask of its own.
#[test]
fn the_worst_orders_of_updates_end_soon() {
    let plane = Plane::new(1, NoWorkers);
    let block = plane.private_block();
    let count = times(3000, 100_000);
    let shot = |spec| with(spec, &[gact(Control::Shot)]);
    let mask = |n: u32| u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 34 | 1;
    let (same, masks) = (|n| shot(flower(n, 5)), |n| shot(flower_masked(n, mask(n), mask(n))));
    for specs in [&same as &dyn Fn(u32) -> FilterSpec, &|n| same(count + 1 - n), &masks] {
        for n in 1..=count {
            request::add_filter(&block, &specs(n)).unwrap();
        }
        let KindSpec::Flower(last) = specs(count).kind else { unreachable!("they are flower's") };
        let mut worker = Worker::new(&block);
        let verdict = worker.send(&frame_from(last.value.get(SRC_MAC)));
        assert_eq!(verdict, Verdict::Drop(DropReason::Filter));
        for n in 1..=count {
            request::delete_filter(&block, FilterKey::priority(0, specs(n).priority)).unwrap();
        }
        assert!(request::dump(&block).is_empty());
    }
    drop(block);
    assert_nothing_left(&plane);
}
