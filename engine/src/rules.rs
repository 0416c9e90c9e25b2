//! Rules: the configuration's blocks, by name, as they are bound to ports.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::plane::{Binding, Direction, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{self, FilterSpec, KindName};
use tidegate_classifiers::verdict::Control;
use tidegate_config::diff::{needs_restart, settings, snapshot};
use tidegate_config::{self as config, Config, ForwardTo, Names};

use crate::apply::{self, Applied, Refused, Target};
use crate::control::Directory;
use crate::engine::{lock, port_id};
use crate::error::EngineError;

/// Has the packets of a port meet a block, or no filter at all, from the next burst on.
pub type Attach = dyn Fn(PortId, Option<Arc<Block>>) + Send;

/// The blocks of a running gateway, and what a reload must not change.
pub struct Rules {
    plane: Arc<Plane>,
    directory: Arc<Directory>,
    /// As the gateway was started with.
    settings: BTreeMap<String, String>,
    /// By port: whether there is a way to the host.
    to_host: Vec<bool>,
    /// Ports' ingress hooks.
    bindings: Mutex<Vec<Binding>>,
    /// By name, in the order of the file.
    blocks: Mutex<Vec<(String, Arc<Block>)>>,
}

impl Rules {
    /// The blocks of `config`, bound to its ports, with all their chains and filters. A block that several ports share has an
    /// index: its place in the file plus one.
    ///
    /// # Errors
    /// What could not be bound; every filter that was refused.
    pub fn new(config: &Config, plane: &Arc<Plane>) -> Result<Rules, EngineError> {
        let directory = Directory::new(Arc::clone(plane));
        let (mut bindings, mut blocks) = (Vec::new(), Vec::new());
        let mut bind = |name: &str, index: u32, ports: &[PortId]| -> Result<(), EngineError> {
            let first = bindings.len();
            for &port in ports {
                let binding = plane.bind(Hook { port, direction: Direction::Ingress }, index, None);
                bindings.push(binding.map_err(|source| EngineError::Bind { block: name.to_owned(), source })?);
            }
            let block = bindings.get(first).map_or_else(|| plane.private_block(), |first| Arc::clone(first.block()));
            blocks.push((name.to_owned(), block));
            Ok(())
        };
        for (number, block) in config.blocks.iter().enumerate() {
            let bound = (0..).zip(&config.ports).filter(|(_, port)| port.block == Some(number));
            let ports: Vec<PortId> = bound.map(|(id, _)| PortId(id)).collect();
            let index = if ports.len() > 1 { u32::try_from(number + 1).unwrap_or(u32::MAX) } else { 0 };
            bind(&block.name, index, &ports)?;
        }
        for (number, port) in config.ports.iter().enumerate() {
            directory.name_port(&port.name, port_id(number));
        }
        for (name, block) in &blocks {
            let hooks = bindings.iter().filter(|binding| Arc::ptr_eq(binding.block(), block)).map(Binding::hook);
            directory.name_block(name, block, chain_names(config, name), hooks);
        }
        let rules = Rules {
            plane: Arc::clone(plane),
            directory: Arc::new(directory),
            settings: settings(config),
            to_host: (0..config.ports.len()).map(|port| needs_host(config, port)).collect(),
            bindings: Mutex::new(bindings),
            blocks: Mutex::new(blocks),
        };
        rules.configure_u32(config).map_err(EngineError::Rules)?;
        rules.become_blocks(&config.blocks).map_err(EngineError::Rules)?;
        Ok(rules)
    }

    /// What transactions cannot hold [TX-12]: one by one, before there are packets.
    fn configure_u32(&self, config: &Config) -> Result<(), Refused> {
        let mut reasons = Vec::new();
        for (wanted, (_, block)) in config.blocks.iter().zip(self.blocks()) {
            let numbered = wanted.filters.iter().zip(&wanted.numbers);
            for (filter, numbers) in numbered.filter(|(filter, _)| filter.kind.name() == KindName::U32) {
                let handle = if numbers.handle { filter.handle } else { 0 };
                let added = request::configure_filter(&block, &FilterSpec { handle, ..filter.clone() });
                reasons.extend(added.err().map(|error| apply::reason(wanted, filter, error)));
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(Refused(reasons)) }
    }

    /// Makes the blocks what `config` wants, all at one instant. A port that had no filters gets its block by `attach`, before
    /// there are any; or loses it again, if nothing comes of it.
    ///
    /// # Errors
    /// Everything that `config` wants and that cannot be had while the gateway runs; every request that was refused. Nothing
    /// visible has changed then.
    pub fn reload(&self, config: &Config, attach: &Attach) -> Result<Applied, Refused> {
        let mut reasons = needs_restart(&self.settings, &settings(config));
        if reasons.is_empty() {
            let new_to_host = (0..).zip(&config.ports).zip(&self.to_host).filter(|(_, there)| !**there);
            let wanting = new_to_host.filter(|((port, _), _)| needs_host(config, *port));
            let reason = |port: &config::Port| format!("port {}: the first `trap` on it: needs a restart", port.name);
            reasons.extend(wanting.map(|((_, port), _)| reason(port)));
        }
        if !reasons.is_empty() {
            return Err(Refused(reasons));
        }
        let fresh = self.bind_fresh(config)?;
        let before = self.blocks();
        for binding in &fresh {
            let name = &config.ports[usize::from(binding.hook().port.0)].name;
            lock(&self.blocks).push((name.clone(), Arc::clone(binding.block())));
            attach(binding.hook().port, Some(Arc::clone(binding.block())));
        }
        let applied = self.become_blocks(&config.blocks).inspect_err(|_| *lock(&self.blocks) = before);
        if applied.is_err() {
            for binding in fresh {
                attach(binding.hook().port, None);
                self.plane.reaper().defer(Arc::new(binding)); // workers may still look at its block
            }
            return applied;
        }
        for (name, block) in self.blocks() {
            let bound = fresh.iter().filter(|binding| Arc::ptr_eq(binding.block(), &block)).map(Binding::hook);
            self.directory.name_block(&name, &block, chain_names(config, &name), bound);
        }
        lock(&self.bindings).extend(fresh);
        applied
    }

    /// Binds the ports that have filters for the first time.
    fn bind_fresh(&self, config: &Config) -> Result<Vec<Binding>, Refused> {
        let mut fresh = Vec::new();
        for (id, port) in (0..).map(PortId).zip(&config.ports) {
            if port.block.is_some() && self.of_port(id).is_none() {
                let binding = self.plane.bind(Hook { port: id, direction: Direction::Ingress }, 0, None);
                let reason =
                    |error| format!("port {}: {error}; a client bound it: it has to unbind it first", port.name);
                fresh.push(binding.map_err(|error| Refused(vec![reason(error)]))?);
            }
        }
        Ok(fresh)
    }

    /// What the configuration made of the blocks, for [`Rules::restore`].
    pub fn snapshot(&self) -> Vec<config::Block> {
        let snapshot =
            |(name, block): (String, Arc<Block>)| snapshot(&name, request::dump(&block), &apply::chains(&block));
        self.blocks().into_iter().map(snapshot).collect()
    }

    /// Makes the blocks what they were.
    ///
    /// # Errors
    /// As [`Rules::reload`].
    pub fn restore(&self, snapshot: &[config::Block]) -> Result<Applied, Refused> {
        self.become_blocks(snapshot)
    }

    /// The blocks by name, in the order of the file.
    pub fn blocks(&self) -> Vec<(String, Arc<Block>)> {
        lock(&self.blocks).clone()
    }

    /// The block that the configuration bound to a port's ingress hook.
    pub fn of_port(&self, port: PortId) -> Option<Arc<Block>> {
        let bindings = lock(&self.bindings);
        bindings.iter().find(|binding| binding.hook().port == port).map(|binding| Arc::clone(binding.block()))
    }

    /// Whether a port has to have a way to the host.
    pub fn to_host(&self, port: usize) -> bool {
        self.to_host.get(port).copied().unwrap_or(false)
    }

    /// What the gateway was started with, but for blocks.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// The names that requests use.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// One that is no longer wanted stays, without filters.
    fn become_blocks(&self, wanted: &[config::Block]) -> Result<Applied, Refused> {
        let mut blocks = self.blocks();
        for wanted in wanted {
            if blocks.iter().all(|(name, _)| *name != wanted.name) {
                blocks.push((wanted.name.clone(), self.plane.private_block()));
            }
        }
        let by_name: BTreeMap<&str, &config::Block> = wanted.iter().map(|block| (block.name.as_str(), block)).collect();
        let empty = |name: &str| config::Block { name: name.to_owned(), ..config::Block::default() };
        let nothing: Vec<config::Block> = blocks.iter().map(|(name, _)| empty(name)).collect();
        let targets: Vec<Target<'_>> = blocks
            .iter()
            .zip(&nothing)
            .map(|((name, running), nothing)| Target {
                running,
                wanted: by_name.get(name.as_str()).unwrap_or(&nothing),
            })
            .collect();
        let applied = apply::apply(&self.plane, &targets)?;
        *lock(&self.blocks) = blocks;
        Ok(applied)
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Names of the chains of the block `name`.
fn chain_names(config: &Config, name: &str) -> Names {
    let mut names = Names::new("chain of this block");
    let block = config.blocks.iter().find(|block| block.name == name);
    let named = block.into_iter().flat_map(|block| &block.chains).filter(|chain| chain.name != chain.index.to_string());
    named.for_each(|chain| names.insert(&chain.name, chain.index));
    names
}

/// Whether packets of this port can go to the host.
fn needs_host(config: &Config, port: usize) -> bool {
    let port = &config.ports[port];
    let filters = port.block.into_iter().flat_map(|block| &config.blocks[block].filters);
    let mut specs = filters.flat_map(|filter| filter.actions.iter()).filter_map(|action| action.spec);
    port.forward_to == ForwardTo::Host || specs.any(|spec| spec.controls().any(|control| control == Control::Trap))
}
