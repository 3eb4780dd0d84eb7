//! 8-bit codes of any value.
//!
//! Activations are packed as i16, and codes are widened when they are loaded, which one instruction does. A k-step has
//! two values of each column: `i32x4.dot_i16x8_s` is their product, summed in i32, and x86-64 has the same
//! instruction. `i16x8.extmul` of bytes would be three instructions there, and its products would have to be widened.

use super::vector;
use crate::isa::{Isa, Line};
use core::arch::wasm32::*;

/// Vectors of 128 bits, with k-steps of two values.
#[derive(Clone, Copy)]
pub(crate) struct Wide;

/// The codes of a k-step, four columns and four more.
type KStep = [[i8; 8]; 2];

impl Isa for Wide {
    simd128_isa!();

    type KStep = KStep;

    const KR: usize = 2;
    // 5 rows · 2 vectors = 10 accumulators, 2 vectors of codes, 1 of values and a product: 14 registers, of the 15
    // that engines use on x86-64.
    const MR: usize = 5;

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[v128; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[KStep],
    ) {
        for (at, step) in (first..Line::STEPS).zip(b) {
            let codes = [vector::load_wide(&step[0]), vector::load_wide(&step[1])];
            for r in 0..R {
                let values = vector::broadcast(&a[r].0[at]);
                for v in 0..2 {
                    sums[r][v] = vector::add_products(sums[r][v], values, codes[v]);
                }
            }
        }
    }

    #[inline(always)]
    fn lanes(self, step: &KStep, v: usize) -> v128 {
        vector::load_wide(&step[v])
    }

    /// Each lane holds two codes as i16.
    #[inline(always)]
    fn byte<const J: usize>(self, lanes: v128) -> v128 {
        let high = if J == 0 { i32x4_shl(lanes, 16) } else { lanes };
        f32x4_convert_i32x4(i32x4_shr(high, 16))
    }
}
