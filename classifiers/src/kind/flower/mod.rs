//! flower: masked fields and port ranges.

pub(crate) mod group; // mask groups: what workers look keys up in

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use smallvec::SmallVec;

use super::roster::{Index, Place, Rivals};
use super::{Change, Matches, View};
use crate::error::RequestError;
use crate::filter::Filter;
use crate::flow_key::{self as fields, Field, FlowKey};
use crate::handle::Handles;
use crate::index::era::Eras;
use crate::live::{Class, Live, Token};
use crate::plane::Plane;
use crate::reap::Garbage;
use crate::request::{ETH_P_ALL, FlowerSpec, KindName, KindSpec};
use crate::wire::ethertype::{ARP, IPV4, IPV6, QINQ, RARP, VLAN};
use crate::wire::ip_proto::{ICMP, ICMPV6, SCTP, TCP, UDP};
use group::{Group, Groups};

/// Highest automatic handle [HA-1].
const HANDLE_AUTOMATIC_MAX: u32 = 0x7fff_ffff;

/// The mask groups of one proto, in order of creation [FL-3].
#[derive(Debug)]
pub(super) struct Flower {
    groups: Groups,
    /// Of the hash tables.
    seed: u64,
    /// In which packets are looked up in them.
    eras: Arc<Eras>,
    /// Filters with port ranges that there were so far: their order within a group [FL-6].
    ranged: u64,
    live: Arc<Live>,
}

/// What one filter matches: the words of its key that count, as they were given [FL-17].
#[derive(Debug)]
pub(crate) struct Rule {
    /// One for each term of the mask.
    words: Words,
    mask: Arc<Mask>,
    ranges: Option<Box<Ranges>>,
}

/// Words of a key. Eight bytes less than a vector that may grow.
#[derive(Debug)]
enum Words {
    /// What most filters have, and zeros behind it.
    Few([u64; 5]),
    Many(Box<[u64]>),
}

/// Port ranges of a filter.
#[derive(Debug)]
struct Ranges {
    /// Of the source and the destination port.
    bounds: [Option<(u16, u16)>; 2],
    /// Place within the group; set under the proto's lock, when it is inserted.
    order: AtomicU64,
}

/// What the filters of a group have in common: the bits they look at, and which ports they have ranges of [FL-2], [FL-6].
#[derive(Debug)]
struct Mask {
    terms: SmallVec<[Term; 5]>,
    ranged: [bool; 2],
    key: FlowKey,
    _live: Option<Token>,
}

/// A word of the key that is not masked out altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    word: usize,
    mask: u64,
}

impl Flower {
    pub(super) fn new(plane: &Plane) -> Flower {
        let (eras, live) = (Arc::clone(plane.reaper().eras()), Arc::clone(plane.live_objects()));
        Flower { groups: Groups::default(), seed: plane.seed(), eras, ranged: 0, live }
    }

    /// Where the group of `mask` is.
    fn group_of(&self, mask: &Arc<Mask>) -> Option<usize> {
        let groups = &self.groups.list;
        let itself = groups.iter().position(|group| Arc::ptr_eq(group.mask(), mask));
        itself.or_else(|| groups.iter().position(|group| group.mask().is_like(mask)))
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
        if old.is_some_and(|old| !old.rule().mask.is_like(&rule.mask)) {
            return Err(RequestError::Invalid("a filter keeps its mask; delete it and add another")); // [ER-25]
        }
        Ok(Matches::Flower(rule))
    }

    /// The group's own mask, if there is such a group: one for all of its filters.
    fn prepare(&self, matches: &mut Matches) {
        let Matches::Flower(rule) = matches else { return };
        match self.group_of(&rule.mask) {
            Some(at) => rule.mask = Arc::clone(self.groups.list[at].mask()),
            None => {
                let Mask { terms, ranged, key, .. } = &*rule.mask;
                let live = Some(Token::new(&self.live, Class::Group));
                rule.mask = Arc::new(Mask { terms: terms.clone(), ranged: *ranged, key: *key, _live: live });
            }
        }
    }

    fn number(handles: &Handles, wanted: u32) -> Result<u32, RequestError> {
        match wanted {
            0 => handles.lowest(HANDLE_AUTOMATIC_MAX).ok_or(RequestError::NoSpace("automatic handle")), // [ER-35]
            handle => Ok(handle),
        }
    }

    fn rivals(&self, new: &Filter) -> Result<Rivals, RequestError> {
        let group = self.group_of(&new.rule().mask).map(|at| &self.groups.list[at]);
        Ok(group.map(|group| group.rivals(new)).unwrap_or_default())
    }

    fn insert(&mut self, new: &Arc<Filter>, place: Place<'_>, garbage: &mut Vec<Garbage>) -> bool {
        if let Some(ranges) = &new.rule().ranges {
            self.ranged += 1;
            let replaced = place.of().and_then(|old| old.rule().ranges.as_ref()).map(|old| old.order.load(Relaxed));
            ranges.order.store(replaced.unwrap_or(self.ranged), Relaxed);
        }
        let Some(at) = self.group_of(&new.rule().mask) else {
            self.groups.list.push(Arc::new(Group::new(new, self.seed, &self.eras))); // [FL-3]
            return true;
        };
        match self.groups.list[at].insert(new, place.replaced(), garbage) {
            None => false,
            Some(group) => {
                self.groups.list[at] = Arc::new(group);
                true
            }
        }
    }

    fn remove(&mut self, filter: &Filter, garbage: &mut Vec<Garbage>) -> bool {
        let Some(at) = self.group_of(&filter.rule().mask) else { return false };
        let groups = &mut self.groups.list;
        let another = groups[at].remove(filter, garbage);
        let changed = another.is_some();
        another.into_iter().for_each(|group| groups[at] = Arc::new(group));
        let empty = groups[at].is_empty();
        if empty {
            groups.remove(at); // [FL-5]
        }
        changed || empty
    }

    fn view(&self) -> View {
        View::Flower(Arc::new(self.groups.clone()))
    }
}

impl Filter {
    #[inline]
    fn rule(&self) -> &Rule {
        match self.matches() {
            Matches::Flower(rule) => rule,
            other => unreachable!("a filter of flower with {other:?}"),
        }
    }
}

impl Rule {
    fn new(wanted: &FlowerSpec) -> Rule {
        let words = wanted.mask.words().iter().enumerate().filter(|(_, mask)| **mask != 0);
        let mut terms: SmallVec<[Term; 5]> = words.map(|(word, &mask)| Term { word, mask }).collect();
        // Those with the most bits first: they are the likeliest to differ, and the first that differs ends a comparison.
        terms.sort_by_key(|term| std::cmp::Reverse(term.mask.count_ones()));
        let words = terms.iter().map(|term| wanted.value.words()[term.word]).collect();
        let bounds = [wanted.src_port_range, wanted.dst_port_range];
        let ranged = bounds.map(|range| range.is_some());
        let ranges = ranged.contains(&true).then(|| Box::new(Ranges { bounds, order: AtomicU64::new(0) }));
        Rule { words, mask: Arc::new(Mask { terms, ranged, key: wanted.mask, _live: None }), ranges }
    }

    /// As it was asked for, with what the protocol implied.
    pub(crate) fn spec(&self) -> FlowerSpec {
        let mut value = FlowKey::EMPTY;
        for (term, &word) in self.mask.terms.iter().zip(self.words.iter()) {
            value.set_word(term.word, word);
        }
        let [src_port_range, dst_port_range] = self.ranges.as_ref().map_or([None; 2], |ranges| ranges.bounds);
        FlowerSpec { value, mask: self.mask.key, src_port_range, dst_port_range }
    }

    /// Whether `key`, with this rule's mask, is this rule's key [FL-1].
    #[inline]
    fn matches(&self, key: &FlowKey) -> bool {
        self.mask
            .terms
            .iter()
            .zip(self.words.iter())
            .all(|(term, word)| (key.words()[term.word] ^ word) & term.mask == 0)
            && self.ranges.as_ref().is_none_or(|ranges| {
                let [src, dst] = ranges.bounds;
                within(src, key.get(fields::SRC_PORT)) && within(dst, key.get(fields::DST_PORT))
            })
    }

    /// Whether both, of one group, match the same packets [FL-4].
    fn same_as(&self, other: &Rule) -> bool {
        let mut words = self.mask.terms.iter().zip(self.words.iter().zip(other.words.iter()));
        words.all(|(term, (a, b))| (a ^ b) & term.mask == 0)
            && self.ranges.as_ref().map(|ranges| ranges.bounds) == other.ranges.as_ref().map(|ranges| ranges.bounds)
    }
}

impl Words {
    #[inline]
    fn iter(&self) -> std::slice::Iter<'_, u64> {
        match self {
            Words::Few(words) => words.iter(),
            Words::Many(words) => words.iter(),
        }
    }
}

impl FromIterator<u64> for Words {
    fn from_iter<I: IntoIterator<Item = u64>>(words: I) -> Self {
        let words: SmallVec<[u64; 5]> = words.into_iter().collect();
        if words.spilled() {
            return Words::Many(words.into_boxed_slice());
        }
        let mut few = [0; 5];
        few[..words.len()].copy_from_slice(&words);
        Words::Few(few)
    }
}

impl Mask {
    /// Whether filters with these masks are in one group.
    fn is_like(&self, other: &Mask) -> bool {
        self.terms == other.terms && self.ranged == other.ranged
    }
}

#[inline]
fn within(range: Option<(u16, u16)>, port: u64) -> bool {
    range.is_none_or(|(min, max)| u64::from(min) <= port && port <= u64::from(max))
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
