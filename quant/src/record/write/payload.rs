//! The content of sections as bytes.

use alloc::borrow::Cow;

use crate::module::ParamView;
use crate::record::format::layout::CHUNK;
use crate::scheme::{ScaleType, f32_to_f16};
use crate::tensor::QuantizedTensor;

/// The content of a section.
pub enum Payload<'a> {
    /// Bytes that are written unchanged.
    Bytes(&'a [u8]),
    /// Values that are written in little-endian single precision.
    F32(Cow<'a, [f32]>),
    /// Values that are written in little-endian half precision, which represents them exactly.
    F16(&'a [f32]),
}

impl<'a> Payload<'a> {
    /// The sections of a parameter: values, scales and zero points.
    pub fn of(param: ParamView<'a>) -> [Self; 3] {
        match param.quantized() {
            None => [Self::F32(param.values()), Self::Bytes(&[]), Self::Bytes(&[])],
            Some(tensor) => [
                Self::Bytes(tensor.packed_codes()),
                Self::scales(tensor),
                Self::Bytes(bytemuck::cast_slice(tensor.zero_points())),
            ],
        }
    }

    fn scales(tensor: &'a QuantizedTensor) -> Self {
        match tensor.scheme().scale_type() {
            ScaleType::F32 => Self::F32(Cow::Borrowed(tensor.scales())),
            ScaleType::F16 => Self::F16(tensor.scales()),
            // `quant-kernels` is pinned to this version, which has no others.
            _ => unreachable!("a scale type without an encoding"),
        }
    }

    /// Calls `f` with the bytes, one chunk at a time, up to the first error.
    ///
    /// # Errors
    /// The first error that `f` returns.
    pub fn chunks<E>(&self, mut f: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Bytes(bytes) => bytes.chunks(CHUNK).try_for_each(f),
            Self::F32(values) if cfg!(target_endian = "little") => {
                bytemuck::cast_slice(values).chunks(CHUNK).try_for_each(f)
            }
            Self::F32(values) => encoded(values, f32::to_le_bytes, f),
            Self::F16(values) => encoded(values, |v| f32_to_f16(v).to_le_bytes(), &mut f),
        }
    }

    /// The number of bytes and their checksum.
    pub(super) fn measure(&self) -> (u64, u32) {
        let (mut len, mut crc) = (0, crc32fast::Hasher::new());
        let Ok(()) = self.chunks::<core::convert::Infallible>(|bytes| {
            len += bytes.len() as u64;
            crc.update(bytes);
            Ok(())
        });
        (len, crc.finalize())
    }
}

/// Calls `f` with the encoded values, one chunk at a time.
fn encoded<const N: usize, E>(
    values: &[f32],
    encode: impl Fn(f32) -> [u8; N],
    mut f: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = Vec::new();
    for values in values.chunks(CHUNK / 16) {
        buffer.clear();
        buffer.extend(values.iter().map(|&value| encode(value)));
        f(buffer.as_flattened())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheme::f16_to_f32;

    fn bytes(payload: &Payload<'_>) -> Vec<u8> {
        let mut bytes = Vec::<u8>::new();
        payload
            .chunks(|chunk| {
                bytes.extend(chunk);
                Ok::<(), ()>(())
            })
            .unwrap();
        bytes
    }

    #[test]
    fn floats_are_little_endian() {
        let values = [1.0f32, -2.5];
        let expected = [0x00, 0x00, 0x80, 0x3F, 0x00, 0x00, 0x20, 0xC0];
        assert_eq!(bytes(&Payload::F32(values.as_slice().into())), expected);
        assert_eq!(bytes(&Payload::F16(&values)), [0x00, 0x3C, 0x00, 0xC1]);
        let mut encodings = Vec::<u8>::new();
        encoded(&values, f32::to_le_bytes, |chunk| {
            encodings.extend(chunk);
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(encodings, expected);
    }

    #[test]
    fn chunks_are_contiguous() {
        let values: Vec<f32> = (0..200_000).map(|i| (i % 65_521) as f32).collect();
        let halves: Vec<f32> = values.iter().map(|&v| f16_to_f32(f32_to_f16(v))).collect();
        for (payload, size) in [(Payload::F32(values.into()), 4), (Payload::F16(&halves), 2)] {
            let bytes = bytes(&payload);
            assert_eq!(bytes.len(), 200_000 * size);
            assert_eq!(payload.measure(), (bytes.len() as u64, crc32fast::hash(&bytes)));
        }
    }
}
