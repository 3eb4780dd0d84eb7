//! Quantized tensors as the kernels take them.
//!
//! Those of products and convolutions are here, those of transposed convolutions in `transposed.rs`. The room
//! imports `ops`.

mod transposed;

pub(crate) use transposed::TransposedWeights;
#[cfg(feature = "candle")]
pub(crate) use transposed::{check_transposed, output_channels};

use core::fmt;
use std::sync::Arc;

use quant::QuantizationScheme;
use quant::scheme::{Axis, DynamicQuantization, Granularity, packing};
use quant::tensor::{HoldsTensor, QuantizedTensor, TensorError};
use quant_kernels::{BitWidth, Codes, Kernel, PackError, PackedWeights, Weights};

/// Packs a quantized weight, `[out, in]`, for [`Kernel::linear`] with int8 activations.
///
/// A layer calls [`linear`](crate::linear), which packs once and keeps the result. Call this where
/// a layer needs more of the kernel: an epilogue with `ReLU`, int8 outputs, a kernel of its choice.
/// Keep the result in the [cache](quant::Param::cache) of the parameter: it is shared by clones,
/// and dropped when the parameter changes.
///
/// ```
/// use ndarray::{Array2, arr2};
/// use quant::{Module, Param, Recipe};
/// use quant::scheme::DynamicQuantization;
/// use quant::kernel::{Activations, Epilogue, Kernel, Output, Scratch};
/// use quant_nn::pack_weights;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let weight: Param<Array2<f32>> = arr2(&[[1.0f32, 2.0], [3.0, -4.0]]).into();
/// let weight = weight.quantize_weights(Recipe::new().scheme("per-channel-symmetric-int8".parse()?))?;
///
/// let (kernel, tensor) = (Kernel::selected()?, weight.quantized().unwrap());
/// let packed = weight.cache().get_or_make(|| pack_weights(kernel, tensor))?;
/// let quantization = DynamicQuantization::default();
/// let x = Activations::Dynamic { values: &[1.0, 0.5], m: 1, quantization };
/// let epilogue = Epilogue { bias: None, relu: true };
/// let mut y = [0.0; 2];
/// kernel.linear(&packed, x, &epilogue, Output::F32(&mut y), &mut Scratch::new())?;
/// assert!((y[0] - 2.0).abs() < 0.05 && (y[1] - 1.0).abs() < 0.05);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A tensor that is not of rank 2, or a scheme that no kernel executes.
pub fn pack_weights(
    kernel: Kernel,
    tensor: &QuantizedTensor,
) -> Result<PackedWeights, PackWeightsError> {
    PackedWeights::new(kernel, &linear_weights(tensor)?).map_err(PackWeightsError::Pack)
}

/// As [`pack_weights`], for activations that stay float (weight-only quantization).
///
/// # Errors
/// As [`pack_weights`].
pub fn pack_weights_for_floats(
    kernel: Kernel,
    tensor: &QuantizedTensor,
) -> Result<PackedWeights, PackWeightsError> {
    PackedWeights::for_floats(kernel, &linear_weights(tensor)?).map_err(PackWeightsError::Pack)
}

/// As [`pack_weights`], for activations that are quantized so: in blocks along K, or without zero points, which
/// saves memory ([`PackedWeights::for_dynamic`]).
///
/// # Errors
/// As [`pack_weights`]; and the length of the blocks of activations does not divide that of the weight's.
pub fn pack_weights_for_dynamic(
    kernel: Kernel,
    tensor: &QuantizedTensor,
    quantization: DynamicQuantization,
) -> Result<PackedWeights, PackWeightsError> {
    PackedWeights::for_dynamic(kernel, &linear_weights(tensor)?, quantization)
        .map_err(PackWeightsError::Pack)
}

fn linear_weights(tensor: &QuantizedTensor) -> Result<Weights<'_>, PackWeightsError> {
    match tensor.shape() {
        [_, _] => weights(tensor),
        shape => Err(PackWeightsError::Rank { shape: shape.into() }),
    }
}

/// A quantized tensor `[n, …]` as `n` rows.
pub(crate) fn weights(tensor: &QuantizedTensor) -> Result<Weights<'_>, PackWeightsError> {
    let (shape, scheme) = (tensor.shape(), tensor.scheme());
    let Some((&n, inner)) = shape.split_first() else {
        return Err(PackWeightsError::Rank { shape: shape.into() });
    };
    let granularity = match scheme.granularity() {
        Granularity::PerChannel(axis) if axis.resolve(shape.len()) == Some(0) => {
            Granularity::PerChannel(Axis::FIRST)
        }
        Granularity::PerChannel(_) => return Err(PackWeightsError::Channels { scheme }),
        granularity => granularity,
    };
    let codes = match scheme.quantization_type().storage_bits() {
        8 => Codes::Bytes(bytemuck::cast_slice(tensor.packed_codes())),
        4 => Codes::Packed(BitWidth::Four, tensor.packed_codes()),
        _ => Codes::Packed(BitWidth::Two, tensor.packed_codes()),
    };
    let (scales, minimums) = (tensor.scales(), tensor.minimums());
    let zero_points = match scheme.mapping().has_minimums() {
        true => least_code(scheme.quantization_type().bits()),
        false => tensor.zero_points(),
    };
    let k = inner.iter().product();
    Ok(Weights { n, k, codes, granularity, scales, zero_points, minimums })
}

/// Refuses the weight of a convolution whose channels are not its outputs, and blocks.
#[cfg(feature = "candle")]
pub(crate) fn check_conv(tensor: &QuantizedTensor) -> Result<(), PackWeightsError> {
    match weights(tensor)?.granularity {
        Granularity::PerBlock(_) => Err(PackWeightsError::Pack(PackError::BlockedConv)),
        _ => Ok(()),
    }
}

/// The code of a minimum.
fn least_code(bits: u32) -> &'static [i8] {
    const LEAST: [i8; 7] = [-2, -4, -8, -16, -32, -64, -128];
    &LEAST[bits as usize - 2..][..1]
}

/// The tensor that weights were packed from, made of them again.
#[derive(Debug)]
pub(crate) struct PackedTensor {
    packed: Arc<PackedWeights>,
    shape: Vec<usize>,
    scheme: QuantizationScheme,
}

impl PackedTensor {
    /// For weights that are packed from this tensor.
    pub(crate) fn new(packed: Arc<PackedWeights>, tensor: &QuantizedTensor) -> Self {
        Self { packed, shape: tensor.shape().into(), scheme: tensor.scheme() }
    }
}

impl HoldsTensor for PackedTensor {
    fn tensor(&self) -> Result<QuantizedTensor, TensorError> {
        let (scheme, ty) = (self.scheme, self.scheme.quantization_type());
        let packed = &self.packed;
        let (rows, blocks) = (packed.n(), packed.blocks());
        let mut codes = Vec::with_capacity(rows * packing::row_bytes(packed.k(), ty));
        let mut scales = Vec::with_capacity(rows * blocks);
        let mut zero_points = Vec::with_capacity(rows * blocks);
        let mut minimums = Vec::new();
        if scheme.mapping().has_minimums() {
            minimums.reserve_exact(rows * blocks);
        }
        for row in (0..rows).map(|row| packed.row(row)) {
            packing::pack_row(&row.codes, ty, &mut codes);
            scales.extend(row.scales);
            zero_points.extend(row.zero_points);
            minimums.extend(row.minimums);
        }
        if scheme.granularity() == Granularity::PerTensor {
            scales.truncate(1);
            zero_points.truncate(1);
            minimums.truncate(1);
        }
        if scheme.mapping().has_minimums() {
            return QuantizedTensor::with_minimums(&self.shape, scheme, codes, scales, minimums);
        }
        if !scheme.mapping().has_zero_points() {
            zero_points.clear();
        }
        QuantizedTensor::from_parts(&self.shape, scheme, codes, scales, zero_points)
    }

    fn row(&self, row: usize, values: &mut [f32]) {
        self.packed.values(row, values);
    }
}

/// A quantized weight cannot be packed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PackWeightsError {
    /// The weight of a product is not of rank 2.
    Rank {
        /// The extent of each axis.
        shape: Vec<usize>,
    },
    /// The channels of the scheme are not the outputs.
    Channels {
        /// The scheme of the weight.
        scheme: QuantizationScheme,
    },
    /// The channels of the scheme are not the outputs of a transposed convolution.
    TransposedChannels {
        /// The scheme of the weight.
        scheme: QuantizationScheme,
        /// The axis of the outputs.
        axis: Axis,
    },
    /// The kernel cannot pack the weight.
    Pack(PackError),
}

impl fmt::Display for PackWeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rank { shape } => write!(f, "expected a weight of rank 2, found {shape:?}"),
            Self::Channels { scheme } => write!(
                f,
                "no kernel executes a weight quantized as {scheme}: channels must lie along the \
                 first axis, the outputs"
            ),
            Self::TransposedChannels { scheme, axis } => write!(
                f,
                "no kernel executes the weight of a transposed convolution quantized as {scheme}: \
                 channels must lie along axis {}, the outputs",
                axis.index()
            ),
            Self::Pack(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PackWeightsError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Rank { .. } | Self::Channels { .. } | Self::TransposedChannels { .. } => None,
            Self::Pack(error) => error.source(),
        }
    }
}
