//! Latency by percentile, as curves: the further to the right, the fewer packets were slower.

use std::fmt::Write;

use super::axis::Axis;
use super::{colour, dashes, escaped, svg};
use crate::run::report::Point;
use crate::run::table::time_f;

const WIDTH: f64 = 940.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 355.0;

/// Percentiles that have a line.
const TICKS: [(f64, &str); 7] = [
    (1.0, "0 %"),
    (10.0, "90 %"),
    (100.0, "99 %"),
    (1000.0, "99.9 %"),
    (10_000.0, "99.99 %"),
    (100_000.0, "99.999 %"),
    (1_000_000.0, "99.9999 %"),
];

/// One curve for each point.
pub(super) fn latency(points: &[Point]) -> String {
    let values = || points.iter().flat_map(|point| &point.curve);
    let ends =
        values().fold((f64::INFINITY, 1.0f64), |(least, most), &(_, ns)| (least.min(float(ns)), most.max(float(ns))));
    let rarest = values().filter_map(|&(quantile, _)| rarity(quantile)).fold(10.0, f64::max);
    let x = Axis::decades((1.0, rarest), (LEFT, RIGHT));
    let y = Axis::decades(ends, (BOTTOM, TOP));
    let mut inside = String::new();
    for (rare, label) in TICKS.into_iter().filter(|(rare, _)| *rare <= x.ticks().into_iter().fold(0.0, f64::max) * 1.01)
    {
        let x = x.place(rare);
        let _ = write!(
            inside,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>\n\
             <text class=\"dim middle\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>\n",
            BOTTOM + 18.0
        );
    }
    for tick in y.ticks() {
        let y = y.place(tick);
        let _ = write!(
            inside,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n\
             <text class=\"dim end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            LEFT - 8.0,
            y + 4.0,
            round(tick)
        );
    }
    let mut below = TOP + 10.0;
    for point in points {
        let mut path = String::new();
        for &(quantile, ns) in &point.curve {
            let (x, y) = (rarity(quantile).map_or(RIGHT, |rare| x.place(rare)), y.place(float(ns)));
            let _ = if path.is_empty() { write!(path, "M{x:.1} {y:.1}") } else { write!(path, "L{x:.1} {y:.1}") };
        }
        let (name, colour, dashes) = (escaped(&point.label()), colour(points, point), dashes(point.forwarder));
        let _ = write!(
            inside,
            "<path class=\"curve\" stroke=\"{colour}\"{dashes} d=\"{path}\"><title>{name}</title></path>\n\
             <path class=\"curve\" stroke=\"{colour}\"{dashes} d=\"M{:.1} {below:.1}h24\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{name}</text>\n",
            RIGHT + 12.0,
            RIGHT + 44.0,
            below + 4.0
        );
        below += 20.0;
    }
    let _ = writeln!(
        inside,
        "<text class=\"dim middle\" x=\"{:.1}\" y=\"{:.1}\">share of the packets that were no slower</text>",
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 38.0
    );
    svg(WIDTH, HEIGHT, "latency by percentile", &inside)
}

/// One packet of so many is slower; nothing for the slowest of all.
fn rarity(quantile: f64) -> Option<f64> {
    (quantile < 1.0).then(|| 1.0 / (1.0 - quantile))
}

/// A decade without places that are all 0.
pub(super) fn round(ns: f64) -> String {
    time_f(ns).replace(".0 ", " ")
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
pub(super) fn float(ns: u64) -> f64 {
    ns as f64
}
