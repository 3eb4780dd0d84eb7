//! Convolutions with quantized weights, by the kernels of `quant-kernels`.

use std::sync::Arc;

use super::float_conv::FloatImages;
use super::integer::{Operands, with_scratch};
use crate::backend::shape::LayerInput;
use crate::error::ForwardError;
use crate::weights::{PackWeightsError, TransposedWeights, weights};
use quant::activation::ActivationMode;
use quant::module::Cache;
use quant::tensor::QuantizedTensor;
use quant_kernels::{
    Codes, ConvShape, ConvTransposeShape, Epilogue, Images, Kernel, Output, PackedConv,
    PackedConvTranspose, Weights,
};

/// A packed weight, and the shape of the convolution it is packed for.
struct PackedFor<S, P> {
    shape: S,
    packed: P,
}

/// The packed weight for this shape: that of the cache of a parameter, if there is one, or a new one.
fn packed_for<S: Copy + PartialEq + Send + Sync + 'static, P: Send + Sync + 'static>(
    cache: Option<&Cache>,
    shape: S,
    pack: impl Fn() -> Result<P, ForwardError>,
) -> Result<Arc<PackedFor<S, P>>, ForwardError> {
    let pack = || Ok(PackedFor { shape, packed: pack()? });
    if let Some(cache) = cache {
        let cached = cache.get_or_make(pack)?;
        if cached.shape == shape {
            return Ok(cached);
        }
        // Two layers of different strides that share a weight are rare: pack each time.
    }
    pack().map(Arc::new)
}

/// The convolution of images with a quantized weight, into `y`. The packed weight stays in `cache`.
pub(super) fn conv2d(
    Operands { x, bias, layer }: Operands<'_, FloatImages<'_>>,
    shape: ConvShape,
    weight: &QuantizedTensor,
    cache: Option<&Cache>,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let packed = packed_for(cache, shape, || pack_conv(kernel, shape, weight, layer))?;
    let (epilogue, output) = (Epilogue { bias, relu: false }, Output::F32(y));
    let x = quantized(x, layer);
    with_scratch(|scratch| kernel.conv2d(&packed.packed, x, &epilogue, output, scratch))
        .map_err(|error| layer.convolution_error(error))
}

fn pack_conv(
    kernel: Kernel,
    shape: ConvShape,
    tensor: &QuantizedTensor,
    layer: LayerInput<'_>,
) -> Result<PackedConv, ForwardError> {
    // Packed codes start a new byte at each row of the last axis, but the kernels at each output.
    let codes = tensor.codes();
    weights(tensor)
        .map(|weights| Weights { codes: Codes::Bytes(&codes), ..weights })
        .and_then(|weights| {
            PackedConv::new(kernel, shape, &weights).map_err(PackWeightsError::Pack)
        })
        .map_err(|source| ForwardError::Pack { layer: layer.layer(), source })
}

/// The transposed convolution of images with a quantized weight, into `y`. The packed weight stays in
/// `cache`.
pub(super) fn conv_transpose2d(
    Operands { x, bias, layer }: Operands<'_, FloatImages<'_>>,
    shape: ConvTransposeShape,
    weight: &QuantizedTensor,
    cache: Option<&Cache>,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let packed = packed_for(cache, shape, || pack_conv_transpose(kernel, shape, weight, layer))?;
    let (epilogue, output) = (Epilogue { bias, relu: false }, Output::F32(y));
    let x = quantized(x, layer);
    with_scratch(|scratch| kernel.conv_transpose2d(&packed.packed, x, &epilogue, output, scratch))
        .map_err(|error| layer.convolution_error(error))
}

fn pack_conv_transpose(
    kernel: Kernel,
    shape: ConvTransposeShape,
    tensor: &QuantizedTensor,
    layer: LayerInput<'_>,
) -> Result<PackedConvTranspose, ForwardError> {
    TransposedWeights::new(tensor, &shape)
        .and_then(|weights| {
            PackedConvTranspose::new(kernel, shape, &weights.view()).map_err(PackWeightsError::Pack)
        })
        .map_err(|source| ForwardError::Pack { layer: layer.layer(), source })
}

/// Images as the kernels take them for a layer whose input is quantized.
fn quantized<'a>(images: FloatImages<'a>, layer: LayerInput<'_>) -> Images<'a> {
    let FloatImages { values, batch, size } = images;
    match layer.quantizer.mode() {
        ActivationMode::Dynamic(quantization) => {
            Images::Dynamic { values, batch, size, quantization }
        }
        ActivationMode::Static(quantization) => {
            Images::Static { values, batch, size, quantization }
        }
        _ => unreachable!("the caller has dequantized the weight"),
    }
}
