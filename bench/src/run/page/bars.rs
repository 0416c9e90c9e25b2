//! Throughput, as bars: what went without loss and with little, or what arrived at each rate.

use std::fmt::Write;

use super::axis::Axis;
use super::{colour, escaped, svg};
use crate::report::Summary;
use crate::run::report::{Found, Point, Searched};
use crate::run::search::Bounds;

const WIDTH: f64 = 900.0;
/// Where bars begin and end.
const LEFT: f64 = 210.0;
const RIGHT: f64 = 680.0;
/// Height of a bar, and from one to the next.
const BAR: f64 = 22.0;
const STEP: f64 = 36.0;
const TOP: f64 = 8.0;

/// One of them.
struct Bar {
    name: String,
    /// The bar, and its whiskers.
    value: Summary,
    note: String,
    /// Of a point, that of its curve.
    colour: &'static str,
}

/// Bars of a search, and of what arrived at each point.
pub(super) fn throughput(searches: &[Searched], points: &[Point]) -> String {
    let mut bars = Vec::new();
    for search in searches {
        let name = search.forwarder.name();
        bars.push(of_bounds(format!("{name}, no loss"), search, |found| found.ndr));
        bars.push(of_bounds(format!("{name}, 0.5 % loss"), search, |found| found.pdr));
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let arrived = points.iter().map(|point| {
        let value = point.summary(|round| round.counts.arrived as f64 / round.seconds.max(1e-9));
        let due = point.summary(|round| round.counts.must_arrive as f64 / round.seconds.max(1e-9)).median;
        Bar { name: point.label(), value, note: format!("of {due:.0}"), colour: colour(points, point) }
    });
    bars.extend(arrived);
    draw(&bars)
}

fn of_bounds(name: String, search: &Searched, bounds: fn(&Found) -> Bounds) -> Bar {
    let (value, limited) = search.summary(bounds);
    let note = if limited { "or more: the tester's limit" } else { "" };
    Bar { name, value, note: note.to_owned(), colour: "var(--dim)" }
}

fn draw(bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value.max).fold(1.0, f64::max);
    let axis = Axis::linear((0.0, most), (LEFT, RIGHT));
    let rows = f64::from(u16::try_from(bars.len()).unwrap_or(u16::MAX));
    let bottom = TOP + rows * STEP;
    let mut inside = String::new();
    for tick in axis.ticks() {
        let x = axis.place(tick);
        let _ = write!(
            inside,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/>\n\
             <text class=\"dim middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>\n",
            bottom + 18.0,
            rate(tick)
        );
    }
    let mut top = TOP + (STEP - BAR) / 2.0;
    for Bar { name, value: Summary { median, min, max }, note, colour } in bars {
        let (middle, end) = (top + BAR / 2.0, axis.place(*median));
        let _ = write!(
            inside,
            "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{colour}\"/>\n",
            LEFT - 10.0,
            middle + 4.0,
            escaped(name),
            end - LEFT
        );
        let (from, to) = (axis.place(*min), axis.place(*max));
        if to - from >= 1.0 {
            let _ = writeln!(
                inside,
                "<path class=\"whisker\" d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {0:.1}v8M{to:.1} {0:.1}v8\"/>",
                middle - 4.0
            );
        }
        let _ = writeln!(
            inside,
            "<text x=\"{:.1}\" y=\"{:.1}\">{median:.0} <tspan class=\"dim\">{}</tspan></text>",
            to.max(end) + 8.0,
            middle + 4.0,
            escaped(note)
        );
        top += STEP;
    }
    svg(WIDTH, bottom + 28.0, "packets a second", &inside)
}

/// Packets a second, short.
fn rate(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} M/s", value / 1e6),
        _ if value >= 1e3 => format!("{} k/s", value / 1e3),
        _ => format!("{value}/s"),
    }
}
