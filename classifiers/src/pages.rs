//! Pages: values by number, in ascending order, where numbers are mostly close together.

use std::collections::BTreeMap;

/// Numbers of one page: as many as a word has bits.
const PAGE: u32 = u64::BITS;

/// Values by number. Takes little more than the values where numbers follow each other, as handles and indexes do that
/// nobody chose.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    /// None is empty.
    pages: BTreeMap<u32, Page<T>>,
    len: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// One bit for each number that is there.
    there: u64,
    /// Theirs, in order.
    values: Vec<T>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Pages { pages: BTreeMap::new(), len: 0 }
    }
}

impl<T> Pages<T> {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let page = self.pages.get(&(number / PAGE))?;
        page.place(number).ok().map(|at| &page.values[at])
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.get(number).is_some()
    }

    /// Returns the value that was there before.
    pub(crate) fn insert(&mut self, number: u32, value: T) -> Option<T> {
        let page = self.pages.entry(number / PAGE).or_insert_with(|| Page { there: 0, values: Vec::new() });
        match page.place(number) {
            Ok(at) => Some(std::mem::replace(&mut page.values[at], value)),
            Err(at) => {
                page.there |= bit(number);
                page.values.insert(at, value);
                self.len += 1;
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let page = self.pages.get_mut(&(number / PAGE))?;
        let at = page.place(number).ok()?;
        page.there &= !bit(number);
        let value = page.values.remove(at);
        self.len -= 1;
        if page.values.is_empty() {
            self.pages.remove(&(number / PAGE));
        } else if page.values.len() * 4 < page.values.capacity() {
            page.values.shrink_to(page.values.len() * 2);
        }
        Some(value)
    }

    /// The one with the lowest number.
    pub(crate) fn first(&self) -> Option<&T> {
        self.pages.first_key_value()?.1.values.first()
    }

    /// Those from `number` on, in order.
    pub(crate) fn from(&self, number: u32) -> impl Iterator<Item = (u32, &T)> {
        self.pages.range(number / PAGE..).flat_map(move |(&page, Page { there, values })| {
            let before = if page == number / PAGE { there & (bit(number) - 1) } else { 0 };
            let mut rest = there ^ before;
            let numbers = std::iter::from_fn(move || {
                let lowest = (rest != 0).then(|| page * PAGE + rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(lowest)
            });
            numbers.zip(&values[before.count_ones() as usize..])
        })
    }

    /// All, in order.
    pub(crate) fn into_values(self) -> impl Iterator<Item = T> {
        self.pages.into_values().flat_map(|page| page.values)
    }
}

impl<T> Page<T> {
    /// Where the value of `number` is, or would be.
    fn place(&self, number: u32) -> Result<usize, usize> {
        let at = (self.there & (bit(number) - 1)).count_ones() as usize;
        if self.there & bit(number) != 0 { Ok(at) } else { Err(at) }
    }
}

fn bit(number: u32) -> u64 {
    1 << (number % PAGE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// [HA-1], [WK-3]: a plain map is the oracle.
        #[test]
        fn pages_are_an_ordered_map(steps in prop::collection::vec((0..3_u8, 0..300_u32, any::<bool>()), 0..600)) {
            let (mut pages, mut map) = (Pages::default(), BTreeMap::new());
            for (value, (what, number, high)) in (0_u64..).zip(steps) {
                let number = if high { u32::MAX - number } else { number };
                match what {
                    0 | 1 => prop_assert_eq!(pages.insert(number, value), map.insert(number, value)),
                    _ => prop_assert_eq!(pages.remove(number), map.remove(&number)),
                }
                prop_assert_eq!(pages.get(number), map.get(&number));
                prop_assert_eq!(pages.contains(number / 2), map.contains_key(&(number / 2)));
                prop_assert_eq!((pages.len(), pages.is_empty()), (map.len(), map.is_empty()));
                prop_assert_eq!(pages.first(), map.values().next());
                let some: Vec<_> = pages.from(number).take(5).collect();
                prop_assert_eq!(some, map.range(number..).take(5).map(|(&number, value)| (number, value)).collect::<Vec<_>>());
            }
            prop_assert_eq!(pages.into_values().collect::<Vec<_>>(), map.into_values().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_was_dense_once_takes_little_when_it_is_not() {
        let mut pages = Pages::default();
        assert!((0..6400).all(|number| pages.insert(number, number).is_none()));
        assert!((0..6400).filter(|number| number % PAGE != 5).all(|number| pages.remove(number) == Some(number)));
        assert_eq!(pages.len(), 100);
        assert!(pages.pages.values().all(|page| page.values.capacity() <= 4));
    }
}
