//! matchall: every packet of the protocol.

use std::sync::Arc;

use crate::action;
use crate::error::RequestError;
use crate::filter::Filter;
use crate::request::FilterSpec;

/// The one filter of a matchall proto [MA-1].
#[derive(Clone, Debug, Default)]
pub(crate) struct Matchall {
    filter: Option<Arc<Filter>>,
}

impl Matchall {
    #[inline]
    pub(crate) fn find(&self) -> Option<&Filter> {
        self.filter.as_deref()
    }

    pub(crate) fn filters(&self) -> &[Arc<Filter>] {
        self.filter.as_slice()
    }

    pub(crate) fn add(
        &mut self,
        spec: &FilterSpec,
        make: impl FnOnce(u32) -> Arc<Filter>,
    ) -> Result<u32, RequestError> {
        if self.filter.is_some() {
            return Err(RequestError::Exists("the one filter a matchall priority can have")); // [ER-4]
        }
        action::validate(&spec.actions)?;
        let handle = if spec.handle == 0 { 1 } else { spec.handle }; // [MA-4]
        self.filter = Some(make(handle));
        Ok(handle)
    }

    pub(crate) fn remove(&mut self, handle: u32) -> Option<Arc<Filter>> {
        self.filter.take_if(|filter| filter.handle() == handle)
    }
}
