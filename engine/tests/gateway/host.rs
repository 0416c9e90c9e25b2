//! The host beside the gateway: the pass list, `forward_to = "host"`, trap.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::kit::{Gateway, PATIENCE, SILENCE, Site, balanced, filter, port};

const HOST4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
const PEER4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const HOST6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1));
const PEER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2));

/// A site whose port a has addresses on both ends, of the kernel's own stacks.
fn site(ports: &[&str]) -> Option<Site> {
    let site = Site::new(ports)?;
    for (namespace, interface, address) in [(&site.gateway, "a", [HOST4, HOST6]), (&site.far, "far-a", [PEER4, PEER6])]
    {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        namespace.inside(|| std::fs::write(path, "0").unwrap()).unwrap();
        namespace.offloads_off(interface).unwrap();
        for address in address {
            namespace.address(interface, address, if address.is_ipv4() { 24 } else { 64 }).unwrap();
        }
    }
    Some(site)
}

/// Whether the far end of a gets an answer from `address`, asked three times.
fn pings(site: &Site, address: IpAddr) -> bool {
    let words = ["-c", "3", "-i", "0.2", "-W", "1", "-q", &address.to_string()].map(str::to_owned);
    site.far.exec("ping").args(words).output().unwrap().status.success()
}

/// Waits until the packet equation holds, with a ping or neighbour discovery perhaps still on its way.
fn settle(gateway: &Gateway) {
    gateway.until("every packet hit is counted", |status| status.ports.iter().all(|p| p.totals.balance() == 0));
    std::thread::sleep(SILENCE); // counters are published at the end of a burst
    balanced(&gateway.status());
}

#[test]
fn what_passes_to_the_host_reaches_the_kernels_stack() {
    let Some(site) = site(&["a"]) else { return };
    let config = r#"
        [port.a]
        forward_to = "host"
        [[filter]]
        on = "a"
        name = "pings"
        protocol = "ip"
        match = { ip_proto = "icmp", icmp_type = 8 }
        action = "pass"
    "#;
    for mode in ["auto", "generic"] {
        let gateway = site.start(&config.replace("forward_to", &format!("mode = \"{mode}\"\nforward_to")));
        assert!(site.far.exec("ip").args(["neigh", "flush", "dev", "far-a"]).status().unwrap().success());
        assert!(pings(&site, HOST4) && pings(&site, HOST6), "mode {mode}");
        settle(&gateway);
        let status = gateway.status();
        assert_eq!(filter(&status, "pings").packets, 3);
        assert!(port(&status, "a").totals.passed >= 6, "v4 and v6");
        assert!(port(&status, "a").gate["host_arp"] > 0 && port(&status, "a").gate["host_nd"] > 0);
        gateway.stop();
    }
}

#[test]
fn the_pass_list_keeps_the_host_reachable_whatever_filters_say() {
    let Some(site) = site(&["a", "b"]) else { return };
    let gateway = site.start(
        r#"
        [port.a]
        forward_to = "b"
        [port.a.host]
        addresses = ["10.9.0.1", "fd00:9::1"]
        [port.b]
        forward_to = "a"
        [[filter]]
        on = "a"
        name = "everything"
        action = "drop"
        "#,
    );
    assert!(pings(&site, HOST4) && pings(&site, HOST6));
    let status = gateway.status();
    let gate = &port(&status, "a").gate;
    assert!(gate["host_listed"] >= 6 && gate["host_arp"] > 0 && gate["host_nd"] > 0, "{gate:?}");
    settle(&gateway);
    gateway.stop();
}

#[test]
fn without_a_pass_list_a_wire_takes_everything() {
    let Some(site) = site(&["a", "b"]) else { return };
    let gateway = site.start("[port.a]\nforward_to = \"b\"\n[port.b]\nforward_to = \"a\"\n");
    assert!(!pings(&site, HOST4), "ARP crosses the wire and nobody there answers");
    assert!(port(&gateway.status(), "b").totals.tx_packets > 0);
    settle(&gateway);
    gateway.stop();
}

#[test]
fn trap_hands_a_packet_to_the_host_although_the_port_forwards() {
    let Some(site) = site(&["a", "b"]) else { return };
    let gateway = site.start(
        r#"
        [port.a]
        forward_to = "b"
        [port.a.host]
        arp = "all"
        [port.b]
        forward_to = "a"
        [[filter]]
        on = "a"
        name = "trapped"
        protocol = "ip"
        match = { dst_ip = "10.9.0.1", ip_proto = "icmp" }
        action = "trap"
        "#,
    );
    assert!(pings(&site, HOST4));
    settle(&gateway);
    let status = gateway.status();
    assert_eq!((filter(&status, "trapped").packets, port(&status, "a").totals.passed), (3, 3));
    gateway.stop();
}

#[test]
fn a_listed_port_passes_and_another_one_is_filtered() {
    let Some(site) = site(&["a", "b"]) else { return };
    let gateway = site.start(
        r#"
        [port.a]
        forward_to = "b"
        [port.a.host]
        addresses = ["10.9.0.1"]
        ports = ["tcp/22"]
        [port.b]
        forward_to = "a"
        [[filter]]
        on = "a"
        action = "drop"
        "#,
    );
    let listeners: Vec<_> = site
        .gateway
        .inside(|| [22, 23].map(|port| std::net::TcpListener::bind((HOST4, port)).unwrap()).into_iter().collect())
        .unwrap();
    let connects = |port| {
        let limit = if port == 22 { PATIENCE } else { std::time::Duration::from_millis(700) };
        site.far.inside(|| std::net::TcpStream::connect_timeout(&(HOST4, port).into(), limit).is_ok()).unwrap()
    };
    assert!(connects(22), "the operator's way in");
    assert!(!connects(23));
    drop(listeners);
    settle(&gateway);
    gateway.stop();
}
