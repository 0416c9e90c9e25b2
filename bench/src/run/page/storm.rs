//! What happened when: latency and loss over the time of a round, with the reloads that went on.

use std::fmt::Write;

use super::axis::Axis;
use super::curves::{float, round};
use super::{COLOURS, escaped, svg};
use crate::run::report::{Point, TrialReport};
use crate::tester::timeline::Slot;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 880.0;
/// Latency above, loss below.
const LATENCY: (f64, f64) = (24.0, 230.0);
const LOSS: (f64, f64) = (270.0, 350.0);
const HEIGHT: f64 = 396.0;

/// The last round of `disturbed`, and of the same rate without a disturbance.
pub(super) fn timeline(disturbed: &Point, quiet: Option<&Point>) -> String {
    let Some(round) = disturbed.rounds.last() else { return String::new() };
    let quiet_round = quiet.and_then(|point| point.rounds.last());
    let slots = || round.timeline.slots();
    let both = slots().chain(quiet_round.iter().flat_map(|round| round.timeline.slots()));
    let ends = both.clone().filter(|(_, slot)| slot.worst_ns > 0).fold((f64::INFINITY, 1.0f64), |ends, (_, slot)| {
        (ends.0.min(float(slot.worst_ns)), ends.1.max(float(slot.worst_ns)))
    });
    let most_lost = slots().map(|(_, slot)| lost(slot)).max().unwrap_or(0).max(1);
    let x = Axis::linear((0.0, round.seconds), (LEFT, RIGHT));
    let y = Axis::decades(ends, (LATENCY.1, LATENCY.0));
    let z = Axis::linear((0.0, most_lost.into()), (LOSS.1, LOSS.0));

    let mut inside = marks(round, &x) + &grid(&x, &y, &z);
    let rounds = quiet.zip(quiet_round).into_iter().chain([(disturbed, round)]);
    let mut right = LEFT;
    for (number, (point, round)) in rounds.enumerate() {
        let mut path = String::new();
        for (second, slot) in round.timeline.slots().filter(|(_, slot)| slot.worst_ns > 0) {
            let (x, y) = (x.place(second), y.place(float(slot.worst_ns)));
            let _ = if path.is_empty() { write!(path, "M{x:.1} {y:.1}") } else { write!(path, "L{x:.1} {y:.1}") };
        }
        let (name, colour) = (escaped(&point.label()), COLOURS[number]);
        let _ = write!(
            inside,
            "<path class=\"curve\" stroke=\"{colour}\" d=\"{path}\"/>\n\
             <rect x=\"{right:.1}\" y=\"6\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"12\">slowest packet, {name}</text>\n",
            right + 20.0
        );
        right += 300.0;
    }
    for (second, slot) in slots().filter(|(_, slot)| lost(*slot) > 0) {
        let (x, top) = (x.place(second), z.place(lost(slot).into()));
        let _ = writeln!(
            inside,
            "<rect class=\"lost\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"3\" height=\"{:.1}\"><title>{} lost</title></rect>",
            LOSS.1 - top,
            lost(slot)
        );
    }
    svg(WIDTH, HEIGHT, "latency and loss over time", &inside)
}

/// When reloads went on.
fn marks(round: &TrialReport, x: &Axis) -> String {
    let mut marks = String::new();
    for &(begin, end) in round.done.iter().flat_map(|done| &done.marks) {
        let (from, to) = (x.place(begin), x.place(end));
        let width = (to - from).max(1.0);
        for (top, bottom) in [LATENCY, LOSS] {
            let height = bottom - top;
            let _ = writeln!(
                marks,
                "<rect class=\"mark\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>"
            );
        }
    }
    marks
}

fn grid(x: &Axis, y: &Axis, z: &Axis) -> String {
    let mut grid = String::new();
    let mut line = |at: f64, label: String| {
        let _ = write!(
            grid,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\n\
             <text class=\"dim end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>\n",
            LEFT - 8.0,
            at + 4.0
        );
    };
    y.ticks().into_iter().for_each(|tick| line(y.place(tick), round(tick)));
    let whole = z.ticks().into_iter().filter(|tick| tick.fract() == 0.0);
    whole.for_each(|tick| line(z.place(tick), format!("{tick}")));
    for tick in x.ticks() {
        let _ = writeln!(
            grid,
            "<text class=\"dim middle\" x=\"{:.1}\" y=\"{:.1}\">{tick:.1} s</text>",
            x.place(tick),
            LOSS.1 + 18.0
        );
    }
    let _ = writeln!(
        grid,
        "<text class=\"dim\" x=\"{LEFT}\" y=\"{:.1}\">packets lost, of those due in 20 ms</text>",
        LOSS.0 - 8.0
    );
    let _ = writeln!(
        grid,
        "<text class=\"dim end\" x=\"{RIGHT}\" y=\"{:.1}\">grey: a reload goes on</text>",
        LOSS.1 + 38.0
    );
    grid
}

fn lost(slot: Slot) -> u32 {
    slot.sent.saturating_sub(slot.arrived)
}
