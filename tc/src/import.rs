//! Import: what `tc -j filter show` listed, as filters in the words of the file.

use serde_json::{Map, Value, json};

use crate::{action, filter};

/// The filters of a listing for the port or block `on`.
///
/// # Errors
/// A line for each filter that the gateway cannot have, or that the listing does not tell in full.
pub fn import(listing: &Value, on: &str) -> Result<Vec<Value>, Vec<String>> {
    let Some(records) = listing.as_array() else { return Err(vec!["not a listing of tc -j".into()]) };
    let filters = records.iter().filter(|record| !record["options"].is_null());
    let mut wrong = Vec::new();
    let read = filters.filter_map(|record| {
        let place = format!("pref {} {}", record["pref"], record["kind"].as_str().unwrap_or_default());
        one(record, on).map_err(|why| wrong.push(format!("{place}: {why}"))).ok()
    });
    let read: Vec<Value> = read.collect();
    if wrong.is_empty() { Ok(read) } else { Err(wrong) }
}

fn one(record: &Value, on: &str) -> Result<Value, String> {
    let options = &record["options"];
    let protocol = record["protocol"].as_str().unwrap_or("all");
    let protocol = match protocol.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(number) => filter::protocol(number),
        None => filter::protocol(protocol),
    };
    let kind = record["kind"].as_str().unwrap_or_default();
    let mut table = Map::new();
    table.insert("on".into(), on.into());
    for (key, name) in [("chain", "chain"), ("pref", "priority")] {
        if record[key].as_u64() > Some(0) {
            table.insert(name.into(), record[key].clone());
        }
    }
    table.insert("protocol".into(), protocol.ok_or("a protocol that is not known")?.into());
    table.insert("kind".into(), kind.into());
    if options["handle"].as_u64() > Some(0) {
        table.insert("handle".into(), options["handle"].clone());
    }
    for key in ["classid", "flowid"] {
        if let Some(class) = options[key].as_str() {
            table.insert("class".into(), class.into());
        }
    }
    if options["skip_hw"] == true {
        table.insert("skip_hw".into(), true.into());
    }
    if options["skip_sw"] == true {
        return Err("skip_sw: there is no hardware that could do it".into());
    }
    match kind {
        "matchall" => {}
        "flower" => {
            let mut keys = keys(&options["keys"])?;
            if let Some(port) = options["indev"].as_str() {
                keys.insert("indev".into(), port.into());
            }
            table.insert("match".into(), keys.into());
        }
        "u32" => return Err("tc's JSON tells one key of a u32 filter at most".into()),
        _ => return Err("the gateway has no such kind".into()),
    }
    let actions = options["actions"].as_array().map(Vec::as_slice).unwrap_or_default();
    table.insert("actions".into(), actions.iter().map(one_action).collect::<Result<Value, String>>()?);
    Ok(table.into())
}

/// The keys of a flower filter.
fn keys(listed: &Value) -> Result<Map<String, Value>, String> {
    let mut keys = Map::new();
    for (key, value) in listed.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // Masks are hexadecimal, with or without saying so.
        let masked = || match text.split_once('/') {
            Some((value, mask)) => Value::from(format!("{value}/0x{}", mask.trim_start_matches("0x"))),
            None => Value::from(text.as_str()),
        };
        let value = match key.as_str() {
            "eth_type" => continue, // the filter's protocol, or that behind its tags
            "ip_proto" if text.len() == 2 && text.bytes().all(|c| c.is_ascii_hexdigit()) => {
                u8::from_str_radix(&text, 16).map_err(|e| format!("ip_proto: {e}"))?.into()
            }
            "ip_tos" | "ip_ttl" | "tcp_flags" => masked(),
            "src_port" | "dst_port" => match (&value["start"], &value["end"]) {
                (Value::Null, _) if value.is_u64() => value.clone(),
                (Value::Null, _) => masked(),
                (start, end) => format!("{start}-{end}").into(),
            },
            "icmp_type" | "icmp_code" | "arp_op" if value.is_string() && text.contains('/') => masked(),
            "ip_flags" => text.replace('/', ",").into(),
            "vlan_ethtype" | "cvlan_ethtype" => filter::protocol(&text).ok_or("an ethertype that is not known")?.into(),
            "dst_mac" | "src_mac" | "num_of_vlans" | "vlan_id" | "vlan_prio" | "cvlan_id" | "cvlan_prio"
            | "ip_proto" | "dst_ip" | "src_ip" | "icmp_type" | "icmp_code" | "arp_op" | "arp_sip" | "arp_tip"
            | "arp_sha" | "arp_tha" => value.clone(),
            other => return Err(format!("the gateway does not match on {other}")),
        };
        keys.insert(key.clone(), value);
    }
    Ok(keys)
}

fn one_action(listed: &Value) -> Result<Value, String> {
    let words = match listed["kind"].as_str().unwrap_or_default() {
        "gact" => {
            let first = verdict(&listed["control_action"])?;
            let prob = &listed["prob"];
            match prob["random_type"].as_str() {
                None | Some("none") => first,
                Some(mode) => format!("{first} random {mode} {} {}", verdict(&prob["control_action"])?, prob["val"]),
            }
        }
        "mirred" => {
            let what = listed["mirred_action"].as_str().unwrap_or_default();
            let target = match (listed["to_dev"].as_str(), listed["to_blockid"].as_u64()) {
                (Some("*") | None, None) => return Err("mirred to a device that is gone".into()),
                (Some(port), _) => port.to_owned(),
                (None, Some(index)) => format!("block {index}"),
            };
            let into = if listed["direction"] == "ingress" { " ingress" } else { "" };
            let then = match verdict(&listed["control_action"])? {
                verdict if what == "redirect" || verdict == "pipe" => String::new(),
                verdict => format!(" then {verdict}"),
            };
            format!("{what} {target}{into}{then}")
        }
        // The listing of nat says `type` for it.
        kind => {
            let words = action::import(listed["type"].as_str().unwrap_or(kind), listed)?;
            match verdict(&listed["control_action"])?.as_str() {
                "pipe" => words,
                verdict => format!("{words} then {verdict}"),
            }
        }
    };
    let shared = listed["ref"].as_u64() > Some(1);
    let mut table = Map::new();
    table.insert("action".into(), words.into());
    if shared {
        table.insert("index".into(), listed["index"].clone());
    }
    if listed["cookie"].is_string() {
        table.insert("cookie".into(), listed["cookie"].clone());
    }
    table.insert("stats".into(), json!({ "ref": listed["ref"] }));
    Ok(table.into())
}

fn verdict(control: &Value) -> Result<String, String> {
    match (control["type"].as_str(), control["chain"].as_u64(), control["jump"].as_u64()) {
        (Some("goto"), Some(chain), _) => Ok(format!("goto {chain}")),
        (Some("jump"), _, Some(count)) => Ok(format!("jump {count}")),
        (Some(verdict), ..) => Ok(verdict.to_owned()),
        (None, ..) => Err("an action without a verdict".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_of_tc_become_filters_of_the_file() {
        let listing = json!([
            {"protocol": "ip", "pref": 1, "kind": "flower", "chain": 0},
            {"protocol": "ip", "pref": 1, "kind": "flower", "chain": 0, "options": {"handle": 7, "classid": "1:2",
                "indev": "v1", "keys": {"dst_mac": "e4:11:22:11:4a:51", "eth_type": "ipv4", "ip_proto": "2f",
                    "ip_tos": "0x10/1c", "dst_ip": "10.0.0.0/8", "dst_port": {"start": 1, "end": 9}, "src_port": 80,
                    "tcp_flags": "0x2/12", "ip_flags": "nofrag/firstfrag"},
                "skip_hw": true, "not_in_hw": true,
                "actions": [{"order": 1, "kind": "gact", "control_action": {"type": "goto", "chain": 7},
                    "prob": {"random_type": "determ", "control_action": {"type": "drop"}, "val": 2},
                    "index": 3, "ref": 2, "bind": 1, "cookie": "c0ffee"},
                    {"order": 2, "kind": "mirred", "mirred_action": "mirror", "direction": "ingress", "to_dev": "v0",
                    "control_action": {"type": "pass"}, "index": 1, "ref": 1, "bind": 1}]}},
            {"protocol": "all", "pref": 49152, "kind": "matchall", "chain": 5, "options": {"handle": 1, "not_in_hw": true,
                "actions": [{"order": 1, "kind": "mirred", "mirred_action": "redirect", "direction": "egress",
                    "to_blockid": 21, "control_action": {"type": "stolen"}, "index": 2, "ref": 1, "bind": 1}]}},
        ]);
        let expected = json!([
            {"on": "wan", "priority": 1, "protocol": "ip", "kind": "flower", "handle": 7, "class": "1:2", "skip_hw": true,
                "match": {"dst_mac": "e4:11:22:11:4a:51", "ip_proto": 47, "ip_tos": "0x10/0x1c", "dst_ip": "10.0.0.0/8",
                    "dst_port": "1-9", "src_port": 80, "tcp_flags": "0x2/0x12", "ip_flags": "nofrag,firstfrag", "indev": "v1"},
                "actions": [{"action": "goto 7 random determ drop 2", "index": 3, "cookie": "c0ffee", "stats": {"ref": 2}},
                    {"action": "mirror v0 ingress then pass", "stats": {"ref": 1}}]},
            {"on": "wan", "chain": 5, "priority": 49152, "protocol": "all", "kind": "matchall", "handle": 1,
                "actions": [{"action": "redirect block 21", "stats": {"ref": 1}}]},
        ]);
        assert_eq!(import(&listing, "wan").map(Value::from), Ok(expected));
    }

    #[test]
    fn what_cannot_be_taken_over_is_named() {
        let listing = json!([
            {"protocol": "ip", "pref": 1, "kind": "u32", "options": {"fh": "800::800"}},
            {"protocol": "ip", "pref": 2, "kind": "flower", "options": {"keys": {"ct_state": "+trk"}}},
            {"protocol": "ip", "pref": 3, "kind": "matchall", "options": {"actions": [{"kind": "ct"}]}},
        ]);
        assert_eq!(
            import(&listing, "wan").unwrap_err(),
            [
                "pref 1 u32: tc's JSON tells one key of a u32 filter at most",
                "pref 2 flower: the gateway does not match on ct_state",
                "pref 3 matchall: the gateway has no action ct",
            ]
        );
    }
}
