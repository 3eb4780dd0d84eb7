//! `quant report`

use crate::Answer;
use crate::args::Report;
use crate::error::Failure;

pub(crate) fn run(_args: &Report) -> Result<Answer, Failure> {
    Err(Failure::asked("not yet"))
}
