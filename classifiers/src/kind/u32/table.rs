//! Table: buckets of nodes, and the walk through them.

use std::fmt;
use std::ops::ControlFlow;

use super::Entry;
use super::bytes::Bytes;
use super::node::{Place, Way};
use crate::action::Outcome;
use crate::classify::Walk;
use crate::filter::Filter;
use crate::kind::Matches;
use crate::packet::Packet;
use crate::port::Egress;
use crate::sync::{Arc, PublishedOption};
use crate::tree::{Keyed, Tree};

/// Links that a packet may be behind at once [U3-3].
const DEPTH_MAX: u32 = 8;

/// Where automatic node ids begin, and where they go on when those are taken [HA-4].
const NODE_RANGES: [std::ops::RangeInclusive<u32>; 2] = [0x800..=0xfff, 1..=0x7ff];

/// Buckets of nodes. Requests replace a bucket as a whole, workers walk what they find [U3-9].
pub(crate) struct Table {
    id: u32,
    /// Nothing for a bucket without nodes.
    buckets: Box<[PublishedOption<Nodes>]>,
}

/// Nodes in ascending order; never changes.
pub(crate) type Nodes = Tree<Arc<Filter>>;

/// A handle's table, bucket and node.
pub(crate) fn parts(handle: u32) -> (u32, u32, u32) {
    (handle >> 20, handle >> 12 & 0xff, handle & 0xfff)
}

impl Table {
    /// Without nodes; `divisor` is how many buckets it has, 1 to 256.
    pub(crate) fn new(id: u32, divisor: u32) -> Arc<Table> {
        let buckets = (0..divisor).map(|_| PublishedOption::default()).collect();
        Arc::new(Table { id, buckets })
    }

    /// 12 bits: the first part of its nodes' handles.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The handle that names the table itself.
    pub(crate) fn handle(&self) -> u32 {
        self.id << 20
    }

    /// Number of buckets.
    #[inline]
    pub(crate) fn divisor(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "at most 256")]
        let divisor = self.buckets.len() as u32;
        divisor
    }

    /// What the nodes say about `packet`.
    #[inline]
    pub(crate) fn classify<E: Egress>(&self, packet: &mut Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
        match self.walk(0, Place::default(), 0, packet, cx) {
            ControlFlow::Break(outcome) => outcome,
            ControlFlow::Continue(()) => Outcome::Continue,
        }
    }

    /// Puts `packet` to the nodes of a bucket. `Break(Continue)` ends the whole search, `Continue` only this bucket's.
    fn walk<E: Egress>(
        &self,
        bucket: usize,
        from: Place,
        depth: u32,
        packet: &mut Packet,
        cx: &mut Walk<'_, '_, E>,
    ) -> ControlFlow<Outcome> {
        const NO_MATCH: ControlFlow<Outcome> = ControlFlow::Break(Outcome::Continue);
        let nodes = self.buckets[bucket].load();
        let Some(nodes) = nodes.as_ref() else { return ControlFlow::Continue(()) };
        nodes.try_for_each(|filter| {
            let Matches::U32(Entry::Node(node)) = filter.matches() else { return NO_MATCH };
            node.runs().hit(cx.worker, packet.l3_len(), cx.now_ns);
            let bytes = Bytes::new(cx.egress.frame(), packet);
            match node.matches(packet, bytes, from) {
                Some(true) => {}
                Some(false) => return ControlFlow::Continue(()),
                None => return NO_MATCH, // [U3-4]
            }
            if let Some(link) = node.link() {
                if depth == DEPTH_MAX {
                    return NO_MATCH;
                }
                match node.follow(link, bytes, from) {
                    Some(Way::To(bucket, place)) => link.walk(bucket, place, depth + 1, packet, cx)?,
                    Some(Way::Nowhere) => {}
                    None => return NO_MATCH,
                }
            }
            if !node.ends_here(packet) {
                return ControlFlow::Continue(());
            }
            match filter.apply(packet, cx) {
                Outcome::Continue => ControlFlow::Continue(()), // [DP-11]
                outcome => ControlFlow::Break(outcome),
            }
        })
    }

    /// The node with this handle.
    pub(crate) fn get(&self, handle: u32) -> Option<Arc<Filter>> {
        self.bucket_of(handle)?.load().as_ref()?.get(handle.into()).cloned()
    }

    /// The first node after `handle`, in the order of buckets and nodes [WK-3].
    pub(crate) fn after(&self, handle: u32) -> Option<Arc<Filter>> {
        self.buckets.iter().find_map(|bucket| bucket.load().as_ref()?.at_or_after(u64::from(handle) + 1).cloned())
    }

    /// The handle of a node that is to come into `bucket`, whichever is free first [HA-4].
    pub(crate) fn free_handle(&self, bucket: u32) -> Option<u32> {
        let handle = |node| self.handle() | bucket << 12 | node;
        NODE_RANGES.into_iter().flatten().map(handle).find(|&handle| self.get(handle).is_none())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.after(0).is_none()
    }

    /// Puts `node` in the place of its handle, and returns what the bucket was before.
    #[must_use = "it belongs to the reaper"]
    pub(crate) fn put(&self, node: Arc<Filter>) -> Option<Arc<Nodes>> {
        self.update(node.handle(), |bucket| bucket.with(node))
    }

    /// Takes the node with this handle out, and returns what the bucket was before.
    #[must_use = "it belongs to the reaper"]
    pub(crate) fn take(&self, handle: u32) -> Option<Arc<Nodes>> {
        self.update(handle, |bucket| bucket.without(handle.into()))
    }

    /// Takes all nodes out.
    #[must_use = "they belong to the reaper"]
    pub(crate) fn clear(&self) -> Vec<Arc<Nodes>> {
        self.buckets.iter().filter_map(|bucket| bucket.swap(None)).collect()
    }

    fn update(&self, handle: u32, change: impl FnOnce(&Nodes) -> Nodes) -> Option<Arc<Nodes>> {
        let bucket = self.bucket_of(handle)?;
        let new = change(bucket.load().as_deref().unwrap_or(&Nodes::default()));
        bucket.swap((!new.is_empty()).then(|| Arc::new(new)))
    }

    fn bucket_of(&self, handle: u32) -> Option<&PublishedOption<Nodes>> {
        self.buckets.get(parts(handle).1 as usize)
    }
}

/// The id alone: by way of links a table may contain itself.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keyed for Arc<Filter> {
    type Key = u64;

    #[inline]
    fn key(&self) -> u64 {
        self.handle().into()
    }
}
