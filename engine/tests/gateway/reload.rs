//! Reload: each packet has the verdict of one of two files, and nothing is lost.
//!
//! Both files let packets to port 20 pass and drop those to port 21, but each in chains of its own: whoever follows the `goto`
//! of one file and meets the other file's chain gets the wrong verdict. Port 22 passes by a filter that no reload touches.
//! Port 9 passes under one file, and is dropped under the other.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_classifiers::verdict::DropReason;
use tidegate_client::Client;
use tidegate_client::status::Status;
use tidegate_engine::xsk::Endpoint;

use crate::frames::udp;
use crate::kit::{Gateway, PATIENCE, Site, filter, port};

/// Ports with filters; each forwards to the next letter.
const INWARD: [&str; 2] = ["a", "c"];
const OUTWARD: [&str; 2] = ["b", "d"];

/// Frames to each port in a burst.
const EACH: u16 = 8;

/// One of the two files.
fn file(second: bool) -> String {
    let mut file = String::from("[workers]\nidle = \"adaptive\"\n");
    for (inward, outward) in INWARD.iter().zip(OUTWARD) {
        file += &format!("[port.{inward}]\nforward_to = \"{outward}\"\n[port.{outward}]\nforward_to = \"{inward}\"\n");
    }
    let (pass, drop) = if second { ("drop", "pass") } else { ("pass", "drop") };
    for on in INWARD {
        let mut add = |chain: u32, name: &str, port: u16, action: &str| {
            file += &format!(
                "[[filter]]\non = \"{on}\"\nchain = {chain}\nname = \"{on}-{name}\"\nprotocol = \"ip\"\n\
                 match = {{ ip_proto = \"udp\", dst_port = {port} }}\naction = \"{action}\"\n"
            );
        };
        if second {
            add(0, "extra", 7, "drop"); // all automatic priorities after it are others
        }
        add(0, "kept", 22, "pass");
        add(0, "either", 9, drop);
        add(0, "whole", 20, if second { "goto 2" } else { "goto 1" });
        add(0, "never", 21, if second { "goto 4" } else { "goto 3" });
        for (chain, action) in [(1, pass), (2, drop), (3, drop), (4, pass)] {
            file += &format!("[[filter]]\non = \"{on}\"\nchain = {chain}\naction = \"{action}\"\n");
        }
    }
    file
}

/// The far ends, and what went to and fro.
struct Traffic {
    inward: Vec<Endpoint>,
    outward: Vec<Endpoint>,
    queues: u16,
    sent: u16,
    rounds: u64,
    /// Frames to port 9 that arrived.
    either: u64,
}

impl Traffic {
    fn new(site: &Site, queues: u16) -> Traffic {
        let stations = |names: [&str; 2]| names.iter().map(|name| site.station(name)).collect();
        Traffic { inward: stations(INWARD), outward: stations(OUTWARD), queues, sent: 0, rounds: 0, either: 0 }
    }

    /// One burst by each queue of each port. All that must arrive does, once; what must not does not.
    fn round(&mut self) {
        self.rounds += 1;
        for (from, to) in self.inward.iter_mut().zip(&mut self.outward) {
            let mut expected = BTreeSet::new();
            for queue in 0..self.queues {
                let mut frames = Vec::new();
                for _ in 0..EACH {
                    self.sent = self.sent.wrapping_add(1);
                    frames.extend([20, 9, 21, 22].map(|port| udp(port, self.sent, 64)));
                    expected.extend([(20, self.sent), (22, self.sent)]);
                }
                assert_eq!(from.send_burst(queue, frames.iter().map(Vec::as_slice)), frames.len());
            }
            let end = Instant::now() + PATIENCE;
            while !expected.is_empty() {
                assert!(Instant::now() < end, "lost in round {}: {expected:?}", self.rounds);
                to.wait(1);
                to.recv_burst(|frame| {
                    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
                    match (word(36), word(34)) {
                        (9, _) => self.either += 1,
                        (port, number) => assert!(expected.remove(&(port, number)), "{port}, {number} must not arrive"),
                    }
                });
            }
        }
    }

    /// Every packet's fate is counted: nothing was lost, and the filter that no reload touches counted on.
    fn check(&self, gateway: &Gateway) {
        let to_each = self.rounds * u64::from(self.queues) * u64::from(EACH);
        let status = gateway.settled(to_each * 4 * 2);
        for on in INWARD {
            assert_eq!(filter(&status, &format!("{on}-kept")).packets, to_each, "counters survive reloads");
            let dropped = &port(&status, on).totals.dropped;
            let others = dropped.iter().sum::<u64>() - dropped[DropReason::Filter.index()];
            assert_eq!(others, 0, "dropped by filters only: {dropped:?}");
        }
    }
}

/// Reloads one file after the other every 10 to 50 ms while `work` goes on. Returns how many were ordered.
fn storm(site: &Site, reload: impl Fn() + Sync, work: impl FnOnce()) -> u64 {
    let (stop, ordered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = ordered.fetch_add(1, Ordering::Relaxed) + 1;
                site.rewrite(&file(number % 2 == 1));
                reload();
                thread::sleep(Duration::from_millis(10 + number * 7 % 40));
            }
        });
        let stopped = Stop(&stop);
        work();
        drop(stopped);
    });
    ordered.into_inner()
}

/// Ends a storm also when the work beside it fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn traffic_for(traffic: &mut Traffic, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        traffic.round();
    }
}

fn reloads(status: &Status) -> u64 {
    assert_eq!(status.reload.failed, None);
    status.reload.reloads
}

/// [RL-1], [RL-5], [RL-10]
#[test]
fn by_sighup_each_packet_meets_one_file_and_none_is_lost() {
    let Some(site) = Site::with_queues(&["a", "b", "c", "d"], 2) else { return };
    let gateway = site.start(&file(false));
    let mut traffic = Traffic::new(&site, 2);
    storm(&site, || gateway.hang_up(), || traffic_for(&mut traffic, Duration::from_secs(4)));
    let done = reloads(&gateway.until("reloads end", |status| reloads(status) > 20));
    assert!(traffic.either > 0, "{done} reloads, {} rounds", traffic.rounds);
    traffic.check(&gateway);
    gateway.stop();
}

/// [RL-1], [RL-11], [CC-23], [KR-79]
#[test]
fn by_socket_beside_clients_each_packet_meets_one_file_and_none_is_lost() {
    let Some(site) = Site::with_queues(&["a", "b", "c", "d"], 2) else { return };
    let gateway = site.start(&file(false));
    let mut traffic = Traffic::new(&site, 2);
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let client = |number: u32| {
        let mut client = Client::connect(&gateway.socket).unwrap();
        while !stop.load(Ordering::Relaxed) {
            // In the priorities of the file's own filters, and in one of its chains [RL-11].
            for (chain, priority) in [(0, 10), (1, 5)] {
                let wanted = json!({
                    "on": "a", "chain": chain, "priority": priority, "protocol": "ip",
                    "match": { "ip_proto": "udp", "dst_port": 1000 + number }, "action": "drop",
                });
                let place = client.add_filter(wanted).unwrap()[0];
                let key = json!({ "on": "a", "chain": chain, "priority": priority, "handle": place.handle });
                client.delete_filter(key).unwrap();
                made.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        (0..10).for_each(|number| _ = scope.spawn(move || client(number)));
        let stopped = Stop(&stop);
        let reload = || _ = Client::connect(&gateway.socket).unwrap().reload(None).unwrap();
        let ordered = storm(&site, reload, || traffic_for(&mut traffic, Duration::from_secs(4)));
        assert_eq!(reloads(&gateway.status()), ordered);
        assert!(ordered > 10 && made.load(Ordering::Relaxed) > 100, "{ordered} reloads, {made:?} filters of clients");
        drop(stopped);
    });
    traffic.check(&gateway);
    gateway.stop();
}

/// Block, chain, priority, handle, name, actions and hits of a filter: what a listing says, but for ages.
type Rule = (String, u32, u32, String, String, Vec<String>, u64);

fn rules(status: &Status) -> Vec<Rule> {
    let rule = |f: &tidegate_client::status::FilterStatus| {
        (f.block.to_string(), f.chain, f.priority, f.handle.to_string(), f.name.clone(), f.actions.clone(), f.packets)
    };
    status.filters.iter().map(rule).collect()
}

/// [RL-9]
#[test]
fn a_reload_that_fails_changes_nothing_and_gives_every_reason() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&file(false));
    Traffic::new(&site, 1).round();
    let before = rules(&gateway.settled(64));
    let mistakes = file(true).replace("goto 2", "goto 99").replace("port = 22", "port = 99999");
    let restart = file(true).replace("idle = \"adaptive\"", "ring_size = 64").replacen(
        "forward_to = \"b\"",
        "forward_to = \"c\"",
        1,
    );
    let syntax = file(true) + "[[filter\n";
    for (bad, reasons) in [
        (mistakes, &["tidegate.toml:", "goto 99: there is no such chain in block `a`", "99999"][..]),
        (
            restart,
            &["workers.ring_size: 64 instead of 2048: needs a restart", "port.a.forward_to: \"c\" instead of \"b\""],
        ),
        (syntax, &["tidegate.toml:"]),
    ] {
        site.rewrite(&bad);
        let (code, said) = site.tidegate(&["reload"]);
        assert_eq!(code, Some(1), "{said}");
        for reason in reasons {
            assert!(said.contains(reason), "{reason:?} is not in {said}");
            let status = gateway.status();
            assert!(status.reload.failed.as_ref().is_some_and(|failed| failed.contains(reason)), "{:?}", status.reload);
        }
        assert_eq!(rules(&gateway.status()), before);
    }
    site.rewrite(&file(true));
    assert_eq!(site.tidegate(&["reload"]).0, Some(0));
    assert_eq!(gateway.status().reload.failed, None);
    gateway.stop();
}

#[test]
fn a_trial_ends_where_it_began_unless_it_is_confirmed() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&file(false));
    let first = rules(&gateway.status());
    site.rewrite(&file(true));
    let (code, said) = site.tidegate(&["reload", "--confirm", "1s"]); // and the client is gone
    assert!(code == Some(0) && said.contains("on trial"), "{said}");
    let status = gateway.status();
    assert_ne!(rules(&status), first);
    assert!(status.reload.confirm_left_s.is_some());
    let status = gateway.until("back to what was", |status| status.reload.confirm_left_s.is_none());
    assert_eq!(rules(&status), first);
    assert_eq!(site.tidegate(&["confirm"]).0, Some(1), "nothing waits");

    assert_eq!(site.tidegate(&["reload", "--confirm", "1s"]).0, Some(0));
    assert_eq!(site.tidegate(&["confirm"]).0, Some(0));
    let second = rules(&gateway.status());
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(rules(&gateway.status()), second);
    assert_ne!(second, first);

    // Back from a second trial leads to what was confirmed.
    site.rewrite(&file(false));
    assert_eq!(site.tidegate(&["reload", "--confirm", "1h"]).0, Some(0));
    site.rewrite(&file(false).replace("drop", "pass"));
    assert_eq!(site.tidegate(&["reload", "--confirm", "1s"]).0, Some(0));
    let status = gateway.until("back to what was", |status| status.reload.confirm_left_s.is_none());
    let names =
        |rules: &[Rule]| -> Vec<_> { rules.iter().map(|rule| (rule.1, rule.4.clone(), rule.5.clone())).collect() };
    assert_eq!(names(&rules(&status)), names(&second));
    gateway.stop();
}

#[test]
fn diff_says_what_a_reload_would_do_and_does_nothing() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&file(false));
    let path = site.file();
    let path = path.to_str().unwrap();
    assert_eq!(site.tidegate(&["diff", path]), (Some(0), String::new()));
    site.rewrite(&file(true));
    let (code, said) = site.tidegate(&["diff", path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.lines().any(|line| line.starts_with("+ a: {") && line.contains("\"a-extra\"")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("~ a: {") && line.contains("\"a-either\"")), "{said}");
    assert!(!said.contains("kept"), "{said}");
    let (code, said) = site.tidegate(&["diff", "--json", path]);
    let parsed: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, parsed["blocks"][0]["unchanged"].as_u64()), (Some(1), Some(1)), "{said}");
    assert_eq!(site.tidegate(&["reload"]).0, Some(0));
    assert_eq!(site.tidegate(&["diff", path]), (Some(0), String::new()));
    site.rewrite("nonsense");
    assert_eq!(site.tidegate(&["diff", path]).0, Some(2));
    gateway.stop();
}

#[test]
fn a_port_gets_its_first_filters_by_a_reload() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let bare = file(false).split("[[filter]]").next().unwrap().to_owned();
    let gateway = site.start(&bare);
    Client::connect(&gateway.socket).unwrap().bind("c", Some(0), None).unwrap();
    site.rewrite(&file(false));
    let (code, said) = site.tidegate(&["reload"]);
    assert!(code == Some(1) && said.contains("port c: ") && said.contains("a client bound it"), "{said}");
    Client::connect(&gateway.socket).unwrap().unbind("c").unwrap();
    assert_eq!(site.tidegate(&["reload"]).0, Some(0));
    let mut traffic = Traffic::new(&site, 1);
    traffic.round();
    traffic.check(&gateway);
    site.rewrite(&bare);
    assert_eq!(site.tidegate(&["reload"]).0, Some(0));
    assert!(gateway.status().filters.is_empty());
    gateway.stop();
}

#[test]
fn a_storm_of_signals_ends_with_the_last_file() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&file(false));
    for number in 0..500 {
        if number % 10 == 0 {
            site.rewrite(&file(number % 20 == 0));
        }
        gateway.hang_up();
    }
    site.rewrite(&file(true));
    gateway.hang_up();
    let last = |status: &Status| status.filters.iter().any(|filter| filter.name == "c-extra");
    let status = gateway.until("the last file runs", last);
    assert!(reloads(&status) > 0);
    gateway.stop();
}

#[test]
fn killed_during_a_reload_it_starts_with_the_file() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    for number in 0..5 {
        let mut gateway = site.start(&file(false));
        site.rewrite(&file(true));
        gateway.hang_up();
        thread::sleep(Duration::from_millis(number * 2));
        gateway.process.signal(nix::sys::signal::Signal::SIGKILL);
        assert!(gateway.process.wait(PATIENCE).is_some());
        let gateway = site.start(&file(true));
        Traffic::new(&site, 1).round();
        let status = gateway.settled(64);
        assert_eq!(filter(&status, "a-extra").packets, 0);
        gateway.stop();
    }
}
