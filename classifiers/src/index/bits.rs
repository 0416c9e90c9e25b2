//! Bits: sets of tuples, as wide as one search can carry along.

/// Words of a set.
pub(super) const LANES: usize = 16;

/// Words that are enough for most indexes: what goes along with a search is half as much then.
pub(super) const NARROW: usize = 8;

/// Bits of a set. Of more tuples than this, several share a bit.
pub(super) const BITS: usize = LANES * 64;

/// A set of tuples.
pub(super) type Bits = [u64; LANES];

/// Puts `bit` in.
pub(super) fn put(bits: &mut Bits, bit: u16) {
    bits[usize::from(bit) / 64] |= 1 << (bit % 64);
}

/// Takes `bit` out.
pub(super) fn take(bits: &mut Bits, bit: u16) {
    bits[usize::from(bit) / 64] &= !(1 << (bit % 64));
}
