//! Many requests that take effect at one instant, or not at all.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_client::Client;
use tidegate_client::wire::{Notice, Request};
use tidegate_engine::control::Limits;

use crate::kit::{PATIENCE, Site};
use crate::requests::{handles, refused};

fn filter(n: u32) -> Value {
    let source = format!("10.0.{}.{}", n / 256, n % 256);
    json!({ "on": "office", "priority": 1, "handle": n, "protocol": "ip", "match": { "src_ip": source }, "action": "drop" })
}

fn key(n: u32) -> Value {
    json!({ "on": "office", "priority": 1, "handle": n })
}

/// [TX-3]
#[test]
fn what_is_prepared_is_seen_by_its_client_alone_until_the_commit() {
    let site = Site::new();
    let (mut client, mut other) = (site.client(), site.client());
    client.add_filter(filter(1)).unwrap();
    let mut events = site.client().subscribe().unwrap();
    let mut transaction = client.begin().unwrap();
    transaction.delete_filter(key(1)).unwrap();
    transaction.add_filter(filter(2)).unwrap();
    transaction.add_chain(json!({ "on": "office", "chain": "scan" })).unwrap();
    assert_eq!(handles(&mut transaction, "office"), [2]);
    refused(transaction.get_filter(key(1)), "ENOENT");
    assert_eq!(handles(&mut other, "office"), [1]);
    assert_eq!(other.chains("office").count(), 1);
    assert_eq!(events.next_within(Duration::from_millis(50)).unwrap(), None);

    let first = transaction.commit().unwrap();
    assert_eq!(handles(&mut other, "office"), [2]);
    assert_eq!(other.chains("office").count(), 2);
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        kinds.push(match events.next_within(PATIENCE).unwrap().expect("an event") {
            Notice::FilterAdded { .. } => "added",
            Notice::FilterDeleted { .. } => "deleted",
            Notice::ChainAdded { chain: 7, .. } => "chain",
            other => panic!("{other:?}"),
        });
    }
    kinds.sort_unstable();
    assert_eq!(kinds, ["added", "chain", "deleted"]);
    let mut transaction = client.begin().unwrap();
    transaction.add_filter(filter(3)).unwrap();
    assert!(transaction.commit().unwrap() > first, "generations grow");
}

/// [TX-4]
#[test]
fn an_abort_a_drop_and_the_end_of_the_connection_leave_nothing() {
    let site = Site::new();
    let mut other = site.client();
    other.add_filter(filter(1)).unwrap();
    let prepare = |client: &mut Client| {
        client.delete_filter(key(1)).unwrap();
        client.add_filter(filter(2)).unwrap();
    };

    let mut client = site.client();
    let mut transaction = client.begin().unwrap();
    prepare(&mut transaction);
    transaction.abort().unwrap();
    prepare(&mut client.begin().unwrap()); // dropped at once
    assert_eq!(handles(&mut client, "office"), [1], "the connection goes on");

    let mut broken = site.raw();
    broken.ask(r#"{"op":"begin"}"#);
    broken.ask(&json!({ "op": "delete-filter", "filter": key(1) }).to_string());
    broken.ask(&json!({ "op": "add-filter", "filter": filter(2) }).to_string());
    refused(other.begin().unwrap().add_filter(filter(2)), "EBUSY");
    drop(broken);
    let end = Instant::now() + PATIENCE;
    while other.begin().unwrap().add_filter(filter(2)).is_err() {
        assert!(Instant::now() < end, "the transaction outlives its connection");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(handles(&mut other, "office"), [1]);
}

/// [TX-6]
#[test]
fn a_commit_that_others_have_overtaken_is_refused_and_changes_nothing() {
    let site = Site::new();
    let (mut client, mut other) = (site.client(), site.client());
    client.add_filter(filter(1)).unwrap();
    let mut transaction = client.begin().unwrap();
    transaction.replace_filter(filter(1)).unwrap();
    transaction.add_filter(filter(2)).unwrap();
    other.delete_filter(key(1)).unwrap();
    refused(transaction.commit(), "EAGAIN");
    assert!(handles(&mut client, "office").is_empty());
    refused(client.request(&Request::Commit {}), "EINVAL");
    client.begin().unwrap().commit().unwrap();
}

#[test]
fn a_transaction_that_is_left_open_is_cut_off() {
    let soon = Duration::from_millis(200);
    let site = Site::with_limits(Limits { patience: soon / 4, transaction_patience: soon, ..Limits::default() });
    let mut idle = site.raw();
    idle.ask(r#"{"op":"begin"}"#);
    let mut busy = site.client();
    let mut transaction = busy.begin().unwrap();
    let start = Instant::now();
    for n in 1.. {
        transaction.add_filter(filter(n)).unwrap();
        std::thread::sleep(soon / 4);
        if start.elapsed() > 3 * soon {
            break;
        }
    }
    assert_eq!(idle.receive(), None);
    transaction.commit().unwrap();
}

#[test]
fn what_takes_effect_at_once_has_no_place_in_a_transaction() {
    let site = Site::new();
    let mut client = site.client();
    let mut transaction = client.begin().unwrap();
    refused(transaction.add_actions(json!(["drop"])), "EOPNOTSUPP");
    refused(transaction.flush_actions("gact"), "EOPNOTSUPP");
    refused(transaction.bind("wan", Some(0), None), "EOPNOTSUPP");
    refused(transaction.unbind("wan"), "EOPNOTSUPP");
    refused(transaction.request(&Request::Begin {}), "EBUSY");
    refused(transaction.request(&Request::Subscribe {}), "EBUSY");
    transaction.commit().unwrap();
    assert_eq!(client.actions("gact").count(), 0);
}

#[test]
fn of_a_filter_for_both_families_both_come_or_none() {
    let site = Site::new();
    let (mut client, mut other) = (site.client(), site.client());
    let both = json!({ "on": "office", "priority": 10, "match": { "ip_proto": "udp" }, "action": "pass" });
    other.add_filter(json!({ "on": "office", "priority": 11, "protocol": "arp", "action": "pass" })).unwrap();
    refused(client.add_filter(both.clone()), "EINVAL");
    assert_eq!(handles(&mut other, "office").len(), 1, "the half for IPv4 is not there either");
    other.delete_filter(json!({ "on": "office", "priority": 11 })).unwrap();
    client.add_filter(both).unwrap();
    assert_eq!(handles(&mut other, "office").len(), 2);
}
