//! `tidegate-bench run`: a scenario through a gateway, packet by packet accounted for.

pub(crate) mod compare; // `compare`: what changed between two reports
mod hgrm; // histograms for other tools
mod page; // the report as a page
pub(crate) mod report; // what was found
mod rig; // a gateway between the ends of the tester
mod search; // how much goes without loss
mod table; // the report for people
mod trouble; // what goes on meanwhile

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use self::report::{Point, RunReport, Searched, TrialReport};
use self::rig::{Rig, Setup};
use self::search::{Outcome, Plan, Search};
use crate::Idle;
use crate::report::Machine;
use crate::scenario::{Rate, SHIPPED, Scenario};
use crate::tester::accounts::histogram;
use crate::topology::Placement;
use crate::usage::Usage;

/// Loss that is allowed for the second figure of a search.
const PDR_LOSS: f64 = 0.005;
/// Shares of what goes without loss at which latency is measured, in percent.
const SHARES: [u32; 3] = [10, 50, 90];
/// Traffic before anything counts: rate and time, and how often until nothing is lost. The ports' links went down and up when the
/// tester came.
const WARM_UP: (u32, Duration) = (10_000, Duration::from_millis(200));
const WARM_UPS: usize = 10;
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
    /// Ends within a minute: shorter trials, fewer of them, wider bounds.
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
    let mut rig = Rig::start(&scenario, &setup)?;
    let (mode, flows) = (rig.mode()?, rig.flows());
    for _ in 0..WARM_UPS {
        if rig.trial(WARM_UP.0, WARM_UP.1, false)?.0.counts.lost == 0 {
            break;
        }
    }
    let (search, wanted) = match options.rate(&scenario) {
        Rate::Fixed(rate) => (None, vec![(rate, format!("{rate}/s"))]),
        Rate::Search => {
            let searched = search(&mut rig, if options.quick { QUICK } else { THOROUGH })?;
            let share = |percent: u32| u32::try_from(u64::from(searched.ndr.lower) * u64::from(percent) / 100);
            let wanted = SHARES.map(|percent| anyhow::Ok((share(percent)?.max(1), format!("{percent} % of NDR"))));
            (Some(searched), wanted.into_iter().collect::<Result<_>>()?)
        }
    };
    let points = measure(&mut rig, &scenario, &wanted, options)?;
    let unclean = rig.stop().err().map(|error| format!("{error:#}"));
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

/// Looks for what goes without loss, and with little.
fn search(rig: &mut Rig, plan: Plan) -> Result<Searched> {
    let mut wrong = 0;
    let mut search = Search::begin(plan, |rate, span| {
        let clock = Instant::now();
        let (trial, _) = rig.trial(rate, span, false)?;
        wrong += trial.wrong();
        let limit = (trial.unsent > 0).then_some(trial.offered);
        let outcome = Outcome { loss_ratio: trial.loss_ratio(), limit, took: clock.elapsed() };
        eprintln!("search   {}", table::progress(&trial));
        Ok(outcome)
    })?;
    let (ndr, pdr) = (search.find(0.0)?, search.find(PDR_LOSS)?);
    let (trials, took) = search.effort();
    drop(search);
    Ok(Searched { ndr, pdr, trials, seconds: took.as_secs_f64(), wrong })
}

/// Each rate in turn, without the scenario's disturbance and with it, round by round.
fn measure(rig: &mut Rig, scenario: &Scenario, rates: &[(u32, String)], options: &Options) -> Result<Vec<Point>> {
    let span = options.span(scenario);
    let beside: &[bool] = if scenario.disturbance.is_some() { &[false, true] } else { &[false] };
    let what = scenario.disturbance.map_or("", |disturbance| disturbance.name());
    let mut lanes = Vec::new();
    for (rate, name) in rates {
        for &disturbed in beside {
            let name = if disturbed { format!("{name}, {what}") } else { name.clone() };
            lanes.push(Lane { rate: *rate, name, disturbed, rounds: Vec::new(), latency: histogram()? });
        }
    }
    for round in 1..=scenario.rounds {
        for Lane { rate, name, disturbed, rounds, latency } in &mut lanes {
            let (trial, of_round) = rig.trial(*rate, span, *disturbed)?;
            eprintln!("round {round}/{}  {name:<28} {}", scenario.rounds, table::progress(&trial));
            latency.add(&of_round)?;
            rounds.push(trial);
        }
    }
    if let Some(folder) = &options.hgrm {
        lanes.iter().try_for_each(|lane| hgrm::write(folder, &lane.name, &lane.latency))?;
    }
    let point = |Lane { name, disturbed, rounds, latency, .. }| Point::new(name, disturbed, rounds, &latency);
    Ok(lanes.into_iter().map(point).collect())
}

/// A point on the way.
struct Lane {
    rate: u32,
    name: String,
    disturbed: bool,
    rounds: Vec<TrialReport>,
    /// Of all rounds together.
    latency: Histogram<u64>,
}

#[cfg(test)]
mod tests;
