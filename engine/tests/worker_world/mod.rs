//! Three ports in plain memory with one worker: what the tests of the worker play in.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_classifiers::request::{self, ActionSpec, ETH_P_ALL, FilterSpec, GactSpec, KindSpec, MirredSpec, Target};
use tidegate_classifiers::verdict::{Control, DropReason};
use tidegate_config::Idle;
use tidegate_engine::counters::Totals;
use tidegate_engine::handover::{Handover, Order, handover};
use tidegate_engine::memory::{Layout, MemoryQueue, MemoryRings};
use tidegate_engine::port::{ForwardTo, LinkState, PortState};
use tidegate_engine::quiesce::Bursts;
use tidegate_engine::rings::Rings;
use tidegate_engine::worker::{Shared, Worker};

pub(crate) const LAN: PortId = PortId(0);
pub(crate) const WAN: PortId = PortId(1);
pub(crate) const TAP: PortId = PortId(2);

pub(crate) const ROOMY: Layout =
    Layout { ports: 3, frames: 1024, chunk_size: 2048, fill_ring: 128, tx_ring: 256, host_packets: 1024 };

/// Ports that are up: lan forwards to wan, wan to lan, tap to the host. `block` is bound to lan.
pub(crate) fn ports(block: Option<Arc<Block>>) -> Vec<PortState> {
    let ports = vec![
        PortState::new("lan", ForwardTo::Port(WAN), block),
        PortState::new("wan", ForwardTo::Port(LAN), None),
        PortState::new("tap", ForwardTo::Host, None),
    ];
    ports.iter().for_each(|port| port.set_link(LinkState::Up));
    ports
}

pub(crate) fn block(filters: impl IntoIterator<Item = FilterSpec>) -> Arc<Block> {
    let block = Block::new(2);
    for filter in filters {
        request::add_filter(&block, &filter).unwrap();
    }
    block
}

pub(crate) fn matchall(chain: u32, priority: u32, actions: impl IntoIterator<Item = ActionSpec>) -> FilterSpec {
    FilterSpec {
        chain,
        priority,
        protocol: ETH_P_ALL,
        handle: 0,
        kind: KindSpec::Matchall,
        actions: actions.into_iter().collect(),
        name: "".into(),
        options: Default::default(),
    }
}

pub(crate) fn gact(control: Control) -> ActionSpec {
    ActionSpec::Gact(GactSpec { control, random: None })
}

pub(crate) fn mirror(port: PortId) -> ActionSpec {
    ActionSpec::Mirred(MirredSpec::Mirror { to: Target::port(port), control: Control::Pipe })
}

pub(crate) fn redirect(port: PortId) -> ActionSpec {
    ActionSpec::Mirred(MirredSpec::Redirect { to: Target::port(port) })
}

/// A worker and what it shares.
pub(crate) struct World {
    pub(crate) worker: Worker<MemoryRings>,
    pub(crate) handover: Handover<MemoryQueue>,
    /// Queues that the worker gave back, by port.
    closed: BTreeMap<u16, MemoryQueue>,
    pub(crate) shared: Arc<Shared>,
}

impl World {
    pub(crate) fn new(layout: Layout, burst_size: u16, ports: Vec<PortState>) -> Self {
        Self::with_idle(layout, burst_size, ports, Idle::Busy)
    }

    pub(crate) fn with_idle(layout: Layout, burst_size: u16, ports: Vec<PortState>, idle: Idle) -> Self {
        let shared = Arc::new(Shared::new(Bursts::new(2), Plane::standalone(2), ports));
        let worker =
            Worker::new(WorkerId(0), MemoryRings::new(layout), Arc::clone(&shared), burst_size, idle).caching(64);
        let (handover, orders) = handover();
        World { worker: worker.taking(orders), handover, closed: BTreeMap::new(), shared }
    }

    /// Has the worker do what `order` says.
    pub(crate) fn order(&mut self, order: Order<MemoryQueue>) -> Option<MemoryQueue> {
        let (worker, handover) = (&mut self.worker, &mut self.handover);
        thread::scope(|scope| {
            let done = scope.spawn(move || handover.order(order, || ()).unwrap());
            while !done.is_finished() {
                worker.take_orders();
            }
            done.join().unwrap()
        })
    }

    /// The queue of `port` is taken from the worker, and what it held is lost. Nothing happens if it has none.
    pub(crate) fn close(&mut self, port: PortId) {
        let queue = self.order(Order::Remove(port, Duration::ZERO));
        self.order(Order::Reclaim(port));
        self.closed.extend(queue.map(|queue| (port.0, queue)));
    }

    /// The worker gets the queue of `port` back, if it was taken.
    pub(crate) fn open(&mut self, port: PortId) {
        if let Some(queue) = self.closed.remove(&port.0) {
            self.order(Order::Insert(port, queue));
        }
    }

    pub(crate) fn inject(&mut self, port: PortId, packet: &[u8]) -> bool {
        self.worker.rings_mut().inject(port, packet)
    }

    /// One round; every frame is accounted for after it.
    pub(crate) fn burst(&mut self) -> usize {
        let now_ns = self.shared.now_ns();
        let received = self.worker.run_burst(now_ns);
        assert_eq!(self.worker.rings_mut().census().in_hand(), 0, "a frame leaked");
        for (port, _) in self.shared.ports().iter() {
            assert_eq!(self.totals(port).balance(), 0, "packet equation at port {}", port.0);
        }
        received
    }

    pub(crate) fn sent(&mut self, port: PortId) -> Vec<Vec<u8>> {
        self.worker.rings_mut().sent(port)
    }

    pub(crate) fn host(&mut self) -> Vec<(PortId, Vec<u8>)> {
        self.worker.rings_mut().host_packets().map(|(port, packet)| (port, packet.to_vec())).collect()
    }

    pub(crate) fn port(&self, port: PortId) -> Arc<PortState> {
        Arc::clone(self.shared.ports().get(port).unwrap())
    }

    pub(crate) fn totals(&self, port: PortId) -> Totals {
        self.shared.counters.port(port)
    }

    pub(crate) fn dropped(&self, port: PortId, reason: DropReason) -> u64 {
        self.totals(port).dropped[reason.index()]
    }
}

/// UDP over IPv4, from and to these ports.
pub(crate) fn udp(src_port: u16, dst_port: u16) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([192, 0, 2, 1], [198, 51, 100, 1], 64)
        .udp(src_port, dst_port);
    let mut packet = Vec::new();
    builder.write(&mut packet, b"some payload").unwrap();
    packet
}
