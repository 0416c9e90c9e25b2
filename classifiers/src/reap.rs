//! The queue of deferred destruction: what workers may still hold lives until all of them have moved on.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::action::{Action, Params};
use crate::chain::{Chain, Pin, ProtoList};
use crate::filter::Filter;
use crate::index::Waste;
use crate::index::era::{Eras, Over, Past};
use crate::inject::{Injector, Point};
use crate::kind::View;
use crate::kind::flower::Group;
use crate::kind::u32::Nodes;
use crate::proto::Proto;
use crate::sync::{self, AtomicUsize, Lock, Ordering, TryLock, class};
use crate::transaction::Retired;

/// How control threads know that no worker holds what it held before.
///
/// A worker passes a quiescent point at the end of each burst, and is at one while it is idle. The engine answers with its
/// burst counters.
pub trait Quiescence: Send + Sync {
    /// Where every worker is now.
    fn snapshot(&self) -> Box<[u64]>;

    /// Whether every worker has passed a quiescent point since `snapshot` was taken.
    fn passed(&self, snapshot: &[u64]) -> bool;
}

/// No workers: nothing is ever held.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWorkers;

impl Quiescence for NoWorkers {
    fn snapshot(&self) -> Box<[u64]> {
        Box::default()
    }

    fn passed(&self, _: &[u64]) -> bool {
        true
    }
}

/// Something that a worker may hold. Control threads push it after they unlinked it; it is dropped, in the order of
/// pushing, when every worker has moved on [DD-1], [DD-2].
#[derive(Debug)]
#[expect(dead_code, reason = "they are there to be dropped")]
pub(crate) enum Garbage {
    List(Arc<ProtoList>),
    View(View),
    Index(Waste),
    Group(Group),
    Nodes(Arc<Nodes>),
    Filter(Arc<Filter>),
    /// Not unlinked yet: that is done when it is dropped.
    Retired(Retired),
    Action(Arc<Action>),
    Params(Arc<Params>),
    /// The reason for a hidden chain to be there: gone when no packet can go there any more [CC-21].
    Pin(Pin),
    Proto(Arc<Proto>),
    Chain(Arc<Chain>),
    Any(Arc<dyn Any + Send + Sync>),
}

/// The queue. Whoever has time calls [`Reaper::poll`]: a thread of the engine, and requests when much is pending.
pub struct Reaper {
    quiescence: Box<dyn Quiescence>,
    /// Above this, deletes wait [DD-7].
    limit: usize,
    /// Pending, above which a request helps.
    helping: usize,
    pending: CachePadded<AtomicUsize>,
    /// Not yet waiting for a grace period.
    fresh: CachePadded<Lock<Vec<Garbage>, { class::QUEUE }>>,
    /// Held by the one consumer.
    waiting: TryLock<VecDeque<Batch>>,
    eras: Arc<Eras>,
    injector: Arc<Injector>,
}

/// What one poll releases at most: the rest is for whoever polls next, so that nobody works for all others [KR-77].
const SHARE: usize = 1024;

/// What waits for one grace period.
#[derive(Debug)]
struct Batch {
    since: Box<[u64]>,
    /// The era that ended when all of it had been unlinked.
    past: Past,
    garbage: VecDeque<Garbage>,
}

impl Reaper {
    pub(crate) fn new(
        quiescence: Box<dyn Quiescence>,
        limit: usize,
        helping: usize,
        injector: Arc<Injector>,
    ) -> Reaper {
        Reaper {
            quiescence,
            limit,
            helping,
            pending: CachePadded::default(),
            fresh: CachePadded::default(),
            waiting: TryLock::default(),
            eras: Eras::new(),
            injector,
        }
    }

    /// Of the tables whose old parts come here.
    pub(crate) fn eras(&self) -> &Arc<Eras> {
        &self.eras
    }

    /// Things that wait to be released.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Releases what no worker can hold any more, and returns how much that was. At most one thread does it at a time;
    /// for others there is nothing to do. Call it without locks of one's own.
    pub fn poll(&self) -> usize {
        sync::assert_may_destroy();
        let Some(mut waiting) = self.waiting.try_lock() else { return 0 };
        let mut released = 0;
        while released < SHARE {
            self.collect(&mut waiting);
            let Some(batch) = waiting.front_mut().filter(|batch| self.quiescence.passed(&batch.since)) else { break };
            let Some(over) = batch.past.over() else { break };
            let share = batch.garbage.len().min(SHARE - released);
            for thing in batch.garbage.drain(..share) {
                let _ = self.injector.at(Point::Reaping);
                thing.release(&over); // may push more [DD-3]
            }
            self.pending.fetch_sub(share, Ordering::Relaxed);
            released += share;
            waiting.pop_front_if(|batch| batch.garbage.is_empty());
        }
        released
    }

    /// What is there from now on waits for the next grace period.
    fn collect(&self, waiting: &mut VecDeque<Batch>) {
        let garbage = std::mem::take(&mut *self.fresh.lock());
        if !garbage.is_empty() {
            let past = self.eras.end();
            waiting.push_back(Batch { since: self.quiescence.snapshot(), past, garbage: garbage.into() });
        }
    }

    /// Polls until nothing is pending: for the end, when workers have stopped or still run [DD-5].
    pub fn drain(&self) {
        while self.pending() > 0 {
            if self.poll() == 0 {
                sync::thread::yield_now();
            }
        }
    }

    /// Keeps `value` until no worker can hold it: for what the engine itself unlinks.
    pub fn defer(&self, value: Arc<dyn Any + Send + Sync>) {
        self.push([Garbage::Any(value)]);
    }

    /// After these were unlinked.
    pub(crate) fn push(&self, garbage: impl IntoIterator<Item = Garbage>) {
        let mut fresh = self.fresh.lock();
        let before = fresh.len();
        fresh.extend(garbage);
        self.pending.fetch_add(fresh.len() - before, Ordering::Relaxed);
    }

    /// Before a request that will push: waits while too much is pending [DD-7].
    pub(crate) fn admit(&self) {
        while self.pending() >= self.limit {
            if self.poll() == 0 {
                sync::pause();
            }
        }
    }

    /// After a request, without locks: helps if much is pending.
    pub(crate) fn relieve(&self) {
        if self.pending() > self.helping {
            self.poll();
        }
    }
}

/// Nobody classifies any more.
impl Drop for Reaper {
    fn drop(&mut self) {
        let Some(mut waiting) = self.waiting.try_lock() else { return };
        self.collect(&mut waiting);
        for Batch { mut past, garbage, .. } in waiting.drain(..) {
            let Some(over) = past.over() else { return };
            garbage.into_iter().for_each(|thing| thing.release(&over));
        }
    }
}

impl Garbage {
    /// When nobody can hold it any more.
    fn release(self, over: &Over) {
        match self {
            Garbage::Index(waste) => waste.free(over),
            other => drop(other),
        }
    }
}

impl std::fmt::Debug for Reaper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reaper").field("pending", &self.pending()).finish_non_exhaustive()
    }
}
