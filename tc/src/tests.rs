//! Command lines and what they ask for; listings and what is printed.

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_client::wire::Request;

use crate::arguments::Words;
use crate::chain;
use crate::command::{self, Command};
use crate::filter::{self, Listed, Which};
use crate::printer::{Printer, Style};

/// What a command line asks for, or its exit code and why.
fn read(line: &str) -> Result<Command, (Option<u8>, String)> {
    let words = command::split(line);
    command::command(&mut Words::new(&words)).map_err(|failure| (failure.code, failure.text))
}

/// The request of a command line, as JSON.
fn request(line: &str) -> Value {
    match read(line) {
        Ok(Command::Do { request, .. }) => serde_json::to_value(request).unwrap(),
        Ok(Command::GetFilter { filter, .. }) => serde_json::to_value(Request::GetFilter { filter }).unwrap(),
        other => panic!("{line}: {other:?}"),
    }
}

/// [CL-1], [CL-3]
#[test]
fn filters_become_requests() {
    let cases = [
        (
            "filter add dev v0 prio 1 protocol ip ingress handle 7  flower skip_hw src_mac e4:11:00:00:00:00 action drop index 1",
            json!({"op": "add-filter", "filter": {"on": "v0", "priority": 1, "protocol": "ip", "kind": "flower", "handle": 7,
                "skip_hw": true, "actions": [{"action": "drop", "index": 1}], "match": {"src_mac": "e4:11:00:00:00:00"}}}),
        ),
        (
            "filt repl block 21 pref 0xffff chain 3 matchall classid 1:a action ok",
            json!({"op": "replace-filter", "filter": {"on": 21, "chain": 3, "priority": 65535, "protocol": "all",
                "kind": "matchall", "class": "1:a", "actions": [{"action": "pass"}]}}),
        ),
        (
            "filter change dev v0 egress prio 5 handle 1 flower",
            json!({"op": "change-filter", "filter": {"on": "v0/egress", "priority": 5, "kind": "flower", "handle": 1,
                "match": {}, "actions": []}}),
        ),
        ("filter del dev v0 parent ffff: chain 2", json!({"op": "delete-filter", "filter": {"on": "v0", "chain": 2}})),
        (
            "filter delete dev v0 ingress prio 2 handle 43:5:800 u32",
            json!({"op": "delete-filter", "filter": {"on": "v0", "priority": 2, "kind": "u32", "handle": "43:5:800"}}),
        ),
        (
            "filter get dev v0 parent ffff: handle 0xffffffff prio 1 protocol all matchall",
            json!({"op": "get-filter", "filter": {"on": "v0", "priority": 1, "protocol": "all", "kind": "matchall",
                "handle": u32::MAX}}),
        ),
        (
            "filter add dev v0 ingress handle 0x10/0xf0 prio 1 fw indev v1 action drop",
            json!({"op": "add-filter", "filter": {"on": "v0", "priority": 1, "protocol": "all", "kind": "fw", "handle": 16,
                "actions": [{"action": "drop"}], "match": {"mark": "0x10/0xf0", "indev": "v1"}}}),
        ),
        ("qdisc add dev v0 ingress", json!({"op": "bind", "port": "v0", "ingress": 0})),
        (
            "qd add dev v0 ingress_block 21 egress_block 22 clsact",
            json!({"op": "bind", "port": "v0", "ingress": 21, "egress": 22}),
        ),
        ("qdisc del dev v0 clsact", json!({"op": "unbind", "port": "v0"})),
        (
            "chain add dev v0 ingress chain 5 protocol ip flower dst_ip 0.0.0.0/16",
            json!({"op": "add-chain", "chain": {"on": "v0", "chain": 5, "protocol": "ip", "kind": "flower",
                "match": {"dst_ip": "0.0.0.0/16"}}}),
        ),
        ("chain del block 21 chain 5", json!({"op": "delete-chain", "chain": {"on": 21, "chain": 5}})),
        ("actions flush action gact", json!({"op": "flush-actions", "kind": "gact"})),
        (
            "action del action gact index 1 action mirred index 2",
            json!({"op": "delete-actions", "actions": [{"kind": "gact", "index": 1}, {"kind": "mirred", "index": 2}]}),
        ),
        (
            "actions replace action ok index 12",
            json!({"op": "replace-actions", "actions": [{"action": "pass", "index": 12}]}),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(request(line), expected, "{line}");
    }
}

#[test]
fn flower_keys_become_those_of_the_file() {
    let cases = [
        (
            "dst_ip 10.0.0.0/8 ip_proto tcp dst_port 80",
            json!({"dst_ip": "10.0.0.0/8", "ip_proto": "tcp", "dst_port": 80}),
        ),
        ("src_port 1000-2000 ip_proto 11", json!({"src_port": "1000-2000", "ip_proto": 17})),
        ("dst_port 1024/0xfc00", json!({"dst_port": "0x400/0xfc00"})),
        ("ip_tos 0x10/0x1c ip_ttl 64", json!({"ip_tos": "0x10/0x1c", "ip_ttl": 64})),
        ("tcp_flags 0x2/0x12", json!({"tcp_flags": "0x2/0x12"})),
        ("type 8 code 0", json!({"icmp_type": 8, "icmp_code": 0})),
        ("ip_flags nofrag/firstfrag indev v1", json!({"ip_flags": "nofrag,firstfrag", "indev": "v1"})),
        (
            "vlan_id 10 vlan_prio 3 vlan_ethtype 0x88cd",
            json!({"vlan_id": 10, "vlan_prio": 3, "vlan_ethtype": "0x88cd"}),
        ),
        (
            "cvlan_id 5 cvlan_ethtype ipv4 num_of_vlans 2",
            json!({"cvlan_id": 5, "cvlan_ethtype": "ip", "num_of_vlans": 2}),
        ),
        (
            "arp_op reply arp_sip 1.2.3.4 arp_tha 02:00:00:00:00:01",
            json!({"arp_op": "reply", "arp_sip": "1.2.3.4",
            "arp_tha": "02:00:00:00:00:01"}),
        ),
    ];
    for (keys, expected) in cases {
        let found = request(&format!("filter add dev v0 ingress protocol ip flower {keys} action drop"));
        assert_eq!(found["filter"]["match"], expected, "{keys}");
    }
}

/// What iproute2 6.1 and the kernel made of the same words.
#[test]
fn u32_selectors_become_words_of_the_packet() {
    let cases = [
        (
            "match mark 5 0xff match icmp type 8 0xff match ip6 dst ::1/128 match ether src 02:00:00:00:00:01 match tcp dst 80 ffff \
             match ip ihl 5 f match ip nofrag match u16 0x800 0xffff at -2 match ip tos 0x10 0xff at 1 classid 1:3",
            vec![
                "0x08000050/0xff00ffff at nexthdr+0",
                "0x00000000/0xffffffff at 24",
                "0x00000000/0xffffffff at 28",
                "0x00000000/0xffffffff at 32",
                "0x00000001/0xffffffff at 36",
                "0x02000000/0xffffffff at -8",
                "0x00010800/0xffffffff at -4",
                "0x05100000/0x0fff0000 at 0",
                "0x00000000/0x00003fff at 4",
            ],
        ),
        (
            "match ip ihl 5 f match ip tos 10 ff match ip protocol 6 ff match ip sport 5 ffff match u16 1 ffff at -2 \
             match u8 7 ff at 3 match ip df match ip firstfrag",
            vec![
                "0x050a0007/0x0fff00ff at 0",
                "0x00060000/0x00ff0000 at 8",
                "0x00050000/0xffff0000 at 20",
                "0x00000001/0x0000ffff at -4",
                "0x00006000/0x00007fff at 4",
            ],
        ),
        (
            "match ip6 src 2001:db8::/33 match ip6 protocol 6 ff match ip6 dport 80 ffff",
            vec![
                "0x20010db8/0xffffffff at 8",
                "0x00000000/0x80000000 at 12",
                "0x00000600/0x0000ff00 at 4",
                "0x00000050/0x0000ffff at 40",
            ],
        ),
        ("match ip src any", vec!["0x00000000/0x00000000 at 12"]),
    ];
    for (selector, keys) in cases {
        let found = request(&format!("filter add dev v0 ingress u32 {selector} flowid 1:1"));
        assert_eq!(found["filter"]["match"]["keys"], json!(keys), "{selector}");
    }
    let cases = [
        (
            "ht 1: sample u32 0x10203040 ff00ff match u8 0 0",
            json!({"table": "1:40", "keys": ["0x00000000/0x00000000 at 0"]}),
        ),
        ("ht 1: sample u32 0x10203040 fff0", json!({"table": "1:4"})),
        ("link 43: hashkey mask 0x0000ff00 at 12", json!({"link": "43:", "hash": "0x0000ff00 at 12"})),
        (
            "offset at 0 mask 0f00 shift 6 plus 4 eat link 43:",
            json!({"eat": true, "offset": "at 0 mask 0x0f00 shift 6 plus 4",
            "link": "43:"}),
        ),
        ("ht 47:47", json!({"table": "47:47"})),
        ("divisor 256", json!({"divisor": 256})),
        ("match mark 5 0xff indev v1", json!({"mark": "0x5/0xff", "indev": "v1"})),
    ];
    for (options, expected) in cases {
        let found = request(&format!("filter add dev v0 ingress u32 {options}"));
        assert_eq!(found["filter"]["match"], expected, "{options}");
    }
}

/// [CL-2]: exit codes as iproute2 6.1 has them; none means that the failing action or kind leaves it to the command.
#[test]
fn mistakes_have_the_exit_codes_of_tc() {
    let cases = [
        ("objectx", 255, "Object \"objectx\" is unknown"),
        ("filter foo", 255, "Command \"foo\" is unknown"),
        ("actions foo", 255, "Command \"foo\" is unknown"),
        ("filter add dev v0 ingress pref 70000 u32", 255, "Error: argument \"70000\" is wrong: invalid priority value"),
        ("filter add dev v0 ingress protocol foo u32", 255, "Error: argument \"foo\" is wrong: invalid protocol"),
        ("filter show dev v0 ingress chain x", 255, "Error: argument \"x\" is wrong: invalid chain index value"),
        ("filter add block 21 handle 3", 255, "Must specify filter type when using \"handle\""),
        ("filter add dev v0 block 3 u32", 255, "Error: \"dev\" and \"block\" are mutually exclusive"),
        ("filter get dev v0 ingress prio 1", 255, "Must specify filter protocol"),
        ("filter add dev v0 ingress", 2, "Error: Filter kind and protocol must be specified."),
        ("filter add dev v0 parent 1: u32", 2, "Error: Parent Qdisc doesn't exists."),
        ("filter add dev v0 ingress foo bar", 1, "Unknown filter \"foo\", hence option \"bar\" is unparsable"),
        ("filter add dev v0 ingress u32 match ip src", 1, "Illegal \"match\""),
        ("filter add dev v0 ingress u32 match ip src 1.2.3.4/99", 1, "Illegal \"match\""),
        ("filter add dev v0 ingress u32 foo", 1, "What is \"foo\"?"),
        ("filter add dev v0 ingress u32 match icmp type 8 ff match udp src 53 ffff", 1, "Illegal \"match\""),
        ("filter add dev v0 ingress prio 1 handle zz u32 match u32 0 0", 1, "Illegal filter ID"),
        ("filter add dev v0 ingress matchall classid 6789defg", 1, "Illegal \"classid\""),
        (
            "filter add dev v0 ingress matchall action mirred inbound mirror dev v1",
            1,
            "mirred option not supported inbound",
        ),
        ("filter add dev v0 ingress flower foo 1", 1, "What is \"foo\"?"),
        ("filter add dev v0 ingress flower ip_proto zzz", 1, "Illegal \"ip_proto\""),
        ("filter add dev", 255, "Command line is not complete"),
        ("actions add action pump index 3", 255, "Bad action type pump"),
        ("actions add action drop index 4294967296", 255, "Illegal \"index\""),
        ("actions add action mirred inbound mirror index 20 dev lo", 255, "mirred option not supported inbound"),
        ("actions del action gact", 255, "Error: no index specified action: gact"),
        ("actions ls", 255, "usage: tc actions"),
        ("qdisc add dev v0 ingress foorbar", 1, "What is \"foorbar\"?"),
        ("qdisc add", 2, "RTNETLINK answers: No such device"),
    ];
    for (line, code, text) in cases {
        match read(line) {
            Err((found, why)) => {
                assert!(why.starts_with(text), "{line}: {why}");
                assert_eq!(found, Some(code), "{line}: {why}");
            }
            Ok(command) => panic!("{line} is {command:?}"),
        }
    }
}

/// [CL-4]
#[test]
fn lines_of_a_batch_are_split_at_blanks_outside_of_quotes() {
    assert_eq!(command::split("  filter add  \"a b\" 'c' # and so on"), ["filter", "add", "a b", "c"]);
    assert_eq!(command::split("# nothing"), [""; 0]);
}

fn printed(line: &str, filter: &Value, how: Listed, style: Style) -> String {
    let words = command::split(line);
    let which = Which::read(&mut Words::new(&words)).unwrap();
    let mut printer = Printer::new(style);
    printer.begin_listing();
    filter::print(filter, &which, how, &mut printer);
    printer.end_listing();
    printer.take()
}

/// What iproute2 6.1 printed, but for the star before flowid, which later versions do not have.
#[test]
fn u32_is_listed_as_tc_does() {
    let node = json!({"on": "v0", "priority": 97, "protocol": "ip", "kind": "u32", "handle": "803::800", "class": "1:3",
        "match": {"table": "", "link": "43:", "keys": ["0x00000000/0x00000000 at 0", "0x00160000/0xffff0000 at nexthdr+0"],
            "offset": "plus 4 at 0 mask 0x0f00 shift 6", "eat": true, "hash": "0x0000ff00 at 12"},
        "actions": [], "stats": {"packets": 0, "bytes": 0}});
    assert_eq!(
        printed("dev v0 ingress", &node, Listed::Show, Style::default()),
        "filter protocol ip pref 97 u32 chain 0 fh 803::800 order 2048 key ht 803 bkt 0 flowid 1:3 link 43: not_in_hw \n  \
         match 00000000/00000000 at 0\n  match 00160000/ffff0000 at nexthdr+0\n    offset 0f00>>6 at 0 plus 4  eat \n    \
         hash mask 0000ff00 at 12 \n"
    );
    let table = json!({"on": "v0", "priority": 99, "protocol": "all", "kind": "u32", "handle": "43:",
        "match": {"divisor": 256}, "actions": [], "stats": {"packets": 0, "bytes": 0}});
    assert_eq!(
        printed("dev v0 ingress", &table, Listed::Show, Style::default()),
        "filter protocol all pref 99 u32 chain 0 fh 43: ht divisor 256 \n"
    );
    assert_eq!(
        printed("dev v0 ingress", &table, Listed::Show, Style { json: true, ..Style::default() }),
        "[{\"protocol\":\"all\",\"pref\":99,\"kind\":\"u32\",\"chain\":0,\"options\":{\"fh\":\"43:\",\"ht_divisor\":256}}]\n"
    );
}

/// [CL-5], [CL-6]
#[test]
fn flower_is_listed_as_tc_does() {
    let filter = json!({"on": "v0", "chain": 7, "priority": 1, "protocol": "ip", "kind": "flower", "handle": 1, "skip_hw": true,
        "class": "1:2",
        "match": {"dst_mac": "e4:11:22:11:4a:51", "ip_proto": "tcp", "ip_tos": "0x10/0x1c", "ip_ttl": 64, "dst_ip": "10.0.0.0/8",
            "dst_port": "1000-2000", "src_port": 80, "tcp_flags": "syn,!ack", "ip_flags": "nofrag"},
        "actions": [{"action": "drop", "index": 1, "stats": {"ref": 1, "bind": 1}}], "stats": {"packets": 0, "bytes": 0}});
    let text = "handle 0x1 classid 1:2 \n  dst_mac e4:11:22:11:4a:51\n  eth_type ipv4\n  ip_proto tcp\n  ip_tos 0x10/1c\n  \
                ip_ttl 0x40\n  dst_ip 10.0.0.0/8\n  dst_port 1000-2000\n  src_port 80\n  tcp_flags 0x2/12\n  ip_flags nofrag\n  \
                skip_hw\n  not_in_hw\n\taction order 1: gact action drop\n\t random type none pass val 0\n\t index 1 ref 1 bind 1\n\n";
    let listed = |line: &str, how| printed(line, &filter, how, Style::default());
    assert_eq!(listed("dev v0 ingress", Listed::Show), format!("filter protocol ip pref 1 flower chain 7 {text}"));
    assert_eq!(listed("dev v0 ingress prio 1 protocol ip chain 7", Listed::Show), format!("filter flower {text}"));
    assert_eq!(
        listed("dev v0 parent ffff:", Listed::Get),
        format!("filter parent ffff: protocol ip pref 1 flower chain 7 {text}")
    );
    assert_eq!(listed("dev v0", Listed::Show), format!("filter ingress protocol ip pref 1 flower chain 7 {text}"));
    let event = printed("", &filter, Listed::Event("deleted"), Style::default());
    assert_eq!(event, format!("deleted filter dev v0 ingress protocol ip pref 1 flower chain 7 {text}"));
    let brief = printed("dev v0 ingress", &filter, Listed::Show, Style { brief: true, ..Style::default() });
    assert!(!brief.contains("dst_mac") && brief.contains("handle 0x1"), "{brief}");
    let json = printed("dev v0 ingress", &filter, Listed::Show, Style { json: true, ..Style::default() });
    assert_eq!(
        json,
        "[{\"protocol\":\"ip\",\"pref\":1,\"kind\":\"flower\",\"chain\":7,\"options\":{\"handle\":1,\"classid\":\"1:2\",\
         \"keys\":{\"dst_mac\":\"e4:11:22:11:4a:51\",\"eth_type\":\"ipv4\",\"ip_proto\":\"tcp\",\"ip_tos\":\"0x10/1c\",\
         \"ip_ttl\":\"0x40\",\"dst_ip\":\"10.0.0.0/8\",\"dst_port\":{\"start\":1000,\"end\":2000},\"src_port\":80,\
         \"tcp_flags\":\"0x2/12\",\"ip_flags\":\"nofrag\"},\"skip_hw\":true,\"not_in_hw\":true,\"actions\":[{\"order\":1,\
         \"kind\":\"gact\",\"control_action\":{\"type\":\"drop\"},\"prob\":{\"random_type\":\"none\",\"control_action\":{\"type\":\
         \"pass\"},\"val\":0},\"index\":1,\"ref\":1,\"bind\":1}]}}]\n"
    );
}

#[test]
fn a_shared_block_is_named_where_it_was_not_asked_for() {
    let filter = json!({"on": 21, "priority": 1, "protocol": "all", "kind": "matchall", "handle": 1, "actions": [],
        "stats": {"packets": 0, "bytes": 0}});
    let text = "protocol all pref 1 matchall chain 0 handle 0x1 \n  not_in_hw\n";
    assert_eq!(printed("dev v0 ingress", &filter, Listed::Show, Style::default()), format!("filter block 21 {text}"));
    assert_eq!(printed("block 21", &filter, Listed::Show, Style::default()), format!("filter {text}"));
}

#[test]
fn a_chain_is_listed_with_its_template() {
    let mut printer = Printer::new(Style::default());
    let which = Which { port: Some("v0".into()), ..Which::default() };
    let template =
        json!({"on": "v0", "chain": 5, "kind": "flower", "protocol": "ip", "match": {"dst_ip": "0.0.0.0/16"}});
    chain::print(&json!({"on": "v0", "chain": 0}), &which, Listed::Show, &mut printer);
    chain::print(&template, &which, Listed::Show, &mut printer);
    assert_eq!(
        printer.take(),
        "chain parent ffff: chain 0 \nchain parent ffff: flower chain 5 \n  eth_type ipv4\n  dst_ip 0.0.0.0/16\n"
    );
}

proptest! {
    /// Whatever is typed, it is a command or a mistake.
    #[test]
    fn no_command_line_is_too_strange(
        words in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "filter", "chain", "actions", "qdisc", "add", "del", "get", "show", "dev", "v0", "ingress", "parent", "ffff:", "prio",
                "1", "protocol", "ip", "handle", "800::1", "flower", "u32", "matchall", "fw", "match", "ip", "src", "10.0.0.0/8", "u8",
                "u16", "at", "nexthdr+0", "-4", "action", "drop", "mirred", "egress", "mirror", "index", "cookie", "random", "determ",
                "jump", "goto", "sample", "ht", "offset", "mask", "shift", "hashkey", "divisor", "link", "ether", "ip6", "tcp", "dst",
                "0xffffffff", "4294967295", "-2147483648", "ff", "00:00:00:00:00:00", "::1/128", "dst_port", "1-2", "vlan_ethtype",
            ]).prop_map(String::from),
            ".{0,12}",
        ], 0..24),
    ) {
        let _ = command::command(&mut Words::new(&words));
        let _ = command::options(&mut Words::new(&words));
    }

    #[test]
    fn no_line_of_a_batch_is_too_strange(line in ".{0,200}") {
        let _ = read(&line);
    }
}
