//! When each packet is due.

/// Packets at even distances, the first one at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Packets a second, 1 to 100 million.
    pub(crate) rate: u32,
}

/// Nanoseconds of a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

impl Pace {
    /// When the packet of this number is due, in ns from the beginning. Exact: errors do not add up.
    pub(crate) fn due_ns(self, packet: u64) -> u64 {
        let rate = u64::from(self.rate);
        packet / rate * SECOND_NS + packet % rate * SECOND_NS / rate
    }

    /// Packets that are due before `now_ns`.
    pub(crate) fn due_before(self, now_ns: u64) -> u64 {
        let rate = u64::from(self.rate);
        now_ns / SECOND_NS * rate + (now_ns % SECOND_NS * rate).div_ceil(SECOND_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_due_at_even_distances_for_hours() {
        let pace = Pace { rate: 3 };
        assert_eq!(
            [0, 1, 2, 3, 30_000].map(|packet| pace.due_ns(packet)),
            [0, 333_333_333, 666_666_666, SECOND_NS, 10_000 * SECOND_NS]
        );
    }

    #[test]
    fn what_is_due_is_counted_and_nothing_else() {
        for rate in [1, 3, 1000, 999_999, 100_000_000] {
            let pace = Pace { rate };
            assert_eq!((pace.due_before(0), pace.due_before(1)), (0, 1));
            for packet in [1, 2, 7, 1_000_003] {
                let due = pace.due_ns(packet);
                assert!(pace.due_before(due) <= packet, "{rate} {packet}");
                assert!(pace.due_before(due + 1) > packet, "{rate} {packet}");
            }
            assert_eq!(pace.due_before(3600 * SECOND_NS), 3600 * u64::from(rate));
        }
    }
}
