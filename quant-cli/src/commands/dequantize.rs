//! `quant dequantize`

use super::convert::copy;
use crate::Outcome;
use crate::args::Copy;
use crate::error::Failure;
use crate::input;

pub(crate) fn run(args: &Copy) -> Result<Outcome, Failure> {
    copy(args, |from, to, options| match input::is_folder(to) {
        true => quant_formats::dequantize_folder(from, to, options),
        false => quant_formats::dequantize(from, to, options),
    })
}
