//! matchall: every packet of the protocol.

use std::sync::Arc;

use super::roster::{Filters, Index};
use super::{Change, Matches, View};
use crate::error::{Refusal, RequestError, Why};
use crate::filter::Filter;
use crate::handle::Handles;
use crate::reap::Garbage;
use crate::request::KindName;

/// The one filter of a matchall proto [MA-1].
#[derive(Debug, Default)]
pub(super) struct Matchall {
    filter: Option<Arc<Filter>>,
}

impl Index for Matchall {
    const NAME: KindName = KindName::Matchall;
    const UNLOCKED: bool = true;

    /// The one filter cannot be replaced [FO-7].
    fn parse(_: &Change<'_>, old: Option<&Filter>) -> Result<Matches, RequestError> {
        old.map_or(Ok(Matches::Matchall), |_| Err(TAKEN))
    }

    fn reserve(handles: &mut Handles, filters: &Filters, wanted: u32) -> Result<u32, Refusal> {
        if !filters.is_empty() {
            return Err(TAKEN.into()); // [ER-4]
        }
        if !handles.is_empty() {
            return Err(Refusal::Again(Why::Reserved)); // by one that may yet fail
        }
        let handle = if wanted == 0 { 1 } else { wanted }; // [MA-4]
        handles.take(handle);
        Ok(handle)
    }

    fn insert(&mut self, new: &Arc<Filter>, _: Option<&Filter>, _: &mut Vec<Garbage>) -> Result<bool, RequestError> {
        self.filter = Some(Arc::clone(new));
        Ok(true)
    }

    fn remove(&mut self, _: &Filter, garbage: &mut Vec<Garbage>) -> bool {
        garbage.extend(self.filter.take().map(Garbage::Filter));
        true
    }

    fn view(&self) -> View {
        self.filter.as_ref().map_or(View::Nothing, |filter| View::Matchall(Arc::clone(filter)))
    }
}

const TAKEN: RequestError = RequestError::Exists("the one filter a matchall priority can have");
