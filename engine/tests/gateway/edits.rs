//! Actions that edit packets, and limits to a rate, on the wire.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_classifiers::verdict::DropReason;
use tidegate_client::wire::Notice;

use crate::frames::{self, udp, udps};
use crate::kit::{PATIENCE, SILENCE, Site, arrives, filter, port, wire};

/// The only filter, for everything that comes in at a.
fn edits(actions: &str) -> String {
    format!("[[filter]]\non = \"a\"\nname = \"edit\"\nactions = [{actions}]\n")
}

/// [AK-VLAN], [AV-6]
#[test]
fn tags_come_and_go_and_a_copy_is_what_was_before() {
    let Some(site) = Site::new(&["a", "b", "c"]) else { return };
    let config = |actions: &str| format!("{}[port.c]\nforward_to = \"host\"\n", wire(&edits(actions)));
    let (plain, tagged) = (udps(9, 10), (0..10).map(|number| frames::vlan(5, number)).collect::<Vec<_>>());
    let with = |frames: &[Vec<u8>], tag: [u8; 4], instead: usize| -> Vec<Vec<u8>> {
        let one = |frame: &Vec<u8>| [&frame[..12], &tag[..], &frame[12 + instead..]].concat();
        frames.iter().map(one).collect()
    };
    let without = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
        frames.iter().map(|frame| [&frame[..12], &frame[16..]].concat()).collect()
    };
    for (action, sent, expected) in [
        ("vlan push 10 priority 3", &plain, with(&plain, [0x81, 0, 0x60, 10], 0)),
        ("vlan push 10 protocol 802.1ad", &tagged, with(&tagged, [0x88, 0xa8, 0, 10], 0)),
        ("vlan modify 10", &tagged, with(&tagged, [0x81, 0, 0, 10], 4)),
        ("vlan pop", &tagged, without(&tagged)),
    ] {
        let gateway = site.start(&config(&format!("\"mirror c\", \"{action}\"")));
        let (mut a, mut b, mut c) = (site.station("a"), site.station("b"), site.station("c"));
        for frame in sent {
            assert!(a.send(frame));
        }
        gateway.settled(10);
        arrives(&mut b, &expected);
        arrives(&mut c, sent);
        gateway.stop();
    }
}

/// [AK-VLAN], [AK-PEDIT], [AK-CSUM], [AK-NAT]
#[test]
fn edits_run_in_order_and_what_cannot_be_edited_is_a_counted_drop() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let actions =
        "\"pedit ip ttl add 255 and udp dport set 99\", \"csum ip udp\", \"nat egress 10.0.0.0/24 192.0.2.0\"";
    let gateway = site.start(&wire(&edits(actions)));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    assert!(a.send(&udp(9, 1000, 64)));
    gateway.settled(1);
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([192, 0, 2, 1], [10, 0, 0, 2], 63)
        .udp(1000, 99);
    let got = b.recv(PATIENCE).unwrap();
    let mut expected = Vec::new();
    builder.write(&mut expected, &got[42..]).unwrap();
    assert_eq!(got, expected);
    assert!(a.send(&udp(9, 1000, 64)[..30]));
    let status = gateway.settled(2);
    assert_eq!((b.recv(SILENCE), port(&status, "a").totals.dropped[DropReason::Edit.index()]), (None, 1));
    assert_eq!(filter(&status, "edit").packets, 2);
    gateway.stop();
}

/// [AK-SAMPLE]
#[test]
fn what_is_sampled_is_heard_at_the_control_socket() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let actions = "\"sample rate 1 group 7 trunc 20\", \"sample rate 1 group 8\", \"vlan push 10\"";
    let gateway = site.start(&wire(&edits(actions)));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    let [mut cut, mut whole] = [7, 8].map(|group| gateway.client().subscribe_samples(Some(group)).unwrap());
    let mut program = site.client_command(&["samples", "--group", "8"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = program.stdout.take().unwrap();
    printed.read_exact(&mut [0; 24]).unwrap(); // the header: from here on it listens
    let frames = udps(9, 10);
    for frame in &frames {
        assert!(a.send(frame));
    }
    gateway.settled(10);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for frame in &frames {
        for (events, kept) in [(&mut cut, 20), (&mut whole, frame.len())] {
            match events.next_within(PATIENCE).unwrap() {
                Some(Notice::Sample { port: Some(port), rate: 1, length, bytes, .. }) => {
                    assert_eq!((port.as_str(), length as usize, bytes), ("a", frame.len(), hex(&frame[..kept])));
                }
                other => panic!("{other:?}"),
            }
        }
        let mut packet = vec![0; 16 + frame.len()];
        printed.read_exact(&mut packet).unwrap();
        assert_eq!(packet[16..], frame[..]);
    }
    assert_eq!(b.recv(PATIENCE).map(|frame| frame.len()), Some(frames[0].len() + 4), "and goes its way");
    gateway.stop();
    assert!(program.wait().unwrap().success(), "it ends with the gateway");
}

/// [AK-NAT]: what the kernels at both ends send has right checksums when it arrives, or there would be no connection.
#[test]
fn a_tcp_connection_goes_through_nat() {
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
    const KNOWN_AS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 99);
    let Some(site) = Site::new(&["a"]) else { return };
    let server = site.lab.namespace("server").unwrap();
    site.lab.veth((&site.gateway, "b"), (&server, "far-b"), 1).unwrap();
    site.gateway.disable_ipv6("b").unwrap();
    for (namespace, interface, address) in [(&site.far, "far-a", CLIENT), (&server, "far-b", SERVER)] {
        namespace.disable_ipv6(interface).unwrap();
        namespace.address(interface, IpAddr::V4(address), 24).unwrap();
        namespace.offloads_off(interface).unwrap();
    }
    let ip = |namespace: &tidegate_engine::lab::Namespace, words: &str| {
        assert!(namespace.exec("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
    };
    ip(&server, "link set far-b address 02:00:00:00:00:0b");
    ip(&site.far, &format!("neigh add {KNOWN_AS} lladdr 02:00:00:00:00:0b dev far-a"));
    let there = format!("nat ingress {KNOWN_AS} {SERVER}");
    let back = format!("nat egress {SERVER} {KNOWN_AS}");
    let config = wire(&format!(
        "[[filter]]\non = \"a\"\nprotocol = \"ip\"\naction = \"{there}\"\n[[filter]]\non = \"b\"\nprotocol = \"ip\"\naction = \"{back}\"\n"
    ));
    let gateway = site.start(&config);
    let listener = server.inside(|| TcpListener::bind((SERVER, 80)).unwrap()).unwrap();
    let echo = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), IpAddr::V4(CLIENT));
        let mut data = Vec::new();
        stream.read_to_end(&mut data).unwrap();
        stream.write_all(&data).unwrap();
    });
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut stream = site.far.inside(|| TcpStream::connect_timeout(&(KNOWN_AS, 80).into(), PATIENCE).unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    echo.join().unwrap();
    assert_eq!(got.len(), sent.len());
    assert!(got == sent, "the bytes are the same");
    gateway.stop();
}

/// [AK-POLICE]
#[test]
fn a_limit_holds_on_the_wire() {
    const BURST: u64 = 50; // a second of them: longer than anybody stands still here
    const RATE: f64 = 50.0;
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let gateway = site.start(&wire(&edits(&format!("\"police pkts_rate {RATE} pkts_burst {BURST}\""))));
    let (mut a, _b) = (site.station("a"), site.station("b"));
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        assert!(a.send(&udp(9, 1, 64)));
        sent += 1;
        thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed().as_secs_f64();
    let status = gateway.settled(sent);
    let totals = &port(&status, "a").totals;
    let expected = BURST as f64 + RATE * took;
    let passed = totals.forwarded_packets as f64;
    assert!((passed - expected).abs() <= 0.1 * expected, "{passed} of {sent} in {took:.2} s, {expected:.0} expected");
    assert_eq!(totals.dropped[DropReason::Filter.index()], sent - totals.forwarded_packets);
    gateway.stop();
}
