//! The unsafe fence around AF_XDP: [`XskRings`] implements [`Rings`] over sockets that share one UMEM.
//!
//! What this module exports is safe to call. Its contract, which each `SAFETY` comment leans on:
//!
//! 1. A [`Frame`] is a token for one chunk of one UMEM. It is neither `Copy` nor `Clone`, only this module makes one,
//!    and every ring either consumes it or gives it back: who holds the token is the only one who touches the chunk.
//! 2. The ledger knows where every frame is, one byte each. A descriptor that comes back from the kernel is
//!    checked against it, in release builds too: in range, inside its chunk, and really given to that ring. One that
//!    is not is counted ([`KernelCounters::invalid`]) and ignored; no frame ever has two owners.
//! 3. The UMEM outlives its sockets: `XskRings` drops its queues before its memory, and every socket of xsk-rs holds
//!    the mapping besides. Detach the XDP program before dropping the rings, so that no driver is caught mid-burst.
//! 4. A ring side has one owner: everything takes `&mut XskRings`, and one worker owns that (invariant 2).
//!
//! # How many frames
//!
//! Each queue has a share of the UMEM, `frames / queues` but no more than its rings hold, in three equal parts. Two are for receiving: [`Rings::flush`]
//! tops the fill ring up until fill ring, driver and RX ring hold them. The fill ring has twice the entries of the RX
//! ring, so it does not run dry before the RX ring is full, and a worker that is too slow is counted as just that. The
//! third part is for sending: [`Rings::send`] lets TX ring, driver and completion ring hold it. So a port that sends nothing
//! any more can neither starve the fill rings nor overflow a completion ring. [`XskRings::frames`] gives every ring its
//! full size. What is left is for queues that come later: [`Sockets::open`].

mod endpoint; // Endpoint: a station of our own, for tests and benches
mod error; // XskError: why the rings cannot be had, and what to do
mod frame; // Frame: the token
mod ledger; // where every frame is
mod queue; // Queue: one socket's four rings
mod sockets; // Sockets: opens and closes them beside the worker
mod umem; // the memory, the free list, the ledger, kept in step

pub mod netdev; // Netdev: what the kernel says of an interface
pub mod tap; // Tap: the way into the host's stack

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use smallvec::SmallVec;
use tidegate_classifiers::port::PortId;

pub use endpoint::{Endpoint, EndpointError};
pub use error::XskError;
pub use frame::Frame;
pub use queue::Queue;
pub use sockets::Sockets;

use crate::rings::{BURST_MAX, Burst, Census, KernelCounters, Rings};
use queue::Bind;
use umem::Umem;

/// How long a driver may still write to the frames of a zero-copy queue after its socket was closed: the kernel lets
/// go of the queue in a work item of its own, usually within milliseconds.
const LINGER: Duration = Duration::from_secs(1);

/// Sizes of a UMEM and its rings.
#[derive(Clone, Copy, Debug)]
pub struct RingsOptions {
    /// Bytes of a chunk: 2048 or 4096.
    pub chunk_size: u32,
    /// Frames in the UMEM; see [`XskRings::frames`]. Rounded up to whole huge pages if there are any.
    pub frames: u32,
    /// Back the UMEM with 2 MiB pages.
    pub huge_pages: bool,
    /// Entries of each ring, a power of two; a fill ring has twice as many.
    pub ring_size: u32,
}

/// One queue to bind a socket to.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions<'a> {
    /// What the queue is called from now on. Ids up to 126; one queue a port.
    pub port: PortId,
    /// Interface, in the current network namespace.
    pub interface: &'a str,
    /// Its queue.
    pub queue: u32,
    /// Whether the driver is to use the UMEM itself.
    pub zero_copy: ZeroCopy,
}

/// Whether the driver reads and writes the UMEM itself. The kernel allows no mixture on one UMEM, so the queues of an
/// [`XskRings`] get it all together or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// If every queue can have it.
    Try,
    /// Or fail.
    Require,
    /// The kernel copies.
    Never,
}

/// One UMEM, and AF_XDP sockets over it: one queue of each port. Owned by one worker.
#[derive(Debug)]
pub struct XskRings {
    /// By port. Dropped before the memory they use.
    queues: Vec<Option<Queue>>,
    /// Ports removed in zero-copy mode, and when their frames can be taken back.
    lingering: Vec<(PortId, Instant)>,
    umem: Umem,
    zero_copy: bool,
    waker: Arc<EventFd>,
    /// A kick left frames on a TX ring.
    backlog: bool,
    refusal: Option<XskError>,
}

impl XskRings {
    /// Makes the UMEM and binds its sockets, in zero-copy mode first unless a queue forbids it. The sockets see packets
    /// once the XDP program has them in its map. [`Sockets`] opens and closes further ones.
    ///
    /// # Errors
    /// See [`XskError`]; nothing stays behind.
    pub fn new(options: &RingsOptions, queues: &[QueueOptions<'_>]) -> Result<(XskRings, Sockets), XskError> {
        let required = queues.iter().find(|queue| queue.zero_copy == ZeroCopy::Require);
        let forbidden = queues.iter().find(|queue| queue.zero_copy == ZeroCopy::Never);
        match (required, forbidden) {
            (Some(a), Some(b)) => {
                Err(XskError::Mixed { required: a.interface.to_owned(), forbidden: b.interface.to_owned() })
            }
            (Some(_), None) => Self::open(options, queues, Bind::ZeroCopy),
            (None, Some(_)) => Self::open(options, queues, Bind::Copy),
            (None, None) => match Self::open(options, queues, Bind::ZeroCopy) {
                Err(refusal @ XskError::ZeroCopy { .. }) => {
                    let (rings, sockets) = Self::open(options, queues, Bind::Copy)?;
                    Ok((XskRings { refusal: Some(refusal), ..rings }, sockets))
                }
                opened => opened,
            },
        }
    }

    /// Frames that give every ring of `queues` queues its full size: fill ring, RX ring, and what is being sent.
    pub fn frames(queues: u32, ring_size: u32) -> u32 {
        3 * queues * ring_size
    }

    fn open(options: &RingsOptions, queues: &[QueueOptions<'_>], bind: Bind) -> Result<(XskRings, Sockets), XskError> {
        let umem = Umem::new(options)?;
        let part = umem.frames() / (3 * u32::try_from(queues.len()).unwrap_or(u32::MAX).max(1));
        if part == 0 {
            return Err(XskError::Frames { frames: options.frames, queues: queues.len() });
        }
        let part = part.min(options.ring_size);
        let mut sockets = Sockets::new(umem.memory().clone(), bind, options.ring_size, part, umem.frames())?;
        let waker = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).map_err(io::Error::from);
        let mut rings = XskRings {
            queues: Vec::with_capacity(ledger::QUEUES_MAX),
            lingering: Vec::with_capacity(ledger::QUEUES_MAX),
            umem,
            zero_copy: bind == Bind::ZeroCopy,
            waker: Arc::new(waker.map_err(XskError::Descriptor)?),
            backlog: false,
            refusal: None,
        };
        for queue in queues {
            rings.insert(queue.port, sockets.open(queue)?);
        }
        rings.flush(); // fills the fill rings
        Ok((rings, sockets))
    }

    /// The queue of `port`, until it is removed.
    pub fn queue(&self, port: PortId) -> Option<&Queue> {
        self.queues.get(usize::from(port.0))?.as_ref()
    }

    /// Why the queues are in copy mode although none forbade zero-copy.
    pub fn refusal(&self) -> Option<&XskError> {
        self.refusal.as_ref()
    }

    /// The same, to be changed.
    pub fn queue_mut(&mut self, port: PortId) -> Option<&mut Queue> {
        queue_mut(&mut self.queues, port)
    }

    /// A free frame holding `bytes`; `None` if no frame is free, or `bytes` does not fit or is empty.
    pub fn frame(&mut self, bytes: &[u8]) -> Option<Frame> {
        self.umem.write(bytes)
    }

    /// A handle that ends [`Rings::wait`] from another thread.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }
}

/// Ends a [`Rings::wait`] from another thread. One that comes too early ends the next one.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// Wakes the worker.
    pub fn wake(&self) {
        // The only failure is a counter at its limit, and then the worker is being woken already.
        let _ = self.0.write(1);
    }
}

impl Rings for XskRings {
    type Frame = Frame;
    type Queue = Queue;

    #[inline]
    fn receive(&mut self, port: PortId, limit: usize, burst: &mut Burst<Frame>) {
        if let Some(queue) = queue_mut(&mut self.queues, port) {
            let limit = limit.min(burst.capacity() - burst.len()).min(BURST_MAX);
            queue.receive(&mut self.umem, limit, burst);
        }
    }

    #[inline]
    fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        self.umem.bytes(frame)
    }

    #[inline]
    fn edit<T>(&mut self, frame: &mut Frame, edit: impl FnOnce(&mut [u8]) -> T) -> T {
        self.umem.edit(frame, edit)
    }

    #[inline]
    fn resize(&mut self, frame: &mut Frame, len: usize) -> bool {
        self.umem.resize(frame, len)
    }

    #[inline]
    fn copy(&mut self, frame: &Frame) -> Option<Frame> {
        self.umem.copy(frame)
    }

    #[inline]
    fn send(&mut self, port: PortId, frame: Frame) -> Result<(), Frame> {
        match queue_mut(&mut self.queues, port) {
            Some(queue) => queue.send(&mut self.umem, frame),
            None => Err(frame),
        }
    }

    #[inline]
    fn to_host(&mut self, port: PortId, frame: &Frame) -> bool {
        self.queue(port).is_some_and(|queue| queue.to_host(self.umem.bytes(frame)))
    }

    #[inline]
    fn release(&mut self, frame: Frame) {
        self.umem.release(frame);
    }

    fn flush(&mut self) {
        self.backlog = false;
        // All that is complete comes back before the first fill ring is topped up.
        for queue in self.queues.iter_mut().flatten() {
            self.backlog |= queue.transmit(&mut self.umem);
        }
        if !self.lingering.is_empty() {
            let now = Instant::now();
            self.lingering.retain(|&(port, until)| {
                if now >= until {
                    self.umem.reclaim(port);
                }
                now < until
            });
        }
        for queue in self.queues.iter_mut().flatten() {
            queue.refill(&mut self.umem);
        }
    }

    fn insert(&mut self, port: PortId, queue: Queue) {
        let place = usize::from(port.0);
        if self.queues.len() <= place {
            self.queues.resize_with(place + 1, || None); // within its capacity
        }
        self.queues[place] = Some(queue);
    }

    fn is_idle(&mut self, port: PortId) -> bool {
        queue_mut(&mut self.queues, port).is_none_or(|queue| queue.is_idle(&self.umem))
    }

    fn remove(&mut self, port: PortId) -> Option<Queue> {
        self.queues.get_mut(usize::from(port.0)).and_then(Option::take)
    }

    /// The frames come back at once in copy mode, after a second in zero-copy mode, when the driver has surely let go of
    /// them.
    fn reclaim(&mut self, port: PortId) {
        if self.zero_copy {
            self.lingering.push((port, Instant::now() + LINGER));
        } else {
            self.umem.reclaim(port);
        }
    }

    fn kernel_counters(&self, port: PortId) -> Option<KernelCounters> {
        self.queue(port)?.counters(&self.umem)
    }

    fn census(&self) -> Census {
        self.umem.census()
    }

    fn wait(&mut self, timeout_ms: u16) {
        if self.queues.iter().flatten().any(Queue::has_unsent) {
            return;
        }
        // What a kick left behind is tried again soon, but a port that takes nothing must not make this a busy loop.
        let timeout = if self.backlog { timeout_ms.min(1) } else { timeout_ms };
        let mut fds: SmallVec<[PollFd<'_>; 16]> = SmallVec::new();
        fds.push(PollFd::new(self.waker.as_fd(), PollFlags::POLLIN));
        fds.extend(self.queues.iter().flatten().map(|queue| PollFd::new(queue.fd(), PollFlags::POLLIN)));
        // An error is a signal, or no memory: either way the caller looks at its rings and comes back.
        let _ = poll(&mut fds, PollTimeout::from(timeout));
        if fds[0].any().unwrap_or(false) {
            let _ = self.waker.read();
        }
    }
}

#[inline]
fn queue_mut(queues: &mut [Option<Queue>], port: PortId) -> Option<&mut Queue> {
    queues.get_mut(usize::from(port.0))?.as_mut()
}
