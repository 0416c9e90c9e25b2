//! Span: the values of a dimension that a filter asks for.

/// Values from `low` to `high`, and the bit of a tuple that has a filter for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) bit: u16,
    /// Not all values that begin with the same bits.
    pub(super) ranged: bool,
    pub(super) low: u32,
    pub(super) high: u32,
}

impl Span {
    /// All that begin with the first `len` bits of `key`.
    pub(super) fn prefix(bit: u16, key: u32, len: u32) -> Span {
        let rest = u32::MAX.checked_shr(len).unwrap_or(0);
        Span { bit, ranged: false, low: key & !rest, high: key | rest }
    }

    /// The 16-bit values `low` to `high`, left-aligned.
    pub(super) fn range(bit: u16, (low, high): (u16, u16)) -> Span {
        Span { bit, ranged: true, low: u32::from(low) << 16, high: u32::from(high) << 16 | 0xffff }
    }

    /// Before all others of `bit`.
    pub(super) fn first_of(bit: u16) -> Span {
        Span { bit, ranged: false, low: 0, high: 0 }
    }

    /// Behind all others of `bit`.
    pub(super) fn last_of(bit: u16) -> Span {
        Span { bit, ranged: true, low: u32::MAX, high: u32::MAX }
    }

    /// Whether all of `first` to `last` are in it.
    pub(super) fn covers(&self, first: u32, last: u32) -> bool {
        self.low <= first && last <= self.high
    }

    /// Whether any of `other` are in it.
    pub(super) fn meets(&self, other: &Span) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}
