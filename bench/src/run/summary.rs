//! `tidegate-bench summary`: several reports in one table.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use anyhow::Result;

use super::compare::read;
use super::report::{Latency, Point, RunReport};
use super::table::time_f;

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Reports that `run --json` wrote.
    #[arg(value_name = "FILE.json", required = true)]
    reports: Vec<PathBuf>,
}

/// Prints. `false` if one of the runs failed.
///
/// # Errors
/// [`Usage`](crate::usage::Usage) if a report cannot be read.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let reports = options.reports.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    print!("{}", Summary(&reports));
    Ok(reports.iter().all(|report| report.failures().is_empty()))
}

/// A line for each thing that was measured.
struct Summary<'a>(&'a [RunReport]);

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<14}{:<44}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}",
            "SCENARIO", "WHAT", "PACKETS/S", "MIN", "MAX", "P50", "P99.9", "LOST"
        )?;
        for report in self.0 {
            let scenario = &report.scenario;
            for search in &report.search {
                for (what, (rate, limited)) in
                    [("no loss", search.summary(|found| found.ndr)), ("0.5 % loss", search.summary(|found| found.pdr))]
                {
                    let more = if limited { ", or more" } else { "" };
                    let what = format!("{what}, {}{more}", search.forwarder.name());
                    writeln!(f, "{scenario:<14}{what:<44}{:>10.0}{:>10.0}{:>10.0}", rate.median, rate.min, rate.max)?;
                }
            }
            report.points.iter().try_for_each(|point| line(f, scenario, point))?;
            report.skipped.iter().try_for_each(|skipped| writeln!(f, "{scenario:<14}skipped {skipped}"))?;
            report.failures().iter().try_for_each(|failure| writeln!(f, "{scenario:<14}FAILED {failure}"))?;
        }
        Ok(())
    }
}

fn line(f: &mut Formatter<'_>, scenario: &str, point: &Point) -> fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "ns for people")]
    let time = |quantile: fn(&Latency) -> u64| time_f(point.summary(|round| quantile(&round.latency) as f64).median);
    let rate = point.summary(|round| round.offered);
    writeln!(
        f,
        "{scenario:<14}{:<44}{:>10.0}{:>10.0}{:>10.0}{:>10}{:>10}{:>8.3}%",
        point.label(),
        rate.median,
        rate.min,
        rate.max,
        time(|latency| latency.p50),
        time(|latency| latency.p999),
        100.0 * point.summary(|round| round.loss_ratio()).median
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::compare::tests::report;

    #[test]
    fn every_figure_has_a_line() {
        let reports = [report(&[1000, 2000, 3000], 5, Some((500_000, 510_000))), report(&[7], 0, None)];
        let table = Summary(&reports).to_string();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["mine", "no", "loss,", "tidegate", "500000", "500000", "510000"]);
        assert_eq!(lines[3][..2], ["mine", "1000/s"]);
        assert_eq!(lines[3][5..], ["2.0", "us", "5.0", "us", "0.500%"]);
        assert_eq!(lines.len(), 1 + 3 + 1, "{table}");
    }
}
