//! What files mean: every file in `ok/` and every example, against values written out by hand.

#![expect(clippy::panic, reason = "helpers of tests may panic")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_key::{self as key, Field};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{
    self, ActionSpec, ETH_P_ALL, FilterSpec, FlowerSpec, GactSpec, KindSpec, MirredSpec, Random, RandomMode, Target,
};
use tidegate_classifiers::verdict::Control;
use tidegate_config::{
    Chain, Config, ForwardTo, Idle, Mode, Neighbours, OnExit, PassList, Port, Transport, Workers, load_with,
};

const IP: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;

fn load(path: &str) -> Config {
    load_with(Path::new(path), std::iter::empty()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The filters of that name, in order.
fn named<'a>(config: &'a Config, name: &str) -> Vec<&'a FilterSpec> {
    config.blocks.iter().flat_map(|block| &block.filters).filter(|filter| &*filter.name == name).collect()
}

/// A flower match from (field, value, mask); the ethertype is one of them.
fn flower(fields: &[(Field, u64, u64)]) -> FlowerSpec {
    let mut spec = FlowerSpec::default();
    for (field, value, mask) in fields {
        spec.value.set(*field, *value);
        spec.mask.set(*field, *mask);
    }
    spec
}

fn whole(field: Field, value: u64) -> (Field, u64, u64) {
    (field, value, field.max())
}

/// What the filters called `name` are: protocol and match of each.
#[track_caller]
fn assert_matches(config: &Config, name: &str, expected: &[(u16, FlowerSpec)]) {
    let found: Vec<_> = named(config, name)
        .into_iter()
        .map(|filter| match &filter.kind {
            KindSpec::Flower(spec) => (filter.protocol, **spec),
            other => panic!("{name} is {other:?}"),
        })
        .collect();
    assert_eq!(found, expected, "{name}");
}

#[test]
fn match_keys_set_their_fields() {
    let config = load("tests/ok/matches.toml");
    let ethertype = |ethertype: u16| whole(key::ETH_TYPE, ethertype.into());

    let macs = flower(&[
        (key::DST_MAC, 0x0100_5e00_0000, 0xffff_ff80_0000),
        (key::SRC_MAC, 0x0200_0000_0001, 0xffff_0000_00ff),
        whole(key::INDEV, 2),
    ]);
    assert_matches(&config, "macs", &[(ETH_P_ALL, macs)]);

    let mut v4 = flower(&[
        ethertype(IP),
        whole(key::IP_PROTO, 17),
        (key::IP_TOS, 0x10, 0x1c),
        whole(key::IP_TTL, 64),
        (key::IP_FLAGS, 0, key::IP_FLAG_FRAG),
    ]);
    v4.value.set_src_ipv4(Ipv4Addr::new(10, 1, 2, 3));
    v4.mask.set_src_ipv4(Ipv4Addr::new(255, 0, 0, 0));
    v4.value.set_dst_ipv4(Ipv4Addr::new(192, 0, 2, 1));
    v4.mask.set_dst_ipv4(Ipv4Addr::BROADCAST);
    assert_matches(&config, "v4", &[(IP, v4)]);

    let both_flags = key::IP_FLAG_FRAG | key::IP_FLAG_FIRST_FRAG;
    let mut v6 = flower(&[ethertype(IPV6), (key::IP_FLAGS, key::IP_FLAG_FRAG, both_flags)]);
    v6.value.set_src_ipv6("2001:db8::".parse().expect("an address"));
    v6.mask.set_src_ipv6("ffff:ffff::".parse().expect("a mask"));
    v6.value.set_dst_ipv6("2001:db8::1".parse().expect("an address"));
    v6.mask.set_dst_ipv6(Ipv6Addr::from(u128::MAX));
    assert_matches(&config, "v6", &[(IPV6, v6)]);
}

#[test]
fn a_match_without_a_family_is_made_for_both() {
    let config = load("tests/ok/matches.toml");
    let both = [IP, IPV6].map(|ethertype| {
        let mut spec = flower(&[
            whole(key::ETH_TYPE, ethertype.into()),
            whole(key::IP_PROTO, 6),
            (key::SRC_PORT, 0x0400, 0xfc00),
            (key::TCP_FLAGS, 0x02, 0x12),
        ]);
        spec.dst_port_range = Some((1000, 2000));
        (ethertype, spec)
    });
    assert_matches(&config, "both", &both);
    let priorities: Vec<_> = named(&config, "both").iter().map(|filter| filter.priority).collect();
    assert_eq!(priorities, [40, 41]);
}

#[test]
fn protocol_and_icmp_names_choose_the_family() {
    let config = load("tests/ok/matches.toml");
    let v6 = |proto: u64| [whole(key::ETH_TYPE, IPV6.into()), whole(key::IP_PROTO, proto)];
    let flags = [v6(6).as_slice(), &[(key::TCP_FLAGS, 0x02, 0x12), whole(key::SRC_PORT, 0)]].concat();
    assert_matches(&config, "flags", &[(IPV6, flower(&flags))]);

    let ping =
        [whole(key::ETH_TYPE, IP.into()), whole(key::IP_PROTO, 1), whole(key::ICMP_TYPE, 8), whole(key::ICMP_CODE, 0)];
    assert_matches(&config, "ping", &[(IP, flower(&ping))]);
    let ping6 = [v6(58).as_slice(), &[whole(key::ICMP_TYPE, 128), (key::ICMP_CODE, 1, 3)]].concat();
    assert_matches(&config, "ping6", &[(IPV6, flower(&ping6))]);
}

#[test]
fn arp_keys_mean_arp() {
    let arp = flower(&[
        whole(key::ETH_TYPE, ARP.into()),
        whole(key::ARP_OP, 2),
        (key::ARP_SIP, 0xc000_0200, 0xffff_ff00),
        whole(key::ARP_TIP, 0xc000_0201),
        (key::ARP_SHA, 0x0200_0000_0000, 0xff00_0000_0000),
        whole(key::ARP_THA, 0x0200_0000_0009),
    ]);
    assert_matches(&load("tests/ok/matches.toml"), "arp", &[(ARP, arp)]);
}

/// [FL-8]: behind tags the ethertype key is the inner one.
#[test]
fn vlan_keys_mean_a_tag_and_the_ethertype_is_the_one_behind_it() {
    let config = load("tests/ok/matches.toml");
    let tag = flower(&[whole(key::VLAN_ID, 10), whole(key::VLAN_PRIO, 5)]);
    assert_matches(&config, "tag", &[(VLAN, tag)]);

    let one_tag =
        |ethertype: u16| [whole(key::VLAN_ID, 10), whole(key::CVLAN_TPID, 0), whole(key::ETH_TYPE, ethertype.into())];
    let mut tagged = flower(&one_tag(IP));
    tagged.value.set_src_ipv4(Ipv4Addr::new(10, 0, 0, 0));
    tagged.mask.set_src_ipv4(Ipv4Addr::new(255, 0, 0, 0));
    assert_matches(&config, "tagged-v4", &[(VLAN, tagged)]);

    let udp = flower(&[one_tag(IPV6).as_slice(), &[whole(key::IP_PROTO, 17)]].concat());
    assert_matches(&config, "tagged-both", &[(VLAN, udp)]);

    let mut double = flower(&[
        whole(key::VLAN_ID, 100),
        whole(key::CVLAN_TPID, VLAN.into()),
        whole(key::CVLAN_ID, 7),
        whole(key::CVLAN_PRIO, 1),
        whole(key::ETH_TYPE, IP.into()),
    ]);
    double.value.set_dst_ipv4(Ipv4Addr::new(10, 0, 0, 1));
    double.mask.set_dst_ipv4(Ipv4Addr::BROADCAST);
    assert_matches(&config, "double", &[(QINQ, double)]);

    assert_matches(&config, "any-tag", &[(ETH_P_ALL, flower(&[whole(key::NUM_OF_VLANS, 2)]))]);
}

#[test]
fn without_a_match_the_kind_is_matchall_and_the_protocol_all() {
    let config = load("tests/ok/matches.toml");
    let kind_of = |name: &str| {
        let filters = named(&config, name);
        assert_eq!(filters.len(), 1);
        (filters[0].protocol, filters[0].kind.clone())
    };
    assert_eq!(kind_of("everything"), (ETH_P_ALL, KindSpec::Matchall));
    assert_eq!(kind_of("all-arp"), (ARP, KindSpec::Matchall));
    assert_matches(&config, "everything-ip", &[(IP, flower(&[whole(key::ETH_TYPE, IP.into())]))]);
    assert_matches(&config, "lldp", &[(0x88cc, flower(&[whole(key::ETH_TYPE, 0x88cc)]))]);
}

#[test]
fn action_words_mean_what_tc_means() {
    let config = load("tests/ok/actions.toml");
    let gact = |control| ActionSpec::Gact(GactSpec { control, random: None });
    let by_chance = |control, mode, second, one_in| {
        ActionSpec::Gact(GactSpec { control, random: Some(Random { mode, control: second, one_in }) })
    };
    let mirror = |port, control| ActionSpec::Mirred(MirredSpec::Mirror { to: Target::port(PortId(port)), control });
    let expected = [
        gact(Control::Ok),
        gact(Control::Ok),
        gact(Control::Shot),
        gact(Control::Shot),
        gact(Control::Pipe),
        gact(Control::Continue),
        gact(Control::Reclassify),
        gact(Control::Stolen),
        gact(Control::Queued),
        gact(Control::Repeat),
        gact(Control::Trap),
        gact(Control::Goto(7)),
        gact(Control::Goto(7)),
        gact(Control::Goto(0)),
        gact(Control::Jump(2)),
        mirror(1, Control::Pipe),
        mirror(1, Control::Shot),
        mirror(0, Control::Goto(7)),
        ActionSpec::Mirred(MirredSpec::Redirect { to: Target::port(PortId(1)) }),
        by_chance(Control::Ok, RandomMode::Determ, Control::Shot, 100),
        by_chance(Control::Shot, RandomMode::Netrand, Control::Ok, 10),
        by_chance(Control::Goto(7), RandomMode::Netrand, Control::Jump(3), 1),
        by_chance(Control::Ok, RandomMode::Determ, Control::Shot, 7),
    ];
    let actions: Vec<_> = config.blocks[0].filters[0].actions.iter().filter_map(|action| action.spec.clone()).collect();
    assert_eq!(actions, expected);
    assert!(config.blocks[0].filters[1].actions.is_empty());
}

#[test]
fn settings_are_taken_as_they_are_written() {
    let config = load("tests/ok/settings.toml");
    let workers = Workers {
        count: Some(2),
        cores: vec![3, 1],
        idle: Idle::Busy,
        burst: 32,
        ring_size: 512,
        frames: Some(10_000),
        chunk_size: 4096,
        huge_pages: true,
        flow_cache: 100_000,
    };
    assert_eq!(config.workers, workers);
    assert_eq!((config.control.socket, config.control.group.as_str()), (PathBuf::from("/tmp/x.sock"), "adm"));

    let wan = Port {
        id: PortId(0),
        name: "wan".into(),
        interface: "eth1".into(),
        forward_to: ForwardTo::Port(PortId(2)),
        mode: Mode::ZeroCopy,
        on_exit: OnExit::Drop,
        host: PassList {
            arp: Neighbours::None,
            nd: Neighbours::All,
            protocols: vec![89, 112],
            addresses: vec!["192.0.2.1".parse().expect("an address"), "2001:db8::1".parse().expect("an address")],
            ports: vec![(Transport::Tcp, 22), (Transport::Udp, 53), (Transport::Sctp, 9)],
        },
        block: Some(0),
    };
    let eth7 = Port {
        id: PortId(1),
        name: "eth7".into(),
        interface: "eth7".into(),
        forward_to: ForwardTo::Host,
        mode: Mode::Generic,
        on_exit: OnExit::Pass,
        host: PassList { arp: Neighbours::All, nd: Neighbours::All, ..PassList::default() },
        block: None,
    };
    let lan = Port {
        id: PortId(2),
        name: "lan".into(),
        interface: "lan".into(),
        forward_to: ForwardTo::Port(PortId(0)),
        mode: Mode::Native,
        on_exit: OnExit::Pass,
        host: PassList { arp: Neighbours::Own, nd: Neighbours::Own, ..PassList::default() },
        block: Some(0),
    };
    assert_eq!(config.ports, [wan, eth7, lan]);
    assert_eq!(config.blocks.len(), 1);
    assert_eq!(config.blocks[0].chains, [Chain { index: 7, name: "scan".into() }]);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = load("examples/minimal.toml");
    let workers = Workers {
        count: None,
        cores: Vec::new(),
        idle: Idle::Adaptive,
        burst: 64,
        ring_size: 2048,
        frames: None,
        chunk_size: 2048,
        huge_pages: false,
        flow_cache: 65_536,
    };
    assert_eq!(config.workers, workers);
    assert_eq!(config.control.socket, PathBuf::from("/run/tidegate/tidegate.sock"));
    assert_eq!(config.control.group, "tidegate");
    assert_eq!(config.ports[0].block, Some(0));
    assert_eq!(config.ports[1].block, None, "a port without filters has no block");
}

#[test]
fn priorities_go_up_in_tens_and_handles_fill_the_gaps() {
    let config = load("tests/ok/priorities.toml");
    let filters = config.blocks[0].filters.iter();
    let found: Vec<_> = filters.map(|filter| (&*filter.name, filter.chain, filter.priority, filter.handle)).collect();
    let expected = [
        ("first", 0, 10, 1),
        ("pair", 0, 20, 1),
        ("pair", 0, 21, 1),
        ("after-pair", 0, 30, 1),
        ("explicit", 0, 105, 2),
        ("early", 0, 5, 1),
        ("last", 0, 110, 1),
        ("other-chain", 5, 10, 1),
        ("numbered-chain", 6, 10, 1),
        ("free-2", 0, 105, 4),
        ("takes-1", 0, 105, 1),
        ("takes-3", 0, 105, 3),
        ("free-5", 0, 105, 5),
    ];
    assert_eq!(found, expected);
    let chain = |index, name: &str| Chain { index, name: name.into() };
    assert_eq!(config.blocks[0].chains, [chain(0, "0"), chain(5, "later"), chain(6, "6"), chain(9, "empty")]);
}

/// What the file may say, the control plane takes: its checks never come as a surprise at run time.
#[test]
fn every_file_that_loads_is_accepted_by_the_control_plane() {
    let files = [
        "examples/minimal.toml",
        "examples/demo.toml",
        "examples/edge.toml",
        "tests/ok/matches.toml",
        "tests/ok/actions.toml",
        "tests/ok/settings.toml",
        "tests/ok/priorities.toml",
    ];
    for path in files {
        for block in load(path).blocks {
            let made = Block::new(1);
            for filter in &block.filters {
                let id =
                    request::add_filter(&made, filter).unwrap_or_else(|error| panic!("{path}: {error}: {filter:?}"));
                assert_eq!((id.chain, id.priority, id.handle), (filter.chain, filter.priority, filter.handle));
            }
        }
    }
}

#[test]
fn the_demo_has_what_the_demo_needs() {
    let config = load("examples/demo.toml");
    let ports: Vec<_> = config.ports.iter().map(|port| (port.interface.as_str(), port.forward_to)).collect();
    let expected = [
        ("gw-client", ForwardTo::Port(PortId(1))),
        ("gw-server", ForwardTo::Port(PortId(0))),
        ("gw-mirror", ForwardTo::Host),
    ];
    assert_eq!(ports, expected);
    assert_eq!(named(&config, "no-telnet").iter().map(|filter| filter.protocol).collect::<Vec<_>>(), [IP, IPV6]);
    assert_eq!(named(&config, "count-web")[0].kind, KindSpec::Matchall);
}
