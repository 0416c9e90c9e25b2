//! Preview: what a file would change on a running gateway.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};
use tidegate_client::wire::{BlockName, Record};
use tidegate_client::{Client, ClientError};
use tidegate_config::diff::{self, Changes, diff, listed_chain, listed_filter, needs_restart, settings};
use tidegate_config::{Block, Config, Names, PortNumbers, Scope};

/// What a reload of a file would do.
#[derive(Clone, Debug)]
pub struct Preview {
    /// What it would be refused for: one message each.
    pub needs_restart: Vec<String>,
    /// Ports that come, by name.
    pub ports_added: Vec<String>,
    /// Ports that go, by name.
    pub ports_removed: Vec<String>,
    /// Blocks by name, with their changes.
    pub blocks: Vec<(String, Changes)>,
    /// Of both sides.
    ports: Names,
}

impl Preview {
    /// Compares `config` with what runs at the other end of `client`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn new(config: &Config, client: &mut Client) -> Result<Preview, ClientError> {
        let (running, wanted) = (client.settings()?, settings(config));
        let (ports_running, ports_wanted) = (diff::ports(&running), diff::ports(&wanted));
        let (mut ports, mut numbers) = (Names::new("port"), PortNumbers::default());
        config.ports.iter().for_each(|port| numbers.insert(&port.name, port.id));
        for name in ports_wanted.union(&ports_running) {
            let number = numbers.assign(name);
            number.into_iter().for_each(|number| ports.insert(name, number.0.into()));
        }
        let only = |here: &BTreeSet<&str>, there: &BTreeSet<&str>| -> Vec<String> {
            here.difference(there).map(|name| (*name).to_owned()).collect()
        };
        let (ports_added, ports_removed) = (only(&ports_wanted, &ports_running), only(&ports_running, &ports_wanted));
        let needs_restart = needs_restart(&running, &wanted);
        let running: BTreeSet<String> =
            (client.blocks()?.into_iter().filter(|block| block.configured)).map(|block| block.on.to_string()).collect();
        let mut wanted: Vec<Block> = config.blocks.clone();
        let gone = running.iter().filter(|name| config.blocks.iter().all(|block| block.name != **name));
        wanted.extend(gone.map(|name| Block { name: name.clone(), ..Block::default() }));
        let mut blocks = Vec::new();
        for wanted in wanted {
            let (filters, chains) = match running.contains(&wanted.name) {
                true => listing(client, &wanted.name, Scope { ports: &ports, chains: None })?,
                false => Default::default(),
            };
            blocks.push((wanted.name.clone(), diff(filters, &chains, &wanted)));
        }
        Ok(Preview { needs_restart, ports_added, ports_removed, blocks, ports })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.needs_restart.is_empty()
            && self.ports_added.is_empty()
            && self.ports_removed.is_empty()
            && self.blocks.iter().all(|(_, changes)| changes.is_empty())
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let changed = self.blocks.iter().filter(|(_, changes)| !changes.is_empty());
        let blocks: Vec<Value> = changed.map(|(name, changes)| changes.json(name, &self.ports)).collect();
        let ports = json!({ "added": self.ports_added, "removed": self.ports_removed });
        json!({ "needs_restart": self.needs_restart, "ports": ports, "blocks": blocks })
    }
}

/// One line for each change.
impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.needs_restart.iter().try_for_each(|reason| writeln!(f, "! {reason}"))?;
        self.ports_added.iter().try_for_each(|port| writeln!(f, "+ port {port}"))?;
        self.ports_removed.iter().try_for_each(|port| writeln!(f, "- port {port}"))?;
        self.blocks.iter().try_for_each(|(name, changes)| f.write_str(&changes.text(name, &self.ports)))
    }
}

type Listing = (Vec<tidegate_classifiers::request::FilterInfo>, Vec<tidegate_classifiers::request::ChainInfo>);

fn listing(client: &mut Client, name: &str, scope: Scope<'_>) -> Result<Listing, ClientError> {
    let not_understood = |wrong: tidegate_config::ConfigErrors| ClientError::Unexpected(wrong.to_string());
    let (mut filters, mut chains) = (Vec::new(), Vec::new());
    for record in client.filters(json!({ "on": name })) {
        if let Record::Filter(filter) = record? {
            filters.extend(listed_filter(filter, scope).map_err(not_understood)?);
        }
    }
    for chain in client.chains(BlockName::from(name)) {
        chains.push(listed_chain(chain?, scope).map_err(not_understood)?);
    }
    Ok((filters, chains))
}
