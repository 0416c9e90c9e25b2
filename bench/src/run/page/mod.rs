//! `--html`: the report as one page that needs nothing else, with pictures drawn as SVG.

mod axis; // values to places
mod bars; // throughput
mod curves; // latency by percentile
mod storm; // what happened when

use std::fmt::Write;

use super::forwarder::Kind;
use super::report::{Latency, Point, RunReport, TrialReport};
use super::table::time_f;
use crate::report::{Machine, Summary};

/// Colours of lines and bars, one after the other: apart from one another for colour-blind people, on light and dark ground.
const COLOURS: [&str; 6] = ["#3274d9", "#e0752d", "#2e9e6b", "#a352cc", "#c4a000", "#d64550"];

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(super) fn page(report: &RunReport) -> String {
    let RunReport { scenario, search, points, .. } = report;
    let mut body = String::new();
    let title = escaped(&format!("tidegate-bench: {scenario}"));
    let _ = write!(body, "<h1>{title}</h1>\n{}", facts(report));
    for failure in report.failures() {
        let _ = writeln!(body, "<p class=\"failed\">FAILED {}</p>", escaped(&failure));
    }
    let _ = write!(body, "<h2>Throughput</h2>\n{}", bars::throughput(search, points));
    let _ = write!(
        body,
        "<h2>Latency by percentile</h2>\n<p>From when a packet was due until it was seen, all rounds together.</p>\n{}",
        curves::latency(points)
    );
    if let Some(disturbed) = points.iter().find(|point| point.disturbed) {
        let quiet = points.iter().find(|point| !point.disturbed && disturbed.name.starts_with(&point.name));
        let _ = write!(
            body,
            "<h2>What happened when</h2>\n<p>The last round of: {}.</p>\n{}",
            escaped(&disturbed.name),
            storm::timeline(disturbed, quiet)
        );
    }
    let _ = write!(body, "<h2>Figures</h2>\n{}", table(points));
    let _ = write!(body, "<h2>The scenario</h2>\n<pre>{}</pre>\n", escaped(&report.text));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn facts(report: &RunReport) -> String {
    let Machine { cpu, cores, kernel, tidegate, build } = &report.machine;
    let found = || report.search.iter().flat_map(|search| &search.rounds);
    let (trials, seconds) =
        (found().map(|found| found.trials).sum::<usize>(), found().map(|found| found.seconds).sum::<f64>());
    let search = (trials > 0).then(|| ("search", format!("{trials} trials in {seconds:.0} s")));
    let facts = [
        ("version", format!("{tidegate}, {build} build")),
        ("machine", format!("{cpu}, {cores} cores, Linux {kernel}")),
        ("mode", format!("{}, idle {}", report.mode, report.idle)),
        ("cores", report.placement.clone()),
        ("traffic", format!("{} flows, seed {}", report.flows, report.seed)),
        ("command", format!("tidegate-bench {}", report.command_line.join(" "))),
    ];
    let rows =
        facts.into_iter().chain(search).map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(&fact)));
    format!("<dl>\n{}</dl>\n", rows.collect::<String>())
}

fn table(points: &[Point]) -> String {
    let quantiles = Latency::SHOWN.map(|(name, _)| format!("<th>{name}</th>")).concat();
    let mut rows = String::new();
    for point in points {
        let _ = write!(
            rows,
            "<tr><th>{}</th><td>{:.0}</td><td>{}</td><td>{}</td>",
            escaped(&point.label()),
            point.summary(|round| round.offered).median,
            point.sum(|round| round.counts.sent),
            point.sum(TrialReport::lost)
        );
        for (_, quantile) in Latency::SHOWN {
            #[expect(clippy::cast_precision_loss, reason = "ns for people")]
            let Summary { median, min, max } = point.summary(|round| quantile(&round.latency) as f64);
            let _ = write!(rows, "<td title=\"{} to {}\">{}</td>", time_f(min), time_f(max), time_f(median));
        }
        rows.push_str("</tr>\n");
    }
    format!(
        "<div class=\"wide\"><table>\n<tr><th></th><th>packets/s</th><th>sent</th><th>lost</th>{quantiles}</tr>\n{rows}</table></div>\n\
         <p>Latency: median of the rounds; least and most of them show where the pointer rests.</p>\n"
    )
}

/// `text` as it is written in HTML and SVG.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A picture of this size around `inside`, and what it shows for who cannot see it.
fn svg(width: f64, height: f64, label: &str, inside: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">\n{inside}</svg>\n",
        escaped(label)
    )
}

/// The colour of a point's line and bar: the same ones for each forwarder,
fn colour(points: &[Point], point: &Point) -> &'static str {
    let of_forwarder = points.iter().filter(|other| other.forwarder == point.forwarder);
    let number = of_forwarder.take_while(|other| other.name != point.name).count();
    COLOURS[number % COLOURS.len()]
}

/// whose lines are dashed in their own way: bits of SVG.
fn dashes(forwarder: Kind) -> &'static str {
    match forwarder {
        Kind::Tidegate => "",
        Kind::Bare => " stroke-dasharray=\"7 4\"",
        Kind::Nft => " stroke-dasharray=\"2 3\"",
        Kind::Tc => " stroke-dasharray=\"9 3 2 3\"",
    }
}

#[cfg(test)]
mod tests;
