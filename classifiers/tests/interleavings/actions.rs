//! Shared actions: delete, bind, replace.

use tidegate_classifiers::request::{
    ActionInfo, ActionKind, ActionUse, FilterKey, Mode, add_actions, add_filter, delete_actions, delete_filter,
    flush_actions, get_action,
};
use tidegate_classifiers::verdict::Control;

use crate::explore::{Rig, explore, three, two};
use crate::specs::{With, answer, control, done, flower, gact};

/// The gact with number 7.
const SEVENTH: (ActionKind, u32) = (ActionKind::Gact, 7);

fn saying(control: Control) -> [ActionUse; 1] {
    [gact(control).numbered(7)]
}

/// What it says, its holders, and the filters among them.
fn seventh(rig: &Rig) -> Option<(Control, u32, u32)> {
    let info: ActionInfo = get_action(&rig.plane, SEVENTH.0, SEVENTH.1).ok()?;
    Some((control(info.spec), info.refs, info.binds))
}

/// [CC-18], [KR-56], [ER-31]: an action is deleted while a filter takes it: refused, or the filter makes a new one with its own
/// parameters. Without `binds > 0` in `Table::delete`: the filter's action is deleted all the same.
#[test]
fn an_action_is_deleted_while_a_filter_takes_it() {
    explore(&["refused", "made anew"], |rig| {
        let (plane, block) = (&rig.plane, &rig.block);
        add_actions(plane, &saying(Control::Shot), Mode::Add).unwrap();
        let wanted = flower(1).actions(&saying(Control::Ok));
        let (deleted, added) = two(|| done(delete_actions(plane, &[SEVENTH])), || answer(add_filter(block, &wanted)));
        assert_eq!(added, Ok(1));
        rig.listing();
        match (deleted, seventh(rig)) {
            (Err("EPERM"), Some((Control::Shot, 2, 1))) => {
                delete_filter(&rig.block, FilterKey::priority(0, 1)).unwrap();
                delete_actions(&rig.plane, &[SEVENTH]).unwrap();
                "refused"
            }
            (Ok(_), Some((Control::Ok, 1, 1))) => "made anew",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-18], [AC-12], [KR-60], [KR-61]: delete, flush and a filter that takes it and goes again: at the end nobody holds it.
/// Without `binds > 0` in `Table::delete`: it is deleted twice.
#[test]
fn an_action_is_gone_when_everybody_let_go() {
    explore(&["gone", "kept"], |rig| {
        let (plane, block) = (&rig.plane, &rig.block);
        add_actions(plane, &saying(Control::Shot), Mode::Add).unwrap();
        let wanted = flower(1).actions(&saying(Control::Ok));
        let (deleted, flushed, ()) = three(
            || done(delete_actions(plane, &[SEVENTH])),
            || flush_actions(plane, ActionKind::Gact).map_err(|error| error.errno()),
            || {
                let id = add_filter(block, &wanted).unwrap();
                delete_filter(block, id).unwrap();
            },
        );
        assert!(matches!(deleted, Ok(_) | Err("EPERM" | "ENOENT")), "{deleted:?}");
        assert!(matches!(flushed, Ok(0 | 1) | Err("EPERM")), "{flushed:?}");
        let gone = deleted.is_ok() || flushed == Ok(1);
        assert!(!(deleted.is_ok() && flushed == Ok(1)), "one action is deleted once");
        assert_eq!((seventh(rig), rig.live().actions), if gone { (None, 0) } else { (Some((Control::Shot, 1, 0)), 1) });
        if !gone {
            delete_actions(&rig.plane, &[SEVENTH]).unwrap();
        }
        if gone { "gone" } else { "kept" }
    });
}

/// [CC-19]: three filters that all would create it: one does, the others share. Without `Some(there)` in `Table::bind`: EEXIST.
#[test]
fn of_many_filters_one_creates_the_action() {
    explore(&["shot", "ok", "trap"], |rig| {
        let block = &rig.block;
        let wanted = |n: u32, control| flower(n.into()).priority(n).actions(&saying(control));
        let wanted = [wanted(1, Control::Shot), wanted(2, Control::Ok), wanted(3, Control::Trap)];
        let answers = three(
            || answer(add_filter(block, &wanted[0])),
            || answer(add_filter(block, &wanted[1])),
            || answer(add_filter(block, &wanted[2])),
        );
        assert_eq!(answers, (Ok(1), Ok(1), Ok(1)));
        assert_eq!((rig.listing().len(), rig.live().actions), (3, 1));
        match seventh(rig) {
            Some((Control::Shot, 3, 3)) => "shot",
            Some((Control::Ok, 3, 3)) => "ok",
            Some((Control::Trap, 3, 3)) => "trap",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-19], [KR-61]: the same beside the filter that holds it and goes: shared or made anew, never refused. Without
/// `actions.remove` in `Numbered::release`: a dead one is shared.
#[test]
fn an_action_is_taken_while_its_filter_goes() {
    explore(&["shared", "made anew"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1).actions(&saying(Control::Shot))).unwrap();
        let (a, b) =
            (flower(2).priority(2).actions(&saying(Control::Ok)), flower(3).priority(3).actions(&saying(Control::Ok)));
        let answers = three(
            || done(delete_filter(block, FilterKey::priority(0, 1))),
            || answer(add_filter(block, &a)),
            || answer(add_filter(block, &b)),
        );
        assert_eq!(answers, (Ok(0), Ok(1), Ok(1)));
        assert_eq!((rig.listing().len(), rig.live().actions), (2, 1));
        match seventh(rig) {
            Some((Control::Shot, 2, 2)) => "shared",
            Some((Control::Ok, 2, 2)) => "made anew",
            other => panic!("{other:?}"),
        }
    });
}

/// [AC-8], [KR-57], [RP-3]: a list whose second action is refused leaves nothing of the first, whoever shared it meanwhile. Without
/// `release_all` after a failure in `Table::bind`: a reference too many.
#[test]
fn a_list_that_is_refused_leaves_nothing() {
    explore(&["its own"], |rig| {
        let block = &rig.block;
        let refused = [gact(Control::Shot).numbered(7), ActionUse::shared(ActionKind::Mirred, 99)];
        let (a, b) = (flower(1).actions(&refused), flower(2).actions(&saying(Control::Ok)));
        let answers = two(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)));
        assert!(matches!(answers, (Err("EINVAL"), Ok(_))), "{answers:?}");
        assert_eq!((rig.listing().len(), rig.live().actions), (1, 1));
        assert_eq!(seventh(rig), Some((Control::Ok, 1, 1)));
        "its own"
    });
}

/// [KR-58], [AC-5]: a replace by itself of an action that a filter makes: one of its own or not, never two references. With
/// a reference more for an action that is there, in `Table::add`: "the filter's" is never seen.
#[test]
fn an_action_is_replaced_while_a_filter_makes_it() {
    explore(&["stands alone", "the filter's"], |rig| {
        let (plane, block) = (&rig.plane, &rig.block);
        let wanted = flower(1).actions(&saying(Control::Ok));
        let (replaced, added) = two(
            || add_actions(plane, &saying(Control::Shot), Mode::Replace).map_err(|error| error.errno()),
            || answer(add_filter(block, &wanted)),
        );
        assert_eq!((replaced, added), (Ok(vec![7]), Ok(1)));
        rig.listing();
        match seventh(rig) {
            Some((Control::Shot, 2, 1)) => {
                delete_filter(&rig.block, FilterKey::priority(0, 1)).unwrap();
                delete_actions(&rig.plane, &[SEVENTH]).unwrap();
                "stands alone"
            }
            Some((Control::Shot, 1, 1)) => "the filter's",
            other => panic!("{other:?}"),
        }
    });
}
