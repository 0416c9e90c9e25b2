//! Priorities for filters whose file gives none: only their order is the file's.
//!
//! Filters that run keep their priorities, as many as can without breaking the order. The others go between them, where
//! nothing runs; if there is no room, a neighbour has to move.

use std::collections::BTreeMap;

use tidegate_classifiers::request::FilterSpec;

use crate::block::PRIORITY_STEP;

/// The priorities that something runs at, whoever made it.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// By chain.
    chains: BTreeMap<u32, Vec<u32>>,
    /// The chain that was added to last, so that a listing adds without looking.
    last: (u32, Vec<u32>),
}

impl Taken {
    pub(super) fn add(&mut self, chain: u32, priority: u32) {
        if self.last.0 != chain {
            self.settle();
            self.last = (chain, self.chains.remove(&chain).unwrap_or_default());
        }
        if self.last.1.last() != Some(&priority) {
            self.last.1.push(priority);
        }
    }

    fn settle(&mut self) {
        let (chain, priorities) = std::mem::take(&mut self.last);
        self.chains.insert(chain, priorities);
    }

    /// Those of one chain, ascending.
    fn take(&mut self, chain: u32) -> Vec<u32> {
        self.settle();
        let mut priorities = self.chains.remove(&chain).unwrap_or_default();
        priorities.sort_unstable();
        priorities.dedup();
        priorities
    }
}

/// The priority of each wanted filter. `held` is what it runs at, if it does.
pub(super) fn place(
    wanted: &[FilterSpec],
    order: &[u32],
    fixed: &[bool],
    held: Vec<Option<u32>>,
    mut taken: Taken,
) -> Vec<u32> {
    let mut priorities: Vec<u32> = wanted.iter().map(|filter| filter.priority).collect();
    let filter = |number: u32| &wanted[number as usize];
    for chain in order.chunk_by(|&a, &b| filter(a).chain == filter(b).chain) {
        let taken = chain.first().map(|&first| taken.take(filter(first).chain)).unwrap_or_default();
        let mut low = 0;
        let mut rest = chain;
        while let Some(&next) = rest.first() {
            if fixed[next as usize] {
                low = filter(next).priority;
                rest = &rest[1..];
                continue;
            }
            let len = rest.iter().position(|&number| fixed[number as usize]).unwrap_or(rest.len());
            let (open, further) = rest.split_at(len);
            let high = further.first().map_or(END, |&fixed| u64::from(filter(fixed).priority));
            let canonical: Vec<u32> = open.iter().map(|&number| filter(number).priority).collect();
            let held: Vec<_> = open.iter().map(|&number| held[number as usize]).collect();
            let segment = Segment { low, high, taken: &taken, canonical: &canonical };
            for (&number, priority) in open.iter().zip(segment.place(held)) {
                priorities[number as usize] = priority;
            }
            rest = further;
        }
    }
    priorities
}

/// One more than the highest priority.
const END: u64 = 1 << 32;

/// Filters between two fixed ones, or the ends of the chain.
struct Segment<'a> {
    /// Priority of the fixed one before, or 0.
    low: u32,
    /// Priority of the fixed one after, or [`END`].
    high: u64,
    /// Priorities in use in the chain, ascending.
    taken: &'a [u32],
    /// What the filters would have if all were new.
    canonical: &'a [u32],
}

impl Segment<'_> {
    fn place(&self, mut held: Vec<Option<u32>>) -> Vec<u32> {
        keep_longest_ascent(&mut held, self.low, self.high);
        let mut at = 0;
        while at < held.len() {
            if held[at].is_some() {
                at += 1;
                continue;
            }
            let end = held[at..].iter().position(Option::is_some).map_or(held.len(), |len| at + len);
            let above = at.checked_sub(1).and_then(|before| held[before]).unwrap_or(self.low);
            let below = held.get(end).copied().flatten().map_or(self.high, u64::from);
            if let Some(found) = self.between(above, below, &self.canonical[at..end]) {
                held[at..end].iter_mut().zip(found).for_each(|(slot, priority)| *slot = Some(priority));
                at = end;
            } else if end < held.len() {
                held[end] = None; // the next one has to move
            } else if at > 0 {
                at -= 1; // or the one before
                held[at] = None;
            } else {
                return self.canonical.to_vec(); // no room at all: whoever is there will be told of
            }
        }
        held.into_iter().zip(self.canonical).map(|(held, canonical)| held.unwrap_or(*canonical)).collect()
    }

    /// Ascending priorities between `above` and `below` that nothing runs at, one for each of `canonical`: these, if they are
    /// good; at the end of a chain steps of ten; else evenly spread.
    fn between(&self, above: u32, below: u64, canonical: &[u32]) -> Option<Vec<u32>> {
        let from = self.taken.partition_point(|&taken| taken <= above);
        let to = self.taken.partition_point(|&taken| u64::from(taken) < below);
        let taken = &self.taken[from..to.max(from)];
        let is_free = |priority: u32| taken.binary_search(&priority).is_err();
        let fits = |&priority: &u32| priority > above && u64::from(priority) < below && is_free(priority);
        if canonical.iter().all(fits) {
            return Some(canonical.to_vec());
        }
        if below == END {
            let steps = (above / PRIORITY_STEP + 1..=u32::MAX / PRIORITY_STEP).map(|step| step * PRIORITY_STEP);
            let found: Vec<u32> = steps.filter(|&priority| is_free(priority)).take(canonical.len()).collect();
            if found.len() == canonical.len() {
                return Some(found);
            }
        }
        let free = below.checked_sub(u64::from(above) + 1)?.checked_sub(taken.len() as u64)?;
        let count = canonical.len() as u64;
        if free < count {
            return None;
        }
        let mut skipped = taken.iter().peekable();
        let mut before = 0;
        let found = (1..=count).map(|nth| {
            // The so many-th free number, from 1.
            let rank = u64::try_from(u128::from(nth) * u128::from(free + 1) / u128::from(count + 1)).unwrap_or(free);
            let mut priority = u64::from(above) + rank + before;
            while skipped.next_if(|&&taken| u64::from(taken) <= priority).is_some() {
                before += 1;
                priority += 1;
            }
            u32::try_from(priority).unwrap_or(u32::MAX)
        });
        Some(found.collect())
    }
}

/// Of the priorities held, leaves as many as can be left so that they ascend between `low` and `high`.
fn keep_longest_ascent(held: &mut [Option<u32>], low: u32, high: u64) {
    /// No element before this one.
    const NONE: usize = usize::MAX;
    let inside = |priority: u32| priority > low && u64::from(priority) < high;
    held.iter_mut().for_each(|slot| *slot = slot.filter(|&priority| inside(priority)));
    // For each length, the lowest priority that an ascent of this length can end with, and where; patience sorting.
    let mut ends: Vec<(u32, usize)> = Vec::new();
    let mut before: Vec<usize> = vec![NONE; held.len()];
    for (at, priority) in held.iter().enumerate().filter_map(|(at, held)| Some((at, (*held)?))) {
        let length = match ends.last() {
            Some(&(end, _)) if end >= priority => ends.partition_point(|&(end, _)| end < priority),
            _ => ends.len(),
        };
        before[at] = length.checked_sub(1).map_or(NONE, |shorter| ends[shorter].1);
        match ends.get_mut(length) {
            Some(end) => *end = (priority, at),
            None => ends.push((priority, at)),
        }
    }
    let mut kept = ends.last().map_or(NONE, |&(_, at)| at);
    for at in (0..held.len()).rev() {
        if at == kept {
            kept = before[at];
        } else {
            held[at] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ascent(mut held: Vec<Option<u32>>, low: u32, high: u64) -> Vec<Option<u32>> {
        keep_longest_ascent(&mut held, low, high);
        held
    }

    fn place(low: u32, high: u64, taken: &[u32], canonical: &[u32], held: &[Option<u32>]) -> Vec<u32> {
        Segment { low, high, taken, canonical }.place(held.to_vec())
    }

    /// Tries every subset.
    fn longest(held: &[Option<u32>], low: u32, high: u64) -> usize {
        let values: Vec<u32> = held.iter().flatten().copied().filter(|&v| v > low && u64::from(v) < high).collect();
        (0u32..1 << values.len())
            .filter(|set| {
                let chosen: Vec<u32> =
                    values.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, v)| *v).collect();
                chosen.windows(2).all(|pair| pair[0] < pair[1])
            })
            .map(u32::count_ones)
            .max()
            .unwrap_or(0) as usize
    }

    #[test]
    fn what_is_in_order_stays() {
        assert_eq!(place(0, END, &[10, 20, 30], &[10, 20, 30], &[Some(10), Some(20), Some(30)]), [10, 20, 30]);
        // The first of three is gone: the others do not move up.
        assert_eq!(place(0, END, &[10, 20, 30], &[10, 20], &[Some(20), Some(30)]), [20, 30]);
    }

    #[test]
    fn a_new_one_goes_between_its_neighbours() {
        assert_eq!(place(0, END, &[10, 20], &[10, 20, 30], &[Some(10), None, Some(20)]), [10, 15, 20]);
        assert_eq!(place(0, END, &[10, 20], &[10, 20, 30], &[None, Some(10), Some(20)]), [5, 10, 20]);
        assert_eq!(place(0, END, &[10, 25], &[10, 20, 30], &[Some(10), Some(25), None]), [10, 25, 30]);
        assert_eq!(place(100, 104, &[102], &[101, 102], &[None, None]), [101, 103], "around somebody else's");
    }

    #[test]
    fn without_room_a_neighbour_moves() {
        assert_eq!(place(0, END, &[10, 11], &[10, 20, 30], &[Some(10), None, Some(11)]), [10, 20, 30]);
        assert_eq!(place(0, 13, &[10, 12], &[3, 6, 9], &[Some(10), Some(12), None]), [3, 6, 9]);
    }

    #[test]
    fn what_changed_places_moves_and_nothing_else_does() {
        let held = [Some(40), Some(10), Some(20), Some(30)];
        assert_eq!(place(0, END, &[10, 20, 30, 40], &[10, 20, 30, 40], &held), [5, 10, 20, 30]);
    }

    proptest! {
        #[test]
        fn as_many_stay_as_can(held in prop::collection::vec(prop::option::of(1u32..16), 0..12), low in 0u32..4, high in 8u64..18) {
            let kept: Vec<u32> = ascent(held.clone(), low, high).into_iter().flatten().collect();
            prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(kept.iter().all(|&v| v > low && u64::from(v) < high));
            prop_assert_eq!(kept.len(), longest(&held, low, high));
        }

        #[test]
        fn priorities_ascend_and_meet_nobody_else(
            held in prop::collection::vec(prop::option::of(1u32..60), 0..12),
            others in prop::collection::btree_set(1u32..80, 0..20),
            low in 0u32..20,
        ) {
            let mut taken: Vec<u32> = others.iter().copied().chain(held.iter().flatten().copied()).collect();
            taken.sort_unstable();
            taken.dedup();
            let canonical: Vec<u32> = (1..).map(|step| (low / 10 + step) * 10).take(held.len()).collect();
            let found = place(low, END, &taken, &canonical, &held);
            prop_assert!(found.iter().all(|&priority| priority > low));
            prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", found);
            for (priority, held) in found.iter().zip(&held) {
                prop_assert!(Some(*priority) == *held || !taken.contains(priority), "{:?}", found);
            }
        }
    }
}
