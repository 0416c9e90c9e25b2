//! The data path: the one loop over chains and protos.

use smallvec::SmallVec;

use crate::action::Outcome;
use crate::block::Block;
use crate::chain::{Head, ProtoList};
use crate::filter::Filter;
use crate::flow_cache::FlowCache;
use crate::generation::Generation;
use crate::index::era::Era;
use crate::index::{Query, WIDTH};
use crate::packet::Packet;
use crate::port::{Egress, WorkerId};
use crate::sync::Loaded;
use crate::tree::Keyed;
use crate::verdict::{DropReason, Verdict};

/// Restarts by `goto` and `reclassify` that one packet may cause [DP-8].
pub const RESTARTS_MAX: u32 = 16;

/// What classification needs besides the packet: whose counters, what time, whose dice, which world.
#[derive(Debug)]
pub struct Context<'a, E: Egress> {
    /// The worker that classifies; less than the number given to [`Block::new`].
    pub worker: WorkerId,
    /// What the worker read with [`Plane::generation`](crate::plane::Plane::generation) at the beginning of the burst, before it
    /// loaded any head.
    pub generation: Generation,
    /// Now, in ns on a monotone clock that never reads 0.
    pub now_ns: u64,
    /// For `random netrand`.
    pub rng: &'a mut fastrand::Rng,
    /// For mirred: the packet in hand, and the ports.
    pub egress: &'a mut E,
}

/// The way of one packet through the lists.
pub(crate) struct Walk<'a, 'c, E: Egress> {
    cx: &'a mut Context<'c, E>,
    /// Where a goto leads: kept alive here while it is walked.
    pub(crate) target: Option<Loaded<ProtoList>>,
    /// Keeps what the packet may find.
    era: &'a Era,
}

/// The first filter of chain 0 for a packet that was looked for together with others; or nothing was looked for yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found<'h>(Option<Option<&'h Filter>>);

impl Head {
    /// Looks for the first filters of `packets`, for [`Block::classify_found`] on `worker`: their cache misses overlap. As many as
    /// `found` has room for.
    #[inline]
    pub fn find<'h, 'p>(
        &'h self,
        packets: impl IntoIterator<Item = &'p Packet>,
        worker: WorkerId,
        generation: Generation,
        found: &mut [Found<'h>],
    ) {
        let Some(index) = self.list.index() else { return };
        let mut packets = packets.into_iter();
        for found in found.chunks_mut(WIDTH) {
            let next = packets.by_ref().take(found.len());
            let queries: SmallVec<[Query<'_>; WIDTH]> = next.map(|packet| query(packet, 0, generation)).collect();
            let mut filters = [None; WIDTH];
            index.first_of_each(&queries, &mut filters[..queries.len()], &self.era);
            found.iter_mut().zip(filters).take(queries.len()).for_each(|(found, filter)| *found = Found(Some(filter)));
            if index.many(&self.era).is_some() {
                prefetch(found, worker);
            }
        }
    }

    /// The same, for packets of flows that `cache` knows without a search.
    #[inline(never)] // so that who has no cache does not pay for it
    pub fn find_cached<'h, 'p>(
        &'h self,
        packets: impl IntoIterator<Item = &'p Packet>,
        worker: WorkerId,
        generation: Generation,
        found: &mut [Found<'h>],
        cache: &mut FlowCache,
    ) {
        match self.list.index().and_then(|index| index.many(&self.era)) {
            Some(many) if cache.is_open(found.len()) => {
                let queries = packets.into_iter().take(found.len()).map(|packet| query(packet, 0, generation));
                let told = |at: usize, filter| found[at] = Found(Some(filter));
                cache.find(many, queries, generation, &self.era, told);
                prefetch(found, worker);
            }
            _ => self.find(packets, worker, generation, found),
        }
    }
}

impl PartialEq for Found<'_> {
    /// Whether it is the same filter, or none, or not looked for.
    fn eq(&self, other: &Self) -> bool {
        self.0.map(|filter| filter.map(std::ptr::from_ref)) == other.0.map(|filter| filter.map(std::ptr::from_ref))
    }
}

impl Block {
    /// Walks the protos of `head`, which the worker loaded with [`Block::head`] for the burst, until a filter decides
    /// about `packet`. No filter does: the packet passes [DP-12].
    ///
    /// # Panics
    /// If `cx.worker` is not one of the workers this block was made for.
    #[inline]
    pub fn classify<E: Egress>(&self, head: &Head, packet: &mut Packet, cx: &mut Context<'_, E>) -> Verdict {
        self.classify_found(head, Found::default(), packet, cx)
    }

    /// The same, with what [`Head::find`] found for the packet as it is.
    ///
    /// # Panics
    /// As [`Block::classify`].
    #[inline]
    pub fn classify_found<E: Egress>(
        &self,
        head: &Head,
        found: Found<'_>,
        packet: &mut Packet,
        cx: &mut Context<'_, E>,
    ) -> Verdict {
        let mut walk = Walk { cx, target: None, era: &head.era };
        let mut outcome = walk.list(&head.list, found, packet);
        for _ in 0..RESTARTS_MAX {
            match outcome {
                Outcome::Continue => return Verdict::Pass, // [DP-12], and an empty chain [DP-9]
                Outcome::Final(verdict) => return verdict,
                Outcome::Reclassify => outcome = walk.list(&head.list, Found::default(), packet), // [DP-6]
                Outcome::Goto => {
                    let target = walk.target.take();
                    let go = |list: Loaded<ProtoList>| walk.list(&list, Found::default(), packet);
                    outcome = target.map_or(Outcome::Continue, go); // [DP-7]
                }
            }
        }
        match outcome {
            Outcome::Continue => Verdict::Pass,
            Outcome::Final(verdict) => verdict,
            Outcome::Reclassify | Outcome::Goto => Verdict::Drop(DropReason::ReclassifyLoop), // [DP-8]
        }
    }
}

impl<E: Egress> Walk<'_, '_, E> {
    /// What the first proto that decides says; `Continue` if none does.
    #[inline]
    fn list(&mut self, list: &ProtoList, mut found: Found<'_>, packet: &mut Packet) -> Outcome {
        let mut from = 0;
        loop {
            // As the packet is now: an action of an earlier proto may have changed it.
            let look = || list.index()?.first(&query(packet, from, self.generation), self.era);
            let filter = found.0.take().unwrap_or_else(look);
            let walked = list.walked(from, packet.protocol());
            let first = filter.filter(|filter| walked.is_none_or(|entry| filter.place().proto() < entry.key()));
            let (outcome, proto) = match (first, walked) {
                (Some(filter), _) => (filter.apply(packet, self), filter.place().proto()),
                (None, Some(entry)) => (entry.view.classify(packet, self), entry.key()),
                (None, None) => return Outcome::Continue,
            };
            match outcome {
                Outcome::Continue => from = proto + 1, // [DP-5], [FL-12]
                outcome => return outcome,
            }
        }
    }
}

/// Has fetched what packets count on `worker`, where filters are too many to be in the nearest cache.
#[inline]
fn prefetch(found: &[Found<'_>], worker: WorkerId) {
    let filters = || found.iter().filter_map(|found| found.0.flatten());
    filters().for_each(|filter| filter.prefetch(worker));
    filters().for_each(|filter| filter.actions().prefetch_counters(worker));
}

#[inline]
fn query(packet: &Packet, from: u64, generation: Generation) -> Query<'_> {
    Query { key: packet.key().words(), protocol: packet.protocol(), from, generation }
}

impl<'c, E: Egress> std::ops::Deref for Walk<'_, 'c, E> {
    type Target = Context<'c, E>;

    #[inline]
    fn deref(&self) -> &Context<'c, E> {
        self.cx
    }
}

impl<E: Egress> std::ops::DerefMut for Walk<'_, '_, E> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.cx
    }
}
