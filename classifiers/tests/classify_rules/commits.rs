use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::event::{Event, Notice};
use tidegate_classifiers::inject::Point;
use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{
    self, ActionKind, ActionUse, Cookie, FilterKey, FilterSpec, FwSpec, KindSpec, Mode, Record, U32Node, U32Spec,
};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::stage::*;
use crate::support::*;

const REFUSED: RequestError = RequestError::NoMemory("test");

/// [FO-2], [FO-3], [CC-24], [NT-8]: what is there at each step: the handle first, then the actions, and only with the commit the filter,
/// for clients, packets and subscribers alike.
#[test]
fn a_filter_is_there_with_its_commit_and_not_before() {
    let block = Block::new(1);
    request::add_filter(&block, &one(9)).unwrap();
    let subscription = block.plane().subscribe(9);
    let wanted = FilterSpec { handle: 1, ..matchall(1, &[]) };
    let wanted = FilterSpec { kind: one(1).kind, actions: [gact(Control::Trap)].into_iter().collect(), ..wanted };
    for (point, actions, there) in
        [(Point::HandleReserved, 0, false), (Point::BeforeCommit, 1, false), (Point::Committed, 1, true)]
    {
        let look = move |block: &Arc<Block>| {
            assert_eq!(request::dump_actions(block.plane(), ActionKind::Gact, 0, 9).len(), actions, "{point:?}");
            assert_eq!(request::get_filter(block, key(0, 1, 1)).is_ok(), there, "{point:?}");
            assert_eq!(request::dump(block).len(), 1 + usize::from(there), "{point:?}");
            let automatic = request::add_filter(block, &with_key(0, 77)).unwrap();
            assert_eq!(automatic.handle, 2, "{point:?}: 1 is taken");
            request::delete_filter(block, automatic)
        };
        during(&block, point, look, || request::add_filter(&block, &wanted)).unwrap();
        let ours = told_briefly(&subscription).into_iter().filter(|event| event == "+0/1/1").count();
        assert_eq!(ours, 1, "{point:?}");
        request::delete_filter(&block, key(0, 1, 1)).unwrap();
        told(&subscription);
    }
}

/// [FO-8]: when others hear of it, the request still holds its chain and proto.
#[test]
fn a_success_is_told_before_the_request_lets_go() {
    let block = Block::new(1);
    let subscription = block.plane().subscribe(9);
    let seen = move |block: &Arc<Block>| {
        assert_eq!(told_briefly(&subscription), ["+chain 0", "+0/1/1"]);
        request::delete_filter(block, FilterKey::priority(0, 1)).unwrap();
        assert_eq!(block.plane().live().protos, 1, "the request holds it");
        Ok(())
    };
    during(&block, Point::Committed, seen, || request::add_filter(&block, &one(1))).unwrap();
    assert_eq!(block.plane().live(), LiveCounts { blocks: 1, ..LiveCounts::default() });
}

/// [FO-13], [DV-1]: listed, and met by the first packet of the next burst.
#[test]
fn an_add_that_returned_is_listed_and_published() {
    for spec in [one(1), matchall(1, &[]), fw(1, 5)] {
        let block = Block::new(1);
        let before = block.head();
        let id = request::add_filter(&block, &spec).unwrap();
        assert_eq!(request::dump(&block).len(), 1);
        assert_eq!(request::get_filter(&block, id).unwrap().handle, id.handle);
        assert!(before.is_empty() && block.head().first_priority() == Some(1), "{:?}", spec.kind.name());
    }
    let mut rig = Rig::new(&[]);
    for handle in 1..50 {
        let spec = FilterSpec { handle, ..flower(1, IPV4, tcp_to(handle.try_into().unwrap()), &[gact(Control::Trap)]) };
        request::add_filter(&rig.block, &spec).unwrap();
        assert_eq!(rig.send(&tcp(handle.try_into().unwrap())), Verdict::Trap, "{handle}");
    }
}

/// [TP-2]: whatever is before and behind it.
#[test]
fn a_priority_is_found_among_many() {
    let priorities = (1..200).map(|n| n * 7 % 1000 + 1);
    let rig = Rig::new(&priorities.clone().map(|n| matchall(n, &[])).collect::<Vec<_>>());
    for priority in priorities {
        assert_eq!(request::get_filter(&rig.block, key(0, priority, 1)).unwrap().priority, priority);
        for other in [priority - 1, priority + 1].into_iter().filter(|n| (n + 999) % 7 != (priority + 999) % 7) {
            let there = request::dump(&rig.block).iter().any(|info| info.priority == other);
            assert_eq!(request::get_filter(&rig.block, key(0, other, 1)).is_ok(), there, "{other}");
        }
    }
}

/// [PR-5]
#[test]
fn an_automatic_priority_is_told() {
    let block = Block::new(1);
    let subscription = block.plane().subscribe(9);
    assert_eq!(request::add_filter(&block, &matchall(0, &[])).unwrap().priority, 0xc000);
    assert_eq!(told_briefly(&subscription), ["+chain 0", "+0/49152/1"]);
}

/// [DV-4], [KR-44], [ER-40], [NT-8]: it fails at the last moment. No packet ever met it, nobody heard of it.
#[test]
fn a_filter_that_fails_at_its_commit_never_matched() {
    for spec in [matchall(1, &[gact(Control::Shot)]), flower(1, 3, keys(&[]), &[gact(Control::Shot)])] {
        let block = Block::new(1);
        request::add_filter(&block, &matchall(2, &[gact(Control::Trap)])).unwrap();
        let subscription = block.plane().subscribe(9);
        let packet = |block: &Arc<Block>| {
            assert_eq!(Rig::over(Arc::clone(block)).send(&tcp(80)), Verdict::Trap);
            Err(REFUSED)
        };
        let answer = during(&block, Point::BeforeCommit, packet, || request::add_filter(&block, &spec));
        assert_eq!(errno(answer), "ENOMEM");
        assert_eq!(Rig::over(Arc::clone(&block)).packets(0, 2), 1);
        assert_eq!(told(&subscription), []);
        request::add_filter(&block, &fw(1, 3)).expect("the priority is free for another kind");
    }
}

/// [DV-6]: a burst that began before sees all of it, the next one nothing.
#[test]
fn a_flush_is_seen_whole_or_not_at_all() {
    let specs: Vec<_> = (1..9).map(|n| matchall(n, &[mirror(n.try_into().unwrap(), Control::Continue)])).collect();
    let mut rig = Rig::new(&specs);
    let block = Arc::clone(&rig.block);
    let head = block.head();
    request::delete_filter(&block, FilterKey::chain(0)).unwrap();
    rig.send_to(&head, tidegate_classifiers::port::WorkerId(0), &tcp(80));
    assert_eq!(rig.world.mirrored.len(), 8);
    rig.send(&tcp(80));
    assert_eq!(rig.world.mirrored.len(), 8);
}

/// [DP-16], [KR-53], [KR-30], [FW-2]: between the insertion of a proto and its first commit, on a shared block.
#[test]
fn a_proto_without_filters_is_nothing_to_anybody() {
    let plane = Plane::standalone(2);
    let binding = plane.bind(ingress(1), 4, None).unwrap();
    let block = binding.block();
    let kinds = [matchall(1, &[]), one(1), fw(1, 5), u32(1)];
    for spec in kinds {
        let locked = spec.kind.name() == request::KindName::U32;
        let look = move |block: &Arc<Block>| {
            assert_eq!(Rig::over(Arc::clone(block)).send(&tcp(80)), Verdict::Pass);
            assert!(request::get_filter(block, key(0, 9, 1)).is_err());
            if !locked {
                assert_eq!((request::dump(block), request::list_chains(block)), (vec![], vec![]));
                drop(block.plane().bind(ingress(2), 4, None).unwrap());
            }
            Ok(())
        };
        let id = during(block, Point::ProtoObtained, look, || request::add_filter(block, &spec)).unwrap();
        request::delete_filter(block, FilterKey::priority(0, id.priority)).unwrap();
    }
    let without_mark = FilterSpec { handle: 0, ..fw(1, 0) };
    assert_eq!(errno(request::add_filter(block, &without_mark)), "EINVAL");
    assert_eq!(plane.live(), LiveCounts { blocks: 1, ..LiveCounts::default() });
}

/// [KR-7], [ER-40], [TP-16], [TP-13]: a first filter that fails in a way of its kind's own; then the last delete.
#[test]
fn no_kind_leaves_an_empty_proto() {
    let node = |node: U32Node| FilterSpec { kind: KindSpec::U32(U32Spec::Node(Box::new(node))), ..matchall(1, &[]) };
    let table = FilterSpec { kind: KindSpec::U32(U32Spec::Table { divisor: 3 }), ..matchall(1, &[]) };
    let failing = [
        flower(1, IPV4, keys(&[(tidegate_classifiers::flow_key::DST_PORT, 1)]), &[]),
        FilterSpec { kind: KindSpec::Fw(FwSpec { mask: 1, indev: None }), ..matchall(1, &[]) },
        matchall(1, &vec![gact(Control::Pipe); 33]),
        table,
        node(U32Node { table: 0x123 << 20, ..U32Node::default() }),
        node(U32Node { link: Some(0x123 << 20), ..U32Node::default() }),
    ];
    let block = Block::new(1);
    for spec in failing {
        assert_eq!(errno(request::add_filter(&block, &spec)), "EINVAL", "{spec:?}");
        assert_eq!(block.plane().live(), LiveCounts { blocks: 1, ..LiveCounts::default() }, "{spec:?}");
    }
    for spec in [one(1), fw(1, 3), matchall(1, &[]), u32(1)] {
        let id = request::add_filter(&block, &spec).unwrap();
        request::delete_filter(&block, id).unwrap();
        assert_eq!(request::list_chains(&block), [0; 0], "{:?}", spec.kind.name());
        request::add_filter(&block, &FilterSpec { protocol: IPV4, ..matchall(1, &[]) }).expect("the priority is free");
        request::delete_filter(&block, FilterKey::chain(0)).unwrap();
    }
}

/// [KR-51], [FO-6]: the old filter goes, and no other with the same handle, key or mark, be it the highest.
#[test]
fn a_replacement_takes_the_place_of_the_old_filter_only() {
    for handle in [1, u32::MAX] {
        let rig = Rig::new(&[one(5), FilterSpec { handle, ..one(6) }, FilterSpec { priority: 2, handle, ..one(6) }]);
        let new = FilterSpec { name: "new".into(), handle, ..one(7) };
        request::new_filter(&rig.block, &new, Mode::Replace).unwrap();
        let mut listed: Vec<_> =
            request::dump(&rig.block).iter().map(|info| (info.priority, info.handle, info.name.to_string())).collect();
        listed.sort();
        let mut expected = vec![(1, 5, String::new()), (1, handle, "new".into()), (2, handle, String::new())];
        expected.sort();
        assert_eq!(listed, expected);
        request::add_filter(&rig.block, &with_key(8, 6)).expect("the old key is free");
        assert_eq!(rig.block.plane().live().filters, 4);
    }
}

/// [NT-7], [FO-11]: the answer is the asker's.
#[test]
fn a_get_is_answered_and_not_told() {
    let block = Block::new(1);
    let id = request::add_filter(&block, &one(1)).unwrap();
    let subscription = block.plane().subscribe(9);
    request::get_filter(&block, id).unwrap();
    request::get_chain(&block, 0).unwrap();
    request::dump(&block);
    assert_eq!(told(&subscription), [], "neither that, nor what was before anybody listened");
}

/// [KR-23], [NT-1], [NT-2]: field by field.
#[test]
fn an_event_says_what_a_listing_says() {
    let block = Block::new(1);
    let subscription = block.plane().subscribe(9);
    let cookie = Cookie::new(b"sixteen bytes ok");
    let action = ActionUse { cookie, ..gact(Control::Goto(3)).into() };
    let spec = FilterSpec { actions: [action].into_iter().collect(), ..named("web", flower(4, IPV4, tcp_to(80), &[])) };
    let id = request::new_filter(&block, &spec, Mode::Replace).unwrap();
    let listed = request::get_filter(&block, id).unwrap();
    request::delete_filter(&block, id).unwrap();
    let number = block.id();
    let expected = [
        Event::ChainAdded { block: number, chain: 0 },
        Event::FilterAdded { block: number, mode: Mode::Replace, filter: listed.clone() },
        Event::FilterDeleted { block: number, filter: listed.clone() },
        Event::ChainDeleted { block: number, chain: 0 },
    ];
    assert_eq!(told(&subscription), expected);
    assert_eq!((listed.actions[0].cookie, listed.actions[0].refs, listed.actions[0].binds), (cookie, 1, 1));
    assert_eq!((&*listed.name, listed.protocol, listed.kind), ("web", IPV4, "flower"));
}

/// [KR-72], [AC-9]: 32 of them, with cookies, everywhere.
#[test]
fn a_filter_with_all_actions_it_can_have_is_told_and_listed() {
    let block = Block::new(1);
    let subscription = block.plane().subscribe(9);
    let uses = (0..32_u8).map(|n| ActionUse { cookie: Cookie::new(&[n; 16]), ..gact(Control::Jump(n.into())).into() });
    let spec = FilterSpec { actions: uses.collect(), ..matchall(1, &[]) };
    let id = request::add_filter(&block, &spec).unwrap();
    let got = request::get_filter(&block, id).unwrap();
    let cookies: Vec<_> = got.actions.iter().map(|action| action.cookie.unwrap().as_bytes()[15]).collect();
    assert!(cookies.into_iter().eq(0..32));
    assert_eq!(request::dump(&block), std::slice::from_ref(&got));
    let mut cursor = request::Cursor::default();
    let mut page = || request::dump_page(&block, &request::DumpFilter::default(), &mut cursor, 1).unwrap();
    assert!(matches!(page()[..], [Record::Proto(_)]));
    assert_eq!(page(), [Record::Filter(got.clone())]);
    request::delete_filter(&block, id).unwrap();
    let filters: Vec<_> = told(&subscription)
        .into_iter()
        .filter_map(|event| match event {
            Event::FilterAdded { filter, .. } | Event::FilterDeleted { filter, .. } => Some(filter),
            _ => None,
        })
        .collect();
    assert_eq!(filters, [got.clone(), got]);
    assert_eq!(request::dump_actions(block.plane(), ActionKind::Gact, 0, 99), []);
}

/// [KR-74], [FO-9], [NT-8]: nobody has room for the event; the delete is whole all the same.
#[test]
fn a_subscriber_without_room_does_not_keep_anything_from_happening() {
    let block = Block::new(1);
    let deaf = block.plane().subscribe(0);
    let listening = block.plane().subscribe(99);
    for _ in 0..10 {
        let id = request::add_filter(&block, &one(1)).unwrap();
        request::delete_filter(&block, id).unwrap();
        assert_eq!(errno(request::delete_filter(&block, id)), "ENOENT");
    }
    assert_eq!(block.plane().live(), LiveCounts { blocks: 1, ..LiveCounts::default() });
    assert_eq!((deaf.try_next(), deaf.try_next()), (Some(Notice::Lost(40)), None));
    assert_eq!(told(&listening).len(), 40);
}
