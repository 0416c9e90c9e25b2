//! matchall: every packet of the protocol.

use std::sync::Arc;

use super::roster::{Index, Place, Rivals};
use super::seat::Seat;
use super::{Change, Matches};
use crate::error::RequestError;
use crate::filter::Filter;
use crate::handle::Handles;
use crate::reap::Garbage;
use crate::request::KindName;

/// The one filter of a matchall proto [MA-1], and those that transactions have in its place.
#[derive(Debug, Default)]
pub(super) struct Matchall {
    seat: Seat,
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

    fn rivals(&self, new: &Filter) -> Result<Rivals, RequestError> {
        let mut rivals = Rivals::new();
        self.seat.for_each_alike(new, |filter| rivals.push(Arc::clone(filter)));
        Ok(rivals)
    }

    fn insert(&mut self, new: &Arc<Filter>, place: Place<'_>, garbage: &mut Vec<Garbage>) -> bool {
        self.seat.insert(new, (0, 0), place.replaced(), garbage);
        false
    }

    fn remove(&mut self, filter: &Filter, garbage: &mut Vec<Garbage>) -> bool {
        self.seat.remove(filter, garbage);
        false
    }

    fn seat(&mut self) -> Option<&mut Seat> {
        Some(&mut self.seat)
    }
}
