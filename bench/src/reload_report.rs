//! What `reload` found: a table for people, JSON for programs, and whether the targets are met.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::half_load::{LoadRound, ReloadLoss};
use crate::reload::{BurstTimes, Case};
use crate::report::{CORE_LOST_MAX, Machine, NO_LATENCY};

/// Most that the slowest bursts may be slower during reloads.
const RATIO_MAX: f64 = 1.1;

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReloadReport {
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Files that were reloaded.
    pub(crate) cases: Vec<Case>,
    /// Bursts in memory.
    pub(crate) bursts: BurstTimes,
    /// Traffic at half load.
    pub(crate) lost: Option<ReloadLoss>,
    /// Why there was none.
    pub(crate) no_traffic: Option<String>,
    /// Why `nft -f` was not measured.
    pub(crate) no_nft: Option<String>,
}

impl ReloadReport {
    /// Whether every target is met, of those that could be measured.
    pub(crate) fn met(&self) -> bool {
        let fast = |case: &Case| case.target_ms.is_none_or(|most| case.reload_ms.median <= most);
        let even = self.bursts.ratio.is_none_or(|ratio| ratio.median <= RATIO_MAX);
        let whole =
            self.lost.as_ref().is_none_or(|lost| lost.during.iter().filter(|round| !disturbed(round)).all(whole));
        self.cases.iter().all(fast) && even && whole
    }
}

/// Others had the worker's core for too long to say anything.
fn disturbed(round: &LoadRound) -> bool {
    round.core_lost > CORE_LOST_MAX
}

fn whole(round: &LoadRound) -> bool {
    round.lost() == 0.0
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

impl Display for ReloadReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, kernel, tidegate, build } = &self.machine;
        writeln!(f, "tidegate {tidegate} ({build}), {cores} cores of {cpu}, Linux {kernel}\n")?;
        for case in &self.cases {
            let Case { shape, filters, percent, target_ms, parse_ms, prepare_ms, commit_ms, reload_ms, cpu_ms, nft_ms } =
                case;
            write!(
                f,
                "{filters} filters ({shape:?}), {percent} % changed: diff and commit {:.1} ms ({:.1} to {:.1}; prepare {:.1}, commit {:.1}; \
                 {:.1} ms of processors); parsing {:.0} ms",
                reload_ms.median,
                reload_ms.min,
                reload_ms.max,
                prepare_ms.median,
                commit_ms.median,
                cpu_ms.median,
                parse_ms.median
            )?;
            if let Some(most) = target_ms {
                write!(f, "; target {most:.0} ms: {}", verdict(reload_ms.median <= *most))?;
            }
            match nft_ms {
                Some(nft) => writeln!(f, "; nft -f {:.0} ms ({:.0} to {:.0})", nft.median, nft.min, nft.max)?,
                None => writeln!(f, "; nft -f not measured")?,
            }
        }
        let BurstTimes { without, during, ratio, disturbed: left_out, reloads } = &self.bursts;
        write!(
            f,
            "bursts in memory, p99.9: {:.0} ns without reloads, {:.0} ns during {reloads}; {left_out} rounds disturbed; ",
            without.median, during.median
        )?;
        match ratio {
            Some(ratio) => writeln!(
                f,
                "ratio {:.2} ({:.2} to {:.2}); target {RATIO_MAX}: {}",
                ratio.median,
                ratio.min,
                ratio.max,
                verdict(ratio.median <= RATIO_MAX)
            )?,
            None => writeln!(f, "no ratio: others had the worker's core in every round")?,
        }
        match (&self.lost, &self.no_traffic) {
            (Some(lost), _) => {
                writeln!(f, "half load, {:.0} packets/s:", lost.pps)?;
                for (name, rounds) in [("without reloads", &lost.without), ("with reloads", &lost.during)] {
                    for round in rounds {
                        let LoadRound { sent, lost_before, lost_inside, lost_after, operations, .. } = round;
                        let disturbed = if disturbed(round) { "  disturbed" } else { "" };
                        writeln!(
                            f,
                            "  {name:<16} {operations:>6.1}/s  sent {sent}, lost {lost_before} before, {lost_inside} inside, {lost_after} after{disturbed}"
                        )?;
                    }
                }
            }
            (None, why) => writeln!(f, "no traffic: {}", why.as_deref().unwrap_or_default())?,
        }
        writeln!(f, "{NO_LATENCY}")?;
        match &self.no_nft {
            Some(why) => writeln!(f, "no nft to compare with: {why}"),
            None => writeln!(
                f,
                "nft -f replaces all rules of a chain, or deletes and adds elements of a set; reading its file is part of it"
            ),
        }
    }
}
