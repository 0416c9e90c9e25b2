use std::sync::Arc;

use tidegate_classifiers::block::Block;
use tidegate_classifiers::port::WorkerId;
use tidegate_classifiers::request::{self, FilterKey};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::support::*;

/// [DP-1], [DP-12]
#[test]
fn without_filters_every_packet_passes() {
    let mut rig = Rig::new(&[]);
    assert!(rig.block.head().is_empty());
    assert_eq!(rig.send(&tcp(80)), Verdict::Pass);
}

#[test]
fn priorities_are_asked_in_ascending_order_whatever_the_order_of_their_creation() {
    let filters = [30, 10, 20].map(|n: u16| matchall(n.into(), &[mirror(n, Control::Continue)]));
    let mut rig = Rig::new(&filters);
    assert_eq!(rig.send(&tcp(80)), Verdict::Pass);
    assert_eq!(rig.world.mirrored.iter().map(|port| port.0).collect::<Vec<_>>(), [10, 20, 30]);
}

/// [DP-3]: the outermost ethertype counts.
#[test]
fn a_proto_sees_packets_of_its_protocol_only() {
    let filter = |priority, protocol, name| {
        let spec = flower(priority, protocol, keys(&[]), &[gact(Control::Continue)]);
        named(name, spec)
    };
    let filters = [filter(1, IPV4, "ip"), filter(2, VLAN, "802.1q"), filter(3, IPV6, "ipv6"), filter(4, 3, "all")];

    let mut rig = Rig::new(&filters);
    rig.send(&tcp(80));
    assert_eq!(rig.matched(), ["ip", "all"]);

    let mut rig = Rig::new(&filters);
    rig.send(&tagged_udp(5, 53));
    assert_eq!(rig.matched(), ["802.1q", "all"]);
}

/// [DP-5]
#[test]
fn a_decision_ends_classification() {
    for control in [Control::Ok, Control::Pipe, Control::Shot, Control::Stolen, Control::Queued, Control::Trap] {
        let mut rig = Rig::new(&[matchall(1, &[gact(control)]), matchall(2, &[])]);
        rig.send(&tcp(80));
        assert_eq!(rig.packets(0, 2), 0, "{control:?}");
    }
}

/// [DP-7]
#[test]
fn there_is_no_way_back_from_a_goto() {
    let mut rig = Rig::new(&[
        matchall(1, &[gact(Control::Goto(1))]),
        matchall(2, &[gact(Control::Shot)]),
        in_chain(1, matchall(1, &[gact(Control::Continue)])),
    ]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Pass);
    assert_eq!((rig.packets(1, 1), rig.packets(0, 2)), (1, 0));
}

/// [DP-7], [HC-6]: the target is read when the packet gets there, the head once a burst [DV-7].
#[test]
fn goto_reads_the_chain_as_it_is_now_and_a_loaded_head_stays_as_it_was() {
    let mut rig = Rig::new(&[matchall(1, &[gact(Control::Goto(1))])]);
    let block = Arc::clone(&rig.block);
    let head = block.head();
    assert_eq!(rig.send_to(&head, WorkerId(0), &tcp(80)), Verdict::Pass);

    let target = request::add_filter(&block, &in_chain(1, matchall(1, &[gact(Control::Shot)]))).unwrap();
    assert_eq!(rig.send_to(&head, WorkerId(0), &tcp(80)), Verdict::Drop(DropReason::Filter));
    request::delete_filter(&block, key(1, 1, target.handle)).unwrap();
    assert_eq!(rig.send_to(&head, WorkerId(0), &tcp(80)), Verdict::Pass);

    request::delete_filter(&block, FilterKey::chain(0)).unwrap();
    request::add_filter(&block, &matchall(1, &[gact(Control::Trap)])).unwrap();
    assert_eq!(rig.send_to(&head, WorkerId(0), &tcp(80)), Verdict::Pass);
    drop(head);
    assert_eq!(rig.send(&tcp(80)), Verdict::Trap);
}

/// [DP-8]
#[test]
fn a_goto_to_its_own_chain_runs_17_times_and_drops_the_packet() {
    let mut rig = Rig::new(&[matchall(1, &[gact(Control::Goto(0))])]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Drop(DropReason::ReclassifyLoop));
    assert_eq!(rig.packets(0, 1), 17);
}

/// [DP-8]
#[test]
fn reclassify_runs_17_times_and_drops_the_packet() {
    let mut rig = Rig::new(&[matchall(1, &[gact(Control::Reclassify)])]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Drop(DropReason::ReclassifyLoop));
    assert_eq!(rig.packets(0, 1), 17);
}

/// [DP-8]: 16 gotos in a row are allowed, the 17th is not; the next packet has a budget of its own.
#[test]
fn a_packet_may_be_restarted_16_times() {
    let ladder = |steps: u32| {
        let mut filters: Vec<_> =
            (0..steps).map(|chain| in_chain(chain, matchall(1, &[gact(Control::Goto(chain + 1))]))).collect();
        filters.push(in_chain(steps, matchall(1, &[gact(Control::Trap)])));
        Rig::new(&filters)
    };
    let mut rig = ladder(16);
    assert_eq!([rig.send(&tcp(80)), rig.send(&tcp(80))], [Verdict::Trap; 2]);
    let mut rig = ladder(17);
    assert_eq!(rig.send(&tcp(80)), Verdict::Drop(DropReason::ReclassifyLoop));
    assert_eq!((rig.packets(16, 1), rig.packets(17, 1)), (1, 0));
}

/// [DP-9]: whether the chain was never filled, or is empty again.
#[test]
fn a_goto_to_an_empty_chain_passes_the_packet() {
    let mut rig = Rig::new(&[matchall(1, &[gact(Control::Goto(9))]), matchall(2, &[gact(Control::Shot)])]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Pass);

    let id = request::add_filter(&rig.block, &in_chain(9, matchall(1, &[gact(Control::Trap)]))).unwrap();
    assert_eq!(rig.send(&tcp(80)), Verdict::Trap);
    request::delete_filter(&rig.block, key(id.chain, id.priority, id.handle)).unwrap();
    assert_eq!(rig.send(&tcp(80)), Verdict::Pass);
    assert_eq!(rig.packets(0, 2), 0);
}

/// [FL-12]
#[test]
fn when_flower_says_continue_the_next_proto_is_asked_not_the_next_filter() {
    let to_80 = tcp_to(80);
    let any_tcp = keys(&[(tidegate_classifiers::flow_key::IP_PROTO, TCP)]);
    let mut rig = Rig::new(&[
        named("first", flower(1, IPV4, to_80, &[gact(Control::Continue)])),
        named("same proto", flower(1, IPV4, any_tcp, &[gact(Control::Shot)])),
        named("next proto", flower(2, IPV4, any_tcp, &[gact(Control::Trap)])),
    ]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Trap);
    assert_eq!(rig.matched(), ["first", "next proto"]);
}

/// [DV-7], [DP-16]: with the filter at priority 1, or without it, but never without the one at priority 2.
#[test]
fn a_worker_beside_the_control_plane_sees_one_list_or_the_other() {
    let block = Block::new(1);
    request::add_filter(&block, &matchall(2, &[gact(Control::Shot)])).unwrap();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut rig = Rig::over(Arc::clone(&block));
            let packet = tcp(80);
            let mut verdicts = (0..200_000).map(|_| rig.send(&packet));
            verdicts.find(|verdict| ![Verdict::Trap, Verdict::Drop(DropReason::Filter)].contains(verdict))
        });
        while !worker.is_finished() {
            request::add_filter(&block, &matchall(1, &[gact(Control::Trap)])).unwrap();
            request::delete_filter(&block, key(0, 1, 1)).unwrap();
        }
        assert_eq!(worker.join().unwrap(), None);
    });
    assert_eq!(Rig::over(block).send(&tcp(80)), Verdict::Drop(DropReason::Filter));
}
