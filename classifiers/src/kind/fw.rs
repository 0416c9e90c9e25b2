//! fw: the packet's mark.

use super::roster::{Index, Place, Rivals};
use super::{Change, Matches, View};
use crate::action::Outcome;
use crate::classify::Walk;
use crate::error::RequestError;
use crate::filter::Filter;
use crate::handle::Handles;
use crate::index::versions::Versions;
use crate::packet::Packet;
use crate::port::Egress;
use crate::reap::Garbage;
use crate::request::{FwSpec, KindName, KindSpec};
use crate::sync::Arc;
use crate::tree::{Keyed, Tree};

/// The filters of one fw proto: the handle of each is the mark it wants [FW-1].
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// Which bits of the mark count: as the first filter had it.
    mask: Option<u32>,
    filters: Tree<Marked>,
}

/// The filter of one mark.
#[derive(Clone, Debug)]
struct Marked {
    mark: u32,
    filters: Versions,
}

impl Marks {
    /// What the filter for the mark of `packet` says.
    #[inline]
    pub(crate) fn classify<E: Egress>(&self, packet: &mut Packet, cx: &mut Walk<'_, '_, E>) -> Outcome {
        let mark = packet.mark() & self.mask.unwrap_or_default();
        let filter = self.filters.get(mark.into()).and_then(|marked| marked.filters.at(cx.generation));
        match filter.map(|filter| (filter, filter.matches())) {
            Some((filter, Matches::Fw(wanted))) if packet.is_from(wanted.indev) => filter.apply(packet, cx),
            _ => Outcome::Continue, // no other filter of the proto wants this mark [DP-11]
        }
    }
}

impl Index for Marks {
    const NAME: KindName = KindName::Fw;
    const UNLOCKED: bool = true;
    const TAKEN: RequestError = RequestError::Exists("this handle");

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
    fn number(_: &Handles, wanted: u32) -> Result<u32, RequestError> {
        if wanted == 0 { Err(RequestError::Invalid("fw needs a handle: the mark")) } else { Ok(wanted) }
    }

    /// The handle is the key, and is there once anyway.
    fn rivals(&self, new: &Filter) -> Result<Rivals, RequestError> {
        match (self.mask, new.matches()) {
            (Some(mask), Matches::Fw(wanted)) if mask != wanted.mask => {
                Err(RequestError::Invalid("this priority has another mask")) // [FW-1]
            }
            _ => Ok(Rivals::new()),
        }
    }

    fn insert(&mut self, new: &Arc<Filter>, place: Place<'_>, _: &mut Vec<Garbage>) -> bool {
        if let Matches::Fw(wanted) = new.matches() {
            self.mask = Some(wanted.mask);
        }
        let mark = new.handle();
        let filters = match self.filters.get(mark.into()) {
            Some(marked) => marked.filters.with(new, place.replaced()),
            None => Versions::of(new),
        };
        self.filters = self.filters.with(Marked { mark, filters });
        true
    }

    fn remove(&mut self, filter: &Filter, _: &mut Vec<Garbage>) -> bool {
        let mark = filter.handle();
        let others = self.filters.get(mark.into()).and_then(|marked| marked.filters.without(filter));
        self.filters = match others {
            Some(filters) => self.filters.with(Marked { mark, filters }),
            None => self.filters.without(mark.into()),
        };
        true
    }

    fn view(&self) -> View {
        View::Fw(Arc::new(self.clone()))
    }
}

impl Keyed for Marked {
    type Key = u64;

    #[inline]
    fn key(&self) -> u64 {
        self.mark.into()
    }
}
