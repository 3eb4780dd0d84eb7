//! A gate: a product of two values, one of which passes through a function.

use super::each::silu;
use super::error::{FloatError, length};
use super::lanes::{LANES, load, padded, store, vectors};
use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};

impl Kernel {
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
fn swiglu<I: Isa>(isa: I, gate: &[f32; LANES], up: &[f32; LANES], out: &mut [f32; LANES]) {
    let (mut gate, up) = (load(isa, gate), load(isa, up));
    for v in 0..vectors::<I>() {
        gate[v] = isa.mul(silu(isa, gate[v]), up[v]);
    }
    store(isa, gate, out);
}
