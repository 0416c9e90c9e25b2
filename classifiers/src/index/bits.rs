//! Bits: sets of tuples, as wide as one search can carry along.

use super::shared::Target;

/// Words of a set.
pub(super) const LANES: usize = 8;

/// Bits of a set. Of more tuples than this, several share a bit.
pub(super) const BITS: usize = LANES * 64;

/// A set of tuples.
pub(super) type Bits = [u64; LANES];

/// A set that searches read, in one line of memory.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Set(pub(super) Bits);

impl Target for Set {}

/// Puts `bit` in.
pub(super) fn put(bits: &mut Bits, bit: u16) {
    bits[usize::from(bit) / 64] |= 1 << (bit % 64);
}

/// Takes `bit` out.
pub(super) fn take(bits: &mut Bits, bit: u16) {
    bits[usize::from(bit) / 64] &= !(1 << (bit % 64));
}

/// The set of `bit`, or of nothing: without a branch.
#[inline(always)]
pub(super) fn one(bit: u16, there: bool) -> Bits {
    let word = u64::from(there) << (bit % 64);
    std::array::from_fn(|lane| if lane == usize::from(bit) / 64 { word } else { 0 })
}
