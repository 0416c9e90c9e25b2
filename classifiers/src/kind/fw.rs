//! fw: the packet's mark.

use super::roster::{Filters, Index};
use super::{Change, Matches, View};
use crate::action::Outcome;
use crate::classify::Walk;
use crate::error::{Refusal, RequestError, Why};
use crate::filter::Filter;
use crate::handle::Handles;
use crate::packet::Packet;
use crate::port::Egress;
use crate::reap::Garbage;
use crate::request::{FwSpec, KindName, KindSpec};
use crate::sync::Arc;
use crate::tree::Tree;

/// The filters of one fw proto: the handle of each is the mark it wants [FW-1].
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// Which bits of the mark count: as the first filter had it.
    mask: Option<u32>,
    filters: Tree<Arc<Filter>>,
}

impl Marks {
    /// What the filter for the mark of `packet` says.
    #[inline]
    pub(crate) fn classify<E: Egress>(&self, packet: &Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
        let mark = packet.mark() & self.mask.unwrap_or_default();
        let filter = self.filters.get(mark.into());
        match filter.map(|filter| (filter, filter.matches())) {
            Some((filter, Matches::Fw(wanted))) if packet.is_from(wanted.indev) => filter.apply(packet, cx),
            _ => Outcome::Continue, // no other filter of the proto wants this mark [DP-11]
        }
    }
}

impl Index for Marks {
    const NAME: KindName = KindName::Fw;
    const UNLOCKED: bool = true;

    /// A replacement keeps the port unless one is given [FO-7].
    fn parse(change: &Change<'_>, old: Option<&Filter>) -> Result<Matches, RequestError> {
        let KindSpec::Fw(wanted) = &change.spec.kind else {
            return Err(RequestError::Invalid("this priority has another kind")); // [ER-6]
        };
        let kept = match old.map(Filter::matches) {
            Some(Matches::Fw(old)) => old.indev,
            _ => None,
        };
        Ok(Matches::Fw(FwSpec { indev: wanted.indev.or(kept), ..*wanted }))
    }

    /// The mark must be given [HA-3]; [FW-2].
    fn reserve(handles: &mut Handles, filters: &Filters, wanted: u32) -> Result<u32, Refusal> {
        match wanted {
            0 => Err(RequestError::Invalid("fw needs a handle: the mark").into()),
            mark if handles.take(mark) => Ok(mark),
            mark if filters.contains(mark) => Err(Refusal::Again(Why::Replaced)), // since it was looked up
            _ => Err(Refusal::Again(Why::Reserved)),                              // [FO-4]
        }
    }

    fn insert(&mut self, new: &Arc<Filter>, _: Option<&Filter>, _: &mut Vec<Garbage>) -> Result<bool, RequestError> {
        let Matches::Fw(wanted) = new.matches() else { return Ok(false) };
        if self.mask.is_some_and(|mask| mask != wanted.mask) {
            return Err(RequestError::Invalid("this priority has another mask")); // [FW-1]
        }
        self.mask = Some(wanted.mask);
        self.filters = self.filters.with(Arc::clone(new));
        Ok(true)
    }

    fn remove(&mut self, filter: &Filter, _: &mut Vec<Garbage>) -> bool {
        self.filters = self.filters.without(filter.handle().into());
        true
    }

    fn view(&self) -> View {
        View::Fw(Arc::new(self.clone()))
    }
}
