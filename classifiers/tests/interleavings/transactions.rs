//! Commits beside packets, requests and each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::request::{FilterKey, Mode, add_chain, add_filter, delete_filter, get_filter, new_filter};
use tidegate_classifiers::sync::thread;
use tidegate_classifiers::transaction::{Conflict, Transaction};
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};

use crate::explore::{Rig, explore, explore_beside, three, two};
use crate::specs::{With, burst, done, flower, gact, matchall, send, send_at};
use crate::workers::Bursts;

const SHOT: Verdict = Verdict::Drop(DropReason::Filter);

/// [TX-1], [TX-10], [TX-11]: two filters in two chains are replaced, one by a filter of another kind, while a worker has a burst and
/// others drive the reaper: the packets of the burst meet both old filters, or both new ones. With the generation stored
/// before the spans are written, with filters unlinked at once in `Transaction::flip`, or with the head loaded before the
/// generation: they meet one of each, or none.
#[test]
fn a_burst_meets_all_of_a_commit_or_nothing() {
    let bursts = Arc::new(AtomicU64::new(0));
    let quiescence = Arc::clone(&bursts);
    explore_beside(
        &["old", "new"],
        move || Box::new(Bursts(Arc::clone(&quiescence))),
        move |rig| {
            bursts.store(0, Ordering::Relaxed);
            let block = &rig.block;
            add_filter(block, &flower(1).actions(&[gact(Control::Goto(5))])).unwrap();
            add_filter(block, &flower(1).chain(5).says(Control::Shot)).unwrap();
            add_filter(block, &flower(2).says(Control::Shot)).unwrap();
            rig.plane.reaper().drain();
            let tx = rig.plane.begin();
            tx.delete_filter(block, FilterKey::priority(5, 1)).unwrap();
            tx.new_filter(block, &matchall().chain(5).says(Control::Trap), Mode::Add).unwrap();
            let rig = &*rig;
            let ((), verdicts, ()) = three(
                || {
                    tx.new_filter(block, &flower(2).handle(2).says(Control::Trap), Mode::Replace).unwrap();
                    tx.commit().unwrap();
                    thread::yield_now();
                    rig.plane.reaper().poll();
                },
                || {
                    bursts.fetch_add(1, Ordering::Relaxed); // odd: in a burst
                    let burst = burst(block);
                    let first = send_at(block, &burst, 2, 9);
                    thread::yield_now();
                    let second = send_at(block, &burst, 1, 9);
                    bursts.fetch_add(1, Ordering::Relaxed); // even: idle
                    [first, second]
                },
                || {
                    thread::yield_now();
                    rig.plane.reaper().poll();
                },
            );
            rig.plane.reaper().drain();
            assert_eq!([send(block, 2, 9), send(block, 1, 9)], [Verdict::Trap; 2]);
            match verdicts {
                [SHOT, SHOT] => "old",
                [Verdict::Trap, Verdict::Trap] => "new",
                other => panic!("a mixture: {other:?}"),
            }
        },
    );
}

/// [TX-6]: a client changes the filter that is being replaced: before the commit, which is refused, or after it. Without the
/// last line of `Roster::make_way`: the commit does not know, and the client's filter is lost.
#[test]
fn a_replacement_comes_before_a_commit_or_after_it() {
    race(
        |tx, rig| {
            tx.new_filter(&rig.block, &flower(1).handle(1).says(Control::Trap), Mode::Replace).unwrap();
        },
        |rig| new_filter(&rig.block, &flower(4).handle(1).says(Control::Shot), Mode::Change).map(drop),
        |rig, plain, committed| {
            let verdicts = [send(&rig.block, 1, 9), send(&rig.block, 4, 9)];
            assert_eq!((plain, verdicts), (Ok(()), [Verdict::Pass, SHOT]), "the client's filter");
            if committed { "after" } else { "before" }
        },
    );
}

/// [TX-6]: a client deletes the filter that is being replaced. Without the claim withdrawn in `Roster::delete`: the new filter comes
/// back.
#[test]
fn a_delete_comes_before_a_commit_or_after_it() {
    race(
        |tx, rig| {
            tx.new_filter(&rig.block, &flower(1).handle(1).says(Control::Trap), Mode::Replace).unwrap();
        },
        |rig| delete_filter(&rig.block, FilterKey { handle: 1, ..FilterKey::priority(0, 1) }),
        |rig, plain, committed| {
            assert_eq!((plain, send(&rig.block, 1, 9)), (Ok(()), Verdict::Pass), "nothing");
            if committed { "after" } else { "before" }
        },
    );
}

/// [TX-6], [ER-3]: a client adds a filter with the key of a prepared one. Without the rivals in `Roster::make_way`: there are two.
/// Without `committing` in `Ledger::overtake`: a commit takes place without a part of it.
#[test]
fn a_key_is_the_clients_or_the_transactions() {
    race(
        |tx, rig| {
            tx.new_filter(&rig.block, &flower(3).handle(7).says(Control::Trap), Mode::Add).unwrap();
        },
        |rig| new_filter(&rig.block, &flower(3).handle(8).says(Control::Shot), Mode::Add).map(drop),
        |rig, plain, committed| match (plain.map_err(RequestError::errno), committed, send(&rig.block, 3, 9)) {
            (Ok(()), false, SHOT) => "before",
            (Err("EEXIST"), true, Verdict::Trap) => "after",
            other => panic!("{other:?}"),
        },
    );
}

/// [TX-8], [TX-6]: a client makes the priority that a transaction has made, as another kind. Without `Chain::take_over`: the priority
/// has two kinds.
#[test]
fn a_new_priority_is_the_clients_or_the_transactions() {
    race(
        |tx, rig| {
            tx.new_filter(&rig.block, &flower(3).priority(2).says(Control::Trap), Mode::Add).unwrap();
        },
        |rig| add_filter(&rig.block, &matchall().priority(2).says(Control::Shot)).map(drop),
        |rig, plain, committed| match (plain.map_err(RequestError::errno), committed, send(&rig.block, 3, 9)) {
            (Ok(()), false, SHOT) => "before",
            (Err("EINVAL"), true, Verdict::Trap) => "after",
            other => panic!("{other:?}"),
        },
    );
}

/// [TX-8]: a client adds a filter to a priority that a transaction gives to another kind. Without `heir` in `Roster::check_open`: the
/// filter goes where the commit leaves nothing, and the priority has two kinds.
#[test]
fn a_priority_is_of_the_old_kind_or_the_new_one() {
    explore(&["before", "overtaken", "after"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let tx = rig.plane.begin();
        tx.delete_filter(block, FilterKey::priority(0, 1)).unwrap();
        let (committed, plain) = two(
            || {
                tx.new_filter(block, &matchall().says(Control::Trap), Mode::Add)?;
                Ok(tx.commit().is_ok())
            },
            || add_filter(block, &flower(3).says(Control::Shot)),
        );
        match (committed.map_err(RequestError::errno), done(plain.map(drop)), send(block, 3, 9)) {
            (Err("EINVAL"), Ok(_), SHOT) => "before",
            (Ok(false), Ok(_), SHOT) => "overtaken",
            (Ok(true), Err("EINVAL"), Verdict::Trap) => "after",
            other => panic!("{other:?}"),
        }
    });
}

/// [TX-15]: a client makes the chain that a transaction has made. Without `Member::take_over`: both do.
#[test]
fn a_new_chain_is_the_clients_or_the_transactions() {
    race(
        |tx, rig| tx.add_chain(&rig.block, 5).unwrap(),
        |rig| add_chain(&rig.block, 5),
        |_, plain, committed| match (plain.map_err(RequestError::errno), committed) {
            (Ok(()), false) => "before",
            (Err("EEXIST"), true) => "after",
            other => panic!("{other:?}"),
        },
    );
}

/// [TX-11], [CC-4]: a client deletes the last filter of a priority while a transaction adds one, and commits. Without claims in what
/// counts as empty: the new one is lost.
#[test]
fn a_prepared_filter_keeps_its_priority() {
    explore(&["there"], |rig| {
        let block = &rig.block;
        let last = add_filter(block, &flower(1)).unwrap();
        let tx = rig.plane.begin();
        let (deleted, committed) = two(
            || delete_filter(block, last),
            || {
                tx.new_filter(block, &flower(3).says(Control::Trap), Mode::Add).unwrap();
                tx.commit()
            },
        );
        deleted.unwrap();
        committed.unwrap();
        assert_eq!(send(block, 3, 9), Verdict::Trap);
        "there"
    });
}

/// [TX-2], [TX-7]: two transactions want one filter: one of them gets it.
#[test]
fn of_two_transactions_one_has_the_filter() {
    explore(&["first", "second", "both"], |rig| {
        let (plane, block) = (&rig.plane, &rig.block);
        add_filter(block, &flower(1).says(Control::Shot)).unwrap();
        let replace = |control| {
            let tx = plane.begin();
            let done = done(tx.new_filter(block, &flower(1).handle(1).says(control), Mode::Replace).map(drop));
            tx.commit().unwrap();
            done
        };
        let results = two(|| replace(Control::Trap), || replace(Control::Ok));
        match (results, send(block, 1, 9)) {
            ((Ok(_), Err("EBUSY")), Verdict::Trap) => "first",
            ((Err("EBUSY"), Ok(_)), Verdict::Pass) => "second",
            ((Ok(_), Ok(_)), Verdict::Trap | Verdict::Pass) => "both", // one after the other
            other => panic!("{other:?}"),
        }
    });
}

/// [TX-2]: two requests of one transaction meet in one handle: one is there after the other.
#[test]
fn requests_of_one_transaction_come_in_an_order() {
    explore(&["first", "second"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1).says(Control::Shot)).unwrap();
        let tx = rig.plane.begin();
        let replace = |control| tx.new_filter(block, &flower(1).handle(1).says(control), Mode::Replace);
        let (a, b) = two(|| replace(Control::Trap), || replace(Control::Ok));
        a.and(b).unwrap();
        assert_eq!(send(block, 1, 9), SHOT);
        tx.commit().unwrap();
        match send(block, 1, 9) {
            Verdict::Trap => "first",
            Verdict::Pass => "second",
            other => panic!("{other:?}"),
        }
    });
}

/// [TX-4]: a transaction is dropped while a client takes what it has prepared.
#[test]
fn what_is_overtaken_can_be_dropped() {
    explore(&["there"], |rig| {
        let block = &rig.block;
        add_filter(block, &flower(1)).unwrap();
        let tx = rig.plane.begin();
        tx.new_filter(block, &flower(1).handle(1).says(Control::Trap), Mode::Replace).unwrap();
        tx.new_filter(block, &flower(3).handle(3).says(Control::Trap), Mode::Add).unwrap();
        let ((), added) = two(|| drop(tx), || new_filter(block, &flower(3).handle(3).says(Control::Shot), Mode::Add));
        added.unwrap();
        assert_eq!((send(block, 1, 9), send(block, 3, 9)), (Verdict::Pass, SHOT));
        "there"
    });
}

/// A filter for packets from 1 is there. A transaction has prepared something, and a filter of priority 9 which nobody else wants; it is
/// committed beside a plain request. `outcome` gets what that was told, and whether the commit took place.
fn race(
    prepare: impl Fn(&Transaction, &Rig) + Send + Sync + 'static,
    plain: impl Fn(&Rig) -> Result<(), RequestError> + Send + Sync + 'static,
    outcome: impl Fn(&Rig, Result<(), RequestError>, bool) -> &'static str + Send + Sync + 'static,
) {
    explore(&["before", "after"], move |rig| {
        add_filter(&rig.block, &flower(1).says(Control::Shot)).unwrap();
        let tx = rig.plane.begin();
        prepare(&tx, rig);
        tx.new_filter(&rig.block, &flower(99).priority(9), Mode::Add).unwrap();
        let shared = &*rig;
        let (committed, plain) = two(|| tx.commit(), || plain(shared));
        let committed = match committed {
            Ok(_) => true,
            Err(Conflict { transaction, overtaken }) => {
                assert_eq!(overtaken.len(), 1, "{overtaken:?}");
                drop(transaction);
                false
            }
        };
        let there = get_filter(&rig.block, FilterKey { handle: 1, ..FilterKey::priority(0, 9) }).is_ok();
        assert_eq!(there, committed, "nothing of a refused commit");
        outcome(rig, plain, committed)
    });
}
