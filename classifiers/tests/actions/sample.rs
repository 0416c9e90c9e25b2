//! sample: who is shown what, and how often.

use tidegate_classifiers::request::{ActionSpec, SampleSpec, VlanEdit, VlanSpec};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::frames::tcp;
use crate::support::{InHand, Rig};

fn sample(rate: u32, control: Control) -> SampleSpec {
    SampleSpec { rate, group: 7, trunc: Some(96), control }
}

/// [AK-SAMPLE]
#[test]
fn one_in_so_many_is_shown() {
    let frame = tcp().frame();
    for rate in [1, 2, 10, 100, u32::MAX] {
        let rig = Rig::new(&[sample(rate, Control::Pipe).into()]);
        let (mut rng, mut in_hand) = (fastrand::Rng::with_seed(rate.into()), InHand::new(&frame));
        const PACKETS: u32 = 40_000;
        for now_ns in 1..=PACKETS {
            assert_eq!(rig.walk(0, &mut in_hand, now_ns.into(), &mut rng).0, Verdict::Pass);
        }
        let (shown, wanted) = (in_hand.shown.len() as f64, f64::from(PACKETS) / f64::from(rate));
        let deviation = (wanted * (1.0 - 1.0 / f64::from(rate))).sqrt();
        assert!((shown - wanted).abs() <= 4.0 * deviation, "{shown} of {PACKETS} at a rate of {rate}");
        let hits = rig.hits(1, 0);
        assert_eq!((hits.packets, hits.overlimits), (PACKETS.into(), 0), "all are counted, shown or not");
    }
}

/// [AK-SAMPLE]
#[test]
fn what_is_shown_is_the_packet_as_it_is_then() {
    let push = VlanSpec { edit: VlanEdit::Push { tpid: 0x8100, id: 5, priority: 0 }, control: Control::Pipe };
    let (before, after) = (sample(1, Control::Pipe), SampleSpec { group: 8, ..sample(1, Control::Trap) });
    let rig = Rig::new(&[before.into(), push.into(), after.into()]);
    let plain = tcp().frame();
    let mut in_hand = InHand::new(&plain);
    assert_eq!(rig.send(0, &mut in_hand, 3), Verdict::Trap);
    let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
    assert_eq!(in_hand.shown, [(before, 3, plain), (after, 3, tagged)]);
}

/// [AK-SAMPLE]
#[test]
fn what_there_is_no_room_for_is_counted_and_the_verdict_is_said() {
    let rig = Rig::new(&[sample(1, Control::Shot).into()]);
    let mut in_hand = InHand { shelf: 2, ..InHand::new(&tcp().frame()) };
    for now_ns in 1..=5 {
        assert_eq!(rig.send(0, &mut in_hand, now_ns), Verdict::Drop(DropReason::Filter));
    }
    let hits = rig.hits(1, 0);
    assert_eq!((in_hand.shown.len(), hits.packets, hits.overlimits), (2, 5, 3));
}

/// [AK-SAMPLE]
#[test]
fn one_in_none_is_refused() {
    let none: ActionSpec = sample(0, Control::Pipe).into();
    assert_eq!(Rig::new(&[]).add(2, &[none]).unwrap_err().errno(), "EINVAL");
}
