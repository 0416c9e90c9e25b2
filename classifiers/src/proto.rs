//! Proto: priority, protocol, kind.

use std::sync::Arc;

use crate::action::Outcome;
use crate::classify::Context;
use crate::error::RequestError;
use crate::filter::Filter;
use crate::kind::Kind;
use crate::packet::Packet;
use crate::port::Egress;
use crate::request::{ETH_P_ALL, FilterSpec};

/// One classifier of a chain: the filters that share a priority, and with it protocol and kind [OBJ-7]. It never
/// changes once published; a clone shares the filters.
#[derive(Clone, Debug)]
pub struct Proto {
    kind: Kind,
    priority: u32,
    protocol: u16,
}

impl Proto {
    /// A proto as `spec` would create it, without filters yet.
    pub(crate) fn new(priority: u32, spec: &FilterSpec) -> Result<Proto, RequestError> {
        if spec.protocol == 0 {
            return Err(RequestError::Invalid("a new priority needs a protocol")); // [ER-8]
        }
        Ok(Proto { kind: Kind::new(&spec.kind), priority, protocol: spec.protocol })
    }

    /// Place in the chain.
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// Ethertype, or [`ETH_P_ALL`].
    pub fn protocol(&self) -> u16 {
        self.protocol
    }

    /// The kind, with the filters.
    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether there are no filters: such a proto is never published.
    pub(crate) fn is_empty(&self) -> bool {
        self.kind.filters().is_empty()
    }

    /// Whether packets of this outermost ethertype are put to the filters [DP-3].
    #[inline]
    pub(crate) fn sees(&self, protocol: u16) -> bool {
        self.protocol == protocol || self.protocol == ETH_P_ALL
    }

    /// What the filters say about `packet`; `Continue` if none matches.
    #[inline]
    pub(crate) fn classify<E: Egress>(&self, packet: &Packet, cx: &mut Context<'_, E>) -> Outcome<'_> {
        match self.kind.find(packet.key()) {
            Some(filter) => filter.apply(packet, cx),
            None => Outcome::Continue,
        }
    }

    /// Adds the filter that `spec` wants, as `make` builds it for the handle it is given; `make` is called only if
    /// nothing can go wrong any more. Returns the handle. Checks in the order of [RQ-3].
    pub(crate) fn add(
        &mut self,
        spec: &FilterSpec,
        make: impl FnOnce(u32) -> Arc<Filter>,
    ) -> Result<u32, RequestError> {
        if spec.protocol != 0 && spec.protocol != self.protocol {
            return Err(RequestError::Invalid("this priority has another protocol")); // [ER-5]
        }
        self.kind.add(spec, self.protocol, make)
    }

    /// Takes the filter with `handle` out.
    pub(crate) fn remove(&mut self, handle: u32) -> Result<Arc<Filter>, RequestError> {
        self.kind.remove(handle).ok_or(RequestError::NotFound("handle")) // [ER-15]
    }
}
