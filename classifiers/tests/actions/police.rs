//! [AK-POLICE]: buckets beside exact arithmetic; shared by threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;
use tidegate_classifiers::request::{self, ActionSpec, ActionUse, Limit, Mode, PoliceSpec};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::support::{InHand, Rig, gact};

const SECOND: u64 = 1_000_000_000;
const DROPPED: Verdict = Verdict::Drop(DropReason::Filter);

/// 1 Mbit/s, 10 kB at once; what exceeds is dropped.
const MEGABIT: PoliceSpec = PoliceSpec {
    limit: Limit::Bytes { rate: 125_000, burst: 10_000, peak: None },
    mtu: None,
    overhead: 0,
    mpu: 0,
    atm: false,
    exceed: Control::Shot,
    conform: Control::Pipe,
};

fn packets(rate: u64, burst: u32) -> PoliceSpec {
    PoliceSpec { limit: Limit::Packets { rate, burst }, ..MEGABIT }
}

/// A frame with this many bytes from the L3 header on.
fn frame(l3: usize) -> InHand {
    let mut frame = vec![0; 14 + l3];
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    InHand::new(&frame)
}

/// A bucket in byte-nanoseconds: no rounding.
struct Exact {
    rate: u128,
    size: u128,
    level: u128,
    at: u64,
}

impl Exact {
    fn new(rate: u64, size: u64) -> Exact {
        let size = u128::from(size) * u128::from(SECOND);
        Exact { rate: rate.into(), size, level: size, at: 0 }
    }

    fn has(&mut self, units: u64, now: u64) -> bool {
        self.level = self.size.min(self.level + u128::from(now - self.at) * self.rate);
        self.at = now;
        self.level >= u128::from(units) * u128::from(SECOND)
    }

    fn take(&mut self, units: u64) {
        self.level -= u128::from(units) * u128::from(SECOND);
    }
}

/// What a policer would say, word by word.
fn conforms(spec: &PoliceSpec, buckets: &mut [Exact], l3: u64, now: u64) -> bool {
    if l3 + 14 > spec.mtu().into() {
        return false;
    }
    let mut bytes = (l3 + u64::from(spec.overhead)).max(spec.mpu.into());
    if spec.atm {
        bytes = (0..bytes).step_by(48).map(|_| 53).sum();
    }
    let units = if matches!(spec.limit, Limit::Packets { .. }) { 1 } else { bytes };
    let all = buckets.iter_mut().all(|bucket| bucket.has(units, now));
    if all {
        buckets.iter_mut().for_each(|bucket| bucket.take(units));
    }
    all
}

fn buckets(spec: &PoliceSpec) -> Vec<Exact> {
    match spec.limit {
        Limit::Length => Vec::new(),
        Limit::Packets { rate, burst } => vec![Exact::new(rate, burst.into())],
        Limit::Bytes { rate, burst, peak } => {
            let mut buckets = vec![Exact::new(rate, burst.into())];
            // As large as the longest packet is counted; the rates of this test have exact prices.
            let longest = (u64::from(spec.mtu()) + u64::from(spec.overhead)).max(spec.mpu.into());
            let longest = if spec.atm { longest.div_ceil(48) * 53 } else { longest };
            buckets.extend(peak.map(|peak| Exact::new(peak, longest)));
            buckets
        }
    }
}

proptest! {
    /// [AK-POLICE], [ST-5]
    #[test]
    fn what_conforms_is_what_exact_buckets_say(
        limit in prop_oneof![
            Just(Limit::Length),
            (prop::sample::select(vec![1000, 125_000, 1_000_000]), 1..20_000_u32, prop::option::of(Just(2_000_000)))
                .prop_map(|(rate, burst, peak)| Limit::Bytes { rate, burst, peak }),
            (prop::sample::select(vec![10, 1000, 100_000]), 1..20_u32)
                .prop_map(|(rate, burst)| Limit::Packets { rate, burst }),
        ],
        mtu in 60..1600_u32,
        overhead in prop::sample::select(vec![0, 24]),
        mpu in prop::sample::select(vec![0, 64]),
        atm in any::<bool>(),
        traffic in prop::collection::vec((0..1500_usize, 0..20_000_000_u64), 1..60),
    ) {
        let spec = PoliceSpec { limit, mtu: Some(mtu), overhead, mpu, atm, ..MEGABIT };
        let rig = Rig::new(&[spec.into()]);
        let mut exact = buckets(&spec);
        let (mut now, mut exceeded) = (1, 0);
        for (l3, gap) in traffic {
            now += gap;
            let wanted = conforms(&spec, &mut exact, l3 as u64, now);
            exceeded += u64::from(!wanted);
            prop_assert_eq!(rig.send(0, &mut frame(l3), now), if wanted { Verdict::Pass } else { DROPPED });
        }
        let hits = rig.hits(1, 0);
        prop_assert_eq!((hits.overlimits, hits.drops), (exceeded, exceeded));
    }
}

/// [AK-POLICE]: whatever it says when packets exceed or conform, a drop is counted.
#[test]
fn each_verdict_is_obeyed_and_its_drops_are_counted() {
    for (exceed, conform, verdicts, drops) in [
        (Control::Ok, Control::Shot, [DROPPED, Verdict::Pass], 1),
        (Control::Continue, Control::Trap, [Verdict::Trap, DROPPED], 0),
        (Control::Pipe, Control::Stolen, [Verdict::Consume, DROPPED], 0),
        (Control::Reclassify, Control::Ok, [Verdict::Pass, Verdict::Drop(DropReason::ReclassifyLoop)], 0),
    ] {
        let spec = PoliceSpec { exceed, conform, ..packets(1, 1) };
        let rig = Rig::new(&[spec.into(), gact(Control::Shot)]);
        rig.add(2, &[gact(Control::Shot)]).unwrap();
        assert_eq!([(); 2].map(|()| rig.send(0, &mut frame(50), 1)), verdicts, "{exceed:?}");
        assert_eq!(rig.hits(1, 0).drops, drops, "{exceed:?}");
    }
}

/// [AK-POLICE], [AC-5], [AC-10]
#[test]
fn a_replaced_policer_begins_with_full_buckets() {
    let rig = Rig::new(&[packets(1, 2).into()]);
    let send = || rig.send(0, &mut frame(50), 1);
    assert_eq!([(); 3].map(|()| send()), [Verdict::Pass, Verdict::Pass, DROPPED]);
    let replacement = ActionUse::from(ActionSpec::from(packets(1, 2))).numbered(1);
    request::add_actions(rig.block.plane(), &[replacement], Mode::Replace).unwrap();
    assert_eq!([(); 3].map(|()| send()), [Verdict::Pass, Verdict::Pass, DROPPED]);
    let goto = PoliceSpec { conform: Control::Goto(1), ..MEGABIT };
    assert_eq!(rig.add(2, &[goto.into()]).unwrap_err().errno(), "EINVAL");
}

/// [AK-POLICE]
#[test]
fn a_policer_that_makes_no_sense_is_refused() {
    let bytes = |rate, burst, peak| PoliceSpec { limit: Limit::Bytes { rate, burst, peak }, ..MEGABIT };
    let wrong = [bytes(0, 1, None), bytes(1, 0, None), bytes(1, 1, Some(1)), packets(0, 1), packets(1, 0), {
        PoliceSpec { limit: Limit::Length, ..MEGABIT }
    }];
    for spec in wrong.into_iter().chain([PoliceSpec { mtu: Some(100), ..bytes(1, 1, Some(0)) }]) {
        let refused = Rig::new(&[]).add(2, &[spec.into()]).unwrap_err();
        assert_eq!(refused.errno(), "EINVAL", "{spec:?}");
    }
}

/// [AK-POLICE], [AC-4]: one bucket for all filters and workers; no token is lost, none is given twice.
#[test]
fn threads_share_the_tokens_of_one_bucket() {
    const THREADS: u16 = 4;
    const BURST: u32 = 20_000;
    let spec = PoliceSpec { limit: Limit::Packets { rate: 1000, burst: BURST }, ..MEGABIT };
    let shared = ActionUse::from(ActionSpec::from(spec)).numbered(7);
    let rig = Rig { block: tidegate_classifiers::block::Block::new(THREADS.into()) };
    request::add_actions(rig.block.plane(), &[shared], Mode::Add).unwrap();
    let mut filter = crate::support::matchall(1, &[]);
    filter.actions = [ActionUse::shared(request::ActionKind::Police, 7)].into_iter().collect();
    request::add_filter(&rig.block, &filter).unwrap();
    let passed = AtomicU64::new(0);
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let (rig, passed) = (&rig, &passed);
            scope.spawn(move || {
                for round in 0..u64::from(BURST) {
                    // Two seconds in all, and each worker's clock is a little different.
                    let now = 1 + round * 2 * SECOND / u64::from(BURST);
                    passed.fetch_add(
                        u64::from(rig.send(worker, &mut frame(50), now) == Verdict::Pass),
                        Ordering::Relaxed,
                    );
                }
            });
        }
    });
    let passed = passed.into_inner();
    let most = u64::from(BURST) + 2000;
    assert!((u64::from(BURST)..=most).contains(&passed), "{passed} of {BURST} and 2000 more");
    let hits = rig.hits(1, 0);
    assert_eq!(hits.packets - hits.overlimits, passed);
}

/// [AK-POLICE]: only what conforms takes tokens, from both buckets or from none.
#[test]
fn what_the_peak_refuses_costs_nothing() {
    let limit = Limit::Bytes { rate: 1000, burst: 200, peak: Some(1_000_000) };
    let rig = Rig::new(&[PoliceSpec { limit, mtu: Some(114), ..MEGABIT }.into()]);
    let verdicts = [1, 1, 100_001].map(|now_ns| rig.send(0, &mut frame(100), now_ns));
    assert_eq!(verdicts, [Verdict::Pass, DROPPED, Verdict::Pass]);
}
