//! Sums of the products of the columns of a matrix, in integers.
//!
//! ```text
//! q[t,k] = clamp(rne(x[t,k] / 2^e), -2^20, 2^20),  sums[i,j] = sums[i,j] + Σ_t q[t,i] · q[t,j]
//! ```
//!
//! The sums are exact, so they do not depend on the order of rows, nor on the kernel. Products are taken in
//! f64, which holds sums of at most [`ROWS`] of them exactly.

use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};

/// The greatest magnitude of an integer, as a power of two.
const BITS: u32 = 20;

/// The rows whose products are summed in f64: `2^40 · 2^12` is below `2^53`. So many rows of a
/// panel are 16 KiB.
const ROWS: usize = 256;

/// The columns of a panel.
const COLUMNS: usize = 8;

/// The columns of another panel that are multiplied with a panel at once.
const TILE: usize = 4;

impl Kernel {
    /// The most rows whose sums fit into an i64 for certain.
    pub const MOMENT_ROWS: u64 = 1 << 22;

    /// The least exponent `e` with which no value of this magnitude saturates in
    /// [`add_second_moments`](Self::add_second_moments).
    ///
    /// `2^e` is at most 2^-19 of the magnitude, so that the greatest value has 20 bits. A magnitude of 0
    /// has the exponent of the least normal f32.
    pub fn moment_exponent(magnitude: f32) -> i32 {
        let magnitude = magnitude.abs().max(f32::MIN_POSITIVE);
        // The exponent of the next power of two that is not below.
        let bits = magnitude.to_bits();
        let exponent = (bits >> 23) as i32 - 127 + i32::from(bits & 0x7F_FFFF != 0);
        exponent - BITS as i32
    }

    /// Adds `Σ_t q[t,i] · q[t,j]` to the sum of each pair of columns `j ≤ i`, where `q` is the integer next
    /// to `x / 2^exponent`, at most `2^20`. `values` has rows of `columns`.
    ///
    /// The sum of a pair stands at `i · (i + 1) / 2 + j`. Sums of [`MOMENT_ROWS`](Self::MOMENT_ROWS) rows fit;
    /// later ones may wrap.
    ///
    /// ```
    /// use quant_kernels::Kernel;
    /// let exponent = Kernel::moment_exponent(4.0);
    /// let mut sums = [0; 3];
    /// Kernel::current().add_second_moments(&[1.0, 2.0, 3.0, -4.0], 2, exponent, &mut sums);
    /// let unit = 2f64.powi(2 * exponent);
    /// assert_eq!(sums.map(|sum| sum as f64 * unit), [10.0, -10.0, 20.0]);
    /// ```
    ///
    /// # Panics
    /// `values` does not consist of whole rows, or `sums` is not as long as there are pairs.
    pub fn add_second_moments(
        self,
        values: &[f32],
        columns: usize,
        exponent: i32,
        sums: &mut [i64],
    ) {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "rows of {columns} values");
        assert_eq!(sums.len(), columns * (columns + 1) / 2, "a sum for each pair of columns");
        let unit = power_of_two(-exponent);
        let mut panels = alloc::vec![[0.0; COLUMNS]; columns.div_ceil(COLUMNS) * ROWS];
        for rows in values.chunks(ROWS * columns) {
            let count = rows.len() / columns;
            pack(rows, columns, unit, &mut panels);
            self.run(Products { panels: &panels, rows: count, columns, sums: &mut *sums });
        }
    }
}

/// `2^exponent`, of which the exponent is at most 149 + 20.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023).clamp(1, 2046) as u64) << 52)
}

/// The integers of some rows, in panels of [`ROWS`] rows. Columns that there are not are 0.
fn pack(values: &[f32], columns: usize, unit: f64, panels: &mut [[f64; COLUMNS]]) {
    const LARGEST: f64 = (1 << BITS) as f64;
    /// `1.5 · 2^52`, whose sum with a small number is rounded to an integer.
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    for (t, row) in values.chunks_exact(columns).enumerate() {
        for (panel, part) in row.chunks(COLUMNS).enumerate() {
            let packed = &mut panels[panel * ROWS + t];
            for (packed, &value) in packed.iter_mut().zip(part) {
                let scaled = (f64::from(value) * unit).clamp(-LARGEST, LARGEST);
                *packed = (scaled + ROUNDING) - ROUNDING;
            }
        }
    }
}

struct Products<'a> {
    panels: &'a [[f64; COLUMNS]],
    rows: usize,
    columns: usize,
    sums: &'a mut [i64],
}

impl Operation for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Self { panels, rows, columns, sums } = self;
        let panel = |index: usize| &panels[index * ROWS..][..rows];
        for i in (0..columns).step_by(TILE) {
            let left = panel(i / COLUMNS);
            for right in 0..=i / COLUMNS {
                let tile = multiply(left, i % COLUMNS, panel(right));
                for (a, row) in tile.iter().enumerate().take(columns - i) {
                    let first = (i + a) * (i + a + 1) / 2 + right * COLUMNS;
                    let count = COLUMNS.min((i + a + 1).saturating_sub(right * COLUMNS));
                    for (sum, product) in sums[first..first + count].iter_mut().zip(row) {
                        *sum = sum.wrapping_add(*product as i64);
                    }
                }
            }
        }
    }
}

/// The products of [`TILE`] columns of a panel, from `first` on, and all columns of another.
#[inline(always)]
fn multiply(
    left: &[[f64; COLUMNS]],
    first: usize,
    right: &[[f64; COLUMNS]],
) -> [[f64; COLUMNS]; TILE] {
    let mut sums = [[0.0; COLUMNS]; TILE];
    for (left, right) in left.iter().zip(right) {
        for a in 0..TILE {
            for b in 0..COLUMNS {
                sums[a][b] += left[(first + a) % COLUMNS] * right[b];
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn by_definition(values: &[f32], columns: usize, exponent: i32) -> Vec<i64> {
        let q = |x: f32| (f64::from(x) * 2f64.powi(-exponent)).round_ties_even() as i64;
        let mut sums = Vec::new();
        for i in 0..columns {
            for j in 0..=i {
                sums.push(values.chunks(columns).map(|row| q(row[i]) * q(row[j])).sum());
            }
        }
        sums
    }

    #[test]
    fn every_kernel_gives_the_sums_of_the_definition() {
        let value = |i: usize| ((i * 7919) % 1009) as f32 * 0.013 - 6.0;
        for columns in [1, 3, 4, 7, 8, 9, 17, 24] {
            for rows in [1, 2, 255, 256, 257, 300] {
                let values: Vec<f32> = (0..rows * columns).map(value).collect();
                let exponent = Kernel::moment_exponent(7.2);
                let expected = by_definition(&values, columns, exponent);
                for kernel in Kernel::available() {
                    let mut sums = alloc::vec![0; expected.len()];
                    kernel.add_second_moments(&values, columns, exponent, &mut sums);
                    assert_eq!(sums, expected, "{kernel} {rows} × {columns}");
                }
            }
        }
    }

    #[test]
    fn the_greatest_values_of_a_full_chunk_are_summed_exactly() {
        let values = [8.0f32; ROWS];
        let exponent = Kernel::moment_exponent(8.0);
        let mut sums = [0];
        Kernel::current().add_second_moments(&values, 1, exponent, &mut sums);
        assert_eq!(sums, [1 << 48]);
    }

    #[test]
    fn an_exponent_makes_the_magnitude_20_bits() {
        for (magnitude, power) in [(1.0, 0), (1.5, 1), (2.0, 1), (0.75, 0), (f32::MAX, 128)] {
            assert_eq!(Kernel::moment_exponent(magnitude), power - 20, "{magnitude}");
        }
        assert_eq!(Kernel::moment_exponent(0.0), -126 - 20);
        assert_eq!(Kernel::moment_exponent(-3.0), Kernel::moment_exponent(3.0));
    }

    #[test]
    fn values_beyond_the_range_saturate() {
        let exponent = Kernel::moment_exponent(1.0);
        let mut sums = [0];
        Kernel::current().add_second_moments(&[1e30], 1, exponent, &mut sums);
        assert_eq!(sums, [1 << 40]);
    }
}
