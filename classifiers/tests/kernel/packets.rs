use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};
use serde_json::Value;
use tidegate_classifiers::classify::Context;
use tidegate_classifiers::flow_key::{self, Field};
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::{Egress, PortId, WorkerId};
use tidegate_classifiers::request::{
    self, ActionKind, ActionSpec, ActionUse, ETH_P_ALL, FilterSpec, FlowerSpec, GactSpec, KindName, KindSpec,
    MirredSpec, Mode, Target, U32Key, U32Node, U32Spec,
};
use tidegate_classifiers::verdict::{Control, Verdict};

use crate::generate::Offer;
use crate::netns::Netns;
use crate::request::{Ours, Request, Slot};
use crate::tc::{Line, Tc};

/// Packets for one set of filters.
const ROUND: usize = 20_000;
const FILTERS: usize = 40;

#[test]
fn random_packets_meet_the_same_fate_as_in_the_kernel() {
    let Some(netns) = crate::namespace("packets") else { return };
    let total = crate::number("PACKETS").unwrap_or(200_000);
    let seed = crate::number("SEED").unwrap_or(1);
    let tc = Tc::new(&netns).unwrap();
    let offer = tc.offer();
    println!("packets: this kernel has {:?} and {:?}", offer.kinds, offer.actions);
    let wire = Wire::open(&netns);
    let mut sum = Tally::default();
    for round in 0..total.div_ceil(ROUND as u64) {
        let mut rng = fastrand::Rng::with_seed(seed + round);
        let tally = compare(&tc, &offer, &wire, &mut rng);
        sum = tally.unwrap_or_else(|why| panic!("seed {}: {why}", seed + round)).plus(&sum);
    }
    println!("packets: {sum:?}");
    assert!(sum.hits > sum.packets / 2 && sum.dropped > sum.packets / 50, "filters that see little: {sum:?}");
}

/// What happened in all.
#[derive(Debug, Default)]
struct Tally {
    packets: u64,
    filters: u64,
    /// Times that an action ran.
    hits: u64,
    dropped: u64,
    passed: u64,
}

impl Tally {
    fn plus(self, other: &Tally) -> Tally {
        Tally {
            packets: self.packets + other.packets,
            filters: self.filters + other.filters,
            hits: self.hits + other.hits,
            dropped: self.dropped + other.dropped,
            passed: self.passed + other.passed,
        }
    }
}

/// Hits, bytes and drops of an action, by the place of its filter and its own in it.
type Counts = BTreeMap<(u64, u64, String, usize), (u64, u64, u64)>;

/// A set of filters and packets for it: every action must have run as often, and seen as many bytes, and as many packets
/// must have been dropped.
fn compare(tc: &Tc<'_>, offer: &Offer, wire: &Wire, rng: &mut fastrand::Rng) -> Result<Tally, String> {
    let _ = tc.try_one("qdisc delete dev p0 clsact");
    tc.try_one("qdisc add dev p0 clsact").unwrap();
    let mut ours = Ours::new();
    let requests: Vec<Request> =
        (0..FILTERS).map(|_| Request::NewFilter(Slot::Private, filter(rng, offer), Mode::Add)).collect();
    let lines: Vec<Line> = requests.iter().map(Request::line).collect();
    let mut filters = 0;
    for ((request, line), theirs) in requests.iter().zip(&lines).zip(tc.run(&lines)) {
        let (theirs, ours) = (theirs.err(), ours.run(request).err());
        if theirs != ours {
            return Err(format!("tc {}: kernel {theirs:?}, ours {ours:?}", line.command));
        }
        filters += u64::from(ours.is_none());
    }

    let frames: Vec<Vec<u8>> = (0..ROUND).map(|_| frame(rng)).collect();
    let before = wire.received(tc);
    for frame in &frames {
        wire.send(frame);
    }
    let received = wire.received(tc) - before;
    if received != frames.len() as u64 {
        return Err(format!("{received} of {} frames got through", frames.len()));
    }

    let block = ours.block(Slot::Private).unwrap();
    let (generation, head) = (block.plane().generation(), block.head());
    let (mut rng, mut now_ns, mut dropped, mut passed) = (fastrand::Rng::new(), 0, 0, 0);
    for frame in &frames {
        now_ns += 1;
        let mut packet = Packet::parse(frame, PortId(0)).expect("an Ethernet header at least");
        let mut world = World(frame);
        let mut cx = Context { worker: WorkerId(0), generation, now_ns, rng: &mut rng, egress: &mut world };
        match block.classify(&head, &mut packet, &mut cx) {
            Verdict::Drop(_) => dropped += 1,
            Verdict::Pass => passed += 1,
            _ => {}
        }
    }
    drop(head);

    let mut ours = Counts::new();
    for info in request::dump(&block) {
        let handle = if info.kind == "u32" { crate::request::u32_handle(info.handle) } else { info.handle.to_string() };
        for (at, it) in info.actions.iter().enumerate() {
            let place = (info.chain.into(), info.priority.into(), handle.clone(), at);
            ours.insert(place, (it.hits.packets, it.hits.bytes, it.hits.drops));
        }
    }
    let listing = tc.run(&[
        Line { command: "filter show dev p0 ingress".to_owned(), prints: true },
        Line { command: "qdisc show dev p0 clsact".to_owned(), prints: true },
    ]);
    let [filters_shown, qdiscs] = &listing[..] else { unreachable!("two answers to two questions") };
    let theirs = their_counts(filters_shown.as_ref().unwrap().as_ref().unwrap());
    let their_drops = qdiscs.as_ref().unwrap().as_ref().unwrap()[0]["drops"].as_u64().expect("a number");
    if ours != theirs || their_drops != dropped {
        let differ = |place: &&(u64, u64, String, usize)| ours.get(*place) != theirs.get(*place);
        let places: Vec<_> = ours.keys().chain(theirs.keys()).filter(differ).take(12).collect();
        let mut why = format!("drops: kernel {their_drops}, ours {dropped}\n");
        for place in places {
            why += &format!("{place:?}: kernel {:?}, ours {:?}\n", theirs.get(place), ours.get(place));
        }
        why += &lines.iter().map(|line| format!("  tc {}\n", line.command)).collect::<String>();
        return Err(why);
    }
    let hits = ours.values().map(|counts| counts.0).sum();
    Ok(Tally { packets: frames.len() as u64, filters, hits, dropped, passed })
}

fn their_counts(listing: &Value) -> Counts {
    let mut counts = Counts::new();
    for record in listing.as_array().into_iter().flatten() {
        let options = &record["options"];
        let handle = match options["fh"].as_str() {
            Some(text) => crate::request::u32_handle(crate::listing::their_u32_handle(text)),
            None => options["handle"].to_string(),
        };
        for (at, it) in options["actions"].as_array().into_iter().flatten().enumerate() {
            let number = |value: &Value| value.as_u64().expect("a number");
            let place = (number(&record["chain"]), number(&record["pref"]), handle.clone(), at);
            let stats = &it["stats"];
            counts.insert(place, (number(&stats["packets"]), number(&stats["bytes"]), number(&stats["drops"])));
        }
    }
    counts
}

/// All ports are up; a copy always finds room.
struct World<'a>(&'a [u8]);

impl Egress for World<'_> {
    fn frame(&self) -> &[u8] {
        self.0
    }

    fn ready(&self, _: PortId) -> bool {
        true
    }

    fn mirror(&mut self, _: PortId) -> bool {
        true
    }
}

/// A packet socket on q0: what it sends, p0 receives.
struct Wire(OwnedFd);

impl Wire {
    fn open(netns: &Netns) -> Wire {
        let path = format!("/run/netns/{}", netns.name());
        // A socket stays in the namespace where it was made; the thread that makes it goes.
        let open = move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
            let address = getifaddrs().unwrap().find(|it| {
                it.interface_name == "q0" && it.address.as_ref().is_some_and(|address| address.as_link_addr().is_some())
            });
            let address = address.and_then(|it| it.address).expect("q0 is there");
            bind(fd.as_raw_fd(), address.as_link_addr().unwrap()).unwrap();
            fd
        };
        Wire(std::thread::spawn(open).join().expect("a packet socket"))
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(send(self.0.as_raw_fd(), frame, MsgFlags::empty()), Ok(frame.len()), "{frame:02x?}");
    }

    /// Packets that p0's clsact has seen so far. What is on the way there arrives before the sender goes on.
    fn received(&self, tc: &Tc<'_>) -> u64 {
        let line = Line { command: "qdisc show dev p0 clsact".to_owned(), prints: true };
        let shown = tc.run(&[line]).remove(0).unwrap().expect("it prints");
        shown[0]["packets"].as_u64().expect("a number")
    }
}

const TCP: u64 = 6;
const UDP: u64 = 17;

/// A filter with one action at least, so that the kernel counts its hits.
fn filter(rng: &mut fastrand::Rng, offer: &Offer) -> FilterSpec {
    let chain = [0, 0, 0, 0, 1, 2][rng.usize(..6)];
    let (priority, protocol, kind) = loop {
        let kind = offer.kinds[rng.usize(..offer.kinds.len())];
        let protocol =
            [ETH_P_ALL, 0x0800, 0x0800, 0x0800, 0x86dd, 0x86dd, 0x0806, 0x8100, 0x8100, 0x88a8][rng.usize(..10)];
        // A priority has one protocol and one kind; and one chain, or u32 would be listed twice [WK-11].
        let place = chain * 3000 + u32::from(protocol % 7) * 4 + rng.u32(..3) * 100;
        match kind {
            KindName::Flower => break (place + 1, protocol, KindSpec::Flower(Box::new(flower(rng, protocol)))),
            KindName::Matchall if rng.u8(..8) == 0 => break (1000 + place, protocol, KindSpec::Matchall),
            KindName::U32 if rng.u8(..2) == 0 => break (place + 2, protocol, u32_node(rng)),
            _ => {}
        }
    };
    let count = rng.usize(1..3);
    FilterSpec {
        chain,
        priority,
        protocol,
        handle: 0,
        kind,
        actions: (0..count).map(|_| action(rng, offer)).collect(),
        name: "".into(),
        options: Default::default(),
    }
}

fn action(rng: &mut fastrand::Rng, offer: &Offer) -> ActionUse {
    use Control::*;
    let control =
        [Ok, Ok, Ok, Pipe, Pipe, Shot, Shot, Shot, Continue, Continue, Continue, Goto(1), Goto(2), Goto(3), Reclassify]
            [rng.usize(..15)];
    let port = PortId(2);
    let gact = offer.actions.contains(&ActionKind::Gact);
    let spec = match rng.u8(..8) {
        _ if gact && rng.u8(..8) > 0 => ActionSpec::Gact(GactSpec { control, random: None }),
        0 => ActionSpec::Mirred(MirredSpec::Redirect { to: Target::port(port) }),
        _ => ActionSpec::Mirred(MirredSpec::Mirror { to: Target::port(port), control }),
    };
    spec.into()
}

/// One to three keys at places where packets differ.
fn u32_node(rng: &mut fastrand::Rng) -> KindSpec {
    let mut keys = Vec::new();
    let mut offset = -4;
    for _ in 0..rng.usize(1..3) {
        offset += 4 + 4 * rng.i32(0..4);
        let mask = [0xff, 0xff00, 0x00ff_0000, 0x0f00_000f, 0x0000_0001, 0x0001_0000][rng.usize(..6)];
        let value = rng.u32(..) & [0, 0x0101_0101, 0x0303_0303][rng.usize(..3)] & mask;
        keys.push(U32Key { value, mask, offset, next_header: false });
    }
    KindSpec::U32(U32Spec::Node(Box::new(U32Node { keys, ..U32Node::default() })))
}

/// Some keys that make sense together, with values that packets have.
fn flower(rng: &mut fastrand::Rng, protocol: u16) -> FlowerSpec {
    let mut spec = FlowerSpec::default();
    let mut set = |field: Field, value: u64, mask: u64| {
        spec.value.set(field, value & mask);
        spec.mask.set(field, mask);
    };
    let may = |rng: &mut fastrand::Rng| rng.u8(..4) == 0;
    let full = u64::MAX;
    if may(rng) {
        set(flow_key::DST_MAC, station(rng), [full, !0xff, 1][rng.usize(..3)] & flow_key::DST_MAC.max());
    }
    if may(rng) {
        set(flow_key::SRC_MAC, station(rng), flow_key::SRC_MAC.max());
    }
    if rng.u8(..12) == 0 {
        set(flow_key::INDEV, 1, full & flow_key::INDEV.max());
    }
    let mut ethertype = protocol;
    if matches!(protocol, 0x8100 | 0x88a8) {
        if may(rng) {
            set(flow_key::VLAN_ID, rng.u64(1..4), 0xfff);
        }
        if may(rng) {
            set(flow_key::VLAN_PRIO, rng.u64(..3), 7);
        }
        ethertype = 0;
        let double = may(rng);
        if double {
            set(flow_key::CVLAN_TPID, 0x8100, 0xffff);
            if rng.bool() {
                set(flow_key::CVLAN_ID, rng.u64(1..4), 0xfff);
            }
            if may(rng) {
                set(flow_key::CVLAN_PRIO, rng.u64(..3), 7);
            }
        }
        if rng.bool() {
            ethertype = [0x0800, 0x86dd, 0x0806][rng.usize(..3)];
            set(flow_key::ETH_TYPE, ethertype.into(), 0xffff);
            if !double {
                set(flow_key::CVLAN_TPID, 0, 0xffff); // tc's `vlan_ethtype`: right behind the outer tag
            }
        }
    }
    match ethertype {
        0x0806 => {
            for (field, value, masks) in [
                (flow_key::ARP_OP, rng.u64(1..3), [0xff, 1]),
                (flow_key::ARP_SIP, v4(rng), [0xffff_ffff, 0xffff_ff00]),
                (flow_key::ARP_TIP, v4(rng), [0xffff_ffff, 0xffff_fffe]),
                (flow_key::ARP_SHA, station(rng), [flow_key::ARP_SHA.max(), 0xffff_ffff_fffe]),
                (flow_key::ARP_THA, station(rng), [flow_key::ARP_THA.max(), 1]),
            ] {
                if may(rng) {
                    set(field, value, masks[rng.usize(..2)]);
                }
            }
        }
        0x0800 | 0x86dd => return ip_keys(rng, spec, ethertype == 0x86dd),
        _ => {}
    }
    spec
}

fn ip_keys(rng: &mut fastrand::Rng, mut spec: FlowerSpec, v6: bool) -> FlowerSpec {
    let may = |rng: &mut fastrand::Rng| rng.u8(..4) == 0;
    let mut ports = None;
    {
        let mut set = |field: Field, value: u64, mask: u64| {
            spec.value.set(field, value & mask);
            spec.mask.set(field, mask);
        };
        if may(rng) {
            set(flow_key::IP_TOS, tos(rng), [0xff, 0xfc][rng.usize(..2)]);
        }
        if may(rng) {
            set(flow_key::IP_TTL, ttl(rng), [0xff, 0xc0][rng.usize(..2)]);
        }
        if rng.u8(..6) == 0 {
            let first = flow_key::IP_FLAG_FIRST_FRAG;
            let (value, mask) = [(0, 1), (1, 1), (1 | first, 1 | first), (1, 1 | first)][rng.usize(..4)];
            set(flow_key::IP_FLAGS, value, mask);
        }
        for (high, low) in
            [(flow_key::SRC_IP_HIGH, flow_key::SRC_IP_LOW), (flow_key::DST_IP_HIGH, flow_key::DST_IP_LOW)]
        {
            if !may(rng) {
                continue;
            }
            if v6 {
                let address = u128::from(address6(rng));
                let length = [128, 127, 64, 8][rng.usize(..4)];
                let mask = u128::MAX << (128 - length);
                let word = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("64 bits");
                let half = |bits: u128| (word(bits >> 64), word(bits));
                let ((value_high, value_low), (mask_high, mask_low)) = (half(address & mask), half(mask));
                set(high, value_high, mask_high);
                set(low, value_low, mask_low);
            } else {
                set(low, v4(rng), [0xffff_ffff, 0xffff_fffe, 0xffff_ff00, 0xff00_0000][rng.usize(..4)]);
            }
        }
        if rng.u8(..4) > 0 {
            let icmp = if v6 { 58 } else { 1 };
            let proto = [TCP, TCP, UDP, UDP, icmp, 132][rng.usize(..6)];
            set(flow_key::IP_PROTO, proto, 0xff);
            if proto == icmp {
                if may(rng) {
                    set(flow_key::ICMP_TYPE, rng.u64(..3) * 4, 0xff);
                }
                if may(rng) {
                    set(flow_key::ICMP_CODE, rng.u64(..3), [0xff, 1][rng.usize(..2)]);
                }
            } else {
                ports = Some(proto);
            }
            if proto == TCP && may(rng) {
                set(flow_key::TCP_FLAGS, flags(rng), [0xfff, 0x02, 0x12][rng.usize(..3)]);
            }
        }
        if ports.is_some() {
            for field in [flow_key::SRC_PORT, flow_key::DST_PORT] {
                if may(rng) {
                    set(field, port(rng).max(79), [0xffff, 0xffff, 0xfff0][rng.usize(..3)]); // tc takes no 0
                }
            }
        }
    }
    if ports.is_some() {
        let range = |rng: &mut fastrand::Rng| {
            let min = u16::try_from(port(rng)).expect("16 bits").saturating_sub(1).max(1);
            may(rng).then(|| (min, min + rng.u16(1..4)))
        };
        if spec.mask.get(flow_key::SRC_PORT) == 0 {
            spec.src_port_range = range(rng);
        }
        if spec.mask.get(flow_key::DST_PORT) == 0 {
            spec.dst_port_range = range(rng);
        }
    }
    spec
}

fn station(rng: &mut fastrand::Rng) -> u64 {
    0x0200_0000_0000 + rng.u64(..2) * 0x100 + rng.u64(1..4)
}

fn v4(rng: &mut fastrand::Rng) -> u64 {
    0x0a00_0000 + rng.u64(..2) * 0x100 + rng.u64(1..4)
}

fn address6(rng: &mut fastrand::Rng) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, rng.u16(..2), 0, 0, 0, rng.u16(1..4))
}

fn tos(rng: &mut fastrand::Rng) -> u64 {
    [0, 0x10, 0xb8, 0xb9][rng.usize(..4)]
}

fn ttl(rng: &mut fastrand::Rng) -> u64 {
    [1, 63, 64, 255][rng.usize(..4)]
}

fn port(rng: &mut fastrand::Rng) -> u64 {
    [0, 79, 80, 81, 1000][rng.usize(..5)]
}

fn flags(rng: &mut fastrand::Rng) -> u64 {
    [0x02, 0x10, 0x12, 0x18, 0x1c2][rng.usize(..5)]
}

/// A frame as any host might send it, or as none should: fragments, extension headers, cut off behind the tags.
fn frame(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    let mac = |bits: u64| bits.to_be_bytes()[2..].to_vec();
    frame.extend(mac(station(rng)));
    frame.extend(mac(station(rng)));
    let tpids: &[u16] =
        [&[][..], &[], &[], &[0x8100], &[0x8100], &[0x88a8], &[0x88a8, 0x8100], &[0x8100, 0x8100]][rng.usize(..8)];
    for tpid in tpids {
        frame.extend(tpid.to_be_bytes());
        frame.extend((rng.u16(..3) << 13 | rng.u16(1..4)).to_be_bytes());
    }
    let headers = frame.len() + 2;
    let mut body = 0; // bytes of L4 and what follows
    match rng.u8(..10) {
        0 => arp(rng, &mut frame),
        1 => frame.extend([0x88, 0xb5, 1, 2, 3, 4, 5, 6, 7, 8]), // of no known protocol
        2..=6 => body = ipv4(rng, &mut frame),
        _ => body = ipv6(rng, &mut frame),
    }
    if rng.u8(..12) == 0 {
        // A tag with less than two bytes behind its ethertype does not get as far as tc.
        let least = if tpids.is_empty() { headers } else { headers.max(20) };
        let end = rng.usize(least..=frame.len());
        // Of a TCP, UDP or SCTP header that is cut off the kernel still reads the ports; our parser wants it whole.
        let l4 = frame.len() - body;
        frame.truncate(if end > l4 + 3 && end < l4 + 20 { l4.max(least) } else { end });
    } else if rng.u8(..4) == 0 {
        frame.resize(frame.len().max(60), 0);
    }
    frame
}

fn arp(rng: &mut fastrand::Rng, frame: &mut Vec<u8>) {
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, rng.u8(1..3)]); // the kernel reads no other operations
    for _ in 0..2 {
        frame.extend(&station(rng).to_be_bytes()[2..]);
        frame.extend(&v4(rng).to_be_bytes()[4..]);
    }
}

/// Returns how long L4 is.
fn ipv4(rng: &mut fastrand::Rng, frame: &mut Vec<u8>) -> usize {
    let proto = [6, 6, 6, 17, 17, 17, 1, 132, 50, 99][rng.usize(..10)];
    let body = transport(rng, proto);
    let options = if rng.u8(..10) == 0 { rng.usize(1..4) } else { 0 };
    let len = u16::try_from(20 + 4 * options + body.len()).expect("it is short");
    let fragment: u16 = [0, 0, 0, 0, 0, 0x4000, 0x4000, 0x2000, 0x2005, 0x0005][rng.usize(..10)];
    let ihl = u8::try_from(5 + options).expect("it is small");
    frame.extend([0x08, 0x00, 0x40 | ihl, low(tos(rng))]);
    frame.extend(len.to_be_bytes());
    frame.extend([0, 1]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([low(ttl(rng)), proto, 0, 0]);
    frame.extend(&v4(rng).to_be_bytes()[4..]);
    frame.extend(&v4(rng).to_be_bytes()[4..]);
    frame.extend([1, 1, 1, 1].repeat(options));
    frame.extend(&body);
    body.len()
}

/// Returns how long L4 is.
fn ipv6(rng: &mut fastrand::Rng, frame: &mut Vec<u8>) -> usize {
    let proto = [6, 6, 6, 17, 17, 17, 58, 132, 50, 59][rng.usize(..10)];
    let body = transport(rng, proto);
    let mut extensions: Vec<(u8, Vec<u8>)> = Vec::new();
    if rng.u8(..8) == 0 {
        extensions.push((0, vec![0, 0, 1, 4, 0, 0, 0, 0])); // hop by hop
    }
    if rng.u8(..8) == 0 {
        let offset: u16 = [0, 1, 8, 9][rng.usize(..4)];
        extensions.push((44, [&[0, 0][..], &offset.to_be_bytes(), &[0, 0, 0, 7]].concat()));
    }
    let extra: usize = extensions.iter().map(|(_, bytes)| bytes.len()).sum();
    let class = low(tos(rng));
    frame.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, 0]);
    frame.extend(u16::try_from(extra + body.len()).expect("it is short").to_be_bytes());
    frame.extend([extensions.first().map_or(proto, |(kind, _)| *kind), low(ttl(rng))]);
    frame.extend(address6(rng).octets());
    frame.extend(address6(rng).octets());
    let next: Vec<u8> = extensions.iter().skip(1).map(|(kind, _)| *kind).chain([proto]).collect();
    for ((_, bytes), next) in extensions.iter().zip(next) {
        frame.push(next);
        frame.extend(&bytes[1..]);
    }
    frame.extend(&body);
    body.len()
}

fn transport(rng: &mut fastrand::Rng, proto: u8) -> Vec<u8> {
    let mut body = Vec::new();
    let word = |rng: &mut fastrand::Rng| u16::try_from(port(rng)).expect("16 bits").to_be_bytes();
    match proto {
        6 => {
            body.extend(word(rng));
            body.extend(word(rng));
            body.extend([0; 8]);
            let flags = u16::try_from(flags(rng)).expect("16 bits");
            body.extend((0x5000 | flags).to_be_bytes());
            body.extend([0xff, 0xff, 0, 0, 0, 0]);
        }
        1 | 58 => body.extend([rng.u8(..3) * 4, rng.u8(..3), 0, 0, 0, 1, 0, 1]),
        _ => {
            body.extend(word(rng));
            body.extend(word(rng));
            body.extend([0, 8, 0, 0, 0, 0, 0, 0]);
        }
    }
    body.extend((0..rng.usize(..12)).map(|_| rng.u8(..)));
    body
}

fn low(value: u64) -> u8 {
    value.to_be_bytes()[7]
}
