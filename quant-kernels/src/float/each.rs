//! Functions of one value, such as the Gaussian error linear unit.

use super::exp::exp;
use super::lanes::{LANES, load, padded, store, vectors};
use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};
use core::f32::consts::FRAC_1_SQRT_2;

impl Kernel {
    /// Replaces each value by `x / (1 + exp(-x))`.
    ///
    /// `-∞` becomes NaN.
    pub fn silu(self, values: &mut [f32]) {
        self.run(Each { function: Silu, values });
    }

    /// Replaces each value by `x / 2 · (1 + erf(x / √2))`.
    ///
    /// `-∞` becomes NaN.
    pub fn gelu(self, values: &mut [f32]) {
        self.run(Each { function: Gelu, values });
    }

    /// Replaces each value by the approximation of [`Kernel::gelu`] by the hyperbolic tangent, which some
    /// models are trained with: `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
    ///
    /// `-∞` becomes NaN.
    pub fn gelu_tanh(self, values: &mut [f32]) {
        self.run(Each { function: GeluTanh, values });
    }
}

/// A function of each lane.
trait Function: Copy {
    fn of<I: Isa>(self, isa: I, x: I::Floats) -> I::Floats;
}

/// Replaces each value by that of a function.
struct Each<'a, F> {
    function: F,
    values: &'a mut [f32],
}

impl<F: Function> Operation for Each<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (pieces, rest) = self.values.as_chunks_mut();
        for piece in pieces {
            replace(isa, self.function, piece);
        }
        let mut last = padded(rest, 0.0);
        replace(isa, self.function, &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[inline(always)]
fn replace<I: Isa, F: Function>(isa: I, function: F, values: &mut [f32; LANES]) {
    let mut x = load(isa, values);
    for v in 0..vectors::<I>() {
        x[v] = function.of(isa, x[v]);
    }
    store(isa, x, values);
}

#[derive(Clone, Copy)]
struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, x: I::Floats) -> I::Floats {
        silu(isa, x)
    }
}

/// `x / (1 + exp(-x))`.
#[inline(always)]
pub(super) fn silu<I: Isa>(isa: I, x: I::Floats) -> I::Floats {
    logistic(isa, x, x)
}

/// `x / (1 + exp(-y))`.
#[inline(always)]
fn logistic<I: Isa>(isa: I, x: I::Floats, y: I::Floats) -> I::Floats {
    let negated = isa.mul(y, isa.splat(-1.0));
    isa.div(x, isa.add(isa.splat(1.0), exp(isa, negated)))
}

#[derive(Clone, Copy)]
struct GeluTanh;

impl Function for GeluTanh {
    /// `(1 + tanh z) / 2` is `1 / (1 + exp(-2 z))`.
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, x: I::Floats) -> I::Floats {
        // 2 √(2/π), and its product with 0.044715.
        let factors = isa.mul(isa.mul(x, x), isa.splat(0.071_354_814));
        let factors = isa.add(factors, isa.splat(1.595_769));
        logistic(isa, x, isa.mul(x, factors))
    }
}

#[derive(Clone, Copy)]
struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, x: I::Floats) -> I::Floats {
        let erf = erf(isa, isa.mul(x, isa.splat(FRAC_1_SQRT_2)));
        isa.mul(isa.mul(x, isa.splat(0.5)), isa.add(isa.splat(1.0), erf))
    }
}

/// From here on, `erf` is 1 in f32.
const ONE_FROM: f32 = 4.0;

/// The coefficients of `erf x ≈ x n(x²) / d(x²)`, the highest degree first.
const NUMERATOR: [f32; 7] = [
    -2.726_142e-10,
    2.770_681_4e-8,
    -2.101_024e-6,
    -5.692_506_4e-5,
    -7.349_906e-4,
    -2.954_6e-3,
    -1.609_603_3e-2,
];
const DENOMINATOR: [f32; 5] =
    [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];

#[inline(always)]
fn erf<I: Isa>(isa: I, x: I::Floats) -> I::Floats {
    // In this order, NaN stays.
    let x = isa.greatest(isa.splat(-ONE_FROM), isa.least(isa.splat(ONE_FROM), x));
    let square = isa.mul(x, x);
    let numerator = isa.mul(x, polynomial(isa, &NUMERATOR, square));
    isa.div(numerator, polynomial(isa, &DENOMINATOR, square))
}

/// Horner's scheme.
#[inline(always)]
fn polynomial<I: Isa>(isa: I, coefficients: &[f32], x: I::Floats) -> I::Floats {
    let mut sum = isa.splat(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = isa.add(isa.mul(sum, x), isa.splat(*coefficient));
    }
    sum
}
