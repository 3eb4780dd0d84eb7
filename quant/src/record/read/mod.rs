//! From bytes to tensors: a record is checked, then read once, straight to where it stays.
//!
//! Imports `format`, and [`Record`](super::Record) to collect what is read. Start at [`source`],
//! which reads one input in order; [`record_file`] reads the tensors of a file in any order.

pub(super) mod elements;
pub(super) mod open_file;
pub(super) mod record_file;
pub(super) mod source;
