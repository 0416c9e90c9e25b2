//! The parser on packets of every shape, whole and cut off at every byte, against two oracles: what the generator put
//! into the packet, and what `etherparse` finds in it.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "generated frames are valid and short")]

use etherparse::{
    Ipv6ExtensionSlice, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, SlicedPacket, TransportSlice,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_classifiers::flow_key::*;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::PortId;

const PORT: PortId = PortId(41);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_valid_packet_reads_as_etherparse_reads_it(recipe in recipe()) {
        let bytes = Built::new(&recipe).bytes;
        let strict = SlicedPacket::from_ethernet(&bytes).unwrap();
        let lax = LaxSlicedPacket::from_ethernet(&bytes).unwrap();
        prop_assert_eq!(&strict.transport, &lax.transport);
        agree(&parse(&bytes), &lax)?;
    }

    // [FL-11]
    #[test]
    fn a_packet_whole_or_cut_off_at_any_byte_has_the_keys_of_the_headers_that_are_there(recipe in recipe()) {
        let built = Built::new(&recipe);
        for end in 0..=built.bytes.len() {
            let bytes = &built.bytes[..end];
            let Some(packet) = Packet::parse(bytes, PORT) else {
                prop_assert!(end < 14);
                continue;
            };
            prop_assert_eq!(*packet.key(), built.key(end), "cut off at {}", end);
            prop_assert_eq!(packet.len() as usize, end);
            prop_assert_eq!(packet.l3_len() as usize, end - if recipe.tags.is_empty() || end < 18 { 14 } else { 18 });
            agree(&packet, &LaxSlicedPacket::from_ethernet(bytes).unwrap())?;
        }
    }

    #[test]
    fn a_damaged_packet_reads_as_etherparse_reads_what_it_accepts(
        recipe in recipe(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = Built::new(&recipe).bytes;
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        for end in 14..=bytes.len() {
            let packet = parse(&bytes[..end]);
            agree(&packet, &LaxSlicedPacket::from_ethernet(&bytes[..end]).unwrap())?;
            is_consistent(&packet)?;
        }
    }

    #[test]
    fn garbage_never_panics(
        ethertype in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x05dc]),
        mut bytes in vec(any::<u8>(), 14..200),
    ) {
        is_consistent(&parse(&bytes))?;
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        is_consistent(&parse(&bytes))?;
    }
}

fn parse(bytes: &[u8]) -> Packet {
    Packet::parse(bytes, PORT).unwrap()
}

/// What holds for the key of any frame.
fn is_consistent(packet: &Packet) -> Result<(), TestCaseError> {
    let key = packet.key();
    let is_zero = |fields: &[Field]| fields.iter().all(|&field| key.get(field) == 0);
    let protocol = key.get(IP_PROTO);

    if key.get(IP_FLAGS) & IP_FLAG_FRAG != 0 {
        prop_assert!(is_zero(&[SRC_PORT, DST_PORT, TCP_FLAGS, ICMP_TYPE, ICMP_CODE]), "[FL-10] {:?}", key);
    }
    if ![0x0800, 0x86dd].contains(&key.get(ETH_TYPE)) {
        prop_assert!(is_zero(&[IP_PROTO, IP_TTL, IP_TOS, IP_FLAGS, SRC_IP_LOW, DST_IP_LOW]), "{:?}", key);
    }
    if ![0x0806, 0x8035].contains(&key.get(ETH_TYPE)) {
        prop_assert!(is_zero(&[ARP_OP, ARP_SIP, ARP_TIP, ARP_SHA, ARP_THA]), "{:?}", key);
    }
    if ![6, 17, 132].contains(&protocol) {
        prop_assert!(is_zero(&[SRC_PORT, DST_PORT, TCP_FLAGS]), "{:?}", key);
    }
    if ![1, 58].contains(&protocol) {
        prop_assert!(is_zero(&[ICMP_TYPE, ICMP_CODE]), "{:?}", key);
    }
    prop_assert_eq!(key.get(NUM_OF_VLANS) >= 1, key.get(VLAN_TPID) != 0);
    prop_assert_eq!(key.get(NUM_OF_VLANS) >= 2, key.get(CVLAN_TPID) != 0);
    Ok(())
}

/// Checks that `packet` has every field that etherparse found.
fn agree(packet: &Packet, lax: &LaxSlicedPacket) -> Result<(), TestCaseError> {
    for (name, field, value) in found_by_etherparse(lax) {
        prop_assert_eq!(packet.key().get(field), value, "{} in {:?}, by etherparse {:?}", name, packet, lax);
    }
    Ok(())
}

/// What etherparse found, as far as its rules are ours. Not ours are: a third tag, TPID 0x9100, MACsec, an IP version that
/// overrules the ethertype, the inside of fragments that hold the whole datagram, what follows IPv4's authentication
/// header.
fn found_by_etherparse(lax: &LaxSlicedPacket) -> Vec<(&'static str, Field, u64)> {
    let mut found = Vec::new();
    let Some(LinkSlice::Ethernet2(ethernet)) = &lax.link else { return found };
    found.push(("dst_mac", DST_MAC, mac(ethernet.destination())));
    found.push(("src_mac", SRC_MAC, mac(ethernet.source())));

    let mut ethertype = ethernet.ether_type().0;
    let places = [(1, VLAN_ID, VLAN_PRIO, VLAN_TPID), (2, CVLAN_ID, CVLAN_PRIO, CVLAN_TPID)];
    for (extension, (count, id, priority, tpid)) in lax.link_exts.iter().zip(places) {
        let LaxLinkExtSlice::Vlan(tag) = extension else { return found };
        if ethertype == 0x9100 {
            return found;
        }
        found.push(("vlan_id", id, u16::from(tag.vlan_identifier()).into()));
        found.push(("vlan_prio", priority, u8::from(tag.priority_code_point()).into()));
        found.push(("tpid", tpid, ethertype.into()));
        found.retain(|(name, ..)| *name != "num_of_vlans");
        found.push(("num_of_vlans", NUM_OF_VLANS, count));
        ethertype = tag.ether_type().0;
    }
    found.push(("eth_type", ETH_TYPE, ethertype.into()));
    if lax.link_exts.len() > 2 {
        return found;
    }

    match &lax.net {
        None => return found,
        Some(LaxNetSlice::Ipv4(_)) if ethertype != 0x0800 => return found,
        Some(LaxNetSlice::Ipv6(_)) if ethertype != 0x86dd => return found,
        Some(LaxNetSlice::Arp(arp)) => {
            if let Ok(arp) = arp.to_packet().try_eth_ipv4() {
                found.push(("arp_op", ARP_OP, u64::from(arp.operation.0) & 0xff));
                found.push(("arp_sip", ARP_SIP, u32::from_be_bytes(arp.sender_ipv4).into()));
                found.push(("arp_tip", ARP_TIP, u32::from_be_bytes(arp.target_ipv4).into()));
                found.push(("arp_sha", ARP_SHA, mac(arp.sender_mac)));
                found.push(("arp_tha", ARP_THA, mac(arp.target_mac)));
            }
            return found;
        }
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            found.push(("src_ip", SRC_IP_LOW, u32::from(header.source_addr()).into()));
            found.push(("dst_ip", DST_IP_LOW, u32::from(header.destination_addr()).into()));
            found.push(("ip_tos", IP_TOS, u64::from(header.dcp().value()) << 2 | u64::from(header.ecn().value())));
            found.push(("ip_ttl", IP_TTL, header.ttl().into()));
            found.push(("ip_proto", IP_PROTO, header.protocol().0.into()));
            let first = header.fragments_offset().value() == 0;
            let fragment = header.is_fragmenting_payload();
            found.push(("ip_flags", IP_FLAGS, ip_flags(fragment, first)));
            if fragment || header.protocol().0 == 51 {
                return found;
            }
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let halves = |address: [u8; 16]| {
                let (high, low) = address.split_at(8);
                (u64::from_be_bytes(high.try_into().unwrap()), u64::from_be_bytes(low.try_into().unwrap()))
            };
            let ((src_high, src_low), (dst_high, dst_low)) = (halves(header.source()), halves(header.destination()));
            found.push(("src_ip", SRC_IP_HIGH, src_high));
            found.push(("src_ip", SRC_IP_LOW, src_low));
            found.push(("dst_ip", DST_IP_HIGH, dst_high));
            found.push(("dst_ip", DST_IP_LOW, dst_low));
            found.push(("ip_tos", IP_TOS, header.traffic_class().into()));
            found.push(("ip_ttl", IP_TTL, header.hop_limit().into()));
            // Where the chain of extension headers is broken, etherparse's iterator leaves its slice (0.21.0).
            if lax.stop_err.is_some() {
                return found;
            }
            let fragment = ip.extensions().clone().into_iter().find_map(|extension| match extension {
                Ipv6ExtensionSlice::Fragment(fragment) => Some(fragment),
                _ => None,
            });
            if let Some(fragment) = fragment {
                found.push(("ip_proto", IP_PROTO, fragment.next_header().0.into()));
                found.push(("ip_flags", IP_FLAGS, ip_flags(true, fragment.fragment_offset().value() == 0)));
                return found;
            }
            found.push(("ip_proto", IP_PROTO, ip.payload().ip_number.0.into()));
            found.push(("ip_flags", IP_FLAGS, 0));
        }
    }

    match &lax.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let bits =
                [tcp.fin(), tcp.syn(), tcp.rst(), tcp.psh(), tcp.ack(), tcp.urg(), tcp.ece(), tcp.cwr(), tcp.ns()];
            let flags = bits.iter().enumerate().map(|(place, &bit)| u64::from(bit) << place).sum();
            found.push(("src_port", SRC_PORT, tcp.source_port().into()));
            found.push(("dst_port", DST_PORT, tcp.destination_port().into()));
            found.push(("tcp_flags", Field { width: 9, ..TCP_FLAGS }, flags));
        }
        Some(TransportSlice::Udp(udp)) => {
            found.push(("src_port", SRC_PORT, udp.source_port().into()));
            found.push(("dst_port", DST_PORT, udp.destination_port().into()));
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            found.push(("type", ICMP_TYPE, icmp.type_u8().into()));
            found.push(("code", ICMP_CODE, icmp.code_u8().into()));
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            found.push(("type", ICMP_TYPE, icmp.type_u8().into()));
            found.push(("code", ICMP_CODE, icmp.code_u8().into()));
        }
        Some(TransportSlice::Igmp(_)) | None => {}
    }
    found
}

fn ip_flags(fragment: bool, first: bool) -> u64 {
    match (fragment, first) {
        (false, _) => 0,
        (true, true) => IP_FLAG_FRAG | IP_FLAG_FIRST_FRAG,
        (true, false) => IP_FLAG_FRAG,
    }
}

/// What a packet is made of.
#[derive(Clone, Debug)]
struct Recipe {
    macs: [[u8; 6]; 2],
    tags: Vec<(bool, u16)>, // 802.1ad instead of 802.1Q, tag control information
    net: Net,
}

#[derive(Clone, Debug)]
enum Net {
    Arp { reverse: bool, operation: u16, macs: [[u8; 6]; 2], addresses: [[u8; 4]; 2] },
    Ipv4 { tos: u8, ttl: u8, addresses: [[u8; 4]; 2], options: u8, fragment: Option<(bool, u16)>, upper: Upper },
    Ipv6 { class: u8, hop_limit: u8, addresses: [[u8; 16]; 2], chain: Vec<Extension>, upper: Upper },
    Other { ethertype: u16, payload: Vec<u8> },
}

#[derive(Clone, Debug)]
enum Extension {
    HopByHop { length: u8 },
    Routing { length: u8 },
    Options { length: u8 },
    Authentication { length: u8 },
    Fragment { more: bool, offset: u16 },
}

#[derive(Clone, Debug)]
enum Upper {
    Tcp { ports: [u16; 2], flags: u16, options: u8, payload: Vec<u8> },
    Udp { ports: [u16; 2], payload: Vec<u8> },
    Sctp { ports: [u16; 2], payload: Vec<u8> },
    Icmp { kind: u8, code: u8, payload: [u8; 12] },
    Other { protocol: u8, payload: Vec<u8> },
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let net = prop_oneof![
        1 => arp(),
        4 => ipv4(),
        4 => ipv6(),
        1 => (prop::sample::select(vec![0x88cc_u16, 0x8847, 0x8864, 0x05dc]), vec(any::<u8>(), 0..40))
            .prop_map(|(ethertype, payload)| Net::Other { ethertype, payload }),
    ];
    (any::<[[u8; 6]; 2]>(), vec(any::<(bool, u16)>(), 0..=2), net).prop_map(|(macs, tags, net)| Recipe {
        macs,
        tags,
        net,
    })
}

fn arp() -> impl Strategy<Value = Net> {
    any::<(bool, u16, [[u8; 6]; 2], [[u8; 4]; 2])>().prop_map(|(reverse, operation, macs, addresses)| Net::Arp {
        reverse,
        operation,
        macs,
        addresses,
    })
}

fn ipv4() -> impl Strategy<Value = Net> {
    let fragment = prop::option::weighted(0.3, (any::<bool>(), prop_oneof![Just(0), 1..0x2000_u16]));
    (any::<(u8, u8, [[u8; 4]; 2])>(), 0..=10_u8, fragment, upper()).prop_map(
        |((tos, ttl, addresses), options, fragment, upper)| Net::Ipv4 { tos, ttl, addresses, options, fragment, upper },
    )
}

fn ipv6() -> impl Strategy<Value = Net> {
    let hop_by_hop = prop::option::of((0..4_u8).prop_map(|length| Extension::HopByHop { length }));
    let others = prop_oneof![
        (0..4_u8).prop_map(|length| Extension::Routing { length }),
        (0..4_u8).prop_map(|length| Extension::Options { length }),
        (1..6_u8).prop_map(|length| Extension::Authentication { length }),
        (any::<bool>(), prop_oneof![Just(0), 1..0x2000_u16])
            .prop_map(|(more, offset)| Extension::Fragment { more, offset }),
    ];
    (any::<(u8, u8, [[u8; 16]; 2])>(), hop_by_hop, vec(others, 0..4), upper()).prop_map(
        |((class, hop_limit, addresses), hop_by_hop, others, upper)| {
            let chain = hop_by_hop.into_iter().chain(others).collect();
            Net::Ipv6 { class, hop_limit, addresses, chain, upper }
        },
    )
}

fn upper() -> impl Strategy<Value = Upper> {
    let payload = || vec(any::<u8>(), 0..24);
    prop_oneof![
        (any::<[u16; 2]>(), 0..0x1000_u16, 0..=10_u8, payload())
            .prop_map(|(ports, flags, options, payload)| Upper::Tcp { ports, flags, options, payload }),
        (any::<[u16; 2]>(), payload()).prop_map(|(ports, payload)| Upper::Udp { ports, payload }),
        (any::<[u16; 2]>(), payload()).prop_map(|(ports, payload)| Upper::Sctp { ports, payload }),
        any::<(u8, u8, [u8; 12])>().prop_map(|(kind, code, payload)| Upper::Icmp { kind, code, payload }),
        (prop::sample::select(vec![4_u8, 41, 47, 50, 89, 115, 135]), payload())
            .prop_map(|(protocol, payload)| Upper::Other { protocol, payload }),
    ]
}

/// A packet's bytes, and which keys are found once how many of them are there.
struct Built {
    bytes: Vec<u8>,
    found: Vec<(usize, Field, u64)>,
}

impl Built {
    fn new(recipe: &Recipe) -> Built {
        let mut built = Built { bytes: Vec::new(), found: Vec::new() };
        built.ethernet(recipe);
        built
    }

    /// The key of the first `len` bytes.
    fn key(&self, len: usize) -> FlowKey {
        let mut key = FlowKey::EMPTY;
        key.set(INDEV, u64::from(PORT.0) + 1);
        for &(_, field, value) in self.found.iter().filter(|(needs, ..)| *needs <= len) {
            key.set(field, value);
        }
        key
    }

    fn push(&mut self, bytes: impl AsRef<[u8]>) {
        self.bytes.extend(bytes.as_ref());
    }

    /// Notes what is known when all bytes pushed so far are there.
    fn found(&mut self, fields: &[(Field, u64)]) {
        self.found.extend(fields.iter().map(|&(field, value)| (self.bytes.len(), field, value)));
    }

    fn ethernet(&mut self, recipe: &Recipe) {
        let ethertype = match &recipe.net {
            Net::Arp { reverse, .. } => [0x0806_u16, 0x8035][usize::from(*reverse)],
            Net::Ipv4 { .. } => 0x0800,
            Net::Ipv6 { .. } => 0x86dd,
            Net::Other { ethertype, .. } => *ethertype,
        };
        let tpids = recipe.tags.iter().map(|(provider, _)| if *provider { 0x88a8_u16 } else { 0x8100 });
        let ethertypes: Vec<u16> = tpids.chain([ethertype]).collect();

        let [destination, source] = recipe.macs;
        self.push(destination);
        self.push(source);
        self.push(ethertypes[0].to_be_bytes());
        self.found(&[(DST_MAC, mac(destination)), (SRC_MAC, mac(source)), (ETH_TYPE, ethertypes[0].into())]);
        for (place, (_, tci)) in recipe.tags.iter().enumerate() {
            let (id, priority, tpid) = [(VLAN_ID, VLAN_PRIO, VLAN_TPID), (CVLAN_ID, CVLAN_PRIO, CVLAN_TPID)][place];
            self.push(tci.to_be_bytes());
            self.push(ethertypes[place + 1].to_be_bytes());
            self.found(&[(id, u64::from(tci & 0xfff)), (priority, u64::from(tci >> 13))]);
            self.found(&[(tpid, ethertypes[place].into()), (ETH_TYPE, ethertypes[place + 1].into())]);
            self.found(&[(NUM_OF_VLANS, place as u64 + 1)]);
        }
        self.net(&recipe.net);
    }

    fn net(&mut self, net: &Net) {
        match net {
            Net::Arp { operation, macs: [sender_mac, target_mac], addresses: [sender, target], .. } => {
                self.push([0, 1, 8, 0, 6, 4]);
                self.push(operation.to_be_bytes());
                self.push(sender_mac);
                self.push(sender);
                self.push(target_mac);
                self.push(target);
                self.found(&[(ARP_OP, u64::from(operation & 0xff))]);
                self.found(&[(ARP_SHA, mac(*sender_mac)), (ARP_THA, mac(*target_mac))]);
                self.found(&[(ARP_SIP, number(sender)), (ARP_TIP, number(target))]);
            }
            Net::Ipv4 { tos, ttl, addresses: [source, destination], options, fragment, upper } => {
                let start = self.bytes.len();
                let (more, offset) = fragment.unwrap_or((false, 0));
                let protocol = upper.protocol(1);
                self.push([0x45 + options, *tos, 0, 0, 0, 1]);
                self.push((u16::from(more) << 13 | offset).to_be_bytes());
                self.push([*ttl, protocol, 0, 0]);
                self.push(source);
                self.push(destination);
                self.found(&[(SRC_IP_LOW, number(source)), (DST_IP_LOW, number(destination))]);
                self.found(&[(IP_TOS, (*tos).into()), (IP_TTL, (*ttl).into()), (IP_PROTO, protocol.into())]);
                let fragment = more || offset != 0;
                self.found(&[(IP_FLAGS, ip_flags(fragment, offset == 0))]);
                self.push(vec![1; usize::from(*options) * 4]);
                self.upper(upper, fragment);
                let total_len = self.bytes.len() - start;
                self.bytes[start + 2..start + 4].copy_from_slice(&(total_len as u16).to_be_bytes());
            }
            Net::Ipv6 { class, hop_limit, addresses: [source, destination], chain, upper } => {
                let start = self.bytes.len();
                let protocols: Vec<u8> = chain.iter().map(Extension::protocol).chain([upper.protocol(58)]).collect();
                self.push([0x60 | class >> 4, class << 4 | 5, 6, 7, 0, 0, protocols[0], *hop_limit]);
                self.push(source);
                self.push(destination);
                self.found(&[(SRC_IP_HIGH, number(&source[..8])), (SRC_IP_LOW, number(&source[8..]))]);
                self.found(&[(DST_IP_HIGH, number(&destination[..8])), (DST_IP_LOW, number(&destination[8..]))]);
                self.found(&[(IP_TOS, (*class).into()), (IP_TTL, (*hop_limit).into())]);
                self.found(&[(IP_PROTO, protocols[0].into())]);
                let mut hidden = false;
                for (extension, &next) in chain.iter().zip(&protocols[1..]) {
                    hidden |= self.extension(extension, next, hidden);
                }
                self.upper(upper, hidden);
                let payload_len = self.bytes.len() - start - 40;
                self.bytes[start + 4..start + 6].copy_from_slice(&(payload_len as u16).to_be_bytes());
            }
            Net::Other { payload, .. } => self.push(payload),
        }
    }

    /// Pushes an extension header; `hidden` if it is behind a fragment header. Says whether what follows is hidden.
    fn extension(&mut self, extension: &Extension, next: u8, hidden: bool) -> bool {
        let (length, rest) = match *extension {
            Extension::HopByHop { length } | Extension::Routing { length } | Extension::Options { length } => {
                (length, usize::from(length) * 8 + 6)
            }
            Extension::Authentication { length } => (length, usize::from(length) * 4 + 6),
            Extension::Fragment { more, offset } => {
                self.push([next, 0]);
                self.push((offset << 3 | u16::from(more)).to_be_bytes());
                self.push([0, 0, 0, 9]);
                if !hidden {
                    self.found(&[(IP_PROTO, next.into()), (IP_FLAGS, ip_flags(true, offset == 0))]);
                }
                return true;
            }
        };
        self.push([next, length]);
        if !hidden {
            self.found(&[(IP_PROTO, next.into())]);
        }
        self.push(vec![0; rest]);
        false
    }

    /// Pushes what IP carries; `hidden` if it is in a fragment [FL-10].
    fn upper(&mut self, upper: &Upper, hidden: bool) {
        let visible = self.found.len();
        match upper {
            Upper::Tcp { ports, flags, options, payload } => {
                self.ports(*ports);
                self.push([0, 0, 0, 1, 0, 0, 0, 2]);
                self.push((u16::from(5 + options) << 12 | flags).to_be_bytes());
                self.push([0xff, 0xff, 0, 0, 0, 0]);
                self.found_ports(*ports);
                self.found(&[(TCP_FLAGS, (*flags).into())]);
                self.push(vec![1; usize::from(*options) * 4]);
                self.push(payload);
            }
            Upper::Udp { ports, payload } => {
                self.ports(*ports);
                self.push((payload.len() as u16 + 8).to_be_bytes());
                self.push([0, 0]);
                self.found_ports(*ports);
                self.push(payload);
            }
            Upper::Sctp { ports, payload } => {
                self.ports(*ports);
                self.push([1, 2, 3, 4, 5, 6, 7, 8]);
                self.found_ports(*ports);
                self.push(payload);
            }
            Upper::Icmp { kind, code, payload } => {
                self.push([*kind, *code, 0, 0, 0, 0, 0, 0]);
                self.found(&[(ICMP_TYPE, (*kind).into()), (ICMP_CODE, (*code).into())]);
                self.push(payload);
            }
            Upper::Other { payload, .. } => self.push(payload),
        }
        if hidden {
            self.found.truncate(visible);
        }
    }

    fn ports(&mut self, [source, destination]: [u16; 2]) {
        self.push(source.to_be_bytes());
        self.push(destination.to_be_bytes());
    }

    fn found_ports(&mut self, [source, destination]: [u16; 2]) {
        self.found(&[(SRC_PORT, source.into()), (DST_PORT, destination.into())]);
    }
}

impl Upper {
    fn protocol(&self, icmp: u8) -> u8 {
        match self {
            Upper::Tcp { .. } => 6,
            Upper::Udp { .. } => 17,
            Upper::Sctp { .. } => 132,
            Upper::Icmp { .. } => icmp,
            Upper::Other { protocol, .. } => *protocol,
        }
    }
}

impl Extension {
    fn protocol(&self) -> u8 {
        match self {
            Extension::HopByHop { .. } => 0,
            Extension::Routing { .. } => 43,
            Extension::Options { .. } => 60,
            Extension::Authentication { .. } => 51,
            Extension::Fragment { .. } => 44,
        }
    }
}

/// Up to eight bytes as a number, the first one highest.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
