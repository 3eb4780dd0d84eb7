//! The content of sections as bytes.

use alloc::borrow::Cow;

use crate::module::ParamView;
use crate::record::format::layout::CHUNK;
use crate::record::format::version::RecordVersion;
use crate::scheme::{QuantizationType, ScaleType, f32_to_bf16, f32_to_f16, packing};
use crate::tensor::QuantizedTensor;

/// The content of a section.
pub enum Payload<'a> {
    /// Bytes that are written unchanged.
    Bytes(&'a [u8]),
    /// Values that are written in little-endian single precision.
    F32(Cow<'a, [f32]>),
    /// Values that are written in little-endian half precision, which represents them exactly.
    F16(&'a [f32]),
    /// Values that are written as little-endian bfloat16, which represents them exactly.
    Bf16(&'a [f32]),
    /// Little-endian elements of 16 bits.
    Half(Cow<'a, [u16]>),
    /// Packed codes that are written in the dense form.
    Dense {
        /// The codes as they are in memory.
        packed: &'a [u8],
        /// The number of codes in a row.
        row: usize,
        /// The type of the codes.
        ty: QuantizationType,
    },
}

impl<'a> Payload<'a> {
    /// The sections of a parameter in a record: values, scales and zero points or minimums.
    pub(super) fn of_version(param: ParamView<'a>, version: RecordVersion) -> [Self; 3] {
        let [values, scales, zero_points] = Self::of(param);
        let Some(tensor) = param.quantized() else { return [values, scales, zero_points] };
        let ty = tensor.scheme().quantization_type();
        if !version.is_dense(ty) {
            return [values, scales, zero_points];
        }
        let row = tensor.shape().last().copied().unwrap_or(1);
        [Self::Dense { packed: tensor.packed_codes(), row, ty }, scales, zero_points]
    }

    /// Values, scales and zero points or minimums of a parameter as they are in memory.
    pub fn of(param: ParamView<'a>) -> [Self; 3] {
        let none = || Self::Bytes(&[]);
        match param.quantized() {
            None => match param.half_bits() {
                Some(bits) => [Self::Half(bits), none(), none()],
                None => [Self::F32(param.values()), none(), none()],
            },
            Some(tensor) => [
                Self::Bytes(tensor.packed_codes()),
                Self::scales(tensor, tensor.scales()),
                if tensor.scheme().mapping().has_minimums() {
                    Self::scales(tensor, tensor.minimums())
                } else {
                    Self::Bytes(bytemuck::cast_slice(tensor.zero_points()))
                },
            ],
        }
    }

    /// Numbers of the type of the scales.
    fn scales(tensor: &QuantizedTensor, scales: &'a [f32]) -> Self {
        match tensor.scheme().scale_type() {
            ScaleType::F32 => Self::F32(Cow::Borrowed(scales)),
            ScaleType::F16 => Self::F16(scales),
            ScaleType::Bf16 => Self::Bf16(scales),
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
            Self::Bf16(values) => encoded(values, |v| f32_to_bf16(v).to_le_bytes(), &mut f),
            Self::Half(bits) if cfg!(target_endian = "little") => {
                bytemuck::cast_slice(bits).chunks(CHUNK).try_for_each(f)
            }
            Self::Half(bits) => encoded(bits, u16::to_le_bytes, f),
            Self::Dense { packed, row, ty } => dense(packed, *row, *ty, f),
        }
    }

    /// All bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Growing would take up to three times as much memory for a while.
        let mut all = Vec::with_capacity(self.byte_count());
        let Ok(()) = self.chunks::<core::convert::Infallible>(|bytes| {
            all.extend(bytes);
            Ok(())
        });
        all
    }

    fn byte_count(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::F32(values) => size_of_val::<[f32]>(values),
            Self::F16(values) | Self::Bf16(values) => size_of_val(*values) / 2,
            Self::Half(bits) => size_of_val::<[u16]>(bits),
            Self::Dense { packed, row, ty } => {
                let rows = packed.len().checked_div(packing::row_bytes(*row, *ty)).unwrap_or(0);
                packing::dense_bytes(&[rows, *row], *ty).unwrap_or(0)
            }
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

/// Calls `f` with the rows of codes in the dense form, about a chunk at a time.
fn dense<E>(
    packed: &[u8],
    row: usize,
    ty: QuantizationType,
    mut f: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    if packed.is_empty() {
        return Ok(());
    }
    let (mut buffer, mut codes) = (Vec::new(), alloc::vec![0; row]);
    for packed in packed.chunks(packing::row_bytes(row, ty)) {
        packing::unpack_row(packed, ty, &mut codes);
        packing::pack_dense_row(&codes, ty, &mut buffer);
        if buffer.len() >= CHUNK {
            f(&buffer)?;
            buffer.clear();
        }
    }
    f(&buffer)
}

/// Calls `f` with the encoded values, one chunk at a time.
fn encoded<const N: usize, T: Copy, E>(
    values: &[T],
    encode: impl Fn(T) -> [u8; N],
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
        let all = payload.to_bytes();
        assert_eq!((&all, all.capacity()), (&bytes, bytes.len()), "not grown");
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
    fn halves_are_little_endian() {
        assert_eq!(bytes(&Payload::Half(vec![0x3F80, 0xC000].into())), [0x80, 0x3F, 0x00, 0xC0]);
    }

    #[test]
    fn dense_rows_start_on_a_byte() {
        let packed = packing::pack(&[1, -1, 2, 3], 2, QuantizationType::QInt3);
        let payload = Payload::Dense { packed: &packed, row: 2, ty: QuantizationType::QInt3 };
        assert_eq!(bytes(&payload), [0b111_001, 0b011_010]);
        let empty = Payload::Dense { packed: &[], row: 1 << 60, ty: QuantizationType::QInt3 };
        assert!(bytes(&empty).is_empty());
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
