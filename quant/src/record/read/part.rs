//! Parts of tensors.

use core::ops::Range;

use super::elements::Element;
use super::error::ReadError;
use super::open_file::OpenFile;
use super::source::{Source, quantized};
use crate::record::format::entry::{RecordEntry, Stored};
use crate::record::format::error::RecordFormatError;
use crate::record::format::section::{Section, SectionKind, section_lens, tensor_sections};
use crate::record::format::version::RecordVersion;
use crate::scheme::{QuantizationScheme, ScaleType};
use crate::tensor::{FloatType, HalfType, Offsets, SharedTensor, Tensor, TensorError, part_shape};

/// What was read of a section.
#[derive(Clone, Debug)]
pub struct SectionPart {
    /// What the section holds.
    pub kind: SectionKind,
    /// The bytes of the section.
    pub bytes: Range<u64>,
    /// Their checksum.
    pub crc32: u32,
}

/// A part of a section.
pub(super) fn part_of(section: Section, bytes: Range<u64>) -> Section {
    Section { offset: section.offset + bytes.start, len: bytes.end - bytes.start, crc32: 0 }
}

/// Reads a part of each section of a tensor.
pub(super) struct PartReader<'a> {
    pub(super) file: &'a OpenFile,
    pub(super) version: RecordVersion,
    pub(super) entry: &'a RecordEntry,
    pub(super) sections: [Section; 3],
    pub(super) read: Vec<SectionPart>,
}

impl PartReader<'_> {
    pub(super) fn read(
        mut self,
        elements: Range<usize>,
    ) -> Result<(Tensor, Vec<SectionPart>), ReadError> {
        let stored = self.entry.stored;
        let (starts, shape) = (self.lens(elements.start)?, self.shape(elements.len()));
        let lens = self.lens(elements.len())?;
        let bytes = |section: usize| starts[section]..starts[section] + lens[section];
        let bytes = [bytes(0), bytes(1), bytes(2)];
        let made = match stored {
            Stored::Float(ty) => self.floats(&shape, ty, bytes)?,
            Stored::Quantized(scheme) => self.codes(&shape, scheme, bytes)?,
        };
        let id = || self.entry.id.clone();
        let made = made.map_err(|source| RecordFormatError::Tensor { id: id(), source })?;
        Ok((made, self.read))
    }

    /// The shape of so many elements.
    fn shape(&self, count: usize) -> Vec<usize> {
        let RecordEntry { shape, stored, .. } = self.entry;
        match stored {
            Stored::Float(_) => vec![count],
            Stored::Quantized(scheme) => {
                part_shape(shape, *scheme, count).expect("the tensor can be divided")
            }
        }
    }

    /// The bytes of so many elements in each section.
    fn lens(&self, count: usize) -> Result<[u64; 3], RecordFormatError> {
        let RecordEntry { id, stored, .. } = self.entry;
        match section_lens(&self.shape(count), *stored, self.version) {
            Ok(lens) => Ok(lens.expect("a part is smaller than the tensor")),
            Err(source) => Err(RecordFormatError::Tensor { id: id.clone(), source }),
        }
    }

    fn floats(
        &mut self,
        shape: &[usize],
        ty: FloatType,
        [values, ..]: [Range<u64>; 3],
    ) -> Result<Result<Tensor, TensorError>, ReadError> {
        let made = match HalfType::of(ty) {
            None => SharedTensor::new(shape, self.section(0, values)?),
            Some(half) => {
                SharedTensor::from_bits(shape, half, self.section::<u16>(0, values)?.into())
            }
        };
        Ok(made.map(Tensor::from))
    }

    fn codes(
        &mut self,
        shape: &[usize],
        scheme: QuantizationScheme,
        [codes, scales, offsets]: [Range<u64>; 3],
    ) -> Result<Result<Tensor, TensorError>, ReadError> {
        let codes = self.section::<u8>(0, codes)?;
        let scales = self.scales(1, scheme.scale_type(), scales)?;
        let offsets = if scheme.mapping().has_minimums() {
            Offsets::Minimums(self.scales(2, scheme.scale_type(), offsets)?.into())
        } else {
            Offsets::ZeroPoints(self.section::<i8>(2, offsets)?.into())
        };
        Ok(quantized(self.version, (shape, scheme), codes.into(), scales.into(), offsets))
    }

    fn scales(
        &mut self,
        section: usize,
        ty: ScaleType,
        bytes: Range<u64>,
    ) -> Result<Vec<f32>, ReadError> {
        match ty {
            ScaleType::F32 => self.section(section, bytes),
            ScaleType::F16 => Ok(HalfType::F16.widen(&self.section(section, bytes)?)),
            ScaleType::Bf16 => Ok(HalfType::Bf16.widen(&self.section(section, bytes)?)),
            _ => unreachable!("records have no other scales"),
        }
    }

    /// Reads bytes of a section, and the padding after its last one.
    fn section<T: Element>(
        &mut self,
        number: usize,
        bytes: Range<u64>,
    ) -> Result<Vec<T>, ReadError> {
        let section = self.sections[number];
        if section.len == 0 {
            return Ok(Vec::new());
        }
        let is_last = bytes.end == section.len;
        let part = part_of(section, bytes.clone());
        let mut reader = self.file.at(part.offset);
        let mut source = Source::within(&mut reader, part.offset, self.file.len);
        let (elements, crc32) = source.elements(part.len as usize / size_of::<T>(), is_last)?;
        let kind = tensor_sections(self.entry.stored)[number];
        self.read.push(SectionPart { kind, bytes, crc32 });
        Ok(elements)
    }
}
