//! The parser's rules, one frame each: what a reader might expect otherwise, and what the rules say.
#![allow(clippy::unwrap_used, reason = "a frame that is refused fails the test")]

use tidegate_classifiers::flow_key::*;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::PortId;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// UDP ports 0x1234 to 53, eight bytes of header and four of payload. As TCP it would be cut off.
const UDP: [u8; 12] = [0x12, 0x34, 0, 53, 0, 12, 0, 0, 0xde, 0xad, 0xbe, 0xef];

/// A TCP header: ports 0x1234 to 443, SYN and ACK, and three of the four reserved bits.
const TCP: [u8; 20] = [0x12, 0x34, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 2, 0x5e, 0x12, 1, 0, 0, 0, 0, 0];

fn frame(ethertype: u16, parts: &[&[u8]]) -> Vec<u8> {
    [&MACS[..], &ethertype.to_be_bytes(), &parts.concat()[..]].concat()
}

fn tag(priority_and_id: u16, ethertype: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (priority_and_id.to_be_bytes(), ethertype.to_be_bytes());
    [a, b, c, d]
}

/// An IPv4 header, 10.0.0.1 to 10.0.0.2.
fn ipv4(protocol: u8, flags_offset: u16) -> [u8; 20] {
    let [flags, offset] = flags_offset.to_be_bytes();
    [0x45, 0xb8, 0, 60, 0, 1, flags, offset, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
}

/// An IPv6 header, 2001:db8::1 to 2001:db8::2.
fn ipv6(next: u8) -> [u8; 40] {
    let mut header = [0; 40];
    header[..8].copy_from_slice(&[0x6b, 0x80, 0, 0, 0, 20, next, 64]);
    header[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    header[23] = 1;
    header[24..28].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    header[39] = 2;
    header
}

fn parse(frame: &[u8]) -> Packet {
    Packet::parse(frame, PortId(6)).unwrap()
}

/// Checks that `frame` has the keys every frame of this file has, `fields`, and no other.
#[track_caller]
fn check(frame: &[u8], fields: &[(Field, u64)]) {
    let mut wanted = FlowKey::EMPTY;
    wanted.set(INDEV, 7);
    wanted.set(DST_MAC, 0x0200_0000_0001);
    wanted.set(SRC_MAC, 0x0200_0000_0002);
    for &(field, value) in fields {
        wanted.set(field, value);
    }
    assert_eq!(*parse(frame).key(), wanted);
}

/// The keys of [`ipv4`] beside its protocol.
const IPV4: [(Field, u64); 5] =
    [(ETH_TYPE, 0x0800), (SRC_IP_LOW, 0x0a00_0001), (DST_IP_LOW, 0x0a00_0002), (IP_TOS, 0xb8), (IP_TTL, 64)];

/// The keys of [`ipv6`] beside its protocol.
const IPV6: [(Field, u64); 7] = [
    (ETH_TYPE, 0x86dd),
    (SRC_IP_HIGH, 0x2001_0db8_0000_0000),
    (SRC_IP_LOW, 1),
    (DST_IP_HIGH, 0x2001_0db8_0000_0000),
    (DST_IP_LOW, 2),
    (IP_TOS, 0xb8),
    (IP_TTL, 64),
];

const UDP_PORTS: [(Field, u64); 2] = [(SRC_PORT, 0x1234), (DST_PORT, 53)];

fn keys(parts: &[&[(Field, u64)]]) -> Vec<(Field, u64)> {
    parts.concat()
}

#[test]
fn udp_has_addresses_and_ports() {
    check(&frame(0x0800, &[&ipv4(17, 0), &UDP]), &keys(&[&IPV4, &[(IP_PROTO, 17)], &UDP_PORTS]));
    check(&frame(0x86dd, &[&ipv6(17), &UDP]), &keys(&[&IPV6, &[(IP_PROTO, 17)], &UDP_PORTS]));
}

#[test]
fn tcp_has_all_twelve_flag_bits() {
    let tcp = [(IP_PROTO, 6), (SRC_PORT, 0x1234), (DST_PORT, 443), (TCP_FLAGS, 0xe12)];
    check(&frame(0x0800, &[&ipv4(6, 0), &TCP]), &keys(&[&IPV4, &tcp]));
}

#[test]
fn tcp_that_claims_to_be_shorter_than_its_header_has_ports_but_no_flags() {
    let mut header = TCP;
    header[12] = 0x4e;
    let tcp = [(IP_PROTO, 6), (SRC_PORT, 0x1234), (DST_PORT, 443)];
    check(&frame(0x0800, &[&ipv4(6, 0), &header]), &keys(&[&IPV4, &tcp]));
}

#[test]
fn a_tcp_header_that_is_cut_off_has_nothing() {
    check(&frame(0x0800, &[&ipv4(6, 0), &TCP[..19]]), &keys(&[&IPV4, &[(IP_PROTO, 6)]]));
}

#[test]
fn icmp_of_either_version_is_found_behind_either_ip() {
    let icmp = [8, 3, 0, 0, 0, 1, 0, 1];
    let found = [(ICMP_TYPE, 8), (ICMP_CODE, 3)];
    for protocol in [1, 58] {
        let proto = [(IP_PROTO, protocol.into())];
        check(&frame(0x0800, &[&ipv4(protocol, 0), &icmp]), &keys(&[&IPV4, &proto, &found]));
        check(&frame(0x86dd, &[&ipv6(protocol), &icmp]), &keys(&[&IPV6, &proto, &found]));
    }
}

// [FL-10]
#[test]
fn the_first_fragment_has_no_ports_either() {
    let first = [(IP_PROTO, 17), (IP_FLAGS, IP_FLAG_FRAG | IP_FLAG_FIRST_FRAG)];
    check(&frame(0x0800, &[&ipv4(17, 0x2000), &UDP]), &keys(&[&IPV4, &first]));
    check(&frame(0x86dd, &[&ipv6(44), &[17, 0, 0, 1, 0, 0, 0, 9], &UDP]), &keys(&[&IPV6, &first]));
}

// [FL-10]
#[test]
fn a_later_fragment_is_not_a_first_one() {
    let later = [(IP_PROTO, 17), (IP_FLAGS, IP_FLAG_FRAG)];
    for flags_offset in [0x2001, 0x00b9] {
        check(&frame(0x0800, &[&ipv4(17, flags_offset), &UDP]), &keys(&[&IPV4, &later]));
    }
    check(&frame(0x86dd, &[&ipv6(44), &[17, 0, 0, 8, 0, 0, 0, 9], &UDP]), &keys(&[&IPV6, &later]));
}

#[test]
fn an_ipv6_fragment_that_is_the_whole_datagram_is_still_a_first_fragment() {
    let first = [(IP_PROTO, 17), (IP_FLAGS, IP_FLAG_FRAG | IP_FLAG_FIRST_FRAG)];
    check(&frame(0x86dd, &[&ipv6(44), &[17, 0, 0, 0, 0, 0, 0, 9], &UDP]), &keys(&[&IPV6, &first]));
}

#[test]
fn dont_fragment_is_not_a_fragment() {
    check(&frame(0x0800, &[&ipv4(17, 0x4000), &UDP]), &keys(&[&IPV4, &[(IP_PROTO, 17)], &UDP_PORTS]));
}

// [DP-3], [FL-8]
#[test]
fn a_tagged_frame_is_of_the_tags_protocol_and_its_key_of_the_inner_ethertype() {
    let tagged = frame(0x8100, &[&tag(0xb123, 0x0800), &ipv4(17, 0), &UDP]);
    let vlan = [(VLAN_TPID, 0x8100), (VLAN_ID, 0x123), (VLAN_PRIO, 5), (NUM_OF_VLANS, 1), (IP_PROTO, 17)];
    check(&tagged, &keys(&[&vlan, &IPV4, &UDP_PORTS]));
    assert_eq!(parse(&tagged).protocol(), 0x8100);
}

#[test]
fn a_tag_of_id_0_is_a_tag() {
    let vlan = [(VLAN_TPID, 0x8100), (VLAN_PRIO, 7), (NUM_OF_VLANS, 1), (ETH_TYPE, 0x88cc)];
    check(&frame(0x8100, &[&tag(0xe000, 0x88cc)]), &vlan);
}

#[test]
fn qinq_has_an_outer_and_an_inner_tag() {
    let qinq = frame(0x88a8, &[&tag(0x6064, 0x8100), &tag(0x20c8, 0x86dd), &ipv6(17), &UDP]);
    let outer = [(VLAN_TPID, 0x88a8), (VLAN_ID, 100), (VLAN_PRIO, 3)];
    let inner = [(CVLAN_TPID, 0x8100), (CVLAN_ID, 200), (CVLAN_PRIO, 1)];
    check(&qinq, &keys(&[&outer, &inner, &[(NUM_OF_VLANS, 2), (IP_PROTO, 17)], &IPV6, &UDP_PORTS]));
    assert_eq!(parse(&qinq).protocol(), 0x88a8);
}

#[test]
fn a_third_tag_is_left_alone_and_its_tpid_is_the_ethertype() {
    let tags = [&tag(1, 0x8100)[..], &tag(2, 0x88a8), &tag(3, 0x0800), &ipv4(17, 0), &UDP];
    let outer = [(VLAN_TPID, 0x8100), (VLAN_ID, 1)];
    let inner = [(CVLAN_TPID, 0x8100), (CVLAN_ID, 2)];
    check(&frame(0x8100, &tags), &keys(&[&outer, &inner, &[(NUM_OF_VLANS, 2), (ETH_TYPE, 0x88a8)]]));
}

// [FL-11]
#[test]
fn a_tag_that_is_cut_off_is_not_counted_and_its_tpid_is_the_ethertype() {
    let cut = frame(0x8100, &[&[0xb1, 0x23, 0x08]]);
    check(&cut, &[(ETH_TYPE, 0x8100)]);
    assert_eq!((parse(&cut).protocol(), parse(&cut).l3_len()), (0x8100, 3));
}

// [ST-4]
#[test]
fn statistics_count_from_l3_without_the_outer_tag() {
    let l3_len = |ethertype: u16, parts: &[&[u8]]| {
        let mut bytes = frame(ethertype, parts);
        bytes.resize(98, 0);
        let packet = parse(&bytes);
        assert_eq!((packet.len(), packet.is_empty()), (98, false));
        packet.l3_len()
    };
    assert_eq!(l3_len(0x0800, &[&ipv4(17, 0)]), 84);
    assert_eq!(l3_len(0x8100, &[&tag(1, 0x0800), &ipv4(17, 0)]), 80);
    assert_eq!(l3_len(0x88a8, &[&tag(1, 0x8100), &tag(2, 0x0800), &ipv4(17, 0)]), 80);
}

#[test]
fn arp_and_rarp_have_addresses_and_the_low_byte_of_the_operation() {
    let body = [0, 1, 8, 0, 6, 4, 0x0a, 2, 2, 0, 0, 0, 0, 3, 192, 0, 2, 3, 2, 0, 0, 0, 0, 4, 192, 0, 2, 4];
    let keys = [
        (ARP_OP, 2),
        (ARP_SHA, 0x0200_0000_0003),
        (ARP_SIP, 0xc000_0203),
        (ARP_THA, 0x0200_0000_0004),
        (ARP_TIP, 0xc000_0204),
    ];
    for ethertype in [0x0806, 0x8035] {
        check(&frame(ethertype, &[&body]), &[&keys[..], &[(ETH_TYPE, ethertype.into())]].concat());
        check(&frame(ethertype, &[&body[..27]]), &[(ETH_TYPE, ethertype.into())]);
    }
    let mut infiniband = body;
    infiniband[1] = 32;
    check(&frame(0x0806, &[&infiniband]), &[(ETH_TYPE, 0x0806)]);
}

// [FL-9]
#[test]
fn keys_describe_the_outer_packet_of_a_tunnel() {
    let inner = ipv4(6, 0);
    for protocol in [4, 41, 47, 50, 51] {
        let tunnel = frame(0x0800, &[&ipv4(protocol, 0), &inner, &TCP]);
        check(&tunnel, &keys(&[&IPV4, &[(IP_PROTO, protocol.into())]]));
    }
    let vxlan = [0x12, 0x34, 0x12, 0xb5, 0, 60, 0, 0, 8, 0, 0, 0, 0, 0, 7, 0];
    let outer = [(IP_PROTO, 17), (SRC_PORT, 0x1234), (DST_PORT, 4789)];
    check(&frame(0x0800, &[&ipv4(17, 0), &vxlan, &frame(0x0800, &[&inner, &TCP])]), &keys(&[&IPV4, &outer]));
}

#[test]
fn ipv6_extension_headers_are_stepped_over_and_esp_is_not() {
    let options = [43, 0, 5, 2, 0, 0, 1, 0];
    let routing = [51, 0, 0, 0, 0, 0, 0, 0];
    let authentication = [17, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let chain = frame(0x86dd, &[&ipv6(0), &options, &routing, &authentication, &UDP]);
    check(&chain, &keys(&[&IPV6, &[(IP_PROTO, 17)], &UDP_PORTS]));
    check(&frame(0x86dd, &[&ipv6(50), &UDP]), &keys(&[&IPV6, &[(IP_PROTO, 50)]]));
}

#[test]
fn ipv6_extension_headers_mean_nothing_in_ipv4() {
    check(&frame(0x0800, &[&ipv4(60, 0), &[17, 0, 0, 0, 0, 0, 0, 0], &UDP]), &keys(&[&IPV4, &[(IP_PROTO, 60)]]));
}

#[test]
fn ipv4_options_move_the_ports() {
    let mut header = ipv4(17, 0);
    header[0] = 0x46;
    let found = keys(&[&IPV4, &[(IP_PROTO, 17)]]);
    check(&frame(0x0800, &[&header, &[1, 1, 1, 0], &UDP]), &[&found[..], &UDP_PORTS].concat());
    header[0] = 0x4f;
    check(&frame(0x0800, &[&header, &[1, 1, 1, 0], &UDP]), &found);
}

// [FL-11]
#[test]
fn an_ipv4_header_shorter_than_itself_has_no_keys() {
    let mut header = ipv4(17, 0);
    header[0] = 0x44;
    check(&frame(0x0800, &[&header, &UDP]), &[(ETH_TYPE, 0x0800)]);
}

#[test]
fn the_ethertype_decides_and_the_version_is_not_looked_at() {
    let mut header = ipv4(17, 0);
    header[0] = 0x65;
    check(&frame(0x0800, &[&header, &UDP]), &keys(&[&IPV4, &[(IP_PROTO, 17)], &UDP_PORTS]));
}

#[test]
fn the_frame_and_not_the_ip_length_says_where_the_packet_ends() {
    let found = keys(&[&[(IP_PROTO, 17)], &UDP_PORTS]);
    for total_len in [0, 20, 1500] {
        let mut header = ipv4(17, 0);
        header[2..4].copy_from_slice(&u16::to_be_bytes(total_len));
        check(&frame(0x0800, &[&header, &UDP]), &[&IPV4[..], &found].concat());
    }
    for payload_len in [0, 1500] {
        let mut header = ipv6(17);
        header[4..6].copy_from_slice(&u16::to_be_bytes(payload_len));
        check(&frame(0x86dd, &[&header, &UDP]), &[&IPV6[..], &found].concat());
    }
}

#[test]
fn a_runt_is_no_packet_and_a_bare_header_is_one() {
    let bare = frame(0x0800, &[]);
    assert!(Packet::parse(&bare[..13], PortId(6)).is_none());
    assert!(Packet::parse(&[], PortId(6)).is_none());
    check(&bare, &[(ETH_TYPE, 0x0800)]);
    assert_eq!((parse(&bare).len(), parse(&bare).l3_len()), (14, 0));
}

#[test]
fn every_port_can_be_told_from_no_port() {
    for port in [0, 1, u16::MAX] {
        let packet = Packet::parse(&frame(0x0800, &[]), PortId(port)).unwrap();
        assert_eq!(packet.key().get(INDEV), u64::from(port) + 1);
    }
}
