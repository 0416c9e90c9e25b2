//! Where packets end, through the whole of a worker: parse, classify, forward.
#![recursion_limit = "256"] // as in tidegate-engine
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod worker_world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_classifiers::flow_cache::FlowCacheCounts;
use tidegate_classifiers::flow_key::{DST_PORT, IP_PROTO};
use tidegate_classifiers::plane::{Direction, Hook, Plane};
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_classifiers::request::{
    ActionSpec, FilterKey, FilterSpec, FlowerSpec, KindSpec, MirredSpec, Target, TargetPorts, add_filter, delete_filter,
};
use tidegate_classifiers::verdict::{Control, DropReason};
use tidegate_config::Idle;
use tidegate_engine::counters::Totals;
use tidegate_engine::handover::Order;
use tidegate_engine::memory::{Layout, MemoryRings};
use tidegate_engine::port::{ForwardTo, LinkState, PortState};
use tidegate_engine::quiesce::Bursts;
use tidegate_engine::rings::{Burst, Rings};
use tidegate_engine::worker::{Shared, Worker, WorkerReport};
use worker_world::*;

/// What lan counts, and what comes out, after one packet met a filter with these actions.
struct Fate {
    lan: Totals,
    wan: usize,
    tap: usize,
    host: usize,
}

fn fate(actions: impl IntoIterator<Item = ActionSpec>) -> Fate {
    fate_of(&udp(1, 2), [matchall(0, 1, actions)])
}

fn fate_of(packet: &[u8], filters: impl IntoIterator<Item = FilterSpec>) -> Fate {
    let mut world = World::new(ROOMY, 64, ports(Some(block(filters))));
    assert!(world.inject(LAN, packet));
    assert_eq!(world.burst(), 1);
    let (wan, tap, host) = (world.sent(WAN), world.sent(TAP), world.host());
    for sent in wan.iter().chain(&tap).chain(host.iter().map(|(_, packet)| packet)) {
        assert_eq!(sent, packet, "a packet was changed on its way");
    }
    Fate { lan: world.totals(LAN), wan: wan.len(), tap: tap.len(), host: host.len() }
}

/// [DP-15], [DP-13]
#[test]
fn packets_that_pass_go_where_forward_to_says() {
    for control in [Control::Ok, Control::Pipe, Control::Continue] {
        let fate = fate([gact(control)]);
        assert_eq!((fate.lan.forwarded_packets, fate.wan, fate.host), (1, 1, 0), "{control:?}");
    }
}

/// [DP-14], [DP-13]
#[test]
fn drop_is_counted_as_the_filters() {
    let fate = fate([gact(Control::Shot)]);
    assert_eq!((fate.lan.dropped[DropReason::Filter.index()], fate.wan), (1, 0));
}

#[test]
fn stolen_and_queued_are_consumed() {
    for control in [Control::Stolen, Control::Queued] {
        let fate = fate([gact(control)]);
        assert_eq!((fate.lan.consumed, fate.lan.dropped_packets(), fate.wan), (1, 0, 0), "{control:?}");
    }
}

/// [DP-15]
#[test]
fn trap_goes_to_the_host() {
    let fate = fate([gact(Control::Trap)]);
    assert_eq!((fate.lan.passed, fate.host, fate.wan), (1, 1, 0));
}

#[test]
fn redirect_goes_to_its_port_and_nowhere_else() {
    let fate = fate([redirect(TAP)]);
    assert_eq!((fate.lan.forwarded_packets, fate.tap, fate.wan), (1, 1, 0));
}

#[test]
fn mirror_sends_a_copy_beside_the_packet() {
    let fate = fate([mirror(TAP)]);
    assert_eq!((fate.lan.mirrored, fate.lan.forwarded_packets, fate.tap, fate.wan), (1, 1, 1, 1));
}

#[test]
fn mirror_then_drop_leaves_the_copy_only() {
    let fate = fate([mirror(TAP), gact(Control::Shot)]);
    assert_eq!((fate.lan.mirrored, fate.lan.dropped[DropReason::Filter.index()], fate.tap, fate.wan), (1, 1, 1, 0));
}

/// Copies, or the packet itself, to `to`.
fn mirred(to: Target) -> [ActionSpec; 2] {
    let control = Control::Pipe;
    [MirredSpec::Mirror { to, control }, MirredSpec::Redirect { to }].map(ActionSpec::Mirred)
}

fn into(port: PortId) -> Target {
    Target { direction: Direction::Ingress, ports: TargetPorts::One(port) }
}

/// [AK-MIRRED]
#[test]
fn what_is_sent_into_a_port_is_received_there() {
    let [mirror, redirect] = mirred(into(WAN));
    for (action, to_wan, consumed) in [(mirror, 1, 0), (redirect, 0, 1)] {
        let mut world = World::new(ROOMY, 64, ports(Some(block([matchall(0, 1, [action.clone()])]))));
        assert!(world.inject(LAN, &udp(1, 2)));
        assert_eq!(world.burst(), 1);
        assert_eq!((world.sent(LAN).len(), world.sent(WAN).len()), (1, to_wan), "{action:?}: wan forwards to lan");
        assert_eq!((world.totals(WAN).rx_packets, world.totals(LAN).consumed), (1, consumed), "{action:?}");
    }
}

/// [AK-MIRRED]
#[test]
fn a_loop_of_ports_ends_after_three_rounds() {
    let [mirror, redirect] = mirred(into(LAN));
    let fate = fate([redirect]);
    let dropped = fate.lan.dropped[DropReason::RedirectDown.index()];
    assert_eq!((fate.lan.rx_packets, fate.lan.consumed, dropped), (4, 3, 1));
    let fate = self::fate([mirror]);
    assert_eq!((fate.lan.rx_packets, fate.lan.mirrored, fate.lan.mirror_failed, fate.wan), (4, 3, 1, 4));
}

/// [AK-MIRRED]
#[test]
fn a_block_is_sent_to_all_its_ports_but_the_receiving_one() {
    let plane = Plane::standalone(2);
    let bindings = [LAN, WAN, TAP].map(|port| {
        let hook = Hook { port, direction: Direction::Ingress };
        plane.bind(hook, 21, None).unwrap()
    });
    let block = bindings[0].block();
    let [mirror, redirect] = mirred(Target { direction: Direction::Egress, ports: TargetPorts::Block(21) });
    for (action, to_wan) in [(mirror, 2), (redirect, 1)] {
        let id = add_filter(block, &matchall(0, 1, [action.clone()])).unwrap();
        let states = ports(Some(Arc::clone(block))).into_iter().map(|state| {
            let bound = PortState::new(state.name(), state.forward_to(), Some(Arc::clone(block)));
            bound.set_link(LinkState::Up);
            bound
        });
        let mut world = World::new(ROOMY, 64, states.collect());
        assert!(world.inject(LAN, &udp(1, 2)));
        assert_eq!(world.burst(), 1);
        assert_eq!((world.sent(LAN).len(), world.sent(WAN).len(), world.sent(TAP).len()), (0, to_wan, 1), "{action:?}");
        delete_filter(block, id).unwrap();
    }
    let [mirror, redirect] = mirred(Target { direction: Direction::Egress, ports: TargetPorts::Block(22) });
    assert_eq!(fate([mirror]).wan, 1);
    assert_eq!(fate([redirect]).lan.dropped[DropReason::RedirectDown.index()], 1, "no port");
}

#[test]
fn goto_continues_in_the_other_chain() {
    let filters = [matchall(0, 1, [gact(Control::Goto(7))]), matchall(7, 1, [redirect(TAP)])];
    let fate = fate_of(&udp(1, 2), filters);
    assert_eq!((fate.tap, fate.wan), (1, 0));
}

#[test]
fn a_loop_of_reclassify_is_a_counted_drop() {
    let fate = fate([gact(Control::Reclassify)]);
    assert_eq!((fate.lan.dropped[DropReason::ReclassifyLoop.index()], fate.wan), (1, 0));
}

#[test]
fn frames_shorter_than_an_ethernet_header_are_runts() {
    for len in 0..14 {
        let fate = fate_of(&vec![0xff; len], [matchall(0, 1, [gact(Control::Ok)])]);
        assert_eq!((fate.lan.dropped[DropReason::Runt.index()], fate.wan), (1, 0), "{len} bytes");
    }
}

#[test]
fn garbage_is_forwarded_as_it_came() {
    let fate = fate_of(&[0xff; 60], []); // [FL-11]
    assert_eq!((fate.lan.forwarded_packets, fate.wan), (1, 1));
}

#[test]
fn a_port_without_a_block_passes_everything() {
    let mut world = World::new(ROOMY, 64, ports(None));
    assert!(world.inject(LAN, &udp(1, 2)) && world.inject(TAP, &udp(3, 4)));
    assert_eq!(world.burst(), 2);
    assert_eq!(world.sent(WAN), [udp(1, 2)]);
    assert_eq!(world.host(), [(TAP, udp(3, 4))]);
}

#[test]
fn packets_leave_in_the_order_they_came() {
    let mut world = World::new(ROOMY, 8, ports(None));
    let packets: Vec<_> = (0..50).map(|i| udp(i, i)).collect();
    packets.iter().for_each(|packet| assert!(world.inject(LAN, packet)));
    while world.burst() > 0 {}
    assert_eq!(world.sent(WAN), packets);
}

#[test]
fn a_round_takes_at_most_one_burst_from_each_port() {
    let mut world = World::new(ROOMY, 16, ports(None));
    for _ in 0..40 {
        assert!(world.inject(LAN, &udp(1, 2)) && world.inject(WAN, &udp(2, 1)));
    }
    let rounds: Vec<usize> = (0..4).map(|_| world.burst()).collect();
    assert_eq!(rounds, [32, 32, 16, 0]);
}

#[test]
fn ports_share_a_full_tx_ring_fairly() {
    let mut ports = ports(Some(block([matchall(0, 1, [redirect(TAP)])])));
    ports[1] = PortState::new("wan", ForwardTo::Port(TAP), None);
    ports[1].set_link(LinkState::Up);
    let mut world = World::new(Layout { tx_ring: 8, ..ROOMY }, 8, ports);
    for _ in 0..30 {
        for _ in 0..8 {
            assert!(world.inject(LAN, &udp(1, 2)) && world.inject(WAN, &udp(2, 1)));
        }
        world.burst();
        assert_eq!(world.sent(TAP).len(), 8);
    }
    let (lan, wan) = (world.totals(LAN).forwarded_packets, world.totals(WAN).forwarded_packets);
    assert_eq!(lan + wan, 240);
    assert!(lan.min(wan) >= 80, "lan {lan}, wan {wan}");
}

#[test]
fn a_full_tx_ring_drops_what_does_not_fit_and_recovers() {
    let mut world = World::new(Layout { tx_ring: 10, ..ROOMY }, 64, ports(None));
    (0..64).for_each(|i| assert!(world.inject(LAN, &udp(i, i))));
    world.burst();
    assert_eq!((world.totals(LAN).forwarded_packets, world.dropped(LAN, DropReason::TxRingFull)), (10, 54));
    assert_eq!(world.sent(WAN).len(), 10);
    world.inject(LAN, &udp(1, 2));
    world.burst();
    assert_eq!(world.sent(WAN), [udp(1, 2)]);
}

#[test]
fn without_free_frames_mirrors_fail_and_forwarding_goes_on() {
    let layout = Layout { frames: 3 * ROOMY.fill_ring, ..ROOMY };
    let mut world = World::new(layout, 64, ports(Some(block([matchall(0, 1, [mirror(TAP)])]))));
    for _ in 0..20 {
        (0..64).for_each(|i| assert!(world.inject(LAN, &udp(i, i))));
        world.burst();
        assert_eq!(world.sent(WAN).len(), 64);
    }
    assert_eq!((world.totals(LAN).forwarded_packets, world.totals(LAN).mirror_failed), (1280, 1280));
}

#[test]
fn mirrors_to_a_port_that_is_down_are_skipped() {
    let mut world = World::new(ROOMY, 64, ports(Some(block([matchall(0, 1, [mirror(TAP)])]))));
    world.port(TAP).set_link(LinkState::NoCarrier);
    world.inject(LAN, &udp(1, 2));
    world.burst();
    assert_eq!((world.sent(TAP).len(), world.sent(WAN).len()), (0, 1));
    assert_eq!(world.totals(LAN).mirrored, 0);
}

#[test]
fn what_leads_to_a_port_that_is_down_is_dropped_until_it_is_up() {
    let filters = [matchall(0, 1, [redirect(TAP)])];
    let mut world = World::new(ROOMY, 64, ports(Some(block(filters))));
    let shared = Arc::clone(&world.shared);
    let mut round = |link| {
        shared.ports().get(TAP).unwrap().set_link(link);
        shared.ports().get(LAN).unwrap().set_link(link);
        assert!(world.inject(LAN, &udp(1, 2)) && world.inject(WAN, &udp(2, 1)));
        world.burst();
        (world.dropped(LAN, DropReason::RedirectDown), world.dropped(WAN, DropReason::PortDown))
    };
    assert_eq!(round(LinkState::Up), (0, 0));
    assert_eq!(round(LinkState::NoCarrier), (1, 1));
    assert_eq!(round(LinkState::Down), (2, 2));
    assert_eq!(round(LinkState::Up), (2, 2));
}

#[test]
fn a_port_goes_and_comes_back_and_the_others_go_on() {
    let mut world = World::new(ROOMY, 64, ports(None));
    (0..10).for_each(|i| assert!(world.inject(WAN, &udp(i, i)) && world.inject(LAN, &udp(i, i))));
    world.burst();
    world.port(WAN).set_link(LinkState::Gone);
    world.close(WAN);
    assert!(world.inject(LAN, &udp(1, 2)) && world.inject(TAP, &udp(3, 4)));
    world.burst();
    assert_eq!(world.dropped(LAN, DropReason::PortDown), 1);
    assert_eq!(world.host(), [(TAP, udp(3, 4))]);
    assert!(!world.inject(WAN, &udp(1, 2)), "there is no queue any more");
    assert_eq!(world.worker.rings_mut().census().sending, 10, "what was sent to lan; wan's frames are back");

    world.open(WAN);
    world.port(WAN).set_link(LinkState::Up);
    assert!(world.inject(LAN, &udp(5, 6)));
    world.burst();
    assert_eq!(world.sent(WAN), [udp(5, 6)], "what was under way when it went is gone");
}

/// [DV-1], [DV-2]: from the first burst after the request on. [DV-11]: what is deleted between bursts, no worker holds.
#[test]
fn a_filter_counts_from_the_next_burst_and_a_deleted_one_no_more() {
    let block = block([]);
    let mut world = World::new(ROOMY, 64, ports(Some(Arc::clone(&block))));
    for round in 1..=3 {
        let id = add_filter(&block, &matchall(0, 1, [gact(Control::Shot)])).unwrap();
        assert!(world.inject(LAN, &udp(1, 2)));
        world.burst();
        assert_eq!((world.dropped(LAN, DropReason::Filter), world.totals(LAN).forwarded_packets), (round, round - 1));
        delete_filter(&block, id).unwrap();
        assert_eq!((block.plane().live().filters, block.plane().live().protos), (0, 0));
        assert!(world.inject(LAN, &udp(1, 2)));
        world.burst();
        assert_eq!((world.dropped(LAN, DropReason::Filter), world.totals(LAN).forwarded_packets), (round, round));
        assert_eq!(world.totals(LAN).rx_packets, 2 * round); // [DP-14]
    }
}

#[test]
fn a_port_that_goes_has_time_for_what_is_in_its_rings() {
    let mut world = World::new(ROOMY, 4, ports(None));
    (0..10).for_each(|i| assert!(world.inject(WAN, &udp(i, i)) && world.inject(LAN, &udp(i, i))));
    world.burst();
    let World { worker, handover, shared, .. } = &mut world;
    let asked = AtomicBool::new(false);
    thread::scope(|scope| {
        let ask = || asked.store(true, Ordering::Release);
        let left = scope.spawn(move || handover.order(Order::Remove(WAN, Duration::from_secs(60)), ask).unwrap());
        while !asked.load(Ordering::Acquire) {
            thread::yield_now();
        }
        while !left.is_finished() {
            worker.take_orders();
            worker.run_burst(shared.now_ns());
            worker.rings_mut().transmit(WAN, |_| ());
        }
        assert!(left.join().unwrap().is_some());
    });
    let (lan, wan) = (world.totals(LAN), world.totals(WAN));
    assert_eq!((wan.rx_packets, wan.forwarded_packets), (10, 10), "all that it had received");
    assert_eq!(lan.forwarded_packets + lan.dropped[DropReason::TxRingFull.index()], lan.rx_packets);
    assert_eq!((wan.balance(), lan.balance()), (0, 0));
}

#[test]
fn every_round_is_a_burst_boundary_also_without_packets() {
    let mut world = World::new(ROOMY, 64, ports(None));
    for bursts in 0..5 {
        assert_eq!(world.shared.bursts.count(WorkerId(0)), bursts);
        world.burst();
    }
    assert_eq!(world.shared.bursts.count(WorkerId(1)), 0);
}

#[test]
fn counters_and_bursts_outlive_a_worker() {
    let World { mut worker, shared, .. } = World::new(ROOMY, 64, ports(None));
    for expected in 1..=3 {
        assert!(worker.rings_mut().inject(LAN, &udp(1, 2)));
        worker.run_burst(shared.now_ns());
        assert_eq!(shared.counters.port(LAN).forwarded_packets, expected); // [ST-8]
        assert_eq!(shared.bursts.count(WorkerId(0)), expected);
        worker = Worker::new(WorkerId(0), MemoryRings::new(ROOMY), Arc::clone(&shared), 64, Idle::Busy);
    }
}

/// [DV-1], [DV-2]: packets of known flows meet what others meet, and what changes in between.
#[test]
fn a_flow_cache_knows_flows_and_no_more() {
    let on_port = |port: u16, control| {
        let mut spec = FlowerSpec::default();
        for (field, value) in [(IP_PROTO, 17), (DST_PORT, u64::from(port))] {
            spec.value.set(field, value);
            spec.mask.set(field, field.max());
        }
        let kind = KindSpec::Flower(Box::new(spec));
        FilterSpec { protocol: 0x0800, kind, ..matchall(0, 1 + u32::from(port), [gact(control)]) }
    };
    let block = block((0..20).map(|port| on_port(port, Control::Shot)));
    let mut world = World::new(ROOMY, 64, ports(Some(Arc::clone(&block))));
    let burst = |world: &mut World, port| {
        assert!((0..8).all(|_| world.inject(LAN, &udp(1, port))));
        world.burst();
        world.sent(WAN).len()
    };
    let counts = |world: &World| world.shared.counters.flow_cache(WorkerId(0));
    assert_eq!([3, 3, 30, 30].map(|port| burst(&mut world, port)), [0, 0, 8, 8]);
    assert_eq!(counts(&world), FlowCacheCounts { hits: 16, misses: 16, passed_by: 0 });
    assert_eq!(world.dropped(LAN, DropReason::Filter), 16);
    delete_filter(&block, FilterKey::priority(0, 4)).unwrap();
    add_filter(&block, &on_port(30, Control::Shot)).unwrap();
    assert_eq!([3, 30].map(|port| burst(&mut world, port)), [8, 0]);
    assert_eq!(counts(&world), FlowCacheCounts { hits: 16, misses: 32, passed_by: 0 });
}

#[test]
fn workers_count_side_by_side() {
    const ROUNDS: u16 = 2_000;
    let block = block([matchall(0, 1, [gact(Control::Ok)])]);
    let shared = Arc::new(Shared::new(Bursts::new(2), Arc::clone(block.plane()), ports(Some(block))));
    thread::scope(|scope| {
        for id in [WorkerId(0), WorkerId(1)] {
            let shared = Arc::clone(&shared);
            scope.spawn(move || {
                let mut worker = Worker::new(id, MemoryRings::new(ROOMY), Arc::clone(&shared), 64, Idle::Busy);
                for i in 0..ROUNDS {
                    assert!(worker.rings_mut().inject(LAN, &udp(i, id.0)));
                    worker.run_burst(shared.now_ns());
                    assert_eq!(worker.rings_mut().transmit(WAN, |packet| assert_eq!(packet, udp(i, id.0))), 1);
                }
            });
        }
    });
    assert_eq!(shared.counters.port(LAN).forwarded_packets, 2 * u64::from(ROUNDS));
    assert_eq!(shared.counters.port(WAN).tx_packets, 2 * u64::from(ROUNDS));
    assert_eq!(shared.counters.queue(WorkerId(1), LAN).rx_packets, u64::from(ROUNDS));
}

/// Runs the worker's loop for `time`; its report, and how long it took to stop.
fn run_for(worker: &mut Worker<MemoryRings>, time: Duration) -> (WorkerReport, Duration) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let running = scope.spawn(|| worker.run(&stop));
        thread::sleep(time);
        let asked = Instant::now();
        stop.store(true, Ordering::Relaxed);
        (running.join().unwrap(), asked.elapsed())
    })
}

#[test]
fn a_worker_works_until_it_is_stopped_and_leaves_nothing_behind() {
    let mut world = World::with_idle(ROOMY, 8, ports(None), Idle::Adaptive);
    (0..100).for_each(|i| assert!(world.inject(TAP, &udp(i, i))));
    assert!(!world.inject(TAP, &[0; 4096]), "longer than a chunk: the kernel drops it");
    let (report, _) = run_for(&mut world.worker, Duration::from_millis(50));
    assert_eq!(world.host().len(), 100);
    assert_eq!((report.worker, report.leaked, report.census.sending), (WorkerId(0), 0, 0));
    assert_eq!(report.census.total, ROOMY.frames as usize);
    assert_eq!(world.totals(TAP).kernel_rx_dropped, 1);
}

#[test]
fn a_worker_that_stops_receives_no_more_and_asks_the_kernel_a_last_time() {
    let mut world = World::new(ROOMY, 64, ports(None));
    assert!(world.inject(LAN, &udp(1, 2)));
    assert!(!world.inject(LAN, &[0; 4096]), "longer than a chunk: the kernel drops it");
    let report = world.worker.run(&AtomicBool::new(true));
    assert_eq!((world.totals(LAN).rx_packets, world.totals(LAN).kernel_rx_dropped), (0, 1));
    let waiting_and_filled = 1 + 3 * ROOMY.fill_ring as usize;
    assert_eq!((report.leaked, report.census.receiving), (0, waiting_and_filled));
}

#[test]
fn a_stuck_port_delays_the_stop_by_200_ms_and_no_more() {
    let mut world = World::new(ROOMY, 64, ports(None));
    (0..5).for_each(|i| assert!(world.inject(LAN, &udp(i, i))));
    world.burst();
    let started = Instant::now();
    let report = world.worker.run(&AtomicBool::new(true));
    assert_eq!((report.census.sending, report.leaked), (5, 0));
    assert!((200..1_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

/// A frame that somebody took and forgot.
fn lose_a_frame(world: &mut World) {
    assert!(world.inject(LAN, &udp(1, 2)));
    let mut burst = Burst::new();
    world.worker.rings_mut().receive(LAN, 1, &mut burst);
    assert_eq!(burst.len(), 1);
}

#[test]
fn a_lost_frame_is_reported_at_the_end() {
    let mut world = World::new(ROOMY, 64, ports(None));
    lose_a_frame(&mut world);
    assert_eq!(world.worker.run(&AtomicBool::new(true)).leaked, 1);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "invariant 1")]
fn a_lost_frame_stops_a_debug_build_at_the_burst_boundary() {
    let mut world = World::new(ROOMY, 64, ports(None));
    lose_a_frame(&mut world);
    world.worker.run_burst(1);
}

#[test]
fn idle_workers_burn_what_their_strategy_allows() {
    let bursts = |idle| {
        let mut world = World::with_idle(ROOMY, 64, ports(None), idle);
        let (_, stopping) = run_for(&mut world.worker, Duration::from_millis(250));
        assert!(stopping < Duration::from_millis(800), "{idle:?} took {stopping:?} to see the flag");
        world.shared.bursts.count(WorkerId(0))
    };
    let (sleep, adaptive, busy) = (bursts(Idle::Sleep), bursts(Idle::Adaptive), bursts(Idle::Busy));
    assert!((2..=10).contains(&sleep), "a heartbeat every 100 ms: {sleep}");
    assert!(adaptive >= sleep && adaptive < busy / 10, "adaptive {adaptive}, busy {busy}");
    assert!(busy > 10_000, "{busy}");
}
