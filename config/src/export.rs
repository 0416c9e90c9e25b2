//! Running rules as a file: what was listed, as `[[filter]]` tables.

use std::collections::HashSet;
use std::fmt::Write;

use serde_json::{Map, Value as Json};

use crate::names;

/// A block, and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The block's or the port's name, as `on` has it.
    pub on: String,
    /// Indexes of its chains, in the order of their creation.
    pub chains: Vec<u32>,
    /// Its filters as [`crate::show::filter`] shows them.
    pub filters: Vec<Json>,
}

/// Keys of a filter in the order in which they are written.
const KEYS: [&str; 10] =
    ["name", "chain", "priority", "protocol", "kind", "handle", "class", "skip_hw", "match", "actions"];

/// The filters as text of a file, for a file or drop-in beside the ports that it is for. Chains are named where they are
/// empty, so that they exist. Actions keep their numbers where several filters share them.
pub fn export(listings: &[Listing]) -> String {
    let mut text = String::new();
    for Listing { on, chains, filters } in listings {
        let used = |chain: &u32| filters.iter().any(|filter| chain_of(filter) == *chain);
        let empty: Vec<&u32> = chains.iter().filter(|chain| **chain != 0 && !used(chain)).collect();
        if !empty.is_empty() {
            let _ = writeln!(text, "[block.{}.chains]", key(on));
            for chain in empty {
                let _ = writeln!(text, "chain-{chain} = {chain}");
            }
            text.push('\n');
        }
        let filters: Vec<_> =
            filters.iter().filter_map(Json::as_object).filter(|filter| !is_root_table(filter)).collect();
        let mut halves = HashSet::new();
        for (at, filter) in filters.iter().enumerate() {
            if halves.contains(&at) {
                continue;
            }
            let _ = writeln!(text, "[[filter]]\non = {}", value(&on.as_str().into()));
            let half = other_half(at, &filters);
            halves.extend(half);
            let filter = if half.is_some() { &without_family(filter) } else { *filter };
            for (name, wanted) in wanted(filter) {
                let _ = writeln!(text, "{name} = {}", value(&wanted));
            }
            text.push('\n');
        }
    }
    text
}

fn chain_of(filter: &Json) -> u32 {
    filter["chain"].as_u64().and_then(|chain| u32::try_from(chain).ok()).unwrap_or(0)
}

/// A root table of u32 comes with its priority: nobody asked for it.
fn is_root_table(filter: &Map<String, Json>) -> bool {
    let id = filter
        .get("handle")
        .and_then(Json::as_str)
        .and_then(|handle| u32::from_str_radix(handle.trim_end_matches(':'), 16).ok());
    let divisor = filter.get("match").and_then(|keys| keys.get("divisor"));
    filter.get("kind").is_some_and(|kind| kind == "u32")
        && divisor.is_some_and(|divisor| divisor == 1)
        && id >= Some(0x800)
}

/// Of a filter with a name that was made for IPv4 and IPv6, given the place of the one for IPv4: the place of the other. The
/// file has the name once.
fn other_half(at: usize, filters: &[&Map<String, Json>]) -> Option<usize> {
    let first = filters[at];
    first.get("name")?;
    let priority = first.get("priority")?.as_u64()? + 1;
    if family(first).as_deref() != Some("ip") {
        return None;
    }
    let mut expected = without_family(first);
    expected.insert("priority".into(), priority.into());
    let of = |filter: &Map<String, Json>, key: &str| filter.get(key).and_then(Json::as_u64);
    let later = (at + 1..filters.len()).take_while(|later| of(filters[*later], "priority") <= Some(priority));
    later.into_iter().find(|later| {
        let there = filters[*later];
        family(there).as_deref() == Some("ipv6") && wanted(&without_family(there)) == wanted(&expected)
    })
}

/// What tells IPv4 from IPv6 in a filter.
fn family(filter: &Map<String, Json>) -> Option<String> {
    let keys = filter.get("match")?;
    let inner = ["cvlan_ethtype", "vlan_ethtype"].into_iter().find_map(|key| keys.get(key));
    inner.or(filter.get("protocol")).and_then(Json::as_str).map(str::to_owned)
}

fn without_family(filter: &Map<String, Json>) -> Map<String, Json> {
    let mut filter = filter.clone();
    let keys = filter.get_mut("match").and_then(Json::as_object_mut);
    let inner = keys.and_then(|keys| keys.shift_remove("cvlan_ethtype").or_else(|| keys.shift_remove("vlan_ethtype")));
    if inner.is_none() {
        filter.shift_remove("protocol");
    }
    filter
}

/// A filter as it was wanted: without what was seen since.
fn wanted(filter: &Map<String, Json>) -> Vec<(&'static str, Json)> {
    let field = |key: &&'static str| match (*key, filter.get(*key)?) {
        ("actions", Json::Array(actions)) => Some((*key, actions.iter().map(wanted_action).collect())),
        (key, value) => Some((key, value.clone())),
    };
    KEYS.iter().filter_map(field).collect()
}

fn wanted_action(listed: &Json) -> Json {
    let Some(listed) = listed.as_object() else { return listed.clone() };
    let mut action = listed.clone();
    let shared = action.remove("stats").is_some_and(|stats| stats["ref"].as_u64() > Some(1));
    if !shared {
        action.shift_remove("index");
    }
    match action.get("action") {
        Some(words) if action.len() == 1 => words.clone(),
        _ => action.into(),
    }
}

/// A value of TOML, on one line.
fn value(json: &Json) -> String {
    match json {
        Json::Array(elements) => format!("[{}]", elements.iter().map(value).collect::<Vec<_>>().join(", ")),
        Json::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, field)| format!("{} = {}", key(name), value(field))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        // Strings of JSON and of TOML differ in the escape of DEL alone, which no word has.
        other => other.to_string(),
    }
}

/// A key of TOML: names need no quotes but for dots.
fn key(name: &str) -> String {
    if names::check(name).is_ok() && !name.contains('.') { name.to_owned() } else { Json::from(name).to_string() }
}
