//! Float products and functions.
//!
//! Products are those of `rten-gemm`: of the crates measured (`benches`, `gemm`) the fastest at
//! the shapes of layers, where weights are packed once and rows are few.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_tensor::{MatrixLayout, NdTensorView};
use rten_vecmath::{Gelu, Normalize, NormalizeOptions, Sigmoid, Softmax, Sum, SumSquareSub, Tanh};

use super::param::CpuParam;
use crate::error::ForwardError;
use crate::ops::Unary;
use quant::module::Cache;
use quant::tensor::QuantizedTensor;
use quant_kernels::Kernel;

/// Elements of the chunk of one thread: 64 KiB, which fit into a second-level cache.
const CHUNK: usize = 1 << 14;

/// `x · wᵀ + b` into `y`; `x` is `[rows, in]`.
pub(crate) fn linear(
    x: &[f32],
    rows: usize,
    weight: &dyn CpuParam,
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    if y.is_empty() || x.is_empty() {
        // rten-gemm refuses empty matrices. A sum of no products is 0.
        let outputs = weight.shape()[0].max(1);
        y.chunks_mut(outputs).for_each(|y| bias.map_or((), |bias| y.copy_from_slice(bias)));
        return Ok(());
    }
    let gemm = GemmExecutor::<f32>::new();
    let packed = weight.cache().get_or_make(|| pack(&gemm, weight))?;
    let x = NdTensorView::from_data([rows, packed.rows()], x);
    gemm.gemm(
        y,
        GemmInputA::Unpacked(x),
        GemmInputB::Packed(&packed),
        GemmOptions { bias: bias.map(BiasVector::Row), ..GemmOptions::default() },
    )
    .map_err(|error| ForwardError::Backend(error.to_string()))
}

fn pack(
    gemm: &GemmExecutor<f32>,
    weight: &dyn CpuParam,
) -> Result<PackedBMatrix<f32>, ForwardError> {
    let (outputs, inputs) = (weight.shape()[0], weight.shape()[1]);
    let values = weight.values();
    let view = NdTensorView::from_data([outputs, inputs], &*values);
    Ok(gemm.prepack_b(view.transposed()))
}

/// The values of a quantized parameter, which stay in its cache.
pub(crate) fn dequantized(
    tensor: &QuantizedTensor,
    cache: &Cache,
) -> Result<Arc<Vec<f32>>, ForwardError> {
    cache.get_or_make(|| Ok(tensor.dequantize()))
}

/// `a · b` in floats, on the threads of the current `rayon` pool.
///
/// # Panics
/// If the number of columns of `a` is not the number of rows of `b`.
pub fn matmul(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f32> {
    assert_eq!(a.ncols(), b.nrows(), "a has as many columns as b has rows");
    let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
    let mut y = Array2::zeros((a.nrows(), b.ncols()));
    let slices = (a.as_slice(), b.as_slice(), y.as_slice_mut());
    if let (Some(left), Some(right), Some(y)) = slices {
        let left = NdTensorView::from_data([a.nrows(), a.ncols()], left);
        let right = NdTensorView::from_data([b.nrows(), b.ncols()], right);
        product(left, right, 1.0, y);
    }
    y
}

/// `alpha · a · b` into `y`. The shapes must fit.
pub(crate) fn product(
    a: NdTensorView<'_, f32, 2>,
    b: NdTensorView<'_, f32, 2>,
    alpha: f32,
    y: &mut [f32],
) {
    if y.is_empty() || a.cols() == 0 {
        return y.fill(0.0);
    }
    let options = GemmOptions { alpha, ..GemmOptions::default() };
    GemmExecutor::<f32>::new()
        .gemm(y, GemmInputA::Unpacked(a), GemmInputB::Unpacked(b), options)
        .expect("the shapes fit, and nothing is packed");
}

/// Calls `f` with rows of `row` elements, several at a time, on the threads of the pool.
fn for_each_row(values: &mut [f32], row: usize, f: impl Fn(&mut [f32]) + Sync) {
    let at_once = (CHUNK / row).max(1) * row;
    values.par_chunks_mut(at_once).for_each(|rows| rows.chunks_mut(row).for_each(&f));
}

pub(crate) fn softmax(values: &mut [f32], row: usize) {
    for_each_row(values, row, softmax_row);
}

pub(crate) fn softmax_row(row: &mut [f32]) {
    Softmax::new_mut(row).dispatch();
}

pub(crate) fn layer_norm(values: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let n = weight.len().max(1);
    for_each_row(values, n, |row| {
        let mean = Sum::new(row).dispatch() / n as f32;
        let variance = SumSquareSub::new(row, mean).dispatch() / n as f32;
        let options = NormalizeOptions {
            pre_scale_bias: mean,
            scale: 1.0 / (variance + epsilon).sqrt(),
            element_scale: Some(weight),
            element_bias: Some(bias),
            ..NormalizeOptions::default()
        };
        Normalize::new_mut(row, options).dispatch();
    });
}

pub(crate) fn unary(values: &mut [f32], function: Unary) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    values.par_chunks_mut(CHUNK).for_each(|values| match function {
        Unary::Relu => values.iter_mut().for_each(|x| *x = if *x > 0.0 { *x } else { 0.0 }),
        Unary::Gelu => Gelu {}.map_mut(values),
        Unary::Tanh => Tanh {}.map_mut(values),
        Unary::Sigmoid => Sigmoid {}.map_mut(values),
        Unary::Silu => kernel.silu(values),
    });
    Ok(())
}

/// Normalizes images, whose channels have `pixels` elements, in place.
pub(crate) fn batch_norm(
    y: &mut [f32],
    pixels: usize,
    [gamma, beta, mean, variance]: [&[f32]; 4],
    epsilon: f32,
) {
    for (i, y) in y.chunks_mut(pixels.max(1)).enumerate() {
        let c = i % gamma.len();
        let factor = gamma[c] / (variance[c] + epsilon).sqrt();
        y.iter_mut().for_each(|y| *y = (*y - mean[c]) * factor + beta[c]);
    }
}
