//! What happened to packets, counted per worker and port, summed by whoever reads.
//!
//! One writer a slot, cache lines apart: counting costs a worker no more than a store to its own memory. The engine
//! owns the counters, so they outlive a worker that is restarted [ST-8]. Bytes are those of whole frames.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_classifiers::verdict::DropReason;

use crate::rings::KernelCounters;

/// One slot for each worker and port.
#[derive(Debug)]
pub struct Counters {
    slots: Box<[CachePadded<PortCounters<AtomicU64>>]>,
    ports: usize,
}

impl Counters {
    /// All zero, for so many workers and ports.
    pub fn new(workers: usize, ports: usize) -> Self {
        Counters { slots: (0..workers * ports).map(|_| CachePadded::default()).collect(), ports }
    }

    /// Adds what `worker` counted, one [`Totals`] a port, and sets it back to zero. Only `worker` itself may call it,
    /// once per burst.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn publish(&self, worker: WorkerId, tally: &mut [Totals]) {
        for (slot, tally) in self.worker_slots(worker).iter().zip(tally) {
            for (counter, count) in slot.each().zip(tally.each_mut()) {
                counter.store(counter.load(Relaxed) + std::mem::take(count), Relaxed);
            }
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

/// Plain numbers: a sum over slots, or what a worker collects during a burst.
pub type Totals = PortCounters<u64>;

/// What happened to the packets of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(bound(deserialize = "T: serde::Deserialize<'de> + Default"))]
pub struct PortCounters<T> {
    /// Packets received here.
    pub rx_packets: T,
    /// Their bytes.
    pub rx_bytes: T,
    /// Packets received here and put on some port's TX ring, by `forward_to` or a redirect.
    pub forwarded_packets: T,
    /// Their bytes.
    pub forwarded_bytes: T,
    /// Packets received here and handed to the host's stack.
    pub passed: T,
    /// Packets received here and taken by an action.
    pub consumed: T,
    /// Packets received here and dropped, by [`DropReason::index`].
    #[serde(with = "by_name")]
    pub dropped: [T; DropReason::ALL.len()],
    /// Copies made of packets received here.
    pub mirrored: T,
    /// Copies that were wanted but not sent: no free frame, TX ring full, longer than the target's MTU allows.
    pub mirror_failed: T,
    /// Packets put on this port's TX ring: forwarded ones and copies, wherever received.
    pub tx_packets: T,
    /// Their bytes.
    pub tx_bytes: T,
    /// [`KernelCounters::rx_dropped`] of this port's queues, as of all below: a second old at most.
    pub kernel_rx_dropped: T,
    /// [`KernelCounters::rx_ring_full`].
    pub kernel_rx_ring_full: T,
    /// [`KernelCounters::fill_ring_empty`].
    pub kernel_fill_ring_empty: T,
    /// [`KernelCounters::invalid`].
    pub kernel_invalid: T,
}

impl<T> PortCounters<T> {
    /// Every counter. Same order as [`Self::each_mut`].
    fn each(&self) -> impl Iterator<Item = &T> {
        let PortCounters {
            rx_packets,
            rx_bytes,
            forwarded_packets,
            forwarded_bytes,
            passed,
            consumed,
            dropped,
            mirrored,
            mirror_failed,
            tx_packets,
            tx_bytes,
            kernel_rx_dropped,
            kernel_rx_ring_full,
            kernel_fill_ring_empty,
            kernel_invalid,
        } = self;
        [rx_packets, rx_bytes, forwarded_packets, forwarded_bytes, passed, consumed]
            .into_iter()
            .chain(dropped)
            .chain([mirrored, mirror_failed, tx_packets, tx_bytes])
            .chain([kernel_rx_dropped, kernel_rx_ring_full, kernel_fill_ring_empty, kernel_invalid])
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let PortCounters {
            rx_packets,
            rx_bytes,
            forwarded_packets,
            forwarded_bytes,
            passed,
            consumed,
            dropped,
            mirrored,
            mirror_failed,
            tx_packets,
            tx_bytes,
            kernel_rx_dropped,
            kernel_rx_ring_full,
            kernel_fill_ring_empty,
            kernel_invalid,
        } = self;
        [rx_packets, rx_bytes, forwarded_packets, forwarded_bytes, passed, consumed]
            .into_iter()
            .chain(dropped)
            .chain([mirrored, mirror_failed, tx_packets, tx_bytes])
            .chain([kernel_rx_dropped, kernel_rx_ring_full, kernel_fill_ring_empty, kernel_invalid])
    }
}

impl Totals {
    /// Adds what the kernel counted on a queue between two looks.
    pub fn add_kernel(&mut self, before: KernelCounters, after: KernelCounters) {
        self.kernel_rx_dropped += after.rx_dropped.saturating_sub(before.rx_dropped);
        self.kernel_rx_ring_full += after.rx_ring_full.saturating_sub(before.rx_ring_full);
        self.kernel_fill_ring_empty += after.fill_ring_empty.saturating_sub(before.fill_ring_empty);
        self.kernel_invalid += after.invalid.saturating_sub(before.invalid);
    }

    /// Packets dropped for any reason.
    pub fn dropped_packets(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Packets received less those whose fate was counted: received - forwarded - passed - dropped - consumed.
    /// 0 whenever the packet equation holds, as it does at any moment traffic stands still.
    pub fn balance(&self) -> i64 {
        let settled = self.forwarded_packets + self.passed + self.dropped_packets() + self.consumed;
        self.rx_packets.wrapping_sub(settled).cast_signed()
    }
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

/// Drops as `{"filter": 3, "runt": 0, ...}`.
mod by_name {
    use std::collections::BTreeMap;

    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use tidegate_classifiers::verdict::DropReason;

    const REASONS: usize = DropReason::ALL.len();

    pub(super) fn serialize<T: Serialize, S: Serializer>(dropped: &[T; REASONS], to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(REASONS))?;
        for (reason, count) in DropReason::ALL.iter().zip(dropped) {
            map.serialize_entry(reason.name(), count)?;
        }
        map.end()
    }

    /// Reasons that are not named were never counted; names of another version are passed over.
    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<[T; REASONS], D::Error>
    where
        T: Deserialize<'de> + Default,
        D: Deserializer<'de>,
    {
        let mut named = BTreeMap::<String, T>::deserialize(from)?;
        Ok(DropReason::ALL.map(|reason| named.remove(reason.name()).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut tally = [distinct(1)];
        counters.publish(WorkerId(0), &mut tally);
        assert_eq!(tally, [Totals::default()]);
        assert_eq!(counters.port(PortId(0)), distinct(1));
        counters.publish(WorkerId(0), &mut [distinct(1)]);
        let doubled: Vec<u64> = distinct(1).each().map(|count| 2 * count).collect();
        assert_eq!(counters.port(PortId(0)).each().copied().collect::<Vec<_>>(), doubled);
    }

    #[test]
    fn a_port_sums_over_workers_a_queue_stands_alone() {
        let counters = Counters::new(2, 3);
        let received = |packets| Totals { rx_packets: packets, ..Totals::default() };
        counters.publish(WorkerId(0), &mut [received(1), received(2), received(4)]);
        counters.publish(WorkerId(1), &mut [received(8), received(16), received(32)]);
        assert_eq!([0, 1, 2].map(|port| counters.port(PortId(port)).rx_packets), [9, 18, 36]);
        assert_eq!(counters.queue(WorkerId(1), PortId(1)).rx_packets, 16);
        assert_eq!(counters.port(PortId(3)), Totals::default(), "no such port");
    }

    #[test]
    fn balance_is_what_the_packet_equation_misses() {
        let mut totals = Totals { rx_packets: 10, forwarded_packets: 4, passed: 3, consumed: 1, ..Totals::default() };
        totals.dropped[DropReason::Filter.index()] = 1;
        assert_eq!(totals.balance(), 1);
        totals.dropped[DropReason::Runt.index()] = 1;
        assert_eq!(totals.balance(), 0);
        totals.passed += 1;
        assert_eq!(totals.balance(), -1);
    }

    #[test]
    fn mirrored_copies_are_outside_the_equation() {
        let totals = Totals { mirrored: 5, mirror_failed: 2, tx_packets: 7, ..Totals::default() };
        assert_eq!(totals.balance(), 0);
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
        totals.add_kernel(KernelCounters::default(), look(0));
        totals.add_kernel(look(0), look(10));
        let kernel = [
            totals.kernel_rx_dropped,
            totals.kernel_rx_ring_full,
            totals.kernel_fill_ring_empty,
            totals.kernel_invalid,
        ];
        assert_eq!(kernel, [11, 12, 13, 14]);
    }

    #[test]
    fn drops_are_written_by_the_name_of_their_reason() {
        let mut totals = Totals::default();
        totals.dropped[DropReason::TxRingFull.index()] = 3;
        let json = serde_json::to_value(totals).unwrap();
        assert_eq!(json["dropped"]["tx_ring_full"], 3);
        assert_eq!(json["dropped"].as_object().unwrap().len(), DropReason::ALL.len());
        assert_eq!(serde_json::from_value::<Totals>(json).unwrap(), totals);
    }
}
