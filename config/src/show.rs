//! Listings in the words of the file: the inverse of reading them. What was wanted comes back as it was written, or as it
//! might have been; what was seen since is under `stats`, which no request has.

use serde_json::{Map, Value as Json, json};
use tidegate_classifiers::counters::Hits;
use tidegate_classifiers::request::{
    ActionInfo, ChainInfo, ETH_P_ALL, FilterInfo, FilterOptions, FilterSpec, KindSpec, Owner, ProtoInfo, U32Spec,
};

use crate::names::Names;
use crate::{actions, flower, fw, u32, words};

/// An ethertype's name, such as `ip` or `all`; hexadecimal if it has none.
pub fn protocol(ethertype: u16) -> String {
    words::show_protocol(ethertype)
}

/// A filter that is there, with `stats` of it and of each action. `now_ns` is the time on the clock that counts ages.
pub fn filter(info: &FilterInfo, ports: &Names, now_ns: u64) -> Json {
    let place = (info.chain, info.priority, info.protocol, info.handle);
    let mut table = fields(place, &info.matches, &info.name, info.options, ports);
    let actions: Json = info.actions.iter().map(|info| action(info, ports, now_ns)).collect();
    table.insert("actions".into(), actions);
    let mut stats = stats(&info.hits, now_ns);
    stats.extend(owner(info.owner));
    if info.runs > 0 {
        stats.insert("runs".into(), info.runs.into());
    }
    table.insert("stats".into(), stats.into());
    table.into()
}

/// A filter that is wanted.
pub fn filter_spec(spec: &FilterSpec, ports: &Names) -> Json {
    let place = (spec.chain, spec.priority, spec.protocol, spec.handle);
    let mut table = fields(place, &spec.kind, &spec.name, spec.options, ports);
    let actions: Json = spec.actions.iter().map(|action| one(actions::show(action, ports))).collect();
    table.insert("actions".into(), actions);
    table.into()
}

/// A priority that is there.
pub fn proto(info: &ProtoInfo) -> Json {
    json!({ "chain": info.chain, "priority": info.priority, "protocol": protocol(info.protocol), "kind": info.kind })
}

/// A chain that is there, with its template.
pub fn chain(info: &ChainInfo, ports: &Names) -> Json {
    let mut table = Map::new();
    table.insert("chain".into(), info.index.into());
    if let Some((key, owner)) = owner(info.owner) {
        table.insert("stats".into(), json!({ key: owner }));
    }
    if let Some(template) = &info.template {
        let protocol = match template {
            KindSpec::Flower(spec) => flower::protocol_of(spec),
            _ => ETH_P_ALL,
        };
        table.insert("kind".into(), template.name().as_str().into());
        table.insert("protocol".into(), words::show_protocol(protocol).into());
        table.insert("match".into(), matches(protocol, template, 0, ports).into());
    }
    table.into()
}

/// An action that is there, with `ref`, `bind` and what it did as `stats`.
pub fn action(info: &ActionInfo, ports: &Names, now_ns: u64) -> Json {
    let mut table = actions::show(&info.wanted(), ports);
    let mut seen = Map::new();
    seen.insert("ref".into(), info.refs.into());
    seen.insert("bind".into(), info.binds.into());
    seen.extend(stats(&info.hits, now_ns));
    if info.hits.drops > 0 {
        seen.insert("drops".into(), info.hits.drops.into());
    }
    if info.hits.overlimits > 0 {
        seen.insert("overlimits".into(), info.hits.overlimits.into());
    }
    table.insert("stats".into(), seen.into());
    table.into()
}

/// All of a filter but its actions, as far as it is given: `place` is chain, priority, protocol and handle.
fn fields(
    place: (u32, u32, u16, u32),
    kind: &KindSpec,
    name: &str,
    options: FilterOptions,
    ports: &Names,
) -> Map<String, Json> {
    let (chain, priority, protocol, handle) = place;
    let mut table = Map::new();
    let mut put = |key: &str, shown: Option<Json>| table.extend(shown.map(|shown| (key.to_owned(), shown)));
    put("name", (!name.is_empty()).then(|| name.into()));
    put("chain", (chain != 0).then(|| chain.into()));
    put("priority", (priority != 0).then(|| priority.into()));
    put("protocol", Some(words::show_protocol(protocol).into()));
    put("kind", Some(kind.name().as_str().into()));
    let in_tables = matches!(kind, KindSpec::U32(_));
    put("handle", (handle != 0).then(|| if in_tables { u32::show_handle(handle).into() } else { handle.into() }));
    let class = match kind {
        KindSpec::U32(U32Spec::Node(node)) => node.class,
        _ => options.class,
    };
    put("class", class.map(|class| words::show_class(class).into()));
    put("skip_hw", options.skip_hw.then_some(true.into()));
    put("match", (*kind != KindSpec::Matchall).then(|| matches(protocol, kind, handle, ports).into()));
    table
}

fn matches(protocol: u16, kind: &KindSpec, handle: u32, ports: &Names) -> Map<String, Json> {
    match kind {
        KindSpec::Flower(spec) => flower::show(protocol, spec, ports),
        KindSpec::Fw(spec) => fw::show(handle, spec, ports),
        KindSpec::U32(spec) => u32::show(spec, ports),
        KindSpec::Matchall | KindSpec::Unknown => Map::new(),
    }
}

/// The words alone, if there is nothing but them.
fn one(mut action: Map<String, Json>) -> Json {
    match action.get_mut("action").map(Json::take) {
        Some(words) if action.len() == 1 => words,
        Some(words) => {
            action.insert("action".into(), words);
            action.into()
        }
        None => action.into(),
    }
}

/// Said of what the configuration made.
fn owner(owner: Owner) -> Option<(String, Json)> {
    (owner == Owner::Configuration).then(|| ("owner".to_owned(), "configuration".into()))
}

fn stats(hits: &Hits, now_ns: u64) -> Map<String, Json> {
    let mut stats = Map::new();
    stats.insert("packets".into(), hits.packets.into());
    stats.insert("bytes".into(), hits.bytes.into());
    if hits.last_used_ns > 0 {
        stats.insert("used_ms".into(), (now_ns.saturating_sub(hits.last_used_ns) / 1_000_000).into());
    }
    stats
}
