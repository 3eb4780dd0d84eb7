//! How a quantized tensor lies in a file that knows only plain ones.
//!
//! The codes have the tensor's own name, scale and zero point the name with a suffix, and a pair of
//! the metadata has scheme and shape:
//!
//! ```text
//! fc.weight             I8   [out, in]      codes; U8 [out, bytes of a row] where several share a byte
//! fc.weight_scale       F32  [out, 1]       shaped so that torch broadcasts it
//! fc.weight_zero_point  I8   [out, 1]       affine schemes only
//! __metadata__: "quant.tensor.fc.weight" = "per-channel-symmetric-int8 [out, in]"
//! ```

use super::SafetensorsError;
use super::dtype::Dtype;
use quant::scheme::{
    Granularity, Groups, LayoutError, Mapping, QuantizationScheme, ScaleType, packing,
};

/// Keys that start like this are not the user's.
pub(super) const RESERVED: &str = "quant.";
/// Before a tensor's name: its scheme and shape.
pub(super) const TENSOR: &str = "quant.tensor.";
/// Before a state's name: its kind. The tensor of its bytes has the same name.
pub(super) const STATE: &str = "quant.state.";

/// Type and shape of each part of a quantized tensor.
pub(super) struct Parts {
    pub(super) codes: (Dtype, Vec<usize>),
    pub(super) scales: (Dtype, Vec<usize>),
    pub(super) zero_points: Option<(Dtype, Vec<usize>)>,
}

impl Parts {
    pub(super) fn of(shape: &[usize], scheme: QuantizationScheme) -> Result<Self, LayoutError> {
        // Checks that the scheme fits the shape.
        let _ = Groups::new(shape, scheme.granularity())?;
        let ty = scheme.quantization_type();
        let codes = if ty.storage_bits() == 8 {
            (Dtype::I8, shape.to_vec())
        } else {
            let mut packed = shape.to_vec();
            match packed.last_mut() {
                Some(row) => *row = packing::row_bytes(*row, ty),
                None => packed.push(packing::row_bytes(1, ty)),
            }
            (Dtype::U8, packed)
        };
        let scale_type = match scheme.scale_type() {
            ScaleType::F32 => Dtype::F32,
            ScaleType::F16 => Dtype::F16,
        };
        let groups = group_shape(shape, scheme.granularity());
        let zero_points = match scheme.mapping() {
            Mapping::Symmetric => None,
            Mapping::Affine => Some((Dtype::I8, groups.clone())),
        };
        Ok(Self { codes, scales: (scale_type, groups), zero_points })
    }
}

/// The shape of scales that broadcasts against the tensor's, or against its blocks.
fn group_shape(shape: &[usize], granularity: Granularity) -> Vec<usize> {
    match granularity {
        Granularity::PerTensor => Vec::new(),
        Granularity::PerChannel(axis) => {
            let mut groups = vec![1; shape.len()];
            if let Some(axis) = axis.resolve(shape.len()) {
                groups[axis] = shape[axis];
            }
            groups
        }
        Granularity::PerBlock(block) => {
            let mut groups = shape.to_vec();
            match groups.last_mut() {
                Some(row) => *row = row.div_ceil(block.len()),
                None => groups.push(1),
            }
            groups
        }
    }
}

pub(super) fn scale_name(name: &str) -> String {
    format!("{name}_scale")
}

pub(super) fn zero_point_name(name: &str) -> String {
    format!("{name}_zero_point")
}

/// `per-channel-symmetric-int8 [3, 4]`
pub(super) fn description(scheme: QuantizationScheme, shape: &[usize]) -> String {
    format!("{scheme} {shape:?}")
}

/// The inverse of [`description`].
pub(super) fn parse_description(
    name: &str,
    text: &str,
) -> Result<(QuantizationScheme, Vec<usize>), SafetensorsError> {
    let error = |source| SafetensorsError::Description {
        id: name.into(),
        description: text.chars().take(200).collect(),
        source,
    };
    let (scheme, shape) = text.split_once(' ').ok_or_else(|| error(None))?;
    let scheme = scheme.parse().map_err(|source| error(Some(source)))?;
    let shape = serde_json::from_str(shape).map_err(|_| error(None))?;
    Ok((scheme, shape))
}
