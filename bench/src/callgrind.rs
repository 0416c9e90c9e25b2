//! `tidegate-bench callgrind`: instructions that a packet costs in the worker, which may not grow unseen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::lookups::BURST;
use crate::worker::Scenario;

/// The function in which instructions count.
const COUNTED: &str = "*worker::run_burst*";

/// Bursts of each scenario.
const BURSTS: u32 = 32;

/// What a figure may be more or less than the recorded one, as a share of it.
const TOLERANCE: f64 = 0.03;

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The file of the figures to compare with.
    #[arg(long, default_value = "bench/record/instructions.json", value_name = "FILE")]
    record: PathBuf,
    /// Writes the file instead.
    #[arg(long)]
    write: bool,
}

/// Instructions a packet, by scenario.
type Figures = BTreeMap<String, f64>;

/// Counts and prints. `false` if a figure is not the recorded one any more.
///
/// # Errors
/// If there is no valgrind, or no record.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut found = Figures::new();
    for scenario in Scenario::ALL {
        eprintln!("{scenario}: {BURSTS} bursts of {BURST} packets");
        found.insert(scenario.to_string(), count(scenario)?);
    }
    let path = &options.record;
    if options.write {
        fs::write(path, format!("{}\n", serde_json::to_string_pretty(&found)?))
            .with_context(|| path.display().to_string())?;
    }
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let recorded: Figures = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    println!("{:<16}{:>24}{:>12}", "SCENARIO", "INSTRUCTIONS A PACKET", "RECORDED");
    for (scenario, found) in &found {
        let recorded = recorded.get(scenario).map_or("none".into(), |recorded| format!("{recorded:.1}"));
        println!("{scenario:<16}{found:>24.1}{recorded:>12}");
    }
    let failures = failures(&found, &recorded);
    failures.iter().for_each(|failure| println!("FAILED {failure}"));
    if !failures.is_empty() {
        println!("If that is meant: ./dev callgrind --write, and commit {} with it.", path.display());
    }
    Ok(failures.is_empty())
}

/// Instructions a packet of `scenario` costs.
fn count(scenario: Scenario) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--toggle-collect={COUNTED}"));
    valgrind.arg(format!("--callgrind-out-file={}", out.display())).arg(std::env::current_exe()?);
    valgrind.args(["worker", "--core", "0", "--scenarios", &scenario.to_string(), "--bursts", &BURSTS.to_string()]);
    let output = valgrind.output().context("valgrind: install it, ./dev callgrind does")?;
    ensure!(output.status.success(), "valgrind: {}", String::from_utf8_lossy(&output.stderr).trim());
    let instructions = total(&out)?;
    ensure!(instructions > 0, "nothing was counted in {COUNTED}: is it still called so?");
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let each = instructions as f64 / (f64::from(BURSTS) * BURST as f64);
    Ok((each * 10.0).round() / 10.0) // hash seeds change what comes behind
}

/// What a file of callgrind says of the whole run.
fn total(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    total.and_then(|total| total.trim().parse().ok()).with_context(|| format!("{}: no totals", path.display()))
}

/// Figures that are not those recorded, in words. Fewer instructions are to be recorded as well: what was won could be lost
/// again unseen.
fn failures(found: &Figures, recorded: &Figures) -> Vec<String> {
    let scenarios = found.keys().chain(recorded.keys().filter(|scenario| !found.contains_key(*scenario)));
    let differ = scenarios.filter_map(|scenario| match (found.get(scenario), recorded.get(scenario)) {
        (Some(found), Some(recorded)) => {
            let growth = found / recorded - 1.0;
            (growth.abs() > TOLERANCE).then(|| format!("{scenario}: {:+.1} %", 100.0 * growth))
        }
        (Some(_), None) => Some(format!("{scenario} is not recorded")),
        (None, _) => Some(format!("{scenario} is recorded, and there is no such scenario")),
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: &[(&str, f64)]) -> Figures {
        of.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
    }

    #[test]
    fn a_figure_may_differ_by_three_percent() {
        let recorded = figures(&[("drop-1", 100.0), ("forward-1", 200.0)]);
        let failures = |drop, forward| failures(&figures(&[("drop-1", drop), ("forward-1", forward)]), &recorded);
        assert_eq!(failures(102.9, 194.1), Vec::<String>::new());
        assert_eq!(failures(103.1, 200.0), ["drop-1: +3.1 %"]);
        assert_eq!(failures(100.0, 193.0), ["forward-1: -3.5 %"]);
    }

    #[test]
    fn scenarios_and_records_belong_together() {
        let failures = failures(&figures(&[("new", 1.0)]), &figures(&[("old", 1.0)]));
        assert_eq!(failures, ["new is not recorded", "old is recorded, and there is no such scenario"]);
    }

    #[test]
    fn the_total_of_a_run_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "version: 1\nevents: Ir\n\nfn=(1) x\n12 7\n\ntotals: 1234\n").unwrap();
        assert_eq!(total(&path).unwrap(), 1234);
        fs::write(&path, "version: 1\n").unwrap();
        assert!(total(&path).unwrap_err().to_string().ends_with("no totals"));
    }
}
