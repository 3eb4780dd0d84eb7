//! One file for each command: it opens its input, does its work and prints.
//!
//! A command imports [`args`](crate::args), [`input`](crate::input) and
//! [`output`](crate::output). Start reading at `quantize`.

pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod dequantize;
pub(crate) mod diff;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod plan;
pub(crate) mod quantize;
pub(crate) mod report;
pub(crate) mod verify;
