//! The wire of a real trial: AF_XDP sockets at the far ends of a gateway's ports.

use std::time::Instant;

use anyhow::{Context, Result};
use tidegate_engine::lab::Namespace;
use tidegate_engine::xsk::Endpoint;

use super::{End, Wire};

/// Entries of the rings, so that the tester may lose its core for some milliseconds and miss nothing.
const RING_SIZE: u32 = 8192;

/// Two interfaces and a clock.
#[derive(Debug)]
pub(crate) struct XskWire {
    near: Endpoint,
    far: Endpoint,
    epoch: Instant,
}

impl XskWire {
    /// Takes over the interfaces `near` and `far` of `namespace`.
    ///
    /// # Errors
    /// If one of them is missing, or the kernel refuses.
    pub(crate) fn open(namespace: &Namespace, near: &str, far: &str) -> Result<XskWire> {
        let open = |interface: &str| {
            namespace
                .inside(|| Endpoint::open_with(interface, RING_SIZE))?
                .with_context(|| format!("tester: {interface}"))
        };
        Ok(XskWire { near: open(near)?, far: open(far)?, epoch: Instant::now() })
    }

    /// Frames that the kernel had for the tester and dropped, because it did not take them fast enough.
    pub(crate) fn missed(&self) -> u64 {
        [&self.near, &self.far]
            .map(|end| end.kernel_counters())
            .iter()
            .map(|end| end.rx_ring_full + end.rx_dropped)
            .sum()
    }
}

impl Wire for XskWire {
    fn now_ns(&mut self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn send(&mut self, frames: &[Vec<u8>]) -> usize {
        self.near.send_burst(0, frames.iter().map(Vec::as_slice))
    }

    fn receive(&mut self, mut each: impl FnMut(End, &[u8])) {
        self.far.recv_burst(|frame| each(End::Far, frame));
        self.near.recv_burst(|frame| each(End::Near, frame));
    }
}
