//! Checks of lengths.

use crate::error::LinearError;

/// A product of sizes that saturates is longer than any slice.
pub(crate) fn length(of: &'static str, expected: usize, found: usize) -> Result<(), LinearError> {
    if expected == found { Ok(()) } else { Err(LinearError::Length { of, expected, found }) }
}

pub(crate) fn one_or_each(of: &'static str, m: usize, found: usize) -> Result<(), LinearError> {
    if found == 1 { Ok(()) } else { length(of, m, found) }
}
