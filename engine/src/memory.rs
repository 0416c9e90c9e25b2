//! Rings in plain memory: a worker's world without a kernel, for tests, simulation and benches.
//!
//! The test, or bench, plays the kernel and the wire between bursts: [`MemoryRings::inject`] receives a packet,
//! [`MemoryRings::transmit`] sends what is on a TX ring, [`MemoryRings::host_packets`] is what the host was given. Until
//! `transmit` is called, sent frames stay on the TX ring, as on a port that is stuck. Packet memory and rings are
//! allocated once.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use tidegate_classifiers::port::PortId;

use crate::rings::{Burst, Census, KernelCounters, Rings};

/// Sizes of [`MemoryRings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Ports, each with one queue.
    pub ports: u16,
    /// Frames in the memory.
    pub frames: u32,
    /// Bytes of a frame; longer packets are not received.
    pub chunk_size: u32,
    /// Entries of each fill ring, and of each RX ring.
    pub fill_ring: u32,
    /// Entries of each TX ring; they stay taken until [`MemoryRings::transmit`] and a reap.
    pub tx_ring: u32,
    /// Packets the host takes before [`MemoryRings::clear_host`] is called; it refuses more.
    pub host_packets: u32,
}

/// A frame of [`MemoryRings`].
#[derive(Debug)]
pub struct MemoryFrame {
    index: u32,
    len: u32,
}

/// Packet memory and rings of one worker.
#[derive(Debug)]
pub struct MemoryRings {
    layout: Layout,
    memory: Box<[u8]>,
    free: Vec<MemoryFrame>,
    queues: Box<[Option<MemoryQueue>]>,
    /// What removed queues held, by port.
    removed: Vec<(PortId, Vec<MemoryFrame>)>,
    host: PacketLog,
}

/// The rings of one port.
#[derive(Debug, Default)]
pub struct MemoryQueue {
    fill: VecDeque<MemoryFrame>,
    rx: VecDeque<MemoryFrame>,
    tx: VecDeque<MemoryFrame>,
    /// How many frames of `tx`, from the front, a flush has made visible.
    visible: usize,
    completion: VecDeque<MemoryFrame>,
    counters: KernelCounters,
}

/// Packets end to end.
#[derive(Debug, Default)]
struct PacketLog {
    bytes: Vec<u8>,
    packets: Vec<(PortId, Range<usize>)>,
}

impl MemoryRings {
    /// Rings whose fill rings are full, as far as frames go round.
    pub fn new(layout: Layout) -> Self {
        let size = |entries: u32| entries as usize;
        let queue = || MemoryQueue {
            fill: VecDeque::with_capacity(size(layout.fill_ring)),
            rx: VecDeque::with_capacity(size(layout.fill_ring)),
            tx: VecDeque::with_capacity(size(layout.tx_ring)),
            visible: 0,
            completion: VecDeque::with_capacity(size(layout.tx_ring)),
            counters: KernelCounters::default(),
        };
        let mut rings = MemoryRings {
            layout,
            memory: vec![0; size(layout.frames) * size(layout.chunk_size)].into(),
            free: (0..layout.frames).map(|index| MemoryFrame { index, len: 0 }).collect(),
            queues: (0..layout.ports).map(|_| Some(queue())).collect(),
            removed: Vec::new(),
            host: PacketLog::default(),
        };
        rings.flush();
        rings
    }

    /// The wire brings a packet to `port`. `false` if it is lost before the RX ring: the fill ring is empty, the RX ring
    /// full, the packet longer than a chunk, or the port has no queue.
    pub fn inject(&mut self, port: PortId, packet: &[u8]) -> bool {
        let Some(Some(queue)) = self.queues.get_mut(usize::from(port.0)) else { return false };
        let fits = u32::try_from(packet.len()).ok().filter(|len| *len <= self.layout.chunk_size);
        let Some(len) = fits else {
            queue.counters.rx_dropped += 1;
            return false;
        };
        if queue.rx.len() == self.layout.fill_ring as usize {
            queue.counters.rx_ring_full += 1;
            return false;
        }
        let Some(mut frame) = queue.fill.pop_front() else {
            queue.counters.fill_ring_empty += 1;
            return false;
        };
        frame.len = len;
        self.memory[place(&self.layout, &frame)].copy_from_slice(packet);
        queue.rx.push_back(frame);
        true
    }

    /// The kernel sends what is flushed on `port`'s TX ring and completes its frames; `wire` sees each packet in order.
    /// Returns their number.
    pub fn transmit(&mut self, port: PortId, mut wire: impl FnMut(&[u8])) -> usize {
        let Some(Some(queue)) = self.queues.get_mut(usize::from(port.0)) else { return 0 };
        let sent = std::mem::take(&mut queue.visible);
        for frame in queue.tx.drain(..sent) {
            wire(&self.memory[place(&self.layout, &frame)]);
            queue.completion.push_back(frame);
        }
        sent
    }

    /// [`MemoryRings::transmit`], with copies of the packets.
    pub fn sent(&mut self, port: PortId) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        self.transmit(port, |packet| packets.push(packet.to_vec()));
        packets
    }

    /// What the host has been given since [`MemoryRings::clear_host`]: packets and the ports they came from, in order.
    pub fn host_packets(&self) -> impl ExactSizeIterator<Item = (PortId, &[u8])> {
        self.host.packets.iter().map(|(port, range)| (*port, &self.host.bytes[range.clone()]))
    }

    /// Forgets what the host was given, and makes room for more.
    pub fn clear_host(&mut self) {
        self.host.packets.clear();
        self.host.bytes.clear();
    }
}

impl Rings for MemoryRings {
    type Frame = MemoryFrame;
    type Queue = MemoryQueue;

    #[inline]
    fn receive(&mut self, port: PortId, limit: usize, burst: &mut Burst<MemoryFrame>) {
        let Some(Some(queue)) = self.queues.get_mut(usize::from(port.0)) else { return };
        let count = queue.rx.len().min(limit).min(burst.capacity() - burst.len());
        burst.extend(queue.rx.drain(..count));
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a MemoryFrame) -> &'a [u8] {
        &self.memory[place(&self.layout, frame)]
    }

    #[inline]
    fn edit<T>(&mut self, frame: &mut MemoryFrame, edit: impl FnOnce(&mut [u8]) -> T) -> T {
        edit(&mut self.memory[place(&self.layout, frame)])
    }

    fn resize(&mut self, frame: &mut MemoryFrame, len: usize) -> bool {
        match u32::try_from(len) {
            Ok(len @ 1..) if len <= self.layout.chunk_size => frame.len = len,
            _ => return false,
        }
        true
    }

    #[inline]
    fn copy(&mut self, frame: &MemoryFrame) -> Option<MemoryFrame> {
        let mut copy = self.free.pop()?;
        copy.len = frame.len;
        self.memory.copy_within(place(&self.layout, frame), place(&self.layout, &copy).start);
        Some(copy)
    }

    #[inline]
    fn send(&mut self, port: PortId, frame: MemoryFrame) -> Result<(), MemoryFrame> {
        let Some(Some(queue)) = self.queues.get_mut(usize::from(port.0)) else { return Err(frame) };
        if queue.tx.len() + queue.completion.len() >= self.layout.tx_ring as usize {
            self.free.extend(queue.completion.drain(..));
        }
        if queue.tx.len() >= self.layout.tx_ring as usize {
            return Err(frame);
        }
        queue.tx.push_back(frame);
        Ok(())
    }

    fn to_host(&mut self, port: PortId, frame: &MemoryFrame) -> bool {
        if self.host.packets.len() == self.layout.host_packets as usize {
            return false;
        }
        let start = self.host.bytes.len();
        self.host.bytes.extend_from_slice(&self.memory[place(&self.layout, frame)]);
        self.host.packets.push((port, start..self.host.bytes.len()));
        true
    }

    #[inline]
    fn release(&mut self, frame: MemoryFrame) {
        self.free.push(frame);
    }

    fn flush(&mut self) {
        for queue in self.queues.iter_mut().flatten() {
            self.free.extend(queue.completion.drain(..));
        }
        for queue in self.queues.iter_mut().flatten() {
            queue.visible = queue.tx.len();
            let wanted = (self.layout.fill_ring as usize - queue.fill.len()).min(self.free.len());
            queue.fill.extend(self.free.drain(self.free.len() - wanted..));
        }
    }

    fn insert(&mut self, port: PortId, queue: MemoryQueue) {
        self.queues[usize::from(port.0)] = Some(queue);
    }

    fn is_idle(&mut self, port: PortId) -> bool {
        let queue = self.queues.get(usize::from(port.0)).and_then(Option::as_ref);
        queue.is_none_or(|queue| queue.rx.is_empty() && queue.tx.is_empty() && queue.completion.is_empty())
    }

    fn remove(&mut self, port: PortId) -> Option<MemoryQueue> {
        let mut queue = self.queues.get_mut(usize::from(port.0))?.take()?;
        let MemoryQueue { fill, rx, tx, completion, .. } = &mut queue;
        let frames = fill.drain(..).chain(rx.drain(..)).chain(tx.drain(..)).chain(completion.drain(..));
        self.removed.push((port, frames.collect()));
        queue.visible = 0;
        Some(queue)
    }

    fn reclaim(&mut self, port: PortId) {
        for (_, frames) in self.removed.extract_if(.., |(removed, _)| *removed == port) {
            self.free.extend(frames);
        }
    }

    fn kernel_counters(&self, port: PortId) -> Option<KernelCounters> {
        self.queues.get(usize::from(port.0))?.as_ref().map(|queue| queue.counters)
    }

    fn census(&self) -> Census {
        let removed: usize = self.removed.iter().map(|(_, frames)| frames.len()).sum();
        let count = |places: fn(&MemoryQueue) -> usize| self.queues.iter().flatten().map(places).sum();
        Census {
            total: self.layout.frames as usize,
            free: self.free.len(),
            receiving: count(|queue| queue.fill.len() + queue.rx.len()) + removed,
            sending: count(|queue| queue.tx.len() + queue.completion.len()),
        }
    }

    /// Nobody injects while the worker waits, so it sleeps for the whole time.
    fn wait(&mut self, timeout_ms: u16) {
        let busy = |queue: &MemoryQueue| !queue.rx.is_empty() || !queue.tx.is_empty() || !queue.completion.is_empty();
        if !self.queues.iter().flatten().any(busy) {
            std::thread::sleep(Duration::from_millis(timeout_ms.into()));
        }
    }
}

/// The packet's bytes in the memory.
#[inline]
fn place(layout: &Layout, frame: &MemoryFrame) -> Range<usize> {
    let start = frame.index as usize * layout.chunk_size as usize;
    start..start + frame.len as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: PortId = PortId(0);
    const WAN: PortId = PortId(1);
    const NO_QUEUE: PortId = PortId(2);

    fn rings(frames: u32, fill_ring: u32, tx_ring: u32) -> MemoryRings {
        MemoryRings::new(Layout { ports: 2, frames, chunk_size: 128, fill_ring, tx_ring, host_packets: 2 })
    }

    fn receive(rings: &mut MemoryRings, port: PortId, limit: usize) -> Burst<MemoryFrame> {
        let mut burst = Burst::new();
        rings.receive(port, limit, &mut burst);
        burst
    }

    #[test]
    fn a_packet_goes_from_wire_to_wire_unchanged() {
        let mut rings = rings(16, 4, 4);
        assert!(rings.inject(LAN, b"one") && rings.inject(LAN, b"three"));
        for frame in receive(&mut rings, LAN, 8) {
            rings.send(WAN, frame).unwrap();
        }
        assert!(rings.sent(WAN).is_empty(), "nothing leaves before a flush");
        rings.flush();
        assert_eq!(rings.sent(WAN), [b"one".to_vec(), b"three".to_vec()]);
        rings.flush();
        assert_eq!(rings.census(), Census { total: 16, free: 8, receiving: 8, sending: 0 });
    }

    #[test]
    fn receive_takes_no_more_than_the_limit() {
        let mut rings = rings(16, 4, 4);
        (0..3).for_each(|_| assert!(rings.inject(LAN, b"x")));
        let first = receive(&mut rings, LAN, 2);
        let second = receive(&mut rings, LAN, 2);
        assert_eq!((first.len(), second.len()), (2, 1));
        first.into_iter().chain(second).for_each(|frame| rings.release(frame));
        assert_eq!(rings.census().in_hand(), 0);
    }

    #[test]
    fn census_counts_what_is_in_hand() {
        let mut rings = rings(16, 4, 4);
        rings.inject(LAN, b"x");
        let burst = receive(&mut rings, LAN, 8);
        assert_eq!(rings.census(), Census { total: 16, free: 8, receiving: 7, sending: 0 });
        assert_eq!(rings.census().in_hand(), 1);
        burst.into_iter().for_each(|frame| rings.release(frame));
        assert_eq!(rings.census().in_hand(), 0);
    }

    #[test]
    fn a_full_tx_ring_gives_the_frame_back_until_completions_are_reaped() {
        let mut rings = rings(16, 4, 1);
        rings.inject(LAN, b"a");
        rings.inject(LAN, b"b");
        let mut frames = receive(&mut rings, LAN, 8).into_iter();
        rings.send(WAN, frames.next().unwrap()).unwrap();
        rings.flush();
        let refused = rings.send(WAN, frames.next().unwrap()).unwrap_err();
        assert_eq!(rings.bytes(&refused), b"b");
        assert_eq!(rings.sent(WAN), [b"a".to_vec()]);
        rings.send(WAN, refused).unwrap();
        assert_eq!(rings.census().sending, 1);
    }

    #[test]
    fn a_port_without_a_queue_gives_the_frame_back() {
        let mut rings = rings(16, 4, 4);
        assert!(!rings.inject(NO_QUEUE, b"x"));
        assert!(receive(&mut rings, NO_QUEUE, 8).is_empty());
        rings.inject(LAN, b"x");
        let frame = receive(&mut rings, LAN, 8).pop().unwrap();
        let frame = rings.send(NO_QUEUE, frame).unwrap_err();
        rings.release(frame);
        assert_eq!(rings.census().in_hand(), 0);
    }

    #[test]
    fn an_empty_fill_ring_and_an_oversized_packet_lose_the_packet_only() {
        let mut rings = rings(16, 2, 4);
        assert!(!rings.inject(LAN, &[0; 129]));
        assert!(rings.inject(LAN, &[0; 128]) && rings.inject(LAN, b""));
        assert!(!rings.inject(LAN, b"fill ring empty"));
        assert!(rings.inject(WAN, b"a ring of its own"));
        assert_eq!(rings.census().in_hand(), 0);
    }

    #[test]
    fn the_kernel_counts_what_it_loses() {
        let mut rings = rings(16, 2, 4);
        assert!(!rings.inject(LAN, &[0; 129]), "longer than a chunk");
        assert!(rings.inject(LAN, b"x") && rings.inject(LAN, b"x"));
        assert!(!rings.inject(LAN, b"x"), "the RX ring holds two");
        receive(&mut rings, LAN, 8).into_iter().for_each(|frame| rings.release(frame));
        assert!(!rings.inject(LAN, b"x"), "the fill ring is empty until a flush");
        rings.flush();
        assert!(rings.inject(LAN, b"x"));
        let lost = KernelCounters { rx_dropped: 1, rx_ring_full: 1, fill_ring_empty: 1, invalid: 0 };
        assert_eq!(rings.kernel_counters(LAN), Some(lost));
        assert_eq!(rings.kernel_counters(NO_QUEUE), None);
    }

    #[test]
    fn a_removed_queue_gives_every_frame_back_when_it_is_closed() {
        let mut rings = rings(16, 4, 4);
        (0..3).for_each(|_| assert!(rings.inject(LAN, b"x")));
        for frame in receive(&mut rings, LAN, 2) {
            rings.send(LAN, frame).unwrap();
        }
        assert!(!rings.is_idle(LAN));
        let queue = rings.remove(LAN).unwrap();
        assert_eq!(rings.census(), Census { total: 16, free: 8, receiving: 8, sending: 0 });
        assert!(rings.remove(LAN).is_none() && rings.is_idle(LAN));
        rings.reclaim(LAN);
        assert_eq!(rings.census(), Census { total: 16, free: 12, receiving: 4, sending: 0 });
        assert!(!rings.inject(LAN, b"x"));
        assert_eq!(rings.kernel_counters(LAN), None);
        rings.insert(LAN, queue);
        rings.flush();
        assert!(rings.inject(LAN, b"x"));
    }

    #[test]
    fn a_copy_takes_a_free_frame_and_fails_without_one() {
        let mut rings = rings(5, 2, 4);
        rings.inject(LAN, b"original");
        let frame = receive(&mut rings, LAN, 8).pop().unwrap();
        let copy = rings.copy(&frame).unwrap();
        assert_eq!(rings.bytes(&copy), b"original");
        assert!(rings.copy(&frame).is_none());
        rings.release(frame);
        assert_eq!(rings.bytes(&copy), b"original");
        rings.release(copy);
    }

    #[test]
    fn the_host_takes_packets_until_it_is_full() {
        let mut rings = rings(16, 4, 4);
        (0..3).for_each(|i| assert!(rings.inject(WAN, &[i])));
        let taken: Vec<bool> = receive(&mut rings, WAN, 8)
            .into_iter()
            .map(|frame| {
                let taken = rings.to_host(WAN, &frame);
                rings.release(frame);
                taken
            })
            .collect();
        assert_eq!(taken, [true, true, false]);
        let host: Vec<_> = rings.host_packets().collect();
        assert_eq!(host, [(WAN, [0].as_slice()), (WAN, [1].as_slice())]);
        rings.clear_host();
        assert_eq!(rings.host_packets().len(), 0);
    }
}
