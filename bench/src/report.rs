//! What `forward` found: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};

/// A round is disturbed if others took more than this share of the worker's core.
pub(crate) const CORE_LOST_MAX: f64 = 0.02;

/// Why no latency of packets is given.
pub(crate) const NO_LATENCY: &str = "Latency of packets is not measured: they would be stamped on the core that the control \
plane runs on, and read on the worker's, so what is to be measured would delay the stamps themselves. It takes a machine with a core \
for each.";

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ForwardReport {
    /// Where it ran.
    pub(crate) machine: Machine,
    /// What both forwarders do when no packet waits.
    pub(crate) idle: &'static str,
    /// Which core does what.
    pub(crate) placement: String,
    /// Packet size, in bytes.
    pub(crate) size_bytes: u16,
    /// Measured in each round.
    pub(crate) seconds: f64,
    /// Packets a second offered; all that the generator makes if `null`.
    pub(crate) rate: Option<u32>,
    /// Of the filters' 5-tuples.
    pub(crate) seed: u64,
    /// The bare forwarder, then the gateway with growing numbers of filters.
    pub(crate) variants: Vec<Variant>,
}

/// The machine and what runs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// As the processor calls itself.
    pub(crate) cpu: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Version of tidegate, and of this bench.
    pub(crate) tidegate: String,
    /// `release` or `debug`.
    pub(crate) build: String,
}

/// One thing measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Variant {
    /// For people.
    pub(crate) name: String,
    /// Filters of the gateway; `null` for the bare forwarder.
    pub(crate) filters: Option<u32>,
    /// Packets a second that reached the sink.
    pub(crate) pps: Summary,
    /// The same as a ratio to the bare forwarder's in the same round.
    pub(crate) ratio: Summary,
    /// Dropped by the forwarder itself, all rounds together.
    pub(crate) lost_inside: u64,
    /// Sent by the forwarder and not seen by the sink.
    pub(crate) lost_after: u64,
    /// One after the other.
    pub(crate) rounds: Vec<Round>,
}

/// Of the rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// The one in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
}

/// One variant in one round. Packets are those of its whole life, warm-up included.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Round {
    /// Packets a second that reached the sink while the clock ran.
    pub(crate) pps: f64,
    /// `pps`, divided by that of the bare forwarder.
    pub(crate) ratio: f64,
    /// Share of the time for which others had the worker's core.
    pub(crate) core_lost: f64,
    /// How its queues were bound: `zero-copy`, `native` or `generic`.
    pub(crate) mode: String,
    /// Packets that the gate redirected and the kernel dropped at the socket: no frame on the fill ring, or no room on the
    /// RX ring, because the generator makes more than can be forwarded.
    pub(crate) lost_before: u64,
    /// Packets taken from RX rings.
    pub(crate) received: u64,
    /// Packets put on TX rings.
    pub(crate) sent: u64,
    /// Packets that reached the sink.
    pub(crate) arrived: u64,
    /// Packets that the forwarder dropped, by reason.
    pub(crate) dropped: BTreeMap<&'static str, u64>,
    /// Packets received and not accounted for.
    pub(crate) imbalance: i64,
    /// Whether it stopped without losing frames.
    pub(crate) clean: bool,
}

impl ForwardReport {
    /// What must not be, in words; nothing if all is well.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for variant in self.variants.iter().filter(|variant| variant.filters.is_some()) {
            let mut fail = |what: String| failures.push(format!("{}: {what}", variant.name));
            if variant.lost_inside > 0 {
                fail(format!("{} packets lost inside", variant.lost_inside));
            }
            if variant.rounds.iter().any(|round| round.imbalance != 0) {
                fail("packets received are not those forwarded, passed, dropped and consumed".into());
            }
            if variant.rounds.iter().any(|round| !round.clean) {
                fail("frames lost, or a gate left behind".into());
            }
            if variant.rounds.iter().any(|round| round.received == 0) {
                fail("no packet came".into());
            }
        }
        if let [first, others @ ..] = &*self.modes()
            && !others.is_empty()
        {
            failures.push(format!("not comparable: bound as {first} and as {}", others.join(", ")));
        }
        failures
    }

    /// Every mode that was met.
    fn modes(&self) -> Vec<&str> {
        let mut modes: Vec<&str> =
            self.variants.iter().flat_map(|variant| &variant.rounds).map(|round| &*round.mode).collect();
        modes.sort_unstable();
        modes.dedup();
        modes
    }
}

impl Display for ForwardReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, kernel, tidegate, build } = &self.machine;
        let offered = self.rate.map_or("as many as it makes".into(), |rate| format!("{rate} packets/s"));
        let rounds = self.variants.first().map_or(0, |variant| variant.rounds.len());
        writeln!(f, "\ntidegate {tidegate} ({build} build) on Linux {kernel}, {cpu}, {cores} cores")?;
        writeln!(f, "mode {}, idle {}; {}", self.modes().join(", "), self.idle, self.placement)?;
        writeln!(f, "{}-byte packets, {offered}; {rounds} rounds of {} s in turn", self.size_bytes, self.seconds)?;
        writeln!(
            f,
            "\n{:<24}{:>12}{:>12}{:>12}  {:<22}{:>10}{:>10}{:>12}{:>8}",
            "", "packets/s", "", "", "of bare", "lost", "lost", "lost", "core"
        )?;
        writeln!(
            f,
            "{:<24}{:>12}{:>12}{:>12}  {:<22}{:>10}{:>10}{:>12}{:>8}",
            "VARIANT", "MEDIAN", "MIN", "MAX", "MEDIAN (MIN - MAX)", "INSIDE", "AFTER", "BEFORE", "LOST"
        )?;
        for Variant { name, pps, ratio, lost_inside, lost_after, rounds, .. } in &self.variants {
            let ratio = format!("{:.3} ({:.3} - {:.3})", ratio.median, ratio.min, ratio.max);
            let lost_before: u64 = rounds.iter().map(|round| round.lost_before).sum();
            writeln!(
                f,
                "{name:<24}{:>12.0}{:>12.0}{:>12.0}  {ratio:<22}{lost_inside:>10}{lost_after:>10}{lost_before:>12}{:>7.1}%",
                pps.median,
                pps.min,
                pps.max,
                100.0 * worst_core_lost(rounds)
            )?;
        }
        writeln!(
            f,
            "\nLost inside: received and not sent. Lost after: sent and not arrived; the veth pair's, not ours."
        )?;
        writeln!(
            f,
            "Lost before: the gate's, at a socket out of frames or room: the generator makes more than can be forwarded."
        )?;
        writeln!(f, "Core lost: share of the time in which others ran on the worker's core, in the worst round.")?;
        let rounds = || self.variants.iter().flat_map(|variant| &variant.rounds);
        let disturbed = rounds().filter(|round| round.core_lost > CORE_LOST_MAX).count();
        if disturbed > 0 {
            let all = rounds().count();
            writeln!(f, "WARNING {disturbed} of {all} measurements were disturbed: run it again on a quiet machine")?;
        }
        for variant in &self.variants {
            for (reason, packets) in variant.drops() {
                writeln!(f, "{}: dropped {packets}: {reason}", variant.name)?;
            }
        }
        for failure in self.failures() {
            writeln!(f, "FAILED {failure}")?;
        }
        Ok(())
    }
}

fn worst_core_lost(rounds: &[Round]) -> f64 {
    rounds.iter().map(|round| round.core_lost).fold(0.0, f64::max)
}

impl Machine {
    /// This one.
    pub(crate) fn this() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
        Machine {
            cpu: model.unwrap_or("unknown processor").to_owned(),
            cores: available_parallelism().map_or(1, Into::into),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            tidegate: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }
}

impl Variant {
    /// Of these rounds.
    pub(crate) fn new(name: String, filters: Option<u32>, rounds: Vec<Round>) -> Variant {
        Variant {
            name,
            filters,
            pps: Summary::of(rounds.iter().map(|round| round.pps)),
            ratio: Summary::of(rounds.iter().map(|round| round.ratio)),
            lost_inside: rounds.iter().flat_map(|round| round.dropped.values()).sum(),
            lost_after: rounds.iter().map(|round| round.sent.saturating_sub(round.arrived)).sum(),
            rounds,
        }
    }

    fn drops(&self) -> BTreeMap<&'static str, u64> {
        let mut drops = BTreeMap::new();
        for (reason, packets) in self.rounds.iter().flat_map(|round| &round.dropped) {
            *drops.entry(*reason).or_default() += packets;
        }
        drops
    }
}

impl Summary {
    /// The mean of the two in the middle if their number is even; all 0 if there are none.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Summary {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match (sorted.get(middle), sorted.len() % 2) {
            (Some(upper), 0) => (sorted[middle - 1] + upper) / 2.0,
            (Some(value), _) => *value,
            (None, _) => return Summary::default(),
        };
        Summary { median, min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(gateway: Round) -> ForwardReport {
        let bare = Round { received: 9, mode: "native".into(), ..Round::default() };
        ForwardReport {
            machine: Machine::this(),
            idle: "busy",
            placement: String::new(),
            size_bytes: 64,
            seconds: 1.0,
            rate: None,
            seed: 1,
            variants: vec![
                Variant::new("bare".into(), None, vec![bare]),
                Variant::new("gateway".into(), Some(1), vec![gateway]),
            ],
        }
    }

    fn good() -> Round {
        Round { received: 9, mode: "native".into(), clean: true, ..Round::default() }
    }

    #[test]
    fn a_median_is_the_value_in_the_middle() {
        let of = |values: &[f64]| Summary::of(values.iter().copied()).median;
        assert_eq!((of(&[]), of(&[3.0]), of(&[3.0, 1.0]), of(&[9.0, 1.0, 2.0])), (0.0, 3.0, 2.0, 2.0));
        let summary = Summary::of([5.0, 7.0, 6.0].into_iter());
        assert_eq!((summary.min, summary.max), (5.0, 7.0));
    }

    #[test]
    fn a_good_run_has_no_failures() {
        assert_eq!(report(good()).failures(), Vec::<String>::new());
    }

    #[test]
    fn every_defect_is_a_failure_of_its_own() {
        for (round, words) in [
            (Round { dropped: [("tx_ring_full", 2)].into(), ..good() }, "gateway: 2 packets lost inside"),
            (Round { imbalance: -1, ..good() }, "gateway: packets received are not"),
            (Round { clean: false, ..good() }, "gateway: frames lost"),
            (Round { received: 0, ..good() }, "gateway: no packet came"),
            (Round { mode: "generic".into(), ..good() }, "not comparable: bound as generic and as native"),
        ] {
            let failures = report(round).failures();
            assert!(matches!(&*failures, [failure] if failure.starts_with(words)), "{failures:?}");
        }
    }

    #[test]
    fn drops_are_named_in_the_table_and_in_json() {
        let report = report(Round { dropped: [("tx_ring_full", 2)].into(), ..good() });
        let table = report.to_string();
        assert!(table.contains("gateway: dropped 2: tx_ring_full"), "{table}");
        assert!(table.ends_with("FAILED gateway: 2 packets lost inside\n"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["variants"][1]["lost_inside"], 2);
        assert_eq!(json["variants"][1]["rounds"][0]["dropped"]["tx_ring_full"], 2);
        assert!(json["variants"][0]["filters"].is_null());
    }
}
