//! Every verdict of section 20, mirror and redirect, on the wire.

use crate::frames::{udp, udps};
use crate::kit::{Gateway, SILENCE, Site, arrives, filter, port, wire};

/// UDP to port 9 is the subject, everything else passes.
fn subject(actions: &str) -> String {
    format!(
        "[[filter]]\non = \"a\"\nname = \"subject\"\nprotocol = \"ip\"\nmatch = {{ ip_proto = \"udp\", dst_port = 9 }}\nactions = [{actions}]\n"
    )
}

/// Sends ten packets through a gateway whose filter has these actions, and `rest` beside it. Says how many came out at
/// b, and gives the gateway.
fn fate(site: &Site, actions: &str, rest: &str) -> (usize, Gateway) {
    let gateway = site.start(&wire(&format!("{}{rest}", subject(actions))));
    let (mut a, mut b) = (site.station("a"), site.station("b"));
    for frame in udps(9, 10) {
        assert!(a.send(&frame));
    }
    gateway.settled(10);
    let mut out = 0;
    while b.recv(SILENCE).is_some() {
        out += 1;
    }
    assert_eq!(filter(&gateway.status(), "subject").packets, 10);
    (out, gateway)
}

#[test]
fn terminal_verdicts_pass_drop_or_consume() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let cases = [
        // action, packets out, consumed, dropped by filter
        ("\"pass\"", 10, 0, 0),
        ("\"drop\"", 0, 0, 10),
        ("\"stolen\"", 0, 10, 0),
        ("\"queued\"", 0, 10, 0),
        ("\"pipe\"", 10, 0, 0),                       // [DP-5]: the last pipe is a pass
        ("\"continue\"", 10, 0, 0),                   // no further proto: unmatched [DP-12]
        ("\"repeat\"", 10, 0, 0),                     // 32 times, then ok
        ("\"jump 1\"", 10, 0, 0),                     // [AV-3]: nothing left
        ("\"jump 2\", \"drop\", \"pass\"", 10, 0, 0), // [AV-2]: skips the drop
        ("\"jump 1\", \"drop\", \"pass\"", 0, 0, 10), // [AV-2]: plain next
        ("\"pass random determ drop 5\"", 8, 0, 2),   // every 5th packet
        ("\"pipe\", \"drop\"", 0, 0, 10),
    ];
    for (actions, out, consumed, dropped) in cases {
        let (got, gateway) = fate(&site, actions, "");
        let status = gateway.status();
        let totals = &port(&status, "a").totals;
        let filtered = totals.dropped[tidegate_classifiers::verdict::DropReason::Filter.index()];
        assert_eq!((got, totals.consumed, filtered), (out, consumed, dropped), "{actions}");
        gateway.stop();
    }
}

#[test]
fn chance_drops_some_and_passes_some() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let gateway = site.start(&wire(&subject("\"pass random netrand drop 2\"")));
    let (mut a, _b) = (site.station("a"), site.station("b"));
    for frame in udps(9, 400) {
        assert!(a.send(&frame));
    }
    let status = gateway.settled(400);
    let dropped = port(&status, "a").totals.dropped_packets();
    assert!((120..280).contains(&dropped), "{dropped} of 400: eight deviations from a half");
    gateway.stop();
}

#[test]
fn continue_goes_to_the_next_proto_and_reclassify_ends_in_a_counted_drop() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let (out, gateway) = fate(&site, "\"continue\"", "[[filter]]\non = \"a\"\nname = \"rest\"\naction = \"drop\"\n");
    assert_eq!((out, filter(&gateway.status(), "rest").packets), (0, 10));
    gateway.stop();

    let gateway = site.start(&wire(&subject("\"reclassify\"")));
    let (mut a, _b) = (site.station("a"), site.station("b"));
    assert!(a.send(&udp(9, 1, 64)));
    let status = gateway.settled(1);
    let loops = port(&status, "a").totals.dropped[tidegate_classifiers::verdict::DropReason::ReclassifyLoop.index()];
    assert_eq!((loops, filter(&status, "subject").packets), (1, 17), "the 17th restart drops [DP-8]");
    gateway.stop();
}

#[test]
fn goto_runs_the_other_chain_and_does_not_return() {
    let Some(site) = Site::new(&["a", "b"]) else { return };
    let rest = r#"
        [[filter]]
        on = "a"
        name = "never"
        action = "drop"
        [[filter]]
        on = "a"
        chain = 7
        name = "counted"
        action = "pass"
    "#;
    let (out, gateway) = fate(&site, "\"goto 7\"", rest);
    let status = gateway.status();
    assert_eq!((out, filter(&status, "counted").packets, filter(&status, "never").packets), (10, 10, 0));
    gateway.stop();
}

#[test]
fn mirror_copies_and_redirect_gives_away() {
    let Some(site) = Site::new(&["a", "b", "c"]) else { return };
    let config = |actions: &str| format!("{}[port.c]\nforward_to = \"host\"\n", wire(&subject(actions)));
    for (actions, at_b, at_c) in [
        ("\"mirror c\"", true, true),
        ("\"mirror c then drop\"", false, true),
        ("\"redirect c\"", false, true),
        ("\"mirror c\", \"redirect a\"", false, true),
    ] {
        let gateway = site.start(&config(actions));
        let (mut a, mut b, mut c) = (site.station("a"), site.station("b"), site.station("c"));
        let frames = udps(9, 10);
        for frame in &frames {
            assert!(a.send(frame));
        }
        let status = gateway.settled(10);
        arrives(&mut b, if at_b { &frames } else { &[] });
        arrives(&mut c, if at_c { &frames } else { &[] });
        if actions.contains("redirect a") {
            arrives(&mut a, &frames);
        }
        let mirrored = if actions.contains("mirror") { 10 } else { 0 };
        assert_eq!(port(&status, "a").totals.mirrored, mirrored, "{actions}");
        gateway.stop();
    }
}
