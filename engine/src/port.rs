//! The table of ports: what every worker must know of a port, read without locks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use arc_swap::{ArcSwapOption, Guard};
use tidegate_classifiers::block::Block;
use tidegate_classifiers::port::PortId;
use tidegate_config::PORTS_MAX;

/// Ethernet header and two VLAN tags: what a frame may have on top of the MTU, in bytes.
const L2_OVERHEAD: u32 = 14 + 8;

/// The ports at one moment; a [`PortId`] is a place in it. Shared by the engine and all workers, and replaced whole when a port
/// comes or goes.
#[derive(Clone, Debug)]
pub struct Ports {
    by_id: Box<[Option<Arc<PortState>>]>,
    /// Those that are there.
    listed: Box<[(PortId, Arc<PortState>)]>,
}

impl Ports {
    /// The table of `ports`, the first one with id 0, [`PORTS_MAX`] at most.
    pub fn new(ports: Vec<PortState>) -> Self {
        (0..PORTS_MAX).map(PortId).zip(ports.into_iter().map(Arc::new)).collect()
    }

    /// The same and another one.
    pub fn with(&self, port: PortId, state: Arc<PortState>) -> Self {
        self.without(port).listed.into_iter().chain([(port, state)]).collect()
    }

    /// The same but for one.
    pub fn without(&self, port: PortId) -> Self {
        self.listed.iter().filter(|(id, _)| *id != port).cloned().collect()
    }

    /// Number of ports.
    pub fn len(&self) -> usize {
        self.listed.len()
    }

    /// Whether there is no port.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The state of `port`, if the table has it.
    #[inline]
    pub fn get(&self, port: PortId) -> Option<&Arc<PortState>> {
        self.by_id.get(usize::from(port.0))?.as_ref()
    }

    /// The state of `port`, if frames can be sent to it now.
    #[inline]
    pub fn ready(&self, port: PortId) -> Option<&Arc<PortState>> {
        self.get(port).filter(|state| state.link() == LinkState::Up)
    }

    /// Every port, in the order of ids.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (PortId, &Arc<PortState>)> + Clone {
        self.listed.iter().map(|(port, state)| (*port, state))
    }
}

impl FromIterator<(PortId, Arc<PortState>)> for Ports {
    fn from_iter<I: IntoIterator<Item = (PortId, Arc<PortState>)>>(ports: I) -> Self {
        let by_number: BTreeMap<u16, Arc<PortState>> = ports.into_iter().map(|(port, state)| (port.0, state)).collect();
        let places = by_number.last_key_value().map_or(0, |(last, _)| last + 1);
        Ports {
            by_id: (0..places).map(|number| by_number.get(&number).cloned()).collect(),
            listed: by_number.into_iter().map(|(number, state)| (PortId(number), state)).collect(),
        }
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

    #[test]
    fn ports_come_and_go_and_the_others_keep_their_ids() {
        let state = |name| Arc::new(PortState::new(name, ForwardTo::Host, None));
        let ports: Ports = [(PortId(1), state("lan")), (PortId(4), state("wan"))].into_iter().collect();
        let more = ports.with(PortId(2), state("dmz"));
        let listed =
            |ports: &Ports| -> Vec<_> { ports.iter().map(|(id, state)| (id.0, state.name().to_owned())).collect() };
        assert_eq!(listed(&more), [(1, "lan".into()), (2, "dmz".into()), (4, "wan".into())]);
        assert!(ports.get(PortId(2)).is_none() && more.get(PortId(2)).is_some());
        assert_eq!(listed(&more.without(PortId(1))), [(2, "dmz".into()), (4, "wan".into())]);
        assert_eq!(listed(&ports), [(1, "lan".into()), (4, "wan".into())], "what a worker holds does not change");
        assert!(Ports::new(Vec::new()).is_empty());
    }
}
