//! The page of a made-up report.

use super::*;
use crate::run::forwarder::Kind;
use crate::run::report::{Found, Searched};
use crate::run::search::Bounds;
use crate::run::trouble::Done;
use crate::tester::accounts::{Counts, histogram};
use crate::tester::timeline::Timeline;

fn point(name: &str, disturbed: bool, latency_ns: u64, lost: u64) -> Point {
    let mut latency = histogram().unwrap();
    let mut timeline = Timeline::new(1_000_000_000);
    for packet in 0..1000 {
        let (due, ns) = (packet * 1_000_000, latency_ns + packet * 10);
        timeline.sent(due);
        if packet >= lost {
            timeline.arrived(due, ns);
            latency.saturating_record(ns);
        }
    }
    let round = TrialReport {
        seconds: 1.0,
        counts: Counts { sent: 1000, must_arrive: 1000, arrived: 1000 - lost, lost, ..Counts::default() },
        latency: Latency::of(&latency),
        done: disturbed.then(|| Done { operations: 2, marks: vec![(0.1, 0.2), (0.5, 0.6)] }),
        timeline,
        ..TrialReport::default()
    };
    Point::new(name.to_owned(), Kind::Tidegate, disturbed, vec![round], &latency)
}

fn report() -> RunReport {
    let bounds = |lower, upper| Bounds { lower, upper, hurried: false };
    let found = Found { ndr: bounds(500_000, Some(510_000)), pdr: bounds(600_000, None), ..Found::default() };
    RunReport {
        machine: Machine::this(),
        scenario: "mine & <yours>".into(),
        text: "about = \"<script>\"".into(),
        command_line: vec!["run".into(), "mine".into()],
        seed: 1,
        mode: "native".into(),
        idle: "busy".into(),
        placement: "core 0".into(),
        flows: 10,
        search: vec![Searched { forwarder: Kind::Tidegate, rounds: vec![found] }],
        points: vec![point("1000/s", false, 5_000, 0), point("1000/s, reload-storm", true, 9_000, 7)],
        skipped: Vec::new(),
        unclean: Vec::new(),
    }
}

/// Elements that are opened and not closed, or the other way round.
fn unbalanced(page: &str) -> Vec<String> {
    let mut open = Vec::new();
    for tag in page.split('<').skip(1).filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag)) {
        let name: String = tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        match (tag.starts_with('/'), tag.ends_with('/') || ["meta", ""].contains(&&*name)) {
            (_, true) => {}
            (false, _) => open.push(name),
            (true, _) if open.last() == Some(&name) => drop(open.pop()),
            (true, _) => return vec![format!("{name} closes {open:?}")],
        }
    }
    open
}

#[test]
fn a_page_is_whole_needs_nothing_else_and_shows_no_text_as_markup() {
    let page = page(&report());
    assert_eq!(unbalanced(&page), Vec::<String>::new());
    assert!(!page.contains("http") && !page.contains("<script") && !page.contains("NaN") && !page.contains("inf"));
    assert!(page.contains("mine &amp; &lt;yours&gt;") && page.contains("&quot;&lt;script&gt;"));
    assert_eq!(page.matches("<svg").count(), 3);
}

#[test]
fn bars_curves_reloads_and_losses_are_drawn() {
    let page = page(&report());
    assert_eq!(page.matches("rx=\"2\"").count(), 4, "two of the search, one for each point");
    assert!(page.contains("500000") && page.contains("or more: the tester's limit"));
    assert_eq!(page.matches("class=\"curve\"").count(), 2 * 2 + 2, "with the legend of the one");
    assert_eq!(page.matches("class=\"mark\"").count(), 2 * 2);
    assert_eq!(page.matches("<title>7 lost</title>").count(), 1);
}

#[test]
fn a_point_without_a_packet_is_drawn_as_well() {
    let empty = Point::new("nothing".into(), Kind::Bare, false, vec![TrialReport::default()], &histogram().unwrap());
    let page = page(&RunReport { search: Vec::new(), points: vec![empty], ..report() });
    assert_eq!(unbalanced(&page), Vec::<String>::new());
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}

#[test]
fn a_failure_is_shown() {
    let page = page(&RunReport { unclean: vec!["tidegate: a frame is <lost>".into()], ..report() });
    assert!(page.contains("<p class=\"failed\">FAILED tidegate: a frame is &lt;lost&gt;</p>"));
}
