//! Flow cache: what the first search of a packet found last time, so that packets of a flow need no search.
//!
//! A cache belongs to one worker, which looks into it before the index of chain 0: [`Head::find_cached`]. An entry has the bits of the
//! packet that some filter looks at, and is used only for packets that are the same in them; so nobody gets the verdict of another
//! flow. It is exact: after a request for a filter has returned, no packet of the worker's next burst gets an answer that is
//! older, and changes of filters for other networks leave it alone (how: `index/answers.rs`, `index/stamps.rs`).
//!
//! Entries are in sets of four. A set's tags, 15 bits of a hash each, are in eight bytes, so that an entry is read only if it is likely
//! to be the one. The hash is keyed: nobody can choose flows that share a set.
//!
//! Where most packets are of new flows, a cache only costs. So it counts hits, and where they are too few it pauses, and tries again later.
//!
//! [`Head::find_cached`]: crate::chain::Head::find_cached

use smallvec::SmallVec;

use crate::filter::Filter;
use crate::flow_key::WORDS;
use crate::generation::Generation;
use crate::index::answers::{Answers, Asked};
use crate::index::era::Era;
use crate::index::{Many, Query};

/// Most entries there can be.
pub const ENTRIES_MAX: u32 = 1 << 22;

/// Entries of a set.
const WAYS: usize = 4;

/// Packets that go through the steps together.
const STEP: usize = 64;

/// Hits of a hundred lookups below which a cache does not pay.
const PAYS: usize = 30;

/// Pauses are so many times as long as the two windows that it takes to see whether they should end: in a flood of new flows one packet
/// of so many is looked up in vain, which costs less than the search.
const PATIENCE: usize = 20;

/// Most lookups to judge by.
const WINDOW_MAX: usize = 1 << 14;

/// Answers of one worker. Its memory: 66 bytes an entry, and 64 more where filters look at much of a packet.
#[derive(Debug)]
pub struct FlowCache {
    answers: Answers,
    sets: Box<[Set]>,
    /// Keys of the hash.
    secrets: [u64; WORDS + 1],
    /// Where the search for an entry to give up begins.
    hand: usize,
    pace: Pace,
    counts: FlowCacheCounts,
}

/// What became of the packets that could have been looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCacheCounts {
    /// Packets whose answer was there.
    pub hits: u64,
    /// Packets that were searched for, and then were there.
    pub misses: u64,
    /// Packets that were searched for while it paused.
    pub passed_by: u64,
}

/// Tags of the entries of a set: 0 if there is none, else a part of the hash, and whether it was used of late.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(8))]
struct Set([u16; WAYS]);

const USED: u16 = 1 << 15;

/// Whether to look.
#[derive(Debug)]
struct Pace {
    /// Lookups to judge by.
    window: usize,
    phase: Phase,
    /// Packets until the next phase.
    left: usize,
    looked_up: usize,
    hits: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is empty, or out of date: hits do not count yet.
    Filling,
    Judging,
    Pausing,
}

impl FlowCache {
    /// Room for [`entries`] where so many are wanted.
    pub fn new(entries: u32) -> FlowCache {
        let entries = self::entries(entries);
        let mut rng = fastrand::Rng::new();
        FlowCache {
            answers: Answers::new(entries),
            sets: vec![Set::default(); entries / WAYS].into(),
            secrets: std::array::from_fn(|_| rng.u64(..)),
            hand: 0,
            pace: Pace::new(entries.clamp(1024, WINDOW_MAX)),
            counts: FlowCacheCounts::default(),
        }
    }

    /// What became of packets since this was asked for last.
    pub fn take_counts(&mut self) -> FlowCacheCounts {
        std::mem::take(&mut self.counts)
    }

    /// Whether to look the next `packets` up.
    #[inline]
    pub(crate) fn is_open(&mut self, packets: usize) -> bool {
        let open = self.pace.begin(packets);
        if !open {
            self.counts.passed_by += packets as u64;
        }
        open
    }

    /// Looks up all of `queries`, each from the first proto on and of `generation`, and has `many` searched for those that are not there.
    /// Tells what was found by the number of the query.
    #[inline]
    pub(crate) fn find<'h, 'p>(
        &mut self,
        many: &'h Many,
        mut queries: impl Iterator<Item = Query<'p>>,
        generation: Generation,
        era: &'h Era,
        mut found: impl FnMut(usize, Option<&'h Filter>),
    ) {
        self.answers.enter(generation);
        let mut first = 0;
        loop {
            let step =
                self.step(many, queries.by_ref().take(STEP), generation, era, |at, filter| found(first + at, filter));
            first += step;
            if step < STEP {
                break;
            }
        }
    }

    #[inline]
    fn step<'h, 'p>(
        &mut self,
        many: &'h Many,
        queries: impl Iterator<Item = Query<'p>>,
        generation: Generation,
        era: &'h Era,
        mut found: impl FnMut(usize, Option<&'h Filter>),
    ) -> usize {
        struct Look<'a, 'p> {
            asked: Asked<'a, 'p>,
            spot: Spot,
            way: Option<usize>,
            hit: Option<Option<&'a Filter>>,
        }
        let mut looks: SmallVec<[Look<'h, 'p>; STEP]> = SmallVec::new();
        for query in queries {
            let asked = many.ask(query, era);
            let spot = Spot::of(asked.hash(&self.secrets), self.sets.len());
            let way = self.sets[spot.set].way(spot.tag);
            if let Some(way) = way {
                self.answers.prefetch(spot.at(way), &asked);
            }
            looks.push(Look { asked, spot, way, hit: None }); // one by one: all together they would be copied
        }
        for look in &mut looks {
            look.hit = look.way.and_then(|way| self.answers.get(look.spot.at(way), &look.asked));
        }
        let count = looks.len();
        let (mut missed, mut places) =
            (SmallVec::<[&mut Asked<'h, 'p>; STEP]>::new(), SmallVec::<[(u8, Spot); STEP]>::new());
        for (at, Look { asked, spot, way, hit }) in looks.iter_mut().enumerate() {
            match (*way, *hit) {
                (Some(way), Some(filter)) if filter.is_none_or(|filter| filter.is_met_at(generation)) => {
                    self.sets[spot.set].use_way(way);
                    found(at, filter);
                }
                _ => {
                    missed.push(asked);
                    #[expect(clippy::cast_possible_truncation, reason = "less than STEP")]
                    places.push((at as u8, *spot));
                }
            }
        }
        self.pace.looked_up(count, count - missed.len());
        self.counts.hits += (count - missed.len()) as u64;
        self.counts.misses += missed.len() as u64;
        many.answer(&mut missed, era);
        for (asked, (at, spot)) in missed.iter().zip(places) {
            found(at.into(), asked.answer());
            let way = self.sets[spot.set].take_way(spot.tag, self.hand);
            self.hand = self.hand.wrapping_add(1);
            self.answers.keep(spot.at(way), asked);
        }
        count
    }
}

/// How many a cache has room for: `wanted`, rounded up to a power of two, at least 4 and at most [`ENTRIES_MAX`].
pub fn entries(wanted: u32) -> usize {
    wanted.clamp(4, ENTRIES_MAX).next_power_of_two() as usize
}

/// Where an answer can be.
#[derive(Clone, Copy, Debug)]
struct Spot {
    set: usize,
    tag: u16,
}

impl Spot {
    #[inline]
    fn of(hash: u64, sets: usize) -> Spot {
        #[expect(clippy::cast_possible_truncation, reason = "different bits of the hash are wanted")]
        let (set, tag) = (hash as usize & (sets - 1), (hash >> 48) as u16 & !USED);
        Spot { set, tag: tag.max(1) }
    }

    #[inline]
    fn at(self, way: usize) -> usize {
        self.set * WAYS + way
    }
}

impl Set {
    /// The entry with `tag`.
    #[inline]
    fn way(self, tag: u16) -> Option<usize> {
        let same = (0..WAYS).fold(0_u32, |same, way| same | u32::from(self.0[way] & !USED == tag) << way);
        (same != 0).then_some(same.trailing_zeros() as usize)
    }

    #[inline]
    fn use_way(&mut self, way: usize) {
        if self.0[way] & USED == 0 {
            self.0[way] |= USED;
        }
    }

    /// The entry for `tag` from now on: the one that has it, or a free one, or one that was not used of late, from `hand` on.
    #[inline]
    fn take_way(&mut self, tag: u16, hand: usize) -> usize {
        if let Some(way) = self.way(tag).or_else(|| self.way(0)) {
            self.0[way] = tag;
            return way;
        }
        let mut ways = (0..WAYS).map(|way| (hand + way) % WAYS);
        let way = ways.find(|&way| self.0[way] & USED == 0).unwrap_or_else(|| {
            self.0.iter_mut().for_each(|tag| *tag &= !USED);
            hand % WAYS
        });
        self.0[way] = tag;
        way
    }
}

impl Pace {
    fn new(window: usize) -> Pace {
        Pace { window, phase: Phase::Filling, left: window, looked_up: 0, hits: 0 }
    }

    /// Whether to look so many packets up.
    #[inline]
    fn begin(&mut self, packets: usize) -> bool {
        if self.left == 0 {
            self.turn();
        }
        self.left = self.left.saturating_sub(packets);
        self.phase != Phase::Pausing
    }

    #[cold]
    fn turn(&mut self) {
        self.phase = match self.phase {
            Phase::Judging if self.hits * 100 < self.looked_up * PAYS => Phase::Pausing,
            Phase::Pausing => Phase::Filling,
            Phase::Judging | Phase::Filling => Phase::Judging,
        };
        self.left = if self.phase == Phase::Pausing { 2 * PATIENCE * self.window } else { self.window };
        (self.looked_up, self.hits) = (0, 0);
    }

    #[inline]
    fn looked_up(&mut self, packets: usize, hits: usize) {
        self.looked_up += packets;
        self.hits += hits;
    }
}

impl FlowCacheCounts {
    /// Hits of all packets, 0 to 1; 0 if there was none.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn hit_rate(self) -> f64 {
        self.hits as f64 / (self.hits + self.misses + self.passed_by).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_up_what_was_not_used() {
        let mut set = Set::default();
        assert_eq!(set.way(7), None);
        let ways: Vec<usize> = (1..=4).map(|tag| set.take_way(tag, 2)).collect();
        assert_eq!(ways, [0, 1, 2, 3], "free ones first");
        assert_eq!(set.take_way(3, 0), 2, "the one that has it");
        [0, 1, 3].into_iter().for_each(|way| set.use_way(way));
        assert_eq!(set.way(4), Some(3), "also when it was used");
        assert_eq!(set.take_way(9, 0), 2, "the only one that was not");
        set.use_way(2);
        assert_eq!(set.take_way(10, 5), 1, "all were: the one that the hand points to");
        assert_eq!(set.take_way(11, 2), 2, "and from then on none was");
    }

    #[test]
    fn it_pauses_where_it_does_not_pay_and_tries_again() {
        let mut pace = Pace::new(100);
        // One packet at a time, of which `percent` are hits: how many of 10,000 are looked up.
        let mut run = |percent: usize| {
            let mut looked_up = 0;
            for packet in 0..10_000 {
                if pace.begin(1) {
                    pace.looked_up(1, usize::from(packet % 100 < percent));
                    looked_up += 1;
                }
            }
            looked_up
        };
        assert_eq!(run(PAYS), 10_000);
        let few = run(PAYS - 1);
        assert!((500..=700).contains(&few), "{few}: once in 21 times, and until it is seen");
        assert!(run(100) > 3_000, "a pause ends");
        assert_eq!(run(100), 10_000);
    }

    #[test]
    fn entries_are_a_power_of_two() {
        for (wanted, entries) in [(0, 4), (1, 4), (5, 8), (4096, 4096), (4097, 8192)] {
            assert_eq!(super::entries(wanted), entries);
            assert_eq!(FlowCache::new(wanted).sets.len() * WAYS, entries);
        }
    }
}
