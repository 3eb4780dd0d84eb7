//! One file for each command: it opens its input, does its work and prints the result.
//!
//! Commands import `args`, `input`, `output`, `progress` and `error`; [`quantize`] and [`report`]
//! also import [`plan`], and [`dequantize`] imports [`convert`]. Start reading at [`quantize`].

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
