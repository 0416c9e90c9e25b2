//! `match = { ... }`: keys to a flower match, and the protocol that follows from them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value as Json};
use tidegate_classifiers::flow_key::{self, Field};
use tidegate_classifiers::request::{ETH_P_ALL, FlowerSpec};

use crate::error::{Problems, Wrong};
use crate::names::Names;
use crate::place::Place;
use crate::table::{Node, Table};
use crate::words::{self, Masked, PortMatch};

const IP: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const VLANS: [u16; 2] = [0x8100, 0x88a8];

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

const ARP_OPS: [(&str, u64); 2] = [("request", 1), ("reply", 2)];

const ICMP_TYPES: [(&str, u64); 10] = [
    ("echo-request", 8),
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("redirect", 5),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
];

const ICMPV6_TYPES: [(&str, u64); 14] = [
    ("echo-request", 128),
    ("echo-reply", 129),
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("mld-query", 130),
    ("mld-report", 131),
    ("mld-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbour-solicitation", 135),
    ("neighbour-advertisement", 136),
    ("redirect", 137),
];

const ICMP_CODES: [(&str, u64); 6] = [
    ("net-unreachable", 0),
    ("host-unreachable", 1),
    ("protocol-unreachable", 2),
    ("port-unreachable", 3),
    ("fragmentation-needed", 4),
    ("admin-prohibited", 13),
];

const ICMPV6_CODES: [(&str, u64); 4] =
    [("no-route", 0), ("admin-prohibited", 1), ("address-unreachable", 3), ("port-unreachable", 4)];

/// What a key needs the ethertype to be.
#[derive(Clone, Copy)]
enum Need {
    Ip,
    V4,
    V6,
    Arp,
}

impl Need {
    fn allows(self, ethertype: u16) -> bool {
        match self {
            Need::Ip => ethertype == IP || ethertype == IPV6,
            Need::V4 => ethertype == IP,
            Need::V6 => ethertype == IPV6,
            Need::Arp => ethertype == ARP || ethertype == RARP,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Need::Ip => "ip or ipv6",
            Need::V4 => "ip",
            Need::V6 => "ipv6",
            Need::Arp => "arp",
        }
    }
}

/// Reads the match of a filter, each result with its protocol. Two come back where the keys suit both IPv4 and IPv6 and
/// nothing says which is meant: the filter is made for each.
pub(crate) fn read(
    table: Table,
    protocol: Option<u16>,
    ports: &Names,
    problems: &mut Problems,
) -> Vec<(u16, FlowerSpec)> {
    let mut reader = Reader { table, problems, spec: FlowerSpec::default(), needs: Vec::new() };
    reader.ethernet(ports);
    let tags = reader.vlan();
    let ip_proto = reader.ip();
    reader.transport(ip_proto);
    reader.icmp(ip_proto);
    reader.arp();
    let Reader { table, spec, needs, .. } = reader;
    table.finish(problems);
    tags.protocols(protocol, &needs, problems)
        .into_iter()
        .map(|Headers { protocol, ethertype, inner_tpid }| {
            let mut spec = spec;
            for (field, value) in [(flow_key::ETH_TYPE, ethertype), (flow_key::CVLAN_TPID, inner_tpid)] {
                if let Some(value) = value {
                    spec.value.set(field, value.into());
                    spec.mask.set(field, field.max());
                }
            }
            (protocol, spec)
        })
        .collect()
}

/// Takes the keys one by one.
struct Reader<'a> {
    table: Table,
    problems: &'a mut Problems,
    spec: FlowerSpec,
    /// What the keys so far need of the ethertype.
    needs: Vec<(&'static str, Place, Need)>,
}

/// The IP protocol that a match asks for, and where.
type IpProto = Option<(u8, Place)>;

impl Reader<'_> {
    fn ethernet(&mut self, ports: &Names) {
        for (key, field) in [("dst_mac", flow_key::DST_MAC), ("src_mac", flow_key::SRC_MAC)] {
            self.masked(key, field, |node| words::mac(node.text()?));
        }
        self.masked("indev", flow_key::INDEV, |node| {
            let index = ports.find(node.text()?)?;
            Ok(Masked { value: u64::from(index) + 1, mask: flow_key::INDEV.max() })
        });
    }

    fn vlan(&mut self) -> Tags {
        let mut tags = Tags::default();
        let number = |max: u64| move |node: &Node| Ok(Masked { value: node.number(0..=max)?, mask: u64::MAX });
        tags.count = self.masked("num_of_vlans", flow_key::NUM_OF_VLANS, number(2)).map(|(masked, _)| masked.value);
        for (key, field) in [("vlan_id", flow_key::VLAN_ID), ("vlan_prio", flow_key::VLAN_PRIO)] {
            let read = self.masked(key, field, number(field.max()));
            tags.outer = tags.outer.or(read.map(|(_, place)| (key, place)));
        }
        for (key, field) in [("cvlan_id", flow_key::CVLAN_ID), ("cvlan_prio", flow_key::CVLAN_PRIO)] {
            let read = self.masked(key, field, number(field.max()));
            tags.inner = tags.inner.or(read.map(|(_, place)| (key, place)));
        }
        tags.vlan_ethtype = self.placed("vlan_ethtype", words::ethertype);
        tags.cvlan_ethtype = self.placed("cvlan_ethtype", words::ethertype);
        tags.outer = tags.outer.or(tags.vlan_ethtype.map(|(_, place)| ("vlan_ethtype", place)));
        tags.inner = tags.inner.or(tags.cvlan_ethtype.map(|(_, place)| ("cvlan_ethtype", place)));
        tags
    }

    fn ip(&mut self) -> IpProto {
        for key in ["src_ip", "dst_ip"] {
            let Some(((address, mask), place)) = self.placed(key, |node| words::prefix(node.text()?)) else { continue };
            self.needs.push((key, place, if address.is_ipv4() { Need::V4 } else { Need::V6 }));
            if mask.is_unspecified() {
                continue;
            }
            let FlowerSpec { value: to_value, mask: to_mask, .. } = &mut self.spec;
            for (key_words, address) in [(to_value, address), (to_mask, mask)] {
                match (key, address) {
                    ("src_ip", IpAddr::V4(address)) => key_words.set_src_ipv4(address),
                    ("src_ip", IpAddr::V6(address)) => key_words.set_src_ipv6(address),
                    (_, IpAddr::V4(address)) => key_words.set_dst_ipv4(address),
                    (_, IpAddr::V6(address)) => key_words.set_dst_ipv6(address),
                }
            }
        }

        let mut by_name = false;
        let ip_proto = self.masked("ip_proto", flow_key::IP_PROTO, |node| {
            by_name = node.text().is_ok();
            Ok(Masked { value: words::ip_proto(node)?.into(), mask: flow_key::IP_PROTO.max() })
        });
        #[expect(clippy::cast_possible_truncation, reason = "made from an u8 just above")]
        let ip_proto = ip_proto.map(|(masked, place)| (masked.value as u8, place));
        if let Some((value, place)) = ip_proto {
            // A name says which ICMP, and so which family. The number alone may be meant as it is.
            self.needs.push(match value {
                ICMP if by_name => ("ip_proto", place, Need::V4),
                ICMPV6 if by_name => ("ip_proto", place, Need::V6),
                _ => ("ip_proto", place, Need::Ip),
            });
        }

        for (key, field) in [("ip_tos", flow_key::IP_TOS), ("ip_ttl", flow_key::IP_TTL)] {
            let read = self.masked(key, field, |node| words::masked(node, field.max(), &[]));
            self.needs.extend(read.map(|(_, place)| (key, place, Need::Ip)));
        }
        let read = self.masked("ip_flags", flow_key::IP_FLAGS, |node| words::ip_flags(node.text()?));
        self.needs.extend(read.map(|(_, place)| ("ip_flags", place, Need::Ip)));
        ip_proto
    }

    fn transport(&mut self, ip_proto: IpProto) {
        for (key, field) in [("src_port", flow_key::SRC_PORT), ("dst_port", flow_key::DST_PORT)] {
            let Some((port, place)) = self.placed(key, words::port_match) else { continue };
            match (port, key) {
                (PortMatch::Masked(masked), _) => self.set(field, masked),
                (PortMatch::Range(min, max), "src_port") => self.spec.src_port_range = Some((min, max)),
                (PortMatch::Range(min, max), _) => self.spec.dst_port_range = Some((min, max)),
            }
            self.need_ip_proto(key, place, ip_proto, &[("tcp", 6), ("udp", 17), ("sctp", 132)]);
        }
        if let Some((_, place)) = self.masked("tcp_flags", flow_key::TCP_FLAGS, words::tcp_flags) {
            self.need_ip_proto("tcp_flags", place, ip_proto, &[("tcp", 6)]);
        }
    }

    fn icmp(&mut self, ip_proto: IpProto) {
        let v6 = ip_proto.is_some_and(|(value, _)| value == ICMPV6);
        let (types, codes) = icmp_names(v6);
        for (key, field, names) in
            [("icmp_type", flow_key::ICMP_TYPE, types), ("icmp_code", flow_key::ICMP_CODE, codes)]
        {
            let known = ip_proto.is_some_and(|(value, _)| value == ICMP || value == ICMPV6);
            // Which names there are depends on ip_proto: without it, that is the mistake to report.
            let read = self.masked(key, field, |node| match node.text() {
                Ok(_) if !known => Ok(Masked { value: 0, mask: 0 }),
                _ => words::masked(node, field.max(), names),
            });
            if let Some((_, place)) = read {
                self.need_ip_proto(key, place, ip_proto, &[("icmp", ICMP), ("icmpv6", ICMPV6)]);
                if known {
                    self.needs.push((key, place, if v6 { Need::V6 } else { Need::V4 }));
                }
            }
        }
    }

    fn arp(&mut self) {
        let read =
            self.masked("arp_op", flow_key::ARP_OP, |node| words::masked(node, flow_key::ARP_OP.max(), &ARP_OPS));
        self.needs.extend(read.map(|(_, place)| ("arp_op", place, Need::Arp)));
        for (key, field) in [("arp_sip", flow_key::ARP_SIP), ("arp_tip", flow_key::ARP_TIP)] {
            let read = self.masked(key, field, |node| {
                let (address, mask) = words::prefix_v4(node.text()?)?;
                Ok(Masked { value: u32::from(address).into(), mask: u32::from(mask).into() })
            });
            self.needs.extend(read.map(|(_, place)| (key, place, Need::Arp)));
        }
        for (key, field) in [("arp_sha", flow_key::ARP_SHA), ("arp_tha", flow_key::ARP_THA)] {
            let read = self.masked(key, field, |node| words::mac(node.text()?));
            self.needs.extend(read.map(|(_, place)| (key, place, Need::Arp)));
        }
    }

    /// Ports, flags and types exist in some protocols only [FL-14].
    fn need_ip_proto(&mut self, key: &str, place: Place, ip_proto: IpProto, protos: &[(&str, u8)]) {
        if ip_proto.is_some_and(|(value, _)| protos.iter().any(|(_, proto)| *proto == value)) {
            return;
        }
        let names: Vec<_> = protos.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let wrong = match ip_proto {
            None => Wrong::new(format!("{key}: needs ip_proto")).hint(format!("add ip_proto = {}", names.join(" or "))),
            Some(_) => Wrong::new(format!("{key}: does not go with this ip_proto"))
                .hint(format!("it goes with {}", names.join(" or "))),
        };
        self.problems.push(place, wrong);
    }

    /// Reads a key into a field.
    fn masked(
        &mut self,
        key: &'static str,
        field: Field,
        parse: impl FnOnce(&Node) -> Result<Masked, Wrong>,
    ) -> Option<(Masked, Place)> {
        let read = self.placed(key, parse)?;
        self.set(field, read.0);
        Some(read)
    }

    fn placed<T>(&mut self, key: &'static str, parse: impl FnOnce(&Node) -> Result<T, Wrong>) -> Option<(T, Place)> {
        self.table.read(key, self.problems, |node| Ok((parse(node)?, node.place)))
    }

    /// A mask of zero is as if the key were not given [FL-16].
    fn set(&mut self, field: Field, masked: Masked) {
        if masked.mask != 0 {
            self.spec.value.set(field, masked.value);
            self.spec.mask.set(field, masked.mask);
        }
    }
}

/// What a match says about VLAN tags.
#[derive(Default)]
struct Tags {
    count: Option<u64>,
    /// First key about the outer tag, and about the inner one.
    outer: Option<(&'static str, Place)>,
    inner: Option<(&'static str, Place)>,
    vlan_ethtype: Option<(u16, Place)>,
    cvlan_ethtype: Option<(u16, Place)>,
}

/// What follows for the headers before the addresses.
struct Headers {
    /// Outermost ethertype: the protocol of the filter.
    protocol: u16,
    /// Ethertype after all tags.
    ethertype: Option<u16>,
    /// Ethertype of the inner tag; 0 for none.
    inner_tpid: Option<u16>,
}

impl Tags {
    /// The protocols that suit the match [FL-8]: one, or IPv4 and IPv6, or none if there are contradictions.
    fn protocols(
        &self,
        protocol: Option<u16>,
        needs: &[(&'static str, Place, Need)],
        problems: &mut Problems,
    ) -> Vec<Headers> {
        let protocol = protocol.or(self.outer.or(self.inner).map(|_| VLANS[0]));
        let counted = self.count.unwrap_or(0);
        let tagged = match protocol {
            None | Some(ETH_P_ALL) => counted > 0,
            Some(protocol) => VLANS.contains(&protocol),
        };
        let vlan_ethtype = self.vlan_ethtype.map(|(ethertype, _)| ethertype);
        let double = vlan_ethtype.is_some_and(|ethertype| VLANS.contains(&ethertype)) || counted > 1;
        // [FL-14]
        if let (false, Some((key, place))) = (tagged, self.outer.or(self.inner)) {
            let wrong = Wrong::new(format!("{key}: needs a VLAN protocol"));
            problems.push(place, wrong.hint("leave out protocol, or make it \"802.1Q\" or \"802.1ad\""));
            return Vec::new();
        }
        if let (false, Some((key, place))) = (double, self.inner) {
            let wrong = Wrong::new(format!("{key}: needs a second tag"));
            problems.push(place, wrong.hint("add vlan_ethtype = \"802.1Q\""));
            return Vec::new();
        }

        let (given, mut because) = match (tagged, double) {
            (false, _) => (protocol, "protocol"),
            (true, false) => (vlan_ethtype, "vlan_ethtype"),
            (true, true) => (self.cvlan_ethtype.map(|(ethertype, _)| ethertype), "cvlan_ethtype"),
        };
        let mut candidates = given.map_or(vec![IP, IPV6, ARP], |given| vec![given]);
        for (key, place, need) in needs {
            let conflict = candidates.clone();
            candidates.retain(|ethertype| need.allows(*ethertype));
            if candidates.is_empty() {
                let (need, conflict) = (need.words(), shown(&conflict));
                let wrong = match given {
                    Some(_) => Wrong::new(format!("{key}: goes with {need}, but {because} is {conflict}"))
                        .hint(format!("leave out {because}")),
                    None => Wrong::new(format!("{key}: goes with {need}, but {because} with {conflict}"))
                        .hint("make it two filters"),
                };
                problems.push(*place, wrong);
                return Vec::new();
            }
            if candidates.len() < conflict.len() {
                because = key;
            }
        }
        let ethertypes: Vec<Option<u16>> = match needs {
            [] => vec![given.filter(|given| *given != ETH_P_ALL)],
            _ => candidates.into_iter().map(Some).collect(),
        };
        let headers = ethertypes.into_iter().map(|ethertype| Headers {
            protocol: protocol.or(ethertype.filter(|_| !tagged)).unwrap_or(ETH_P_ALL),
            ethertype,
            inner_tpid: match vlan_ethtype {
                Some(ethertype) => Some(if double { ethertype } else { 0 }),
                None => ethertype.filter(|_| tagged && !double).map(|_| 0),
            },
        });
        headers.collect()
    }
}

/// Value and mask of a key that is a number.
pub(crate) fn number(key: &str, node: &Node, v6: bool) -> Option<(u64, u64)> {
    let (types, codes) = icmp_names(v6);
    let masked = |field: Field, names| words::masked(node, field.max(), names).ok();
    let masked = match key {
        "ip_proto" => words::ip_proto(node).ok().map(|proto| Masked { value: proto.into(), mask: u64::MAX }),
        "ip_tos" => masked(flow_key::IP_TOS, &[]),
        "ip_ttl" => masked(flow_key::IP_TTL, &[]),
        "tcp_flags" => words::tcp_flags(node).ok(),
        "icmp_type" => masked(flow_key::ICMP_TYPE, types),
        "icmp_code" => masked(flow_key::ICMP_CODE, codes),
        "arp_op" => masked(flow_key::ARP_OP, &ARP_OPS),
        "src_port" | "dst_port" => match words::port_match(node).ok()? {
            PortMatch::Masked(masked) => Some(masked),
            PortMatch::Range(..) => None,
        },
        _ => None,
    };
    masked.map(|Masked { value, mask }| (value, mask))
}

/// Ethertypes as the file writes them.
fn shown(ethertypes: &[u16]) -> String {
    ethertypes.iter().copied().map(words::show_protocol).collect::<Vec<_>>().join(" or ")
}

/// A protocol that suits a match: for templates, which belong to none.
pub(crate) fn protocol_of(spec: &FlowerSpec) -> u16 {
    let tags = [flow_key::VLAN_ID, flow_key::VLAN_PRIO, flow_key::CVLAN_ID, flow_key::CVLAN_PRIO, flow_key::CVLAN_TPID];
    if tags.iter().any(|tag| spec.mask.get(*tag) != 0) {
        return VLANS[0];
    }
    match (spec.mask.get(flow_key::ETH_TYPE), spec.value.get(flow_key::ETH_TYPE)) {
        (0, _) => ETH_P_ALL,
        #[expect(clippy::cast_possible_truncation, reason = "an ethertype's field is 16 bits wide")]
        (_, ethertype) => ethertype as u16,
    }
}

/// The keys of a match, such that [`read`] with the protocol makes it again.
pub(crate) fn show(protocol: u16, spec: &FlowerSpec, ports: &Names) -> Map<String, Json> {
    let mut shower = Shower { spec, keys: Map::new() };
    shower.all(protocol, ports);
    shower.keys
}

/// Puts down the keys one by one, in the order of the documentation.
struct Shower<'a> {
    spec: &'a FlowerSpec,
    keys: Map<String, Json>,
}

impl Shower<'_> {
    fn all(&mut self, protocol: u16, ports: &Names) {
        let number = |masked: Masked| masked.value.into();
        let mac = |masked| words::show_mac(masked).into();
        let address_v4 = |Masked { value, mask }: Masked| words::show_prefix(v4(value), v4(mask)).into();
        let ethertype = self.get(flow_key::ETH_TYPE).value;
        let ip_proto = self.get(flow_key::IP_PROTO).value;

        self.put("dst_mac", flow_key::DST_MAC, mac);
        self.put("src_mac", flow_key::SRC_MAC, mac);
        self.put("indev", flow_key::INDEV, |masked| {
            let port = u32::try_from(masked.value).ok().and_then(|port| port.checked_sub(1));
            port.and_then(|port| ports.name(port)).unwrap_or("*").into()
        });
        self.put("num_of_vlans", flow_key::NUM_OF_VLANS, number);
        self.put("vlan_id", flow_key::VLAN_ID, number);
        self.put("vlan_prio", flow_key::VLAN_PRIO, number);
        self.put("cvlan_id", flow_key::CVLAN_ID, number);
        self.put("cvlan_prio", flow_key::CVLAN_PRIO, number);
        self.vlan_ethertypes(protocol);
        self.addresses(ethertype);
        self.put("ip_proto", flow_key::IP_PROTO, |masked| match (masked.value, ethertype) {
            // The name stands for one family.
            (1, ethertype) if ethertype != u64::from(IP) => number(masked),
            (58, ethertype) if ethertype != u64::from(IPV6) => number(masked),
            _ => words::show_ip_proto(masked.value),
        });
        for (key, field) in [("ip_tos", flow_key::IP_TOS), ("ip_ttl", flow_key::IP_TTL)] {
            self.put(key, field, |masked| words::show_masked(masked, field.max(), &[]));
        }
        self.put("ip_flags", flow_key::IP_FLAGS, |masked| words::show_ip_flags(masked).into());
        self.ports();
        self.put("tcp_flags", flow_key::TCP_FLAGS, words::show_tcp_flags);
        let (types, _) = icmp_names(ip_proto == u64::from(ICMPV6));
        // Names of codes belong to one type of message: a number is never misleading.
        for (key, field, names) in [("icmp_type", flow_key::ICMP_TYPE, types), ("icmp_code", flow_key::ICMP_CODE, &[])]
        {
            self.put(key, field, |masked| words::show_masked(masked, field.max(), names));
        }
        self.put("arp_op", flow_key::ARP_OP, |masked| words::show_masked(masked, flow_key::ARP_OP.max(), &ARP_OPS));
        self.put("arp_sip", flow_key::ARP_SIP, address_v4);
        self.put("arp_tip", flow_key::ARP_TIP, address_v4);
        self.put("arp_sha", flow_key::ARP_SHA, mac);
        self.put("arp_tha", flow_key::ARP_THA, mac);
    }

    /// What [`Tags::protocols`] made of them.
    fn vlan_ethertypes(&mut self, protocol: u16) {
        let counted = self.get(flow_key::NUM_OF_VLANS).value;
        let tagged = VLANS.contains(&protocol) || protocol == ETH_P_ALL && counted > 0;
        let (inner, ethertype) = (self.get(flow_key::CVLAN_TPID), self.get(flow_key::ETH_TYPE));
        if !tagged {
            return;
        }
        let behind_two = inner.mask == 0 || inner.value != 0;
        if behind_two && inner.mask != 0 {
            self.put("vlan_ethtype", flow_key::CVLAN_TPID, show_ethertype);
        }
        if ethertype.mask != 0 {
            let key = if behind_two { "cvlan_ethtype" } else { "vlan_ethtype" };
            self.put(key, flow_key::ETH_TYPE, show_ethertype);
        }
    }

    fn addresses(&mut self, ethertype: u64) {
        for (key, high, low) in [
            ("src_ip", flow_key::SRC_IP_HIGH, flow_key::SRC_IP_LOW),
            ("dst_ip", flow_key::DST_IP_HIGH, flow_key::DST_IP_LOW),
        ] {
            let (high, low) = (self.get(high), self.get(low));
            let join = |high: u64, low: u64| match ethertype == u64::from(IPV6) {
                true => IpAddr::V6(Ipv6Addr::from(u128::from(high) << 64 | u128::from(low))),
                false => v4(low),
            };
            if high.mask != 0 || low.mask != 0 {
                let shown = words::show_prefix(join(high.value, low.value), join(high.mask, low.mask));
                self.keys.insert(key.into(), shown.into());
            }
        }
    }

    fn ports(&mut self) {
        let ranges = [self.spec.src_port_range, self.spec.dst_port_range];
        for ((key, field), range) in
            [("src_port", flow_key::SRC_PORT), ("dst_port", flow_key::DST_PORT)].into_iter().zip(ranges)
        {
            match range {
                Some((min, max)) => _ = self.keys.insert(key.into(), format!("{min}-{max}").into()),
                None => self.put(key, field, |masked| words::show_masked(masked, field.max(), &[])),
            }
        }
    }

    fn put(&mut self, key: &str, field: Field, show: impl FnOnce(Masked) -> Json) {
        let masked = self.get(field);
        if masked.mask != 0 {
            self.keys.insert(key.into(), show(masked));
        }
    }

    fn get(&self, field: Field) -> Masked {
        Masked { value: self.spec.value.get(field), mask: self.spec.mask.get(field) }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "an ethertype's field is 16 bits wide")]
fn show_ethertype(masked: Masked) -> Json {
    words::show_protocol(masked.value as u16).into()
}

/// The IPv4 address in the low 32 bits of a field.
#[expect(clippy::cast_possible_truncation, reason = "the upper half is not part of it")]
fn v4(number: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(number as u32))
}

/// Names of numbers.
type Words = &'static [(&'static str, u64)];

/// Names of types and codes.
fn icmp_names(v6: bool) -> (Words, Words) {
    if v6 { (&ICMPV6_TYPES, &ICMPV6_CODES) } else { (&ICMP_TYPES, &ICMP_CODES) }
}
