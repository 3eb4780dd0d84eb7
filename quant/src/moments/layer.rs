//! The second moments of one layer.

use alloc::vec::Vec;
use core::fmt;
use std::sync::{Arc, OnceLock};

use super::error::MomentsError;
use super::factor::{Factor, Order};
use crate::kernel::Kernel;

/// `Σ x xᵀ` over the rows `x` that a layer has as inputs, or its diagonal `Σ x²`.
///
/// Matrices are exact: inputs are rounded to a grid of 20 bits and more, and the sums are integers, so they
/// do not depend on the order of batches. With `n` columns they take `4 · n · (n + 1)` bytes.
///
/// ```
/// use quant::moments::LayerMoments;
///
/// let mut moments = LayerMoments::for_inputs_up_to(4.0, 2)?;
/// moments.add(&[1.0, 2.0, 3.0, -4.0])?;
/// assert_eq!(moments.diagonal(), [10.0, 20.0]);
/// assert_eq!(moments.product(0, 1), Some(-10.0));
/// # Ok::<(), quant::moments::MomentsError>(())
/// ```
#[derive(Clone)]
pub struct LayerMoments {
    columns: usize,
    rows: u64,
    sums: Sums,
    /// By order, computed when they are first asked for.
    factors: [OnceLock<Arc<Factor>>; 2],
}

#[derive(Clone, Debug, PartialEq)]
enum Sums {
    /// Of each pair of columns, in units of `2^(2 · exponent)`; see [`Kernel::add_second_moments`].
    Matrix {
        exponent: i32,
        sums: Vec<i64>,
    },
    Diagonal(Vec<f64>),
}

impl LayerMoments {
    /// No rows yet, for rows of so many columns whose values have at most this magnitude. Larger ones
    /// saturate.
    ///
    /// # Errors
    /// No columns, more than 2^15, or a magnitude that is NaN or infinite.
    pub fn for_inputs_up_to(magnitude: f32, columns: usize) -> Result<Self, MomentsError> {
        if !magnitude.is_finite() {
            return Err(MomentsError::NonFinite { value: f64::from(magnitude) });
        }
        Self::from_matrix(
            Kernel::moment_exponent(magnitude),
            columns,
            0,
            alloc::vec![0; pairs(columns)?],
        )
    }

    /// The matrix as it is stored: the sum of the columns `i` and `j ≤ i` at `i · (i + 1) / 2 + j`, in units of
    /// `2^(2 · exponent)`.
    ///
    /// # Errors
    /// A number of columns that does not fit the number of sums, more rows than sums are exact for, an
    /// exponent that no magnitude has, or a negative square.
    pub fn from_matrix(
        exponent: i32,
        columns: usize,
        rows: u64,
        sums: Vec<i64>,
    ) -> Result<Self, MomentsError> {
        let expected = pairs(columns)?;
        if sums.len() != expected {
            return Err(MomentsError::Length { expected, found: sums.len() });
        }
        let range = Kernel::moment_exponent(0.0)..=Kernel::moment_exponent(f32::MAX);
        if !range.contains(&exponent) {
            return Err(MomentsError::Exponent { exponent });
        }
        check_rows(rows)?;
        let (mut diagonal, mut at) = (sums.iter().copied(), 0);
        while let Some(square) = diagonal.nth(at) {
            if square < 0 {
                return Err(MomentsError::Negative { value: square as f64 });
            }
            at += 1;
        }
        let sums = Sums::Matrix { exponent, sums };
        Ok(Self { columns, rows, sums, factors: Default::default() })
    }

    /// The diagonal alone, `Σ x²` of each column.
    ///
    /// # Errors
    /// No columns, or a sum that is negative, NaN or infinite.
    pub fn from_diagonal(squares: Vec<f64>, rows: u64) -> Result<Self, MomentsError> {
        let columns = squares.len();
        pairs(columns)?;
        if let Some(&value) = squares.iter().find(|value| !value.is_finite()) {
            return Err(MomentsError::NonFinite { value });
        }
        if let Some(&value) = squares.iter().find(|&&value| value < 0.0) {
            return Err(MomentsError::Negative { value });
        }
        Ok(Self { columns, rows, sums: Sums::Diagonal(squares), factors: Default::default() })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Values that are not whole rows, a value that is NaN or infinite, more than 2^22 rows, or moments of
    /// which only the diagonal is known. Nothing is added then.
    pub fn add(&mut self, values: &[f32]) -> Result<(), MomentsError> {
        if !values.len().is_multiple_of(self.columns) {
            return Err(MomentsError::Length { expected: self.columns, found: values.len() });
        }
        Kernel::current()
            .min_max(values)
            .map_err(|error| MomentsError::NonFinite { value: f64::from(error.value) })?;
        let rows = self.rows.saturating_add((values.len() / self.columns) as u64);
        check_rows(rows)?;
        let Sums::Matrix { exponent, sums } = &mut self.sums else {
            return Err(MomentsError::DiagonalOnly);
        };
        Kernel::current().add_second_moments(values, self.columns, *exponent, sums);
        self.rows = rows;
        self.factors = Default::default();
        Ok(())
    }

    /// Adds the rows of another part of the data.
    ///
    /// # Errors
    /// Another number of columns or another grid, or more than 2^22 rows.
    pub fn merge(&mut self, other: &Self) -> Result<(), MomentsError> {
        if self.columns != other.columns {
            let (expected, found) = (self.columns, other.columns);
            return Err(MomentsError::Columns { expected, found });
        }
        let rows = self.rows.saturating_add(other.rows);
        match (&mut self.sums, &other.sums) {
            (Sums::Matrix { exponent: a, sums }, Sums::Matrix { exponent: b, sums: others })
                if a == b =>
            {
                check_rows(rows)?;
                sums.iter_mut()
                    .zip(others)
                    .for_each(|(sum, other)| *sum = sum.wrapping_add(*other));
            }
            (Sums::Diagonal(sums), Sums::Diagonal(others)) => {
                sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
            }
            _ => return Err(MomentsError::OtherGrid),
        }
        self.rows = rows;
        self.factors = Default::default();
        Ok(())
    }

    /// The columns of the rows, which are the inputs of the layer.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The exponent and the sums of [`from_matrix`](Self::from_matrix); `None` if only the diagonal is
    /// known.
    pub fn matrix(&self) -> Option<(i32, &[i64])> {
        match &self.sums {
            Sums::Matrix { exponent, sums } => Some((*exponent, sums)),
            Sums::Diagonal(_) => None,
        }
    }

    /// `Σ x_k²` of each column.
    pub fn diagonal(&self) -> Vec<f64> {
        match &self.sums {
            Sums::Diagonal(squares) => squares.clone(),
            Sums::Matrix { exponent, sums } => {
                let unit = 2f64.powi(2 * exponent);
                (0..self.columns).map(|k| sums[pair(k, k)] as f64 * unit).collect()
            }
        }
    }

    /// `Σ x_i · x_j`; `None` if only the diagonal is known, or there are no such columns.
    pub fn product(&self, i: usize, j: usize) -> Option<f64> {
        let (exponent, sums) = self.matrix()?;
        let sum = *sums.get(pair(i.max(j), i.min(j))).filter(|_| i.max(j) < self.columns)?;
        Some(sum as f64 * 2f64.powi(2 * exponent))
    }

    /// What an error in each column costs: its sum of squares, of which 0 counts as the least other one.
    pub(crate) fn weights(&self) -> Vec<f64> {
        let mut weights = self.diagonal();
        let positive = weights.iter().copied().filter(|&weight| weight > 0.0);
        let least = positive.min_by(f64::total_cmp).unwrap_or(1.0);
        weights.iter_mut().filter(|weight| **weight == 0.0).for_each(|weight| *weight = least);
        weights
    }

    /// The factor of the damped matrix; `None` if only the diagonal is known.
    pub(crate) fn factor(&self, descending: bool) -> Option<Arc<Factor>> {
        let (_, sums) = self.matrix()?;
        let of = || {
            let order = Order::new(sums, self.columns, descending);
            Arc::new(Factor::new(sums, order))
        };
        Some(self.factors[usize::from(descending)].get_or_init(of).clone())
    }
}

/// The place of a pair of columns, of which the first one is not less.
pub(super) fn pair(i: usize, j: usize) -> usize {
    i * (i + 1) / 2 + j
}

/// The number of pairs of columns.
fn pairs(columns: usize) -> Result<usize, MomentsError> {
    /// The matrix of so many takes 4 GiB.
    const MOST: usize = 1 << 15;
    if columns == 0 || columns > MOST {
        return Err(MomentsError::Columns { expected: MOST, found: columns });
    }
    Ok(columns * (columns + 1) / 2)
}

fn check_rows(rows: u64) -> Result<(), MomentsError> {
    if rows > Kernel::MOMENT_ROWS { Err(MomentsError::Rows { rows }) } else { Ok(()) }
}

impl PartialEq for LayerMoments {
    fn eq(&self, other: &Self) -> bool {
        (self.columns, self.rows, &self.sums) == (other.columns, other.rows, &other.sums)
    }
}

impl fmt::Debug for LayerMoments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("LayerMoments");
        fields.field("columns", &self.columns).field("rows", &self.rows);
        fields.field("has_matrix", &self.matrix().is_some()).finish_non_exhaustive()
    }
}
