//! Frames that the gateway writes into its TAP are received by the host on the port.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use etherparse::PacketBuilder;
use tidegate_xdp_prog::{AttachMode, Gate, GateOptions, GenericPolicy, HostPath, OnExit, PassList};

mod testbed;
use testbed::{Host, Peer, in_namespace, index, tap};

const PORT: [u8; 6] = [2, 0, 0, 0, 0, 0];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn udp_to(mac: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(PEER, mac)
        .ipv4([10, 9, 0, 2], [10, 9, 0, 1], 64)
        .udp(4000, 9)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

fn tagged_udp(payload: &[u8]) -> Vec<u8> {
    let frame = udp_to(PORT, payload);
    [&frame[..12], &[0x81, 0, 0, 7], &frame[12..]].concat()
}

/// A gate that lets nothing from outside pass, so that what the host gets came through the TAP.
fn closed_gate(generic: GenericPolicy) -> Gate {
    let options =
        GateOptions { ifindex: index("xp0"), queues: 1, on_exit: OnExit::Drop, generic, pass: PassList::default() };
    Gate::attach(&options).unwrap()
}

fn the_host_receives_on_the_port(generic: GenericPolicy, mode: AttachMode) {
    let peer = Peer::new();
    let host = Host::listen();
    let gate = closed_gate(generic);
    assert_eq!(gate.mode(), mode);
    peer.send(b"from outside");
    assert_eq!(host.receive(), None, "the gate is closed");

    let tap = tap("xptap");
    let path = HostPath::attach(&gate, index("xptap")).unwrap();
    for length in [0_u16, 1, 18, 100, 1472, 1900] {
        let payload = vec![u8::try_from(length % 251).unwrap(); usize::from(length)];
        tap.send(&udp_to(PORT, &payload)).unwrap();
        assert_eq!(host.receive(), Some(payload), "{length} bytes");
    }
    for number in 0..100_u8 {
        tap.send(&udp_to(PORT, &[number])).unwrap();
    }
    for number in 0..100_u8 {
        assert_eq!(host.receive(), Some(vec![number]), "a burst, in order");
    }
    tap.send(&udp_to([2, 0, 0, 0, 0, 9], b"for another machine")).unwrap();
    tap.send(&tagged_udp(b"for a VLAN that the host does not have")).unwrap();
    assert_eq!(host.receive(), None);
    let counters = gate.counters().unwrap();
    let returned = if mode == AttachMode::Generic { 6 + 100 + 2 } else { 0 };
    assert_eq!((counters.unread, counters.host_returned), (1, returned));

    drop(path);
    tap.send(&udp_to(PORT, b"no way")).unwrap();
    assert_eq!(host.receive(), None, "detached");
}

#[test]
fn the_host_receives_on_a_port_with_a_native_gate() {
    in_namespace(|| the_host_receives_on_the_port(GenericPolicy::Native, AttachMode::Native));
}

#[test]
fn the_host_receives_on_a_port_with_a_generic_gate() {
    in_namespace(|| the_host_receives_on_the_port(GenericPolicy::Generic, AttachMode::Generic));
}

#[test]
fn a_tap_is_attached_again_in_place_of_the_program_of_an_earlier_gate() {
    in_namespace(|| {
        let _peer = Peer::new();
        let host = Host::listen();
        let tap = tap("xptap");
        let gate = closed_gate(GenericPolicy::Generic);
        std::mem::forget(HostPath::attach(&gate, index("xptap")).unwrap());
        testbed::ip("link set dev xp0 xdpgeneric off");

        let gate = closed_gate(GenericPolicy::Generic);
        tap.send(&udp_to(PORT, b"with the word of the gate before")).unwrap();
        assert_eq!(host.receive(), None);
        let _path = HostPath::attach(&gate, index("xptap")).unwrap();
        tap.send(&udp_to(PORT, b"hello")).unwrap();
        assert_eq!(host.receive().unwrap(), b"hello");
    });
}
