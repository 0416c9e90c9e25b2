//! Classifier kinds: how the filters of a proto match.

pub mod flower; // masked fields and port ranges
pub mod matchall; // every packet

use std::sync::Arc;

use crate::error::RequestError;
use crate::filter::Filter;
use crate::flow_key::FlowKey;
use crate::request::{FilterSpec, KindSpec};
use flower::Flower;
use matchall::Matchall;

/// The filters of one proto, by kind. A clone shares them until it is changed.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Flower(Arc<Flower>),
    Matchall(Matchall),
}

impl Kind {
    /// No filters yet, of the kind that `spec` is.
    pub(crate) fn new(spec: &KindSpec) -> Kind {
        match spec {
            KindSpec::Flower(_) => Kind::Flower(Arc::default()),
            KindSpec::Matchall => Kind::Matchall(Matchall::default()),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Kind::Flower(_) => "flower",
            Kind::Matchall(_) => "matchall",
        }
    }

    /// The filter that matches, if one does. Neither kind tries another when its actions say `continue` [DP-11].
    #[inline]
    pub(crate) fn find(&self, key: &FlowKey) -> Option<&Filter> {
        match self {
            Kind::Flower(flower) => flower.find(key),
            Kind::Matchall(matchall) => matchall.find(),
        }
    }

    /// All filters, in ascending order of their handles.
    pub(crate) fn filters(&self) -> &[Arc<Filter>] {
        match self {
            Kind::Flower(flower) => flower.filters(),
            Kind::Matchall(matchall) => matchall.filters(),
        }
    }

    /// See [`Proto::add`](crate::proto::Proto::add).
    pub(crate) fn add(
        &mut self,
        spec: &FilterSpec,
        protocol: u16,
        make: impl FnOnce(u32) -> Arc<Filter>,
    ) -> Result<u32, RequestError> {
        match (self, &spec.kind) {
            (Kind::Flower(flower), KindSpec::Flower(wanted)) => Arc::make_mut(flower).add(spec, wanted, protocol, make),
            (Kind::Matchall(matchall), KindSpec::Matchall) => matchall.add(spec, make),
            _ => Err(RequestError::Invalid("this priority has another kind")), // [ER-6]
        }
    }

    /// Takes the filter with `handle` out.
    pub(crate) fn remove(&mut self, handle: u32) -> Option<Arc<Filter>> {
        match self {
            Kind::Flower(flower) => Arc::make_mut(flower).remove(handle),
            Kind::Matchall(matchall) => matchall.remove(handle),
        }
    }
}
