//! What a worker runs on: packet memory, and the rings of one queue on each port.
//!
//! The worker is generic over [`Rings`], so the hot path is compiled once per back end and dispatches nothing at run
//! time. [`crate::xsk`] implements it over AF_XDP sockets that share one UMEM, [`crate::memory`] in plain memory.
//!
//! A frame is a token: neither `Copy` nor `Clone`, so that "not to be touched after it was handed over" is a compile
//! error. Frames move between five places, and their number is conserved (invariant 1):
//! free, fill ring, RX ring, TX and completion ring, in hand.

use smallvec::SmallVec;
use tidegate_classifiers::port::PortId;

/// Largest burst, in packets; capacity of [`Burst`].
pub const BURST_MAX: usize = 256;

/// Frames taken from an RX ring at once.
pub type Burst<F> = SmallVec<[F; BURST_MAX]>;

/// Where every frame of a memory is, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Frames in the memory.
    pub total: usize,
    /// On the free list.
    pub free: usize,
    /// Given to fill rings, or received by the kernel and not yet taken from RX rings.
    pub receiving: usize,
    /// Given to TX rings, and not yet taken back from completion rings.
    pub sending: usize,
}

impl Census {
    /// Frames in somebody's hand: 0 at every burst boundary.
    pub fn in_hand(&self) -> usize {
        self.total - self.free - self.receiving - self.sending
    }
}

/// What the kernel counted on one queue since it was opened (XDP_STATISTICS), in packets or descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Dropped for other reasons than a full ring: mostly frames larger than a chunk.
    pub rx_dropped: u64,
    /// Dropped because the worker did not take packets fast enough.
    pub rx_ring_full: u64,
    /// Times the driver found the fill ring empty.
    pub fill_ring_empty: u64,
    /// Descriptors of ours that the kernel refused, and of the kernel's that the ledger refused: a bug either way.
    pub invalid: u64,
}

/// Packet memory and the rings over it, one queue per port. Owned by one worker.
///
/// A port without a queue here (gone, say) receives nothing, and [`Rings::send`] gives frames for it back.
pub trait Rings {
    /// One chunk of packet memory holding one packet. Move-only.
    type Frame;
    /// The rings of one port. Comes and goes while the others are in use.
    type Queue;

    /// Takes up to `burst.capacity()` and `limit` packets from the RX ring of `port`, appending to `burst`.
    fn receive(&mut self, port: PortId, limit: usize, burst: &mut Burst<Self::Frame>);

    /// The packet in `frame`.
    fn bytes<'a>(&'a self, frame: &'a Self::Frame) -> &'a [u8];

    /// Has `edit` change the bytes of the packet in `frame`.
    fn edit<T>(&mut self, frame: &mut Self::Frame, edit: impl FnOnce(&mut [u8]) -> T) -> T;

    /// Makes the packet in `frame` `len` bytes long: cut off at its end, or longer there by bytes of any value. `false`,
    /// and nothing is changed, if its chunk has no room for that many, or for no bytes at all.
    fn resize(&mut self, frame: &mut Self::Frame, len: usize) -> bool;

    /// A free frame holding a copy of the packet in `frame`; `None` if no frame is free.
    fn copy(&mut self, frame: &Self::Frame) -> Option<Self::Frame>;

    /// Puts `frame` on the TX ring of `port`; it leaves at the next [`Rings::flush`].
    ///
    /// # Errors
    /// Gives the frame back if the ring is full after completed frames were reaped, or the port has no queue.
    fn send(&mut self, port: PortId, frame: Self::Frame) -> Result<(), Self::Frame>;

    /// Hands the packet in `frame` to the host's stack as if the kernel had received it on `port`. `false` if the
    /// host did not take it. The frame stays in the caller's hand.
    fn to_host(&mut self, port: PortId, frame: &Self::Frame) -> bool;

    /// Puts `frame` back on the free list.
    fn release(&mut self, frame: Self::Frame);

    /// Ends a burst: makes sent frames visible to the kernel and kicks it where it asks for that, reaps completed
    /// frames, refills the fill rings while frames are free.
    fn flush(&mut self);

    /// From now on, `queue` is that of `port`, which has none.
    fn insert(&mut self, port: PortId, queue: Self::Queue);

    /// Whether nothing waits to be received on `port`, and all that was sent is complete.
    fn is_idle(&mut self, port: PortId) -> bool;

    /// Gives the queue of `port` away. Its frames stay with it until [`Rings::reclaim`].
    fn remove(&mut self, port: PortId) -> Option<Self::Queue>;

    /// Takes back every frame the kernel held for `port`, whose queue was removed and is closed.
    fn reclaim(&mut self, port: PortId);

    /// What the kernel counted on the queue of `port`; `None` if there is no such queue. A system call: not per burst.
    fn kernel_counters(&self, port: PortId) -> Option<KernelCounters>;

    /// Where the frames are.
    fn census(&self) -> Census;

    /// Waits until a packet can be received, or until `timeout_ms` have passed. Returns at once if there are frames
    /// yet to send.
    fn wait(&mut self, timeout_ms: u16);
}
