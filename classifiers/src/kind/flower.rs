//! flower: masked fields and port ranges.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::action;
use crate::error::RequestError;
use crate::filter::Filter;
use crate::flow_key::{self as fields, Field, FlowKey};
use crate::request::{ETH_P_ALL, FilterSpec, FlowerSpec};
use crate::wire::ethertype::{ARP, IPV4, IPV6, QINQ, RARP, VLAN};
use crate::wire::ip_proto::{ICMP, ICMPV6, SCTP, TCP, UDP};

/// Highest automatic handle [HA-1].
const HANDLE_AUTOMATIC_MAX: u32 = 0x7fff_ffff;

/// The filters of one flower proto: by mask group for packets, by handle for requests.
///
/// A mask group is the filters that look at the same bits, and have the same ports in ranges [FL-2], [FL-6]. Here it is
/// a run of rules that look alike: groups in order of creation [FL-3], within a group rules in order of insertion, so
/// that of overlapping ranges the first wins [FL-6]. A group comes and goes with its rules [FL-5].
#[derive(Clone, Debug, Default)]
pub(crate) struct Flower {
    rules: SmallVec<[Rule; 1]>,
    /// In ascending order of handles.
    filters: Vec<Arc<Filter>>,
}

/// What one filter matches, prepared for comparison, and the filter.
#[derive(Clone, Debug)]
struct Rule {
    terms: SmallVec<[Term; 5]>,
    /// Of the source and the destination port.
    ranges: [Option<(u16, u16)>; 2],
    filter: Arc<Filter>,
}

/// A word of the key that is not masked out altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    word: usize,
    mask: u64,
    value: u64,
}

impl Flower {
    /// The first match of the first group that has one [FL-3].
    #[inline]
    pub(crate) fn find(&self, key: &FlowKey) -> Option<&Filter> {
        self.rules.iter().find(|rule| rule.matches(key)).map(|rule| &*rule.filter)
    }

    pub(crate) fn filters(&self) -> &[Arc<Filter>] {
        &self.filters
    }

    /// In the order of [FO-2]: what was given, then the handle, then that the key is new.
    pub(crate) fn add(
        &mut self,
        spec: &FilterSpec,
        wanted: &FlowerSpec,
        protocol: u16,
        make: impl FnOnce(u32) -> Arc<Filter>,
    ) -> Result<u32, RequestError> {
        if self.search(spec.handle).is_ok() {
            return Err(RequestError::Exists("this handle")); // [ER-2]
        }
        let wanted = with_protocol(wanted, protocol)?;
        validate(&wanted, protocol)?;
        action::validate(&spec.actions)?;
        let handle = if spec.handle == 0 { self.free_handle()? } else { spec.handle };
        let terms = terms(&wanted);
        let ranges = [wanted.src_port_range, wanted.dst_port_range];
        if self.rules.iter().any(|rule| rule.terms == terms && rule.ranges == ranges) {
            return Err(RequestError::Exists("a filter with this key")); // [ER-3], [FL-4]
        }

        let filter = make(handle);
        let (Ok(at) | Err(at)) = self.search(handle);
        self.filters.insert(at, Arc::clone(&filter));
        let rule = Rule { terms, ranges, filter };
        let last_alike = self.rules.iter().rposition(|other| other.looks_like(&rule));
        self.rules.insert(last_alike.map_or(self.rules.len(), |last| last + 1), rule);
        Ok(handle)
    }

    pub(crate) fn remove(&mut self, handle: u32) -> Option<Arc<Filter>> {
        let filter = self.filters.remove(self.search(handle).ok()?);
        self.rules.retain(|rule| rule.filter.handle() != handle);
        Some(filter)
    }

    fn search(&self, handle: u32) -> Result<usize, usize> {
        self.filters.binary_search_by_key(&handle, |filter| filter.handle())
    }

    /// The lowest free one from 1 [HA-2]: as long as none is free, the handle at index i is i + 1.
    fn free_handle(&self) -> Result<u32, RequestError> {
        let (mut low, mut high) = (0, self.filters.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.filters[middle].handle() as usize == middle + 1 { low = middle + 1 } else { high = middle }
        }
        u32::try_from(low + 1)
            .ok()
            .filter(|&handle| handle <= HANDLE_AUTOMATIC_MAX)
            .ok_or(RequestError::NoSpace("automatic handle")) // [ER-35]
    }
}

impl Rule {
    #[inline]
    fn matches(&self, key: &FlowKey) -> bool {
        let [src, dst] = self.ranges;
        self.terms.iter().all(|term| key.words()[term.word] & term.mask == term.value)
            && within(src, key.get(fields::SRC_PORT))
            && within(dst, key.get(fields::DST_PORT))
    }

    /// Whether both belong into one mask group.
    fn looks_like(&self, other: &Rule) -> bool {
        let same_bits = |(a, b): (&Term, &Term)| (a.word, a.mask) == (b.word, b.mask);
        self.terms.len() == other.terms.len()
            && self.terms.iter().zip(&other.terms).all(same_bits)
            && self.ranges.map(|range| range.is_some()) == other.ranges.map(|range| range.is_some())
    }
}

#[inline]
fn within(range: Option<(u16, u16)>, port: u64) -> bool {
    range.is_none_or(|(min, max)| u64::from(min) <= port && port <= u64::from(max))
}

/// The words that count, those with the most bits first: they are the likeliest to differ, and the first that differs
/// ends a comparison.
fn terms(wanted: &FlowerSpec) -> SmallVec<[Term; 5]> {
    let masked = wanted.value.masked(&wanted.mask);
    let words = wanted.mask.words().iter().zip(masked.words()).enumerate();
    let mut terms: SmallVec<[Term; 5]> =
        words.filter(|(_, (mask, _))| **mask != 0).map(|(word, (&mask, &value))| Term { word, mask, value }).collect();
    terms.sort_by_key(|term| std::cmp::Reverse(term.mask.count_ones()));
    terms
}

/// `wanted` with the ethertype that the protocol of the request implies [FL-8]. Behind a VLAN tag, and for `all`, the
/// filter says itself which one it wants, or does not.
fn with_protocol(wanted: &FlowerSpec, protocol: u16) -> Result<FlowerSpec, RequestError> {
    let mut wanted = *wanted;
    if !matches!(protocol, ETH_P_ALL | VLAN | QINQ) {
        if given(&wanted, fields::ETH_TYPE).is_some_and(|ethertype| ethertype != u64::from(protocol)) {
            return Err(RequestError::Invalid("the ethertype contradicts the protocol"));
        }
        wanted.value.set(fields::ETH_TYPE, u64::from(protocol));
        wanted.mask.set(fields::ETH_TYPE, fields::ETH_TYPE.max());
    }
    Ok(wanted)
}

/// Keys that need another key, and keys that cannot be as they are [FL-13], [FL-14], [FL-15].
fn validate(wanted: &FlowerSpec, protocol: u16) -> Result<(), RequestError> {
    use fields::*;

    let uses = |keys: &[Field]| keys.iter().any(|&key| wanted.mask.get(key) != 0);
    let is_ethertype =
        |values: &[u16]| given(wanted, ETH_TYPE).is_some_and(|it| values.iter().any(|&v| it == v.into()));
    let is_ip_proto = |values: &[u8]| given(wanted, IP_PROTO).is_some_and(|it| values.iter().any(|&v| it == v.into()));
    let ip = is_ethertype(&[IPV4, IPV6]);
    let ports = wanted.src_port_range.is_some() || wanted.dst_port_range.is_some() || uses(&[SRC_PORT, DST_PORT]);
    let tags = given(wanted, NUM_OF_VLANS).unwrap_or(0);
    let tagged = matches!(protocol, VLAN | QINQ) || tags > 0 || uses(&[VLAN_TPID]);
    let double_tagged = tags > 1 || uses(&[CVLAN_TPID]);
    let icmp = (is_ethertype(&[IPV4]) && is_ip_proto(&[ICMP])) || (is_ethertype(&[IPV6]) && is_ip_proto(&[ICMPV6]));
    let mask_is_whole = |&key: &Field| matches!(wanted.mask.get(key), mask if mask == 0 || mask == key.max());
    let rising = |range: Option<(u16, u16)>| range.is_none_or(|(min, max)| min < max);

    let refusals = [
        (
            !UNMASKED.iter().all(mask_is_whole),
            "ethertype, ip_proto, vlan_id, vlan_prio, num_of_vlans and indev take no mask",
        ),
        (
            !rising(wanted.src_port_range) || !rising(wanted.dst_port_range),
            "a port range needs a lower end below its upper end",
        ),
        (!ip && uses(&[IP_PROTO, IP_TOS, IP_TTL]), "ip_proto, ip_tos and ip_ttl need ethertype ipv4 or ipv6"),
        (!ip && uses(&[SRC_IP_HIGH, SRC_IP_LOW, DST_IP_HIGH, DST_IP_LOW]), "addresses need ethertype ipv4 or ipv6"),
        (is_ethertype(&[IPV4]) && beyond_ipv4(wanted), "an ipv6 address with ethertype ipv4"),
        (ports && !is_ip_proto(&[TCP, UDP, SCTP]), "ports need ip_proto tcp, udp or sctp"),
        (uses(&[TCP_FLAGS]) && !is_ip_proto(&[TCP]), "tcp_flags need ip_proto tcp"),
        (
            uses(&[ICMP_TYPE, ICMP_CODE]) && !icmp,
            "icmp type and code need ip_proto icmp with ipv4, or icmpv6 with ipv6",
        ),
        (
            uses(&[ARP_OP, ARP_SHA, ARP_THA, ARP_SIP, ARP_TIP]) && !is_ethertype(&[ARP, RARP]),
            "arp keys need ethertype arp or rarp",
        ),
        (
            uses(&[VLAN_ID, VLAN_PRIO, CVLAN_TPID]) && !tagged,
            "vlan keys need protocol 802.1q or 802.1ad, or num_of_vlans above 0",
        ),
        (
            uses(&[CVLAN_ID, CVLAN_PRIO]) && !double_tagged,
            "cvlan keys need an inner vlan ethertype, or num_of_vlans above 1",
        ),
    ];
    match refusals.iter().find(|(refused, _)| *refused) {
        Some((_, why)) => Err(RequestError::Invalid(why)),
        None => Ok(()),
    }
}

/// Fields of which a filter gives all bits or none [FL-17].
const UNMASKED: [Field; 10] = [
    fields::ETH_TYPE,
    fields::IP_PROTO,
    fields::VLAN_ID,
    fields::VLAN_PRIO,
    fields::VLAN_TPID,
    fields::CVLAN_ID,
    fields::CVLAN_PRIO,
    fields::CVLAN_TPID,
    fields::NUM_OF_VLANS,
    fields::INDEV,
];

/// The value of `key`, if the filter wants one.
fn given(wanted: &FlowerSpec, key: Field) -> Option<u64> {
    (wanted.mask.get(key) != 0).then(|| wanted.value.get(key) & wanted.mask.get(key))
}

fn beyond_ipv4(wanted: &FlowerSpec) -> bool {
    use fields::{DST_IP_HIGH, DST_IP_LOW, SRC_IP_HIGH, SRC_IP_LOW};
    let mask = |key: Field| wanted.mask.get(key);
    mask(SRC_IP_HIGH) | mask(DST_IP_HIGH) | (mask(SRC_IP_LOW) >> 32) | (mask(DST_IP_LOW) >> 32) != 0
}
