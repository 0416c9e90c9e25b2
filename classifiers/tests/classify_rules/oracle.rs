use std::ops::Range;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder, PacketBuilderStep, VlanId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tidegate_classifiers::error::RequestError;
use tidegate_classifiers::flow_key::{self, Field, FlowKey};
use tidegate_classifiers::naive::Naive;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    self, ActionSpec, ETH_P_ALL, FilterKey, FilterSpec, FlowerSpec, GactSpec, KindSpec, Random, RandomMode,
};
use tidegate_classifiers::verdict::Control;

use crate::support::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The same verdicts, the same copies in the same order, the same counts for every filter and action.
    #[test]
    fn classify_agrees_with_the_naive_evaluator(
        packets in vec(packet(), 1..20),
        protos in prop_oneof![vec(proto(1..5), 0..10), vec(proto(1..40), 20..40)],
        down in vec((0_u16..4).prop_map(PortId), 0..2),
        full in vec((0_u16..4).prop_map(PortId), 0..2),
    ) {
        let mut rig = Rig::new(&[]);
        rig.world = World { down, full, mirrored: Vec::new() };
        let mut naive_world = rig.world.clone();

        let wanted = protos.iter().flat_map(|proto| proto.filters(&packets));
        let mut filters = Vec::new();
        for spec in wanted {
            match request::add_filter(&rig.block, &spec) {
                Ok(id) => filters.push(FilterSpec { handle: id.handle, ..spec }),
                Err(RequestError::Exists(_)) => {}
                Err(RequestError::Invalid(why)) if why.starts_with("this priority has another") => {}
                Err(refusal) => panic!("{refusal}: {spec:?}"),
            }
        }

        let mut naive = Naive::new(&filters);
        for packet in &packets {
            let verdict = rig.send(packet);
            prop_assert_eq!(verdict, naive.classify(packet, rig.now_ns, &mut naive_world));
        }
        prop_assert_eq!(&rig.world, &naive_world);
        let listing = request::dump(&rig.block);
        prop_assert_eq!(listing.len(), filters.len());
        for info in listing {
            let place = |spec: &FilterSpec| (spec.chain, spec.priority, spec.handle);
            let at = filters.iter().position(|spec| place(spec) == (info.chain, info.priority, info.handle)).unwrap();
            let tally = &naive.tallies()[at];
            prop_assert_eq!(info.hits, tally.filter);
            prop_assert_eq!(info.actions.iter().map(|action| action.hits).collect::<Vec<_>>(), &tally.actions[..]);
        }
    }

    /// [FL-1]: one filter with one field or range, against the field read on its own.
    #[test]
    fn flower_agrees_with_direct_evaluation(
        packet in packet(),
        other in packet(),
        field in select(&LONE_FIELDS[..]),
        mask in any::<u64>(),
    ) {
        let mut spec = FlowerSpec::default();
        spec.value.set(field, other.key().get(field));
        spec.mask.set(field, mask);
        let mut rig = Rig::new(&[flower(1, ETH_P_ALL, spec, &[])]);
        rig.send(&packet);
        let differs = (packet.key().get(field) ^ other.key().get(field)) & mask & field.max();
        prop_assert_eq!(rig.packets(0, 1), u64::from(differs == 0));
    }
}

/// Fields that need no other and may be masked at will.
const LONE_FIELDS: [Field; 3] = [flow_key::DST_MAC, flow_key::SRC_MAC, flow_key::IP_FLAGS];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Where filters come and go between packets: each has a priority of its own, and there are enough of them that the index finds
    /// them by their keys. Packets of a burst meet the same ones as packets on their own.
    #[test]
    fn the_index_agrees_with_the_naive_evaluator_after_each_update(
        packets in vec(packet(), 10..80),
        filters in vec((filter(), vec(control(), 0..3), any::<Index>(), any::<bool>()), 20..80),
        updates in vec(any::<(Index, bool)>(), 1..12),
    ) {
        let wanted: Vec<FilterSpec> = (1..).zip(&filters).map(|(priority, (plan, controls, of, any))| {
            let (chain, protocol) = (priority % 7 % 3, (!any).then_some(*of));
            let actions = controls.iter().map(|control| gact(*control)).collect();
            let plan = ProtoPlan { chain, priority, matchall: false, filters: vec![FilterPlan { actions, ..plan.clone() }], protocol };
            plan.filters(&packets).remove(0)
        }).collect();
        let mut rig = Rig::new(&[]);
        let mut there = vec![false; wanted.len()];
        for (at, one) in updates {
            // One filter, or every other one, comes or goes.
            let first = at.index(wanted.len());
            for i in (first..wanted.len()).step_by(2).take(if one { 1 } else { usize::MAX }) {
                let spec = &wanted[i];
                match there[i] {
                    true => request::delete_filter(&rig.block, FilterKey::priority(spec.chain, spec.priority)).unwrap(),
                    false => drop(request::add_filter(&rig.block, spec).unwrap()),
                }
                there[i] = !there[i];
            }
            let now: Vec<FilterSpec> = wanted.iter().zip(&there).filter(|(_, there)| **there).map(|(spec, _)| spec.clone()).collect();
            let mut naive = Naive::new(&now);
            let verdicts: Vec<_> = packets.iter().map(|packet| naive.classify(packet, 1, &mut rig.world)).collect();
            prop_assert_eq!(&rig.send_together(&packets), &verdicts);
            prop_assert_eq!(packets.iter().map(|packet| rig.send(packet)).collect::<Vec<_>>(), verdicts);
        }
    }
}

/// A proto that is wanted: what its filters have in common, and what they are made from.
#[derive(Clone, Debug)]
struct ProtoPlan {
    chain: u32,
    priority: u32,
    matchall: bool,
    filters: Vec<FilterPlan>,
    /// The packet whose outermost ethertype is the proto's; `None` for all packets.
    protocol: Option<Index>,
}

/// A filter that is wanted: the packet it is cut from, and which of its bits count.
#[derive(Clone, Debug)]
struct FilterPlan {
    from: Index,
    layers: [bool; 4],
    masks: [u64; 4],
    ranges: [Option<(u16, u16)>; 2],
    actions: Vec<ActionSpec>,
}

impl ProtoPlan {
    fn filters(&self, packets: &[Packet]) -> Vec<FilterSpec> {
        let protocol = self.protocol.map_or(ETH_P_ALL, |packet| packet.get(packets).protocol());
        let spec = |plan: &FilterPlan| FilterSpec {
            chain: self.chain,
            priority: self.priority,
            protocol,
            handle: 0,
            kind: match self.matchall {
                true => KindSpec::Matchall,
                false => KindSpec::Flower(Box::new(plan.flower(protocol, plan.from.get(packets).key()))),
            },
            actions: plan.actions.as_slice().into(),
            name: "".into(),
            options: Default::default(),
        };
        self.filters.iter().map(spec).collect()
    }
}

impl FilterPlan {
    /// A match that its own packet meets, if it has the protocol.
    fn flower(&self, protocol: u16, key: &FlowKey) -> FlowerSpec {
        use flow_key::*;

        let mut spec = FlowerSpec { value: *key, ..FlowerSpec::default() };
        let all = |spec: &mut FlowerSpec, field: Field| spec.mask.set(field, field.max());
        let [ethernet, vlan, network, transport] = self.layers;
        let [mac_mask, address_mask, port_mask, byte_mask] = self.masks;
        let implied = !matches!(protocol, ETH_P_ALL | VLAN | QINQ);
        let ethertype = if implied { protocol } else { u16::try_from(key.get(ETH_TYPE)).unwrap() };
        spec.value.set(ETH_TYPE, ethertype.into());

        if ethernet {
            spec.mask.set(DST_MAC, mac_mask);
            spec.mask.set(SRC_MAC, mac_mask >> 16);
            all(&mut spec, INDEV);
        }
        if vlan && (matches!(protocol, VLAN | QINQ) || (!implied && key.get(NUM_OF_VLANS) > 0)) {
            [NUM_OF_VLANS, VLAN_ID, VLAN_PRIO].iter().for_each(|&field| all(&mut spec, field));
            if key.get(NUM_OF_VLANS) > 1 {
                [CVLAN_TPID, CVLAN_ID, CVLAN_PRIO].iter().for_each(|&field| all(&mut spec, field));
            }
        }
        if network && matches!(ethertype, IPV4 | IPV6) {
            all(&mut spec, ETH_TYPE);
            spec.mask.set(IP_TOS, byte_mask);
            spec.mask.set(IP_TTL, byte_mask >> 8);
            spec.mask.set(IP_FLAGS, byte_mask >> 16);
            spec.mask.set(SRC_IP_LOW, address_mask & 0xffff_ffff);
            spec.mask.set(DST_IP_LOW, (address_mask >> 8) & 0xffff_ffff);
            if ethertype == IPV6 {
                spec.mask.set(SRC_IP_HIGH, address_mask);
            }
        }
        if network && ethertype == ARP {
            all(&mut spec, ETH_TYPE);
            spec.mask.set(ARP_OP, byte_mask);
            spec.mask.set(ARP_SIP, address_mask);
            spec.mask.set(ARP_THA, mac_mask);
        }
        if transport && matches!(ethertype, IPV4 | IPV6) {
            all(&mut spec, ETH_TYPE);
            all(&mut spec, IP_PROTO);
            match (key.get(IP_PROTO), ethertype) {
                (TCP | UDP, _) => {
                    let around = |field, (below, above)| {
                        let port = u16::try_from(key.get(field)).unwrap();
                        (port.saturating_sub(below), port.saturating_add(above))
                    };
                    spec.src_port_range = self.ranges[0].map(|width| around(SRC_PORT, width));
                    spec.dst_port_range = self.ranges[1].map(|width| around(DST_PORT, width));
                    spec.mask.set(SRC_PORT, port_mask);
                    spec.mask.set(DST_PORT, port_mask >> 16);
                    if key.get(IP_PROTO) == TCP {
                        spec.mask.set(TCP_FLAGS, port_mask >> 32);
                    }
                }
                (ICMP, IPV4) | (58, IPV6) => {
                    spec.mask.set(ICMP_TYPE, byte_mask);
                    spec.mask.set(ICMP_CODE, byte_mask >> 8);
                }
                _ => {}
            }
        }
        spec
    }
}

fn proto(priorities: Range<u32>) -> impl Strategy<Value = ProtoPlan> {
    let matchall = prop::bool::weighted(0.2);
    let protocol = prop::option::weighted(0.8, any::<Index>());
    let chain = select(vec![0, 0, 0, 1, 2, 3]);
    (chain, priorities, matchall, vec(filter(), 1..6), protocol).prop_map(
        |(chain, priority, matchall, filters, protocol)| ProtoPlan { chain, priority, matchall, filters, protocol },
    )
}

fn filter() -> impl Strategy<Value = FilterPlan> {
    // Most masks whole or empty, so that filters share groups, and match.
    let mask = prop_oneof![4 => Just(0), 3 => Just(u64::MAX), 1 => Just(0xffff_ff00_ffff_ff00), 1 => any::<u64>()];
    let range = prop::option::weighted(0.3, (1_u16..500, 1_u16..500));
    (any::<Index>(), any::<[bool; 4]>(), prop::array::uniform4(mask), prop::array::uniform2(range), vec(action(), 0..5))
        .prop_map(|(from, layers, masks, ranges, actions)| FilterPlan { from, layers, masks, ranges, actions })
}

fn action() -> impl Strategy<Value = ActionSpec> {
    let random =
        (control(), 0_u16..4).prop_map(|(control, one_in)| Random { mode: RandomMode::Determ, control, one_in });
    let random = random.prop_filter("goto cannot be second", |random| !matches!(random.control, Control::Goto(_)));
    prop_oneof![
        5 => control().prop_map(gact),
        2 => (control(), random).prop_map(|(control, random)| ActionSpec::Gact(GactSpec { control, random: Some(random) })),
        2 => (0_u16..4, control()).prop_map(|(port, control)| mirror(port, control)),
        1 => (0_u16..4).prop_map(redirect),
    ]
}

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        1 => select(vec![Control::Ok, Control::Shot, Control::Stolen, Control::Queued, Control::Trap]),
        1 => select(vec![Control::Reclassify, Control::Repeat]),
        4 => Just(Control::Pipe),
        3 => Just(Control::Continue),
        2 => (0_u32..6).prop_map(Control::Jump),
        3 => (0_u32..5).prop_map(Control::Goto),
    ]
}

/// Frames whose fields have few values each, so that filters cut from one match others too.
fn packet() -> impl Strategy<Value = Packet> {
    let fields = (0_u8..3, 0_u8..3, 1000_u16..1003, 80_u16..83, 0_u8..2, 0_u16..3);
    (fields, 0_u8..3, 0_u8..6, 0_u16..2, 0_usize..20).prop_map(|(fields, tags, shape, port, cut)| {
        let (src, dst, src_port, dst_port, ttl, vlan) = fields;
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, src], [2, 0, 0, 0, 0, dst]);
        let id = |vlan: u16| VlanId::try_new(vlan).unwrap();
        let (v4, v6) = (|host: u8| [10, 0, host, 1], |host: u8| [host; 16]);
        let mut frame = Vec::new();
        macro_rules! build {
            ($link:expr) => {
                match shape {
                    0 => write($link.ipv4(v4(src), v4(dst), 63 + ttl).tcp(src_port, dst_port, 0, 9), &mut frame),
                    1 => write($link.ipv4(v4(src), v4(dst), 63 + ttl).udp(src_port, dst_port), &mut frame),
                    2 => write($link.ipv4(v4(src), v4(dst), 63 + ttl).icmpv4_echo_request(1, 2), &mut frame),
                    3 => write($link.ipv6(v6(src), v6(dst), 63 + ttl).tcp(src_port, dst_port, 0, 9), &mut frame),
                    4 => write($link.ipv6(v6(src), v6(dst), 63 + ttl).icmpv6_echo_request(1, 2), &mut frame),
                    _ => $link.arp(arp(src, dst)).write(&mut frame).unwrap(),
                }
            };
        }
        match tags {
            0 => build!(ethernet),
            1 => build!(ethernet.single_vlan(id(vlan))),
            _ => build!(ethernet.double_vlan(id(vlan), id(vlan + 1))),
        }
        frame.truncate(frame.len() - if cut < 16 { 0 } else { cut }); // now and then without its end [FL-11]
        Packet::parse(&frame, PortId(port)).unwrap()
    })
}

fn write<T>(step: PacketBuilderStep<T>, frame: &mut Vec<u8>)
where
    PacketBuilderStep<T>: Finish,
{
    step.finish(frame);
}

/// What etherparse has as one method on each of several types.
trait Finish {
    fn finish(self, frame: &mut Vec<u8>);
}

macro_rules! finish {
    ($($step:ty),*) => {
        $(impl Finish for PacketBuilderStep<$step> {
            fn finish(self, frame: &mut Vec<u8>) {
                self.write(frame, &[0; 8]).unwrap();
            }
        })*
    };
}

finish!(etherparse::TcpHeader, etherparse::UdpHeader, etherparse::Icmpv4Header, etherparse::Icmpv6Header);

fn arp(sender: u8, target: u8) -> ArpPacket {
    ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &[2, 0, 0, 0, 0, sender],
        &[10, 0, 0, sender],
        &[0; 6],
        &[10, 0, 0, target],
    )
    .unwrap()
}
