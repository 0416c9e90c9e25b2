//! Diff: what has to happen so that running filters become those of a file.
//!
//! A filter of the file is found again among those that run by what the file says of it, also when others around it came or
//! went (`pairing`). Numbers that the file leaves open stay what they are, as long as the order is right (`placing`):
//! so a filter that did not change keeps its handle, its counters and its age [RL-10]. What clients made is not touched
//! [RL-2].

mod listed; // listings of a gateway, as they come over the control socket
mod pairing; // which running filter is which wanted one
mod placing; // priorities for filters whose file gives none
mod settings; // what is not filters: ports, and what needs a restart
mod show; // changes as text and as JSON

use std::collections::BTreeSet;

use tidegate_classifiers::request::{ActionInfo, ActionUse, ChainInfo, FilterInfo, FilterSpec, KindSpec, Owner};

use crate::Block;
pub use listed::{listed_chain, listed_filter};
use pairing::Partner;
pub use settings::{needs_restart, ports, settings};

/// What has to happen in a block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Chains that come.
    pub chains_added: Vec<u32>,
    /// Chains that the configuration no longer asks for. They go when nobody else needs them.
    pub chains_removed: Vec<u32>,
    /// Filters that go.
    pub removed: Vec<FilterSpec>,
    /// Filters that are changed, or have to get another place.
    pub replaced: Vec<Replaced>,
    /// Filters that come. A handle of 0 is given out by the priority.
    pub added: Vec<FilterSpec>,
    /// Number of filters that stay as they are.
    pub unchanged: usize,
}

/// A filter that is changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Replaced {
    /// What runs.
    pub old: FilterSpec,
    /// What is wanted.
    pub new: FilterSpec,
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.chains_added.is_empty()
            && self.chains_removed.is_empty()
            && self.removed.is_empty()
            && self.replaced.is_empty()
            && self.added.is_empty()
    }
}

impl Replaced {
    /// Whether a kind can replace the one by the other, at the same place [FO-7], [MA-1]. Otherwise the old one is deleted
    /// and the new one added.
    pub fn in_place(&self) -> bool {
        let Replaced { old, new } = self;
        old.id() == new.id()
            && old.protocol == new.protocol
            && match (&old.kind, &new.kind) {
                (KindSpec::Flower(old), KindSpec::Flower(new)) => {
                    (old.mask, old.src_port_range, old.dst_port_range)
                        == (new.mask, new.src_port_range, new.dst_port_range)
                }
                (KindSpec::Fw(old), KindSpec::Fw(new)) => old == new,
                _ => false,
            }
    }
}

/// What has to happen so that `filters` and `chains`, which run, become those of `wanted`. Both in the order of listings.
/// O(n) for n filters, but for those that are not where they were.
pub fn diff(filters: impl IntoIterator<Item = FilterInfo>, chains: &[ChainInfo], wanted: &Block) -> Changes {
    let order = canonical_order(wanted);
    let fixed = fixed(wanted, &order);
    let pairing = pairing::pair(filters.into_iter(), wanted, &order, &fixed);
    let mut changes = Changes { removed: pairing.leftovers.iter().map(spec).collect(), ..Changes::default() };
    let held: Vec<Option<u32>> = pairing.partners.iter().map(Partner::priority).collect();
    let priorities = placing::place(&wanted.filters, &order, &fixed, held, pairing.taken);
    let numbered = wanted.filters.iter().zip(&wanted.numbers).zip(priorities);
    for (((filter, numbers), priority), partner) in numbered.zip(pairing.partners) {
        let (old, changed) = match partner {
            Partner::None => {
                let handle = if numbers.handle { filter.handle } else { 0 };
                changes.added.push(FilterSpec { priority, handle, ..filter.clone() });
                continue;
            }
            Partner::Same(id) => (id, None),
            Partner::Changed(info) => (info.id(), Some(info)),
        };
        if changed.is_none() && priority == old.priority {
            changes.unchanged += 1;
            continue;
        }
        let handle = match numbers.handle {
            true => filter.handle,
            false if priority == old.priority => old.handle,
            false => 0,
        };
        let old = match changed {
            Some(info) => spec(&info),
            None => FilterSpec { priority: old.priority, handle: old.handle, ..filter.clone() },
        };
        changes.replaced.push(Replaced { old, new: FilterSpec { priority, handle, ..filter.clone() } });
    }
    let (there, asked) = (BTreeSet::from_iter(chains.iter().map(|chain| chain.index)), wanted_chains(wanted));
    changes.chains_added.extend(asked.difference(&there));
    let own = chains.iter().filter(|chain| chain.owner == Owner::Configuration).map(|chain| chain.index);
    changes.chains_removed.extend(own.filter(|index| !asked.contains(index)));
    changes
}

/// The configuration's part of what runs, as a file would say it that gives every number.
pub fn snapshot(name: &str, filters: impl IntoIterator<Item = FilterInfo>, chains: &[ChainInfo]) -> Block {
    let own = chains.iter().filter(|chain| chain.owner == Owner::Configuration);
    let filters: Vec<_> =
        filters.into_iter().filter(|info| info.owner == Owner::Configuration).map(|info| spec(&info)).collect();
    Block {
        name: name.to_owned(),
        chains: own.map(|chain| crate::Chain { index: chain.index, name: chain.index.to_string() }).collect(),
        numbers: vec![crate::Numbers { priority: true, handle: true }; filters.len()],
        filters,
    }
}

fn wanted_chains(wanted: &Block) -> BTreeSet<u32> {
    wanted.chains.iter().map(|chain| chain.index).collect()
}

/// A running filter as it would be asked for.
fn spec(info: &FilterInfo) -> FilterSpec {
    FilterSpec {
        chain: info.chain,
        priority: info.priority,
        protocol: info.protocol,
        handle: info.handle,
        kind: info.matches.clone(),
        actions: info.actions.iter().map(action).collect(),
        name: info.name.clone(),
        options: info.options,
    }
}

/// The number of an action matters to whoever shares it.
fn action(info: &ActionInfo) -> ActionUse {
    info.wanted().numbered(if info.refs > 1 { info.index } else { 0 })
}

/// Numbers of the wanted filters by chain and priority, as if all were new.
fn canonical_order(wanted: &Block) -> Vec<u32> {
    let mut order: Vec<u32> = (0..).zip(&wanted.filters).map(|(number, _)| number).collect();
    order.sort_by_key(|&number| {
        let filter = &wanted.filters[number as usize];
        (filter.chain, filter.priority)
    });
    order
}

/// Which filters have their priority from the file, or share one with such a filter.
fn fixed(wanted: &Block, order: &[u32]) -> Vec<bool> {
    let mut fixed: Vec<bool> = wanted.numbers.iter().map(|numbers| numbers.priority).collect();
    let place = |number: u32| (wanted.filters[number as usize].chain, wanted.filters[number as usize].priority);
    for shared in order.chunk_by(|&a, &b| place(a) == place(b)).filter(|shared| shared.len() > 1) {
        shared.iter().for_each(|&number| fixed[number as usize] = true);
    }
    fixed
}
