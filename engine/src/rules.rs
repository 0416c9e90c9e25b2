//! Rules: the configuration's blocks, by name, as they are bound to ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::plane::{Binding, Direction, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_classifiers::request::{self, ActionKind, FilterInfo, FilterSpec, KindName, Owner};
use tidegate_classifiers::verdict::Control;
use tidegate_config::diff::{needs_restart, settings, snapshot};
use tidegate_config::{self as config, Config, ForwardTo, Names, PortNumbers};

use crate::apply::{self, Applied, Refused, Target};
use crate::control::Directory;
use crate::engine::lock;
use crate::error::EngineError;

/// Actions that are listed at once.
const ACTIONS: usize = 256;

/// The ports that packets come by, as a reload changes them.
pub trait Cabling: Send + Sync {
    /// Opens the ports of `config` that do not run yet, beside those that do. No packet comes by them until
    /// [`Cabling::settle`].
    ///
    /// # Errors
    /// Every reason why not; nothing has changed then.
    fn open(&self, config: &Config) -> Result<(), Refused>;

    /// Has the packets of a port meet a block, or no filter at all, from the next burst on.
    fn attach(&self, port: PortId, block: Option<Arc<Block>>);

    /// The filters of `config` are in effect: packets come by the ports that were opened, and ports that are not in it are
    /// closed when this returns.
    fn settle(&self, config: &Config);

    /// Nothing comes of it: what was opened is closed. When this returns, no packet meets a block that was taken from a port
    /// before.
    fn undo(&self);
}

/// No ports: for who wants to try filters alone.
#[derive(Clone, Copy, Debug)]
pub struct NoCabling;

impl Cabling for NoCabling {
    fn open(&self, _: &Config) -> Result<(), Refused> {
        Ok(())
    }

    fn attach(&self, _: PortId, _: Option<Arc<Block>>) {}

    fn settle(&self, _: &Config) {}

    fn undo(&self) {}
}

/// The blocks of a running gateway, and the settings it runs with. One reload at a time.
pub struct Rules {
    plane: Arc<Plane>,
    directory: Arc<Directory>,
    /// As they are in effect.
    running: Mutex<Running>,
    /// Ports' ingress hooks.
    bindings: Mutex<Vec<Binding>>,
    /// By name, in the order of the file.
    blocks: Mutex<Vec<(String, Arc<Block>)>>,
}

/// All of a configuration but its blocks.
struct Running {
    /// Without blocks.
    config: Config,
    settings: BTreeMap<String, String>,
    numbers: PortNumbers,
    /// Ports that have a way to the host.
    to_host: BTreeSet<PortId>,
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
            let bound = config.ports.iter().filter(|port| port.block == Some(number));
            let ports: Vec<PortId> = bound.map(|port| port.id).collect();
            let index = if ports.len() > 1 { u32::try_from(number + 1).unwrap_or(u32::MAX) } else { 0 };
            bind(&block.name, index, &ports)?;
        }
        for port in &config.ports {
            directory.name_port(&port.name, port.id);
        }
        for (name, block) in &blocks {
            let hooks = bindings.iter().filter(|binding| Arc::ptr_eq(binding.block(), block)).map(Binding::hook);
            directory.name_block(name, block, chain_names(config, name), hooks);
        }
        let mut running = Running {
            config: Config { ports: Vec::new(), blocks: Vec::new(), ..config.clone() },
            settings: BTreeMap::new(),
            numbers: PortNumbers::default(),
            to_host: BTreeSet::new(),
        };
        running.become_config(config);
        let rules = Rules {
            plane: Arc::clone(plane),
            directory: Arc::new(directory),
            running: Mutex::new(running),
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

    /// Makes ports and blocks what `config` wants: blocks all at one instant; right after it packets come by the ports that are
    /// new, and ports that are not in it are closed.
    ///
    /// # Errors
    /// Everything that `config` wants and that cannot be had while the gateway runs; every request that was refused. Nothing
    /// visible has changed then.
    pub fn reload(&self, config: &Config, cabling: &dyn Cabling) -> Result<Applied, Refused> {
        self.check(config)?;
        cabling.open(config)?;
        // Ports that go have the filters they had until they are closed.
        let (leaving, before) = (self.leaving(config), self.blocks());
        let own =
            |block: &Arc<Block>| leaving.iter().any(|(_, own)| own.as_ref().is_some_and(|own| Arc::ptr_eq(own, block)));
        lock(&self.blocks).retain(|(_, block)| !own(block));
        let mut fresh = Vec::new();
        let applied = self.bind_fresh(config, cabling, &mut fresh).and_then(|()| self.become_blocks(&config.blocks));
        let mut applied = match applied {
            Ok(applied) => applied,
            Err(refused) => {
                *lock(&self.blocks) = before;
                fresh.iter().for_each(|binding| cabling.attach(binding.hook().port, None));
                cabling.undo();
                drop(fresh);
                return Err(refused);
            }
        };
        config.ports.iter().for_each(|port| self.directory.name_port(&port.name, port.id));
        for (name, block) in self.blocks() {
            let bound = fresh.iter().filter(|binding| Arc::ptr_eq(binding.block(), &block)).map(Binding::hook);
            self.directory.name_block(&name, &block, chain_names(config, &name), bound);
        }
        cabling.settle(config);
        for (port, own) in &leaving {
            self.directory.forget_port(&port.name, port.id, own.as_ref());
            let filters = own.iter().flat_map(apply::filters).filter(|info| info.owner == Owner::Configuration);
            applied.removed += filters.count();
        }
        let mut bindings = lock(&self.bindings);
        let gone = |bound: &mut Binding| leaving.iter().any(|(port, _)| port.id == bound.hook().port);
        let unbound: Vec<Binding> = bindings.extract_if(.., gone).collect();
        bindings.extend(fresh);
        drop(bindings);
        drop(unbound); // the ports are closed: no worker looks at their blocks any more
        lock(&self.running).become_config(config);
        Ok(applied)
    }

    /// Everything that cannot be had while the gateway runs.
    fn check(&self, config: &Config) -> Result<(), Refused> {
        let mut reasons = {
            let running = lock(&self.running);
            let restart = needs_restart(&running.settings, &settings(config));
            let without = |port: &config::Port| {
                running.config.ports.iter().any(|there| there.id == port.id) && !running.to_host.contains(&port.id)
            };
            let wanting = config.ports.iter().filter(|port| without(port) && needs_host(config, port));
            let trap = |port: &config::Port| format!("port {}: the first `trap` on it: needs a restart", port.name);
            if restart.is_empty() { wanting.map(trap).collect() } else { restart }
        };
        for (port, own) in self.leaving(config) {
            reasons.extend(self.in_use(&port, own.as_ref()));
        }
        if reasons.is_empty() { Ok(()) } else { Err(Refused(reasons)) }
    }

    /// The ports that run and are not in `config`, each with the block that no other port is bound to.
    fn leaving(&self, config: &Config) -> Vec<(config::Port, Option<Arc<Block>>)> {
        let (running, bindings) = (lock(&self.running), lock(&self.bindings));
        let stays = |port: PortId| config.ports.iter().any(|wanted| wanted.id == port);
        let own = |block: &Arc<Block>| {
            let mut others = bindings.iter().filter(|other| Arc::ptr_eq(other.block(), block));
            others.all(|other| !stays(other.hook().port))
        };
        let leaving = running.config.ports.iter().filter(|port| !stays(port.id));
        leaving
            .map(|port| {
                let bound = bindings.iter().find(|binding| binding.hook().port == port.id).map(Binding::block);
                (port.clone(), bound.filter(|block| own(block)).cloned())
            })
            .collect()
    }

    /// What clients made that needs a port: it is theirs to take away [RL-2].
    fn in_use(&self, port: &config::Port, own: Option<&Arc<Block>>) -> Vec<String> {
        let mut uses = Vec::new();
        if self.directory.is_bound_by_client(port.id) {
            uses.push("a client bound it: it has to unbind it first".to_owned());
        }
        for (name, block) in self.directory.named_blocks() {
            let is_own = own.is_some_and(|own| Arc::ptr_eq(own, &block));
            let clients = apply::filters(&block).filter(|info| info.owner == Owner::Client);
            for FilterInfo { chain, priority, handle, .. } in clients.filter(|info| is_own || info.names_port(port.id))
            {
                let why = if is_own { "goes with it" } else { "names it" };
                let place = format!("chain {chain} priority {priority} handle {handle}");
                uses.push(format!("a client's filter {why}: block {name}, {place}; it has to be deleted first"));
            }
        }
        let mut index = 0;
        loop {
            let page = request::dump_actions(&self.plane, ActionKind::Mirred, index, ACTIONS);
            let Some(last) = page.last() else { break };
            index = last.index;
            let alone = page.iter().filter(|action| action.refs > action.binds && action.spec.names_port(port.id));
            uses.extend(alone.map(|action| {
                format!("a client's action names it: mirred index {}; it has to be deleted first", action.index)
            }));
        }
        uses.into_iter().map(|what| format!("port {}: {what}", port.name)).collect()
    }

    /// Binds the ports that have filters for the first time.
    fn bind_fresh(&self, config: &Config, cabling: &dyn Cabling, fresh: &mut Vec<Binding>) -> Result<(), Refused> {
        for port in &config.ports {
            let Some(number) = port.block.filter(|_| self.of_port(port.id).is_none()) else { continue };
            let name = &config.blocks[number].name;
            let there = lock(&self.blocks).iter().find(|(block, _)| block == name).map(|(_, block)| block.index());
            let sharing = config.ports.iter().filter(|other| other.block == port.block).count();
            let index = match there {
                Some(0) => {
                    let reason =
                        format!("port {}: to share block {name}, which has no index, needs a restart", port.name);
                    return Err(Refused(vec![reason]));
                }
                Some(index) => index,
                None if sharing == 1 => 0,
                None => self.free_index(number),
            };
            let binding = self.plane.bind(Hook { port: port.id, direction: Direction::Ingress }, index, None);
            let reason = |error| format!("port {}: {error}; a client bound it: it has to unbind it first", port.name);
            let binding = binding.map_err(|error| Refused(vec![reason(error)]))?;
            if there.is_none() {
                lock(&self.blocks).push((name.clone(), Arc::clone(binding.block())));
            }
            cabling.attach(port.id, Some(Arc::clone(binding.block())));
            fresh.push(binding);
        }
        Ok(())
    }

    /// The index of a new shared block: as at a start, or the next that is free.
    fn free_index(&self, number: usize) -> u32 {
        let first = u32::try_from(number + 1).unwrap_or(u32::MAX);
        (first..u32::MAX).find(|&index| self.plane.block(index).is_err()).unwrap_or(u32::MAX)
    }

    /// What runs, as a configuration: for going back to it.
    pub fn snapshot(&self) -> Config {
        let blocks = self.blocks();
        let mut config = lock(&self.running).config.clone();
        for port in &mut config.ports {
            let bound = self.of_port(port.id);
            port.block = bound.and_then(|bound| blocks.iter().position(|(_, block)| Arc::ptr_eq(block, &bound)));
        }
        for (name, block) in &blocks {
            let mut snapshot = snapshot(name, apply::filters(block), &apply::chains(block));
            let names = self.directory.chain_names(name);
            for chain in &mut snapshot.chains {
                chain.name = names.name(chain.index).map_or_else(|| chain.index.to_string(), str::to_owned);
            }
            config.blocks.push(snapshot);
        }
        config
    }

    /// The cores that workers are bound to.
    pub fn worker_cores(&self) -> Vec<u16> {
        lock(&self.running).config.workers.cores.clone()
    }

    /// The ports' names, in the order of the file.
    pub fn ports(&self) -> Vec<String> {
        lock(&self.running).config.ports.iter().map(|port| port.name.clone()).collect()
    }

    /// The numbers of the ports, so that a file can be read beside them.
    pub fn numbers(&self) -> PortNumbers {
        lock(&self.running).numbers.clone()
    }

    /// Gives back the numbers of ports that are in none of the two: what runs, and `also`.
    pub fn release_numbers(&self, also: Option<&Config>) {
        let Running { config, numbers, .. } = &mut *lock(&self.running);
        let ports = |config: &Config| config.ports.iter().map(|port| port.name.clone()).collect::<BTreeSet<_>>();
        let kept = [Some(&*config), also].into_iter().flatten().flat_map(ports).collect::<BTreeSet<_>>();
        numbers.retain(|name| kept.contains(name));
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
    pub fn to_host(&self, port: PortId) -> bool {
        lock(&self.running).to_host.contains(&port)
    }

    /// Every setting but blocks, by its name in the file.
    pub fn settings(&self) -> BTreeMap<String, String> {
        lock(&self.running).settings.clone()
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

impl Running {
    /// `config` is in effect.
    fn become_config(&mut self, config: &Config) {
        self.settings = settings(config);
        let (before, ports) = (std::mem::take(&mut self.config.ports), &config.ports);
        self.to_host.retain(|id| ports.iter().any(|port| port.id == *id));
        for port in ports {
            self.numbers.insert(&port.name, port.id);
            if before.iter().all(|there| there.id != port.id) && needs_host(config, port) {
                self.to_host.insert(port.id);
            }
        }
        self.config.ports.clone_from(ports);
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("settings", &self.settings()).finish_non_exhaustive()
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
fn needs_host(config: &Config, port: &config::Port) -> bool {
    let filters = port.block.into_iter().flat_map(|block| &config.blocks[block].filters);
    let mut specs = filters.flat_map(|filter| filter.actions.iter()).filter_map(|action| action.spec.as_ref());
    port.forward_to == ForwardTo::Host || specs.any(|spec| spec.controls().any(|control| control == Control::Trap))
}
