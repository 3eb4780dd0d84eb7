//! Normalization of rows.

use super::error::{FloatError, length, rows};
use super::lanes::{LANES, load, padded, splat, store, total, vectors};
use super::sqrt;
use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};

impl Kernel {
    /// Writes `x / sqrt(mean(x²) + epsilon) * weight` for each row of `x`, which are as long as `weight`.
    ///
    /// # Errors
    /// `x` does not consist of whole rows, or `out` differs from it in length.
    pub fn rms_norm(
        self,
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        out: &mut [f32],
    ) -> Result<(), FloatError> {
        rows(x.len(), weight.len())?;
        length("output", x.len(), out.len())?;
        if !x.is_empty() {
            self.run(RmsNorm { x, weight, epsilon, out });
        }
        Ok(())
    }

    /// Writes `(x - mean) / sqrt(variance + epsilon) * weight + bias` for each row of `x`, which are as long
    /// as `weight` and `bias`.
    ///
    /// # Errors
    /// `x` does not consist of whole rows, or a slice differs in length.
    pub fn layer_norm(
        self,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        epsilon: f32,
        out: &mut [f32],
    ) -> Result<(), FloatError> {
        rows(x.len(), weight.len())?;
        length("bias", weight.len(), bias.len())?;
        length("output", x.len(), out.len())?;
        if !x.is_empty() {
            self.run(LayerNorm { x, weight, bias, epsilon, out });
        }
        Ok(())
    }
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Operation for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let len = self.weight.len();
        for (x, out) in self.x.chunks_exact(len).zip(self.out.chunks_exact_mut(len)) {
            let mean = squares(isa, x) / len as f32;
            scale(isa, x, sqrt(mean + self.epsilon), self.weight, out);
        }
    }
}

struct LayerNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Operation for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let len = self.weight.len();
        for (x, out) in self.x.chunks_exact(len).zip(self.out.chunks_exact_mut(len)) {
            centre(x, sum(isa, x) / len as f32, out);
            let by = sqrt(squares(isa, out) / len as f32 + self.epsilon);
            for ((out, weight), bias) in out.iter_mut().zip(self.weight).zip(self.bias) {
                *out = *out / by * weight + bias;
            }
        }
    }
}

/// `x - mean`.
#[inline(always)]
fn centre(x: &[f32], mean: f32, out: &mut [f32]) {
    for (x, out) in x.iter().zip(out) {
        *out = x - mean;
    }
}

/// `Σ x`. Partial sums are never -0, so adding 0 for the filler changes nothing, here and in [`squares`].
#[inline(always)]
fn sum<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let mut sums = splat(isa, 0.0);
    let (pieces, rest) = x.as_chunks::<LANES>();
    for piece in pieces.iter().chain([&padded(rest, 0.0)]) {
        let x = load(isa, piece);
        for v in 0..vectors::<I>() {
            sums[v] = isa.add(sums[v], x[v]);
        }
    }
    total(isa, sums)
}

/// `Σ x²`.
#[inline(always)]
fn squares<I: Isa>(isa: I, x: &[f32]) -> f32 {
    let mut sums = splat(isa, 0.0);
    let (pieces, rest) = x.as_chunks::<LANES>();
    for piece in pieces.iter().chain([&padded(rest, 0.0)]) {
        let x = load(isa, piece);
        for v in 0..vectors::<I>() {
            sums[v] = isa.add(sums[v], isa.mul(x[v], x[v]));
        }
    }
    total(isa, sums)
}

/// `x / by * weight`.
#[inline(always)]
fn scale<I: Isa>(isa: I, x: &[f32], by: f32, weight: &[f32], out: &mut [f32]) {
    let ((x, x_rest), (weight, weight_rest)) = (x.as_chunks(), weight.as_chunks());
    let (out, out_rest) = out.as_chunks_mut();
    for ((x, weight), out) in x.iter().zip(weight).zip(out) {
        scale_piece(isa, x, by, weight, out);
    }
    if !x_rest.is_empty() {
        let mut last = [0.0; LANES];
        scale_piece(isa, &padded(x_rest, 0.0), by, &padded(weight_rest, 0.0), &mut last);
        out_rest.copy_from_slice(&last[..x_rest.len()]);
    }
}

#[inline(always)]
fn scale_piece<I: Isa>(
    isa: I,
    x: &[f32; LANES],
    by: f32,
    weight: &[f32; LANES],
    out: &mut [f32; LANES],
) {
    let (mut x, weight) = (load(isa, x), load(isa, weight));
    for v in 0..vectors::<I>() {
        x[v] = isa.mul(isa.div(x[v], isa.splat(by)), weight[v]);
    }
    store(isa, x, out);
}
