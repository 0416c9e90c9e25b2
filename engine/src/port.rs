//! The table of ports: what every worker must know of a port, read without locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use arc_swap::{ArcSwapOption, Guard};
use tidegate_classifiers::block::Block;
use tidegate_classifiers::port::PortId;

/// Ethernet header and two VLAN tags: what a frame may have on top of the MTU, in bytes.
const L2_OVERHEAD: u32 = 14 + 8;

/// Every port of the engine; a [`PortId`] is a place in it. Shared by the engine and all workers.
#[derive(Debug)]
pub struct Ports(Box<[PortState]>);

impl Ports {
    /// The table of `ports`, the first one with id 0. Ids end at 65,535; ports beyond that cannot be addressed.
    pub fn new(ports: Vec<PortState>) -> Self {
        Ports(ports.into())
    }

    /// Number of ports.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no port.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The state of `port`, if the table has it.
    #[inline]
    pub fn get(&self, port: PortId) -> Option<&PortState> {
        self.0.get(usize::from(port.0))
    }

    /// The state of `port`, if frames can be sent to it now.
    #[inline]
    pub fn ready(&self, port: PortId) -> Option<&PortState> {
        self.get(port).filter(|state| state.link() == LinkState::Up)
    }

    /// Every port, in the order of ids.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (PortId, &PortState)> + Clone {
        (0..=u16::MAX).map(PortId).zip(&self.0)
    }
}

/// One port as workers see it. Block, link state and MTU change while traffic flows; the rest is fixed.
#[derive(Debug)]
pub struct PortState {
    name: Box<str>,
    forward_to: ForwardTo,
    block: ArcSwapOption<Block>,
    link: AtomicU8,
    max_frame: AtomicU32,
}

impl PortState {
    /// A port that is [`LinkState::Down`] and takes frames for an MTU of 1500 bytes, until its link watcher knows better.
    /// `block` is what its ingress hook is bound to.
    pub fn new(name: &str, forward_to: ForwardTo, block: Option<Arc<Block>>) -> Self {
        PortState {
            name: name.into(),
            forward_to,
            block: ArcSwapOption::new(block),
            link: AtomicU8::new(LinkState::Down as u8),
            max_frame: AtomicU32::new(1500 + L2_OVERHEAD),
        }
    }

    /// The name that filters and `forward_to` use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where packets go that pass.
    #[inline]
    pub fn forward_to(&self) -> ForwardTo {
        self.forward_to
    }

    /// The block bound to the ingress hook.
    #[inline]
    pub fn block(&self) -> Guard<Option<Arc<Block>>> {
        self.block.load()
    }

    /// Binds the ingress hook to `block`, from the next burst of each worker on. The caller keeps what was bound before until
    /// they have all moved on.
    pub fn set_block(&self, block: Option<Arc<Block>>) -> Option<Arc<Block>> {
        self.block.swap(block)
    }

    /// The state of the link, as last seen by the link watcher.
    #[inline]
    pub fn link(&self) -> LinkState {
        LinkState::from_u8(self.link.load(Relaxed))
    }

    /// Tells every worker the state of the link.
    pub fn set_link(&self, link: LinkState) {
        self.link.store(link as u8, Relaxed);
    }

    /// Longest frame that may be sent, in bytes: MTU, Ethernet header and two VLAN tags.
    #[inline]
    pub fn max_frame(&self) -> u32 {
        self.max_frame.load(Relaxed)
    }

    /// Tells every worker the interface's MTU, in bytes.
    pub fn set_mtu(&self, mtu: u32) {
        self.max_frame.store(mtu.saturating_add(L2_OVERHEAD), Relaxed);
    }
}

/// Where packets go that pass [DP-15].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardTo {
    /// Out of this port.
    Port(PortId),
    /// Up into the kernel's stack, as if received on this interface.
    Host,
}

/// What is known of a port's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkState {
    /// Up, with carrier: frames can be sent.
    Up,
    /// Up, without carrier.
    NoCarrier,
    /// Administratively down.
    Down,
    /// The interface does not exist any more.
    Gone,
}

impl LinkState {
    /// The word for tables, JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            LinkState::Up => "up",
            LinkState::NoCarrier => "no-carrier",
            LinkState::Down => "down",
            LinkState::Gone => "gone",
        }
    }

    #[inline]
    fn from_u8(value: u8) -> Self {
        const UP: u8 = LinkState::Up as u8;
        const NO_CARRIER: u8 = LinkState::NoCarrier as u8;
        const DOWN: u8 = LinkState::Down as u8;
        match value {
            UP => LinkState::Up,
            NO_CARRIER => LinkState::NoCarrier,
            DOWN => LinkState::Down,
            _ => LinkState::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_that_is_up_is_ready() {
        let ports = Ports::new(vec![PortState::new("lan", ForwardTo::Host, None)]);
        let lan = ports.get(PortId(0)).unwrap();
        for link in [LinkState::Up, LinkState::NoCarrier, LinkState::Down, LinkState::Gone] {
            lan.set_link(link);
            assert_eq!(lan.link(), link);
            assert_eq!(ports.ready(PortId(0)).is_some(), link == LinkState::Up, "{}", link.name());
        }
    }

    #[test]
    fn a_port_outside_the_table_is_not_ready() {
        let ports = Ports::new(vec![PortState::new("lan", ForwardTo::Host, None)]);
        ports.get(PortId(0)).unwrap().set_link(LinkState::Up);
        assert!(ports.ready(PortId(1)).is_none());
    }

    #[test]
    fn the_longest_frame_leaves_room_for_two_tags() {
        let lan = PortState::new("lan", ForwardTo::Host, None);
        assert_eq!(lan.max_frame(), 1522);
        lan.set_mtu(9000);
        assert_eq!(lan.max_frame(), 9022);
    }

    #[test]
    fn ids_follow_the_order_of_the_table() {
        let ports =
            Ports::new(["lan", "wan"].map(|name| PortState::new(name, ForwardTo::Host, None)).into_iter().collect());
        let listed: Vec<_> = ports.iter().map(|(id, state)| (id.0, state.name())).collect();
        assert_eq!(listed, [(0, "lan"), (1, "wan")]);
        assert_eq!(ports.len(), 2);
    }
}
