//! What the processor does with many values at once, where it can.
//!
//! A search is compiled once for each [`Level`], and each must answer as [`Plain`] does.
#![expect(unsafe_code, reason = "instructions that not every processor has")]

use super::trie::PAIRS;

/// What this processor can.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    Plain,
    #[cfg(all(target_arch = "x86_64", not(feature = "shuttle")))]
    Avx2(x86::Avx2),
    #[cfg(all(target_arch = "x86_64", not(feature = "shuttle")))]
    Avx512(x86::Avx512),
}

/// Comparisons of many values at once.
pub(super) trait Vectors: Copy {
    /// Which of the prefixes `key` begins with, a bit each: `shifts` says how many bits of each do not count, 0 to 31.
    fn prefixes(self, keys: &[u32; PAIRS], shifts: &[u8; PAIRS], key: u32) -> u32;
}

/// One value at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain;

/// Code that is compiled for each level.
pub(super) trait Search {
    fn run(self, vectors: impl Vectors);
}

impl Level {
    pub(super) fn of_this_processor() -> Level {
        #[cfg(all(target_arch = "x86_64", not(feature = "shuttle")))]
        match (x86::Avx512::new(), x86::Avx2::new()) {
            (Some(vectors), _) => return Level::Avx512(vectors),
            (None, Some(vectors)) => return Level::Avx2(vectors),
            (None, None) => {}
        }
        Level::Plain
    }

    /// Runs `search`, compiled for this level.
    #[inline]
    pub(super) fn run(self, search: impl Search) {
        match self {
            Level::Plain => search.run(Plain),
            #[cfg(all(target_arch = "x86_64", not(feature = "shuttle")))]
            Level::Avx2(vectors) => vectors.run(search),
            #[cfg(all(target_arch = "x86_64", not(feature = "shuttle")))]
            Level::Avx512(vectors) => vectors.run(search),
        }
    }
}

impl Vectors for Plain {
    #[inline]
    fn prefixes(self, keys: &[u32; PAIRS], shifts: &[u8; PAIRS], key: u32) -> u32 {
        let same = keys.iter().zip(shifts).map(|(other, shift)| u32::from((other ^ key) >> shift == 0));
        same.enumerate().fold(0, |hits, (i, same)| hits | same << i)
    }
}

#[cfg(all(target_arch = "x86_64", not(feature = "shuttle")))]
mod x86 {
    use std::arch::is_x86_feature_detected as has;
    use std::arch::x86_64::{
        _mm_loadl_epi64, _mm_loadu_si128, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_cvtepu8_epi32,
        _mm256_loadu_si256, _mm256_movemask_ps, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_srlv_epi32,
        _mm256_xor_si256, _mm512_cmpeq_epi32_mask, _mm512_cvtepu8_epi32, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_setzero_si512, _mm512_srlv_epi32, _mm512_xor_si512,
    };

    use super::{PAIRS, Search, Vectors};

    const _: () = assert!(PAIRS == 16, "as many as are compared");

    /// Eight values at a time. It exists only where the processor has AVX2.
    #[derive(Clone, Copy, Debug)]
    pub(in super::super) struct Avx2(());

    /// Sixteen values at a time. It exists only where the processor has AVX-512.
    #[derive(Clone, Copy, Debug)]
    pub(in super::super) struct Avx512(());

    impl Avx2 {
        pub(super) fn new() -> Option<Avx2> {
            let all = has!("avx2") && has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
            all.then_some(Avx2(()))
        }

        pub(super) fn run(self, search: impl Search) {
            #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
            fn run(vectors: Avx2, search: impl Search) {
                search.run(vectors);
            }
            // SAFETY: the processor has all of these, or there would be no `self`.
            unsafe { run(self, search) }
        }
    }

    impl Avx512 {
        pub(super) fn new() -> Option<Avx512> {
            let all = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            (all && Avx2::new().is_some()).then_some(Avx512(()))
        }

        pub(super) fn run(self, search: impl Search) {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
            fn run(vectors: Avx512, search: impl Search) {
                search.run(vectors);
            }
            // SAFETY: the processor has all of these, or there would be no `self`.
            unsafe { run(self, search) }
        }
    }

    impl Vectors for Avx2 {
        #[inline(always)]
        fn prefixes(self, keys: &[u32; PAIRS], shifts: &[u8; PAIRS], key: u32) -> u32 {
            let half = |at: usize| {
                // SAFETY: the processor has AVX2, or there would be no `self`. Eight keys and shifts from `at` on are in the arrays.
                #[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "bits")]
                unsafe {
                    let keys = _mm256_loadu_si256(keys.as_ptr().add(at).cast());
                    let shifts = _mm256_cvtepu8_epi32(_mm_loadl_epi64(shifts.as_ptr().add(at).cast()));
                    let differ = _mm256_srlv_epi32(_mm256_xor_si256(keys, _mm256_set1_epi32(key as i32)), shifts);
                    _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(differ, _mm256_setzero_si256()))) as u32
                }
            };
            half(0) | half(8) << 8
        }
    }

    impl Vectors for Avx512 {
        #[inline(always)]
        fn prefixes(self, keys: &[u32; PAIRS], shifts: &[u8; PAIRS], key: u32) -> u32 {
            // SAFETY: the processor has AVX-512, or there would be no `self`. The arrays have 16 keys and shifts.
            #[expect(clippy::cast_possible_wrap, reason = "bits")]
            unsafe {
                let keys = _mm512_loadu_si512(keys.as_ptr().cast());
                let shifts = _mm512_cvtepu8_epi32(_mm_loadu_si128(shifts.as_ptr().cast()));
                let differ = _mm512_srlv_epi32(_mm512_xor_si512(keys, _mm512_set1_epi32(key as i32)), shifts);
                _mm512_cmpeq_epi32_mask(differ, _mm512_setzero_si512()).into()
            }
        }
    }
}

/// Most lines of memory that are asked for at once.
#[cfg(target_arch = "x86_64")]
const LINES: usize = 4;

/// Asks the processor for the first lines of `value`.
#[inline]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        let at = std::ptr::from_ref(value).cast::<i8>();
        for line in 0..size_of::<T>().div_ceil(64).min(LINES) {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(64 * line));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_answer_as_the_plain_one(
            mut keys in any::<[u32; PAIRS]>(),
            shifts in any::<[u8; PAIRS]>(),
            alike in any::<[bool; PAIRS]>(),
            key: u32,
        ) {
            let shifts = shifts.map(|shift| shift % 32);
            for i in 0..PAIRS {
                keys[i] = (if alike[i] { key } else { keys[i] }) >> shifts[i] << shifts[i];
            }
            let plain = Plain.prefixes(&keys, &shifts, key);
            prop_assert!((0..PAIRS).all(|i| plain >> i & 1 == u32::from((keys[i] ^ key) >> shifts[i] == 0)));
            #[cfg(all(target_arch = "x86_64", not(feature = "shuttle")))]
            {
                if let Some(vectors) = x86::Avx2::new() {
                    prop_assert_eq!(vectors.prefixes(&keys, &shifts, key), plain);
                }
                if let Some(vectors) = x86::Avx512::new() {
                    prop_assert_eq!(vectors.prefixes(&keys, &shifts, key), plain);
                }
            }
        }
    }
}
