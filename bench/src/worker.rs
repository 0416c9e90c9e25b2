//! `tidegate-bench worker`: what a packet costs in a worker whose ports are in memory, by stage.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::Serialize;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_cache::FlowCache;
use tidegate_classifiers::packet::Packet;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_classifiers::request::dump;
use tidegate_classifiers::verdict::{Control, DropReason, Verdict};
use tidegate_config::Idle;
use tidegate_engine::counters::Totals;
use tidegate_engine::forward::{InHand, Reentries};
use tidegate_engine::memory::{Layout, MemoryFrame, MemoryRings};
use tidegate_engine::port::{ForwardTo, LinkState, PortState};
use tidegate_engine::quiesce::Bursts;
use tidegate_engine::rings::{Burst, Rings};
use tidegate_engine::worker::{Shared, Worker};

use crate::disturbance::waited;
use crate::lookups::{BURST, Filters, classify};
use crate::report::{CORE_LOST_MAX, Machine, Summary};
use crate::rule_set::{Header, Order, Prefix, Rule, RuleSet, UDP, Version};
use crate::turns::Turns;

const IN: PortId = PortId(0);
const OUT: PortId = PortId(1);

/// Packets are of as many flows as there are filters, up to this.
const FLOWS_MAX: u32 = 4096;

/// Flows that the flow cache knows after a few bursts.
const FLOWS_CACHED: u32 = 256;

const LAYOUT: Layout =
    Layout { ports: 2, frames: 1024, chunk_size: 2048, fill_ring: 128, tx_ring: 256, host_packets: 16 };

/// The name of the thread, by which the time that it had no core is found.
const THREAD: &str = "worker";

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// What filters do, and how many there are.
    #[arg(long, value_delimiter = ',', default_values_t = Scenario::ALL, value_name = "NAME")]
    scenarios: Vec<Scenario>,
    #[command(flatten)]
    turns: Turns,
    /// So many bursts of the worker and nothing else, for a profiler.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    bursts: Option<u32>,
    /// The result as JSON on standard output; progress goes to standard error either way.
    #[arg(long)]
    json: bool,
}

/// What happens to every packet. Each filter has a priority of its own and matches one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// One filter drops all.
    #[value(name = "drop-1")]
    #[serde(rename = "drop-1")]
    Drop1,
    /// One filter lets all pass, to the other port.
    #[value(name = "forward-1")]
    #[serde(rename = "forward-1")]
    Forward1,
    /// One of 10,000 filters does.
    #[value(name = "forward-10k")]
    #[serde(rename = "forward-10k")]
    Forward10k,
    /// The same for packets of few flows, which the flow cache knows.
    #[value(name = "forward-10k-cached")]
    #[serde(rename = "forward-10k-cached")]
    Forward10kCached,
}

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
struct WorkerReport {
    machine: Machine,
    core: u16,
    seconds: f64,
    cases: Vec<Case>,
}

/// Nanoseconds a packet.
#[derive(Clone, Debug, Serialize)]
struct Case {
    scenario: Scenario,
    /// In the order of [`STAGES`].
    stages: [Summary; STAGES.len()],
    /// Of the worker itself, which goes from stage to stage with each packet.
    worker: Summary,
    /// Share of the worst turn for which others had the core.
    core_lost: f64,
}

/// What a burst goes through.
const STAGES: [&str; 4] = ["receive", "parse", "classify", "act, send"];

/// Two ports in memory, and packets for them.
struct World {
    block: Arc<Block>,
    shared: Arc<Shared>,
    worker: Worker<MemoryRings>,
    frames: Vec<Vec<u8>>,
    /// Which frame comes next.
    next: usize,
    staged: Staged,
    /// Packets that came so far, to either.
    received: u64,
}

/// What a worker does, one stage after the other for a whole burst, so that each can be timed.
struct Staged {
    rings: MemoryRings,
    burst: Burst<MemoryFrame>,
    packets: Vec<Packet>,
    verdicts: Vec<Verdict>,
    tally: [Totals; 2],
    again: Reentries<MemoryFrame>,
    rng: fastrand::Rng,
    flow_cache: Option<FlowCache>,
}

/// Measures and prints.
///
/// # Errors
/// If a request is refused, or a packet does not get what its filter says.
pub(crate) fn run(options: &Options) -> Result<bool> {
    options.turns.check()?;
    let machine = Machine::this(); // before there is one core only
    let measure = || options.scenarios.iter().map(|&scenario| case(options, scenario)).collect::<Result<Vec<Case>>>();
    let cases = options.turns.on_core(THREAD, measure)?;
    let report = WorkerReport { machine, core: options.turns.core, seconds: options.turns.seconds, cases };
    match options {
        Options { bursts: Some(bursts), .. } => println!("{} packets", *bursts as usize * BURST),
        Options { json: true, .. } => println!("{}", serde_json::to_string_pretty(&report)?),
        _ => print!("{report}"),
    }
    Ok(true)
}

fn case(options: &Options, scenario: Scenario) -> Result<Case> {
    let mut world = World::new(scenario)?;
    let (mut stages, mut worker, mut worst_lost) = (Vec::new(), Vec::new(), 0.0);
    if let Some(bursts) = options.bursts {
        (0..bursts).for_each(|_| _ = world.whole());
    } else {
        eprintln!("{scenario}: {} turns of {} s", 2 * options.turns.rounds, options.turns.seconds);
        let span = options.turns.span();
        for _ in 0..options.turns.rounds {
            let (staged, lost) = turn(span, || world.staged())?;
            let ([whole], lost_too) = turn(span, || [world.whole()])?;
            stages.push(staged);
            worker.push(whole);
            worst_lost = f64::max(worst_lost, lost.max(lost_too));
        }
    }
    world.check(scenario)?;
    let stages = std::array::from_fn(|stage| Summary::of(stages.iter().map(|times| times[stage])));
    Ok(Case { scenario, stages, worker: Summary::of(worker.into_iter()), core_lost: worst_lost })
}

/// Bursts for `span`; ns a packet of what each of them timed, and the share of the turn for which others had the core, which is
/// taken out.
fn turn<const N: usize>(span: Duration, mut burst: impl FnMut() -> [Duration; N]) -> Result<([f64; N], f64)> {
    let (mut sums, mut packets) = ([Duration::ZERO; N], 0);
    let (waited_before, start) = (waited(THREAD)?, Instant::now());
    while start.elapsed() < span {
        for (sum, time) in sums.iter_mut().zip(burst()) {
            *sum += time;
        }
        packets += BURST;
    }
    let lost = (waited(THREAD)? - waited_before).div_duration_f64(start.elapsed());
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds for people")]
    let each = |sum: Duration| sum.as_secs_f64() * (1.0 - lost) * 1e9 / packets as f64;
    Ok((sums.map(each), lost))
}

impl World {
    fn new(scenario: Scenario) -> Result<World> {
        let set = flows(scenario.filters(), scenario.flows());
        let (filters, _) = Filters::load(&set, &Order::File.ranks(set.rules.len()), scenario.control())?;
        let block = Arc::clone(&filters.block);
        let ports = [("in", OUT, Some(filters.block)), ("out", IN, None)].map(|(name, to, block)| {
            let port = PortState::new(name, ForwardTo::Port(to), block);
            port.set_link(LinkState::Up);
            port
        });
        let shared = Arc::new(Shared::new(Bursts::new(1), Arc::clone(block.plane()), ports.into()));
        let burst = u16::try_from(BURST)?;
        let worker = Worker::new(WorkerId(0), MemoryRings::new(LAYOUT), Arc::clone(&shared), burst, Idle::Busy)
            .caching(scenario.flow_cache());
        let staged = Staged {
            rings: MemoryRings::new(LAYOUT),
            burst: Burst::new(),
            packets: Vec::with_capacity(BURST),
            verdicts: Vec::with_capacity(BURST),
            tally: [Totals::default(); 2],
            again: Reentries::new(),
            rng: fastrand::Rng::with_seed(1),
            flow_cache: Some(scenario.flow_cache()).filter(|&entries| entries > 0).map(FlowCache::new),
        };
        let frames = set.headers.iter().map(|header| header.frame(set.version)).collect();
        Ok(World { block, shared, worker, frames, next: 0, staged, received: 0 })
    }

    /// A burst of the worker; how long it took.
    fn whole(&mut self) -> Duration {
        let World { frames, next, worker, .. } = self;
        self.received += inject(worker.rings_mut(), frames, next);
        let now_ns = self.shared.now_ns();
        let begin = Instant::now();
        run_burst(&mut self.worker, now_ns);
        let took = begin.elapsed();
        self.worker.rings_mut().transmit(OUT, |_| ());
        took
    }

    /// The same by stages.
    fn staged(&mut self) -> [Duration; STAGES.len()] {
        let World { frames, next, staged, .. } = self;
        self.received += inject(&mut staged.rings, frames, next);
        let (now_ns, ports) = (self.shared.now_ns(), self.shared.ports());
        let Staged { rings, burst, packets, verdicts, tally, again, rng, flow_cache } = staged;
        let begin = Instant::now();
        rings.receive(IN, BURST, burst);
        let received = Instant::now();
        packets.clear();
        packets.extend(burst.iter().filter_map(|frame| Packet::parse(rings.bytes(frame), IN)));
        let parsed = Instant::now();
        classify(&self.block, packets, verdicts, now_ns, rng, flow_cache.as_mut());
        let classified = Instant::now();
        for (frame, verdict) in burst.drain(..).zip(verdicts.drain(..)) {
            InHand::new(frame, IN, rings, &ports, tally, again, &self.shared.samples).settle(verdict);
        }
        rings.flush();
        let sent = Instant::now();
        rings.transmit(OUT, |_| ());
        [received - begin, parsed - received, classified - parsed, sent - classified]
    }

    /// Every packet was counted by its filter, and went where that says.
    fn check(&self, scenario: Scenario) -> Result<()> {
        let hits: u64 = dump(&self.block).iter().map(|filter| filter.hits.packets).sum();
        ensure!(hits == self.received, "{scenario}: {} packets, and filters counted {hits}", self.received);
        let done = |totals: &Totals| match scenario.control() {
            Control::Shot => totals.dropped[DropReason::Filter.index()],
            _ => totals.forwarded_packets,
        };
        let done = done(&self.shared.counters.port(IN)) + done(&self.staged.tally[usize::from(IN.0)]);
        ensure!(done == self.received, "{scenario}: {} packets, of which {done} went where they should", self.received);
        Ok(())
    }
}

/// The wire brings the next burst; how many packets came.
fn inject(rings: &mut MemoryRings, frames: &[Vec<u8>], next: &mut usize) -> u64 {
    let mut came = 0;
    for _ in 0..BURST {
        came += u64::from(rings.inject(IN, &frames[*next]));
        *next = (*next + 1) % frames.len();
    }
    came
}

/// What is measured of the worker; also by `callgrind`, which knows it by its name.
#[inline(never)]
fn run_burst(worker: &mut Worker<MemoryRings>, now_ns: u64) {
    worker.run_burst(now_ns);
}

/// A rule for each of so many UDP flows, and a header for each of up to `header_count` of them.
fn flows(count: u32, header_count: u32) -> RuleSet {
    let host = |address: u32| Prefix::new(Version::V4, address.into(), Version::V4.bits());
    let (src, dst) = (|flow: u32| 0x0a00_0000 + flow, 0xc633_6401);
    let rule = |flow| Rule {
        src: host(src(flow)),
        dst: host(dst),
        src_ports: (1024, 1024),
        dst_ports: (9, 9),
        proto: Some(UDP),
    };
    let header = |flow| Header { src: src(flow).into(), dst: dst.into(), src_port: 1024, dst_port: 9, proto: UDP };
    let mut headers: Vec<Header> = (0..count).map(header).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut headers);
    headers.truncate(header_count as usize);
    RuleSet { version: Version::V4, rules: (0..count).map(rule).collect(), headers, labels: None }
}

impl Scenario {
    /// All there are.
    pub(crate) const ALL: [Scenario; 4] =
        [Scenario::Drop1, Scenario::Forward1, Scenario::Forward10k, Scenario::Forward10kCached];

    fn filters(self) -> u32 {
        match self {
            Scenario::Drop1 | Scenario::Forward1 => 1,
            Scenario::Forward10k | Scenario::Forward10kCached => 10_000,
        }
    }

    fn flows(self) -> u32 {
        if self == Scenario::Forward10kCached { FLOWS_CACHED } else { FLOWS_MAX }
    }

    /// Entries.
    fn flow_cache(self) -> u32 {
        if self == Scenario::Forward10kCached { 4096 } else { 0 }
    }

    fn control(self) -> Control {
        match self {
            Scenario::Drop1 => Control::Shot,
            _ => Control::Ok,
        }
    }
}

impl Display for Scenario {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

impl Display for WorkerReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, kernel, tidegate, build } = &self.machine;
        writeln!(f, "\ntidegate {tidegate} ({build} build) on Linux {kernel}, {cpu}, {cores} cores")?;
        writeln!(f, "bursts of {BURST} on core {}, turns of {} s; ns a packet", self.core, self.seconds)?;
        write!(f, "\n{:<16}", "SCENARIO")?;
        STAGES.iter().try_for_each(|stage| write!(f, "{:>11}", stage.to_uppercase()))?;
        writeln!(f, "{:>11}  WORKER (MIN - MAX)", "TOGETHER")?;
        for Case { scenario, stages, worker, .. } in &self.cases {
            write!(f, "{scenario:<16}")?;
            stages.iter().try_for_each(|stage| write!(f, "{:>11.1}", stage.median))?;
            let together: f64 = stages.iter().map(|stage| stage.median).sum();
            writeln!(f, "{together:>11.1}  {:.1} ({:.1} - {:.1})", worker.median, worker.min, worker.max)?;
        }
        writeln!(
            f,
            "\nBy stage, a whole burst goes through one before the next begins; reading the clock costs up to 0.5 ns a packet each time.\n\
             The worker counts packets for readers besides."
        )?;
        if self.cases.iter().any(|case| case.core_lost > CORE_LOST_MAX) {
            writeln!(f, "WARNING some turns were disturbed: run it again on a quiet machine")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_gets_what_its_filter_says_by_stages_and_in_the_worker() {
        for scenario in Scenario::ALL {
            let mut world = World::new(scenario).unwrap();
            assert!(!world.staged().iter().sum::<Duration>().is_zero());
            assert!((0..3).all(|_| !world.whole().is_zero()));
            assert_eq!(world.received, 4 * BURST as u64);
            world.check(scenario).unwrap();
        }
    }

    #[test]
    fn a_packet_that_goes_elsewhere_is_seen() {
        let mut world = World::new(Scenario::Forward1).unwrap();
        world.whole();
        assert!(world.check(Scenario::Drop1).unwrap_err().to_string().contains("of which 0 went"));
        world.received += 1;
        assert!(world.check(Scenario::Forward1).unwrap_err().to_string().contains("filters counted 64"));
    }
}
