//! Roster: filters by handle, and the order of steps that changes them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use smallvec::SmallVec;

use super::seat::Seat;
use super::{Change, Changed, Deleted, Flip, Kind, Matches, Staged, View};
use crate::error::{Refusal, RequestError, Why};
use crate::filter::Filter;
use crate::generation::Generation;
use crate::handle::Handles;
use crate::index::ChainIndex;
use crate::ledger::{By, Ledger};
use crate::pages::Pages;
use crate::proto::Proto;
use crate::reap::Garbage;
use crate::request::{Cx, FilterId, KindName};
use crate::sync::{Lock, Locked, class};
use crate::transaction::Overtaken;

/// What one kind does its own way. All but `parse` is called under the proto's lock: short, and without a lock of its own.
///
/// An index holds every filter that some packet may meet: those that requests see, those that transactions have prepared,
/// and those that commits have deleted, until no packet of an earlier generation is left. Which of them a packet meets is
/// said by their spans.
pub(crate) trait Index: Send + Sync + Debug + 'static {
    const NAME: KindName;
    const UNLOCKED: bool;
    /// Whether a proto has one filter at most.
    const SINGLE: bool = false;
    /// What a filter is told that packets could not tell from another one.
    const TAKEN: RequestError;

    /// Checks what is wanted, and prepares it for matching. `old` is to be replaced by it, if there is one.
    fn parse(change: &Change<'_>, old: Option<&Filter>) -> Result<Matches, RequestError>;

    /// The same once more, with what is there: where something can be shared with other filters.
    fn prepare(&self, _: &mut Matches) {}

    /// The handle for a new filter that asks for `wanted`, 0 for an automatic one; it may be taken.
    fn number(handles: &Handles, wanted: u32) -> Result<u32, RequestError>;

    /// The filters that no packet could tell from `new`; or why `new` cannot be in this proto whatever else is.
    fn rivals(&self, new: &Filter) -> Result<Rivals, RequestError>;

    /// Makes `new` findable by packets [FO-6]. What it unlinked goes to `garbage`. Returns whether the view is another one now.
    fn insert(&mut self, new: &Arc<Filter>, place: Place<'_>, garbage: &mut Vec<Garbage>) -> bool;

    /// The reverse.
    fn remove(&mut self, filter: &Filter, garbage: &mut Vec<Garbage>) -> bool;

    /// What workers are to see; nothing if the chain's index holds the filters.
    fn view(&self) -> View {
        View::Nothing
    }

    /// Where in the chain's index the filters are; nothing if it does not hold them.
    fn seat(&mut self) -> Option<&mut Seat> {
        None
    }
}

pub(crate) type Rivals = SmallVec<[Arc<Filter>; 2]>;

/// Where a filter comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// Behind all others.
    New,
    /// In the place of this one, in a single step for each packet.
    InsteadOf(&'a Filter),
    /// In the place of this one, which stays until a commit decides.
    Beside(&'a Filter),
}

impl<'a> Place<'a> {
    /// What goes in the same step.
    pub(super) fn replaced(self) -> Option<&'a Filter> {
        match self {
            Place::InsteadOf(old) => Some(old),
            Place::New | Place::Beside(_) => None,
        }
    }

    /// Whose place it is.
    pub(super) fn of(self) -> Option<&'a Filter> {
        match self {
            Place::InsteadOf(old) | Place::Beside(old) => Some(old),
            Place::New => None,
        }
    }
}

/// The filters of a proto under the proto's lock.
#[derive(Debug)]
pub(crate) struct Roster<I> {
    state: Lock<State<I>, { class::INNER }>,
}

#[derive(Debug)]
struct State<I> {
    /// No filter may be committed any more; never unset [OBJ-9].
    deleting: bool,
    /// Which view there is now, and which one the chain's list has.
    version: u64,
    published: u64,
    /// Of filters, of those that are being built [FO-3], and of those that transactions have prepared.
    handles: Handles,
    /// What plain requests see.
    filters: Pages<Arc<Filter>>,
    /// What transactions have prepared, by handle.
    claims: BTreeMap<u32, Claim>,
    /// Filters that commits have deleted, and that packets of earlier generations may still meet.
    leaving: usize,
    /// Another proto has the priority, or will have it with a commit: no filter comes here any more.
    heir: bool,
    index: I,
}

/// What a transaction has prepared for a handle. There is one at most: what another transaction wants is refused [TX-7].
#[derive(Debug)]
struct Claim {
    ledger: Arc<Ledger>,
    /// How to call the loss of it.
    place: Overtaken,
    /// What is to be there; nothing if the handle is to be free.
    new: Option<Arc<Filter>>,
}

/// What left the proto under its lock, to be released after it.
#[derive(Default)]
struct Loose {
    filters: Vec<Arc<Filter>>,
    garbage: Vec<Garbage>,
}

/// A handle that was taken for a filter that is being built; given back unless the filter is committed.
struct Reservation<'a, I: Index> {
    roster: &'a Roster<I>,
    handle: u32,
    committed: bool,
}

impl<I> Roster<I> {
    pub(crate) fn new(index: I) -> Roster<I> {
        let state = State {
            deleting: false,
            version: 0,
            published: 0,
            handles: Handles::default(),
            filters: Pages::default(),
            claims: BTreeMap::new(),
            leaving: 0,
            heir: false,
            index,
        };
        Roster { state: Lock::new(state) }
    }

    fn lock(&self) -> Locked<'_, State<I>, { class::INNER }> {
        self.state.lock()
    }
}

impl<I: Index> Roster<I> {
    /// A handle for a new filter. That of `old`, if there is one, is not reserved: it is the old filter's [FO-5]. So it is with
    /// the handle of a filter that the transaction has deleted.
    fn reserve(
        &self,
        change: &Change<'_>,
        old: Option<&Filter>,
        matches: &mut Matches,
    ) -> Result<(u32, Option<Reservation<'_, I>>), Refusal> {
        let by = change.cx.by();
        let mut loose = Loose::default();
        let mut state = self.lock();
        state.check_open(by)?;
        state.index.prepare(matches);
        if let Some(old) = old {
            return Ok((old.handle(), None));
        }
        if I::SINGLE && state.sees_any(by) {
            return Err(I::TAKEN.into()); // [ER-4]
        }
        let handle = I::number(&state.handles, change.spec.handle)?;
        state.take_over(by, handle, &mut loose)?;
        let reserved = if state.handles.take(handle) {
            Ok((handle, Some(Reservation { roster: self, handle, committed: false })))
        } else if state.claims.contains_key(&handle) && state.seen(by, handle).is_none() {
            Ok((handle, None))
        } else if state.filters.contains(handle) || state.claims.contains_key(&handle) {
            Err(Refusal::Again(Why::Replaced)) // since it was looked up
        } else {
            Err(Refusal::Again(Why::Reserved)) // [FO-4]
        };
        drop(state);
        loose.release(change.cx);
        reserved
    }
}

impl<I: Index> Drop for Reservation<'_, I> {
    fn drop(&mut self) {
        if !self.committed {
            self.roster.lock().handles.release(self.handle);
        }
    }
}

impl<I: Index> State<I> {
    /// Whether a filter can come here. If not, another proto has the priority, or will soon: a plain request finds it when it
    /// looks again. A transaction would have to wait for another one.
    fn check_open(&self, by: By<'_>) -> Result<(), Refusal> {
        match by {
            Some(_) if self.heir && !self.deleting => Err(CLAIMED.into()),
            _ if self.heir || self.deleting => Err(Refusal::Again(Why::Deleting)),
            _ => Ok(()),
        }
    }

    /// The filter with `handle` as `by` sees it [TX-3].
    fn seen(&self, by: By<'_>, handle: u32) -> Option<&Arc<Filter>> {
        match self.claims.get(&handle) {
            Some(claim) if claim.is_of(by) => claim.new.as_ref(),
            _ => self.filters.get(handle),
        }
    }

    fn sees_any(&self, by: By<'_>) -> bool {
        match by {
            None => !self.filters.is_empty(),
            Some(_) => {
                let handles = self.filters.from(0).map(|(handle, _)| handle);
                handles.chain(self.claims.keys().copied()).any(|handle| self.seen(by, handle).is_some())
            }
        }
    }

    /// No other transaction has prepared anything for `handle` any more: a plain request takes it away [TX-6], a transaction
    /// cannot [TX-7].
    fn take_over(&mut self, by: By<'_>, handle: u32, loose: &mut Loose) -> Result<(), Refusal> {
        match self.claims.get(&handle) {
            Some(claim) if !claim.is_of(by) => {
                if by.is_some() {
                    return Err(CLAIMED.into());
                }
                claim.ledger.overtake(claim.place)?;
                self.withdraw(handle, loose);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes a claim back.
    fn withdraw(&mut self, handle: u32, loose: &mut Loose) {
        let Some(claim) = self.claims.remove(&handle) else { return };
        if let Some(new) = claim.new {
            self.remove(new, loose);
        }
        if !self.filters.contains(handle) {
            self.handles.release(handle);
        }
    }

    /// Takes a filter out of the index for good.
    fn remove(&mut self, filter: Arc<Filter>, loose: &mut Loose) {
        filter.mark_deleted();
        let changed = self.index.remove(&filter, &mut loose.garbage);
        self.version += u64::from(changed);
        loose.filters.push(filter);
    }

    /// Whether `new` can come in the place of `old`. What other transactions have prepared and cannot be beside it goes.
    fn make_way(
        &mut self,
        by: By<'_>,
        new: &Filter,
        old: Option<&Arc<Filter>>,
        loose: &mut Loose,
    ) -> Result<(), Refusal> {
        self.check_open(by)?;
        if self.seen(by, new.handle()).map(Arc::as_ptr) != old.map(Arc::as_ptr) {
            return Err(Refusal::Again(Why::Replaced));
        }
        let mut rivals = self.index.rivals(new)?;
        rivals.retain(|rival| {
            let claim = self.claims.get(&rival.handle());
            let goes = claim.is_some_and(|claim| claim.is_of(by) && !claim.prepares(rival));
            !goes && !rival.is_deleted() && !old.is_some_and(|old| Arc::ptr_eq(old, rival))
        });
        let prepared_by_others = |rival: &Arc<Filter>| {
            let claim = self.claims.get(&rival.handle());
            claim.is_some_and(|claim| !claim.is_of(by) && claim.prepares(rival))
        };
        if !rivals.iter().all(prepared_by_others) {
            return Err(I::TAKEN.into());
        }
        for rival in rivals {
            self.take_over(by, rival.handle(), loose)?;
        }
        self.take_over(by, new.handle(), loose)
    }

    /// Whether workers do not see yet what there is: also of a filter that came into a view which another thread is about to
    /// publish.
    fn is_unpublished(&self) -> bool {
        self.version != self.published
    }

    /// What a deletion has come to.
    fn deleted(&self) -> Deleted {
        Deleted { publish: self.is_unpublished(), last: self.filters.is_empty() && self.claims.is_empty() }
    }

    /// All that transactions have prepared is lost to a request that takes the whole proto.
    fn lose_claims(&mut self) -> Result<(), Refusal> {
        self.claims.values().try_for_each(|claim| claim.ledger.overtake(claim.place))
    }
}

/// The answer to a transaction that is not the first.
const CLAIMED: RequestError = RequestError::Busy("another transaction has prepared something here");

impl Claim {
    fn is_of(&self, by: By<'_>) -> bool {
        by.is_some_and(|ledger| Arc::ptr_eq(ledger, &self.ledger))
    }

    fn prepares(&self, filter: &Arc<Filter>) -> bool {
        self.new.as_ref().is_some_and(|new| Arc::ptr_eq(new, filter))
    }
}

impl Loose {
    /// Without locks.
    fn release(self, cx: &Cx<'_>) {
        self.filters.into_iter().for_each(|filter| cx.release(filter));
        cx.defer(self.garbage);
    }
}

impl<I: Index> Kind for Roster<I> {
    fn name(&self) -> KindName {
        I::NAME
    }

    fn unlocked(&self) -> bool {
        I::UNLOCKED
    }

    fn is_indexed(&self) -> bool {
        self.lock().index.seat().is_some()
    }

    fn attach(&self, index: &Arc<ChainIndex>, place: u64) {
        if let Some(seat) = self.lock().index.seat() {
            seat.attach(index, place);
        }
    }

    fn leave(&self) {
        if let Some(seat) = self.lock().index.seat() {
            seat.leave();
        }
    }

    fn staged(&self) -> Option<&dyn Staged> {
        Some(self)
    }

    /// In the order of [FO-2].
    fn change(&self, change: &Change<'_>, old: Option<Arc<Filter>>) -> Result<Changed, Refusal> {
        let (plane, spec, by) = (change.cx.plane(), change.spec, change.cx.by());
        let mut matches = I::parse(change, old.as_deref())?;
        crate::action::validate(&spec.actions)?;
        let (handle, mut reservation) = self.reserve(change, old.as_deref(), &mut matches)?;
        let mut built = change.build(handle, matches, plane.filter_counters().take())?;

        let mut loose = Loose::default();
        let mut state = self.lock();
        if let Err(refusal) = state.make_way(by, &built.filter, old.as_ref(), &mut loose) {
            drop(state);
            loose.release(change.cx);
            return Err(built.discard(refusal));
        }
        let claimed = state.claims.get(&handle).is_some_and(|claim| claim.new.is_some());
        let place = match &old {
            None => Place::New,
            Some(old) if by.is_some() && !claimed => Place::Beside(old),
            Some(old) => Place::InsteadOf(old),
        };
        let changed = state.index.insert(&built.filter, place, &mut loose.garbage);
        state.version += u64::from(changed);
        let publish = state.is_unpublished();
        let replaced = match by {
            None => state.filters.insert(handle, Arc::clone(&built.filter)),
            Some(ledger) => {
                let claim = Claim::new(ledger, change.proto, handle, Some(Arc::clone(&built.filter)));
                state.claims.insert(handle, claim).and_then(|claim| claim.new)
            }
        };
        replaced.iter().for_each(|old| old.mark_deleted());
        if let Some(reservation) = &mut reservation {
            reservation.committed = true;
        }
        built.tell();
        drop(state);
        loose.release(change.cx);
        Ok(Changed { handle, old: replaced, publish })
    }

    fn delete(
        &self,
        cx: &Cx<'_>,
        proto: &Arc<Proto>,
        filter: &Arc<Filter>,
        told: &mut dyn FnMut(),
    ) -> Result<Option<Deleted>, Refusal> {
        let (by, handle) = (cx.by(), filter.handle());
        let mut loose = Loose::default();
        let mut state = self.lock();
        if state.deleting || !state.seen(by, handle).is_some_and(|seen| Arc::ptr_eq(seen, filter)) {
            return Ok(None);
        }
        state.take_over(by, handle, &mut loose)?;
        match by {
            None => {
                state.filters.remove(handle);
                state.handles.release(handle);
                state.remove(Arc::clone(filter), &mut loose);
            }
            Some(ledger) => {
                state.withdraw(handle, &mut loose);
                if state.filters.contains(handle) {
                    state.claims.insert(handle, Claim::new(ledger, proto, handle, None));
                }
            }
        }
        let deleted = state.deleted();
        told();
        drop(state);
        loose.release(cx);
        Ok(Some(deleted))
    }

    fn get(&self, by: By<'_>, handle: u32) -> Option<Arc<Filter>> {
        let state = self.lock();
        state.seen(by, handle).filter(|_| !state.deleting).cloned()
    }

    fn page(&self, by: By<'_>, position: Option<u64>, max: usize) -> Vec<(u64, Arc<Filter>)> {
        let from = position.map_or(0, |position| position + 1);
        let Ok(from) = u32::try_from(from) else { return Vec::new() }; // [WK-9]
        let state = self.lock();
        let mut filters = state.filters.from(from).map(|(handle, _)| handle).peekable();
        let mut claims = state.claims.range(from..).map(|(&handle, _)| handle).peekable();
        let handles = std::iter::from_fn(|| {
            let next = filters.peek().into_iter().chain(claims.peek()).min().copied()?;
            filters.next_if_eq(&next);
            claims.next_if_eq(&next);
            Some(next)
        });
        let seen = handles.filter_map(|handle| Some((handle.into(), Arc::clone(state.seen(by, handle)?))));
        seen.take(max).collect()
    }

    fn has_filters(&self, by: By<'_>) -> bool {
        self.lock().sees_any(by)
    }

    fn unpublished(&self) -> Option<(View, u64)> {
        let state = self.lock();
        state.is_unpublished().then(|| (state.index.view(), state.version))
    }

    fn set_published(&self, version: u64) {
        self.lock().published = version;
    }

    fn retire(&self) {
        let mut state = self.lock();
        state.deleting = true;
        let _ = state.lose_claims(); // no commit is at work: it would hold the global lock, as does who calls this
    }

    fn retire_if_filters(&self) -> Result<bool, Refusal> {
        let mut state = self.lock();
        let some = !state.deleting && !state.filters.is_empty();
        if some {
            state.lose_claims()?;
        }
        state.deleting |= some;
        Ok(some)
    }

    fn retire_prepared(&self) -> Result<bool, Refusal> {
        let mut state = self.lock();
        let prepared = !state.deleting && state.filters.is_empty(); // no commit was faster
        if prepared {
            state.lose_claims()?;
        }
        state.deleting |= prepared;
        Ok(prepared)
    }

    fn supersede(&self, cx: &Cx<'_>, now: bool) -> Result<bool, Refusal> {
        let mut loose = Loose::default();
        let mut state = self.lock();
        state.check_open(cx.by())?;
        if state.sees_any(cx.by()) || state.claims.is_empty() && state.leaving == 0 {
            return Ok(false);
        }
        if now {
            let handles: Vec<u32> = state.claims.keys().copied().collect();
            let taken = handles.into_iter().try_for_each(|handle| state.take_over(cx.by(), handle, &mut loose));
            state.heir = taken.is_ok();
            drop(state);
            loose.release(cx);
            taken?;
        }
        Ok(true)
    }

    fn set_heir(&self, heir: bool) {
        self.lock().heir = heir;
    }

    fn retire_if_empty(&self) -> bool {
        let mut state = self.lock();
        let empty = !state.deleting && state.handles.is_empty() && state.leaving == 0; // [TP-16], [TX-11]
        state.deleting |= empty;
        empty
    }

    fn destroy(&self, cx: &Cx<'_>) -> Vec<Arc<Filter>> {
        let mut garbage = Vec::new();
        let mut state = self.lock();
        let (filters, claims) = (std::mem::take(&mut state.filters), std::mem::take(&mut state.claims));
        let filters: Vec<_> = filters.into_values().chain(claims.into_values().filter_map(|claim| claim.new)).collect();
        if state.index.seat().is_some() {
            for filter in &filters {
                state.index.remove(filter, &mut garbage);
            }
        }
        drop(state);
        cx.defer(garbage);
        filters
    }
}

impl<I: Index> Staged for Roster<I> {
    fn stamp(&self, ledger: &Arc<Ledger>, handle: u32, generation: Generation) -> Option<Flip> {
        let state = self.lock();
        let claim = state.claims.get(&handle).filter(|claim| claim.is_of(Some(ledger)) && !state.deleting)?;
        let (old, new) = (state.filters.get(handle).cloned(), claim.new.clone());
        old.iter().for_each(|old| old.span().end(generation));
        new.iter().for_each(|new| new.span().begin(generation));
        Some(Flip { old, new })
    }

    fn settle(&self, handle: u32, told: &mut dyn FnMut()) -> Option<Arc<Filter>> {
        let mut state = self.lock();
        let old = match state.claims.remove(&handle)?.new {
            Some(new) => state.filters.insert(handle, new),
            None => {
                state.handles.release(handle); // [DD-4]
                state.filters.remove(handle)
            }
        };
        if let Some(old) = &old {
            old.mark_deleted();
            state.leaving += 1;
        }
        told();
        old
    }

    fn withdraw(&self, cx: &Cx<'_>, ledger: &Arc<Ledger>, handle: u32) -> Option<Deleted> {
        let mut loose = Loose::default();
        let mut state = self.lock();
        if state.deleting || !state.claims.get(&handle).is_some_and(|claim| claim.is_of(Some(ledger))) {
            return None;
        }
        state.withdraw(handle, &mut loose);
        let deleted = state.deleted();
        drop(state);
        loose.release(cx);
        Some(deleted)
    }

    fn unlink(&self, cx: &Cx<'_>, filter: Arc<Filter>) -> Deleted {
        let mut loose = Loose::default();
        let mut state = self.lock();
        state.leaving -= 1;
        state.remove(filter, &mut loose);
        let deleted = state.deleted();
        drop(state);
        loose.release(cx);
        deleted
    }
}

impl Claim {
    fn new(ledger: &Arc<Ledger>, proto: &Arc<Proto>, handle: u32, new: Option<Arc<Filter>>) -> Claim {
        ledger.note_filter(proto, handle);
        let (chain, priority) = (proto.chain(), proto.priority());
        let filter = FilterId { chain: chain.index(), priority, handle };
        let place = Overtaken::Filter { block: chain.core().id(), filter };
        Claim { ledger: Arc::clone(ledger), place, new }
    }
}
