//! Few: filters that are asked one by one, because nothing is faster for a few.

use smallvec::SmallVec;

use super::search::Query;
use crate::filter::Filter;
use crate::sync::Arc;

/// Most filters that are asked one by one.
pub(super) const FEW: usize = if cfg!(feature = "shuttle") { 2 } else { 8 };

/// Filters in order of their places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Few(SmallVec<[Arc<Filter>; 4]>);

impl Few {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Filter>> {
        self.0.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first one for the packet.
    #[inline]
    pub(super) fn first(&self, query: &Query<'_>) -> Option<&Filter> {
        self.0.iter().map(|filter| &**filter).find(|filter| {
            let place = filter.place();
            place.proto() >= query.from
                && place.takes(query.protocol)
                && filter.rule().is_none_or(|rule| rule.matches(query.key))
                && filter.is_met_at(query.generation)
        })
    }

    /// With `new`, without `old`.
    pub(super) fn with(&self, new: Option<&Arc<Filter>>, old: Option<&Filter>) -> Few {
        let others = self.0.iter().filter(|other| !old.is_some_and(|old| std::ptr::eq(&***other, old)));
        let mut filters: SmallVec<[Arc<Filter>; 4]> = others.chain(new).cloned().collect();
        filters.sort_by_key(|filter| filter.place().position());
        Few(filters)
    }
}
