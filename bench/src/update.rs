//! `tidegate-bench update`: how fast filters come and go, beside the kernel's own classifier, and what packets notice.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};
use tidegate_classifiers::block::Block;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::reap::NoWorkers;

use crate::figure::SpeedRound;
use crate::half_load;
use crate::report::{CORE_LOST_MAX, Machine};
use crate::storm::{Blow, Storm, blow};
use crate::tc::Tc;
use crate::topology::Placement;
use crate::update_report::{Memory, Parts, Speed, UpdateReport};

/// Filters to measure memory with, if fewer are to be present.
const MEMORY_FILTERS_MIN: usize = 20_000;

/// What the command line says.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// How often everything takes its turn. Ratios are formed within a round.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a turn is.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    seconds: f64,
    /// Filters in each proto all the time. A storm adds one and deletes the oldest, over and over.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    present: u32,
    /// Workers that every filter and action has counters for.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    #[command(flatten)]
    placement: Placement,
    /// Ends with exit code 1 if a target is missed.
    #[arg(long)]
    check: bool,
    /// The result as JSON on standard output; progress goes to standard error either way.
    #[arg(long)]
    json: bool,
}

/// Measures and prints. `false` if a target is missed and `--check` is given.
///
/// # Errors
/// If a request is refused, or something does not start or stop.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(options.seconds > 0.0 && options.seconds <= 3600.0, "--seconds: more than 0 and at most 3600");
    let (present, span) = (options.present as usize, Duration::from_secs_f64(options.seconds));
    let memory = memory(options)?; // first, while the heap has no holes
    let (speeds, kernel_present, kernel_missing) = speeds(options, present, span)?;
    eprintln!("traffic at half load, {} turns of {} s", 4 * options.rounds, options.seconds);
    let (half_load, no_traffic) = match half_load::measure(&options.placement, present, options.rounds, span) {
        Ok(half_load) => (Some(half_load), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let report = UpdateReport {
        machine: Machine::this(),
        present: options.present,
        seconds: options.seconds,
        cores: cores(&options.placement),
        memory,
        speeds,
        kernel_present,
        kernel_missing,
        half_load,
        no_traffic,
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report.with_figures())?);
    } else {
        print!("{report}");
    }
    Ok(!options.check || report.figures().iter().all(|figure| figure.met != Some(false)))
}

/// Of the first thread and the second.
fn cores(placement: &Placement) -> [u16; 2] {
    [placement.generator, placement.worker]
}

/// A plane whose workers are always at a quiescent point, and a block of it.
fn block(options: &Options) -> Arc<Block> {
    Plane::new(options.workers.into(), NoWorkers).private_block()
}

/// What a filter takes, with counters, handle, its place in the tables, and an action: measured with a second proto, because
/// the first one leaves the allocator memory of tables that it grew out of.
fn memory(options: &Options) -> Result<Memory> {
    let filters = (options.present as usize).max(MEMORY_FILTERS_MIN);
    let block = block(options);
    let mut storms = [1, 2].map(|priority| Storm::new(&block, 0, priority, 0));
    let mut taken = [0; 2];
    for (storm, taken) in storms.iter_mut().zip(&mut taken) {
        let before = resident()?;
        storm.fill(filters)?;
        block.plane().reaper().drain();
        *taken = resident()?.saturating_sub(before).saturating_sub(Storm::BYTES_EACH * filters); // its list is not the engine's
    }
    let [_, taken] = taken;
    #[expect(clippy::cast_precision_loss, reason = "bytes for people")]
    let bytes_each = taken as f64 / filters as f64;
    Ok(Memory { filters, workers: options.workers, bytes_each, parts: Parts::of(options.workers) })
}

/// Bytes of this process in memory.
pub(crate) fn resident() -> Result<usize> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).context("statm")?.parse()?;
    let page = sysconf(SysconfVar::PAGE_SIZE)?.context("no page size")?;
    Ok(pages * usize::try_from(page)?)
}

/// Ours and the kernel's in turn; filters that the kernel has, and why it was not measured, if it was not.
fn speeds(options: &Options, present: usize, span: Duration) -> Result<(Vec<Speed>, u64, Option<String>)> {
    let block = block(options);
    // All are there from the beginning, so that every turn finds the caches and the heap alike.
    let mut alone = Storm::new(&block, 0, 1, 0);
    let mut other_priority = Storm::new(&block, 0, 2, 1);
    let mut other_chain = Storm::new(&block, 1, 1, 2);
    let mut halves = [3, 4].map(|stream| Storm::new(&block, 2, 1, stream));
    let mut bare = [5, 6].map(|stream| Storm::new(&block, stream.into(), 1, stream).without_action());
    for storm in [&mut alone, &mut other_priority, &mut other_chain].into_iter().chain(&mut bare) {
        storm.fill(present)?;
    }
    for storm in &mut halves {
        storm.fill(present / 2)?;
    }
    eprintln!("filling the kernel's tables");
    let (mut tc, missing) = match Tc::new(present) {
        Ok(tc) => (Some(tc), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let kernel_present = tc.as_ref().map_or(0, Tc::present);

    let [first, second] = cores(&options.placement);
    let ([left, right], [bare, other_bare]) = (&mut halves, &mut bare);
    let mut speeds = Speed::ALL.map(Speed::new);
    for number in 1..=options.rounds {
        let [one, chains, priorities, proto, bare_one, bare_two, tc_one, tc_two] = &mut speeds;
        one.rounds.push(round(blow(vec![(&mut alone, first)], span)?));
        chains.rounds.push(round(blow(vec![(&mut alone, first), (&mut other_chain, second)], span)?));
        priorities.rounds.push(round(blow(vec![(&mut alone, first), (&mut other_priority, second)], span)?));
        proto.rounds.push(round(blow(vec![(&mut *left, first), (&mut *right, second)], span)?));
        bare_one.rounds.push(round(blow(vec![(&mut *bare, first)], span)?));
        bare_two.rounds.push(round(blow(vec![(&mut *bare, first), (&mut *other_bare, second)], span)?));
        if let Some(tc) = &mut tc {
            tc_one.rounds.push(round(tc.blow(1, span)?));
            tc_two.rounds.push(round(tc.blow(2, span)?));
        }
        for speed in &speeds {
            let Some(SpeedRound { rate, core_lost }) = speed.rounds.last() else { continue };
            let disturbed = if *core_lost > CORE_LOST_MAX { "  disturbed" } else { "" };
            eprintln!("round {number}/{}  {:<34}{rate:>12.0} operations/s{disturbed}", options.rounds, speed.name);
        }
    }
    Ok((speeds.into(), kernel_present, missing))
}

fn round(blows: Vec<Blow>) -> SpeedRound {
    SpeedRound {
        rate: blows.iter().map(Blow::rate).sum(),
        core_lost: blows.iter().map(|blow| blow.core_lost).fold(0.0, f64::max),
    }
}
