//! The macrokernel of integer products (`docs/numerics.md`, rule 6): tiles of rows times panels of
//! weights.
//!
//! ```text
//! for some panels                     they stay in the second-level cache
//!   for tile                          up to MR rows
//!     for panel                       NR outputs, all of K: see `microkernel`
//! ```
//! K is not split: a panel is read once per tile, NR · K bytes for MR · NR · K products, which every cache
//! delivers in time, and accumulators stay in registers.

use crate::gemm::epilogue::{Epilogue, Strides, Target};
use crate::gemm::microkernel::Microkernel;
use crate::isa::Line;
use crate::pack::b::PackedWeights;
use crate::pack::source::Row;
use crate::pack::tiling::Tiling;
use crate::pack::unpack::Unpack;
use core::ops::Range;

/// The most rows, of a single tile, for which codes are unpacked piece by piece in the cache where
/// registers do not suffice. Unpacking a panel once takes as long as the products of one row.
pub(crate) const FEW_ROWS: usize = 8;

/// Some tiles times some panels.
pub(crate) struct Macrokernel<'a> {
    pub(crate) weights: &'a PackedWeights,
    pub(crate) tiling: Tiling,
    tiles: Range<usize>,
    panels: Range<usize>,
    pub(crate) packed_a: PackedA<'a>,
    pub(crate) epilogue: Epilogue<'a>,
    pub(crate) target: Target<'a>,
    pub(crate) strides: Strides,
    /// Memory for a panel of unpacked codes.
    unpacked: &'a mut [Line],
}

/// Rows that [`PackA`](crate::pack::a::PackA) has packed.
#[derive(Clone, Copy)]
pub(crate) struct PackedA<'a> {
    /// The index of the first row.
    pub(crate) first: usize,
    pub(crate) lines: &'a [Line],
    pub(crate) rows: &'a [Row],
    pub(crate) row_offsets: &'a [i32],
    pub(crate) row_init: &'a [i32],
}

/// The whole product.
#[derive(Clone, Copy)]
pub(crate) struct Gemm<'a> {
    pub(crate) weights: &'a PackedWeights,
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
    ) -> Macrokernel<'a> {
        let Self { weights, tiling, epilogue, target, strides } = *self;
        Macrokernel {
            weights,
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

/// Bytes of panels that a tile is multiplied with before the next tile: longer runs of an output row are
/// written at a time, and a tile is read less often. Half of what packed rows leave of a small second-level
/// cache.
const PANEL_BYTES: usize = 128 << 10;

impl Macrokernel<'_> {
    /// Writes the outputs.
    pub(crate) fn run(mut self) {
        let room = core::mem::take(&mut self.unpacked);
        if self.unpacks_panels() {
            for panel in self.panels.clone() {
                let (weights, unpacked) = (self.weights, &mut *room);
                weights.multiply(Unpack { weights, panel, unpacked });
                self.tiles(panel..panel + 1, Some(room));
            }
            return;
        }
        let together = (PANEL_BYTES / self.weights.panel_bytes.max(1)).max(1);
        for panel in self.panels.clone().step_by(together) {
            self.tiles(panel..self.panels.end.min(panel + together), None);
        }
    }

    /// Whether a panel is unpacked once for all tiles.
    fn unpacks_panels(&self) -> bool {
        let rows = self.packed_a.rows.len();
        match (self.weights.bits, self.weights.unpack_above) {
            (8, 0) => false,
            (2, _) | (_, 0) => rows > FEW_ROWS || self.tiles.len() > 1,
            (_, most) => rows > most,
        }
    }

    /// Multiplies all tiles with some panels, or with one that is unpacked already.
    fn tiles(&self, panels: Range<usize>, unpacked: Option<&[Line]>) {
        let (weights, packed) = (self.weights, self.weights.bits < 8 && unpacked.is_none());
        for tiles in self.tiling.of_a_height(self.tiles.clone()) {
            let panels = panels.clone();
            // Each height of a tile has a function of its own, which keeps all accumulators in registers.
            macro_rules! heights {
                ($($height:literal)+) => {
                    match (self.tiling.rows(tiles.start).len(), packed) {
                        $(($height, true) => weights.multiply(Microkernel::<$height, true> {
                            product: self, tiles, panels, unpacked,
                        }),
                        ($height, false) => {
                            let tiles =
                                Microkernel::<$height, false> { product: self, tiles, panels, unpacked };
                            match unpacked {
                                None => weights.multiply(tiles),
                                Some(_) => weights.multiply_unpacked(tiles),
                            }
                        },)+
                        _ => unreachable!("tiles are at most 12 rows"),
                    }
                };
            }
            heights!(1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }
}
