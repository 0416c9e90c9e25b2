//! Actions that stand alone.

use super::{ActionInfo, ActionKind, ActionUse, Cx, Mode};
use crate::error::RequestError;
use crate::event::Event;
use crate::plane::Plane;
use crate::sync::Arc;

/// Adds actions that belong to no filter, or gives those that are there new parameters; returns their indexes. All or none
/// are added [AC-5].
///
/// # Errors
/// `Exists` if one is there and `mode` is [`Mode::Add`] [ER-29]; `Invalid` if one goes to a chain [AC-10] or has no parameters;
/// `NoSpace` if no index is left.
pub fn add_actions(plane: &Arc<Plane>, wanted: &[ActionUse], mode: Mode) -> Result<Vec<u32>, RequestError> {
    let result = {
        let cx = Cx::new(plane, true);
        let result = plane.actions().add(cx.plane(), wanted, mode);
        if let Ok(actions) = &result {
            tell(plane, || Event::ActionsAdded { mode, actions: actions.clone() });
        }
        result
    };
    plane.reaper().relieve();
    Ok(result?.iter().map(|action| action.index).collect())
}

/// Deletes actions that belong to no filter. All are looked up first; then they are deleted one by one up to the first one
/// that a filter uses [AC-6].
///
/// # Errors
/// `NotFound` if one is not there [ER-30]; `NotPermitted` if a filter uses one [ER-31].
pub fn delete_actions(plane: &Arc<Plane>, which: &[(ActionKind, u32)]) -> Result<(), RequestError> {
    let result = {
        let cx = Cx::new(plane, true);
        let (actions, result) = plane.actions().delete(cx.plane(), which);
        if result.is_ok() {
            tell(plane, || Event::ActionsDeleted { actions }); // [NT-10]
        }
        result
    };
    plane.reaper().relieve();
    result
}

/// One action.
///
/// # Errors
/// `NotFound` if it is not there.
pub fn get_action(plane: &Arc<Plane>, kind: ActionKind, index: u32) -> Result<ActionInfo, RequestError> {
    let _cx = Cx::new(plane, true);
    plane.actions().get(kind, index)
}

/// Deletes all actions of a kind in ascending order, up to the first one that a filter uses; returns how many [AC-7].
///
/// # Errors
/// `NotPermitted` if a filter uses the first one [ER-31].
pub fn flush_actions(plane: &Arc<Plane>, kind: ActionKind) -> Result<usize, RequestError> {
    let result = {
        let cx = Cx::new(plane, true);
        let result = plane.actions().flush(cx.plane(), kind);
        if let Ok(count @ 1..) = result {
            tell(plane, || Event::ActionsFlushed { kind, count });
        }
        result
    };
    plane.reaper().relieve();
    result
}

/// Up to `max` actions of a kind with an index above `after`, ascending; none at the end.
pub fn dump_actions(plane: &Arc<Plane>, kind: ActionKind, after: u32, max: usize) -> Vec<ActionInfo> {
    let _cx = Cx::new(plane, true);
    plane.actions().page(kind, after, max)
}

fn tell(plane: &Plane, event: impl FnOnce() -> Event) {
    if plane.hub().is_heard() {
        plane.hub().send(Arc::new(event()));
    }
}
