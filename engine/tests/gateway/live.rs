//! Filters and bindings that come and go while packets do.

use serde_json::json;

use crate::frames::udps;
use crate::kit::{Site, arrives, filter, wire};

const DISCARD: &str = "protocol = \"ip\"\nmatch = { ip_proto = \"udp\", dst_port = 9 }\naction = \"drop\"\n";

/// [BL-1], [BL-4]
#[test]
fn packets_meet_what_clients_bind_and_add_from_the_reply_on() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let gateway = site.start(&wire(""));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    let mut client = gateway.client();
    let discard = json!({ "on": "a", "name": "discard", "protocol": "ip", "match": { "ip_proto": "udp", "dst_port": 9 }, "action": "drop" });
    let mut send = |received: u64, expected: &[Vec<u8>]| {
        udps(9, 10).iter().for_each(|frame| assert!(a.send(frame)));
        gateway.settled(received);
        arrives(&mut b, expected);
    };
    send(10, &udps(9, 10));
    assert_eq!(client.add_filter(discard.clone()).unwrap_err().errno(), Some("EINVAL"), "no block yet");
    assert_eq!(client.bind("a", None, Some(0)).unwrap_err().errno(), Some("EOPNOTSUPP"));
    client.bind("a", Some(0), None).unwrap();
    send(20, &udps(9, 10));
    client.add_filter(discard).unwrap();
    send(30, &[]);
    assert_eq!(filter(&gateway.status(), "discard").packets, 10);
    client.unbind("a").unwrap();
    send(40, &udps(9, 10));
    assert!(gateway.status().filters.is_empty());
    gateway.stop();
}

#[test]
fn what_the_file_bound_can_be_changed_but_not_unbound() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let gateway = site.start(&wire(&format!("[[filter]]\non = \"a\"\nname = \"discard\"\n{DISCARD}")));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    let mut client = gateway.client();
    assert_eq!(client.unbind("a").unwrap_err().errno(), Some("EPERM"));
    let mut transaction = client.begin().unwrap();
    transaction.delete_filter(json!({ "on": "a" })).unwrap();
    transaction
        .add_filter(json!({ "on": "a", "name": "mirror", "match": {}, "actions": ["mirror b", "drop"] }))
        .unwrap();
    udps(9, 10).iter().for_each(|frame| assert!(a.send(frame)));
    gateway.settled(10);
    arrives(&mut b, &[]);
    transaction.commit().unwrap();
    udps(9, 10).iter().for_each(|frame| assert!(a.send(frame)));
    gateway.settled(20);
    arrives(&mut b, &udps(9, 10));
    assert_eq!(filter(&gateway.status(), "mirror").packets, 10);
    gateway.stop();
}
