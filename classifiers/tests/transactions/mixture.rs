//! Packets beside commits, with real threads: no packet meets a mixture.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_cache::FlowCache;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::reap::Quiescence;
use tidegate_classifiers::request::{FilterKey, FilterSpec, Mode, add_filter, delete_filter};
use tidegate_classifiers::transaction::Transaction;

use crate::support::*;

/// [TX-1], [TX-2], [TX-8], [TX-10], [DV-1]: in every version of the rules, each filter that one of the packets can meet has the version's
/// number: packets of a burst must all meet the number of the generation that the burst began with. From one version
/// to the next filters are replaced in small and large groups and in the place of ranges, deleted and added, priorities
/// change their kind, and chains come and go, in two blocks. Clients add and delete in the same priorities.
#[test]
fn no_packet_meets_a_mixture() {
    let bursts = Bursts::default();
    let plane = Plane::with_limits(4, bursts.clone(), 1_000_000, 64);
    let blocks = [plane.private_block(), plane.private_block()];
    let (stop, commits, checked) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let first = plane.begin();
    blocks.iter().for_each(|block| change(&first, block, 1));
    assert_eq!(first.commit().unwrap().number(), 1);
    thread::scope(|scope| {
        for worker in 0..2 {
            let (plane, blocks, bursts, stop, checked) = (&plane, &blocks, &bursts, &stop, &checked);
            scope.spawn(move || work(plane, blocks, &bursts.0[worker], stop, checked));
        }
        for (block, bursts) in blocks.iter().zip(&bursts.0[2..]) {
            let stop = &stop;
            scope.spawn(move || interfere(block, bursts, stop));
        }
        let committed = scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(if std::env::var_os("SOAK").is_some() { 120 } else { 3 });
            for version in 2.. {
                let tx = plane.begin();
                thread::scope(|scope| {
                    for block in &blocks {
                        let tx = &tx;
                        scope.spawn(move || change(tx, block, version));
                    }
                });
                assert_eq!(tx.commit().unwrap().number(), version);
                plane.reaper().poll();
                commits.store(version, Ordering::Relaxed);
                if Instant::now() > end {
                    break;
                }
            }
        });
        let committed = committed.join();
        stop.store(true, Ordering::Relaxed);
        committed.unwrap();
    });
    let (commits, checked) = (commits.into_inner(), checked.into_inner());
    eprintln!("{commits} commits, {checked} bursts");
    assert!(commits > 10 && checked > 100, "too slow to mean anything: {commits} commits, {checked} bursts");
    drop(blocks);
    plane.reaper().drain();
    assert_eq!(plane.live(), LiveCounts::default());
}

/// TCP ports, each of which meets another part of the rules.
const PORTS: [u16; 9] = [80, 1000, 1030, 2000, 2050, 3000, 4000, 5000, 6000];

/// From version `version - 1` to `version`.
fn change(tx: &Transaction, block: &Arc<Block>, version: u64) {
    let n = number_of(version);
    let new = |spec: FilterSpec| {
        tx.new_filter(block, &spec, if version == 1 { Mode::Add } else { Mode::Replace }).unwrap();
    };
    let delete = |chain, priority| {
        if version > 1 {
            tx.delete_filter(block, FilterKey::priority(chain, priority)).unwrap();
        }
    };
    new(handle(1, flower(0, 1, 80, n))); // among few
    for port in 0..60 {
        new(handle(u32::from(port) + 1, flower(0, 2, 1000 + port, n))); // among many
    }
    new(handle(1, ranged(0, 3, (1990, 2010), n)));
    new(handle(2, ranged(0, 3, (2000, 2100), n)));
    if version == 1 {
        new(handle(1, goto(5, flower(0, 4, 3000, 0))));
    }
    delete(5, 1);
    new(matchall(5, 1, n));
    // One priority is of two kinds in turn, one filter is there every other time, and one goto has two chains in turn.
    let odd = version % 2 == 1;
    delete(0, 7);
    new(if odd { flower(0, 7, 4000, n) } else { matchall(0, 7, n) });
    if odd {
        new(handle(900, flower(0, 2, 5000, n)));
    } else {
        tx.delete_filter(block, key(0, 2, 900)).unwrap();
    }
    new(handle(1, flower(0, 6, 5000, n)));
    let (here, there) = if odd { (10, 11) } else { (11, 10) };
    new(handle(1, goto(here, flower(0, 5, 6000, 0))));
    new(matchall(here, 1, n));
    delete(there, 1);
}

/// The number of the filters of a version: a port's.
fn number_of(version: u64) -> u16 {
    u16::try_from(version % 60_000).unwrap() + 1
}

/// A worker.
fn work(plane: &Plane, blocks: &[Arc<Block>; 2], bursts: &AtomicU64, stop: &AtomicBool, checked: &AtomicU64) {
    let (mut latest, mut cache) = (plane.generation(), FlowCache::new(64));
    while !stop.load(Ordering::Relaxed) {
        let generation = plane.generation();
        assert!(generation >= latest, "generations only grow");
        latest = generation;
        let expected = PORTS.map(|_| u32::from(number_of(generation.number())));
        for block in blocks {
            let burst = burst_of(block, generation);
            assert_eq!(burst.meets(PORTS), expected, "generation {generation}");
            assert_eq!(burst.meets_cached(PORTS, &mut cache), expected, "generation {generation}, by the flow cache");
        }
        checked.fetch_add(1, Ordering::Relaxed);
        bursts.store(bursts.load(Ordering::Relaxed) + 1, Ordering::Release);
        fence(Ordering::SeqCst);
    }
    bursts.store(PARKED, Ordering::Release);
}

/// A client: adds and deletes filters in the priorities that transactions change, and sees each at once.
fn interfere(block: &Arc<Block>, bursts: &AtomicU64, stop: &AtomicBool) {
    bursts.store(0, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    for n in (0..30).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let port = 20_000 + n;
        let priority = 1 + u32::from(n % 3);
        let spec =
            if priority == 3 { ranged(0, 3, (port, port + 1), 59_999) } else { flower(0, priority, port, 59_999) };
        let id = add_filter(block, &spec).unwrap();
        assert_eq!(burst(block).meets([port]), [59_999]);
        delete_filter(block, id).unwrap();
        assert_ne!(burst(block).meets([port]), [59_999]);
        bursts.store(bursts.load(Ordering::Relaxed) + 1, Ordering::Release);
        fence(Ordering::SeqCst);
    }
    bursts.store(PARKED, Ordering::Release);
}

/// Burst counters, as the engine has them.
#[derive(Clone)]
struct Bursts(Arc<[AtomicU64; 4]>);

/// It does not run.
const PARKED: u64 = u64::MAX;

impl Default for Bursts {
    fn default() -> Bursts {
        Bursts(Arc::new(std::array::from_fn(|_| AtomicU64::new(0))))
    }
}

impl Quiescence for Bursts {
    fn snapshot(&self) -> Box<[u64]> {
        fence(Ordering::SeqCst);
        self.0.iter().map(|bursts| bursts.load(Ordering::Relaxed)).collect()
    }

    fn passed(&self, snapshot: &[u64]) -> bool {
        let moved = |(bursts, &then): (&AtomicU64, &u64)| {
            let now = bursts.load(Ordering::Acquire);
            now != then || now == PARKED
        };
        self.0.iter().zip(snapshot).all(moved)
    }
}
