//! Many: filters that are found by their keys, however many there are.

use std::ops::ControlFlow;

use super::Waste;
use super::bits::NARROW;
use super::buckets::{Buckets, Gone};
use super::bunch::{self, Bunch};
use super::dimension::{Counts, Dimension, Facts, Family, SLICES};
use super::era::Era;
use super::outline::Outline;
use super::rule::{Key, Mask, Rule};
use super::sets::{Sets, Slot};
use super::shared::{Either, Fork, Shared};
use super::simd::Level;
use super::stamps::Stamps;
use super::trie::Update;
use super::tuple::{Registry, Tuple, Tuples};
use crate::filter::Filter;
use crate::flow_key::{FlowKey, WORDS};
use crate::sync::{Arc, AtomicBool, Ordering};

/// Filters by tuple and masked key, and what tells which tuples to ask.
#[derive(Debug)]
pub(crate) struct Many {
    dimensions: [Dimension; SLICES.len()],
    families: [Slot; Family::ALL.len()],
    tuples: Tuples,
    /// There is, or was, a tuple with a bit beyond the narrow ones. It is known before any such is.
    wide: AtomicBool,
    buckets: Buckets<Filter, Bunch>,
    level: Level,
    /// What filters look at, and what has changed: for answers that are kept. There always is an outline.
    outline: Shared<Outline>,
    stamps: Stamps,
    /// Keys of the hash: two halves for each word, and for the protocol.
    secrets: [u64; WORDS + 1],
}

/// What only its writer needs.
#[derive(Debug)]
pub(super) struct Books {
    registry: Registry,
    /// Of filters that look at nothing.
    no_mask: Arc<Mask>,
    /// Filters that do not look at a dimension, and filters of a family.
    free: [Counts; SLICES.len()],
    families: [Counts; Family::ALL.len()],
    sets: Sets,
    pub(super) filters: usize,
    rng: fastrand::Rng,
}

impl Books {
    pub(super) fn new(seed: u64) -> Books {
        let (no_mask, rng) = (Arc::new(Mask::default()), fastrand::Rng::with_seed(seed));
        Books {
            registry: Registry::default(),
            no_mask,
            free: Default::default(),
            families: Default::default(),
            sets: Sets::default(),
            filters: 0,
            rng,
        }
    }

    /// Filters, and tuples.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.filters, self.registry.len())
    }
}

impl Many {
    pub(super) fn new(books: &mut Books) -> Many {
        Many {
            dimensions: Default::default(),
            families: Default::default(),
            tuples: Tuples::new(),
            wide: AtomicBool::new(false),
            buckets: Buckets::new(),
            level: Level::of_this_processor(),
            outline: Shared::new(Arc::new(Outline::empty())),
            stamps: Stamps::new(),
            secrets: std::array::from_fn(|_| books.rng.u64(..)),
        }
    }

    #[inline]
    pub(super) fn dimension(&self, at: usize) -> &Dimension {
        &self.dimensions[at]
    }

    #[inline]
    pub(super) fn family(&self, family: Family) -> &Slot {
        &self.families[family as usize]
    }

    #[inline]
    pub(super) fn tuples(&self) -> &Tuples {
        &self.tuples
    }

    /// Whether all words of sets count, or the narrow ones only.
    #[inline]
    pub(super) fn is_wide(&self) -> bool {
        self.wide.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn buckets(&self) -> &Buckets<Filter, Bunch> {
        &self.buckets
    }

    #[inline]
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// What filters look at. One that looks at more can be found only when there is another outline.
    #[inline]
    pub(super) fn outline<'a>(&'a self, era: &'a Era) -> &'a Outline {
        self.outline.get(era).unwrap_or_else(|| unreachable!("there is one from the beginning"))
    }

    #[inline]
    pub(super) fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// Of the words of a key that filters of `tuple` look at, and of the protocol if they do. Nobody who does not know the secrets can
    /// choose keys that meet: products of sums with secret numbers (NH of UMAC, RFC 4418).
    #[inline(always)]
    pub(super) fn hash(&self, tuple: &Tuple, key: &Key, protocol: u16) -> u32 {
        let (mask, protocol) = (tuple.mask().key().words(), if tuple.is_exact() { protocol } else { 0 });
        let mut sum = tuple.salt.wrapping_add(product(protocol.into(), self.secrets[WORDS]));
        for word in 0..WORDS {
            sum = sum.wrapping_add(product(key[word] & mask[word], self.secrets[word]));
        }
        let folded = folded(sum);
        #[expect(clippy::cast_possible_truncation, reason = "32 bits are enough for any number of buckets")]
        let hash = (folded ^ (folded >> 32)) as u32;
        hash
    }

    /// Of a filter.
    fn hash_of(&self, tuple: &Tuple, filter: &Filter) -> u32 {
        let key = filter.rule().map_or(FlowKey::EMPTY, Rule::value);
        self.hash(tuple, key.words(), filter.place().protocol())
    }

    /// Makes `new` findable, and `old` unfindable: in one step if they have one key.
    pub(super) fn insert(
        &self,
        new: &Arc<Filter>,
        old: Option<&Filter>,
        books: &mut Books,
        era: &Era,
        waste: &mut Vec<Waste>,
    ) {
        if let Some(old) = old
            && let Some(tuple) = books.registry.get(old.place().tuple())
            && is_key_of(old, tuple, new)
        {
            new.place().set_tuple(tuple.id(), old.place().hash());
            self.seat(tuple, new, Some(old), era, waste);
            self.stamps.count(new.rule()); // the old one's rule is the same
            return;
        }
        self.admit(new, books, era, waste);
        self.stamps.count(new.rule());
        if let Some(old) = old {
            self.remove(old, books, era, waste); // after the new one is there [FO-6]
        }
        let mut gone = Vec::new();
        self.buckets.grow(books.filters, era, &mut gone);
        waste.extend(gone.into_iter().map(Waste::Gone));
    }

    /// Makes `old` unfindable, and then tells searches not to look for it.
    pub(super) fn remove(&self, old: &Filter, books: &mut Books, era: &Era, waste: &mut Vec<Waste>) {
        let Some(tuple) = books.registry.get(old.place().tuple()).map(Arc::clone) else { return };
        if !self.unseat(&tuple, old, era, waste) {
            return;
        }
        self.stamps.count(old.rule()); // before what was taken out can go
        let facts = Facts::of(old.rule(), tuple.bit());
        let mut update = Update { sets: &mut books.sets, era, cuts: Vec::new() };
        for family in facts.families() {
            books.families[family as usize].remove(self.family(family), facts.bit(), &mut update);
        }
        for at in facts.dimensions() {
            self.dimensions[at].remove(facts.span(at), facts.bit(), &mut books.free[at], &mut update);
        }
        waste.extend(update.cuts.into_iter().map(Waste::Cut));
        waste.extend(books.registry.leave(&self.tuples, &tuple, era).map(Waste::Tuple));
        books.filters -= 1;
    }

    /// Tells searches to look for `new`, and then makes it findable.
    fn admit(&self, new: &Arc<Filter>, books: &mut Books, era: &Era, waste: &mut Vec<Waste>) {
        let (place, rule) = (new.place(), new.rule());
        let kind = (rule.map_or(&books.no_mask, Rule::mask), place.is_exact());
        let (tuple, unlinked) = books.registry.join(&self.tuples, kind, place.proto(), era, &mut books.rng);
        waste.extend(unlinked.map(Waste::Tuple));
        if usize::from(tuple.bit()) >= NARROW * 64 && !self.is_wide() {
            self.wide.store(true, Ordering::Release);
        }
        let facts = Facts::of(rule, tuple.bit());
        let mut update = Update { sets: &mut books.sets, era, cuts: Vec::new() };
        for at in facts.dimensions() {
            self.dimensions[at].add(facts.span(at), facts.bit(), &mut books.free[at], &mut update);
        }
        for family in facts.families() {
            books.families[family as usize].add(self.family(family), facts.bit(), &mut update);
        }
        waste.extend(update.cuts.into_iter().map(Waste::Cut));
        let value = rule.map_or(FlowKey::EMPTY, Rule::value);
        if let Some(outline) = self.outline(era).with(tuple.mask(), value.words()) {
            waste.extend(self.outline.set(Some(Arc::new(outline))).map(Waste::Outline));
        }
        place.set_tuple(tuple.id(), self.hash_of(&tuple, new));
        self.seat(&tuple, new, None, era, waste);
        books.filters += 1;
    }

    /// The filters of the proto `proto` that packets of `new`'s key meet.
    pub(super) fn alike(&self, new: &Filter, proto: u64, books: &Books, era: &Era, mut f: impl FnMut(&Arc<Filter>)) {
        let mask = new.rule().map_or(&books.no_mask, Rule::mask);
        let Some(tuple) = books.registry.find(mask, new.place().is_exact()) else { return };
        match self.slot(tuple, new, self.hash_of(tuple, new), era).and_then(|slot| slot.keep(era)) {
            Some(Either::One(filter)) if filter.place().proto() == proto => f(&filter),
            Some(Either::Other(bunch)) => {
                let _ = bunch.try_for_each_from((proto, 0, 0), |filter| {
                    if filter.place().proto() != proto {
                        return ControlFlow::Break(());
                    }
                    f(filter);
                    ControlFlow::Continue(())
                });
            }
            _ => {}
        }
    }

    /// Puts `new` where packets of its key find it, in the place of `old`.
    fn seat(&self, tuple: &Tuple, new: &Arc<Filter>, old: Option<&Filter>, era: &Era, waste: &mut Vec<Waste>) {
        let hash = new.place().hash();
        let slot = self.slot(tuple, new, hash, era);
        let Some((slot, there)) = slot.and_then(|slot| Some((slot, slot.keep(era)?))) else {
            self.buckets.insert(hash, Either::One(Arc::clone(new)), era);
            return;
        };
        let entry = match there {
            Either::One(there) if old.is_some_and(|old| std::ptr::eq(&*there, old)) => Either::One(Arc::clone(new)),
            Either::One(there) => Either::Other(Arc::new(Bunch::default().with(&there, None).with(new, old))),
            Either::Other(bunch) => Either::Other(Arc::new(bunch.with(new, old))),
        };
        waste.extend(slot.set(Some(entry)).map(Gone::Entry).map(Waste::Gone));
    }

    /// The reverse. Whether `old` was there.
    fn unseat(&self, tuple: &Tuple, old: &Filter, era: &Era, waste: &mut Vec<Waste>) -> bool {
        let hash = old.place().hash();
        let slot = self.slot(tuple, old, hash, era);
        let Some((slot, there)) = slot.and_then(|slot| Some((slot, slot.keep(era)?))) else { return false };
        let entry = match there {
            Either::One(there) if std::ptr::eq(&*there, old) => None,
            Either::One(_) => return false,
            Either::Other(bunch) => {
                let Some(bunch) = bunch.without(old) else { return false };
                Some(bunch.single().map_or_else(|| Either::Other(Arc::new(bunch)), Either::One))
            }
        };
        let mut gone = Vec::from_iter(slot.set(entry).map(Gone::Entry));
        self.buckets.tidy(hash, era, &mut gone);
        waste.extend(gone.into_iter().map(Waste::Gone));
        true
    }

    /// Where the filters are that have the key of `filter`, of `tuple`.
    fn slot<'a>(&'a self, tuple: &Tuple, filter: &Filter, hash: u32, era: &'a Era) -> Option<&'a Fork<Filter, Bunch>> {
        let is_it = |cell| bunch::any(&cell).is_some_and(|any| is_key_of(any, tuple, filter));
        self.buckets.slot(hash, era, is_it)
    }
}

/// Of the two halves of a word and two secret numbers.
#[inline(always)]
pub(super) fn product(word: u64, secret: u64) -> u64 {
    const LOW: u64 = 0xffff_ffff;
    let (low, high) = ((word & LOW) + (secret & LOW), (word >> 32) + (secret >> 32));
    (low & LOW).wrapping_mul(high & LOW)
}

/// A sum of products, each bit of which every other one depends on.
#[inline(always)]
pub(super) fn folded(sum: u64) -> u64 {
    let mixed = u128::from(sum ^ 0x9e37_79b9_7f4a_7c15) * 0xda94_2042_e4dd_58b5;
    #[expect(clippy::cast_possible_truncation, reason = "both halves, folded")]
    let folded = (mixed ^ (mixed >> 64)) as u64;
    folded
}

/// Whether `there` is of `tuple` and has the key of `filter`, which would be of it.
fn is_key_of(there: &Filter, tuple: &Tuple, filter: &Filter) -> bool {
    let (place, other) = (there.place(), filter.place());
    let alike = place.tuple() == tuple.id() && place.protocol() == other.protocol();
    alike
        && match (there.rule(), filter.rule()) {
            (Some(there), Some(rule)) => there.mask().is_like(rule.mask()) && there.same_words(rule),
            (Some(rule), None) | (None, Some(rule)) => rule.mask().is_empty(), // it matches every packet too
            (None, None) => true,
        }
}
