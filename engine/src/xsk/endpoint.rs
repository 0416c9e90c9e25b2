//! A station that sends and receives raw frames on an interface of its own: the hosts of tests and benches.

use std::io;
use std::time::{Duration, Instant};

use tidegate_classifiers::port::PortId;
use tidegate_xdp_prog::{Gate, GateError, GateOptions, GenericPolicy, OnExit, PassList};

use super::netdev::Netdev;
use super::{Frame, QueueOptions, RingsOptions, XskError, XskRings, ZeroCopy};
use crate::rings::{BURST_MAX, Burst, Census, KernelCounters, Rings};

/// Entries of an endpoint's rings, unless it says otherwise.
const RING_SIZE: u32 = 2048;

/// Takes every frame that arrives at an interface, and sends frames from it, byte for byte: what looks like a VLAN tag
/// is part of the frame. The host's stack sees nothing of it.
#[derive(Debug)]
pub struct Endpoint {
    /// Dropped first: frames stop before the sockets go.
    _gate: Gate,
    rings: XskRings,
    queues: u16,
    /// Received and not yet given to the caller.
    received: Burst<Frame>,
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No such interface.
    #[error("interface {0}: {1}")]
    Interface(String, io::Error),
    /// No rings.
    #[error(transparent)]
    Rings(#[from] XskError),
    /// No XDP.
    #[error(transparent)]
    Gate(#[from] GateError),
}

impl Endpoint {
    /// Takes over all queues of `interface`, in the current network namespace; it may be used from any.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn open(interface: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::open_with(interface, RING_SIZE)
    }

    /// The same with rings of so many entries, a power of two.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn open_with(interface: &str, ring_size: u32) -> Result<Endpoint, EndpointError> {
        let netdev = Netdev::query(interface).map_err(|error| EndpointError::Interface(interface.to_owned(), error))?;
        let gate = Gate::attach(&GateOptions {
            ifindex: netdev.ifindex,
            queues: netdev.rx_queues,
            on_exit: OnExit::Pass,
            generic: GenericPolicy::Auto,
            pass: PassList::default(),
        })?;
        let ids: Vec<u16> = (0..u16::MAX).take(netdev.rx_queues as usize).collect();
        let queues: Vec<_> = ids
            .iter()
            .map(|&id| QueueOptions { port: PortId(id), interface, queue: id.into(), zero_copy: ZeroCopy::Never })
            .collect();
        let options = RingsOptions {
            chunk_size: 4096,
            frames: XskRings::frames(netdev.rx_queues, ring_size),
            huge_pages: false,
            ring_size,
        };
        let (rings, _) = XskRings::new(&options, &queues)?;
        for queue in ids.iter().filter_map(|&id| rings.queue(PortId(id))) {
            gate.set_socket(queue.id(), queue.fd())?;
        }
        let queues = u16::try_from(ids.len()).unwrap_or(u16::MAX); // they were counted in u16
        Ok(Endpoint { _gate: gate, rings, queues, received: Burst::new() })
    }

    /// Sends one frame from queue 0, now. `false` if its ring is full, or the frame is empty or longer than 3,840
    /// bytes.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        self.send_burst(0, [frame]) == 1
    }

    /// Sends frames from `queue`, until one does not fit. Says how many were sent.
    pub fn send_burst<'a>(&mut self, queue: u16, frames: impl IntoIterator<Item = &'a [u8]>) -> usize {
        let mut sent = 0;
        for bytes in frames {
            let Some(frame) = self.rings.frame(bytes) else { break };
            if let Err(frame) = self.rings.send(PortId(queue), frame) {
                self.rings.release(frame);
                break;
            }
            sent += 1;
        }
        self.rings.flush();
        sent
    }

    /// The next frame from any queue; `None` if none comes within `timeout`.
    pub fn recv(&mut self, timeout: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + timeout;
        loop {
            if self.received.is_empty() {
                self.poll();
            }
            if !self.received.is_empty() {
                let frame = self.received.remove(0);
                let bytes = self.rings.bytes(&frame).to_vec();
                self.rings.release(frame);
                return Some(bytes);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.rings.wait(u16::try_from(left.as_millis().max(1)).unwrap_or(u16::MAX));
        }
    }

    /// Shows `each` every frame that is there now, and says how many there were.
    pub fn recv_burst(&mut self, mut each: impl FnMut(&[u8])) -> usize {
        self.poll();
        let count = self.received.len();
        for frame in self.received.drain(..) {
            each(self.rings.bytes(&frame));
            self.rings.release(frame);
        }
        count
    }

    /// Waits until a frame is there, for `timeout_ms` at most.
    pub fn wait(&mut self, timeout_ms: u16) {
        self.rings.wait(timeout_ms);
    }

    /// Where the endpoint's own frames are.
    pub fn census(&self) -> Census {
        self.rings.census()
    }

    /// What the kernel counted on all queues together since they were opened. A system call each.
    pub fn kernel_counters(&self) -> KernelCounters {
        let queues = (0..self.queues).filter_map(|queue| self.rings.kernel_counters(PortId(queue)));
        queues.fold(KernelCounters::default(), |sum, queue| KernelCounters {
            rx_dropped: sum.rx_dropped + queue.rx_dropped,
            rx_ring_full: sum.rx_ring_full + queue.rx_ring_full,
            fill_ring_empty: sum.fill_ring_empty + queue.fill_ring_empty,
            invalid: sum.invalid + queue.invalid,
        })
    }

    fn poll(&mut self) {
        for queue in 0..self.queues {
            self.rings.receive(PortId(queue), BURST_MAX, &mut self.received);
        }
        self.rings.flush();
    }
}
