//! Writes the outputs of a tile and a panel from memory, for tiles of every height.

use super::block::Block;
use super::shared::Shared;
use crate::isa::lanes::WIDEST;

/// Writes `lanes`, the outputs of a tile of rows from `first` on and a panel, without the padding columns
/// of the last panel. Contiguous elements are written together: those of a row of a matrix, or those of a
/// column of an image.
///
/// Not inlined: no instruction set would make it faster, and tiles that do not need it stay smaller.
#[inline(never)]
pub(crate) fn write<E: Copy>(
    block: &Block<'_>,
    out: &Shared<'_, E>,
    lanes: &[[E; WIDEST]],
    (first, panel): (usize, usize),
) {
    let Block { weights, strides, .. } = block;
    let count = weights.nr.min(weights.n - panel * weights.nr);
    let start = strides.place(first, panel * weights.nr);
    if strides.column == 1 {
        for (r, lanes) in lanes.iter().enumerate() {
            // SAFETY: these are places of this tile and this panel, which no other block has
            // (`Gemm::block`), and the slice is gone before the next one is made.
            let out = unsafe { out.slice(start + r * strides.row, count) };
            out.copy_from_slice(&lanes[..count]);
        }
        return;
    }
    for j in 0..count {
        // SAFETY: as above; rows are neighbours where columns are not (`Strides`).
        let out = unsafe { out.slice(start + j * strides.column, lanes.len()) };
        for (out, lanes) in out.iter_mut().zip(lanes) {
            *out = lanes[j];
        }
    }
}
