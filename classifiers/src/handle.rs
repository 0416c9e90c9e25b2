//! Handles: numbers given out, the lowest free one first.

use std::collections::BTreeMap;

/// Which numbers from 1 on are taken.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    /// Runs of taken numbers: first to last. Runs neither touch nor overlap, so that the first one says what the lowest
    /// free number is.
    runs: BTreeMap<u32, u32>,
}

impl Handles {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    #[cfg(test)]
    fn contains(&self, number: u32) -> bool {
        self.runs.range(..=number).next_back().is_some_and(|(_, &last)| number <= last)
    }

    /// The lowest free number, if it is not above `max`.
    pub(crate) fn lowest(&self, max: u32) -> Option<u32> {
        let number = match self.runs.first_key_value() {
            Some((&1, &last)) => last.checked_add(1)?,
            _ => 1,
        };
        (number <= max).then_some(number)
    }

    /// Takes the lowest free number up to `max`.
    pub(crate) fn take_lowest(&mut self, max: u32) -> Option<u32> {
        let number = self.lowest(max)?;
        self.take(number);
        Some(number)
    }

    /// Takes this number; `false` if it is taken already.
    pub(crate) fn take(&mut self, number: u32) -> bool {
        let before = self.runs.range_mut(..=number).next_back();
        let joins_after = |runs: &BTreeMap<u32, u32>| number.checked_add(1).filter(|next| runs.contains_key(next));
        match before {
            Some((_, &mut last)) if number <= last => return false,
            Some((&first, &mut last)) if last + 1 == number => {
                let end = joins_after(&self.runs).and_then(|next| self.runs.remove(&next)).unwrap_or(number);
                self.runs.insert(first, end);
            }
            _ => {
                let end = joins_after(&self.runs).and_then(|next| self.runs.remove(&next)).unwrap_or(number);
                self.runs.insert(number, end);
            }
        }
        true
    }

    /// Gives it back.
    pub(crate) fn release(&mut self, number: u32) {
        let run = self.runs.range(..=number).next_back().map(|(&first, &last)| (first, last));
        let Some((first, last)) = run.filter(|&(_, last)| number <= last) else { return };
        if first == number {
            self.runs.remove(&first);
        } else {
            self.runs.insert(first, number - 1);
        }
        if number < last {
            self.runs.insert(number + 1, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// [HA-1], [HA-2]: a plain set is the oracle.
        #[test]
        fn the_lowest_free_number_is_given(steps in prop::collection::vec((0..3_u8, 1..60_u32), 0..400)) {
            let (mut handles, mut set) = (Handles::default(), BTreeSet::new());
            for (what, number) in steps {
                match what {
                    0 => prop_assert_eq!(handles.take(number), set.insert(number)),
                    1 => {
                        let lowest = (1..).find(|n| !set.contains(n)).unwrap();
                        prop_assert_eq!(handles.take_lowest(50), (lowest <= 50).then_some(lowest));
                        if lowest <= 50 { set.insert(lowest); }
                    }
                    _ => { handles.release(number); set.remove(&number); }
                }
                prop_assert_eq!(handles.contains(number), set.contains(&number));
                prop_assert_eq!(handles.is_empty(), set.is_empty());
            }
        }
    }

    /// [WK-9], [KR-45]
    #[test]
    fn the_largest_number_is_one_like_others() {
        let mut handles = Handles::default();
        assert!(handles.take(u32::MAX) && handles.take(u32::MAX - 1) && !handles.take(u32::MAX));
        assert_eq!(handles.take_lowest(1), Some(1));
        assert_eq!(handles.take_lowest(1), None);
        handles.release(u32::MAX);
        assert!(!handles.contains(u32::MAX) && handles.contains(u32::MAX - 1));
    }
}
