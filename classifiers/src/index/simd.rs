//! What the processor does with many values at once, where it can.
//!
//! A search is compiled once for each [`Level`], and each must answer as [`Plain`] does.

use super::bits::Bits;
use super::node::BOUNDS;

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
    /// How many of `values` are less than `key`.
    fn below(self, values: &[u32; BOUNDS], key: u32) -> u32;

    /// Which words of `bits` are not 0, a bit each.
    fn lanes<const W: usize>(self, bits: &[u64; W]) -> u32;

    /// Adds the first words of `others` to `bits`.
    #[inline(always)]
    fn unite<const W: usize>(self, bits: &mut [u64; W], others: &Bits) {
        (0..W).for_each(|lane| bits[lane] |= others[lane]);
    }

    /// Leaves those of `bits` that are in `others`.
    #[inline(always)]
    fn intersect<const W: usize>(self, bits: &mut [u64; W], others: &[u64; W]) {
        (0..W).for_each(|lane| bits[lane] &= others[lane]);
    }
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
    fn below(self, values: &[u32; BOUNDS], key: u32) -> u32 {
        values.iter().map(|value| u32::from(*value < key)).sum()
    }

    #[inline]
    fn lanes<const W: usize>(self, bits: &[u64; W]) -> u32 {
        (0..W).fold(0, |lanes, lane| lanes | u32::from(bits[lane] != 0) << lane)
    }
}

#[cfg(all(target_arch = "x86_64", not(feature = "shuttle")))]
#[expect(unsafe_code, reason = "instructions that not every processor has")]
mod x86 {
    use std::arch::is_x86_feature_detected as has;
    use std::arch::x86_64::{
        __m512i, _mm256_castsi256_pd, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_cmpeq_epi64, _mm256_loadu_si256,
        _mm256_max_epu32, _mm256_movemask_pd, _mm256_movemask_ps, _mm256_set1_epi32, _mm256_setzero_si256,
        _mm512_and_si512, _mm512_cmplt_epu32_mask, _mm512_loadu_si512, _mm512_or_si512, _mm512_set1_epi32,
        _mm512_storeu_si512, _mm512_test_epi64_mask,
    };

    use super::{BOUNDS, Bits, Search, Vectors};

    const _: () = assert!(BOUNDS.is_multiple_of(16), "as many as are compared at once");

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
        fn below(self, values: &[u32; BOUNDS], key: u32) -> u32 {
            let mut below = 0;
            for values in values.as_chunks::<8>().0 {
                // SAFETY: the processor has AVX2, or there would be no `self`. The chunk has eight values.
                #[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "bits")]
                let same = unsafe {
                    let values = _mm256_loadu_si256(values.as_ptr().cast());
                    let greater = _mm256_max_epu32(values, _mm256_set1_epi32(key as i32));
                    _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(greater, values))) as u32
                };
                below += (same ^ 0xff).count_ones();
            }
            below
        }

        #[inline(always)]
        fn lanes<const W: usize>(self, bits: &[u64; W]) -> u32 {
            let mut zeros = 0;
            for at in (0..W).step_by(4) {
                // SAFETY: as above, with four words.
                #[expect(clippy::cast_sign_loss, reason = "bits")]
                let zero = unsafe {
                    let words = _mm256_loadu_si256(bits[at..at + 4].as_ptr().cast());
                    _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(words, _mm256_setzero_si256()))) as u32
                };
                zeros |= zero << at;
            }
            zeros ^ ((1 << W) - 1)
        }
    }

    /// Eight words of `bits` from `at` on. Only where the processor has AVX-512.
    #[inline(always)]
    fn load(bits: &[u64], at: usize) -> __m512i {
        // SAFETY: only where the processor has AVX-512. The slice has eight words.
        unsafe { _mm512_loadu_si512(bits[at..at + 8].as_ptr().cast()) }
    }

    /// The reverse.
    #[inline(always)]
    fn store(bits: &mut [u64], at: usize, words: __m512i) {
        // SAFETY: only where the processor has AVX-512. The slice has eight words.
        unsafe { _mm512_storeu_si512(bits[at..at + 8].as_mut_ptr().cast(), words) };
    }

    impl Vectors for Avx512 {
        #[inline(always)]
        fn below(self, values: &[u32; BOUNDS], key: u32) -> u32 {
            let mut below = 0;
            for values in values.as_chunks::<16>().0 {
                // SAFETY: the processor has AVX-512, or there would be no `self`. The chunk has 16 values.
                #[expect(clippy::cast_possible_wrap, reason = "bits")]
                let less = unsafe {
                    let values = _mm512_loadu_si512(values.as_ptr().cast());
                    _mm512_cmplt_epu32_mask(values, _mm512_set1_epi32(key as i32))
                };
                below += less.count_ones();
            }
            below
        }

        #[inline(always)]
        fn lanes<const W: usize>(self, bits: &[u64; W]) -> u32 {
            let mut lanes = 0;
            for at in (0..W).step_by(8) {
                let words = load(bits, at);
                // SAFETY: the processor has AVX-512, or there would be no `self`.
                lanes |= u32::from(unsafe { _mm512_test_epi64_mask(words, words) }) << at;
            }
            lanes
        }

        #[inline(always)]
        fn unite<const W: usize>(self, bits: &mut [u64; W], others: &Bits) {
            for at in (0..W).step_by(8) {
                let (these, those) = (load(bits, at), load(others, at));
                // SAFETY: the processor has AVX-512, or there would be no `self`.
                store(bits, at, unsafe { _mm512_or_si512(these, those) });
            }
        }

        #[inline(always)]
        fn intersect<const W: usize>(self, bits: &mut [u64; W], others: &[u64; W]) {
            for at in (0..W).step_by(8) {
                let (these, those) = (load(bits, at), load(others, at));
                // SAFETY: the processor has AVX-512, or there would be no `self`.
                store(bits, at, unsafe { _mm512_and_si512(these, those) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bits::{LANES, NARROW};
    use super::*;

    /// What vectors make of values, and of narrow and wide sets.
    type Answers = (u32, (u32, [u64; NARROW], [u64; NARROW]), (u32, Bits, Bits));

    fn answers(vectors: impl Vectors, values: &[u32; BOUNDS], key: u32, a: &Bits, b: &Bits) -> Answers {
        fn sets<const W: usize>(vectors: impl Vectors, a: &Bits, b: &Bits) -> (u32, [u64; W], [u64; W]) {
            let [a, part] = [a, b].map(|bits| std::array::from_fn(|lane| bits[lane]));
            let (mut both, mut common) = (a, a);
            vectors.unite(&mut both, b);
            vectors.intersect(&mut common, &part);
            (vectors.lanes(&a), both, common)
        }
        (vectors.below(values, key), sets::<NARROW>(vectors, a, b), sets::<LANES>(vectors, a, b))
    }

    proptest! {
        #[test]
        fn all_answer_as_the_plain_one(
            mut values in any::<[u32; BOUNDS]>(),
            alike in any::<[bool; BOUNDS]>(),
            key in prop_oneof![any::<u32>(), Just(0), Just(u32::MAX)],
            a in any::<[Option<u64>; LANES]>(),
            b in any::<Bits>(),
        ) {
            for i in 0..BOUNDS {
                values[i] = if alike[i] { key } else { values[i] };
            }
            let a = a.map(Option::unwrap_or_default);
            prop_assert_eq!(Plain.below(&values, key) as usize, values.iter().filter(|value| **value < key).count());
            prop_assert!((0..LANES).all(|lane| Plain.lanes(&a) >> lane & 1 == u32::from(a[lane] != 0)));
            #[cfg(all(target_arch = "x86_64", not(feature = "shuttle")))]
            {
                let plain = answers(Plain, &values, key, &a, &b);
                if let Some(vectors) = x86::Avx2::new() {
                    prop_assert_eq!(&answers(vectors, &values, key, &a, &b), &plain);
                }
                if let Some(vectors) = x86::Avx512::new() {
                    prop_assert_eq!(&answers(vectors, &values, key, &a, &b), &plain);
                }
            }
        }
    }
}
