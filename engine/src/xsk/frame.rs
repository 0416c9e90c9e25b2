//! The token for one frame.

use xsk_rs::FrameDesc;

/// A chunk of packet memory holding one packet, in somebody's hand. Whoever holds it is the only one who touches the
/// chunk, the kernel included. It ends in [`Rings::send`](crate::rings::Rings::send) or
/// [`Rings::release`](crate::rings::Rings::release) of the rings that made it; one that is dropped is lost to them, and
/// shows as [`Census::in_hand`](crate::rings::Census::in_hand) for ever.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost: send or release it"]
pub struct Frame {
    pub(super) desc: FrameDesc,
    /// The UMEM it lies in: a token is worth nothing elsewhere.
    pub(super) umem: u32,
}
