//! What frames may look like, and how many ways they may go at once.

use std::time::{Duration, Instant};

use tidegate_classifiers::verdict::DropReason;

use crate::frames::{fragment, qinq, tcp6, udp, udps, unknown, vlan};
use crate::kit::{Site, arrives, balanced, filter, port, wire};

#[test]
fn frames_of_every_shape_cross_byte_for_byte_both_ways() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let gateway = site.start(&wire(""));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    let frames = vec![
        udp(9, 1, 60),
        udp(9, 2, 1514),
        vlan(7, 3),
        qinq(7, 8, 4),
        tcp6(443),
        fragment(9, true),
        fragment(9, false),
        unknown(60),
        unknown(1514),
    ];
    for frame in &frames {
        assert!(a.send(frame) && b.send(frame));
    }
    arrives(&mut b, &frames);
    arrives(&mut a, &frames);
    let status = gateway.settled(18);
    for name in ["a", "b"] {
        let bytes: usize = frames.iter().map(Vec::len).sum();
        let totals = &port(&status, name).totals;
        assert_eq!((totals.rx_bytes, totals.tx_bytes), (bytes as u64, bytes as u64), "whole frames are counted");
    }
    gateway.stop();
}

#[test]
fn filters_see_vlan_tags_ipv6_and_fragments() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let gateway = site.start(&wire(
        r#"
        [[filter]]
        on = "a"
        name = "vlan-7"
        match = { vlan_id = 7, vlan_ethtype = "ip" }
        action = "drop"
        [[filter]]
        on = "a"
        name = "inner-8"
        protocol = "802.1ad"
        match = { vlan_id = 7, vlan_ethtype = "802.1Q", cvlan_id = 8, cvlan_ethtype = "ip" }
        action = "drop"
        [[filter]]
        on = "a"
        name = "https"
        match = { dst_ip = "2001:db8::/64", ip_proto = "tcp", dst_port = 443, tcp_flags = "syn,!ack" }
        action = "drop"
        [[filter]]
        on = "a"
        name = "port-9"
        protocol = "ip"
        match = { ip_proto = "udp", dst_port = 9 }
        action = "drop"
        [[filter]]
        on = "a"
        name = "fragments"
        protocol = "ip"
        match = { ip_flags = "frag" }
        action = "drop"
        "#,
    ));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    let passing = [vlan(8, 1), qinq(7, 9, 2), tcp6(80), udp(10, 3, 64)];
    let dropped = [vlan(7, 1), qinq(7, 8, 2), tcp6(443), udp(9, 3, 64), fragment(9, true), fragment(9, false)];
    for frame in passing.iter().chain(&dropped) {
        assert!(a.send(frame));
    }
    arrives(&mut b, &passing);
    let status = gateway.settled(10);
    let hits = ["vlan-7", "inner-8", "https", "port-9", "fragments"].map(|name| filter(&status, name).packets);
    // [FL-10]: neither the first nor a later fragment shows its ports.
    assert_eq!(hits, [1, 1, 1, 1, 2]);
    gateway.stop();
}

#[test]
fn status_says_what_packets_cost_and_check_which_filters_are_slow() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let filter = |matching: String| {
        format!(
            "[[filter]]\non = \"a\"\nprotocol = \"ip\"\naction = \"drop\"\nmatch = {{ ip_proto = \"udp\", {matching} }}\n"
        )
    };
    let filters: String = (1..=20).map(|port| filter(format!("dst_port = {port}"))).collect();
    let settings = "[workers]\nflow_cache = 1000\n";
    let gateway = site.start(&wire(&format!("{settings}{filters}")));
    let mut a = site.station("a");
    assert!((0..20).all(|_| a.send(&udp(9, 1, 60))));
    let status = gateway.settled(20);
    let chain = &status.chains[0];
    assert_eq!((chain.block.as_str(), chain.chain, chain.filters, chain.masks, chain.walked), ("a", 0, 20, 1, 0));
    assert!(chain.probes > 0.0 && chain.probes <= 1.0, "{chain:?}");
    let cache = status.workers[0].flow_cache.as_ref().unwrap();
    assert_eq!((cache.entries, cache.hits + cache.misses, cache.passed_by), (1024, 20, 0));
    let table = site.tidegate(&["status"]).1;
    assert!(table.contains("PROBES") && table.contains("FLOW CACHE"), "{table}");

    let ranges: String = (0..65).map(|n| filter(format!("dst_port = \"{}-{}\"", 10 * n + 1, 10 * n + 5))).collect();
    site.rewrite(&wire(&ranges));
    let path = site.file();
    let (code, said) = site.tidegate(&["check", path.to_str().unwrap()]);
    assert!(
        code == Some(0) && said.contains(": slow: 65 filters in chain 0 of block `a` differ by port ranges"),
        "{said}"
    );
    gateway.stop();
}

#[test]
fn frames_too_long_are_dropped_with_a_counted_reason() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    site.ip("link set dev a mtu 3000");
    let far = site.far.exec("ip").args(["link", "set", "dev", "far-a", "mtu", "3000"]).status().unwrap();
    assert!(far.success());
    let gateway = site.start(&wire(""));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    // Longer than b's MTU, though it fits a chunk; and longer than a chunk of 2,048 bytes holds.
    assert!(a.send(&unknown(1700)) && a.send(&unknown(2500)) && a.send(&unknown(1514)));
    arrives(&mut b, &[unknown(1514)]);
    let status = gateway.until("the kernel's count is in", |status| port(status, "a").totals.kernel_rx_dropped == 1);
    balanced(&status);
    let totals = &port(&status, "a").totals;
    assert_eq!((totals.rx_packets, totals.dropped[DropReason::TooLong.index()]), (2, 1));
    assert_eq!(port(&status, "a").gate["redirected"], 3);
    gateway.stop();
}

#[test]
fn two_queues_are_served_by_two_workers() {
    let Some(site) = Site::with_queues(&["a", "b"], 2) else { return };
    let gateway = site.start(&wire(""));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    for queue in 0..2 {
        let frames = udps(9 + queue, 20);
        assert_eq!(a.send_burst(queue, frames.iter().map(Vec::as_slice)), 20);
        arrives(&mut b, &frames);
    }
    let status = gateway.settled(40);
    assert_eq!(status.workers.len(), 2);
    for name in ["a", "b"] {
        let owners: Vec<_> = port(&status, name).queues.iter().map(|queue| (queue.queue, queue.worker)).collect();
        assert_eq!(owners, [(0, 0), (1, 1)]);
    }
    gateway.stop();
}

#[test]
fn queues_without_a_worker_are_refused_with_the_remedy() {
    let Some(site) = Site::with_queues(&["a", "b"], 2) else { return };
    let (code, said) = site.refused(&wire("[workers]\ncount = 1\n"));
    assert_eq!(code, Some(1));
    assert!(said.contains("interface a has 2 receive and 2 transmit queues for 1 workers"), "{said}");
    assert!(said.contains("ethtool -L a combined 1"), "{said}");
}

#[test]
fn a_flood_keeps_the_equation_and_loses_nothing_unexplained() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let gateway = site.start(&wire("[workers]\nring_size = 64\nburst = 32\n"));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    let frames = udps(9, 64);
    let (mut sent, mut arrived) = (0, 0);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        sent += a.send_burst(0, frames.iter().map(Vec::as_slice)) as u64;
        arrived += b.recv_burst(|_| ()) as u64;
    }
    while b.recv(Duration::from_millis(300)).is_some() {
        arrived += 1;
    }
    let explained = |status: &tidegate_client::status::Status| {
        let totals = &port(status, "a").totals;
        port(status, "a").gate["redirected"]
            == totals.rx_packets + totals.kernel_rx_ring_full + totals.kernel_rx_dropped
    };
    let status = gateway.until("what the gate redirected is received or counted by the kernel", explained);
    balanced(&status);
    assert!(sent > 10_000 && arrived > 1000, "sent {sent}, arrived {arrived}");
    let totals = &port(&status, "a").totals;
    assert_eq!(totals.kernel_rx_dropped, 0, "the fill ring never starves while frames are free: {totals:?}");
    assert!(arrived <= port(&status, "b").totals.tx_packets);
    gateway.stop();
}
