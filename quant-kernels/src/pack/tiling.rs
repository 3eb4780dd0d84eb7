//! Tiles of rows.

use core::ops::Range;

/// A partition of rows into tiles of nearly the same height, at most MR.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    rows: usize,
    tiles: usize,
}

impl Tiling {
    /// With enough rows, the number of tiles is a multiple of `workers`.
    pub(crate) fn new(rows: usize, mr: usize, workers: usize) -> Self {
        let tiles = rows.div_ceil(mr).next_multiple_of(workers);
        Self { rows, tiles: tiles.min(rows) }
    }

    pub(crate) fn tiles(self) -> usize {
        self.tiles
    }

    /// The rows of a tile.
    pub(crate) fn rows(self, tile: usize) -> Range<usize> {
        self.start(tile)..self.start(tile + 1)
    }

    /// The rows of some tiles.
    pub(crate) fn rows_of(self, tiles: Range<usize>) -> Range<usize> {
        self.start(tiles.start)..self.start(tiles.end)
    }

    /// Some tiles, split by height: the taller ones come first.
    pub(crate) fn of_a_height(self, tiles: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let middle = (self.rows % self.tiles).clamp(tiles.start, tiles.end);
        [tiles.start..middle, middle..tiles.end].into_iter().filter(|tiles| !tiles.is_empty())
    }

    fn start(self, tile: usize) -> usize {
        let (height, taller) = (self.rows / self.tiles, self.rows % self.tiles);
        tile * height + tile.min(taller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_a_height_are_all_tiles_in_order() {
        for (rows, mr, workers) in [(1, 4, 1), (7, 4, 2), (43, 12, 1), (44, 12, 3)] {
            let tiling = Tiling::new(rows, mr, workers);
            for start in 0..tiling.tiles() {
                let mut end = start;
                for tiles in tiling.of_a_height(start..tiling.tiles()) {
                    assert_eq!(tiles.start, end);
                    let height = tiling.rows(tiles.start).len();
                    assert!((1..=mr).contains(&height));
                    assert!(tiles.clone().all(|tile| tiling.rows(tile).len() == height));
                    end = tiles.end;
                }
                assert_eq!(end, tiling.tiles());
            }
        }
    }
}
