//! Many clients at once.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};
use tidegate_client::wire::{Notice, Record, Request};

use crate::kit::{PATIENCE, Site};
use crate::requests::handles;

const CLIENTS: u32 = 10;
const EACH: u32 = 500;

fn filter(n: u32) -> Value {
    let source = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
    json!({ "on": "office", "priority": 1, "handle": n, "protocol": "ip", "match": { "src_ip": source }, "action": "drop" })
}

fn key(n: u32) -> Value {
    json!({ "on": "office", "priority": 1, "handle": n })
}

/// All in one proto: each client's own filters, of which it deletes every other one.
#[test]
fn ten_clients_in_one_proto_leave_exactly_what_they_should() {
    let site = Site::new();
    let mut events = site.client().subscribe().unwrap();
    thread::scope(|scope| {
        for worker in 0..CLIENTS {
            let site = &site;
            scope.spawn(move || {
                let mut client = site.client();
                let mine = worker * EACH + 1..(worker + 1) * EACH + 1;
                let adds = mine.clone().map(|n| Request::AddFilter { filter: filter(n) });
                assert_eq!(client.pipeline(adds).filter(Result::is_ok).count(), EACH as usize);
                let deletes = mine.step_by(2).map(|n| Request::DeleteFilter { filter: key(n) });
                assert_eq!(client.pipeline(deletes).filter(Result::is_ok).count(), EACH as usize / 2);
            });
        }
    });
    let total = CLIENTS * EACH;
    let left: Vec<_> = handles(&mut site.client(), "office");
    assert_eq!(left, (1..=u64::from(total)).filter(|n| n % 2 == 0).collect::<Vec<_>>());

    let (mut added, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    while deleted.len() < total as usize / 2 {
        match events.next_within(PATIENCE).unwrap().expect("an event") {
            Notice::FilterAdded { filter, .. } => assert!(added.insert(filter["handle"].as_u64().unwrap())),
            Notice::FilterDeleted { filter, .. } => {
                let handle = filter["handle"].as_u64().unwrap();
                assert!(added.contains(&handle), "{handle} went before it came");
                assert!(deleted.insert(handle));
            }
            Notice::ChainAdded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(added.len(), total as usize);
}

#[test]
fn of_ten_clients_that_add_the_same_filter_one_succeeds() {
    let site = Site::new();
    let succeeded: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let adds = (1..=EACH).map(|n| Request::AddFilter { filter: filter(n) });
                    let mut client = site.client();
                    let outcomes: Vec<_> = client.pipeline(adds).collect();
                    let refused = |outcome: &&Result<_, tidegate_client::ClientError>| {
                        outcome.as_ref().is_err_and(|e| e.errno() == Some("EEXIST"))
                    };
                    let (ok, exists) =
                        (outcomes.iter().filter(|o| o.is_ok()).count(), outcomes.iter().filter(refused).count());
                    assert_eq!(ok + exists, EACH as usize);
                    ok
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(succeeded, EACH as usize);
}

/// [WK-6]
#[test]
fn a_listing_beside_changes_has_what_stays_exactly_once() {
    let site = Site::new();
    let stays: Vec<u32> = (1..=2000).filter(|n| n % 4 == 0).collect();
    let mut client = site.client();
    let adds = stays.iter().map(|&n| Request::AddFilter { filter: filter(n) });
    assert_eq!(client.pipeline(adds).filter(Result::is_ok).count(), stays.len());
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for offset in 1..4 {
            let (site, done) = (&site, &done);
            scope.spawn(move || {
                let mut client = site.client();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let mine = (0..500).map(|n| 4 * n + offset);
                    client.pipeline(mine.clone().map(|n| Request::AddFilter { filter: filter(n) })).for_each(drop);
                    client.pipeline(mine.map(|n| Request::DeleteFilter { filter: key(n) })).for_each(drop);
                }
            });
        }
        for _ in 0..5 {
            let listed = client.filters(json!({ "on": "office" })).filter_map(|record| match record.unwrap() {
                Record::Filter(filter) => filter["handle"].as_u64(),
                Record::Proto(_) => None,
            });
            let listed: Vec<u64> = listed.collect();
            let unique: BTreeSet<u64> = listed.iter().copied().collect();
            assert_eq!(unique.len(), listed.len(), "nothing is there twice");
            assert!(stays.iter().all(|&n| unique.contains(&u64::from(n))), "what stays is there");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
