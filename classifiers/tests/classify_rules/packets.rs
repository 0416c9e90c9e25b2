use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use proptest::prelude::*;
use tidegate_classifiers::flow_key::{self, CVLAN_ID, ETH_TYPE, NUM_OF_VLANS, VLAN_ID};
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_classifiers::request::{
    self, ActionSpec, ActionUse, FilterKey, FilterSpec, FlowerSpec, GactSpec, KindSpec, Mode, Random, RandomMode,
};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::stage::*;
use crate::support::*;

/// [DP-4], [DP-13], [DP-15]: every verdict there is, and no filter at all.
#[test]
fn each_verdict_has_its_end() {
    let ends = [
        (Control::Ok, Verdict::Pass),
        (Control::Pipe, Verdict::Pass),
        (Control::Continue, Verdict::Pass),
        (Control::Repeat, Verdict::Pass),
        (Control::Shot, Verdict::Drop(DropReason::Filter)),
        (Control::Stolen, Verdict::Consume),
        (Control::Queued, Verdict::Consume),
        (Control::Trap, Verdict::Trap),
        (Control::Reclassify, Verdict::Drop(DropReason::ReclassifyLoop)),
    ];
    for (control, end) in ends {
        assert_eq!(Rig::new(&[matchall(1, &[gact(control)])]).send(&tcp(80)), end, "{control:?}");
    }
    assert_eq!(Rig::new(&[]).send(&tcp(80)), Verdict::Pass);
    assert_eq!(Rig::new(&[matchall(1, &[redirect(4)])]).send(&tcp(80)), Verdict::Redirect(PortId(4)));
}

/// [ST-1], [ST-2]
#[test]
fn counts_say_what_happened_and_when_last() {
    let mut rig = Rig::new(&[matchall(1, &[mirror(1, Control::Pipe), gact(Control::Shot)])]);
    rig.world.down = vec![PortId(1)];
    assert_eq!(rig.info(0, 1).actions[1].hits.last_used_ns, 0, "never");
    for now in [70, 80] {
        rig.now_ns = now;
        rig.send(&tcp(80));
    }
    let info = rig.info(0, 1);
    let [mirror, drop] = [info.actions[0].hits, info.actions[1].hits];
    assert_eq!(
        (mirror.packets, mirror.bytes, mirror.drops, mirror.overlimits, mirror.last_used_ns),
        (2, 100, 0, 2, 81)
    );
    assert_eq!((drop.packets, drop.bytes, drop.drops, drop.overlimits), (2, 100, 2, 0));
    assert_eq!((info.hits.packets, info.hits.bytes, info.hits.drops, info.hits.last_used_ns), (2, 100, 0, 81));
}

/// [FL-16], [FL-17], [FL-7]: a value without mask is not there; a mask of some bits is listed as given.
#[test]
fn a_mask_of_zeros_is_a_key_that_is_not_given() {
    let mut spec = FlowerSpec::default();
    spec.value.set(flow_key::SRC_MAC, 0x11_2233);
    spec.value.set(flow_key::DST_MAC, 0x0200_0000_0002);
    spec.mask.set(flow_key::DST_MAC, 0xffff_0000_0000);
    let mut rig = Rig::new(&[flower(1, 3, spec, &[gact(Control::Trap)])]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Trap);
    let KindSpec::Flower(listed) = rig.info(0, 1).matches else { unreachable!("it is flower") };
    assert_eq!(listed.mask, spec.mask);
    assert_eq!((listed.value.get(flow_key::SRC_MAC), listed.value.get(flow_key::DST_MAC)), (0, 0x0200_0000_0002));
}

/// [FL-17]
#[test]
fn keys_without_masks_are_whole_or_absent() {
    let rig = Rig::new(&[]);
    for field in [ETH_TYPE, flow_key::IP_PROTO, VLAN_ID, NUM_OF_VLANS, flow_key::INDEV] {
        let mut spec = FlowerSpec::default();
        spec.mask.set(field, 1);
        assert_eq!(errno(request::add_filter(&rig.block, &flower(1, VLAN, spec, &[]))), "EINVAL", "{field:?}");
    }
}

/// [MA-1], [MA-2], [MA-3], [ST-7]: of its protocol only; with the filter the priority is gone.
#[test]
fn matchall_matches_all_of_its_protocol_and_goes_with_its_priority() {
    let all = |protocol| FilterSpec { protocol, ..matchall(1, &[gact(Control::Trap)]) };
    let mut rig = Rig::new(&[all(IPV4)]);
    assert_eq!(
        [rig.send(&tcp(1)), rig.send(&tcp(2)), rig.send(&tagged_udp(1, 2))],
        [Verdict::Trap, Verdict::Trap, Verdict::Pass]
    );
    assert_eq!(rig.packets(0, 1), 2);
    for mode in [Mode::Add, Mode::Replace, Mode::Change] {
        for handle in [0, 1, 2] {
            let refused = request::new_filter(&rig.block, &FilterSpec { handle, ..all(IPV4) }, mode);
            let absent = mode == Mode::Change && handle != 1;
            assert_eq!(errno(refused), if absent { "ENOENT" } else { "EEXIST" }, "{mode:?} {handle}");
        }
    }
    request::delete_filter(&rig.block, key(0, 1, 1)).unwrap();
    assert_eq!(rig.send(&tcp(1)), Verdict::Pass);
    request::add_filter(&rig.block, &all(VLAN)).expect("the priority is free for another protocol");
    assert_eq!(rig.send(&tagged_udp(1, 2)), Verdict::Trap);
}

/// [KR-37], [WK-9]
#[test]
fn a_listing_ends_after_the_highest_handle() {
    let rig = Rig::new(&[
        one(u32::MAX),
        FilterSpec { priority: 2, ..fw(2, u32::MAX) },
        FilterSpec { handle: u32::MAX, ..matchall(3, &[]) },
    ]);
    for max in 1..5 {
        let mut cursor = request::Cursor::default();
        let mut page =
            || request::dump_page(&rig.block, &request::DumpFilter::default(), &mut cursor, max).unwrap().len();
        let pages: Vec<_> = std::iter::repeat_with(&mut page).take(20).collect();
        assert_eq!(pages.iter().sum::<usize>(), 6, "{max}");
    }
}

/// [KR-40], [FL-13]
#[test]
fn a_range_rises() {
    let rig = Rig::new(&[]);
    let ranged = |src, dst| {
        let spec = FlowerSpec { src_port_range: src, dst_port_range: dst, ..keys(&[(flow_key::IP_PROTO, TCP)]) };
        request::add_filter(&rig.block, &flower(0, IPV4, spec, &[]))
    };
    for wrong in [Some((5, 5)), Some((5, 4)), Some((0xff00, 0x00ff)), Some((1, 0))] {
        assert_eq!(errno(ranged(wrong, None)), "EINVAL");
        assert_eq!(errno(ranged(Some((1, 2)), wrong)), "EINVAL");
    }
    ranged(Some((4, 5)), Some((0, u16::MAX))).unwrap();
}

/// A frame with these tags (TPID and id, the outer one first) before an ARP ethertype.
fn tagged(tags: &[(u16, u16)]) -> Packet {
    let mut frame = vec![2; 12];
    for (tpid, id) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(id.to_be_bytes());
    }
    frame.extend(ARP.to_be_bytes());
    frame.extend([0; 40]);
    parse(&frame)
}

/// [KR-42], [FL-8], [DP-3]: filters for each depth and tag, packets with none to three.
#[test]
fn vlan_keys_are_those_of_their_tag() {
    let stacks: [&[(u16, u16)]; 6] = [
        &[],
        &[(VLAN, 5)],
        &[(QINQ, 5)],
        &[(QINQ, 5), (VLAN, 6)],
        &[(VLAN, 6), (VLAN, 5)],
        &[(QINQ, 5), (VLAN, 6), (VLAN, 7)],
    ];
    for stack in stacks {
        let outer = stack.first().map_or(ARP, |tag| tag.0);
        let ids = [stack.first(), stack.get(1)].map(|tag| tag.map(|tag| u64::from(tag.1)));
        let matches = |protocol: u16, spec: FlowerSpec| {
            let mut rig = Rig::new(&[flower(1, protocol, spec, &[gact(Control::Trap)])]);
            rig.send(&tagged(stack)) == Verdict::Trap
        };
        for protocol in [ARP, VLAN, QINQ] {
            assert_eq!(matches(protocol, keys(&[])), protocol == outer, "{stack:?}: {protocol:x}");
        }
        let tags = stack.len().min(2) as u64; // the parser leaves a third one alone
        for depth in 0..4 {
            assert_eq!(matches(3, keys(&[(NUM_OF_VLANS, depth)])), depth == tags, "{stack:?}: {depth} tags");
        }
        for id in [5, 6, 7] {
            let inner = keys(&[(NUM_OF_VLANS, 2), (CVLAN_ID, id)]);
            assert_eq!(matches(3, inner), tags == 2 && ids[1] == Some(id), "{stack:?}: inner {id}");
            for protocol in [VLAN, QINQ] {
                let first = keys(&[(VLAN_ID, id)]);
                assert_eq!(matches(protocol, first), protocol == outer && ids[0] == Some(id), "{stack:?}: {id}");
            }
        }
    }
}

/// [DV-3], [DV-5], [DP-16], [KR-52], [KR-65], [KR-71], [KR-78], [ST-3], [CC-20]: while filters and actions are replaced, each packet
/// meets one version, whole; and no count goes back.
#[test]
fn packets_meet_one_version_of_what_is_replaced() {
    let block = tidegate_classifiers::block::Block::new(2);
    // What filters say: the first version mirrors to 1 and traps, the second one mirrors to 2 and drops.
    let version = |second: bool| {
        let actions = if second {
            [mirror(2, Control::Pipe), gact(Control::Shot)]
        } else {
            [mirror(1, Control::Pipe), gact(Control::Trap)]
        };
        let versions = FilterSpec { handle: 1, ..flower(2, 3, keys(&[]), &actions) };
        named(if second { "second" } else { "first" }, versions)
    };
    // A shared action in front. One says `shot`, but for 1 packet in 1; the other `pipe`, but for 1 in 60,000: who mixes them drops.
    let front = |second: bool| {
        let (control, mode, one_in) =
            if second { (Control::Shot, RandomMode::Determ, 1) } else { (Control::Pipe, RandomMode::Netrand, 60_000) };
        let random = Some(Random { mode, control: Control::Pipe, one_in });
        ActionUse::from(ActionSpec::Gact(GactSpec { control, random })).numbered(8)
    };
    request::add_actions(block.plane(), &[front(false)], Mode::Add).unwrap();
    let actions = [front(false), gact(Control::Continue).into()].into_iter().collect();
    request::add_filter(&block, &FilterSpec { actions, ..matchall(1, &[]) }).unwrap();
    request::add_filter(&block, &version(false)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut rig = Rig::over(Arc::clone(&block));
            let mut packets = 0_u64;
            while !done.load(SeqCst) || packets < 1000 {
                let head = block.head();
                for _ in 0..32 {
                    rig.world.mirrored.clear();
                    let verdict = rig.send_to(&head, WorkerId(0), &tcp(80));
                    packets += 1;
                    match (verdict, &rig.world.mirrored[..]) {
                        (Verdict::Trap, [PortId(1)]) | (Verdict::Drop(DropReason::Filter), [PortId(2)]) => {}
                        other => panic!("a mixture: {other:?}"),
                    }
                }
            }
            packets
        });
        let (mut counted, mut went_back) = ((0, 0), false);
        for round in 0..2000 {
            request::new_filter(&block, &version(round % 2 == 0), Mode::Replace).unwrap();
            request::add_actions(block.plane(), &[front(round % 2 == 0)], Mode::Replace).unwrap();
            let info = request::get_filter(&block, key(0, 1, 1)).unwrap();
            let now = (info.hits.packets, info.actions[0].hits.packets);
            went_back |= now.0 < counted.0 || now.1 < counted.1;
            counted = now;
        }
        done.store(true, SeqCst);
        let packets = worker.join().unwrap();
        assert!(!went_back);
        let info = request::get_filter(&block, key(0, 1, 1)).unwrap();
        assert_eq!(
            (info.hits.packets, info.actions[0].hits.packets),
            (packets, packets),
            "a shared action keeps its counts"
        );
    });
}

/// [DV-9], [AC-5], [ST-6]: for the next packet, in the same burst even.
#[test]
fn a_replaced_action_counts_at_once() {
    let shared = |control| ActionUse::from(gact(control)).numbered(3);
    let mut rig =
        Rig::new(&[FilterSpec { actions: [shared(Control::Trap)].into_iter().collect(), ..matchall(1, &[]) }]);
    let block = Arc::clone(&rig.block);
    let head = block.head();
    assert_eq!(rig.send_to(&head, WorkerId(0), &tcp(80)), Verdict::Trap);
    request::add_actions(block.plane(), &[shared(Control::Stolen)], Mode::Replace).unwrap();
    assert_eq!(rig.send_to(&head, WorkerId(0), &tcp(80)), Verdict::Consume);
    assert_eq!(rig.info(0, 1).actions[0].hits.packets, 2);
}

/// [DV-8]: a chain that a packet comes to late in its way is as it is then; the one it came from as it was.
#[test]
fn each_chain_is_seen_when_a_packet_gets_there() {
    let mut rig = Rig::new(&[matchall(1, &[gact(Control::Goto(1))]), in_chain(1, matchall(1, &[gact(Control::Trap)]))]);
    let block = Arc::clone(&rig.block);
    let head = block.head();
    request::delete_filter(&block, FilterKey::chain(0)).unwrap();
    request::add_filter(&block, &in_chain(1, FilterSpec { handle: 2, ..matchall(2, &[]) })).unwrap();
    request::delete_filter(&block, FilterKey::priority(1, 1)).unwrap();
    assert_eq!(rig.send_to(&head, WorkerId(0), &tcp(80)), Verdict::Pass);
    assert_eq!(rig.packets(1, 2), 1);
}

proptest! {
    /// [FL-17], [FL-1]: whatever is asked for is listed, and asks for the same again.
    #[test]
    fn a_listing_can_be_asked_for_again(value in 0..1_u64 << 48, mask in 0..1_u64 << 48) {
        let mut spec = FlowerSpec::default();
        spec.value.set(flow_key::DST_MAC, value);
        spec.mask.set(flow_key::DST_MAC, mask);
        let rig = Rig::new(&[flower(1, 3, spec, &[])]);
        let again = FilterSpec { kind: rig.info(0, 1).matches, ..flower(1, 3, spec, &[]) };
        prop_assert_eq!(errno(request::add_filter(&rig.block, &again)), "EEXIST");
    }
}
