//! The operations on vectors of 128 bits: those of [`Isa`](crate::isa::Isa), whose documentation they have.

use crate::isa::{Line, QUANTIZE_LANES, Reciprocal, nibble_at};
use crate::scheme::ROUNDING;
use core::arch::wasm32::*;

/// The codes of a k-step of four values for one vector of columns.
pub(super) type Codes = [i8; 16];

#[inline(always)]
pub(super) fn zero() -> v128 {
    splat_int(0)
}

#[inline(always)]
pub(super) fn splat_int(value: i32) -> v128 {
    i32x4_splat(value)
}

#[inline(always)]
pub(super) fn flip_signs(line: &mut Line) {
    for bytes in line.bytes_mut().as_chunks_mut::<16>().0 {
        store_16(v128_xor(load_16(bytes), u8x16_splat(0x80)), bytes);
    }
}

#[inline(always)]
pub(super) fn load_16<T: bytemuck::Pod, const N: usize>(from: &[T; N]) -> v128 {
    const { assert!(size_of::<[T; N]>() == 16) };
    // SAFETY: the reference is to the 16 bytes that are read, of any alignment.
    unsafe { v128_load(from.as_ptr().cast()) }
}

#[inline(always)]
fn store_16<T: bytemuck::Pod, const N: usize>(vector: v128, to: &mut [T; N]) {
    const { assert!(size_of::<[T; N]>() == 16) };
    // SAFETY: the reference is to the 16 bytes that are written, of any alignment. Every bit pattern is a `T`.
    unsafe { v128_store(to.as_mut_ptr().cast(), vector) }
}

/// Loads 8 signed bytes as i16.
#[inline(always)]
pub(super) fn load_wide(from: &[i8; 8]) -> v128 {
    // SAFETY: the reference is to the 8 bytes that are read, of any alignment.
    unsafe { i16x8_load_extend_i8x8(from.as_ptr()) }
}

/// Loads 32 bits for each lane.
#[inline(always)]
pub(super) fn broadcast(from: &u32) -> v128 {
    // SAFETY: the reference is to the 4 bytes that are read, of any alignment.
    unsafe { v128_load32_splat(from) }
}

/// Of bytes along K, the even ones and the odd ones of each lane, as i16.
#[inline(always)]
pub(super) fn even_and_odd(bytes: v128) -> [v128; 2] {
    [i16x8_shr(i16x8_shl(bytes, 8), 8), i16x8_shr(bytes, 8)]
}

/// [`even_and_odd`] of the low nibbles, and of the high ones.
#[inline(always)]
pub(super) fn nibbles_even_and_odd(bytes: v128) -> [[v128; 2]; 2] {
    let of = |shift| v128_and(u16x8_shr(bytes, shift), u16x8_splat(15));
    [[v128_and(bytes, u16x8_splat(15)), of(8)], [of(4), u16x8_shr(bytes, 12)]]
}

/// Adds two products of i16 to each lane.
#[inline(always)]
pub(super) fn add_products(sums: v128, a: v128, b: v128) -> v128 {
    i32x4_add(sums, i32x4_dot_i16x8(a, b))
}

#[inline(always)]
pub(super) fn load_ints(from: &[i32]) -> v128 {
    load_16::<i32, 4>(from.try_into().expect("a lane each"))
}

#[inline(always)]
pub(super) fn load_bytes(from: &[u8]) -> v128 {
    let from: &[u8; 4] = from.try_into().expect("a lane each");
    i32x4_extend_low_i16x8(i16x8_extend_low_i8x16(load_4(from)))
}

#[inline(always)]
pub(super) fn load_unsigned(from: &[u8]) -> v128 {
    let from: &[u8; 4] = from.try_into().expect("a lane each");
    u32x4_extend_low_u16x8(u16x8_extend_low_u8x16(load_4(from)))
}

/// Loads 4 bytes into the lowest lane.
#[inline(always)]
fn load_4(from: &[u8; 4]) -> v128 {
    // SAFETY: the reference is to the 4 bytes that are read, of any alignment.
    unsafe { v128_load32_zero(from.as_ptr().cast()) }
}

/// The bits of a number in half precision, moved to where a float has them, are that float times `2^-112`: also
/// those of subnormal numbers. Infinities and NaN have an exponent of their own.
#[inline(always)]
pub(super) fn load_halves(from: &[u16]) -> v128 {
    let from: &[u16; 4] = from.try_into().expect("a lane each");
    // SAFETY: the reference is to the 8 bytes that are read, of any alignment.
    let halves = unsafe { u32x4_load_extend_u16x4(from.as_ptr()) };
    let magnitudes = v128_and(halves, i32x4_splat(0x7fff));
    let signs = i32x4_shl(v128_xor(halves, magnitudes), 16);
    let finite = f32x4_mul(i32x4_shl(magnitudes, 13), f32x4_splat((1u128 << 112) as f32));
    let of_others = i32x4_gt(magnitudes, i32x4_splat(0x7bff));
    let exponents = v128_and(of_others, i32x4_splat(0x7f80_0000));
    let quiet = v128_and(i32x4_gt(magnitudes, i32x4_splat(0x7c00)), i32x4_splat(0x0040_0000));
    v128_or(v128_or(finite, exponents), v128_or(quiet, signs))
}

#[inline(always)]
pub(super) fn store_ints(ints: v128, out: &mut [i32]) {
    store_16::<i32, 4>(ints, out.try_into().expect("a lane each"));
}

#[inline(always)]
pub(super) fn add_ints(a: v128, b: v128) -> v128 {
    i32x4_add(a, b)
}

#[inline(always)]
pub(super) fn sub_ints(a: v128, b: v128) -> v128 {
    i32x4_sub(a, b)
}

#[inline(always)]
pub(super) fn subtract_product(sum: v128, a: v128, b: v128) -> v128 {
    i32x4_sub(sum, i32x4_mul(a, b))
}

#[inline(always)]
pub(super) fn max(a: v128, b: v128) -> v128 {
    i32x4_max(a, b)
}

#[inline(always)]
pub(super) fn max_unsigned(a: v128, b: v128) -> v128 {
    u32x4_max(a, b)
}

#[inline(always)]
pub(super) fn half(a: v128) -> v128 {
    i32x4_shr(a, 1)
}

#[inline(always)]
pub(super) fn split_nibbles(packed: v128) -> [v128; 2] {
    let low = u8x16_splat(15);
    [v128_and(packed, low), v128_and(u16x8_shr(packed, 4), low)]
}

#[inline(always)]
pub(super) fn dot_signed(sums: v128, q: v128, k: v128) -> v128 {
    let (q, k) = (even_and_odd(q), even_and_odd(k));
    add_products(add_products(sums, q[0], k[0]), q[1], k[1])
}

#[inline(always)]
pub(super) fn to_floats(ints: v128) -> v128 {
    f32x4_convert_i32x4(ints)
}

#[inline(always)]
pub(super) fn to_bits(floats: v128) -> v128 {
    floats
}

#[inline(always)]
pub(super) fn bits(from: &[f32]) -> v128 {
    load(from)
}

#[inline(always)]
pub(super) fn power_of_two(n: v128) -> v128 {
    i32x4_shl(i32x4_add(n, i32x4_splat(127)), 23)
}

#[inline(always)]
pub(super) fn splat(value: f32) -> v128 {
    f32x4_splat(value)
}

#[inline(always)]
pub(super) fn load(from: &[f32]) -> v128 {
    load_16::<f32, 4>(from.try_into().expect("a lane each"))
}

#[inline(always)]
pub(super) fn store(floats: v128, out: &mut [f32]) {
    store_16::<f32, 4>(floats, out.try_into().expect("a lane each"));
}

#[inline(always)]
pub(super) fn add(a: v128, b: v128) -> v128 {
    f32x4_add(a, b)
}

#[inline(always)]
pub(super) fn sub(a: v128, b: v128) -> v128 {
    f32x4_sub(a, b)
}

#[inline(always)]
pub(super) fn mul(a: v128, b: v128) -> v128 {
    f32x4_mul(a, b)
}

#[inline(always)]
pub(super) fn div(a: v128, b: v128) -> v128 {
    f32x4_div(a, b)
}

/// `f32x4.pmin` gives its first operand unless the second one is less.
#[inline(always)]
pub(super) fn least(a: v128, b: v128) -> v128 {
    f32x4_pmin(b, a)
}

/// `f32x4.pmax` gives its first operand unless the second one is greater.
#[inline(always)]
pub(super) fn greatest(a: v128, b: v128) -> v128 {
    f32x4_pmax(b, a)
}

#[inline(always)]
pub(super) fn relu(a: v128) -> v128 {
    f32x4_pmax(f32x4_splat(0.0), a)
}

/// There is no such instruction: see [`fused_in_f64`].
#[inline(always)]
pub(super) fn fused(a: v128, b: v128, c: v128) -> v128 {
    let high = |floats| f64x2_promote_low_f32x4(i64x2_shuffle::<1, 1>(floats, floats));
    let low = f64x2_promote_low_f32x4;
    let (low, high) =
        (fused_in_f64(low(a), low(b), low(c)), fused_in_f64(high(a), high(b), high(c)));
    i64x2_shuffle::<0, 2>(f32x4_demote_f64x2_zero(low), f32x4_demote_f64x2_zero(high))
}

/// `a * b + c` of floats, rounded to odd: what the scalar kernel computes, which has the proof.
///
/// The product of error and sum has the sign that says on which side of the sum the exact one lies, and is 0 where
/// both are equal: neither is less than 2^-298 otherwise, so the product does not underflow. For infinities and
/// NaN it is NaN, which compares false.
#[inline(always)]
fn fused_in_f64(a: v128, b: v128, c: v128) -> v128 {
    let product = f64x2_mul(a, b);
    let sum = f64x2_add(product, c);
    let added = f64x2_sub(sum, product);
    let error = f64x2_add(f64x2_sub(product, f64x2_sub(sum, added)), f64x2_sub(c, added));
    let side = f64x2_mul(error, sum);
    let (inward, outward) = (f64x2_lt(side, zero()), f64x2_gt(side, zero()));
    // With the last bit set, an even sum is its neighbour outwards, and an odd one stays; so is the number before
    // it, inwards.
    let inexact = v128_or(inward, outward);
    v128_or(i64x2_add(sum, inward), v128_and(inexact, i64x2_splat(1)))
}

/// Value `J` of lanes of four signed bytes.
#[inline(always)]
pub(super) fn byte<const J: usize>(lanes: v128) -> v128 {
    f32x4_convert_i32x4(i32x4_shr(i32x4_shl(lanes, 24 - 8 * J as u32), 24))
}

#[inline(always)]
pub(super) fn nibbles(zero: f32) -> v128 {
    f32x4_splat(zero)
}

#[inline(always)]
pub(super) fn nibble<const J: usize>(lanes: v128, zero: v128) -> v128 {
    let code = v128_and(u32x4_shr(lanes, 4 * nibble_at(J) as u32), i32x4_splat(15));
    f32x4_sub(f32x4_convert_i32x4(code), zero)
}

/// [`Reciprocal::quantize`].
#[inline(always)]
pub(super) fn quantize(
    by: Reciprocal,
    values: &[f32; QUANTIZE_LANES],
    codes: &mut [u8; QUANTIZE_LANES],
) -> bool {
    let mut farthest = f32x4_splat(0.0);
    let (values, codes) = (values.as_chunks::<16>().0, codes.as_chunks_mut::<16>().0);
    for (values, codes) in values.iter().zip(codes) {
        let mut rounded = [zero(); 4];
        for (values, rounded) in values.as_chunks().0.iter().zip(&mut rounded) {
            let (code, distance) = rounded_code(by, load_16::<f32, 4>(values));
            *rounded = code;
            farthest = f32x4_pmax(farthest, distance);
        }
        let [a, b, c, d] = rounded;
        // Clamped already, so that narrowing changes nothing.
        let narrow = u8x16_narrow_i16x8(i16x8_narrow_i32x4(a, b), i16x8_narrow_i32x4(c, d));
        store_16(narrow, codes);
    }
    v128_any_true(f32x4_ge(farthest, f32x4_splat(by.near_tie)))
}

/// `code + 128` of each value, and how far the quotient is from it.
#[inline(always)]
fn rounded_code(by: Reciprocal, values: v128) -> (v128, v128) {
    let zero = f32::from(by.zero_point);
    let (lo, hi) = (f32::from(by.range.0) - zero, f32::from(by.range.1) - zero);
    let quotients = f32x4_mul(values, f32x4_splat(by.inverse));
    let quotients = greatest(least(quotients, f32x4_splat(hi)), f32x4_splat(lo));
    let sums = f32x4_add(quotients, f32x4_splat(ROUNDING));
    let distances = f32x4_sub(quotients, f32x4_sub(sums, f32x4_splat(ROUNDING)));
    let codes = i32x4_sub(sums, i32x4_splat(ROUNDING.to_bits() as i32 - i32::from(by.zero_point)));
    (codes, f32x4_abs(distances))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::f16_to_f32;

    #[test]
    fn every_half_is_the_float_of_the_scalar_kernel() {
        for first in (0..=u16::MAX).step_by(4) {
            let halves = [0, 1, 2, 3].map(|i| first + i);
            let mut floats = [0.0; 4];
            store(load_halves(&halves), &mut floats);
            let expected = halves.map(|half| f16_to_f32(half).to_bits());
            assert_eq!(floats.map(f32::to_bits), expected, "{halves:x?}");
        }
    }
}
