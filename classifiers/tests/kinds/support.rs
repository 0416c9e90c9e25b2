//! A block, and packets to try it with.

use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::classify::Context;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::{Egress, PortId, WorkerId};
use tidegate_classifiers::request::{
    self, ActionSpec, ETH_P_ALL, FilterId, FilterInfo, FilterKey, FilterSpec, GactSpec, KindSpec, Mode, U32Key,
    U32Node, U32Spec,
};
use tidegate_classifiers::verdict::{Control, Verdict};

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

/// A packet before it is received.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) frame: Vec<u8>,
    pub(crate) mark: u32,
    pub(crate) port: PortId,
}

/// Ethertype 0x88b5, and `l3` behind it.
pub(crate) fn packet(l3: &[u8]) -> Sent {
    Sent { frame: [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5], l3].concat(), mark: 0, port: PortId(0) }
}

pub(crate) fn marked(mark: u32) -> Sent {
    Sent { mark, ..packet(&[0; 20]) }
}

/// What becomes of a packet, as worker `worker`.
pub(crate) fn classify(block: &Block, worker: u16, sent: &Sent) -> Verdict {
    let mut packet = Packet::parse(&sent.frame, sent.port).unwrap();
    packet.set_mark(sent.mark);
    let (mut rng, mut egress) = (fastrand::Rng::with_seed(1), InHand(&sent.frame));
    let mut cx = Context {
        worker: WorkerId(worker),
        generation: block.plane().generation(),
        now_ns: 1,
        rng: &mut rng,
        egress: &mut egress,
    };
    block.classify(&block.head(), &mut packet, &mut cx)
}

/// A block with a last resort: what nothing else decides about is trapped.
pub(crate) struct Rig {
    pub(crate) block: Arc<Block>,
}

/// Priority of the last resort.
pub(crate) const LAST: u32 = 1000;

impl Rig {
    pub(crate) fn new() -> Rig {
        let rig = Rig { block: Block::new(2) };
        rig.add(&filter(LAST, 0, KindSpec::Matchall, &[Control::Trap])).unwrap();
        rig
    }

    pub(crate) fn send(&self, sent: &Sent) -> Verdict {
        classify(&self.block, 0, sent)
    }

    pub(crate) fn request(&self, spec: &FilterSpec, mode: Mode) -> Result<u32, RequestError> {
        request::new_filter(&self.block, spec, mode).map(|id| id.handle)
    }

    pub(crate) fn add(&self, spec: &FilterSpec) -> Result<u32, RequestError> {
        self.request(spec, Mode::Add)
    }

    pub(crate) fn delete(&self, priority: u32, handle: u32) -> Result<(), RequestError> {
        request::delete_filter(&self.block, FilterKey { handle, ..FilterKey::priority(0, priority) })
    }

    pub(crate) fn get(&self, priority: u32, handle: u32) -> Result<FilterInfo, RequestError> {
        request::get_filter(&self.block, FilterId { chain: 0, priority, handle })
    }

    /// Everything but the last resort.
    pub(crate) fn dump(&self) -> Vec<FilterInfo> {
        let mut all = request::dump(&self.block);
        all.retain(|info| info.priority != LAST);
        all
    }

    /// Priorities and handles in the order of listing.
    pub(crate) fn listed(&self) -> Vec<(u32, u32)> {
        self.dump().iter().map(|info| (info.priority, info.handle)).collect()
    }

    /// Packets that matched a filter.
    pub(crate) fn hits(&self, priority: u32, handle: u32) -> u64 {
        self.get(priority, handle).unwrap().hits.packets
    }
}

/// In chain 0, for all protocols.
pub(crate) fn filter(priority: u32, handle: u32, kind: KindSpec, controls: &[Control]) -> FilterSpec {
    let actions = controls.iter().map(|&control| ActionSpec::Gact(GactSpec { control, random: None })).collect();
    FilterSpec {
        options: Default::default(),
        chain: 0,
        priority,
        protocol: ETH_P_ALL,
        handle,
        kind,
        actions,
        name: "".into(),
    }
}

pub(crate) fn table(priority: u32, handle: u32, divisor: u32) -> FilterSpec {
    filter(priority, handle, KindSpec::U32(U32Spec::Table { divisor }), &[])
}

pub(crate) fn node(priority: u32, node: U32Node, controls: &[Control]) -> FilterSpec {
    filter(priority, 0, KindSpec::U32(U32Spec::Node(Box::new(node))), controls)
}

/// A byte of the packet, from L3 on.
pub(crate) fn byte(offset: i32, value: u8) -> U32Key {
    U32Key { value: u32::from(value) << 24, mask: 0xff00_0000, offset, next_header: false }
}

/// The errno of a request that is refused.
pub(crate) fn errno<T: std::fmt::Debug>(result: Result<T, RequestError>) -> &'static str {
    result.expect_err("this request is to be refused").errno()
}
