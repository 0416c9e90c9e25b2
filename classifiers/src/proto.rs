//! Proto: priority, protocol, kind; and how long it lives.

use std::fmt;

use crate::block::Dying;
use crate::chain::{Chain, ChainRef};
use crate::error::RequestError;
use crate::event::Event;
use crate::filter::Filter;
use crate::index::place::Home;
use crate::inject::Point;
use crate::kind::{self, Kind};
use crate::ledger::{By, Ledger};
use crate::live::{Class, Token};
use crate::reap::Garbage;
use crate::request::{Cx, FilterInfo, KindName, ProtoInfo};
use crate::sync::{self, Arc, AtomicBool, AtomicUsize, Lock, Ordering, class};

/// One classifier of a chain: the filters that share a priority, and with it protocol and kind [OBJ-7].
pub(crate) struct Proto {
    priority: u32,
    protocol: u16,
    /// Filters and handles, and the proto's lock around them.
    kind: Box<dyn Kind>,
    chain: Arc<Chain>,
    /// The list's reference and those of requests [OBJ-8]. At 0 the proto is destroyed.
    refcnt: AtomicUsize,
    /// What it must give back when it is destroyed.
    owned: Lock<Owned, { class::QUEUE }>,
    /// Whether packets meet its filters.
    home: Arc<Home>,
    /// A transaction has made it, and is not committed: nobody else sees it [TX-8].
    private: AtomicBool,
    _live: Token,
}

#[derive(Debug, Default)]
struct Owned {
    /// The reference on its chain that the request which created it had taken [TP-6].
    parent: Option<ChainRef>,
    /// The transaction that has made it, while it is private.
    maker: Option<Arc<Ledger>>,
    /// Its entry in the destroy registry, from unlinking on; a proto that never was listed has none [TP-4], [KR-6].
    dying: Option<Dying>,
}

/// A reference on a proto. The last one destroys the proto when it is dropped: never under a lock but the global one, which
/// `cx` knows to be held or not [TP-17], [UL-3].
pub(crate) struct ProtoRef<'c> {
    proto: Arc<Proto>,
    cx: &'c Cx<'c>,
}

impl Proto {
    /// A private proto, which owns `parent` from now on, whatever becomes of it [TP-8].
    ///
    /// # Errors
    /// `NotFound` for a kind that does not exist [ER-9].
    pub(crate) fn build<'c>(
        cx: &'c Cx<'c>,
        parent: ChainRef,
        priority: u32,
        protocol: u16,
        kind: KindName,
    ) -> Result<ProtoRef<'c>, RequestError> {
        let kind = kind::new(kind, parent.chain().core())?;
        let proto = Proto {
            priority,
            protocol,
            kind,
            chain: Arc::clone(parent.chain()),
            refcnt: AtomicUsize::new(1),
            owned: Lock::new(Owned { parent: Some(parent), maker: cx.by().cloned(), dying: None }),
            home: Home::new(),
            private: AtomicBool::new(cx.by().is_some()),
            _live: cx.plane().count(Class::Proto),
        };
        Ok(ProtoRef { proto: Arc::new(proto), cx })
    }

    /// Place in the chain.
    #[inline]
    pub(crate) fn priority(&self) -> u32 {
        self.priority
    }

    /// Ethertype, or [`ETH_P_ALL`](crate::request::ETH_P_ALL).
    #[inline]
    pub(crate) fn protocol(&self) -> u16 {
        self.protocol
    }

    /// The kind, with the filters.
    pub(crate) fn kind(&self) -> &dyn Kind {
        &*self.kind
    }

    pub(crate) fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    pub(crate) fn info(&self) -> ProtoInfo {
        ProtoInfo {
            chain: self.chain.index(),
            priority: self.priority,
            protocol: self.protocol,
            kind: self.kind.name().as_str(),
        }
    }

    /// For a listing or an event: one of its filters.
    pub(crate) fn filter_info(&self, filter: &Filter) -> FilterInfo {
        let ProtoInfo { chain, priority, protocol, kind } = self.info();
        FilterInfo {
            chain,
            priority,
            protocol,
            kind,
            handle: filter.handle(),
            owner: filter.owner(),
            name: filter.name().into(),
            options: filter.options(),
            matches: filter.matches().spec(),
            hits: filter.hits().sum(),
            runs: filter.matches().runs(),
            actions: filter.actions().iter().map(|action| action.info()).collect(),
        }
    }

    /// Whether `by` sees it.
    pub(crate) fn is_seen(&self, by: By<'_>) -> bool {
        let is_maker = |by| self.owned.lock().maker.as_ref().is_some_and(|maker| Arc::ptr_eq(maker, by));
        !self.is_private() || by.is_some_and(is_maker)
    }

    pub(crate) fn is_private(&self) -> bool {
        self.private.load(Ordering::Acquire)
    }

    /// The transaction that has made it is committed.
    pub(crate) fn make_public(&self) {
        self.private.store(false, Ordering::Release);
        let maker = self.owned.lock().maker.take();
        drop(maker);
    }

    /// What its filters know of it.
    pub(crate) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// From now on no packet meets a filter of it, whichever it can still find. Under the chain's lock.
    pub(crate) fn leave(&self) {
        self.home.leave();
        self.kind.leave();
    }

    /// Enters the destroy registry. Under the chain's lock, by whoever unlinks it.
    pub(crate) fn set_dying(&self) {
        let dying = self.chain.core().set_dying((self.chain.index(), self.priority, self.protocol));
        self.owned.lock().dying = Some(dying);
    }

    /// The event of a priority that goes with all its filters, if it has any [NT-3].
    pub(crate) fn tell_deleted(&self, cx: &Cx<'_>) {
        if cx.plane().hub().is_heard() && self.kind.has_filters(None) {
            self.chain.core().tell(|block| Event::ProtoDeleted { block, proto: self.info() });
        }
    }

    /// The last reference went: the filters give back what they hold, then the chain may go, then an equal proto may come.
    fn destroy(self: Arc<Self>, cx: &Cx<'_>) {
        sync::assert_may_destroy();
        let _ = cx.plane().at(Point::Unlinked);
        let _global = cx.global_for(&*self.kind);
        for filter in self.kind.destroy(cx) {
            cx.release(filter);
        }
        let Owned { parent, maker: _, dying } = std::mem::take(&mut *self.owned.lock());
        cx.defer([Garbage::Proto(self)]);
        drop(parent);
        drop(dying);
    }
}

impl fmt::Debug for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proto").field("priority", &self.priority).finish_non_exhaustive()
    }
}

impl<'c> ProtoRef<'c> {
    /// A reference on a proto that was found in a list that may be old by now: nothing if the proto is being destroyed.
    pub(crate) fn try_take(proto: &Arc<Proto>, cx: &'c Cx<'c>) -> Option<ProtoRef<'c>> {
        let more = |refcnt: usize| (refcnt > 0).then_some(refcnt + 1);
        proto.refcnt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(ProtoRef { proto: Arc::clone(proto), cx })
    }

    /// Another reference, on a proto that is listed: under the chain's lock, or by who has a reference.
    pub(crate) fn take(proto: &Arc<Proto>, cx: &'c Cx<'c>) -> ProtoRef<'c> {
        proto.refcnt.fetch_add(1, Ordering::Relaxed);
        ProtoRef { proto: Arc::clone(proto), cx }
    }

    /// The reference that the list had, after the proto was unlinked.
    pub(crate) fn of_list(proto: Arc<Proto>, cx: &'c Cx<'c>) -> ProtoRef<'c> {
        ProtoRef { proto, cx }
    }

    /// The list takes a reference of its own.
    pub(crate) fn count_list(&self) {
        self.proto.refcnt.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn proto(&self) -> &Arc<Proto> {
        &self.proto
    }
}

impl std::ops::Deref for ProtoRef<'_> {
    type Target = Arc<Proto>;

    fn deref(&self) -> &Arc<Proto> {
        &self.proto
    }
}

impl Drop for ProtoRef<'_> {
    fn drop(&mut self) {
        if self.proto.refcnt.fetch_sub(1, Ordering::AcqRel) == 1 {
            Arc::clone(&self.proto).destroy(self.cx);
        }
    }
}
