//! The hot path allocates nothing: counted, by an allocator that counts.
#![recursion_limit = "256"] // as in tidegate-engine
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod worker_world;

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;
use std::time::Duration;

use etherparse::PacketBuilder;
use tidegate_classifiers::flow_key;
use tidegate_classifiers::request::{
    ActionSpec, FilterSpec, FlowerSpec, GactSpec, KindSpec, Random, RandomMode, SampleSpec, TunnelKeySpec,
};
use tidegate_classifiers::verdict::{Control, DropReason};
use worker_world::*;

thread_local! {
    /// Allocations of this thread; those of the test runner's other threads do not matter.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged. The counter is a constant-initialised thread local
// without a destructor, so touching it neither allocates nor runs after it is gone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: MemoryLayout) {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: `memory` came from `System.alloc` with `layout`, as all memory given out here did.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations and deallocations while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 2);
}

#[test]
fn a_hundred_thousand_packets_allocate_nothing() {
    const ROUNDS: usize = 100_000 / (3 * 64) + 1;
    let mut world = World::new(ROOMY, 64, ports(Some(block(filters()))));
    let packets: Vec<_> = (0..64).map(packet).collect();
    let round = |world: &mut World| {
        for port in [LAN, WAN, TAP] {
            packets.iter().for_each(|packet| assert!(world.inject(port, packet)));
        }
        world.worker.run_burst(world.shared.now_ns());
        let rings = world.worker.rings_mut();
        for port in [LAN, WAN, TAP] {
            rings.transmit(port, |packet| assert!(!packet.is_empty()));
        }
        rings.clear_host();
    };
    let listener = world.shared.samples.listen(Some(1)).unwrap();
    (0..20).for_each(|_| round(&mut world));
    assert_eq!(allocations(|| (0..ROUNDS).for_each(|_| round(&mut world))), 0);

    let lan = world.totals(LAN);
    assert!(lan.rx_packets > 30_000);
    for (what, count) in [
        ("forwarded", lan.forwarded_packets),
        ("passed", lan.passed),
        ("consumed", lan.consumed),
        ("mirrored", lan.mirrored),
        ("filtered", lan.dropped[DropReason::Filter.index()]),
        ("loops", lan.dropped[DropReason::ReclassifyLoop.index()]),
        ("runts", lan.dropped[DropReason::Runt.index()]),
    ] {
        assert!(count > 300, "{what}: {count}: this kind of packet was hardly there");
    }
    let heard = std::iter::from_fn(|| listener.next(Duration::ZERO)).count();
    assert!(heard > 100, "{heard} samples");
}

/// Each destination port meets another kind of filter; chain 1 is where goto leads.
fn filters() -> Vec<FilterSpec> {
    let random = |mode| {
        let random = Some(Random { mode, control: Control::Shot, one_in: 3 });
        ActionSpec::Gact(GactSpec { control: Control::Pipe, random })
    };
    let sample = ActionSpec::from(SampleSpec { rate: 2, group: 1, trunc: None, control: Control::Continue });
    let tunnel = ActionSpec::from(TunnelKeySpec { key: None, control: Control::Pipe });
    vec![
        matchall(0, 5, [tunnel, sample]),
        on_port(0, 10, 0, [mirror(TAP), gact(Control::Ok)]),
        on_port(0, 20, 1, [gact(Control::Goto(1))]),
        on_port(0, 30, 2, [redirect(TAP)]),
        on_port(0, 40, 3, [gact(Control::Trap)]),
        on_port(0, 50, 4, [gact(Control::Stolen)]),
        on_port(0, 60, 5, [gact(Control::Reclassify)]),
        on_port(0, 70, 6, [random(RandomMode::Netrand), random(RandomMode::Determ)]),
        ports_range(0, 80, (7, 9), [mirror(WAN), mirror(TAP), gact(Control::Continue)]),
        matchall(0, 90, [gact(Control::Pipe)]),
        on_port(1, 10, 1, [mirror(TAP), redirect(WAN)]),
    ]
}

fn on_port(chain: u32, priority: u32, port: u16, actions: impl IntoIterator<Item = ActionSpec>) -> FilterSpec {
    let mut flower = FlowerSpec::default();
    flower.value.set(flow_key::DST_PORT, port.into());
    flower.mask.set(flow_key::DST_PORT, flow_key::DST_PORT.max());
    udp_flower(chain, priority, flower, actions)
}

fn ports_range(
    chain: u32,
    priority: u32,
    range: (u16, u16),
    actions: impl IntoIterator<Item = ActionSpec>,
) -> FilterSpec {
    udp_flower(chain, priority, FlowerSpec { dst_port_range: Some(range), ..FlowerSpec::default() }, actions)
}

fn udp_flower(
    chain: u32,
    priority: u32,
    mut flower: FlowerSpec,
    actions: impl IntoIterator<Item = ActionSpec>,
) -> FilterSpec {
    flower.value.set(flow_key::IP_PROTO, 17);
    flower.mask.set(flow_key::IP_PROTO, flow_key::IP_PROTO.max());
    FilterSpec { protocol: 0x0800, kind: KindSpec::Flower(Box::new(flower)), ..matchall(chain, priority, actions) }
}

/// UDP to ports 0 to 11, IPv6, and runts.
fn packet(i: u16) -> Vec<u8> {
    match i % 14 {
        12 => {
            let mut packet = Vec::new();
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64).tcp(9, 80, 1, 1);
            builder.write(&mut packet, b"six").unwrap();
            packet
        }
        13 => vec![0; 13],
        dst_port => udp(9, dst_port),
    }
}
