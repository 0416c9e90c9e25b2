//! What happened to packets, counted per worker and port, summed by whoever reads.
//!
//! One writer a slot, cache lines apart: counting costs a worker no more than a store to its own memory. The engine
//! owns the counters, so they outlive a worker that is restarted [ST-8]. Bytes are those of whole frames.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use tidegate_classifiers::flow_cache::FlowCacheCounts;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_client::totals::PortCounters;
pub use tidegate_client::totals::Totals;

use crate::rings::KernelCounters;

/// One slot for each worker and port, and one for each worker's flow cache.
#[derive(Debug)]
pub struct Counters {
    slots: Box<[CachePadded<PortCounters<AtomicU64>>]>,
    ports: usize,
    flow_caches: Box<[CachePadded<[AtomicU64; 3]>]>,
}

impl Counters {
    /// All zero, for so many workers and ports.
    pub fn new(workers: usize, ports: usize) -> Self {
        Counters {
            slots: (0..workers * ports).map(|_| CachePadded::default()).collect(),
            ports,
            flow_caches: (0..workers).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Adds what the flow cache of `worker` counted. Only `worker` itself may call it.
    ///
    /// # Panics
    /// If there is no such worker.
    #[inline]
    pub fn publish_flow_cache(&self, worker: WorkerId, FlowCacheCounts { hits, misses, passed_by }: FlowCacheCounts) {
        for (counter, count) in self.flow_caches[usize::from(worker.0)].iter().zip([hits, misses, passed_by]) {
            counter.store(counter.load(Relaxed) + count, Relaxed);
        }
    }

    /// What the flow cache of `worker` counted.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn flow_cache(&self, worker: WorkerId) -> FlowCacheCounts {
        let [hits, misses, passed_by] =
            self.flow_caches[usize::from(worker.0)].each_ref().map(|counter| counter.load(Relaxed));
        FlowCacheCounts { hits, misses, passed_by }
    }

    /// Adds what `worker` counted at `port`, and sets it back to zero. Only `worker` itself may call it, once per burst.
    ///
    /// # Panics
    /// If there is no such worker or port.
    #[inline]
    pub fn publish(&self, worker: WorkerId, port: PortId, tally: &mut Totals) {
        let slot = &self.worker_slots(worker)[usize::from(port.0)];
        for (counter, count) in slot.each().zip(tally.each_mut()) {
            counter.store(counter.load(Relaxed) + std::mem::take(count), Relaxed);
        }
    }

    /// The number of a port that is gone counts for another one from now on. No worker may count there.
    pub fn reset(&self, port: PortId) {
        for slot in self.slots.chunks(self.ports.max(1)).filter_map(|worker| worker.get(usize::from(port.0))) {
            slot.each().for_each(|counter| counter.store(0, Relaxed));
        }
    }

    /// What all workers counted at `port`. While traffic flows, the fields may be of slightly different moments.
    pub fn port(&self, port: PortId) -> Totals {
        sum(self.slots.chunks(self.ports.max(1)).filter_map(|worker| worker.get(usize::from(port.0))))
    }

    /// What `worker` counted at `port`: the queue that it owns there.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn queue(&self, worker: WorkerId, port: PortId) -> Totals {
        sum(self.worker_slots(worker).get(usize::from(port.0)))
    }

    fn worker_slots(&self, worker: WorkerId) -> &[CachePadded<PortCounters<AtomicU64>>] {
        let first = usize::from(worker.0) * self.ports;
        &self.slots[first..first + self.ports]
    }
}

/// Adds to `totals` what the kernel counted on a queue between two looks.
pub fn add_kernel(totals: &mut Totals, before: KernelCounters, after: KernelCounters) {
    totals.kernel_rx_dropped += after.rx_dropped.saturating_sub(before.rx_dropped);
    totals.kernel_rx_ring_full += after.rx_ring_full.saturating_sub(before.rx_ring_full);
    totals.kernel_fill_ring_empty += after.fill_ring_empty.saturating_sub(before.fill_ring_empty);
    totals.kernel_invalid += after.invalid.saturating_sub(before.invalid);
}

fn sum<'a>(slots: impl IntoIterator<Item = &'a CachePadded<PortCounters<AtomicU64>>>) -> Totals {
    let mut totals = Totals::default();
    for slot in slots {
        for (total, counter) in totals.each_mut().zip(slot.each()) {
            *total += counter.load(Relaxed);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::port_id;

    /// Each counter another number, so that a mixed-up pair shows.
    fn distinct(base: u64) -> Totals {
        let mut totals = Totals::default();
        for (counter, number) in totals.each_mut().zip(base..) {
            *counter = number;
        }
        totals
    }

    #[test]
    fn publishing_adds_every_counter_and_clears_the_tally() {
        let counters = Counters::new(1, 1);
        let mut tally = distinct(1);
        counters.publish(WorkerId(0), PortId(0), &mut tally);
        assert_eq!(tally, Totals::default());
        assert_eq!(counters.port(PortId(0)), distinct(1));
        counters.publish(WorkerId(0), PortId(0), &mut distinct(1));
        let doubled: Vec<u64> = distinct(1).each().map(|count| 2 * count).collect();
        assert_eq!(counters.port(PortId(0)).each().copied().collect::<Vec<_>>(), doubled);
    }

    #[test]
    fn a_port_sums_over_workers_a_queue_stands_alone() {
        let counters = Counters::new(2, 3);
        let received = |packets| Totals { rx_packets: packets, ..Totals::default() };
        for (port, packets) in [1, 2, 4].into_iter().enumerate() {
            counters.publish(WorkerId(0), port_id(port), &mut received(packets));
            counters.publish(WorkerId(1), port_id(port), &mut received(8 * packets));
        }
        assert_eq!([0, 1, 2].map(|port| counters.port(PortId(port)).rx_packets), [9, 18, 36]);
        assert_eq!(counters.queue(WorkerId(1), PortId(1)).rx_packets, 16);
        assert_eq!(counters.port(PortId(3)), Totals::default(), "no such port");
        counters.reset(PortId(1));
        assert_eq!([0, 1, 2].map(|port| counters.port(PortId(port)).rx_packets), [9, 0, 36]);
    }

    #[test]
    fn each_worker_has_a_flow_cache_of_its_own() {
        let counters = Counters::new(2, 1);
        let counts = |hits| FlowCacheCounts { hits, misses: 2 * hits, passed_by: 4 * hits };
        counters.publish_flow_cache(WorkerId(1), counts(1));
        counters.publish_flow_cache(WorkerId(1), counts(2));
        assert_eq!([0, 1].map(|worker| counters.flow_cache(WorkerId(worker))), [counts(0), counts(3)]);
    }

    #[test]
    fn what_the_kernel_counted_before_is_not_counted_again() {
        let look = |base: u64| KernelCounters {
            rx_dropped: base + 1,
            rx_ring_full: base + 2,
            fill_ring_empty: base + 3,
            invalid: base + 4,
        };
        let mut totals = Totals::default();
        add_kernel(&mut totals, KernelCounters::default(), look(0));
        add_kernel(&mut totals, look(0), look(10));
        let kernel = [
            totals.kernel_rx_dropped,
            totals.kernel_rx_ring_full,
            totals.kernel_fill_ring_empty,
            totals.kernel_invalid,
        ];
        assert_eq!(kernel, [11, 12, 13, 14]);
    }
}
