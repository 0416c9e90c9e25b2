//! Chain: protos in order of priority, published to workers.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::error::RequestError;
use crate::proto::Proto;

/// Automatic priorities come from the upper half of tc's 16 bits, and the first one is this [PR-1].
const AUTOMATIC_FIRST: u32 = 0xc000;
const AUTOMATIC_MIN: u32 = 0x8000;
const AUTOMATIC_MAX: u32 = 0xffff;

/// A numbered list of protos. A worker enters at chain 0 and gets to the others by `goto`.
pub struct Chain {
    index: u32,
    protos: ArcSwap<ProtoList>,
}

impl Chain {
    pub(crate) fn new(index: u32) -> Chain {
        Chain { index, protos: ArcSwap::default() }
    }

    /// Number within the block.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The list as it is now. It never changes; a later request publishes another one [DV-7].
    #[inline]
    pub fn protos(&self) -> Guard<Arc<ProtoList>> {
        self.protos.load()
    }

    /// Makes `list` what the next load finds.
    pub(crate) fn publish(&self, list: ProtoList) {
        self.protos.store(Arc::new(list));
    }
}

/// The index alone: by way of gotos a chain may contain itself.
impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The protos of a chain at one moment, in ascending order of priority, no two alike [TP-1].
#[derive(Clone, Debug, Default)]
pub struct ProtoList {
    protos: Vec<Proto>,
}

impl ProtoList {
    /// Whether there is nothing to ask: every packet passes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.protos.is_empty()
    }

    /// In the order in which packets are put to them.
    #[inline]
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Proto> {
        self.protos.iter()
    }

    /// The proto with `priority`.
    pub(crate) fn get(&self, priority: u32) -> Option<&Proto> {
        Some(&self.protos[self.search(priority).ok()?])
    }

    /// A copy with `proto` in the place of its priority; without that priority, if `proto` is empty.
    pub(crate) fn with(&self, proto: Proto) -> ProtoList {
        let mut protos = self.protos.clone();
        match (self.search(proto.priority()), proto.is_empty()) {
            (Ok(at), false) => protos[at] = proto,
            (Ok(at), true) => drop(protos.remove(at)),
            (Err(at), false) => protos.insert(at, proto),
            (Err(_), true) => {}
        }
        ProtoList { protos }
    }

    /// The priority of a filter that asks for an automatic one: before the earlier ones, so later filters match
    /// first. Priorities beyond 16 bits, which tc does not have, are left out of it.
    pub(crate) fn automatic_priority(&self) -> Result<u32, RequestError> {
        let (Ok(first) | Err(first)) = self.search(AUTOMATIC_MIN);
        match self.protos.get(first).map(Proto::priority) {
            Some(AUTOMATIC_MIN) => Err(RequestError::NoSpace("automatic priority")), // [PR-2]
            Some(priority) if priority <= AUTOMATIC_MAX => Ok(priority - 1),
            _ => Ok(AUTOMATIC_FIRST),
        }
    }

    fn search(&self, priority: u32) -> Result<usize, usize> {
        self.protos.binary_search_by_key(&priority, Proto::priority)
    }
}
