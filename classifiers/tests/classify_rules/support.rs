use std::sync::Arc;

use etherparse::PacketBuilder;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::chain::Head;
use tidegate_classifiers::classify::{Context, Found};
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::flow_cache::FlowCache;
use tidegate_classifiers::flow_key::{self, Field};
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::{Egress, PortId, WorkerId};
use tidegate_classifiers::request::{
    self, ActionSpec, ETH_P_ALL, FilterInfo, FilterKey, FilterSpec, FlowerSpec, GactSpec, KindSpec, MirredSpec, Target,
};
use tidegate_classifiers::verdict::{Control, Verdict};

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const QINQ: u16 = 0x88a8;
pub(crate) const ICMP: u64 = 1;
pub(crate) const TCP: u64 = 6;
pub(crate) const UDP: u64 = 17;

/// Ports that are down or full, and what was mirrored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct World {
    pub(crate) down: Vec<PortId>,
    pub(crate) full: Vec<PortId>,
    pub(crate) mirrored: Vec<PortId>,
}

impl Egress for World {
    fn frame(&self) -> &[u8] {
        &[]
    }

    fn ready(&self, port: PortId) -> bool {
        !self.down.contains(&port)
    }

    fn mirror(&mut self, port: PortId) -> bool {
        let taken = !self.full.contains(&port);
        if taken {
            self.mirrored.push(port);
        }
        taken
    }
}

/// A block, and all that classification needs beside it.
pub(crate) struct Rig {
    pub(crate) block: Arc<Block>,
    pub(crate) world: World,
    rng: fastrand::Rng,
    pub(crate) now_ns: u64,
    /// A small one, so that flows give way to each other.
    cache: FlowCache,
}

impl Rig {
    pub(crate) fn new(filters: &[FilterSpec]) -> Rig {
        let block = Block::new(2);
        for spec in filters {
            request::add_filter(&block, spec).unwrap();
        }
        Rig::over(block)
    }

    /// Around a block that is there.
    pub(crate) fn over(block: Arc<Block>) -> Rig {
        Rig { block, world: World::default(), rng: fastrand::Rng::with_seed(1), now_ns: 0, cache: FlowCache::new(32) }
    }

    /// What becomes of `packet`, a nanosecond after the one before.
    pub(crate) fn send(&mut self, packet: &Packet) -> Verdict {
        let block = Arc::clone(&self.block);
        let head = block.head();
        self.send_to(&head, WorkerId(0), packet)
    }

    /// As a worker does it with the packets of a burst. Its flow cache has found the same.
    pub(crate) fn send_together(&mut self, packets: &[Packet]) -> Vec<Verdict> {
        let block = Arc::clone(&self.block);
        let (generation, head) = (block.plane().generation(), block.head());
        let mut found = vec![Found::default(); packets.len()];
        head.find(packets, WorkerId(0), generation, &mut found);
        let mut cached = vec![Found::default(); packets.len()];
        head.find_cached(packets, WorkerId(0), generation, &mut cached, &mut self.cache);
        assert_eq!(cached, found);
        let classify = |(packet, found): (&Packet, Found<'_>)| {
            self.now_ns += 1;
            let (worker, now_ns) = (WorkerId(0), self.now_ns);
            let mut cx = Context { worker, generation, now_ns, rng: &mut self.rng, egress: &mut self.world };
            block.classify_found(&head, found, &mut packet.clone(), &mut cx)
        };
        packets.iter().zip(found).map(classify).collect()
    }

    /// As above, with a head loaded before, as `worker`.
    pub(crate) fn send_to(&mut self, head: &Head, worker: WorkerId, packet: &Packet) -> Verdict {
        self.now_ns += 1;
        let (generation, now_ns) = (self.block.plane().generation(), self.now_ns);
        let mut cx = Context { worker, generation, now_ns, rng: &mut self.rng, egress: &mut self.world };
        self.block.classify(head, &mut packet.clone(), &mut cx)
    }

    /// The only filter at this place.
    pub(crate) fn info(&self, chain: u32, priority: u32) -> FilterInfo {
        let mut found = request::dump(&self.block);
        found.retain(|info| (info.chain, info.priority) == (chain, priority));
        assert_eq!(found.len(), 1, "chain {chain}, priority {priority}");
        found.remove(0)
    }

    /// Packets that the only filter at this place matched.
    pub(crate) fn packets(&self, chain: u32, priority: u32) -> u64 {
        self.info(chain, priority).hits.packets
    }

    /// Names of the filters that matched something, in listing order.
    pub(crate) fn matched(&self) -> Vec<String> {
        let infos = request::dump(&self.block).into_iter();
        infos.filter(|info| info.hits.packets > 0).map(|info| info.name.into()).collect()
    }
}

pub(crate) fn matchall(priority: u32, actions: &[ActionSpec]) -> FilterSpec {
    FilterSpec {
        chain: 0,
        priority,
        protocol: ETH_P_ALL,
        handle: 0,
        kind: KindSpec::Matchall,
        actions: actions.into(),
        name: "".into(),
        options: Default::default(),
    }
}

pub(crate) fn flower(priority: u32, protocol: u16, flower: FlowerSpec, actions: &[ActionSpec]) -> FilterSpec {
    FilterSpec { protocol, kind: KindSpec::Flower(Box::new(flower)), ..matchall(priority, actions) }
}

/// A match on all bits of these fields.
pub(crate) fn keys(wanted: &[(Field, u64)]) -> FlowerSpec {
    let mut spec = FlowerSpec::default();
    for &(field, value) in wanted {
        spec.value.set(field, value);
        spec.mask.set(field, field.max());
    }
    spec
}

/// A match on TCP and a destination port.
pub(crate) fn tcp_to(port: u16) -> FlowerSpec {
    keys(&[(flow_key::IP_PROTO, TCP), (flow_key::DST_PORT, port.into())])
}

pub(crate) fn named(name: &str, spec: FilterSpec) -> FilterSpec {
    FilterSpec { name: name.into(), ..spec }
}

pub(crate) fn in_chain(chain: u32, spec: FilterSpec) -> FilterSpec {
    FilterSpec { chain, ..spec }
}

pub(crate) fn gact(control: Control) -> ActionSpec {
    ActionSpec::Gact(GactSpec { control, random: None })
}

pub(crate) fn mirror(port: u16, control: Control) -> ActionSpec {
    ActionSpec::Mirred(MirredSpec::Mirror { to: Target::port(PortId(port)), control })
}

pub(crate) fn redirect(port: u16) -> ActionSpec {
    ActionSpec::Mirred(MirredSpec::Redirect { to: Target::port(PortId(port)) })
}

pub(crate) fn key(chain: u32, priority: u32, handle: u32) -> FilterKey {
    FilterKey { handle, ..FilterKey::priority(chain, priority) }
}

/// The errno of a request that is refused.
pub(crate) fn errno<T: std::fmt::Debug>(result: Result<T, RequestError>) -> &'static str {
    result.expect_err("this request is to be refused").errno()
}

pub(crate) fn parse(frame: &[u8]) -> Packet {
    Packet::parse(frame, PortId(0)).unwrap()
}

/// TCP from port 1000 to `port`, over IPv4; 64 bytes, 50 of them from L3 on.
pub(crate) fn tcp(port: u16) -> Packet {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1000, port, 0, 512);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0; 10]).unwrap();
    parse(&frame)
}

/// UDP from port 1000 to `port` over IPv4, behind one VLAN tag.
pub(crate) fn tagged_udp(vlan: u16, port: u16) -> Packet {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .single_vlan(vlan.try_into().unwrap())
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1000, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0; 10]).unwrap();
    parse(&frame)
}
