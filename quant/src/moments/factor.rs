//! A triangular factor of second moments.

use alloc::vec::Vec;

use super::layer::pair;

/// The rows of a product that are summed at once.
const TILE: usize = 4;

/// The order in which columns are quantized.
pub(super) struct Order(Vec<usize>);

impl Order {
    /// That of storage, or descending by the diagonal; of equal ones the first in storage comes first.
    pub(super) fn new(sums: &[i64], columns: usize, descending: bool) -> Self {
        let mut order: Vec<usize> = (0..columns).collect();
        if descending {
            order.sort_by_key(|&k| core::cmp::Reverse(sums[pair(k, k)]));
        }
        Self(order)
    }
}

/// The upper triangular `R` of `R Rᵀ = H + λ I`, of which `λ` is a hundredth of the mean of the diagonal
/// of `H`, with columns in an order.
///
/// `Σ_j (Σ_{i ≤ j} R_ij d_i)²` is the damped squared error `dᵀ H d` of the outputs for errors `d` of a
/// row of weights. `H` is divided by the mean of its diagonal.
#[derive(Debug)]
pub(crate) struct Factor {
    order: Vec<usize>,
    /// Row `j` has `R_0j … R_jj`.
    columns: Vec<f64>,
}

impl Factor {
    pub(super) fn new(sums: &[i64], Order(order): Order) -> Self {
        let count = order.len();
        let mean = (0..count).map(|k| sums[pair(k, k)] as f64).sum::<f64>() / count as f64;
        // Without inputs each error costs the same.
        let unit = if mean > 0.0 { 1.0 / mean } else { 1.0 };
        let mut matrix = Vec::with_capacity(sums.len());
        for (j, &column) in order.iter().enumerate() {
            for &row in &order[..=j] {
                matrix.push(sums[pair(column.max(row), column.min(row))] as f64 * unit);
            }
            *matrix.last_mut().expect("the diagonal") += if mean > 0.0 { 0.01 } else { 1.0 };
        }
        decompose(&mut matrix, count);
        Self { order, columns: matrix }
    }

    /// The columns in the order in which they are quantized.
    pub(crate) fn order(&self) -> &[usize] {
        &self.order
    }

    /// `R_0j … R_jj`.
    pub(crate) fn column(&self, j: usize) -> &[f64] {
        &self.columns[pair(j, 0)..=pair(j, j)]
    }
}

/// Replaces the lower triangle of a positive definite matrix by the rows of `Rᵀ`, the last one first.
fn decompose(matrix: &mut [f64], count: usize) {
    let mut end = count;
    while end > 0 {
        let start = end.saturating_sub(TILE);
        let (tile, done) = matrix.split_at_mut(pair(end, 0));
        subtract(tile, start..end, done);
        for m in (start..end).rev() {
            let (rows, row) = tile[..=pair(m, m)].split_at_mut(pair(m, 0));
            // Of a damped matrix it is positive but for rounding.
            let diagonal = row[m].max(f64::MIN_POSITIVE).sqrt();
            row.iter_mut().for_each(|entry| *entry /= diagonal);
            row[m] = diagonal;
            for i in start..m {
                let factor = row[i];
                let others = &mut rows[pair(i, 0)..=pair(i, i)];
                others.iter_mut().zip(&*row).for_each(|(entry, r)| *entry -= factor * r);
            }
        }
        end = start;
    }
}

/// Subtracts the products with the rows that are done, which follow the tile, from the rows of the tile.
fn subtract(tile: &mut [f64], rows: core::ops::Range<usize>, done: &[f64]) {
    let end = rows.end;
    let (mut at, mut length) = (0, end + 1);
    while at < done.len() {
        let row = &done[at..at + length];
        for i in rows.clone() {
            let factor = row[i];
            let entries = &mut tile[pair(i, 0)..=pair(i, i)];
            entries.iter_mut().zip(row).for_each(|(entry, r)| *entry -= factor * r);
        }
        at += length;
        length += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A Aᵀ` of a small integer matrix.
    fn sums(columns: usize) -> Vec<i64> {
        let a = |i: usize, t: usize| ((i * 7 + t * 13 + i * t) % 11) as i64 - 5;
        let mut sums = Vec::new();
        for i in 0..columns {
            for j in 0..=i {
                sums.push((0..2 * columns).map(|t| a(i, t) * a(j, t)).sum());
            }
        }
        sums
    }

    #[test]
    fn the_product_of_the_factor_is_the_damped_matrix() {
        for columns in [1, 2, 3, 4, 5, 9, 13] {
            for descending in [false, true] {
                let sums = sums(columns);
                let factor = Factor::new(&sums, Order::new(&sums, columns, descending));
                let mean =
                    (0..columns).map(|k| sums[pair(k, k)] as f64).sum::<f64>() / columns as f64;
                for j in 0..columns {
                    for i in 0..=j {
                        let product: f64 =
                            (j..columns).map(|m| factor.column(m)[i] * factor.column(m)[j]).sum();
                        let [a, b] = [i, j].map(|at| factor.order()[at]);
                        let damping = if i == j { 0.01 } else { 0.0 };
                        let expected = sums[pair(a.max(b), a.min(b))] as f64 / mean + damping;
                        assert!((product - expected).abs() < 1e-9, "{columns} {i} {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_is_descending_by_the_diagonal_and_stable() {
        let sums = [4, 0, 9, 0, 0, 4, 0, 0, 0, 10];
        assert_eq!(Order::new(&sums, 4, true).0, [3, 1, 0, 2]);
        assert_eq!(Order::new(&sums, 4, false).0, [0, 1, 2, 3]);
    }

    #[test]
    fn moments_of_no_rows_have_a_factor_of_ones() {
        let factor = Factor::new(&[0; 3], Order::new(&[0; 3], 2, false));
        assert_eq!((factor.column(0), factor.column(1)), (&[1.0][..], &[0.0, 1.0][..]));
    }
}
