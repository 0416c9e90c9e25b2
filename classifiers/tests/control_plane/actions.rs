use tidegate_classifiers::inject::Point;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    ActionFlags, ActionKind, ActionSpec, ActionUse, Cookie, FilterId, FilterOptions, FilterSpec, MirredSpec, Mode,
    Target, add_actions, add_filter, delete_actions, delete_filter, dump_actions, flush_actions, get_action,
    get_filter, new_filter,
};
use tidegate_classifiers::verdict::Control;

use crate::support::*;

const GACT: ActionKind = ActionKind::Gact;

fn standing(control: Control, index: u32) -> ActionUse {
    ActionUse::from(gact(control)).numbered(index)
}

fn using(uses: &[ActionUse], spec: FilterSpec) -> FilterSpec {
    FilterSpec { actions: uses.into(), ..spec }
}

/// [AC-1], [AC-2], [AC-3], [HA-5]
#[test]
fn an_action_counts_its_holders_and_outlives_its_filters_if_it_stands_alone() {
    let (plane, block) = block();
    assert_eq!(add_actions(&plane, &[standing(Control::Shot, 7)], Mode::Add).unwrap(), [7]);
    let counts =
        |index| get_action(&plane, GACT, index).map(|action| (action.refs, action.binds)).map_err(|e| e.errno());
    assert_eq!(counts(7), Ok((1, 0)));
    for port in [1, 2] {
        add_filter(&block, &using(&[ActionUse::shared(GACT, 7)], flower(0, 1, port))).unwrap();
    }
    assert_eq!(counts(7), Ok((3, 2)));
    add_filter(&block, &flower(0, 1, 3)).unwrap();
    assert_eq!(counts(1), Ok((1, 1)), "through a filter");
    for handle in [1, 2, 3] {
        delete_filter(&block, key(0, 1, handle)).unwrap();
    }
    assert_eq!((counts(7), counts(1)), (Ok((1, 0)), Err("ENOENT")));
    delete_actions(&plane, &[(GACT, 7)]).unwrap();
    drop(block);
    assert_nothing_lives(&plane);
}

/// [AC-4]
#[test]
fn an_index_that_is_there_is_shared_as_it_is() {
    let (plane, block) = block();
    add_filter(&block, &using(&[standing(Control::Trap, 5)], flower(0, 1, 1))).unwrap();
    let id = add_filter(&block, &using(&[standing(Control::Shot, 5)], flower(0, 1, 2))).unwrap();
    assert_eq!(get_filter(&block, id).unwrap().actions[0].spec, gact(Control::Trap), "what was given means nothing");

    let id = add_filter(&block, &using(&[ActionUse::shared(GACT, 6)], flower(0, 1, 3))).unwrap();
    assert_eq!(get_filter(&block, id).unwrap().actions[0].spec, gact(Control::Ok), "gact has a default");
    let mirred = using(&[ActionUse::shared(ActionKind::Mirred, 6)], flower(0, 1, 4));
    assert_eq!(errno(add_filter(&block, &mirred)), "EINVAL");
    let wrong = ActionUse { kind: ActionKind::Mirred, ..standing(Control::Ok, 1) };
    assert_eq!(errno(add_actions(&plane, &[wrong], Mode::Add)), "EINVAL");
}

/// [AC-5], [ER-29], [KR-58]: index, holders and cookie stay.
#[test]
fn a_replaced_action_is_the_same_action() {
    let (plane, block) = block();
    let cookie = Cookie::new(b"rack 7");
    add_actions(&plane, &[ActionUse { cookie, ..standing(Control::Ok, 3) }], Mode::Add).unwrap();
    add_filter(&block, &using(&[ActionUse::shared(GACT, 3)], flower(0, 1, 1))).unwrap();
    assert_eq!(errno(add_actions(&plane, &[standing(Control::Shot, 3)], Mode::Add)), "EEXIST");
    add_actions(&plane, &[standing(Control::Shot, 3)], Mode::Replace).unwrap();
    let info = get_action(&plane, GACT, 3).unwrap();
    assert_eq!((info.spec, info.refs, info.binds, info.cookie), (gact(Control::Shot), 2, 1, cookie));
    let other = Cookie::new(b"x");
    add_actions(&plane, &[ActionUse { cookie: other, ..standing(Control::Trap, 3) }], Mode::Replace).unwrap();
    assert_eq!(get_action(&plane, GACT, 3).unwrap().cookie, other);
    assert_eq!(add_actions(&plane, &[standing(Control::Shot, 4)], Mode::Replace).unwrap(), [4], "created");
    assert_eq!(get_action(&plane, GACT, 4).unwrap().refs, 1);
}

/// [AC-6], [ER-30], [ER-31], [KR-59]
#[test]
fn deleting_several_actions_begins_when_all_are_there_and_ends_at_the_first_in_use() {
    let (plane, block) = block();
    add_actions(&plane, &[1, 2, 3].map(|index| standing(Control::Ok, index)), Mode::Add).unwrap();
    add_filter(&block, &using(&[ActionUse::shared(GACT, 2)], flower(0, 1, 1))).unwrap();
    assert_eq!(errno(delete_actions(&plane, &[(GACT, 1), (GACT, 9)])), "ENOENT");
    assert!(get_action(&plane, GACT, 1).is_ok());
    assert_eq!(errno(delete_actions(&plane, &[(GACT, 1), (GACT, 2), (GACT, 3)])), "EPERM");
    let left: Vec<_> = dump_actions(&plane, GACT, 0, 10).iter().map(|action| (action.index, action.refs)).collect();
    assert_eq!(left, [(2, 2), (3, 1)]);
}

/// [AC-7], [KR-64]
#[test]
fn a_flush_of_actions_ends_at_the_first_in_use() {
    let (plane, block) = block();
    assert_eq!(flush_actions(&plane, GACT), Ok(0));
    add_actions(&plane, &[1, 2, 3, 4].map(|index| standing(Control::Ok, index)), Mode::Add).unwrap();
    add_filter(&block, &using(&[ActionUse::shared(GACT, 3)], flower(0, 1, 1))).unwrap();
    assert_eq!(flush_actions(&plane, GACT), Ok(2));
    assert_eq!(errno(flush_actions(&plane, GACT)), "EPERM");
    assert_eq!(dump_actions(&plane, GACT, 0, 10).len(), 2);
}

/// [AC-8], [KR-57]: a list that fails at its last entry.
#[test]
fn actions_of_a_filter_are_created_all_or_none() {
    let (plane, block) = block();
    add_actions(&plane, &[standing(Control::Ok, 9)], Mode::Add).unwrap();
    for bad in 0..32 {
        let mut list = vec![standing(Control::Pipe, 0); 32];
        list[0] = ActionUse::shared(GACT, 9);
        list[bad] = ActionUse::shared(ActionKind::Mirred, 1);
        assert_eq!(errno(add_filter(&block, &using(&list, flower(0, 1, 1)))), "EINVAL");
    }
    let left: Vec<_> = dump_actions(&plane, GACT, 0, 100).iter().map(|it| (it.index, it.refs, it.binds)).collect();
    assert_eq!(left, [(9, 1, 0)]);
    plane.reaper().drain();
    assert_eq!(plane.live().actions, 1);
}

/// [AC-10], [ER-28]
#[test]
fn only_an_action_of_a_filter_can_go_to_a_chain() {
    let (plane, _) = block();
    for mode in [Mode::Add, Mode::Replace] {
        assert_eq!(errno(add_actions(&plane, &[standing(Control::Goto(1), 1)], mode)), "EINVAL");
    }
    assert_eq!(plane.live().chains, 0);
}

/// [AC-11], [CC-21], [KR-14], [TM-6]: the chain is there as long as an action goes to it.
#[test]
fn a_replaced_goto_lets_its_chain_go() {
    let (plane, block) = block();
    add_filter(&block, &using(&[standing(Control::Goto(5), 2)], flower(0, 1, 1))).unwrap();
    assert_eq!(plane.live().chains, 2);
    add_actions(&plane, &[standing(Control::Shot, 2)], Mode::Replace).unwrap();
    plane.reaper().drain();
    assert_eq!(plane.live().chains, 1);
    new_filter(&block, &goto(6, with_handle(1, flower(0, 1, 1))), Mode::Replace).unwrap();
    plane.reaper().drain();
    assert_eq!(plane.live().chains, 2);
    assert_eq!(errno(get_action(&plane, GACT, 2)), "ENOENT", "its one holder was replaced");
}

/// [AC-14]
#[test]
fn a_filter_and_an_action_of_its_own_agree_on_hardware() {
    let (plane, block) = block();
    let skipping = ActionUse { flags: ActionFlags { skip_hw: true, no_percpu: false }, ..standing(Control::Ok, 2) };
    add_actions(&plane, &[standing(Control::Ok, 1), skipping], Mode::Add).unwrap();
    let filter = |port: u16, index: u32, skip_hw: bool| FilterSpec {
        options: FilterOptions { skip_hw, ..FilterOptions::default() },
        ..using(&[ActionUse::shared(GACT, index)], flower(0, 1, port))
    };
    for (index, skip_hw, agrees) in [(1, false, true), (1, true, false), (2, true, true), (2, false, false)] {
        let added = add_filter(&block, &filter(if agrees { 1 + u16::from(skip_hw) } else { 5 }, index, skip_hw));
        assert_eq!(
            added.map(|_| ()).map_err(|e| e.errno()),
            if agrees { Ok(()) } else { Err("EINVAL") },
            "{index} {skip_hw}"
        );
    }
    // What a filter made, others may share, whatever they say.
    add_filter(&block, &FilterSpec { handle: 7, ..filter(7, 9, true) }).unwrap();
    add_filter(&block, &FilterSpec { handle: 8, ..filter(8, 9, false) }).unwrap();
    let listed = get_filter(&block, FilterId { chain: 0, priority: 1, handle: 7 }).unwrap();
    assert!(listed.options.skip_hw && !listed.actions[0].flags.skip_hw);
    assert!(get_action(&plane, GACT, 2).unwrap().flags.skip_hw);
}

/// [CC-19], [KR-61]: one creates it, the others share it.
#[test]
fn many_filters_at_once_create_one_action() {
    let (plane, block) = block();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let block = &block;
            let mirror =
                ActionSpec::Mirred(MirredSpec::Mirror { to: Target::port(PortId(thread)), control: Control::Pipe });
            let spec = using(&[ActionUse::from(mirror).numbered(77)], flower(thread.into(), 1, 1));
            scope.spawn(move || {
                for _ in 0..200 {
                    let id = add_filter(block, &spec).unwrap();
                    delete_filter(block, id).unwrap();
                }
                add_filter(block, &spec).unwrap();
            });
        }
    });
    let info = get_action(&plane, ActionKind::Mirred, 77).unwrap();
    assert_eq!((info.refs, info.binds), (8, 8));
    drop(block);
    assert_nothing_lives(&plane);
}

/// [CC-18], [AC-12], [KR-56]
#[test]
fn an_action_is_deleted_or_bound_never_both() {
    let (plane, block) = block();
    std::thread::scope(|scope| {
        let filters = scope.spawn(|| {
            for _ in 0..2000 {
                let id = add_filter(&block, &using(&[standing(Control::Ok, 1)], flower(0, 1, 1))).unwrap();
                assert!(get_action(&plane, GACT, 1).unwrap().binds >= 1);
                delete_filter(&block, id).unwrap();
            }
        });
        while !filters.is_finished() {
            let _ = add_actions(&plane, &[standing(Control::Ok, 1)], Mode::Replace);
            let _ = delete_actions(&plane, &[(GACT, 1)]);
        }
    });
    let _ = delete_actions(&plane, &[(GACT, 1)]);
    drop(block);
    assert_nothing_lives(&plane);
}

/// [FO-5], [RP-3]: a replay does not create its actions twice.
#[test]
fn actions_of_an_attempt_that_failed_are_gone() {
    let (plane, block) = block();
    let stage = Stage::of(&plane);
    let (added, ()) = stage.stopped(
        Point::BeforeCommit,
        || add_filter(&block, &with_handle(5, flower(0, 1, 1))),
        || {
            assert_eq!(dump_actions(&plane, GACT, 0, 10).len(), 1);
            delete_filter(&block, tidegate_classifiers::request::FilterKey::chain(0)).unwrap();
        },
    );
    added.unwrap();
    assert_eq!(dump_actions(&plane, GACT, 0, 10).iter().map(|it| (it.index, it.refs)).collect::<Vec<_>>(), [(1, 1)]);
}

/// [AC-2], [WK-3]: an action whose index somebody has is not made, and asks for no chain: those of the others come in their order.
#[test]
fn only_an_action_that_is_made_asks_for_a_chain() {
    let (_, block) = block();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    let goto = |index, chain| standing(Control::Goto(chain), index);
    let there_before = [goto(1, 5), goto(0, 6), goto(0, 5)]; // the automatic ones are 2 and 3
    let before_it_in_the_list = [goto(0, 7), goto(4, 8), goto(0, 9), goto(0, 8)];
    for (port, actions) in [(2, &there_before[..]), (3, &before_it_in_the_list[..])] {
        add_filter(&block, &using(actions, flower(0, 1, port))).unwrap();
    }
    for chain in 5..=9 {
        add_filter(&block, &matchall(chain, 1)).unwrap();
    }
    let chains: Vec<_> = listing(&block).into_iter().map(|(chain, ..)| chain).collect();
    assert_eq!(chains, [0, 0, 0, 6, 5, 7, 9, 8]);
}
