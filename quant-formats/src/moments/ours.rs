//! The layout of this project.
//!
//! ```text
//! layers.0.query   I64  [n (n + 1) / 2]   Σ x_i x_j at i (i + 1) / 2 + j for j ≤ i, in units of 4^exponent
//! layers.1.query   F64  [n]               Σ x_i², where nothing else is known
//! __metadata__: "second-moments" = "1"
//!               "second-moments.layers.0.query" = "rows=4096 exponent=-18"
//!               "second-moments.layers.1.query" = "rows=4096"
//! ```

use quant::moments::{LayerMoments, MomentsError, MomentsInfo};

use super::error::MomentsFileError;
use crate::entry::StateEntry;
use crate::safetensors::{Dtype, foreign, foreign_kind};
use crate::text::shorten;

/// The key of the version.
pub(super) const KEY: &str = "second-moments";

pub(super) const VERSION: &str = "1";

/// The key of the description of a layer.
pub(super) fn key_of(id: &str) -> String {
    format!("{KEY}.{id}")
}

/// The sums of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stored {
    columns: usize,
    rows: u64,
    /// `None` if only the diagonal is stored.
    exponent: Option<i32>,
}

impl Stored {
    pub(super) fn of(moments: &LayerMoments) -> Self {
        let exponent = moments.matrix().map(|(exponent, _)| exponent);
        Self { columns: moments.columns(), rows: moments.rows(), exponent }
    }

    /// What a file says of its tensor, by the description in the metadata.
    pub(super) fn read(
        state: &StateEntry,
        description: Option<&String>,
    ) -> Result<Self, MomentsFileError> {
        let id = || state.id.clone();
        let Some(description) = description else {
            return Err(MomentsFileError::Description { id: id(), description: None });
        };
        let Some((rows, exponent)) = parse(description) else {
            let description = Some(shorten(description));
            return Err(MomentsFileError::Description { id: id(), description });
        };
        let columns = match (foreign(&state.kind, state.bytes), exponent) {
            (Some((Dtype::I64, shape)), Some(_)) => columns_of(&shape),
            (Some((Dtype::F64, shape)), None) => {
                shape.first().copied().filter(|_| shape.len() == 1)
            }
            _ => None,
        };
        let layout = || MomentsFileError::Layout { id: id(), found: shorten(&state.kind) };
        Ok(Self { columns: columns.ok_or_else(layout)?, rows, exponent })
    }

    pub(super) fn info(&self) -> MomentsInfo {
        MomentsInfo { columns: self.columns, has_matrix: self.exponent.is_some() }
    }

    pub(super) fn description(&self) -> String {
        let rows = self.rows;
        match self.exponent {
            Some(exponent) => format!("rows={rows} exponent={exponent}"),
            None => format!("rows={rows}"),
        }
    }

    /// The kind of the state that has the sums.
    pub(super) fn kind(&self) -> String {
        let dtype = if self.exponent.is_some() { Dtype::I64 } else { Dtype::F64 };
        foreign_kind(dtype, &[self.count()])
    }

    /// The bytes of the sums.
    pub(super) fn len(&self) -> u64 {
        8 * self.count() as u64
    }

    fn count(&self) -> usize {
        let columns = self.columns;
        if self.exponent.is_some() { columns * (columns + 1) / 2 } else { columns }
    }

    /// The moments whose sums these bytes are.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<LayerMoments, MomentsError> {
        let (chunks, _) = bytes.as_chunks::<8>();
        match self.exponent {
            Some(exponent) => {
                let sums = chunks.iter().map(|&chunk| i64::from_le_bytes(chunk)).collect();
                LayerMoments::from_matrix(exponent, self.columns, self.rows, sums)
            }
            None => {
                let squares = chunks.iter().map(|&chunk| f64::from_le_bytes(chunk)).collect();
                LayerMoments::from_diagonal(squares, self.rows)
            }
        }
    }
}

/// The bytes of the sums.
pub(super) fn encode(moments: &LayerMoments) -> Vec<u8> {
    match moments.matrix() {
        Some((_, sums)) => sums.iter().flat_map(|sum| sum.to_le_bytes()).collect(),
        None => moments.diagonal().into_iter().flat_map(f64::to_le_bytes).collect(),
    }
}

/// `rows=4096 exponent=-18`
fn parse(description: &str) -> Option<(u64, Option<i32>)> {
    let mut words = description.split(' ');
    let rows = words.next()?.strip_prefix("rows=")?.parse().ok()?;
    let exponent = match words.next() {
        Some(word) => Some(word.strip_prefix("exponent=")?.parse().ok()?),
        None => None,
    };
    words.next().is_none().then_some((rows, exponent))
}

/// The `n` of a shape `[n (n + 1) / 2]`.
fn columns_of(shape: &[usize]) -> Option<usize> {
    let &[pairs] = shape else { return None };
    let columns = (pairs.checked_mul(2)?).isqrt();
    (columns.checked_mul(columns + 1)? / 2 == pairs).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_a_triangle_are_found() {
        for columns in [1usize, 2, 3, 100, 32768] {
            assert_eq!(columns_of(&[columns * (columns + 1) / 2]), Some(columns));
        }
        for other in [&[2][..], &[4], &[1, 1], &[usize::MAX], &[]] {
            assert_eq!(columns_of(other), None, "{other:?}");
        }
        assert_eq!(columns_of(&[0]), Some(0));
    }

    #[test]
    fn descriptions_survive_the_way_to_text_and_back() {
        for stored in [
            Stored { columns: 3, rows: 7, exponent: Some(-18) },
            Stored { columns: 3, rows: 0, exponent: None },
        ] {
            assert_eq!(parse(&stored.description()), Some((stored.rows, stored.exponent)));
        }
        for other in ["", "rows", "rows=x", "rows=1 exponent=", "rows=1 exponent=2 ", "exponent=1"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
