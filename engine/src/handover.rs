//! Handover: queues that come to a worker and leave it while it runs, between two bursts.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tidegate_classifiers::port::PortId;

/// What a worker is to do between two bursts.
#[derive(Debug)]
pub enum Order<Q> {
    /// Here is the queue of a port: it is served from now on.
    Insert(PortId, Q),
    /// Serve the queue of a port until it has nothing more to receive or to send, though no longer than this, and give it
    /// back. No packet may come to it any more.
    Remove(PortId, Duration),
    /// The queue of a port that was given back is closed: its frames are free.
    Reclaim(PortId),
}

/// The control side: orders, one after the other.
#[derive(Debug)]
pub struct Handover<Q> {
    orders: SyncSender<Order<Q>>,
    done: Receiver<Option<Q>>,
}

/// The worker's side.
#[derive(Debug)]
pub struct Orders<Q> {
    orders: Receiver<Order<Q>>,
    done: SyncSender<Option<Q>>,
}

/// The two sides, for one worker. Neither allocates when it is used.
pub fn handover<Q>() -> (Handover<Q>, Orders<Q>) {
    let (send_order, orders) = sync_channel(1);
    let (send_done, done) = sync_channel(1);
    (Handover { orders: send_order, done }, Orders { orders, done: send_done })
}

/// The worker ended: it takes no orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker ended")]
pub struct Ended;

impl<Q> Handover<Q> {
    /// Has the worker do what `order` says, and waits for it; `wake` ends its sleep. Gives what the worker gives back.
    ///
    /// # Errors
    /// If it ended.
    pub fn order(&self, order: Order<Q>, wake: impl FnOnce()) -> Result<Option<Q>, Ended> {
        self.orders.send(order).map_err(|_| Ended)?;
        wake();
        self.done.recv().map_err(|_| Ended)
    }
}

impl<Q> Orders<Q> {
    /// The next order, if there is one.
    #[inline]
    pub fn next(&self) -> Option<Order<Q>> {
        self.orders.try_recv().ok()
    }

    /// The last order is done.
    pub fn done(&self, queue: Option<Q>) {
        // One order has one answer, so there is room for it; and who does not wait for it any more does not want it.
        let _ = self.done.try_send(queue);
    }
}
