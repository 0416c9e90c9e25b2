//! Flow caches beside requests: what a request has done is met from the next burst on, whatever the cache knew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_classifiers::flow_cache::FlowCache;
use tidegate_classifiers::request::{FilterKey, Mode, add_filter, delete_chain, delete_filter, new_filter};
use tidegate_classifiers::sync::thread;
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::explore::{Rig, explore_beside, two};
use crate::specs::{With, flower, flower_to, gact, send_cached};
use crate::workers::Bursts;

const SHOT: Verdict = Verdict::Drop(DropReason::Filter);

/// [DV-1]: with `Stamps::count` before `Many::admit` in `Many::insert`, or with the sum read after the search in
/// `Many::answer`: never met.
#[test]
fn a_filter_that_comes_is_met() {
    beside_a_cache(&["old", "new"], |rig| _ = add_filter(&rig.block, &flower(9).says(Control::Shot)), SHOT);
}

/// [DV-1]: a mask that no filter had: the cache has not kept what it looks at. Without `Outline::with` in `Many::admit`: the other packet
/// is met by the filter as well.
#[test]
fn a_filter_that_looks_at_more_is_met() {
    let add = |rig: &Rig| _ = add_filter(&rig.block, &flower_to(2).priority(2).says(Control::Shot));
    beside_a_cache(&["old", "new"], add, SHOT);
}

/// [DV-2], [DD-1]: with `Stamps::count` before `unseat` in `Many::remove`, or with the sum read after the search: met for ever,
/// and long after it is gone.
#[test]
fn a_filter_that_goes_is_not_met() {
    let stays = |rig: &Rig| _ = add_filter(&rig.block, &flower(9).handle(9).says(Control::Shot));
    let delete = |rig: &Rig| {
        delete_filter(&rig.block, FilterKey { handle: 9, ..FilterKey::priority(0, 1) }).unwrap();
    };
    beside_a_cache_with(stays, &["old", "new"], delete, Verdict::Pass, SHOT);
}

/// [FO-6], [DV-3]: one or the other, and in the end the new one. It fails for the same reasons, where the count after `seat` in
/// `Many::insert` is concerned.
#[test]
fn a_filter_that_is_replaced_is_met_by_its_successor() {
    let stays = |rig: &Rig| _ = add_filter(&rig.block, &flower(9).handle(9).says(Control::Shot));
    let replace = |rig: &Rig| {
        new_filter(&rig.block, &flower(9).handle(9).says(Control::Trap), Mode::Replace).unwrap();
    };
    beside_a_cache_with(stays, &["old", "new"], replace, Verdict::Trap, SHOT);
}

/// [CH-8]: another index, whose answers are none of the old one's.
#[test]
fn a_chain_that_is_flushed_is_not_met() {
    let stays = |rig: &Rig| _ = add_filter(&rig.block, &flower(9).handle(9).says(Control::Shot));
    let flush = |rig: &Rig| {
        delete_chain(&rig.block, 0).unwrap();
        for n in 1..=3 {
            add_filter(&rig.block, &flower(n).says(Control::Ok)).unwrap();
        }
    };
    beside_a_cache_with(stays, &["old", "new"], flush, Verdict::Pass, SHOT);
}

fn beside_a_cache(outcomes: &[&'static str], change: impl Fn(&Rig) + Send + Sync + 'static, after: Verdict) {
    beside_a_cache_with(|_| (), outcomes, change, after, Verdict::Pass);
}

/// More filters than are asked one by one, and what `prepare` does. One thread does `change` and drives the reaper; a worker with a flow cache
/// sends packets, each in a burst of its own, which meet `before` until they meet `after`. When the change is done, they do.
/// A packet to another address is met by nothing but what `before` says of both.
fn beside_a_cache_with(
    prepare: impl Fn(&Rig) + Send + Sync + 'static,
    outcomes: &[&'static str],
    change: impl Fn(&Rig) + Send + Sync + 'static,
    after: Verdict,
    before: Verdict,
) {
    let bursts = Arc::new(AtomicU64::new(0));
    let quiescence = Arc::clone(&bursts);
    explore_beside(
        outcomes,
        move || Box::new(Bursts(Arc::clone(&quiescence))),
        move |rig| {
            bursts.store(0, Ordering::Relaxed);
            for n in 1..=3 {
                add_filter(&rig.block, &flower(n).actions(&[gact(Control::Ok)])).unwrap();
            }
            prepare(rig);
            rig.plane.reaper().drain();
            let (rig, mut cache) = (&*rig, FlowCache::new(16));
            let send = |cache: &mut FlowCache, from, to| {
                bursts.fetch_add(1, Ordering::Relaxed); // odd: in a burst
                let verdict = send_cached(&rig.block, cache, from, to);
                bursts.fetch_add(1, Ordering::Relaxed);
                verdict
            };
            let ((), seen) = two(
                || {
                    change(rig);
                    rig.plane.reaper().poll();
                    thread::yield_now();
                    rig.plane.reaper().poll();
                },
                || [(); 3].map(|()| send(&mut cache, 9, 2)),
            );
            let first = seen.iter().position(|verdict| *verdict != before).unwrap_or(seen.len());
            assert!(seen[first..].iter().all(|verdict| *verdict == after), "{seen:?}");
            rig.plane.reaper().drain();
            assert_eq!(send(&mut cache, 9, 2), after, "after {seen:?}");
            assert_eq!(send(&mut cache, 9, 2), after, "again");
            assert_eq!(send(&mut cache, 1, 7), if rig.block.head().is_empty() { after } else { Verdict::Pass });
            if seen[2] == before { "old" } else { "new" }
        },
    );
}
