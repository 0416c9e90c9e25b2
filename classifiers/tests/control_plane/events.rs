use std::time::Duration;

use tidegate_classifiers::event::Notice;
use tidegate_classifiers::request::{
    ActionKind, ActionUse, FilterKey, Mode, add_actions, add_chain, add_filter, delete_actions, delete_chain,
    delete_filter, flush_actions, get_filter, new_filter,
};
use tidegate_classifiers::verdict::Control;

use crate::support::*;

/// [NT-1], [NT-2], [NT-4], [NT-5]
#[test]
fn filters_and_their_chains_are_told_in_order() {
    let (plane, block) = block();
    let events = plane.subscribe(100);
    add_filter(&block, &flower(2, 1, 1)).unwrap();
    new_filter(&block, &with_handle(1, flower(2, 1, 2)), Mode::Replace).unwrap();
    new_filter(&block, &with_handle(1, flower(2, 1, 3)), Mode::Change).unwrap();
    delete_filter(&block, key(2, 1, 1)).unwrap();
    assert_eq!(told(&events), ["+chain 2", "Add 2:1:1", "Replace 2:1:1", "Change 2:1:1", "-2:1:1", "-chain 2"]);
}

/// [NT-3], [NT-4]
#[test]
fn whole_priorities_are_told_once_each() {
    let (plane, block) = block();
    add_chain(&block, 1).unwrap();
    for priority in [3, 1, 2] {
        add_filter(&block, &flower(1, priority, 1)).unwrap();
        add_filter(&block, &flower(1, priority, 2)).unwrap();
    }
    let events = plane.subscribe(100);
    delete_filter(&block, FilterKey::priority(1, 2)).unwrap();
    assert_eq!(told(&events), ["-1:2"]);
    delete_filter(&block, FilterKey::chain(1)).unwrap();
    assert_eq!(told(&events), ["-1:1", "-1:3"]);
    add_filter(&block, &flower(1, 4, 1)).unwrap();
    delete_chain(&block, 1).unwrap();
    assert_eq!(told(&events), ["Add 1:4:1", "-1:4", "-chain 1"]);
}

/// [NT-8], [NT-6], [FO-11], [KR-17], [NT-4]: nor for a get, nor for a chain that only gotos hold.
#[test]
fn what_fails_or_changes_nothing_is_not_told() {
    let (plane, block) = block();
    add_filter(&block, &goto(7, matchall(0, 1))).unwrap();
    let events = plane.subscribe(100);
    assert!(add_filter(&block, &matchall(0, 1)).is_err());
    assert!(add_filter(&block, &flower(5, 0, 1)).is_ok());
    told(&events);
    let unkeyed = tidegate_classifiers::request::FilterSpec { protocol: 0, ..flower(6, 1, 1) };
    assert!(add_filter(&block, &unkeyed).is_err());
    assert!(get_filter(&block, key(0, 1, 1)).is_ok());
    for hidden in [7, 99] {
        assert!(get_filter(&block, key(hidden, 1, 1)).is_err());
        assert!(delete_filter(&block, key(hidden, 1, 1)).is_err());
        assert!(delete_chain(&block, hidden).is_err());
        delete_filter(&block, FilterKey::chain(hidden)).unwrap();
    }
    assert_eq!(told(&events), [""; 0]);
}

/// [CH-15], [NT-12], [BL-9]
#[test]
fn of_a_block_that_goes_only_chains_are_told() {
    let (plane, block) = block();
    add_filter(&block, &goto(7, flower(3, 1, 1))).unwrap();
    add_chain(&block, 0).unwrap();
    let events = plane.subscribe(100);
    drop(block);
    assert_eq!(told(&events), ["-chain 3", "-chain 0"]);
    assert_nothing_lives(&plane);
}

/// [NT-10]
#[test]
fn actions_that_stand_alone_are_told_and_those_of_filters_are_not() {
    let (plane, block) = block();
    let events = plane.subscribe(100);
    let ok = ActionUse::from(gact(Control::Ok));
    add_actions(&plane, &[ok.clone(), ok.clone()], Mode::Add).unwrap();
    add_actions(&plane, &[ok.numbered(2)], Mode::Replace).unwrap();
    delete_actions(&plane, &[(ActionKind::Gact, 1)]).unwrap();
    assert!(delete_actions(&plane, &[(ActionKind::Gact, 9)]).is_err());
    flush_actions(&plane, ActionKind::Gact).unwrap();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    let expected = ["Add 2 actions", "Replace 1 actions", "-1 actions", "flushed 1 actions", "+chain 0", "Add 0:1:1"];
    assert_eq!(told(&events), expected);
}

/// [NT-8]: the others lose nothing, and the request does not fail.
#[test]
fn a_slow_subscriber_is_told_how_much_it_lost() {
    let (plane, block) = block();
    let (slow, quick) = (plane.subscribe(3), plane.subscribe(100));
    for port in 1..=5 {
        add_filter(&block, &flower(0, 1, port)).unwrap();
    }
    assert_eq!(told(&quick).len(), 6);
    assert_eq!(told(&slow), ["+chain 0", "Add 0:1:1", "Add 0:1:2", "3 lost"]);
    add_filter(&block, &flower(0, 1, 6)).unwrap();
    assert!(matches!(slow.next(SOON), Some(Notice::Event(_))));
    assert_eq!(slow.next(Duration::ZERO), None);
    drop(slow);
    delete_filter(&block, key(0, 1, 1)).unwrap();
    assert_eq!(told(&quick), ["Add 0:1:6", "-0:1:1"]);
}

/// [NT-5]: beside each other, adds and deletes of one handle are told in the order in which they happened.
#[test]
fn events_of_one_filter_alternate() {
    let (plane, block) = block();
    let events = plane.subscribe(1_000_000);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let _ = add_filter(&block, &with_handle(4, flower(0, 1, 4)));
                    let _ = delete_filter(&block, key(0, 1, 4));
                }
            });
        }
    });
    let mut told = told(&events);
    told.retain(|it| !it.contains("chain"));
    assert!(told.len() >= 1000);
    for (at, it) in told.iter().enumerate() {
        assert_eq!(it, if at % 2 == 0 { "Add 0:1:4" } else { "-0:1:4" });
    }
}
