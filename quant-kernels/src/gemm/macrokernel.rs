//! The integer product (`docs/numerics.md`, rule 6): tiles of rows against panels of weights.
//!
//! ```text
//! for some panels                     they stay in the second-level cache
//!   for tile                          up to MR rows
//!     for panel                       NR outputs, all of K: see `tile`
//! ```
//! K is not cut: a panel is read once per tile, NR · K bytes for MR · NR · K products,
//! which every cache delivers in time; in return, sums never leave the registers.

use crate::gemm::epilogue::{Epilogue, Strides, Target};
use crate::gemm::microkernel::Microkernel;
use crate::isa::Line;
use crate::pack::b::PackedWeights;
use crate::pack::source::Row;
use crate::pack::tiling::Tiling;
use crate::pack::unpack::Unpack;
use core::ops::Range;

/// The most rows, of one tile, for which codes are unpacked piece by piece in the cache, where that is
/// not done in registers: once for a panel, it takes as long as the products of one row.
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
    /// PackedABuffers for a panel of unpacked codes.
    unpacked: &'a mut [Line],
}

/// Rows as [`PackA`](super::rows::PackA) left them.
#[derive(Clone, Copy)]
pub(crate) struct PackedA<'a> {
    /// The row that comes first.
    pub(crate) first: usize,
    pub(crate) lines: &'a [Line],
    pub(crate) rows: &'a [Row],
    pub(crate) row_offsets: &'a [i32],
    pub(crate) row_init: &'a [i32],
}

/// The whole product that parts are taken of.
#[derive(Clone, Copy)]
pub(crate) struct Gemm<'a> {
    pub(crate) weights: &'a PackedWeights,
    pub(crate) tiling: Tiling,
    pub(crate) epilogue: Epilogue<'a>,
    pub(crate) target: Target<'a>,
    pub(crate) strides: Strides,
}

impl<'a> Gemm<'a> {
    /// The part for some tiles and panels.
    ///
    /// # Safety
    /// - No other part that runs at the same time has both a tile and a panel in common with this
    ///   one, and nothing else refers to the output meanwhile.
    /// - Different elements of the product have different places under `strides`.
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

/// Bytes of panels that a tile is multiplied with before the next tile is: more of an output's row is
/// written at a time, and a tile is read less often. They are half of what a small second-level cache
/// has left beside packed_a rows.
const PANEL_BYTES: usize = 128 << 10;

impl Macrokernel<'_> {
    /// Writes its outputs.
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

    /// All tiles times some panels; one of them, if it is unpacked already.
    fn tiles(&self, panels: Range<usize>, unpacked: Option<&[Line]>) {
        let (weights, packed) = (self.weights, self.weights.bits < 8 && unpacked.is_none());
        for tiles in self.tiling.of_a_height(self.tiles.clone()) {
            let panels = panels.clone();
            // Microkernel of every height have code of their own, with all sums in registers.
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
