//! Which packets of a flow have come: exact, and small as long as few are missing.

use std::ops::Range;

/// Numbers of one flow's packets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    sent: u32,
    /// All below have come, but for the gaps.
    next: u32,
    /// In order, none empty, none touching another.
    gaps: Vec<Range<u32>>,
}

/// What a packet that comes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coming {
    /// Behind all that came before.
    InOrder,
    /// Overtaken by another one.
    Late,
    /// Here already.
    Again,
    /// Never sent.
    Unsent,
}

impl Ledger {
    /// The next packet was sent.
    pub(crate) fn send(&mut self) {
        self.sent += 1;
    }

    /// The packet of this number came.
    pub(crate) fn come(&mut self, sequence: u32) -> Coming {
        if sequence >= self.sent {
            return Coming::Unsent;
        }
        if sequence >= self.next {
            if sequence > self.next {
                self.gaps.push(self.next..sequence);
            }
            self.next = sequence + 1;
            return Coming::InOrder;
        }
        let behind = self.gaps.partition_point(|gap| gap.start <= sequence);
        let Some(place) = behind.checked_sub(1).filter(|&place| self.gaps[place].contains(&sequence)) else {
            return Coming::Again;
        };
        let Range { start, end } = self.gaps[place].clone();
        let left = [start..sequence, sequence + 1..end];
        self.gaps.splice(place..=place, left.into_iter().filter(|gap| !gap.is_empty()));
        Coming::Late
    }

    /// Numbers of packets that were sent and have not come.
    pub(crate) fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        self.gaps.iter().cloned().flatten().chain(self.next..self.sent)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ledger(sent: u32) -> Ledger {
        let mut ledger = Ledger::default();
        (0..sent).for_each(|_| ledger.send());
        ledger
    }

    #[test]
    fn packets_in_order_are_in_order() {
        let mut ledger = ledger(3);
        assert_eq!([0, 1, 2].map(|number| ledger.come(number)), [Coming::InOrder; 3]);
        assert_eq!(ledger.missing().count(), 0);
    }

    #[test]
    fn one_that_was_overtaken_is_late_and_not_missing() {
        let mut ledger = ledger(4);
        assert_eq!(
            [2, 0, 1, 3].map(|number| ledger.come(number)),
            [Coming::InOrder, Coming::Late, Coming::Late, Coming::InOrder]
        );
        assert_eq!(ledger.missing().count(), 0);
    }

    #[test]
    fn one_that_comes_twice_came_again() {
        let mut ledger = ledger(4);
        assert_eq!(
            [0, 0, 2, 2, 1, 1].map(|number| ledger.come(number)),
            [Coming::InOrder, Coming::Again, Coming::InOrder, Coming::Again, Coming::Late, Coming::Again]
        );
        assert!(ledger.missing().eq([3]));
    }

    #[test]
    fn one_that_was_never_sent_is_none() {
        assert_eq!(ledger(4).come(4), Coming::Unsent);
    }

    #[test]
    fn any_order_is_understood_as_by_a_set() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let (mut ledger, mut here, mut last) = (ledger(60), HashSet::new(), None);
            for _ in 0..rng.u32(..100) {
                let number = rng.u32(..60);
                let wanted = match here.insert(number) {
                    false => Coming::Again,
                    true if last.is_none_or(|last| number > last) => Coming::InOrder,
                    true => Coming::Late,
                };
                last = last.max(Some(number));
                assert_eq!(ledger.come(number), wanted);
            }
            assert!(ledger.missing().eq((0..60).filter(|number| !here.contains(number))));
        }
    }
}
