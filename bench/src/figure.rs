//! A figure, what it should be, and whether it is.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::Serialize;

use crate::report::{CORE_LOST_MAX, Summary};

/// One target, and what was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// For people.
    pub(crate) name: String,
    /// What was found; the median counts.
    pub(crate) found: Summary,
    /// What it should be.
    pub(crate) target: Target,
    /// Whether it is; nothing if the machine was too disturbed to tell.
    pub(crate) met: Option<bool>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// One turn of something that has a rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct SpeedRound {
    /// What it does, a second of the time in which it had a core.
    pub(crate) rate: f64,
    /// Share of the time for which others had the core of the thread that lost most.
    pub(crate) core_lost: f64,
}

/// Figures, one a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures<'a>(pub(crate) &'a [Figure]);

impl Figure {
    pub(crate) fn new(name: impl Into<String>, found: Summary, target: Target) -> Figure {
        let met = match target {
            Target::AtLeast(least) => found.median >= least,
            Target::AtMost(most) => found.median <= most,
        };
        Figure { name: name.into(), found, target, met: Some(met) }
    }

    /// Of one value.
    pub(crate) fn of(name: impl Into<String>, value: f64, target: Target) -> Figure {
        Figure::new(name, Summary { median: value, min: value, max: value }, target)
    }

    /// Of values that come with a share of the core lost: those that were not disturbed count. If there are none, all are
    /// shown, and nothing is judged: who waits for a lock waits for whoever took its holder's core. Nothing if there is no
    /// value at all.
    pub(crate) fn of_calm(
        name: impl Into<String>,
        values: impl Iterator<Item = (f64, f64)> + Clone,
        target: Target,
    ) -> Option<Figure> {
        let (found, judged) = calm(values)?;
        let figure = Figure::new(name, found, target);
        Some(Figure { met: figure.met.filter(|_| judged), ..figure })
    }
}

/// Of values that come with a share of the core lost, those that were not disturbed, and `true`; all of them, if there are
/// none. Nothing if there is no value at all.
pub(crate) fn calm(values: impl Iterator<Item = (f64, f64)> + Clone) -> Option<(Summary, bool)> {
    let calm = values.clone().filter(|&(_, lost)| lost <= CORE_LOST_MAX);
    let judged = calm.clone().next().is_some();
    values.clone().next()?;
    let all = |values: &mut dyn Iterator<Item = (f64, f64)>| Summary::of(values.map(|(value, _)| value));
    Some((if judged { all(&mut calm.into_iter()) } else { all(&mut values.into_iter()) }, judged))
}

impl SpeedRound {
    /// Of so many operations in `span`, of which others had the core for a share of `core_lost`: what they took is taken out.
    pub(crate) fn new(operations: u64, span: Duration, core_lost: f64) -> SpeedRound {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let operations = operations as f64;
        SpeedRound { rate: operations / (span.as_secs_f64() * (1.0 - core_lost).max(0.01)), core_lost }
    }

    /// Rates of turns, each with the share of the core it lost.
    pub(crate) fn rates(rounds: &[SpeedRound]) -> impl Iterator<Item = (f64, f64)> + Clone {
        rounds.iter().map(|round| (round.rate, round.core_lost))
    }

    /// Rates to those of `others`, turn by turn.
    pub(crate) fn ratios(rounds: &[SpeedRound], others: &[SpeedRound]) -> impl Iterator<Item = (f64, f64)> + Clone {
        let pairs = rounds.iter().zip(others);
        pairs.map(|(own, other)| (own.rate / other.rate, own.core_lost.max(other.core_lost)))
    }
}

impl Display for Figures<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<44}{:>12}{:>26}{:>12}", "FIGURE", "MEDIAN", "(MIN - MAX)", "TARGET")?;
        for Figure { name, found, target, met } in self.0 {
            let spread = format!("({} - {})", short(found.min), short(found.max));
            let target = match target {
                Target::AtLeast(least) => format!(">= {}", short(*least)),
                Target::AtMost(most) => format!("<= {}", short(*most)),
            };
            let met = match met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "too disturbed to tell",
            };
            writeln!(f, "{name:<44}{:>12}{spread:>26}{target:>12}  {met}", short(found.median))?;
        }
        Ok(())
    }
}

/// Few digits, but none too few.
pub(crate) fn short(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 0.1 || value == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.6}"),
    }
}
