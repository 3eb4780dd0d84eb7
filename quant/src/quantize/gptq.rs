//! GPTQ: rounding one column after the other (rule 21).
//!
//! With `R` of [`Factor`], the error of a row of weights is `Σ_j (Σ_{i ≤ j} R_ij d_i)²` for errors
//! `d = w - ŵ`. When column `j` is rounded, the errors before it are known, and its term is least where
//! `ŵ_j` is next to `w_j + Σ_{i < j} R_ij d_i / R_jj`. These are the codes of the paper, which updates the
//! columns that follow in place of summing over those before.

use alloc::vec::Vec;

use super::weights::GroupParams;
use crate::moments::Factor;
use crate::scheme::{Grid, Groups};

/// The rows that are rounded at once.
const ROWS: usize = 16;

/// One number for each of the rows.
type Rows = [f64; ROWS];

/// What a tensor of rows is rounded with.
pub(super) struct Gptq<'a> {
    pub(super) groups: Groups,
    pub(super) grid: Grid,
    pub(super) factor: &'a Factor,
    /// The parameters of the groups for this method.
    pub(super) params: GroupParams,
    /// Those of rounding to the nearest, which rows keep that are better by it.
    pub(super) nearest: GroupParams,
}

impl Gptq<'_> {
    /// The parameters of the groups, and values whose nearest codes are those of the method.
    pub(super) fn round(mut self, values: &[f32]) -> (GroupParams, Vec<f32>) {
        let columns = self.factor.order().len();
        let per_row = self.groups_of_a_row(values.len() / columns);
        if per_row.is_none() {
            // A group has values of several rows: they share one decision.
            self.params = self.nearest.clone();
        }
        let mut rounded = values.to_vec();
        let mut state = State::new(columns);
        for (block, targets) in rounded.chunks_mut(ROWS * columns).enumerate() {
            let first = block * ROWS;
            let values = &values[first * columns..][..targets.len()];
            let errors =
                self.errors(&self.params, first, values, &mut state, |at, value, carried| {
                    targets[at] = (f64::from(value) + carried) as f32;
                    targets[at]
                });
            let nearest =
                self.errors(&self.nearest, first, values, &mut state, |_, value, _| value);
            for (row, target) in targets.chunks_exact_mut(columns).enumerate() {
                if errors[row] < nearest[row] {
                    continue;
                }
                target.copy_from_slice(&values[row * columns..][..columns]);
                if let Some(groups) = per_row {
                    let groups = (first + row) * groups..(first + row + 1) * groups;
                    self.params.copy_from(&self.nearest, groups);
                }
            }
        }
        (self.params, rounded)
    }

    /// The number of groups in each row; `None` if a group has values of several rows.
    fn groups_of_a_row(&self, rows: usize) -> Option<usize> {
        let of_a_row = self.groups.group_of(self.factor.order().len() - 1) + 1;
        (self.groups.count() == rows * of_a_row).then_some(of_a_row)
    }

    /// Rounds a block of rows: the error of each row. `target` gives the value whose nearest code is taken,
    /// by its position in the block, the value, and what makes up for the errors before it.
    fn errors(
        &self,
        params: &GroupParams,
        first: usize,
        values: &[f32],
        state: &mut State,
        mut target: impl FnMut(usize, f32, f64) -> f32,
    ) -> Rows {
        let columns = self.factor.order().len();
        let mut errors = [0.0; ROWS];
        for (j, &column) in self.factor.order().iter().enumerate() {
            let coefficients = self.factor.column(j);
            let (carried, diagonal) = (state.carried(coefficients), coefficients[j]);
            for row in 0..values.len() / columns {
                let at = row * columns + column;
                let target = target(at, values[at], carried[row] / diagonal);
                let group = self.groups.group_of(first * columns + at);
                let rounded = params.value_of(self.grid, group, target);
                let error = f64::from(values[at]) - f64::from(rounded);
                state.errors[j][row] = error;
                let term = carried[row] + diagonal * error;
                errors[row] += term * term;
            }
        }
        errors
    }
}

/// The errors of the columns so far, in their order.
struct State {
    errors: Vec<Rows>,
}

impl State {
    fn new(columns: usize) -> Self {
        Self { errors: alloc::vec![[0.0; ROWS]; columns] }
    }

    /// `Σ_{i < j} R_ij d_i`, of the coefficients `R_0j … R_jj`.
    fn carried(&self, coefficients: &[f64]) -> Rows {
        let mut sums = [0.0; ROWS];
        let before = &coefficients[..coefficients.len() - 1];
        for (coefficient, errors) in before.iter().zip(&self.errors) {
            for (sum, error) in sums.iter_mut().zip(errors) {
                *sum += coefficient * error;
            }
        }
        sums
    }
}
