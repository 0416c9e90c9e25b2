use std::sync::Arc;

use tidegate_classifiers::counters::Hits;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_classifiers::request::{ActionSpec, GactSpec, Random, RandomMode};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::support::*;

fn random(mode: RandomMode, one_in: u16) -> ActionSpec {
    let random = Some(Random { mode, control: Control::Shot, one_in });
    ActionSpec::Gact(GactSpec { control: Control::Ok, random })
}

/// [ST-4]: bytes from L3 on, so neither the Ethernet header nor the outer tag.
#[test]
fn filters_and_actions_count_packets_bytes_and_when() {
    let mut rig = Rig::new(&[matchall(1, &[gact(Control::Ok)])]);
    let info = rig.info(0, 1);
    assert_eq!((info.hits, info.actions[0].hits), (Hits::default(), Hits::default()));

    rig.now_ns = 999;
    rig.send(&tcp(80));
    rig.send(&tagged_udp(5, 53));
    let expected = Hits { packets: 2, bytes: 50 + 38, last_used_ns: 1001, ..Hits::default() };
    let info = rig.info(0, 1);
    assert_eq!((info.hits, info.actions[0].hits), (expected, expected));
}

/// [ST-3]
#[test]
fn workers_count_apart_and_readers_see_the_sum() {
    let mut rig = Rig::new(&[matchall(1, &[gact(Control::Shot)])]);
    let block = Arc::clone(&rig.block);
    let head = block.head();
    for worker in [0, 1, 1] {
        rig.send_to(&head, WorkerId(worker), &tcp(80));
    }
    let hits = rig.info(0, 1).actions[0].hits;
    assert_eq!(hits, Hits { packets: 3, bytes: 150, last_used_ns: 3, drops: 3, overlimits: 0 });
}

/// [ST-5], [AK-GACT]: of the two, only gact counts drops.
#[test]
fn a_drop_is_counted_by_the_verdict_that_drops() {
    let mut rig = Rig::new(&[matchall(1, &[gact(Control::Pipe), gact(Control::Shot)])]);
    rig.send(&tcp(80));
    let drops: Vec<_> = rig.info(0, 1).actions.iter().map(|action| action.hits.drops).collect();
    assert_eq!(drops, [0, 1]);

    let mut rig = Rig::new(&[matchall(1, &[mirror(1, Control::Shot)])]);
    assert_eq!(rig.send(&tcp(80)), Verdict::Drop(DropReason::Filter));
    assert_eq!(rig.info(0, 1).actions[0].hits.drops, 0);
    assert_eq!(rig.world.mirrored, [PortId(1)]);
}

/// [AK-MIRRED]
#[test]
fn a_mirror_to_a_port_that_is_down_or_full_is_skipped_and_counted() {
    let mut rig = Rig::new(&[matchall(1, &[mirror(1, Control::Pipe), mirror(2, Control::Pipe), gact(Control::Trap)])]);
    rig.world.down = vec![PortId(1)];
    rig.world.full = vec![PortId(2)];
    assert_eq!(rig.send(&tcp(80)), Verdict::Trap);
    assert_eq!(rig.world.mirrored, []);
    let overlimits: Vec<_> = rig.info(0, 1).actions.iter().map(|action| action.hits.overlimits).collect();
    assert_eq!(overlimits, [1, 1, 0]);
}

/// [AK-MIRRED]
#[test]
fn a_redirect_to_a_port_that_is_down_drops_and_is_counted() {
    let mut rig = Rig::new(&[matchall(1, &[redirect(1)])]);
    rig.world.down = vec![PortId(1)];
    assert_eq!(rig.send(&tcp(80)), Verdict::Drop(DropReason::RedirectDown));
    let hits = rig.info(0, 1).actions[0].hits;
    assert_eq!((hits.packets, hits.overlimits, hits.drops), (1, 1, 0));
    rig.world.down.clear();
    assert_eq!(rig.send(&tcp(80)), Verdict::Redirect(PortId(1)));
}

/// [AK-GACT]: one count for all workers.
#[test]
fn determ_takes_the_second_verdict_every_so_many_packets() {
    let mut rig = Rig::new(&[matchall(1, &[random(RandomMode::Determ, 3)])]);
    let block = Arc::clone(&rig.block);
    let head = block.head();
    let verdicts: Vec<_> = (0..7).map(|i| rig.send_to(&head, WorkerId(i % 2), &tcp(80))).collect();
    let dropped: Vec<_> = verdicts.iter().map(|&verdict| verdict != Verdict::Pass).collect();
    assert_eq!(dropped, [false, false, true, false, false, true, false]);
    assert_eq!(rig.info(0, 1).actions[0].hits.drops, 2);
}

/// [AK-GACT]: 100,000 throws with p = 1/4; six standard deviations are 822.
#[test]
fn netrand_takes_the_second_verdict_with_its_probability() {
    let mut rig = Rig::new(&[matchall(1, &[random(RandomMode::Netrand, 4)])]);
    let packet = tcp(80);
    let dropped = (0..100_000).filter(|_| rig.send(&packet) == Verdict::Drop(DropReason::Filter)).count();
    assert!((24_178..=25_822).contains(&dropped), "{dropped}");
    assert_eq!(rig.info(0, 1).actions[0].hits.drops, dropped as u64);
}

/// [AK-GACT]
#[test]
fn one_in_0_counts_as_one_in_1() {
    for mode in [RandomMode::Netrand, RandomMode::Determ] {
        let mut rig = Rig::new(&[matchall(1, &[random(mode, 0)])]);
        assert!((0..100).all(|_| rig.send(&tcp(80)) == Verdict::Drop(DropReason::Filter)), "{mode:?}");
    }
}
