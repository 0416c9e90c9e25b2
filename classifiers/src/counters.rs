//! Hits per filter and action, one slot a worker.

use std::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::sync::{Arc, Weak};

use crossbeam_utils::CachePadded;

use crate::port::WorkerId;
use crate::prefetch;
use crate::sync::{Lock, class};

/// Counters in one bank: as many as a word has bits.
const BANK: usize = 64;

/// Where threads take counters from without meeting each other.
const SHARDS: usize = 16;

thread_local! {
    /// Which shard is this thread's.
    static SHARD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % SHARDS
    };
}

/// What one filter or action did, summed over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Packets that a filter matched, or times that an action ran.
    pub packets: u64,
    /// Their bytes from the L3 header on [ST-4].
    pub bytes: u64,
    /// When the last one came, in ns on the clock of [`Context::now_ns`](crate::classify::Context); 0 if none came.
    pub last_used_ns: u64,
    /// Packets an action dropped; 0 for filters.
    pub drops: u64,
    /// Packets an action could not serve; 0 for filters.
    pub overlimits: u64,
}

/// Counters of one filter or action. Each worker writes its own slot; slots of different workers are cache lines apart.
/// A read beside traffic is monotone and never torn [ST-3].
#[derive(Debug)]
pub struct Counters {
    bank: Arc<Bank>,
    place: u8,
}

/// Where counters come from and go back to: 64 in one allocation, packed for each worker.
#[derive(Debug)]
pub(crate) struct Pool {
    workers: usize,
    /// Whether its counters count drops and overlimits too.
    losses: bool,
    /// Banks with a free place; threads keep apart.
    open: [CachePadded<Lock<Vec<Arc<Bank>>, { class::QUEUE }>>; SHARDS],
}

#[derive(Debug)]
struct Bank {
    pool: Weak<Pool>,
    shard: usize,
    /// Which places are taken: bits are set under the shard's lock, and cleared by whoever is done.
    taken: AtomicU64,
    /// Holders of each place beyond the first.
    shares: [AtomicU32; BANK],
    /// One row a worker.
    rows: Rows<Slot>,
    /// None where nothing is lost.
    losses: Rows<Losses>,
}

type Rows<T> = Box<[CachePadded<[T; BANK]>]>;

#[derive(Debug, Default)]
struct Slot {
    packets: AtomicU64,
    bytes: AtomicU64,
    last_used_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct Losses {
    drops: AtomicU64,
    overlimits: AtomicU64,
}

impl Pool {
    /// For filters and workers 0 to `workers - 1`.
    pub(crate) fn for_filters(workers: usize) -> Arc<Pool> {
        Arc::new(Pool { workers, losses: false, open: Default::default() })
    }

    /// For actions, which may lose packets.
    pub(crate) fn for_actions(workers: usize) -> Arc<Pool> {
        Arc::new(Pool { workers, losses: true, open: Default::default() })
    }

    /// Counters that begin at zero.
    pub(crate) fn take(self: &Arc<Self>) -> Counters {
        let shard = SHARD.with(|shard| *shard);
        let mut open = self.open[shard].lock();
        let bank = match open.last() {
            Some(bank) => Arc::clone(bank),
            None => {
                let bank = Arc::new(Bank::new(self, shard));
                open.push(Arc::clone(&bank));
                bank
            }
        };
        let place = bank.taken.load(Acquire).trailing_ones();
        let bit = 1 << place;
        if bank.taken.fetch_or(bit, AcqRel) | bit == u64::MAX {
            open.pop();
        }
        drop(open);
        #[expect(clippy::cast_possible_truncation, reason = "an open bank has a place below 64")]
        let counters = Counters { bank, place: place as u8 };
        counters.clear();
        counters
    }
}

impl Bank {
    fn new(pool: &Arc<Pool>, shard: usize) -> Bank {
        Bank {
            pool: Arc::downgrade(pool),
            shard,
            taken: AtomicU64::new(0),
            shares: [const { AtomicU32::new(0) }; BANK],
            rows: rows(pool.workers),
            losses: rows(if pool.losses { pool.workers } else { 0 }),
        }
    }
}

fn rows<T: Default>(workers: usize) -> Rows<T> {
    let row = || CachePadded::new(std::array::from_fn(|_| T::default()));
    std::iter::repeat_with(row).take(workers).collect()
}

impl Counters {
    /// Has fetched what [`Counters::hit`] writes.
    #[inline]
    pub(crate) fn prefetch(&self, worker: WorkerId) {
        prefetch::value(&self.bank.rows[usize::from(worker.0)][usize::from(self.place) % BANK]);
    }

    /// Counts a packet of `bytes` bytes, at `now_ns`.
    #[inline]
    pub fn hit(&self, worker: WorkerId, bytes: u32, now_ns: u64) {
        let slot = &self.bank.rows[usize::from(worker.0)][usize::from(self.place) % BANK];
        add(&slot.packets, 1);
        add(&slot.bytes, u64::from(bytes));
        slot.last_used_ns.store(now_ns, Relaxed);
    }

    /// Counts a packet that an action dropped. Only actions have counters for this.
    #[inline]
    pub fn drop_one(&self, worker: WorkerId) {
        add(&self.losses(worker).drops, 1);
    }

    /// Counts a packet that an action could not serve. Only actions have counters for this.
    #[inline]
    pub fn overlimit_one(&self, worker: WorkerId) {
        add(&self.losses(worker).overlimits, 1);
    }

    /// The sum over all workers; the latest of their times.
    pub fn sum(&self) -> Hits {
        let place = usize::from(self.place) % BANK;
        let mut sum = Hits::default();
        for Slot { packets, bytes, last_used_ns } in self.bank.rows.iter().map(|row| &row[place]) {
            sum.packets += packets.load(Relaxed);
            sum.bytes += bytes.load(Relaxed);
            sum.last_used_ns = sum.last_used_ns.max(last_used_ns.load(Relaxed));
        }
        for Losses { drops, overlimits } in self.bank.losses.iter().map(|row| &row[place]) {
            sum.drops += drops.load(Relaxed);
            sum.overlimits += overlimits.load(Relaxed);
        }
        sum
    }

    #[inline]
    fn losses(&self, worker: WorkerId) -> &Losses {
        &self.bank.losses[usize::from(worker.0)][usize::from(self.place) % BANK]
    }

    fn clear(&self) {
        let place = usize::from(self.place) % BANK;
        for Slot { packets, bytes, last_used_ns } in self.bank.rows.iter().map(|row| &row[place]) {
            [packets, bytes, last_used_ns].iter().for_each(|counter| counter.store(0, Relaxed));
        }
        for Losses { drops, overlimits } in self.bank.losses.iter().map(|row| &row[place]) {
            [drops, overlimits].iter().for_each(|counter| counter.store(0, Relaxed));
        }
    }
}

/// The same counters, for a filter that goes on counting where another one ends.
impl Clone for Counters {
    fn clone(&self) -> Self {
        self.bank.shares[usize::from(self.place) % BANK].fetch_add(1, Relaxed);
        Counters { bank: Arc::clone(&self.bank), place: self.place }
    }
}

/// Only after every worker has moved on: the next owner begins at zero, and stays there [KR-81].
impl Drop for Counters {
    fn drop(&mut self) {
        let shares = &self.bank.shares[usize::from(self.place) % BANK];
        if shares.try_update(AcqRel, Relaxed, |shares| shares.checked_sub(1)).is_ok() {
            return; // not the last
        }
        if self.bank.taken.fetch_and(!(1 << self.place), AcqRel) != u64::MAX {
            return; // the bank is open anyway
        }
        if let Some(pool) = self.bank.pool.upgrade() {
            pool.open[self.bank.shard].lock().push(Arc::clone(&self.bank));
        }
    }
}

/// What a filter's and an action's counters take in their banks.
pub(crate) fn bytes(workers: usize) -> usize {
    workers * (2 * size_of::<Slot>() + size_of::<Losses>()) + 2 * size_of::<AtomicU32>()
}

/// A slot has one writer, so a load and a store do without the bus lock of `fetch_add`.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [KR-81], [ST-6]
    #[test]
    fn counters_begin_at_zero_also_where_others_were() {
        let pool = Pool::for_actions(2);
        let mut all: Vec<_> = (0..200).map(|_| pool.take()).collect();
        for (n, counters) in (1..).zip(&all) {
            counters.hit(WorkerId(n % 2), u32::from(n), 7);
            counters.drop_one(WorkerId(1));
            counters.overlimit_one(WorkerId(0));
        }
        let bytes: Vec<_> = all.iter().map(|counters| counters.sum().bytes).collect();
        assert_eq!(bytes, (1..=200).collect::<Vec<_>>(), "each has places of its own");
        assert!(all.iter().map(Counters::sum).all(|sum| (sum.packets, sum.drops, sum.overlimits) == (1, 1, 1)));
        all.truncate(100);
        let again: Vec<_> = (0..100).map(|_| pool.take()).collect();
        assert!(again.iter().all(|counters| counters.sum() == Hits::default()));
        assert_eq!(all[99].sum().bytes, 100);
        assert_eq!(pool.open.iter().map(|open| open.lock().len()).sum::<usize>(), 1, "what came back was used again");
    }

    /// [ST-7]
    #[test]
    fn counters_go_back_with_their_last_holder() {
        let pool = Pool::for_filters(1);
        let (first, second) = (pool.take(), pool.take());
        let again = first.clone();
        first.hit(WorkerId(0), 5, 7);
        drop(first);
        let other = pool.take();
        again.hit(WorkerId(0), 5, 8);
        assert_eq!((again.sum().packets, other.sum().packets, second.sum().packets), (2, 0, 0));
        drop(again);
        assert_eq!(pool.take().sum(), Hits::default());
        assert_eq!(other.bank.taken.load(Relaxed), 0b110);
    }
}
