//! Runs through a real gateway.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use clap::Parser;
use tidegate_engine::lab::Lab;

use super::*;
use crate::run::report::Found;
use crate::tester::accounts::{Counts, FaultKind};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(line: &str) -> Options {
    Line::try_parse_from(format!("run {line}").split(' ')).unwrap().options
}

/// Runs `text` as a scenario, and reads the report it wrote.
fn report(folder: &Path, text: &str, more: &str) -> (bool, RunReport) {
    let (file, json) = (folder.join("mine.toml"), folder.join("report.json"));
    fs::write(&file, text).unwrap();
    let good = run(&options(&format!("{} --json {}{more}", file.display(), json.display()))).unwrap();
    (good, serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap())
}

/// One run after the other: each wants two cores. Nothing without the privilege to make a network.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    Lab::allowed().then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

const SLOW: &str = "[load]\nrate = 5000\nseconds = 1\nrounds = 1\n";

#[test]
fn every_packet_through_a_gateway_is_accounted_for() {
    let Some(_alone) = alone() else { return };
    let folder = tempfile::tempdir().unwrap();
    for mix in ["sizes = [64, 1514]", "vlan = 7\nsizes = [68]", "ipv6 = 50\nsizes = [84, 300]"] {
        let text = format!("{SLOW}[rules]\ngenerated = 20\n[traffic]\nflows = 100\ndrop = 30\n{mix}\n");
        let (good, report) = report(folder.path(), &text, "");
        let [point] = &*report.points else { panic!("{report:?}") };
        let round = &point.rounds[0];
        assert!(good, "{:?}", round.faults);
        assert_eq!((round.counts.sent, round.counts.must_arrive, round.unsent), (5000, 3500, 0));
        let inside = round.inside.as_ref().unwrap();
        assert_eq!((inside.received, inside.by_filter, inside.sent), (5000, 1500, 3500));
        let counts = Counts { sent: 5000, must_arrive: 3500, arrived: 3500, ..Counts::default() };
        assert_eq!(round.counts, counts, "{:?}", round.faults);
        assert!(round.latency.p50 > 0 && round.latency.max >= round.latency.p50);
        assert_eq!(report.text, text);
    }
}

#[test]
fn filters_that_are_wrong_are_found_out() {
    let Some(_alone) = alone() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = |filter: &str| {
        let filter =
            format!("[[filter]]\non = \"edge\"\nmatch = {{ ip_proto = \"udp\", {filter} }}\naction = \"drop\"\n");
        fs::write(folder.path().join("filters.toml"), filter).unwrap();
        let text = format!("{SLOW}[rules]\nfile = \"filters.toml\"\n[traffic]\nflows = 100\ndrop = 10\n");
        let (good, report) = report(folder.path(), &text, "");
        (good, report.points[0].rounds[0].clone())
    };
    let (good, round) = run("dst_port = 9");
    assert!(good, "{:?}", round.faults);
    // One flow that must pass is dropped as well.
    let (good, round) = run("dst_port = \"7-9\", src_ip = \"198.18.0.0/25\"");
    assert!(!good && round.wrongly_dropped == 4500 && round.counts.lost == 4500, "{round:?}");
    // None that must be dropped is.
    let (good, round) = run("dst_port = 99");
    assert!(!good, "{round:?}");
    assert_eq!(round.counts.faults(), [(FaultKind::WrongVerdict, 500)]);
    assert!(round.faults[0].detail.starts_with("it had to be dropped"), "{:?}", round.faults[0]);
}

#[test]
fn mistakes_in_a_file_of_filters_have_its_name_and_its_lines() {
    let Some(_alone) = alone() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (filters, scenario) = (folder.path().join("filters.toml"), folder.path().join("mine.toml"));
    fs::write(&scenario, "[rules]\nfile = \"filters.toml\"\n").unwrap();
    let usage = || {
        let error = run(&options(&scenario.display().to_string())).unwrap_err();
        error.downcast_ref::<Usage>().unwrap().to_string()
    };
    assert!(usage().starts_with(&format!("{}: cannot be read: ", filters.display())), "{}", usage());
    fs::write(&filters, "[[filter]]\non = \"edge\"\naction = \"dorp\"\n").unwrap();
    let place = format!("{}:3:10: action: ", filters.display());
    assert!(usage().starts_with(&place), "{} {place}", usage());
}

#[test]
fn disturbances_disturb_and_nothing_goes_wrong() {
    let Some(_alone) = alone() else { return };
    let folder = tempfile::tempdir().unwrap();
    for kind in ["reload-storm\"\nfilters = 500", "update-storm\"\nfilters = 500", "socket-flood\"\nclients = 4"] {
        let text =
            format!("{SLOW}[rules]\ngenerated = 5\n[traffic]\nflows = 10\ndrop = 10\n[disturbance]\nkind = \"{kind}\n");
        let (good, report) = report(folder.path(), &text, "");
        let [quiet, disturbed] = &*report.points else { panic!("{report:?}") };
        assert!(good, "{kind}: {:?}", disturbed.rounds[0].faults);
        assert_eq!((quiet.rounds[0].done.as_ref(), disturbed.disturbed), (None, true));
        let done = disturbed.rounds[0].done.as_ref().unwrap();
        assert!(done.operations > 0, "{kind}: {done:?}");
        assert_eq!(done.marks.is_empty(), !kind.starts_with("reload"));
    }
}

#[test]
fn peers_take_their_turns_and_what_cannot_be_had_is_skipped() {
    let Some(_alone) = alone() else { return };
    let folder = tempfile::tempdir().unwrap();
    let traffic = "[rules]\ngenerated = 3\n[traffic]\nflows = 10\n";
    let (good, report) = report(folder.path(), &format!("{SLOW}{traffic}"), " --peers bare,nft,tc --rounds 2");
    assert!(good, "{report:?}");
    let skipped = report.skipped.len();
    assert_eq!(report.points.len() + skipped, 4, "{:?}", report.skipped);
    let forwarders: Vec<Kind> = report.points.iter().map(|point| point.forwarder).collect();
    assert_eq!(forwarders[..2], [Kind::Tidegate, Kind::Bare]);
    for point in &report.points {
        assert_eq!(point.rounds.len(), 2);
        let counts = point.rounds[1].counts;
        assert_eq!((counts.sent, counts.arrived + counts.lost, counts.wrong()), (5000, 5000, 0), "{}", point.label());
        assert!(counts.arrived > 2500, "{}: {counts:?}", point.label());
    }
    assert!(report.skipped.iter().all(|skipped| skipped.contains(": ")), "{:?}", report.skipped);
}

#[test]
fn a_quick_search_ends_in_time_and_its_bounds_are_in_order() {
    let Some(_alone) = alone() else { return };
    let (folder, clock) = (tempfile::tempdir().unwrap(), Instant::now());
    let (_, report) = report(folder.path(), "[traffic]\nflows = 10\n", " --search --quick --rounds 1");
    assert!(clock.elapsed() < Duration::from_secs(60), "{:?}", clock.elapsed());
    let Found { ndr, pdr, trials, .. } = report.search[0].rounds[0];
    assert!(ndr.lower <= pdr.lower && trials > 3, "{ndr:?} {pdr:?}");
    assert!(pdr.lower > 1000 && ndr.upper.is_none_or(|upper| upper > ndr.lower), "{ndr:?} {pdr:?}");
    let names: Vec<&str> = report.points.iter().map(|point| &*point.name).collect();
    assert_eq!(names, ["10 % of NDR", "50 % of NDR", "90 % of NDR"]);
}

#[test]
fn a_scenario_that_is_wrong_is_wrong_usage() {
    for (line, words) in
        [("nothing", "no scenario is called `nothing`"), ("forward --seconds 0", "--seconds: more than 0")]
    {
        let error = run(&options(line)).unwrap_err();
        assert!(error.downcast_ref::<Usage>().is_some_and(|usage| usage.to_string().starts_with(words)), "{error:#}");
    }
}
