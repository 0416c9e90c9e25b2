//! The report of a run for people.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::forwarder::Kind;
use super::report::{Found, Latency, Point, RunReport, Searched, TrialReport};
use super::search::Bounds;
use crate::figure::short;
use crate::report::{Machine, Summary};
use crate::tester::accounts::FaultKind;

/// Faults of each kind that are named at a point.
const NAMED: usize = 3;

/// One trial in a line.
pub(super) fn progress(trial: &TrialReport) -> String {
    let TrialReport { offered, counts, latency, lag, missed, unsent, .. } = trial;
    let mut line = format!(
        "{offered:>9.0}/s  lost {:>7}  p50 {:>8}  p99.9 {:>8}",
        trial.lost(),
        time(latency.p50),
        time(latency.p999)
    );
    let more = [(*unsent, "unsent"), (*missed, "missed by the tester"), (trial.wrongly_dropped, "wrongly dropped")];
    for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
        line += &format!("  {count} {what}");
    }
    for (kind, count) in counts.faults().into_iter().skip(usize::from(counts.lost > 0)) {
        line += &format!("  {count} {}", kind.name());
    }
    if trial.is_disturbed() {
        line += &format!("  disturbed (tester late by {} at p99.9)", time(lag.p999));
    }
    line
}

impl Display for RunReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, kernel, tidegate, build } = &self.machine;
        writeln!(f, "\ntidegate {tidegate} ({build} build) on Linux {kernel}, {cpu}, {cores} cores")?;
        writeln!(f, "mode {}, idle {}; {}", self.mode, self.idle, self.placement)?;
        writeln!(f, "scenario {}, {} flows, seed {}", self.scenario, self.flows, self.seed)?;
        if !self.search.is_empty() {
            writeln!(
                f,
                "\n{:<20}{:<46}{:<46}OF BARE",
                "PACKETS A SECOND", "NO LOSS (NDR)", "0.5 % LOSS AT MOST (PDR)"
            )?;
            self.search.iter().try_for_each(|search| throughput(f, search, &self.search))?;
        }
        write!(f, "\n{:<32}{:>10}{:>12}{:>10}", "LATENCY, MEDIAN OF ROUNDS", "RATE", "SENT", "LOST")?;
        for (name, _) in Latency::SHOWN {
            write!(f, "{:>10}", name.to_uppercase())?;
        }
        writeln!(f)?;
        self.points.iter().try_for_each(|point| row(f, point))?;
        writeln!(f)?;
        self.points.iter().try_for_each(|point| notes(f, point))?;
        let disturbed = self.points.iter().flat_map(|point| &point.rounds).filter(|round| round.is_disturbed()).count();
        if disturbed > 0 {
            let all: usize = self.points.iter().map(|point| point.rounds.len()).sum();
            writeln!(
                f,
                "WARNING others had a core of {disturbed} of {all} trials for too long: run it again on a quiet machine"
            )?;
        }
        if self.points.iter().any(|point| point.forwarder.is_kernel()) {
            let why =
                "The kernel forwards on the tester's core, where it sends: no ratio to who has a core of its own.";
            writeln!(f, "{why}")?;
        }
        self.skipped.iter().try_for_each(|skipped| writeln!(f, "skipped {skipped}"))?;
        self.failures().iter().try_for_each(|failure| writeln!(f, "FAILED {failure}"))
    }
}

fn row(f: &mut Formatter<'_>, point: &Point) -> fmt::Result {
    let rate = point.summary(|round| round.offered).median;
    let (sent, lost) = (point.sum(|round| round.counts.sent), point.sum(TrialReport::lost));
    write!(f, "{:<32}{rate:>10.0}{sent:>12}{lost:>10}", point.label())?;
    for (_, quantile) in Latency::SHOWN {
        #[expect(clippy::cast_precision_loss, reason = "ns for people")]
        let median = point.summary(|round| quantile(&round.latency) as f64).median;
        write!(f, "{:>10}", time_f(median))?;
    }
    writeln!(f)
}

/// What more there is to say of a point.
fn notes(f: &mut Formatter<'_>, point: &Point) -> fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "ns for people")]
    let lag = |quantile: fn(&Latency) -> u64| time_f(point.summary(|round| quantile(&round.lag) as f64).median);
    let name = point.label();
    writeln!(f, "{name}: the tester sent late by {} (p50), {} (p99.9)", lag(|lag| lag.p50), lag(|lag| lag.p999))?;
    let percent = |share: fn(&TrialReport) -> f64| 100.0 * point.summary(share).median;
    let (worker, tester) = (percent(|round| round.worker_core_lost), percent(|round| round.tester_core_lost));
    writeln!(f, "{name}: others had the worker's core for {worker:.1} % of the time, the tester's for {tester:.1} %")?;
    let operations = point.sum(|round| round.done.as_ref().map_or(0, |done| done.operations));
    if point.disturbed {
        let seconds = point.rounds.iter().map(|round| round.seconds).sum::<f64>().max(1e-9);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let each = operations as f64 / seconds;
        writeln!(f, "{name}: {operations} operations meanwhile, {} a second", short(each))?;
        let Summary { median, min, max } = point.summary(TrialReport::blocked_ms);
        writeln!(f, "{name}: blocked for {} ms a round ({} - {})", short(median), short(min), short(max))?;
    }
    let places = [
        ("lost before the gateway", point.sum(|round| round.inside.as_ref().map_or(0, |inside| inside.lost_before))),
        ("lost at the tester's own sockets", point.sum(|round| round.missed)),
        ("not sent: the tester could not keep up", point.sum(|round| round.unsent)),
    ];
    for (place, packets) in places.into_iter().filter(|(_, packets)| *packets > 0) {
        writeln!(f, "{name}: {packets} packets {place}")?;
    }
    let mut inside = BTreeMap::<&str, u64>::new();
    for (reason, packets) in point.rounds.iter().flat_map(|round| &round.inside).flat_map(|inside| &inside.lost) {
        *inside.entry(reason).or_default() += packets;
    }
    for (reason, packets) in inside {
        writeln!(f, "{name}: {packets} packets lost inside: {reason}")?;
    }
    // What has no filter forwards all: that is known.
    for kind in FaultKind::ALL.into_iter().filter(|_| point.forwarder == Kind::Tidegate) {
        let faults = point.rounds.iter().flat_map(|round| &round.faults).filter(|fault| fault.kind == kind);
        faults.take(NAMED).try_for_each(|fault| writeln!(f, "{name}: {fault}"))?;
    }
    let slowest = point.rounds.iter().filter_map(|round| round.slowest).max_by_key(|slowest| slowest.latency_ns);
    match slowest {
        Some(slowest) => writeln!(f, "{name}: slowest was {}: {}", slowest.packet, time(slowest.latency_ns)),
        None => Ok(()),
    }
}

fn throughput(f: &mut Formatter<'_>, search: &Searched, all: &[Searched]) -> fmt::Result {
    let shown = |bounds: fn(&Found) -> Bounds| {
        let (Summary { median, min, max }, limited) = search.summary(bounds);
        let hurried = search.rounds.iter().any(|found| bounds(found).hurried);
        let more = match (limited, hurried) {
            (true, _) => " or more: tester's limit",
            (_, true) => " in a hurry",
            _ => "",
        };
        format!("{median:.0} ({min:.0} - {max:.0}){more}")
    };
    let bare = all.iter().find(|other| other.forwarder == Kind::Bare && search.forwarder == Kind::Tidegate);
    let ratio = bare.map(|bare| {
        let pairs = search.rounds.iter().zip(&bare.rounds);
        let ratio = Summary::of(pairs.map(|(own, bare)| f64::from(own.ndr.lower) / f64::from(bare.ndr.lower.max(1))));
        format!("{:.3} ({:.3} - {:.3})", ratio.median, ratio.min, ratio.max)
    });
    let (ndr, pdr) = (shown(|found| found.ndr), shown(|found| found.pdr));
    writeln!(f, "{:<20}{ndr:<46}{pdr:<46}{}", search.forwarder.name(), ratio.unwrap_or_default())
}

/// Nanoseconds as people read them.
pub(super) fn time(ns: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    time_f(ns as f64)
}

/// The same.
pub(super) fn time_f(ns: f64) -> String {
    match ns {
        _ if ns < 1e3 => format!("{ns:.0} ns"),
        _ if ns < 1e6 => format!("{:.1} us", ns / 1e3),
        _ if ns < 1e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.1} s", ns / 1e9),
    }
}
