//! AVX-512 with VNNI.

use super::vnni::{self, Vnni};
use crate::isa::{Isa, Line, QUANTIZE_LANES, Reciprocal, nibble_at};
use core::arch::x86_64::*;

/// 4-bit codes as they are stored.
static CODES: [f32; 16] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// The constants of [`Isa::nibble`]: the values of all codes, and what is subtracted for codes that start at bits 8 and
/// 12.
#[derive(Clone, Copy)]
pub(crate) struct Nibbles {
    values: __m512,
    subtracted: [__m512; 2],
}

instruction_set! {
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni: "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"
}

impl Avx512Vnni {
    /// The low nibbles of the bytes.
    #[inline(always)]
    fn low_codes(self, packed: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        let mask = unsafe { _mm512_set1_epi8(15) };
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_and_si512(packed, mask) }
    }

    /// Rounds to the nearest integer, ties to even.
    #[inline(always)]
    fn round(self, a: __m512) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_cvtps_epi32(a) }
    }

    /// The distance to the nearest integer, with its sign.
    #[inline(always)]
    fn distance(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512DQ.
        unsafe { _mm512_reduce_ps::<_MM_FROUND_TO_NEAREST_INT>(a) }
    }

    /// The larger magnitude.
    #[inline(always)]
    fn farthest(self, a: __m512, b: __m512) -> __m512 {
        // The larger absolute value, with a sign that is cleared.
        // SAFETY: `self` proves AVX-512DQ.
        unsafe { _mm512_range_ps::<0b1011>(a, b) }
    }

    #[inline(always)]
    fn any_at_least(self, a: __m512, b: f32) -> bool {
        // SAFETY: `self` proves AVX-512F. A NaN is not less than anything.
        unsafe { _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, self.splat(b)) != 0 }
    }

    /// Packs to i16 and adds a number; the quarters of both vectors alternate.
    #[inline(always)]
    fn pack(self, a: __m512i, b: __m512i, zero_point: i16) -> __m512i {
        // SAFETY: `self` proves AVX-512BW.
        let packed = unsafe { _mm512_packs_epi32(a, b) };
        // SAFETY: `self` proves AVX-512F.
        let zero_point = unsafe { _mm512_set1_epi16(zero_point) };
        // SAFETY: `self` proves AVX-512BW.
        unsafe { _mm512_adds_epi16(packed, zero_point) }
    }

    /// Stores packed i16 as bytes, clamped to a range.
    #[inline(always)]
    fn store_codes(self, packed: __m512i, range: (u8, u8), to: &mut [u8; 32]) {
        // SAFETY: `self` proves AVX-512BW.
        let packed = unsafe { _mm512_packus_epi16(packed, packed) };
        // Groups of four bytes: those of both vectors alternate, and all occur twice.
        let order = self.load_ints(&[0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0]);
        // SAFETY: `self` proves AVX-512F.
        let codes = unsafe { _mm512_permutexvar_epi32(order, packed) };
        // SAFETY: `self` proves AVX-512F.
        let codes = unsafe { _mm512_castsi512_si256(codes) };
        // SAFETY: `self` proves AVX2.
        let qmin = unsafe { _mm256_set1_epi8(range.0 as i8) };
        // SAFETY: `self` proves AVX2.
        let qmax = unsafe { _mm256_set1_epi8(range.1 as i8) };
        // SAFETY: `self` proves AVX2.
        let codes = unsafe { _mm256_max_epu8(codes, qmin) };
        // SAFETY: `self` proves AVX2.
        let codes = unsafe { _mm256_min_epu8(codes, qmax) };
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), codes) }
    }

    /// Selects some bits of each lane, flips others, and reads the result as floats.
    #[inline(always)]
    fn turned(self, lanes: __m512i, some: i32, turned: i32) -> __m512 {
        let (some, turned) = (self.splat_int(some), self.splat_int(turned));
        // `a ^ b & c`.
        // SAFETY: `self` proves AVX-512F.
        let bits = unsafe { _mm512_ternarylogic_epi32::<0x78>(turned, lanes, some) };
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_castsi512_ps(bits) }
    }

    /// The 4-bit code of each lane that starts at bit `4 * AT`, 8 or 12.
    #[inline(always)]
    fn subtracted<const AT: i32>(self, lanes: __m512i, of: Nibbles) -> __m512 {
        let exponent = 23 - 4 * AT;
        let float = self.turned(lanes, 15 << (4 * AT), (exponent + 127) << 23);
        self.sub(float, of.subtracted[AT as usize - 2])
    }

    #[inline(always)]
    fn shift<const BITS: u32>(self, lanes: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_srli_epi32::<BITS>(lanes) }
    }

    /// The highest byte of each lane, signed.
    #[inline(always)]
    fn top_byte(self, lanes: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_srai_epi32::<24>(lanes) }
    }

    /// The code in the lowest nibble of each lane.
    #[inline(always)]
    fn looked_up(self, lanes: __m512i, of: Nibbles) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_permutexvar_ps(lanes, of.values) }
    }
}

impl Vnni for Avx512Vnni {
    #[inline(always)]
    fn dot(self, sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, a, b) }
    }

    #[inline(always)]
    fn unpacked(self, step: &Self::KStep, v: usize) -> [__m512i; 2] {
        let packed = self.lanes(step, v);
        // SAFETY: `self` proves AVX-512 BW.
        let high = unsafe { _mm512_srli_epi16::<4>(packed) };
        [self.low_codes(packed), self.low_codes(high)]
    }
}

impl Isa for Avx512Vnni {
    type Ints = __m512i;
    type Floats = __m512;
    type KStep = [[i8; 64]; 2];
    type Nibbles = Nibbles;

    const LANES: usize = 16;
    const KR: usize = 4;
    // 12 rows · 2 vectors = 24 accumulators, 2 vectors of codes and a broadcast: 27 of 32 registers.
    const MR: usize = 12;
    // Twice as many registers as AVX2.
    const GEMV_ROWS: usize = 8;
    const GROUP: usize = 2;
    const UNSIGNED_BITS: &'static [usize] = &[4];

    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[__m512i; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep],
    ) {
        vnni::accumulate(self, sums, a, first, b);
    }

    // As for the kernel with 256-bit vectors.
    const UNPACK_ABOVE: usize = usize::MAX;

    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        sums: &mut [[__m512i; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep],
    ) {
        vnni::accumulate_packed(self, sums, a, first, b);
    }

    #[inline(always)]
    fn lanes(self, step: &Self::KStep, v: usize) -> __m512i {
        let codes: &[i8; 64] = &step[v];
        // SAFETY: `self` proves AVX-512F; the reference is to the 64 bytes that are read.
        unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &T, bytes: usize) {
        super::prefetch(from, bytes);
    }

    /// Four methods, which spread over the execution ports. The first two are those of
    /// [`Ymm::ymm_byte`](super::ymm::Ymm::ymm_byte).
    #[inline(always)]
    fn byte<const J: usize>(self, lanes: __m512i) -> __m512 {
        match J {
            0 | 1 => {
                let exponent = 23 - 8 * J as i32;
                let sign = 128 << (8 * J);
                let float = self.turned(lanes, 255 << (8 * J), (exponent + 127) << 23 | sign);
                self.sub(float, self.splat(((1 << exponent) + 128) as f32))
            }
            // A dot product with 1 at byte 2 and 0 elsewhere.
            2 => self.to_floats(self.dot(self.zero(), self.splat_int(1 << 16), lanes)),
            _ => self.to_floats(self.top_byte(lanes)),
        }
    }

    /// By the exponent that makes the lowest bit of the code worth 1, or by a table. Shifts and tables share two
    /// ports; subtractions use one of those and another. Four of each, with three shifts, load all ports alike.
    #[inline(always)]
    fn nibble<const J: usize>(self, lanes: __m512i, of: Nibbles) -> __m512 {
        match nibble_at(J) {
            0 => self.looked_up(lanes, of),
            1 => self.looked_up(self.shift::<4>(lanes), of),
            2 => self.subtracted::<2>(lanes, of),
            3 => self.subtracted::<3>(lanes, of),
            4 => self.looked_up(self.shift::<16>(lanes), of),
            5 => self.looked_up(self.shift::<20>(lanes), of),
            6 => self.subtracted::<2>(self.shift::<16>(lanes), of),
            _ => self.subtracted::<3>(self.shift::<16>(lanes), of),
        }
    }

    #[inline(always)]
    fn nibbles(self, zero: f32) -> Nibbles {
        Nibbles {
            values: self.sub(self.load(&CODES), self.splat(zero)),
            subtracted: [self.splat((1 << 15) as f32 + zero), self.splat((1 << 11) as f32 + zero)],
        }
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    fn load_ints(self, from: &[i32]) -> __m512i {
        let from: &[i32; 16] = from.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX-512F; the reference is to the 64 bytes that are read.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8]) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_cvtepi8_epi32(super::load_16(from)) }
    }

    #[inline(always)]
    fn load_unsigned(self, from: &[u8]) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_cvtepu8_epi32(super::load_16(from)) }
    }

    #[inline(always)]
    fn load_halves(self, from: &[u16]) -> __m512 {
        let from: &[u16; 16] = from.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are read.
        let halves = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_cvtph_ps(halves) }
    }

    #[inline(always)]
    fn store_ints(self, sums: __m512i, out: &mut [i32]) {
        let out: &mut [i32; 16] = out.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX-512F; the reference is to the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) }
    }

    #[inline(always)]
    fn add_ints(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn subtract_product(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        let product = unsafe { _mm512_mullo_epi32(a, b) };
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_sub_epi32(sum, product) }
    }

    #[inline(always)]
    fn to_floats(self, sums: __m512i) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> __m512 {
        let from: &[f32; 16] = from.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX-512F; the reference is to the 64 bytes that are read.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, floats: __m512, out: &mut [f32]) {
        let out: &mut [f32; 16] = out.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX-512F; the reference is to the 64 bytes that are written.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), floats) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn least(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn greatest(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn to_bits(self, floats: __m512) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_castps_si512(floats) }
    }

    #[inline(always)]
    fn sub_ints(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_sub_epi32(a, b) }
    }

    #[inline(always)]
    fn half(self, a: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_srai_epi32::<1>(a) }
    }

    #[inline(always)]
    fn power_of_two(self, n: __m512i) -> __m512 {
        let biased = self.add_ints(n, self.splat_int(127));
        // SAFETY: `self` proves AVX-512F.
        let bits = unsafe { _mm512_slli_epi32::<23>(biased) };
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_castsi512_ps(bits) }
    }

    const KEY_OFFSET: i32 = 128;

    #[inline(always)]
    fn dot_signed(self, sums: __m512i, q: __m512i, k: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        let unsigned = unsafe { _mm512_xor_si512(k, self.splat_int(vnni::SIGNS)) };
        self.dot(sums, unsigned, q)
    }

    #[inline(always)]
    fn split_nibbles(self, packed: __m512i) -> [__m512i; 2] {
        let mask = self.splat_int(vnni::LOW);
        // SAFETY: `self` proves AVX-512F.
        let low = unsafe { _mm512_and_si512(packed, mask) };
        // SAFETY: `self` proves AVX-512F.
        let high = unsafe { _mm512_and_si512(self.shift::<4>(packed), mask) };
        [low, high]
    }

    #[inline(always)]
    fn dot_unsigned(self, sums: __m512i, q: __m512i, u: __m512i) -> __m512i {
        self.dot(sums, u, q)
    }

    #[inline(always)]
    fn bits(self, from: &[f32]) -> __m512i {
        self.load_ints(bytemuck::cast_slice(from))
    }

    #[inline(always)]
    fn max(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_max_epi32(a, b) }
    }

    #[inline(always)]
    fn max_unsigned(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_max_epu32(a, b) }
    }

    /// Packing saturates, which clamps. Values too small for i32 become its minimum; values too large are clamped
    /// before.
    #[inline(always)]
    fn quantize(
        self,
        by: Reciprocal,
        values: &[f32; QUANTIZE_LANES],
        codes: &mut [u8; QUANTIZE_LANES],
    ) -> bool {
        let (inverse, limit) = (self.splat(by.inverse), self.splat(512.0));
        let [low, high] = [&values[..16], &values[16..]];
        let low = self.least(self.mul(self.load(low), inverse), limit);
        let high = self.least(self.mul(self.load(high), inverse), limit);
        let packed = self.pack(self.round(low), self.round(high), by.zero_point);
        self.store_codes(packed, by.range, codes);
        let farthest = self.farthest(self.distance(low), self.distance(high));
        self.any_at_least(farthest, by.near_tie)
    }

    #[inline(always)]
    fn fused(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn relu(self, a: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        let zero = unsafe { _mm512_setzero_ps() };
        // The second operand is the result for NaN and for two zeros.
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_max_ps(a, zero) }
    }
}
