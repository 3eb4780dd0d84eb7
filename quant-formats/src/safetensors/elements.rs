//! The elements of one tensor of a file, in memory.

use std::io::{self, Read};

use quant::__private::{Element, fix_endian, read_elements};
use quant::Tensor;
use quant::scheme::{bf16_to_f32, f16_to_f32};
use quant::tensor::{FloatType, SharedTensor, TensorError};

use super::dtype::Dtype;

/// The elements of a tensor: floats, or bytes of any other type.
pub(super) enum Elements {
    Floats(Vec<f32>),
    Halves(FloatType, Vec<u16>),
    Bytes(Vec<u8>),
}

impl Elements {
    /// Reads `len` bytes of elements of a tensor. If the length of the input is not `known`, and was compared
    /// with that of the tensor, the allocation grows with the bytes that arrive. Floats in single
    /// precision are read into `allocation`.
    pub(super) fn read(
        reader: &mut dyn Read,
        dtype: Dtype,
        len: u64,
        known: bool,
        allocation: Vec<f32>,
    ) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        match dtype {
            Dtype::F32 => read_all(reader, len / 4, known, allocation).map(Self::Floats),
            Dtype::F16 => {
                let bits = read_all(reader, len / 2, known, Vec::new());
                bits.map(|bits| Self::Halves(FloatType::F16, bits))
            }
            Dtype::BF16 => {
                let bits = read_all(reader, len / 2, known, Vec::new());
                bits.map(|bits| Self::Halves(FloatType::Bf16, bits))
            }
            _ => read_all(reader, len, known, Vec::new()).map(Self::Bytes),
        }
    }

    /// The float tensor of this shape.
    pub(super) fn into_tensor(self, shape: &[usize]) -> Result<Tensor, TensorError> {
        match self {
            Self::Floats(values) => Tensor::from_values(shape, values),
            Self::Halves(ty, bits) => {
                SharedTensor::from_half_bits(shape, ty, bits).map(Tensor::from)
            }
            Self::Bytes(_) => unreachable!("the catalog has checked types"),
        }
    }

    /// The scales of a quantized tensor, in single precision.
    pub(super) fn into_floats(self) -> Vec<f32> {
        match self {
            Self::Floats(values) => values,
            Self::Halves(FloatType::Bf16, bits) => bits.into_iter().map(bf16_to_f32).collect(),
            Self::Halves(_, bits) => bits.into_iter().map(f16_to_f32).collect(),
            Self::Bytes(_) => unreachable!("the catalog has checked types"),
        }
    }

    /// The bytes of a tensor that is not float.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Floats(_) | Self::Halves(..) => unreachable!("the catalog has checked types"),
        }
    }
}

fn read_all<T: Element>(
    reader: &mut dyn Read,
    count: usize,
    known: bool,
    mut elements: Vec<T>,
) -> io::Result<Vec<T>> {
    elements.clear();
    read_elements(&mut elements, count, known, |bytes| reader.read_exact(bytes))?;
    fix_endian(&mut elements);
    Ok(elements)
}
