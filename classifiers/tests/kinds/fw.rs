//! fw: marks and masks.

use proptest::prelude::*;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{self, ChainSpec, FilterSpec, FwSpec, KindSpec, Mode};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use super::support::{LAST, Rig, Sent, errno, filter, marked};

const DROP: Verdict = Verdict::Drop(DropReason::Filter);

fn fw(handle: u32, mask: u32, controls: &[Control]) -> FilterSpec {
    from(None, handle, mask, controls)
}

fn from(indev: Option<PortId>, handle: u32, mask: u32, controls: &[Control]) -> FilterSpec {
    filter(1, handle, KindSpec::Fw(FwSpec { mask, indev }), controls)
}

/// [FW-1]
#[test]
fn the_masked_mark_selects_the_filter_whose_handle_it_is() {
    let rig = Rig::new();
    rig.add(&fw(0x10, 0xf0, &[Control::Shot])).unwrap();
    rig.add(&fw(0x20, 0xf0, &[Control::Ok])).unwrap();
    rig.add(&fw(0x21, 0xf0, &[Control::Ok])).unwrap(); // has bits outside of the mask: no packet's mark is that
    for (mark, verdict) in
        [(0x10, DROP), (0xabc1f, DROP), (0x2f, Verdict::Pass), (0x30, Verdict::Trap), (0, Verdict::Trap)]
    {
        assert_eq!(rig.send(&marked(mark)), verdict, "mark {mark:#x}");
    }
    assert_eq!([0x10, 0x20, 0x21].map(|handle| rig.hits(1, handle)), [2, 1, 0]);
}

/// [FW-1], [ER-40]
#[test]
fn the_mask_is_that_of_the_first_filter_until_the_priority_goes() {
    let rig = Rig::new();
    rig.add(&fw(1, 0xff, &[Control::Shot])).unwrap();
    rig.add(&fw(2, 0xff, &[Control::Shot])).unwrap();
    assert_eq!(errno(rig.add(&fw(3, 0xffff, &[Control::Shot]))), "EINVAL");
    assert_eq!(errno(rig.request(&fw(1, 0xffff, &[Control::Ok]), Mode::Replace)), "EINVAL");
    rig.delete(1, 1).unwrap();
    assert_eq!(errno(rig.add(&fw(3, 0xffff, &[Control::Shot]))), "EINVAL", "also after the first one went");
    assert_eq!((rig.listed(), rig.send(&marked(0x102))), (vec![(1, 2)], DROP));
    rig.delete(1, 2).unwrap();
    rig.add(&fw(3, 0xffff, &[Control::Shot])).unwrap();
    assert_eq!((rig.send(&marked(0x103)), rig.send(&marked(3))), (Verdict::Trap, DROP));
}

/// [HA-3], [FW-2]
#[test]
fn the_handle_must_be_given() {
    let rig = Rig::new();
    assert_eq!(errno(rig.add(&fw(0, 0xff, &[Control::Shot]))), "EINVAL");
    assert!(rig.listed().is_empty(), "no empty priority stays [TP-10]");
}

/// [ER-2], [ER-1], [ER-15], [ER-20], [ER-6]
#[test]
fn requests_are_told_what_is_wrong() {
    let rig = Rig::new();
    rig.add(&fw(u32::MAX, u32::MAX, &[Control::Shot])).unwrap();
    assert_eq!(errno(rig.add(&fw(u32::MAX, u32::MAX, &[]))), "EEXIST");
    assert_eq!(errno(rig.request(&fw(5, u32::MAX, &[]), Mode::Change)), "ENOENT");
    assert_eq!(errno(rig.delete(1, 5)), "ENOENT");
    assert_eq!(errno(rig.add(&filter(1, 0, KindSpec::Matchall, &[]))), "EINVAL");
    let template = Some(KindSpec::Fw(FwSpec { mask: 1, indev: None }));
    assert_eq!(errno(request::add_chain(&rig.block, ChainSpec { index: 7, template })), "EOPNOTSUPP");
    assert_eq!(rig.get(1, u32::MAX).unwrap().matches, KindSpec::Fw(FwSpec { mask: u32::MAX, indev: None }));
}

/// [FW-1], [FO-7]
#[test]
fn a_replacement_keeps_the_port_unless_it_gives_one() {
    let rig = Rig::new();
    let at = |port, mark| rig.send(&Sent { port: PortId(port), ..marked(mark) });
    rig.add(&from(Some(PortId(3)), 1, 0xff, &[Control::Shot])).unwrap();
    assert_eq!((at(3, 1), at(2, 1)), (DROP, Verdict::Trap));
    rig.request(&fw(1, 0xff, &[Control::Ok]), Mode::Change).unwrap();
    assert_eq!((at(3, 1), at(2, 1)), (Verdict::Pass, Verdict::Trap));
    rig.request(&from(Some(PortId(2)), 1, 0xff, &[Control::Ok]), Mode::Change).unwrap();
    assert_eq!((at(3, 1), at(2, 1)), (Verdict::Trap, Verdict::Pass));
}

/// [DP-11]
#[test]
fn what_says_continue_leaves_the_packet_to_the_next_priority() {
    let rig = Rig::new();
    rig.add(&fw(1, 0xff, &[Control::Continue])).unwrap();
    rig.add(&fw(2, 0xff, &[Control::Shot])).unwrap();
    assert_eq!((rig.send(&marked(1)), rig.hits(1, 1), rig.hits(LAST, 1)), (Verdict::Trap, 1, 1));
}

proptest! {
    /// [FW-1]: a plain map is the oracle.
    #[test]
    fn marks_find_what_a_map_finds(
        mask in prop_oneof![Just(0_u32), Just(u32::MAX), Just(0x3f), Just(0xff00), any::<u32>()],
        steps in prop::collection::vec((0..4_u8, 1..64_u32, 0..4_u32), 1..60),
    ) {
        let rig = Rig::new();
        let mut map = std::collections::BTreeMap::new();
        for (what, handle, more) in steps {
            let handle = handle | more << 8;
            match what {
                0 | 1 => prop_assert_eq!(rig.add(&fw(handle, mask, &[Control::Shot])).is_ok(), map.insert(handle, ()).is_none()),
                2 => prop_assert_eq!(rig.delete(1, handle).is_ok(), map.remove(&handle).is_some()),
                _ => {}
            }
            for mark in [handle, handle | 0xabcd_0000, more, 0] {
                let verdict = if map.contains_key(&(mark & mask)) { DROP } else { Verdict::Trap };
                prop_assert_eq!(rig.send(&marked(mark)), verdict);
            }
            prop_assert_eq!(rig.listed(), map.keys().map(|&handle| (1, handle)).collect::<Vec<_>>());
        }
    }
}
