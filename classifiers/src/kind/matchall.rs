//! matchall: every packet of the protocol.

use std::sync::Arc;

use super::roster::{Index, Place, Rivals};
use super::versions::Versions;
use super::{Change, Matches, View};
use crate::error::RequestError;
use crate::filter::Filter;
use crate::handle::Handles;
use crate::reap::Garbage;
use crate::request::KindName;

/// The one filter of a matchall proto [MA-1].
#[derive(Debug, Default)]
pub(super) struct Matchall {
    filters: Option<Versions>,
}

impl Index for Matchall {
    const NAME: KindName = KindName::Matchall;
    const UNLOCKED: bool = true;
    const SINGLE: bool = true;
    const TAKEN: RequestError = RequestError::Exists("the one filter a matchall priority can have");

    /// The one filter cannot be replaced [FO-7].
    fn parse(_: &Change<'_>, old: Option<&Filter>) -> Result<Matches, RequestError> {
        old.map_or(Ok(Matches::Matchall), |_| Err(Self::TAKEN))
    }

    fn number(_: &Handles, wanted: u32) -> Result<u32, RequestError> {
        Ok(wanted.max(1)) // [MA-4]
    }

    fn rivals(&self, _: &Filter) -> Result<Rivals, RequestError> {
        Ok(self.filters.iter().flat_map(Versions::iter).cloned().collect())
    }

    fn insert(&mut self, new: &Arc<Filter>, _: Place<'_>, _: &mut Vec<Garbage>) -> bool {
        self.filters = Some(self.filters.as_ref().map_or_else(|| Versions::of(new), |there| there.with(new, None)));
        true
    }

    fn remove(&mut self, filter: &Filter, _: &mut Vec<Garbage>) -> bool {
        self.filters = self.filters.as_ref().and_then(|filters| filters.without(filter));
        true
    }

    fn view(&self) -> View {
        self.filters.clone().map_or(View::Nothing, View::Matchall)
    }
}
