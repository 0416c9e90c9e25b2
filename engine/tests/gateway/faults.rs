//! What goes wrong: carrier loss, deleted ports, restarts, kill -9, foreign programs.

use nix::sys::signal::Signal;
use tidegate_classifiers::verdict::DropReason;

use crate::frames::udps;
use crate::kit::{PATIENCE, Site, arrives, balanced, port, wire};

#[test]
fn a_port_without_carrier_drops_counted_and_works_again_when_it_is_back() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let redirected = "[[filter]]\non = \"a\"\nprotocol = \"ip\"\nmatch = { ip_proto = \"udp\", dst_port = 5 }\naction = \"redirect b\"\n";
    let gateway = site.start(&wire(redirected));
    let mut a = site.station("a");
    site.far.down("far-b").unwrap();
    gateway.until("b has no carrier", |status| port(status, "b").link == "no-carrier");
    for frame in udps(9, 10).iter().chain(&udps(5, 4)) {
        assert!(a.send(frame));
    }
    let status = gateway.settled(14);
    let dropped = &port(&status, "a").totals.dropped;
    assert_eq!((dropped[DropReason::PortDown.index()], dropped[DropReason::RedirectDown.index()]), (10, 4));

    site.far.up("far-b").unwrap();
    gateway.until("b is up", |status| port(status, "b").link == "up");
    let mut b = site.station("b");
    let frames = udps(9, 10);
    for frame in &frames {
        assert!(a.send(frame));
    }
    arrives(&mut b, &frames);
    gateway.settled(24);
    gateway.stop();
}

#[test]
fn a_deleted_port_disturbs_no_other_and_serves_again_when_it_is_made_again() {
    let Some(site) = Site::new(&["a", "b", "c"]) else { return };
    let gateway = site.start(&wire(
        "[port.c]\nforward_to = \"a\"\n[[filter]]\non = \"a\"\nprotocol = \"ip\"\nmatch = { ip_proto = \"udp\", dst_port = 5 }\naction = \"redirect c\"\n",
    ));
    let (mut a, mut c) = (site.station("a"), site.station("c"));
    // Frames are under way on b when it goes.
    for frame in udps(9, 50) {
        assert!(a.send(&frame));
    }
    site.ip("link delete dev b");
    gateway.until("b is gone", |status| port(status, "b").link == "gone" && port(status, "b").mode == "detached");
    let before = gateway.settled(50);
    for frame in udps(9, 10) {
        assert!(a.send(&frame));
    }
    let onward = udps(5, 10);
    for frame in &onward {
        assert!(a.send(frame));
    }
    arrives(&mut c, &onward);
    let status = gateway.settled(70);
    let down =
        |status: &tidegate_client::status::Status| port(status, "a").totals.dropped[DropReason::PortDown.index()];
    assert_eq!(down(&status) - down(&before), 10);

    site.cable("b", 1);
    gateway.until("b is back", |status| port(status, "b").link == "up");
    let mut b = site.station("b");
    let frames = udps(9, 10);
    for frame in &frames {
        assert!(a.send(frame));
    }
    arrives(&mut b, &frames);
    gateway.settled(80);
    gateway.stop();
}

#[test]
fn a_restarted_worker_keeps_its_counters_and_goes_on() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let gateway = site.start(&wire("[[filter]]\non = \"a\"\nname = \"all\"\naction = \"pass\"\n"));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    for round in 1..=3 {
        let frames = udps(9, 20);
        for frame in &frames {
            assert!(a.send(frame));
        }
        arrives(&mut b, &frames);
        let status = gateway.settled(20 * round);
        assert_eq!(crate::kit::filter(&status, "all").packets, 20 * round, "[ST-8]");
        gateway.restart_worker(0);
        gateway.until("the worker is new", |status| {
            status.workers[0].restarts == round && status.workers[0].state == "running"
        });
    }
    gateway.stop();
}

#[test]
fn on_exit_pass_leaves_nothing_behind_and_drop_stays_closed() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let config = |on_exit: &str| {
        format!("[port.a]\non_exit = \"{on_exit}\"\nforward_to = \"b\"\n[port.b]\nforward_to = \"a\"\n")
    };
    let attached = || site.link("a").contains("prog/xdp");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        for (on_exit, stays) in [("pass", false), ("drop", true)] {
            let mut gateway = site.start(&config(on_exit));
            assert!(attached());
            gateway.process.signal(signal);
            gateway.process.wait(PATIENCE).unwrap();
            let end = std::time::Instant::now() + PATIENCE;
            while attached() != stays && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            assert_eq!(attached(), stays, "on_exit = {on_exit:?} after {signal}");
            assert_eq!(host_hears(&site), !stays, "on_exit = {on_exit:?} after {signal}");
        }
    }
    // What the dead run left is replaced by the next, and can be taken off by hand.
    let gateway = site.start(&config("drop"));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    let frames = udps(9, 5);
    for frame in &frames {
        assert!(a.send(frame));
    }
    arrives(&mut b, &frames);
    let detach = || site.gateway.exec(env!("CARGO_BIN_EXE_tidegate")).args(["detach", "a"]).output().unwrap();
    assert_eq!(detach().status.code(), Some(1), "not under a living gateway");
    gateway.stop();
    assert!(attached());
    assert_eq!(detach().status.code(), Some(0));
    assert!(!attached());
}

/// Whether the gateway's kernel receives a frame that is sent to port a.
fn host_hears(site: &Site) -> bool {
    // An ARP request for an address of the gateway's: the kernel answers if it hears.
    let arp = |words: &[&str]| site.far.exec("ip").args(words).output().unwrap();
    site.ip("address replace 10.77.0.1/24 dev a");
    arp(&["address", "replace", "10.77.0.2/24", "dev", "far-a"]);
    let ping = site.far.exec("ping").args(["-c", "1", "-W", "1", "-q", "10.77.0.1"]).output().unwrap();
    site.ip("address flush dev a");
    arp(&["address", "flush", "dev", "far-a"]);
    ping.status.success()
}

#[test]
fn a_killed_gateway_is_followed_by_one_that_works() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    for _ in 0..5 {
        let mut gateway = site.start(&wire(""));
        let (mut a, mut b) = (site.station("a"), site.station("b"));
        let frames = udps(9, 20);
        for frame in &frames {
            assert!(a.send(frame));
        }
        arrives(&mut b, &frames);
        balanced(&gateway.settled(20));
        gateway.process.signal(Signal::SIGKILL);
        gateway.process.wait(PATIENCE).unwrap();
    }
}

#[test]
fn a_second_gateway_is_refused_and_told_who_is_first() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let first = site.start(&wire(""));
    let (code, said) = site.refused(&wire(""));
    assert_eq!(code, Some(1));
    assert!(said.contains(&first.process_id().to_string()), "names the process that holds the port: {said}");
    first.stop();
}
