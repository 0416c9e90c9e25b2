//! The world outside classification, as actions see it.

use crate::request::SampleSpec;

/// A port's place in the engine's table of ports. Stays valid, and taken, when the interface behind it disappears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// A worker's number, from 0. Counters have one slot a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u16);

/// What the actions of a filter may do to the world while a packet is classified. The engine's worker implements it
/// for the packet in its hand.
pub trait Egress {
    /// The packet in hand, from its Ethernet header on: for kinds that look at more than the parse of it.
    fn frame(&self) -> &[u8];

    /// Has `edit` change the packet in hand; it gets no bytes in a world of packets that have none.
    fn edit<T>(&mut self, edit: impl FnOnce(&mut [u8]) -> T) -> T {
        edit(&mut [])
    }

    /// Makes the packet in hand `len` bytes long: cut off at its end, or longer there by bytes of any value. `false`, and
    /// nothing is changed, if there is no room for that many.
    fn resize(&mut self, _len: usize) -> bool {
        false
    }

    /// Whether frames can be sent to `port` now: the interface is there, up, and has carrier.
    fn ready(&self, port: PortId) -> bool;

    /// Sends a copy of the packet in hand to `port`. `false` if no copy could be made or queued; the packet in hand
    /// is not affected.
    fn mirror(&mut self, port: PortId) -> bool;

    /// Has a copy of the packet in hand received by `port`, after the packet in hand. `false` as [`Egress::mirror`], and
    /// in a world where that cannot be.
    fn mirror_into(&mut self, _port: PortId) -> bool {
        false
    }

    /// Shows the packet in hand to all who listen to the group of `sample`, at `now_ns`. `false` if one of them has no room;
    /// in a world where nobody listens there is always enough.
    fn sample(&mut self, _sample: &SampleSpec, _now_ns: u64) -> bool {
        true
    }

    /// The first port after `after` whose ingress is bound to the shared block `index`, and which did not receive the
    /// packet in hand; none in a world without blocks.
    fn member(&self, _index: u32, _after: Option<PortId>) -> Option<PortId> {
        None
    }
}
