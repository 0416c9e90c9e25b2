use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use serde_json::Value;
use tidegate_classifiers::block::Block;
use tidegate_classifiers::flow_key;
use tidegate_classifiers::plane::Plane;
use tidegate_classifiers::request::{
    self, ActionInfo, ActionKind, ActionSpec, ChainCursor, ChainInfo, Cursor, DumpFilter, ETH_P_ALL, FilterInfo,
    FlowerSpec, KindSpec, MirredSpec, Random, RandomMode, Record, U32Spec,
};

use crate::request::{Request, control, mac, port, u32_handle};

/// A record of a listing of filters: where it is, and the rest in words.
struct Entry {
    chain: u64,
    priority: u64,
    /// The table of a u32 filter or table.
    table: Option<u32>,
    /// The header that comes before a priority's filters [WK-4].
    header: bool,
    is_u32: bool,
    place: String,
    rest: String,
}

/// What tc printed for `request`, in the words that ours are put in.
pub(crate) fn theirs(request: &Request, printed: Option<&Value>) -> Vec<String> {
    let Some(printed) = printed else { return Vec::new() };
    let records = printed.as_array().map_or(&[][..], Vec::as_slice);
    match request {
        Request::ListFilters(_) => lines(records.iter().map(their_entry).collect()),
        Request::GetFilter(_) => records.iter().map(|record| line(&their_entry(record))).collect(),
        Request::ListChains(_) | Request::GetChain(_) => {
            // Behind a chain that only gotos hold, the kernel lists a chain twice [WK-7].
            let mut chains: Vec<String> = records.iter().map(their_chain).collect();
            let mut seen = BTreeSet::new();
            chains.retain(|chain| seen.insert(chain.clone()));
            chains
        }
        Request::ListActions(_) => {
            records.iter().filter_map(|record| record["actions"].as_array()).flatten().map(their_action).collect()
        }
        _ => Vec::new(),
    }
}

pub(crate) fn our_filters(block: &Arc<Block>) -> Vec<String> {
    let mut cursor = Cursor::default();
    let mut entries = Vec::new();
    loop {
        let records = request::dump_page(block, &DumpFilter::default(), &mut cursor, 7).expect("7 is room enough");
        if records.is_empty() {
            return lines(as_the_kernel_lists_tables(entries));
        }
        entries.extend(records.iter().map(|record| match record {
            Record::Proto(proto) => Entry {
                chain: proto.chain.into(),
                priority: proto.priority.into(),
                table: None,
                header: true,
                is_u32: proto.kind == "u32",
                place: place(proto.chain.into(), proto.priority.into(), proto.protocol, proto.kind),
                rest: "header".to_owned(),
            },
            Record::Filter(info) => our_entry(info),
        }));
    }
}

pub(crate) fn our_filter(info: &FilterInfo) -> String {
    line(&our_entry(info))
}

pub(crate) fn our_chains(block: &Arc<Block>) -> Vec<String> {
    request::dump_chains(block, &mut ChainCursor::default(), usize::MAX).iter().map(our_chain).collect()
}

pub(crate) fn our_chain(info: &ChainInfo) -> String {
    let template = match &info.template {
        Some(KindSpec::Flower(spec)) => format!(" template{}", our_keys(spec)),
        Some(other) => format!(" template {other:?}"),
        None => String::new(),
    };
    format!("chain {}{template}", info.index)
}

pub(crate) fn our_actions(plane: &Arc<Plane>, kind: ActionKind) -> Vec<String> {
    request::dump_actions(plane, kind, 0, usize::MAX).iter().map(our_action).collect()
}

/// How many tables each u32 filter listing shows besides the root tables: those that a proto takes with it when it goes.
pub(crate) fn user_tables(block: &Arc<Block>) -> usize {
    let is_table = |info: &FilterInfo| matches!(info.matches, KindSpec::U32(U32Spec::Table { .. }));
    let by_proto = request::dump(block).iter().filter(|info| is_table(info)).fold(BTreeMap::new(), |mut map, info| {
        *map.entry((info.chain, info.priority)).or_insert(0_usize) += 1;
        map
    });
    by_proto.values().map(|tables| tables - 1).sum()
}

/// The kernel lists a table wherever the priority has the number of the one it belongs to, in whatever chain; we list it
/// there only. So ours are repeated where the kernel has them [WK-11].
fn as_the_kernel_lists_tables(entries: Vec<Entry>) -> Vec<Entry> {
    let tables: Vec<(u64, String, Option<u32>, String)> =
        (entries.iter().filter(|entry| entry.is_u32 && !entry.header))
            .map(|entry| (entry.priority, entry.place.clone(), entry.table, entry.rest.clone()))
            .collect();
    let mut listed = Vec::new();
    for entry in entries {
        if entry.is_u32 && !entry.header {
            continue;
        }
        let (chain, priority, place) = (entry.chain, entry.priority, entry.place.clone());
        let (header, is_u32) = (entry.header, entry.is_u32);
        listed.push(entry);
        if header && is_u32 {
            let here = tables.iter().filter(|(at, ..)| *at == priority);
            listed.extend(here.map(|(_, _, table, rest)| Entry {
                chain,
                priority,
                table: *table,
                header: false,
                is_u32: true,
                place: place.clone(),
                rest: rest.clone(),
            }));
        }
    }
    listed
}

/// The order of tables within a priority is nobody's promise; that of nodes is [WK-3].
fn lines(mut entries: Vec<Entry>) -> Vec<String> {
    for group in entries.chunk_by_mut(|a, b| (a.chain, a.priority) == (b.chain, b.priority)) {
        group.sort_by_key(|entry| entry.table); // stable
    }
    entries.iter().map(line).collect()
}

fn line(entry: &Entry) -> String {
    format!("{} {}", entry.place, entry.rest)
}

fn place(chain: u64, priority: u64, protocol: u16, kind: &str) -> String {
    format!("chain {chain} pref {priority} {protocol:#06x} {kind}")
}

fn our_entry(info: &FilterInfo) -> Entry {
    let is_u32 = info.kind == "u32";
    let handle = if is_u32 { u32_handle(info.handle) } else { format!("{:#x}", info.handle) };
    let mut rest = handle;
    match &info.matches {
        KindSpec::Flower(spec) => rest += &our_keys(spec),
        KindSpec::Matchall | KindSpec::Unknown => {}
        KindSpec::Fw(fw) => write!(rest, " mask {:#x}", fw.mask).unwrap(),
        KindSpec::U32(U32Spec::Table { divisor }) => write!(rest, " divisor {divisor}").unwrap(),
        KindSpec::U32(U32Spec::Node(node)) => {
            if let Some(key) = node.keys.last() {
                write!(rest, " {:x}/{:x}@{}", key.value & key.mask, key.mask, key.offset).unwrap();
            }
            if let Some(link) = node.link.filter(|&link| link != 0) {
                write!(rest, " link {:x}", link >> 20).unwrap();
            }
            if let Some(class) = node.class.filter(|&class| class != 0) {
                write!(rest, " class {:x}:{:x}", class >> 16, class & 0xffff).unwrap();
            }
        }
    }
    info.actions.iter().for_each(|it| write!(rest, " [{}]", our_action(it)).unwrap());
    Entry {
        chain: info.chain.into(),
        priority: info.priority.into(),
        table: is_u32.then_some(info.handle >> 20),
        header: false,
        is_u32,
        place: place(info.chain.into(), info.priority.into(), info.protocol, info.kind),
        rest,
    }
}

fn their_entry(record: &Value) -> Entry {
    let number = |name: &str| record[name].as_u64().unwrap_or_default();
    let kind = record["kind"].as_str().unwrap_or_default();
    let (chain, priority) = (number("chain"), number("pref"));
    let is_u32 = kind == "u32";
    let options = &record["options"];
    let mut rest = String::new();
    let mut table = None;
    if options.is_null() {
        rest += "header";
    } else if is_u32 {
        let handle = their_u32_handle(options["fh"].as_str().expect("u32 has handles"));
        table = Some(handle >> 20);
        rest += &u32_handle(handle);
        if let Some(divisor) = options["ht_divisor"].as_u64() {
            write!(rest, " divisor {divisor}").unwrap();
        }
        let key = &options["match"];
        if let (Some(value), Some(mask)) = (key["value"].as_str(), key["mask"].as_str()) {
            write!(rest, " {value}/{mask}@{}", key["off"]).unwrap();
        }
        if let Some(link) = options["link"].as_str() {
            write!(rest, " link {}", link.trim_end_matches(':')).unwrap();
        }
        if let Some(class) = options["flowid"].as_str() {
            write!(rest, " class {class}").unwrap();
        }
    } else {
        let handle = options["handle"].as_u64().or_else(|| {
            let text = options["handle"].as_str()?;
            u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        });
        write!(rest, "{:#x}", handle.unwrap_or_default()).unwrap();
        if kind == "flower" {
            rest += &their_keys(&options["keys"]);
        }
        if kind == "fw" {
            let mask = options["mask"].as_str().map_or(0xffff_ffff, |mask| {
                u32::from_str_radix(mask.trim_start_matches("0x"), 16).expect("hexadecimal")
            });
            write!(rest, " mask {mask:#x}").unwrap();
        }
    }
    for it in options["actions"].as_array().into_iter().flatten() {
        write!(rest, " [{}]", their_action(it)).unwrap();
    }
    let protocol = protocol(record["protocol"].as_str().unwrap_or_default());
    let header = options.is_null();
    Entry { chain, priority, table, header, is_u32, place: place(chain, priority, protocol, kind), rest }
}

fn their_chain(record: &Value) -> String {
    let template = match record["kind"].as_str() {
        Some("flower") => format!(" template{}", their_keys(&record["options"]["keys"])),
        Some(other) => format!(" template {other}"),
        None => String::new(),
    };
    format!("chain {}{template}", record["chain"])
}

fn our_action(info: &ActionInfo) -> String {
    let mut text = match info.spec {
        ActionSpec::Gact(gact) => {
            let mut text = format!("gact {}", control(gact.control));
            if let Some(Random { mode, control: second, one_in }) = gact.random {
                let mode = if mode == RandomMode::Determ { "determ" } else { "netrand" };
                write!(text, " random {mode} {} {one_in}", control(second)).unwrap();
            }
            text
        }
        ActionSpec::Mirred(MirredSpec::Mirror { to, control: then }) => {
            format!("mirred mirror p{} {}", port(to), control(then))
        }
        ActionSpec::Mirred(MirredSpec::Redirect { to }) => format!("mirred redirect p{} stolen", port(to)),
        ref other => unreachable!("no {other:?} is generated"),
    };
    write!(text, " index {} ref {} bind {}", info.index, info.refs, info.binds).unwrap();
    text
}

fn their_action(it: &Value) -> String {
    let mut text = match it["kind"].as_str() {
        Some("gact") => {
            let mut text = format!("gact {}", their_control(&it["control_action"]));
            if let Some(mode) = it["prob"]["random_type"].as_str().filter(|&mode| mode != "none") {
                let second = their_control(&it["prob"]["control_action"]);
                write!(text, " random {mode} {second} {}", it["prob"]["val"]).unwrap();
            }
            text
        }
        Some("mirred") => {
            let word = |name: &str| it[name].as_str().unwrap_or("?").to_owned();
            format!("mirred {} {} {}", word("mirred_action"), word("to_dev"), their_control(&it["control_action"]))
        }
        other => format!("{other:?}"),
    };
    write!(text, " index {} ref {} bind {}", it["index"], it["ref"], it["bind"]).unwrap();
    text
}

fn their_control(value: &Value) -> String {
    let word = value["type"].as_str().unwrap_or("?");
    match word {
        "goto" => format!("goto chain {}", value["chain"]),
        "jump" => format!("jump {}", value["jump"]),
        word => word.to_owned(),
    }
}

/// A u32 handle as tc prints it: parts that are 0 are left out.
pub(crate) fn their_u32_handle(text: &str) -> u32 {
    let mut parts = text.split(':').map(|part| u32::from_str_radix(part, 16).unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    next() << 20 | next() << 12 | next()
}

fn protocol(word: &str) -> u16 {
    match word {
        "ip" => 0x0800,
        "arp" => 0x0806,
        "ipv6" => 0x86dd,
        "802.1Q" => 0x8100,
        "802.1ad" => 0x88a8,
        "all" => ETH_P_ALL,
        other => panic!("protocol {other}"),
    }
}

/// The keys that scripts use: for the fields of packets there are packets.
fn our_keys(spec: &FlowerSpec) -> String {
    let (value, mask) = (spec.value.masked(&spec.mask), &spec.mask);
    let mut keys = Vec::new();
    if mask.get(flow_key::DST_MAC) != 0 {
        keys.push(format!("dst_mac={}/{}", mac(value.get(flow_key::DST_MAC)), mac(mask.get(flow_key::DST_MAC))));
    }
    if mask.get(flow_key::IP_PROTO) != 0 {
        keys.push(format!("ip_proto={}", value.get(flow_key::IP_PROTO)));
    }
    for (name, field, range) in
        [("src_port", flow_key::SRC_PORT, spec.src_port_range), ("dst_port", flow_key::DST_PORT, spec.dst_port_range)]
    {
        if mask.get(field) != 0 {
            keys.push(format!("{name}={}", value.get(field))); // tc does not print the mask
        }
        if let Some((min, max)) = range {
            keys.push(format!("{name}={min}-{max}"));
        }
    }
    format!(" {}", keys.join(","))
}

fn their_keys(keys: &Value) -> String {
    let mut words = Vec::new();
    if let Some(text) = keys["dst_mac"].as_str() {
        let (value, mask) = text.split_once('/').unwrap_or((text, "ff:ff:ff:ff:ff:ff"));
        let mask = match mask.parse::<u32>() {
            Ok(bits) => mac(flow_key::DST_MAC.max() & u64::MAX << (48 - bits)),
            Err(_) => mask.to_owned(),
        };
        words.push(format!("dst_mac={value}/{mask}"));
    }
    match keys["ip_proto"].as_str() {
        Some("tcp") => words.push("ip_proto=6".to_owned()),
        Some("udp") => words.push("ip_proto=17".to_owned()),
        Some(other) => words.push(format!("ip_proto={other}")),
        None => {}
    }
    for name in ["src_port", "dst_port"] {
        match &keys[name] {
            Value::Null => {}
            Value::Number(port) => words.push(format!("{name}={port}")),
            Value::String(text) => words.push(format!("{name}={text}")),
            range => words.push(format!("{name}={}-{}", range["start"], range["end"])),
        }
    }
    format!(" {}", words.join(","))
}
