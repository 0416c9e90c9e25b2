//! Answers: what searches have found, to be found again without one.
//!
//! An answer is a pointer that nobody counts, kept from burst to burst. What makes it good:
//!
//! 1. Who asks holds an era, and then reads the stamps of the packet ([`Many::ask`]); only then the index is searched, and what was
//!    found is kept with that sum ([`Answers::keep`]).
//! 2. Who asks again, in an era that is held *before* the sum is read, gets what is kept only where index, outline, the bits of
//!    the packet, its protocol, and the sum are the same ([`Answers::get`]). So the filter was in the index when this era began
//!    to be held, or later: one that was taken out before had been counted before, and the search had not found it.
//! 3. A filter that is taken out is given to the reaper after that was counted. An era that began to be held before that is not over, so the
//!    filter is there.
//!
//! An index that is abandoned with its filters in it counts nothing, and is asked only by who still holds the list that leads to it.
//!
//! Stamps are those of the bits that the outline has, which are the bits that are compared: so questions that are the same have the same
//! stamps. A filter that was found counts at one of them, because the outline has all bits that it looks at.
//!
//! The generation counts like one more stamp: a commit changes what is met, and no filter comes or goes. Flags that hide the filters of a
//! proto that leaves are asked each time.
#![expect(unsafe_code, reason = "measured: a count for each answer would be a shared cache line a packet")]

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use smallvec::SmallVec;

use super::dimension::Family;
use super::era::Era;
use super::many::{Many, folded, product};
use super::search::{Query, WIDTH};
use crate::filter::Filter;
use crate::flow_key::WORDS;
use crate::generation::Generation;
use crate::prefetch;

/// Words that are in the first line of an answer: those of most packets of IPv4.
const FIRST: usize = 5;

/// A question to an index, and its answer.
#[derive(Debug)]
pub(crate) struct Asked<'a, 'p> {
    query: Query<'p>,
    /// What counts of the packet's key, and zeros behind it.
    words: [u64; WORDS],
    len: usize,
    /// Which outline it was, of which family and protocol.
    identity: u64,
    /// The sum of the packet's stamps.
    sum: u64,
    answer: Option<&'a Filter>,
    /// The answer is as good as the sum says.
    answered: bool,
}

/// So many answers, by number.
#[derive(Debug)]
pub(crate) struct Answers {
    heads: Box<[Head]>,
    /// For packets of which more than `FIRST` words count; memory that is not touched where there are none.
    tails: Box<[Tail]>,
    generation: Generation,
    /// How often that was another one.
    changes: u64,
}

#[derive(Debug)]
#[repr(align(64))]
struct Head {
    /// 0 if there is no answer.
    identity: u64,
    /// Sum of stamps, and of changes of the generation. All of them only grow.
    version: u64,
    /// Null for none.
    filter: AtomicPtr<Filter>,
    words: [u64; FIRST],
}

#[derive(Clone, Debug, Default)]
#[repr(align(64))]
struct Tail([u64; WORDS - FIRST]);

const _: () = assert!(size_of::<Head>() == 64 && size_of::<Tail>() == 64);

impl Many {
    /// A question, as of now: of a query that begins at the first proto.
    #[inline(always)]
    pub(crate) fn ask<'a, 'p>(&'a self, query: Query<'p>, era: &'a Era) -> Asked<'a, 'p> {
        let family = Family::of(query.key);
        let outline = self.outline(era);
        // Also the stamps are those of what counts: packets that share an answer share its sum.
        let (terms, key) = (outline.terms(family), outline.masked(family, query.key));
        let mut words = [0; WORDS];
        for (word, term) in words.iter_mut().zip(terms) {
            *word = key[term.word];
        }
        let identity = (outline.id() * Family::ALL.len() as u64 + family as u64) << 16 | u64::from(query.protocol);
        let sum = self.stamps().sum(family, &key);
        Asked { query, words, len: terms.len(), identity, sum, answer: None, answered: false }
    }

    /// Searches for the answers to any number of questions.
    pub(crate) fn answer<'a>(&'a self, asked: &mut [&mut Asked<'a, '_>], era: &'a Era) {
        for asked in asked.chunks_mut(WIDTH) {
            let queries: SmallVec<[Query<'_>; WIDTH]> = asked.iter().map(|asked| asked.query).collect();
            let mut found = [None; WIDTH];
            self.search::<WIDTH>(&queries, &mut found[..asked.len()], era);
            // A filter that looks at more than the outline says may have been found, which counts at other stamps: there is another
            // outline since before that.
            let outline = self.outline(era).id();
            for (asked, found) in asked.iter_mut().zip(found) {
                asked.answer = found;
                asked.answered = (asked.identity >> 16) / Family::ALL.len() as u64 == outline;
            }
        }
    }
}

impl<'a> Asked<'a, '_> {
    /// A hash of what counts. Nobody who does not know the secrets can choose packets that meet.
    #[inline(always)]
    pub(crate) fn hash(&self, secrets: &[u64; WORDS + 1]) -> u64 {
        let identity = product(self.identity, secrets[WORDS]);
        let first = (0..FIRST).fold(identity, |sum, i| sum.wrapping_add(product(self.words[i], secrets[i])));
        let rest = FIRST..self.len.max(FIRST);
        folded(rest.fold(first, |sum, i| sum.wrapping_add(product(self.words[i], secrets[i]))))
    }

    /// What the search found.
    #[inline]
    pub(crate) fn answer(&self) -> Option<&'a Filter> {
        self.answer
    }
}

impl Answers {
    /// Room for so many.
    pub(crate) fn new(entries: usize) -> Answers {
        Answers {
            heads: (0..entries).map(|_| Head::default()).collect(),
            tails: vec![Tail::default(); entries].into(),
            generation: Generation::default(),
            changes: 0,
        }
    }

    /// Packets are of `generation` from now on.
    #[inline]
    pub(crate) fn enter(&mut self, generation: Generation) {
        if generation != self.generation {
            self.generation = generation;
            self.changes += 1;
        }
    }

    /// Has an answer fetched.
    #[inline(always)]
    pub(crate) fn prefetch(&self, at: usize, asked: &Asked<'_, '_>) {
        prefetch::value(&self.heads[at]);
        if asked.len > FIRST {
            prefetch::value(&self.tails[at]);
        }
    }

    /// The answer number `at`, if it is one to `asked`. Whether packets meet the filter is still to be asked.
    #[inline(always)]
    pub(crate) fn get<'a>(&self, at: usize, asked: &Asked<'a, '_>) -> Option<Option<&'a Filter>> {
        let head = &self.heads[at];
        let other = |sum: u64, (a, b): (&u64, &u64)| sum | (a ^ b);
        let version = asked.sum.wrapping_add(self.changes);
        let head_differs = head.words.iter().zip(&asked.words).fold(0, other);
        if head_differs | (head.identity ^ asked.identity) | (head.version ^ version) != 0
            || asked.len > FIRST && self.tails[at].0.iter().zip(&asked.words[FIRST..]).fold(0, other) != 0
        {
            return None;
        }
        // SAFETY: null, or what a search found in the index that `asked` is a question to, after it had read the same sum of the
        // same stamps: the filter was not taken out when `asked` read them, in the era that it borrows. See above.
        let filter = unsafe { head.filter.load(Relaxed).as_ref() };
        if let Some(filter) = filter {
            prefetch::value(filter);
        }
        Some(filter)
    }

    /// Keeps the answer to `asked` as number `at`.
    #[inline]
    pub(crate) fn keep(&mut self, at: usize, asked: &Asked<'_, '_>) {
        if !asked.answered {
            return;
        }
        let head = &mut self.heads[at];
        head.identity = asked.identity;
        head.version = asked.sum.wrapping_add(self.changes);
        *head.filter.get_mut() = asked.answer.map_or(null_mut(), |filter| std::ptr::from_ref(filter).cast_mut());
        head.words.copy_from_slice(&asked.words[..FIRST]);
        if asked.len > FIRST {
            self.tails[at].0.copy_from_slice(&asked.words[FIRST..]);
        }
    }
}

impl Default for Head {
    fn default() -> Self {
        Head { identity: 0, version: 0, filter: AtomicPtr::new(null_mut()), words: [0; FIRST] }
    }
}
