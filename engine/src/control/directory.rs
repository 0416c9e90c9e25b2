//! Directory: what names on the control socket stand for: ports, their hooks, and the blocks that packets meet there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tidegate_classifiers::block::Block;
use tidegate_classifiers::event::BlockId;
use tidegate_classifiers::plane::{Binding, Direction, Hook, Plane};
use tidegate_classifiers::port::PortId;
use tidegate_client::wire::{BlockInfo, BlockName, Refusal};
use tidegate_config::{ConfigErrors, Names, Scope};

use super::Gateway;
use super::session::refusal;

/// Blocks that are gone whose names are kept: what happened in them may still have to be told.
const DEPARTED: usize = 1024;

/// Port ids have 16 bits, and flow keys hold them plus one.
const PORTS_MAX: u32 = 65_534;

/// What names stand for. Shared by all clients.
#[derive(Debug)]
pub struct Directory {
    plane: Arc<Plane>,
    /// Whether binding makes a port that is not there.
    ports_on_demand: bool,
    entries: RwLock<Entries>,
}

#[derive(Debug)]
struct Entries {
    ports: Names,
    hooks: BTreeMap<Hook, Hooked>,
    /// Blocks of the file, by name.
    configured: BTreeMap<String, Configured>,
    /// How requests call the blocks that they can name.
    names: HashMap<BlockId, BlockName>,
    departed: VecDeque<(BlockId, BlockName)>,
    /// Chains of the blocks that have no names for them.
    no_chains: Names,
}

/// What is bound to a hook.
#[derive(Debug)]
struct Hooked {
    block: Arc<Block>,
    /// If a client bound it.
    binding: Option<Binding>,
}

#[derive(Debug)]
struct Configured {
    block: Arc<Block>,
    chains: Names,
}

/// What a request wants of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// To see what is there.
    Look,
    /// To change it: that a block is shared must not come as a surprise [RQ-10].
    Change,
}

impl Directory {
    /// Without a port.
    pub fn new(plane: Arc<Plane>) -> Directory {
        let entries = Entries {
            ports: Names::new("port"),
            hooks: BTreeMap::new(),
            configured: BTreeMap::new(),
            names: HashMap::new(),
            departed: VecDeque::new(),
            no_chains: Names::new("chain of this block"),
        };
        Directory { plane, ports_on_demand: false, entries: RwLock::new(entries) }
    }

    /// Without a port; a client makes one by binding its hooks.
    pub fn with_ports_on_demand(plane: Arc<Plane>) -> Directory {
        Directory { ports_on_demand: true, ..Directory::new(plane) }
    }

    /// `port` is called `name` from now on.
    pub fn name_port(&self, name: &str, port: PortId) {
        self.write().ports.insert(name, port.0.into());
    }

    /// A port is no more, nor what was bound to it; `own` is the block that was its alone.
    pub fn forget_port(&self, name: &str, port: PortId, own: Option<&Arc<Block>>) {
        let mut entries = self.write();
        entries.ports.remove(name);
        entries.hooks.retain(|hook, _| hook.port != port);
        if let Some(own) = own {
            entries.configured.retain(|_, configured| configured.block.id() != own.id());
            entries.forget(own.id());
        }
    }

    /// Whether a client bound a hook of `port`.
    pub fn is_bound_by_client(&self, port: PortId) -> bool {
        let entries = self.read();
        entries.hooks.iter().any(|(hook, hooked)| hook.port == port && hooked.binding.is_some())
    }

    /// Every block that requests can name, with its name.
    pub fn named_blocks(&self) -> Vec<(BlockName, Arc<Block>)> {
        let entries = self.read();
        let configured = entries.configured.values().map(|configured| &configured.block);
        let all = configured.chain(entries.hooks.values().map(|hooked| &hooked.block));
        let named = all.filter_map(|block| Some((entries.names.get(&block.id())?.clone(), Arc::clone(block))));
        let by_name: BTreeMap<BlockName, Arc<Block>> = named.collect();
        by_name.into_iter().collect()
    }

    /// The names of a configured block's chains.
    pub fn chain_names(&self, block: &str) -> Names {
        let entries = self.read();
        entries.configured.get(block).map_or_else(|| entries.no_chains.clone(), |configured| configured.chains.clone())
    }

    /// `block` is called `name` from now on, as the file says, its chains as in `chains`; it is bound to `hooks`.
    pub fn name_block(&self, name: &str, block: &Arc<Block>, chains: Names, hooks: impl IntoIterator<Item = Hook>) {
        let mut entries = self.write();
        entries.names.insert(block.id(), BlockName::Name(name.into()));
        entries.configured.insert(name.into(), Configured { block: Arc::clone(block), chains });
        for hook in hooks {
            entries.hooks.insert(hook, Hooked { block: Arc::clone(block), binding: None });
        }
    }

    /// The block that `on` is, and what `read` makes of the names that are good there.
    ///
    /// # Errors
    /// `ENODEV` for an unknown port [RQ-9]; `EINVAL` for a hook without a block, and an unknown index [RQ-11]; `EOPNOTSUPP` to
    /// change a shared block by way of a port [RQ-10]; `EINVAL` with what `read` finds wrong.
    pub(super) fn find<T>(
        &self,
        on: &BlockName,
        access: Access,
        read: impl FnOnce(Scope<'_>) -> Result<T, ConfigErrors>,
    ) -> Result<(Arc<Block>, T), Refusal> {
        let entries = self.read();
        let block = match on {
            BlockName::Index(index) => self.plane.block(*index).map_err(refusal)?,
            BlockName::Name(name) => entries.find(name, access)?,
        };
        let chains = match entries.names.get(&block.id()) {
            Some(BlockName::Name(name)) => entries.configured.get(name).map(|configured| &configured.chains),
            _ => None,
        };
        let scope = Scope { ports: &entries.ports, chains: Some(chains.unwrap_or(&entries.no_chains)) };
        let value = read(scope).map_err(|wrong| Refusal::new("EINVAL", wrong.to_string()))?;
        Ok((block, value))
    }

    /// What `read` makes of the names of ports.
    pub(super) fn with_ports<T>(&self, read: impl FnOnce(&Names) -> T) -> T {
        read(&self.read().ports)
    }

    /// How requests call a block, or called it.
    pub(super) fn name_of(&self, block: BlockId) -> Option<BlockName> {
        let entries = self.read();
        let departed = || entries.departed.iter().find(|(id, _)| *id == block).map(|(_, name)| name);
        entries.names.get(&block).or_else(departed).cloned()
    }

    /// Every block that requests can name, by name.
    pub(super) fn blocks(&self) -> Vec<BlockInfo> {
        let entries = self.read();
        let mut infos: BTreeMap<BlockName, BlockInfo> = BTreeMap::new();
        let configured = entries.configured.values().map(|configured| (&configured.block, None));
        let hooked = entries.hooks.iter().map(|(hook, hooked)| (&hooked.block, Some(*hook)));
        for (block, hook) in configured.chain(hooked) {
            let Some(on) = entries.names.get(&block.id()) else { continue };
            let info = infos.entry(on.clone()).or_insert_with(|| BlockInfo {
                on: on.clone(),
                index: block.index(),
                hooks: Vec::new(),
                configured: hook.is_none(),
            });
            info.hooks.extend(hook.map(|hook| entries.hook_name(hook)));
        }
        infos.into_values().collect()
    }

    /// Binds hooks of a port: all that are given, or none.
    ///
    /// # Errors
    /// `ENODEV` for an unknown port; `EINVAL` if a hook is bound already [BL-6], or none is given; `EBUSY` if both are to be bound to
    /// one shared block [BL-5]; whatever the gateway refuses.
    pub(super) fn bind(
        &self,
        port: &str,
        blocks: [(Direction, Option<u32>); 2],
        gateway: Option<&dyn Gateway>,
    ) -> Result<(), Refusal> {
        let mut entries = self.write();
        let id = entries.port_to_bind(port, self.ports_on_demand)?;
        let mut bindings = Vec::new();
        for (direction, index) in blocks {
            if let Some(index) = index {
                let hook = Hook { port: id, direction };
                bindings.push(self.plane.bind(hook, index, None).map_err(refusal)?);
            }
        }
        if bindings.is_empty() {
            return Err(Refusal::new("EINVAL", "no hook to bind: give ingress, egress, or both"));
        }
        if let Some(gateway) = gateway {
            for (n, binding) in bindings.iter().enumerate() {
                if let Err(refused) = gateway.attach(binding.hook(), Some(Arc::clone(binding.block()))) {
                    for attached in &bindings[..n] {
                        gateway.attach(attached.hook(), None)?;
                    }
                    return Err(refused);
                }
            }
        }
        entries.ports.insert(port, id.0.into());
        for binding in bindings {
            let (hook, block) = (binding.hook(), Arc::clone(binding.block()));
            let name = match block.index() {
                0 => BlockName::Name(entries.hook_name(hook)),
                index => BlockName::Index(index),
            };
            entries.names.entry(block.id()).or_insert(name);
            entries.hooks.insert(hook, Hooked { block, binding: Some(binding) });
        }
        Ok(())
    }

    /// Takes off a port's hooks what clients bound there.
    ///
    /// # Errors
    /// `ENODEV` for an unknown port; `EPERM` if the file bound its hooks, `EINVAL` if nobody did.
    pub(super) fn unbind(&self, port: &str, gateway: Option<&dyn Gateway>) -> Result<(), Refusal> {
        let taken = self.write().take_bound(port)?;
        for (hook, _) in &taken {
            if let Some(gateway) = gateway {
                gateway.attach(*hook, None)?;
            }
        }
        // The last one takes all filters of a block with it: not while others wait for the directory.
        drop(taken);
        Ok(())
    }

    /// Nothing is left half-done by a thread that panics: each change is one insertion or removal.
    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn find(&self, name: &str, access: Access) -> Result<Arc<Block>, Refusal> {
        if let Some(configured) = self.configured.get(name) {
            return Ok(Arc::clone(&configured.block));
        }
        let (port, direction) = match name.split_once('/') {
            None => (name, Direction::Ingress),
            Some((port, "ingress")) => (port, Direction::Ingress),
            Some((port, "egress")) => (port, Direction::Egress),
            Some(_) => return Err(Refusal::new("EINVAL", format!("{name:?} is no hook; write PORT or PORT/egress"))),
        };
        let hook = Hook { port: self.port(port)?, direction };
        let Some(hooked) = self.hooks.get(&hook) else {
            return Err(Refusal::new("EINVAL", format!("no block is bound to {name}")));
        };
        if access == Access::Change && hooked.block.index() != 0 {
            let block = self.names.get(&hooked.block.id()).map(BlockName::to_string).unwrap_or_default();
            let why = format!("{name} is bound to the shared block {block}; say so: on = {block}");
            return Err(Refusal::new("EOPNOTSUPP", why));
        }
        Ok(Arc::clone(&hooked.block))
    }

    fn port(&self, name: &str) -> Result<PortId, Refusal> {
        let number = self.ports.number(name).and_then(|number| u16::try_from(number).ok());
        number.map(PortId).ok_or_else(|| Refusal::new("ENODEV", format!("no port or block is called {name:?}")))
    }

    /// The port `name`, or if it may be made, the id that it will have.
    fn port_to_bind(&self, name: &str, on_demand: bool) -> Result<PortId, Refusal> {
        if !on_demand || self.ports.number(name).is_some() {
            return self.port(name);
        }
        if name.is_empty() || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            return Err(Refusal::new("ENODEV", format!("no port can be called {name:?}")));
        }
        let free = (0..PORTS_MAX).find(|&number| self.ports.name(number).is_none());
        let free = free.and_then(|number| u16::try_from(number).ok());
        free.map(PortId).ok_or_else(|| Refusal::new("ENOSPC", "there are too many ports"))
    }

    fn hook_name(&self, hook: Hook) -> String {
        let port = self.ports.name(hook.port.0.into()).unwrap_or_default();
        match hook.direction {
            Direction::Ingress => port.into(),
            Direction::Egress => format!("{port}/egress"),
        }
    }

    fn take_bound(&mut self, port: &str) -> Result<Vec<(Hook, Hooked)>, Refusal> {
        let id = self.port(port)?;
        let hooks = [Direction::Ingress, Direction::Egress].map(|direction| Hook { port: id, direction });
        let mut taken = Vec::new();
        for hook in hooks {
            match self.hooks.remove(&hook) {
                Some(hooked) if hooked.binding.is_some() => taken.push((hook, hooked)),
                Some(configured) => _ = self.hooks.insert(hook, configured),
                None => {}
            }
        }
        if taken.is_empty() {
            let configured = hooks.iter().any(|hook| self.hooks.contains_key(hook));
            return Err(match configured {
                true => Refusal::new("EPERM", format!("the configuration file bound {port}")),
                false => Refusal::new("EINVAL", format!("no block is bound to {port}")),
            });
        }
        for (_, hooked) in &taken {
            self.forget(hooked.block.id());
        }
        Ok(taken)
    }

    /// A block whose hook is gone is no longer named, unless another hook or the file has it.
    fn forget(&mut self, block: BlockId) {
        let hooked = self.hooks.values().any(|hooked| hooked.block.id() == block);
        let configured = self.configured.values().any(|configured| configured.block.id() == block);
        if !hooked
            && !configured
            && let Some(name) = self.names.remove(&block)
        {
            self.departed.truncate(DEPARTED - 1);
            self.departed.push_front((block, name));
        }
    }
}
