//! `quant dequantize`

use super::convert::copy;
use crate::Outcome;
use crate::args::Copy;
use crate::error::Failure;

pub(crate) fn run(args: &Copy) -> Result<Outcome, Failure> {
    copy(args, |from, to, options| quant_formats::dequantize(from, to, options))
}
