//! Rule: what one filter of an index matches.

use std::cmp::Reverse;

use smallvec::SmallVec;

use crate::flow_key::{self as fields, FlowKey, WORDS};
use crate::request::FlowerSpec;
use crate::sync::Arc;

/// What one filter matches: the words of its key that count, as they were given [FL-17].
#[derive(Debug)]
pub(crate) struct Rule {
    /// One for each term of the mask.
    words: Words,
    mask: Arc<Mask>,
    ranges: Option<Box<Ranges>>,
}

/// Words that most filters look at, at most.
const FEW: usize = 5;

/// Words of a key. Eight bytes less than a vector that may grow.
#[derive(Debug)]
enum Words {
    /// What most filters have, and zeros behind it.
    Few([u64; FEW]),
    Many(Box<[u64]>),
}

/// Ranges of the source and the destination port.
pub(super) type Ranges = [Option<(u16, u16)>; 2];

/// The bits that filters look at, and which ports they have ranges of [FL-2], [FL-6].
#[derive(Clone, Debug, Default)]
pub(crate) struct Mask {
    terms: SmallVec<[Term; FEW]>,
    /// The first terms, and behind them some that match everything.
    few: [Term; FEW],
    ranged: [bool; 2],
    key: FlowKey,
}

/// A word of the key that is not masked out altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Term {
    pub(super) word: usize,
    pub(super) mask: u64,
}

/// The words of a packet's key.
pub(crate) type Key = [u64; WORDS];

impl Rule {
    pub(crate) fn new(wanted: &FlowerSpec) -> Rule {
        let ranges: Ranges = [wanted.src_port_range, wanted.dst_port_range];
        let mask = Mask::new(&wanted.mask, ranges.map(|range| range.is_some()));
        let words = mask.terms.iter().map(|term| wanted.value.words()[term.word]).collect();
        let ranges = mask.ranged.contains(&true).then(|| Box::new(ranges));
        Rule { words, mask: Arc::new(mask), ranges }
    }

    /// As it was asked for, with what the protocol implied.
    pub(crate) fn spec(&self) -> FlowerSpec {
        let [src_port_range, dst_port_range] = self.ranges();
        FlowerSpec { value: self.value(), mask: self.mask.key, src_port_range, dst_port_range }
    }

    pub(crate) fn mask(&self) -> &Arc<Mask> {
        &self.mask
    }

    /// The same mask, which other filters have too.
    pub(crate) fn share(&mut self, mask: &Arc<Mask>) {
        self.mask = Arc::clone(mask);
    }

    pub(crate) fn is_ranged(&self) -> bool {
        self.ranges.is_some()
    }

    /// Of the source and the destination port.
    pub(super) fn ranges(&self) -> Ranges {
        self.ranges.as_deref().copied().unwrap_or_default()
    }

    /// What it wants of the masked bits.
    pub(super) fn value(&self) -> FlowKey {
        let mut value = FlowKey::EMPTY;
        for (term, &word) in self.mask.terms.iter().zip(self.words.iter()) {
            value.set_word(term.word, word);
        }
        value
    }

    /// Whether `key` is this rule's key [FL-1].
    #[inline]
    pub(crate) fn matches(&self, key: &Key) -> bool {
        self.has_words_of(&self.mask, key) && self.has_ports_of(key)
    }

    /// The same but for the ranges, where `mask` is known to be like this rule's.
    #[inline(always)]
    pub(super) fn has_words_of(&self, mask: &Mask, key: &Key) -> bool {
        let differ = |(term, word): (&Term, &u64)| (key[term.word] ^ word) & term.mask;
        match &self.words {
            // One branch for all of them.
            Words::Few(words) => (0..FEW).fold(0, |all, i| all | differ((&mask.few[i], &words[i]))) == 0,
            Words::Many(words) => mask.terms.iter().zip(words).all(|both| differ(both) == 0),
        }
    }

    /// Whether the ports of `key` are within the ranges.
    #[inline(always)]
    pub(super) fn has_ports_of(&self, key: &Key) -> bool {
        self.ranges.as_ref().is_none_or(|ranges| {
            let ports = key[fields::SRC_PORT.word];
            let [src, dst] = **ranges;
            within(src, ports >> fields::SRC_PORT.shift) && within(dst, ports >> fields::DST_PORT.shift)
        })
    }

    /// Whether both, with masks that are alike, match the same packets [FL-4].
    pub(crate) fn same_as(&self, other: &Rule) -> bool {
        self.same_words(other) && self.ranges == other.ranges
    }

    /// The same but for the ranges.
    pub(super) fn same_words(&self, other: &Rule) -> bool {
        let mut words = self.mask.terms.iter().zip(self.words.iter().zip(other.words.iter()));
        words.all(|(term, (a, b))| (a ^ b) & term.mask == 0)
    }
}

impl Words {
    #[inline]
    fn iter(&self) -> std::slice::Iter<'_, u64> {
        match self {
            Words::Few(words) => words.iter(),
            Words::Many(words) => words.iter(),
        }
    }
}

impl FromIterator<u64> for Words {
    fn from_iter<I: IntoIterator<Item = u64>>(words: I) -> Self {
        let words: SmallVec<[u64; FEW]> = words.into_iter().collect();
        if words.spilled() {
            return Words::Many(words.into_boxed_slice());
        }
        let mut few = [0; FEW];
        few[..words.len()].copy_from_slice(&words);
        Words::Few(few)
    }
}

impl Mask {
    fn new(mask: &FlowKey, ranged: [bool; 2]) -> Mask {
        let words = mask.words().iter().enumerate().filter(|(_, mask)| **mask != 0);
        let mut terms: SmallVec<[Term; FEW]> = words.map(|(word, &mask)| Term { word, mask }).collect();
        // Those with the most bits first: they are the likeliest to differ, and the first that differs ends a comparison.
        terms.sort_by_key(|term| Reverse(term.mask.count_ones()));
        let few = std::array::from_fn(|i| terms.get(i).copied().unwrap_or_default());
        Mask { terms, few, ranged, key: *mask }
    }

    /// Whether filters look at nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_empty() && self.ranged == [false; 2]
    }

    /// The bits of the key.
    pub(super) fn key(&self) -> &FlowKey {
        &self.key
    }

    /// What makes filters with masks alike.
    pub(crate) fn shape(&self) -> (&[Term], [bool; 2]) {
        (&self.terms, self.ranged)
    }

    /// Whether filters with these masks are in one group.
    pub(crate) fn is_like(&self, other: &Mask) -> bool {
        self.shape() == other.shape()
    }
}

#[inline]
fn within(range: Option<(u16, u16)>, shifted: u64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the port")]
    let port = shifted as u16;
    range.is_none_or(|(min, max)| min <= port && port <= max)
}
