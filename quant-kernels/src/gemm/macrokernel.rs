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

use super::block::{Block, FEW_ROWS};
use super::microkernel::Microkernel;
use crate::isa::Line;
use crate::pack::unpack::Unpack;
use core::ops::Range;

/// Bytes of panels that a tile is multiplied with before the next tile: longer runs of an output row are
/// written at a time, and a tile is read less often. Half of what packed rows leave of a small second-level
/// cache.
const PANEL_BYTES: usize = 128 << 10;

impl Block<'_> {
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
        let rows = self.tiling.rows_of(self.tiles.clone()).len();
        match (self.weights.bits, self.weights.unpack_above) {
            (8, 0) => false,
            (2, _) | (_, 0) => {
                // Half a line is multiplied as stored, or unpacked before.
                self.units.half_lines || rows > FEW_ROWS || self.tiles.len() > 1
            }
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
                            block: self, tiles, panels, unpacked,
                        }),
                        ($height, false) => {
                            let tiles =
                                Microkernel::<$height, false> { block: self, tiles, panels, unpacked };
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
