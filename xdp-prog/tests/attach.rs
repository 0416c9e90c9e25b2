//! Attaching to real interfaces: modes, sockets, and what runs that died, live or are not tidegate's leave there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use tidegate_xdp_prog::{
    AttachMode, Detached, Gate, GateError, GateOptions, GenericPolicy, OnExit, PassList, detach_stale,
};

mod testbed;
use testbed::{Host, Peer, Receiver, in_namespace, index, ip, ip_link_show};

fn options(interface: &str, on_exit: OnExit, generic: GenericPolicy) -> GateOptions {
    GateOptions { ifindex: index(interface), queues: 1, on_exit, generic, pass: PassList::default() }
}

fn xp0(on_exit: OnExit) -> GateOptions {
    options("xp0", on_exit, GenericPolicy::Auto)
}

/// `mode/id N` of the program that `ip` sees on `xp0`.
fn attached() -> Option<(AttachMode, u32)> {
    let shown = ip_link_show("xp0");
    let (_, rest) = shown.split_once("prog/xdp id ")?;
    let id = rest.split_whitespace().next().unwrap().parse().unwrap();
    Some((if shown.contains("xdpgeneric") { AttachMode::Generic } else { AttachMode::Native }, id))
}

#[test]
fn a_driver_with_xdp_gets_native_mode_and_detach_leaves_nothing() {
    in_namespace(|| {
        let peer = Peer::new();
        let host = Host::listen();
        let gate = Gate::attach(&xp0(OnExit::Pass)).unwrap();
        assert_eq!(gate.mode(), AttachMode::Native);
        assert_eq!(attached(), Some((AttachMode::Native, gate.program_id())));

        peer.send(b"unread, so passed");
        assert_eq!(host.receive().unwrap(), b"unread, so passed");
        assert_eq!(gate.counters().unwrap().unread, 1);

        gate.detach();
        assert_eq!(attached(), None);
        peer.send(b"no gate");
        assert_eq!(host.receive().unwrap(), b"no gate");
    });
}

#[test]
fn a_driver_without_xdp_gets_generic_mode_unless_native_is_asked_for() {
    in_namespace(|| {
        testbed::veth();
        ip("link add xpv link xp1 type macvlan");
        ip("link set xpv up");
        for on_exit in [OnExit::Pass, OnExit::Drop] {
            let refused = Gate::attach(&options("xpv", on_exit, GenericPolicy::Native)).unwrap_err();
            assert_eq!(
                refused.to_string(),
                "xpv: cannot attach XDP in native mode: Operation not supported (os error 95)"
            );
        }
        let gate = Gate::attach(&options("xpv", OnExit::Pass, GenericPolicy::Auto)).unwrap();
        assert_eq!(gate.mode(), AttachMode::Generic);
        gate.detach();
        let gate = Gate::attach(&options("xpv", OnExit::Drop, GenericPolicy::Auto)).unwrap();
        assert_eq!(gate.mode(), AttachMode::Generic);
    });
}

#[test]
fn generic_mode_is_had_where_native_would_work_if_asked_for() {
    in_namespace(|| {
        testbed::veth();
        for on_exit in [OnExit::Pass, OnExit::Drop] {
            let gate = Gate::attach(&options("xp0", on_exit, GenericPolicy::Generic)).unwrap();
            assert_eq!(gate.mode(), AttachMode::Generic);
            assert_eq!(attached(), Some((AttachMode::Generic, gate.program_id())));
        }
    });
}

#[test]
fn an_mtu_too_large_is_refused_with_a_hint() {
    in_namespace(|| {
        testbed::veth();
        ip("link set xp0 mtu 9000");
        ip("link set xp1 mtu 9000");
        let refused = Gate::attach(&xp0(OnExit::Pass)).unwrap_err().to_string();
        assert!(refused.starts_with("xp0: cannot attach XDP in native mode: "), "{refused}");
        assert!(refused.contains("hint: the MTU may be too large"), "{refused}");
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    in_namespace(|| {
        let mut options = options("lo", OnExit::Pass, GenericPolicy::Auto);
        options.ifindex = 4711;
        assert_eq!(Gate::attach(&options).unwrap_err().to_string(), "no interface with index 4711");
    });
}

#[test]
fn every_frame_reaches_the_socket_of_its_queue_in_both_modes() {
    in_namespace(|| {
        let peer = Peer::new();
        let host = Host::listen();
        for generic in [GenericPolicy::Native, GenericPolicy::Generic] {
            let gate = Gate::attach(&options("xp0", OnExit::Pass, generic)).unwrap();
            let mut socket = Receiver::bind("xp0", 0);
            gate.set_socket(0, socket.fd()).unwrap();
            for number in 0..20_u8 {
                peer.send(&[number; 30]);
                let frame = socket.receive().unwrap();
                assert_eq!(frame[frame.len() - 30..], [number; 30]);
            }
            gate.clear_socket(0);
            peer.send(b"cleared");
            assert_eq!(host.receive().unwrap(), b"cleared");
            gate.set_socket(0, socket.fd()).unwrap();
            drop(socket);
            peer.send(b"closed");
            assert_eq!(host.receive().unwrap(), b"closed");
            let counters = gate.counters().unwrap();
            assert_eq!((counters.redirected, counters.unread), (20, 2), "{generic:?}");
        }
    });
}

#[test]
fn a_queue_that_was_not_announced_gets_no_socket() {
    in_namespace(|| {
        testbed::veth();
        let gate = Gate::attach(&xp0(OnExit::Pass)).unwrap();
        let socket = Receiver::bind("xp0", 0);
        assert!(matches!(gate.set_socket(1, socket.fd()), Err(GateError::Kernel { .. })));
        assert!(matches!(gate.set_socket(0, std::io::stdin().as_fd()), Err(GateError::Kernel { .. })));
    });
}

#[test]
fn a_killed_run_leaves_nothing_with_on_exit_pass() {
    hold_if_asked();
    in_namespace(|| {
        testbed::veth();
        for mode in ["native", "generic"] {
            let run = Run::start("a_killed_run_leaves_nothing_with_on_exit_pass", "pass", mode);
            assert!(attached().is_some());
            run.kill();
            assert_eq!(attached(), None, "{mode}");
            assert_eq!(detach_stale(index("xp0")).unwrap(), Detached::Nothing);
        }
    });
}

#[test]
fn a_killed_run_goes_on_dropping_with_on_exit_drop_until_it_is_replaced_or_detached() {
    hold_if_asked();
    in_namespace(|| {
        let peer = Peer::new();
        let host = Host::listen();
        for (mode, attach_mode) in [("native", AttachMode::Native), ("generic", AttachMode::Generic)] {
            let leave_one = || {
                Run::start(
                    "a_killed_run_goes_on_dropping_with_on_exit_drop_until_it_is_replaced_or_detached",
                    "drop",
                    mode,
                )
                .kill();
                peer.send(b"nobody reads");
                assert_eq!(host.receive(), None, "{mode}");
                attached().unwrap()
            };

            // Detached on request.
            let (_, id) = leave_one();
            assert_eq!(detach_stale(index("xp0")).unwrap(), Detached::Program { id, mode: attach_mode });
            peer.send(b"detached");
            assert_eq!(host.receive().unwrap(), b"detached");

            // Replaced by a run that ends open.
            let (_, id) = leave_one();
            let gate = Gate::attach(&xp0(OnExit::Pass)).unwrap();
            assert_ne!(gate.program_id(), id);
            assert_eq!(attached(), Some((AttachMode::Native, gate.program_id())));
            peer.send(b"replaced");
            assert_eq!(host.receive().unwrap(), b"replaced");
            gate.detach();
            assert_eq!(attached(), None);

            // Replaced by one that ends closed, whatever mode it wants.
            for policy in [GenericPolicy::Auto, GenericPolicy::Native, GenericPolicy::Generic] {
                let (_, id) = leave_one();
                let run = Run::start_with(
                    "a_killed_run_goes_on_dropping_with_on_exit_drop_until_it_is_replaced_or_detached",
                    "drop",
                    policy,
                );
                let (now, new_id) = attached().unwrap();
                assert_ne!(new_id, id);
                assert_eq!(now == AttachMode::Generic, policy == GenericPolicy::Generic, "{policy:?} after {mode}");
                run.kill();
                detach_stale(index("xp0")).unwrap();
            }
        }
    });
}

#[test]
fn a_run_that_lives_is_not_disturbed() {
    hold_if_asked();
    in_namespace(|| {
        testbed::veth();
        for on_exit in ["pass", "drop"] {
            let run = Run::start("a_run_that_lives_is_not_disturbed", on_exit, "native");
            let before = attached();
            let message = format!("xp0: tidegate runs here already, as process {}", run.child.id());
            assert_eq!(Gate::attach(&xp0(OnExit::Drop)).unwrap_err().to_string(), message);
            assert_eq!(detach_stale(index("xp0")).unwrap_err().to_string(), message);
            assert_eq!(attached(), before);
            run.kill();
        }
    });
}

#[test]
fn what_a_living_run_gave_up_is_replaced_or_detached() {
    in_namespace(|| {
        let _peer = Peer::new();
        let gate = Gate::attach(&xp0(OnExit::Drop)).unwrap();
        assert!(matches!(detach_stale(index("xp0")), Err(GateError::Running { .. })), "it is in use");
        gate.detach();
        assert!(attached().is_some(), "it stays, and drops");
        let again = Gate::attach(&xp0(OnExit::Drop)).unwrap();
        assert_eq!(attached(), Some((AttachMode::Native, again.program_id())));
        again.detach();
        assert!(matches!(detach_stale(index("xp0")), Ok(Detached::Program { .. })));
        assert_eq!(attached(), None);
    });
}

#[test]
fn a_foreign_program_is_refused_by_name_and_stays() {
    in_namespace(|| {
        testbed::veth();
        let object = concat!(env!("CARGO_TARGET_TMPDIR"), "/foreign.o");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/foreign.bpf.c");
        let clang = ["-O2", "-g", "-target", "bpf", "-c", source, "-o", object];
        assert!(Command::new("clang").args(clang).status().unwrap().success());
        for (word, mode) in [("xdpdrv", "native"), ("xdpgeneric", "generic")] {
            ip(&format!("link set dev xp0 {word} object {object} section xdp"));
            let before = attached().unwrap();
            let message = format!(
                "xp0: XDP program {} (somebody_elses) is attached in {mode} mode and is not tidegate's; hint: stop the \
                 program that owns it, or `ip link set dev xp0 {word} off`",
                before.1
            );
            assert_eq!(Gate::attach(&xp0(OnExit::Pass)).unwrap_err().to_string(), message);
            assert_eq!(detach_stale(index("xp0")).unwrap_err().to_string(), message);
            assert_eq!(attached(), Some(before));

            ip(&format!("link set dev xp0 {word} off"));
            Gate::attach(&xp0(OnExit::Pass)).unwrap();
        }
    });
}

/// Another run: this test binary, started again to hold `xp0`.
struct Run {
    child: Child,
}

/// What the other run is asked for: on_exit and mode.
const HOLD: &str = "TIDEGATE_TEST_HOLD";

impl Run {
    fn start(test: &str, on_exit: &str, mode: &str) -> Run {
        let policy = if mode == "native" { GenericPolicy::Native } else { GenericPolicy::Generic };
        Run::start_with(test, on_exit, policy)
    }

    fn start_with(test: &str, on_exit: &str, policy: GenericPolicy) -> Run {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(HOLD, format!("{on_exit} {policy:?}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("holding")), "the other run did not attach");
        Run { child }
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// In the other run: attaches, says so, and holds until it is killed or its parent is gone.
fn hold_if_asked() {
    let Ok(asked) = env::var(HOLD) else { return };
    let on_exit = if asked.starts_with("drop") { OnExit::Drop } else { OnExit::Pass };
    let policy = match asked.split_once(' ').unwrap().1 {
        "Native" => GenericPolicy::Native,
        "Generic" => GenericPolicy::Generic,
        _ => GenericPolicy::Auto,
    };
    let _gate = Gate::attach(&options("xp0", on_exit, policy)).unwrap();
    println!("\nholding");
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}
