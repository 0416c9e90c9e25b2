//! Reload: each packet has the verdict of one file, on each worker of later and later ones, and nothing is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_client::Client;
use tidegate_client::status::Status;

use crate::kit::{Gateway, PATIENCE, Site, filter};
use crate::series::{PORTS, Traffic, file};

/// Files of a storm, at least.
const FILES: u64 = 20;

/// Reloads file after file of the series every 10 to 50 ms, traffic in two queues beside it: for some seconds, or
/// `SOAK_MINUTES`, and [`FILES`] at least. Then the last file is the one that judges. Returns how many were ordered.
fn storm(site: &Site, gateway: &Gateway, reload: impl Fn() + Sync) -> u64 {
    let minutes =
        std::env::var("SOAK_MINUTES").map(|minutes| minutes.parse::<f64>().expect("SOAK_MINUTES is a number"));
    let end =
        Instant::now() + minutes.map_or(Duration::from_secs(4), |minutes| Duration::from_secs_f64(60.0 * minutes));
    let mut traffic = Traffic::new(site, 2);
    let (stop, ordered) = (AtomicBool::new(false), AtomicU64::new(0));
    let newest = || ordered.load(Ordering::SeqCst);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = ordered.fetch_add(1, Ordering::SeqCst) + 1;
                site.rewrite(&file(number));
                reload();
                thread::sleep(Duration::from_millis(10 + number * 7 % 40));
            }
        });
        let stopped = Stop(&stop);
        while Instant::now() < end || newest() < FILES {
            traffic.round(newest);
        }
        drop(stopped);
    });
    let end = Instant::now() + PATIENCE;
    while !traffic.is_judged_by(newest()) {
        assert!(Instant::now() < end, "the last file does not judge");
        traffic.round(newest);
    }
    traffic.check(gateway);
    println!("{} files, {} packets, workers went on {} times", newest(), traffic.packets(), traffic.advances);
    newest()
}

/// Ends what goes on beside a test, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn reloads(status: &Status) -> u64 {
    assert_eq!(status.reload.failed, None);
    status.reload.reloads
}

/// [RL-1], [RL-5], [RL-10]
#[test]
fn by_sighup_each_packet_meets_one_file_and_none_is_lost() {
    let Some(site) = Site::with_queues(&PORTS, 2) else { return };
    let gateway = site.start(&file(0));
    storm(&site, &gateway, || gateway.hang_up());
    assert!(reloads(&gateway.status()) > FILES / 2, "signals may come faster than reloads");
    gateway.stop();
}

/// [RL-1], [RL-11], [CC-23], [KR-79]
#[test]
fn by_socket_beside_clients_each_packet_meets_one_file_and_none_is_lost() {
    let Some(site) = Site::with_queues(&PORTS, 2) else { return };
    let gateway = site.start(&file(0));
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
        let ordered = storm(&site, &gateway, || _ = Client::connect(&gateway.socket).unwrap().reload(None).unwrap());
        assert_eq!(reloads(&gateway.status()), ordered);
        let made = made.load(Ordering::Relaxed);
        println!("{made} filters of clients came and went");
        assert!(made > 100, "{made} filters of clients");
        drop(stopped);
    });
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
    let Some(site) = Site::new(&PORTS) else { return };
    let gateway = site.start(&file(0));
    Traffic::new(&site, 1).round(|| 0);
    let before = rules(&gateway.settled(64));
    let mistakes = file(1).replace("goto 2", "goto 99").replace("port = 22", "port = 99999");
    let restart = file(1).replace("idle = \"adaptive\"", "ring_size = 64").replacen(
        "forward_to = \"b\"",
        "forward_to = \"c\"",
        1,
    );
    let syntax = file(1) + "[[filter\n";
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
    site.rewrite(&file(1));
    assert_eq!(site.tidegate(&["reload"]).0, Some(0));
    assert_eq!(gateway.status().reload.failed, None);
    gateway.stop();
}

#[test]
fn a_trial_ends_where_it_began_unless_it_is_confirmed() {
    let Some(site) = Site::new(&PORTS) else { return };
    let gateway = site.start(&file(0));
    let first = rules(&gateway.status());
    site.rewrite(&file(1));
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
    site.rewrite(&file(0));
    assert_eq!(site.tidegate(&["reload", "--confirm", "1h"]).0, Some(0));
    site.rewrite(&file(0).replace("drop", "pass"));
    assert_eq!(site.tidegate(&["reload", "--confirm", "1s"]).0, Some(0));
    let status = gateway.until("back to what was", |status| status.reload.confirm_left_s.is_none());
    let names =
        |rules: &[Rule]| -> Vec<_> { rules.iter().map(|rule| (rule.1, rule.4.clone(), rule.5.clone())).collect() };
    assert_eq!(names(&rules(&status)), names(&second));
    gateway.stop();
}

#[test]
fn diff_says_what_a_reload_would_do_and_does_nothing() {
    let Some(site) = Site::new(&PORTS) else { return };
    let gateway = site.start(&file(0));
    let path = site.file();
    let path = path.to_str().unwrap();
    assert_eq!(site.tidegate(&["diff", path]), (Some(0), String::new()));
    site.rewrite(&file(1));
    let (code, said) = site.tidegate(&["diff", path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.lines().any(|line| line.starts_with("+ a: {") && line.contains("\"a-extra\"")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("~ a: {") && line.contains("\"a-round\"")), "{said}");
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
    let Some(site) = Site::new(&PORTS) else { return };
    let bare = file(0).split("[[filter]]").next().unwrap().to_owned();
    let gateway = site.start(&bare);
    Client::connect(&gateway.socket).unwrap().bind("c", Some(0), None).unwrap();
    site.rewrite(&file(0));
    let (code, said) = site.tidegate(&["reload"]);
    assert!(code == Some(1) && said.contains("port c: ") && said.contains("a client bound it"), "{said}");
    Client::connect(&gateway.socket).unwrap().unbind("c").unwrap();
    assert_eq!(site.tidegate(&["reload"]).0, Some(0));
    let mut traffic = Traffic::new(&site, 1);
    traffic.round(|| 0);
    traffic.check(&gateway);
    site.rewrite(&bare);
    assert_eq!(site.tidegate(&["reload"]).0, Some(0));
    assert!(gateway.status().filters.is_empty());
    gateway.stop();
}

#[test]
fn a_storm_of_signals_ends_with_the_last_file() {
    let Some(site) = Site::new(&PORTS) else { return };
    let gateway = site.start(&file(0));
    for number in 0..500 {
        if number % 10 == 0 {
            site.rewrite(&file(u64::from(number % 20 == 0)));
        }
        gateway.hang_up();
    }
    site.rewrite(&file(1));
    gateway.hang_up();
    let last = |status: &Status| status.filters.iter().any(|filter| filter.name == "c-extra");
    let status = gateway.until("the last file runs", last);
    assert!(reloads(&status) > 0);
    gateway.stop();
}

#[test]
fn killed_during_a_reload_it_starts_with_the_file() {
    let Some(site) = Site::new(&PORTS) else { return };
    for number in 0..5 {
        let mut gateway = site.start(&file(0));
        site.rewrite(&file(1));
        gateway.hang_up();
        thread::sleep(Duration::from_millis(number * 2));
        gateway.process.signal(nix::sys::signal::Signal::SIGKILL);
        assert!(gateway.process.wait(PATIENCE).is_some());
        let gateway = site.start(&file(1));
        Traffic::new(&site, 1).round(|| 1);
        let status = gateway.settled(64);
        assert_eq!(filter(&status, "a-extra").packets, 0);
        gateway.stop();
    }
}
