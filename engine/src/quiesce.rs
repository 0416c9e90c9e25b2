//! Burst counters: "every worker has moved on".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam_utils::CachePadded;
use tidegate_classifiers::port::WorkerId;
use tidegate_classifiers::reap::Quiescence;

/// Set while a worker does not run: it holds nothing then.
const PARKED: u64 = 1 << 63;

/// How many burst boundaries each worker has passed. Between two of them a worker may hold what it found published; at
/// a boundary, and while it does not run, it holds nothing (invariant 4). A count only grows, also over restarts.
///
/// Access: a counter is written by its worker alone while that runs, and by who starts it before and after. A control
/// thread unlinks, then looks at the counters; a worker counts, then looks for lists. A fence between the two steps on
/// either side sees to it that not both miss what the other did: a worker whose old count is in the snapshot, and which
/// still finds what was unlinked, does so before its next boundary.
#[derive(Clone, Debug)]
pub struct Bursts(Arc<[CachePadded<AtomicU64>]>);

impl Bursts {
    /// Counters of so many workers, none of which runs.
    pub fn new(workers: u16) -> Self {
        Bursts((0..workers).map(|_| CachePadded::new(AtomicU64::new(PARKED))).collect())
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.0.len()
    }

    /// Boundaries that `worker` has passed: its heartbeat.
    pub fn count(&self, worker: WorkerId) -> u64 {
        self.counter(worker).load(Ordering::Acquire) & !PARKED
    }

    /// `worker` runs for as long as the guard lives.
    pub fn start(&self, worker: WorkerId) -> Running {
        let counter = self.counter(worker);
        counter.store(self.count(worker), Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Running { bursts: self.clone(), worker }
    }

    fn counter(&self, worker: WorkerId) -> &AtomicU64 {
        &self.0[usize::from(worker.0)]
    }
}

impl Quiescence for Bursts {
    fn snapshot(&self) -> Box<[u64]> {
        fence(Ordering::SeqCst);
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }

    fn passed(&self, snapshot: &[u64]) -> bool {
        let moved = |(counter, &then): (&CachePadded<AtomicU64>, &u64)| {
            let now = counter.load(Ordering::Acquire);
            now != then || now & PARKED != 0
        };
        self.0.iter().zip(snapshot).all(moved)
    }
}

/// A worker that runs. Dropped, it is parked, also when the worker panics.
#[derive(Debug)]
pub struct Running {
    bursts: Bursts,
    worker: WorkerId,
}

impl Running {
    /// A burst boundary: what was held is not held any more.
    #[inline]
    pub fn boundary(&self) {
        let counter = self.bursts.counter(self.worker);
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release); // one writer: no read-modify-write
        fence(Ordering::SeqCst);
    }

    /// Runs `wait`, during which nothing is held: nobody waits for its end.
    pub fn parked(&self, wait: impl FnOnce()) {
        let counter = self.bursts.counter(self.worker);
        let count = counter.load(Ordering::Relaxed);
        counter.store(count | PARKED, Ordering::Release);
        wait();
        counter.store(count, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let counter = self.bursts.counter(self.worker);
        counter.store(counter.load(Ordering::Relaxed) | PARKED, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_period_ends_when_every_running_worker_has_passed_a_boundary() {
        let bursts = Bursts::new(3);
        let (first, second) = (bursts.start(WorkerId(0)), bursts.start(WorkerId(1)));
        let since = bursts.snapshot();
        assert!(!bursts.passed(&since));
        first.boundary();
        assert!(!bursts.passed(&since));
        second.boundary();
        assert!(bursts.passed(&since), "the third does not run");
    }

    #[test]
    fn nobody_waits_for_a_worker_that_waits() {
        let bursts = Bursts::new(1);
        let running = bursts.start(WorkerId(0));
        let before = bursts.snapshot();
        assert!(!bursts.passed(&before));
        running.parked(|| {
            assert!(bursts.passed(&before) && bursts.passed(&bursts.snapshot()));
            assert_eq!(bursts.count(WorkerId(0)), 0);
        });
        assert!(!bursts.passed(&bursts.snapshot()));
    }

    #[test]
    fn a_worker_that_ends_holds_nothing_and_counts_on_when_it_starts_again() {
        let bursts = Bursts::new(1);
        let running = bursts.start(WorkerId(0));
        running.boundary();
        let since = bursts.snapshot();
        drop(running);
        assert!(bursts.passed(&since));
        let before = bursts.count(WorkerId(0));
        let since = bursts.snapshot();
        let again = bursts.start(WorkerId(0));
        assert_eq!(bursts.count(WorkerId(0)), before);
        assert!(bursts.passed(&since), "it did not run when the snapshot was taken");
        let since = bursts.snapshot();
        assert!(!bursts.passed(&since));
        again.boundary();
        assert!(bursts.passed(&since));
    }
}
