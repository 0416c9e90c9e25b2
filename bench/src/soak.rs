//! `tidegate-bench soak`: random packets, whole and broken, through a gateway with every kind of rule; then the accounts.
//!
//! ```text
//!  outside                      gateway
//!    far-client  ═══ client     block edge: every kind and action
//!    far-server  ═══ server     the same block
//!    far-monitor ═══ monitor    what is mirrored and redirected; its own packets go to the host
//! ```

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use tidegate_classifiers::verdict::DropReason;
use tidegate_client::status::{PortStatus, Status};

use crate::gateway::{self, Gateway};
use crate::generator::{Generator, Traffic};
use crate::packets;
use crate::sink::Sink;
use crate::topology::{Placement, Topology, far_end};

const RULES: &str = include_str!("soak.toml");
const PORTS: [&str; 3] = ["client", "server", "monitor"];

/// One table of packets is sent over and over for so long; then comes another.
const TABLE_SPAN: Duration = Duration::from_secs(2);
/// Packets in a table.
const TABLE: u32 = 16_384;
/// Every so many tables a link goes down,
const FLAP_EVERY: u64 = 5;
/// for so long.
const FLAP_SPAN: Duration = Duration::from_millis(300);
/// Every so many tables a line of progress.
const PROGRESS_EVERY: u64 = 3;
/// Traffic has settled by then, and the gateway has asked the kernel for its counters once more.
const SETTLE: Duration = Duration::from_millis(2500);
/// Memory is taken as settled after so long.
const RSS_WARM_UP: Duration = Duration::from_secs(60);
/// What it may grow by after that, in KiB.
const RSS_GROWTH_KIB: u64 = 4096;
/// Of the server's port, so that some packets are too long for it.
const SERVER_MTU: &str = "1400";

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// How long. The check for leaks needs more than one minute.
    #[arg(long, default_value_t = 10.0, value_name = "MINUTES")]
    minutes: f64,
    /// Chooses the packets, and which links go down; the same number makes the same run, but for timing. A new one each
    /// time if not given.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Packets a second.
    #[arg(long, default_value_t = 100_000, value_name = "PACKETS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    #[command(flatten)]
    placement: Placement,
}

/// Runs and judges. `false` if an expectation failed.
///
/// # Errors
/// If something does not start or stop.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(options.minutes > 0.0 && options.minutes <= 10_000.0, "--minutes: more than 0 and at most 10,000");
    count_panics();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}; {} packets/s for {} minutes; {}", options.rate, options.minutes, options.placement);

    let topology = Topology::new("soak", &PORTS)?;
    let mtu = topology.gateway.exec("ip").args(["link", "set", "server", "mtu", SERVER_MTU]).status()?;
    ensure!(mtu.success(), "cannot set the MTU of the server's port");
    let sinks: Vec<Sink> =
        PORTS.iter().map(|port| Sink::attach(&topology.outside, &far_end(port))).collect::<Result<_>>()?;
    let folder = topology.folder()?;
    let text = format!(
        "[workers]\ncount = 1\ncores = [{}]\n\n[control]\nsocket = \"{}\"\n\n{RULES}",
        options.placement.worker,
        folder.join("control.sock").display()
    );
    let config = gateway::config(&folder, &text)?;
    let gateway = Gateway::start(&topology.gateway, config, options.placement.generator)?;

    let Sent { packets, memory } = send(options, seed, &topology, &gateway)?;
    sleep(SETTLE);
    let status = gateway.status()?;
    let clean = gateway.stop()?;
    let arrived = sinks.iter().map(Sink::arrived).collect::<Result<Vec<u64>>>()?;

    println!("\n{packets} packets sent to the gateway's ports");
    let mut judge = Judge { failed: 0 };
    for (port, arrived) in status.ports.iter().zip(arrived) {
        judge.port(port, arrived);
    }
    judge.filters(&status);
    judge.memory(&memory);
    let restarts: u64 = status.workers.iter().map(|worker| worker.restarts).sum();
    judge.expect("no worker was restarted", restarts == 0, &format!("{restarts} restarts"));
    let panics = PANICS.load(Ordering::Relaxed);
    judge.expect("no panic", panics == 0, &format!("{panics} panics"));
    judge.expect("it stopped with every frame in its place and no gate left behind", clean, "see the log on stderr");
    match judge.failed {
        0 => println!("\nok: every expectation held (seed {seed})"),
        failed => println!("\nFAILED: {failed} expectations did not hold (seed {seed})"),
    }
    Ok(judge.failed == 0)
}

/// What was sent, and how the process's memory went.
struct Sent {
    packets: u64,
    memory: Memory,
}

/// RSS in KiB.
struct Memory {
    /// After the warm-up; none if it did not last that long.
    settled: Option<u64>,
    last: u64,
}

/// Sends table after table, with link flaps, until time is up.
fn send(options: &Options, seed: u64, topology: &Topology, gateway: &Gateway) -> Result<Sent> {
    let (start, span) = (Instant::now(), Duration::from_secs_f64(options.minutes * 60.0));
    let mut flaps = Rng::with_seed(seed);
    let (mut sent, mut settled, mut table) = (0, None, 0);
    while start.elapsed() < span {
        let traffic = Traffic {
            interfaces: PORTS.map(far_end).into(),
            packets: TABLE,
            rate: Some(options.rate),
            core: options.placement.generator,
        };
        let mut rng = Rng::with_seed(seed.wrapping_add(table));
        let generator = Generator::start(&topology.outside, traffic, move |packet| {
            packets::write(packet, &mut rng);
            // Half from the client, a few from the monitor.
            [0, 0, 0, 0, 0, 1, 1, 1, 1, 2][rng.usize(..10)]
        })?;
        sleep(TABLE_SPAN.min(span.saturating_sub(start.elapsed())));
        if table % FLAP_EVERY == FLAP_EVERY - 1 {
            flap(topology, &mut flaps)?;
        }
        sent += generator.stop()?;
        if settled.is_none() && start.elapsed() >= RSS_WARM_UP {
            settled = Some(rss_kib()?);
        }
        if table % PROGRESS_EVERY == 0 {
            progress(start.elapsed(), sent, &gateway.status()?)?;
        }
        table += 1;
    }
    Ok(Sent { packets: sent, memory: Memory { settled, last: rss_kib()? } })
}

/// Sets a link down under traffic, and up again: at the far end, which costs the port its carrier, or the port itself.
fn flap(topology: &Topology, rng: &mut Rng) -> Result<()> {
    let port = PORTS[rng.usize(..PORTS.len())];
    let far = far_end(port);
    let (namespace, interface) = if rng.bool() { (&topology.outside, &*far) } else { (&topology.gateway, port) };
    namespace.down(interface)?;
    sleep(FLAP_SPAN);
    Ok(namespace.up(interface)?)
}

fn progress(elapsed: Duration, sent: u64, status: &Status) -> Result<()> {
    let total = |count: fn(&PortStatus) -> u64| status.ports.iter().map(count).sum::<u64>();
    eprintln!(
        "{:>4} s  sent {sent:>11}  received {:>11}  forwarded {:>11}  passed {:>10}  consumed {:>10}  dropped {:>10}  \
         mirrored {:>10}  RSS {:>6} KiB",
        elapsed.as_secs(),
        total(|port| port.totals.rx_packets),
        total(|port| port.totals.forwarded_packets),
        total(|port| port.totals.passed),
        total(|port| port.totals.consumed),
        total(|port| port.totals.dropped_packets()),
        total(|port| port.totals.mirrored),
        rss_kib()?,
    );
    Ok(())
}

/// Says of each expectation whether it held.
struct Judge {
    failed: u32,
}

impl Judge {
    fn expect(&mut self, what: &str, held: bool, seen: &str) {
        self.failed += u32::from(!held);
        println!(
            "{}  {what}{}",
            if held { "ok    " } else { "FAILED" },
            if held { String::new() } else { format!(": {seen}") }
        );
    }

    /// The packet equation, and the kernel's side of it.
    fn port(&mut self, port: &PortStatus, arrived: u64) {
        let PortStatus { name, totals, .. } = port;
        let drops: Vec<String> = DropReason::ALL
            .into_iter()
            .zip(totals.dropped)
            .filter(|(_, packets)| *packets > 0)
            .map(|(reason, packets)| format!("{packets} {}", reason.name()))
            .collect();
        println!(
            "\n{name}: received {}, forwarded {}, passed to the host {}, consumed {}, dropped {}",
            totals.rx_packets,
            totals.forwarded_packets,
            totals.passed,
            totals.consumed,
            if drops.is_empty() { "0".into() } else { drops.join(", ") }
        );
        let redirected = port.gate.get("redirected").copied().unwrap_or(0);
        let (full, dropped) = (totals.kernel_rx_ring_full, totals.kernel_rx_dropped);
        println!(
            "{name}: the gate redirected {redirected}; RX ring full {full}, dropped by the socket {dropped}, fill ring found empty {} times",
            totals.kernel_fill_ring_empty
        );
        println!("{name}: sent {}, of which {arrived} arrived at the far end", totals.tx_packets);
        self.expect("packets came", totals.rx_packets > 0, "none");
        self.expect(
            "received = forwarded + passed + consumed + dropped",
            totals.balance() == 0,
            &format!("{} are missing", totals.balance()),
        );
        let taken = totals.rx_packets + full + dropped;
        self.expect(
            "redirected = received + RX ring full + dropped by the socket",
            redirected == taken,
            &format!("{taken}"),
        );
        let invalid = totals.kernel_invalid;
        self.expect("no invalid descriptor", invalid == 0, &format!("{invalid}"));
        self.expect("no more arrived than was sent", arrived <= totals.tx_packets, &format!("{arrived}"));
    }

    fn filters(&mut self, status: &Status) {
        println!();
        let idle: Vec<String> = status
            .filters
            .iter()
            .filter(|filter| filter.packets == 0)
            .map(|filter| format!("{} ({})", filter.name, filter.protocol))
            .collect();
        let what = format!("all {} filters matched packets", status.filters.len());
        self.expect(&what, idle.is_empty() && !status.filters.is_empty(), &format!("not {}", idle.join(", ")));
    }

    fn memory(&mut self, memory: &Memory) {
        let Some(settled) = memory.settled else {
            println!("not judged: memory, in less than {} s", RSS_WARM_UP.as_secs());
            return;
        };
        let seen = format!("from {settled} to {} KiB", memory.last);
        println!("RSS went {seen} after the first {} s", RSS_WARM_UP.as_secs());
        let what = format!("memory grew by no more than {RSS_GROWTH_KIB} KiB");
        self.expect(&what, memory.last <= settled + RSS_GROWTH_KIB, &seen);
    }
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts panics of all threads, whoever catches them.
fn count_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        default(info);
    }));
}

/// Memory of this process that is in RAM, in KiB.
fn rss_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/self/status")?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("VmRSS: {line}"))
}
