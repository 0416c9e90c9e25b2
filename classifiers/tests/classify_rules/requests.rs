use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_key::IP_PROTO;
use tidegate_classifiers::request::{
    self, ActionSpec, CHAIN_MAX, ETH_P_ALL, FilterId, FilterSpec, GactSpec, Random, RandomMode,
};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::support::*;

/// A flower filter of priority 1 that matches TCP to `port`.
fn with_handle(handle: u32, port: u16) -> FilterSpec {
    FilterSpec { handle, ..flower(1, IPV4, tcp_to(port), &[]) }
}

fn handles(rig: &Rig) -> Vec<u32> {
    request::dump(&rig.block).iter().map(|info| info.handle).collect()
}

/// [HA-1], [HA-2], [WK-3]
#[test]
fn an_automatic_handle_is_the_lowest_free_one() {
    let rig = Rig::new(&[with_handle(0, 1), with_handle(0, 2), with_handle(7, 3), with_handle(u32::MAX, 4)]);
    assert_eq!(handles(&rig), [1, 2, 7, u32::MAX]);
    let add = |port| request::add_filter(&rig.block, &with_handle(0, port)).unwrap().handle;
    assert_eq!(add(5), 3);
    request::delete_filter(&rig.block, key(0, 1, 1)).unwrap();
    assert_eq!(add(6), 1);
    assert_eq!([add(7), add(8), add(9), add(10)], [4, 5, 6, 8]);
    assert_eq!(handles(&rig), [1, 2, 3, 4, 5, 6, 7, 8, u32::MAX]);
}

/// [HA-3], [MA-4]
#[test]
fn matchall_has_handle_1_unless_another_is_given() {
    let rig = Rig::new(&[matchall(1, &[]), FilterSpec { handle: 9, ..matchall(2, &[]) }]);
    assert_eq!(handles(&rig), [1, 9]);
    assert_eq!(errno(request::delete_filter(&rig.block, key(0, 2, 1))), "ENOENT");
    request::delete_filter(&rig.block, key(0, 2, 9)).unwrap();
}

/// [PR-1], [PR-3]
#[test]
fn automatic_priorities_go_down_from_the_lowest_in_the_upper_half() {
    let rig = Rig::new(&[matchall(5, &[]), matchall(70_000, &[])]);
    let add = || request::add_filter(&rig.block, &matchall(0, &[])).unwrap().priority;
    assert_eq!([add(), add(), add()], [49152, 49151, 49150]);

    let rig = Rig::new(&[matchall(65535, &[])]);
    assert_eq!(request::add_filter(&rig.block, &matchall(0, &[])).unwrap().priority, 65534);
}

/// [PR-2], [ER-7]
#[test]
fn automatic_priorities_end_at_32768() {
    let rig = Rig::new(&[matchall(32769, &[])]);
    let add = || request::add_filter(&rig.block, &matchall(0, &[]));
    assert_eq!(add().unwrap().priority, 32768);
    assert_eq!(errno(add()), "ENOSPC");
    request::delete_filter(&rig.block, key(0, 32768, 1)).unwrap();
    assert_eq!(add().unwrap().priority, 32768);
}

/// [PR-1] is a chain's own business.
#[test]
fn automatic_priorities_of_chains_are_apart() {
    let rig = Rig::new(&[matchall(0, &[])]);
    let id = request::add_filter(&rig.block, &in_chain(1, matchall(0, &[]))).unwrap();
    assert_eq!(id, FilterId { chain: 1, priority: 49152, handle: 1 });
}

/// Priorities have 32 bits here.
#[test]
fn priorities_beyond_16_bits_are_in_order_too() {
    let mut rig = Rig::new(&[
        matchall(u32::MAX, &[gact(Control::Trap)]),
        matchall(65536, &[gact(Control::Continue)]),
        matchall(2, &[gact(Control::Continue)]),
    ]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Trap);
    let priorities: Vec<_> = request::dump(&rig.block).iter().map(|info| info.priority).collect();
    assert_eq!(priorities, [2, 65536, u32::MAX]);
}

/// [ER-2]
#[test]
fn a_handle_can_be_taken_once() {
    let rig = Rig::new(&[with_handle(3, 1)]);
    assert_eq!(errno(request::add_filter(&rig.block, &with_handle(3, 2))), "EEXIST");
    request::add_filter(&rig.block, &FilterSpec { priority: 2, ..with_handle(3, 2) }).unwrap();
}

/// [ER-4], [MA-1]
#[test]
fn matchall_has_one_filter() {
    let rig = Rig::new(&[matchall(1, &[])]);
    for handle in [0, 1, 2] {
        assert_eq!(errno(request::add_filter(&rig.block, &FilterSpec { handle, ..matchall(1, &[]) })), "EEXIST");
    }
}

/// [ER-5], [RQ-6]: `all` is a protocol like the others.
#[test]
fn a_priority_has_one_protocol() {
    let rig = Rig::new(&[flower(1, IPV4, tcp_to(1), &[])]);
    for protocol in [IPV6, ETH_P_ALL] {
        let spec = flower(1, protocol, keys(&[]), &[]);
        assert_eq!(errno(request::add_filter(&rig.block, &spec)), "EINVAL");
    }
    request::add_filter(&rig.block, &flower(1, 0, tcp_to(2), &[])).expect("0 is whatever the priority has");
    assert_eq!(request::dump(&rig.block)[1].protocol, IPV4);
}

/// [ER-6], [RQ-8]: said before handles are looked at.
#[test]
fn a_priority_has_one_kind() {
    let rig = Rig::new(&[flower(1, ETH_P_ALL, keys(&[]), &[])]);
    let spec = FilterSpec { handle: 1, ..matchall(1, &[]) };
    assert_eq!(errno(request::add_filter(&rig.block, &spec)), "EINVAL");
}

/// [ER-8], [RQ-7]
#[test]
fn a_new_priority_needs_a_protocol() {
    let rig = Rig::new(&[]);
    assert_eq!(errno(request::add_filter(&rig.block, &FilterSpec { protocol: 0, ..matchall(1, &[]) })), "EINVAL");
    assert_eq!(request::list_chains(&rig.block), [0; 0]);
}

/// [ER-12], [ER-15]
#[test]
fn what_is_not_there_cannot_be_deleted() {
    let rig = Rig::new(&[with_handle(3, 1)]);
    for (chain, priority, handle) in [(1, 1, 3), (0, 2, 3), (0, 1, 2), (0, 0, 3)] {
        let result = request::delete_filter(&rig.block, key(chain, priority, handle));
        assert_eq!(errno(result), "ENOENT", "{chain} {priority} {handle}");
    }
    request::delete_filter(&rig.block, key(0, 1, 3)).unwrap();
    assert_eq!(errno(request::delete_filter(&rig.block, key(0, 1, 3))), "ENOENT");
}

/// [ER-17]: also one that is there only for its filters.
#[test]
fn a_chain_can_be_added_once() {
    let rig = Rig::new(&[in_chain(5, matchall(1, &[]))]);
    request::add_chain(&rig.block, 6).unwrap();
    for chain in [5, 6] {
        assert_eq!(errno(request::add_chain(&rig.block, chain)), "EEXIST");
    }
}

/// [ER-21], [RQ-5]
#[test]
fn chain_indexes_end_at_28_bits() {
    let rig = Rig::new(&[]);
    request::add_chain(&rig.block, CHAIN_MAX).unwrap();
    assert_eq!(errno(request::add_chain(&rig.block, CHAIN_MAX + 1)), "EINVAL");
    assert_eq!(errno(request::add_filter(&rig.block, &in_chain(CHAIN_MAX + 1, matchall(1, &[])))), "EINVAL");
}

/// [ER-28], [AC-9], [AC-10]
#[test]
fn actions_that_cannot_be_are_refused() {
    let random = |control| {
        let random = Some(Random { mode: RandomMode::Determ, control, one_in: 2 });
        ActionSpec::Gact(GactSpec { control: Control::Goto(3), random })
    };
    let rig = Rig::new(&[]);
    let lists: [&[ActionSpec]; 5] = [
        &vec![gact(Control::Pipe); 33],
        &[gact(Control::Goto(1)), random(Control::Goto(2))],
        &[gact(Control::Goto(CHAIN_MAX + 1))],
        &[mirror(1, Control::Goto(CHAIN_MAX + 1))],
        &[gact(Control::Jump(1 << 28))],
    ];
    for list in lists {
        for spec in [matchall(1, list), flower(1, IPV4, tcp_to(80), list)] {
            assert_eq!(errno(request::add_filter(&rig.block, &spec)), "EINVAL");
        }
    }
    request::add_filter(&rig.block, &matchall(1, &[random(Control::Jump(1))])).unwrap();
}

/// [ER-40]: neither a chain, nor a goto's hidden chain, nor a handle, nor a priority.
#[test]
fn a_refused_request_leaves_nothing_behind() {
    let rig = Rig::new(&[with_handle(1, 80)]);
    let before = request::dump(&rig.block);
    let doubled = flower(1, IPV4, tcp_to(80), &[gact(Control::Goto(4))]);
    let broken = in_chain(3, flower(0, ARP, keys(&[(IP_PROTO, TCP)]), &[gact(Control::Goto(4))]));
    assert_eq!(errno(request::add_filter(&rig.block, &doubled)), "EEXIST");
    assert_eq!(errno(request::add_filter(&rig.block, &broken)), "EINVAL");
    assert_eq!(request::dump(&rig.block), before);
    assert_eq!(request::list_chains(&rig.block), [0]);
    request::add_chain(&rig.block, 4).unwrap();
    assert_eq!(request::list_chains(&rig.block), [0, 4], "chain 4 is new, not revived from before chain 0");
    assert_eq!(request::add_filter(&rig.block, &with_handle(0, 81)).unwrap().handle, 2);
}

/// [CH-13], [CH-12]
#[test]
fn chains_are_listed_in_order_of_creation() {
    let rig = Rig::new(&[]);
    for chain in [5, CHAIN_MAX] {
        request::add_chain(&rig.block, chain).unwrap();
    }
    for chain in [0, 7, 5] {
        request::add_filter(&rig.block, &in_chain(chain, matchall(1, &[]))).unwrap();
    }
    assert_eq!(request::list_chains(&rig.block), [5, CHAIN_MAX, 0, 7]);
    let listed: Vec<_> = request::dump(&rig.block).iter().map(|info| info.chain).collect();
    assert_eq!(listed, [5, 0, 7]);
}

/// [CH-1], [CH-3], [CH-4], [TP-13]
#[test]
fn a_chain_goes_with_its_last_filter_unless_it_was_asked_for() {
    let rig = Rig::new(&[in_chain(1, matchall(1, &[]))]);
    request::add_chain(&rig.block, 2).unwrap();
    request::add_filter(&rig.block, &in_chain(2, matchall(1, &[]))).unwrap();
    for chain in [1, 2] {
        request::delete_filter(&rig.block, key(chain, 1, 1)).unwrap();
    }
    assert_eq!(request::list_chains(&rig.block), [2]);
}

/// [OBJ-4], [OBJ-6], [CH-2]
#[test]
fn a_chain_that_only_gotos_hold_is_hidden() {
    let mut rig = Rig::new(&[
        matchall(1, &[gact(Control::Goto(3)), mirror(1, Control::Goto(4))]),
        matchall(2, &[gact(Control::Goto(3))]),
    ]);
    assert_eq!(request::list_chains(&rig.block), [0]);
    assert_eq!(errno(request::delete_filter(&rig.block, key(3, 1, 1))), "ENOENT");

    request::add_chain(&rig.block, 3).expect("a hidden chain can be added");
    assert_eq!(request::list_chains(&rig.block), [0, 3]);
    request::add_filter(&rig.block, &in_chain(3, matchall(1, &[gact(Control::Trap)]))).unwrap();
    assert_eq!(rig.send(&tcp(80)), Verdict::Trap, "it is the chain that the gotos lead to");

    request::add_chain(&rig.block, 9).unwrap();
    request::delete_filter(&rig.block, key(0, 1, 1)).unwrap();
    request::add_chain(&rig.block, 4).unwrap();
    assert_eq!(request::list_chains(&rig.block), [0, 3, 9, 4], "chain 4 went with its last goto, and is new");
}

/// [WK-3]
#[test]
fn a_listing_says_what_was_asked_for() {
    let actions = [mirror(1, Control::Pipe), gact(Control::Shot)];
    let rig = Rig::new(&[named("web", FilterSpec { handle: 8, ..flower(3, IPV4, tcp_to(80), &actions) })]);
    let listing = request::dump(&rig.block);
    let [info] = &listing[..] else { panic!("{listing:?}") };
    assert_eq!((info.chain, info.priority, info.protocol, info.handle), (0, 3, IPV4, 8));
    assert_eq!((info.kind, &*info.name), ("flower", "web"));
    assert_eq!(info.actions.iter().map(|action| action.spec.clone()).collect::<Vec<_>>(), actions);
}

/// [UL-7], as far as this goes now: requests from many threads all happen.
#[test]
fn requests_of_many_threads_are_all_carried_out() {
    let block = Block::new(1);
    std::thread::scope(|scope| {
        for thread in 0..4_u16 {
            let block = &block;
            scope.spawn(move || {
                for i in 0..100 {
                    let port = thread * 100 + i;
                    let id = request::add_filter(block, &with_handle(0, port)).unwrap();
                    if i % 2 == 0 {
                        request::delete_filter(block, key(id.chain, id.priority, id.handle)).unwrap();
                    }
                }
            });
        }
    });
    let listing = request::dump(&block);
    assert_eq!(listing.len(), 200);
    assert!(listing.is_sorted_by_key(|info| info.handle));
}
