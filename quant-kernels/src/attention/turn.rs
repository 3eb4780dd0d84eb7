//! Turning rows, so that no dimension is much larger than the others (`docs/numerics.md`, rule 17).

use crate::float::sqrt;

/// Multiplies a row by a Hadamard matrix, or, where its length is not a power of two, each run of as many
/// elements as the largest one that divides it. Products of two turned rows are those of the rows, and a row
/// that is turned twice is itself.
#[inline(always)]
pub(super) fn turn(row: &mut [f32]) {
    let len = 1 << row.len().trailing_zeros();
    let mut half = 1;
    if len >= LANES {
        for values in row.as_chunks_mut().0 {
            *values = step::<4>(step::<2>(step::<1>(*values)));
        }
        half = LANES;
    }
    while half < len {
        for pair in row.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / sqrt(len as f32);
    for value in row {
        *value *= scale;
    }
}

/// The row, turned, in a buffer.
#[inline(always)]
pub(super) fn turned<'a>(buffer: &'a mut [f32], row: &[f32]) -> &'a [f32] {
    buffer.copy_from_slice(row);
    turn(buffer);
    buffer
}

/// Neighbours that are turned together, which compilers do with vectors.
const LANES: usize = 8;

/// The sums and differences of elements that are `HALF` apart.
#[inline(always)]
fn step<const HALF: usize>(values: [f32; LANES]) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        let other = values[i ^ HALF];
        out[i] = if i & HALF == 0 { values[i] + other } else { other - values[i] };
    }
    out
}
