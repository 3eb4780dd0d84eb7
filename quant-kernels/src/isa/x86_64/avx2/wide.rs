//! 8-bit codes of any value.
//!
//! `vpmaddwd` sums pairs of products of i16 in i32. It cannot overflow, whatever the values, but does half as many
//! products as `vpmaddubsw`. So the product is computed as a Winograd inner product ([`Isa::WINOGRAD`]), which halves
//! the multiplications: three additions, on any of four pipes, and one multiplication, on two, instead of two of
//! each. Sums of bytes fit i16. Accumulators wrap in i32; the final value, after the subtractions, fits.
//!
//! Measured on one core of a Zen 4, GOP/s of the loop alone: 187 with plain products, 215 with those of sums, and 188
//! if codes are widened at each load. That is done for few rows, so that weights take no more memory than in other
//! kernels; for many rows, a panel is widened once.
//!
//! Four rows are written in assembly, several k-steps together: at more than five instructions a cycle, loop control
//! counts, and the compiler (of Rust 1.95) turns an unrolled loop into trees of additions that exceed the registers:
//! 154 GOP/s at 512³ instead of 182.

use super::{Avx2, STEPS, half_line};
use crate::isa::x86_64::ymm::Ymm;
use crate::isa::{Isa, Line};
use bytemuck::Pod;
use core::arch::asm;
use core::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_cvtepi8_epi16, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_shuffle_epi32, _mm256_srai_epi32,
};
use core::marker::PhantomData;

/// AVX2 with products of i16. A k-step is two values of a row, as stored or widened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2Wide<C>(Avx2, PhantomData<C>);

// SAFETY: a value holds one of `Avx2`, which proves AVX2, FMA and F16C.
unsafe impl<C: Code> Ymm for Avx2Wide<C> {}

impl<C: Code> Avx2Wide<C> {
    /// For each lane of two i16 the sum of their products with those of the neighbouring lane.
    #[inline(always)]
    fn neighbours(self, lanes: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        let neighbours = unsafe { _mm256_shuffle_epi32::<0b10_11_00_01>(lanes) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_madd_epi16(lanes, neighbours) }
    }
}

/// The codes of a k-step.
type KStep<C> = [[C; 16]; 2];

// In these macros each line is an instruction.

/// Two k-steps of four rows, whose codes are loaded by `$load`, `$bytes` to a vector.
#[rustfmt::skip]
macro_rules! two_steps {
    ($load:tt, $bytes:tt, $step:tt) => {
        concat!(
            $load, " {c0}, [{b} + 2 * ", $bytes, " * ", $step, "]\n",
            $load, " {c1}, [{b} + 2 * ", $bytes, " * ", $step, " + ", $bytes, "]\n",
            $load, " {d0}, [{b} + 2 * ", $bytes, " * ", $step, " + 2 * ", $bytes, "]\n",
            $load, " {d1}, [{b} + 2 * ", $bytes, " * ", $step, " + 3 * ", $bytes, "]\n",
            row!($step, 0),
            row!($step, 1),
            row!($step, 2),
            row!($step, 3),
        )
    };
}

/// Two k-steps of one row.
#[rustfmt::skip]
macro_rules! row {
    ($step:tt, $row:tt) => {
        concat!(
            "vpbroadcastd {x1}, dword ptr [{a} + 64 * ", $row, " + 4 * ", $step, "]\n",
            "vpbroadcastd {y1}, dword ptr [{a} + 64 * ", $row, " + 4 * ", $step, " + 4]\n",
            "vpaddw {x0}, {x1}, {d0}\n",
            "vpaddw {y0}, {y1}, {c0}\n",
            "vpmaddwd {x0}, {x0}, {y0}\n",
            "vpaddd {s", $row, "0}, {s", $row, "0}, {x0}\n",
            "vpaddw {x1}, {x1}, {d1}\n",
            "vpaddw {y1}, {y1}, {c1}\n",
            "vpmaddwd {x1}, {x1}, {y1}\n",
            "vpaddd {s", $row, "1}, {s", $row, "1}, {x1}\n",
        )
    };
}

/// [`Code::four_rows`] for codes that `$load` loads as i16, `$bytes` to a vector.
macro_rules! four_rows {
    ($load:tt, $bytes:tt) => {
        #[inline(always)]
        fn four_rows(
            _: Avx2,
            sums: &mut [[__m256i; 2]; 4],
            a: &[Line; 4],
            half: usize,
            steps: &[KStep<Self>; STEPS],
        ) {
            // Vectors can be operands only where the function itself enables the instruction set.
            #[target_feature(enable = "avx2")]
            #[inline]
            fn enabled<C>(
                sums: &mut [[__m256i; 2]; 4],
                a: &[Line; 4],
                half: usize,
                steps: &[KStep<C>; STEPS],
            ) {
                const { assert!(32 * size_of::<C>() == 2 * $bytes) };
                let [[s00, s01], [s10, s11], [s20, s21], [s30, s31]] = sums;
                // SAFETY: the instructions are those of AVX2, which is enabled here. They read all of
                // `steps`, and 32 bytes of each line, 64 bytes from one to the next: see `half_line`.
                // They write registers that are outputs: no memory, no stack, no flags; results
                // depend on what is read alone.
                unsafe {
                    asm!(
                        two_steps!($load, $bytes, 0),
                        two_steps!($load, $bytes, 2),
                        two_steps!($load, $bytes, 4),
                        two_steps!($load, $bytes, 6),
                        a = in(reg) half_line(a, half),
                        b = in(reg) steps,
                        s00 = inout(ymm_reg) *s00, s01 = inout(ymm_reg) *s01,
                        s10 = inout(ymm_reg) *s10, s11 = inout(ymm_reg) *s11,
                        s20 = inout(ymm_reg) *s20, s21 = inout(ymm_reg) *s21,
                        s30 = inout(ymm_reg) *s30, s31 = inout(ymm_reg) *s31,
                        c0 = out(ymm_reg) _, c1 = out(ymm_reg) _,
                        d0 = out(ymm_reg) _, d1 = out(ymm_reg) _,
                        x0 = out(ymm_reg) _, x1 = out(ymm_reg) _,
                        y0 = out(ymm_reg) _, y1 = out(ymm_reg) _,
                        options(pure, readonly, nostack, preserves_flags),
                    );
                }
            }
            // SAFETY: the argument proves AVX2.
            unsafe { enabled(sums, a, half, steps) }
        }
    };
}

/// The type of codes in a k-step.
pub(crate) trait Code: Pod + Send + Sync {
    /// Loads codes as i16.
    fn widen(isa: Avx2, from: &[Self; 16]) -> __m256i;

    /// Adds the products of four rows and the k-steps of half a line.
    fn four_rows(
        isa: Avx2,
        sums: &mut [[__m256i; 2]; 4],
        a: &[Line; 4],
        half: usize,
        steps: &[KStep<Self>; STEPS],
    );
}

impl Code for i8 {
    #[inline(always)]
    fn widen(_: Avx2, from: &[Self; 16]) -> __m256i {
        // SAFETY: AVX2 implies SSE2; the reference is to the 16 bytes that are read.
        let codes = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
        // SAFETY: the argument proves AVX2.
        unsafe { _mm256_cvtepi8_epi16(codes) }
    }

    four_rows!("vpmovsxbw", 16);
}

impl Code for i16 {
    #[inline(always)]
    fn widen(_: Avx2, from: &[Self; 16]) -> __m256i {
        // SAFETY: the argument proves AVX2; the reference is to the 32 bytes that are read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    four_rows!("vmovdqu", 32);
}

impl<C: Code> Avx2Wide<C> {
    pub(super) const fn new(avx2: Avx2) -> Self {
        Self(avx2, PhantomData)
    }

    /// The low half of each lane, by a multiplication that drops the high half; two shifts would do the same.
    #[inline(always)]
    fn low(self, lanes: __m256i) -> __m256i {
        self.0.wide_pairs(lanes, self.ymm_splat_int(1))
    }

    #[inline(always)]
    fn high(self, lanes: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_srai_epi32::<16>(lanes) }
    }

    #[inline(always)]
    fn widen(self, from: &KStep<C>) -> [__m256i; 2] {
        [C::widen(self.0, &from[0]), C::widen(self.0, &from[1])]
    }
}

impl<C: Code> Isa for Avx2Wide<C> {
    ymm_isa!();

    type KStep = KStep<C>;

    const KR: usize = 2;
    // 4 rows · 2 vectors = 8 accumulators, 4 vectors of codes, 2 broadcasts, 2 temporaries: 16 registers.
    const MR: usize = 4;
    const GEMV_ROWS: usize = 4;
    const GROUP: usize = 2;
    const WINOGRAD: bool = true;
    const WIDEN_ABOVE: usize = 32;

    /// Written with intrinsics: the compiler would combine the words with the instructions that computed them, one by
    /// one, which takes ten times as many.
    #[inline(always)]
    fn neighbour_products(self, line: &Line) -> i32 {
        let lanes: &[[i32; 8]; 2] = bytemuck::cast_ref(line);
        let first = self.neighbours(self.ymm_load_ints(&lanes[0]));
        let second = self.neighbours(self.ymm_load_ints(&lanes[1]));
        let mut sums = [0; 8];
        self.ymm_store_ints(self.ymm_add_ints(first, second), &mut sums);
        let mut sum = 0;
        for lane in sums {
            sum += lane;
        }
        // Each pair of k-steps has been counted twice.
        sum / 2
    }

    #[inline(always)]
    fn lanes(self, step: &KStep<C>, v: usize) -> __m256i {
        C::widen(self.0, &step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Ints) -> Self::Floats {
        // Each lane holds two codes as i16.
        let code = if J == 0 { self.low(lanes) } else { self.high(lanes) };
        self.ymm_to_floats(code)
    }

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[KStep<C>],
    ) {
        let mut done = 0;
        if let (Some(sums), Some(a)) = (sums.first_chunk_mut(), a.first_chunk()) {
            for (half, steps) in (first / STEPS..Line::STEPS / STEPS).zip(b.as_chunks().0) {
                C::four_rows(self.0, sums, a, half, steps);
                done += STEPS / 2;
            }
        }
        let (start, pairs) = (first / 2, b.as_chunks().0);
        for s in start + done..(start + pairs.len()).min(Line::STEPS / 2) {
            let [first, second] = &pairs[s - start];
            let (first, second) = (self.widen(first), self.widen(second));
            for r in 0..R {
                let values =
                    [self.ymm_broadcast(a[r].0[2 * s]), self.ymm_broadcast(a[r].0[2 * s + 1])];
                for v in 0..2 {
                    let a = self.0.add_i16(values[0], second[v]);
                    let b = self.0.add_i16(values[1], first[v]);
                    sums[r][v] = self.ymm_add_ints(sums[r][v], self.0.wide_pairs(a, b));
                }
            }
        }
    }
}
