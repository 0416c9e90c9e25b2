//! Place: where in its chain a filter is asked.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::request::ETH_P_ALL;
use crate::sync::{Arc, AtomicBool, Ordering};

/// What is the same for all filters of a proto.
#[derive(Debug)]
pub(crate) struct Home {
    /// The proto is not listed any more: no packet meets its filters.
    gone: AtomicBool,
}

/// Where in its chain a filter is asked. Written before packets can find the filter, but for the flags.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where its proto is in the chain's list.
    proto: AtomicU64,
    /// Where its mask group is in the proto.
    group: AtomicU64,
    /// Where it is in the group; 0 where that does not matter.
    order: AtomicU64,
    /// Number of its tuple in the index, and its hash there.
    tuple: AtomicU32,
    hash: AtomicU32,
    /// Ethertype of its proto.
    protocol: u16,
    /// It is the only filter of its proto that packets can find, so that `home` need not be asked.
    alone: AtomicBool,
    /// Its proto is not listed any more.
    gone: AtomicBool,
    home: Arc<Home>,
}

/// Before and behind what: proto, group, order.
pub(crate) type Position = (u64, u64, u64);

impl Home {
    pub(crate) fn new() -> Arc<Home> {
        Arc::new(Home { gone: AtomicBool::new(false) })
    }

    /// The proto is listed no longer.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }
}

impl Place {
    /// Of a filter that no packet can find yet, in a proto of `protocol`.
    pub(crate) fn new(protocol: u16, home: &Arc<Home>) -> Place {
        Place {
            proto: AtomicU64::new(0),
            group: AtomicU64::new(0),
            order: AtomicU64::new(0),
            tuple: AtomicU32::new(0),
            hash: AtomicU32::new(0),
            protocol,
            alone: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            home: Arc::clone(home),
        }
    }

    /// Of what no packet meets.
    pub(crate) fn of_none() -> Place {
        Place::new(0, &Home::new())
    }

    pub(crate) fn set(&self, (proto, group, order): Position) {
        self.proto.store(proto, Relaxed);
        self.group.store(group, Relaxed);
        self.order.store(order, Relaxed);
    }

    /// Where its proto is in the chain's list.
    #[inline]
    pub(crate) fn proto(&self) -> u64 {
        self.proto.load(Relaxed)
    }

    /// Where it is in its group.
    pub(crate) fn order(&self) -> u64 {
        self.order.load(Relaxed)
    }

    /// Before and behind which others it is.
    #[inline]
    pub(super) fn position(&self) -> Position {
        (self.proto(), self.group.load(Relaxed), self.order())
    }

    pub(super) fn set_tuple(&self, tuple: u32, hash: u32) {
        self.tuple.store(tuple, Relaxed);
        self.hash.store(hash, Relaxed);
    }

    pub(super) fn hash(&self) -> u32 {
        self.hash.load(Relaxed)
    }

    #[inline]
    pub(super) fn tuple(&self) -> u32 {
        self.tuple.load(Relaxed)
    }

    pub(super) fn protocol(&self) -> u16 {
        self.protocol
    }

    /// Whether only packets of the proto's own protocol get there.
    pub(super) fn is_exact(&self) -> bool {
        self.protocol != ETH_P_ALL
    }

    /// Whether both are in one proto.
    pub(crate) fn is_beside(&self, other: &Place) -> bool {
        Arc::ptr_eq(&self.home, &other.home)
    }

    /// Whether packets of `protocol` get there [DP-3].
    #[inline]
    pub(super) fn takes(&self, protocol: u16) -> bool {
        self.protocol == protocol || !self.is_exact()
    }

    /// It is the only filter of its proto that packets can find, or no longer.
    pub(crate) fn set_alone(&self, alone: bool) {
        self.alone.store(alone, Ordering::Release);
    }

    /// Its proto is not listed any more. Where it is alone, this is the moment in which packets cease to meet it.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Whether its proto is listed.
    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        !self.gone.load(Ordering::Relaxed)
            && (self.alone.load(Ordering::Acquire) || !self.home.gone.load(Ordering::Relaxed))
    }
}
