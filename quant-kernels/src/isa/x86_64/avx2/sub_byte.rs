//! Codes of at most 4 bits: `vpmaddubsw` with unsigned codes and signed activations.
//!
//! Four rows are written in assembly. Each addition in i16 waits three cycles for its product, and the order of
//! additions matters: the compiler (of Rust 1.95) adds neighbours first, as in a tree, and spills accumulators for
//! it. Measured on one core of a Zen 4, GOP/s of products with 768 inputs: 311 as written here and 300 as compiled;
//! 318 and 307 if a panel is unpacked ahead. (The loops alone: 326 and 346 as written here.) Additions that wait
//! longer, behind the products of further rows, would be 1 % faster.

use super::{Avx2, STEPS, half_line};
use crate::isa::x86_64::ymm::Ymm;
use crate::isa::{Isa, Line};
use core::arch::asm;
use core::arch::x86_64::{__m256i, _mm256_abs_epi8, _mm256_sign_epi8};

// Codes are at most 15 and activations at least -128: the sums of STEPS k-steps fit i16.
const _: () = assert!(STEPS * 2 * 15 * 128 <= i16::MAX as usize);

/// The codes of a k-step, or of two, packed.
type KStep = [[i8; 32]; 2];

impl Isa for Avx2 {
    ymm_isa!();

    type KStep = KStep;

    const KR: usize = 4;
    // 4 rows · 2 vectors = 8 sums in i16, 4 vectors of codes, 2 temporaries, a mask, ones: 16 registers. The i32
    // accumulators are needed once in eight k-steps and stay in memory.
    const MR: usize = 4;
    const GEMV_ROWS: usize = 4;
    const UNSIGNED_BITS: &'static [usize] = &[2, 4];

    #[inline(always)]
    fn lanes(self, step: &KStep, v: usize) -> __m256i {
        self.ymm_codes(&step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Ints) -> Self::Floats {
        self.ymm_byte::<J>(lanes)
    }

    /// Pair sums of eight k-steps are added in i16 before they are widened, which saves the two operations of
    /// widening for all but one of them.
    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[KStep],
    ) {
        for (half, steps) in (first / STEPS..Line::STEPS / STEPS).zip(b.as_chunks().0) {
            if let (Some(sums), Some(a)) = (sums.first_chunk_mut(), a.first_chunk()) {
                self.four_rows(sums, a, half, steps);
            } else {
                let mut pairs = [[self.ymm_zero(); 2]; R];
                for s in 0..STEPS {
                    let codes = [self.ymm_codes(&steps[s][0]), self.ymm_codes(&steps[s][1])];
                    self.add_pairs(&mut pairs, a, half * STEPS + s, codes);
                }
                self.add_wide(sums, &pairs);
            }
        }
    }

    const FROM_ZERO: bool = true;

    #[inline(always)]
    fn accumulate_half<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[KStep; STEPS],
    ) {
        let Some(lines) = a.first_chunk() else { return self.accumulate(sums, a, first, b) };
        let four = self.sums_of_four_rows(lines, first / STEPS, b);
        for r in 0..R {
            sums[r] = four[r % 4];
        }
    }

    #[inline(always)]
    fn accumulate_half_packed<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[KStep; STEPS / 2],
    ) {
        let Some(lines) = a.first_chunk() else { return self.accumulate_packed(sums, a, first, b) };
        let four = self.sums_of_four_rows_packed(lines, first / STEPS, b);
        for r in 0..R {
            sums[r] = four[r % 4];
        }
    }

    // Unpacking takes half as long as the products of one row, and an unpacked panel takes twice the room in the
    // cache: up to eight tiles, unpacking once does not pay.
    const UNPACK_ABOVE: usize = 32;

    /// [`Isa::accumulate`] with four packed k-steps instead of eight.
    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[KStep],
    ) {
        for (half, steps) in (first / STEPS..Line::STEPS / STEPS).zip(b.as_chunks().0) {
            if let (Some(sums), Some(a)) = (sums.first_chunk_mut(), a.first_chunk()) {
                self.four_rows_packed(sums, a, half, steps);
            } else {
                let mut pairs = [[self.ymm_zero(); 2]; R];
                for s in 0..STEPS / 2 {
                    let codes = [self.ymm_halves(&steps[s][0]), self.ymm_halves(&steps[s][1])];
                    for i in 0..2 {
                        let codes = [codes[0][i], codes[1][i]];
                        self.add_pairs(&mut pairs, a, half * STEPS + 2 * s + i, codes);
                    }
                }
                self.add_wide(sums, &pairs);
            }
        }
    }

    /// Magnitudes of `q` times codes with the sign of `q`: two products of at most 127 · 127 fit i16.
    #[inline(always)]
    fn dot_signed(self, sums: __m256i, q: __m256i, k: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        let magnitudes = unsafe { _mm256_abs_epi8(q) };
        // SAFETY: `self` proves AVX2.
        let signed = unsafe { _mm256_sign_epi8(k, q) };
        self.ymm_add_ints(sums, self.wide_pairs(self.pairs(magnitudes, signed), self.ones()))
    }

    #[inline(always)]
    fn split_nibbles(self, packed: __m256i) -> [__m256i; 2] {
        let mask = self.ymm_splat_int(i32::from_ne_bytes([15; 4]));
        [self.ymm_and(packed, mask), self.ymm_and(self.ymm_shift_down::<4>(packed), mask)]
    }

    /// Pair sums of all eight words are added in i16 before they are widened.
    #[inline(always)]
    fn dot_packed(self, sums: __m256i, q: &[i32; 8], packed: &[__m256i; 4]) -> __m256i {
        let mut pairs = self.ymm_zero();
        for i in 0..4 {
            let [low, high] = self.split_nibbles(packed[i]);
            pairs = self.add_i16(pairs, self.pairs(low, self.ymm_splat_int(q[2 * i])));
            pairs = self.add_i16(pairs, self.pairs(high, self.ymm_splat_int(q[2 * i + 1])));
        }
        self.ymm_add_ints(sums, self.wide_pairs(pairs, self.ones()))
    }
}

// In these macros each line is an instruction.

/// Loads two adjacent k-steps into `l` and `h`.
#[rustfmt::skip]
macro_rules! load {
    ($step:tt) => {
        concat!(
            "vmovdqu {l0}, [{b} + 64 * ", $step, "]\n",
            "vmovdqu {l1}, [{b} + 64 * ", $step, " + 32]\n",
            "vmovdqu {h0}, [{b} + 64 * ", $step, " + 64]\n",
            "vmovdqu {h1}, [{b} + 64 * ", $step, " + 96]\n",
        )
    };
}

/// Loads two k-steps that share bytes into `l` and `h`.
#[rustfmt::skip]
macro_rules! unpack {
    ($step:tt) => {
        concat!(
            "vmovdqu {h0}, [{b} + 32 * ", $step, "]\n",
            "vpand {l0}, {h0}, {mask}\n",
            "vpsrlw {h0}, {h0}, 4\n",
            "vpand {h0}, {h0}, {mask}\n",
            "vmovdqu {h1}, [{b} + 32 * ", $step, " + 32]\n",
            "vpand {l1}, {h1}, {mask}\n",
            "vpsrlw {h1}, {h1}, 4\n",
            "vpand {h1}, {h1}, {mask}\n",
        )
    };
}

/// A k-step of one row. The first one is not added to anything.
#[rustfmt::skip]
macro_rules! row {
    ($codes:tt, 0, $row:tt) => {
        concat!(
            "vpbroadcastd {s", $row, "1}, dword ptr [{a} + 64 * ", $row, "]\n",
            "vpmaddubsw {s", $row, "0}, {", $codes, "0}, {s", $row, "1}\n",
            "vpmaddubsw {s", $row, "1}, {", $codes, "1}, {s", $row, "1}\n",
        )
    };
    ($codes:tt, $step:tt, $row:tt) => {
        concat!(
            "vpbroadcastd {t1}, dword ptr [{a} + 64 * ", $row, " + 4 * ", $step, "]\n",
            "vpmaddubsw {t0}, {", $codes, "0}, {t1}\n",
            "vpmaddubsw {t1}, {", $codes, "1}, {t1}\n",
            "vpaddw {s", $row, "0}, {s", $row, "0}, {t0}\n",
            "vpaddw {s", $row, "1}, {s", $row, "1}, {t1}\n",
        )
    };
}

/// A k-step with the codes in `l` or `h`.
#[rustfmt::skip]
macro_rules! step {
    ($codes:tt, $step:tt) => {
        concat!(
            row!($codes, $step, 0),
            row!($codes, $step, 1),
            row!($codes, $step, 2),
            row!($codes, $step, 3),
        )
    };
}

/// Widens the pair sums of a row.
#[rustfmt::skip]
macro_rules! widen {
    ($row:tt) => {
        concat!(
            "vpmaddwd {s", $row, "0}, {s", $row, "0}, {ones}\n",
            "vpmaddwd {s", $row, "1}, {s", $row, "1}, {ones}\n",
        )
    };
}

/// Widens the pair sums of a row and adds them to its accumulators.
#[rustfmt::skip]
macro_rules! widen_and_add {
    ($row:tt) => {
        concat!(
            widen!($row),
            "vpaddd {s", $row, "0}, {s", $row, "0}, [{sums} + 64 * ", $row, "]\n",
            "vpaddd {s", $row, "1}, {s", $row, "1}, [{sums} + 64 * ", $row, " + 32]\n",
            "vmovdqu [{sums} + 64 * ", $row, "], {s", $row, "0}\n",
            "vmovdqu [{sums} + 64 * ", $row, " + 32], {s", $row, "1}\n",
        )
    };
}

/// A function that adds the products of four rows and the k-steps of half a line, loaded by `$codes`.
macro_rules! four_rows {
    ($name:ident, $count:expr, $codes:ident) => {
        #[inline(always)]
        fn $name(
            self,
            sums: &mut [[__m256i; 2]; 4],
            a: &[Line; 4],
            half: usize,
            steps: &[KStep; $count],
        ) {
            // Vectors can be operands only where the function itself enables the instruction set.
            #[target_feature(enable = "avx2")]
            #[inline]
            fn enabled(
                sums: &mut [[__m256i; 2]; 4],
                a: &[Line; 4],
                half: usize,
                steps: &[KStep; $count],
                [mask, ones]: [__m256i; 2],
            ) {
                // SAFETY: the instructions are those of AVX2, which is enabled here. They read all of
                // `steps`, and 32 bytes of each line, 64 bytes from one to the next: see `half_line`.
                // They read and write the 256 bytes of `sums`, and registers that are outputs: no
                // other memory, no stack, no flags.
                unsafe {
                    asm!(
                        $codes!(0), step!("l", 0), step!("h", 1),
                        $codes!(2), step!("l", 2), step!("h", 3),
                        $codes!(4), step!("l", 4), step!("h", 5),
                        $codes!(6), step!("l", 6), step!("h", 7),
                        widen_and_add!(0), widen_and_add!(1), widen_and_add!(2), widen_and_add!(3),
                        "/* {mask} */",
                        sums = in(reg) sums,
                        a = in(reg) half_line(a, half),
                        b = in(reg) steps,
                        mask = in(ymm_reg) mask,
                        ones = in(ymm_reg) ones,
                        s00 = out(ymm_reg) _, s01 = out(ymm_reg) _,
                        s10 = out(ymm_reg) _, s11 = out(ymm_reg) _,
                        s20 = out(ymm_reg) _, s21 = out(ymm_reg) _,
                        s30 = out(ymm_reg) _, s31 = out(ymm_reg) _,
                        l0 = out(ymm_reg) _, l1 = out(ymm_reg) _,
                        h0 = out(ymm_reg) _, h1 = out(ymm_reg) _,
                        t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
                        options(nostack, preserves_flags),
                    );
                }
            }
            // SAFETY: `self` proves AVX2.
            unsafe { enabled(sums, a, half, steps, [self.ymm_splat_int(0x0f0f_0f0f), self.ones()]) }
        }
    };
}

/// As [`four_rows`], for sums from 0, which stay in registers.
macro_rules! sums_of_four_rows {
    ($name:ident, $count:expr, $codes:ident) => {
        #[inline(always)]
        fn $name(self, a: &[Line; 4], half: usize, steps: &[KStep; $count]) -> [[__m256i; 2]; 4] {
            #[target_feature(enable = "avx2")]
            #[inline]
            fn enabled(
                a: &[Line; 4],
                half: usize,
                steps: &[KStep; $count],
                [mask, ones]: [__m256i; 2],
            ) -> [[__m256i; 2]; 4] {
                let (s00, s01, s10, s11, s20, s21, s30, s31);
                // SAFETY: the instructions are those of AVX2, which is enabled here. They read all of
                // `steps`, and 32 bytes of each line, 64 bytes from one to the next: see `half_line`.
                // They write registers that are outputs: no memory, no stack, no flags; results
                // depend on what is read alone.
                unsafe {
                    asm!(
                        $codes!(0), step!("l", 0), step!("h", 1),
                        $codes!(2), step!("l", 2), step!("h", 3),
                        $codes!(4), step!("l", 4), step!("h", 5),
                        $codes!(6), step!("l", 6), step!("h", 7),
                        widen!(0), widen!(1), widen!(2), widen!(3),
                        "/* {mask} */",
                        a = in(reg) half_line(a, half),
                        b = in(reg) steps,
                        mask = in(ymm_reg) mask,
                        ones = in(ymm_reg) ones,
                        s00 = out(ymm_reg) s00, s01 = out(ymm_reg) s01,
                        s10 = out(ymm_reg) s10, s11 = out(ymm_reg) s11,
                        s20 = out(ymm_reg) s20, s21 = out(ymm_reg) s21,
                        s30 = out(ymm_reg) s30, s31 = out(ymm_reg) s31,
                        l0 = out(ymm_reg) _, l1 = out(ymm_reg) _,
                        h0 = out(ymm_reg) _, h1 = out(ymm_reg) _,
                        t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
                        options(pure, readonly, nostack, preserves_flags),
                    );
                }
                [[s00, s01], [s10, s11], [s20, s21], [s30, s31]]
            }
            // SAFETY: `self` proves AVX2.
            unsafe { enabled(a, half, steps, [self.ymm_splat_int(0x0f0f_0f0f), self.ones()]) }
        }
    };
}

impl Avx2 {
    four_rows!(four_rows, STEPS, load);
    four_rows!(four_rows_packed, STEPS / 2, unpack);
    sums_of_four_rows!(sums_of_four_rows, STEPS, load);
    sums_of_four_rows!(sums_of_four_rows_packed, STEPS / 2, unpack);

    /// Adds a k-step of every row, in i16; the first of eight is not added to anything.
    #[inline(always)]
    fn add_pairs<const R: usize>(
        self,
        sums: &mut [[__m256i; 2]; R],
        a: &[Line; R],
        step: usize,
        codes: [__m256i; 2],
    ) {
        for r in 0..R {
            let values = self.ymm_broadcast(a[r].0[step]);
            for v in 0..2 {
                let pair = self.pairs(codes[v], values);
                let first = step.is_multiple_of(STEPS);
                sums[r][v] = if first { pair } else { self.add_i16(sums[r][v], pair) };
            }
        }
    }
}
