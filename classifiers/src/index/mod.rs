//! The index of a chain: the first filter for a packet, in a time that hardly grows with the number of filters.
//!
//! It spans the protos of the kinds that are masked keys (flower, matchall). Up to a handful of filters are asked one by one.
//! More of them are kept by *tuple* (filters whose masks are alike) and masked key in one hash table, so that a tuple costs one probe; and
//! tries over the fields that tell most say which tuples have a filter for a packet at all.
//!
//! One writer at a time changes it; searches read meanwhile, wait for nobody, and write nothing. A change is made of steps, each
//! of which leaves every filter findable that is there before and after it:
//!
//! * a filter that comes is known to the tuples, then to the tries, then it is in the table; one that goes leaves in the
//!   reverse order. A search reads in the order in which filters come;
//! * one that takes the place of another one of its key does so in one step [FO-6];
//! * what is taken out is set free when no search that may have met it is left ([`era`]).
//!
//! What a search found can be kept and found again: what makes such an answer good is said in [`answers`].

pub(crate) mod answers; // what searches have found, to be found again
mod bits; // sets of tuples
mod buckets; // a hash table that grows by one bucket at a time
mod bunch; // filters of one key
mod dimension; // fields that rule tuples out
pub(crate) mod era; // when what workers may hold is set free
mod few; // filters that are asked one by one
mod many; // filters that are found by their keys
mod node; // what a trie is made of
mod outline; // what filters look at
pub(crate) mod place; // where in its chain a filter is asked
pub(crate) mod rule; // what one filter matches
mod search; // the first filters for packets, many at a time
mod sets; // sets of tuples, each one once
mod shared; // pointers that requests replace while workers follow them
mod simd; // many values at once, by what the processor has
mod span; // the values that a filter asks for
mod stamps; // what has changed, by network
mod survey; // what a packet costs
mod trie; // which tuples have a filter for a value
mod tuple; // filters whose masks are alike
pub(crate) mod versions; // filters of which a packet meets one at most

use std::fmt;

use crate::filter::Filter;
use crate::sync::{Arc, AtomicBool, Lock, Ordering, class};
use buckets::Gone;
use bunch::Bunch;
use era::{Era, Eras, Over, Unlinked};
use few::{FEW, Few};
use many::Books;
pub(crate) use many::Many;
use outline::Outline;
pub(crate) use search::{Query, WIDTH};
use shared::{Shared, Target};
pub(crate) use survey::Survey;
use trie::Cut;
use tuple::Tuple;

/// The filters of a chain that packets find by their keys.
pub(crate) struct ChainIndex {
    /// Always there.
    contents: Shared<Contents>,
    books: Lock<Books, { class::INDEX }>,
    eras: Arc<Eras>,
    /// No packet comes here any more: filters need not be taken out one by one.
    abandoned: AtomicBool,
}

#[derive(Debug)]
pub(crate) enum Contents {
    Few(Few),
    Many(Box<Many>),
}

/// Bytes of a slot of the table.
pub(crate) const SLOT: usize = size_of::<buckets::Bucket<Filter, Bunch>>() / buckets::SLOTS;

/// What a change took out.
#[derive(Debug)]
pub(crate) enum Waste {
    Contents(Unlinked<Contents>),
    Cut(Cut),
    Tuple(Unlinked<Tuple>),
    Outline(Unlinked<Outline>),
    Gone(Gone<Filter, Bunch>),
}

impl Target for Contents {}

impl Target for Filter {}

impl ChainIndex {
    /// Without filters. `seed` keys its hashes.
    pub(crate) fn new(seed: u64, eras: &Arc<Eras>) -> Arc<ChainIndex> {
        Arc::new(ChainIndex {
            contents: Shared::new(Arc::new(Contents::Few(Few::default()))),
            books: Lock::new(Books::new(seed)),
            eras: Arc::clone(eras),
            abandoned: AtomicBool::new(false),
        })
    }

    /// The first filter for a packet.
    #[inline]
    pub(crate) fn first<'a>(&'a self, query: &Query<'_>, era: &'a Era) -> Option<&'a Filter> {
        match self.contents.get(era)? {
            Contents::Few(few) => few.first(query),
            Contents::Many(many) => {
                let mut found = [None];
                many.search::<1>(std::slice::from_ref(query), &mut found, era);
                found[0]
            }
        }
    }

    /// The first filter for each of up to [`WIDTH`] packets, into `found`, which is as long.
    pub(crate) fn first_of_each<'a>(&'a self, queries: &[Query<'_>], found: &mut [Option<&'a Filter>], era: &'a Era) {
        match self.contents.get(era) {
            Some(Contents::Few(few)) => {
                found.iter_mut().zip(queries).for_each(|(found, query)| *found = few.first(query));
            }
            Some(Contents::Many(many)) => many.search::<WIDTH>(queries, found, era),
            None => {}
        }
    }

    /// Where answers can be asked for that are worth keeping; nothing where filters are so few that it is as fast to ask them.
    #[inline]
    pub(crate) fn many<'a>(&'a self, era: &'a Era) -> Option<&'a Many> {
        match self.contents.get(era)? {
            Contents::Few(_) => None,
            Contents::Many(many) => Some(many),
        }
    }

    /// Makes `new` findable, and `old` unfindable, in one step if packets of one key meet them.
    pub(crate) fn insert(&self, new: &Arc<Filter>, old: Option<&Filter>, waste: &mut Vec<Waste>) {
        let (mut books, era) = (self.books.lock(), self.eras.enter());
        let Some(contents) = self.contents.get(&era) else { return };
        match contents {
            Contents::Few(few) if few.len() - usize::from(old.is_some()) < FEW => {
                self.set(Contents::Few(few.with(Some(new), old)), waste);
            }
            Contents::Few(few) => {
                let many = Many::new(&mut books);
                for filter in few.iter() {
                    many.insert(filter, None, &mut books, &era, waste);
                }
                many.insert(new, old, &mut books, &era, waste);
                self.set(Contents::Many(Box::new(many)), waste);
            }
            Contents::Many(many) => many.insert(new, old, &mut books, &era, waste),
        }
    }

    /// Makes `old` unfindable, if it is not yet.
    pub(crate) fn remove(&self, old: &Filter, waste: &mut Vec<Waste>) {
        let (mut books, era) = (self.books.lock(), self.eras.enter());
        match self.contents.get(&era) {
            Some(Contents::Few(few)) => self.set(Contents::Few(few.with(None, Some(old))), waste),
            Some(Contents::Many(many)) => {
                many.remove(old, &mut books, &era, waste);
                if books.filters == 0 {
                    self.set(Contents::Few(Few::default()), waste);
                }
            }
            None => {}
        }
    }

    /// The filters of the proto `proto` that match the same packets as `new` but for port ranges.
    pub(crate) fn alike(&self, new: &Filter, proto: u64, mut f: impl FnMut(&Arc<Filter>)) {
        let (books, era) = (self.books.lock(), self.eras.enter());
        match self.contents.get(&era) {
            Some(Contents::Few(few)) => few.iter().filter(|filter| filter.place().proto() == proto).for_each(f),
            Some(Contents::Many(many)) => many.alike(new, proto, &books, &era, &mut f),
            None => {}
        }
    }

    /// No packet comes here any more.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Whether no packet comes here any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    fn set(&self, contents: Contents, waste: &mut Vec<Waste>) {
        waste.extend(self.contents.set(Some(Arc::new(contents))).map(Waste::Contents));
    }
}

impl Waste {
    /// When nobody can hold it any more.
    pub(crate) fn free(self, over: &Over) {
        match self {
            Waste::Contents(contents) => contents.free(over),
            Waste::Cut(cut) => cut.free(over),
            Waste::Tuple(tuple) => tuple.free(over),
            Waste::Outline(outline) => outline.free(over),
            Waste::Gone(gone) => gone.free(over),
        }
    }
}

impl fmt::Debug for ChainIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainIndex").finish_non_exhaustive()
    }
}
