//! The portable kernel: always compiled, and the oracle of all others.

use crate::isa::{Isa, Line, nibble_at};
use crate::scheme::f16_to_f32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scalar;

impl Isa for Scalar {
    type Ints = [i32; 4];
    type Floats = [f32; 4];
    type KStep = [[[i8; 4]; 4]; 2];
    type Nibbles = f32;

    const LANES: usize = 4;
    const KR: usize = 4;
    const MR: usize = 2;

    #[inline(always)]
    fn zero(self) -> Self::Ints {
        [0; 4]
    }

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[Self::Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep],
    ) {
        for (s, step) in b.iter().enumerate() {
            for (sums, a) in sums.iter_mut().zip(a) {
                let values = a.0[first + s].to_le_bytes();
                for (sum, codes) in sums.as_flattened_mut().iter_mut().zip(step.as_flattened()) {
                    for (value, code) in values.iter().zip(codes) {
                        *sum = sum.wrapping_add(i32::from(*value) * i32::from(*code));
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn lanes(self, step: &Self::KStep, v: usize) -> Self::Ints {
        step[v].map(|codes| i32::from_le_bytes(codes.map(|code| code as u8)))
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: Self::Ints) -> Self::Floats {
        lanes.map(|lane| f32::from(lane.to_le_bytes()[J] as i8))
    }

    #[inline(always)]
    fn nibbles(self, zero: f32) -> f32 {
        zero
    }

    #[inline(always)]
    fn nibble<const J: usize>(self, lanes: Self::Ints, zero: f32) -> Self::Floats {
        lanes.map(|lane| (lane >> (4 * nibble_at(J)) & 15) as f32 - zero)
    }

    #[inline(always)]
    fn splat_int(self, value: i32) -> Self::Ints {
        [value; 4]
    }

    #[inline(always)]
    fn load_ints(self, from: &[i32]) -> Self::Ints {
        [from[0], from[1], from[2], from[3]]
    }

    #[inline(always)]
    fn load_bytes(self, from: &[u8]) -> Self::Ints {
        [0, 1, 2, 3].map(|i| i32::from(from[i] as i8))
    }

    #[inline(always)]
    fn load_unsigned(self, from: &[u8]) -> Self::Ints {
        [0, 1, 2, 3].map(|i| i32::from(from[i]))
    }

    #[inline(always)]
    fn load_halves(self, from: &[u16]) -> Self::Floats {
        [0, 1, 2, 3].map(|i| f16_to_f32(from[i]))
    }

    #[inline(always)]
    fn store_ints(self, sums: Self::Ints, out: &mut [i32]) {
        out.copy_from_slice(&sums);
    }

    #[inline(always)]
    fn add_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [0, 1, 2, 3].map(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    fn subtract_product(self, sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [0, 1, 2, 3].map(|i| sum[i].wrapping_sub(a[i].wrapping_mul(b[i])))
    }

    #[inline(always)]
    fn to_floats(self, sums: Self::Ints) -> Self::Floats {
        sums.map(|sum| sum as f32)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Floats {
        [value; 4]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::Floats {
        [from[0], from[1], from[2], from[3]]
    }

    #[inline(always)]
    fn store(self, floats: Self::Floats, out: &mut [f32]) {
        out.copy_from_slice(&floats);
    }

    #[inline(always)]
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [0, 1, 2, 3].map(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [0, 1, 2, 3].map(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [0, 1, 2, 3].map(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [0, 1, 2, 3].map(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn least(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [0, 1, 2, 3].map(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn greatest(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [0, 1, 2, 3].map(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn to_bits(self, floats: Self::Floats) -> Self::Ints {
        floats.map(|float| float.to_bits() as i32)
    }

    #[inline(always)]
    fn sub_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [0, 1, 2, 3].map(|i| a[i].wrapping_sub(b[i]))
    }

    #[inline(always)]
    fn half(self, a: Self::Ints) -> Self::Ints {
        a.map(|a| a >> 1)
    }

    #[inline(always)]
    fn power_of_two(self, n: Self::Ints) -> Self::Floats {
        n.map(|n| f32::from_bits((n.wrapping_add(127) as u32) << 23))
    }

    #[inline(always)]
    fn dot_signed(self, sums: Self::Ints, q: Self::Ints, k: Self::Ints) -> Self::Ints {
        [0, 1, 2, 3].map(|i| {
            let (q, k) = (q[i].to_le_bytes(), k[i].to_le_bytes());
            let products = [0, 1, 2, 3].map(|j| i32::from(q[j] as i8) * i32::from(k[j] as i8));
            products.iter().fold(sums[i], |sum, product| sum.wrapping_add(*product))
        })
    }

    #[inline(always)]
    fn split_nibbles(self, packed: Self::Ints) -> [Self::Ints; 2] {
        [packed.map(|packed| packed & 0x0f0f_0f0f), packed.map(|packed| packed >> 4 & 0x0f0f_0f0f)]
    }

    #[inline(always)]
    fn dot_unsigned(self, sums: Self::Ints, q: Self::Ints, u: Self::Ints) -> Self::Ints {
        self.dot_signed(sums, q, u)
    }

    #[inline(always)]
    fn bits(self, from: &[f32]) -> Self::Ints {
        [0, 1, 2, 3].map(|i| from[i].to_bits() as i32)
    }

    #[inline(always)]
    fn max(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [0, 1, 2, 3].map(|i| a[i].max(b[i]))
    }

    #[inline(always)]
    fn max_unsigned(self, a: Self::Ints, b: Self::Ints) -> Self::Ints {
        [0, 1, 2, 3].map(|i| (a[i] as u32).max(b[i] as u32) as i32)
    }

    #[inline(always)]
    fn fused(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        [0, 1, 2, 3].map(|i| fused(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn relu(self, a: Self::Floats) -> Self::Floats {
        a.map(|a| if a > 0.0 { a } else { 0.0 })
    }
}

/// `a * b + c`, rounded once.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    #[cfg(all(feature = "std", any(target_arch = "aarch64", target_feature = "fma")))]
    return a.mul_add(b, c);
    #[cfg(not(all(feature = "std", any(target_arch = "aarch64", target_feature = "fma"))))]
    emulated(a, b, c)
}

/// [`fused`] without an FMA instruction.
///
/// `core` has no `mul_add`, and on a CPU without the instruction that of `std` is a library call.
///
/// ```text
/// product = a * b                 exact: 24 + 24 bits of 53
/// sum + error = product + c       exact: sum is rounded, and error is the rounding error
/// sum = if inexact, the neighbour of the exact sum whose last bit is odd
/// result = f32(sum)
/// ```
/// Rounding `sum` to the nearest would be wrong: it could land in the middle of two floats, where the exact
/// sum is not, and then round to the wrong one. A number whose last of 53 bits is odd is never in the middle
/// of two floats, which have at most 24 bits.
#[cfg_attr(
    all(feature = "std", any(target_arch = "aarch64", target_feature = "fma")),
    allow(dead_code)
)]
#[inline(always)]
fn emulated(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let added = sum - product;
    let error = (product - (sum - added)) + (c - added);
    let bits = sum.to_bits();
    let outward = (error > 0.0) == (sum > 0.0);
    let odd = if outward { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    // For an infinity or NaN the error is NaN, which compares false.
    let inexact = error.abs() > 0.0;
    f64::from_bits(if inexact && bits & 1 == 0 { odd } else { bits }) as f32
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::emulated;

    fn same(a: f32, b: f32, c: f32) {
        let (ours, expected) = (emulated(a, b, c), a.mul_add(b, c));
        let same = ours.to_bits() == expected.to_bits() || ours.is_nan() && expected.is_nan();
        assert!(same, "{a:e} * {b:e} + {c:e}: {ours:e}, not {expected:e}");
    }

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 ^ self.0 >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 16
        }

        fn float(&mut self) -> f32 {
            f32::from_bits(self.next() as u32)
        }

        /// With few bits set, so that exact ties occur.
        fn sparse(&mut self, exponent: i32) -> f32 {
            let bits = self.next() as u32 & self.next() as u32 & self.next() as u32;
            let exponent = (exponent + 127).clamp(0, 254) as u32;
            f32::from_bits((bits & 0x807f_ffff) | exponent << 23)
        }
    }

    #[test]
    fn fused_is_mul_add_on_any_bits() {
        let mut random = Random(1);
        for _ in 0..2_000_000 {
            same(random.float(), random.float(), random.float());
        }
    }

    #[test]
    fn fused_is_mul_add_where_sums_are_near_halves_and_cancel() {
        let mut random = Random(2);
        for i in 0..3_000_000 {
            let at = [0, 60, 120, -60, -120, -140][i % 6];
            let (e, shift) = ((random.next() % 40) as i32 - 20, (random.next() % 80) as i32 - 40);
            let (a, b) = (random.sparse(at / 2 + e), random.sparse(at / 2 - e));
            same(a, b, random.sparse(at + shift));
        }
        for _ in 0..1_000_000 {
            let (a, b) = (random.sparse(3), random.sparse(-70));
            same(a, b, -(a * b));
        }
    }

    #[test]
    fn fused_is_mul_add_at_the_ends() {
        let ends = [
            0.0,
            f32::from_bits(1),
            f32::from_bits(3),
            f32::from_bits(0x7f_ffff),
            f32::MIN_POSITIVE,
            1.0 - f32::EPSILON / 2.0,
            1.0,
            1.0 + f32::EPSILON,
            8.0,
            -127.0,
            f32::MAX,
            f32::INFINITY,
            f32::NAN,
        ];
        let ends: alloc::vec::Vec<f32> = ends.into_iter().flat_map(|end| [end, -end]).collect();
        for a in &ends {
            for b in &ends {
                ends.iter().for_each(|c| same(*a, *b, *c));
            }
        }
    }

    #[test]
    fn fused_is_not_rounded_twice_where_it_is_subnormal() {
        // 2^-150, the middle between two subnormal floats, minus 2^-196.
        let (a, b) = (f32::from_bits(0x1a00_0001), f32::from_bits(0x19ff_fffe));
        for c in [0x3f_ffff, 0x40_0000, 0x40_0001, 0x7f_ffff, 0x80_0001] {
            for sign in [1.0, -1.0] {
                // The product is less than half of a step. Not every target's `mul_add` knows.
                for c in [f32::from_bits(c), -f32::from_bits(c)] {
                    assert_eq!(emulated(a * sign, b, c).to_bits(), c.to_bits());
                }
            }
        }
    }
}
