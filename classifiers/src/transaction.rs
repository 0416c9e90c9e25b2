//! Transaction: many requests that packets see at one instant, or not at all.

use std::fmt;

use crate::block::Block;
use crate::error::RequestError;
use crate::event::BlockId;
use crate::filter::Filter;
use crate::generation::Generation;
use crate::kind::Flip;
use crate::ledger::{By, Ledger, Prepared};
use crate::plane::Plane;
use crate::proto::Proto;
use crate::reap::Garbage;
use crate::request::{
    self, ChainSpec, Cursor, Cx, DumpFilter, FilterId, FilterInfo, FilterKey, FilterSpec, Mode, Owner, Record,
};
use crate::sync::Arc;

/// Requests that are prepared one by one, by any number of threads, and take effect together.
#[derive(Debug)]
pub struct Transaction {
    plane: Arc<Plane>,
    ledger: Arc<Ledger>,
}

/// What a plain request took away from a transaction: nothing of it is prepared any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overtaken {
    /// One filter.
    Filter {
        /// Its block.
        block: BlockId,
        /// Where it is, or was to be.
        filter: FilterId,
    },
    /// Everything in a chain.
    Chain {
        /// Its block.
        block: BlockId,
        /// Chain index.
        chain: u32,
    },
}

/// A commit that did not take place, because plain requests were faster.
#[derive(Debug)]
pub struct Conflict {
    /// Open as before, but for what was overtaken: look there again, make the requests that are still needed, and commit.
    pub transaction: Transaction,
    /// What was overtaken.
    pub overtaken: Vec<Overtaken>,
}

impl Transaction {
    pub(crate) fn begin(plane: &Arc<Plane>, owner: Owner) -> Transaction {
        Transaction { plane: Arc::clone(plane), ledger: Ledger::new(owner) }
    }

    /// As [`new_filter`](crate::request::new_filter).
    ///
    /// # Errors
    /// Those; `Busy` if another transaction has prepared something that cannot be beside it [TX-7]; `Unsupported` for a kind
    /// that transactions cannot hold [TX-12].
    pub fn new_filter(&self, block: &Arc<Block>, spec: &FilterSpec, mode: Mode) -> Result<FilterId, RequestError> {
        request::filter::make(self.at(block)?, self.ledger.owner(), block, spec, mode)
    }

    /// As [`delete_filter`](crate::request::delete_filter). A priority or a chain stands for each filter that the transaction
    /// sees there now [TX-9].
    ///
    /// # Errors
    /// As [`Transaction::new_filter`]. Of several filters, those before the one that was refused are deleted.
    pub fn delete_filter(&self, block: &Arc<Block>, which: impl Into<FilterKey>) -> Result<(), RequestError> {
        request::filter::remove(self.at(block)?, block, which.into())
    }

    /// As [`get_filter`](crate::request::get_filter), but as it will be.
    ///
    /// # Errors
    /// Those.
    pub fn get_filter(&self, block: &Arc<Block>, which: impl Into<FilterKey>) -> Result<FilterInfo, RequestError> {
        request::filter::get(self.at(block)?, block, which.into())
    }

    /// As [`dump`](crate::request::dump()), but as it will be.
    ///
    /// # Errors
    /// `Invalid` if the block is of another plane.
    pub fn dump(&self, block: &Arc<Block>) -> Result<Vec<FilterInfo>, RequestError> {
        Ok(request::dump::all_filters(self.at(block)?, block))
    }

    /// As [`dump_page`](crate::request::dump_page), but as it will be.
    ///
    /// # Errors
    /// Those, and `Invalid` if the block is of another plane.
    pub fn dump_page(
        &self,
        block: &Arc<Block>,
        filter: &DumpFilter,
        cursor: &mut Cursor,
        max: usize,
    ) -> Result<Vec<Record>, RequestError> {
        request::dump::page(self.at(block)?, block, filter, cursor, max)
    }

    /// As [`add_chain`](crate::request::add_chain).
    ///
    /// # Errors
    /// Those, and `Busy` if another transaction has prepared this chain, which is not there yet [TX-7].
    pub fn add_chain(&self, block: &Arc<Block>, chain: impl Into<ChainSpec>) -> Result<(), RequestError> {
        request::chain::make(self.at(block)?, block, chain.into(), true)
    }

    /// As [`delete_chain`](crate::request::delete_chain), of the filters that the transaction sees there now [TX-9].
    ///
    /// # Errors
    /// As [`Transaction::delete_filter`].
    pub fn delete_chain(&self, block: &Arc<Block>, index: u32) -> Result<(), RequestError> {
        request::chain::remove(self.at(block)?, block, index)
    }

    /// Nobody asks for the chain to stay any more: it goes with its last filter. Nothing if there is no such chain.
    ///
    /// # Errors
    /// `Invalid` if the block is of another plane.
    pub fn release_chain(&self, block: &Arc<Block>, index: u32) -> Result<(), RequestError> {
        request::chain::release(self.at(block)?, block, index);
        Ok(())
    }

    /// Makes it all visible with one store [TX-1]. Bursts that begin later see all of it, and so do requests when this
    /// returns. What it replaces or deletes is destroyed when every worker has begun another burst.
    ///
    /// # Errors
    /// A [`Conflict`] if plain requests have overtaken something [TX-6]: nothing is visible then.
    pub fn commit(self) -> Result<Generation, Conflict> {
        let plane = Arc::clone(&self.plane);
        let global = plane.global(); // one commit at a time; no listing and no flush sees half of one [TX-2]
        let frozen = self.ledger.freeze();
        let result = frozen.map(|prepared| (self.flip(&prepared), prepared));
        drop(global);
        match result {
            Ok((generation, prepared)) => {
                drop(prepared);
                plane.reaper().relieve();
                Ok(generation)
            }
            Err(overtaken) => {
                self.lose(&overtaken);
                Err(Conflict { transaction: self, overtaken })
            }
        }
    }

    /// Takes back everything that was prepared: the same as dropping it.
    pub fn abort(self) {}

    /// For a request on `block`.
    fn at(&self, block: &Arc<Block>) -> Result<By<'_>, RequestError> {
        if !Arc::ptr_eq(block.plane(), &self.plane) {
            return Err(RequestError::Invalid("a block of another engine"));
        }
        self.ledger.hold(block);
        Ok(Some(&self.ledger))
    }

    /// The commit, with all claims frozen.
    fn flip(&self, prepared: &Prepared) -> Generation {
        for pin in &prepared.chains {
            pin.chain().core().fulfil(pin.chain(), &self.ledger);
        }
        publish(&prepared.filters);
        let generation = self.plane.generation().next();
        let stamp = |(proto, handle): &(Arc<Proto>, u32)| {
            let flip = proto.kind().staged()?.stamp(&self.ledger, *handle, generation)?;
            Some((Arc::clone(proto), *handle, flip))
        };
        let flips: Vec<_> = prepared.filters.iter().filter_map(stamp).collect();
        self.plane.enter(generation); // before it packets see nothing of all this, after it everything
        let settle = |(proto, handle, flip): (Arc<Proto>, u32, Flip)| {
            let hub = self.plane.hub();
            let mut event = hub.is_heard().then(|| flip.event(&proto)).flatten();
            let mut tell = || event.take().into_iter().for_each(|event| hub.send(Arc::new(event)));
            if proto.is_private() {
                proto.make_public();
            }
            let filter = proto.kind().staged()?.settle(handle, &mut tell)?;
            Some(Garbage::Retired(Retired { proto, filter }))
        };
        let retired: Vec<_> = flips.into_iter().filter_map(settle).collect();
        for chain in &prepared.unasked {
            chain.core().unask(chain, None);
        }
        self.plane.reaper().push(retired);
        generation
    }

    /// Nothing stays prepared in chains that were overtaken: what is in them may not fit.
    fn lose(&self, overtaken: &[Overtaken]) {
        for lost in overtaken {
            if let Overtaken::Chain { block, chain } = lost {
                let inside = |proto: &Proto| (proto.chain().core().id(), proto.chain().index()) == (*block, *chain);
                self.withdraw(self.ledger.take_filters(inside));
            }
        }
        self.plane.reaper().relieve();
    }

    fn withdraw(&self, filters: Vec<(Arc<Proto>, u32)>) {
        let cx = Cx::new(&self.plane, false);
        for (proto, handle) in filters {
            let staged = proto.kind().staged();
            if let Some(deleted) = staged.and_then(|staged| staged.withdraw(&cx, &self.ledger, handle)) {
                proto.chain().follow(&cx, &proto, deleted);
            }
        }
    }
}

/// Packets may find what is prepared from here on, in no generation yet.
fn publish(filters: &[(Arc<Proto>, u32)]) {
    let mut protos: Vec<&Arc<Proto>> = filters.iter().map(|(proto, _)| proto).collect();
    protos.sort_by_key(|proto| (Arc::as_ptr(proto.chain()), proto.priority(), Arc::as_ptr(proto)));
    protos.dedup_by_key(|proto| Arc::as_ptr(proto));
    for of_chain in protos.chunk_by(|a, b| Arc::ptr_eq(a.chain(), b.chain())) {
        of_chain[0].chain().refresh(of_chain.iter().copied());
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let mut prepared = self.ledger.give_up();
        self.withdraw(std::mem::take(&mut prepared.filters));
        for pin in &prepared.chains {
            pin.chain().core().withdraw(pin.chain(), &self.ledger);
        }
        drop(prepared);
        self.plane.reaper().relieve();
    }
}

/// A filter that a commit has deleted, on its way to the reaper: when every worker has begun another burst, it is deleted like
/// any other, with its proto and its chain if they are empty [TX-10].
#[derive(Debug)]
pub(crate) struct Retired {
    proto: Arc<Proto>,
    filter: Arc<Filter>,
}

impl Drop for Retired {
    fn drop(&mut self) {
        let chain = self.proto.chain();
        let cx = Cx::new(chain.core().plane(), false);
        if let Some(staged) = self.proto.kind().staged() {
            let deleted = staged.unlink(&cx, Arc::clone(&self.filter));
            chain.follow(&cx, &self.proto, deleted);
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "other requests were faster in {} places", self.overtaken.len())
    }
}

impl std::error::Error for Conflict {}
