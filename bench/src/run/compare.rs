//! `tidegate-bench compare`: what changed between two reports, beyond the noise.
//!
//! A figure has one value a round. It has changed if the values of the two reports do not even overlap, and the medians differ by
//! more than a machine with other users differs from itself.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::forwarder::Kind;
use super::report::{Found, Latency, Point, RunReport, Searched, TrialReport};
use super::search::Bounds;
use super::table::time_f;
use crate::figure::short;
use crate::report::Summary;
use crate::usage::Usage;

/// Rounds from which their spread says something.
const ROUNDS_ENOUGH: usize = 3;
/// What medians may differ by, as a share of the first one, where there are enough rounds,
const FLOOR: f64 = 0.05;
/// and where there are not.
const FLOOR_OF_FEW: f64 = 0.15;

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// A report that `run --json` wrote.
    #[arg(value_name = "BEFORE.json")]
    before: PathBuf,
    /// Another one, of the same scenario.
    #[arg(value_name = "AFTER.json")]
    after: PathBuf,
}

/// Compares and prints. `false` if something changed for the worse.
///
/// # Errors
/// [`Usage`] if a report cannot be read, or they are not of the same scenario.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let (before, after) = (read(&options.before)?, read(&options.after)?);
    let changes = Changes::between(&before, &after)?;
    print!("{changes}");
    Ok(!changes.worse())
}

/// The report in a file.
///
/// # Errors
/// [`Usage`] if there is none.
pub(super) fn read(path: &Path) -> Result<RunReport, Usage> {
    let refused = |error: &dyn Display| Usage(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| refused(&format!("cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| {
        // serde names line and column at the end; people look for them in front.
        let (line, column) = (error.line(), error.column());
        let problem = error.to_string();
        let problem = problem.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&problem);
        Usage(format!(
            "{}:{line}:{column}: {problem}; `tidegate-bench run --json` writes what is wanted",
            path.display()
        ))
    })
}

/// Every figure that both reports have.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    rows: Vec<Row>,
    /// What else is different.
    notes: Vec<String>,
}

#[derive(Clone, Debug)]
struct Row {
    name: String,
    before: Summary,
    after: Summary,
    change: Change,
    show: fn(f64) -> String,
}

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Same,
    Better,
    Worse,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Good {
    More,
    Less,
}

impl Changes {
    /// # Errors
    /// If the reports are not of the same scenario.
    fn between(before: &RunReport, after: &RunReport) -> Result<Changes, Usage> {
        if (&before.text, before.seed) != (&after.text, after.seed) {
            return Err(Usage(format!(
                "not comparable: {} with seed {}, and {} with seed {}{}",
                before.scenario,
                before.seed,
                after.scenario,
                after.seed,
                if before.text == after.text { "" } else { "; their texts differ" }
            )));
        }
        let mut changes = Changes { rows: Vec::new(), notes: Vec::new() };
        // The gateway's: peers are there to say how the machine was.
        let searched = |report: &RunReport| report.search.first().filter(|it| it.forwarder == Kind::Tidegate).cloned();
        if let (Some(before), Some(after)) = (searched(before), searched(after)) {
            changes.bounds("no loss (NDR)", &before, &after, |found| found.ndr);
            changes.bounds("0.5 % loss (PDR)", &before, &after, |found| found.pdr);
        }
        let [before_points, after_points] = [before, after]
            .map(|report| report.points.iter().filter(|point| point.forwarder == Kind::Tidegate).collect::<Vec<_>>());
        for point in &before_points {
            match after_points.iter().find(|other| other.name == point.name) {
                Some(other) => changes.point(point, other),
                None => changes.notes.push(format!("only before: {}", point.name)),
            }
        }
        let only_after = after_points.iter().filter(|point| before_points.iter().all(|other| other.name != point.name));
        changes.notes.extend(only_after.map(|point| format!("only after: {}", point.name)));
        for (what, before, after) in [
            ("machine", format!("{:?}", before.machine), format!("{:?}", after.machine)),
            ("mode", before.mode.clone(), after.mode.clone()),
            ("idle", before.idle.clone(), after.idle.clone()),
            ("placement", before.placement.clone(), after.placement.clone()),
        ] {
            if before != after {
                changes.notes.push(format!("{what} was {before}, is {after}"));
            }
        }
        Ok(changes)
    }

    fn worse(&self) -> bool {
        self.rows.iter().any(|row| row.change == Change::Worse)
    }

    fn bounds(&mut self, name: &str, before: &Searched, after: &Searched, bounds: fn(&Found) -> Bounds) {
        let (before, after) = (before.summary(bounds).0, after.summary(bounds).0);
        self.add(name.to_owned(), before, after, FLOOR, Good::More, short);
    }

    #[expect(clippy::cast_precision_loss, reason = "ns for people")]
    fn point(&mut self, before: &Point, after: &Point) {
        let few = before.rounds.len().min(after.rounds.len()) < ROUNDS_ENOUGH;
        let floor = if few { FLOOR_OF_FEW } else { FLOOR };
        let mut add = |what: &str, figure: &dyn Fn(&TrialReport) -> f64, show| {
            let name = format!("{}: {what}", before.name);
            self.add(name, before.summary(figure), after.summary(figure), floor, Good::Less, show);
        };
        for (name, quantile) in Latency::SHOWN.into_iter().filter(|(name, _)| *name != "max") {
            add(name, &|round| quantile(&round.latency) as f64, time_f);
        }
        add("share lost", &TrialReport::loss_ratio, short);
        add("treated wrongly", &|round| round.wrong() as f64, short);
        if before.disturbed {
            add("blocked ms", &TrialReport::blocked_ms, short);
        }
    }

    fn add(&mut self, name: String, before: Summary, after: Summary, floor: f64, good: Good, show: fn(f64) -> String) {
        let apart = before.max < after.min || after.max < before.min;
        let by = (after.median - before.median).abs();
        let change = match (apart && by > floor * before.median, (after.median > before.median) == (good == Good::More))
        {
            (false, _) => Change::Same,
            (true, true) => Change::Better,
            (true, false) => Change::Worse,
        };
        self.rows.push(Row { name, before, after, change, show });
    }
}

impl Display for Changes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44}{:>36}{:>36}{:>9}", "FIGURE", "BEFORE: MEDIAN (MIN - MAX)", "AFTER", "CHANGE")?;
        for Row { name, before, after, change, show } in &self.rows {
            let shown = |of: &Summary| format!("{} ({} - {})", show(of.median), show(of.min), show(of.max));
            let percent = match 100.0 * (after.median / before.median - 1.0) {
                percent if percent.is_finite() => format!("{percent:+.1} %"),
                _ => "-".to_owned(),
            };
            let change = match change {
                Change::Same => "same",
                Change::Better => "better",
                Change::Worse => "WORSE",
            };
            writeln!(f, "{name:<44}{:>36}{:>36}{percent:>9}  {change}", shown(before), shown(after))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "NOTE {note}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::Machine;
    use crate::tester::accounts::Counts;

    /// One of so many rounds with these medians.
    pub(in crate::run) fn report(p50: &[u64], lost: u64, ndr: Option<(u32, u32)>) -> RunReport {
        let round = |&p50: &u64| TrialReport {
            seconds: 1.0,
            counts: Counts { sent: 1000, must_arrive: 1000, arrived: 1000 - lost, lost, ..Counts::default() },
            latency: Latency { p50, p90: 5000, p99: 5000, p999: 5000, p9999: 5000, ..Latency::default() },
            ..TrialReport::default()
        };
        let bounds = |(lower, upper)| Bounds { lower, upper: Some(upper), hurried: false };
        RunReport {
            machine: Machine::this(),
            scenario: "mine".into(),
            text: "about = \"mine\"".into(),
            command_line: Vec::new(),
            seed: 1,
            mode: "native".into(),
            idle: "busy".into(),
            placement: String::new(),
            flows: 1,
            search: ndr
                .map(|ndr| Found { ndr: bounds(ndr), pdr: bounds(ndr), ..Found::default() })
                .map(|found| Searched { forwarder: Kind::Tidegate, rounds: vec![found] })
                .into_iter()
                .collect(),
            points: vec![Point {
                name: "1000/s".into(),
                forwarder: Kind::Tidegate,
                disturbed: false,
                rounds: p50.iter().map(round).collect(),
                curve: Vec::new(),
            }],
            skipped: Vec::new(),
            unclean: Vec::new(),
        }
    }

    /// What became of a figure.
    fn change(name: &str, before: &RunReport, after: &RunReport) -> Change {
        let changes = Changes::between(before, after).unwrap();
        let change = changes.rows.iter().find(|row| row.name.ends_with(name)).unwrap().change;
        let others = changes.rows.iter().filter(|row| !row.name.ends_with(name) && row.change != Change::Same);
        assert!(others.into_iter().all(|row| name == "(NDR)" && row.name.ends_with("(PDR)")), "{changes}");
        assert_eq!(changes.worse(), change == Change::Worse);
        change
    }

    #[test]
    fn what_overlaps_is_the_same_and_what_does_not_has_changed() {
        let report = |p50: &[u64]| report(p50, 0, None);
        let before = report(&[1000, 1100, 1200]);
        assert_eq!(change("p50", &before, &before), Change::Same);
        assert_eq!(change("p50", &before, &report(&[1190, 1900, 2000])), Change::Same);
        assert_eq!(change("p50", &before, &report(&[1210, 1900, 2000])), Change::Worse);
        assert_eq!(change("p50", &before, &report(&[700, 800, 900])), Change::Better);
        // Apart, but by too little.
        assert_eq!(change("p50", &report(&[1000, 1001, 1002]), &report(&[1010, 1011, 1012])), Change::Same);
        // One round has no spread.
        assert_eq!(change("p50", &report(&[1000]), &report(&[1140])), Change::Same);
        assert_eq!(change("p50", &report(&[1000]), &report(&[1160])), Change::Worse);
    }

    #[test]
    fn loss_where_there_was_none_is_worse_and_less_throughput_is() {
        let times = [1000; 3];
        let lost = |lost| report(&times, lost, None);
        assert_eq!(change("share lost", &lost(0), &lost(1)), Change::Worse);
        assert_eq!(change("share lost", &lost(1), &lost(0)), Change::Better);
        let ndr = |lower, upper| report(&times, 0, Some((lower, upper)));
        assert_eq!(change("(NDR)", &ndr(500_000, 510_000), &ndr(490_000, 500_001)), Change::Same);
        assert_eq!(change("(NDR)", &ndr(500_000, 510_000), &ndr(440_000, 450_000)), Change::Worse);
        assert_eq!(change("(NDR)", &ndr(500_000, 510_000), &ndr(600_000, 610_000)), Change::Better);
    }

    #[test]
    fn what_is_not_the_same_scenario_is_not_compared() {
        let before = report(&[1], 0, None);
        let error = |after: RunReport| Changes::between(&before, &after).unwrap_err().to_string();
        assert_eq!(
            error(RunReport { seed: 2, ..before.clone() }),
            "not comparable: mine with seed 1, and mine with seed 2"
        );
        let other = RunReport { text: String::new(), scenario: "other".into(), ..before.clone() };
        assert_eq!(error(other), "not comparable: mine with seed 1, and other with seed 1; their texts differ");
        let elsewhere = RunReport { mode: "zero-copy".into(), points: Vec::new(), ..before.clone() };
        let changes = Changes::between(&before, &elsewhere).unwrap().to_string();
        assert!(changes.contains("NOTE only before: 1000/s\nNOTE mode was native, is zero-copy\n"), "{changes}");
    }

    #[test]
    fn a_report_is_read_as_it_was_written_and_what_is_none_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let written = report(&[1, 2, 3], 1, Some((1, 2)));
        fs::write(&path, serde_json::to_string_pretty(&written).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), written);
        fs::write(&path, "{\n  \"machine\": 1\n}").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}:2:14: ", path.display())) && error.contains("; `tidegate-bench run"),
            "{error}"
        );
        let error = read(&folder.path().join("b.json")).unwrap_err().to_string();
        assert!(error.contains("b.json: cannot be read: "), "{error}");
    }
}
