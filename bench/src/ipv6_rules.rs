//! IPv6 rule sets, which ClassBench has none of: made up, the same each time.
//!
//! Networks lie within one another as they do in the world: a provider has a /32, its customers a /40, /48 or /56 of it, their
//! segments a /64, hosts a /128. Rules are about any of these, mostly towards a well-known port.

use std::collections::HashSet;

use fastrand::Rng;

use crate::rule_set::{ANY_PORT, Header, ICMPV6, Prefix, Range, Rule, RuleSet, TCP, UDP, Version};

const SEED: u64 = 6;

/// Rules for each provider: the more rules, the more networks.
const RULES_EACH: usize = 500;
/// Customers of a provider, segments of a customer and hosts of a segment that rules are about.
const CUSTOMERS: u64 = 40;
const SEGMENTS: u64 = 8;
const HOSTS: u64 = 16;

/// Ports that services are found at.
const SERVICES: [u16; 16] = [22, 25, 53, 80, 110, 123, 143, 179, 443, 853, 993, 1521, 3306, 5060, 5432, 8080];
const SERVICE_RANGES: [Range; 5] = [(1024, u16::MAX), (0, 1023), (137, 139), (6000, 6063), (33434, 33523)];
const EPHEMERAL: Range = (1024, u16::MAX);

/// A set of `rules` different rules, the most specific ones first, and `headers` headers that are drawn from them.
pub(crate) fn generate(rules: usize, headers: usize) -> RuleSet {
    let mut rng = Rng::with_seed(SEED);
    let providers = (rules / RULES_EACH).max(2) as u64;
    let (mut drawn, mut seen) = (Vec::with_capacity(rules), HashSet::with_capacity(rules));
    while drawn.len() < rules {
        let rule = rule(providers, &mut rng);
        if seen.insert(rule) {
            drawn.push(rule);
        }
    }
    drawn.sort_by_key(|rule| std::cmp::Reverse(specificity(rule))); // stable: the same each time
    let headers = (0..headers).map(|_| header(&drawn[rng.usize(..drawn.len())], &mut rng)).collect();
    RuleSet { version: Version::V6, rules: drawn, headers, labels: None }
}

/// Bits of a header that a rule looks at, a range being less than a port.
fn specificity(rule: &Rule) -> u32 {
    let bits = |(least, most): Range| (u32::from(most - least) + 1).leading_zeros() - (u16::BITS - 1);
    let ports = bits(rule.src_ports) + bits(rule.dst_ports);
    rule.src.len() + rule.dst.len() + ports + rule.proto.map_or(0, |_| u8::BITS)
}

fn rule(providers: u64, rng: &mut Rng) -> Rule {
    let proto = match rng.u8(0..20) {
        0..=10 => Some(TCP),
        11..=15 => Some(UDP),
        16 | 17 => Some(ICMPV6),
        _ => None,
    };
    let (src_ports, dst_ports) = match proto {
        Some(TCP | UDP) => (src_ports(rng), dst_ports(rng)),
        _ => (ANY_PORT, ANY_PORT), // others have none
    };
    let src = if rng.u8(0..4) == 0 { Prefix::new(Version::V6, 0, 0) } else { network(providers, rng) };
    Rule { src, dst: network(providers, rng), src_ports, dst_ports, proto }
}

fn network(providers: u64, rng: &mut Rng) -> Prefix {
    // Numbers that count up from 0 would lie side by side; these are spread and yet the same for the same number.
    let spread = |number: u64, bits: u32| u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits));
    let (provider, customer) = (rng.u64(..providers), rng.u64(..CUSTOMERS));
    let (segment, host) = (rng.u64(..SEGMENTS), rng.u64(..HOSTS));
    let address = (0x2 << 124)
        | spread(provider + 1, 28) << 96
        | spread(customer + 1, 24) << 72
        | spread(segment + 1, 8) << 64
        | spread(host + 1, 64);
    let len = match rng.u8(0..20) {
        0 => 32,
        1 => 40,
        2..=5 => 48,
        6 | 7 => 56,
        8..=13 => 64,
        _ => 128,
    };
    Prefix::new(Version::V6, address, len)
}

fn src_ports(rng: &mut Rng) -> Range {
    match rng.u8(0..20) {
        0 => one(SERVICES[rng.usize(..SERVICES.len())]),
        1 | 2 => EPHEMERAL,
        _ => ANY_PORT,
    }
}

fn dst_ports(rng: &mut Rng) -> Range {
    match rng.u8(0..20) {
        0..=10 => one(SERVICES[rng.usize(..SERVICES.len())]),
        11..=13 => one(rng.u16(1024..)),
        14..=16 => SERVICE_RANGES[rng.usize(..SERVICE_RANGES.len())],
        _ => ANY_PORT,
    }
}

fn one(port: u16) -> Range {
    (port, port)
}

/// A header that `rule` matches, half of them at a corner of what it spans; one in twenty has an address of its own instead.
fn header(rule: &Rule, rng: &mut Rng) -> Header {
    let corner = rng.bool();
    let mut header = Header {
        src: address(&rule.src, corner, rng),
        dst: address(&rule.dst, corner, rng),
        src_port: port(rule.src_ports, corner, rng),
        dst_port: port(rule.dst_ports, corner, rng),
        proto: rule.proto.unwrap_or_else(|| [TCP, TCP, TCP, UDP, UDP, ICMPV6][rng.usize(..6)]),
    };
    if rng.u8(0..20) == 0 {
        *[&mut header.src, &mut header.dst][rng.usize(..2)] = rng.u128(..);
    }
    header
}

fn address(prefix: &Prefix, corner: bool, rng: &mut Rng) -> u128 {
    let rest = if corner { [0, u128::MAX][rng.usize(..2)] } else { rng.u128(..) };
    prefix.value | rest & !prefix.mask
}

fn port((least, most): Range, corner: bool, rng: &mut Rng) -> u16 {
    if corner { [least, most][rng.usize(..2)] } else { rng.u16(least..=most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule_set::Order;

    #[test]
    fn rules_are_different_and_every_shape_comes() {
        let set = generate(2000, 0);
        assert_eq!(set.rules.iter().collect::<HashSet<_>>().len(), 2000);
        assert!(set.rules.is_sorted_by_key(|rule| std::cmp::Reverse(specificity(rule))));
        for len in [32, 40, 48, 56, 64, 128] {
            assert!(set.rules.iter().filter(|rule| rule.dst.len() == len).count() > 50, "/{len}");
        }
        for proto in [Some(TCP), Some(UDP), Some(ICMPV6), None] {
            assert!(set.rules.iter().filter(|rule| rule.proto == proto).count() > 50, "{proto:?}");
        }
        assert!(set.rules.iter().all(|rule| rule.src_ports == ANY_PORT || matches!(rule.proto, Some(TCP | UDP))));
        let within =
            |outer: &Prefix, inner: &Prefix| outer.len() < inner.len() && inner.value & outer.mask == outer.value;
        let nested = set.rules.iter().filter(|inner| set.rules.iter().any(|outer| within(&outer.dst, &inner.dst)));
        assert!(nested.count() > 1000, "networks lie within one another");
    }

    #[test]
    fn nearly_every_header_is_of_a_rule_and_many_rules_are_the_best_of_one() {
        let set = generate(500, 2000);
        let ranks = Order::File.ranks(500);
        let found: Vec<u32> = set.headers.iter().filter_map(|header| set.search(&ranks, header)).collect();
        assert!((1800..2000).contains(&found.len()), "{}", found.len());
        assert!(found.iter().collect::<HashSet<_>>().len() > 400);
    }

    #[test]
    fn the_same_set_comes_each_time() {
        let (one, other) = (generate(300, 300), generate(300, 300));
        assert_eq!((one.rules, one.headers), (other.rules, other.headers));
    }

    #[test]
    fn what_is_narrower_is_more_specific() {
        let any = Rule {
            src: Prefix::new(Version::V6, 0, 0),
            dst: Prefix::new(Version::V6, 0, 64),
            src_ports: ANY_PORT,
            dst_ports: ANY_PORT,
            proto: None,
        };
        let ranges = [(0, u16::MAX), (1024, u16::MAX), (0, 1023), (5, 6), (5, 5)];
        let all = ranges.map(|dst_ports| specificity(&Rule { dst_ports, ..any }));
        assert_eq!(all, [64, 65, 70, 79, 80]);
    }
}
