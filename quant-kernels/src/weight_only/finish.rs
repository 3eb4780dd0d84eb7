//! The epilogue of products of floats.

use super::FloatProduct;
use crate::gemm::epilogue::Target;
use crate::gemm::shared::Shared;
use crate::isa::Isa;
use crate::isa::lanes::WIDEST;
use core::ops::Range;

impl FloatProduct<'_> {
    /// Applies the epilogue to `y`, the columns of a panel for some rows, and writes them.
    ///
    /// Out of line, because every number of rows would compile it again.
    #[inline(never)]
    pub(super) fn finish<I: Isa>(&self, panel: usize, rows: Range<usize>, y: &mut [f32]) {
        let first = panel * I::NR;
        let count = I::NR.min(self.weights.n - first);
        for (row, y) in rows.zip(y.chunks_exact_mut(I::NR)) {
            if let Some(bias) = self.epilogue.bias {
                for j in 0..count {
                    y[j] += bias[first + j];
                }
            }
            if self.epilogue.relu {
                for j in 0..I::NR {
                    y[j] = if y[j] > 0.0 { y[j] } else { 0.0 };
                }
            }
            let start = row * self.weights.n + first;
            match self.target {
                Target::F32(out) => write(&out, start, &y[..count]),
                Target::I8(out, affine) => {
                    let (mut values, mut codes) = ([0.0; WIDEST], [0; WIDEST]);
                    values[..I::NR].copy_from_slice(y);
                    self.weights.kernel.quantize_by(&values, affine, &mut codes);
                    write(&out, start, &codes[..count]);
                }
                Target::I32(_) => {}
            }
        }
    }
}

#[inline(always)]
fn write<T: Copy>(out: &Shared<'_, T>, start: usize, values: &[T]) {
    // SAFETY: these places belong to one row and one panel, which no other product that runs at
    // the same time has (`FloatProduct::new`); the slice is gone before the next one is made.
    let out = unsafe { out.slice(start, values.len()) };
    out.copy_from_slice(values);
}
