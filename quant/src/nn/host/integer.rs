//! Products of quantized weights, by the crate's kernels.

use std::cell::Cell;

use ndarray::ArrayD;

use super::super::ExecuteError;
use super::super::error::layer;
use crate::activation::{ActivationMode, ActivationQuantizer};
use crate::kernel::{
    Codes, Epilogue, Kernel, Output, PackedWeights, Scratch, Sharing, SubByte, Weights,
};
use crate::module::Param;
use crate::scheme::Granularity;
use crate::tensor::QuantizedTensor;

/// `x · wᵀ + b` into `y`, for a quantized weight.
pub(super) fn linear(
    x: &[f32],
    rows: usize,
    weight: &Param<ArrayD<f32>>,
    bias: Option<&[f32]>,
    input: &ActivationQuantizer,
    y: &mut [f32],
) -> Result<(), ExecuteError> {
    let Some(tensor) = weight.quantized() else { return Ok(()) };
    let kernel = Kernel::selected()?;
    if let ActivationMode::Float | ActivationMode::Observing = input.mode() {
        return super::float::linear(x, rows, weight, bias, y);
    }
    let packed = weight.cache().get_or_make(|| pack(kernel, tensor, input))?;
    let (epilogue, output) = (Epilogue { bias, relu: false }, Output::F32(y));
    with_scratch(|scratch| match input.mode() {
        ActivationMode::Dynamic(dynamic) => {
            kernel.linear_dynamic(&packed, x, rows, dynamic, &epilogue, output, scratch)
        }
        ActivationMode::Static(fixed) => {
            kernel.linear_static(&packed, x, rows, fixed, &epilogue, output, scratch)
        }
        ActivationMode::Float | ActivationMode::Observing => Ok(()),
    })
    .map_err(|error| ExecuteError::product(input, error))
}

fn pack(
    kernel: Kernel,
    tensor: &QuantizedTensor,
    input: &ActivationQuantizer,
) -> Result<PackedWeights, ExecuteError> {
    let weights = weights(tensor, input)?;
    PackedWeights::new(kernel, &weights)
        .map_err(|source| ExecuteError::Pack { layer: layer(input), source })
}

/// A quantized tensor `[n, …]` as the kernels see it: `n` rows.
fn weights<'a>(
    tensor: &'a QuantizedTensor,
    input: &ActivationQuantizer,
) -> Result<Weights<'a>, ExecuteError> {
    let scheme = tensor.scheme();
    let n = tensor.shape().first().copied().unwrap_or(0);
    let k = tensor.shape()[1..].iter().product();
    let sharing = match scheme.granularity() {
        Granularity::PerTensor => Sharing::Tensor,
        Granularity::PerChannel(axis) if axis.resolve(tensor.shape().len()) == Some(0) => {
            Sharing::Channel
        }
        Granularity::PerBlock(block) => Sharing::Block(block.len()),
        Granularity::PerChannel(_) => {
            let expected = "channels along axis 0, the outputs";
            return Err(ExecuteError::Scheme { layer: layer(input), scheme, expected });
        }
    };
    let codes = match scheme.quantization_type().storage_bits() {
        8 => Codes::Bytes(bytemuck::cast_slice(tensor.packed_codes())),
        4 => Codes::Packed(SubByte::Four, tensor.packed_codes()),
        _ => Codes::Packed(SubByte::Two, tensor.packed_codes()),
    };
    let (scales, zero_points) = (tensor.scales(), tensor.zero_points());
    Ok(Weights { n, k, codes, sharing, scales, zero_points })
}

thread_local! {
    /// Buffers that the products of a thread share.
    static SCRATCH: Cell<Option<Scratch>> = const { Cell::new(None) };
}

/// Calls `f` with the thread's buffers, for the threads of the current pool.
///
/// They are taken out while in use: a thread that waits for others may run another product.
fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    let threads = rayon::current_num_threads();
    let mut scratch = SCRATCH
        .take()
        .filter(|scratch| scratch.threads() == threads)
        .unwrap_or_else(|| Scratch::with_threads(threads));
    let result = f(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}
