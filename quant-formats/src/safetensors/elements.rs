//! The elements of one tensor of a file, in memory.

use std::io::{self, Read};

use quant::__private::{fix_endian, read_elements, reserve};
use quant::scheme::f16_to_f32;

use super::dtype::Dtype;
use super::header::Slot;

/// The elements of a tensor: floats in single precision, everything else as bytes.
pub(super) enum Elements {
    Floats(Vec<f32>),
    Bytes(Vec<u8>),
}

impl Elements {
    /// Reads the elements of a tensor. If the length of the input is not `known`, and was compared
    /// with that of the tensor, the allocation grows with the bytes that arrive. Floats are read
    /// into `allocation`.
    pub(super) fn read(
        reader: &mut dyn Read,
        slot: &Slot,
        known: bool,
        allocation: Vec<f32>,
    ) -> io::Result<Self> {
        let len = usize::try_from(slot.bytes.end - slot.bytes.start);
        let len = len.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        match slot.dtype {
            Dtype::F32 => read_floats(reader, len / 4, known, allocation).map(Self::Floats),
            Dtype::F16 => {
                read_halves(reader, len / 2, known, allocation, f16_to_f32).map(Self::Floats)
            }
            Dtype::BF16 => {
                let widen = |bits| f32::from_bits(u32::from(bits) << 16);
                read_halves(reader, len / 2, known, allocation, widen).map(Self::Floats)
            }
            _ => read_bytes(reader, len, known).map(Self::Bytes),
        }
    }

    /// The values of a float tensor.
    pub(super) fn into_floats(self) -> Vec<f32> {
        match self {
            Self::Floats(values) => values,
            Self::Bytes(_) => unreachable!("the catalog has checked types"),
        }
    }

    /// The bytes of a tensor that is not float.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Floats(_) => unreachable!("the catalog has checked types"),
        }
    }
}

fn read_floats(
    reader: &mut dyn Read,
    count: usize,
    known: bool,
    mut values: Vec<f32>,
) -> io::Result<Vec<f32>> {
    values.clear();
    read_elements(&mut values, count, known, |bytes| reader.read_exact(bytes))?;
    fix_endian(&mut values);
    Ok(values)
}

fn read_halves(
    reader: &mut dyn Read,
    count: usize,
    known: bool,
    mut values: Vec<f32>,
    widen: impl Fn(u16) -> f32,
) -> io::Result<Vec<f32>> {
    values.clear();
    let mut buffer = [0; 16 << 10];
    while values.len() < count {
        let more = (count - values.len()).min(buffer.len() / 2);
        let bytes = &mut buffer[..2 * more];
        reader.read_exact(bytes)?;
        let left = count - values.len();
        reserve(&mut values, more, left, known)?;
        let halves = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        values.extend(halves.map(&widen));
    }
    Ok(values)
}

fn read_bytes(reader: &mut dyn Read, count: usize, known: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_elements(&mut bytes, count, known, |bytes| reader.read_exact(bytes))?;
    Ok(bytes)
}
