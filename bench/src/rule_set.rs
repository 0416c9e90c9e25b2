//! Rule sets to classify with: rules, headers drawn from them, and the slow answer that the fast ones must agree with.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use fastrand::Rng;
use serde::Serialize;
use tidegate_classifiers::flow_key::{DST_PORT, FlowKey, IP_PROTO, SRC_PORT};
use tidegate_classifiers::request::FlowerSpec;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// Every port.
pub(crate) const ANY_PORT: Range = (0, u16::MAX);

/// Seed of the order of priorities.
const SHUFFLE_SEED: u64 = 5;

/// Rules, best first, and headers to look up.
#[derive(Clone, Debug)]
pub(crate) struct RuleSet {
    /// Of all rules and headers.
    pub(crate) version: Version,
    /// As their author ordered them.
    pub(crate) rules: Vec<Rule>,
    /// As they come in the uniform trace.
    pub(crate) headers: Vec<Header>,
    /// For each header, the first rule that matches it, by whoever made the set; nothing if it did not say.
    pub(crate) labels: Option<Vec<Answer>>,
}

/// The rule that a header matches, counted from 0.
pub(crate) type Answer = Option<u32>;

/// Ends are included.
pub(crate) type Range = (u16, u16);

/// Of the Internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// A prefix of each address, a range of each port, a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rule {
    pub(crate) src: Prefix,
    pub(crate) dst: Prefix,
    pub(crate) src_ports: Range,
    pub(crate) dst_ports: Range,
    /// Nothing for any.
    pub(crate) proto: Option<u8>,
}

/// Addresses of which the bits in `mask` are those of `value`. IPv4 addresses are the low 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prefix {
    pub(crate) value: u128,
    pub(crate) mask: u128,
}

/// What a packet shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Header {
    pub(crate) src: u128,
    pub(crate) dst: u128,
    /// Means nothing but for TCP and UDP, as the other port.
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) proto: u8,
}

/// Which priorities the rules of a set have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// As in the file.
    File,
    /// Any, always the same.
    Shuffled,
}

impl Version {
    /// Bits of an address.
    pub(crate) fn bits(self) -> u8 {
        match self {
            Version::V4 => 32,
            Version::V6 => 128,
        }
    }

    /// Of a frame that carries it.
    pub(crate) fn ethertype(self) -> u16 {
        match self {
            Version::V4 => 0x0800,
            Version::V6 => 0x86dd,
        }
    }
}

impl Prefix {
    /// The first `len` bits of `address`.
    pub(crate) fn new(version: Version, address: u128, len: u8) -> Prefix {
        let all = u128::MAX >> (128 - version.bits());
        let mask = all & all.checked_shl((version.bits() - len).into()).unwrap_or(0);
        Prefix { value: address & mask, mask }
    }

    /// How many bits are given.
    pub(crate) fn len(&self) -> u32 {
        self.mask.count_ones()
    }

    #[inline]
    fn contains(&self, address: u128) -> bool {
        address & self.mask == self.value
    }
}

impl Rule {
    #[inline]
    pub(crate) fn matches(&self, header: &Header) -> bool {
        let within = |(least, most): Range, port: u16| least <= port && port <= most;
        self.src.contains(header.src)
            && self.dst.contains(header.dst)
            && within(self.src_ports, header.src_port)
            && within(self.dst_ports, header.dst_port)
            && self.proto.is_none_or(|proto| proto == header.proto)
    }

    /// As a filter.
    pub(crate) fn flower(&self) -> FlowerSpec {
        let (mut value, mut mask) = (FlowKey::EMPTY, FlowKey::EMPTY);
        // A flow key has IPv4 addresses where an IPv6 address has its low bits, as a prefix has.
        for (key, src, dst) in [(&mut value, self.src.value, self.dst.value), (&mut mask, self.src.mask, self.dst.mask)]
        {
            key.set_src_ipv6(Ipv6Addr::from(src));
            key.set_dst_ipv6(Ipv6Addr::from(dst));
        }
        if let Some(proto) = self.proto {
            value.set(IP_PROTO, proto.into());
            mask.set(IP_PROTO, IP_PROTO.max());
        }
        let mut ports = [None; 2];
        for ((range, field), ports) in
            [self.src_ports, self.dst_ports].into_iter().zip([SRC_PORT, DST_PORT]).zip(&mut ports)
        {
            match range {
                ANY_PORT => {}
                (least, most) if least == most => {
                    value.set(field, least.into());
                    mask.set(field, field.max());
                }
                range => *ports = Some(range),
            }
        }
        let [src_port_range, dst_port_range] = ports;
        FlowerSpec { value, mask, src_port_range, dst_port_range }
    }
}

impl Header {
    /// A packet that shows it.
    pub(crate) fn frame(&self, version: Version) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address is 32 bits")]
        let network = match version {
            Version::V4 => link.ipv4((self.src as u32).to_be_bytes(), (self.dst as u32).to_be_bytes(), 64),
            Version::V6 => link.ipv6(self.src.to_be_bytes(), self.dst.to_be_bytes(), 64),
        };
        let (mut frame, payload) = (Vec::new(), [0; 18]);
        let written = match self.proto {
            TCP => network.tcp(self.src_port, self.dst_port, 0, 1024).write(&mut frame, &payload),
            UDP => network.udp(self.src_port, self.dst_port).write(&mut frame, &payload),
            proto => network.write(&mut frame, proto.into(), &payload),
        };
        assert!(written.is_ok(), "a frame in memory is written to its end");
        frame
    }
}

impl Order {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Order::File => "in file order",
            Order::Shuffled => "shuffled",
        }
    }

    /// For each of so many rules, how many are better.
    pub(crate) fn ranks(self, rules: usize) -> Vec<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "as many as priorities at most")]
        let mut ranks: Vec<u32> = (0..rules as u32).collect();
        if self == Order::Shuffled {
            Rng::with_seed(SHUFFLE_SEED).shuffle(&mut ranks);
        }
        ranks
    }
}

impl RuleSet {
    /// The best rule that matches, by looking at them all.
    pub(crate) fn search(&self, ranks: &[u32], header: &Header) -> Answer {
        let matching = (0..).zip(&self.rules).zip(ranks).filter(|((_, rule), _)| rule.matches(header));
        matching.min_by_key(|&(_, rank)| rank).map(|((id, _), _)| id)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_classifiers::flow_key::{DST_IP_LOW, SRC_IP_HIGH, SRC_IP_LOW};
    use tidegate_classifiers::packet::Packet;
    use tidegate_classifiers::port::PortId;

    use super::*;

    fn rule(src: (u128, u8), proto: Option<u8>) -> Rule {
        Rule {
            src: Prefix::new(Version::V4, src.0, src.1),
            dst: Prefix::new(Version::V4, 0, 0),
            src_ports: ANY_PORT,
            dst_ports: ANY_PORT,
            proto,
        }
    }

    fn header(src: u128, proto: u8) -> Header {
        Header { src, dst: 7, src_port: 1000, dst_port: 53, proto }
    }

    #[test]
    fn a_prefix_has_the_bits_of_its_version() {
        assert_eq!(Prefix::new(Version::V4, 0x0a01_0203, 8), Prefix { value: 0x0a00_0000, mask: 0xff00_0000 });
        assert_eq!(Prefix::new(Version::V4, 0x0a01_0203, 0), Prefix { value: 0, mask: 0 });
        assert_eq!(Prefix::new(Version::V6, u128::MAX, 1), Prefix { value: 1 << 127, mask: 1 << 127 });
        assert_eq!(Prefix::new(Version::V6, 5, 128), Prefix { value: 5, mask: u128::MAX });
    }

    #[test]
    fn a_rule_matches_what_every_part_of_it_matches() {
        let web = Rule { dst_ports: (50, 53), src_ports: (1000, 1000), ..rule((0x0a00_0000, 8), Some(UDP)) };
        let hit = header(0x0aff_ffff, UDP);
        assert!(web.matches(&hit));
        for miss in [
            header(0x0b00_0000, UDP),
            header(0x0aff_ffff, TCP),
            Header { src_port: 999, ..hit },
            Header { dst_port: 49, ..hit },
            Header { dst_port: 54, ..hit },
        ] {
            assert!(!web.matches(&miss), "{miss:?}");
        }
    }

    #[test]
    fn a_filter_says_what_the_rule_says() {
        let rule = Rule { dst_ports: (50, 53), src_ports: (1000, 1000), ..rule((0x0a00_0000, 8), Some(UDP)) };
        let FlowerSpec { value, mask, src_port_range, dst_port_range } = rule.flower();
        assert_eq!((value.get(SRC_IP_LOW), mask.get(SRC_IP_LOW)), (0x0a00_0000, 0xff00_0000));
        assert_eq!((mask.get(SRC_IP_HIGH), mask.get(DST_IP_LOW)), (0, 0));
        assert_eq!((value.get(IP_PROTO), mask.get(IP_PROTO)), (17, 0xff));
        assert_eq!((value.get(SRC_PORT), mask.get(SRC_PORT), mask.get(DST_PORT)), (1000, 0xffff, 0));
        assert_eq!((src_port_range, dst_port_range), (None, Some((50, 53))));
    }

    #[test]
    fn a_packet_shows_its_header() {
        for version in [Version::V4, Version::V6] {
            for proto in [TCP, UDP, if version == Version::V4 { 1 } else { ICMPV6 }, 47, 50, 51] {
                if (version, proto) == (Version::V6, 51) {
                    continue; // an extension header there, which the parser passes over
                }
                let header = header(u128::MAX >> (128 - version.bits()), proto);
                let packet = Packet::parse(&header.frame(version), PortId(0)).unwrap();
                let rule = Rule {
                    src: Prefix::new(version, header.src, version.bits()),
                    dst: Prefix::new(version, header.dst, version.bits()),
                    ..rule((0, 0), Some(proto))
                };
                let ports = if [TCP, UDP].contains(&proto) { (1000, 53) } else { (0, 0) };
                assert_eq!(packet.protocol(), version.ethertype());
                assert_eq!(packet.key().masked(&rule.flower().mask), rule.flower().value, "{version:?} {proto}");
                assert_eq!((packet.key().get(SRC_PORT), packet.key().get(DST_PORT)), ports, "{version:?} {proto}");
            }
        }
    }

    #[test]
    fn the_best_rule_is_found_in_either_order() {
        let rules = vec![rule((1, 32), None), rule((0, 0), Some(TCP)), rule((0, 0), None)];
        let set = RuleSet { version: Version::V4, rules, headers: Vec::new(), labels: None };
        let found =
            |ranks: &[u32]| [(1, TCP), (2, TCP), (2, UDP)].map(|(src, proto)| set.search(ranks, &header(src, proto)));
        assert_eq!(found(&Order::File.ranks(3)), [Some(0), Some(1), Some(2)]);
        assert_eq!(found(&[2, 1, 0]), [Some(2); 3]);
        assert_eq!(found(&[0, 2, 1]), [Some(0), Some(2), Some(2)]);
    }

    #[test]
    fn shuffled_ranks_are_the_same_ones_each_time_and_in_another_order() {
        let (file, shuffled) = (Order::File.ranks(1000), Order::Shuffled.ranks(1000));
        assert!(file.is_sorted() && !shuffled.is_sorted());
        assert_eq!(shuffled, Order::Shuffled.ranks(1000));
        let mut sorted = shuffled;
        sorted.sort_unstable();
        assert_eq!(sorted, file);
    }
}
