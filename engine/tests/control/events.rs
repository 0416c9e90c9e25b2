//! What subscribers see.

use std::time::Duration;

use serde_json::json;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::SampleSpec;
use tidegate_classifiers::verdict::Control;
use tidegate_client::wire::{BlockName, Mode, Notice, Request};
use tidegate_engine::control::Limits;

use crate::kit::{PATIENCE, Site};

#[test]
fn a_subscriber_sees_what_happens_in_the_order_in_which_it_did() {
    let site = Site::new();
    let mut events = site.client().subscribe().unwrap();
    assert_eq!(events.next_within(Duration::from_millis(50)).unwrap(), None, "nothing happened yet");
    let mut client = site.client();
    client.bind("wan", Some(0), None).unwrap();
    client.add_filter(json!({ "on": "wan", "priority": 5, "action": "drop" })).unwrap();
    client.delete_filter(json!({ "on": "wan", "priority": 5, "handle": 1 })).unwrap();
    client.add_filter(json!({ "on": "wan", "chain": 3, "action": "goto 4" })).unwrap();
    client.unbind("wan").unwrap();
    client.add_actions(json!(["drop"])).unwrap();
    client.flush_actions("gact").unwrap();

    let on = Some(BlockName::from("wan"));
    let mut next = || events.next_within(PATIENCE).unwrap().expect("an event");
    assert_eq!(next(), Notice::ChainAdded { on: on.clone(), chain: 0 });
    match next() {
        Notice::FilterAdded { on: block, mode: Mode::Add, filter } => {
            assert_eq!(
                (block, &filter["priority"], &filter["actions"][0]["action"]),
                (on.clone(), &json!(5), &json!("drop"))
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(next(), Notice::FilterDeleted { filter, .. } if filter["priority"] == 5));
    assert_eq!(next(), Notice::ChainDeleted { on: on.clone(), chain: 0 });
    assert_eq!(next(), Notice::ChainAdded { on: on.clone(), chain: 3 });
    assert!(matches!(next(), Notice::FilterAdded { .. }));
    assert_eq!(next(), Notice::ChainDeleted { on, chain: 3 }, "the block is gone, its name is not [BL-8]");
    assert!(matches!(next(), Notice::ActionsAdded { mode: Mode::Add, actions } if actions[0]["index"] == 1));
    assert_eq!(next(), Notice::ActionsFlushed { kind: "gact".into(), count: 1 });
}

/// [NT-8]
#[test]
fn a_slow_subscriber_is_told_how_much_it_lost_and_holds_nobody_up() {
    const FILTERS: u32 = 2500;
    let site = Site::with_limits(Limits { events: 100, ..Limits::default() });
    let mut events = site.client().subscribe().unwrap();
    let mut client = site.client();
    let filter = |n: u32| json!({ "on": "office", "priority": 1, "handle": n, "protocol": "ip", "match": { "src_ip": format!("10.0.{}.{}", n / 256, n % 256) }, "action": "drop" });
    let requests = (1..=FILTERS).map(|n| Request::AddFilter { filter: filter(n) });
    assert_eq!(client.pipeline(requests).filter(Result::is_ok).count(), FILTERS as usize);
    client.add_chain(json!({ "on": "office", "chain": "scan" })).unwrap();

    let (mut seen, mut lost, mut last) = (0, 0, 0);
    while seen + lost < u64::from(FILTERS) + 2 {
        match events.next_within(PATIENCE).unwrap().expect("an event") {
            Notice::Lost { count } => lost += count,
            Notice::FilterAdded { filter, .. } => {
                let handle = filter["handle"].as_u64().unwrap();
                assert!(handle > last, "{handle} after {last}");
                (seen, last) = (seen + 1, handle);
            }
            Notice::ChainAdded { .. } => seen += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(lost > 0, "it was slow enough to lose some");
    assert_eq!(seen + lost, u64::from(FILTERS) + 2);
}

#[test]
fn a_subscriber_that_speaks_is_cut_off_and_one_that_leaves_makes_room() {
    let site = Site::with_limits(Limits { connections: 2, ..Limits::default() });
    let mut speaker = site.raw();
    assert_eq!(speaker.ask(r#"{"op":"subscribe"}"#), json!({ "ok": "done" }));
    speaker.send(r#"{"op":"status"}"#);
    assert_eq!(speaker.receive(), None);
    for _ in 0..5 {
        let mut listener = site.raw();
        listener.ask(r#"{"op":"subscribe"}"#);
        drop(listener);
        let end = std::time::Instant::now() + PATIENCE;
        let both = || {
            Some((
                tidegate_client::Client::connect(&site.socket).ok()?,
                tidegate_client::Client::connect(&site.socket).ok()?,
            ))
        };
        while both().is_none() {
            assert!(std::time::Instant::now() < end, "the place stays taken");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(50)); // both left again
    }
}

/// [AK-SAMPLE]
#[test]
fn samples_are_told_to_who_listens_to_their_group() {
    const SLOW: u32 = 10_000;
    let site = Site::new();
    let (mut all, mut seven) =
        (site.client().subscribe_samples(None).unwrap(), site.client().subscribe_samples(Some(7)).unwrap());
    let sample = |group, trunc| SampleSpec { rate: 10, group, trunc, control: Control::Pipe };
    assert!(site.samples().show(&sample(8, None), PortId(1), 1, &[0xab, 0xcd, 0]));
    assert!(site.samples().show(&sample(7, Some(2)), PortId(99), 1, &[1; 60]));
    let mut next = |port: Option<&str>, group, length, bytes: &str| match all.next_within(PATIENCE).unwrap() {
        Some(Notice::Sample { port: p, group: g, rate: 10, time_us, length: l, bytes: b }) => {
            assert_eq!((p.as_deref(), g, l, b.as_str()), (port, group, length, bytes));
            let age = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - Duration::from_micros(time_us);
            assert!(age < PATIENCE, "{age:?}");
        }
        other => panic!("{other:?}"),
    };
    next(Some("lan"), 8, 3, "abcd00");
    next(None, 7, 60, "0101");
    assert!(matches!(seven.next_within(PATIENCE).unwrap(), Some(Notice::Sample { group: 7, .. })));

    // What comes too fast is lost, and counted.
    let shown = (0..SLOW).filter(|_| site.samples().show(&sample(7, None), PortId(0), 1, &[2; 1500])).count();
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < u64::from(SLOW) {
        match seven.next_within(PATIENCE).unwrap().expect("a notice") {
            Notice::Sample { .. } => seen += 1,
            Notice::Lost { count } => lost += count,
            other => panic!("{other:?}"),
        }
    }
    assert!(shown as u64 <= seen && lost > 0, "{shown} had room with both, {seen} with one");
    assert!(Site::standalone().client().subscribe_samples(None).is_err(), "no packets come by there");
}

#[test]
fn events_end_with_the_gateway() {
    let mut site = Site::new();
    let mut events = site.client().subscribe().unwrap();
    drop(site.server.take());
    assert!(events.next().is_none());
}
