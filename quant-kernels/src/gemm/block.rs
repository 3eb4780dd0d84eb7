//! The operands of a product, and of the block of it that one thread computes.

use super::epilogue::{Epilogue, Strides, Target};
use crate::isa::Line;
use crate::pack::b::PackedWeights;
use crate::pack::source::Row;
use crate::pack::tiling::Tiling;
use crate::pack::units::Units;
use core::ops::Range;

/// The most rows, of a single tile, for which codes are unpacked piece by piece in the cache where
/// registers do not suffice. Unpacking a panel once takes as long as the products of one row.
pub(crate) const FEW_ROWS: usize = 8;

/// Some tiles times some panels.
pub(crate) struct Block<'a> {
    pub(crate) weights: &'a PackedWeights,
    pub(crate) units: &'a Units,
    pub(crate) tiling: Tiling,
    pub(crate) tiles: Range<usize>,
    pub(crate) panels: Range<usize>,
    pub(crate) packed_a: PackedA<'a>,
    pub(crate) epilogue: Epilogue<'a>,
    pub(crate) target: Target<'a>,
    pub(crate) strides: Strides,
    /// Memory for a panel of unpacked codes.
    pub(crate) unpacked: &'a mut [Line],
}

/// Rows that [`PackA`](crate::pack::a::PackA) has packed.
#[derive(Clone, Copy)]
pub(crate) struct PackedA<'a> {
    /// The index of the first row.
    pub(crate) first: usize,
    pub(crate) lines: &'a [Line],
    /// One per row, or one per unit and row.
    pub(crate) rows: &'a [Row],
    /// Whether rows have parameters for each unit.
    pub(crate) blocks: bool,
    /// Whether all zero points are 0.
    pub(crate) symmetric: bool,
    pub(crate) row_sums: &'a [i32],
    pub(crate) row_init: &'a [i32],
}

/// The whole product.
#[derive(Clone, Copy)]
pub(crate) struct Gemm<'a> {
    pub(crate) weights: &'a PackedWeights,
    pub(crate) units: &'a Units,
    pub(crate) tiling: Tiling,
    pub(crate) epilogue: Epilogue<'a>,
    pub(crate) target: Target<'a>,
    pub(crate) strides: Strides,
}

impl<'a> Gemm<'a> {
    /// The block of the product for some tiles and panels.
    ///
    /// # Safety
    /// - No other block that runs at the same time shares both a tile and a panel with this one, and nothing
    ///   else refers to the output meanwhile.
    /// - Different elements of the product have different positions under `strides`.
    pub(crate) unsafe fn block(
        &self,
        tiles: Range<usize>,
        panels: Range<usize>,
        packed_a: PackedA<'a>,
        unpacked: &'a mut [Line],
    ) -> Block<'a> {
        let Self { weights, units, tiling, epilogue, target, strides } = *self;
        Block {
            weights,
            units,
            tiling,
            tiles,
            panels,
            packed_a,
            epilogue,
            target,
            strides,
            unpacked,
        }
    }
}
