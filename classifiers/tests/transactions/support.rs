use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use etherparse::PacketBuilder;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::chain::Head;
use tidegate_classifiers::classify::{Context, Found};
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::event::{Event, Notice, Subscription};
use tidegate_classifiers::flow_cache::FlowCache;
use tidegate_classifiers::flow_key;
use tidegate_classifiers::generation::Generation;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::{Egress, PortId, WorkerId};
use tidegate_classifiers::reap::Quiescence;
use tidegate_classifiers::request::{
    ActionSpec, ETH_P_ALL, FilterId, FilterInfo, FilterKey, FilterSpec, FlowerSpec, FwSpec, GactSpec, KindSpec,
    MirredSpec, Target, TargetPorts, dump,
};
use tidegate_classifiers::transaction::{Conflict, Overtaken, Transaction};
use tidegate_classifiers::verdict::{Control, Verdict};

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;

/// A plane with one worker, whose bursts the test begins.
pub(crate) struct Rig {
    pub(crate) plane: Arc<Plane>,
    pub(crate) block: Arc<Block>,
    bursts: Bursts,
}

/// Boundaries that the worker has passed.
#[derive(Clone, Default)]
struct Bursts(Arc<AtomicU64>);

impl Quiescence for Bursts {
    fn snapshot(&self) -> Box<[u64]> {
        Box::new([self.0.load(Ordering::SeqCst)])
    }

    fn passed(&self, snapshot: &[u64]) -> bool {
        snapshot != [self.0.load(Ordering::SeqCst)]
    }
}

/// A burst of the worker: what it read at its beginning.
pub(crate) struct Burst {
    generation: Generation,
    head: Head,
    block: Arc<Block>,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        let bursts = Bursts::default();
        let plane = Plane::new(1, bursts.clone());
        let block = plane.private_block();
        Rig { plane, block, bursts }
    }

    pub(crate) fn burst(&self) -> Burst {
        burst(&self.block)
    }

    /// What packets to these TCP ports meet from now on.
    pub(crate) fn meets<const N: usize>(&self, ports: [u16; N]) -> [u32; N] {
        self.burst().meets(ports)
    }

    /// The worker has begun another burst: what was waiting for that is released.
    pub(crate) fn next_burst(&self) {
        while self.plane.reaper().poll() > 0 {}
        self.bursts.0.fetch_add(1, Ordering::SeqCst);
        while self.plane.reaper().poll() > 0 {}
    }

    /// Nothing is left of it.
    pub(crate) fn tear_down(self) {
        let Rig { plane, block, bursts } = self;
        drop(block);
        while plane.reaper().pending() > 0 {
            bursts.0.fetch_add(1, Ordering::SeqCst);
            plane.reaper().poll();
        }
        assert_eq!(plane.live(), LiveCounts::default());
    }
}

/// A burst that begins now.
pub(crate) fn burst(block: &Arc<Block>) -> Burst {
    burst_of(block, block.plane().generation())
}

/// A burst that begins now, and that of another block too: it read `generation` for both.
pub(crate) fn burst_of(block: &Arc<Block>, generation: Generation) -> Burst {
    Burst { generation, head: block.head(), block: Arc::clone(block) }
}

impl Burst {
    /// What packets to these TCP ports meet in this burst: the numbers of filters, 0 for none.
    pub(crate) fn meets<const N: usize>(&self, ports: [u16; N]) -> [u32; N] {
        ports.map(|port| self.meet(&tcp(port)))
    }

    /// The same by way of a flow cache.
    pub(crate) fn meets_cached<const N: usize>(&self, ports: [u16; N], cache: &mut FlowCache) -> [u32; N] {
        let (packets, mut found) = (ports.map(tcp), [Found::default(); N]);
        self.head.find_cached(&packets, WorkerId(0), self.generation, &mut found, cache);
        std::array::from_fn(|i| self.meet_found(found[i], &packets[i]))
    }

    pub(crate) fn meet(&self, packet: &Packet) -> u32 {
        self.meet_found(Found::default(), packet)
    }

    fn meet_found(&self, found: Found<'_>, packet: &Packet) -> u32 {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut egress = AllPorts;
        let mut cx =
            Context { worker: WorkerId(0), generation: self.generation, now_ns: 1, rng: &mut rng, egress: &mut egress };
        match self.block.classify_found(&self.head, found, &mut packet.clone(), &mut cx) {
            Verdict::Redirect(port) => u32::from(port.0),
            Verdict::Pass => 0,
            other => panic!("{other:?}"),
        }
    }
}

/// Every redirect works.
struct AllPorts;

impl Egress for AllPorts {
    fn frame(&self) -> &[u8] {
        &[]
    }

    fn ready(&self, _: PortId) -> bool {
        true
    }

    fn mirror(&mut self, _: PortId) -> bool {
        true
    }
}

/// TCP over IPv4 to `port`.
pub(crate) fn tcp(port: u16) -> Packet {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
    builder.tcp(1000, port, 0, 0).write(&mut frame, &[]).unwrap();
    Packet::parse(&frame, PortId(0)).unwrap()
}

/// Filter number `n`: it redirects to the port of that number.
pub(crate) fn matchall(chain: u32, priority: u32, n: u16) -> FilterSpec {
    FilterSpec {
        chain,
        priority,
        protocol: ETH_P_ALL,
        handle: 0,
        kind: KindSpec::Matchall,
        actions: [ActionSpec::Mirred(MirredSpec::Redirect { to: Target::port(PortId(n)) })].into_iter().collect(),
        name: "".into(),
        options: Default::default(),
    }
}

/// Of TCP packets to `port`.
pub(crate) fn flower(chain: u32, priority: u32, port: u16, n: u16) -> FilterSpec {
    let mut spec = FlowerSpec::default();
    for (field, value) in [(flow_key::IP_PROTO, 6), (flow_key::DST_PORT, u64::from(port))] {
        spec.value.set(field, value);
        spec.mask.set(field, field.max());
    }
    FilterSpec { protocol: IPV4, kind: KindSpec::Flower(Box::new(spec)), ..matchall(chain, priority, n) }
}

/// Of TCP packets to a port from `first` to `last`.
pub(crate) fn ranged(chain: u32, priority: u32, (first, last): (u16, u16), n: u16) -> FilterSpec {
    let mut spec = FlowerSpec { dst_port_range: Some((first, last)), ..FlowerSpec::default() };
    spec.value.set(flow_key::IP_PROTO, 6);
    spec.mask.set(flow_key::IP_PROTO, flow_key::IP_PROTO.max());
    FilterSpec { protocol: IPV4, kind: KindSpec::Flower(Box::new(spec)), ..matchall(chain, priority, n) }
}

/// Of packets with this mark.
pub(crate) fn fw(chain: u32, priority: u32, mark: u32, n: u16) -> FilterSpec {
    let kind = KindSpec::Fw(FwSpec { mask: u32::MAX, indev: None });
    FilterSpec { handle: mark, kind, ..matchall(chain, priority, n) }
}

pub(crate) fn handle(handle: u32, spec: FilterSpec) -> FilterSpec {
    FilterSpec { handle, ..spec }
}

pub(crate) fn goto(target: u32, spec: FilterSpec) -> FilterSpec {
    let goto = ActionSpec::Gact(GactSpec { control: Control::Goto(target), random: None });
    FilterSpec { actions: [goto].into_iter().collect(), ..spec }
}

pub(crate) fn id(chain: u32, priority: u32, handle: u32) -> FilterId {
    FilterId { chain, priority, handle }
}

pub(crate) fn key(chain: u32, priority: u32, handle: u32) -> FilterKey {
    id(chain, priority, handle).into()
}

/// Chain, priority, handle and number of every filter.
pub(crate) fn listing(block: &Arc<Block>) -> Vec<(u32, u32, u32, u16)> {
    dump(block).iter().map(place).collect()
}

/// The same, as the transaction sees it.
pub(crate) fn prepared(tx: &Transaction, block: &Arc<Block>) -> Vec<(u32, u32, u32, u16)> {
    tx.dump(block).unwrap().iter().map(place).collect()
}

fn place(info: &FilterInfo) -> (u32, u32, u32, u16) {
    (info.chain, info.priority, info.handle, number(info))
}

pub(crate) fn number(info: &FilterInfo) -> u16 {
    match info.actions[0].spec {
        ActionSpec::Mirred(MirredSpec::Redirect { to: Target { ports: TargetPorts::One(port), .. } }) => port.0,
        _ => 0,
    }
}

pub(crate) fn errno<T: std::fmt::Debug>(result: Result<T, RequestError>) -> &'static str {
    result.expect_err("this request is to be refused").errno()
}

/// The commit is refused: the transaction, and what was overtaken.
pub(crate) fn conflict(tx: Transaction) -> (Transaction, Vec<Overtaken>) {
    let Conflict { transaction, overtaken } = tx.commit().expect_err("this commit is to be refused");
    (transaction, overtaken)
}

/// Filters of `block` that were overtaken.
pub(crate) fn lost(block: &Arc<Block>, filters: &[FilterId]) -> Vec<Overtaken> {
    filters.iter().map(|&filter| Overtaken::Filter { block: block.id(), filter }).collect()
}

/// What was told since the last call, in short words.
pub(crate) fn told(subscription: &Subscription) -> Vec<String> {
    std::iter::from_fn(|| subscription.try_next())
        .map(|notice| match notice {
            Notice::Event(event) => match &*event {
                Event::ChainAdded { chain, .. } => format!("+chain {chain}"),
                Event::ChainDeleted { chain, .. } => format!("-chain {chain}"),
                Event::FilterAdded { mode, filter, .. } => {
                    format!("{mode:?} {}:{}:{} {}", filter.chain, filter.priority, filter.handle, number(filter))
                }
                Event::FilterDeleted { filter, .. } => {
                    format!("-{}:{}:{} {}", filter.chain, filter.priority, filter.handle, number(filter))
                }
                Event::ProtoDeleted { proto, .. } => format!("-{}:{}", proto.chain, proto.priority),
                other => format!("{other:?}"),
            },
            other => format!("{other:?}"),
        })
        .collect()
}
