//! Quantized matrices as compressed-tensors stores them.
//!
//! ```text
//! int-quantized   weight         I8 [out, in]
//! pack-quantized  weight_packed  I32 [out, ⌈in · bits / 32⌉]  code + 2^(bits - 1), dense in a row
//!                 weight_shape   I64 [2]
//! both            weight_scale   [1], [out, 1] or [out, groups]
//! affine          weight_zero_point  as weight_scale, I8; packed: I32 [⌈out · bits / 32⌉, groups],
//!                                dense in a column, with 2^(bits - 1) added
//! ```
//!
//! Engines take `int-quantized` for layers whose inputs are quantized, and `pack-quantized` for
//! those whose inputs stay float.

use quant::scheme::{Granularity, Mapping, ScaleType, f32_to_bf16, f32_to_f16, packing};
use quant::tensor::QuantizedTensor;
use quant::{ParamId, QuantizationScheme};
use serde_json::{Value, json};

use crate::folder_error::FolderError;
use crate::safetensors::Dtype;

/// How an engine treats the inputs of layers with quantized weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Inputs {
    /// They stay float: W8A16, W4A16.
    #[default]
    Float,
    /// They are quantized to 8 bits by the range of each token: W8A8.
    Dynamic,
}

/// A tensor of a file: its name, type and shape.
pub(super) type Slot = (String, Dtype, Vec<usize>);

/// How a quantized matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Compressed {
    rows: usize,
    columns: usize,
    groups: usize,
    scheme: QuantizationScheme,
    inputs: Inputs,
}

impl Compressed {
    pub(super) fn new(
        id: &ParamId,
        shape: &[usize],
        scheme: QuantizationScheme,
        inputs: Inputs,
    ) -> Result<Self, FolderError> {
        let (&[rows, columns], true) = (shape, id.as_str().ends_with(".weight")) else {
            return Err(FolderError::NotLinear { id: id.clone(), shape: shape.into() });
        };
        let refuse = |expected| Err(FolderError::Scheme { id: id.clone(), scheme, expected });
        let groups = match scheme.granularity() {
            Granularity::PerTensor => 1,
            Granularity::PerChannel(axis) if axis.resolve(2) == Some(0) => 1,
            Granularity::PerBlock(block) if columns.is_multiple_of(block.len()) => {
                columns / block.len()
            }
            Granularity::PerBlock(_) => {
                return refuse("the length of a row is no multiple of that of a block");
            }
            _ => return refuse("channels have to be those of the first axis"),
        };
        let this = Self { rows, columns, groups, scheme, inputs };
        let is_grouped = matches!(scheme.granularity(), Granularity::PerBlock(_));
        let is_affine = scheme.mapping().has_zero_points();
        if scheme.mapping() == Mapping::Minimum {
            return refuse("it has zero points, and no minimums");
        }
        match inputs {
            Inputs::Float if is_affine && scheme.granularity() == Granularity::PerTensor => {
                refuse("packed zero points need channels or blocks")
            }
            Inputs::Dynamic if this.bits() != 8 || is_grouped => {
                refuse("weights of layers with quantized inputs have 8 bits, and no blocks")
            }
            _ => Ok(this),
        }
    }

    fn bits(&self) -> usize {
        self.scheme.quantization_type().bits() as usize
    }

    fn is_packed(&self) -> bool {
        self.inputs == Inputs::Float
    }

    /// The tensors of the file, in the order of their [bytes](Self::bytes).
    pub(super) fn slots(&self, id: &ParamId) -> Vec<Slot> {
        let Self { rows, columns, groups, .. } = *self;
        let scales = match self.scheme.granularity() {
            Granularity::PerTensor => vec![1],
            _ => vec![rows, groups],
        };
        let words = |codes: usize| (codes * self.bits()).div_ceil(32);
        let mut slots = Vec::new();
        if self.is_packed() {
            slots.push((format!("{id}_packed"), Dtype::I32, vec![rows, words(columns)]));
            slots.push((format!("{id}_shape"), Dtype::I64, vec![2]));
        } else {
            slots.push((id.to_string(), Dtype::I8, vec![rows, columns]));
        }
        slots.push((format!("{id}_scale"), scale_dtype(self.scheme), scales.clone()));
        if self.scheme.mapping().has_zero_points() {
            let (dtype, shape) = match self.is_packed() {
                true => (Dtype::I32, vec![words(rows), groups]),
                false => (Dtype::I8, scales),
            };
            slots.push((format!("{id}_zero_point"), dtype, shape));
        }
        slots
    }

    /// The number of elements at multiples of which a matrix can be divided: rows whose packed zero
    /// points fill words.
    pub(super) fn grain(&self) -> usize {
        let has_words = self.is_packed() && self.scheme.mapping().has_zero_points();
        let rows = if has_words { 32 >> self.bits().trailing_zeros() } else { 1 };
        rows * self.columns.max(1)
    }

    /// The bytes of the tensors of the file, of a part of the matrix. The first part has those that
    /// are not divided, too.
    pub(super) fn bytes(&self, tensor: &QuantizedTensor, is_first: bool) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.is_packed() {
            bytes.push(self.packed_rows(tensor));
            let extents = [self.rows, self.columns].map(|extent| (extent as u64).to_le_bytes());
            bytes.push(if is_first { extents.as_flattened().to_vec() } else { Vec::new() });
        } else {
            // 8 bits, one to the byte.
            bytes.push(tensor.packed_codes().to_vec());
        }
        bytes.push(scale_bytes(tensor.scales(), self.scheme.scale_type()));
        if self.scheme.mapping().has_zero_points() {
            bytes.push(match self.is_packed() {
                true => self.packed_zero_points(tensor.zero_points()),
                false => tensor.zero_points().iter().map(|&zero| zero as u8).collect(),
            });
        }
        bytes
    }

    /// The words of all rows of codes.
    fn packed_rows(&self, tensor: &QuantizedTensor) -> Vec<u8> {
        let (ty, columns) = (self.scheme.quantization_type(), self.columns.max(1));
        if ty.storage_bits() as usize != self.bits() {
            let codes = tensor.codes();
            let words = (columns * self.bits()).div_ceil(32);
            let mut bytes = Vec::with_capacity(4 * words * codes.len().div_ceil(columns));
            codes.chunks(columns).for_each(|row| bytes.extend(self.packed(row.iter().copied())));
            return bytes;
        }
        // Codes lie in the same order in memory, without the middle added: the top bit differs.
        let top = match self.bits() {
            8 => 0x80,
            4 => 0x88,
            _ => 0xAA,
        };
        let row_bytes = packing::row_bytes(columns, ty);
        let words = 4 * row_bytes.div_ceil(4);
        let unused = 8 * row_bytes - columns * self.bits();
        let codes = tensor.packed_codes();
        let mut bytes = vec![0; codes.len() / row_bytes * words];
        for (words, codes) in bytes.chunks_exact_mut(words).zip(codes.chunks_exact(row_bytes)) {
            words.iter_mut().zip(codes).for_each(|(word, &code)| *word = code ^ top);
            words[row_bytes - 1] &= 0xFF >> unused;
        }
        bytes
    }

    /// The words of a run of codes.
    fn packed(&self, codes: impl Iterator<Item = i8>) -> Vec<u8> {
        let (bits, middle) = (self.bits(), 1i16 << (self.bits() - 1));
        let (mut bytes, mut word, mut filled) = (Vec::new(), 0u64, 0);
        for code in codes {
            word |= ((i16::from(code) + middle) as u64) << filled;
            filled += bits;
            if filled >= 32 {
                bytes.extend((word as u32).to_le_bytes());
                word >>= 32;
                filled -= 32;
            }
        }
        if filled > 0 {
            bytes.extend((word as u32).to_le_bytes());
        }
        bytes
    }

    /// Each column of zero points packed, in row-major order of the words.
    fn packed_zero_points(&self, zero_points: &[i8]) -> Vec<u8> {
        let groups = self.groups.max(1);
        let column = |group: usize| zero_points.iter().copied().skip(group).step_by(groups);
        let columns: Vec<Vec<u8>> =
            (0..self.groups).map(|group| self.packed(column(group))).collect();
        let words = columns.first().map_or(0, |column| column.len() / 4);
        let word =
            |word: usize| columns.iter().flat_map(move |column| &column[4 * word..4 * word + 4]);
        (0..words).flat_map(word).copied().collect()
    }

    /// The scheme of the weights and inputs of a layer, without the layers that it is for.
    pub(super) fn config(&self) -> Value {
        let strategy = match self.scheme.granularity() {
            Granularity::PerTensor => "tensor",
            Granularity::PerBlock(_) => "group",
            _ => "channel",
        };
        let group_len = match self.scheme.granularity() {
            Granularity::PerBlock(block) => Some(block.len()),
            _ => None,
        };
        let inputs = match self.inputs {
            Inputs::Float => Value::Null,
            Inputs::Dynamic => json!({
                "num_bits": 8, "type": "int", "symmetric": true, "strategy": "token",
                "group_size": null, "dynamic": true,
            }),
        };
        json!({
            "weights": {
                "num_bits": self.bits(), "type": "int",
                "symmetric": !self.scheme.mapping().has_zero_points(),
                "strategy": strategy, "group_size": group_len, "dynamic": false,
            },
            "input_activations": inputs,
            "output_activations": null,
        })
    }
}

/// The name of the format of a checkpoint whose layers have these inputs.
pub(super) fn format(inputs: Inputs) -> &'static str {
    match inputs {
        Inputs::Float => "pack-quantized",
        Inputs::Dynamic => "int-quantized",
    }
}

fn scale_dtype(scheme: QuantizationScheme) -> Dtype {
    match scheme.scale_type() {
        ScaleType::F32 => Dtype::F32,
        ScaleType::F16 => Dtype::F16,
        ScaleType::Bf16 => Dtype::BF16,
        // `quant-kernels` is pinned to this version, which has no others.
        _ => unreachable!("a scale type without a safetensors type"),
    }
}

fn scale_bytes(scales: &[f32], ty: ScaleType) -> Vec<u8> {
    match ty {
        ScaleType::F32 => scales.iter().flat_map(|scale| scale.to_le_bytes()).collect(),
        ScaleType::F16 => halves(scales, f32_to_f16),
        ScaleType::Bf16 => halves(scales, f32_to_bf16),
        // `quant-kernels` is pinned to this version, which has no others.
        _ => unreachable!("a scale type without an encoding"),
    }
}

fn halves(scales: &[f32], round: impl Fn(f32) -> u16) -> Vec<u8> {
    scales.iter().flat_map(|&scale| round(scale).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_packed_as_runs_of_codes() {
        for bits in 2..=8 {
            for columns in [1, 3, 4, 7, 8, 31, 32, 33] {
                let scheme = format!("per-channel-affine-int{bits}").parse().unwrap();
                let values: Vec<f32> = (0..3 * columns).map(|i| (i as f32 * 0.7).sin()).collect();
                let tensor = quant::quantize::quantize_values(
                    &[3, columns],
                    &values,
                    scheme,
                    &quant::MinMaxCalibration {},
                )
                .unwrap();
                let form =
                    Compressed::new(&"a.weight".into(), &[3, columns], scheme, Inputs::Float);
                let form = form.unwrap();
                let codes = tensor.codes();
                let rows = codes.chunks(columns).map(|row| form.packed(row.iter().copied()));
                let expected = rows.collect::<Vec<_>>().concat();
                assert_eq!(form.packed_rows(&tensor), expected, "{bits} bits, {columns}");
            }
        }
    }
}
