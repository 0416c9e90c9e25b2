//! Seat: a proto's place in its chain's index.

use crate::filter::Filter;
use crate::index::ChainIndex;
use crate::reap::Garbage;
use crate::sync::Arc;

/// The index that a proto's filters are found in, and where in it they are.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// From when the proto is listed on.
    index: Option<Arc<ChainIndex>>,
    place: u64,
    /// Filters that packets can find.
    filters: usize,
    /// The only one of them: it can leave in one step, without packets having to look at what all filters of the proto
    /// have in common.
    alone: Option<Arc<Filter>>,
}

impl Seat {
    pub(super) fn attach(&mut self, index: &Arc<ChainIndex>, place: u64) {
        (self.index, self.place) = (Some(Arc::clone(index)), place);
    }

    /// From now on no packet meets a filter.
    pub(super) fn leave(&self) {
        self.alone.iter().for_each(|filter| filter.place().leave());
    }

    /// Makes `new` findable, behind all whose `(group, order)` is lower, and `old` unfindable.
    pub(super) fn insert(
        &mut self,
        new: &Arc<Filter>,
        (group, order): (u64, u64),
        old: Option<&Filter>,
        garbage: &mut Vec<Garbage>,
    ) {
        let Some(index) = &self.index else { unreachable!("a filter of a proto that was never listed") };
        self.filters += usize::from(old.is_none());
        if let Some(alone) = self.alone.take() {
            alone.place().set_alone(false);
        }
        if self.filters == 1 {
            new.place().set_alone(true);
            self.alone = Some(Arc::clone(new));
        }
        new.place().set((self.place, group, order));
        let mut waste = Vec::new();
        index.insert(new, old, &mut waste);
        garbage.extend(waste.into_iter().map(Garbage::Index));
    }

    /// Makes `filter` unfindable.
    pub(super) fn remove(&mut self, filter: &Filter, garbage: &mut Vec<Garbage>) {
        let Some(index) = &self.index else { return };
        self.filters -= 1;
        self.alone = None;
        if !index.is_abandoned() {
            let mut waste = Vec::new();
            index.remove(filter, &mut waste);
            garbage.extend(waste.into_iter().map(Garbage::Index));
        }
    }

    /// The filters of the proto that may match the same packets as `new`. Those of a proto that had this place before may still
    /// be in the index.
    pub(super) fn for_each_alike(&self, new: &Filter, mut f: impl FnMut(&Arc<Filter>)) {
        let Some(index) = &self.index else { return };
        index.alike(new, self.place, |filter| {
            if filter.place().is_beside(new.place()) {
                f(filter);
            }
        });
    }
}
