//! From sums of neighbouring positions of one channel to outputs (`docs/numerics.md`, rule 6).

use super::shape::PIXELS;
use crate::elementwise::affine::Affine;
use crate::gemm::epilogue::Output;
use crate::isa::Isa;

/// What becomes of the sums of a channel.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    /// `sa * sw`.
    pub(super) scale: f32,
    pub(super) bias: Option<f32>,
    pub(super) relu: bool,
}

impl Finish {
    /// Writes the first `count` outputs, from `start` on.
    #[inline(always)]
    pub(super) fn write<I: Isa>(
        self,
        isa: I,
        sums: &[i32; PIXELS],
        output: &mut Output<'_>,
        start: usize,
        count: usize,
    ) {
        if let Output::I32(out) = output {
            return write(out, start, sums, count);
        }
        let mut values = [0.0; PIXELS];
        for at in (0..PIXELS).step_by(I::LANES) {
            let lanes = at..at + I::LANES;
            let sums = isa.to_floats(isa.load_ints(&sums[lanes.clone()]));
            let mut scaled = isa.mul(sums, isa.splat(self.scale));
            if let Some(bias) = self.bias {
                scaled = isa.add(scaled, isa.splat(bias));
            }
            if self.relu {
                scaled = isa.relu(scaled);
            }
            isa.store(scaled, &mut values[lanes]);
        }
        match output {
            Output::F32(out) => write(out, start, &values, count),
            Output::I8 { codes: out, quantization } => {
                let mut codes = [0; PIXELS];
                Affine::from(*quantization).codes(isa, &values, &mut codes);
                write(out, start, &codes, count);
            }
            Output::I32(_) => {}
        }
    }
}

/// Copies a length that is known at compile time, if possible.
#[inline(always)]
fn write<T: Copy>(out: &mut [T], start: usize, values: &[T; PIXELS], count: usize) {
    if count == PIXELS {
        out[start..start + PIXELS].copy_from_slice(values);
    } else {
        out[start..start + count].copy_from_slice(&values[..count]);
    }
}
