//! Clients that hurt nobody but themselves.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_classifiers::plane::Plane;
use tidegate_client::wire::Request;
use tidegate_engine::control::{Limits, Server, Service};

use crate::kit::{PATIENCE, Raw, Site, framed};

/// Limits that are met soon.
fn tight() -> Limits {
    let soon = Duration::from_millis(300);
    Limits { patience: soon, subscriber_patience: soon, transaction_patience: soon, ..Limits::default() }
}

#[track_caller]
fn served(site: &Site) {
    assert_eq!(site.client().status().unwrap().pid, 4711);
}

#[track_caller]
fn errno(reply: &Value, expected: &str) {
    assert_eq!(reply["error"]["errno"], expected, "{reply}");
}

#[test]
fn what_is_no_request_gets_a_reason_and_the_connection_goes_on() {
    let site = Site::new();
    let mut client = site.raw();
    for nonsense in [
        "",
        "nonsense",
        "{",
        "[]",
        "{}",
        "null",
        "\u{0}",
        r#"{"op":7}"#,
        r#"{"op":"status","now":1}"#,
        r#"{"op":"restart-worker"}"#,
        r#"{"op":"restart-worker","worker":-1}"#,
        r#"{"op":"restart-worker","worker":1e99}"#,
    ] {
        errno(&client.ask(nonsense), "EBADMSG");
    }
    client.0.write_all(&[0, 0, 0, 2, 0xff, 0xfe]).unwrap();
    errno(&client.receive().unwrap(), "EBADMSG");
    let deep = "[".repeat(20_000);
    errno(&client.ask(&deep), "EBADMSG");
    assert_eq!(client.ask(r#"{"op":"restart-worker","worker":0}"#), json!({ "ok": "done" }));
}

#[test]
fn a_message_that_is_too_long_ends_the_connection_before_it_is_read() {
    let site = Site::with_limits(Limits { request: 1000, ..tight() });
    for length in [1001, 1 << 20, u32::MAX] {
        let mut client = site.raw();
        client.0.write_all(&u32::to_be_bytes(length)).unwrap();
        errno(&client.receive().unwrap(), "EMSGSIZE");
        assert_eq!(client.receive(), None);
    }
    let mut client = site.raw();
    let longest = format!("{:1000}", r#"{"op":"restart-worker","worker":0}"#);
    assert_eq!(client.ask(&longest), json!({ "ok": "done" }));
}

#[test]
fn who_does_not_end_a_message_is_cut_off_and_others_are_served_meanwhile() {
    let site = Site::with_limits(tight());
    let beginnings: [&[u8]; 4] = [&[0], &[0, 0, 0], &[0, 0, 0, 20], &framed(r#"{"op":"status"}"#)[..10]];
    let mut halves: Vec<Raw> = beginnings.iter().map(|_| site.raw()).collect();
    for (client, beginning) in halves.iter_mut().zip(beginnings) {
        client.0.write_all(beginning).unwrap();
    }
    served(&site);
    for mut client in halves {
        assert_eq!(client.receive(), None);
    }
}

#[test]
fn who_is_silent_between_messages_is_left_alone() {
    let site = Site::with_limits(tight());
    let mut client = site.raw();
    std::thread::sleep(4 * tight().patience);
    assert_eq!(client.ask(r#"{"op":"restart-worker","worker":0}"#), json!({ "ok": "done" }));
}

#[test]
fn replies_come_also_while_the_next_request_is_only_half_there() {
    let site = Site::with_limits(Limits { patience: PATIENCE, ..Limits::default() });
    let mut client = site.raw();
    let (one, next) =
        (framed(r#"{"op":"restart-worker","worker":0}"#), framed(r#"{"op":"restart-worker","worker":1}"#));
    client.0.write_all(&[&one[..], &next[..7]].concat()).unwrap();
    client.0.set_read_timeout(Some(PATIENCE / 2)).unwrap();
    assert_eq!(client.receive().unwrap(), json!({ "ok": "done" }));
    client.0.write_all(&next[7..]).unwrap();
    errno(&client.receive().unwrap(), "ENOENT");
}

#[test]
fn who_is_slow_to_take_the_records_of_a_listing_is_not_cut_off() {
    let site = Site::with_limits(tight());
    let mut client = site.client();
    let actions = ["pipe"; 30];
    let filter = |n: u32| json!({ "on": "office", "priority": n, "actions": actions });
    let adds = (1..=600).map(|n| Request::AddFilter { filter: filter(n) });
    assert_eq!(client.pipeline(adds).filter(Result::is_ok).count(), 600);
    let mut listed = 0;
    for record in client.filters(json!({ "on": "office" })) {
        record.unwrap();
        if listed % 256 == 0 {
            std::thread::sleep(3 * tight().patience); // a page is more than a socket holds
        }
        listed += 1;
    }
    assert_eq!(listed, 1200);
}

#[test]
fn who_takes_no_replies_is_cut_off_and_others_are_served_meanwhile() {
    let site = Site::with_limits(tight());
    let mut greedy = site.raw();
    greedy.0.set_write_timeout(Some(PATIENCE)).unwrap();
    let requests = framed(r#"{"op":"dump-blocks"}"#).repeat(1000);
    let start = Instant::now();
    let cut = loop {
        if let Err(e) = greedy.0.write_all(&requests) {
            break e;
        }
        served(&site);
        assert!(start.elapsed() < PATIENCE, "it goes on and on");
    };
    assert!(matches!(cut.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset), "{cut}");
    served(&site);
}

#[test]
fn a_subscriber_that_takes_nothing_is_cut_off() {
    let site = Site::with_limits(tight());
    let mut deaf = site.raw();
    deaf.ask(r#"{"op":"subscribe"}"#);
    let mut client = site.client();
    let start = Instant::now();
    // What it was sent is still there for it; what follows is the end.
    for round in 0.. {
        client.add_chain(json!({ "on": "office", "chain": round })).unwrap();
        client.delete_chain(json!({ "on": "office", "chain": round })).unwrap();
        if round % 5000 == 4999 {
            std::thread::sleep(2 * tight().patience);
            let mut rest = Vec::new();
            deaf.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            if deaf.0.read_to_end(&mut rest).is_ok() {
                break;
            }
        }
        assert!(start.elapsed() < 3 * PATIENCE, "it is still subscribed");
    }
}

#[test]
fn too_many_connections_are_refused_with_a_reason_and_room_is_found_again() {
    let site = Site::with_limits(Limits { connections: 8, connections_per_user: 4, ..Limits::default() });
    let mut open: Vec<Raw> = (0..4).map(|_| site.raw()).collect();
    let refused = tidegate_client::Client::connect(&site.socket).unwrap_err();
    assert_eq!(refused.errno(), Some("EAGAIN"), "{refused}");
    assert_eq!(open[3].ask(r#"{"op":"restart-worker","worker":0}"#), json!({ "ok": "done" }));
    drop(open.pop());
    let end = Instant::now() + PATIENCE;
    while tidegate_client::Client::connect(&site.socket).is_err() {
        assert!(Instant::now() < end, "the place stays taken");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_asks_too_fast_waits_and_others_do_not() {
    let site = Site::with_limits(Limits { rate: 20_000, ..Limits::default() });
    let mut fast = site.raw();
    let request = format!("{:996}", r#"{"op":"restart-worker","worker":0}"#);
    fast.0.write_all(&framed(&request).repeat(40)).unwrap();
    let start = Instant::now();
    served(&site);
    assert!(start.elapsed() < Duration::from_millis(500), "others wait for it");
    for _ in 0..40 {
        assert_eq!(fast.receive().unwrap(), json!({ "ok": "done" }));
    }
    // 40 KB at 20 KB/s, the first second of which is free.
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
}

#[test]
fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
    let mut site = Site::new();
    let start = || {
        let service = Arc::new(Service::standalone(Plane::standalone(1)));
        Server::start(&site.socket, "no-such-group", service, Limits::default())
    };
    assert_eq!(start().unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(site.server.take());
    assert!(!site.socket.exists());
    drop(UnixListener::bind(&site.socket).unwrap());
    assert!(site.socket.exists(), "a closed listener leaves its path behind");
    let start = || {
        let service = Arc::new(Service::standalone(Plane::standalone(1)));
        Server::start(&site.socket, "no-such-group", service, Limits::default())
    };
    drop(start().unwrap());
}

#[test]
fn the_end_of_the_server_is_the_end_of_its_connections() {
    let mut site = Site::new();
    let (mut silent, mut subscriber) = (site.raw(), site.raw());
    subscriber.ask(r#"{"op":"subscribe"}"#);
    let mut half = site.raw();
    half.0.write_all(&[0, 0]).unwrap();
    let start = Instant::now();
    drop(site.server.take());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    for client in [&mut silent, &mut subscriber, &mut half] {
        assert_eq!(client.receive(), None);
    }
    assert!(UnixStream::connect(&site.socket).is_err());
}

/// Values that requests may be made of, right and wrong.
fn value() -> impl Strategy<Value = Value> {
    let words = &[
        "office",
        "wan",
        "lan/egress",
        "nobody",
        "scan",
        "drop",
        "goto 7",
        "goto scan",
        "mirror lan",
        "redirect dmz",
        "gact",
        "mirred",
        "flower",
        "matchall",
        "u32",
        "fw",
        "ip",
        "ipv6",
        "all",
        "tcp",
        "10.0.0.0/8",
        "800::1",
        "c0ffee",
        "pass random determ drop 3",
        "jump 1",
        "",
        "0.0.-",
        "1.2.3",
    ];
    let leaf = prop_oneof![
        4 => prop::sample::select(&words[..]).prop_map(Value::from).boxed(),
        2 => (0_u64..40).prop_map(Value::from).boxed(),
        1 => any::<i64>().prop_map(Value::from).boxed(),
        1 => any::<f64>().prop_map(Value::from).boxed(),
        1 => any::<bool>().prop_map(Value::from).boxed(),
        1 => Just(Value::Null).boxed(),
        1 => ".{0,8}".prop_map(Value::from).boxed(),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from).boxed(),
            3 => table(inner).boxed(),
        ]
    })
}

fn table(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let keys = &[
        "on", "chain", "priority", "protocol", "handle", "kind", "match", "action", "actions", "index", "cookie",
        "name", "class", "src_ip", "dst_port", "ip_proto", "indev", "keys", "mark", "ports",
    ];
    prop::collection::vec((prop::sample::select(&keys[..]), values), 0..7)
        .prop_map(|fields| fields.into_iter().collect())
}

fn request() -> impl Strategy<Value = Value> {
    let ops = &[
        "status",
        "restart-worker",
        "add-filter",
        "replace-filter",
        "change-filter",
        "delete-filter",
        "get-filter",
        "dump-filters",
        "add-chain",
        "change-chain",
        "delete-chain",
        "get-chain",
        "dump-chains",
        "add-actions",
        "replace-actions",
        "delete-actions",
        "get-action",
        "flush-actions",
        "dump-actions",
        "bind",
        "unbind",
        "dump-blocks",
        "begin",
        "commit",
        "abort",
    ];
    let fields =
        &["worker", "filter", "chain", "actions", "action", "kind", "on", "after", "max", "port", "ingress", "egress"];
    let more = prop::collection::vec((prop::sample::select(&fields[..]), value()), 0..4);
    let object = prop_oneof![3 => table(value()).boxed(), 1 => value().boxed()];
    (prop::sample::select(&ops[..]), object, more, any::<bool>()).prop_map(|(op, object, more, plain)| {
        let mut request = json!({ "op": op });
        let of = ["filter", "chain", "actions", "action"].into_iter().find(|of| op.ends_with(of));
        if let Some(of) = of {
            request[of] = object;
            if request[of].is_object() {
                request[of]["on"] = "office".into();
            }
        }
        if !plain {
            for (field, value) in more {
                request[field] = value;
            }
        }
        request
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever is asked, each request has one reply, and afterwards the gateway serves as before.
    #[test]
    fn any_requests_are_answered_one_by_one(requests in prop::collection::vec(request(), 1..30)) {
        let site = Site::new();
        let mut client = site.raw();
        for request in &requests {
            let reply = client.ask(&request.to_string());
            prop_assert!(reply.get("ok").is_some() || reply["error"]["errno"].is_string(), "{} {}", request, reply);
        }
        served(&site);
    }

    #[test]
    fn any_bytes_leave_the_gateway_serving(bytes in prop::collection::vec(any::<u8>(), 0..300), claims in prop::option::of(0_u32..400)) {
        let site = Site::with_limits(tight());
        let mut client = site.raw();
        let length = claims.map(u32::to_be_bytes);
        let _ = client.0.write_all(length.as_ref().map_or(&[], |length| &length[..]));
        let _ = client.0.write_all(&bytes);
        let _ = client.0.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = client.0.read_to_end(&mut rest);
        served(&site);
    }
}
