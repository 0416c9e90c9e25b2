//! Plane: everything that the blocks of one engine share on the control side.

use std::collections::BTreeMap;

use crate::action::table::Table;
use crate::block::Block;
use crate::chain::ProtoList;
use crate::counters::Pool;
use crate::error::RequestError;
use crate::event::{BlockId, Hub, Subscription};
use crate::generation::{Current, Generation};
use crate::inject::{Injector, Point};
use crate::live::{Class, Live, LiveCounts, Token};
use crate::port::PortId;
use crate::reap::{NoWorkers, Quiescence, Reaper};
use crate::request::Owner;
use crate::sync::{Arc, AtomicU64, Lock, Locked, Ordering, Weak, class};
use crate::transaction::Transaction;

/// Pending releases above which deletes wait [DD-7].
const PENDING_MAX: usize = 1_000_000;

/// Pending releases above which a request helps to release.
const PENDING_HELP: usize = 1024;

/// The control plane of an engine: shared blocks by index, action tables, the global lock, subscribers, and the reaper.
#[derive(Debug)]
pub struct Plane {
    filter_counters: Arc<Pool>,
    action_counters: Arc<Pool>,
    /// For kinds that are not unlocked, and requests that [UL-2] names.
    global: Lock<(), { class::GLOBAL }>,
    registry: Lock<Registry, { class::REGISTRY }>,
    generation: Current,
    actions: Table,
    hub: Arc<Hub>,
    reaper: Reaper,
    next_block: AtomicU64,
    /// Keys the hash tables of flower, so that nobody outside can choose colliding filters.
    seed: u64,
    live: Arc<Live>,
    injector: Arc<Injector>,
}

#[derive(Debug, Default)]
struct Registry {
    shared: BTreeMap<u32, Weak<Block>>,
    hooks: BTreeMap<Hook, u32>,
}

/// The global lock, held.
pub(crate) type Global<'a> = Locked<'a, (), { class::GLOBAL }>;

/// Where packets meet a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hook {
    /// Port.
    pub port: PortId,
    /// Which way.
    pub direction: Direction,
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Into the gateway.
    Ingress,
    /// Out of it.
    Egress,
}

/// Is told when the first proto of chain 0 is another one [HC-1]. The calls for one block come one at a time, in the order
/// of the changes [HC-2], under the lock of chain 0: make no requests from here.
pub trait HeadChange: Send + Sync {
    /// `head` is what chain 0 is now; empty if it has no protos.
    fn head_changed(&self, head: &ProtoList);
}

/// A block bound to a hook. Dropping it unbinds: the block lives on while another hook or request holds it [BL-4].
pub struct Binding {
    block: Arc<Block>,
    hook: Hook,
    subscriber: Option<Arc<dyn HeadChange>>,
}

impl Plane {
    /// For workers 0 to `workers - 1`, whose progress `quiescence` knows.
    pub fn new(workers: usize, quiescence: impl Quiescence + 'static) -> Arc<Plane> {
        Plane::with_limits(workers, quiescence, PENDING_MAX, PENDING_HELP)
    }

    /// Without workers to wait for: requests release what is unlinked when they end, each a share of it [`Reaper::drain`].
    pub fn standalone(workers: usize) -> Arc<Plane> {
        Plane::with_limits(workers, NoWorkers, PENDING_MAX, 0)
    }

    /// As [`Plane::new`]: deletes wait above `limit` pending releases [DD-7], and requests help to release above `help`.
    pub fn with_limits(workers: usize, quiescence: impl Quiescence + 'static, limit: usize, help: usize) -> Arc<Plane> {
        let injector: Arc<Injector> = Arc::default();
        Arc::new(Plane {
            global: Lock::default(),
            registry: Lock::default(),
            generation: Current::default(),
            actions: Table::default(),
            filter_counters: Pool::for_filters(workers),
            action_counters: Pool::for_actions(workers),
            hub: Arc::default(),
            reaper: Reaper::new(Box::new(quiescence), limit, help, Arc::clone(&injector)),
            next_block: AtomicU64::new(1),
            seed: seed(),
            live: Arc::default(),
            injector,
        })
    }

    /// A block of its own for one hook [OBJ-1].
    pub fn private_block(self: &Arc<Self>) -> Arc<Block> {
        Block::on(self, 0, BlockId::Private(self.next_block.fetch_add(1, Ordering::Relaxed)))
    }

    /// The shared block `index`, if some hook is bound to it.
    ///
    /// # Errors
    /// `Invalid` if there is none [RQ-11].
    pub fn block(&self, index: u32) -> Result<Arc<Block>, RequestError> {
        let found = self.registry.lock().shared.get(&index).and_then(Weak::upgrade);
        found.ok_or(RequestError::Invalid("no such block"))
    }

    /// Binds `hook` to the block `index`, created if it is not there; to a private one for 0 [BL-1]. `subscriber` learns of
    /// head changes.
    ///
    /// # Errors
    /// `Invalid` if the hook is bound already [BL-6]; `Busy` if the port's other hook is bound to this block [BL-5].
    pub fn bind(
        self: &Arc<Self>,
        hook: Hook,
        index: u32,
        subscriber: Option<Arc<dyn HeadChange>>,
    ) -> Result<Binding, RequestError> {
        let _global = self.global();
        let fresh = if index == 0 { self.private_block() } else { Block::on(self, index, BlockId::Shared(index)) };
        let mut registry = self.registry.lock();
        let refused = if registry.hooks.contains_key(&hook) {
            Some(RequestError::Invalid("this hook has a block"))
        } else if index != 0 && registry.hooks.get(&hook.other()) == Some(&index) {
            Some(RequestError::Busy("the port's other hook has this block"))
        } else {
            None
        };
        if let Some(error) = refused {
            drop(registry); // before the fresh block goes, which looks into the registry
            return Err(error);
        }
        let mut unused = None;
        let block = match registry.shared.get(&index).and_then(Weak::upgrade) {
            Some(block) if index != 0 => {
                unused = Some(fresh);
                block
            }
            _ => {
                if index != 0 {
                    registry.shared.insert(index, Arc::downgrade(&fresh));
                }
                fresh
            }
        };
        registry.hooks.insert(hook, index);
        drop(registry);
        drop(unused);
        if let Some(subscriber) = &subscriber {
            block.subscribe(Arc::clone(subscriber));
        }
        Ok(Binding { block, hook, subscriber })
    }

    /// The generation as it is now. A worker reads it once a burst, before anything else of the plane, and classifies the
    /// whole burst with it, whatever the port.
    #[inline]
    pub fn generation(&self) -> Generation {
        self.generation.load()
    }

    /// A transaction without requests so far. Any number can be open.
    pub fn begin(self: &Arc<Self>) -> Transaction {
        self.begin_as(Owner::Client)
    }

    /// The same, for somebody who owns what is made in it.
    pub fn begin_as(self: &Arc<Self>, owner: Owner) -> Transaction {
        Transaction::begin(self, owner)
    }

    /// Events from now on. Who is more than `capacity` events behind loses some, and is told how many [NT-8].
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        self.hub.subscribe(capacity)
    }

    /// The queue of deferred destruction.
    pub fn reaper(&self) -> &Reaper {
        &self.reaper
    }

    /// Objects in memory.
    pub fn live(&self) -> LiveCounts {
        self.live.counts()
    }

    /// Calls `hook` at every injection point from now on.
    #[cfg(any(test, feature = "inject"))]
    pub fn set_hook(&self, hook: Option<crate::inject::Hook>) {
        self.injector.set(hook);
    }

    /// The moment of a commit. Under the global lock.
    pub(crate) fn enter(&self, generation: Generation) {
        self.generation.store(generation);
    }

    pub(crate) fn at(&self, point: Point) -> Result<(), RequestError> {
        self.injector.at(point)
    }

    pub(crate) fn global(&self) -> Global<'_> {
        self.global.lock()
    }

    pub(crate) fn actions(&self) -> &Table {
        &self.actions
    }

    pub(crate) fn filter_counters(&self) -> &Arc<Pool> {
        &self.filter_counters
    }

    pub(crate) fn action_counters(&self) -> &Arc<Pool> {
        &self.action_counters
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn live_objects(&self) -> &Arc<Live> {
        &self.live
    }

    pub(crate) fn count(&self, class: Class) -> Token {
        Token::new(&self.live, class)
    }

    /// A block is going: its index is free, unless another block has taken it already [BL-7].
    pub(crate) fn forget(&self, index: u32) {
        let mut registry = self.registry.lock();
        if registry.shared.get(&index).is_some_and(|block| block.strong_count() == 0) {
            registry.shared.remove(&index);
        }
    }
}

impl Hook {
    fn other(self) -> Hook {
        let direction = match self.direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        Hook { direction, ..self }
    }
}

impl Binding {
    /// What is bound.
    pub fn block(&self) -> &Arc<Block> {
        &self.block
    }

    /// Where.
    pub fn hook(&self) -> Hook {
        self.hook
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        let plane = self.block.plane();
        let _global = plane.global();
        if let Some(subscriber) = &self.subscriber {
            self.block.unsubscribe(subscriber);
        }
        plane.registry.lock().hooks.remove(&self.hook);
    }
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding").field("hook", &self.hook).finish_non_exhaustive()
    }
}

#[cfg(not(feature = "shuttle"))]
fn seed() -> u64 {
    fastrand::u64(..)
}

/// A model must run the same way each time.
#[cfg(feature = "shuttle")]
fn seed() -> u64 {
    1
}
