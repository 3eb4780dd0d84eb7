//! Writes the outputs of a tile and a panel from memory: code that tiles of every height share.

use super::block::Block;
use super::epilogue::{Epilogue, Target};
use super::shared::Shared;
use crate::isa::lanes::WIDEST;
use crate::isa::{Isa, Operation};

/// The tile of rows from `first` on times a panel.
#[derive(Clone, Copy)]
pub(crate) struct TileOutput<'a> {
    pub(crate) block: &'a Block<'a>,
    pub(crate) first: usize,
    pub(crate) panel: usize,
}

impl TileOutput<'_> {
    /// The number of columns without the padding of the last panel.
    fn columns(&self) -> usize {
        let weights = self.block.weights;
        weights.nr.min(weights.n - self.panel * weights.nr)
    }

    /// Writes `lanes` without padding columns. Contiguous elements are written together: those of a row
    /// of a matrix, or those of a column of an image.
    ///
    /// Not inlined: no instruction set would make it faster.
    #[inline(never)]
    pub(crate) fn write<E: Copy>(&self, out: &Shared<'_, E>, lanes: &[[E; WIDEST]]) {
        let (count, strides) = (self.columns(), self.block.strides);
        let start = strides.place(self.first, self.panel * self.block.weights.nr);
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
}

/// Applies the epilogue to outputs and writes them.
pub(crate) struct Finish<'a> {
    pub(crate) tile: TileOutput<'a>,
    pub(crate) lanes: &'a mut [[f32; WIDEST]],
}

/// Rows of the tallest tile of any instruction set.
const MOST_ROWS: usize = 12;

impl Operation for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        const { assert!(I::MR <= MOST_ROWS) };
        let Self { tile, lanes } = self;
        let Epilogue { bias, relu } = tile.block.epilogue;
        if let Some(bias) = bias {
            let first = tile.panel * tile.block.weights.nr;
            // Padding columns get 0.
            let mut padded = [0.0; WIDEST];
            padded[..tile.columns()].copy_from_slice(&bias[first..][..tile.columns()]);
            for lanes in lanes.iter_mut() {
                for j in 0..WIDEST {
                    lanes[j] += padded[j];
                }
            }
        }
        if relu {
            for lane in lanes.as_flattened_mut() {
                *lane = if *lane > 0.0 { *lane } else { 0.0 };
            }
        }
        match tile.block.target {
            Target::F32(out) => tile.write(&out, lanes),
            Target::I8(out, affine) => {
                let mut codes = [[0; WIDEST]; MOST_ROWS];
                for (lanes, codes) in lanes.iter().zip(&mut codes) {
                    affine.codes(isa, lanes, codes);
                }
                tile.write(&out, &codes[..lanes.len()]);
            }
            Target::I32(_) => {}
        }
    }
}
