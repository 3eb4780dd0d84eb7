//! Functions of each element that need no kernel.

use rayon::prelude::*;

/// `min(max(x, 0), ceiling)` in place, for channels of `run` neighbours, one after the other. NaN becomes 0, as
/// by ReLU.
pub(super) fn clipped_relu(values: &mut [f32], run: usize, ceilings: &[f32]) {
    if ceilings.is_empty() || run == 0 {
        return;
    }
    // One ceiling is that of every element.
    let run = if ceilings.len() == 1 { RUN } else { run };
    values.par_chunks_mut(run * ceilings.len()).for_each(|row| {
        for (values, &ceiling) in row.chunks_mut(run).zip(ceilings) {
            values.iter_mut().for_each(|x| *x = if *x > 0.0 { x.min(ceiling) } else { 0.0 });
        }
    });
}

/// Elements of a piece of work: 64 KiB.
const RUN: usize = 1 << 14;
