//! What `run` found: everything that is needed to repeat it, and to compare it.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::forwarder::Kind;
use super::search::Bounds;
use super::trouble::Done;
use crate::report::{CORE_LOST_MAX, Machine, Summary};
use crate::tester::accounts::{Counts, Fault, FaultKind, Slowest};
use crate::tester::timeline::Timeline;

/// The outcome of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunReport {
    /// Where it ran.
    pub(crate) machine: Machine,
    /// What the scenario is called.
    pub(crate) scenario: String,
    /// Its text.
    pub(crate) text: String,
    /// What the command line said otherwise, as it said it.
    pub(crate) command_line: Vec<String>,
    /// Of addresses, filters and the order of flows.
    pub(crate) seed: u64,
    /// How the gateway's queues were bound.
    pub(crate) mode: String,
    /// What the worker did when no packet waited.
    pub(crate) idle: String,
    /// Which core did what.
    pub(crate) placement: String,
    /// Flows that were sent.
    pub(crate) flows: usize,
    /// How much goes without loss, if that was looked for: the gateway first.
    pub(crate) search: Vec<Searched>,
    /// What was measured at one rate, each with all its rounds.
    pub(crate) points: Vec<Point>,
    /// What was not compared with, and why.
    pub(crate) skipped: Vec<String>,
    /// What was wrong when something stopped.
    pub(crate) unclean: Vec<String>,
}

/// Searches of one forwarder, one each round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Searched {
    /// Which.
    pub(crate) forwarder: Kind,
    /// In turns with the others.
    pub(crate) rounds: Vec<Found>,
}

/// What a search found, in packets a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Without loss.
    pub(crate) ndr: Bounds,
    /// With a loss of 0.5 % at most.
    pub(crate) pdr: Bounds,
    /// Trials that it took.
    pub(crate) trials: usize,
    /// Seconds that it took.
    pub(crate) seconds: f64,
    /// Packets that were treated as they must not be, whatever the load.
    pub(crate) wrong: u64,
}

/// One rate, one after the other beside the same thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// For people; with it points of two reports are found to belong together.
    pub(crate) name: String,
    /// What forwarded.
    pub(crate) forwarder: Kind,
    /// Whether the scenario's disturbance went on.
    pub(crate) disturbed: bool,
    /// In turns with the other points.
    pub(crate) rounds: Vec<TrialReport>,
    /// Latency of all rounds together: quantile, and ns.
    pub(crate) curve: Vec<(f64, u64)>,
}

/// One trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrialReport {
    /// Packets a second that were due,
    pub(crate) rate: u32,
    /// and that were sent.
    pub(crate) offered: f64,
    /// How long they were sent.
    pub(crate) seconds: f64,
    /// What became of them.
    pub(crate) counts: Counts,
    /// Some faults of each kind.
    pub(crate) faults: Vec<Fault>,
    /// The packet that took longest.
    pub(crate) slowest: Option<Slowest>,
    /// Dropped by filters, more than had to be, and more than can be left of an earlier trial that was not received in time.
    pub(crate) wrongly_dropped: u64,
    /// Packets that were due and not sent: the tester could not keep up.
    pub(crate) unsent: u64,
    /// Packets that reached the tester's sockets, which had no room: no fault of the gateway.
    pub(crate) missed: u64,
    /// What the gateway counted.
    pub(crate) inside: Option<Inside>,
    /// From when a packet was due until it was seen.
    pub(crate) latency: Latency,
    /// How late packets were sent: as much of the latency is the tester's own.
    pub(crate) lag: Latency,
    /// Share of the time for which others had the worker's core.
    pub(crate) worker_core_lost: f64,
    /// The same of the tester's.
    pub(crate) tester_core_lost: f64,
    /// What went on meanwhile.
    pub(crate) done: Option<Done>,
    /// What happened when.
    pub(crate) timeline: Timeline,
}

/// Packets as the gateway counted them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inside {
    /// Sent to it, and not received: the veth pair's ring or the socket's was full.
    pub(crate) lost_before: u64,
    /// Received.
    pub(crate) received: u64,
    /// Dropped by filters.
    pub(crate) by_filter: u64,
    /// Dropped for other reasons.
    pub(crate) lost: BTreeMap<String, u64>,
    /// Sent on.
    pub(crate) sent: u64,
    /// Received, and neither forwarded nor passed, dropped or consumed; less than 0 if there are too many of these.
    pub(crate) imbalance: i64,
}

/// Quantiles, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) min: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) p9999: u64,
    pub(crate) max: u64,
}

/// A quantile, for people and to take it.
pub(crate) type Quantile = (&'static str, fn(&Latency) -> u64);

impl Latency {
    /// Those that tables have.
    pub(crate) const SHOWN: [Quantile; 6] = [
        ("p50", |latency| latency.p50),
        ("p90", |latency| latency.p90),
        ("p99", |latency| latency.p99),
        ("p99.9", |latency| latency.p999),
        ("p99.99", |latency| latency.p9999),
        ("max", |latency| latency.max),
    ];

    /// Of a histogram in ns.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let min = if histogram.is_empty() { 0 } else { histogram.min() };
        let (p50, p90, p99, p999, p9999) = (at(0.5), at(0.9), at(0.99), at(0.999), at(0.9999));
        Latency { min, p50, p90, p99, p999, p9999, max: histogram.max() }
    }
}

impl TrialReport {
    /// Packets that the gateway lost: not those that reached the tester and found no room there.
    pub(crate) fn lost(&self) -> u64 {
        self.counts.lost.saturating_sub(self.missed)
    }

    /// The same, as a share of those that had to arrive.
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub(crate) fn loss_ratio(&self) -> f64 {
        self.lost() as f64 / self.counts.must_arrive.max(1) as f64
    }

    /// Packets that were treated as they must not be, whatever the load.
    pub(crate) fn wrong(&self) -> u64 {
        self.counts.wrong() + self.wrongly_dropped
    }

    /// Effective blocked time, in ms: how long the gateway would have stood still to lose as many packets.
    #[expect(clippy::cast_precision_loss, reason = "a time for people")]
    pub(crate) fn blocked_ms(&self) -> f64 {
        let arriving = self.counts.must_arrive as f64 / self.seconds.max(1e-9);
        1e3 * self.lost() as f64 / arriving.max(1e-9)
    }

    /// Whether others had one of its cores for too long.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.worker_core_lost > CORE_LOST_MAX || (self.done.is_none() && self.tester_core_lost > CORE_LOST_MAX)
    }
}

impl Searched {
    /// The bounds of all rounds, and whether one of them was the tester's limit, and no other's.
    pub(crate) fn summary(&self, bounds: fn(&Found) -> Bounds) -> (Summary, bool) {
        let all = || self.rounds.iter().map(bounds);
        let lower = Summary::of(all().map(|bounds| bounds.lower.into()));
        let most = all().map(|bounds| f64::from(bounds.upper.unwrap_or(bounds.lower))).fold(0.0, f64::max);
        let limited = !self.forwarder.is_kernel() && all().any(|bounds| bounds.upper.is_none());
        (Summary { max: most, ..lower }, limited)
    }
}

impl Point {
    /// Of rounds, and of all their latencies.
    pub(crate) fn new(
        name: String,
        forwarder: Kind,
        disturbed: bool,
        rounds: Vec<TrialReport>,
        latency: &Histogram<u64>,
    ) -> Point {
        let curve = latency.iter_quantiles(5).map(|step| (step.quantile_iterated_to(), step.value_iterated_to()));
        Point { name, forwarder, disturbed, rounds, curve: curve.collect() }
    }

    /// For people, who may see several forwarders.
    pub(crate) fn label(&self) -> String {
        match self.forwarder {
            Kind::Tidegate => self.name.clone(),
            other => format!("{}, {}", self.name, other.name()),
        }
    }

    /// A figure of each round.
    pub(crate) fn summary(&self, figure: impl Fn(&TrialReport) -> f64) -> Summary {
        Summary::of(self.rounds.iter().map(figure))
    }

    /// A count of all rounds together.
    pub(crate) fn sum(&self, count: impl Fn(&TrialReport) -> u64) -> u64 {
        self.rounds.iter().map(count).sum()
    }
}

impl RunReport {
    /// What must not be, in words; nothing if all is well. Loss is none: how much of it there is depends on the rate.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for point in self.points.iter().filter(|point| point.forwarder == Kind::Tidegate) {
            for (kind, count) in point.rounds.iter().flat_map(|round| round.counts.faults()) {
                if kind != FaultKind::Lost && kind != FaultKind::Foreign {
                    failures.push(format!("{}: {count} packets: {}", point.name, kind.name()));
                }
            }
            let wrongly = point.sum(|round| round.wrongly_dropped);
            if wrongly > 0 {
                failures.push(format!("{}: filters dropped {wrongly} packets that had to pass", point.name));
            }
            if point.rounds.iter().flat_map(|round| &round.inside).any(|inside| inside.imbalance != 0) {
                let what = "packets received are not those forwarded, passed, dropped and consumed";
                failures.push(format!("{}: {what}", point.name));
            }
            if point.sum(|round| round.counts.must_arrive) > 0 && point.sum(|round| round.counts.arrived) == 0 {
                failures.push(format!("{}: no packet came", point.name));
            }
        }
        let searches = self.search.iter().filter(|search| search.forwarder == Kind::Tidegate);
        let wrong: u64 = searches.flat_map(|search| &search.rounds).map(|found| found.wrong).sum();
        if wrong > 0 {
            failures.push(format!("search: {wrong} packets were treated as they must not be"));
        }
        failures.extend(self.unclean.clone());
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::compare::tests::report;

    type Edit = fn(&mut TrialReport);

    #[test]
    fn what_must_not_be_is_a_failure_of_its_own_and_loss_is_none() {
        let failures = |change: Edit| {
            let mut report = report(&[1000], 0, None);
            change(&mut report.points[0].rounds[0]);
            report.failures()
        };
        assert_eq!(failures(|round| round.counts.lost = 9), Vec::<String>::new());
        let cases: [(Edit, &str); 5] = [
            (|round| round.counts.wrong_verdict = 1, "1000/s: 1 packets: wrong verdict"),
            (|round| round.counts.duplicated = 2, "1000/s: 2 packets: duplicated"),
            (|round| round.wrongly_dropped = 3, "1000/s: filters dropped 3 packets that had to pass"),
            (
                |round| round.inside = Some(Inside { imbalance: -1, ..Inside::default() }),
                "1000/s: packets received are",
            ),
            (|round| round.counts.arrived = 0, "1000/s: no packet came"),
        ];
        for (change, words) in cases {
            let failures = failures(change);
            assert!(matches!(&*failures, [failure] if failure.starts_with(words)), "{failures:?}");
        }
        let unclean = RunReport { unclean: vec!["frames".into()], ..report(&[1000], 0, None) };
        assert_eq!(unclean.failures(), ["frames"]);
    }

    #[test]
    fn blocked_time_is_what_it_takes_to_lose_as_many_and_what_the_tester_missed_is_no_loss() {
        let mut round = report(&[1000], 100, None).points[0].rounds[0].clone();
        assert!((round.blocked_ms() - 100.0).abs() < 1e-9, "100 of 1000 packets a second: {}", round.blocked_ms());
        round.missed = 60;
        assert_eq!((round.lost(), round.loss_ratio()), (40, 0.04));
    }
}
