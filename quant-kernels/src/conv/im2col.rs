//! Convolution as an integer product, group by group: output positions are the rows, output channels the
//! columns. The rows are gathered from the image (im2col) when a tile is packed.

use super::layout::Image;
use super::pointwise::PointwiseRows;
use super::shape::Geometry;
use crate::error::ConvError;
use crate::gemm::driver::GemmCall;
use crate::gemm::epilogue::{Epilogue, Output, Strides};
use crate::gemm::scratch::{Scratch, grown};
use crate::isa::Isa;
use crate::pack::b::PackedWeights;
use crate::pack::source::{Row, Source};
use crate::scheme::NonFinite;
use alloc::vec::Vec;

impl Image<'_> {
    /// Multiplies the im2col rows of each group with its matrix.
    pub(super) fn matrices(
        &self,
        groups: &[PackedWeights],
        laid_out: &mut Vec<u8>,
        mut output: Output<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ConvError> {
        let Geometry { shape, padded, .. } = *self.geometry;
        let size = padded[0] * padded[1] * shape.group_in();
        let laid_out = grown(laid_out, size, 0);
        let (pixels, n) = (self.geometry.pixels(), shape.group_out());
        for (group, weights) in groups.iter().enumerate() {
            self.lay_out(group, laid_out);
            let bias = self.epilogue.bias.map(|bias| &bias[group * n..][..n]);
            let epilogue = Epilogue { bias, relu: self.epilogue.relu };
            let strides = Strides { row: 1, column: pixels };
            let (kernel, m) = (self.kernel, pixels);
            let call = GemmCall { kernel, weights, m, epilogue, strides };
            let output = output.part(group * n * pixels, n * pixels);
            if shape.is_pointwise() {
                let source =
                    PointwiseRows { codes: laid_out, channels: shape.group_in(), row: self.row };
                call.run(source, output, scratch)?;
            } else {
                call.run(Im2col::new(self.geometry, self.row, laid_out), output, scratch)?;
            }
        }
        Ok(())
    }
}

/// The im2col matrix of an image: a row for each output position.
#[derive(Clone, Copy)]
struct Im2col<'a> {
    codes: &'a [u8],
    row: Row,
    /// Codes that are contiguous in a row and in the image.
    run: usize,
    /// Runs in a row of the kernel.
    runs: usize,
    /// The distances of runs, and of rows of the kernel.
    steps: [usize; 2],
    /// The distances of output positions, along a row and from row to row.
    strides: [usize; 2],
    out_width: usize,
}

impl<'a> Im2col<'a> {
    fn new(geometry: &Geometry<'_>, row: Row, codes: &'a [u8]) -> Self {
        let Geometry { shape, padded, out, .. } = geometry;
        let channels = shape.group_in();
        let joined = shape.dilation[1] == 1;
        Self {
            codes,
            row,
            run: if joined { channels * shape.kernel_size[1] } else { channels },
            runs: if joined { 1 } else { shape.kernel_size[1] },
            steps: [shape.dilation[1] * channels, shape.dilation[0] * padded[1] * channels],
            strides: [shape.stride[1] * channels, shape.stride[0] * padded[1] * channels],
            out_width: out[1],
        }
    }
}

impl Source for Im2col<'_> {
    #[inline(always)]
    fn row(&self, _: impl Isa, _: usize) -> Result<Row, NonFinite> {
        Ok(self.row)
    }

    fn symmetric(&self) -> bool {
        self.row.zero == 128
    }

    #[inline(always)]
    fn fill_part(&self, _: Row, row: usize, k: usize, mut codes: &mut [u8]) {
        let (y, x) = (row / self.out_width, row % self.out_width);
        let first = y * self.strides[1] + x * self.strides[0];
        let (mut run, mut skip) = (k / self.run, k % self.run);
        while !codes.is_empty() {
            let (down, right) = (run / self.runs, run % self.runs);
            let start = first + down * self.steps[1] + right * self.steps[0] + skip;
            let len = codes.len().min(self.run - skip);
            let (now, later) = codes.split_at_mut(len);
            now.copy_from_slice(&self.codes[start..start + len]);
            (codes, run, skip) = (later, run + 1, 0);
        }
    }
}
