//! Versions: filters of which a packet meets one at most.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::filter::Filter;
use crate::generation::Generation;

/// The filters of one place in a proto: nearly always one. While a transaction replaces it there are two, and until packets
/// of earlier generations are through there may be more; their spans do not overlap.
#[derive(Clone, Debug)]
pub(crate) struct Versions(SmallVec<[Arc<Filter>; 1]>);

impl Versions {
    pub(crate) fn of(filter: &Arc<Filter>) -> Versions {
        Versions(smallvec![Arc::clone(filter)])
    }

    /// The one that packets of `generation` meet.
    #[inline]
    pub(crate) fn at(&self, generation: Generation) -> Option<&Arc<Filter>> {
        self.0.iter().find(|filter| filter.lives_at(generation))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Filter>> {
        self.0.iter()
    }

    /// With `new`, in the place of `old` if there is one.
    pub(crate) fn with(&self, new: &Arc<Filter>, old: Option<&Filter>) -> Versions {
        let others = self.0.iter().filter(|other| !old.is_some_and(|old| std::ptr::eq(&***other, old)));
        Versions(others.chain([new]).cloned().collect())
    }

    /// Nothing if nothing is left.
    pub(crate) fn without(&self, filter: &Filter) -> Option<Versions> {
        let others: SmallVec<_> = self.0.iter().filter(|other| !std::ptr::eq(&***other, filter)).cloned().collect();
        (!others.is_empty()).then_some(Versions(others))
    }
}
