//! Roster: filters by handle, and the order of steps that changes them.

use std::fmt::Debug;
use std::sync::Arc;

use super::{Change, Changed, Deleted, Kind, Matches, View};
use crate::error::{Refusal, RequestError, Why};
use crate::filter::Filter;
use crate::handle::Handles;
use crate::pages::Pages;
use crate::reap::Garbage;
use crate::request::{Cx, KindName};
use crate::sync::{Lock, Locked, class};

/// What one kind does its own way. All but `parse` is called under the proto's lock: short, and without a lock of its own.
pub(crate) trait Index: Send + Sync + Debug + 'static {
    const NAME: KindName;
    const UNLOCKED: bool;

    /// Checks what is wanted, and prepares it for matching. `old` is to be replaced by it, if there is one.
    fn parse(change: &Change<'_>, old: Option<&Filter>) -> Result<Matches, RequestError>;

    /// The same once more, with what is there: where something can be shared with other filters.
    fn prepare(&self, _: &mut Matches) {}

    /// The handle for a new filter that asks for `wanted`, 0 for an automatic one; taken.
    fn reserve(handles: &mut Handles, filters: &Filters, wanted: u32) -> Result<u32, Refusal>;

    /// Makes `new` findable by packets, in the place of `old` if there is one, in a single step for each packet [FO-6].
    /// What it unlinked goes to `garbage`. Returns whether the view is another one now.
    fn insert(
        &mut self,
        new: &Arc<Filter>,
        old: Option<&Filter>,
        garbage: &mut Vec<Garbage>,
    ) -> Result<bool, RequestError>;

    /// The reverse.
    fn remove(&mut self, filter: &Filter, garbage: &mut Vec<Garbage>) -> bool;

    /// What workers are to see.
    fn view(&self) -> View;
}

/// Committed filters by handle.
pub(crate) type Filters = Pages<Arc<Filter>>;

/// The filters of a proto under the proto's lock.
#[derive(Debug)]
pub(crate) struct Roster<I> {
    state: Lock<State<I>, { class::INNER }>,
}

#[derive(Debug)]
struct State<I> {
    /// No filter may be committed any more; never unset [OBJ-9].
    deleting: bool,
    /// The chain's list has the view as it is.
    published: bool,
    /// Of filters, and of those that are being built [FO-3].
    handles: Handles,
    filters: Filters,
    index: I,
}

/// A handle that was taken for a filter that is being built; given back unless the filter is committed.
struct Reservation<'a, I: Index> {
    roster: &'a Roster<I>,
    handle: u32,
    committed: bool,
}

impl<I> Roster<I> {
    pub(crate) fn new(index: I) -> Roster<I> {
        let state =
            State { deleting: false, published: true, handles: Handles::default(), filters: Filters::default(), index };
        Roster { state: Lock::new(state) }
    }

    fn lock(&self) -> Locked<'_, State<I>, { class::INNER }> {
        self.state.lock()
    }
}

impl<I: Index> Roster<I> {
    /// A handle for a new filter. That of `old`, if there is one, is not reserved: it is the old filter's [FO-5].
    fn reserve(
        &self,
        wanted: u32,
        old: Option<&Filter>,
        matches: &mut Matches,
    ) -> Result<(u32, Option<Reservation<'_, I>>), Refusal> {
        let mut state = self.lock();
        if state.deleting {
            return Err(Refusal::Again(Why::Deleting));
        }
        state.index.prepare(matches);
        if let Some(old) = old {
            return Ok((old.handle(), None));
        }
        let State { handles, filters, .. } = &mut *state;
        let handle = I::reserve(handles, filters, wanted)?;
        Ok((handle, Some(Reservation { roster: self, handle, committed: false })))
    }
}

impl<I: Index> Drop for Reservation<'_, I> {
    fn drop(&mut self) {
        if !self.committed {
            self.roster.lock().handles.release(self.handle);
        }
    }
}

impl<I: Index> Kind for Roster<I> {
    fn name(&self) -> KindName {
        I::NAME
    }

    fn unlocked(&self) -> bool {
        I::UNLOCKED
    }

    /// In the order of [FO-2].
    fn change(&self, change: &Change<'_>, old: Option<Arc<Filter>>) -> Result<Changed, Refusal> {
        let (plane, spec) = (change.cx.plane(), change.spec);
        let mut matches = I::parse(change, old.as_deref())?;
        crate::action::validate(&spec.actions)?;
        let (handle, mut reservation) = self.reserve(spec.handle, old.as_deref(), &mut matches)?;
        let mut built = change.build(I::NAME, handle, matches, plane.filter_counters().take())?;

        let mut garbage = Vec::new();
        let mut state = self.lock();
        let refused = if state.deleting {
            Some(Refusal::Again(Why::Deleting))
        } else if old.as_ref().is_some_and(|old| old.is_deleted()) {
            Some(Refusal::Again(Why::Replaced))
        } else {
            None
        };
        let inserted = match refused {
            Some(refusal) => Err(refusal),
            None => state.index.insert(&built.filter, old.as_deref(), &mut garbage).map_err(Refusal::from),
        };
        let publish = match inserted {
            Ok(changed) => {
                state.published &= !changed;
                !state.published
            }
            Err(refusal) => {
                drop(state);
                return Err(built.discard(refusal));
            }
        };
        state.filters.insert(handle, Arc::clone(&built.filter));
        if let Some(old) = &old {
            old.mark_deleted();
        }
        if let Some(reservation) = &mut reservation {
            reservation.committed = true;
        }
        built.tell();
        drop(state);
        change.cx.defer(garbage);
        Ok(Changed { handle, old, publish })
    }

    fn delete(&self, cx: &Cx<'_>, filter: &Filter, told: &mut dyn FnMut()) -> Option<Deleted> {
        let mut garbage = Vec::new();
        let mut state = self.lock();
        if state.deleting || filter.is_deleted() {
            return None;
        }
        filter.mark_deleted();
        let changed = state.index.remove(filter, &mut garbage);
        state.published &= !changed;
        let deleted = Deleted { publish: !state.published, last: state.filters.len() == 1 };
        state.handles.release(filter.handle());
        let removed = state.filters.remove(filter.handle());
        told();
        drop(state);
        drop(removed); // the caller holds it too
        cx.defer(garbage);
        Some(deleted)
    }

    fn get(&self, handle: u32) -> Option<Arc<Filter>> {
        let state = self.lock();
        state.filters.get(handle).filter(|_| !state.deleting).cloned()
    }

    fn page(&self, position: Option<u64>, max: usize) -> Vec<(u64, Arc<Filter>)> {
        let from = position.map_or(0, |position| position + 1);
        let Ok(from) = u32::try_from(from) else { return Vec::new() }; // [WK-9]
        let state = self.lock();
        state.filters.from(from).take(max).map(|(handle, filter)| (handle.into(), Arc::clone(filter))).collect()
    }

    fn has_filters(&self) -> bool {
        !self.lock().filters.is_empty()
    }

    fn publish(&self) -> Option<View> {
        let mut state = self.lock();
        (!std::mem::replace(&mut state.published, true)).then(|| state.index.view())
    }

    fn retire(&self) {
        self.lock().deleting = true;
    }

    fn retire_if_filters(&self) -> bool {
        let mut state = self.lock();
        let some = !state.deleting && !state.filters.is_empty();
        state.deleting |= some;
        some
    }

    fn retire_if_empty(&self) -> bool {
        let mut state = self.lock();
        let empty = !state.deleting && state.handles.is_empty(); // [TP-16]
        state.deleting |= empty;
        empty
    }

    fn destroy(&self, _: &Cx<'_>) -> Vec<Arc<Filter>> {
        let filters = std::mem::take(&mut self.lock().filters);
        filters.into_values().collect()
    }
}
