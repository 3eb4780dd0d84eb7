//! How a quantized tensor is stored in a format that has only plain ones.
//!
//! The codes have the tensor's own name, scales and zero points the name with a suffix. The
//! metadata has the scheme and the shape:
//!
//! ```text
//! fc.weight             I8   [out, in]      codes; U8 [out, bytes of a row] where several share a byte
//! fc.weight_scale       F32  [out, 1]       shaped so that torch broadcasts it
//! fc.weight_zero_point  I8   [out, 1]       affine schemes only
//! fc.weight_minimum     F32  [out, 1]       schemes with minimums only
//! __metadata__: "quant.tensor.fc.weight" = "per-channel-symmetric-int8 [out, in]"
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;

use quant::QuantizationScheme;
use quant::scheme::{Granularity, Groups, LayoutError, Mapping, ScaleType, packing};

use super::dtype::Dtype;
use super::error::SafetensorsError;
use crate::text::shorten;

/// The prefix of keys that this crate writes.
const RESERVED: &str = "quant.";
/// The prefix of a user's key that would otherwise look like one of this crate.
const FOREIGN: &str = "foreign.";
/// The prefix of the key for a tensor's scheme and shape; the tensor's name follows.
pub(super) const TENSOR: &str = "quant.tensor.";
/// The prefix of the key for a state's kind; the state's name follows. The tensor with the bytes
/// of the state is called like the key.
pub(super) const STATE: &str = "quant.state.";

/// Type and shape of the tensors that store a quantized tensor.
pub(super) struct Components {
    pub(super) codes: (Dtype, Vec<usize>),
    pub(super) scales: (Dtype, Vec<usize>),
    /// The suffix of the name, type and shape of zero points or minimums.
    pub(super) offsets: Option<(&'static str, Dtype, Vec<usize>)>,
}

impl Components {
    pub(super) fn of(shape: &[usize], scheme: QuantizationScheme) -> Result<Self, LayoutError> {
        // Checks that the scheme is valid for the shape.
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
            ScaleType::Bf16 => Dtype::BF16,
            // `quant-kernels` is pinned to this version, which has no others.
            _ => unreachable!("a scale type without a safetensors type"),
        };
        let groups = group_shape(shape, scheme.granularity());
        let offsets = match scheme.mapping() {
            Mapping::Symmetric | Mapping::FullRange => None,
            Mapping::Affine => Some(("_zero_point", Dtype::I8, groups.clone())),
            Mapping::Minimum => Some(("_minimum", scale_type, groups.clone())),
        };
        Ok(Self { codes, scales: (scale_type, groups), offsets })
    }
}

/// The shape of the scales, which broadcasts to that of the tensor, or of its blocks.
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
        // `quant-kernels` is pinned to this version, which has no others.
        _ => unreachable!("a granularity without a shape of scales"),
    }
}

pub(super) fn scale_name(name: &str) -> String {
    format!("{name}_scale")
}

/// `per-channel-symmetric-int8 [3, 4]`
pub(super) fn description(scheme: QuantizationScheme, shape: &[usize]) -> String {
    format!("{scheme} {shape:?}")
}

/// Whether a text has the form of a [`description`], whatever its first word is.
pub(super) fn is_description(text: &str) -> bool {
    text.split_once(' ').is_some_and(|(_, shape)| parse_shape(shape).is_some())
}

fn parse_shape(text: &str) -> Option<Vec<usize>> {
    serde_json::from_str(text).ok()
}

/// The inverse of [`description`].
pub(super) fn parse_description(
    name: &str,
    text: &str,
) -> Result<(QuantizationScheme, Vec<usize>), SafetensorsError> {
    let error = |source| SafetensorsError::Description {
        id: name.into(),
        description: shorten(text),
        source,
    };
    let (scheme, shape) = text.split_once(' ').ok_or_else(|| error(None))?;
    let scheme = scheme.parse().map_err(|source| error(Some(source)))?;
    let shape = parse_shape(shape).ok_or_else(|| error(None))?;
    Ok((scheme, shape))
}

/// The key under which a user's metadata is stored.
pub(super) fn to_stored_key(key: &str) -> Cow<'_, str> {
    if is_reserved(key) { format!("{FOREIGN}{key}").into() } else { key.into() }
}

/// A user's metadata as it is stored.
pub(crate) fn stored_metadata(metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let pairs = metadata.iter();
    pairs.map(|(key, value)| (to_stored_key(key).into_owned(), value.clone())).collect()
}

/// The inverse of [`to_stored_key`]; other programs' keys that start with `quant.` stay.
pub(super) fn to_user_key(stored: &str) -> &str {
    stored.strip_prefix(FOREIGN).filter(|key| is_reserved(key)).unwrap_or(stored)
}

/// Whether a key looks like one of this crate, or like an escaped one.
fn is_reserved(mut key: &str) -> bool {
    while let Some(rest) = key.strip_prefix(FOREIGN) {
        key = rest;
    }
    key.starts_with(RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_users_survive_whatever_they_start_with() {
        for key in ["format", "quant.method", "foreign.quant.method", "foreign.x", "quant.tensor.w"]
        {
            let stored = to_stored_key(key);
            assert!(!stored.starts_with(RESERVED), "{stored}");
            assert_eq!(to_user_key(&stored), key);
        }
        assert_eq!(to_user_key("quant.method"), "quant.method");
    }
}
