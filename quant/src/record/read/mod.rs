//! Reading: a record is validated, then each section is read once, directly into its final buffer.
//!
//! Imports `format` and [`Record`](super::Record). Start at [`source`], which reads one input from
//! start to end; [`record_file`] reads the tensors of a file in any order.

pub(super) mod elements;
pub(super) mod error;
pub(super) mod open_file;
pub(super) mod part;
pub(super) mod record_file;
pub(super) mod source;
