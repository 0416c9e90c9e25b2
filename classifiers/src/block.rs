//! Block: chains bound to hooks, and the life of the chains.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::chain::{Chain, ChainRef, Head, Pin, ProtoList, Protos};
use crate::error::{Refusal, RequestError, Why};
use crate::event::{BlockId, Event};
use crate::kind::u32::Tables;
use crate::ledger::{By, Ledger};
use crate::live::{Class, Token};
use crate::plane::{HeadChange, Plane};
use crate::proto::ProtoRef;
use crate::request::{ChainInfo, Cx, KindSpec, Owner};
use crate::sync::{self, Arc, Changed, Lock, class};
use crate::transaction::Overtaken;

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
    /// How many of each.
    dying: Lock<HashMap<ProtoKey, usize>, { class::INNER }>,
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
    /// Who that was.
    owner: Owner,
    template: Option<Arc<Template>>,
    /// What a transaction has prepared: only of a chain that clients do not see.
    claim: Option<Claim>,
}

/// A chain that comes with a commit. Whoever looks for the chain finds it, but only the transaction sees it.
#[derive(Debug)]
struct Claim {
    ledger: Arc<Ledger>,
    /// The chain is wanted for its own sake, and with which template; otherwise for its filters.
    explicit: Option<Option<Arc<Template>>>,
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
    pub fn head(&self) -> Head {
        let era = self.core.plane.reaper().eras().enter(); // before the list
        Head { list: self.core.entry.load(), era }
    }

    /// The same with `list`, which a subscriber was told to be chain 0 now.
    pub fn head_at(&self, list: &ProtoList) -> Head {
        Head { era: self.core.plane.reaper().eras().enter(), list: sync::loaded(Arc::new(list.clone())) }
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
        while let Some(chain) = core.next_of_all(from) {
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

    /// The chain `index`, if `by` sees it.
    pub(crate) fn get(&self, index: u32, by: By<'_>) -> Option<ChainRef> {
        let mut chains = self.chains.lock();
        let member = chains.find(index).filter(|member| member.is_seen(by))?;
        Some(member.take())
    }

    /// The proto of chain 0 with `priority`, for a plain request that needs no more than that: found without a lock, as
    /// [`Chain::find`] does, and it keeps its chain. Nothing where a transaction has something to say.
    pub(crate) fn at_hand<'c>(&self, index: u32, priority: u32, cx: &'c Cx<'c>) -> Option<ProtoRef<'c>> {
        if index != 0 || cx.by().is_some() {
            return None;
        }
        self.entry.load().last_if_seen(priority).and_then(|proto| ProtoRef::try_take(proto, cx))
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

    /// The first chain with identity `from` or a higher one that `by` sees [CH-14].
    pub(crate) fn next(&self, from: u64, by: By<'_>) -> Option<ChainRef> {
        let mut chains = self.chains.lock();
        let (_, member) = chains.members.range_mut(from..).find(|(_, member)| member.is_seen(by))?;
        Some(member.take())
    }

    /// The same, whoever sees it or not.
    fn next_of_all(&self, from: u64) -> Option<ChainRef> {
        let mut chains = self.chains.lock();
        chains.members.range_mut(from..).next().map(|(_, member)| member.take())
    }

    /// Creates the chain explicitly, or revives a hidden one, with its template from the first moment on [CH-2], [TM-5]; in a
    /// transaction, prepares that. Under the global lock.
    pub(crate) fn make_explicit(
        self: &Arc<Self>,
        index: u32,
        template: Option<Template>,
        create: bool,
        by: By<'_>,
    ) -> Result<(), Refusal> {
        let mut chains = self.chains.lock();
        match chains.find(index) {
            Some(member) if member.is_seen(by) => return Err(RequestError::Exists("this chain").into()), // [ER-17]
            _ if !create => return Err(RequestError::NotFound("chain").into()),                          // [ER-18]
            _ => {}
        }
        let template = template.map(Arc::new);
        let member = chains.member(self, index);
        match by {
            Some(ledger) => {
                member.claim(ledger)?.explicit = Some(template);
                member.mark_templated();
            }
            None => {
                member.take_over(self.id, template.is_some())?;
                member.make_explicit(template, Owner::Client);
                self.announce_member(member);
            }
        }
        Ok(())
    }

    /// Clients see the chain from now on.
    fn announce_member(&self, member: &Member) {
        if !member.chain.is_announced() {
            self.tell(|block| Event::ChainAdded { block, chain: member.chain.index() });
            member.chain.set_announced(true);
        }
    }

    /// The transaction is being committed: what it has prepared for `chain` is there, before its filters are.
    pub(crate) fn fulfil(&self, chain: &Chain, ledger: &Arc<Ledger>) {
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else { return };
        let Some(claim) = member.claim.take_if(|claim| claim.is_of(Some(ledger))) else { return };
        if let Some(template) = claim.explicit {
            member.make_explicit(template, ledger.owner());
        }
        if member.others() > 0 {
            self.announce_member(member);
        }
    }

    /// The transaction is given up: nothing is prepared for `chain` any more.
    pub(crate) fn withdraw(&self, chain: &Chain, ledger: &Arc<Ledger>) {
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else { return };
        let claim = member.claim.take_if(|claim| claim.is_of(Some(ledger)));
        member.mark_templated();
        drop(chains);
        drop(claim);
    }

    /// The client who asked for the chain does so no longer; with `ledger`, from its commit on.
    pub(crate) fn unask(&self, chain: &Arc<Chain>, by: By<'_>) {
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else { return };
        let mut reference = None;
        match (by, &mut member.claim) {
            (Some(_), Some(claim)) if claim.is_of(by) => claim.explicit = None,
            (Some(ledger), _) if member.explicitly_created => ledger.note_unasked(chain),
            (None, _) if std::mem::take(&mut member.explicitly_created) => {
                reference = Some(ChainRef::counted(Arc::clone(chain)));
            }
            _ => {}
        }
        member.mark_templated();
        drop(chains);
        drop(reference);
    }

    /// The chain is no longer there for clients: neither for its own sake, nor with its template. Its filters have been
    /// flushed, and the flush still keeps new ones out [CH-5], [CH-7].
    pub(crate) fn make_absent(&self, chain: &ChainRef) {
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else { return };
        let template = member.template.take();
        member.mark_templated();
        if std::mem::take(&mut member.explicitly_created) {
            member.refcnt -= 1; // not the last: `chain` is one
        }
        if chain.set_announced(false) {
            self.tell(|block| Event::ChainDeleted { block, chain: chain.index() });
        }
        drop(chains);
        drop(template);
    }

    /// Before the first filter of a chain is committed, it becomes visible [NT-4]; before the first one of a transaction is
    /// prepared, visible to that. `Again` if the chain's template is not the one that the filter was checked with [CC-17].
    pub(crate) fn announce(&self, chain: &Chain, template: Option<&Arc<Template>>, by: By<'_>) -> Result<(), Refusal> {
        // A template comes only with the announcement, and an announced chain never gets another one.
        if template.is_none() && chain.is_announced() && !chain.is_templated() {
            return Ok(());
        }
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else {
            return Err(Refusal::Again(Why::Flushing));
        };
        if member.template(by).map(Arc::as_ptr) != template.map(Arc::as_ptr) {
            return Err(Refusal::Again(Why::Flushing));
        }
        match by {
            _ if chain.is_announced() => {}
            Some(ledger) => {
                member.claim(ledger)?;
            }
            None => {
                member.take_over(self.id, false)?;
                self.announce_member(member);
            }
        }
        Ok(())
    }

    /// The template that filters of `by` must keep to.
    pub(crate) fn template(&self, chain: &Chain, by: By<'_>) -> Option<Arc<Template>> {
        if !chain.is_templated() {
            return None;
        }
        self.chains.lock().members.get(&chain.id())?.template(by).cloned()
    }

    pub(crate) fn info(&self, chain: &Chain) -> ChainInfo {
        let (index, template) = (chain.index(), self.template(chain, None));
        let owner = self.chains.lock().members.get(&chain.id()).map(Member::owner).unwrap_or_default();
        ChainInfo { index, owner, template: template.map(|template| template.spec.clone()) }
    }

    /// A reference by a request or a proto goes.
    pub(crate) fn put(&self, chain: &Chain) {
        let mut chains = self.chains.lock();
        let Some(member) = chains.members.get_mut(&chain.id()) else {
            unreachable!("a counted reference keeps its chain in the block")
        };
        member.refcnt -= 1;
        let others = member.others();
        let mut template = None;
        if others == usize::from(member.explicitly_created) {
            chain.end_flush(); // [CH-11]
        }
        if others == 0 {
            template = member.template.take(); // [TM-6]
            member.mark_templated();
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
        *self.dying.lock().entry(key).or_default() += 1;
        Dying { core: Arc::clone(self), key }
    }

    pub(crate) fn is_dying(&self, key: ProtoKey) -> bool {
        self.dying.lock().contains_key(&key)
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
        let mut dying = self.core.dying.lock();
        if let Entry::Occupied(mut count) = dying.entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        drop(dying);
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
                owner: Owner::Client,
                template: None,
                claim: None,
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
    /// Whether the chain is there, for `by`.
    fn is_seen(&self, by: By<'_>) -> bool {
        let claim = self.claim.as_ref().filter(|claim| claim.is_of(by));
        self.chain.is_announced() || claim.is_some_and(|claim| claim.explicit.is_some() || self.others() > 0)
    }

    /// Who asked for the chain; a client, if nobody did.
    fn owner(&self) -> Owner {
        if self.explicitly_created { self.owner } else { Owner::Client }
    }

    /// References but those by gotos.
    fn others(&self) -> usize {
        self.refcnt - self.action_refcnt
    }

    fn template(&self, by: By<'_>) -> Option<&Arc<Template>> {
        let claim = self.claim.as_ref().filter(|claim| claim.is_of(by));
        claim.and_then(|claim| claim.explicit.as_ref()).unwrap_or(&self.template).as_ref()
    }

    /// Lets those who look for a template know whether they find one.
    fn mark_templated(&self) {
        let claimed = self.claim.as_ref().is_some_and(|claim| matches!(claim.explicit, Some(Some(_))));
        self.chain.set_templated(self.template.is_some() || claimed);
    }

    /// The client's reference and the template; there was neither.
    fn make_explicit(&mut self, template: Option<Arc<Template>>, owner: Owner) {
        self.explicitly_created = true;
        self.owner = owner;
        self.refcnt += 1;
        self.template = template;
        self.mark_templated(); // before anybody sees the chain
    }

    /// The claim of this transaction; `Busy` if another one was faster [TX-7].
    fn claim(&mut self, ledger: &Arc<Ledger>) -> Result<&mut Claim, RequestError> {
        if self.claim.is_none() {
            self.refcnt += 1;
            self.action_refcnt += 1;
            ledger.note_chain(Pin::counted(Arc::clone(&self.chain)));
        }
        let claim = self.claim.get_or_insert_with(|| Claim { ledger: Arc::clone(ledger), explicit: None });
        if !claim.is_of(Some(ledger)) {
            return Err(RequestError::Busy("another transaction has prepared this chain"));
        }
        Ok(claim)
    }

    /// A plain request makes the chain, with a template of its own or not. What a transaction has prepared is lost if it had
    /// asked for the chain, or if its filters may not fit [TX-6].
    fn take_over(&mut self, block: BlockId, templated: bool) -> Result<(), Refusal> {
        let chain = self.chain.index();
        if let Some(claim) = self.claim.as_ref().filter(|claim| templated || claim.explicit.is_some()) {
            claim.ledger.overtake(Overtaken::Chain { block, chain })?;
        }
        self.claim = None;
        self.mark_templated();
        Ok(())
    }

    fn take(&mut self) -> ChainRef {
        self.refcnt += 1;
        ChainRef::counted(Arc::clone(&self.chain))
    }
}

impl Claim {
    fn is_of(&self, by: By<'_>) -> bool {
        by.is_some_and(|ledger| Arc::ptr_eq(ledger, &self.ledger))
    }
}

impl std::fmt::Debug for Chains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.members).finish()
    }
}
