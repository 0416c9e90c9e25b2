//! `tidegate-bench run`: a scenario through a gateway, packet by packet accounted for.

mod bench; // every forwarder in its turn
pub(crate) mod compare; // `compare`: what changed between two reports
mod forwarder; // the gateway, and what it is compared with
mod hgrm; // histograms for other tools
mod page; // the report as a page
pub(crate) mod report; // what was found
mod rig; // a gateway between the ends of the tester
mod search; // how much goes without loss
pub(crate) mod summary; // `summary`: several reports in one table
mod table; // the report for people
mod trouble; // what goes on meanwhile

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use self::bench::Bench;
use self::forwarder::Kind;
use self::report::RunReport;
use self::rig::Setup;
use self::search::{Plan, rate};
use crate::Idle;
use crate::report::Machine;
use crate::scenario::{Rate, SHIPPED, Scenario};
use crate::topology::Placement;
use crate::usage::Usage;

/// Shares of what goes without loss at which latency is measured, in percent.
const SHARES: [u32; 3] = [10, 50, 90];
/// What a search tries first, in packets a second: more than one core makes.
const MOST: u32 = 3_000_000;

/// One second a trial, 21 votes, 0.5 %: the goals of the field.
const THOROUGH: Plan =
    Plan { trial: Duration::from_secs(1), votes: 21, width: 0.005, budget: Duration::from_secs(600), most: MOST };
const QUICK: Plan =
    Plan { trial: Duration::from_millis(250), votes: 3, width: 0.02, budget: Duration::from_secs(25), most: MOST };
/// Rounds at most, and seconds of each, of a quick run.
const QUICK_ROUNDS: u32 = 3;
const QUICK_SECONDS: f64 = 1.0;

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// A scenario that is compiled in, or a file; `tidegate-bench scenarios` lists and shows them.
    #[arg(value_name = "NAME|FILE.toml")]
    scenario: String,
    /// Packets a second, instead of what the scenario says.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    rate: Option<u32>,
    /// Looks for the highest rate without loss and with a loss of 0.5 % at most, and measures latency at 10, 50 and 90 % of the
    /// former.
    #[arg(long, conflicts_with = "rate")]
    search: bool,
    /// Ends within a minute, and takes about as long again for each peer: shorter trials, fewer of them, wider bounds.
    #[arg(long)]
    quick: bool,
    /// How long a trial is at each rate, instead of what the scenario says.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// How often each rate takes its turn, instead of what the scenario says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Chooses addresses, filters and the order of flows.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// What the worker does when no packet waits.
    #[arg(long, value_enum, default_value_t)]
    idle: Idle,
    #[command(flatten)]
    placement: Placement,
    /// What the gateway is compared with, in turns; what is not to be had here, or cannot do what the scenario asks for, is skipped.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,...")]
    peers: Vec<Kind>,
    /// Folder of the rule sets of ClassBench.
    #[arg(long, default_value = "../shared/data/classbench", value_name = "FOLDER")]
    data: PathBuf,
    /// Writes the result as JSON: all that is needed to repeat it, and to compare it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the latency at each rate as a file of HdrHistogram's format, `.hgrm`, to this folder.
    #[arg(long, value_name = "FOLDER")]
    hgrm: Option<PathBuf>,
    /// Writes the result as a page with pictures, which needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// `tidegate-bench scenarios`
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ListOptions {
    /// Shows the text of one, to copy and change.
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Lists the scenarios that are compiled in, or shows one.
///
/// # Errors
/// If there is none of that name.
pub(crate) fn list(options: &ListOptions) -> Result<bool> {
    match &options.name {
        Some(name) => print!("{}", Scenario::load(name)?.text),
        None => {
            for (name, _) in SHIPPED {
                println!("{name:<14} {}", Scenario::load(name)?.about);
            }
        }
    }
    Ok(true)
}

/// Measures and prints. `false` if a packet was treated as it must not be, or the gateway was not well.
///
/// # Errors
/// [`Usage`] if the scenario is wrong; otherwise if something does not start or stop.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let scenario = options.scenario()?;
    let setup = Setup { placement: options.placement, idle: options.idle, data: &options.data, seed: options.seed };
    eprintln!("{}: {}", scenario.name, scenario.about);
    let mut bench = Bench::new(&scenario, setup, &options.peers);
    let (search, rates) = match options.rate(&scenario) {
        Rate::Fixed(rate) => (Vec::new(), vec![(rate, format!("{rate}/s"))]),
        Rate::Search => {
            let search = bench.search(if options.quick { QUICK } else { THOROUGH })?;
            let ndr = search.first().map_or(0.0, |search| search.summary(|found| found.ndr).0.median);
            let share = |percent: u32| (rate(ndr * f64::from(percent) / 100.0), format!("{percent} % of NDR"));
            (search, SHARES.map(share).into())
        }
    };
    let points = bench.measure(&rates, options.span(&scenario), options.hgrm.as_deref())?;
    let Bench { mode, flows, skipped, unclean, .. } = bench;
    let report = RunReport {
        machine: Machine::this(),
        scenario: scenario.name,
        text: scenario.text,
        command_line: std::env::args().skip(1).collect(),
        seed: options.seed,
        mode,
        idle: options.idle.name().to_owned(),
        placement: options.placement.to_string(),
        flows,
        search,
        points,
        skipped,
        unclean,
    };
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n").with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &options.html {
        fs::write(path, page::page(&report)).with_context(|| path.display().to_string())?;
    }
    print!("{report}");
    Ok(report.failures().is_empty())
}

impl Options {
    /// The scenario, with what the command line says otherwise.
    fn scenario(&self) -> Result<Scenario, Usage> {
        if self.seconds.is_some_and(|seconds| !(seconds > 0.0 && seconds <= 3600.0)) {
            return Err(Usage("--seconds: more than 0 and at most 3600".into()));
        }
        let scenario = Scenario::load(&self.scenario)?;
        let quick = if self.quick { scenario.rounds.min(QUICK_ROUNDS) } else { scenario.rounds };
        Ok(Scenario { rounds: self.rounds.unwrap_or(quick), ..scenario })
    }

    fn rate(&self, scenario: &Scenario) -> Rate {
        match (self.rate, self.search) {
            (Some(rate), _) => Rate::Fixed(rate),
            (None, true) => Rate::Search,
            (None, false) => scenario.rate,
        }
    }

    /// How long a trial is at each rate.
    fn span(&self, scenario: &Scenario) -> Duration {
        let quick = if self.quick { f64::from(scenario.seconds).min(QUICK_SECONDS) } else { scenario.seconds.into() };
        Duration::from_secs_f64(self.seconds.unwrap_or(quick))
    }
}

#[cfg(test)]
mod tests;
