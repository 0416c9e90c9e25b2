//! Two requests that create one priority.

use tidegate_classifiers::inject::Point;
use tidegate_classifiers::request::{FilterKey, Mode, Record, add_filter, delete_filter, dump_page, new_filter};

use crate::explore::{explore, three, two};
use crate::specs::{With, answer, done, flower, matchall, places, u32_node};

/// [CC-1], [KR-1], [TP-6], [TP-8], [NT-4]: both filters in one proto, whoever builds it; the loser's is discarded, and the
/// chain comes and goes once. Without the second `guard.find(priority)` of `obtain` (unique insertion): both get
/// handle 1, in two protos.
#[test]
fn two_adds_of_one_new_priority_share_one_proto() {
    explore(&["one was faster", "both built one"], |rig| {
        let block = &rig.block;
        let (a, b) = (flower(1).chain(5), flower(2).chain(5));
        let (a, b) = two(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)));
        assert!(matches!((a, b), (Ok(1), Ok(2)) | (Ok(2), Ok(1))), "{a:?} {b:?}");
        let records = dump_page(block, &Default::default(), &mut Default::default(), 9).unwrap();
        assert!(matches!(records[..], [Record::Proto(_), Record::Filter(_), Record::Filter(_)]), "{records:?}");
        rig.listing();
        for handle in [1, 2] {
            let key = FilterKey { handle, ..FilterKey::priority(5, 1) };
            delete_filter(&rig.block, key).unwrap();
        }
        assert_eq!(rig.listing(), []);
        assert_eq!((rig.chains_told(), rig.live().chains), (1, 0));
        if rig.passed(Point::ProtoBuilt) == 2 { "both built one" } else { "one was faster" }
    });
}

/// [CC-1], [ER-3]: the same key twice. Without `return Err(TAKEN)` in a group's insertion: both succeed.
#[test]
fn of_two_adds_of_one_flower_key_one_exists() {
    explore(&["first", "second"], |rig| {
        let block = &rig.block;
        let answers = two(|| answer(add_filter(block, &flower(1))), || answer(add_filter(block, &flower(1))));
        let listing = rig.listing();
        match answers {
            (Ok(handle), Err("EEXIST")) if places(&listing) == [(1, handle)] => "first",
            (Err("EEXIST"), Ok(handle)) if places(&listing) == [(1, handle)] => "second",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-2], [ER-6], [KR-2], [TP-9]: the loser neither takes the winner's proto down nor leaves its own. Without
/// `handles.is_empty()` in `Roster::retire_if_empty`: the winner's filter goes, and nobody is told.
#[test]
fn of_two_kinds_one_wins_the_priority_and_keeps_it() {
    explore(&["flower", "matchall"], |rig| {
        let block = &rig.block;
        let (a, b) = (flower(1).chain(5), matchall().chain(5));
        let answers = two(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)));
        let kinds: Vec<_> = rig.listing().iter().map(|info| info.kind).collect();
        match (answers, &kinds[..]) {
            ((Ok(1), Err("EINVAL")), ["flower"]) => "flower",
            ((Err("EINVAL"), Ok(1)), ["matchall"]) => "matchall",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-2], [ER-5]: as above for protocols. Without `check_protocol` after an adoption: both succeed.
#[test]
fn of_two_protocols_one_wins_the_priority_and_keeps_it() {
    explore(&["first", "second"], |rig| {
        let block = &rig.block;
        let (a, b) = (flower(1).protocol(0x86dd), flower(2).protocol(0x0800));
        let answers = two(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)));
        let protocols: Vec<_> = rig.listing().iter().map(|info| info.protocol).collect();
        match (answers, &protocols[..]) {
            ((Ok(1), Err("EINVAL")), [0x86dd]) => "first",
            ((Err("EINVAL"), Ok(1)), [0x0800]) => "second",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-2], [KR-4], [TP-17]: a request of an unlocked kind that meets a locked kind's proto, and may be the last to let go of
/// it. Without `global_for` in `Proto::destroy`: "a locked kind without the global lock".
#[test]
fn a_locked_kind_is_only_touched_under_the_global_lock() {
    explore(&["flower", "u32 came and went", "u32 went first"], |rig| {
        let block = &rig.block;
        let (flower, node) = (flower(1), u32_node());
        let (a, (b, deleted)) = two(
            || answer(add_filter(block, &flower)),
            || {
                let b = answer(add_filter(block, &node));
                (b, b.and_then(|_| done(delete_filter(block, FilterKey::priority(0, 1)))))
            },
        );
        let kinds: Vec<_> = rig.listing().iter().map(|info| info.kind).collect();
        match ((a, b, deleted), &kinds[..]) {
            ((Ok(1), Err("EINVAL"), Err("EINVAL")), ["flower"]) => "flower",
            ((Err("EINVAL"), Ok(_), Ok(_)), []) => "u32 came and went",
            ((Ok(1), Ok(_), Ok(_)), ["flower"]) => "u32 went first",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-3], [TP-13 (g)]: the creator's filter is refused while another request goes into the same proto: that one stays, in
/// this proto or in a new one, whatever the creator cleans up. Without `if state.deleting` in both `Roster::reserve` and
/// `Roster::change`: its filter is lost with the creator's proto (here each does for both).
#[test]
fn an_adopter_survives_the_creators_failure() {
    explore(&["alone", "one proto", "two protos"], |rig| {
        let block = &rig.block;
        let (a, b) = (flower(1).refused(), flower(2));
        let answers = two(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)));
        assert!(matches!(answers, (Err("EINVAL"), Ok(_))), "{answers:?}");
        assert_eq!(rig.listing().len(), 1);
        match (rig.passed(Point::Replay), rig.passed(Point::Unlinked)) {
            (0, 0) => "one proto",
            (0, _) => "alone",
            (_, _) => "two protos",
        }
    });
}

/// [CC-3], [KR-3], [TP-10], [ER-40]: creator and adopter both fail, in any order: nothing stays, and the priority is free for
/// another kind. With `matches!(self, Created)` alone as the condition of `Obtained::clean_up`: an empty proto stays.
#[test]
fn two_failing_adds_leave_nothing() {
    explore(&["nothing"], |rig| {
        let block = &rig.block;
        let (a, b) = (flower(1).chain(5).refused(), flower(2).chain(5).refused());
        let answers = two(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)));
        assert_eq!(answers, (Err("EINVAL"), Err("EINVAL")));
        assert_eq!(rig.listing(), []);
        let live = rig.live();
        assert_eq!((live.chains, live.protos, live.filters, live.actions), (0, 0, 0, 0));
        assert_eq!(answer(add_filter(&rig.block, &matchall().chain(5))), Ok(1));
        "nothing"
    });
}

/// [CC-2], [CC-3], [TP-9]: three states, three requests: one of them fails, two want different kinds. Without
/// `handles.is_empty()` in `Roster::retire_if_empty`: the winner's filter goes, and nobody is told.
#[test]
fn one_of_three_wins_the_priority_and_keeps_it() {
    explore(&["flower", "matchall"], |rig| {
        let block = &rig.block;
        let (a, b, c) = (flower(1), flower(2).refused(), matchall());
        let (a, b, c) =
            three(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)), || answer(add_filter(block, &c)));
        assert_eq!(b, Err("EINVAL"));
        let kinds: Vec<_> = rig.listing().iter().map(|info| info.kind).collect();
        match ((a, c), &kinds[..]) {
            ((Ok(_), Err("EINVAL")), ["flower"]) => "flower",
            ((Err("EINVAL"), Ok(1)), ["matchall"]) => "matchall",
            other => panic!("{other:?}"),
        }
    });
}

/// [PR-4], [KR-10]: nobody fails for a number it did not choose. Without `if automatic` after an adoption: EINVAL, or two
/// filters with one priority.
#[test]
fn automatic_priorities_are_distinct() {
    explore(&["distinct"], |rig| {
        let block = &rig.block;
        let (a, b, c) = (flower(1).priority(0), flower(1).priority(0).protocol(0x0800), matchall().priority(0));
        let (a, b, c) = three(|| add_filter(block, &a), || add_filter(block, &b), || add_filter(block, &c));
        let mut priorities = [a, b, c].map(|id| id.unwrap().priority);
        priorities.sort_unstable();
        assert_eq!(priorities, [0xbffe, 0xbfff, 0xc000]);
        assert_eq!(rig.listing().len(), 3);
        "distinct"
    });
}

/// [KR-8], [RP-3], [TP-12]: a replace that replays again and again, while its chain and its proto come and go. Without
/// `if state.deleting` in `Roster::change`: its filter is lost with the old proto.
#[test]
fn replays_start_from_nothing() {
    explore(&["there", "gone"], |rig| {
        let block = &rig.block;
        answer(add_filter(block, &flower(1).chain(5))).unwrap();
        let wanted = flower(2).chain(5);
        let (a, b, c) = three(
            || done(delete_filter(block, FilterKey::priority(5, 1))),
            || answer(new_filter(block, &wanted, Mode::Replace)),
            || done(delete_filter(block, FilterKey::chain(5))),
        );
        assert!(matches!(a, Ok(_) | Err("ENOENT")) && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
        if rig.listing().is_empty() { "gone" } else { "there" }
    });
}
