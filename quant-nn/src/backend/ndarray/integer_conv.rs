//! Convolutions with quantized weights, by the kernels of `quant-kernels`.

use std::sync::Arc;

use super::float_conv::FloatImages;
use super::integer::{Operands, with_scratch};
use crate::backend::shape::LayerInput;
use crate::error::ForwardError;
use crate::weights::{PackWeightsError, weights};
use quant::activation::ActivationMode;
use quant::module::Cache;
use quant::tensor::QuantizedTensor;
use quant_kernels::{Codes, ConvShape, Epilogue, Images, Kernel, Output, PackedConv, Weights};

/// A packed weight, and the shape of the convolution it is packed for.
struct PackedFor {
    shape: ConvShape,
    packed: PackedConv,
}

/// The convolution of images with the weight of a parameter, into `y`. The packed weight stays in
/// `cache`.
pub(crate) fn conv2d(
    operands: Operands<'_, FloatImages<'_>>,
    shape: ConvShape,
    weight: &QuantizedTensor,
    cache: &Cache,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let pack = || pack_conv(kernel, shape, weight, operands.layer);
    let mut cached = cache.get_or_make(pack)?;
    if cached.shape != shape {
        // Two layers of different strides that share a weight are rare: pack each time.
        cached = Arc::new(pack()?);
    }
    convolve(kernel, &cached.packed, operands, y)
}

/// As [`conv2d`], for a weight that no parameter holds.
#[cfg(feature = "candle")]
pub(crate) fn conv2d_once(
    operands: Operands<'_, FloatImages<'_>>,
    shape: ConvShape,
    weight: &QuantizedTensor,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let packed = pack_conv(kernel, shape, weight, operands.layer)?.packed;
    convolve(kernel, &packed, operands, y)
}

fn pack_conv(
    kernel: Kernel,
    shape: ConvShape,
    tensor: &QuantizedTensor,
    layer: LayerInput<'_>,
) -> Result<PackedFor, ForwardError> {
    // Packed codes start a new byte at each row of the last axis, but the kernels at each output.
    let codes = tensor.codes();
    weights(tensor)
        .map(|weights| Weights { codes: Codes::Bytes(&codes), ..weights })
        .and_then(|weights| {
            PackedConv::new(kernel, shape, &weights).map_err(PackWeightsError::Pack)
        })
        .map(|packed| PackedFor { shape, packed })
        .map_err(|source| ForwardError::Pack { layer: layer.layer(), source })
}

fn convolve(
    kernel: Kernel,
    packed: &PackedConv,
    Operands { x: images, bias, layer }: Operands<'_, FloatImages<'_>>,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let (epilogue, output) = (Epilogue { bias, relu: false }, Output::F32(y));
    let FloatImages { values, batch, size } = images;
    let images = match layer.quantizer.mode() {
        ActivationMode::Dynamic(quantization) => {
            Images::Dynamic { values, batch, size, quantization }
        }
        ActivationMode::Static(quantization) => {
            Images::Static { values, batch, size, quantization }
        }
        _ => unreachable!("the caller has dequantized the weight"),
    };
    with_scratch(|scratch| kernel.conv2d(packed, images, &epilogue, output, scratch))
        .map_err(|error| layer.convolution_error(error))
}
