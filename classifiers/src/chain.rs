//! Chain: life cycle, and the proto list that workers read.

use std::fmt;
use std::ops::ControlFlow;

use smallvec::SmallVec;

use crate::block::{Core, Template};
use crate::error::{Refusal, RequestError};
use crate::index::ChainIndex;
use crate::index::era::Era;
use crate::inject::Point;
use crate::kind::{Deleted, View};
use crate::ledger::By;
use crate::live::Token;
use crate::proto::{Proto, ProtoRef};
use crate::reap::Garbage;
use crate::request::{Cx, ETH_P_ALL};
use crate::sync::{Arc, AtomicBool, Loaded, Lock, Locked, Ordering, Published, class};
use crate::tree::{Keyed, Tree};

/// Automatic priorities come from the upper half of tc's 16 bits, and the first one is this [PR-1].
const AUTOMATIC_FIRST: u32 = 0xc000;
const AUTOMATIC_MIN: u32 = 0x8000;
const AUTOMATIC_MAX: u32 = 0xffff;

/// A numbered list of protos. A worker enters at chain 0 and gets to the others by `goto`.
///
/// Its life-time fields (`refcnt`, `action_refcnt`, `explicitly_created`, template) are kept by the block, under the
/// block's lock; see [`crate::block`]. Here are the proto list, under the chain's own lock, and what never changes.
pub(crate) struct Chain {
    core: Arc<Core>,
    index: u32,
    /// Identity: no other chain of the block ever has it.
    id: u64,
    protos: Arc<Protos>,
    /// Set by a flush, under the chain's lock; cleared under the block's lock when nobody who could insert a proto holds a
    /// reference any more [CH-10], [CH-11].
    flushing: AtomicBool,
    /// Clients see the chain: it was asked for, or a filter was committed. Not so a chain that only gotos hold, or a request
    /// that may yet fail [NT-6]. Written under the block's lock.
    announced: AtomicBool,
    /// The block keeps a template for the chain. Written under the block's lock.
    templated: AtomicBool,
    _live: Token,
}

/// The proto list of a chain: what workers read, and the lock that those take who change it.
#[derive(Debug)]
pub(crate) struct Protos {
    published: Published<ProtoList>,
    /// `chain.filter_lock`.
    lock: Lock<(), { class::CHAIN }>,
}

/// The protos of a chain at one moment, in ascending order of priority. Nobody sees two of one priority [TP-1]; but a transaction
/// can make another one in the place of one that it empties, and that one stays until no packet needs it [TX-8].
#[derive(Clone, Debug, Default)]
pub struct ProtoList {
    entries: Tree<Entry>,
    /// Those of kinds that the index does not hold.
    walked: Tree<Entry>,
    /// The filters of all others; nothing if there never was a proto.
    index: Option<Arc<ChainIndex>>,
}

/// Chain 0 as it was at the beginning of a burst, and the burst's hold on all that its packets may find.
#[derive(Debug)]
pub struct Head {
    pub(crate) list: Loaded<ProtoList>,
    pub(crate) era: Era,
}

/// A proto in a list.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) proto: Arc<Proto>,
    /// What its filters were at that moment; nothing if the index holds them.
    pub(crate) view: View,
    /// Above that of those of its priority that were there when it came.
    serial: u32,
}

/// The chain's lock, held: proof for whoever changes the list [LK-4].
pub(crate) struct ChainGuard<'a> {
    chain: &'a Chain,
    _lock: Locked<'a, (), { class::CHAIN }>,
}

/// A reference on a chain by a request or a proto: counted in `refcnt`, given back when dropped. It is moved into the
/// proto that a request creates, and then it is the proto's [TP-6], [IM-4].
#[derive(Debug)]
pub(crate) struct ChainRef(Arc<Chain>);

/// A reference on a chain by a goto action, or by a transaction that has prepared the chain: counted in `refcnt` and `action_refcnt`, given back when dropped [OBJ-4].
#[derive(Debug)]
pub(crate) struct Pin(Arc<Chain>);

impl Chain {
    pub(crate) fn new(core: &Arc<Core>, index: u32, id: u64, protos: Arc<Protos>) -> Arc<Chain> {
        let (core, _live) = (Arc::clone(core), core.plane().count(crate::live::Class::Chain));
        let no = || AtomicBool::new(false);
        Arc::new(Chain { core, index, id, protos, flushing: no(), announced: no(), templated: no(), _live })
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// What workers read.
    pub(crate) fn protos(&self) -> &Arc<Protos> {
        &self.protos
    }

    pub(crate) fn lock(&self) -> ChainGuard<'_> {
        ChainGuard { chain: self, _lock: self.protos.lock.lock() }
    }

    /// The proto with `priority`, found without the lock: it was listed a moment ago, and is not being destroyed [TP-2].
    pub(crate) fn find<'c>(&self, priority: u32, cx: &'c Cx<'c>) -> Option<ProtoRef<'c>> {
        ProtoRef::try_take(&self.protos.load().get(priority, cx.by())?.proto, cx)
    }

    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing.load(Ordering::Acquire)
    }

    pub(crate) fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    /// Only by the block, under its lock. Returns what it was.
    pub(crate) fn set_announced(&self, announced: bool) -> bool {
        self.announced.swap(announced, Ordering::AcqRel)
    }

    pub(crate) fn is_templated(&self) -> bool {
        self.templated.load(Ordering::Acquire)
    }

    /// Only by the block, under its lock.
    pub(crate) fn set_templated(&self, templated: bool) {
        self.templated.store(templated, Ordering::Release);
    }

    /// Only by the block, under its lock, when nobody is left who could insert a proto [CH-11].
    pub(crate) fn end_flush(&self) {
        self.flushing.store(false, Ordering::Release);
    }

    /// Removes all protos with their filters [CH-8]. Each is marked, so that who is about to add a filter to it tries again
    /// [CH-9], and told to subscribers before the list is emptied [NT-3].
    pub(crate) fn flush(&self, cx: &Cx<'_>, loud: bool) {
        let mut guard = self.lock();
        let protos = guard.all();
        for proto in &protos {
            proto.set_dying();
            proto.kind().retire();
            if loud {
                proto.tell_deleted(cx); // when nothing more can happen to its filters [NT-5]
            }
        }
        self.flushing.store(true, Ordering::Release);
        let index = guard.load().index.clone();
        guard.publish(ProtoList::default());
        index.iter().for_each(|index| index.abandon());
        drop(guard);
        for proto in protos {
            drop(ProtoRef::of_list(proto, cx)); // never under the lock [LK-6]
        }
    }

    /// Takes `proto` out if it is still listed and has no filter, and none that is being built [TP-15]. Returns whether it
    /// did.
    pub(crate) fn remove_if_empty(&self, cx: &Cx<'_>, proto: &Arc<Proto>) -> bool {
        self.remove_if(cx, proto, || Ok(proto.kind().retire_if_empty())).unwrap_or(false)
    }

    /// A plain request takes `priority`: a proto that a transaction has made there is overtaken with all that is in it [TX-8].
    pub(crate) fn take_over(&self, cx: &Cx<'_>, priority: u32) -> Result<(), Refusal> {
        let Some(proto) = self.protos.load().last(priority).map(|entry| Arc::clone(&entry.proto)) else {
            return Ok(());
        };
        if proto.is_private() {
            self.remove_if(cx, &proto, || proto.kind().retire_prepared())?;
        }
        Ok(())
    }

    /// After filters were deleted from `proto`: it goes if it is empty now, or shows what it is now.
    pub(crate) fn follow(&self, cx: &Cx<'_>, proto: &Arc<Proto>, deleted: Deleted) {
        let gone = deleted.last && self.remove_if_empty(cx, proto);
        if deleted.publish && !gone {
            self.refresh([proto]);
        }
    }

    fn remove_if(
        &self,
        cx: &Cx<'_>,
        proto: &Arc<Proto>,
        retire: impl FnOnce() -> Result<bool, Refusal>,
    ) -> Result<bool, Refusal> {
        let mut guard = self.lock();
        if !guard.lists(proto) || !retire()? {
            return Ok(false);
        }
        guard.unlink(proto);
        drop(guard);
        drop(ProtoRef::of_list(Arc::clone(proto), cx));
        Ok(true)
    }

    /// Publishes what the filters of `protos` are now, of those that are listed and where that has not been done yet.
    pub(crate) fn refresh<'p>(&self, protos: impl IntoIterator<Item = &'p Arc<Proto>>) {
        let mut guard = self.lock();
        let list = guard.load();
        let stale = protos.into_iter().filter_map(|proto| {
            let serial = list.entry(proto)?.serial;
            let (view, version) = proto.kind().unpublished()?;
            Some((Entry { proto: Arc::clone(proto), view, serial }, version))
        });
        let stale: SmallVec<[(Entry, u64); 1]> = stale.collect();
        if stale.is_empty() {
            return;
        }
        guard.publish(list.with(stale.iter().map(|(entry, _)| entry.clone())));
        stale.iter().for_each(|(entry, version)| entry.proto.kind().set_published(*version));
    }
}

/// The index alone: by way of gotos a chain may contain itself.
impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Protos {
    pub(crate) fn new() -> Arc<Protos> {
        Arc::new(Protos { published: Published::new(ProtoList::default()), lock: Lock::default() })
    }

    /// The list as it is now. It never changes; a later request publishes another one [DV-7].
    #[inline]
    pub(crate) fn load(&self) -> Loaded<ProtoList> {
        self.published.load()
    }

    pub(crate) fn lock(&self) -> Locked<'_, (), { class::CHAIN }> {
        self.lock.lock()
    }
}

impl ChainGuard<'_> {
    fn load(&self) -> Loaded<ProtoList> {
        self.chain.protos.load()
    }

    /// The proto with `priority` that `by` sees [TP-2].
    pub(crate) fn find(&self, priority: u32, by: By<'_>) -> Option<Arc<Proto>> {
        self.load().get(priority, by).map(|entry| Arc::clone(&entry.proto))
    }

    /// The proto that came last to `priority`, seen or not.
    pub(crate) fn last(&self, priority: u32) -> Option<Arc<Proto>> {
        self.load().last(priority).map(|entry| Arc::clone(&entry.proto))
    }

    /// All protos in order.
    pub(crate) fn all(&self) -> Vec<Arc<Proto>> {
        let mut all = Vec::new();
        let _ = self.load().entries.try_for_each(|entry| {
            all.push(Arc::clone(&entry.proto));
            ControlFlow::<()>::Continue(())
        });
        all
    }

    /// Whether this very proto is listed.
    pub(crate) fn lists(&self, proto: &Arc<Proto>) -> bool {
        self.load().entry(proto).is_some()
    }

    /// Lists `proto`, whose priority is free; the list's reference on it is taken by the caller.
    pub(crate) fn link(&mut self, proto: &Arc<Proto>) {
        let list = self.load();
        let serial = list.last(proto.priority()).map_or(0, |last| last.serial + 1);
        let entry = Entry { proto: Arc::clone(proto), view: View::Nothing, serial };
        let mut list = list.with([entry.clone()]);
        let plane = self.chain.core.plane();
        let index = list.index.get_or_insert_with(|| ChainIndex::new(plane.seed(), plane.reaper().eras()));
        proto.kind().attach(index, entry.key());
        self.publish(list);
    }

    /// Takes `proto` out and registers it as being destroyed [TP-14]. The list's reference is given back by the caller,
    /// after unlocking.
    pub(crate) fn unlink(&mut self, proto: &Arc<Proto>) {
        proto.set_dying();
        proto.leave();
        let list = self.load();
        let Some(entry) = list.entry(proto) else { return };
        let list = list.without(entry);
        if let Some(last) = list.last(proto.priority()) {
            last.proto.kind().set_heir(false);
        }
        self.publish(list);
    }

    /// The priority of a filter that asks for an automatic one: before the earlier ones, so later filters match first.
    /// Priorities beyond 16 bits, which tc does not have, are left out of it.
    pub(crate) fn automatic_priority(&self) -> Result<u32, RequestError> {
        match self.load().entries.at_or_after(key(AUTOMATIC_MIN, 0)).map(|entry| entry.proto.priority()) {
            Some(AUTOMATIC_MIN) => Err(RequestError::NoSpace("automatic priority")), // [PR-2], [ER-7]
            Some(priority) if priority <= AUTOMATIC_MAX => Ok(priority - 1),
            _ => Ok(AUTOMATIC_FIRST),
        }
    }

    fn publish(&mut self, list: ProtoList) {
        let list = Arc::new(list);
        let core = &self.chain.core;
        let old = self.chain.protos.published.swap(Arc::clone(&list));
        if self.chain.index == 0 && !same_head(&old, &list) {
            let _ = core.plane().at(Point::HeadChange);
            core.head_changed(&list); // serialised by this lock [HC-2]
        }
        core.plane().reaper().push([Garbage::List(old)]);
    }
}

/// Whether both begin with the same proto, or are both empty [HC-1].
fn same_head(a: &ProtoList, b: &ProtoList) -> bool {
    let head = |list: &ProtoList| list.entries.at_or_after(0).map(|entry| Arc::as_ptr(&entry.proto));
    head(a) == head(b)
}

impl ProtoList {
    /// Whether there is nothing to ask: every packet passes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The filters of those kinds that it holds.
    #[inline]
    pub(crate) fn index(&self) -> Option<&ChainIndex> {
        self.index.as_deref()
    }

    /// The first proto from `from` on that the index does not hold, for packets of `protocol`.
    #[inline]
    pub(crate) fn walked(&self, from: u64, protocol: u16) -> Option<&Entry> {
        if self.walked.is_empty() {
            return None;
        }
        let found = self.walked.try_for_each_from(from, |entry| match entry.proto.protocol() {
            ETH_P_ALL => ControlFlow::Break(entry),
            wanted if wanted == protocol => ControlFlow::Break(entry),
            _ => ControlFlow::Continue(()), // [DP-3]
        });
        found.break_value()
    }

    /// How many protos there are that the index does not hold.
    pub(crate) fn count_walked(&self) -> usize {
        let mut count = 0;
        let _ = self.walked.try_for_each(|_| {
            count += 1;
            ControlFlow::<()>::Continue(())
        });
        count
    }

    fn with(&self, entries: impl IntoIterator<Item = Entry, IntoIter: Clone>) -> ProtoList {
        let entries = entries.into_iter();
        let walked = entries.clone().filter(|entry| !entry.proto.kind().is_indexed());
        ProtoList {
            walked: self.walked.with_all(walked),
            entries: self.entries.with_all(entries),
            index: self.index.clone(),
        }
    }

    fn without(&self, entry: &Entry) -> ProtoList {
        ProtoList {
            entries: self.entries.without(entry.key()),
            walked: if entry.proto.kind().is_indexed() {
                self.walked.clone()
            } else {
                self.walked.without(entry.key())
            },
            index: self.index.clone(),
        }
    }

    /// The proto with `priority` that `by` sees: the last of those that do not belong to another transaction.
    pub(crate) fn get(&self, priority: u32, by: By<'_>) -> Option<&Entry> {
        self.backwards(priority).find(|entry| entry.proto.is_seen(by))
    }

    /// Puts the protos with `priority` or a higher one that `by` sees to `f`, in order, until it breaks [WK-8].
    pub(crate) fn try_for_each_from<'l, B>(
        &'l self,
        priority: u64,
        by: By<'_>,
        mut f: impl FnMut(&'l Arc<Proto>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Ok(priority) = u32::try_from(priority) else { return ControlFlow::Continue(()) };
        // Of several with one priority, the last one.
        let mut last: Option<&Arc<Proto>> = None;
        self.entries.try_for_each_from(key(priority, 0), |Entry { proto, .. }| {
            let before = last.filter(|last| last.priority() != proto.priority());
            if let Some(before) = before {
                last = None;
                f(before)?;
            }
            if proto.is_seen(by) {
                last = Some(proto);
            }
            ControlFlow::Continue(())
        })?;
        last.map_or(ControlFlow::Continue(()), f)
    }

    /// The proto that came last to `priority`, if everybody sees it.
    pub(crate) fn last_if_seen(&self, priority: u32) -> Option<&Arc<Proto>> {
        self.last(priority).map(|last| &last.proto).filter(|proto| proto.is_seen(None))
    }

    /// The proto that came last to `priority`.
    fn last(&self, priority: u32) -> Option<&Entry> {
        self.backwards(priority).next()
    }

    /// The place of this very proto.
    fn entry(&self, proto: &Arc<Proto>) -> Option<&Entry> {
        self.backwards(proto.priority()).find(|entry| Arc::ptr_eq(&entry.proto, proto))
    }

    /// All protos with `priority`, the last one first: nearly always one.
    fn backwards(&self, priority: u32) -> impl Iterator<Item = &Entry> {
        let mut next = Some(key(priority, u32::MAX));
        std::iter::from_fn(move || {
            let entry = self.entries.at_or_before(next?).filter(|entry| entry.proto.priority() == priority)?;
            next = entry.key().checked_sub(1);
            Some(entry)
        })
    }

    /// Priority of the first proto: what a head-change subscriber wants to know; nothing if there is none.
    pub fn first_priority(&self) -> Option<u32> {
        self.entries.at_or_after(0).map(|entry| entry.proto.priority())
    }
}

impl std::ops::Deref for Head {
    type Target = ProtoList;

    #[inline]
    fn deref(&self) -> &ProtoList {
        &self.list
    }
}

/// Where a proto is in the list.
#[inline]
fn key(priority: u32, serial: u32) -> u64 {
    u64::from(priority) << 32 | u64::from(serial)
}

impl Keyed for Entry {
    type Key = u64;

    #[inline]
    fn key(&self) -> u64 {
        key(self.proto.priority(), self.serial)
    }
}

impl ChainRef {
    /// Only by the block, which has counted it.
    pub(crate) fn counted(chain: Arc<Chain>) -> ChainRef {
        ChainRef(chain)
    }

    pub(crate) fn chain(&self) -> &Arc<Chain> {
        &self.0
    }

    /// Makes the chain visible to clients if it is not yet, or to a transaction alone; `Again` if its template is not the one
    /// that was looked at.
    pub(crate) fn announce(chain: &Arc<Chain>, template: Option<&Arc<Template>>, by: By<'_>) -> Result<(), Refusal> {
        chain.core.announce(chain, template, by)
    }
}

impl std::ops::Deref for ChainRef {
    type Target = Arc<Chain>;

    fn deref(&self) -> &Arc<Chain> {
        &self.0
    }
}

impl Drop for ChainRef {
    fn drop(&mut self) {
        self.0.core.put(&self.0);
    }
}

impl Pin {
    /// Only by the block, which has counted it.
    pub(crate) fn counted(chain: Arc<Chain>) -> Pin {
        Pin(chain)
    }

    pub(crate) fn chain(&self) -> &Arc<Chain> {
        &self.0
    }

    pub(crate) fn protos(&self) -> &Arc<Protos> {
        self.0.protos()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.core.unpin(&self.0);
    }
}
