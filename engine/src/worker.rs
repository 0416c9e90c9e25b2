//! A worker: one thread that owns queue i of every port, and the packet memory they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use smallvec::{SmallVec, smallvec};
use tidegate_classifiers::classify::{Context, Found};
use tidegate_classifiers::flow_cache::FlowCache;
use tidegate_classifiers::generation::Generation;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_classifiers::verdict::{DropReason, Verdict};
use tidegate_config::{Idle, PORTS_MAX};

use crate::counters::{Counters, Totals, add_kernel};
use crate::forward::{InHand, Reentries, Reentry};
use crate::handover::{Order, Orders};
use crate::idle::{IdleStrategy, Next};
use crate::port::{PortState, Ports};
use crate::quiesce::{Bursts, Running};
use crate::rings::{BURST_MAX, Burst, Census, KernelCounters, Rings};
use crate::samples::Samples;

/// Longest sleep of an idle worker: how late it may see the stop flag, and how far apart its heartbeats may be.
const WAIT_MS: u16 = 100;

/// How often a worker asks the kernel what it counted, in ns.
const KERNEL_COUNTERS_NS: u64 = 1_000_000_000;

/// How long a worker that stops, or a port that goes, waits for sent frames to come back.
pub(crate) const DRAIN: Duration = Duration::from_millis(200);

/// What the engine and all its workers share. Outlives every worker.
#[derive(Debug)]
pub struct Shared {
    ports: ArcSwap<Ports>,
    /// What happened to packets.
    pub counters: Counters,
    /// How far each worker is.
    pub bursts: Bursts,
    /// The control plane of all blocks that packets are put to.
    pub plane: Arc<Plane>,
    /// Who listens to samples.
    pub samples: Arc<Samples>,
    epoch: Instant,
}

impl Shared {
    /// For the workers that `bursts` counts, over `ports`, whose blocks are of `plane`.
    pub fn new(bursts: Bursts, plane: Arc<Plane>, ports: Vec<PortState>) -> Self {
        Shared {
            counters: Counters::new(bursts.workers(), PORTS_MAX.into()),
            ports: ArcSwap::from_pointee(Ports::new(ports)),
            bursts,
            samples: Samples::new(Arc::clone(&plane)),
            plane,
            epoch: Instant::now(),
        }
    }

    /// The ports as they are now.
    #[inline]
    pub fn ports(&self) -> Guard<Arc<Ports>> {
        self.ports.load()
    }

    /// From their next burst on, workers have these ports.
    pub fn set_ports(&self, ports: Ports) {
        self.plane.reaper().defer(self.ports.swap(Arc::new(ports))); // workers may still hold it
    }

    /// Nanoseconds of monotonic time since this was made, never 0: the one clock of the engine.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

/// The data path over one set of rings, compiled once for each back end.
pub struct Worker<R: Rings> {
    id: WorkerId,
    rings: R,
    shared: Arc<Shared>,
    burst_size: usize,
    idle: IdleStrategy,
    rng: fastrand::Rng,
    /// The port that the next round begins with, so that no port is always the last to find room on a TX ring.
    first: usize,
    /// Empty between ports; here so that it is allocated once.
    burst: Burst<R::Frame>,
    /// The same.
    parsed: Vec<(R::Frame, Packet)>,
    /// What mirred sent into ports. Empty between bursts.
    again: Reentries<R::Frame>,
    /// What the current round counted, one a port.
    tally: Box<[Totals]>,
    /// What the kernel had counted when it was last asked, one a port.
    kernel: Box<[KernelCounters]>,
    kernel_due_ns: u64,
    running: Running,
    /// Nothing if it has none.
    flow_cache: Option<FlowCache>,
    orders: Option<Orders<R::Queue>>,
    /// The port whose queue is to be given back, and when at the latest.
    leaving: Option<(PortId, Instant)>,
}

/// How a worker left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerReport {
    /// Who.
    pub worker: WorkerId,
    /// Where its frames were at the end. Frames still sending are those the kernel did not complete in time.
    pub census: Census,
    /// Frames that were nowhere. Anything but 0 is a defect (invariant 1).
    pub leaked: usize,
}

impl<R: Rings> Worker<R> {
    /// Worker `id` of `shared`, taking `burst_size` packets from a ring at once (1 to 256).
    pub fn new(id: WorkerId, rings: R, shared: Arc<Shared>, burst_size: u16, idle: Idle) -> Self {
        Worker {
            id,
            rings,
            burst_size: burst_size.into(),
            idle: IdleStrategy::new(idle),
            rng: fastrand::Rng::new(),
            first: 0,
            burst: Burst::new(),
            parsed: Vec::with_capacity(BURST_MAX),
            again: Reentries::new(),
            tally: vec![Totals::default(); PORTS_MAX.into()].into(),
            kernel: vec![KernelCounters::default(); PORTS_MAX.into()].into(),
            kernel_due_ns: 0,
            running: shared.bursts.start(id),
            flow_cache: None,
            shared,
            orders: None,
            leaving: None,
        }
    }

    /// The same, and takes `orders` between bursts.
    pub fn taking(self, orders: Orders<R::Queue>) -> Self {
        Worker { orders: Some(orders), ..self }
    }

    /// The same, with a flow cache of so many entries; without one for 0.
    pub fn caching(self, entries: u32) -> Self {
        Worker { flow_cache: (entries > 0).then(|| FlowCache::new(entries)), ..self }
    }

    /// The rings, for whoever plays the kernel between bursts.
    pub fn rings_mut(&mut self) -> &mut R {
        &mut self.rings
    }

    /// Works until `stop` is set; then receives no more, and waits for what it sent.
    pub fn run(&mut self, stop: &AtomicBool) -> WorkerReport {
        while !stop.load(Ordering::Relaxed) {
            let now_ns = self.shared.now_ns();
            let received = self.run_burst(now_ns);
            if now_ns >= self.kernel_due_ns {
                self.kernel_due_ns = now_ns + KERNEL_COUNTERS_NS;
                self.ask_kernel();
            }
            self.take_orders();
            match self.idle.after_burst(received, now_ns) {
                Next::Poll => {}
                Next::Wait if self.leaving.is_none() => self.running.parked(|| self.rings.wait(WAIT_MS)), // idle: it holds nothing [DV-11]
                Next::Spin | Next::Wait => std::hint::spin_loop(),
            }
        }
        self.drain()
    }

    /// One burst of every port, at `now_ns` of [`Shared::now_ns`]: receive, parse, classify, forward. Returns the number
    /// of packets received.
    pub fn run_burst(&mut self, now_ns: u64) -> usize {
        let mut received = 0;
        let generation = self.shared.plane.generation(); // once: all ports change at one instant [TX-1]
        let table = self.shared.ports();
        let ports = table.iter();
        for (port, state) in ports.clone().skip(self.first).chain(ports.take(self.first)) {
            self.rings.receive(port, self.burst_size, &mut self.burst);
            if self.burst.is_empty() {
                continue;
            }
            received += self.burst.len();
            for frame in self.burst.drain(..) {
                match Packet::parse(self.rings.bytes(&frame), port) {
                    Some(packet) => self.parsed.push((frame, packet)),
                    None => {
                        let (rings, tally, again) = (&mut self.rings, &mut self.tally, &mut self.again);
                        let samples = &self.shared.samples;
                        let in_hand = InHand::new(frame, port, rings, &table, tally, again, samples);
                        in_hand.settle(Verdict::Drop(DropReason::Runt));
                    }
                }
            }
            let block = state.block();
            let filters = block.as_ref().map(|block| (block, block.head()));
            let mut found: SmallVec<[Found<'_>; BURST_MAX]> = smallvec![Found::default(); self.parsed.len()];
            if let Some((_, head)) = &filters {
                let packets = self.parsed.iter().map(|(_, packet)| packet);
                match &mut self.flow_cache {
                    None => head.find(packets, self.id, generation, &mut found),
                    Some(cache) => head.find_cached(packets, self.id, generation, &mut found, cache),
                }
            }
            for ((frame, mut packet), found) in self.parsed.drain(..).zip(found) {
                let (rings, tally, again) = (&mut self.rings, &mut self.tally, &mut self.again);
                let mut in_hand = InHand::new(frame, port, rings, &table, tally, again, &self.shared.samples);
                let verdict = filters.as_ref().map_or(Verdict::Pass, |(block, head)| {
                    let (worker, rng, egress) = (self.id, &mut self.rng, &mut in_hand);
                    let mut cx = Context { worker, generation, now_ns, rng, egress };
                    block.classify_found(head, found, &mut packet, &mut cx)
                });
                in_hand.settle(verdict);
            }
        }
        self.receive_again(&table, generation, now_ns);
        self.rings.flush();
        self.end_burst(&table, received);
        received
    }

    /// Has what mirred sent into ports received by them, until nothing waits [AK-MIRRED].
    fn receive_again(&mut self, ports: &Ports, generation: Generation, now_ns: u64) {
        while let Some(Reentry { frame, port, count }) = self.again.pop() {
            let (rings, again) = (&mut self.rings, &mut self.again);
            let samples = &self.shared.samples;
            let mut in_hand = InHand::new(frame, port, rings, ports, &mut self.tally, again, samples).again(count);
            let block = ports.get(port).map(|state| state.block());
            let block = block.as_ref().and_then(|block| block.as_ref());
            let verdict = match (Packet::parse(in_hand.bytes(), port), block) {
                (None, _) => Verdict::Drop(DropReason::Runt),
                (Some(_), None) => Verdict::Pass,
                (Some(mut packet), Some(block)) => {
                    let (worker, rng, egress) = (self.id, &mut self.rng, &mut in_hand);
                    block.classify(&block.head(), &mut packet, &mut Context { worker, generation, now_ns, rng, egress })
                }
            };
            in_hand.settle(verdict);
        }
    }

    /// The burst boundary: nothing is in hand, no filter is held, and readers learn what happened.
    #[inline]
    fn end_burst(&mut self, ports: &Ports, received: usize) {
        debug_assert_eq!(self.rings.census().in_hand(), 0, "frames are conserved (invariant 1)");
        if received > 0 {
            self.publish(ports);
            if let Some(cache) = &mut self.flow_cache {
                self.shared.counters.publish_flow_cache(self.id, cache.take_counts());
            }
        }
        self.first = if self.first + 1 < ports.len() { self.first + 1 } else { 0 };
        self.running.boundary();
    }

    /// Publishes what the kernel counted on every queue since it was last asked.
    fn ask_kernel(&mut self) {
        let ports = self.shared.ports();
        for (port, _) in ports.iter() {
            let Some(after) = self.rings.kernel_counters(port) else { continue };
            let place = usize::from(port.0);
            add_kernel(&mut self.tally[place], std::mem::replace(&mut self.kernel[place], after), after);
        }
        self.publish(&ports);
    }

    /// Readers learn what happened at every port.
    fn publish(&mut self, ports: &Ports) {
        for (port, _) in ports.iter() {
            self.shared.counters.publish(self.id, port, &mut self.tally[usize::from(port.0)]);
        }
    }

    /// Does what was ordered, if something was: between two bursts, so that no packet meets half of it.
    #[inline]
    pub fn take_orders(&mut self) {
        if let Some((port, until)) = self.leaving
            && (self.rings.is_idle(port) || Instant::now() >= until)
        {
            self.ask_kernel();
            self.leaving = None;
            let queue = self.rings.remove(port);
            self.done(queue);
        }
        match self.orders.as_ref().and_then(Orders::next) {
            None => {}
            Some(Order::Insert(port, queue)) => {
                self.rings.insert(port, queue);
                self.rings.flush(); // fills its fill ring: the first packet must find it so
                self.kernel[usize::from(port.0)] = self.rings.kernel_counters(port).unwrap_or_default();
                self.done(None);
            }
            Some(Order::Remove(port, patience)) => self.leaving = Some((port, Instant::now() + patience)),
            Some(Order::Reclaim(port)) => {
                self.rings.reclaim(port);
                self.done(None);
            }
        }
    }

    fn done(&self, queue: Option<R::Queue>) {
        if let Some(orders) = &self.orders {
            orders.done(queue);
        }
    }

    /// Waits for sent frames to complete, though not for ever: a port may be stuck.
    fn drain(&mut self) -> WorkerReport {
        self.ask_kernel();
        let started = Instant::now();
        loop {
            self.rings.flush();
            let census = self.rings.census();
            if census.sending == 0 || started.elapsed() >= DRAIN {
                return WorkerReport { worker: self.id, census, leaked: census.in_hand() };
            }
            std::thread::yield_now();
        }
    }
}
