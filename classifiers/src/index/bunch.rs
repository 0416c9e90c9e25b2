//! Bunch: filters that packets of one key meet, one after the other.

use std::ops::ControlFlow;

use super::place::Position;
use super::search::Query;
use super::shared::{Either, Target};
use super::tuple::Tuple;
use super::versions::Versions;
use crate::filter::Filter;
use crate::sync::Arc;
use crate::tree::{Keyed, Tree};

/// Filters of one tuple and one masked key, in order of their places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bunch(Tree<Rank>);

/// The filters of one place.
#[derive(Clone, Debug)]
struct Rank {
    position: Position,
    filters: Versions,
}

/// What a bucket's entry leads to.
pub(super) type Cell<'a> = Either<&'a Filter, &'a Bunch>;

impl Target for Bunch {}

impl Bunch {
    /// Calls `f` in order, from `from` on, until it breaks.
    pub(super) fn try_for_each_from<B>(
        &self,
        from: Position,
        mut f: impl FnMut(&Arc<Filter>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.0.try_for_each_from(from, |rank| rank.filters.iter().try_for_each(&mut f))
    }

    /// The first one from `from` on that `fits`.
    #[inline]
    fn find_from(&self, from: Position, fits: impl Fn(&Filter) -> bool) -> Option<&Filter> {
        let found = self.0.try_for_each_from(from, |rank| match rank.filters.iter().find(|filter| fits(filter)) {
            Some(filter) => ControlFlow::Break(&**filter),
            None => ControlFlow::Continue(()),
        });
        found.break_value()
    }

    /// Any of them: all have the same key.
    fn any(&self) -> Option<&Filter> {
        self.0.at_or_after((0, 0, 0)).and_then(|rank| rank.filters.iter().next()).map(|filter| &**filter)
    }

    /// With `new`, in the place of `old` if that is in the same one.
    pub(super) fn with(&self, new: &Arc<Filter>, old: Option<&Filter>) -> Bunch {
        let position = new.place().position();
        let there = self.0.get(position);
        let filters = there.map_or_else(|| Versions::of(new), |there| there.filters.with(new, old));
        Bunch(self.0.with(Rank { position, filters }))
    }

    /// Without `old`; nothing if it is not there.
    pub(super) fn without(&self, old: &Filter) -> Option<Bunch> {
        let position = old.place().position();
        let there = &self.0.get(position)?.filters;
        there.iter().find(|filter| std::ptr::eq(&***filter, old))?;
        Some(Bunch(match there.without(old) {
            Some(filters) => self.0.with(Rank { position, filters }),
            None => self.0.without(position),
        }))
    }

    /// The one filter, if there is one only.
    pub(super) fn single(&self) -> Option<Arc<Filter>> {
        let mut single = None;
        let more = self.try_for_each_from((0, 0, 0), |filter| match single.replace(Arc::clone(filter)) {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        });
        single.filter(|_| more.is_continue())
    }
}

impl Keyed for Rank {
    type Key = Position;

    fn key(&self) -> Position {
        self.position
    }
}

/// One of the filters.
#[inline(always)]
pub(super) fn any<'a>(cell: &Cell<'a>) -> Option<&'a Filter> {
    match cell {
        Either::One(filter) => Some(filter),
        Either::Other(bunch) => bunch.any(),
    }
}

/// The first of the filters for the packet, if they are of `tuple`.
#[inline(always)]
pub(super) fn first<'a>(cell: Cell<'a>, tuple: &Tuple, query: &Query<'_>) -> Option<&'a Filter> {
    let like = any(&cell)?;
    let (place, rule) = (like.place(), like.rule());
    let same = place.tuple() == tuple.id()
        && place.takes(query.protocol)
        && rule.is_none_or(|rule| rule.has_words_of(tuple.mask(), query.key));
    if !same {
        return None;
    }
    let fits = |filter: &Filter| {
        filter.place().proto() >= query.from
            && filter.rule().is_none_or(|rule| rule.has_ports_of(query.key))
            && filter.is_met_at(query.generation)
    };
    match cell {
        Either::One(filter) => fits(filter).then_some(filter),
        Either::Other(bunch) => bunch.find_from((query.from, 0, 0), fits),
    }
}
