//! Records mapped into memory, whose tensors borrow from the file.

use alloc::collections::BTreeMap;
use core::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use super::collection::Record;
use super::error::RecordError;
use super::file_map::FileMap;
use crate::record::format::entry::{RecordEntry, RecordState, Stored};
use crate::record::format::error::RecordFormatError;
use crate::record::format::section::{RecordSection, Section, SectionKind, tensor_sections};
use crate::record::read::open_file::OpenFile;
use crate::record::read::record_file::{RecordFile, TensorLocation};
use crate::record::read::source::{check_crc, check_padding, quantized};
use crate::scheme::ScaleType;
use crate::tensor::{Buffer, HalfType, Offsets, Tensor, TensorError};

/// When a [`MappedRecord`] verifies checksums.
///
/// The ranges of codes, scales and zero points are always checked when a tensor is first used, since
/// kernels rely on them. So only float values can be used without having been read before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verify {
    /// Verify all checksums when the record is opened, which reads the whole file.
    Eager,
    /// Verify the checksums of a tensor when it is first used. This is the default.
    #[default]
    Lazy,
    /// Verify checksums only in [`MappedRecord::verify`] and [`MappedRecord::verify_all`].
    Explicit,
}

/// A record mapped into memory: opening it reads headers only, and tensors borrow from the file.
///
/// The operating system reads the bytes of a tensor when they are first used, and can drop and read
/// them again when memory is short; processes that map the same file share its memory. A quantized
/// [`Param`](crate::Param) of any storage borrows its codes; a float one borrows its values if
/// its storage is [`SharedTensor`](crate::tensor::SharedTensor), and copies them otherwise. Borrowing
/// tensors keep the map alive.
///
/// Files that are replaced by [`Recorder::save_file`](super::Recorder::save_file) or a
/// [`RecordWriter`](super::RecordWriter) remain unchanged in the map, since a new file gets the name. (On
/// Windows, saving over a file that is mapped is an error.)
///
/// ```
/// use quant::record::{MappedRecord, Verify};
/// use quant::tensor::SharedTensor;
/// use quant::{BincodeRecorder, Module, Param};
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-map-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("model.quant");
/// let tensor = |value| SharedTensor::new(&[2], vec![value; 2]);
/// vec![Param::new(tensor(1.0)?)].save_file(&path, &BincodeRecorder::default())?;
///
/// // SAFETY: nothing changes the file in place; it has been made by `save_file` only.
/// let mapped = unsafe { MappedRecord::open(&path, Verify::Lazy)? };
/// let model = vec![Param::new(tensor(0.0)?)].load_record(mapped.to_record()?)?;
/// assert!(model[0].as_float().unwrap().is_borrowed());
/// assert_eq!(model[0].value().as_slice().unwrap(), [1.0, 1.0]);
/// # drop((mapped, model));
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MappedRecord {
    record: RecordFile,
    /// The maps of the files of the record.
    maps: Vec<FileMap>,
    verify: Verify,
    /// The tensors that have been used.
    tensors: Vec<OnceLock<Tensor>>,
}

impl MappedRecord {
    /// Opens a record, sharded or not, and maps it. Validates headers and file lengths.
    ///
    /// # Errors
    /// [`RecordError::Io`] and [`RecordError::Format`]; with [`Verify::Eager`] also the first wrong
    /// checksum or padding.
    ///
    /// # Safety
    /// As long as the record or one of its tensors exists, no process may modify the file or its
    /// shards in place, or truncate them. Bytes that change behind a `&[u8]` are undefined behaviour,
    /// and reading beyond the end of a truncated file kills the process. Renaming another file to the
    /// path and removing the file do not modify it in place; the writers of this library do nothing
    /// else.
    pub unsafe fn open(path: impl AsRef<Path>, verify: Verify) -> Result<Self, RecordError> {
        let path = path.as_ref();
        let record = RecordFile::open(path)?;
        let map = |file: &OpenFile| {
            // SAFETY: the caller promises that the files are not changed in place.
            let map = unsafe { FileMap::new(&file.file, file.len) };
            map.map_err(|error| RecordError::from(error).in_file(&file.path))
        };
        let maps = record.files().iter().map(map).collect::<Result<_, _>>()?;
        let tensors = record.entries().iter().map(|_| OnceLock::new()).collect();
        let mapped = Self { record, maps, verify, tensors };
        match verify {
            Verify::Eager => mapped.verified(),
            Verify::Lazy | Verify::Explicit => Ok(mapped),
        }
    }

    /// The metadata of the user, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.record.metadata()
    }

    /// Names, shapes and schemes of the tensors, in the order of the file.
    pub fn entries(&self) -> &[RecordEntry] {
        self.record.entries()
    }

    /// The position in [`entries`](Self::entries) of the tensor with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.record.position(name)
    }

    /// The length of the file in bytes, or of the index and all shards.
    pub fn byte_count(&self) -> u64 {
        self.record.byte_count()
    }

    /// The sections of the tensor at position `index` of [`entries`](Self::entries): its values, and
    /// those of its scales and zero points that are not empty.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn sections(&self, index: usize) -> impl Iterator<Item = RecordSection> + use<> {
        self.record.sections(index)
    }

    /// The tensor at position `index` of [`entries`](Self::entries), borrowed from the file.
    ///
    /// The first call for a tensor checks its codes, scales and zero points, and with
    /// [`Verify::Lazy`] its checksums. Later calls return a clone.
    ///
    /// # Errors
    /// [`RecordError::Format`] for a wrong checksum, padding, code, scale or zero point.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn tensor(&self, index: usize) -> Result<Tensor, RecordError> {
        if let Some(tensor) = self.tensors[index].get() {
            return Ok(tensor.clone());
        }
        self.will_need(index);
        if self.verify == Verify::Lazy {
            self.verify(index)?;
        }
        // If two threads made the tensor at the same time, both results are equal.
        let made = self.make(index)?;
        Ok(self.tensors[index].get_or_init(|| made).clone())
    }

    /// The whole record, with tensors that borrow from the file. Load it into a model with
    /// [`Module::load_record`](crate::Module::load_record).
    ///
    /// # Errors
    /// The first error of [`tensor`](Self::tensor) and [`states`](Self::states).
    pub fn to_record(&self) -> Result<Record, RecordError> {
        self.record.collect(|index| self.tensor(index))
    }

    /// Reads the states of modules, in the order of the file. Their checksums are always verified.
    ///
    /// # Errors
    /// [`RecordError::Io`], and [`RecordError::Format`] for a wrong checksum or padding.
    pub fn states(&self) -> Result<Vec<RecordState>, RecordError> {
        self.record.states()
    }

    /// Verifies checksums and padding of the tensor at position `index` of
    /// [`entries`](Self::entries).
    ///
    /// # Errors
    /// [`RecordError::Format`] for the first wrong checksum or padding.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn verify(&self, index: usize) -> Result<(), RecordError> {
        let (entry, location) = (&self.entries()[index], self.record.location(index));
        let name = entry.id.as_str();
        let bytes = self.maps[location.file].bytes();
        let kinds = tensor_sections(entry.stored).into_iter();
        let mut sections = kinds.zip(location.sections);
        sections.try_for_each(|(kind, section)| Ok(check(bytes, name, kind, section)?))
    }

    /// Verifies all checksums and padding, in parallel with the feature `rayon`.
    ///
    /// # Errors
    /// One error for each section that is damaged, in the order of the file.
    pub fn verify_all(&self) -> Result<(), Vec<RecordError>> {
        // Reads the files, since touching all of the maps would bring all of them into memory.
        self.record.verify_all()
    }

    fn verified(self) -> Result<Self, RecordError> {
        let errors = self.verify_all().err().unwrap_or_default();
        errors.into_iter().next().map_or(Ok(self), Err)
    }

    /// Advises the system to read ahead in the sections of a tensor.
    fn will_need(&self, index: usize) {
        let TensorLocation { file, sections, .. } = self.record.location(index);
        let (start, end) = (sections[0].offset, sections[2].padded_end().unwrap_or(0));
        self.maps[file].will_need(start as usize..end.max(start) as usize);
    }

    fn make(&self, index: usize) -> Result<Tensor, RecordError> {
        let RecordEntry { id, shape, stored } = &self.entries()[index];
        let TensorLocation { version, file, sections: [values, scales, zero_points] } =
            self.record.location(index);
        let map = &self.maps[file];
        let made = match *stored {
            Stored::Float(ty) => map.floats(shape, ty, range(values)).map(Tensor::from),
            Stored::Quantized(scheme) => {
                let scales = floats_of(map, scheme.scale_type(), scales);
                let offsets = if scheme.mapping().has_minimums() {
                    Offsets::Minimums(floats_of(map, scheme.scale_type(), zero_points))
                } else {
                    Offsets::ZeroPoints(map.elements(range(zero_points)))
                };
                // Codes are borrowed, or copied if they are stored densely.
                let codes = map.elements(range(values));
                quantized(version, (shape, scheme), codes, scales, offsets)
            }
        };
        made.map_err(|source: TensorError| {
            RecordFormatError::Tensor { id: id.clone(), source }.into()
        })
    }
}

/// Scales or minimums in single precision: borrowed, or converted.
fn floats_of(map: &FileMap, stored_as: ScaleType, section: Section) -> Buffer<f32> {
    let half = match stored_as {
        ScaleType::F32 => return map.elements(range(section)),
        ScaleType::F16 => HalfType::F16,
        ScaleType::Bf16 => HalfType::Bf16,
        _ => unreachable!("records have no other scales"),
    };
    half.widen(&map.elements::<u16>(range(section))).into()
}

/// Verifies the checksum and the padding of a section.
fn check(
    file: &[u8],
    name: &str,
    kind: SectionKind,
    section: Section,
) -> Result<(), RecordFormatError> {
    let data = range(section);
    let padding = data.end..section.padded_end().map_or(file.len(), |end| end as usize);
    check_crc(name, kind, section, crc32fast::hash(&file[data.clone()]))?;
    check_padding(&file[padding], data.end as u64)
}

/// The byte range of a section. Validation has found that it is within the file.
fn range(section: Section) -> Range<usize> {
    section.offset as usize..(section.offset + section.len) as usize
}
