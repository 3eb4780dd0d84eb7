//! Products of quantized weights, by the crate's kernels.

use std::cell::Cell;
use std::sync::Arc;

use super::conv::FloatImages;
use crate::error::ForwardError;
use quant::activation::{ActivationMode, ActivationQuantizer};
use quant::module::Cache;
use quant::scheme::{Axis, Granularity};
use quant::tensor::QuantizedTensor;
use quant_kernels::{
    Activations, BitWidth, Codes, ConvShape, EmbeddingWeights, Epilogue, Images, Kernel,
    LookupError, Output, PackedConv, PackedWeights, Scratch, Weights,
};

/// What a product takes besides its weight.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a, X> {
    pub(crate) x: X,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) input: &'a ActivationQuantizer,
}

/// The rows of a matrix, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) count: usize,
}

/// `x · wᵀ + b` into `y`, for a parameter's weight and what is kept of it.
pub(crate) fn linear(
    operands: Operands<'_, Rows<'_>>,
    weight: &QuantizedTensor,
    cache: &Cache,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let make = || pack(kernel, weight, operands.input);
    // What is kept is found by its type, and a layer may be calibrated before it runs in integers.
    if stays_float(operands.input) {
        let packed = cache.get_or_make(|| make().map(ForFloats))?;
        return multiply(kernel, &packed.0, operands, y);
    }
    let packed = cache.get_or_make(make)?;
    multiply(kernel, &packed, operands, y)
}

/// Weights that are packed for activations that stay floats.
struct ForFloats(PackedWeights);

/// Whether a product takes its input as floats.
pub(crate) fn stays_float(input: &ActivationQuantizer) -> bool {
    !matches!(input.mode(), ActivationMode::Dynamic(_) | ActivationMode::Static(_))
}

/// The same for a weight that no parameter holds.
#[cfg(feature = "candle")]
pub(crate) fn linear_once(
    operands: Operands<'_, Rows<'_>>,
    weight: &QuantizedTensor,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    multiply(kernel, &pack(kernel, weight, operands.input)?, operands, y)
}

fn multiply(
    kernel: Kernel,
    packed: &PackedWeights,
    Operands { x: Rows { values: x, count: rows }, bias, input }: Operands<'_, Rows<'_>>,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let (epilogue, output) = (Epilogue { bias, relu: false }, Output::F32(y));
    let m = rows;
    let activations = match input.mode() {
        ActivationMode::Dynamic(quantization) => {
            Activations::Dynamic { values: x, m, quantization }
        }
        ActivationMode::Static(quantization) => Activations::Static { values: x, m, quantization },
        _ => Activations::Float { values: x, m },
    };
    with_scratch(|scratch| kernel.linear(packed, activations, &epilogue, output, scratch))
        .map_err(|error| ForwardError::product(input, error))
}

fn pack(
    kernel: Kernel,
    tensor: &QuantizedTensor,
    input: &ActivationQuantizer,
) -> Result<PackedWeights, ForwardError> {
    let weights = weights(tensor, input)?;
    let packed = if stays_float(input) {
        PackedWeights::for_floats(kernel, &weights)
    } else {
        PackedWeights::new(kernel, &weights)
    };
    packed.map_err(|source| ForwardError::Pack { layer: input.name(), source })
}

/// A quantized tensor `[n, …]` as the kernels see it: `n` rows.
fn weights<'a>(
    tensor: &'a QuantizedTensor,
    input: &ActivationQuantizer,
) -> Result<Weights<'a>, ForwardError> {
    let scheme = tensor.scheme();
    let n = tensor.shape().first().copied().unwrap_or(0);
    let k = tensor.shape()[1..].iter().product();
    let granularity = match scheme.granularity() {
        Granularity::PerChannel(axis) if axis.resolve(tensor.shape().len()) == Some(0) => {
            Granularity::PerChannel(Axis::FIRST)
        }
        Granularity::PerChannel(_) => {
            let expected = "channels along axis 0, the outputs";
            return Err(ForwardError::Scheme { layer: input.name(), scheme, expected });
        }
        granularity => granularity,
    };
    let codes = match scheme.quantization_type().storage_bits() {
        8 => Codes::Bytes(bytemuck::cast_slice(tensor.packed_codes())),
        4 => Codes::Packed(BitWidth::Four, tensor.packed_codes()),
        _ => Codes::Packed(BitWidth::Two, tensor.packed_codes()),
    };
    let (scales, zero_points) = (tensor.scales(), tensor.zero_points());
    Ok(Weights { n, k, codes, granularity, scales, zero_points })
}

/// Rows of a quantized table, `[rows, columns]`, into `y`.
pub(crate) fn embedding(
    indices: &[u32],
    tensor: &QuantizedTensor,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let layer = ActivationQuantizer::new();
    let Weights { n, k, codes, granularity, scales, zero_points } = weights(tensor, &layer)?;
    let table = EmbeddingWeights { rows: n, columns: k, codes, granularity, scales, zero_points };
    Kernel::selected()?.embedding(&table, indices, y).map_err(|error| match error {
        LookupError::UnknownRow { position, id, rows } => {
            ForwardError::Index { position, index: id, rows }
        }
        error => ForwardError::Backend(error.to_string()),
    })
}

/// A packed convolution, and the shape it is for.
struct PackedFor {
    shape: ConvShape,
    packed: PackedConv,
}

/// The convolution of images with a parameter's weight, into `y`.
pub(crate) fn conv2d(
    operands: Operands<'_, FloatImages<'_>>,
    shape: ConvShape,
    weight: &QuantizedTensor,
    cache: &Cache,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let pack = || pack_conv(kernel, shape, weight, operands.input);
    let mut kept = cache.get_or_make(pack)?;
    if kept.shape != shape {
        // One weight, two layers with different windows: rare enough to be packed each time.
        kept = Arc::new(pack()?);
    }
    convolve(kernel, &kept.packed, operands, y)
}

/// The same for a weight that no parameter holds.
#[cfg(feature = "candle")]
pub(crate) fn conv2d_once(
    operands: Operands<'_, FloatImages<'_>>,
    shape: ConvShape,
    weight: &QuantizedTensor,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let packed = pack_conv(kernel, shape, weight, operands.input)?.packed;
    convolve(kernel, &packed, operands, y)
}

fn pack_conv(
    kernel: Kernel,
    shape: ConvShape,
    tensor: &QuantizedTensor,
    input: &ActivationQuantizer,
) -> Result<PackedFor, ForwardError> {
    // A record's rows are those of the last axis, and begin at whole bytes; the kernels' rows are
    // the outputs.
    let codes = tensor.codes();
    let weights = Weights { codes: Codes::Bytes(&codes), ..weights(tensor, input)? };
    let packed = PackedConv::new(kernel, shape, &weights)
        .map_err(|source| ForwardError::Pack { layer: input.name(), source })?;
    Ok(PackedFor { shape, packed })
}

fn convolve(
    kernel: Kernel,
    packed: &PackedConv,
    Operands { x: images, bias, input }: Operands<'_, FloatImages<'_>>,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let (epilogue, output) = (Epilogue { bias, relu: false }, Output::F32(y));
    let FloatImages { values, batch, size } = images;
    let images = match input.mode() {
        ActivationMode::Dynamic(quantization) => {
            Images::Dynamic { values, batch, size, quantization }
        }
        ActivationMode::Static(quantization) => {
            Images::Static { values, batch, size, quantization }
        }
        _ => unreachable!("the caller has dequantized the weight"),
    };
    with_scratch(|scratch| kernel.conv2d(packed, images, &epilogue, output, scratch))
        .map_err(|error| ForwardError::convolution(input, error))
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
