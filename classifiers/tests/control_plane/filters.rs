use tidegate_classifiers::flow_key;
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::request::ActionKind;
use tidegate_classifiers::request::{
    FilterKey, FilterSpec, KindName, KindSpec, Mode, add_filter, delete_filter, get_action, get_filter, list_chains,
    new_filter,
};

use crate::support::*;

/// [FO-1], [RQ-2], [ER-1], [ER-2]
#[test]
fn a_mode_says_what_may_be_there() {
    let (_, block) = block();
    let one = with_handle(1, flower(0, 1, 1));
    assert_eq!(errno(new_filter(&block, &one, Mode::Change)), "ENOENT");
    assert_eq!(list_chains(&block), [0; 0]);
    new_filter(&block, &one, Mode::Replace).unwrap();
    assert_eq!(errno(new_filter(&block, &one, Mode::Add)), "EEXIST");
    new_filter(&block, &with_handle(1, flower(0, 1, 2)), Mode::Change).unwrap();
    new_filter(&block, &with_handle(1, flower(0, 1, 3)), Mode::Replace).unwrap();
    assert_eq!(errno(new_filter(&block, &with_handle(2, flower(0, 1, 4)), Mode::Change)), "ENOENT");
    assert_eq!(errno(new_filter(&block, &flower(0, 0, 4), Mode::Change)), "ENOENT"); // [RQ-4]
    assert_eq!(listing(&block), [(0, 1, 1)]);
    assert_eq!(get_filter(&block, key(0, 1, 1)).unwrap().matches, implied(3));
}

/// What [`flower`] asks for, with what the protocol implies.
fn implied(port: u16) -> KindSpec {
    let mut spec = tcp_to(port);
    spec.value.set(flow_key::ETH_TYPE, IPV4.into());
    spec.mask.set(flow_key::ETH_TYPE, flow_key::ETH_TYPE.max());
    KindSpec::Flower(Box::new(spec))
}

/// [FO-7], [ER-25], [ER-3], [ER-4]
#[test]
fn a_replacement_keeps_the_mask_and_a_free_key() {
    let (_, block) = block();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    add_filter(&block, &flower(0, 1, 2)).unwrap();
    let mut other = tcp_to(5);
    other.mask.set(flow_key::SRC_PORT, 0xff);
    let other = FilterSpec { kind: KindSpec::Flower(Box::new(other)), ..with_handle(1, flower(0, 1, 0)) };
    assert_eq!(errno(new_filter(&block, &other, Mode::Replace)), "EINVAL");
    assert_eq!(errno(new_filter(&block, &with_handle(1, flower(0, 1, 2)), Mode::Replace)), "EEXIST");
    assert_eq!(get_filter(&block, key(0, 1, 1)).unwrap().matches, implied(1), "it is as it was");
    new_filter(&block, &with_handle(1, flower(0, 1, 1)), Mode::Replace).expect("its own key is its own");

    add_filter(&block, &matchall(0, 2)).unwrap();
    for handle in [0, 1, 2] {
        assert_eq!(errno(new_filter(&block, &with_handle(handle, matchall(0, 2)), Mode::Replace)), "EEXIST");
    }
}

/// [RQ-8], [ER-6], [ER-9], [OBJ-13]: an unknown kind on a priority that is there is another kind.
#[test]
fn an_unknown_kind_is_refused() {
    let (plane, block) = block();
    let unknown = |priority| FilterSpec { kind: KindSpec::Unknown, ..matchall(0, priority) };
    add_filter(&block, &matchall(0, 1)).unwrap();
    assert_eq!(errno(add_filter(&block, &unknown(1))), "EINVAL");
    assert_eq!(errno(add_filter(&block, &unknown(2))), "ENOENT");
    plane.reaper().drain();
    assert_eq!((plane.live().protos, plane.live().filters), (1, 1));
}

/// [RQ-4], [ER-15], [ER-16], [RQ-6], [FO-11]
#[test]
fn what_a_get_or_delete_names_must_all_fit() {
    let (_, block) = block();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    let fits = key(0, 1, 1);
    let cases = [
        (FilterKey { protocol: IPV6, ..fits }, "EINVAL"),
        (FilterKey { protocol: 3, ..fits }, "EINVAL"),
        (FilterKey { kind: Some(KindName::Matchall), ..fits }, "EINVAL"),
        (FilterKey { kind: Some(KindName::Unknown), ..fits }, "EINVAL"),
        (FilterKey { handle: 2, ..fits }, "ENOENT"),
        (FilterKey { priority: 2, ..fits }, "ENOENT"),
        (FilterKey { priority: 0, ..fits }, "ENOENT"),
        (FilterKey { protocol: IPV4, ..FilterKey::chain(0) }, "ENOENT"),
        (FilterKey { kind: Some(KindName::Flower), ..FilterKey::chain(0) }, "ENOENT"),
    ];
    for (key, expected) in cases {
        assert_eq!(errno(delete_filter(&block, key)), expected, "{key:?}");
        assert_eq!(errno(get_filter(&block, key)), expected, "{key:?}");
    }
    assert_eq!(errno(delete_filter(&block, key(5, 1, 1))), "ENOENT"); // [ER-12]
    assert_eq!(errno(get_filter(&block, key(5, 1, 1))), "EINVAL"); // [ER-13]
    let all = FilterKey { protocol: IPV4, kind: Some(KindName::Flower), ..fits };
    assert_eq!(get_filter(&block, all).unwrap().handle, 1);
    delete_filter(&block, all).unwrap();
    assert_eq!(listing(&block), []);
}

/// [FO-10], [TP-13]
#[test]
fn a_priority_goes_with_all_its_filters() {
    let (plane, block) = block();
    for port in 1..=20 {
        add_filter(&block, &flower(0, 1, port)).unwrap();
    }
    add_filter(&block, &flower(0, 2, 1)).unwrap();
    delete_filter(&block, FilterKey::priority(0, 1)).unwrap();
    assert_eq!(errno(delete_filter(&block, FilterKey::priority(0, 1))), "ENOENT");
    assert_eq!(listing(&block), [(0, 2, 1)]);
    plane.reaper().drain();
    let live = plane.live();
    assert_eq!((live.protos, live.filters, live.groups, live.actions), (1, 1, 1, 1));
    add_filter(&block, &FilterSpec { protocol: IPV6, ..flower(0, 1, 1) })
        .expect("the priority is free for another protocol");
}

/// [ER-40], [FO-5], [KR-34]: whatever step fails, everything is as before.
#[test]
fn a_failure_at_any_step_leaves_nothing() {
    let points = [Point::ProtoBuilt, Point::ProtoObtained, Point::HandleReserved, Point::BeforeCommit];
    for point in points {
        let (plane, block) = block();
        let stage = Stage::of(&plane);
        let events = plane.subscribe(100);
        stage.fail_at(point);
        assert_eq!(errno(add_filter(&block, &goto(9, flower(3, 1, 1)))), "ENOMEM", "{point:?}");
        assert_eq!(list_chains(&block), [0; 0]);
        plane.reaper().drain();
        let live = plane.live();
        assert_eq!((live.chains, live.protos, live.filters, live.groups, live.actions), (0, 0, 0, 0, 0), "{point:?}");
        let told = told(&events);
        assert!(told.is_empty() || told == ["+chain 3", "-chain 3"], "{point:?}: {told:?}"); // [NT-6]
        add_filter(&block, &FilterSpec { protocol: IPV6, ..flower(3, 1, 1) }).expect("the priority is free");
    }
}

/// [FO-5], [KR-34]: the old filter keeps its handle, and still matches.
#[test]
fn a_replacement_that_fails_leaves_the_old_filter() {
    let (plane, block) = block();
    add_filter(&block, &flower(0, 1, 1)).unwrap();
    let stage = Stage::of(&plane);
    for point in [Point::ProtoObtained, Point::HandleReserved, Point::BeforeCommit] {
        stage.fail_at(point);
        let replaced = new_filter(&block, &with_handle(1, flower(0, 1, 2)), Mode::Replace);
        assert_eq!(errno(replaced), "ENOMEM", "{point:?}");
        assert_eq!(get_filter(&block, key(0, 1, 1)).unwrap().matches, implied(1));
        assert_eq!(add_filter(&block, &flower(0, 1, 7)).unwrap().handle, 2, "handle 1 is taken");
        delete_filter(&block, key(0, 1, 2)).unwrap();
    }
    assert_eq!(get_action(&plane, ActionKind::Gact, 1).unwrap().binds, 1);
    assert_eq!(errno(get_action(&plane, ActionKind::Gact, 2)), "ENOENT");
}

/// [FL-2], [FL-5], [FL-6], [DV-12]: many filters, several masks, growing and shrinking.
#[test]
fn groups_come_and_go_with_their_filters() {
    let (plane, block) = block();
    let ranged = |port| {
        let mut spec = tcp_to(0);
        spec.mask.set(flow_key::DST_PORT, 0);
        spec.dst_port_range = Some((port, port + 10));
        FilterSpec { kind: KindSpec::Flower(Box::new(spec)), ..flower(0, 1, 0) }
    };
    for port in 1..=300 {
        add_filter(&block, &flower(0, 1, port)).unwrap();
        add_filter(&block, &ranged(port)).unwrap();
    }
    assert_eq!(plane.live().groups, 2);
    assert_eq!(errno(add_filter(&block, &flower(0, 1, 150))), "EEXIST"); // [ER-3]
    assert_eq!(errno(add_filter(&block, &ranged(150))), "EEXIST");
    for handle in 1..=599 {
        delete_filter(&block, key(0, 1, handle)).unwrap();
    }
    assert_eq!(listing(&block), [(0, 1, 600)]);
    plane.reaper().drain();
    assert_eq!((plane.live().groups, plane.live().filters), (1, 1));
}
