//! Packets beside requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_classifiers::live::LiveCounts;
use tidegate_classifiers::reap::Quiescence;
use tidegate_classifiers::request::{
    FilterKey, Mode, add_actions, add_filter, delete_chain, delete_filter, new_filter,
};
use tidegate_classifiers::sync::thread;
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::explore::{Rig, explore, explore_beside, three, two};
use crate::specs::{With, burst, flower, gact, matchall, send, send_at};

const SHOT: Verdict = Verdict::Drop(DropReason::Filter);

/// [FO-6], [DV-3], [CC-6]: a packet that the old filter matches and the new one too always meets one of them. With a delete of the
/// old one and a publication before the new one is inserted: it meets none.
#[test]
fn no_packet_falls_between_old_and_new() {
    explore(&["old", "new"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1).says(Control::Shot)).unwrap();
        let new = flower(1).handle(1).says(Control::Trap);
        let (replaced, verdict) = two(|| new_filter(block, &new, Mode::Replace), || send(block, 1, 2));
        replaced.unwrap();
        assert_eq!(send(block, 1, 2), Verdict::Trap);
        match verdict {
            SHOT => "old",
            Verdict::Trap => "new",
            other => panic!("{other:?}"),
        }
    });
}

/// [DV-7], [KR-21]: a proto comes and goes before another one: the packet meets the other one all the same.
/// With a publication of the new proto alone first, in `ChainGuard::link`: it does not.
#[test]
fn a_list_that_changes_is_always_whole() {
    explore(&["dropped"], |rig| {
        let block = &rig.block;
        add_filter(block, &matchall().priority(9).says(Control::Shot)).unwrap();
        let other = flower(7).priority(1).says(Control::Ok);
        let ((), a) = two(
            || {
                let id = add_filter(block, &other).unwrap();
                delete_filter(block, id).unwrap();
            },
            || [send(block, 1, 2), send(block, 1, 2)],
        );
        assert_eq!(a, [SHOT, SHOT]);
        "dropped"
    });
}

/// [CC-20], [AC-13], [DP-10], [KR-15]: a goto becomes another verdict: a packet jumps or drops, and never finds a goto without its
/// target. With spec and target of an action read by two loads in `Action::run`: it does.
#[test]
fn a_goto_is_read_with_its_target() {
    explore(&["jumped", "dropped"], |rig| {
        let (plane, block) = (&rig.plane, &rig.block);
        add_filter(block, &matchall().chain(5).says(Control::Trap)).unwrap();
        add_filter(block, &matchall().actions(&[gact(Control::Goto(5)).numbered(7)])).unwrap();
        let drops = [gact(Control::Shot).numbered(7)];
        let (replaced, verdict) = two(|| add_actions(plane, &drops, Mode::Replace), || send(block, 1, 2));
        replaced.unwrap();
        match verdict {
            Verdict::Trap => "jumped",
            SHOT => "dropped",
            other => panic!("{other:?}"),
        }
    });
}

/// [CC-21], [OBJ-12]: the chain that a goto led to stays until no worker can be on its way there. Without
/// `passed` as the condition in `Reaper::poll`, or with a pin that is dropped at once: it goes under the worker's feet.
#[test]
fn the_target_of_a_goto_stays_until_the_burst_ends() {
    beside_a_burst(&["stayed", "was gone before"], |rig| {
        let drops = [gact(Control::Shot).numbered(7)];
        add_actions(&rig.plane, &drops, Mode::Replace).unwrap();
    });
}

/// [DD-1], [DD-2]: the same for all that a delete unlinks: filter, group, proto, action and chain. It fails for the same reasons.
#[test]
fn what_is_deleted_stays_until_the_burst_ends() {
    beside_a_burst(&["stayed", "was gone before"], |rig| {
        delete_filter(&rig.block, FilterKey::priority(0, 1)).unwrap();
    });
}

/// [DD-1], [CC-7]: and for a chain with everything in it. It fails for the same reasons.
#[test]
fn what_is_flushed_stays_until_the_burst_ends() {
    beside_a_burst(&["stayed", "was gone before"], |rig| {
        delete_chain(&rig.block, 0).unwrap();
    });
}

/// A goto to chain 5, which is there for its sake only. One thread does `what` and then drives the reaper; another is a worker
/// with one burst, during which nothing may go; the third drives the reaper too.
fn beside_a_burst(outcomes: &[&'static str], what: impl Fn(&Rig) + Send + Sync + 'static) {
    let bursts = Arc::new(AtomicU64::new(0));
    let quiescence = Arc::clone(&bursts);
    explore_beside(
        outcomes,
        move || Box::new(Bursts(Arc::clone(&quiescence))),
        move |rig| {
            bursts.store(0, Ordering::Relaxed);
            add_filter(&rig.block, &flower(1).actions(&[gact(Control::Goto(5)).numbered(7)])).unwrap();
            rig.plane.reaper().drain();
            let before = rig.plane.live();
            let rig = &*rig;
            let reap = || {
                thread::yield_now();
                rig.plane.reaper().poll();
            };
            let ((), (jumps, at_end), ()) = three(
                || {
                    what(rig);
                    reap();
                    reap();
                },
                || {
                    bursts.fetch_add(1, Ordering::Relaxed); // odd: in a burst
                    let burst = burst(&rig.block);
                    let jumps = !burst.head.is_empty() && send_at(&rig.block, &burst, 1, 2) == Verdict::Pass;
                    thread::yield_now();
                    let at_end = rig.plane.live();
                    bursts.fetch_add(1, Ordering::Relaxed); // even: idle
                    (jumps, at_end)
                },
                reap,
            );
            let counts = |live: LiveCounts| [live.chains, live.protos, live.filters, live.groups, live.actions];
            let kept = counts(before).into_iter().zip(counts(at_end)).all(|(before, end)| before <= end);
            assert!(kept || !jumps, "{before:?} in the hands of a worker, {at_end:?} at the end of its burst");
            rig.plane.reaper().drain();
            assert_ne!(rig.plane.live(), before, "something went in the end");
            if jumps { "stayed" } else { "was gone before" }
        },
    );
}

/// One worker's burst counter: odd during a burst.
pub(crate) struct Bursts(pub(crate) Arc<AtomicU64>);

impl Quiescence for Bursts {
    fn snapshot(&self) -> Box<[u64]> {
        Box::new([self.0.load(Ordering::Relaxed)])
    }

    fn passed(&self, snapshot: &[u64]) -> bool {
        let now = self.0.load(Ordering::Relaxed);
        now.is_multiple_of(2) || snapshot != [now]
    }
}
