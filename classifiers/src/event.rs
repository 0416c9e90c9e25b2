//! Notifications: what changed, to any number of subscribers.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use crate::request::{ActionInfo, ActionKind, FilterInfo, Mode, ProtoInfo};
use crate::sync::{Arc, AtomicUsize, Lock, Ordering, class};

/// What changed. Events of one chain come in the order in which things happened [NT-5].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A chain is there for clients [NT-4].
    ChainAdded {
        /// The block's id, which is its index if it is shared.
        block: BlockId,
        /// Chain index.
        chain: u32,
    },
    /// A chain is no longer there for clients.
    ChainDeleted {
        /// The block.
        block: BlockId,
        /// Chain index.
        chain: u32,
    },
    /// A filter was added, replaced or changed, as the mode says [NT-1].
    FilterAdded {
        /// The block.
        block: BlockId,
        /// What was asked for.
        mode: Mode,
        /// What is there now.
        filter: FilterInfo,
    },
    /// A filter was deleted [NT-2].
    FilterDeleted {
        /// The block.
        block: BlockId,
        /// What was there.
        filter: FilterInfo,
    },
    /// A priority was deleted with all its filters [NT-3].
    ProtoDeleted {
        /// The block.
        block: BlockId,
        /// What was there.
        proto: ProtoInfo,
    },
    /// Actions were added or replaced by a request of their own [NT-10].
    ActionsAdded {
        /// What was asked for.
        mode: Mode,
        /// What is there now.
        actions: Vec<ActionInfo>,
    },
    /// Actions were deleted by a request of their own.
    ActionsDeleted {
        /// What was there.
        actions: Vec<ActionInfo>,
    },
    /// All unbound actions of a kind up to the first bound one were deleted [AC-7].
    ActionsFlushed {
        /// Kind.
        kind: ActionKind,
        /// How many.
        count: usize,
    },
}

/// Which block an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockId {
    /// A shared one, by index.
    Shared(u32),
    /// A private one, by a number that no other block of the plane ever has.
    Private(u64),
}

/// What a subscriber gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// Something changed.
    Event(Arc<Event>),
    /// So many events were lost here because the subscriber was slow [NT-8].
    Lost(u64),
}

/// All subscribers of a plane.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// Length of `inboxes`, for those who only want to know whether anybody listens.
    count: AtomicUsize,
    inboxes: Lock<Vec<Arc<Inbox>>, { class::QUEUE }>,
}

#[derive(Debug)]
struct Inbox {
    capacity: usize,
    queue: std::sync::Mutex<Queue>,
    arrived: std::sync::Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Arc<Event>>,
    /// After the last event in the queue. While it is not 0, nothing is queued: what was lost is told where it was lost.
    lost: u64,
}

/// One subscriber's end. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    inbox: Arc<Inbox>,
    hub: Arc<Hub>,
}

impl Hub {
    /// A subscriber that may be `capacity` events behind.
    pub(crate) fn subscribe(self: &Arc<Self>, capacity: usize) -> Subscription {
        let inbox = Arc::new(Inbox { capacity, queue: Default::default(), arrived: Default::default() });
        let mut inboxes = self.inboxes.lock();
        inboxes.push(Arc::clone(&inbox));
        self.count.store(inboxes.len(), Ordering::Release);
        Subscription { inbox, hub: Arc::clone(self) }
    }

    /// Whether it is worth building an event [NT-9].
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// To every subscriber, in the order of the calls. Never waits for one.
    pub(crate) fn send(&self, event: Arc<Event>) {
        for inbox in &*self.inboxes.lock() {
            let mut queue = inbox.queue();
            if queue.lost > 0 || queue.events.len() >= inbox.capacity {
                queue.lost += 1;
            } else {
                queue.events.push_back(Arc::clone(&event));
            }
            inbox.arrived.notify_one();
        }
    }
}

impl Inbox {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn next(&mut self) -> Option<Notice> {
        match self.events.pop_front() {
            Some(event) => Some(Notice::Event(event)),
            None if self.lost > 0 => Some(Notice::Lost(std::mem::take(&mut self.lost))),
            None => None,
        }
    }
}

impl Subscription {
    /// The next notice, if there is one.
    pub fn try_next(&self) -> Option<Notice> {
        self.inbox.queue().next()
    }

    /// The next notice, if one comes within `timeout`.
    pub fn next(&self, timeout: Duration) -> Option<Notice> {
        let queue = self.inbox.queue();
        let nothing = |queue: &mut Queue| queue.events.is_empty() && queue.lost == 0;
        let waited = self.inbox.arrived.wait_timeout_while(queue, timeout, nothing);
        waited.unwrap_or_else(PoisonError::into_inner).0.next()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inboxes = self.hub.inboxes.lock();
        inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
        self.hub.count.store(inboxes.len(), Ordering::Release);
    }
}
