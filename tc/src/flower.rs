//! flower: match keys.

use serde_json::{Map, Value};
use tidegate_config::json;

use crate::arguments::{Failure, Words, decimal, hex, number};
use crate::filter;
use crate::printer::Printer;

/// Keys whose values are written alike in tc and in the file.
const ALIKE: [&str; 10] =
    ["indev", "dst_mac", "src_mac", "dst_ip", "src_ip", "arp_sip", "arp_tip", "arp_sha", "arp_tha", "arp_op"];

/// Keys that are plain numbers.
const NUMBERS: [&str; 5] = ["num_of_vlans", "vlan_id", "vlan_prio", "cvlan_id", "cvlan_prio"];

/// Reads the options of a filter, or of a template.
pub(crate) fn read(handle: Option<&str>, words: &mut Words<'_>, table: &mut Map<String, Value>) -> Result<(), Failure> {
    if let Some(handle) = handle {
        let number = number(handle).ok_or_else(|| Failure::new("Illegal \"handle\""))?;
        filter::put_handle(table, number);
    }
    let mut keys = Map::new();
    while let Some(word) = words.next() {
        if filter::read_common(word, words, table)? || word == "verbose" {
            continue;
        }
        let (key, value) = read_key(word, words)?;
        keys.insert(key.into(), value);
    }
    table.insert("match".into(), keys.into());
    Ok(())
}

/// A key and its value, as the file has them.
fn read_key<'a>(word: &'a str, words: &mut Words<'a>) -> Result<(&'a str, Value), Failure> {
    let known = ALIKE.contains(&word) || NUMBERS.contains(&word);
    let others = [
        "vlan_ethtype",
        "cvlan_ethtype",
        "ip_proto",
        "ip_tos",
        "ip_ttl",
        "dst_port",
        "src_port",
        "tcp_flags",
        "type",
        "code",
        "ip_flags",
    ];
    if !known && !others.contains(&word) {
        return Err(filter::what_is(word));
    }
    let value = words.value()?;
    let illegal = || Failure::new(format!("Illegal \"{word}\""));
    let masked = |max: u32, value_of: fn(&str) -> Option<u32>| {
        let (left, mask) = value.split_once('/').map_or((value, None), |(value, mask)| (value, Some(mask)));
        let number = value_of(left).filter(|number| *number <= max).ok_or_else(illegal)?;
        Ok::<Value, Failure>(match mask {
            None => number.into(),
            Some(mask) => {
                format!("{number:#x}/{:#x}", hex(mask).filter(|mask| *mask <= max).ok_or_else(illegal)?).into()
            }
        })
    };
    Ok(match word {
        "type" => ("icmp_type", masked(0xff, decimal)?),
        "code" => ("icmp_code", masked(0xff, decimal)?),
        "vlan_ethtype" | "cvlan_ethtype" => (word, filter::protocol(value).ok_or_else(illegal)?.into()),
        "ip_proto" if value.bytes().all(|c| c.is_ascii_hexdigit()) || value.starts_with("0x") => {
            (word, hex(value).filter(|proto| *proto <= 0xff).ok_or_else(illegal)?.into())
        }
        "ip_proto" => (word, json::number(word, &value.into(), false).map(|_| value.into()).ok_or_else(illegal)?),
        "ip_tos" => (word, masked(0xff, hex)?),
        "ip_ttl" => (word, masked(0xff, number)?),
        "tcp_flags" => (word, masked(0xfff, hex)?),
        "dst_port" | "src_port" if value.contains('-') => (word, value.into()),
        "dst_port" | "src_port" => (word, masked(0xffff, decimal)?),
        "ip_flags" => (word, value.replace('/', ",").into()),
        "arp_op" if value.starts_with(|c: char| c.is_ascii_digit()) => (word, masked(0xff, decimal)?),
        _ if NUMBERS.contains(&word) => (word, number(value).ok_or_else(illegal)?.into()),
        _ => (word, value.into()),
    })
}

/// The options of a filter, in the order of [CL-5].
pub(crate) fn print(filter: &Value, printer: &mut Printer) {
    filter::print_handle(filter, printer);
    if let Some(class) = filter["class"].as_str() {
        printer.field("classid", class, format_args!("classid {class} "));
    }
    if !printer.style.brief {
        print_keys(filter, printer);
    }
    filter::print_hardware(filter, printer);
}

/// The keys of a match.
pub(crate) fn print_keys(filter: &Value, printer: &mut Printer) {
    let keys = &filter["match"];
    let ethertype = ["cvlan_ethtype", "vlan_ethtype"].into_iter().find_map(|key| keys[key].as_str());
    let ethertype = ethertype.or(filter["protocol"].as_str()).unwrap_or_default();
    let plain = |key: &str, printer: &mut Printer| {
        if !keys[key].is_null() {
            print_key(key, keys[key].clone(), printer);
        }
    };
    let masked = |key: &str| json::number(key, &keys[key], ethertype == "ipv6");
    plain("indev", printer);
    printer.object(Some("keys"), |printer| {
        for key in [
            "num_of_vlans",
            "vlan_id",
            "vlan_prio",
            "vlan_ethtype",
            "cvlan_id",
            "cvlan_prio",
            "cvlan_ethtype",
            "dst_mac",
            "src_mac",
        ] {
            plain(key, printer);
        }
        if let Some(name) = ethertype_name(ethertype) {
            print_key("eth_type", name, printer);
        }
        if let Some((proto, _)) = masked("ip_proto") {
            let name = [(6, "tcp"), (17, "udp"), (132, "sctp"), (1, "icmp"), (58, "icmpv6"), (115, "l2tp")];
            let name = name.iter().find(|(number, _)| *number == proto).map(|(_, name)| (*name).to_owned());
            print_key("ip_proto", name.unwrap_or_else(|| format!("{proto:02x}")), printer);
        }
        for key in ["ip_tos", "ip_ttl"] {
            print_hex(key, masked(key), 0xff, printer);
        }
        plain("dst_ip", printer);
        plain("src_ip", printer);
        for key in ["dst_port", "src_port"] {
            match masked(key) {
                Some(port) => print_decimal(key, port, 0xffff, printer),
                None => print_range(key, &keys[key], printer),
            }
        }
        print_hex("tcp_flags", masked("tcp_flags"), 0xfff, printer);
        for key in ["icmp_type", "icmp_code"] {
            if let Some(number) = masked(key) {
                print_decimal(key, number, 0xff, printer);
            }
        }
        plain("arp_sip", printer);
        plain("arp_tip", printer);
        match (&keys["arp_op"], masked("arp_op")) {
            (Value::String(_), Some((_, 0xff))) => plain("arp_op", printer),
            (_, Some(number)) => print_decimal("arp_op", number, 0xff, printer),
            _ => {}
        }
        plain("arp_sha", printer);
        plain("arp_tha", printer);
        if let Some(flags) = keys["ip_flags"].as_str() {
            print_key("ip_flags", flags.replace(',', "/"), printer);
        }
    });
}

fn print_key(key: &str, value: impl Into<Value>, printer: &mut Printer) {
    let value = value.into();
    printer.line();
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    printer.field(key, value, format_args!("  {key} {text}"));
}

fn print_hex(key: &str, masked: Option<(u64, u64)>, max: u64, printer: &mut Printer) {
    match masked {
        Some((value, mask)) if mask != max => print_key(key, format!("{value:#x}/{mask:x}"), printer),
        Some((value, _)) => print_key(key, format!("{value:#x}"), printer),
        None => {}
    }
}

fn print_decimal(key: &str, (value, mask): (u64, u64), max: u64, printer: &mut Printer) {
    if mask == max { print_key(key, value, printer) } else { print_key(key, format!("{value}/{mask:#x}"), printer) }
}

fn print_range(key: &str, range: &Value, printer: &mut Printer) {
    let Some((min, max)) = range.as_str().and_then(|range| range.split_once('-')) else { return };
    printer.line();
    printer.object(Some(key), |printer| {
        printer.field("start", min.parse::<u16>().unwrap_or(0), format_args!("  {key} {min}"));
        printer.field("end", max.parse::<u16>().unwrap_or(0), format_args!("-{max}"));
    });
}

/// An ethertype as flower prints it.
fn ethertype_name(protocol: &str) -> Option<String> {
    match protocol {
        "all" | "802.1Q" | "802.1ad" | "" => None,
        "ip" => Some("ipv4".into()),
        name @ ("ipv6" | "arp" | "rarp") => Some(name.into()),
        other => Some(json::ethertype(other).map_or_else(|| other.to_owned(), |number| format!("{number:04x}"))),
    }
}
