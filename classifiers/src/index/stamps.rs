//! Stamps: whether filters for a packet may have come or gone since its answer was found.
//!
//! A stamp counts changes. A filter that comes or goes counts at one of them: that of the network its packets go to, if it says so
//! much, else that of the network they come from, else the one of all packets. A packet has the sum of those stamps at which a
//! filter for it could have counted. They never go down, so a sum that is the same says that each of them is.
//!
//! Who changes the index counts *after* a filter that comes can be found, and after one that goes cannot any more, and before anybody
//! can set it free. Who searches reads the sum *before* the search, and what was found is as old as the sum: it may be even
//! newer, never older. So while the sum is the same, no filter has come that the search did not know, and none has gone that it did.

use super::dimension::Family;
use super::rule::{Key, Rule};
use crate::flow_key::{self as fields, Field};
use crate::sync::{AtomicU64, Ordering};

/// Stamps of a level: a power of two each. Networks share them.
const FINE: usize = if cfg!(feature = "shuttle") { 2 } else { 512 };
const COARSE: usize = if cfg!(feature = "shuttle") { 2 } else { 256 };

/// Networks whose filters count together.
struct Level {
    field: Field,
    /// Highest bits of the field that do not count, and how many follow that do.
    skip: u32,
    bits: u32,
    /// Where its stamps are, and how many.
    first: usize,
    len: usize,
}

const LEVELS: usize = 4;

impl Level {
    const fn new(field: Field, skip: u32, bits: u32, level: usize) -> Level {
        let first = [0, FINE, 2 * FINE, 2 * FINE + COARSE][level];
        Level { field, skip, bits, first, len: [FINE, FINE, COARSE, COARSE][level] }
    }

    /// The network that `key` is in, in the lowest bits; all ones for a mask that says so much.
    #[inline(always)]
    fn network(&self, key: &Key) -> u64 {
        key[self.field.word] << self.skip >> (64 - self.bits)
    }

    #[inline(always)]
    fn place(&self, key: &Key) -> usize {
        let place = (self.network(key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        self.first + (place >> 16) % self.len
    }
}

/// From the finest on: of IPv4 /24 and /16, of IPv6 /64 and /32.
const V4: [Level; LEVELS] = [
    Level::new(fields::DST_IP_LOW, 32, 24, 0),
    Level::new(fields::SRC_IP_LOW, 32, 24, 1),
    Level::new(fields::DST_IP_LOW, 32, 16, 2),
    Level::new(fields::SRC_IP_LOW, 32, 16, 3),
];
const V6: [Level; LEVELS] = [
    Level::new(fields::DST_IP_HIGH, 0, 64, 0),
    Level::new(fields::SRC_IP_HIGH, 0, 64, 1),
    Level::new(fields::DST_IP_HIGH, 0, 32, 2),
    Level::new(fields::SRC_IP_HIGH, 0, 32, 3),
];

/// The levels of packets of a family.
fn levels(family: Family) -> &'static [Level] {
    match family {
        Family::V4 => &V4,
        Family::V6 => &V6,
        Family::Other => &[],
    }
}

/// Where the stamp of all packets is.
const COMMON: usize = 2 * FINE + 2 * COARSE;

/// The stamps of an index.
#[derive(Debug)]
pub(super) struct Stamps(Box<[AtomicU64]>);

impl Stamps {
    pub(super) fn new() -> Stamps {
        Stamps((0..=COMMON).map(|_| AtomicU64::new(0)).collect())
    }

    /// The sum for packets of `key`, which are of `family`.
    #[inline(always)]
    pub(super) fn sum(&self, family: Family, key: &Key) -> u64 {
        let stamp = |place: usize| self.0[place].load(Ordering::Acquire);
        let add = |sum: u64, level: &Level| sum.wrapping_add(stamp(level.place(key)));
        match family {
            Family::V4 => V4.iter().fold(stamp(COMMON), add), // each with levels that the compiler knows
            Family::V6 => V6.iter().fold(stamp(COMMON), add),
            Family::Other => stamp(COMMON),
        }
    }

    /// Filters of `rule` have come or gone. Only by the index's one writer.
    pub(super) fn count(&self, rule: Option<&Rule>) {
        let place = rule.and_then(|rule| {
            let (value, mask) = (rule.value(), rule.mask());
            let says = |level: &&Level| level.network(mask.key().words()) == u64::MAX >> (64 - level.bits);
            levels(Family::of_filters(mask, value.words())?).iter().find(says).map(|level| level.place(value.words()))
        });
        self.0[place.unwrap_or(COMMON)].fetch_add(1, Ordering::Release);
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::flow_key::FlowKey;
    use crate::request::FlowerSpec;
    use crate::wire::ethertype::{IPV4, IPV6};

    const OTHER: [u16; 8] = [0x2001, 0xdb9, 1, 0, 0, 0, 0, 2];

    fn of_type(ethertype: u16) -> FlowerSpec {
        let mut spec = FlowerSpec::default();
        spec.value.set(fields::ETH_TYPE, ethertype.into());
        spec.mask.set(fields::ETH_TYPE, 0xffff);
        spec
    }

    fn v4(to: bool, address: [u8; 4], bits: u32) -> Rule {
        let mut spec = of_type(IPV4);
        let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - bits).unwrap_or(0));
        let set = if to { FlowKey::set_dst_ipv4 } else { FlowKey::set_src_ipv4 };
        set(&mut spec.value, address.into());
        set(&mut spec.mask, mask);
        Rule::new(&spec)
    }

    fn v6_to(address: [u16; 8], bits: u32) -> Rule {
        let mut spec = of_type(IPV6);
        spec.value.set_dst_ipv6(address.into());
        spec.mask.set_dst_ipv6(Ipv6Addr::from(u128::MAX << (128 - bits)));
        Rule::new(&spec)
    }

    fn packet_v4(from: [u8; 4], to: [u8; 4]) -> FlowKey {
        let mut key = FlowKey::EMPTY;
        key.set(fields::ETH_TYPE, IPV4.into());
        key.set_src_ipv4(from.into());
        key.set_dst_ipv4(to.into());
        key
    }

    fn packet_v6(to: [u16; 8]) -> FlowKey {
        let mut key = FlowKey::EMPTY;
        key.set(fields::ETH_TYPE, IPV6.into());
        key.set_src_ipv6(Ipv6Addr::LOCALHOST);
        key.set_dst_ipv6(to.into());
        key
    }

    fn is_counted(rule: Option<&Rule>, packet: &FlowKey) -> bool {
        let stamps = Stamps::new();
        let family = Family::of(packet.words());
        let before = stamps.sum(family, packet.words());
        stamps.count(rule);
        stamps.sum(family, packet.words()) != before
    }

    #[test]
    fn a_change_counts_for_the_packets_of_its_network_only() {
        let here = packet_v4([192, 0, 2, 7], [10, 1, 2, 3]);
        let others = [packet_v4([192, 0, 2, 7], [10, 9, 9, 9]), packet_v6([0x2001, 0xdb8, 1, 0, 0, 0, 0, 2])];
        for (to, address) in [(true, [10, 1, 2, 3]), (false, [192, 0, 2, 7])] {
            for bits in [32, 28, 24, 23, 20, 16] {
                assert!(is_counted(Some(&v4(to, address, bits)), &here), "{to} {bits}");
            }
        }
        for bits in [32, 24, 16] {
            assert!(others.iter().all(|other| !is_counted(Some(&v4(true, [10, 1, 2, 3], bits)), other)), "{bits}");
        }
        for bits in [128, 64, 60, 32] {
            let rule = v6_to(OTHER, bits);
            assert!(is_counted(Some(&rule), &packet_v6(OTHER)), "{bits}");
            assert!(!is_counted(Some(&rule), &others[1]) && !is_counted(Some(&rule), &here), "{bits}");
        }
    }

    #[test]
    fn a_change_that_says_little_counts_for_all() {
        let packets =
            [packet_v4([1; 4], [2; 4]), packet_v6(OTHER), FlowKey::EMPTY, packet_v4([192, 0, 2, 7], [10, 1, 2, 3])];
        let (mut no_type, mut half_a_type) = (v4(true, [10, 1, 2, 3], 32).spec(), of_type(IPV4));
        no_type.mask.set(fields::ETH_TYPE, 0);
        half_a_type.mask.set(fields::ETH_TYPE, 0xff00);
        half_a_type.mask.set(fields::DST_IP_LOW, u64::MAX);
        let rules = [v4(true, [10, 1, 2, 3], 15), v6_to(OTHER, 31), Rule::new(&no_type), Rule::new(&half_a_type)];
        for packet in packets {
            assert!(rules.iter().all(|rule| is_counted(Some(rule), &packet)) && is_counted(None, &packet));
        }
    }
}
