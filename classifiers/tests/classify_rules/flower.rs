use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, Ipv4Header};
use tidegate_classifiers::flow_key::*;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::request::{self, ETH_P_ALL, FlowerSpec};
use tidegate_classifiers::verdict::Control;

use crate::support::*;

/// TCP with a range of destination ports.
fn tcp_between(min: u16, max: u16) -> FlowerSpec {
    FlowerSpec { dst_port_range: Some((min, max)), ..keys(&[(IP_PROTO, TCP)]) }
}

/// The name of the filter that matches `packet`, in a proto with `filters` in the order of their creation.
fn winner(filters: &[(&str, FlowerSpec)], packet: &Packet) -> Vec<String> {
    let filters: Vec<_> = filters.iter().map(|(name, spec)| named(name, flower(1, IPV4, *spec, &[]))).collect();
    let mut rig = Rig::new(&filters);
    rig.send(packet);
    rig.matched()
}

/// A fragment of TCP to port 80, at `offset` in units of 8 bytes.
fn fragment(offset: u16, more: bool) -> Packet {
    let mut ip = Ipv4Header::new(20, 64, IpNumber::TCP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
    ip.fragment_offset = offset.try_into().unwrap();
    ip.more_fragments = more;
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    ip.write(&mut frame).unwrap();
    frame.extend([3, 232, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    parse(&frame)
}

/// [FL-1]
#[test]
fn a_filter_matches_the_bits_under_its_mask() {
    let mut spec = FlowerSpec::default();
    spec.value.set_dst_ipv4(Ipv4Addr::new(10, 0, 0, 255));
    spec.mask.set_dst_ipv4(Ipv4Addr::new(255, 255, 255, 0));
    assert_eq!(winner(&[("10.0.0.0/24", spec)], &tcp(80)), ["10.0.0.0/24"]);
    spec.value.set_dst_ipv4(Ipv4Addr::new(10, 0, 1, 2));
    assert_eq!(winner(&[("10.0.1.0/24", spec)], &tcp(80)), [""; 0]);
}

/// [FL-3]: not the more specific group, not the lower handle: the group that was there first.
#[test]
fn the_group_that_was_created_first_is_asked_first() {
    let (wide, narrow) = (("wide", keys(&[(IP_PROTO, TCP)])), ("narrow", tcp_to(80)));
    assert_eq!(winner(&[wide, narrow], &tcp(80)), ["wide"]);
    assert_eq!(winner(&[narrow, wide], &tcp(80)), ["narrow"]);
    assert_eq!(winner(&[("port 22", tcp_to(22)), wide, narrow], &tcp(80)), ["narrow"], "joins the first group");
}

/// [FL-5]
#[test]
fn a_group_that_lost_its_last_filter_is_created_again_at_the_end() {
    let filter = |name: &str, handle, spec| request::FilterSpec { handle, ..named(name, flower(1, IPV4, spec, &[])) };
    let (port, wide) = (filter("port", 1, tcp_to(80)), filter("wide", 2, keys(&[(IP_PROTO, TCP)])));
    let mut rig = Rig::new(&[port.clone(), wide]);
    request::delete_filter(&rig.block, key(0, 1, 1)).unwrap();
    request::add_filter(&rig.block, &port).unwrap();
    rig.send(&tcp(80));
    assert_eq!(rig.matched(), ["wide"]);
}

/// [FL-5]: as long as one is left, the group keeps its place.
#[test]
fn a_group_that_still_has_a_filter_keeps_its_place() {
    let filter = |name: &str, handle, spec| request::FilterSpec { handle, ..named(name, flower(1, IPV4, spec, &[])) };
    let (port, wide) = (filter("port", 1, tcp_to(80)), filter("wide", 2, keys(&[(IP_PROTO, TCP)])));
    let mut rig = Rig::new(&[port.clone(), wide, filter("other port", 3, tcp_to(81))]);
    request::delete_filter(&rig.block, key(0, 1, 1)).unwrap();
    request::add_filter(&rig.block, &port).unwrap();
    rig.send(&tcp(80));
    assert_eq!(rig.matched(), ["port"]);
}

/// [FL-6]
#[test]
fn of_overlapping_ranges_the_one_inserted_first_wins() {
    let (low, high) = (("low", tcp_between(1, 100)), ("high", tcp_between(80, 200)));
    assert_eq!(winner(&[low, high], &tcp(80)), ["low"]);
    assert_eq!(winner(&[high, low], &tcp(80)), ["high"]);
    assert_eq!(winner(&[low, high], &tcp(101)), ["high"]);
    assert_eq!(winner(&[low, high], &tcp(201)), [""; 0]);
}

/// [FL-6]: both ends belong to a range.
#[test]
fn a_range_contains_its_ends_and_nothing_beyond() {
    for (port, inside) in [(79, false), (80, true), (82, true), (83, false)] {
        assert_eq!(winner(&[("80-82", tcp_between(80, 82))], &tcp(port)).len(), usize::from(inside), "{port}");
    }
    let source = |min, max| FlowerSpec { src_port_range: Some((min, max)), ..keys(&[(IP_PROTO, TCP)]) };
    assert_eq!(winner(&[("1000", source(999, 1000))], &tcp(1)), ["1000"]);
    assert_eq!(winner(&[("1001", source(1001, 1002))], &tcp(1)), [""; 0]);
}

/// [FL-6]: a range on the source port and one on the destination port are two groups.
#[test]
fn ranges_of_different_ports_are_different_groups() {
    let source = FlowerSpec { src_port_range: Some((1, 2000)), ..keys(&[(IP_PROTO, TCP)]) };
    let (source, destination) = (("source", source), ("destination", tcp_between(1, 100)));
    let miss = ("miss", tcp_between(200, 300));
    assert_eq!(winner(&[miss, source, destination], &tcp(80)), ["destination"]);
}

/// [FL-7]
#[test]
fn a_filter_without_keys_matches_every_packet_of_its_protocol() {
    assert_eq!(winner(&[("any", keys(&[]))], &tcp(80)), ["any"]);
    assert_eq!(winner(&[("any", keys(&[]))], &tagged_udp(1, 53)), [""; 0]);
}

/// [FL-8]
#[test]
fn behind_a_tag_the_ethertype_is_the_filters_to_say() {
    let tagged = |vlan, ethertype| flower(1, VLAN, keys(&[(VLAN_ID, vlan), (ETH_TYPE, ethertype)]), &[]);
    for (spec, matches) in [(tagged(5, 0x0800), 1), (tagged(6, 0x0800), 0), (tagged(5, 0x86dd), 0)] {
        let mut rig = Rig::new(&[spec]);
        rig.send(&tagged_udp(5, 53));
        assert_eq!(rig.packets(0, 1), matches);
    }
}

/// [FL-10]
#[test]
fn no_fragment_matches_on_ports_but_all_on_addresses_and_flags() {
    let first = keys(&[(IP_FLAGS, IP_FLAG_FRAG | IP_FLAG_FIRST_FRAG)]);
    let later = keys(&[(IP_FLAGS, IP_FLAG_FRAG)]);
    let filters = [("port", tcp_to(80)), ("first", first), ("later", later), ("tcp", keys(&[(IP_PROTO, TCP)]))];
    assert_eq!(winner(&filters, &tcp(80)), ["port"]);
    assert_eq!(winner(&filters, &fragment(0, true)), ["first"]);
    assert_eq!(winner(&filters, &fragment(3, true)), ["later"]);
    assert_eq!(winner(&filters[..1], &fragment(0, true)), [""; 0]);
    assert_eq!(winner(&filters[3..], &fragment(3, false)), ["tcp"]);
}

/// [ER-3], [FL-4]
#[test]
fn a_masked_key_can_be_in_a_proto_once() {
    let rig = Rig::new(&[flower(1, IPV4, tcp_to(80), &[]), flower(1, IPV4, tcp_between(1, 9), &[])]);
    let add = |priority, spec| request::add_filter(&rig.block, &flower(priority, IPV4, spec, &[]));

    assert_eq!(errno(add(1, tcp_to(80))), "EEXIST");
    assert_eq!(errno(add(1, tcp_between(1, 9))), "EEXIST");
    let mut with_bits_that_do_not_count = tcp_to(80);
    with_bits_that_do_not_count.value.set(SRC_PORT, 7);
    assert_eq!(errno(add(1, with_bits_that_do_not_count)), "EEXIST");
    let ethertype_spelled_out = keys(&[(ETH_TYPE, 0x0800), (IP_PROTO, TCP), (DST_PORT, 80)]);
    assert_eq!(errno(add(1, ethertype_spelled_out)), "EEXIST", "[FL-8]");

    add(2, tcp_to(80)).expect("another priority");
    add(1, tcp_to(81)).expect("another value");
    add(1, tcp_between(1, 10)).expect("another range");
    let mut another_mask = tcp_to(80);
    another_mask.mask.set(DST_PORT, 0xfffe);
    add(1, another_mask).expect("another mask [FL-4]");
}

/// [FL-13], [FL-14], [FL-15]: what is refused, and what the message says is missing.
#[test]
fn keys_that_cannot_be_met_are_refused_with_what_is_missing() {
    let masked = |mut spec: FlowerSpec, field, mask| {
        spec.mask.set(field, mask);
        spec
    };
    let ipv6_source = {
        let mut spec = FlowerSpec::default();
        spec.value.set_src_ipv6("2001:db8::".parse().unwrap());
        spec.mask.set_src_ipv6(Ipv6Addr::from(u128::MAX << 96));
        spec
    };
    let ipv4_source = {
        let mut spec = FlowerSpec::default();
        spec.value.set_src_ipv4(Ipv4Addr::new(10, 0, 0, 0));
        spec.mask.set_src_ipv4(Ipv4Addr::new(255, 0, 0, 0));
        spec
    };
    let range = |min, max| FlowerSpec { src_port_range: Some((min, max)), ..keys(&[(IP_PROTO, UDP)]) };
    let cases = [
        (ARP, keys(&[(IP_PROTO, TCP)]), "ip_proto, ip_tos and ip_ttl need"),
        (ETH_P_ALL, keys(&[(IP_TTL, 1)]), "ip_proto, ip_tos and ip_ttl need"),
        (VLAN, keys(&[(VLAN_ID, 1), (IP_TOS, 1)]), "ip_proto, ip_tos and ip_ttl need"),
        (ETH_P_ALL, ipv4_source, "addresses need"),
        (IPV4, ipv6_source, "an ipv6 address with ethertype ipv4"),
        (IPV4, keys(&[(DST_PORT, 80)]), "ports need"),
        (IPV4, keys(&[(IP_PROTO, ICMP), (SRC_PORT, 80)]), "ports need"),
        (IPV4, FlowerSpec { dst_port_range: Some((1, 2)), ..FlowerSpec::default() }, "ports need"),
        (IPV4, range(5, 5), "a port range needs"),
        (IPV4, range(6, 5), "a port range needs"),
        (IPV4, keys(&[(IP_PROTO, UDP), (TCP_FLAGS, 2)]), "tcp_flags need"),
        (IPV4, keys(&[(IP_PROTO, 58), (ICMP_TYPE, 128)]), "icmp type and code need"),
        (IPV6, keys(&[(IP_PROTO, ICMP), (ICMP_CODE, 0)]), "icmp type and code need"),
        (IPV4, keys(&[(ARP_OP, 1)]), "arp keys need"),
        (IPV4, keys(&[(VLAN_ID, 1)]), "vlan keys need"),
        (ETH_P_ALL, keys(&[(NUM_OF_VLANS, 0), (VLAN_PRIO, 1)]), "vlan keys need"),
        (VLAN, keys(&[(VLAN_ID, 1), (CVLAN_ID, 1)]), "cvlan keys need"),
        (ETH_P_ALL, keys(&[(NUM_OF_VLANS, 1), (CVLAN_PRIO, 1)]), "cvlan keys need"),
        (IPV4, keys(&[(ETH_TYPE, 0x86dd)]), "the ethertype contradicts"),
        (VLAN, masked(keys(&[(VLAN_ID, 1)]), VLAN_ID, 0xff0), "ethertype, ip_proto, vlan_id"),
        (IPV4, masked(keys(&[(IP_PROTO, TCP)]), IP_PROTO, 0xf), "ethertype, ip_proto, vlan_id"),
    ];
    let rig = Rig::new(&[]);
    for (protocol, spec, message) in cases {
        let refusal =
            request::add_filter(&rig.block, &flower(1, protocol, spec, &[gact(Control::Goto(5))])).expect_err(message);
        assert_eq!(refusal.errno(), "EINVAL", "{message}");
        assert!(refusal.to_string().starts_with(message), "{refusal} is not: {message}");
        assert_eq!(request::list_chains(&rig.block), [0; 0], "[ER-40] {message}");
    }
}

/// [FL-14]: the same keys with what they need.
#[test]
fn keys_with_what_they_need_are_accepted() {
    let mut ipv6 = keys(&[(IP_PROTO, TCP), (DST_PORT, 80), (TCP_FLAGS, 2), (IP_TTL, 1)]);
    ipv6.value.set_dst_ipv6("2001:db8::1".parse().unwrap());
    ipv6.mask.set_dst_ipv6(Ipv6Addr::from(u128::MAX));
    let cases = [
        (IPV6, ipv6),
        (IPV4, keys(&[(IP_PROTO, 132), (SRC_PORT, 80)])),
        (IPV4, keys(&[(IP_PROTO, ICMP), (ICMP_TYPE, 8), (ICMP_CODE, 0)])),
        (IPV6, keys(&[(IP_PROTO, 58), (ICMP_TYPE, 128)])),
        (ARP, keys(&[(ARP_OP, 1), (ARP_SHA, 5), (ARP_TIP, 9)])),
        (ETH_P_ALL, keys(&[(ETH_TYPE, 0x0800), (IP_PROTO, UDP), (DST_PORT, 53)])),
        (ETH_P_ALL, keys(&[(NUM_OF_VLANS, 2), (VLAN_ID, 1), (CVLAN_ID, 2)])),
        (ETH_P_ALL, keys(&[(DST_MAC, 1), (SRC_MAC, 2), (INDEV, 1)])),
        (VLAN, keys(&[(VLAN_PRIO, 3), (ETH_TYPE, 0x0800), (IP_PROTO, UDP), (DST_PORT, 53)])),
        (QINQ, keys(&[(VLAN_ID, 1), (CVLAN_TPID, 0x8100), (CVLAN_ID, 2), (ETH_TYPE, 0x86dd), (IP_TOS, 4)])),
    ];
    let rig = Rig::new(&[]);
    for (priority, (protocol, spec)) in (1..).zip(cases) {
        request::add_filter(&rig.block, &flower(priority, protocol, spec, &[])).unwrap();
    }
}
