//! vlan, skbedit, csum, nat, pedit beside slow evaluators, and what later filters see of them.

use proptest::prelude::*;
use proptest::sample::select;
use tidegate_classifiers::flow_key;
use tidegate_classifiers::request::{
    self, ActionSpec, CsumSpec, CsumTargets, FilterSpec, FlowerSpec, FwSpec, KindSpec, NatSpec, PeditAt, PeditHeader,
    PeditKey, PeditSpec, SkbeditSpec, VlanEdit, VlanSpec,
};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::frames::{Parts, Transport, any_frame, ip, parts, tcp};
use crate::support::{InHand, Rig, gact, matchall};

const EDIT: Verdict = Verdict::Drop(DropReason::Edit);

fn vlan(edit: VlanEdit, control: Control) -> ActionSpec {
    VlanSpec { edit, control }.into()
}

fn nat(egress: bool, old: &str, bits: u32, new: &str) -> ActionSpec {
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    NatSpec { egress, old: ip(old), mask, new: ip(new), control: Control::Ok }.into()
}

fn csum(targets: CsumTargets) -> ActionSpec {
    CsumSpec { targets, control: Control::Ok }.into()
}

fn all_checksums() -> CsumTargets {
    CsumTargets::ALL.into_iter().fold(CsumTargets::default(), CsumTargets::with)
}

fn pedit(keys: Vec<PeditKey>) -> ActionSpec {
    PeditSpec { keys, control: Control::Ok }.into()
}

/// What `edit` makes of a frame, byte by byte; nothing if it cannot.
fn plain_vlan(frame: &[u8], edit: VlanEdit) -> Option<Vec<u8>> {
    let tagged = frame[12..14] == [0x81, 0] || frame[12..14] == [0x88, 0xa8];
    let mut new = frame.to_vec();
    let tag = |tpid: u16, tci: u16| [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
    if tagged && frame.len() < 18 {
        return None;
    }
    match edit {
        VlanEdit::Push { tpid, id, priority } => _ = new.splice(12..12, tag(tpid, u16::from(priority) << 13 | id)),
        _ if !tagged => {}
        VlanEdit::Pop => _ = new.drain(12..16),
        VlanEdit::Modify { tpid, id, priority } => {
            let old = u16::from_be_bytes([frame[14], frame[15]]);
            let priority = priority.map_or(old >> 13, u16::from);
            new.splice(12..16, tag(tpid, priority << 13 | old >> 12 & 1)[..4].to_vec());
            new[14..16].copy_from_slice(&(priority << 13 | (old >> 12 & 1) << 12 | id).to_be_bytes());
        }
    }
    Some(new)
}

proptest! {
    /// [AK-VLAN]
    #[test]
    fn tags_are_what_a_plain_evaluator_makes_of_them(
        frame in any_frame(),
        edit in prop_oneof![
            Just(VlanEdit::Pop),
            (select(vec![0x8100, 0x88a8]), 0..4095_u16, 0..8_u8)
                .prop_map(|(tpid, id, priority)| VlanEdit::Push { tpid, id, priority }),
            (select(vec![0x8100, 0x88a8]), 0..4095_u16, prop::option::of(0..8_u8))
                .prop_map(|(tpid, id, priority)| VlanEdit::Modify { tpid, id, priority }),
        ],
    ) {
        let rig = Rig::new(&[vlan(edit, Control::Pipe)]);
        let (verdict, found) = rig.edit(&frame);
        match plain_vlan(&frame, edit) {
            Some(expected) => prop_assert_eq!((verdict, found), (Verdict::Pass, expected)),
            None => {
                prop_assert_eq!((verdict, found), (EDIT, frame));
                prop_assert_eq!(rig.hits(1, 0).drops, 1);
            }
        }
    }

    /// [AK-CSUM]: etherparse made them first.
    #[test]
    fn checksums_that_were_lost_are_made_anew(parts in parts(), lost in any::<[u8; 4]>(), padding in 0..20_usize) {
        let right = parts.frame();
        let mut wrong = right.clone();
        wrong[parts.checksum()..parts.checksum() + 2].copy_from_slice(&lost[..2]);
        if !parts.v6 {
            wrong[parts.l3() + 10..parts.l3() + 12].copy_from_slice(&lost[2..]);
        }
        // Of UDP over IPv4, 0 stands for none.
        prop_assume!(parts.v6 || parts.transport != Transport::Udp || lost[..2] != [0, 0]);
        wrong.extend(vec![0xaa; padding]);
        let (verdict, found) = Rig::new(&[csum(all_checksums())]).edit(&wrong);
        prop_assert_eq!(verdict, Verdict::Pass);
        prop_assert_eq!(&found[..right.len()], &right[..]);
        prop_assert_eq!(&found[right.len()..], &vec![0xaa; padding][..]);
    }

    /// [AK-CSUM], [AK-NAT], [AK-PEDIT]: whatever comes, nothing but those fields changes.
    #[test]
    fn broken_frames_break_nothing(frame in any_frame()) {
        let targets = all_checksums();
        for action in [csum(targets), nat(true, "10.0.0.0", 8, "192.0.2.1"), nat(false, "10.0.0.0", 8, "192.0.2.1")] {
            let (verdict, found) = Rig::new(&[action]).edit(&frame);
            prop_assert!(verdict == Verdict::Pass || verdict == EDIT);
            prop_assert_eq!(found.len(), frame.len());
            let changed = found.iter().zip(&frame).filter(|(a, b)| a != b).count();
            prop_assert!(changed <= 18, "{} bytes", changed);
        }
    }

    /// [AK-NAT]: as if the packet had been made with the other address, checksums and all.
    #[test]
    fn a_translated_packet_is_the_packet_with_the_other_address(
        parts in parts(), egress in any::<bool>(), bits in select(vec![0, 8, 16, 32]),
        old in select(vec!["10.0.0.1", "192.0.2.1"]), new in select(vec!["10.9.9.9", "255.255.255.255", "0.0.0.0"]),
    ) {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        let mut expected = parts.clone();
        let address = if egress { &mut expected.source } else { &mut expected.destination };
        if !parts.v6 && (*address ^ u32::from(ip(old))) & mask == 0 {
            *address = *address & !mask | u32::from(ip(new)) & mask;
        }
        let (verdict, found) = Rig::new(&[nat(egress, old, bits, new)]).edit(&parts.frame());
        prop_assert_eq!(verdict, Verdict::Pass);
        let (mut found, mut expected_frame) = (found, expected.frame());
        // 0 and 0xffff are the same number in these sums; RFC 1624 may choose the other one.
        for frame in [&mut found, &mut expected_frame] {
            for at in [parts.l3() + 10, parts.checksum()] {
                if frame[at..at + 2] == [0xff, 0xff] && !parts.v6 {
                    frame[at..at + 2].fill(0);
                }
            }
        }
        prop_assert_eq!(found, expected_frame);
    }

    /// [AK-PEDIT]: bit by bit, on a frame without its outer tag.
    #[test]
    fn words_are_what_a_plain_evaluator_makes_of_them(
        frame in any_frame(),
        keys in prop::collection::vec(
            (
                select(vec![PeditHeader::Network, PeditHeader::Eth]), -5..16_i32, any::<bool>(), any::<u32>(),
                select(vec![0, u32::MAX, 0xffff_0000, 0x00ff_ff00, 0x0f0f_0f0f]), prop::option::of((0..30_u32, any::<u8>(), 0..9_u32)),
            ),
            1..4,
        ),
    ) {
        let keys: Vec<PeditKey> = keys
            .into_iter()
            .map(|(header, word, add, value, keep, at)| {
                let at = at.map(|(offset, mask, shift)| PeditAt { offset, mask: mask.into(), shift });
                PeditKey { header, offset: 4 * word, at, add, value: value & !keep, keep }
            })
            .collect();
        let mut expected = frame.clone();
        let all = keys.iter().all(|key| plain_pedit(&mut expected, key));
        let rig = Rig::new(&[pedit(keys)]);
        prop_assert_eq!(rig.edit(&frame), (Verdict::Pass, expected));
        prop_assert_eq!(rig.hits(1, 0).overlimits, u64::from(!all));
    }
}

/// Takes the outer tag off, changes the word, and puts it on again; `false` if there is no such word.
fn plain_pedit(frame: &mut Vec<u8>, key: &PeditKey) -> bool {
    let tagged = (frame[12..14] == [0x81, 0] || frame[12..14] == [0x88, 0xa8]) && frame.len() >= 18;
    let tag: Vec<u8> = if tagged { frame.drain(12..16).collect() } else { Vec::new() };
    let base: u32 = if key.header == PeditHeader::Eth { 0 } else { 14 };
    let more = match key.at {
        None => Some(0),
        Some(at) => frame.get((base + at.offset) as usize).map(|byte| (u32::from(*byte) & at.mask) >> at.shift),
    };
    let done = more.is_some_and(|more| {
        let start = i64::from(base) + i64::from(key.offset) + i64::from(more);
        let bits: Vec<i64> = (0..32).map(|bit| start * 8 + bit).collect();
        if usize::try_from(start + 4).is_ok_and(|end| end > frame.len()) {
            return false;
        }
        let get = |frame: &[u8], at: i64| usize::try_from(at).is_ok_and(|at| frame[at / 8] >> (7 - at % 8) & 1 == 1);
        let old = bits.iter().fold(0_u32, |word, at| word << 1 | u32::from(get(frame, *at)));
        let value = if key.add { old.wrapping_add(key.value) & !key.keep } else { key.value };
        let new = (old & key.keep) ^ value;
        if bits.iter().enumerate().any(|(i, at)| *at < 0 && new >> (31 - i) & 1 == 1) {
            return false;
        }
        for (i, at) in bits.iter().enumerate() {
            if let Ok(at) = usize::try_from(*at) {
                let bit = 0x80 >> (at % 8);
                frame[at / 8] = frame[at / 8] & !bit | if new >> (31 - i) & 1 == 1 { bit } else { 0 };
            }
        }
        true
    });
    frame.splice(12..12, tag);
    done
}

/// [AK-NAT]: the header in an ICMP error is that of a packet that went the other way.
#[test]
fn an_error_about_a_translated_packet_is_translated_too() {
    let about = &tcp().frame()[14..42];
    let error = Parts {
        source: 0xc633_6401,
        destination: 0x0a00_0001,
        transport: Transport::Icmp,
        payload: about.to_vec(),
        ..tcp()
    };
    let mut frame = error.frame();
    frame[34] = 3; // destination unreachable
    let fixed = Rig::new(&[csum(all_checksums())]).edit(&frame).1;
    let (verdict, found) = Rig::new(&[nat(false, "10.0.0.1", 32, "172.16.0.9")]).edit(&fixed);
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!((&found[30..34], &found[42 + 12..42 + 16]), (&[172, 16, 0, 9][..], &[172, 16, 0, 9][..]));
    assert_eq!(Rig::new(&[csum(all_checksums())]).edit(&found).1, found, "the checksums outside are right");
    let inner = etherparse::Ipv4Header::from_slice(&found[42..]).unwrap().0;
    assert_eq!(inner.header_checksum, inner.calc_header_checksum(), "and so is that inside");
    let cut = &fixed[..50];
    assert_eq!(Rig::new(&[nat(false, "10.0.0.1", 32, "172.16.0.9")]).edit(cut), (EDIT, cut.to_vec()));
}

/// [AK-CSUM]: UDP over IPv4 without a checksum stays without; what is not asked for, and fragments, are left alone.
#[test]
fn checksums_that_are_not_to_be_made_are_left_alone() {
    let udp = Parts { transport: Transport::Udp, ..tcp() };
    let mut none = udp.frame();
    none[40..42].fill(0);
    assert_eq!(Rig::new(&[csum(CsumTargets::UDP)]).edit(&none).1, none);
    let mut wrong = udp.frame();
    wrong[40] ^= 1;
    assert_eq!(Rig::new(&[csum(CsumTargets::TCP.with(CsumTargets::IP))]).edit(&wrong).1, wrong);
    wrong[20] = 0x20;
    wrong[24..26].fill(0);
    let found = Rig::new(&[csum(all_checksums())]).edit(&wrong).1;
    assert_eq!(found[34..], wrong[34..], "a fragment");
    assert_ne!(found[24..26], [0, 0], "but for its own header");
    wrong[16..18].copy_from_slice(&2000_u16.to_be_bytes());
    let rig = Rig::new(&[csum(CsumTargets::IP)]);
    assert_eq!((rig.edit(&wrong).0, rig.hits(1, 0).drops), (EDIT, 1), "longer than it is");
}

/// [AK-CSUM]
#[test]
fn sctp_and_udplite_have_checksums_of_their_own() {
    let mut frame = tcp().frame();
    frame[23] = 132;
    let found = Rig::new(&[csum(CsumTargets::SCTP)]).edit(&frame).1;
    frame[42..46].fill(0);
    let slow = frame[34..].iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    assert_eq!(found[42..46], (!slow).to_le_bytes());

    // Of UDP-Lite the first eight bytes are covered here, and the addresses with the whole length.
    let mut lite = Parts { transport: Transport::Udp, ..tcp() }.frame();
    lite[23] = 136;
    lite[38..40].copy_from_slice(&8_u16.to_be_bytes());
    let found = Rig::new(&[csum(CsumTargets::UDPLITE)]).edit(&lite).1;
    let words = [&found[26..34], &[0, 136, 0, 28], &found[34..42]].concat();
    let sum: u32 = words.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}

/// [AK-PEDIT]: a header that is not there ends the list; what was done before stays, and the verdict counts.
#[test]
fn keys_go_to_their_headers() {
    let key = |header, offset, value, keep| PeditKey { header, offset, at: None, add: false, value, keep };
    let port = |header| key(header, 0, 8080, 0xffff_0000);
    let frame = Parts { tags: 1, ..tcp() }.frame();
    for (header, at) in
        [(PeditHeader::Tcp, Some(40)), (PeditHeader::Ip4, Some(20)), (PeditHeader::Udp, None), (PeditHeader::Ip6, None)]
    {
        let rig = Rig::new(&[pedit(vec![key(PeditHeader::Eth, 0, 0xff00_0000, 0x00ff_ffff), port(header)])]);
        let mut expected = frame.clone();
        expected[0] = 0xff;
        if let Some(at) = at {
            expected[at..at + 2].copy_from_slice(&8080_u16.to_be_bytes());
        }
        assert_eq!(rig.edit(&frame), (Verdict::Pass, expected), "{header:?}");
        assert_eq!(rig.hits(1, 0).overlimits, u64::from(at.is_none()));
    }
}

/// [AK-SKBEDIT]
#[test]
fn a_mark_is_seen_by_later_filters_and_survives_edits() {
    let mark = |mark, mask| -> ActionSpec { SkbeditSpec { mark, mask, control: Control::Pipe }.into() };
    let push = vlan(VlanEdit::Push { tpid: 0x8100, id: 5, priority: 0 }, Control::Continue);
    let rig = Rig::new(&[mark(0xff, None), mark(0x10, Some(0xf0)), push]);
    let fw = FilterSpec {
        handle: 0x1f,
        kind: KindSpec::Fw(FwSpec { mask: u32::MAX, indev: None }),
        ..matchall(2, &[gact(Control::Trap)])
    };
    request::add_filter(&rig.block, &fw).unwrap();
    assert_eq!(rig.edit(&tcp().frame()).0, Verdict::Trap);
}

/// [AV-6], [DP-3]: later priorities see the packet as it is then.
#[test]
fn later_filters_see_what_was_edited() {
    let push = vlan(VlanEdit::Push { tpid: 0x88a8, id: 5, priority: 3 }, Control::Continue);
    let rig = Rig::new(&[push]);
    for (priority, protocol, control) in [(2, 0x0800, Control::Shot), (3, 0x88a8, Control::Continue)] {
        request::add_filter(&rig.block, &FilterSpec { protocol, ..matchall(priority, &[gact(control)]) }).unwrap();
    }
    let translate = NatSpec {
        egress: false,
        old: ip("192.0.2.1"),
        mask: u32::MAX,
        new: ip("10.9.9.9"),
        control: Control::Continue,
    };
    rig.add(4, &[translate.into()]).unwrap();
    let mut flower = FlowerSpec::default();
    for (field, value) in [(flow_key::ETH_TYPE, 0x0800), (flow_key::VLAN_ID, 5), (flow_key::VLAN_PRIO, 3)] {
        flower.value.set(field, value);
        flower.mask.set(field, field.max());
    }
    flower.value.set_dst_ipv4(ip("10.9.9.9"));
    flower.mask.set_dst_ipv4(ip("255.255.255.255"));
    let kind = KindSpec::Flower(Box::new(flower));
    let last = FilterSpec { protocol: 0x88a8, kind, ..matchall(5, &[gact(Control::Trap)]) };
    request::add_filter(&rig.block, &last).unwrap();
    assert_eq!(rig.edit(&tcp().frame()).0, Verdict::Trap);
    assert_eq!(rig.hits(4, 0).bytes, 60, "without the tag [ST-4]");
}

/// [AK-VLAN], [ST-5]
#[test]
fn a_tag_without_room_is_a_counted_drop() {
    let rig = Rig::new(&[vlan(VlanEdit::Push { tpid: 0x8100, id: 5, priority: 0 }, Control::Ok)]);
    let frame = tcp().frame();
    for (room, verdict) in [(frame.len() + 3, EDIT), (frame.len() + 4, Verdict::Pass)] {
        assert_eq!(rig.send(0, &mut InHand { room, ..InHand::new(&frame) }, 1), verdict);
    }
    let hits = rig.hits(1, 0);
    assert_eq!((hits.packets, hits.drops), (2, 1));
}

/// [ER-33], [AK-PEDIT]
#[test]
fn edits_that_make_no_sense_are_refused() {
    let key = PeditKey { header: PeditHeader::Network, offset: 0, at: None, add: false, value: 0, keep: 0 };
    let at = Some(PeditAt { offset: 0, mask: 1, shift: 32 });
    for (action, errno) in [
        (vlan(VlanEdit::Push { tpid: 0x8100, id: 4095, priority: 0 }, Control::Ok), "ERANGE"),
        (vlan(VlanEdit::Modify { tpid: 0x8100, id: 4095, priority: None }, Control::Ok), "ERANGE"),
        (vlan(VlanEdit::Push { tpid: 0x8100, id: 1, priority: 8 }, Control::Ok), "ERANGE"),
        (vlan(VlanEdit::Push { tpid: 0x9100, id: 1, priority: 0 }, Control::Ok), "EPROTONOSUPPORT"),
        (pedit(Vec::new()), "EINVAL"),
        (pedit(vec![key; 129]), "EINVAL"),
        (pedit(vec![PeditKey { offset: 2, ..key }]), "EINVAL"),
        (pedit(vec![PeditKey { at, ..key }]), "EINVAL"),
    ] {
        assert_eq!(Rig::new(&[]).add(2, std::slice::from_ref(&action)).unwrap_err().errno(), errno, "{action:?}");
    }
}
