//! A block with one list of actions, and frames to try it with.

use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::classify::Context;
use tidegate_classifiers::counters::Hits;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::{Egress, PortId, WorkerId};
use tidegate_classifiers::request::{self, ActionSpec, ETH_P_ALL, FilterSpec, GactSpec, KindSpec, SampleSpec};
use tidegate_classifiers::verdict::{Control, Verdict};

/// The packet in hand: no ports, but its bytes.
#[derive(Clone, Debug)]
pub(crate) struct InHand {
    pub(crate) frame: Vec<u8>,
    /// Bytes that fit where it is.
    pub(crate) room: usize,
    /// What was shown to who listens, and when.
    pub(crate) shown: Vec<(SampleSpec, u64, Vec<u8>)>,
    /// Packets that who listens has room for.
    pub(crate) shelf: usize,
}

impl InHand {
    pub(crate) fn new(frame: &[u8]) -> InHand {
        InHand { frame: frame.to_vec(), room: 2048, shown: Vec::new(), shelf: usize::MAX }
    }
}

impl Egress for InHand {
    fn frame(&self) -> &[u8] {
        &self.frame
    }

    fn edit<T>(&mut self, edit: impl FnOnce(&mut [u8]) -> T) -> T {
        edit(&mut self.frame)
    }

    fn resize(&mut self, len: usize) -> bool {
        let fits = len <= self.room;
        if fits {
            self.frame.resize(len, 0xee);
        }
        fits
    }

    fn sample(&mut self, sample: &SampleSpec, now_ns: u64) -> bool {
        let fits = self.shown.len() < self.shelf;
        if fits {
            self.shown.push((*sample, now_ns, self.frame.clone()));
        }
        fits
    }

    fn ready(&self, _: PortId) -> bool {
        false
    }

    fn mirror(&mut self, _: PortId) -> bool {
        false
    }
}

/// A block.
pub(crate) struct Rig {
    pub(crate) block: Arc<Block>,
}

impl Rig {
    /// With one filter for everything, of priority 1.
    pub(crate) fn new(actions: &[ActionSpec]) -> Rig {
        let rig = Rig { block: Block::new(4) };
        rig.add(1, actions).unwrap();
        rig
    }

    /// Another filter for everything.
    pub(crate) fn add(&self, priority: u32, actions: &[ActionSpec]) -> Result<(), RequestError> {
        request::add_filter(&self.block, &matchall(priority, actions)).map(|_| ())
    }

    /// What becomes of `frame` at `now_ns`, as `worker`.
    pub(crate) fn send(&self, worker: u16, in_hand: &mut InHand, now_ns: u64) -> Verdict {
        self.walk(worker, in_hand, now_ns, &mut fastrand::Rng::with_seed(1)).0
    }

    /// The same, with these dice, and what the packet is then.
    pub(crate) fn walk(
        &self,
        worker: u16,
        in_hand: &mut InHand,
        now_ns: u64,
        rng: &mut fastrand::Rng,
    ) -> (Verdict, Packet) {
        let mut packet = Packet::parse(&in_hand.frame, PortId(0)).unwrap();
        let generation = self.block.plane().generation();
        let mut cx = Context { worker: WorkerId(worker), generation, now_ns, rng, egress: in_hand };
        (self.block.classify(&self.block.head(), &mut packet, &mut cx), packet)
    }

    /// What becomes of `frame` at once, and what it is then.
    pub(crate) fn edit(&self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let mut in_hand = InHand::new(frame);
        (self.send(0, &mut in_hand, 1), in_hand.frame)
    }

    /// What the action at `place` of the filter of this priority counted.
    pub(crate) fn hits(&self, priority: u32, place: usize) -> Hits {
        let all = request::dump(&self.block);
        all.iter().find(|info| info.priority == priority).unwrap().actions[place].hits
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

pub(crate) fn gact(control: Control) -> ActionSpec {
    ActionSpec::Gact(GactSpec { control, random: None })
}
