//! Codes of at most 4 bits, and whatever is no integer product.
//!
//! A k-step has four bytes of each column, in one lane. The even bytes of a lane are two i16, and so are the odd ones:
//! two `i32x4.dot_i16x8_s` are the product of the k-step. To make i16 of bytes takes two or three instructions, and as
//! many for each row, so codes of 8 bits have [other products](super::wide).

use super::vector::{self, Codes};
use super::wide::Wide;
use crate::isa::{Isa, Line, Operation};
use core::arch::wasm32::v128;

/// Vectors of 128 bits. It exists wherever this is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Simd128(());

/// The codes of a k-step in memory.
type KStep = <Simd128 as Isa>::KStep;

/// Of a k-step, for each vector of columns, the even bytes along K and the odd ones, as i16.
type Step = [[v128; 2]; 2];

impl Simd128 {
    /// A value: whoever runs this code has the instruction set.
    #[allow(clippy::unnecessary_wraps)]
    pub(crate) fn new() -> Option<Self> {
        Some(Self(()))
    }

    /// Runs an operation.
    #[inline]
    pub(crate) fn run<O: Operation>(self, operation: O) -> O::Output {
        operation.run(self)
    }

    /// Runs an operation with products of 8-bit codes.
    #[inline]
    pub(crate) fn run_wide<O: Operation>(self, operation: O) -> O::Output {
        operation.run(Wide)
    }
}

/// Adds the products of a k-step of each row.
#[inline(always)]
fn add_step<const R: usize>(sums: &mut [[v128; 2]; R], a: &[Line; R], at: usize, codes: Step) {
    for r in 0..R {
        let [even, odd] = vector::even_and_odd(vector::broadcast(&a[r].0[at]));
        for v in 0..2 {
            sums[r][v] = vector::add_products(sums[r][v], even, codes[v][0]);
            sums[r][v] = vector::add_products(sums[r][v], odd, codes[v][1]);
        }
    }
}

/// The codes of two packed k-steps.
#[inline(always)]
fn load_packed_steps(step: &KStep) -> [Step; 2] {
    let left = vector::nibbles_even_and_odd(vector::load_16(&step[0]));
    let right = vector::nibbles_even_and_odd(vector::load_16(&step[1]));
    [[left[0], right[0]], [left[1], right[1]]]
}

impl Isa for Simd128 {
    simd128_isa!();

    type KStep = [Codes; 2];

    const KR: usize = 4;
    // 4 rows · 2 vectors = 8 accumulators, 4 vectors of codes, 2 of values and a product: 15 registers, which engines
    // use of the 16 of x86-64.
    const MR: usize = 4;
    const SIGNED_ACTIVATIONS: bool = true;
    const UNSIGNED_BITS: &'static [usize] = &[4];
    const UNPACK_ABOVE: usize = usize::MAX;

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[v128; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[KStep],
    ) {
        for (at, step) in (first..Line::STEPS).zip(b) {
            let load = |v: usize| vector::even_and_odd(vector::load_16(&step[v]));
            add_step(sums, a, at, [load(0), load(1)]);
        }
    }

    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        sums: &mut [[v128; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[KStep],
    ) {
        for (at, step) in (first / 2..Line::STEPS / 2).zip(b) {
            let [low, high] = load_packed_steps(step);
            add_step(sums, a, 2 * at, low);
            add_step(sums, a, 2 * at + 1, high);
        }
    }

    #[inline(always)]
    fn lanes(self, step: &KStep, v: usize) -> v128 {
        vector::load_16(&step[v])
    }

    #[inline(always)]
    fn byte<const J: usize>(self, lanes: v128) -> v128 {
        vector::byte::<J>(lanes)
    }
}
