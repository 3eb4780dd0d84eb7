//! The elements of one tensor of a file, in memory.

use std::io::{self, Read};

use quant::__private::{fix_endian, read_elements, reserve};
use quant::RecordError;
use quant::Tensor;
use quant::record::RecordFormatError;
use quant::tensor::{FloatType, SharedTensor};

use super::header::Slot;
use crate::ggml::{Content, GgufType, blocks_to_tensor, decode};

/// About as many bytes are read before they are decoded.
const CHUNK: usize = 1 << 16;

/// Reads a tensor: floats in their own type, codes with their scales, other blocks as the floats that
/// they stand for. Values in single precision are read into `allocation`.
///
/// If the length of the input is not `known`, and was compared with that of the tensor, the
/// allocation grows with the bytes that arrive.
pub(super) fn read_tensor(
    reader: &mut dyn Read,
    slot: &Slot,
    known: bool,
    allocation: Vec<f32>,
) -> Result<Tensor, RecordError> {
    let shape = &slot.shape;
    let made = match slot.ty.content() {
        Content::Floats(ty @ (FloatType::F16 | FloatType::Bf16)) => {
            let bits = read_halves(reader, slot, known)?;
            SharedTensor::from_half_bits(shape, ty, bits).map(Tensor::from)
        }
        Content::Codes(scheme) => {
            let bytes = read_bytes(reader, slot, known)?;
            blocks_to_tensor(slot.ty, scheme, shape, &bytes).map(Tensor::from)
        }
        _ => Tensor::from_values(shape, read_values(reader, slot, known, allocation)?),
    };
    made.map_err(|source| {
        RecordFormatError::Tensor { id: slot.name.as_str().into(), source }.into()
    })
}

fn read_halves(reader: &mut dyn Read, slot: &Slot, known: bool) -> io::Result<Vec<u16>> {
    let mut bits = Vec::new();
    read_elements(&mut bits, byte_count(slot)? / 2, known, |bytes| reader.read_exact(bytes))?;
    fix_endian(&mut bits);
    Ok(bits)
}

/// Reads the values of a tensor into `allocation`.
fn read_values(
    reader: &mut dyn Read,
    slot: &Slot,
    known: bool,
    allocation: Vec<f32>,
) -> io::Result<Vec<f32>> {
    let ty = slot.ty;
    let count = byte_count(slot)? / ty.block_bytes() * ty.block_len();
    let mut values = allocation;
    values.clear();
    if ty == GgufType::F32 {
        read_elements(&mut values, count, known, |bytes| reader.read_exact(bytes))?;
        fix_endian(&mut values);
        return Ok(values);
    }
    let mut buffer = vec![0; CHUNK / ty.block_bytes() * ty.block_bytes()];
    while values.len() < count {
        let (start, left) = (values.len(), count - values.len());
        let more = left.min(buffer.len() / ty.block_bytes() * ty.block_len());
        let bytes = &mut buffer[..more / ty.block_len() * ty.block_bytes()];
        reader.read_exact(bytes)?;
        reserve(&mut values, more, left, known)?;
        values.resize(start + more, 0.0);
        decode(ty, bytes, &mut values[start..]);
    }
    Ok(values)
}

/// Reads the bytes of a tensor; `known` as in [`read_tensor`].
pub(super) fn read_bytes(reader: &mut dyn Read, slot: &Slot, known: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_elements(&mut bytes, byte_count(slot)?, known, |bytes| reader.read_exact(bytes))?;
    Ok(bytes)
}

fn byte_count(slot: &Slot) -> io::Result<usize> {
    let len = usize::try_from(slot.bytes.end - slot.bytes.start);
    len.map_err(|_| io::ErrorKind::OutOfMemory.into())
}
