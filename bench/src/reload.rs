//! `tidegate-bench reload`: how long a reload takes, and what packets notice of it.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::port::{PortId, WorkerId};
use tidegate_config::{Config, Idle};
use tidegate_engine::cpu;
use tidegate_engine::lab::Lab;
use tidegate_engine::memory::{Layout, MemoryRings};
use tidegate_engine::port::{ForwardTo, LinkState, PortState};
use tidegate_engine::quiesce::Bursts;
use tidegate_engine::rules::{NoCabling, Rules};
use tidegate_engine::worker::{Shared, Worker};

use crate::disturbance::waited_by;
use crate::forward::packet;
use crate::half_load;
use crate::nft::Nft;
use crate::reload_report::ReloadReport;
use crate::report::{CORE_LOST_MAX, Machine, Summary};
use crate::topology::Placement;

/// Filters of the file that is reloaded beside traffic, of which 1 % changes. In one priority: a packet that had to be compared in
/// ten thousand of them would take 80 us, and half of such a load is none.
const BESIDE_TRAFFIC: u32 = 10_000;
/// Rules in a chain that nft is asked for, at most.
const NFT_RULES_MAX: u32 = 100_000;
/// Time between reloads beside traffic.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// Packets in a burst.
const BURST: usize = 32;
const THIS_THREAD: &str = "/proc/thread-self";

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Filters of the large file.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=4_000_000))]
    filters: u32,
    /// How often everything takes its turn.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a turn of traffic is.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    seconds: f64,
    #[command(flatten)]
    placement: Placement,
    /// Ends with exit code 1 if a target is missed.
    #[arg(long)]
    check: bool,
    /// The result as JSON on standard output; progress goes to standard error either way.
    #[arg(long)]
    json: bool,
}

/// Filters of a file, and how they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// All in one priority, such as a list of addresses.
    List,
    /// Each in a priority of its own, by its place in the file.
    Ordered,
}

/// A file that is reloaded, to and fro.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Case {
    /// How its filters lie.
    pub(crate) shape: Shape,
    /// How many.
    pub(crate) filters: u32,
    /// Of a hundred, how many change: two thirds give way to others, a third gets another action; if it is all, all get one.
    pub(crate) percent: u32,
    /// Most that diff, preparation and commit may take together, in ms.
    pub(crate) target_ms: Option<f64>,
    /// To read the file.
    pub(crate) parse_ms: Summary,
    /// To find the difference and prepare it.
    pub(crate) prepare_ms: Summary,
    /// The commit.
    pub(crate) commit_ms: Summary,
    /// Both.
    pub(crate) reload_ms: Summary,
    /// What it took of processors, all threads together: on a busy machine this says more than the time.
    pub(crate) cpu_ms: Summary,
    /// `nft -f` for the same: elements of a set that come and go for a list, all rules anew if they are ordered. In turns with the
    /// reloads.
    pub(crate) nft_ms: Option<Summary>,
}

/// Time of a burst of the worker, in memory, in ns.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BurstTimes {
    /// 99.9 of 100 bursts are faster, without reloads: an empty loop on the other core.
    pub(crate) without: Summary,
    /// With reloads on the other core.
    pub(crate) during: Summary,
    /// The ratio within a round; none if all were disturbed.
    pub(crate) ratio: Option<Summary>,
    /// Rounds in which others had the worker's core for too long: they do not count.
    pub(crate) disturbed: usize,
    /// Reloads in all.
    pub(crate) reloads: u64,
}

/// Measures and prints. `false` if a target is missed and `--check` is given.
///
/// # Errors
/// If a reload is refused, or something does not start or stop.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(options.seconds > 0.0 && options.seconds <= 3600.0, "--seconds: more than 0 and at most 3600");
    let span = Duration::from_secs_f64(options.seconds);
    let lab = Lab::new("reload");
    let folder = lab.folder()?;
    let (nft, no_nft) = match Nft::new() {
        Ok(nft) => (Some(nft), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let cases = [
        (Shape::List, options.filters, 1, Some(1000.0)),
        (Shape::Ordered, options.filters, 1, Some(1000.0)),
        (Shape::Ordered, 100_000, 1, None),
        (Shape::Ordered, 10_000, 100, Some(50.0)),
        (Shape::List, 10_000, 100, Some(50.0)),
    ];
    let mut measured = Vec::new();
    for (shape, filters, percent, target_ms) in cases {
        // A million rules in a chain are beyond what nft can do in minutes.
        let nft = nft.as_ref().filter(|_| shape == Shape::List || filters <= NFT_RULES_MAX);
        measured.push(case(&folder, shape, filters, percent, target_ms, options.rounds, nft)?);
    }
    // On a thread of its own: it is bound to a core.
    let bursts = thread::scope(|scope| scope.spawn(|| bursts(&folder, options, span)).join());
    let bursts = bursts.unwrap_or_else(|_| bail!("the worker panicked"))?;
    let lost = half_load::beside_reloads(&options.placement, options.rounds, span, |second| {
        text("in", Shape::List, BESIDE_TRAFFIC, 1, second)
    });
    let (lost, no_traffic) = match lost {
        Ok(lost) => (Some(lost), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let report = ReloadReport { machine: Machine::this(), cases: measured, bursts, lost, no_traffic, no_nft };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(!options.check || report.met())
}

/// The filters of a file on a block or port: of a hundred, the first `percent` are others in the `second` file.
pub(crate) fn text(on: &str, shape: Shape, filters: u32, percent: u32, second: bool) -> String {
    let mut text = String::new();
    for number in 0..filters {
        let (id, action) = fate(number, percent, second);
        let priority = if shape == Shape::List { "priority = 1\n" } else { "" };
        let _ = write!(
            text,
            "[[filter]]\non = \"{on}\"\nname = \"f{id}\"\n{priority}match = {{ dst_ip = \"{}\" }}\naction = \"{action}\"\n",
            address(id)
        );
    }
    text
}

/// The address of the filter with this name.
pub(crate) fn address(id: u32) -> Ipv4Addr {
    let [_, a, b, c] = id.to_be_bytes();
    Ipv4Addr::new(11, a, b, c)
}

/// Name of a filter, which gives its address, and what it does.
pub(crate) fn fate(number: u32, percent: u32, second: bool) -> (u32, &'static str) {
    match (number % 100 < percent, percent < 100, number / 100 % 3) {
        (true, true, 0 | 1) => (number + if second { 1 << 23 } else { 0 }, "drop"),
        (true, ..) => (number, if second { "pass" } else { "drop" }),
        (false, ..) => (number, "drop"),
    }
}

fn load(folder: &Path, filters: &str) -> Result<(Config, Duration)> {
    let text = format!("[port.in]\nforward_to = \"out\"\n[port.out]\nforward_to = \"in\"\n{filters}");
    std::fs::write(folder.join("bench.toml"), text)?;
    let started = Instant::now();
    let config = tidegate_config::load_with(&folder.join("bench.toml"), std::iter::empty())?;
    Ok((config, started.elapsed()))
}

fn case(
    folder: &Path,
    shape: Shape,
    filters: u32,
    percent: u32,
    target_ms: Option<f64>,
    rounds: u32,
    nft: Option<&Nft>,
) -> Result<Case> {
    eprintln!("{filters} filters, {shape:?}, {percent} % change");
    let (first, parse) = load(folder, &text("in", shape, filters, percent, false))?;
    let (second, parse_again) = load(folder, &text("in", shape, filters, percent, true))?;
    let plane = Plane::standalone(1);
    let rules = Rules::new(&first, &plane)?;
    nft.map_or(Ok(()), |nft| nft.begin(shape, filters))?;
    let (mut applied, mut cpu, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..2 * rounds {
        let before = processors()?;
        applied.push(rules.reload(if round % 2 == 0 { &second } else { &first }, &NoCabling)?);
        cpu.push(processors()? - before);
        plane.reaper().drain();
        if let Some(nft) = nft {
            kernel.push(nft.become_file(shape, filters, percent, round % 2 == 0)?);
        }
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Case {
        shape,
        filters,
        percent,
        target_ms,
        parse_ms: Summary::of([parse, parse_again].into_iter().map(ms)),
        prepare_ms: Summary::of(applied.iter().map(|applied| ms(applied.prepare))),
        commit_ms: Summary::of(applied.iter().map(|applied| ms(applied.commit))),
        reload_ms: Summary::of(applied.iter().map(|applied| ms(applied.prepare + applied.commit))),
        cpu_ms: Summary::of(cpu.into_iter().map(ms)),
        nft_ms: nft.map(|_| Summary::of(kernel.into_iter().map(ms))),
    })
}

/// Time that this process had processors, all threads together.
fn processors() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// A worker in memory whose bursts are timed, in turns with reloads on the other core and without.
fn bursts(folder: &Path, options: &Options, span: Duration) -> Result<BurstTimes> {
    eprintln!("bursts in memory beside reloads, {} turns of {} s", 2 * options.rounds, span.as_secs_f64());
    let configs = [false, true].map(|second| Ok(load(folder, &text("in", Shape::List, BESIDE_TRAFFIC, 1, second))?.0));
    let [first, second]: [Result<Config>; 2] = configs;
    let (first, second) = (first?, second?);
    let bursts = Bursts::new(1);
    let plane = Plane::new(1, bursts.clone());
    let rules = Rules::new(&first, &plane)?;
    let ports = [(0, "in", 1), (1, "out", 0)].map(|(id, name, to)| {
        let port = PortState::new(name, ForwardTo::Port(PortId(to)), rules.of_port(PortId(id)));
        port.set_link(LinkState::Up);
        port
    });
    let shared = Arc::new(Shared::new(bursts, plane, ports.into()));
    let layout = Layout { ports: 2, frames: 1024, chunk_size: 2048, fill_ring: 128, tx_ring: 256, host_packets: 16 };
    let packet = packet(64)?;
    let mut worker = Worker::new(WorkerId(0), MemoryRings::new(layout), Arc::clone(&shared), 64, Idle::Busy);
    cpu::pin(options.placement.worker)?;
    let mut reloads = 0;
    // The p99.9 of a turn, and the share of it for which others had the core.
    let mut turn = |reloading: bool| -> Result<(f64, f64)> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let beside =
                scope.spawn(|| beside(options.placement.generator, reloading, &rules, [&second, &first], &stop));
            let mut times = Vec::with_capacity(1 << 22);
            let (waited, begun) = (waited_by(THIS_THREAD.as_ref())?, Instant::now());
            while begun.elapsed() < span {
                (0..BURST).for_each(|_| _ = worker.rings_mut().inject(PortId(0), &packet));
                let started = Instant::now();
                worker.run_burst(shared.now_ns());
                times.push(started.elapsed().as_nanos());
                worker.rings_mut().transmit(PortId(1), |_| ());
            }
            let core_lost = (waited_by(THIS_THREAD.as_ref())? - waited).div_duration_f64(begun.elapsed());
            stop.store(true, Ordering::Relaxed);
            reloads += beside.join().unwrap_or_else(|_| bail!("a reload panicked"))?;
            times.sort_unstable();
            let at = times.len() * 999 / 1000;
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds for people")]
            let worst = times.get(at).copied().unwrap_or_default() as f64;
            Ok((worst, core_lost))
        })
    };
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push((turn(false)?, turn(true)?));
    }
    let undisturbed = rounds.iter().filter(|(without, during)| without.1.max(during.1) <= CORE_LOST_MAX);
    let ratios: Vec<f64> = undisturbed.map(|(without, during)| during.0 / without.0).collect();
    Ok(BurstTimes {
        without: Summary::of(rounds.iter().map(|(without, _)| without.0)),
        during: Summary::of(rounds.iter().map(|(_, during)| during.0)),
        disturbed: rounds.len() - ratios.len(),
        ratio: (!ratios.is_empty()).then(|| Summary::of(ratios.into_iter())),
        reloads,
    })
}

/// Reloads to and fro, or spins; so the core is as busy either way.
fn beside(core: u16, reloading: bool, rules: &Rules, configs: [&Config; 2], stop: &AtomicBool) -> Result<u64> {
    cpu::pin(core)?;
    let mut reloads = 0;
    while !stop.load(Ordering::Relaxed) {
        if reloading {
            rules.reload(configs[usize::from(reloads % 2 == 1)], &NoCabling)?;
            reloads += 1;
        }
        let next = Instant::now() + PAUSE;
        while Instant::now() < next && !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    }
    // The next turn begins as this one did.
    if reloads % 2 == 1 {
        rules.reload(configs[1], &NoCabling)?;
    }
    Ok(reloads)
}
