//! Hits per filter and action, one slot a worker.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use crate::port::WorkerId;

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

/// Counters of one filter or action. Each worker writes its own slot, a cache line apart from the others; readers sum
/// them. A read beside traffic is monotone and never torn [ST-3].
#[derive(Debug)]
pub struct Counters {
    slots: Box<[CachePadded<Slot>]>,
}

#[derive(Debug, Default)]
struct Slot {
    packets: AtomicU64,
    bytes: AtomicU64,
    last_used_ns: AtomicU64,
    drops: AtomicU64,
    overlimits: AtomicU64,
}

impl Counters {
    /// Zeroed counters for workers 0 to `workers - 1`.
    pub fn new(workers: usize) -> Counters {
        Counters { slots: std::iter::repeat_with(CachePadded::default).take(workers).collect() }
    }

    /// Counts a packet of `bytes` bytes, at `now_ns`.
    #[inline]
    pub fn hit(&self, worker: WorkerId, bytes: u32, now_ns: u64) {
        let slot = self.slot(worker);
        add(&slot.packets, 1);
        add(&slot.bytes, u64::from(bytes));
        slot.last_used_ns.store(now_ns, Relaxed);
    }

    /// Counts a packet that an action dropped.
    #[inline]
    pub fn drop_one(&self, worker: WorkerId) {
        add(&self.slot(worker).drops, 1);
    }

    /// Counts a packet that an action could not serve.
    #[inline]
    pub fn overlimit_one(&self, worker: WorkerId) {
        add(&self.slot(worker).overlimits, 1);
    }

    /// The sum over all workers; the latest of their times.
    pub fn sum(&self) -> Hits {
        self.slots.iter().fold(Hits::default(), |sum, slot| Hits {
            packets: sum.packets + slot.packets.load(Relaxed),
            bytes: sum.bytes + slot.bytes.load(Relaxed),
            last_used_ns: sum.last_used_ns.max(slot.last_used_ns.load(Relaxed)),
            drops: sum.drops + slot.drops.load(Relaxed),
            overlimits: sum.overlimits + slot.overlimits.load(Relaxed),
        })
    }

    #[inline]
    fn slot(&self, worker: WorkerId) -> &Slot {
        &self.slots[usize::from(worker.0)]
    }
}

/// A slot has one writer, so a load and a store do without the bus lock of `fetch_add`.
#[inline]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}
