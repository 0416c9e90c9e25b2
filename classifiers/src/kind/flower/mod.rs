//! flower: masked fields and port ranges.

use std::sync::Arc;

use smallvec::SmallVec;

use super::roster::{Index, Place, Rivals};
use super::seat::Seat;
use super::{Change, Matches};
use crate::error::RequestError;
use crate::filter::Filter;
use crate::flow_key::{self as fields, Field};
use crate::handle::Handles;
use crate::index::rule::{Mask, Rule};
use crate::live::{Class, Live, Token};
use crate::plane::Plane;
use crate::reap::Garbage;
use crate::request::{ETH_P_ALL, FlowerSpec, KindName, KindSpec};
use crate::wire::ethertype::{ARP, IPV4, IPV6, QINQ, RARP, VLAN};
use crate::wire::ip_proto::{ICMP, ICMPV6, SCTP, TCP, UDP};

/// Highest automatic handle [HA-1].
const HANDLE_AUTOMATIC_MAX: u32 = 0x7fff_ffff;

/// The mask groups of one proto.
#[derive(Debug)]
pub(super) struct Flower {
    /// In order of their masks.
    groups: SmallVec<[Group; 1]>,
    /// Groups, and filters with port ranges, that there were so far: their order [FL-3], [FL-6].
    serial: u64,
    seat: Seat,
    live: Arc<Live>,
}

/// Filters of one mask.
#[derive(Debug)]
pub(crate) struct Group {
    mask: Arc<Mask>,
    /// Above that of groups that were there before.
    order: u64,
    filters: usize,
    _live: Token,
}

impl Flower {
    pub(super) fn new(plane: &Plane) -> Flower {
        let live = Arc::clone(plane.live_objects());
        Flower { groups: SmallVec::new(), serial: 0, seat: Seat::default(), live }
    }

    /// Where the group of `mask` is, or belongs.
    fn group_of(&self, mask: &Mask) -> Result<usize, usize> {
        self.groups.binary_search_by(|group| group.mask.shape().cmp(&mask.shape()))
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

impl Index for Flower {
    const NAME: KindName = KindName::Flower;
    const UNLOCKED: bool = true;
    const TAKEN: RequestError = RequestError::Exists("a filter with this key"); // [ER-3], [FL-4]

    fn parse(change: &Change<'_>, old: Option<&Filter>) -> Result<Matches, RequestError> {
        let KindSpec::Flower(wanted) = &change.spec.kind else {
            return Err(RequestError::Invalid("this priority has another kind")); // [ER-6]
        };
        let protocol = change.proto.protocol();
        let wanted = with_protocol(wanted, protocol)?;
        validate(&wanted, protocol)?;
        if let Some(KindSpec::Flower(template)) = change.template.as_ref().map(|template| &template.spec)
            && !fits(&wanted, template, protocol)
        {
            return Err(RequestError::Invalid("the mask has bits outside the chain's template")); // [ER-11]
        }
        let rule = Rule::new(&wanted);
        if old.is_some_and(|old| !rule_of(old).mask().is_like(rule.mask())) {
            return Err(RequestError::Invalid("a filter keeps its mask; delete it and add another")); // [ER-25]
        }
        Ok(Matches::Flower(rule))
    }

    /// The group's own mask, if there is such a group: one for all of its filters.
    fn prepare(&self, matches: &mut Matches) {
        if let Matches::Flower(rule) = matches
            && let Ok(at) = self.group_of(rule.mask())
        {
            rule.share(&self.groups[at].mask);
        }
    }

    fn number(handles: &Handles, wanted: u32) -> Result<u32, RequestError> {
        match wanted {
            0 => handles.lowest(HANDLE_AUTOMATIC_MAX).ok_or(RequestError::NoSpace("automatic handle")), // [ER-35]
            handle => Ok(handle),
        }
    }

    fn rivals(&self, new: &Filter) -> Result<Rivals, RequestError> {
        let (rule, mut rivals) = (rule_of(new), Rivals::new());
        self.seat.for_each_alike(new, |filter| {
            let other = rule_of(filter);
            if other.mask().is_like(rule.mask()) && other.same_as(rule) {
                rivals.push(Arc::clone(filter));
            }
        });
        Ok(rivals)
    }

    fn insert(&mut self, new: &Arc<Filter>, place: Place<'_>, garbage: &mut Vec<Garbage>) -> bool {
        let rule = rule_of(new);
        let order = match place.of() {
            _ if !rule.is_ranged() => 0,
            Some(old) => old.place().order(),
            None => self.next(),
        };
        let at = self.group_of(rule.mask()).unwrap_or_else(|at| {
            let (mask, order, _live) = (Arc::clone(rule.mask()), self.next(), Token::new(&self.live, Class::Group));
            self.groups.insert(at, Group { mask, order, filters: 0, _live }); // [FL-3]
            at
        });
        let group = &mut self.groups[at];
        group.filters += usize::from(place.replaced().is_none());
        self.seat.insert(new, (group.order, order), place.replaced(), garbage);
        false
    }

    fn remove(&mut self, filter: &Filter, garbage: &mut Vec<Garbage>) -> bool {
        self.seat.remove(filter, garbage);
        if let Ok(at) = self.group_of(rule_of(filter).mask()) {
            self.groups[at].filters -= 1;
            if self.groups[at].filters == 0 {
                garbage.push(Garbage::Group(self.groups.remove(at))); // [FL-5]
            }
        }
        false
    }

    fn seat(&mut self) -> Option<&mut Seat> {
        Some(&mut self.seat)
    }
}

fn rule_of(filter: &Filter) -> &Rule {
    filter.rule().unwrap_or_else(|| unreachable!("a filter of flower with {:?}", filter.matches()))
}

/// Whether a chain can have this template. Only its mask matters [TM-3].
pub(super) fn check_template(template: &FlowerSpec) -> Result<(), RequestError> {
    if template.src_port_range.is_some() || template.dst_port_range.is_some() {
        return Err(RequestError::Invalid("a template has masks, not ranges"));
    }
    Ok(())
}

/// Whether a filter looks at no bit beyond the template's [TM-2]. A range looks at all bits of its port; the ethertype that
/// the protocol implies [FL-8] was not asked for.
fn fits(wanted: &FlowerSpec, template: &FlowerSpec, protocol: u16) -> bool {
    let mut mask = wanted.mask;
    for (port, range) in [(fields::SRC_PORT, wanted.src_port_range), (fields::DST_PORT, wanted.dst_port_range)] {
        if range.is_some() {
            mask.set(port, port.max());
        }
    }
    if !matches!(protocol, ETH_P_ALL | VLAN | QINQ) {
        mask.set(fields::ETH_TYPE, 0);
    }
    mask.masked(&template.mask) == mask
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
