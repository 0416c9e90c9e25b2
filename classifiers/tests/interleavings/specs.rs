//! Filters and packets.

use tidegate_classifiers::block::Block;
use tidegate_classifiers::chain::Head;
use tidegate_classifiers::classify::{Context, Found};
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::flow_cache::FlowCache;
use tidegate_classifiers::flow_key::{DST_MAC, SRC_MAC};
use tidegate_classifiers::generation::Generation;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::{Egress, PortId, WorkerId};
use tidegate_classifiers::request::{
    ActionKind, ActionSpec, ActionUse, ETH_P_ALL, FilterId, FilterInfo, FilterSpec, FlowerSpec, GactSpec, KindSpec,
    U32Spec,
};
use tidegate_classifiers::verdict::{Control, Verdict};

/// What a request is told: the handle, or the errno.
pub(crate) type Answer = Result<u32, &'static str>;

pub(crate) fn answer(result: Result<FilterId, RequestError>) -> Answer {
    result.map(|id| id.handle).map_err(RequestError::errno)
}

/// As above where there is no handle.
pub(crate) fn done(result: Result<(), RequestError>) -> Answer {
    result.map(|()| 0).map_err(RequestError::errno)
}

/// In chain 0, priority 1, for all protocols, with an automatic handle and without actions.
pub(crate) fn filter(kind: KindSpec) -> FilterSpec {
    let actions = Default::default();
    FilterSpec {
        options: Default::default(),
        chain: 0,
        priority: 1,
        protocol: ETH_P_ALL,
        handle: 0,
        kind,
        actions,
        name: "".into(),
    }
}

/// Packets from MAC address `n`.
pub(crate) fn flower(n: u64) -> FilterSpec {
    let mut flower = FlowerSpec::default();
    flower.value.set(SRC_MAC, n);
    flower.mask.set(SRC_MAC, SRC_MAC.max());
    filter(KindSpec::Flower(Box::new(flower)))
}

/// Packets to MAC address `n`: another mask.
pub(crate) fn flower_to(n: u64) -> FilterSpec {
    let mut flower = FlowerSpec::default();
    flower.value.set(DST_MAC, n);
    flower.mask.set(DST_MAC, DST_MAC.max());
    filter(KindSpec::Flower(Box::new(flower)))
}

pub(crate) fn matchall() -> FilterSpec {
    filter(KindSpec::Matchall)
}

/// Of the kind that needs the global lock.
pub(crate) fn u32_node() -> FilterSpec {
    filter(KindSpec::U32(U32Spec::Node(Box::default())))
}

pub(crate) trait With: Sized {
    fn chain(self, chain: u32) -> Self;
    fn priority(self, priority: u32) -> Self;
    fn protocol(self, protocol: u16) -> Self;
    fn handle(self, handle: u32) -> Self;
    fn name(self, name: &str) -> Self;
    fn actions(self, actions: &[ActionUse]) -> Self;

    /// One action, of its own.
    fn says(self, control: Control) -> Self {
        self.actions(&[gact(control)])
    }

    /// It is refused, and late: with its proto obtained and its handle reserved.
    fn refused(self) -> Self {
        self.actions(&[ActionUse::shared(ActionKind::Mirred, 99)])
    }
}

impl With for FilterSpec {
    fn chain(self, chain: u32) -> Self {
        FilterSpec { chain, ..self }
    }

    fn priority(self, priority: u32) -> Self {
        FilterSpec { priority, ..self }
    }

    fn protocol(self, protocol: u16) -> Self {
        FilterSpec { protocol, ..self }
    }

    fn handle(self, handle: u32) -> Self {
        FilterSpec { handle, ..self }
    }

    fn name(self, name: &str) -> Self {
        FilterSpec { name: name.into(), ..self }
    }

    fn actions(self, actions: &[ActionUse]) -> Self {
        FilterSpec { actions: actions.into(), ..self }
    }
}

pub(crate) fn gact(control: Control) -> ActionUse {
    ActionSpec::Gact(GactSpec { control, random: None }).into()
}

/// The verdict that an action says.
pub(crate) fn control(spec: ActionSpec) -> Control {
    match spec {
        ActionSpec::Gact(GactSpec { control, .. }) => control,
        _ => panic!("not a verdict: {spec:?}"),
    }
}

/// Priorities and handles, in the order of listing.
pub(crate) fn places(listing: &[FilterInfo]) -> Vec<(u32, u32)> {
    listing.iter().map(|info| (info.priority, info.handle)).collect()
}

/// What becomes of a packet from MAC address `from` to `to`.
pub(crate) fn send(block: &Block, from: u64, to: u64) -> Verdict {
    send_at(block, &burst(block), from, to)
}

/// What a worker reads at the beginning of a burst.
pub(crate) struct Burst {
    generation: Generation,
    pub(crate) head: Head,
}

pub(crate) fn burst(block: &Block) -> Burst {
    Burst { generation: block.plane().generation(), head: block.head() } // in this order
}

/// The same, in a burst that began before.
pub(crate) fn send_at(block: &Block, burst: &Burst, from: u64, to: u64) -> Verdict {
    send_found(block, burst, None, from, to)
}

/// The same in a burst of its own, by a worker with a flow cache.
pub(crate) fn send_cached(block: &Block, cache: &mut FlowCache, from: u64, to: u64) -> Verdict {
    send_found(block, &burst(block), Some(cache), from, to)
}

fn send_found(block: &Block, burst: &Burst, cache: Option<&mut FlowCache>, from: u64, to: u64) -> Verdict {
    let mac = |n: u64| n.to_be_bytes()[2..].to_vec();
    let frame = [mac(to), mac(from), vec![0x88, 0xb5], vec![0; 20]].concat();
    let mut packet = Packet::parse(&frame, PortId(0)).unwrap();
    let (mut rng, mut egress) = (fastrand::Rng::with_seed(1), InHand(&frame));
    let mut cx =
        Context { worker: WorkerId(0), generation: burst.generation, now_ns: 1, rng: &mut rng, egress: &mut egress };
    let mut found = [Found::default()];
    if let Some(cache) = cache {
        burst.head.find_cached([&packet], WorkerId(0), burst.generation, &mut found, cache);
    }
    block.classify_found(&burst.head, found[0], &mut packet, &mut cx)
}

/// A packet in hand: no ports, but its bytes.
struct InHand<'a>(&'a [u8]);

impl Egress for InHand<'_> {
    fn frame(&self) -> &[u8] {
        self.0
    }

    fn ready(&self, _: PortId) -> bool {
        false
    }

    fn mirror(&mut self, _: PortId) -> bool {
        false
    }
}
