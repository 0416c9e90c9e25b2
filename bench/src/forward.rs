//! `tidegate-bench forward`: the same traffic through a bare forwarder and through the gateway, in turn.
//!
//! ```text
//!  outside: generator ── far-in ═══ in  gateway  out ═══ far-out ── sink
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use tidegate_classifiers::verdict::DropReason;
use tidegate_config::Config;

use crate::Idle;
use crate::bare::Bare;
use crate::disturbance::waited;
use crate::gateway::{self, Gateway};
use crate::generator::{Generator, Traffic};
use crate::report::{CORE_LOST_MAX, ForwardReport, Machine, Round, Variant};
use crate::sink::Sink;
use crate::topology::{Placement, Topology, far_end};

/// Traffic before the clock starts.
const WARM_UP: Duration = Duration::from_millis(500);
/// Traffic stands still when nothing has arrived for so long.
const STILL: Duration = Duration::from_millis(50);
/// It stands still by then, or never will.
const STILL_LIMIT: Duration = Duration::from_secs(5);

/// UDP over IPv4 over Ethernet.
const HEADERS: u16 = 14 + 20 + 8;

/// The flow that the generator sends. Only the last filter matches it.
const SOURCE: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 1), 1024);
const DESTINATION: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 19, 0, 1), 9);

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// How long each variant is measured in each round, after half a second of warm-up.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    seconds: f64,
    /// How often the variants take their turn. Ratios are formed within a round: what disturbs the machine disturbs
    /// neighbours alike.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Filters on the receiving port, one variant for each number. Every filter has a priority of its own and matches
    /// a 5-tuple; only the last one matches the traffic, so each packet is compared with all of them.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000", value_name = "N,N,...",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    filters: Vec<u32>,
    /// Packet size in bytes, Ethernet header included, checksum not.
    #[arg(long, default_value_t = 64, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(42..=1514))]
    size: u16,
    /// Packets a second that the generator sends; as many as it can if not given.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// What both forwarders do when no packet waits.
    #[arg(long, value_enum, default_value_t)]
    idle: Idle,
    #[command(flatten)]
    placement: Placement,
    /// Chooses the 5-tuples of the filters that do not match.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// The result as JSON on standard output; progress goes to standard error either way.
    #[arg(long)]
    json: bool,
}

/// Measures and prints. `false` if the gateway lost packets, or its account does not balance.
///
/// # Errors
/// If something does not start or stop.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(options.seconds > 0.0 && options.seconds <= 3600.0, "--seconds: more than 0 and at most 3600");
    let topology = Topology::new("forward", &["in", "out"])?;
    let sink = Sink::attach(&topology.outside, &far_end("out"))?;
    let bench = Bench { options, topology: &topology, sink: &sink };
    // None is the bare forwarder.
    let filters: Vec<Option<u32>> = std::iter::once(None).chain(options.filters.iter().copied().map(Some)).collect();
    let mut rounds = vec![Vec::new(); filters.len()];
    for number in 1..=options.rounds {
        let mut bare_pps = None;
        for (&filters, rounds) in filters.iter().zip(&mut rounds) {
            let mut round = bench.measure(filters).with_context(|| name(filters))?;
            round.ratio = round.pps / *bare_pps.get_or_insert(round.pps);
            let Round { pps, ratio, core_lost, .. } = round;
            let disturbed = if core_lost > CORE_LOST_MAX { "  disturbed" } else { "" };
            eprintln!(
                "round {number}/{}  {:<22}{pps:>10.0} packets/s  {ratio:.3} of bare{disturbed}",
                options.rounds,
                name(filters)
            );
            rounds.push(round);
        }
    }
    let report = ForwardReport {
        machine: Machine::this(),
        idle: options.idle.name(),
        placement: options.placement.to_string(),
        size_bytes: options.size,
        seconds: options.seconds,
        rate: options.rate,
        seed: options.seed,
        variants: filters
            .iter()
            .zip(rounds)
            .map(|(&filters, rounds)| Variant::new(name(filters), filters, rounds))
            .collect(),
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report.failures().is_empty())
}

/// For people.
fn name(filters: Option<u32>) -> String {
    match filters {
        None => "bare forwarder".into(),
        Some(1) => "gateway, 1 filter".into(),
        Some(filters) => format!("gateway, {filters} filters"),
    }
}

/// What the sink and the scheduler saw of one turn.
struct Load {
    /// While the clock ran.
    pps: f64,
    /// Likewise.
    core_lost: f64,
    /// From the first packet to the last.
    arrived: u64,
}

struct Bench<'a> {
    options: &'a Options,
    topology: &'a Topology,
    sink: &'a Sink,
}

impl Bench<'_> {
    /// One turn of one variant: started, loaded, measured, emptied, stopped.
    fn measure(&self, filters: Option<u32>) -> Result<Round> {
        let config = self.config(filters.unwrap_or(0))?;
        match filters {
            None => self.measure_bare(config),
            Some(_) => self.measure_gateway(config),
        }
    }

    fn measure_bare(&self, config: Config) -> Result<Round> {
        let bare = Bare::start(&self.topology.gateway, config)?;
        let Load { pps, core_lost, arrived } = self.load(Bare::THREAD)?;
        let account = bare.stop()?;
        Ok(Round {
            pps,
            ratio: 1.0,
            core_lost,
            mode: account.mode.into(),
            lost_before: account.redirected.saturating_sub(account.received),
            received: account.received,
            sent: account.received - account.tx_ring_full,
            arrived,
            dropped: named([(DropReason::TxRingFull, account.tx_ring_full)]),
            imbalance: 0,
            clean: true,
        })
    }

    fn measure_gateway(&self, config: Config) -> Result<Round> {
        let gateway = Gateway::start(&self.topology.gateway, config, self.options.placement.generator)?;
        let Load { pps, core_lost, arrived } = self.load(Gateway::WORKER)?;
        let status = gateway.status()?;
        let clean = gateway.stop()?;
        let mut round = Round { pps, core_lost, arrived, clean, ..Round::default() };
        for port in &status.ports {
            let totals = &port.totals;
            let redirected = port.gate.get("redirected").copied().unwrap_or(0);
            round.mode.clone_from(&port.mode);
            round.lost_before += redirected.saturating_sub(totals.rx_packets);
            round.received += totals.rx_packets;
            round.sent += totals.tx_packets;
            round.imbalance += totals.balance();
            for (reason, packets) in named(DropReason::ALL.into_iter().zip(totals.dropped)) {
                *round.dropped.entry(reason).or_default() += packets;
            }
        }
        Ok(round)
    }

    /// Has the generator send, while `thread` forwards; returns when traffic stands still again.
    fn load(&self, thread: &str) -> Result<Load> {
        let traffic = Traffic {
            interfaces: vec![far_end("in")],
            packets: 1,
            rate: self.options.rate,
            core: self.options.placement.generator,
        };
        let packet = packet(self.options.size)?;
        let at_first = self.sink.arrived()?;
        let generator = Generator::start(&self.topology.outside, traffic, move |bytes| {
            bytes.extend(&packet);
            0
        })?;
        sleep(WARM_UP);
        let (waited_before, before, start) = (waited(thread)?, self.sink.arrived()?, Instant::now());
        sleep(Duration::from_secs_f64(self.options.seconds));
        let (waited_after, after, span) = (waited(thread)?, self.sink.arrived()?, start.elapsed());
        generator.stop()?;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let pps = (after - before) as f64 / span.as_secs_f64();
        Ok(Load {
            pps,
            core_lost: (waited_after - waited_before).div_duration_f64(span),
            arrived: still(self.sink)? - at_first,
        })
    }

    fn config(&self, filters: u32) -> Result<Config> {
        let folder = self.topology.folder()?;
        let mut text = format!(
            "[workers]\ncount = 1\ncores = [{}]\nidle = \"{}\"\n\n\
             [control]\nsocket = \"{}\"\n\n\
             [port.in]\nforward_to = \"out\"\n\n\
             [port.out]\nforward_to = \"in\"\n",
            self.options.placement.worker,
            self.options.idle.name(),
            folder.join("control.sock").display(),
        );
        add_filters(&mut text, filters, self.options.seed)?;
        gateway::config(&folder, &text)
    }
}

/// `count` filters on port `in`; the last one matches the generator's flow, the others a flow each that never comes.
fn add_filters(text: &mut String, count: u32, seed: u64) -> Result<()> {
    let mut rng = fastrand::Rng::with_seed(seed);
    for number in 1..=count {
        let flow = if number == count { (SOURCE, DESTINATION) } else { stranger(&mut rng) };
        add_flow_filter(text, "in", number, "", flow, "pass")?;
    }
    Ok(())
}

/// Addresses and ports of a flow of UDP: where it comes from, where it goes.
pub(crate) type UdpFlow = ((Ipv4Addr, u16), (Ipv4Addr, u16));

/// A flow that never comes: 10.0.0.0/8 never meets the benchmark's own 198.18.0.0/15.
pub(crate) fn stranger(rng: &mut fastrand::Rng) -> UdpFlow {
    let mut end = || (Ipv4Addr::from_bits(0x0a00_0000 | rng.u32(..) >> 8), rng.u16(1..));
    (end(), end())
}

/// The filter of this number for one flow, with more keys to match if there are any.
pub(crate) fn add_flow_filter(
    text: &mut String,
    on: &str,
    number: u32,
    more: &str,
    (source, destination): UdpFlow,
    action: &str,
) -> Result<()> {
    writeln!(
        text,
        "\n[[filter]]\non = \"{on}\"\nname = \"filter-{number}\"\naction = \"{action}\"\n\
         match = {{ {more}ip_proto = \"udp\", src_ip = \"{}\", dst_ip = \"{}\", src_port = {}, dst_port = {} }}",
        source.0, destination.0, source.1, destination.1
    )?;
    Ok(())
}

/// The packet that the generator sends, of `size` bytes.
pub(crate) fn packet(size: u16) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(SOURCE.0.octets(), DESTINATION.0.octets(), 64)
        .udp(SOURCE.1, DESTINATION.1)
        .write(&mut bytes, &vec![0; usize::from(size.saturating_sub(HEADERS))])?;
    Ok(bytes)
}

/// Waits until nothing arrives any more; returns how much has.
pub(crate) fn still(sink: &Sink) -> Result<u64> {
    let start = Instant::now();
    let mut last = sink.arrived()?;
    loop {
        sleep(STILL);
        let now = sink.arrived()?;
        if now == last {
            return Ok(now);
        }
        ensure!(start.elapsed() < STILL_LIMIT, "traffic goes on after the generator has stopped");
        last = now;
    }
}

/// Drops by the name of their reason, those that happened.
fn named(drops: impl IntoIterator<Item = (DropReason, u64)>) -> BTreeMap<&'static str, u64> {
    drops.into_iter().filter(|(_, packets)| *packets > 0).map(|(reason, packets)| (reason.name(), packets)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_classifiers::flow_key;
    use tidegate_classifiers::packet::Packet;
    use tidegate_classifiers::port::PortId;
    use tidegate_classifiers::request::KindSpec;

    #[test]
    fn a_packet_has_the_size_that_was_asked_for() {
        for size in [42, 64, 1514] {
            assert_eq!(packet(size).unwrap().len(), usize::from(size));
        }
    }

    #[test]
    fn only_the_last_filter_matches_the_traffic_and_priorities_differ() {
        let folder = std::env::temp_dir().join(format!("tidegate-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut text = "[port.in]\nforward_to = \"host\"\n".to_owned();
        add_filters(&mut text, 1000, 1).unwrap();
        let config = gateway::config(&folder, &text).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();

        let filters = &config.blocks[0].filters;
        assert_eq!(filters.len(), 1000);
        assert!(filters.is_sorted_by(|a, b| a.priority < b.priority));
        let bytes = packet(64).unwrap();
        let packet = Packet::parse(&bytes, PortId(0)).unwrap();
        let matching = filters.iter().filter(|filter| match &filter.kind {
            KindSpec::Flower(spec) => packet.key().masked(&spec.mask) == spec.value.masked(&spec.mask),
            _ => true,
        });
        assert_eq!(matching.map(|filter| &*filter.name).collect::<Vec<_>>(), ["filter-1000"]);
        for field in [flow_key::IP_PROTO, flow_key::SRC_PORT, flow_key::DST_PORT] {
            assert!(filters.iter().all(|filter| match &filter.kind {
                KindSpec::Flower(spec) => spec.mask.get(field) == field.max(),
                _ => false,
            }));
        }
    }
}
