//! What `update` found: a table for people, JSON for programs, and whether the targets are met.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;
use tidegate_classifiers::live::Footprint;

use crate::figure::{Figure, Figures, SpeedRound, Target};
use crate::half_load::{Beside, HalfLoad, LoadRound, LoadVariant};
use crate::report::{CORE_LOST_MAX, Machine, NO_LATENCY, Summary};

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UpdateReport {
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Filters in each proto.
    pub(crate) present: u32,
    /// Of a turn.
    pub(crate) seconds: f64,
    /// Of the first thread and the second; processes of `tc` run where the kernel puts them.
    pub(crate) cores: [u16; 2],
    /// Of a filter.
    pub(crate) memory: Memory,
    /// In the order of [`Speed::ALL`].
    pub(crate) speeds: Vec<Speed>,
    /// Filters on each of the kernel's interfaces.
    pub(crate) kernel_present: u64,
    /// Why the kernel was not measured.
    pub(crate) kernel_missing: Option<String>,
    /// Traffic during storms.
    pub(crate) half_load: Option<HalfLoad>,
    /// Why there was none.
    pub(crate) no_traffic: Option<String>,
}

/// What a flower filter takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    /// Measured with so many,
    pub(crate) filters: usize,
    /// with counters for so many workers.
    pub(crate) workers: u16,
    /// Bytes of resident memory for each.
    pub(crate) bytes_each: f64,
    /// What they are for.
    pub(crate) parts: Parts,
}

/// Bytes of a filter, by part. The rest is spare room of tables and of the allocator.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Parts {
    filter: usize,
    action: usize,
    counters: usize,
    numbers: usize,
    index: usize,
}

impl Parts {
    /// With counters for `workers` workers.
    pub(crate) fn of(workers: u16) -> Parts {
        let Footprint { filter, action, counters, numbers, index } = Footprint::of(workers.into());
        Parts { filter, action, counters, numbers, index }
    }
}

/// Who added and deleted, and how fast.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Speed {
    /// For people.
    pub(crate) name: &'static str,
    /// One after the other; none if it was not measured.
    pub(crate) rounds: Vec<SpeedRound>,
}

/// The report with its verdicts, as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Judged<'a> {
    #[serde(flatten)]
    report: &'a UpdateReport,
    figures: Vec<Figure>,
}

impl Display for Parts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Parts { filter, action, counters, numbers, index } = self;
        write!(
            f,
            "{filter} the filter, {action} its action, {counters} counters, {numbers} handle and index, {index} its slot in the index"
        )
    }
}

impl Speed {
    const ONE: usize = 0;
    const CHAINS: usize = 1;
    const PRIORITIES: usize = 2;
    const PROTO: usize = 3;
    const BARE_ONE: usize = 4;
    const BARE_TWO: usize = 5;
    const TC_ONE: usize = 6;
    const TC_TWO: usize = 7;

    /// Names, in the order of a round.
    pub(crate) const ALL: [&str; 8] = [
        "one thread",
        "two threads, two chains",
        "two threads, two priorities",
        "two threads, one proto",
        "no action, one thread",
        "no action, two threads, two chains",
        "tc -batch, one process",
        "tc -batch, two processes",
    ];

    /// Not measured yet.
    pub(crate) fn new(name: &'static str) -> Speed {
        Speed { name, rounds: Vec::new() }
    }

    fn rates(&self) -> Summary {
        Summary::of(self.rounds.iter().map(|round| round.rate))
    }

    /// Operations a second of one who works alone: others take time from it, which is taken out.
    fn rate(&self, name: &'static str, least: f64) -> Option<Figure> {
        Figure::of_calm(name, SpeedRound::rates(&self.rounds), Target::AtLeast(least))
    }

    /// To `other`, round by round. Nothing if one of them was not measured.
    fn ratio(&self, other: &Speed, name: &'static str, least: f64) -> Option<Figure> {
        Figure::of_calm(name, SpeedRound::ratios(&self.rounds, &other.rounds), Target::AtLeast(least))
    }
}

impl UpdateReport {
    /// Every target whose figure was measured, judged by turns that were not disturbed where there are any.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let speed = |index: usize| &self.speeds[index];
        let mut figures = vec![Figure::of("bytes per filter", self.memory.bytes_each, Target::AtMost(512.0))];
        figures.extend(speed(Speed::ONE).rate("operations/s, one thread", 500_000.0));
        for (name, own, other, least) in [
            ("two threads, two chains : one thread", Speed::CHAINS, Speed::ONE, 1.7),
            ("two threads, two priorities : one thread", Speed::PRIORITIES, Speed::ONE, 1.7),
            ("two threads, one proto : one thread", Speed::PROTO, Speed::ONE, 1.3),
            ("no action, one thread : one tc", Speed::BARE_ONE, Speed::TC_ONE, 10.0),
            ("no action, two threads : two tc", Speed::BARE_TWO, Speed::TC_TWO, 10.0),
        ] {
            figures.extend(speed(own).ratio(speed(other), name, least));
        }
        figures.extend(self.half_load.iter().flat_map(HalfLoad::figures));
        figures
    }

    /// For JSON.
    pub(crate) fn with_figures(&self) -> Judged<'_> {
        Judged { report: self, figures: self.figures() }
    }

    /// Turns in which others had a core for too long, of all.
    fn disturbed(&self) -> (usize, usize) {
        let load = self.half_load.iter().flat_map(|load| &load.variants).flat_map(|variant| &variant.rounds);
        let lost: Vec<f64> = self
            .speeds
            .iter()
            .flat_map(|speed| &speed.rounds)
            .map(|round| round.core_lost)
            .chain(load.map(|round| round.core_lost))
            .collect();
        (lost.iter().filter(|&&lost| lost > CORE_LOST_MAX).count(), lost.len())
    }
}

impl Display for UpdateReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, kernel, tidegate, build } = &self.machine;
        let rounds = self.speeds.first().map_or(0, |speed| speed.rounds.len());
        writeln!(f, "\ntidegate {tidegate} ({build} build) on Linux {kernel}, {cpu}, {cores} cores")?;
        writeln!(f, "{} filters in each proto; {rounds} rounds of {} s in turn", self.present, self.seconds)?;
        let [first, second] = self.cores;
        writeln!(f, "threads on cores {first} and {second}, tc where the kernel puts it")?;
        writeln!(
            f,
            "\n{:<36}{:>12}{:>12}{:>12}{:>8}\n{:<36}{:>12}{:>12}{:>12}{:>8}",
            "", "operations/s", "", "", "core", "", "MEDIAN", "MIN", "MAX", "LOST"
        )?;
        for speed in self.speeds.iter().filter(|speed| !speed.rounds.is_empty()) {
            let Summary { median, min, max } = speed.rates();
            let lost = speed.rounds.iter().map(|round| round.core_lost).fold(0.0, f64::max);
            writeln!(f, "{:<36}{median:>12.0}{min:>12.0}{max:>12.0}{:>7.1}%", speed.name, 100.0 * lost)?;
        }
        writeln!(f, "\nAn add and a delete are two operations. Time in which others had the core is not counted.")?;
        match &self.kernel_missing {
            Some(why) => writeln!(f, "The kernel was not measured: {why}")?,
            None if self.kernel_present < self.present.into() => {
                writeln!(f, "The kernel has {} filters on each interface: more take too long.", self.kernel_present)?;
            }
            None => writeln!(f, "The kernel has as many filters, of u32 and without an action, on each interface.")?,
        }
        let Memory { filters, workers, bytes_each, parts } = self.memory;
        writeln!(
            f,
            "A filter takes {bytes_each:.0} bytes of memory ({filters} filters, {workers} workers): {parts}, the rest is room to spare."
        )?;
        match (&self.half_load, &self.no_traffic) {
            (Some(half_load), _) => write!(f, "{half_load}")?,
            (None, why) => writeln!(f, "\nNo traffic: {}", why.as_deref().unwrap_or("not asked for"))?,
        }
        write!(f, "{}", Figures(&self.figures()))?;
        if let (disturbed @ 1.., all) = self.disturbed() {
            writeln!(f, "WARNING {disturbed} of {all} turns were disturbed: run it again on a quiet machine")?;
        }
        Ok(())
    }
}

impl HalfLoad {
    /// What a storm costs in packets, against an empty loop that takes as much of the core. Others that take the worker's
    /// core cost packets too, many at a time: only rounds without them tell.
    fn figures(&self) -> Vec<Figure> {
        let quiet = |wanted: Beside| {
            let variants = self.variants.iter().filter(move |variant| variant.beside == wanted);
            let rounds = variants.flat_map(|variant| &variant.rounds).filter(|round| round.core_lost <= CORE_LOST_MAX);
            rounds.map(LoadRound::lost).collect::<Vec<f64>>()
        };
        let allowed = Summary::of(quiet(Beside::Loop).into_iter());
        let judge = |(name, beside): (&'static str, Beside)| {
            let found = quiet(beside);
            let told = !found.is_empty() && !quiet(Beside::Loop).is_empty();
            let figure = Figure::new(name, Summary::of(found.into_iter()), Target::AtMost(allowed.max));
            Figure { met: figure.met.filter(|_| told), ..figure }
        };
        [
            ("share lost, storm on another chain", Beside::OtherChain),
            ("share lost, storm on the same chain", Beside::SameChain),
        ]
        .map(judge)
        .into()
    }
}

impl Display for HalfLoad {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nTraffic at half of {:.0} packets/s; {}", self.whole_pps, self.placement)?;
        writeln!(
            f,
            "{:<26}{:>12}{:>12}{:>30}{:>10}{:>10}{:>10}{:>8}",
            "BESIDE IT", "packets/s", "updates/s", "LOST (MIN - MAX)", "BEFORE", "INSIDE", "AFTER", "CORE"
        )?;
        for LoadVariant { beside, lost, rounds } in &self.variants {
            let total = |count: fn(&LoadRound) -> u64| rounds.iter().map(count).sum::<u64>();
            let median = |value: fn(&LoadRound) -> f64| Summary::of(rounds.iter().map(value)).median;
            let lost = format!("{:.4}% ({:.4} - {:.4})", 100.0 * lost.median, 100.0 * lost.min, 100.0 * lost.max);
            writeln!(
                f,
                "{:<26}{:>12.0}{:>12.0}{lost:>30}{:>10}{:>10}{:>10}{:>7.1}%",
                beside.name(),
                median(|round| round.pps),
                median(|round| round.operations),
                total(|round| round.lost_before),
                total(|round| round.lost_inside),
                total(|round| round.lost_after),
                100.0 * rounds.iter().map(|round| round.core_lost).fold(0.0, f64::max)
            )?;
        }
        writeln!(
            f,
            "A storm may lose no greater share than the empty loop in its worst round, which takes as much of the core."
        )?;
        writeln!(
            f,
            "Lost before: at the veth pair's ring or the socket's. After: sent and not arrived, the veth pair's again."
        )?;
        writeln!(f, "{NO_LATENCY}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(name: &'static str, rate: f64) -> Speed {
        Speed { name, rounds: vec![SpeedRound { rate, core_lost: 0.0 }] }
    }

    fn load(beside: Beside, lost_before: u64, core_lost: f64) -> LoadVariant {
        let round =
            LoadRound { sent: 1000, lost_before, lost_inside: 0, lost_after: 0, pps: 1.0, operations: 1.0, core_lost };
        LoadVariant { beside, lost: Summary::default(), rounds: vec![round] }
    }

    /// Every target is met, and just so.
    fn report() -> UpdateReport {
        let rates = [5e5, 8.5e5, 8.5e5, 6.5e5, 6e5, 10e5, 6e4, 10e4];
        UpdateReport {
            machine: Machine::this(),
            present: 1000,
            seconds: 1.0,
            cores: [0, 1],
            memory: Memory { filters: 1000, workers: 2, bytes_each: 512.0, parts: Parts::of(2) },
            speeds: Speed::ALL.into_iter().zip(rates).map(|(name, rate)| speed(name, rate)).collect(),
            kernel_present: 1000,
            kernel_missing: None,
            half_load: Some(HalfLoad {
                whole_pps: 1.0,
                placement: String::new(),
                variants: Beside::ALL.map(|beside| load(beside, 3, 0.0)).into(),
            }),
            no_traffic: None,
        }
    }

    fn missed(report: &UpdateReport) -> Vec<String> {
        report.figures().into_iter().filter(|figure| figure.met == Some(false)).map(|figure| figure.name).collect()
    }

    #[test]
    fn what_is_just_as_it_should_be_is_met() {
        let report = report();
        assert_eq!((missed(&report), report.figures().len()), (vec![], 9));
        assert!(!report.to_string().contains("WARNING"));
    }

    #[test]
    fn every_target_is_missed_on_its_own() {
        for (index, rate, name) in [
            (Speed::CHAINS, 8.4e5, "two threads, two chains : one thread"),
            (Speed::PRIORITIES, 8.4e5, "two threads, two priorities : one thread"),
            (Speed::PROTO, 6.4e5, "two threads, one proto : one thread"),
            (Speed::TC_ONE, 6.1e4, "no action, one thread : one tc"),
            (Speed::TC_TWO, 10.1e4, "no action, two threads : two tc"),
        ] {
            let mut report = report();
            report.speeds[index].rounds[0].rate = rate;
            assert_eq!(missed(&report), [name]);
            assert_eq!(report.to_string().matches("MISSED").count(), 1);
        }
        let mut report = report();
        report.speeds.iter_mut().for_each(|speed| speed.rounds[0].rate *= 0.99);
        assert_eq!(missed(&report), ["operations/s, one thread"]);
        report = self::report();
        report.memory.bytes_each = 512.1;
        assert_eq!(missed(&report), ["bytes per filter"]);
        report = self::report();
        report.half_load.as_mut().unwrap().variants[3] = load(Beside::SameChain, 4, 0.0);
        assert_eq!(missed(&report), ["share lost, storm on the same chain"]);
    }

    #[test]
    fn loss_is_not_judged_by_a_disturbed_round() {
        let mut report = report();
        report.half_load.as_mut().unwrap().variants[2] = load(Beside::OtherChain, 900, 0.5);
        assert_eq!(missed(&report), Vec::<String>::new());
        assert_eq!(report.figures().iter().filter(|figure| figure.met.is_none()).count(), 1);
        let table = report.to_string();
        assert!(table.contains("too disturbed to tell") && table.contains("WARNING 1 of 12 turns"), "{table}");
    }

    #[test]
    fn a_disturbed_round_does_not_count() {
        let mut report = report();
        report.speeds[Speed::ONE].rounds.push(SpeedRound { rate: 1.0, core_lost: 0.5 });
        assert_eq!((missed(&report), report.figures()[1].found.min), (vec![], 5e5));
        report.speeds[Speed::ONE].rounds.remove(0);
        assert_eq!((missed(&report), report.figures()[1].found.min), (vec![], 1.0), "shown, not judged");
        assert_eq!(
            report.figures().iter().filter(|figure| figure.met.is_none()).count(),
            4,
            "three are compared with it"
        );
    }

    #[test]
    fn a_kernel_that_cannot_be_measured_is_a_line_and_no_miss() {
        let mut report = report();
        report.kernel_missing = Some("tc: Error: TC classifier not found.".into());
        for tc in [Speed::TC_ONE, Speed::TC_TWO] {
            report.speeds[tc].rounds.clear();
        }
        assert_eq!((missed(&report), report.figures().len()), (vec![], 7));
        assert!(report.to_string().contains("The kernel was not measured: tc: Error: TC classifier not found.\n"));
        let json = serde_json::to_value(report.with_figures()).unwrap();
        assert_eq!(json["figures"][1]["met"], true);
        assert_eq!(json["figures"][1]["target"]["at-least"], 500_000.0);
    }
}
