//! How many packets a second go with no loss, and with little: a bisection with the goals of MLRsearch.
//!
//! A trial tells whether a rate was too high *then*; on a machine that others use as well it may say this, and the next time
//! that. So a rate has several trials, and the majority counts (an exceed ratio of one half). Trials of one goal serve the other.
//! A trial that lost packets while others had the forwarder's core says nothing of the forwarder: it is made again, but a rate has no
//! more such excuses than trials.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Trials after which what the tester made of a rate is taken for its limit: it may have been held up.
const LIMITED: usize = 3;
/// No rate below is tried, in packets a second.
const LEAST: u32 = 1000;

/// How a search is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    /// How long a trial is.
    pub(crate) trial: Duration,
    /// Trials of a rate at most, an odd number.
    pub(crate) votes: usize,
    /// It is over when the bounds are as close as this share of the upper one.
    pub(crate) width: f64,
    /// It is over when it has taken so long, at the latest: one trial more.
    pub(crate) budget: Duration,
    /// The rate that is tried first, in packets a second: more than is expected.
    pub(crate) most: u32,
}

/// What a trial said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Share of the packets that were lost.
    pub(crate) loss_ratio: f64,
    /// Whether others had the forwarder's core for too long.
    pub(crate) disturbed: bool,
    /// Packets a second that were really sent, if that was not the whole rate.
    pub(crate) limit: Option<f64>,
    /// How long it took, all in all.
    pub(crate) took: Duration,
}

/// Where the answer lies, in packets a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// So much goes. 0 if nothing was seen to.
    pub(crate) lower: u32,
    /// So much does not. Nothing if the tester could make no more than what goes.
    pub(crate) upper: Option<u32>,
    /// Time was up before they were close.
    pub(crate) hurried: bool,
}

/// A search under way.
pub(crate) struct Search<F> {
    plan: Plan,
    measure: F,
    /// Loss of each trial, by rate.
    known: BTreeMap<u32, Vec<f64>>,
    /// Trials that did not count, by rate.
    excused: BTreeMap<u32, usize>,
    /// What the tester made of rates that were too much for it, by rate.
    limits: BTreeMap<u32, Vec<f64>>,
    /// What the tester can make.
    most: u32,
    /// What went when there was too much.
    guess: u32,
    spent: Duration,
    trials: usize,
}

/// What the trials of a rate say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Good,
    Bad,
    Open,
}

impl<F: FnMut(u32, Duration) -> Result<Outcome>> Search<F> {
    /// Sends as much as it can, to know about where to look.
    ///
    /// # Errors
    /// As `measure`, which makes a trial.
    pub(crate) fn begin(plan: Plan, measure: F) -> Result<Search<F>> {
        ensure!(plan.votes % 2 == 1, "a majority of {} trials", plan.votes);
        let most = plan.most;
        let (known, excused, limits) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut search =
            Search { plan, measure, known, excused, limits, most, guess: most, spent: Duration::ZERO, trials: 0 };
        search.guess = LEAST;
        for _ in 0..LIMITED {
            let first = search.trial(most)?;
            search.guess = search.guess.max(rate(first.limit.unwrap_or(most.into()) * (1.0 - first.loss_ratio)));
            if first.limit.is_none() {
                break;
            }
        }
        Ok(search)
    }

    /// The highest rate at which no more than this share is lost.
    ///
    /// # Errors
    /// As `measure`.
    pub(crate) fn find(&mut self, loss_ratio: f64) -> Result<Bounds> {
        loop {
            let (lower, upper) = self.bounds(loss_ratio);
            let next = match (lower, upper) {
                (None, None) => self.guess,
                (None, Some(upper)) if upper <= LEAST => {
                    return Ok(Bounds { lower: 0, upper: Some(upper), hurried: false });
                }
                (None, Some(upper)) => upper / 2,
                (Some(lower), None) if lower >= self.most => {
                    return Ok(Bounds { lower, upper: None, hurried: false });
                }
                (Some(lower), None) => lower.saturating_mul(2),
                (Some(lower), Some(upper)) if f64::from(upper - lower) <= f64::from(upper) * self.plan.width => {
                    return Ok(Bounds { lower, upper: Some(upper), hurried: false });
                }
                (Some(lower), Some(upper)) => lower + (upper - lower) / 2,
            };
            let next = next.clamp(LEAST.min(self.most), self.most);
            while self.standing(next, loss_ratio) == Standing::Open && next <= self.most {
                if self.spent >= self.plan.budget {
                    return Ok(Bounds { lower: lower.unwrap_or(0), upper, hurried: true });
                }
                self.trial(next)?;
            }
        }
    }

    /// Trials so far, and the time they took.
    pub(crate) fn effort(&self) -> (usize, Duration) {
        (self.trials, self.spent)
    }

    fn trial(&mut self, rate: u32) -> Result<Outcome> {
        let outcome = (self.measure)(rate, self.plan.trial)?;
        self.trials += 1;
        self.spent += outcome.took;
        match outcome.limit {
            // Less was sent: that says nothing of this rate, but, unless it was by chance, much of the tester.
            Some(limit) => {
                let limits = self.limits.entry(rate).or_default();
                limits.push(limit);
                if limits.len() >= LIMITED {
                    let limit = limits.iter().copied().fold(0.0, f64::max);
                    self.most = self::rate(limit).min(rate - rate / 50).max(LEAST);
                }
            }
            None => {
                let excused = self.excused.entry(rate).or_default();
                if outcome.disturbed && outcome.loss_ratio > 0.0 && *excused < self.plan.votes {
                    *excused += 1;
                } else {
                    self.known.entry(rate).or_default().push(outcome.loss_ratio);
                }
            }
        }
        Ok(outcome)
    }

    /// What the trials of `rate` say of a goal.
    fn standing(&self, rate: u32, loss_ratio: f64) -> Standing {
        let losses = self.known.get(&rate).map_or(&[][..], |losses| losses);
        let good = losses.iter().filter(|&&loss| loss <= loss_ratio).count();
        match self.plan.votes / 2 {
            half if good > half => Standing::Good,
            half if losses.len() - good > half => Standing::Bad,
            _ => Standing::Open,
        }
    }

    /// The lowest rate that is too much, and the highest one below it that is not.
    fn bounds(&self, loss_ratio: f64) -> (Option<u32>, Option<u32>) {
        let rates = || self.known.keys().copied().filter(|&rate| rate <= self.most);
        let upper = rates().find(|&rate| self.standing(rate, loss_ratio) == Standing::Bad);
        let below = rates().take_while(|&rate| upper.is_none_or(|upper| rate < upper));
        (below.filter(|&rate| self.standing(rate, loss_ratio) == Standing::Good).last(), upper)
    }
}

/// A rate that can be tried.
pub(super) fn rate(packets: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some million at most")]
    let rate = packets as u32;
    rate.max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        trial: Duration::from_secs(1),
        votes: 3,
        width: 0.005,
        budget: Duration::from_secs(10_000),
        most: 2_000_000,
    };

    /// Loses what is above `capacity`, from a tester that makes `limit` at most.
    fn device(capacity: f64, limit: f64) -> impl FnMut(u32, Duration) -> Result<Outcome> {
        move |rate, took| {
            let sent = limit.min(rate.into());
            let limit = (sent < f64::from(rate)).then_some(sent);
            Ok(Outcome { loss_ratio: (1.0 - capacity / sent).max(0.0), disturbed: false, limit, took })
        }
    }

    fn found(plan: Plan, device: impl FnMut(u32, Duration) -> Result<Outcome>) -> (Bounds, Bounds, usize) {
        let mut search = Search::begin(plan, device).unwrap();
        let (ndr, pdr) = (search.find(0.0).unwrap(), search.find(0.005).unwrap());
        (ndr, pdr, search.effort().0)
    }

    fn close(bounds: Bounds, to: f64) {
        let Bounds { lower, upper: Some(upper), hurried: false } = bounds else { panic!("{bounds:?}") };
        assert!(f64::from(lower) <= to && to <= f64::from(upper), "{bounds:?} and {to}");
        assert!(f64::from(upper - lower) <= f64::from(upper) * PLAN.width, "{bounds:?}");
    }

    #[test]
    fn both_rates_are_found_and_are_close() {
        for capacity in [1500.0, 54_321.0, 640_000.0, 1_980_000.0] {
            let (ndr, pdr, trials) = found(PLAN, device(capacity, f64::INFINITY));
            close(ndr, capacity);
            close(pdr, capacity / 0.995);
            assert!(trials < 80, "{trials} trials");
        }
    }

    #[test]
    fn what_the_tester_cannot_make_is_no_upper_bound() {
        let (ndr, pdr, _) = found(PLAN, device(1e9, 456_789.0));
        assert_eq!((ndr.upper, pdr.upper), (None, None));
        assert!((452_000..=456_789).contains(&ndr.lower), "{ndr:?}");
        let (ndr, ..) = found(PLAN, device(300_000.0, 456_789.0));
        close(ndr, 300_000.0);
    }

    #[test]
    fn a_tester_that_was_held_up_once_is_not_limited() {
        let (mut number, mut good) = (0, device(300_000.0, f64::INFINITY));
        let (ndr, ..) = found(PLAN, move |rate, span| {
            number += 1;
            let outcome = good(rate, span)?;
            Ok(if number % 4 == 2 { Outcome { limit: Some(20_000.0), ..outcome } } else { outcome })
        });
        close(ndr, 300_000.0);
    }

    #[test]
    fn nothing_goes_through_a_device_that_loses_always() {
        let (ndr, pdr, _) =
            found(PLAN, |_, took| Ok(Outcome { loss_ratio: 0.001, disturbed: false, limit: None, took }));
        assert_eq!((ndr.lower, ndr.upper), (0, Some(LEAST)));
        assert_eq!((pdr.lower, pdr.upper), (PLAN.most, None));
    }

    #[test]
    fn one_bad_trial_of_three_does_not_count() {
        let (mut number, mut good) = (0, device(500_000.0, f64::INFINITY));
        let (ndr, ..) = found(PLAN, move |rate, span| {
            number += 1;
            let outcome = good(rate, span)?;
            Ok(Outcome { loss_ratio: if number % 5 == 0 { 0.1 } else { outcome.loss_ratio }, ..outcome })
        });
        close(ndr, 500_000.0);
    }

    #[test]
    fn what_was_lost_while_others_had_the_core_is_excused_a_few_times() {
        let disturbed = |every: usize| {
            let (mut number, mut good) = (0, device(500_000.0, f64::INFINITY));
            move |rate, span| {
                number += 1;
                let (outcome, disturbed) = (good(rate, span)?, number % every != 0);
                Ok(Outcome { loss_ratio: if disturbed { 0.1 } else { outcome.loss_ratio }, disturbed, ..outcome })
            }
        };
        close(found(PLAN, disturbed(2)).0, 500_000.0);
        assert_eq!(found(PLAN, disturbed(1000)).0.lower, 0, "all of it cannot be excused");
    }

    #[test]
    fn it_ends_when_its_time_is_up_and_says_so() {
        let plan = Plan { budget: Duration::from_secs(12), ..PLAN };
        let mut search = Search::begin(plan, device(500_000.0, f64::INFINITY)).unwrap();
        let ndr = search.find(0.0).unwrap();
        assert!(ndr.hurried && ndr.lower <= 500_000 && ndr.upper.unwrap() > 500_000, "{ndr:?}");
        assert!(search.effort().1 <= Duration::from_secs(13));
        assert!(search.find(0.005).unwrap().hurried);
    }
}
