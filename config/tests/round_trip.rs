//! What listings show, requests understand: the same filter comes of it.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use tidegate_classifiers::block::Block;
use tidegate_classifiers::request::{self, ChainInfo, FilterSpec, Owner};
use tidegate_config::{Names, Scope, export, json as words, show};

fn ports() -> Names {
    let mut ports = Names::new("port");
    (0..).zip(["wan", "lan", "block"]).for_each(|(id, name)| ports.insert(name, id));
    ports
}

fn chains() -> Names {
    let mut chains = Names::new("chain");
    chains.insert("scan", 7);
    chains
}

fn resolve(json: &Value) -> Result<Vec<FilterSpec>, String> {
    words::filter(json.clone(), Scope { ports: &ports(), chains: Some(&chains()) }).map_err(|e| e.to_string())
}

/// [FL-18], [HW-1]. Filters as they are shown: nothing left out that has a meaning, nothing there that has none.
#[test]
fn what_is_written_as_it_is_shown_is_shown_as_it_is_written() {
    let filters = [
        json!({"protocol": "all", "kind": "matchall", "actions": []}),
        json!({"chain": 7, "priority": 4_294_967_295_u32, "protocol": "ip", "kind": "flower", "handle": 4_294_967_295_u32,
            "name": "x", "match": {}, "actions": ["drop"]}),
        json!({"priority": 1, "protocol": "ip", "kind": "flower", "match": {
            "dst_mac": "01:00:5e:00:00:00/25", "src_mac": "02:00:00:00:00:01/ff:00:ff:00:00:ff", "indev": "lan",
            "src_ip": "10.1.2.3/8", "dst_ip": "10.0.0.1/255.0.0.255", "ip_proto": "tcp", "ip_tos": "0x10/0x1c", "ip_ttl": 64,
            "ip_flags": "nofrag,firstfrag", "src_port": "1000-2000", "dst_port": "0x400/0xfc00", "tcp_flags": "syn,!ack"},
            "actions": ["mirror lan", {"action": "pass random determ drop 100", "index": 7, "cookie": "c0ffee"}]}),
        json!({"protocol": "0x88cd", "kind": "flower", "match": {"num_of_vlans": 1}, "actions": ["goto 7", "jump 2"]}),
        json!({"protocol": "ipv6", "kind": "flower", "match": {"src_ip": "2001:db8::/32", "ip_proto": "icmpv6",
            "icmp_type": "packet-too-big", "icmp_code": 1}, "actions": ["goto 7 random netrand jump 1 3"]}),
        json!({"protocol": "ipv6", "kind": "flower", "match": {"ip_proto": 1}, "actions": ["trap"]}),
        json!({"protocol": "802.1Q", "kind": "flower", "match": {"vlan_id": 10, "vlan_prio": 0, "vlan_ethtype": "ip",
            "ip_proto": 200}, "actions": ["stolen"]}),
        json!({"protocol": "802.1ad", "kind": "flower", "match": {"vlan_id": 10, "cvlan_id": 4095, "cvlan_prio": 7,
            "vlan_ethtype": "802.1Q", "cvlan_ethtype": "arp", "arp_op": "reply", "arp_sip": "192.0.2.0/24",
            "arp_tip": "192.0.2.1", "arp_sha": "02:00:00:00:00:00/8", "arp_tha": "02:00:00:00:00:09"}, "actions": ["queued", "police rate 10mbit burst 64k", "police rate 1kbit burst 10b peakrate 2mbit mtu 1514b overhead 24 mpu 64b linklayer atm exceed goto 7 conform jump 2",
            "police pkts_rate 1000 pkts_burst 20 exceed pipe", "police mtu 1514b", "vlan pop", "vlan push 10",
            "vlan push 4094 protocol 802.1ad priority 7 then pass", "vlan modify 0 priority 0", "skbedit mark 0x7",
            "skbedit mark 0x10/0xf0 then goto 7", "csum ip icmp igmp tcp udp udplite sctp", "csum tcp then drop",
            "nat egress 10.0.0.5/8 192.0.2.1", "nat ingress 192.0.2.1 10.0.0.5 then pass",
            "pedit ip ttl set 64 and tcp dport add 1 and ip src set 10.0.0.1 and ip6 traffic_class set 64 and eth type set 2048 then pass",
            "pedit network-4 set 0x1 keep 0xffff0000 and tcp+12 add 0x2 keep 0x0 at 3 mask 0xf shift 2",
            "sample rate 100 group 7", "sample rate 4294967295 group 0 trunc 0 then continue", "tunnel_key unset then goto 7",
            "tunnel_key set src_ip 192.0.2.1 dst_ip 192.0.2.2", "tunnel_key set src_ip 2001:db8::1 dst_ip 2001:db8::2 id 0 dst_port 4789 tos 16 ttl 64 nocsum nofrag then pass"]}),
        json!({"protocol": "ip", "kind": "fw", "handle": 16, "match": {"mark": "0x10/0xf0", "indev": "wan"},
            "actions": [{"kind": "gact", "index": 3}]}),
        json!({"protocol": "all", "kind": "u32", "handle": "1:", "match": {"divisor": 256}, "actions": []}),
        json!({"protocol": "ip", "kind": "u32", "handle": "800:5:1", "class": "1:10", "match": {
            "table": "800:5", "keys": ["0x0a000000/0xff000000 at 12", "0x00160000/0xffff0000 at nexthdr+0",
                "0x00000001/0xffffffff at -8"],
            "mark": 7, "link": "1:", "hash": "0x0000ff00 at 12", "offset": "plus 4 at 0 mask 0x0f00 shift 6", "eat": true,
            "indev": "wan"}, "actions": ["redirect wan"]}),
    ];
    for filter in filters {
        let [spec] = resolve(&filter).expect("right")[..].to_vec().try_into().expect("one filter");
        assert_eq!(show::filter_spec(&spec, &ports()), filter);
    }
}

#[test]
fn a_template_is_shown_as_it_is_written() {
    let chains = [
        json!({"chain": 7}),
        json!({"chain": 0, "kind": "flower", "protocol": "ip", "match": {"dst_ip": "0.0.0.0/24", "ip_proto": "tcp"}}),
        json!({"chain": 9, "kind": "flower", "protocol": "802.1Q", "match": {"vlan_id": 0, "vlan_ethtype": "ipv6"}}),
        json!({"chain": 9, "kind": "flower", "protocol": "all", "match": {"dst_mac": "00:00:00:00:00:00"}}),
    ];
    for chain in chains {
        let spec = words::chain(chain.clone(), Scope { ports: &ports(), chains: None }).expect("right");
        let info = ChainInfo { index: spec.index, owner: Owner::Client, template: spec.template };
        assert_eq!(show::chain(&info, &ports()), chain);
    }
}

/// [HW-9]: what only hardware should do, nobody could.
#[test]
fn mistakes_name_their_key() {
    let mistakes = [
        (
            json!({"kind": "flower", "match": {"src_ip": "10.0.0"}, "action": "drop"}),
            "filter: src_ip: `10.0.0` is not a prefix",
        ),
        (json!({"chain": "nowhere", "action": "drop"}), "filter: chain: no chain is called `nowhere`"),
        (json!({"action": "mirror nowhere"}), "filter: action: no port is called `nowhere`"),
        (json!({"action": {"action": "drop", "cookie": "abc"}}), "filter: cookie: `abc` is not a cookie"),
        (json!({"action": {"index": 3}}), "filter: the action lacks `action`"),
        (json!({"action": "drop", "stats": {}}), "filter: unknown field `stats` in the filter"),
        (json!([]), "filter: the filter: expected a table, found a list"),
        (
            json!({"kind": "u32", "match": {"keys": ["1/2 at 3"]}, "action": "drop"}),
            "filter: keys: `1/2 at 3` is not a key of u32",
        ),
        (
            json!({"kind": "u32", "handle": "1:100:1", "action": "drop"}),
            "filter: handle: `1:100:1` is not a handle of u32",
        ),
        (
            json!({"kind": "u32", "match": {"divisor": 1, "eat": true}, "action": "drop"}),
            "filter: match: a table has a divisor",
        ),
        (json!({"kind": "fw", "action": "drop"}), "filter: match lacks `mark`"),
        (json!({"skip_sw": true, "action": "drop"}), "filter: skip_sw: no hardware could do it"),
        (json!({"kind": "fw", "handle": 2, "match": {"mark": 1}, "action": "drop"}), "filter: handle: is not the mark"),
    ];
    for (filter, mistake) in mistakes {
        let errors = resolve(&filter).expect_err("wrong");
        assert!(errors.starts_with(mistake), "{filter}: {errors}");
    }
}

/// Match keys with values that go together, for a protocol.
fn flower() -> impl Strategy<Value = Value> {
    let common = [
        ("dst_mac", vec!["02:00:00:00:00:01", "01:00:5e:00:00:00/25", "02:03:04:05:06:07/0f:00:00:00:00:01"]),
        ("src_mac", vec!["02:00:00:00:00:01/48", "02:00:00:00:00:01/0"]),
        ("indev", vec!["wan", "lan"]),
    ];
    let ip = [
        ("ip_proto", vec!["tcp", "udp"]),
        ("ip_tos", vec!["16", "0x10/0x1c", "0xff/0x0f"]),
        ("ip_ttl", vec!["0", "64", "7/7"]),
        ("ip_flags", vec!["frag", "nofrag,firstfrag", "nofirstfrag"]),
    ];
    let v4 = [
        ("src_ip", vec!["10.1.2.3", "10.1.2.3/8", "0.0.0.0/0"]),
        ("dst_ip", vec!["10.0.0.1/255.0.0.255", "1.2.3.4/31"]),
    ];
    let v6 = [("src_ip", vec!["2001:db8::1", "2001:db8::/32"]), ("dst_ip", vec!["::1/ffff::ffff", "fe80::/10"])];
    let l4 = [("src_port", vec!["0", "443", "0x400/0xfc00"]), ("dst_port", vec!["1-2", "1000-2000", "65535"])];
    let tcp = [("tcp_flags", vec!["syn,!ack", "0x2/0x12", "0x800/0xfff", "2", "0x3/0x2"])];
    let icmp = [("icmp_type", vec!["echo-request", "3", "1/3"]), ("icmp_code", vec!["0", "admin-prohibited"])];
    let arp = [
        ("arp_op", vec!["request", "7", "1/3"]),
        ("arp_sip", vec!["192.0.2.1", "192.0.2.0/24"]),
        ("arp_tip", vec!["192.0.2.1/255.0.255.0"]),
        ("arp_sha", vec!["02:00:00:00:00:00/8"]),
        ("arp_tha", vec!["02:00:00:00:00:09"]),
    ];
    let families = select(vec![
        (Some("ip"), [&ip[..], &v4, &l4, &tcp].concat(), vec![("ip_proto", "tcp")]),
        (Some("ipv6"), [&ip[..], &v6, &l4].concat(), vec![("ip_proto", "udp")]),
        (None, [&ip[1..], &l4].concat(), vec![("ip_proto", "sctp")]),
        (Some("ip"), [&ip[1..], &v4, &icmp].concat(), vec![("ip_proto", "icmp")]),
        (Some("ipv6"), [&ip[1..], &icmp[..1]].concat(), vec![("ip_proto", "icmpv6")]),
        (Some("arp"), arp.to_vec(), vec![]),
        (Some("all"), vec![], vec![]),
        (Some("0x88cc"), vec![], vec![]),
    ]);
    let tags = select(vec![
        vec![],
        vec![("vlan_id", "7")],
        vec![("vlan_id", "4095"), ("vlan_prio", "7"), ("vlan_ethtype", "FAMILY")],
        vec![("vlan_ethtype", "802.1Q"), ("cvlan_id", "3"), ("cvlan_prio", "0")],
        vec![("vlan_ethtype", "802.1ad"), ("cvlan_ethtype", "FAMILY")],
        vec![("num_of_vlans", "2"), ("cvlan_id", "0")],
        vec![("num_of_vlans", "0")],
    ]);
    (families, tags, any::<prop::sample::Index>(), any::<bool>()).prop_flat_map(
        move |((family, keys, always), tags, pick, explicit)| {
            let keys = [&common[..], &keys].concat();
            let count = keys.len();
            let protocol = match (tags.is_empty(), family) {
                (true, family) => family.filter(|_| explicit || family == Some("0x88cc") || family == Some("all")),
                (false, _) => explicit.then_some("802.1Q"),
            };
            subsequence(keys, 0..=count).prop_map(move |keys| {
                let chosen = keys.iter().map(|(key, values)| (*key, *pick.get(values)));
                let tags = tags.iter().map(|(key, value)| match (*value, family) {
                    ("FAMILY", Some(family)) if family != "all" => (*key, family),
                    ("FAMILY", _) => (*key, "ip"),
                    (value, _) => (*key, value),
                });
                let number = |value: &str| value.parse::<u64>().map_or(Value::from(value), Value::from);
                let entries = chosen
                    .chain(tags)
                    .chain(always.iter().copied())
                    .map(|(key, value)| (key.to_owned(), number(value)));
                let matches: serde_json::Map<_, _> = entries.collect();
                let mut filter = json!({"kind": "flower", "match": matches, "action": "drop"});
                if let Some(protocol) = protocol {
                    filter["protocol"] = protocol.into();
                }
                filter
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever words say, what is shown of it says the same, and is shown the same again.
    #[test]
    fn flower_matches_survive(filter in flower()) {
        let Ok(specs) = resolve(&filter) else { return Err(TestCaseError::reject("keys that do not go together")) };
        for spec in specs {
            let shown = show::filter_spec(&spec, &ports());
            let again = resolve(&shown).map_err(|e| TestCaseError::fail(format!("{filter} became {shown}: {e}")))?;
            prop_assert_eq!(&again[..], std::slice::from_ref(&spec), "{} became {}", filter, shown);
            prop_assert_eq!(show::filter_spec(&again[0], &ports()), shown);
        }
    }
}

/// Through the control plane: what it lists is what was asked for, and what was seen.
#[test]
fn what_is_listed_can_be_asked_for() {
    let block = Block::new(1);
    let filters = [
        json!({"protocol": "ip", "kind": "flower", "match": {"dst_ip": "192.0.2.1"}, "actions": ["mirror lan", "drop"]}),
        json!({"chain": 7, "priority": 5, "protocol": "ip", "kind": "u32", "handle": "1:", "match": {"divisor": 16}, "actions": []}),
        json!({"chain": 7, "priority": 5, "protocol": "ip", "kind": "u32", "class": "1:1",
            "match": {"table": "1:3", "keys": ["0x00000000/0x00000000 at 0"]}, "actions": ["pass"]}),
        json!({"chain": 8, "priority": 9, "protocol": "all", "kind": "fw", "handle": 9, "match": {"mark": "0x9/0xf"}, "actions": []}),
    ];
    for filter in &filters {
        for spec in resolve(filter).expect("right") {
            request::add_filter(&block, &spec).expect("added");
        }
    }
    let listed: Vec<_> = request::dump(&block).iter().map(|info| show::filter(info, &ports(), 0)).collect();
    for filter in &filters {
        let found = listed.iter().find(|listed| {
            let same = |key: &str| filter[key].is_null() || filter[key] == listed[key];
            ["chain", "priority", "protocol", "kind", "handle", "match", "class"].into_iter().all(same)
        });
        let found = found.unwrap_or_else(|| panic!("{filter} is not in {listed:#?}"));
        assert_eq!(found["stats"], json!({"packets": 0, "bytes": 0}));
        let words: Vec<_> =
            found["actions"].as_array().expect("a list").iter().map(|action| action["action"].clone()).collect();
        assert_eq!(Value::from(words), filter["actions"]);
    }
    let drop = &listed[0]["actions"][1];
    assert_eq!(*drop, json!({"action": "drop", "index": 1, "stats": {"ref": 1, "bind": 1, "packets": 0, "bytes": 0}}));
    assert_eq!(listed[0]["priority"], json!(0xc000), "automatic");
    let handles: Vec<_> = listed[1..].iter().map(|filter| filter["handle"].clone()).collect();
    assert_eq!(handles, [json!("1:"), json!("1:3:800"), json!("800:"), json!(9)]);
}

/// A file, its rules in a control plane, and the file that is made of what is listed there: the same rules.
#[test]
fn what_is_exported_says_the_same() {
    let ports = "[port.wan]\nforward_to = \"lan\"\n[port.lan]\nforward_to = \"wan\"\n";
    let rules = r#"
        [block.wan.chains]
        scan = 7
        empty = 9
        [[filter]]
        on = "wan"
        name = "no-telnet"
        match = { ip_proto = "tcp", dst_port = 23, tcp_flags = "syn,!ack" }
        actions = ["mirror lan", "drop"]
        [[filter]]
        on = "wan"
        chain = "scan"
        protocol = "802.1Q"
        match = { vlan_id = 7, src_ip = "10.0.0.0/8" }
        skip_hw = true
        class = "1:10"
        actions = [{ action = "pass random determ drop 100", index = 77, cookie = "c0ffee" }]
        [[filter]]
        on = "wan"
        actions = [{ action = "pass random determ drop 100", index = 77, cookie = "c0ffee" }, "goto 7"]
        [[filter]]
        on = "wan"
        name = "both-tagged"
        match = { vlan_id = 3, ip_proto = "udp", dst_port = "1-2" }
        action = "pass"
        [[filter]]
        on = "wan"
        chain = 8
        kind = "fw"
        match = { mark = "0x10/0xf0" }
        action = "trap"
    "#;
    let folder = tempfile::tempdir().expect("a folder");
    let load = |text: &str| {
        let file = folder.path().join("tidegate.toml");
        std::fs::write(&file, text).expect("written");
        tidegate_config::load_with(&file, std::iter::empty()).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    };
    let wanted = load(&format!("{ports}{rules}"));
    let block = Block::new(1);
    for chain in wanted.blocks[0].chains.iter().filter(|chain| chain.index == 9) {
        request::add_chain(&block, chain.index).expect("added");
    }
    for filter in &wanted.blocks[0].filters {
        request::add_filter(&block, filter).expect("added");
    }
    let listing = export::Listing {
        on: "wan".into(),
        chains: request::list_chains(&block),
        filters: request::dump(&block).iter().map(|info| show::filter(info, &ports_of(&wanted), 0)).collect(),
    };
    let again = load(&format!("{ports}{}", export::export(&[listing])));
    let by_place = |config: &tidegate_config::Config| {
        let mut filters = config.blocks[0].filters.clone();
        filters.sort_by_key(|filter| (filter.chain, filter.priority, filter.handle));
        filters
    };
    assert_eq!(by_place(&again), by_place(&wanted));
    let indexes = |config: &tidegate_config::Config| -> Vec<u32> {
        config.blocks[0].chains.iter().map(|chain| chain.index).collect()
    };
    assert_eq!(indexes(&again), indexes(&wanted));
}

fn ports_of(config: &tidegate_config::Config) -> Names {
    let mut ports = Names::new("port");
    (0..).zip(&config.ports).for_each(|(id, port)| ports.insert(&port.name, id));
    ports
}
