//! Softmax over rows.

use super::error::{FloatError, rows};
use super::exp::exp;
use super::lanes::{LANES, Lanes, load, padded, splat, store, total, vectors};
use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};

impl Kernel {
    /// Replaces each row of `row` values by `exp(x - max) / sum`.
    ///
    /// A row that has a NaN or `+∞`, or nothing but `-∞`, becomes NaN.
    ///
    /// # Errors
    /// `values` does not consist of whole rows.
    pub fn softmax(self, values: &mut [f32], row: usize) -> Result<(), FloatError> {
        rows(values.len(), row)?;
        if row > 0 {
            self.run(Softmax { values, row });
        }
        Ok(())
    }
}

struct Softmax<'a> {
    values: &'a mut [f32],
    row: usize,
}

impl Operation for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for row in self.values.chunks_exact_mut(self.row) {
            softmax(isa, row);
        }
    }
}

/// Softmax of a row.
#[inline(always)]
pub(crate) fn softmax<I: Isa>(isa: I, row: &mut [f32]) {
    let max = maximum(isa, row);
    let (pieces, rest) = row.as_chunks_mut::<LANES>();
    let mut sums = splat(isa, 0.0);
    for piece in &mut *pieces {
        exponentials(isa, piece, max, &mut sums);
    }
    // What is added to the sums for the filler is 0, which changes nothing.
    let mut last = padded(rest, f32::NEG_INFINITY);
    if !rest.is_empty() {
        exponentials(isa, &mut last, max, &mut sums);
    }
    let sum = total(isa, sums);
    for piece in pieces {
        divide(isa, piece, sum);
    }
    divide(isa, &mut last, sum);
    rest.copy_from_slice(&last[..rest.len()]);
}

/// The greatest value; NaN is ignored.
#[inline(always)]
fn maximum<I: Isa>(isa: I, row: &[f32]) -> f32 {
    let (pieces, rest) = row.as_chunks::<LANES>();
    let mut most = load(isa, &padded(rest, f32::NEG_INFINITY));
    for v in 0..vectors::<I>() {
        most[v] = isa.greatest(most[v], isa.splat(f32::NEG_INFINITY));
    }
    for piece in pieces {
        let values = load(isa, piece);
        for v in 0..vectors::<I>() {
            most[v] = isa.greatest(values[v], most[v]);
        }
    }
    let mut all = [0.0; LANES];
    store(isa, most, &mut all);
    all.iter().fold(f32::NEG_INFINITY, |most, value| if *value > most { *value } else { most })
}

/// Replaces values by `exp(x - max)`, and adds those to the sums.
#[inline(always)]
fn exponentials<I: Isa>(isa: I, values: &mut [f32; LANES], max: f32, sums: &mut Lanes<I>) {
    let mut lanes = load(isa, values);
    for v in 0..vectors::<I>() {
        lanes[v] = exp(isa, isa.sub(lanes[v], isa.splat(max)));
        sums[v] = isa.add(sums[v], lanes[v]);
    }
    store(isa, lanes, values);
}

#[inline(always)]
fn divide<I: Isa>(isa: I, values: &mut [f32; LANES], by: f32) {
    let mut lanes = load(isa, values);
    for v in 0..vectors::<I>() {
        lanes[v] = isa.div(lanes[v], isa.splat(by));
    }
    store(isa, lanes, values);
}
