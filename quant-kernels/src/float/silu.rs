//! `x / (1 + exp(-x))`, and the gate that is made of it.

use super::error::{FloatError, length};
use super::exp::exp;
use super::lanes::{LANES, Lanes, load, padded, store, vectors};
use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};

impl Kernel {
    /// Replaces each value by `x / (1 + exp(-x))`.
    ///
    /// `-∞` becomes NaN.
    pub fn silu(self, values: &mut [f32]) {
        self.run(Silu { values });
    }

    /// Writes `silu(gate) * up`.
    ///
    /// # Errors
    /// The slices differ in length.
    pub fn swiglu(self, gate: &[f32], up: &[f32], out: &mut [f32]) -> Result<(), FloatError> {
        length("up", gate.len(), up.len())?;
        length("output", gate.len(), out.len())?;
        self.run(SwiGlu { gate, up, out });
        Ok(())
    }
}

struct Silu<'a> {
    values: &'a mut [f32],
}

impl Operation for Silu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (pieces, rest) = self.values.as_chunks_mut();
        for piece in pieces {
            let values = silu(isa, load(isa, piece));
            store(isa, values, piece);
        }
        let mut last = [0.0; LANES];
        store(isa, silu(isa, load(isa, &padded(rest, 0.0))), &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

struct SwiGlu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Operation for SwiGlu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let ((gate, gate_rest), (up, up_rest)) = (self.gate.as_chunks(), self.up.as_chunks());
        let (out, out_rest) = self.out.as_chunks_mut();
        for ((gate, up), out) in gate.iter().zip(up).zip(out) {
            swiglu(isa, gate, up, out);
        }
        let mut last = [0.0; LANES];
        swiglu(isa, &padded(gate_rest, 0.0), &padded(up_rest, 0.0), &mut last);
        out_rest.copy_from_slice(&last[..out_rest.len()]);
    }
}

#[inline(always)]
fn silu<I: Isa>(isa: I, x: Lanes<I>) -> Lanes<I> {
    let mut x = x;
    for v in 0..vectors::<I>() {
        let negated = isa.mul(x[v], isa.splat(-1.0));
        x[v] = isa.div(x[v], isa.add(isa.splat(1.0), exp(isa, negated)));
    }
    x
}

#[inline(always)]
fn swiglu<I: Isa>(isa: I, gate: &[f32; LANES], up: &[f32; LANES], out: &mut [f32; LANES]) {
    let (mut gate, up) = (silu(isa, load(isa, gate)), load(isa, up));
    for v in 0..vectors::<I>() {
        gate[v] = isa.mul(gate[v], up[v]);
    }
    store(isa, gate, out);
}
