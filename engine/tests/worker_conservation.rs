//! Whatever comes, in whatever order: frames are conserved, and every packet received is counted once.
#![recursion_limit = "256"] // as in tidegate-engine
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod worker_world;

use std::collections::HashSet;

use etherparse::PacketBuilder;
use proptest::prelude::*;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_key;
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    self, ActionSpec, ETH_P_ALL, FilterSpec, FlowerSpec, GactSpec, KindSpec, MirredSpec, Random, RandomMode, Target,
};
use tidegate_classifiers::verdict::Control;
use tidegate_engine::memory::Layout;
use tidegate_engine::port::{ForwardTo, LinkState, PortState};
use tidegate_engine::rings::Rings;
use worker_world::*;

const PORTS: [PortId; 3] = [LAN, WAN, TAP];
const BURST: u16 = 8;

/// What happens to a worker.
#[derive(Clone, Debug)]
enum Step {
    Inject(PortId, Vec<u8>),
    Burst,
    Transmit(PortId),
    Link(PortId, LinkState),
    Close(PortId),
    Open(PortId),
    Mtu(PortId, u32),
}

/// What must come out, kept beside the worker by other means: packets in RX rings, received, sent.
#[derive(Default)]
struct Ledger {
    pending: [u64; 3],
    received: [u64; 3],
    received_bytes_max: [u64; 3],
    sent: [u64; 3],
    sent_bytes: [u64; 3],
    injected: HashSet<Vec<u8>>,
    /// Ports that lost what was in their rings.
    closed: [bool; 3],
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_frame_and_every_packet_is_accounted_for(
        layout in layout(),
        forward_to in prop::array::uniform3(forward_to()),
        filters in prop::collection::vec(filter(), 0..8),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        // Random filters may be refused, such as two of different kinds at one priority: the others are there.
        let block = Block::new(2);
        for filter in &filters {
            let _ = request::add_filter(&block, filter);
        }
        let port = |(index, to): (usize, &ForwardTo)| {
            let state = PortState::new(&format!("port{index}"), *to, (index < 2).then(|| block.clone()));
            state.set_link(LinkState::Up);
            state
        };
        let mut world = World::new(layout, BURST, forward_to.iter().enumerate().map(port).collect());
        let mut ledger = Ledger::default();
        for step in steps {
            play(&mut world, &mut ledger, step);
        }
        settle(&mut world, &mut ledger);
        check(&mut world, &ledger);
    }
}

fn play(world: &mut World, ledger: &mut Ledger, step: Step) {
    match step {
        Step::Inject(port, packet) => {
            if world.inject(port, &packet) {
                ledger.pending[usize::from(port.0)] += 1;
                ledger.received_bytes_max[usize::from(port.0)] += packet.len() as u64;
                ledger.injected.insert(packet);
            }
        }
        Step::Burst => {
            let mut expected = 0;
            for port in PORTS {
                let pending = &mut ledger.pending[usize::from(port.0)];
                let taken = (*pending).min(BURST.into());
                *pending -= taken;
                ledger.received[usize::from(port.0)] += taken;
                expected += taken;
            }
            assert_eq!(world.burst() as u64, expected);
        }
        Step::Transmit(port) => {
            for packet in world.sent(port) {
                ledger.sent[usize::from(port.0)] += 1;
                ledger.sent_bytes[usize::from(port.0)] += packet.len() as u64;
                assert!(ledger.injected.contains(&packet), "a packet was changed on its way");
            }
        }
        Step::Close(port) => {
            world.close(port);
            ledger.pending[usize::from(port.0)] = 0;
            ledger.closed[usize::from(port.0)] = true;
        }
        Step::Open(port) => world.open(port),
        Step::Link(port, link) => world.port(port).set_link(link),
        Step::Mtu(port, mtu) => world.port(port).set_mtu(mtu),
    }
}

/// Lets traffic come to a stand.
fn settle(world: &mut World, ledger: &mut Ledger) {
    while ledger.pending.iter().any(|pending| *pending > 0) {
        play(world, ledger, Step::Burst);
    }
    PORTS.into_iter().for_each(|port| play(world, ledger, Step::Transmit(port)));
    play(world, ledger, Step::Burst);
}

fn check(world: &mut World, ledger: &Ledger) {
    let mut left_by_a_port = 0;
    let mut tx = 0;
    let mut passed = 0;
    for port in PORTS {
        let totals = world.totals(port);
        let index = usize::from(port.0);
        assert_eq!(totals.balance(), 0);
        assert_eq!(totals.rx_packets, ledger.received[index]);
        assert!(totals.rx_bytes <= ledger.received_bytes_max[index]);
        assert!(totals.forwarded_bytes <= totals.rx_bytes);
        if !ledger.closed[index] {
            assert_eq!(totals.rx_bytes, ledger.received_bytes_max[index]);
            assert_eq!((totals.tx_packets, totals.tx_bytes), (ledger.sent[index], ledger.sent_bytes[index]));
        } else {
            assert!(totals.tx_packets >= ledger.sent[index], "frames may be lost with their queue, not invented");
        }
        left_by_a_port += totals.forwarded_packets + totals.mirrored;
        tx += totals.tx_packets;
        passed += totals.passed;
    }
    assert_eq!(left_by_a_port, tx);
    let host = world.host();
    assert_eq!(host.len() as u64, passed);
    assert!(host.iter().all(|(_, packet)| ledger.injected.contains(packet)));

    let census = world.worker.rings_mut().census();
    assert_eq!((census.sending, census.in_hand()), (0, 0));
    assert_eq!(census.free + census.receiving, census.total);
}

fn port() -> impl Strategy<Value = PortId> {
    (0..3u16).prop_map(PortId)
}

fn forward_to() -> impl Strategy<Value = ForwardTo> {
    prop_oneof![3 => port().prop_map(ForwardTo::Port), 1 => Just(ForwardTo::Host)]
}

fn layout() -> impl Strategy<Value = Layout> {
    (4..120u32, 1..24u32, 1..24u32, 0..40u32).prop_map(|(frames, fill_ring, tx_ring, host_packets)| Layout {
        ports: 3,
        frames,
        chunk_size: 512,
        fill_ring,
        tx_ring,
        host_packets,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let link = prop_oneof![
        12 => Just(LinkState::Up),
        4 => Just(LinkState::NoCarrier),
        4 => Just(LinkState::Down),
        1 => Just(LinkState::Gone),
    ];
    prop_oneof![
        40 => (port(), packet()).prop_map(|(port, packet)| Step::Inject(port, packet)),
        10 => Just(Step::Burst),
        6 => port().prop_map(Step::Transmit),
        2 => (port(), link).prop_map(|(port, link)| Step::Link(port, link)),
        1 => (port(), 0..600u32).prop_map(|(port, mtu)| Step::Mtu(port, mtu)),
        1 => port().prop_map(Step::Close),
        3 => port().prop_map(Step::Open),
    ]
}

/// Valid, truncated, and garbage.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let valid = (any::<bool>(), 0..8u16, 0..440usize).prop_map(|(v6, dst_port, len)| {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut packet = Vec::new();
        if v6 {
            ethernet.ipv6([1; 16], [2; 16], 64).tcp(9, dst_port, 1, 1).write(&mut packet, &vec![3; len]).unwrap();
        } else {
            ethernet.ipv4([1; 4], [2; 4], 64).udp(9, dst_port).write(&mut packet, &vec![3; len]).unwrap();
        }
        packet
    });
    let truncated = (0..8u16, 0..60usize).prop_map(|(dst_port, len)| {
        let mut packet = udp(9, dst_port);
        packet.truncate(len);
        packet
    });
    prop_oneof![4 => valid, 1 => truncated, 1 => prop::collection::vec(any::<u8>(), 0..560)]
}

fn filter() -> impl Strategy<Value = FilterSpec> {
    let flower = (0..8u16, 0..8u16).prop_map(|(a, b)| {
        let mut flower = FlowerSpec::default();
        if a < b {
            flower.dst_port_range = Some((a, b));
        } else {
            flower.value.set(flow_key::DST_PORT, a.into());
            flower.mask.set(flow_key::DST_PORT, flow_key::DST_PORT.max());
        }
        (0x0800, KindSpec::Flower(Box::new(with_ip_proto(flower))))
    });
    let kind = prop_oneof![1 => Just((ETH_P_ALL, KindSpec::Matchall)), 2 => flower];
    (0..3u32, 1..6u32, kind, prop::collection::vec(action(), 0..4)).prop_map(
        |(chain, priority, (protocol, kind), actions)| FilterSpec {
            chain,
            priority,
            protocol,
            handle: 0,
            kind,
            actions: actions.into_iter().collect(),
            name: "".into(),
            options: Default::default(),
        },
    )
}

/// Ports can only be matched together with their protocol.
fn with_ip_proto(mut flower: FlowerSpec) -> FlowerSpec {
    flower.value.set(flow_key::IP_PROTO, 17);
    flower.mask.set(flow_key::IP_PROTO, flow_key::IP_PROTO.max());
    flower
}

fn action() -> impl Strategy<Value = ActionSpec> {
    let random = (any::<bool>(), control(), 1..4u16).prop_map(|(netrand, control, one_in)| Random {
        mode: if netrand { RandomMode::Netrand } else { RandomMode::Determ },
        control,
        one_in,
    });
    prop_oneof![
        3 => control().prop_map(gact),
        1 => (control(), random)
            .prop_map(|(control, random)| ActionSpec::Gact(GactSpec { control, random: Some(random) })),
        3 => (port(), control())
            .prop_map(|(port, control)| ActionSpec::Mirred(MirredSpec::Mirror { to: Target::port(port), control })),
        2 => port().prop_map(redirect),
    ]
}

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        Just(Control::Ok),
        Just(Control::Reclassify),
        Just(Control::Shot),
        Just(Control::Pipe),
        Just(Control::Stolen),
        Just(Control::Queued),
        Just(Control::Repeat),
        Just(Control::Trap),
        Just(Control::Continue),
        (0..4u32).prop_map(Control::Jump),
        (0..3u32).prop_map(Control::Goto),
    ]
}
