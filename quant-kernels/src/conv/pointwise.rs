//! Pointwise convolutions: output positions are the positions of the image.

use crate::isa::Isa;
use crate::pack::source::{Row, Source};
use crate::scheme::NonFinite;

/// The positions of an image as rows of activations.
#[derive(Clone, Copy)]
pub(super) struct PointwiseRows<'a> {
    pub(super) codes: &'a [u8],
    pub(super) channels: usize,
    pub(super) row: Row,
}

impl Source for PointwiseRows<'_> {
    #[inline(always)]
    fn row(&self, _: impl Isa, _: usize) -> Result<Row, NonFinite> {
        Ok(self.row)
    }

    fn symmetric(&self) -> bool {
        self.row.zero == 128
    }

    #[inline(always)]
    fn fill_part(&self, _: Row, row: usize, k: usize, codes: &mut [u8]) {
        codes.copy_from_slice(&self.codes[row * self.channels + k..][..codes.len()]);
    }
}
