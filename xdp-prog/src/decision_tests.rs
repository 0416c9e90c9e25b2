//! The decision table, asked from the loaded program by the kernel's test run: examples of each rule, and random frames
//! against an oracle that sees what a frame was made of, never its bytes.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libbpf_rs::{MapCore as _, MapFlags, ProgramInput, libbpf_sys};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::gate::load;
use crate::skeleton::gate::GateSkel;
use crate::{GateCounters, GateOptions, GenericPolicy, Neighbours, OnExit, PassList, Transport};

#[path = "../tests/testbed/mod.rs"]
mod testbed;
use testbed::{Receiver, in_namespace};

const OWN4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const PASS_WORD: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
const SEAL_BYTES: usize = 30;

/// Where a frame went, told by the counter that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Socket,
    Arp,
    Nd,
    Listed,
    Returned,
    Unread,
}
use Went::{Arp, Listed, Nd, Returned, Socket, Unread};

/// A loaded program that is attached nowhere.
struct Loaded<'a> {
    skeleton: GateSkel<'a>,
    seen: GateCounters,
}

impl Loaded<'_> {
    /// Gives the program one frame on queue 0; checks that one counter moved by one, and that the action is the one
    /// that goes with it.
    fn ask(&mut self, frame: &[u8]) -> Went {
        self.run(frame).0
    }

    /// As [`Loaded::ask`], and what became of the bytes.
    fn run(&mut self, frame: &[u8]) -> (Went, Vec<u8>) {
        let mut room = vec![0; frame.len() + 64];
        let input = ProgramInput { data_in: Some(frame), data_out: Some(&mut room), ..ProgramInput::default() };
        let output = self.skeleton.progs.tidegate_gate.test_run(input).unwrap();
        let bytes = output.data.unwrap().to_vec();

        let before = self.seen;
        self.seen = GateCounters::read(&self.skeleton.maps.counters).unwrap();
        let moved: Vec<(Went, u32)> = [
            (Socket, libbpf_sys::XDP_REDIRECT, self.seen.redirected - before.redirected),
            (Arp, libbpf_sys::XDP_PASS, self.seen.host_arp - before.host_arp),
            (Nd, libbpf_sys::XDP_PASS, self.seen.host_nd - before.host_nd),
            (Listed, libbpf_sys::XDP_PASS, self.seen.host_listed - before.host_listed),
            (Returned, libbpf_sys::XDP_PASS, self.seen.host_returned - before.host_returned),
            (Unread, self.unread_action(), self.seen.unread - before.unread),
        ]
        .into_iter()
        .flat_map(|(went, action, times)| (0..times).map(move |_| (went, action)))
        .collect();
        assert_eq!(moved.len(), 1, "one frame, one counter: {moved:?}");
        assert_eq!(output.return_value, moved[0].1, "{:?}", moved[0].0);
        (moved[0].0, bytes)
    }

    fn unread_action(&self) -> u32 {
        self.skeleton.maps.rodata_gate_data.unwrap().settings.on_unread
    }
}

/// Loads with this pass list and a socket on queue 0.
fn with_list(pass: &PassList, socket: &Receiver, test: impl FnOnce(&mut Loaded<'_>)) {
    with_gate(OnExit::Pass, pass, Some(socket), test);
}

fn with_gate(on_exit: OnExit, pass: &PassList, socket: Option<&Receiver>, test: impl FnOnce(&mut Loaded<'_>)) {
    use std::os::fd::AsRawFd as _;
    let options = GateOptions { ifindex: 1, queues: 1, on_exit, generic: GenericPolicy::Auto, pass: pass.clone() };
    let mut storage = MaybeUninit::uninit();
    let skeleton = load(&options, PASS_WORD, &mut storage).unwrap();
    if let Some(socket) = socket {
        let fd = socket.fd().as_raw_fd().to_ne_bytes();
        skeleton.maps.xsks.update(&0_u32.to_ne_bytes(), &fd, MapFlags::ANY).unwrap();
    }
    test(&mut Loaded { skeleton, seen: GateCounters::default() });
}

/// What a frame is made of.
#[derive(Clone, Debug)]
struct Frame {
    tags: Vec<u16>,
    network: Network,
}

#[derive(Clone, Debug)]
enum Network {
    Arp { target: Ipv4Addr },
    V4 { destination: Ipv4Addr, option_words: u8, piece: Option<Piece>, upper: Upper },
    V6 { destination: Ipv6Addr, extensions: Vec<Extension>, upper: Upper },
    Other { ethertype: u16 },
}

/// A fragment's place.
#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u16,
    more: bool,
}

#[derive(Clone, Copy, Debug)]
enum Extension {
    Options { header: u8, more_words: u8 },
    Fragment(Piece),
}

#[derive(Clone, Copy, Debug)]
enum Upper {
    Ports { transport: Transport, source: u16, destination: u16 },
    Discovery { message: u8, target: Ipv6Addr },
    Protocol(u8),
}

impl Frame {
    fn v4(destination: Ipv4Addr, upper: Upper) -> Frame {
        Frame { tags: vec![], network: Network::V4 { destination, option_words: 0, piece: None, upper } }
    }

    fn v6(destination: Ipv6Addr, extensions: Vec<Extension>, upper: Upper) -> Frame {
        Frame { tags: vec![], network: Network::V6 { destination, extensions, upper } }
    }

    fn arp(target: Ipv4Addr) -> Frame {
        Frame { tags: vec![], network: Network::Arp { target } }
    }

    fn tagged(mut self, tags: &[u16]) -> Frame {
        self.tags = tags.to_vec();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let (ethertype, payload) = match &self.network {
            Network::Arp { target } => (0x0806, arp_bytes(*target)),
            Network::V4 { destination, option_words, piece, upper } => {
                (0x0800, v4_bytes(*destination, *option_words, *piece, *upper))
            }
            Network::V6 { destination, extensions, upper } => (0x86dd, v6_bytes(*destination, extensions, *upper)),
            Network::Other { ethertype } => (*ethertype, vec![0x45; 60]),
        };
        let mut bytes = vec![2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1];
        for tag in &self.tags {
            bytes.extend_from_slice(&tag.to_be_bytes());
            bytes.extend_from_slice(&[0, 7]);
        }
        bytes.extend_from_slice(&u16::to_be_bytes(ethertype));
        bytes.extend_from_slice(&payload);
        bytes
    }
}

fn arp_bytes(target: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 1];
    bytes.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes.extend_from_slice(&OTHER4.octets());
    bytes.extend_from_slice(&[0; 6]);
    bytes.extend_from_slice(&target.octets());
    bytes
}

fn v4_bytes(destination: Ipv4Addr, option_words: u8, piece: Option<Piece>, upper: Upper) -> Vec<u8> {
    let place = piece.map_or(0, |piece| piece.offset | u16::from(piece.more) << 13);
    let mut bytes = vec![0x45 + option_words, 0, 0, 60, 0, 9];
    bytes.extend_from_slice(&place.to_be_bytes());
    bytes.extend_from_slice(&[64, upper.protocol(), 0, 0]);
    bytes.extend_from_slice(&OTHER4.octets());
    bytes.extend_from_slice(&destination.octets());
    bytes.resize(20 + 4 * usize::from(option_words), 1);
    bytes.extend_from_slice(&upper.bytes());
    bytes
}

fn v6_bytes(destination: Ipv6Addr, extensions: &[Extension], upper: Upper) -> Vec<u8> {
    let mut next = extensions.iter().map(|extension| extension.header()).chain([upper.protocol()]);
    let mut bytes = vec![0x60, 0, 0, 0, 0, 60, next.next().unwrap(), 255];
    bytes.extend_from_slice(&OTHER6.octets());
    bytes.extend_from_slice(&destination.octets());
    for extension in extensions {
        let next = next.next().unwrap();
        match extension {
            Extension::Options { more_words, .. } => {
                bytes.extend_from_slice(&[next, *more_words]);
                bytes.extend(std::iter::repeat_n(0, 6 + 8 * usize::from(*more_words)));
            }
            Extension::Fragment(piece) => {
                let place = piece.offset << 3 | u16::from(piece.more);
                bytes.extend_from_slice(&[next, 0]);
                bytes.extend_from_slice(&place.to_be_bytes());
                bytes.extend_from_slice(&[0, 0, 0, 9]);
            }
        }
    }
    bytes.extend_from_slice(&upper.bytes());
    bytes
}

impl Extension {
    fn header(self) -> u8 {
        match self {
            Extension::Options { header, .. } => header,
            Extension::Fragment(_) => 44,
        }
    }
}

impl Upper {
    fn protocol(self) -> u8 {
        match self {
            Upper::Ports { transport, .. } => transport as u8,
            Upper::Discovery { .. } => 58,
            Upper::Protocol(protocol) => protocol,
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Upper::Ports { source, destination, .. } => {
                let mut bytes = source.to_be_bytes().to_vec();
                bytes.extend_from_slice(&destination.to_be_bytes());
                bytes.extend_from_slice(&[0; 16]);
                bytes
            }
            Upper::Discovery { message, target } => {
                let mut bytes = vec![message, 0, 0, 0, 0, 0, 0, 0];
                bytes.extend_from_slice(&target.octets());
                bytes
            }
            Upper::Protocol(_) => vec![0; 24],
        }
    }
}

/// The pass list by its own words.
fn expected(list: &PassList, frame: &Frame) -> Went {
    if frame.tags.len() > 2 {
        return Socket;
    }
    let is_own = |address: IpAddr| list.addresses.contains(&address);
    match &frame.network {
        Network::Other { .. } => Socket,
        Network::Arp { target } => match list.arp {
            Neighbours::All => Arp,
            Neighbours::Own if is_own((*target).into()) => Arp,
            _ => Socket,
        },
        Network::V4 { destination, piece, upper, .. } => {
            let whole = piece.is_none_or(|piece| piece.offset == 0 && !piece.more);
            expected_by_list(list, (*destination).into(), upper.protocol(), whole.then_some(*upper))
        }
        Network::V6 { destination, extensions, upper } => {
            let mut fragment = false;
            let mut reached = extensions.len().min(6);
            for (position, extension) in extensions.iter().take(6).enumerate() {
                if let Extension::Fragment(piece) = extension {
                    fragment = true;
                    if piece.offset != 0 {
                        reached = position + 1;
                        break;
                    }
                }
            }
            let protocol = extensions.get(reached).map_or(upper.protocol(), |extension| extension.header());
            let whole = (!fragment && reached == extensions.len()).then_some(*upper);
            if let Some(Upper::Discovery { message, target }) = whole {
                let concerns_us = is_own((*destination).into()) || is_own(target.into());
                match (list.nd, message) {
                    (Neighbours::All, 133..=137) => return Nd,
                    (Neighbours::Own, 135 | 136) if concerns_us => return Nd,
                    _ => {}
                }
            }
            expected_by_list(list, (*destination).into(), protocol, whole)
        }
    }
}

fn expected_by_list(list: &PassList, destination: IpAddr, protocol: u8, whole: Option<Upper>) -> Went {
    let to_own = list.addresses.contains(&destination);
    let port_listed = match whole {
        Some(Upper::Ports { transport, source, destination }) => {
            list.ports.contains(&(transport, source)) || list.ports.contains(&(transport, destination))
        }
        _ => false,
    };
    let passes = match (list.addresses.is_empty(), list.ports.is_empty()) {
        (true, true) => false,
        (false, true) => to_own,
        (true, false) => port_listed,
        (false, false) => to_own && port_listed,
    };
    if passes || list.protocols.contains(&protocol) { Listed } else { Socket }
}

const SSH: Upper = Upper::Ports { transport: Transport::Tcp, source: 40000, destination: 22 };
const FROM_SSH: Upper = Upper::Ports { transport: Transport::Tcp, source: 22, destination: 40000 };
const WEB: Upper = Upper::Ports { transport: Transport::Tcp, source: 40000, destination: 80 };
const UDP_22: Upper = Upper::Ports { transport: Transport::Udp, source: 40000, destination: 22 };
const BGP_SCTP: Upper = Upper::Ports { transport: Transport::Sctp, source: 179, destination: 9 };

/// Management over SSH on two addresses, OSPF, own neighbours.
fn management() -> PassList {
    PassList {
        arp: Neighbours::Own,
        nd: Neighbours::Own,
        protocols: vec![89],
        addresses: vec![OWN4.into(), OWN6.into()],
        ports: vec![(Transport::Tcp, 22)],
    }
}

#[test]
fn each_rule_of_the_pass_list_has_its_outcome() {
    in_namespace(|| {
        let socket = Receiver::bind("lo", 0);
        let solicit = |destination, target| Frame::v6(destination, vec![], Upper::Discovery { message: 135, target });
        let router = Upper::Discovery { message: 134, target: OWN6 };
        let later = Piece { offset: 185, more: false };
        let piece_of = |piece, upper| Frame {
            tags: vec![],
            network: Network::V4 { destination: OWN4, option_words: 0, piece: Some(piece), upper },
        };
        let with_options = Frame {
            tags: vec![],
            network: Network::V4 { destination: OWN4, option_words: 10, piece: None, upper: SSH },
        };
        let hop_by_hop = Extension::Options { header: 0, more_words: 0 };
        let routing = Extension::Options { header: 43, more_words: 255 };
        let first = Extension::Fragment(Piece { offset: 0, more: true });

        let addresses_alone = PassList { ports: vec![], ..management() };
        let ports_alone =
            PassList { addresses: vec![], ports: vec![(Transport::Tcp, 22), (Transport::Sctp, 179)], ..management() };
        let all = PassList { arp: Neighbours::All, nd: Neighbours::All, ..PassList::default() };
        let nothing = PassList::default();

        let table = [
            ("ssh to us", management(), Frame::v4(OWN4, SSH), Listed),
            ("an answer from ssh to us", management(), Frame::v4(OWN4, FROM_SSH), Listed),
            ("ssh to another", management(), Frame::v4(OTHER4, SSH), Socket),
            ("web to us", management(), Frame::v4(OWN4, WEB), Socket),
            ("port 22 of another transport", management(), Frame::v4(OWN4, UDP_22), Socket),
            ("ospf to a group", management(), Frame::v4(OTHER4, Upper::Protocol(89)), Listed),
            ("ssh to us over ipv6", management(), Frame::v6(OWN6, vec![], SSH), Listed),
            ("ssh to another over ipv6", management(), Frame::v6(OTHER6, vec![], SSH), Socket),
            ("ssh with 40 bytes of options", management(), with_options, Listed),
            ("ssh after long extension headers", management(), Frame::v6(OWN6, vec![hop_by_hop, routing], SSH), Listed),
            ("ssh after seven headers", management(), Frame::v6(OWN6, vec![hop_by_hop; 7], SSH), Socket),
            ("first fragment of ssh", management(), piece_of(Piece { offset: 0, more: true }, SSH), Socket),
            ("later fragment of ssh", management(), piece_of(later, SSH), Socket),
            ("later fragment of ospf", management(), piece_of(later, Upper::Protocol(89)), Listed),
            ("first fragment of ssh, ipv6", management(), Frame::v6(OWN6, vec![first], SSH), Socket),
            ("first fragment of ospf, ipv6", management(), Frame::v6(OTHER6, vec![first], Upper::Protocol(89)), Listed),
            ("fragment, addresses alone", addresses_alone.clone(), piece_of(later, SSH), Listed),
            ("fragment, addresses alone, ipv6", addresses_alone.clone(), Frame::v6(OWN6, vec![first], SSH), Listed),
            ("anything, addresses alone", addresses_alone.clone(), Frame::v4(OWN4, Upper::Protocol(1)), Listed),
            ("anything to another, addresses alone", addresses_alone, Frame::v4(OTHER4, SSH), Socket),
            ("ssh to another, ports alone", ports_alone.clone(), Frame::v4(OTHER4, SSH), Listed),
            ("sctp, ports alone", ports_alone.clone(), Frame::v6(OTHER6, vec![], BGP_SCTP), Listed),
            ("web, ports alone", ports_alone, Frame::v6(OTHER6, vec![], WEB), Socket),
            ("arp for us", management(), Frame::arp(OWN4), Arp),
            ("arp for another", management(), Frame::arp(OTHER4), Socket),
            ("any arp, all", all.clone(), Frame::arp(OTHER4), Arp),
            ("any arp, none", nothing.clone(), Frame::arp(OWN4), Socket),
            ("solicitation of us", management(), solicit(OTHER6, OWN6), Nd),
            ("advertisement to us", management(), solicit(OWN6, OTHER6), Nd),
            ("solicitation of another", management(), solicit(OTHER6, OTHER6), Socket),
            ("router advertisement", management(), Frame::v6(OTHER6, vec![], router), Socket),
            ("router advertisement, all", all.clone(), Frame::v6(OTHER6, vec![], router), Nd),
            ("fragmented discovery, all", all.clone(), Frame::v6(OTHER6, vec![first], router), Socket),
            ("no rule at all", nothing, Frame::v4(OWN4, SSH), Socket),
        ];
        for (name, list, frame, went) in &table {
            assert_eq!(expected(list, frame), *went, "the oracle, {name}");
            with_list(list, &socket, |gate| {
                for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
                    let frame = frame.clone().tagged(tags);
                    assert_eq!(gate.ask(&frame.bytes()), *went, "{name}, tags {tags:x?}");
                }
                let three = frame.clone().tagged(&[0x88a8, 0x88a8, 0x8100]);
                assert_eq!(gate.ask(&three.bytes()), Socket, "{name}, three tags");
            });
        }
    });
}

#[test]
fn frames_without_a_socket_are_passed_or_dropped_as_on_exit_says() {
    in_namespace(|| {
        for on_exit in [OnExit::Pass, OnExit::Drop] {
            with_gate(on_exit, &management(), None, |gate| {
                assert_eq!(gate.ask(&Frame::v4(OWN4, WEB).bytes()), Unread);
                assert_eq!(gate.ask(&Frame::v4(OWN4, SSH).bytes()), Listed, "the pass list holds all the same");
                let action = if on_exit == OnExit::Pass { libbpf_sys::XDP_PASS } else { libbpf_sys::XDP_DROP };
                assert_eq!(gate.unread_action(), action);
            });
        }
    });
}

#[test]
fn a_frame_cut_short_anywhere_goes_where_the_whole_one_goes_or_to_the_socket() {
    in_namespace(|| {
        let socket = Receiver::bind("lo", 0);
        let hop_by_hop = Extension::Options { header: 0, more_words: 1 };
        let whole = Extension::Fragment(Piece { offset: 0, more: false });
        let frames = [
            Frame::arp(OWN4),
            Frame::v4(OWN4, SSH),
            Frame::v6(OWN6, vec![hop_by_hop, whole], SSH),
            Frame::v6(OTHER6, vec![hop_by_hop], Upper::Discovery { message: 135, target: OWN6 }),
        ];
        with_list(&management(), &socket, |gate| {
            for frame in frames {
                let bytes = frame.tagged(&[0x88a8, 0x8100]).bytes();
                let whole = gate.ask(&bytes);
                let mut passed = 0;
                // The kernel gives a program nothing shorter than an Ethernet header.
                for length in 14..bytes.len() {
                    let went = gate.ask(&bytes[..length]);
                    assert!(went == whole || went == Socket, "{length} of {}: {went:?}", bytes.len());
                    passed += usize::from(went != Socket);
                }
                assert!(passed < bytes.len() - 14 - 8, "the headers matter, {passed} lengths passed");
            }
        });
    });
}

#[test]
fn a_seal_opens_the_gate_only_with_this_runs_word() {
    in_namespace(|| {
        let socket = Receiver::bind("lo", 0);
        with_list(&PassList::default(), &socket, |gate| {
            let inner = Frame::v4(OWN4, WEB).bytes();
            let mut sealed = inner[..12].to_vec();
            sealed.extend_from_slice(&[0x88, 0xb5]);
            sealed.extend(PASS_WORD.iter().flat_map(|word| word.to_ne_bytes()));
            assert_eq!(sealed.len(), SEAL_BYTES);
            sealed.extend_from_slice(&inner);

            assert_eq!(gate.run(&sealed), (Returned, inner), "the seal is taken off");
            for bit in 0..128 {
                let mut forged = sealed.clone();
                forged[14 + bit / 8] ^= 1 << (bit % 8);
                assert_eq!(gate.run(&forged), (Socket, forged.clone()), "bit {bit}");
            }
        });
    });
}

#[test]
fn random_frames_go_where_the_oracle_says() {
    in_namespace(|| {
        let socket = Receiver::bind("lo", 0);
        let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
        let input = (pass_list(), proptest::collection::vec(frame(), 200));
        runner
            .run(&input, |(list, frames)| {
                with_list(&list, &socket, |gate| {
                    for frame in &frames {
                        assert_eq!(gate.ask(&frame.bytes()), expected(&list, frame), "{frame:?}");
                    }
                });
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn garbage_is_always_decided() {
    in_namespace(|| {
        let socket = Receiver::bind("lo", 0);
        let all = PassList { arp: Neighbours::All, nd: Neighbours::All, ..management() };
        with_list(&all, &socket, |gate| {
            let gate = RefCell::new(gate);
            let ethertype = prop::sample::select(vec![0x0800_u16, 0x0806, 0x86dd, 0x8100, 0x88a8, 0x88b5]);
            let input = (ethertype, proptest::collection::vec(any::<u8>(), 0..200));
            let mut runner = TestRunner::new(Config { cases: 5000, failure_persistence: None, ..Config::default() });
            runner
                .run(&input, |(ethertype, garbage)| {
                    let frame = [&[2; 12][..], &ethertype.to_be_bytes(), &garbage].concat();
                    let went = gate.borrow_mut().ask(&frame);
                    prop_assert!(went != Unread && went != Returned);
                    Ok(())
                })
                .unwrap();
        });
    });
}

fn pass_list() -> impl Strategy<Value = PassList> {
    let neighbours = || prop::sample::select(vec![Neighbours::None, Neighbours::Own, Neighbours::All]);
    let addresses = prop::sample::subsequence(vec![OWN4.into(), OWN6.into()], 0..=2);
    let protocols = prop::sample::subsequence(vec![0, 1, 6, 44, 58, 89, 255], 0..=2);
    let ports = prop::sample::subsequence(
        vec![(Transport::Tcp, 22), (Transport::Udp, 53), (Transport::Sctp, 179), (Transport::Tcp, 80)],
        0..=3,
    );
    (neighbours(), neighbours(), protocols, addresses, ports)
        .prop_map(|(arp, nd, protocols, addresses, ports)| PassList { arp, nd, protocols, addresses, ports })
}

fn frame() -> impl Strategy<Value = Frame> {
    let tags = proptest::collection::vec(prop::sample::select(vec![0x8100, 0x88a8]), 0..=3);
    let piece = (prop::sample::select(vec![0, 1, 185, 0x1fff]), any::<bool>())
        .prop_map(|(offset, more)| Piece { offset, more })
        .boxed();
    let extension = prop_oneof![
        3 => (prop::sample::select(vec![0, 43, 60]), 0_u8..4)
            .prop_map(|(header, more_words)| Extension::Options { header, more_words }),
        1 => piece.clone().prop_map(Extension::Fragment),
    ];
    let v4 = || prop::sample::select(vec![OWN4, OTHER4]);
    let v6 = || prop::sample::select(vec![OWN6, OTHER6]);
    let port = || prop::sample::select(vec![22, 53, 179, 40000]);
    let transport = prop::sample::select(vec![Transport::Tcp, Transport::Udp, Transport::Sctp]);
    let upper = prop_oneof![
        4 => (transport, port(), port())
            .prop_map(|(transport, source, destination)| Upper::Ports { transport, source, destination }),
        2 => (132_u8..=138, v6()).prop_map(|(message, target)| Upper::Discovery { message, target }),
        1 => prop::sample::select(vec![1, 50, 59, 89, 255]).prop_map(Upper::Protocol),
    ]
    .boxed();
    let network = prop_oneof![
        1 => v4().prop_map(|target| Network::Arp { target }),
        3 => (v4(), 0_u8..=10, proptest::option::of(piece), upper.clone()).prop_map(
            |(destination, option_words, piece, upper)| Network::V4 { destination, option_words, piece, upper }),
        4 => (v6(), proptest::collection::vec(extension, 0..=8), upper)
            .prop_map(|(destination, extensions, upper)| Network::V6 { destination, extensions, upper }),
        1 => prop::sample::select(vec![0x88b5, 0x88cc, 0x8847, 0x9100])
            .prop_map(|ethertype| Network::Other { ethertype }),
    ];
    (tags, network).prop_map(|(tags, network)| Frame { tags, network })
}
