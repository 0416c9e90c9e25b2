//! [`XskRings`] on veth pairs: two ports, a station behind each.
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_classifiers::port::PortId;
use tidegate_engine::lab::{Lab, Namespace};
use tidegate_engine::rings::{BURST_MAX, Burst, Census, Rings};
use tidegate_engine::xsk::netdev::Netdev;
use tidegate_engine::xsk::tap::Tap;
use tidegate_engine::xsk::{Endpoint, Frame, QueueOptions, RingsOptions, Sockets, XskError, XskRings, ZeroCopy};
use tidegate_xdp_prog::{Gate, GateOptions, GenericPolicy, OnExit, PassList};

const LEFT: PortId = PortId(0);
const RIGHT: PortId = PortId(1);
const RING: u32 = 256;

const RINGS: RingsOptions = RingsOptions { chunk_size: 2048, frames: 6 * RING, huge_pages: false, ring_size: RING };

/// A gateway with ports p0 and p1, and hosts h0 and h1 behind them.
struct Bed {
    _lab: Lab,
    gateway: Namespace,
    hosts: [Namespace; 2],
}

impl Bed {
    fn new(queues: u16) -> Option<Bed> {
        if !Lab::allowed() {
            return None;
        }
        let lab = Lab::new("xs");
        let gateway = lab.namespace("gw").unwrap();
        let hosts = ["h0", "h1"].map(|host| lab.namespace(host).unwrap());
        for (port, name, host) in [("p0", "h0", &hosts[0]), ("p1", "h1", &hosts[1])] {
            lab.veth((&gateway, port), (host, name), queues).unwrap();
            gateway.disable_ipv6(port).unwrap();
            host.disable_ipv6(name).unwrap();
        }
        Some(Bed { _lab: lab, gateway, hosts })
    }

    fn endpoints(&self) -> [Endpoint; 2] {
        [0, 1].map(|host| self.hosts[host].inside(|| Endpoint::open(&format!("h{host}")).unwrap()).unwrap())
    }

    fn gates(&self) -> [Gate; 2] {
        ["p0", "p1"].map(|port| self.gateway.inside(|| gate(port)).unwrap())
    }

    fn rings(&self, options: RingsOptions, queue: u32, zero_copy: ZeroCopy) -> Result<XskRings, XskError> {
        self.open(options, queue, zero_copy).map(|(rings, _)| rings)
    }

    fn open(&self, options: RingsOptions, queue: u32, zero_copy: ZeroCopy) -> Result<(XskRings, Sockets), XskError> {
        self.gateway.inside(|| XskRings::new(&options, &both(queue, zero_copy))).unwrap()
    }

    /// Ports open for packets, everything in place.
    fn gateway(&self, options: RingsOptions) -> (XskRings, [Gate; 2]) {
        let (rings, _, gates) = self.gateway_and_sockets(options);
        (rings, gates)
    }

    fn gateway_and_sockets(&self, options: RingsOptions) -> (XskRings, Sockets, [Gate; 2]) {
        let gates = self.gates();
        let (rings, sockets) = self.open(options, 0, ZeroCopy::Try).unwrap();
        connect(&rings, &gates);
        (rings, sockets, gates)
    }

    fn ip(&self, arguments: &str) {
        let status = self.gateway.exec("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }
}

fn both(queue: u32, zero_copy: ZeroCopy) -> [QueueOptions<'static>; 2] {
    [(LEFT, "p0"), (RIGHT, "p1")].map(|(port, interface)| QueueOptions { port, interface, queue, zero_copy })
}

/// The port goes, and its frames come back.
fn close(rings: &mut XskRings, sockets: &mut Sockets, port: PortId) {
    sockets.close(port, rings.remove(port).unwrap());
    rings.reclaim(port);
}

fn gate(interface: &str) -> Gate {
    let netdev = Netdev::query(interface).unwrap();
    Gate::attach(&GateOptions {
        ifindex: netdev.ifindex,
        queues: netdev.rx_queues,
        on_exit: OnExit::Pass,
        generic: GenericPolicy::Auto,
        pass: PassList::default(),
    })
    .unwrap()
}

fn connect(rings: &XskRings, gates: &[Gate; 2]) {
    for (port, gate) in [LEFT, RIGHT].into_iter().zip(gates) {
        let queue = rings.queue(port).unwrap();
        gate.set_socket(queue.id(), queue.fd()).unwrap();
    }
}

/// One burst from each port to the other; says how many packets went. Frames are conserved at every step.
fn forward(rings: &mut XskRings) -> usize {
    let mut burst: Burst<Frame> = Burst::new();
    let mut forwarded = 0;
    for (from, to) in [(LEFT, RIGHT), (RIGHT, LEFT)] {
        rings.receive(from, 64, &mut burst);
        assert_eq!(rings.census().in_hand(), burst.len());
        for frame in burst.drain(..) {
            match rings.send(to, frame) {
                Ok(()) => forwarded += 1,
                Err(frame) => rings.release(frame),
            }
        }
        assert_eq!(rings.census().in_hand(), 0);
    }
    rings.flush();
    assert_eq!(rings.census().in_hand(), 0);
    forwarded
}

/// Forwards until `count` packets went.
fn forward_all(rings: &mut XskRings, count: usize) {
    let end = Instant::now() + Duration::from_secs(5);
    let mut forwarded = 0;
    while forwarded < count {
        assert!(Instant::now() < end, "{forwarded} of {count} packets arrived");
        forwarded += forward(rings);
        rings.wait(10);
    }
}

/// Flushes until nothing is on the sending side.
fn settle(rings: &mut XskRings) -> Census {
    let end = Instant::now() + Duration::from_secs(5);
    while rings.census().sending > 0 {
        assert!(Instant::now() < end, "{:?}", rings.census());
        rings.flush();
        rings.wait(1);
    }
    rings.census()
}

/// A frame of `length` bytes, each depending on its place and on `seed`.
fn frame(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..251).cycle().map(|at| seed.wrapping_add(at)).take(length).collect();
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    bytes
}

/// The same with a VLAN tag.
fn tagged(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = frame(length, seed);
    bytes[12..18].copy_from_slice(&[0x81, 0, 0x20, 0x64, 0x88, 0xb5]);
    bytes
}

#[test]
fn packets_of_every_size_pass_both_ways_byte_for_byte() {
    let Some(bed) = Bed::new(1) else { return };
    let (mut rings, _gates) = bed.gateway(RINGS);
    let mut hosts = bed.endpoints();
    let plain = (60..=1514).map(|length| frame(length, 1));
    let packets: Vec<_> = plain.chain((60..=1518).step_by(7).map(|length| tagged(length, 2))).collect();
    for chunk in packets.chunks(100) {
        for host in &mut hosts {
            assert_eq!(host.send_burst(0, chunk.iter().map(Vec::as_slice)), chunk.len());
        }
        forward_all(&mut rings, 2 * chunk.len());
        settle(&mut rings);
        for host in &mut hosts {
            for packet in chunk {
                assert_eq!(host.recv(Duration::from_secs(1)).as_ref(), Some(packet));
            }
        }
    }
    for host in &mut hosts {
        assert_eq!(host.recv(Duration::from_millis(20)), None);
    }
    for port in [LEFT, RIGHT] {
        assert_eq!(rings.kernel_counters(port).unwrap().invalid, 0);
    }
}

#[test]
fn a_copy_leaves_beside_its_original() {
    let Some(bed) = Bed::new(1) else { return };
    let (mut rings, _gates) = bed.gateway(RINGS);
    let [mut left, mut right] = bed.endpoints();
    let packet = tagged(300, 7);
    assert!(left.send(&packet));
    let mut burst = Burst::new();
    while burst.is_empty() {
        rings.wait(100);
        rings.receive(LEFT, 1, &mut burst);
    }
    let original = burst.pop().unwrap();
    let copy = rings.copy(&original).unwrap();
    assert_eq!(rings.bytes(&copy), packet);
    assert_eq!(rings.census().in_hand(), 2);
    rings.send(RIGHT, original).unwrap();
    rings.send(LEFT, copy).unwrap();
    rings.flush();
    for host in [&mut left, &mut right] {
        assert_eq!(host.recv(Duration::from_secs(1)).as_ref(), Some(&packet));
    }
}

#[test]
fn no_copy_without_a_free_frame() {
    let Some(bed) = Bed::new(1) else { return };
    let mut rings = bed.rings(RINGS, 0, ZeroCopy::Never).unwrap();
    let mut held = Vec::new();
    while let Some(frame) = rings.frame(&[0; 60]) {
        held.push(frame);
    }
    assert_eq!(rings.census(), Census { total: 6 * 256, free: 0, receiving: 4 * 256, sending: 0 });
    assert!(rings.copy(&held[0]).is_none());
    let frame = held.pop().unwrap();
    rings.release(frame);
    assert!(rings.copy(&held[0]).is_some_and(|copy| {
        rings.release(copy);
        true
    }));
    held.drain(..).for_each(|frame| rings.release(frame));
    assert_eq!(rings.census().in_hand(), 0);
}

#[test]
fn what_does_not_fit_a_chunk_is_no_frame() {
    let Some(bed) = Bed::new(1) else { return };
    let mut rings = bed.rings(RINGS, 0, ZeroCopy::Never).unwrap();
    let before = rings.census();
    assert!(rings.frame(&[]).is_none());
    assert!(rings.frame(&[0; 1793]).is_none());
    assert_eq!(rings.census(), before);
    let frame = rings.frame(&[0; 1792]).unwrap();
    rings.release(frame);
    assert_eq!(rings.census(), before);
}

#[test]
fn an_edited_packet_leaves_as_it_was_made_and_its_copy_as_it_was() {
    let Some(bed) = Bed::new(1) else { return };
    let (mut rings, _gates) = bed.gateway(RINGS);
    let [mut host, _] = bed.endpoints();
    let packet = tagged(60, 7);
    let mut frame = rings.frame(&packet).unwrap();
    let copy = rings.copy(&frame).unwrap();
    assert!(!rings.resize(&mut frame, 1793) && !rings.resize(&mut frame, 0));
    assert_eq!(rings.bytes(&frame), packet);
    assert!(rings.resize(&mut frame, 1792) && rings.resize(&mut frame, 64));
    rings.edit(&mut frame, |bytes| {
        bytes.copy_within(12..60, 16);
        bytes[12..16].copy_from_slice(&[0x81, 0, 0, 7]);
    });
    let edited = [&packet[..12], &[0x81, 0, 0, 7], &packet[12..]].concat();
    for (frame, expected) in [(frame, edited), (copy, packet)] {
        rings.send(LEFT, frame).unwrap();
        rings.flush();
        assert_eq!(host.recv(Duration::from_secs(1)), Some(expected));
    }
    assert_eq!(rings.census().in_hand(), 0);
}

#[test]
fn a_frame_is_worth_nothing_to_other_rings() {
    let Some(bed) = Bed::new(2) else { return };
    let mut one = bed.rings(RINGS, 0, ZeroCopy::Never).unwrap();
    let mut other = bed.rings(RINGS, 1, ZeroCopy::Never).unwrap();
    let frame = one.frame(&[0; 60]).unwrap();
    let refused = catch_unwind(AssertUnwindSafe(|| other.release(frame))).unwrap_err();
    assert!(refused.downcast_ref::<String>().unwrap().contains("only to the rings it came from"));
}

/// Closing gives every frame back, whichever port goes first: the first socket is the one that libxdp keeps open.
#[test]
fn closing_a_port_gives_its_frames_back_and_leaves_the_other_working() {
    for (closed, host) in [(LEFT, 1), (RIGHT, 0)] {
        let Some(bed) = Bed::new(1) else { return };
        let (mut rings, mut sockets, gates) = bed.gateway_and_sockets(RINGS);
        let mut hosts = bed.endpoints();
        // Frames on both sides of the port that is closed.
        let open = if closed == LEFT { RIGHT } else { LEFT };
        for _ in 0..10 {
            let frame = rings.frame(&frame(100, 3)).unwrap();
            rings.send(closed, frame).unwrap();
        }
        let before = rings.census();
        assert_eq!((before.receiving, before.sending), (4 * 256, 10));

        close(&mut rings, &mut sockets, closed);
        let total = rings.census().total;
        assert_eq!(rings.census(), Census { total, free: total - 512, receiving: 512, sending: 0 });
        assert!(rings.queue(closed).is_none() && rings.kernel_counters(closed).is_none());
        let frame = rings.frame(&frame(100, 3)).unwrap();
        let frame = rings.send(closed, frame).unwrap_err();

        // The socket is gone in the kernel too: its queue can be bound again.
        let options = both(0, ZeroCopy::Never);
        let bind =
            |port: PortId| bed.gateway.inside(|| XskRings::new(&RINGS, &[options[usize::from(port.0)]])).unwrap();
        bind(closed).unwrap();
        assert!(matches!(bind(open), Err(XskError::Busy { .. })));

        // The other port works, more often than there are frames in its rings.
        rings.send(open, frame).unwrap();
        rings.flush();
        assert!(hosts[host].recv(Duration::from_secs(1)).is_some());
        let mut burst = Burst::new();
        for round in 0..20 {
            let packets: Vec<_> = (0..50).map(|seed| tagged(200, seed + round)).collect();
            assert_eq!(hosts[host].send_burst(0, packets.iter().map(Vec::as_slice)), 50);
            let mut left = packets.as_slice();
            while !left.is_empty() {
                rings.receive(open, BURST_MAX, &mut burst);
                for frame in burst.drain(..) {
                    assert_eq!(rings.bytes(&frame), left[0]);
                    left = &left[1..];
                    rings.release(frame);
                }
                rings.flush();
            }
        }
        let total = rings.census().total;
        assert_eq!(settle(&mut rings), Census { total, free: total - 512, receiving: 512, sending: 0 });
        drop(gates);
        drop((rings, sockets));
        bind(open).unwrap();
    }
}

#[test]
fn a_queue_that_is_released_late_is_waited_for() {
    let Some(bed) = Bed::new(1) else { return };
    let held = bed.rings(RINGS, 0, ZeroCopy::Never).unwrap();
    let gates = bed.gates();
    let mut rings = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            drop(held);
        });
        bed.rings(RINGS, 0, ZeroCopy::Never).unwrap()
    });
    connect(&rings, &gates);
    let mut hosts = bed.endpoints();
    assert!(hosts[0].send(&frame(99, 1)));
    forward_all(&mut rings, 1);
    assert_eq!(hosts[1].recv(Duration::from_secs(1)), Some(frame(99, 1)));
}

/// Each port goes and comes back while the other one works: the memory does not depend on the socket that it began with.
#[test]
fn ports_go_and_come_back_one_after_the_other() {
    let Some(bed) = Bed::new(1) else { return };
    let (mut rings, mut sockets, gates) = bed.gateway_and_sockets(RINGS);
    let mut hosts = bed.endpoints();
    let census = rings.census();
    for round in 0..6_u8 {
        let port = [LEFT, RIGHT, RIGHT, LEFT, LEFT, RIGHT][usize::from(round)];
        let options = both(0, ZeroCopy::Try)[usize::from(port.0)];
        close(&mut rings, &mut sockets, port);
        assert_eq!(sockets.queues().count(), 1);
        let queue = bed.gateway.inside(|| sockets.open(&options)).unwrap().unwrap();
        rings.insert(port, queue);
        rings.flush();
        assert_eq!(rings.census(), census);
        gates[usize::from(port.0)].set_socket(0, sockets.socket(port).unwrap()).unwrap();
        for from in [0, 1] {
            let packets: Vec<_> = (0..32).map(|seed| frame(90, seed + round)).collect();
            assert_eq!(hosts[from].send_burst(0, packets.iter().map(Vec::as_slice)), 32);
            forward_all(&mut rings, 32);
            settle(&mut rings);
            for packet in &packets {
                assert_eq!(hosts[1 - from].recv(Duration::from_secs(1)).as_ref(), Some(packet), "round {round}");
            }
        }
    }
    // All are gone: then the memory is, too.
    close(&mut rings, &mut sockets, LEFT);
    close(&mut rings, &mut sockets, RIGHT);
    assert_eq!(rings.census(), Census { free: census.total, receiving: 0, ..census });
    let refused = bed.gateway.inside(|| sockets.open(&both(0, ZeroCopy::Try)[0])).unwrap();
    assert!(matches!(refused, Err(XskError::Gone)), "{refused:?}");
}

#[test]
fn another_port_comes_only_if_there_is_room_and_the_mode_fits() {
    let Some(bed) = Bed::new(1) else { return };
    let [left, right] = both(0, ZeroCopy::Try);
    let open =
        |frames| bed.gateway.inside(|| XskRings::new(&RingsOptions { frames, ..RINGS }, &[left])).unwrap().unwrap();
    let more = |sockets: &mut Sockets, options| bed.gateway.inside(|| sockets.open(options)).unwrap().map(|_| ());
    let (_rings, mut sockets) = open(6 * RING - 1);
    assert_eq!(
        more(&mut sockets, &right).unwrap_err().to_string(),
        "packet memory has no room for another port: 1536 frames are needed, there are 1535; set workers.frames to 1536 or \
         more, and restart the gateway"
    );
    drop((_rings, sockets));
    let (_rings, mut sockets) = open(6 * RING);
    let required = QueueOptions { zero_copy: ZeroCopy::Require, ..right };
    assert!(matches!(more(&mut sockets, &required), Err(XskError::Copies { .. })));
    assert!(matches!(more(&mut sockets, &left), Err(XskError::Port(LEFT))));
    let absent = QueueOptions { interface: "p9", ..right };
    assert!(matches!(more(&mut sockets, &absent), Err(XskError::NoInterface(_))));
    more(&mut sockets, &right).unwrap();
}

#[test]
fn a_port_that_is_deleted_gives_its_frames_back() {
    for (deleted, name) in [(LEFT, "p0"), (RIGHT, "p1")] {
        let Some(bed) = Bed::new(1) else { return };
        let (mut rings, mut sockets, gates) = bed.gateway_and_sockets(RINGS);
        bed.ip(&format!("link delete {name}"));
        // Frames for it are taken as long as there is room, and lost to nobody.
        let mut returned = 0;
        for _ in 0..2 * RING {
            let frame = rings.frame(&frame(100, 3)).unwrap();
            if let Err(frame) = rings.send(deleted, frame) {
                rings.release(frame);
                returned += 1;
            }
            rings.flush();
        }
        assert_eq!(returned, RING);
        rings.wait(1); // does not fail or hang
        close(&mut rings, &mut sockets, deleted);
        let total = rings.census().total;
        assert_eq!(rings.census(), Census { total, free: total - 512, receiving: 512, sending: 0 });
        drop(gates);
    }
}

#[test]
fn a_full_ring_gives_the_frame_back_and_drains_when_the_port_is_up_again() {
    let Some(bed) = Bed::new(1) else { return };
    let (mut rings, _gates) = bed.gateway(RINGS);
    let [_left, mut right] = bed.endpoints();
    bed.ip("link set p1 down");
    for seed in 0..=255 {
        let frame = rings.frame(&frame(80, seed)).unwrap();
        rings.send(RIGHT, frame).unwrap();
        rings.flush();
    }
    let packet = rings.frame(&frame(80, 1)).unwrap();
    let packet = rings.send(RIGHT, packet).unwrap_err();
    rings.release(packet);
    assert_eq!(rings.census().sending, 256);

    // With frames left to send a worker comes back soon, but not at once: a port that is down is no busy loop.
    let start = Instant::now();
    for _ in 0..20 {
        rings.flush();
        rings.wait(1000);
    }
    assert!(
        (Duration::from_millis(15)..Duration::from_millis(900)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );

    bed.ip("link set p1 up");
    assert_eq!(settle(&mut rings).sending, 0);
    for seed in 0..=255 {
        assert_eq!(right.recv(Duration::from_secs(1)), Some(frame(80, seed)));
    }
}

#[test]
fn a_packet_larger_than_a_chunk_is_counted() {
    let Some(bed) = Bed::new(1) else { return };
    for (namespace, interface) in [(&bed.gateway, "p0"), (&bed.hosts[0], "h0")] {
        let mtu = ["link", "set", interface, "mtu", "3000"];
        assert!(namespace.exec("ip").args(mtu).status().unwrap().success());
    }
    let (mut rings, _gates) = bed.gateway(RINGS);
    let [mut left, _right] = bed.endpoints();
    assert!(left.send(&frame(1792, 1)) && left.send(&frame(1793, 2)) && left.send(&frame(64, 3)));
    let mut lengths = Vec::new();
    let mut burst = Burst::new();
    while lengths.len() < 2 {
        rings.wait(1000);
        rings.receive(LEFT, BURST_MAX, &mut burst);
        for frame in burst.drain(..) {
            lengths.push(rings.bytes(&frame).len());
            rings.release(frame);
        }
        rings.flush();
    }
    assert_eq!(lengths, [1792, 64]);
    let counters = rings.kernel_counters(LEFT).unwrap();
    assert_eq!((counters.rx_dropped, counters.rx_ring_full, counters.invalid), (1, 0, 0));
}

#[test]
fn a_worker_that_does_not_receive_costs_its_own_port_only() {
    let Some(bed) = Bed::new(1) else { return };
    let (mut rings, _gates) = bed.gateway(RINGS);
    let mut hosts = bed.endpoints();
    for round in 0..10 {
        let packets: Vec<_> = (0..50).map(|seed| frame(90, seed + round)).collect();
        assert_eq!(hosts[0].send_burst(0, packets.iter().map(Vec::as_slice)), 50);
        thread::sleep(Duration::from_millis(2));
        rings.flush(); // the fill ring does not run dry while frames are free
    }
    let counters = rings.kernel_counters(LEFT).unwrap();
    let lost = (counters.rx_ring_full, counters.rx_dropped, counters.fill_ring_empty);
    assert_eq!(lost, (500 - u64::from(RING), 0, 0), "the RX ring is full, and that is what is counted");
    forward_all(&mut rings, RING as usize);
    assert_eq!(settle(&mut rings), Census { total: 6 * 256, free: 2 * 256, receiving: 4 * 256, sending: 0 });
    assert!(hosts[1].send(&frame(70, 9)));
    forward_all(&mut rings, 1);
    assert_eq!(hosts[0].recv(Duration::from_secs(1)), Some(frame(70, 9)));
}

#[test]
fn a_child_process_does_not_hold_the_queues() {
    let Some(bed) = Bed::new(1) else { return };
    let rings = bed.rings(RINGS, 0, ZeroCopy::Never).unwrap();
    let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
    drop(rings);
    let again = bed.rings(RINGS, 0, ZeroCopy::Never);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(again.is_ok(), "{again:?}");
}

#[test]
fn few_frames_are_shared_by_all_sides() {
    let Some(bed) = Bed::new(1) else { return };
    let (mut rings, _gates) = bed.gateway(RingsOptions { frames: 96, ..RINGS });
    let mut hosts = bed.endpoints();
    assert_eq!(rings.census(), Census { total: 96, free: 32, receiving: 64, sending: 0 });
    for round in 0..50 {
        let packets: Vec<_> = (0..16).map(|seed| frame(90, seed + round)).collect();
        assert_eq!(hosts[0].send_burst(0, packets.iter().map(Vec::as_slice)), 16);
        forward_all(&mut rings, 16);
        settle(&mut rings);
        for packet in &packets {
            assert_eq!(hosts[1].recv(Duration::from_secs(1)).as_ref(), Some(packet));
        }
    }
    let too_few = XskRings::new(&RingsOptions { frames: 3, ..RINGS }, &both(0, ZeroCopy::Never)).unwrap_err();
    assert!(matches!(too_few, XskError::Frames { frames: 3, queues: 2 }), "{too_few:?}");
}

#[test]
fn each_worker_gets_the_packets_of_its_queue() {
    let Some(bed) = Bed::new(2) else { return };
    let gates = bed.gates();
    let mut workers = [0, 1].map(|queue| bed.rings(RINGS, queue, ZeroCopy::Never).unwrap());
    for rings in &workers {
        connect(rings, &gates);
    }
    let mut hosts = bed.endpoints();
    for (queue, rings) in (0..).zip(&mut workers) {
        let packets: Vec<_> = (0..40).map(|seed| tagged(120, seed)).collect();
        assert_eq!(hosts[0].send_burst(queue, packets.iter().map(Vec::as_slice)), 40);
        forward_all(rings, 40);
        settle(rings);
        let mut received = BTreeSet::new();
        while let Some(packet) = hosts[1].recv(Duration::from_millis(100)) {
            received.insert(packet);
        }
        assert_eq!(received, packets.into_iter().collect());
    }
}

#[test]
fn the_waker_ends_a_wait() {
    let Some(bed) = Bed::new(1) else { return };
    let mut rings = bed.rings(RINGS, 0, ZeroCopy::Never).unwrap();
    let waker = rings.waker();
    let start = Instant::now();
    rings.wait(30);
    assert!(start.elapsed() >= Duration::from_millis(29), "nothing to wake for: {:?}", start.elapsed());
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            waker.wake();
        });
        let start = Instant::now();
        rings.wait(10_000);
        assert!(start.elapsed() < Duration::from_secs(5));
    });
    let start = Instant::now();
    rings.wait(30);
    assert!(start.elapsed() >= Duration::from_millis(29), "one wake, one end: {:?}", start.elapsed());

    let frame = rings.frame(&[0; 60]).unwrap();
    rings.send(LEFT, frame).unwrap();
    let start = Instant::now();
    rings.wait(10_000);
    assert!(start.elapsed() < Duration::from_secs(5), "there was a frame to send");
}

#[test]
fn what_the_host_is_given_it_receives_on_the_tap() {
    let Some(bed) = Bed::new(1) else { return };
    let mut rings = bed.rings(RINGS, 0, ZeroCopy::Never).unwrap();
    let (tap, netdev) = bed
        .gateway
        .inside(|| (Tap::create("a-port-with-a-long-name").unwrap(), Netdev::query("tg-a-port-with-").unwrap()))
        .unwrap();
    assert_eq!((netdev.ifindex, netdev.up, netdev.driver.as_str()), (tap.ifindex(), true, "tun"));
    bed.gateway.address("tg-a-port-with-", IpAddr::from([10, 9, 9, 1]), 24).unwrap();
    let socket = bed.gateway.inside(|| UdpSocket::bind("10.9.9.1:4000").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();

    let mut packet = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], netdev.mac)
        .ipv4([10, 9, 9, 2], [10, 9, 9, 1], 64)
        .udp(5000, 4000)
        .write(&mut packet, b"to the host")
        .unwrap();
    let frame = rings.frame(&packet).unwrap();
    assert!(!rings.to_host(LEFT, &frame), "no way to the host yet");
    for port in [LEFT, RIGHT] {
        rings.queue_mut(port).unwrap().set_tap(bed.gateway.inside(|| tap.queue().unwrap()).unwrap());
        assert!(rings.to_host(port, &frame));
        let mut received = [0; 64];
        let length = socket.recv(&mut received).unwrap();
        assert_eq!(&received[..length], b"to the host");
    }
    rings.release(frame);
    assert_eq!(rings.census().in_hand(), 0);
}

#[test]
fn what_cannot_be_had_is_refused_in_plain_words() {
    let Some(bed) = Bed::new(1) else { return };
    let message = |options, queues: &[QueueOptions<'_>]| {
        bed.gateway.inside(|| XskRings::new(&options, queues).unwrap_err().to_string()).unwrap()
    };
    let p0 = QueueOptions { port: LEFT, interface: "p0", queue: 0, zero_copy: ZeroCopy::Never };

    let zero_copy = message(RINGS, &both(0, ZeroCopy::Require));
    assert!(zero_copy.starts_with("p0 refuses zero-copy on queue 0: Operation not supported"), "{zero_copy}");
    let mixed = [p0, QueueOptions { port: RIGHT, interface: "p1", zero_copy: ZeroCopy::Require, ..p0 }];
    assert!(message(RINGS, &mixed).starts_with("p1 is to be zero-copy and p0 is not"));
    assert!(message(RINGS, &[QueueOptions { queue: 1, ..p0 }]).starts_with("interface p0 has no queue 1"));
    assert_eq!(message(RINGS, &[QueueOptions { interface: "p9", ..p0 }]), "there is no interface p9");
    assert!(message(RINGS, &[p0, p0]).starts_with("port 0 is beyond 126, or named twice"));
    assert!(message(RINGS, &[QueueOptions { port: PortId(127), ..p0 }]).starts_with("port 127 is beyond 126"));
    for options in [RingsOptions { chunk_size: 3000, ..RINGS }, RingsOptions { chunk_size: 8192, ..RINGS }] {
        assert!(message(options, &[p0]).starts_with(&format!("chunks of {} bytes", options.chunk_size)));
    }
    assert!(message(RingsOptions { ring_size: 100, ..RINGS }, &[p0]).contains("rings of 100 entries cannot be had"));
    assert!(message(RingsOptions { frames: 0, ..RINGS }, &[p0]).starts_with("0 frames are too few"));

    let held = bed.rings(RINGS, 0, ZeroCopy::Try).unwrap();
    assert!(!held.queue(LEFT).unwrap().zero_copy() && matches!(held.refusal(), Some(XskError::ZeroCopy { .. })));
    assert!(message(RINGS, &[p0]).starts_with("queue 0 of p0 is taken by another AF_XDP socket"));
    drop(held);
    bed.rings(RINGS, 0, ZeroCopy::Never).unwrap();
}

#[test]
fn without_huge_pages_it_says_how_to_get_them() {
    let Some(bed) = Bed::new(1) else { return };
    let options = RingsOptions { huge_pages: true, frames: 1 << 20, ..RINGS };
    // 2 GiB: more than any test machine has set aside.
    match bed.rings(options, 0, ZeroCopy::Never) {
        Err(XskError::HugePages { wanted: 1024, free }) => assert!(free < 1024),
        other => panic!("{other:?}"),
    }
}
