//! Prefetch: asks the processor for memory that will be read soon.
#![expect(unsafe_code, reason = "measured: the misses of a burst overlap")]

/// Most lines of memory that are asked for at once.
const LINES: usize = 4;

/// Asks for the first lines of `value`.
#[inline(always)]
pub(crate) fn value<T>(value: &T) {
    let at = std::ptr::from_ref(value).cast::<u8>();
    (0..size_of::<T>().div_ceil(64).min(LINES)).for_each(|number| line(at.wrapping_add(64 * number)));
}

/// Asks for the line at `address`, if there is one.
#[inline(always)]
pub(crate) fn line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
