//! Table: actions by index, bound by filters or standing alone.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use crossbeam_utils::CachePadded;
use smallvec::SmallVec;

use super::{Action, Actions, Params, Rare, goto, validate};
use crate::block::Core;
use crate::chain::Pin;
use crate::error::RequestError;
use crate::handle::Handles;
use crate::pages::Pages;
use crate::plane::Plane;
use crate::reap::Garbage;
use crate::request::{ActionInfo, ActionKind, ActionSpec, ActionUse, GactSpec, Mode};
use crate::sync::{Lock, Locked, class};
use crate::verdict::Control;

/// All actions of a plane. Whoever looks an action up and whoever releases one hold its lock, so an action that nobody holds
/// any more cannot be found [AC-12].
#[derive(Debug, Default)]
pub(crate) struct Table {
    kinds: CachePadded<Lock<[Numbered; ActionKind::ALL.len()], { class::ACTIONS }>>,
}

/// The actions of one kind.
#[derive(Debug, Default)]
struct Numbered {
    actions: Pages<Arc<Action>>,
    indexes: Handles,
}

type Kinds<'a> = Locked<'a, [Numbered; ActionKind::ALL.len()], { class::ACTIONS }>;

impl Table {
    /// The actions that a filter wants: those whose index is there are shared, the others are created; all or none [AC-8].
    /// Everything that can take long or fail comes first, the table then changes in one step: nobody meets a half-made
    /// list [KR-57], and of many who want one index, one creates it [CC-19].
    pub(crate) fn bind(
        &self,
        plane: &Plane,
        core: &Arc<Core>,
        uses: &[ActionUse],
        skip_hw: bool,
    ) -> Result<Actions, RequestError> {
        validate(uses)?;
        if uses.iter().any(|wanted| wanted.flags.skip_hw && !skip_hw) {
            return Err(OTHER_FLAGS);
        }
        loop {
            if let Some(bound) = self.try_bind(plane, core, uses, skip_hw) {
                return bound;
            }
        }
    }

    /// Nothing if an action that was there, so that none was made, has gone meanwhile.
    fn try_bind(
        &self,
        plane: &Plane,
        core: &Arc<Core>,
        uses: &[ActionUse],
        skip_hw: bool,
    ) -> Option<Result<Actions, RequestError>> {
        let build = |(wanted, missing): (&ActionUse, bool)| {
            let spec = missing.then(|| wanted.spec.clone().or_else(|| default_spec(wanted)))??;
            let pin = goto(&spec).map(|chain| core.pin(chain));
            Some(Action::new(plane, spec, wanted, pin))
        };
        let missing = self.missing(uses);
        // What is not used goes after the lock.
        let mut made: SmallVec<[Option<Arc<Action>>; 1]> = uses.iter().zip(missing).map(build).collect();
        let mut list: SmallVec<[Arc<Action>; 1]> = SmallVec::with_capacity(uses.len());
        let mut kinds = self.kinds.lock();
        for (wanted, made) in uses.iter().zip(&mut made) {
            let numbered = &mut kinds[wanted.kind as usize];
            let added = match numbered.actions.get(wanted.index) {
                Some(there) if there.stands_alone() && there.flags().skip_hw != skip_hw => Err(Some(OTHER_FLAGS)),
                Some(there) => Ok(Arc::clone(there)),
                None => match made.take() {
                    Some(action) => numbered.insert(action, wanted.index).map_err(Some),
                    None if wanted.spec.is_some() || default_spec(wanted).is_some() => Err(None),
                    None => Err(Some(RequestError::Invalid("a new action needs its parameters"))), // [AC-4]
                },
            };
            match added {
                Ok(action) => {
                    action.refs.fetch_add(1, Relaxed);
                    action.binds.fetch_add(1, Relaxed);
                    list.push(action);
                }
                Err(error) => {
                    let mut garbage = Vec::new();
                    release_all(&mut kinds, &list, true, &mut garbage);
                    drop(kinds);
                    plane.reaper().push(garbage);
                    return error.map(Err);
                }
            }
        }
        drop(kinds);
        Some(Ok(list.into()))
    }

    /// Which of them are to be made: those that get an index which nobody has, nor one before them in the list. The chain
    /// of a goto is there for the sake of an action that is made, and no other.
    fn missing(&self, uses: &[ActionUse]) -> SmallVec<[bool; 1]> {
        if uses.iter().all(|wanted| wanted.index == 0) {
            return uses.iter().map(|_| true).collect();
        }
        let mut kinds = self.kinds.lock();
        let mut taken: SmallVec<[(ActionKind, u32); 4]> = SmallVec::new();
        let missing = uses.iter().map(|wanted| {
            let indexes = &mut kinds[wanted.kind as usize].indexes;
            let index = match wanted.index {
                0 => indexes.take_lowest(u32::MAX),
                index => indexes.take(index).then_some(index),
            };
            taken.extend(index.map(|index| (wanted.kind, index)));
            wanted.index == 0 || index.is_some()
        });
        let missing = missing.collect();
        for (kind, index) in taken {
            kinds[kind as usize].indexes.release(index);
        }
        missing
    }

    /// The filter no longer holds its actions: those that nobody else holds leave the table [AC-3]. What they hold goes
    /// to the reaper.
    pub(crate) fn unbind(&self, actions: &Actions, garbage: &mut Vec<Garbage>) {
        if !actions.list.is_empty() {
            release_all(&mut self.kinds.lock(), &actions.list, true, garbage);
        }
    }

    /// Adds or replaces actions that stand alone: one after the other; at the first failure those that were added or found
    /// are given back [AC-5].
    pub(crate) fn add(&self, plane: &Plane, uses: &[ActionUse], mode: Mode) -> Result<Vec<ActionInfo>, RequestError> {
        validate(uses)?;
        let mut made = Vec::new(); // what is not used goes after the lock
        for wanted in uses {
            let spec = wanted.spec.clone().or_else(|| default_spec(wanted));
            let spec = spec.ok_or(RequestError::Invalid("an action needs its parameters"))?;
            if goto(&spec).is_some() {
                return Err(RequestError::Invalid("goto needs a filter")); // [AC-10]
            }
            made.push((wanted, spec.clone(), Action::new(plane, spec, wanted, None)));
        }
        let mut added = Vec::new();
        let mut infos = Vec::new();
        let mut garbage = Vec::new();
        let mut failure = None;
        let mut kinds = self.kinds.lock();
        for (wanted, spec, action) in &made {
            let numbered = &mut kinds[wanted.kind as usize];
            match numbered.actions.get(wanted.index).cloned() {
                Some(_) if mode == Mode::Add => failure = Some(RequestError::Exists("this action")), // [ER-29]
                Some(there) => {
                    garbage.extend(there.replace(spec.clone(), wanted.cookie));
                    infos.push(there.info());
                }
                None => match numbered.insert(Arc::clone(action), wanted.index) {
                    Ok(action) => {
                        action.refs.fetch_add(1, Relaxed);
                        infos.push(action.info());
                        added.push(action);
                    }
                    Err(error) => failure = Some(error),
                },
            }
            if failure.is_some() {
                break;
            }
        }
        if failure.is_some() {
            release_all(&mut kinds, &added, false, &mut garbage);
        }
        drop(kinds);
        plane.reaper().push(garbage);
        failure.map_or(Ok(infos), Err)
    }

    /// Deletes actions that stand alone: all must be there, or none is touched; at the first one that a filter holds it ends,
    /// and those before it stay deleted [AC-6].
    pub(crate) fn delete(
        &self,
        plane: &Plane,
        which: &[(ActionKind, u32)],
    ) -> (Vec<ActionInfo>, Result<(), RequestError>) {
        let mut kinds = self.kinds.lock();
        if which.iter().any(|(kind, index)| !kinds[*kind as usize].actions.contains(*index)) {
            return (Vec::new(), Err(RequestError::NotFound("action"))); // [ER-30]
        }
        let mut deleted = Vec::new();
        let mut garbage = Vec::new();
        let mut result = Ok(());
        for (kind, index) in which {
            let numbered = &mut kinds[*kind as usize];
            match numbered.actions.get(*index).cloned() {
                Some(action) if action.binds.load(Relaxed) > 0 => {
                    result = Err(RequestError::NotPermitted("filters use this action")); // [ER-31]
                    break;
                }
                Some(action) => {
                    deleted.push(action.info());
                    garbage.extend(numbered.release(&action, false));
                }
                None => {} // named twice
            }
        }
        drop(kinds);
        plane.reaper().push(garbage);
        (deleted, result)
    }

    /// Deletes the actions of a kind in ascending order, up to the first one that a filter holds [AC-7].
    pub(crate) fn flush(&self, plane: &Plane, kind: ActionKind) -> Result<usize, RequestError> {
        let mut kinds = self.kinds.lock();
        let numbered = &mut kinds[kind as usize];
        let mut garbage = Vec::new();
        let mut count = 0;
        while let Some(action) = numbered.actions.first() {
            if action.binds.load(Relaxed) > 0 {
                break;
            }
            let action = Arc::clone(action);
            garbage.extend(numbered.release(&action, false));
            count += 1;
        }
        let stopped = !numbered.actions.is_empty();
        drop(kinds);
        plane.reaper().push(garbage);
        if stopped && count == 0 {
            return Err(RequestError::NotPermitted("filters use the first of these actions")); // [ER-31]
        }
        Ok(count)
    }

    pub(crate) fn get(&self, kind: ActionKind, index: u32) -> Result<ActionInfo, RequestError> {
        let kinds = self.kinds.lock(); // until all of it is read: its holders come and go under the lock
        let found = kinds[kind as usize].actions.get(index).map(|action| action.info());
        found.ok_or(RequestError::NotFound("action"))
    }

    /// Up to `max` actions with an index above `after`.
    pub(crate) fn page(&self, kind: ActionKind, after: u32, max: usize) -> Vec<ActionInfo> {
        let Some(from) = after.checked_add(1) else { return Vec::new() };
        let kinds = self.kinds.lock();
        kinds[kind as usize].actions.from(from).take(max).map(|(_, action)| action.info()).collect()
    }
}

const OTHER_FLAGS: RequestError = RequestError::Invalid("filter and action differ in skip_hw"); // [AC-14]

/// What `index N` alone creates if there is no such action: only gact has a default [AC-4].
fn default_spec(wanted: &ActionUse) -> Option<ActionSpec> {
    match wanted.kind {
        ActionKind::Gact => Some(ActionSpec::Gact(GactSpec { control: Control::Ok, random: None })),
        _ => None,
    }
}

/// The list gives back what it holds, last first.
fn release_all(kinds: &mut Kinds<'_>, list: &[Arc<Action>], bound: bool, garbage: &mut Vec<Garbage>) {
    for action in list.iter().rev() {
        garbage.extend(kinds[action.kind as usize].release(action, bound));
    }
}

impl Numbered {
    /// Enters `action` under `index`, which is free, or an automatic one for 0 [HA-5].
    fn insert(&mut self, action: Arc<Action>, index: u32) -> Result<Arc<Action>, RequestError> {
        let index = match index {
            0 => self.indexes.take_lowest(u32::MAX).ok_or(RequestError::NoSpace("action index"))?,
            index if self.indexes.take(index) => index,
            _ => return Err(RequestError::Exists("this action")),
        };
        action.index.store(index, Relaxed);
        self.actions.insert(index, Arc::clone(&action));
        Ok(action)
    }

    /// One holder less. The last one takes the action out of the table.
    fn release(&mut self, action: &Arc<Action>, bound: bool) -> impl Iterator<Item = Garbage> + use<> {
        if bound {
            action.binds.fetch_sub(1, Relaxed);
        }
        let last = action.refs.fetch_sub(1, Relaxed) == 1;
        let mut pin = None;
        if last {
            self.actions.remove(action.index());
            self.indexes.release(action.index());
            pin = action.rare.lock().as_mut().and_then(|rare| rare.pin.take());
        }
        let action = last.then(|| Garbage::Action(Arc::clone(action)));
        action.into_iter().chain(pin.map(Garbage::Pin))
    }
}

impl Action {
    /// Does something else from now on. Index, holders and statistics stay, the cookie too unless another is given [AC-5].
    /// Under the table's lock.
    fn replace(
        &self,
        spec: ActionSpec,
        cookie: Option<crate::request::Cookie>,
    ) -> impl Iterator<Item = Garbage> + use<> {
        let old = self.current.swap(Some(Arc::new(Params { spec, target: None })));
        self.replaced.store(true, Release);
        let mut rare = self.rare.lock();
        let pin: Option<Pin> = rare.as_mut().and_then(|rare| rare.pin.take()); // goes after the last packet [CC-21]
        if cookie.is_some() {
            rare.get_or_insert_with(|| Box::new(Rare::default())).cookie = cookie;
        }
        old.map(Garbage::Params).into_iter().chain(pin.map(Garbage::Pin))
    }
}
