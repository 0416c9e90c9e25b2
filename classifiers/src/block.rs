//! Block: chains bound to hooks, and the life of the chains.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::chain::{Chain, ChainRef, Pin, ProtoList, Protos};
use crate::error::{Refusal, RequestError, Why};
use crate::event::{BlockId, Event};
use crate::kind::u32::Tables;
use crate::live::{Class, Token};
use crate::plane::{HeadChange, Plane};
use crate::request::{ChainInfo, Cx, KindSpec};
use crate::sync::{Arc, Changed, Loaded, Lock, class};

/// A set of chains. Requests change it, workers classify with it; any number of hooks may be bound to one.
///
/// Every binding and every request in flight holds an `Arc` of it [OBJ-2]. When the last one goes, its chains are flushed
/// and go too; what workers or gotos still hold keeps only memory alive.
#[derive(Debug)]
pub struct Block {
    core: Arc<Core>,
}

/// What the chains of a block share: outlives the block as long as a chain is there.
///
/// | field | guarded by |
/// |---|---|
/// | `chains` | `block.lock` |
/// | `dying` | its own lock |
/// | `entry` | `chain.filter_lock` of chain 0 |
#[derive(Debug)]
pub(crate) struct Core {
    plane: Arc<Plane>,
    index: u32,
    id: BlockId,
    /// The list of chain 0, whichever object chain 0 is at the moment, so that hooks and workers need not follow it; with
    /// it, chain 0's lock [HC-2], [HC-3].
    entry: Arc<Protos>,
    chains: CachePadded<Lock<Chains, { class::INNER }>>,
    dying: Lock<HashSet<ProtoKey>, { class::INNER }>,
    /// Something left `dying`.
    died: Changed,
    /// Of all u32 protos [U3-7].
    tables: Arc<Tables>,
    _live: Token,
}

/// Which proto is being destroyed: chain, priority, protocol [TP-14].
pub(crate) type ProtoKey = (u32, u32, u16);

/// An entry of the destroy registry; gone with it.
#[derive(Debug)]
pub(crate) struct Dying {
    core: Arc<Core>,
    key: ProtoKey,
}

/// The chains of a block, by identity: in order of creation [CH-13].
#[derive(Default)]
struct Chains {
    members: BTreeMap<u64, Member>,
    /// At most one chain has an index [OBJ-6].
    by_index: BTreeMap<u32, u64>,
    next_id: u64,
    /// Told when the first proto of chain 0 is another one [HC-1].
    subscribers: Vec<Arc<dyn HeadChange>>,
}

/// A chain of the block, and why it is there.
#[derive(Debug)]
struct Member {
    chain: Arc<Chain>,
    /// All references [OBJ-5].
    refcnt: usize,
    /// Those by gotos among them [OBJ-4].
    action_refcnt: usize,
    /// A client asked for it: one reference that stays until the chain is deleted [CH-3].
    explicitly_created: bool,
    template: Option<Arc<Template>>,
}

/// What the filters of a chain must keep to [TM-1].
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) spec: KindSpec,
}

impl Block {
    /// A block without chains, for workers 0 to `workers - 1`, on a plane of its own that knows no worker: what is
    /// unlinked is released as soon as the request ends.
    pub fn new(workers: usize) -> Arc<Block> {
        Plane::standalone(workers).private_block()
    }

    pub(crate) fn on(plane: &Arc<Plane>, index: u32, id: BlockId) -> Arc<Block> {
        let core = Core {
            plane: Arc::clone(plane),
            index,
            id,
            entry: Protos::new(),
            chains: CachePadded::default(),
            dying: Lock::default(),
            died: Changed::default(),
            tables: Arc::default(),
            _live: plane.count(Class::Block),
        };
        Arc::new(Block { core: Arc::new(core) })
    }

    /// The protos of chain 0 as they are now; empty if there is no chain 0. A worker loads this once a burst and drops
    /// it at the burst's end [DV-11].
    #[inline]
    pub fn head(&self) -> Loaded<ProtoList> {
        self.core.entry.load()
    }

    /// Index of a shared block; 0 for a private one.
    pub fn index(&self) -> u32 {
        self.core.index
    }

    /// What events call it.
    pub fn id(&self) -> BlockId {
        self.core.id
    }

    /// The plane it belongs to.
    pub fn plane(&self) -> &Arc<Plane> {
        &self.core.plane
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Joins the subscribers: told at once if chain 0 has protos [HC-1]. Both under chain 0's lock, so that no change is
    /// missed [HC-3].
    pub(crate) fn subscribe(&self, subscriber: Arc<dyn HeadChange>) {
        let _serialised = self.core.entry.lock();
        let head = self.head();
        if !head.is_empty() {
            subscriber.head_changed(&head);
        }
        self.core.chains.lock().subscribers.push(subscriber);
    }

    /// Leaves the subscribers: told that there is nothing, and never again anything [HC-4].
    pub(crate) fn unsubscribe(&self, subscriber: &Arc<dyn HeadChange>) {
        let _serialised = self.core.entry.lock();
        let leaving = {
            let subscribers = &mut self.core.chains.lock().subscribers;
            let at = subscribers.iter().position(|other| Arc::ptr_eq(other, subscriber));
            at.map(|at| subscribers.remove(at))
        };
        if let Some(subscriber) = leaving {
            subscriber.head_changed(&ProtoList::default());
        }
    }
}

/// The last reference went: nobody can take a new one, no request is in flight.
impl Drop for Block {
    fn drop(&mut self) {
        let core = &self.core;
        core.plane.forget(core.index); // first, so that a bind with this index gets a new block [BL-7]
        let cx = Cx::new(&core.plane, false);
        let mut from = 0;
        while let Some(chain) = core.next(from, true) {
            from = chain.id() + 1;
            chain.flush(&cx, false); // filters go unannounced [CH-15]
            core.make_absent(&chain);
        }
        drop(cx);
        core.plane.reaper().relieve();
    }
}

impl Core {
    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    pub(crate) fn id(&self) -> BlockId {
        self.id
    }

    /// The u32 tables.
    pub(crate) fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The chain `index` that clients see.
    pub(crate) fn get(&self, index: u32) -> Option<ChainRef> {
        let mut chains = self.chains.lock();
        let member = chains.find(index).filter(|member| member.chain.is_announced())?;
        Some(member.take())
    }

    /// The chain `index`, created if there is none. Clients do not see it before a filter is committed [CH-1].
    pub(crate) fn get_or_create(self: &Arc<Self>, index: u32) -> ChainRef {
        self.chains.lock().member(self, index).take()
    }

    /// For a goto: the chain `index`, created hidden if there is none [AC-11].
    pub(crate) fn pin(self: &Arc<Self>, index: u32) -> Pin {
        let mut chains = self.chains.lock();
        let member = chains.member(self, index);
        member.refcnt += 1;
        member.action_refcnt += 1;
        Pin::counted(Arc::clone(&member.chain))
    }

    /// The first chain with identity `from` or a higher one that clients see; with `hidden`, any chain [CH-14].
    pub(crate) fn next(&self, from: u64, hidden: bool) -> Option<ChainRef> {
        let mut chains = self.chains.lock();
        let (_, member) = chains.members.range_mut(from..).find(|(_, member)| hidden || member.chain.is_announced())?;
        Some(member.take())
    }

    /// Creates the chain explicitly, or revives a hidden one, with its template from the first moment on [CH-2], [TM-5].
    pub(crate) fn make_explicit(
        self: &Arc<Self>,
        index: u32,
        template: Option<Template>,
        create: bool,
    ) -> Result<(), RequestError> {
        let mut chains = self.chains.lock();
        match chains.find(index) {
            Some(member) if member.chain.is_announced() => return Err(RequestError::Exists("this chain")), // [ER-17]
            _ if !create => return Err(RequestError::NotFound("chain")),                                   // [ER-18]
            _ => {}
        }
        let member = chains.member(self, index);
        member.explicitly_created = true;
        member.refcnt += 1;
        member.set_template(template.map(Arc::new));
        self.tell(|block| Event::ChainAdded { block, chain: index });
        chains.member(self, index).chain.set_announced(true);
        Ok(())
    }

    /// The chain is no longer there for clients: neither for its own sake, nor with its template. Its filters have been
    /// flushed, and the flush still keeps new ones out [CH-5], [CH-7].
    pub(crate) fn make_absent(&self, chain: &ChainRef) {
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else { return };
        let template = member.set_template(None);
        if std::mem::take(&mut member.explicitly_created) {
            member.refcnt -= 1; // not the last: `chain` is one
        }
        if chain.set_announced(false) {
            self.tell(|block| Event::ChainDeleted { block, chain: chain.index() });
        }
        drop(chains);
        drop(template);
    }

    /// Before the first filter of a chain is committed, it becomes visible [NT-4]. `Again` if the chain's template is not
    /// the one that the filter was checked with [CC-17].
    pub(crate) fn announce(&self, chain: &Chain, template: Option<&Arc<Template>>) -> Result<(), Refusal> {
        // A template comes only with the announcement, and an announced chain never gets another one.
        if template.is_none() && chain.is_announced() && !chain.is_templated() {
            return Ok(());
        }
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else {
            return Err(Refusal::Again(Why::Flushing));
        };
        if member.template.as_ref().map(Arc::as_ptr) != template.map(Arc::as_ptr) {
            return Err(Refusal::Again(Why::Flushing));
        }
        if !chain.is_announced() {
            self.tell(|block| Event::ChainAdded { block, chain: chain.index() });
            chain.set_announced(true);
        }
        Ok(())
    }

    pub(crate) fn template(&self, chain: &Chain) -> Option<Arc<Template>> {
        if !chain.is_templated() {
            return None;
        }
        self.chains.lock().members.get(&chain.id())?.template.clone()
    }

    pub(crate) fn info(&self, chain: &Chain) -> ChainInfo {
        ChainInfo { index: chain.index(), template: self.template(chain).map(|template| template.spec.clone()) }
    }

    /// A reference by a request or a proto goes.
    pub(crate) fn put(&self, chain: &Chain) {
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else {
            unreachable!("a counted reference keeps its chain in the block")
        };
        member.refcnt -= 1;
        let others = member.refcnt - member.action_refcnt;
        let mut template = None;
        if others == usize::from(member.explicitly_created) {
            chain.end_flush(); // [CH-11]
        }
        if others == 0 {
            template = member.set_template(None); // [TM-6]
            if chain.set_announced(false) {
                self.tell(|block| Event::ChainDeleted { block, chain: chain.index() });
            }
        }
        let removed = chains.remove_if_unused(chain);
        drop(chains);
        drop((template, removed));
    }

    /// A reference by a goto goes.
    pub(crate) fn unpin(&self, chain: &Chain) {
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else {
            unreachable!("a counted reference keeps its chain in the block")
        };
        member.refcnt -= 1;
        member.action_refcnt -= 1;
        let removed = chains.remove_if_unused(chain);
        drop(chains);
        drop(removed);
    }

    /// Under chain 0's lock.
    pub(crate) fn head_changed(&self, list: &ProtoList) {
        let subscribers = self.chains.lock().subscribers.clone();
        for subscriber in subscribers {
            subscriber.head_changed(list);
        }
    }

    /// Enters a proto that is being unlinked into the destroy registry.
    pub(crate) fn set_dying(self: &Arc<Self>, key: ProtoKey) -> Dying {
        let new = self.dying.lock().insert(key);
        debug_assert!(new, "one proto of a key is destroyed at a time [TP-14]");
        Dying { core: Arc::clone(self), key }
    }

    pub(crate) fn is_dying(&self, key: ProtoKey) -> bool {
        self.dying.lock().contains(&key)
    }

    /// Waits until something left the destroy registry, for at most `time`; not at all if it is empty [RP-4].
    pub(crate) fn wait_for_deaths(&self, time: Duration) {
        let dying = self.dying.lock();
        if !dying.is_empty() {
            drop(self.died.wait(dying, time));
        }
    }

    /// Builds and sends an event, if anybody listens.
    pub(crate) fn tell(&self, event: impl FnOnce(BlockId) -> Event) {
        if self.plane.hub().is_heard() {
            self.plane.hub().send(Arc::new(event(self.id)));
        }
    }
}

impl Drop for Dying {
    fn drop(&mut self) {
        self.core.dying.lock().remove(&self.key);
        self.core.died.notify_all();
    }
}

impl Chains {
    fn find(&mut self, index: u32) -> Option<&mut Member> {
        self.members.get_mut(self.by_index.get(&index)?)
    }

    fn member(&mut self, core: &Arc<Core>, index: u32) -> &mut Member {
        let id = *self.by_index.entry(index).or_insert_with(|| {
            self.next_id += 1;
            self.next_id
        });
        self.members.entry(id).or_insert_with(|| {
            let protos = if index == 0 { Arc::clone(&core.entry) } else { Protos::new() };
            Member {
                chain: Chain::new(core, index, id, protos),
                refcnt: 0,
                action_refcnt: 0,
                explicitly_created: false,
                template: None,
            }
        })
    }

    /// A chain is removed exactly when its last reference goes [OBJ-6].
    fn remove_if_unused(&mut self, chain: &Chain) -> Option<Member> {
        if self.members.get(&chain.id())?.refcnt > 0 {
            return None;
        }
        self.by_index.remove(&chain.index());
        self.members.remove(&chain.id())
    }
}

impl Member {
    /// Returns the one of before, which goes after the lock.
    fn set_template(&mut self, template: Option<Arc<Template>>) -> Option<Arc<Template>> {
        self.chain.set_templated(template.is_some());
        std::mem::replace(&mut self.template, template)
    }

    fn take(&mut self) -> ChainRef {
        self.refcnt += 1;
        ChainRef::counted(Arc::clone(&self.chain))
    }
}

impl std::fmt::Debug for Chains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.members).finish()
    }
}
