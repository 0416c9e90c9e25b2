//! Two requests that want one handle.

use tidegate_classifiers::request::{FilterKey, Mode, add_filter, delete_filter, dump, get_filter, new_filter};
use tidegate_classifiers::verdict::Control;

use crate::explore::{explore, two};
use crate::specs::{With, answer, done, flower, places};

const SEVENTH: FilterKey = FilterKey { handle: 7, ..FilterKey::priority(0, 1) };

/// [CC-11], [ER-2]: exactly one add of a handle succeeds. Without `handles.take` in the reservation of an explicit handle: both.
#[test]
fn of_two_adds_of_one_handle_one_exists() {
    explore(&["first", "second"], |rig| {
        let block = &rig.block;
        let (a, b) = (flower(1).handle(7), flower(2).handle(7));
        let answers = two(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)));
        assert_eq!(places(&rig.listing()), [(1, 7)]);
        match answers {
            (Ok(7), Err("EEXIST")) => "first",
            (Err("EEXIST"), Ok(7)) => "second",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-11], [FO-4]: without EXCL both succeed, one as a replace. With `Refusal::Final` in the place of `Again(Why::Reserved)`: one
/// fails.
#[test]
fn two_replaces_of_a_new_handle_succeed() {
    explore(&["first", "second"], |rig| {
        let block = &rig.block;
        let (a, b) = (flower(1).handle(7).name("first"), flower(2).handle(7).name("second"));
        let answers =
            two(|| answer(new_filter(block, &a, Mode::Replace)), || answer(new_filter(block, &b, Mode::Replace)));
        assert_eq!(answers, (Ok(7), Ok(7)));
        match &rig.listing()[..] {
            [only] if &*only.name == "first" => "first",
            [only] if &*only.name == "second" => "second",
            other => panic!("{other:?}"),
        }
    });
}

/// [FO-4], [FO-5], [KR-41]: who finds a handle reserved waits for what becomes of it; here it is given back. With `Final` in the
/// place of `Again(Why::Reserved)`: EEXIST for a handle that nobody has.
#[test]
fn a_reservation_that_comes_to_nothing_disturbs_nobody() {
    explore(&["given back", "too late"], |rig| {
        let block = &rig.block;
        let (a, b) = (flower(1).handle(7).refused(), flower(2).handle(7));
        let answers = two(|| answer(add_filter(block, &a)), || answer(add_filter(block, &b)));
        assert_eq!(places(&rig.listing()), [(1, 7)]);
        match answers {
            (Err("EINVAL"), Ok(7)) => "given back",
            (Err("EEXIST"), Ok(7)) => "too late",
            other => panic!("{other:?}"),
        }
    });
}

/// [FO-5], [KR-34]: a replace that fails keeps its hands off the old filter's handle. With a reservation of it in
/// `Roster::reserve` for `old`: the other filter gets it too.
#[test]
fn a_replace_that_fails_does_not_free_the_handle() {
    explore(&["kept"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let refused = flower(2).handle(1).refused();
        let answers =
            two(|| answer(new_filter(block, &refused, Mode::Replace)), || answer(add_filter(block, &flower(3))));
        assert_eq!(answers, (Err("EINVAL"), Ok(2)));
        assert_eq!(places(&rig.listing()), [(1, 1), (1, 2)]);
        assert_eq!(answer(add_filter(&rig.block, &flower(4))), Ok(3));
        "kept"
    });
}

/// [CC-24], [FO-3], [KR-33]: a filter that is being built is met by nobody; once it is, it is whole. With `filters.insert` ahead of the
/// commit's critical section: it is deleted before anybody was told that it is there.
#[test]
fn a_filter_is_found_whole_or_not_at_all() {
    explore(&["met", "not met"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(9)).unwrap();
        let wanted = flower(1).handle(7).name("whole").says(Control::Shot);
        let (added, (got, dumped, deleted)) = two(
            || answer(add_filter(block, &wanted)),
            || {
                let got = get_filter(block, SEVENTH);
                let dumped = dump(block).into_iter().find(|info| info.handle == 7);
                (got, dumped, done(delete_filter(block, SEVENTH)))
            },
        );
        assert_eq!(added, Ok(7));
        let (got, dumped) = (got.ok(), dumped);
        assert!(got.is_none() || dumped.is_some(), "listed later, but not got before, is fine; the reverse is not");
        for info in got.iter().chain(&dumped) {
            assert_eq!((&*info.name, info.actions.len(), &info.matches), ("whole", 1, &wanted.kind));
        }
        assert_eq!(rig.listing().len(), 1 + usize::from(deleted.is_err()));
        match (dumped.is_some(), deleted) {
            (_, Ok(_)) => "met",
            (false, Err("ENOENT")) => "not met",
            other => panic!("{other:?}"),
        }
    });
}
