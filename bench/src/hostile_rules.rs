//! Rule sets that are meant to make lookups slow, each the same each time.
//!
//! Somebody who may write filters, or send packets, knows how the index works: it looks a packet up once for each mask that the
//! addresses, ports and protocols of some filters do not rule out, and compares it with the filters of its key one by one.

use std::collections::HashSet;

use fastrand::Rng;

use crate::rule_set::{ANY_PORT, Header, Prefix, Range, Rule, RuleSet, TCP, UDP, Version};

const SEED: u64 = 7;

/// What is aimed at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// Each rule has a mask of its own, networks are nested, and the widest rules come first or anywhere.
    Masks,
    /// Each mask has a rule for the packets' source and another one for their destination, and none for both: nothing is
    /// ruled out, and nothing found.
    Crossed,
    /// One mask, one key, and port ranges that overlap, the narrow ones first.
    Ranges,
}

/// Lengths of two prefixes, what is wanted of two ports, and whether the protocol matters.
type Shape = (u8, u8, Ports, Ports, bool);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ports {
    Any,
    One,
    Some,
}

/// A set of at most `rules` rules, and `headers` headers for which it is slow.
pub(crate) fn generate(aim: Aim, rules: usize, headers: usize) -> RuleSet {
    let mut rng = Rng::with_seed(SEED);
    let rules = match aim {
        Aim::Masks => masks(rules, &mut rng),
        Aim::Crossed => crossed(rules, &mut rng),
        Aim::Ranges => ranges(rules, &mut rng),
    };
    let headers = (0..headers).map(|_| header(&mut rng)).collect();
    RuleSet { version: Version::V4, rules, headers, labels: None }
}

/// Where all packets come from and go to, but for the last bits; and somewhere else.
const HERE: (u32, u32) = (0x0a14_1e00, 0xc000_0200);
const ELSEWHERE: (u32, u32) = (0x8000_0001, 0x4000_0001);

fn header(rng: &mut Rng) -> Header {
    let (src, dst) = (HERE.0 | u32::from(rng.u8(..)), HERE.1 | u32::from(rng.u8(..)));
    let proto = if rng.bool() { UDP } else { TCP };
    Header { src: src.into(), dst: dst.into(), src_port: rng.u16(..), dst_port: rng.u16(..), proto }
}

/// Different shapes, in any order.
fn shapes(count: usize, rng: &mut Rng) -> Vec<Shape> {
    let ports = [Ports::Any, Ports::One, Ports::Some];
    let mut shapes = Vec::new();
    for (src, dst) in (0..=32).flat_map(|src| (0..=32).map(move |dst| (src, dst))) {
        for (a, b) in ports.iter().flat_map(|&a| ports.iter().map(move |&b| (a, b))) {
            shapes.push((src, dst, a, b, true));
            shapes.extend((a == Ports::Any && b == Ports::Any).then_some((src, dst, a, b, false))); // ports are of a protocol
        }
    }
    rng.shuffle(&mut shapes);
    shapes.truncate(count);
    shapes
}

fn rule((from, to): (u32, u32), (src, dst, src_ports, dst_ports, proto): Shape, rng: &mut Rng) -> Rule {
    let prefix = |address: u32, len: u8| Prefix::new(Version::V4, address.into(), len);
    let mut ports = |wanted: Ports| match wanted {
        Ports::Any => ANY_PORT,
        Ports::One => {
            let port = rng.u16(..);
            (port, port)
        }
        Ports::Some => range(rng),
    };
    let (src_ports, dst_ports) = (ports(src_ports), ports(dst_ports));
    Rule { src: prefix(from, src), dst: prefix(to, dst), src_ports, dst_ports, proto: proto.then_some(UDP) }
}

fn range(rng: &mut Rng) -> Range {
    let least = rng.u16(..u16::MAX - 1);
    (least, rng.u16(least + 1..u16::MAX))
}

fn masks(count: usize, rng: &mut Rng) -> Vec<Rule> {
    let shapes = shapes(count, rng);
    let mut rules: Vec<Rule> = shapes.into_iter().map(|shape| rule(HERE, shape, rng)).collect();
    rules.sort_by_key(|rule| rule.src.len() + rule.dst.len());
    rules
}

fn crossed(count: usize, rng: &mut Rng) -> Vec<Rule> {
    let wanted = shapes(usize::MAX, rng).into_iter().filter(|(src, dst, ..)| *src > 0 && *dst > 0);
    let pairs =
        wanted.take(count / 2).flat_map(|shape| [(HERE.0, ELSEWHERE.1), (ELSEWHERE.0, HERE.1)].map(|at| (at, shape)));
    pairs.map(|(at, shape)| rule(at, shape, rng)).collect()
}

fn ranges(count: usize, rng: &mut Rng) -> Vec<Rule> {
    let shape = (24, 24, Ports::Some, Ports::Some, true);
    let (mut rules, mut seen) = (Vec::with_capacity(count), HashSet::with_capacity(count));
    while rules.len() < count {
        let rule = rule(HERE, shape, rng);
        if seen.insert(rule) {
            rules.push(rule);
        }
    }
    let width = |(least, most): Range| u32::from(most - least) + 1;
    rules.sort_by_key(|rule| {
        (width(rule.src_ports).saturating_mul(width(rule.dst_ports)), rule.src_ports, rule.dst_ports)
    });
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule_set::Order;

    /// What tells the masks of a rule.
    fn mask(rule: &Rule) -> (u32, u32, [u8; 2], bool) {
        let kind = |range: Range| if range == ANY_PORT { 0 } else { 1 + u8::from(range.0 < range.1) };
        (rule.src.len(), rule.dst.len(), [rule.src_ports, rule.dst_ports].map(kind), rule.proto.is_some())
    }

    #[test]
    fn sets_are_what_they_aim_at() {
        let distinct = |set: &RuleSet| set.rules.iter().map(mask).collect::<HashSet<_>>().len();
        let masks = generate(Aim::Masks, 10_000, 10);
        assert_eq!((masks.rules.len(), distinct(&masks)), (10_000, 10_000));
        let crossed = generate(Aim::Crossed, 10_000, 100);
        assert_eq!((crossed.rules.len(), distinct(&crossed)), (10_000, 5_000));
        let ranks = Order::File.ranks(crossed.rules.len());
        assert!(crossed.headers.iter().all(|header| crossed.search(&ranks, header).is_none()));
        let ranges = generate(Aim::Ranges, 1_000, 10);
        assert_eq!((ranges.rules.len(), distinct(&ranges)), (1_000, 1));
    }
}
