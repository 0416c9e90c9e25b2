use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::chain::{Head, ProtoList};
use tidegate_classifiers::classify::Context;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::plane::{Direction, HeadChange, Hook, Plane};
use tidegate_classifiers::port::{Egress, PortId, WorkerId};
use tidegate_classifiers::reap::Quiescence;
use tidegate_classifiers::request::{self, ActionKind, DumpFilter, FilterKey, FilterSpec, Mode};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::support::*;

/// A worker's burst counter: even while it is idle, odd within a burst.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bursts(Arc<AtomicU64>);

impl Bursts {
    /// Runs a burst.
    pub(crate) fn burst<T>(&self, run: impl FnOnce() -> T) -> T {
        self.0.fetch_add(1, Ordering::SeqCst);
        let result = run();
        self.0.fetch_add(1, Ordering::SeqCst);
        result
    }
}

impl Quiescence for Bursts {
    fn snapshot(&self) -> Box<[u64]> {
        Box::new([self.0.load(Ordering::SeqCst)])
    }

    fn passed(&self, snapshot: &[u64]) -> bool {
        snapshot[0].is_multiple_of(2) || self.0.load(Ordering::SeqCst) > snapshot[0]
    }
}

pub(crate) struct NoPorts;

impl Egress for NoPorts {
    fn ready(&self, _: PortId) -> bool {
        false
    }

    fn mirror(&mut self, _: PortId) -> bool {
        false
    }

    fn frame(&self) -> &[u8] {
        &[]
    }
}

/// Puts packets to a block, as worker 0.
pub(crate) struct Worker {
    block: Arc<Block>,
    rng: fastrand::Rng,
    now_ns: u64,
}

impl Worker {
    pub(crate) fn new(block: &Arc<Block>) -> Worker {
        Worker { block: Arc::clone(block), rng: fastrand::Rng::new(), now_ns: 0 }
    }

    pub(crate) fn send(&mut self, packet: &Packet) -> Verdict {
        let block = Arc::clone(&self.block);
        let head = block.head();
        self.send_to(&head, packet)
    }

    /// Packets one after the other, number 0 first.
    pub(crate) fn send_many(&mut self, count: u64, packet: impl Fn(u64) -> Packet) {
        for n in 0..count {
            self.send(&packet(n));
        }
    }

    /// With a head loaded before.
    pub(crate) fn send_to(&mut self, head: &Head, packet: &Packet) -> Verdict {
        self.now_ns += 1;
        let (generation, now_ns) = (self.block.plane().generation(), self.now_ns);
        let mut egress = NoPorts;
        let mut cx = Context { worker: WorkerId(0), generation, now_ns, rng: &mut self.rng, egress: &mut egress };
        self.block.classify(head, &mut packet.clone(), &mut cx)
    }
}

/// A packet from this source address.
pub(crate) fn frame_from(address: u64) -> Packet {
    let mut frame = [0; 60];
    frame[6..12].copy_from_slice(&address.to_be_bytes()[2..]);
    Packet::parse(&frame, PortId(0)).unwrap()
}

/// [KR-77], [RP-4]: beside one who flushes all the time each add is served before long; beside many who add, a flush.
#[test]
fn nobody_starves() {
    let plane = Plane::standalone(1);
    let block = plane.private_block();
    request::add_chain(&block, 0).unwrap();
    let done = AtomicBool::new(false);
    let longest = |run: &dyn Fn()| {
        let begin = Instant::now();
        run();
        begin.elapsed()
    };
    let time = seconds(1, 120);
    for flushers in [1, 3] {
        done.store(false, Ordering::Relaxed);
        let waits = together(4, |n| {
            let mut worst = Duration::ZERO;
            let begin = Instant::now();
            for address in 0.. {
                let waited = longest(&|| match n < flushers {
                    true => request::delete_filter(&block, FilterKey::chain(0)).unwrap(),
                    false => _ = request::add_filter(&block, &flower(n as u32, address)).unwrap(),
                });
                worst = worst.max(waited);
                if begin.elapsed() >= time {
                    break;
                }
            }
            worst
        });
        assert!(waits.iter().all(|&wait| wait < Duration::from_secs(2)), "{flushers} flushers: {waits:?}");
    }
    drop(block);
    assert_nothing_left(&plane);
}

/// [KR-80], [DD-1], [DD-4], [DD-7]: a worker that stands in its burst holds back what it may see, and no more than the limit;
/// requests that do not delete go on.
#[test]
fn a_worker_that_stands_still_holds_back_only_so_much() {
    const LIMIT: usize = 200;
    let bursts = Bursts::default();
    let plane = Plane::with_limits(1, bursts.clone(), LIMIT, 10);
    let block = plane.private_block();
    for n in 0..1000 {
        request::add_filter(&block, &with(flower(1, n), &[gact(Control::Shot)])).unwrap();
    }
    plane.reaper().drain();
    let deleted = AtomicUsize::new(0);
    thread::scope(|scope| {
        let stalled = bursts.clone();
        let (head, mut worker) = (block.head(), Worker::new(&block));
        let deleter = bursts.burst(|| {
            let deleter = scope.spawn(|| {
                for handle in 1..=1000 {
                    request::delete_filter(&block, key(0, 1, handle)).unwrap();
                    deleted.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(soon(|| plane.reaper().pending() >= LIMIT));
            a_while();
            let count = deleted.load(Ordering::Relaxed);
            assert!(0 < count && count < 1000 && !deleter.is_finished(), "{count} deleted: deletes wait");
            assert!(plane.reaper().pending() < LIMIT + 20, "{} are pending", plane.reaper().pending());
            assert_eq!(plane.live().filters, 1000, "nothing is freed early");
            assert_eq!(plane.reaper().poll(), 0);
            let begin = Instant::now();
            let added = request::add_filter(&block, &flower(2, 1)).unwrap();
            assert!(begin.elapsed() < Duration::from_secs(1), "an add does not wait");
            request::get_filter(&block, added).unwrap();
            worker.send_to(&head, &frame_from(999)); // whatever is there for it, it is whole
            drop(head);
            deleter
        });
        drop(stalled);
        deleter.join().unwrap();
    });
    plane.reaper().drain();
    assert_eq!((deleted.into_inner(), plane.live().filters), (1000, 1));
    drop(block);
    assert_nothing_left(&plane);
}

/// Follows the heads of a block.
#[derive(Default)]
struct Follower {
    calls: AtomicUsize,
    empty: AtomicBool,
}

impl HeadChange for Follower {
    fn head_changed(&self, head: &ProtoList) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.empty.store(head.is_empty(), Ordering::Relaxed);
    }
}

/// [KR-73], [KR-76], [KR-75], [LK-1], [LK-6], [HC-2], [HC-4]: every sort of request at once on one shared block, with packets;
/// every answer is one of those that it may give, and nothing is left.
#[test]
fn everything_at_once_leaves_nothing() {
    let bursts = Bursts::default();
    let plane = Plane::with_limits(1, bursts.clone(), 10_000, 16);
    jitter(&plane);
    let hook = |port| Hook { port: PortId(port), direction: Direction::Ingress };
    let follower = Arc::new(Follower::default());
    let binding = plane.bind(hook(0), 7, Some(follower.clone())).unwrap();
    let block = Arc::clone(binding.block());
    let done = AtomicBool::new(false);
    let time = seconds(4, 600);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut worker = Worker::new(&block);
            while !done.load(Ordering::Relaxed) {
                bursts.burst(|| worker.send_many(16, |n| frame_from(n % 4)));
            }
        });
        together(8, |n| {
            let begin = Instant::now();
            while begin.elapsed() < time {
                if let Err(error) = anything(&plane, &block, n) {
                    let allowed = ["ENOENT", "EEXIST", "EINVAL", "EPERM", "EOPNOTSUPP"];
                    assert!(allowed.contains(&error.errno()), "{error}");
                }
            }
        });
        done.store(true, Ordering::Relaxed);
    });
    assert!(follower.calls.load(Ordering::Relaxed) > 0);
    assert_eq!(follower.empty.load(Ordering::Relaxed), block.head().is_empty(), "the last call tells how it is [HC-2]");
    drop(block);
    drop(binding);
    assert!(follower.empty.load(Ordering::Relaxed), "[HC-4]");
    assert_nothing_left(&plane);
}

/// One random request.
fn anything(plane: &Arc<Plane>, block: &Arc<Block>, thread: usize) -> Result<(), RequestError> {
    let chain = fastrand::u32(..3);
    let place = key(chain, fastrand::u32(1..4), fastrand::u32(..4));
    let mode = [Mode::Add, Mode::Replace, Mode::Change][fastrand::usize(..3)];
    let numbered =
        gact([Control::Ok, Control::Shot, Control::Continue][fastrand::usize(..3)]).numbered(fastrand::u32(..3));
    match fastrand::u32(..20) {
        0..7 => {
            let kind = if fastrand::u8(..4) == 0 {
                matchall(0)
            } else {
                flower_masked(0, fastrand::u64(..4), [0xff, 0xf][thread % 2])
            };
            let priority = if fastrand::u8(..5) == 0 { 0 } else { place.priority };
            let spec = FilterSpec { chain, priority, handle: place.handle, ..kind };
            let actions = [numbered, gact(Control::Goto(fastrand::u32(..3)))];
            request::new_filter(block, &with(spec, &actions[..fastrand::usize(..3)]), mode).map(drop)
        }
        7..11 => request::delete_filter(block, place),
        11 => request::delete_filter(block, FilterKey::chain(chain)),
        12 => request::add_chain(block, chain),
        13 => request::delete_chain(block, chain),
        14 => request::get_filter(block, place).map(drop),
        15 => {
            let mut cursor = request::Cursor::default(); // given up in the middle [KR-75]
            (0..3).try_for_each(|_| request::dump_page(block, &DumpFilter::default(), &mut cursor, 2).map(drop))
        }
        16 => {
            let hook = Hook { port: PortId(thread as u16 + 1), direction: Direction::Ingress };
            plane.bind(hook, 7, Some(Arc::new(Follower::default()))).map(drop)
        }
        17 => request::add_actions(plane, &[numbered], mode).map(drop),
        18 => request::delete_actions(plane, &[(ActionKind::Gact, fastrand::u32(1..3))]),
        _ => request::flush_actions(plane, ActionKind::Gact).map(drop),
    }
}
