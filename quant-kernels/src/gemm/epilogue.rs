//! From accumulators to outputs (`docs/numerics.md`, rule 6).

use super::shared::Shared;
use crate::elementwise::affine::Affine;
use crate::scheme::Quantization;

/// Operations that are applied to each output after the product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value per output, added last. If `None`, nothing is added.
    pub bias: Option<&'a [f32]>,
    /// Whether negative outputs and NaN become `+0.0`.
    pub relu: bool,
}

/// The destination of outputs, `[m, n]` in row-major order.
#[derive(Debug)]
pub enum Output<'a> {
    /// As floats.
    F32(&'a mut [f32]),
    /// As codes, quantized by rule 3.
    I8 {
        /// One code per output.
        codes: &'a mut [i8],
        /// How outputs become codes.
        quantization: Quantization,
    },
    /// As accumulators; scales and the epilogue are not applied.
    I32(&'a mut [i32]),
}

impl Output<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I8 { codes, .. } => codes.len(),
            Self::I32(sums) => sums.len(),
        }
    }

    /// The `len` elements from `start` on.
    pub(crate) fn part(&mut self, start: usize, len: usize) -> Output<'_> {
        let part = start..start + len;
        match self {
            Self::F32(values) => Output::F32(&mut values[part]),
            Self::I8 { codes, quantization } => {
                Output::I8 { codes: &mut codes[part], quantization: *quantization }
            }
            Self::I32(sums) => Output::I32(&mut sums[part]),
        }
    }
}

impl<'a> Output<'a> {
    /// The elements before `at`, and the others.
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Self::F32(values) => {
                let (left, right) = values.split_at_mut(at);
                (Self::F32(left), Self::F32(right))
            }
            Self::I8 { codes, quantization } => {
                let (left, right) = codes.split_at_mut(at);
                (Self::I8 { codes: left, quantization }, Self::I8 { codes: right, quantization })
            }
            Self::I32(sums) => {
                let (left, right) = sums.split_at_mut(at);
                (Self::I32(left), Self::I32(right))
            }
        }
    }
}

/// [`Output`] in a form that threads share.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    F32(Shared<'a, f32>),
    I8(Shared<'a, i8>, Affine),
    I32(Shared<'a, i32>),
}

impl<'a> Target<'a> {
    pub(crate) fn new(output: Output<'a>) -> Self {
        match output {
            Output::F32(values) => Self::F32(Shared::new(values)),
            Output::I8 { codes, quantization } => Self::I8(Shared::new(codes), quantization.into()),
            Output::I32(sums) => Self::I32(Shared::new(sums)),
        }
    }
}

/// The position of element `[row, column]` of a product `[m, n]` in the output: `row · self.row +
/// column · self.column`. One of the two strides is 1, and the other is at least `n` or `m`, so that
/// different elements have different positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strides {
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Strides {
    /// Rows of `n` contiguous elements.
    pub(crate) fn by_rows(n: usize) -> Self {
        Self { row: n, column: 1 }
    }

    /// The position of an element.
    #[inline(always)]
    pub(crate) fn place(self, row: usize, column: usize) -> usize {
        row * self.row + column * self.column
    }
}
