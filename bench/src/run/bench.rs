//! Every forwarder in its turn, round by round: what disturbs the machine disturbs neighbours alike.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::forwarder::Kind;
use super::report::{Found, Point, Searched, TrialReport};
use super::rig::{Rig, Setup};
use super::search::{Outcome, Plan, Search};
use super::{hgrm, table};
use crate::report::CORE_LOST_MAX;
use crate::scenario::Scenario;
use crate::tester::accounts::histogram;

/// Loss that is allowed for the second figure of a search.
const PDR_LOSS: f64 = 0.005;

/// A run under way.
pub(super) struct Bench<'a> {
    scenario: &'a Scenario,
    setup: Setup<'a>,
    /// The gateway, then what it is compared with, as far as that is to be had.
    kinds: Vec<Kind>,
    /// How the gateway's queues are bound.
    pub(super) mode: String,
    /// Flows that are sent.
    pub(super) flows: usize,
    /// What is not compared with, and why.
    pub(super) skipped: Vec<String>,
    /// What was wrong when something stopped.
    pub(super) unclean: Vec<String>,
}

/// A point on the way.
struct Lane {
    name: String,
    kind: Kind,
    rate: u32,
    disturbed: bool,
    rounds: Vec<TrialReport>,
    /// Of all rounds together.
    latency: Histogram<u64>,
}

impl<'a> Bench<'a> {
    /// Of the gateway and its peers.
    pub(super) fn new(scenario: &'a Scenario, setup: Setup<'a>, peers: &[Kind]) -> Bench<'a> {
        let kinds = [&[Kind::Tidegate], peers].concat();
        Bench { scenario, setup, kinds, mode: String::new(), flows: 0, skipped: Vec::new(), unclean: Vec::new() }
    }

    /// Looks for what goes without loss, and with little: once, or if there is something to compare with, once a round. Each
    /// forwarder has the plan's time for all its searches.
    ///
    /// # Errors
    /// If a trial fails.
    pub(super) fn search(&mut self, plan: Plan) -> Result<Vec<Searched>> {
        let rounds = if self.kinds.len() > 1 { self.scenario.rounds } else { 1 };
        let plan = Plan { budget: plan.budget / rounds, ..plan };
        let new = |&forwarder: &Kind| Searched { forwarder, rounds: Vec::new() };
        let mut searches: Vec<Searched> = self.kinds.iter().map(new).collect();
        for round in 1..=rounds {
            for Searched { forwarder, rounds: found } in &mut searches {
                let name = format!("search {round}/{rounds}  {:<12}", forwarder.name());
                found.extend(self.turn(*forwarder, |rig| search(rig, plan, &name))?);
            }
        }
        searches.retain(|search| !search.rounds.is_empty());
        Ok(searches)
    }

    /// Sends at each rate, to the gateway without the scenario's disturbance and with it; histograms go to a folder if there is one.
    ///
    /// # Errors
    /// If a trial fails, or a file cannot be written.
    pub(super) fn measure(
        &mut self,
        rates: &[(u32, String)],
        span: Duration,
        histograms: Option<&Path>,
    ) -> Result<Vec<Point>> {
        let mut lanes = self.lanes(rates)?;
        let rounds = self.scenario.rounds;
        for round in 1..=rounds {
            for kind in self.kinds.clone() {
                self.turn(kind, |rig| {
                    for lane in lanes.iter_mut().filter(|lane| lane.kind == kind) {
                        let (trial, latency) = rig.trial(lane.rate, span, lane.disturbed)?;
                        lane.latency.add(&latency)?;
                        let (name, forwarder) = (&lane.name, kind.name());
                        eprintln!("round {round}/{rounds}  {forwarder:<12} {name:<26} {}", table::progress(&trial));
                        lane.rounds.push(trial);
                    }
                    Ok(())
                })?;
            }
        }
        lanes.retain(|lane| !lane.rounds.is_empty());
        let mut points = Vec::new();
        for Lane { name, kind, disturbed, rounds, latency, .. } in lanes {
            let point = Point::new(name, kind, disturbed, rounds, &latency);
            if let Some(folder) = histograms {
                hgrm::write(folder, &point.label(), &latency)?;
            }
            points.push(point);
        }
        Ok(points)
    }

    fn lanes(&self, rates: &[(u32, String)]) -> Result<Vec<Lane>> {
        let mut lanes = Vec::new();
        for &kind in &self.kinds {
            for (rate, name) in rates {
                let mut add = |name: String, disturbed| -> Result<()> {
                    let (rounds, latency) = (Vec::new(), histogram()?);
                    lanes.push(Lane { name, kind, rate: *rate, disturbed, rounds, latency });
                    Ok(())
                };
                add(name.clone(), false)?;
                if let (Kind::Tidegate, Some(disturbance)) = (kind, self.scenario.disturbance) {
                    add(format!("{name}, {}", disturbance.name()), true)?;
                }
            }
        }
        Ok(lanes)
    }

    /// Starts a forwarder, has `work` done with it, and stops it. Nothing if it is a peer that is not to be had: it has no turn any
    /// more.
    fn turn<T>(&mut self, kind: Kind, work: impl FnOnce(&mut Rig) -> Result<T>) -> Result<Option<T>> {
        if !self.kinds.contains(&kind) {
            return Ok(None);
        }
        let mut rig = match Rig::start(self.scenario, &self.setup, kind) {
            Err(error) if kind != Kind::Tidegate => {
                let skipped = format!("{}: {error:#}", kind.name());
                eprintln!("skipped  {skipped}");
                self.skipped.push(skipped);
                self.kinds.retain(|&other| other != kind);
                return Ok(None);
            }
            started => started?,
        };
        if kind == Kind::Tidegate {
            (self.mode, self.flows) = (rig.mode()?, rig.flows());
        }
        let done = work(&mut rig)?;
        if let Err(error) = rig.stop() {
            self.unclean.push(format!("{}: {error:#}", kind.name()));
        }
        Ok(Some(done))
    }
}

/// One search, whose progress begins with `name`.
fn search(rig: &mut Rig, plan: Plan, name: &str) -> Result<Found> {
    let mut wrong = 0;
    let mut search = Search::begin(plan, |rate, span| {
        let clock = Instant::now();
        let (trial, _) = rig.trial(rate, span, false)?;
        wrong += trial.wrong();
        let limit = (trial.unsent > 0).then_some(trial.offered);
        let disturbed = trial.worker_core_lost > CORE_LOST_MAX;
        let outcome = Outcome { loss_ratio: trial.loss_ratio(), disturbed, limit, took: clock.elapsed() };
        eprintln!("{name} {}", table::progress(&trial));
        Ok(outcome)
    })?;
    let (ndr, pdr) = (search.find(0.0)?, search.find(PDR_LOSS)?);
    let (trials, took) = search.effort();
    drop(search);
    Ok(Found { ndr, pdr, trials, seconds: took.as_secs_f64(), wrong })
}
