//! Filters and priorities that go while others come.

use tidegate_classifiers::inject::Point;
use tidegate_classifiers::request::{ActionKind, FilterKey, Mode, add_filter, delete_filter, get_action, new_filter};
use tidegate_classifiers::verdict::Control;

use crate::explore::{explore, three, two};
use crate::specs::{With, answer, control, done, flower, gact, places};

const FIRST: FilterKey = FilterKey { handle: 1, ..FilterKey::priority(0, 1) };

/// [CC-4], [TP-15]: the last filter goes while another comes into the same proto: both succeed, and the new one is there.
/// Without `if state.deleting` in both `Roster::reserve` and `Roster::change`: it is lost with the old proto.
#[test]
fn the_last_filter_goes_while_another_comes() {
    explore(&["proto stayed", "proto renewed"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let answers = two(|| done(delete_filter(block, FIRST)), || answer(add_filter(block, &flower(2))));
        assert!(matches!(answers, (Ok(_), Ok(_))), "{answers:?}");
        assert_eq!(rig.listing().len(), 1);
        if rig.passed(Point::Unlinked) == 0 { "proto stayed" } else { "proto renewed" }
    });
}

/// [CC-4]: after the delete of the last filter and a failing add, in any order, nothing stays. With `matches!(self, Created)`
/// alone as the condition of `Obtained::clean_up`: an empty proto stays.
#[test]
fn the_last_filter_goes_while_another_fails() {
    explore(&["nothing"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let refused = flower(2).refused();
        let answers = two(|| done(delete_filter(block, FIRST)), || answer(add_filter(block, &refused)));
        assert_eq!(answers, (Ok(0), Err("EINVAL")));
        assert_eq!((rig.listing().len(), rig.live().protos), (0, 0));
        "nothing"
    });
}

/// [CC-4], [FO-10], [OBJ-9]: a priority goes with all its filters while one more comes: that one is told before the priority's
/// end, or is there afterwards. Without `if state.deleting` in `Roster::change`: it is lost with the priority, and nobody is told.
#[test]
fn a_priority_goes_while_a_filter_comes() {
    explore(&["there", "gone"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let answers =
            two(|| done(delete_filter(block, FilterKey::priority(0, 1))), || answer(add_filter(block, &flower(2))));
        assert!(matches!(answers, (Ok(_), Ok(_))), "{answers:?}");
        match rig.listing().len() {
            0 => "gone",
            1 => "there",
            more => panic!("{more} filters"),
        }
    });
}

/// [CC-13], [KR-5], [TP-14]: a priority comes again only when its predecessor has given everything back: here an action, so
/// that the new filter never shares that of the old one. Without `is_dying` in `obtain`: it does.
#[test]
fn a_priority_comes_again_when_its_predecessor_is_gone() {
    explore(&["there", "gone"], |rig| {
        let block = &rig.block;
        let saying = |control| [gact(control).numbered(7)];
        add_filter(block, &flower(1).actions(&saying(Control::Shot))).unwrap();
        let new = flower(2).actions(&saying(Control::Ok));
        let answers = two(|| done(delete_filter(block, FilterKey::priority(0, 1))), || answer(add_filter(block, &new)));
        assert!(matches!(answers, (Ok(_), Ok(_))), "{answers:?}");
        if rig.listing().is_empty() {
            return "gone";
        }
        let action = get_action(&rig.plane, ActionKind::Gact, 7).unwrap();
        assert_eq!((control(action.spec), action.refs, action.binds), (Control::Ok, 1, 1));
        "there"
    });
}

/// [CC-13], [KR-6], [TP-4]: three parties: the dying proto, a rival's private one that is discarded meanwhile, and a new
/// creator. With `dying.remove(key)` in every `Proto::destroy`, not only where it was entered: as above.
#[test]
fn a_discarded_proto_does_not_hide_that_another_is_dying() {
    explore(&["both there", "one there", "none there"], |rig| {
        let block = &rig.block;
        let saying = |control| [gact(control).numbered(7)];
        add_filter(block, &flower(1).actions(&saying(Control::Shot))).unwrap();
        let (b, c) = (flower(2).actions(&saying(Control::Ok)), flower(3).actions(&saying(Control::Ok)));
        let answers = three(
            || done(delete_filter(block, FilterKey::priority(0, 1))),
            || answer(add_filter(block, &b)),
            || answer(add_filter(block, &c)),
        );
        assert!(matches!(answers, (Ok(_), Ok(_), Ok(_))), "{answers:?}");
        let there = rig.listing().len();
        if there > 0 {
            let action = get_action(&rig.plane, ActionKind::Gact, 7).unwrap();
            assert_eq!((control(action.spec), action.refs as usize), (Control::Ok, there));
        }
        ["none there", "one there", "both there"][there]
    });
}

/// [CC-5]: exactly one of two deletes succeeds, and it is told once. Without `|| filter.is_deleted()` in `Roster::delete`: both.
#[test]
fn of_two_deletes_of_one_handle_one_succeeds() {
    explore(&["first", "second"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        add_filter(block, &flower(2)).unwrap();
        let answers = two(|| done(delete_filter(block, FIRST)), || done(delete_filter(block, FIRST)));
        assert_eq!(places(&rig.listing()), [(1, 2)]);
        match answers {
            (Ok(_), Err("ENOENT")) => "first",
            (Err("ENOENT"), Ok(_)) => "second",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-5], [FO-9], [FO-10]: by handle and by priority, one filter: one succeeds. Without one critical section for both `there are
/// filters` and `deleting` in the delete of a priority: both.
#[test]
fn of_a_delete_by_handle_and_one_by_priority_one_succeeds() {
    explore(&["handle", "priority"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let answers =
            two(|| done(delete_filter(block, FIRST)), || done(delete_filter(block, FilterKey::priority(0, 1))));
        assert_eq!(rig.listing(), []);
        match answers {
            (Ok(_), Err("ENOENT")) => "handle",
            (Err("ENOENT"), Ok(_)) => "priority",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-6], [KR-35]: both succeed, and one of them is there, with the handle. Without `old.is_deleted()` in `Roster::change`: both
/// stay, one out of reach.
#[test]
fn of_two_replaces_of_one_handle_the_last_is_there() {
    explore(&["first", "second"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let (a, b) = (flower(2).handle(1).name("first"), flower(3).handle(1).name("second"));
        let answers =
            two(|| answer(new_filter(block, &a, Mode::Replace)), || answer(new_filter(block, &b, Mode::Replace)));
        assert_eq!(answers, (Ok(1), Ok(1)));
        match &rig.listing()[..] {
            [only] if &*only.name == "first" => "first",
            [only] if &*only.name == "second" => "second",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-10]: the delete comes first and the replace creates, or the delete takes the replacement. It never misses: without
/// `continue` in `delete` where the filter was replaced (but ENOENT): it does.
#[test]
fn a_replace_meets_a_delete() {
    explore(&["there", "gone"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let replacement = flower(2).handle(1);
        let answers =
            two(|| answer(new_filter(block, &replacement, Mode::Replace)), || done(delete_filter(block, FIRST)));
        assert_eq!(answers, (Ok(1), Ok(0)));
        match places(&rig.listing())[..] {
            [] => "gone",
            [(1, 1)] => "there",
            ref other => panic!("{other:?}"),
        }
    });
}

/// [CC-10]: as above, but a change does not create. Without `old.is_deleted()` in `Roster::change`: it does.
#[test]
fn a_change_meets_a_delete() {
    explore(&["changed", "too late"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        add_filter(block, &flower(9)).unwrap();
        let changed = flower(2).handle(1);
        let answers = two(|| answer(new_filter(block, &changed, Mode::Change)), || done(delete_filter(block, FIRST)));
        assert_eq!(places(&rig.listing()), [(1, 2)]);
        match answers {
            (Ok(1), Ok(_)) => "changed",
            (Err("ENOENT"), Ok(_)) => "too late",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-6], [CC-10]: all three at once. Without `old.is_deleted()` in `Roster::change`, or with ENOENT for `continue` in `delete`.
#[test]
fn two_replaces_meet_a_delete() {
    explore(&["first", "second", "gone"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let (a, b) = (flower(2).handle(1).name("first"), flower(3).handle(1).name("second"));
        let answers = three(
            || answer(new_filter(block, &a, Mode::Replace)),
            || answer(new_filter(block, &b, Mode::Replace)),
            || done(delete_filter(block, FIRST)),
        );
        assert_eq!(answers, (Ok(1), Ok(1), Ok(0)));
        match &rig.listing()[..] {
            [] => "gone",
            [only] if &*only.name == "first" => "first",
            [only] if &*only.name == "second" => "second",
            other => panic!("{other:?}"),
        }
    });
}
