//! The operations on 256-bit vectors that several kernels share.

use crate::isa::{QUANTIZE_LANES, Reciprocal, nibble_at};
use core::arch::x86_64::*;

/// The union of the exponent bits of `2^23`, `2^19`, `2^15` and `2^11`, in place.
const NIBBLE_EXPONENTS: i32 = ((127 + 23) | (127 + 19) | (127 + 15) | (127 + 11)) << 23;

/// An instruction set with AVX2, FMA and F16C.
///
/// # Safety
/// A value of an implementing type exists only where the CPU has AVX2, FMA and F16C.
pub(super) unsafe trait Ymm: Copy {
    #[inline(always)]
    fn ymm_zero(self) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn ymm_codes(self, from: &[i8; 32]) -> __m256i {
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn ymm_bytes(self, from: &[u8; 32]) -> __m256i {
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    /// The low nibbles of bytes, and the high ones.
    #[inline(always)]
    fn ymm_halves(self, from: &[i8; 32]) -> [__m256i; 2] {
        let packed = self.ymm_codes(from);
        // SAFETY: `self` proves AVX2.
        let high = unsafe { _mm256_srli_epi16::<4>(packed) };
        // SAFETY: `self` proves AVX2.
        let mask = unsafe { _mm256_set1_epi8(15) };
        [self.ymm_and(packed, mask), self.ymm_and(high, mask)]
    }

    #[inline(always)]
    fn ymm_broadcast(self, values: u32) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_epi32(values as i32) }
    }

    /// The code in byte `J` of each lane, as a float.
    ///
    /// The low 23 bits of a float from `2^23` to `2^24` are the number minus `2^23`. So with the exponent of such a
    /// float, and with its sign bit flipped, the lowest byte becomes the float `2^23 + 128 + code`; so does the
    /// second byte with an exponent that is smaller by 8. The upper bytes would reach into the exponent.
    #[inline(always)]
    fn ymm_byte<const J: usize>(self, lanes: __m256i) -> __m256 {
        match J {
            0 | 1 => {
                let exponent = 23 - 8 * J as i32;
                let byte = self.ymm_and(lanes, self.ymm_splat_int(255 << (8 * J)));
                let float = self.ymm_xor(byte, (exponent + 127) << 23 | 128 << (8 * J));
                self.ymm_sub(float, self.ymm_splat(((1 << exponent) + 128) as f32))
            }
            2 => self.ymm_to_floats(self.ymm_top_byte(self.ymm_shift_up::<8>(lanes))),
            _ => self.ymm_to_floats(self.ymm_top_byte(lanes)),
        }
    }

    /// [`Isa::nibbles`](crate::isa::Isa::nibbles): what is subtracted in [`Ymm::ymm_nibble`] for each place of a code
    /// in half a lane.
    #[inline(always)]
    fn ymm_nibbles(self, zero: f32) -> [__m256; 4] {
        [
            self.ymm_splat((1 << 23) as f32 + zero),
            self.ymm_splat((1 << 19) as f32 + zero),
            self.ymm_splat((1 << 15) as f32 + zero),
            self.ymm_splat((1 << 11) as f32 + zero),
        ]
    }

    /// Value `J` of a packed k-step of 4-bit codes, as a float: as in [`Ymm::ymm_byte`], with the exponent that makes
    /// the lowest bit of the code worth 1.
    ///
    /// Half a lane has four codes. All bits that occur in the exponents of the four are set above them at once; the
    /// mask that selects a code also selects its own exponent.
    #[inline(always)]
    fn ymm_nibble<const J: usize>(self, lanes: __m256i, of: [__m256; 4]) -> __m256 {
        let (half, at) = (nibble_at(J) / 4, 4 * (nibble_at(J) % 4) as i32);
        let codes = if half == 0 { lanes } else { self.ymm_shift_down::<16>(lanes) };
        let codes = self.ymm_below(codes, self.ymm_splat_int(NIBBLE_EXPONENTS));
        let exponent = 23 - at;
        let mask = (exponent + 127) << 23 | 15 << at;
        let float = self.ymm_as_floats(self.ymm_and(codes, self.ymm_splat_int(mask)));
        self.ymm_sub(float, of[nibble_at(J) % 4])
    }

    /// The low half of each lane of `low`, with the high half of `high`.
    #[inline(always)]
    fn ymm_below(self, low: __m256i, high: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_blend_epi16::<0b1010_1010>(low, high) }
    }

    #[inline(always)]
    fn ymm_as_floats(self, lanes: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_castsi256_ps(lanes) }
    }

    #[inline(always)]
    fn ymm_and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_and_si256(a, b) }
    }

    /// Flips some bits of each lane and reads it as a float.
    #[inline(always)]
    fn ymm_xor(self, lanes: __m256i, bits: i32) -> __m256 {
        self.ymm_as_floats(self.ymm_flip(lanes, bits))
    }

    /// Flips some bits of each lane.
    #[inline(always)]
    fn ymm_flip(self, lanes: __m256i, bits: i32) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_xor_si256(lanes, self.ymm_splat_int(bits)) }
    }

    #[inline(always)]
    fn ymm_shift_up<const BITS: i32>(self, lanes: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_slli_epi32::<BITS>(lanes) }
    }

    #[inline(always)]
    fn ymm_shift_down<const BITS: i32>(self, lanes: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_srli_epi32::<BITS>(lanes) }
    }

    /// The highest byte of each lane, signed.
    #[inline(always)]
    fn ymm_top_byte(self, lanes: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_srai_epi32::<24>(lanes) }
    }

    #[inline(always)]
    fn ymm_sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn ymm_splat_int(self, value: i32) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_epi32(value) }
    }

    #[inline(always)]
    fn ymm_load_ints(self, from: &[i32]) -> __m256i {
        let from: &[i32; 8] = from.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn ymm_load_bytes(self, from: &[u8]) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepi8_epi32(super::load_8(from)) }
    }

    #[inline(always)]
    fn ymm_load_unsigned(self, from: &[u8]) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepu8_epi32(super::load_8(from)) }
    }

    #[inline(always)]
    fn ymm_load_halves(self, from: &[u16]) -> __m256 {
        // SAFETY: `self` proves F16C.
        unsafe { _mm256_cvtph_ps(super::load_16(bytemuck::cast_slice(from))) }
    }

    #[inline(always)]
    fn ymm_store_ints(self, sums: __m256i, out: &mut [i32]) {
        let out: &mut [i32; 8] = out.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) }
    }

    #[inline(always)]
    fn ymm_add_ints(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    fn ymm_subtract_product(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        let product = unsafe { _mm256_mullo_epi32(a, b) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_sub_epi32(sum, product) }
    }

    #[inline(always)]
    fn ymm_to_floats(self, sums: __m256i) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtepi32_ps(sums) }
    }

    #[inline(always)]
    fn ymm_splat(self, value: f32) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    fn ymm_load(self, from: &[f32]) -> __m256 {
        let from: &[f32; 8] = from.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are read.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn ymm_store(self, floats: __m256, out: &mut [f32]) {
        let out: &mut [f32; 8] = out.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are written.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), floats) }
    }

    #[inline(always)]
    fn ymm_add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn ymm_mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn ymm_div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn ymm_bits_of(self, floats: __m256) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_castps_si256(floats) }
    }

    #[inline(always)]
    fn ymm_sub_ints(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_sub_epi32(a, b) }
    }

    #[inline(always)]
    fn ymm_half(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_srai_epi32::<1>(a) }
    }

    #[inline(always)]
    fn ymm_power_of_two(self, n: __m256i) -> __m256 {
        let biased = self.ymm_add_ints(n, self.ymm_splat_int(127));
        self.ymm_as_floats(self.ymm_shift_up::<23>(biased))
    }

    #[inline(always)]
    fn ymm_max(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_max_epi32(a, b) }
    }

    #[inline(always)]
    fn ymm_max_unsigned(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_max_epu32(a, b) }
    }

    /// [`Isa::quantize`](crate::isa::Isa::quantize). Packing saturates, which clamps. Values too small for i32
    /// become its minimum; values too large are clamped before.
    #[inline(always)]
    fn ymm_quantize(
        self,
        by: Reciprocal,
        values: &[f32; QUANTIZE_LANES],
        codes: &mut [u8; QUANTIZE_LANES],
    ) -> bool {
        let (inverse, limit) = (self.ymm_splat(by.inverse), self.ymm_splat(512.0));
        let [mut quotients, mut distances] = [[self.ymm_splat(0.0); 4]; 2];
        let mut rounded = [self.ymm_zero(); 4];
        for (i, values) in values.as_chunks::<8>().0.iter().enumerate() {
            quotients[i] = self.ymm_least(self.ymm_mul(self.ymm_load(values), inverse), limit);
            rounded[i] = self.ymm_round(quotients[i]);
            let nearest = self.ymm_to_floats(rounded[i]);
            distances[i] = self.ymm_size(self.ymm_sub(quotients[i], nearest));
        }
        let low = self.ymm_pack(rounded[0], rounded[1], by.zero_point);
        let high = self.ymm_pack(rounded[2], rounded[3], by.zero_point);
        self.ymm_store_codes(low, high, by.range, codes);
        let [a, b, c, d] = distances;
        let farthest = self.ymm_greatest(self.ymm_greatest(a, b), self.ymm_greatest(c, d));
        self.ymm_any_at_least(farthest, by.near_tie)
    }

    /// `a` if it is less than `b`, else `b`, also for NaN.
    #[inline(always)]
    fn ymm_least(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn ymm_greatest(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_max_ps(a, b) }
    }

    /// Rounds to the nearest integer, ties to even.
    #[inline(always)]
    fn ymm_round(self, a: __m256) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtps_epi32(a) }
    }

    /// The magnitude.
    #[inline(always)]
    fn ymm_size(self, a: __m256) -> __m256 {
        let mask = self.ymm_as_floats(self.ymm_splat_int(i32::MAX));
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_and_ps(a, mask) }
    }

    /// Packs to i16 and adds a number; the halves of both vectors alternate.
    #[inline(always)]
    fn ymm_pack(self, a: __m256i, b: __m256i, zero_point: i16) -> __m256i {
        // SAFETY: `self` proves AVX2.
        let packed = unsafe { _mm256_packs_epi32(a, b) };
        // SAFETY: `self` proves AVX2.
        let zero_point = unsafe { _mm256_set1_epi16(zero_point) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_adds_epi16(packed, zero_point) }
    }

    /// Stores two packed vectors as bytes, clamped to a range.
    #[inline(always)]
    fn ymm_store_codes(self, low: __m256i, high: __m256i, range: (u8, u8), to: &mut [u8; 32]) {
        // SAFETY: `self` proves AVX2.
        let packed = unsafe { _mm256_packus_epi16(low, high) };
        // Groups of four bytes: those of both halves alternate.
        let order = self.ymm_load_ints(&[0, 4, 1, 5, 2, 6, 3, 7]);
        // SAFETY: `self` proves AVX2.
        let codes = unsafe { _mm256_permutevar8x32_epi32(packed, order) };
        // SAFETY: `self` proves AVX2.
        let qmin = unsafe { _mm256_set1_epi8(range.0 as i8) };
        // SAFETY: `self` proves AVX2.
        let qmax = unsafe { _mm256_set1_epi8(range.1 as i8) };
        let codes = self.ymm_clamp(codes, qmin, qmax);
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), codes) }
    }

    /// Clamps unsigned bytes.
    #[inline(always)]
    fn ymm_clamp(self, codes: __m256i, least: __m256i, greatest: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        let codes = unsafe { _mm256_max_epu8(codes, least) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_min_epu8(codes, greatest) }
    }

    #[inline(always)]
    fn ymm_any_at_least(self, a: __m256, b: f32) -> bool {
        // SAFETY: `self` proves AVX2. A NaN is not less than anything.
        let lanes = unsafe { _mm256_cmp_ps::<_CMP_NLT_UQ>(a, self.ymm_splat(b)) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_movemask_ps(lanes) != 0 }
    }

    #[inline(always)]
    fn ymm_fused(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn ymm_relu(self, a: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        let zero = unsafe { _mm256_setzero_ps() };
        // The second operand is the result for NaN and for two zeros.
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_max_ps(a, zero) }
    }
}

/// The methods of [`Isa`](crate::isa::Isa) that are the same for all of them.
macro_rules! ymm_isa {
    () => {
        type Ints = core::arch::x86_64::__m256i;
        type Floats = core::arch::x86_64::__m256;
        type Nibbles = [core::arch::x86_64::__m256; 4];

        const LANES: usize = 8;

        #[inline(always)]
        fn zero(self) -> Self::Ints {
            self.ymm_zero()
        }

        #[inline(always)]
        fn splat_int(self, value: i32) -> Self::Ints {
            self.ymm_splat_int(value)
        }

        #[inline(always)]
        fn load_ints(self, from: &[i32]) -> Self::Ints {
            self.ymm_load_ints(from)
        }

        #[inline(always)]
        fn load_bytes(self, from: &[u8]) -> Self::Ints {
            self.ymm_load_bytes(from)
        }

        #[inline(always)]
        fn load_unsigned(self, from: &[u8]) -> Self::Ints {
            self.ymm_load_unsigned(from)
        }

        #[inline(always)]
        fn load_halves(self, from: &[u16]) -> Self::Floats {
            self.ymm_load_halves(from)
        }

        #[inline(always)]
        fn store_ints(self, sums: Self::Ints, out: &mut [i32]) {
            self.ymm_store_ints(sums, out);
        }

        #[inline(always)]
        fn add_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
            self.ymm_add_ints(a, b)
        }

        #[inline(always)]
        fn subtract_product(self, sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints {
            self.ymm_subtract_product(sum, a, b)
        }

        #[inline(always)]
        fn to_floats(self, sums: Self::Ints) -> Self::Floats {
            self.ymm_to_floats(sums)
        }

        #[inline(always)]
        fn splat(self, value: f32) -> Self::Floats {
            self.ymm_splat(value)
        }

        #[inline(always)]
        fn load(self, from: &[f32]) -> Self::Floats {
            self.ymm_load(from)
        }

        #[inline(always)]
        fn store(self, floats: Self::Floats, out: &mut [f32]) {
            self.ymm_store(floats, out);
        }

        #[inline(always)]
        fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
            self.ymm_add(a, b)
        }

        #[inline(always)]
        fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
            self.ymm_sub(a, b)
        }

        #[inline(always)]
        fn prefetch<T>(self, from: &T, bytes: usize) {
            $crate::isa::x86_64::prefetch(from, bytes);
        }

        #[inline(always)]
        fn nibbles(self, zero: f32) -> Self::Nibbles {
            self.ymm_nibbles(zero)
        }

        #[inline(always)]
        fn nibble<const J: usize>(self, lanes: Self::Ints, of: Self::Nibbles) -> Self::Floats {
            self.ymm_nibble::<J>(lanes, of)
        }

        #[inline(always)]
        fn fused(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
            self.ymm_fused(a, b, c)
        }

        #[inline(always)]
        fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
            self.ymm_mul(a, b)
        }

        #[inline(always)]
        fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
            self.ymm_div(a, b)
        }

        #[inline(always)]
        fn least(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
            self.ymm_least(a, b)
        }

        #[inline(always)]
        fn greatest(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
            self.ymm_greatest(a, b)
        }

        #[inline(always)]
        fn to_bits(self, floats: Self::Floats) -> Self::Ints {
            self.ymm_bits_of(floats)
        }

        #[inline(always)]
        fn sub_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
            self.ymm_sub_ints(a, b)
        }

        #[inline(always)]
        fn half(self, a: Self::Ints) -> Self::Ints {
            self.ymm_half(a)
        }

        #[inline(always)]
        fn power_of_two(self, n: Self::Ints) -> Self::Floats {
            self.ymm_power_of_two(n)
        }

        #[inline(always)]
        fn bits(self, from: &[f32]) -> Self::Ints {
            self.ymm_load_ints(bytemuck::cast_slice(from))
        }

        #[inline(always)]
        fn max(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
            self.ymm_max(a, b)
        }

        #[inline(always)]
        fn max_unsigned(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
            self.ymm_max_unsigned(a, b)
        }

        #[inline(always)]
        fn quantize(
            self,
            by: $crate::isa::Reciprocal,
            values: &[f32; $crate::isa::QUANTIZE_LANES],
            codes: &mut [u8; $crate::isa::QUANTIZE_LANES],
        ) -> bool {
            self.ymm_quantize(by, values, codes)
        }

        #[inline(always)]
        fn relu(self, a: Self::Floats) -> Self::Floats {
            self.ymm_relu(a)
        }
    };
}
