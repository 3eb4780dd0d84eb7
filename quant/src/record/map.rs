//! A record mapped into memory, whose tensors borrow from the file.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use memmap2::{Mmap, MmapOptions};

use super::collection::Record;
use super::error::RecordError;
use crate::record::format::entry::RecordEntry;
use crate::record::format::entry::State;
use crate::record::format::section::Part;
use crate::record::format::section::RecordSection;
use crate::record::format::section::{Section, TENSOR_PARTS};
use crate::record::read::elements::{Element, fix_endian, widen};
use crate::record::read::open_file::Open;
use crate::record::read::record_file::RecordFile;
use crate::record::read::record_file::TensorPlace;
use crate::record::read::source::{check_crc, check_padding};
use crate::scheme::ScaleType;
use crate::tensor::{Buffer, Bytes, Owner, QuantizedTensor, SharedTensor, Tensor, TensorError};

/// When the checksums of a [`MappedRecord`] are compared with its bytes.
///
/// Codes, scales and zero points are always checked when a tensor is first asked for, since
/// kernels rely on their ranges. So only floats are free of any look before they are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verify {
    /// All of them, when the record is opened, which reads the whole file.
    Eager,
    /// Those of a tensor, when it is first asked for.
    #[default]
    Lazy,
    /// Only when [`MappedRecord::verify`] or [`MappedRecord::verify_all`] is called.
    Explicit,
}

/// A record on disk, mapped into memory: opening it reads headers only, and tensors borrow from
/// the file.
///
/// A tensor's bytes are read by the system when they are first looked at, and can be dropped and
/// read again when memory is short; processes that map one file share it. A quantized
/// [`Param`](crate::Param) of any storage borrows its codes; a float one borrows its values if the
/// storage is [`SharedTensor`], and copies them otherwise. Whatever borrows keeps the map alive.
///
/// Files that are replaced by [`Recorder::save_file`](super::Recorder::save_file) or a
/// [`RecordWriter`](super::RecordWriter) stay as they are in the map: a new file gets the name. (Windows
/// refuses to replace a file that is mapped; saving is an error there.)
///
/// ```
/// use quant::record::{MappedRecord, Verify};
/// use quant::{BincodeRecorder, Module, Param, SharedTensor};
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
/// assert_eq!(model[0].value().as_slice(), [1.0, 1.0]);
/// # drop((mapped, model));
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MappedRecord {
    record: RecordFile,
    /// Of the record's files.
    maps: Vec<Owner>,
    verify: Verify,
    /// Those that have been asked for.
    tensors: Vec<OnceLock<Tensor>>,
}

/// A whole file.
#[derive(Debug)]
struct Map(Mmap);

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Bytes for Map {
    fn will_need(&self, start: usize, len: usize) {
        #[cfg(unix)]
        for advice in [memmap2::Advice::Normal, memmap2::Advice::WillNeed] {
            // Advice: whether it is taken makes no difference to what is read.
            let _ = self.0.advise_range(advice, start, len);
        }
        #[cfg(not(unix))]
        let _ = (start, len);
    }
}

impl core::fmt::Debug for dyn Bytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} bytes", self.as_ref().len())
    }
}

impl MappedRecord {
    /// Opens a record, which may be in parts, and maps it. Headers and lengths are checked.
    ///
    /// # Errors
    /// The system's, with the path; a file that is no record; with [`Verify::Eager`] the first
    /// checksum or padding that is not right.
    ///
    /// # Safety
    /// As long as the record, or a tensor of it, is there, nobody may change the file, or a part
    /// of it, in place, or cut it: not this process and no other. Bytes that change under a `&[u8]`
    /// are undefined behaviour, and reading beyond the end of a file that was cut kills the
    /// process. Replacing a file by renaming another to its path, and removing it, change nothing
    /// in place; this library's own writers do nothing else.
    pub unsafe fn open(path: impl AsRef<Path>, verify: Verify) -> Result<Self, RecordError> {
        let path = path.as_ref();
        let record = RecordFile::open(path)?;
        // SAFETY: the caller promises that the files are not changed in place.
        let map = |file: &Open| unsafe { map(file) }.map_err(|error| error.in_file(&file.path));
        let maps = record.files().iter().map(map).collect::<Result<_, _>>()?;
        let tensors = record.entries().iter().map(|_| OnceLock::new()).collect();
        let mapped = Self { record, maps, verify, tensors };
        match verify {
            Verify::Eager => mapped.verified(),
            Verify::Lazy | Verify::Explicit => Ok(mapped),
        }
    }

    /// The user's own pairs, by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.record.metadata()
    }

    /// What the record says about its tensors, in the order of the file.
    pub fn entries(&self) -> &[RecordEntry] {
        self.record.entries()
    }

    /// Where in [`entries`](Self::entries) the tensor of this name is.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.record.position(name)
    }

    /// The length of the file in bytes, or of the index and all parts.
    pub fn byte_count(&self) -> u64 {
        self.record.byte_count()
    }

    /// The sections of the tensor at `index` of [`entries`](Self::entries), with their checksums.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn sections(&self, index: usize) -> impl Iterator<Item = RecordSection> + use<> {
        self.record.sections(index)
    }

    /// The tensor at `index` of [`entries`](Self::entries), borrowed from the file.
    ///
    /// When it is first asked for, its codes, scales and zero points are checked, and with
    /// [`Verify::Lazy`] its checksums too. Later it is returned as it was.
    ///
    /// # Errors
    /// A checksum, padding or code that is not right.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn tensor(&self, index: usize) -> Result<Tensor, RecordError> {
        if let Some(tensor) = self.tensors[index].get() {
            return Ok(tensor.clone());
        }
        self.will_need(index);
        if self.verify == Verify::Lazy {
            self.verify(index)?;
        }
        // Two threads may have made it at the same time: both are right.
        let made = self.make(index)?;
        Ok(self.tensors[index].get_or_init(|| made).clone())
    }

    /// The whole record, with tensors that are borrowed from the file, to be loaded into a model
    /// by [`Module::load_record`](crate::Module::load_record).
    ///
    /// # Errors
    /// The first of those that [`tensor`](Self::tensor) and [`states`](Self::states) have.
    pub fn to_record(&self) -> Result<Record, RecordError> {
        self.record.collect(|index| self.tensor(index))
    }

    /// Reads the states of modules, in order. Their checksums are always checked.
    ///
    /// # Errors
    /// The system's, with the path; a checksum or padding that is not right.
    pub fn states(&self) -> Result<Vec<State>, RecordError> {
        self.record.states()
    }

    /// Compares the checksums of the tensor at `index` of [`entries`](Self::entries) with its
    /// bytes.
    ///
    /// # Errors
    /// The first checksum or padding that is not right.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn verify(&self, index: usize) -> Result<(), RecordError> {
        let (name, place) = (self.entries()[index].id.as_str(), self.record.place(index));
        let bytes = (*self.maps[place.file]).as_ref();
        let mut sections = TENSOR_PARTS.into_iter().zip(place.sections);
        sections.try_for_each(|(part, section)| check(bytes, name, part, section))
    }

    /// Compares all checksums with the bytes, by the threads of `rayon` if that feature is on.
    ///
    /// # Errors
    /// One error for each section that is damaged, in the order of the file.
    pub fn verify_all(&self) -> Result<(), Vec<RecordError>> {
        // Read, not mapped: pages that nobody has asked for need not come into this process.
        self.record.verify_all()
    }

    fn verified(self) -> Result<Self, RecordError> {
        let errors = self.verify_all().err().unwrap_or_default();
        errors.into_iter().next().map_or(Ok(self), Err)
    }

    /// Tells the system which part of the file is about to be read, and that it is to read ahead
    /// there. It is free not to listen.
    fn will_need(&self, index: usize) {
        let TensorPlace { file, sections } = self.record.place(index);
        let (start, end) = (sections[0].offset, sections[2].padded_end().unwrap_or(0));
        self.maps[file].will_need(start as usize, end.saturating_sub(start) as usize);
    }

    fn make(&self, index: usize) -> Result<Tensor, RecordError> {
        let RecordEntry { id, shape, scheme } = &self.entries()[index];
        let TensorPlace { file, sections: [values, scales, zero_points] } =
            self.record.place(index);
        let map = &self.maps[file];
        let made = match *scheme {
            None => SharedTensor::from_buffer(shape, elements(map, values)).map(Tensor::from),
            Some(scheme) => {
                let scales = match scheme.scale_type() {
                    ScaleType::F32 => elements(map, scales),
                    ScaleType::F16 => widen(&elements::<u16>(map, scales).into_vec()).into(),
                };
                let (codes, zeros) = (elements(map, values), elements(map, zero_points));
                let made = QuantizedTensor::from_buffers(shape, scheme, codes, scales, zeros);
                made.map(Tensor::from)
            }
        };
        made.map_err(|source: TensorError| RecordError::Tensor { id: id.clone(), source })
    }
}

/// Maps a file in the length that its header has been compared with.
///
/// # Safety
/// The file is not changed in place, or cut, while the map is there.
unsafe fn map(open: &Open) -> Result<Owner, RecordError> {
    let len = usize::try_from(open.len)
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::OutOfMemory))?;
    let mut options = MmapOptions::new();
    options.len(len);
    // SAFETY: the caller promises that the file is not changed while it is mapped.
    let map = unsafe { options.map(&open.file) }?;
    // Reading ahead of a tensor would bring in its neighbours, which may never be used.
    #[cfg(unix)]
    let _ = map.advise(memmap2::Advice::Random);
    Ok(Arc::new(Map(map)))
}

/// Compares a section's checksum with its bytes in the file, and what pads it with zero.
fn check(file: &[u8], name: &str, part: Part, section: Section) -> Result<(), RecordError> {
    let data = range(section);
    let padding = data.end..section.padded_end().map_or(file.len(), |end| end as usize);
    check_crc(name, part, section, crc32fast::hash(&file[data.clone()]))?;
    check_padding(&file[padding], data.end as u64)
}

/// Where a section lies, which the header's checks have found to be in the file.
fn range(section: Section) -> Range<usize> {
    section.offset as usize..(section.offset + section.len) as usize
}

/// The elements of a section where they lie, or a copy where their bytes have another order.
fn elements<T: Element>(map: &Owner, section: Section) -> Buffer<T> {
    let range = range(section);
    if (cfg!(target_endian = "little") || size_of::<T>() == 1)
        && let Some(elements) = Buffer::shared(map, range.clone())
    {
        return elements;
    }
    let bytes = &(**map).as_ref()[range];
    let mut elements: Vec<T> = bytemuck::pod_collect_to_vec(bytes);
    fix_endian(&mut elements);
    elements.into()
}
