//! Settings: all of a configuration but blocks. They are what the gateway was started with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::{Config, Control, ForwardTo, PassList, Port, Workers};

/// Every setting by its name in the file, and the block of each port; values as text, for comparison and for people.
pub fn settings(config: &Config) -> BTreeMap<String, String> {
    let Config { workers, control, ports, blocks, warnings: _ } = config;
    let mut settings = BTreeMap::new();
    let mut set = |key: String, value: &dyn Debug| _ = settings.insert(key, format!("{value:?}").to_lowercase());

    let Workers { count, cores, idle, burst, ring_size, frames, chunk_size, huge_pages, flow_cache } = workers;
    let fields: [(&str, &dyn Debug); 9] = [
        ("count", count),
        ("cores", cores),
        ("idle", idle),
        ("burst", burst),
        ("ring_size", ring_size),
        ("frames", frames),
        ("chunk_size", chunk_size),
        ("huge_pages", huge_pages),
        ("flow_cache", flow_cache),
    ];
    fields.into_iter().for_each(|(field, value)| set(format!("workers.{field}"), value));
    let Control { socket, group } = control;
    set("control.socket".into(), socket);
    set("control.group".into(), group);

    for Port { id: _, name, interface, forward_to, mode, on_exit, host, block } in ports {
        let forward_to = match forward_to {
            ForwardTo::Port(to) => ports.iter().find(|port| port.id == *to).map_or("", |port| &port.name),
            ForwardTo::Host => "host",
        };
        // Without filters a port has no block, and the gateway gives it one.
        let block = block.and_then(|index| blocks.get(index)).map_or(name, |block| &block.name);
        let PassList { arp, nd, protocols, addresses, ports } = host;
        let fields: [(&str, &dyn Debug); 10] = [
            ("interface", interface),
            ("forward_to", &forward_to),
            ("mode", mode),
            ("on_exit", on_exit),
            ("block", block),
            ("host.arp", arp),
            ("host.nd", nd),
            ("host.protocols", protocols),
            ("host.addresses", addresses),
            ("host.ports", ports),
        ];
        fields.into_iter().for_each(|(field, value)| set(format!("port.{name}.{field}"), value));
    }
    settings
}

/// Names of the ports that these are settings of.
pub fn ports(settings: &BTreeMap<String, String>) -> BTreeSet<&str> {
    settings.keys().filter_map(|key| key.strip_prefix("port.")?.strip_suffix(".interface")).collect()
}

/// What cannot change while the gateway runs, but would have to: one message for each, naming it as the file does. Ports that
/// come or go are no such thing.
pub fn needs_restart(running: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let changed = wanted.iter().filter_map(|(key, wanted)| Some((key, running.get(key)?, wanted)));
    changed
        .filter(|(_, running, wanted)| running != wanted)
        .map(|(key, running, wanted)| format!("{key}: {wanted} instead of {running}: needs a restart"))
        .collect()
}
