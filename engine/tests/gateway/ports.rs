//! Ports that come and go by reloads while others serve.
//!
//! Packets go to and fro between `a` and `b` all the time, numbered, by every queue: each must arrive, in order. Beside them port
//! `c` comes and goes; what comes in there goes to `d`, and what a filter of `d` redirects goes out of `c`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use tidegate_classifiers::verdict::DropReason;
use tidegate_client::Client;
use tidegate_client::status::Status;
use tidegate_engine::xsk::Endpoint;

use crate::frames::{udp, udps};
use crate::kit::{Gateway, PATIENCE, SILENCE, Site, arrives, balanced, filter, port, wire};

/// Packets that `c` drops, if it has its filters.
const DROPPED: u16 = 21;
/// Packets that `d` sends out of `c`.
const REDIRECTED: u16 = 30;

/// The file without port `c`.
fn without() -> String {
    wire("[port.d]\nforward_to = \"a\"\n[[filter]]\non = \"a\"\nname = \"kept\"\naction = \"pass\"\n")
}

/// The file with port `c`, which has these settings besides.
fn with(settings: &str) -> String {
    let filters =
        [("c", "discard", DROPPED, "drop"), ("d", "out", REDIRECTED, "redirect c")].map(|(on, name, port, action)| {
            format!(
                "[[filter]]\non = \"{on}\"\nname = \"{name}\"\nprotocol = \"ip\"\n\
             match = {{ ip_proto = \"udp\", dst_port = {port} }}\naction = \"{action}\"\n"
            )
        });
    format!("{}[port.c]\nforward_to = \"d\"\n{settings}\n{}", without(), filters.concat())
}

/// Numbered packets between `a` and `b`, both ways, by every queue.
struct Steady {
    ends: [Endpoint; 2],
    queues: u16,
    sent: u64,
    /// What is to arrive next, by direction and queue.
    next: Vec<[u64; 2]>,
}

impl Steady {
    fn new(site: &Site, queues: u16) -> Steady {
        let ends = ["a", "b"].map(|name| site.station(name));
        Steady { ends, queues, sent: 0, next: vec![[0; 2]; queues.into()] }
    }

    /// Sends for as long as `goes_on` says, some thousand packets a second, and then waits for the last ones.
    fn run(&mut self, goes_on: impl Fn() -> bool) {
        while goes_on() {
            for _ in 0..2 {
                for queue in 0..self.queues {
                    let packet = udp(100 + queue, u16::try_from(self.sent % 65_536).unwrap(), 64);
                    assert_eq!(self.ends[0].send_burst(queue, [packet.as_slice()]), 1);
                    assert_eq!(self.ends[1].send_burst(queue, [packet.as_slice()]), 1);
                }
                self.sent += 1;
            }
            let end = Instant::now() + Duration::from_micros(500);
            while Instant::now() < end {
                self.receive();
                thread::yield_now();
            }
        }
        let end = Instant::now() + PATIENCE;
        while self.next.iter().flatten().any(|next| *next < self.sent) {
            assert!(Instant::now() < end, "of {} packets only these arrived: {:?}", self.sent, self.next);
            self.receive();
        }
    }

    fn receive(&mut self) {
        for (end, from) in self.ends.iter_mut().zip([1, 0]) {
            end.recv_burst(|frame| {
                let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
                let next = &mut self.next[usize::from(word(36) - 100)][from];
                assert_eq!(u64::from(word(34)), *next % 65_536, "lost or out of order, {next} had arrived");
                *next += 1;
            });
        }
    }

    /// Packets in all.
    fn packets(&self) -> u64 {
        2 * u64::from(self.queues) * self.sent
    }
}

/// Work beside steady traffic: nothing of that is lost or misordered.
fn beside_traffic<T: Send>(site: &Site, queues: u16, work: impl FnOnce() -> T + Send) -> (T, u64) {
    let mut steady = Steady::new(site, queues);
    let working = AtomicBool::new(true);
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            let _done = Done(&working);
            work()
        });
        steady.run(|| working.load(Ordering::Acquire));
        (work.join().unwrap(), steady.packets())
    })
}

/// Ends the traffic also when the work beside it fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Everything goes its way through `c` and `d`, and is counted. `c` counts from its beginning.
fn serves(gateway: &Gateway, name: &str, c: &mut Endpoint, d: &mut Endpoint) {
    gateway.until("c is up", |status| port(status, name).link == "up");
    let (through, back) = (udps(9, 8), udps(REDIRECTED, 8));
    udps(DROPPED, 8).iter().chain(&through).for_each(|packet| assert!(c.send(packet)));
    back.iter().for_each(|packet| assert!(d.send(packet)));
    for (station, packets) in [(d, &through), (c, &back)] {
        packets.iter().for_each(|packet| assert_eq!(station.recv(PATIENCE).as_ref(), Some(packet)));
    }
    let status = gateway.until("c's packets are counted", |status| {
        let totals = &port(status, name).totals;
        (totals.rx_packets, totals.tx_packets) == (16, 8)
    });
    let totals = &port(&status, name).totals;
    assert_eq!((totals.balance(), totals.forwarded_packets), (0, 8), "{totals:?}");
    assert_eq!(totals.dropped[DropReason::Filter.index()], 8);
    assert_eq!((filter(&status, "discard").packets, filter(&status, "out").packets % 8), (8, 0));
}

fn reload(site: &Site, gateway: &Gateway, file: &str, by_signal: bool) {
    site.rewrite(file);
    if by_signal {
        let before = gateway.status().reload.reloads;
        gateway.hang_up();
        gateway.until("the reload is done", |status| status.reload.reloads > before);
    } else {
        gateway.client().reload(None).unwrap();
    }
    assert_eq!(gateway.status().reload.failed, None);
}

fn rounds(short: u32, long: u32) -> u32 {
    if std::env::var_os("SOAK").is_some() { long } else { short }
}

/// [RL-10]
#[test]
fn a_port_comes_and_goes_and_the_others_lose_no_packet() {
    let Some(site) = Site::with_queues(&["a", "b", "c", "d"], 2) else { return };
    let gateway = site.start(&without());
    let frames = gateway.status().workers[0].frames;
    let (mut out, (_, packets)) = (
        0,
        beside_traffic(&site, 2, || {
            let (mut c, mut d) = (site.station("c"), site.station("d"));
            for round in 0..rounds(52, 2000) {
                reload(&site, &gateway, &with(""), round % 2 == 0);
                serves(&gateway, "c", &mut c, &mut d);
                assert!(site.link("c").contains("prog/xdp"));
                reload(&site, &gateway, &without(), round % 3 == 0);
                let status = gateway.status();
                assert!(status.ports.iter().all(|port| port.name != "c"), "round {round}");
                assert!(!site.link("c").contains("prog/xdp"));
                assert_eq!((status.workers[0].restarts, status.workers[0].frames), (0, frames));
            }
        }),
    );
    out += packets;
    let status = gateway.until("all is counted", |status| port(status, "a").totals.rx_packets * 2 >= out);
    balanced(&status);
    assert_eq!(port(&status, "a").totals.forwarded_packets + port(&status, "b").totals.forwarded_packets, packets);
    assert_eq!(filter(&status, "kept").packets, packets / 2, "what stays counts on");
    gateway.stop();
}

/// What the gateway says of itself, but for what time alone changes, and what its interfaces look like.
fn all_of(site: &Site, gateway: &Gateway) -> (Status, String, Vec<String>) {
    let mut status = gateway.status();
    status.uptime_s = 0;
    status.workers.iter_mut().for_each(|worker| worker.bursts = 0);
    status.ports.iter_mut().for_each(|port| port.rates = Default::default());
    status.reload.failed = None;
    let (code, export) = site.tidegate(&["export"]);
    assert_eq!(code, Some(0));
    (status, export, ["a", "b", "c", "d"].iter().map(|port| site.link(port)).collect())
}

/// [RL-9]
#[test]
fn a_port_that_cannot_be_had_changes_nothing_and_says_why() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    site.cable("wide", 2);
    let gateway = site.start(&without());
    let mut client = gateway.client();
    // A client's filter is where the file wants one of another kind: known when the port is open already.
    let foreign = json!({ "on": "a", "priority": 70, "protocol": "ip", "match": { "ip_proto": "udp", "dst_port": 1 }, "action": "pass" });
    client.add_filter(foreign).unwrap();
    let before = all_of(&site, &gateway);
    let refused = |file: &str, reasons: &[&str]| {
        site.rewrite(file);
        let (code, said) = site.tidegate(&["reload"]);
        assert_eq!(code, Some(1), "{said}");
        for reason in reasons {
            assert!(said.contains(reason), "{reason:?} is not in {said}");
        }
        assert_eq!(all_of(&site, &gateway), before, "{reasons:?}");
    };
    refused(&with("interface = \"absent\""), &["port c: interface absent: No such device"]);
    refused(
        &with("interface = \"wide\""),
        &["port c: interface wide has 2 receive and 2 transmit queues for 1 workers"],
    );
    refused(&with("mode = \"zero-copy\""), &["port c: worker 0: c is to be zero-copy, and the ports that run are not"]);
    let conflict = "[[filter]]\non = \"a\"\npriority = 70\nprotocol = \"ip\"\nmatch = { ip_proto = \"tcp\" }\nname = \"late\"\naction = \"drop\"\n";
    for settings in ["", "on_exit = \"drop\""] {
        let u32 = "[[filter]]\non = \"c\"\nkind = \"u32\"\nmatch = { divisor = 1 }\nhandle = \"1:\"\nactions = []\n";
        refused(&(with(settings) + u32), &["u32"]);
        refused(
            &(with(settings)
                + &conflict.replace("priority = 70\nprotocol = \"ip\"", "priority = 70\nprotocol = \"ipv6\"")),
            &["\"late\""],
        );
    }
    refused(&(with("") + "[workers]\nring_size = 64\n"), &["workers.ring_size: 64 instead of 2048: needs a restart"]);
    refused(
        &with("").replace("forward_to = \"b\"", "forward_to = \"c\""),
        &["port.a.forward_to: \"c\" instead of \"b\""],
    );
    let foreign = site.gateway.inside(|| Endpoint::open("c").unwrap()).unwrap();
    let held = site.link("c");
    site.rewrite(&with(""));
    let (code, said) = site.tidegate(&["reload"]);
    assert!(code == Some(1) && said.contains("port c: ") && said.contains(&std::process::id().to_string()), "{said}");
    assert_eq!(site.link("c"), held);
    drop(foreign);
    refused(&(with("") + "[port.e]\ninterface = \"absent\"\nforward_to = \"c\"\n"), &["port e: interface absent"]);
    reload(&site, &gateway, &with(""), false);
    serves(&gateway, "c", &mut site.station("c"), &mut site.station("d"));
    gateway.stop();
}

#[test]
fn packet_memory_without_room_says_how_much_is_needed() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let small = |file: String| file + "[workers]\nring_size = 64\nframes = 600\n";
    let gateway = site.start(&small(without()));
    site.rewrite(&small(with("")));
    let (code, said) = site.tidegate(&["reload"]);
    let room = "port c: worker 0: packet memory has no room for another port: 768 frames are needed, there are 600; \
                set workers.frames to 768 or more, and restart the gateway";
    assert!(code == Some(1) && said.contains(room), "{said}");
    gateway.stop();
    let gateway = site.start(&small(without()).replace("600", "768"));
    reload(&site, &gateway, &small(with("")).replace("600", "768"), true);
    serves(&gateway, "c", &mut site.station("c"), &mut site.station("d"));
    gateway.stop();
}

/// [RL-2]
#[test]
fn a_port_that_clients_use_stays() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&with(""));
    let mut client = gateway.client();
    let filter = |on: &str, action: &str| json!({ "on": on, "priority": 7, "protocol": "ip", "match": { "ip_proto": "udp", "dst_port": 1 }, "action": action });
    client.add_filter(filter("a", "redirect c")).unwrap();
    client.add_filter(filter("c", "pass")).unwrap();
    client.add_actions(json!([{ "action": "mirror c", "index": 9 }])).unwrap();
    site.rewrite(&without());
    let (code, said) = site.tidegate(&["reload"]);
    assert_eq!(code, Some(1));
    for reason in [
        "port c: a client's filter names it: block a, chain 0 priority 7 handle 1; it has to be deleted first",
        "port c: a client's filter goes with it: block c, chain 0 priority 7 handle 1",
        "port c: a client's action names it: mirred index 9",
    ] {
        assert!(said.contains(reason), "{reason:?} is not in {said}");
    }
    client.delete_filter(json!({ "on": "a", "priority": 7 })).unwrap();
    client.delete_filter(json!({ "on": "c", "priority": 7 })).unwrap();
    client.delete_actions(vec![json!({ "kind": "mirred", "index": 9 })]).unwrap();
    serves(&gateway, "c", &mut site.station("c"), &mut site.station("d"));
    reload(&site, &gateway, &without(), false);
    assert_eq!(client.add_filter(filter("c", "pass")).unwrap_err().errno(), Some("ENODEV"));
    gateway.stop();
}

#[test]
fn a_trial_takes_a_port_back_and_brings_one_back() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&without());
    let (_, packets) = beside_traffic(&site, 1, || {
        let (mut c, mut d) = (site.station("c"), site.station("d"));
        site.rewrite(&with(""));
        let (code, said) = site.tidegate(&["reload", "--confirm", "1s"]);
        assert!(code == Some(0) && said.contains("ports added: c"), "{said}");
        serves(&gateway, "c", &mut c, &mut d);
        gateway.until("c is taken back, and then its filters", |status| {
            status.ports.len() == 3 && status.filters.iter().all(|filter| filter.name == "kept")
        });
        assert!(!site.link("c").contains("prog/xdp"));

        assert_eq!(site.tidegate(&["reload", "--confirm", "1s"]).0, Some(0));
        assert_eq!(site.tidegate(&["confirm"]).0, Some(0));
        site.rewrite(&without());
        let (code, said) = site.tidegate(&["reload", "--json", "--confirm", "1s"]);
        let report: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((code, &report["ports_removed"]), (Some(0), &json!(["c"])));
        assert_eq!(gateway.status().ports.len(), 3);
        gateway.until("c is back", |status| status.ports.len() == 4 && status.reload.confirm_left_s.is_none());
        serves(&gateway, "c", &mut c, &mut d);
    });
    let status = gateway.until("all is counted", |status| port(status, "b").totals.tx_packets * 2 >= packets);
    balanced(&status);
    gateway.stop();
}

#[test]
fn a_port_that_gets_another_name_goes_and_comes() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&with(""));
    let renamed = |settings: &str| {
        with(settings)
            .replace("[port.c]", "[port.x]\ninterface = \"c\"")
            .replace("\"redirect c\"", "\"redirect x\"")
            .replace("on = \"c\"", "on = \"x\"")
    };
    beside_traffic(&site, 1, || {
        let (mut c, mut d) = (site.station("c"), site.station("d"));
        serves(&gateway, "c", &mut c, &mut d);
        // What cannot be had leaves the port as it was, but for an interruption.
        site.rewrite(&renamed("mode = \"zero-copy\""));
        let (code, said) = site.tidegate(&["reload"]);
        assert!(code == Some(1) && said.contains("port x: worker 0: c is to be zero-copy"), "{said}");
        gateway.until("c is up again", |status| port(status, "c").link == "up");
        udps(9, 8).iter().for_each(|packet| assert!(c.send(packet)));
        arrives(&mut d, &udps(9, 8));
        reload(&site, &gateway, &renamed(""), true);
        serves(&gateway, "x", &mut c, &mut d);
        reload(&site, &gateway, &with(""), false);
        serves(&gateway, "c", &mut c, &mut d);
    });
    gateway.stop();
}

#[test]
fn a_removed_port_stays_closed_if_it_is_to_fail_closed() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&with("on_exit = \"drop\""));
    reload(&site, &gateway, &without(), true);
    assert!(site.link("c").contains("prog/xdp"));
    let detach = || site.gateway.exec(env!("CARGO_BIN_EXE_tidegate")).args(["detach", "c"]).output().unwrap().status;
    // It comes back in its place.
    reload(&site, &gateway, &with("on_exit = \"drop\""), false);
    serves(&gateway, "c", &mut site.station("c"), &mut site.station("d"));
    assert_eq!(detach().code(), Some(1), "not while it is in use");
    reload(&site, &gateway, &without(), true);
    assert_eq!(detach().code(), Some(0));
    assert!(!site.link("c").contains("prog/xdp"));
    gateway.stop();
}

#[test]
fn a_port_comes_to_a_shared_block_and_leaves_it() {
    let Some(site) = Site::new(&["a", "b", "c"]) else { return };
    let file = |third: &str| {
        format!(
            "[port.a]\nforward_to = \"b\"\nblock = \"office\"\n[port.b]\nforward_to = \"a\"\nblock = \"office\"\n{third}\
             [[filter]]\non = \"office\"\nname = \"discard\"\nprotocol = \"ip\"\n\
             match = {{ ip_proto = \"udp\", dst_port = {DROPPED} }}\naction = \"drop\"\n[block.office]\n"
        )
    };
    let third = file("[port.c]\nforward_to = \"a\"\nblock = \"office\"\n");
    let gateway = site.start(&file(""));
    let (mut a, mut c) = (site.station("a"), site.station("c"));
    for round in 1..=3 {
        reload(&site, &gateway, &third, true);
        gateway.until("c is up", |status| port(status, "c").link == "up");
        udps(DROPPED, 5).iter().chain(&udps(9, 5)).for_each(|packet| assert!(c.send(packet)));
        arrives(&mut a, &udps(9, 5));
        assert_eq!(filter(&gateway.status(), "discard").packets, 5 * round);
        reload(&site, &gateway, &file(""), false);
        udps(9, 5).iter().for_each(|packet| assert!(c.send(packet)));
        assert_eq!(a.recv(SILENCE), None, "c is no port");
    }
    gateway.stop();
}

#[test]
fn diff_and_check_show_ports_that_come_and_go() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&without());
    let path = site.file();
    let path = path.to_str().unwrap();
    site.rewrite(&with(""));
    let (_, said) = site.tidegate(&["check", path]);
    assert!(said.contains("ok: 4 ports (a, b, d, c), 3 filters"), "{said}");
    let (code, said) = site.tidegate(&["diff", path]);
    assert_eq!(code, Some(1));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "+ port c");
    assert!(lines[1..].iter().any(|line| line.starts_with("+ d: {") && line.contains("redirect c")), "{said}");
    assert_eq!(gateway.client().reload(None).unwrap().ports_added, ["c"]);
    assert_eq!(site.tidegate(&["diff", path]), (Some(0), String::new()));
    site.rewrite(&without());
    let (_, said) = site.tidegate(&["diff", path]);
    assert!(said.starts_with("- port c\n") && said.contains("redirect c"), "{said}");
    let (code, said) = site.tidegate(&["diff", "--json", path]);
    let parsed: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &parsed["ports"]), (Some(1), &json!({ "added": [], "removed": ["c"] })));
    assert_eq!(gateway.client().reload(None).unwrap().ports_removed, ["c"]);
    assert!(site.tidegate(&["status"]).1.contains("ports removed: c"));
    gateway.stop();
}

#[test]
fn killed_while_a_port_comes_it_starts_with_it() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    for number in 0..rounds(5, 200) {
        let mut gateway = site.start(&without());
        site.rewrite(&with(if number % 2 == 0 { "" } else { "on_exit = \"drop\"" }));
        gateway.hang_up();
        thread::sleep(Duration::from_millis(u64::from(number % 16) * 2));
        gateway.process.signal(Signal::SIGKILL);
        assert!(gateway.process.wait(PATIENCE).is_some());
        let gateway = site.start(&with(""));
        serves(&gateway, "c", &mut site.station("c"), &mut site.station("d"));
        gateway.stop();
    }
}

/// An interface that vanishes and is there again is served again without a restart of workers.
#[test]
fn a_port_whose_interface_comes_back_disturbs_no_other() {
    let Some(site) = Site::new(&["a", "b", "c", "d"]) else { return };
    let gateway = site.start(&with(""));
    beside_traffic(&site, 1, || {
        for _ in 0..3 {
            site.ip("link delete dev c");
            gateway.until("c is gone", |status| port(status, "c").mode == "detached");
            site.cable("c", 1);
            gateway.until("c is back", |status| port(status, "c").link == "up");
            let (mut c, mut d) = (site.station("c"), site.station("d"));
            udps(9, 8).iter().for_each(|packet| assert!(c.send(packet)));
            udps(9, 8).iter().for_each(|packet| assert_eq!(d.recv(PATIENCE).as_ref(), Some(packet)));
        }
        assert_eq!(gateway.status().workers[0].restarts, 0);
    });
    assert!(Client::connect(&gateway.socket).is_ok());
    gateway.stop();
}
