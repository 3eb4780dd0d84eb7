//! An open file of tensors, of which floats are borrowed where it is mapped into memory.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

#[cfg(feature = "mmap")]
use quant::__private::FileMap;
use quant::__private::OpenFile;
use quant::record::RecordFormatError;
use quant::tensor::FloatType;
use quant::{RecordError, Tensor};

#[cfg(not(feature = "mmap"))]
use absent::FileMap;

/// An open file in which tensors follow a header. Positions are those after the header.
#[derive(Debug)]
pub(crate) struct TensorFile {
    file: OpenFile,
    /// The bytes of the header.
    header: u64,
    /// All of the file, if it is mapped.
    map: Option<FileMap>,
}

impl TensorFile {
    /// Opens a file. `read_header` gets the length of the file, and gives the header with its length.
    pub(crate) fn open<H>(
        path: &Path,
        read_header: impl FnOnce(&mut dyn Read, u64) -> Result<(H, u64), RecordError>,
    ) -> Result<(Self, H), RecordError> {
        let open = || {
            let file = OpenFile::open(path)?;
            let (read, header) = read_header(&mut file.at(0), file.len)?;
            Ok((Self { file, header, map: None }, read))
        };
        open().map_err(|error: RecordError| error.in_file(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Reads what starts at this position.
    pub(crate) fn read<T>(
        &self,
        at: u64,
        read: impl FnOnce(&mut dyn Read) -> Result<T, RecordError>,
    ) -> Result<T, RecordError> {
        let mut reader = self.file.at(self.header + at);
        read(&mut reader).map_err(|error| error.in_file(self.path()))
    }

    /// The float tensor of these bytes, if the file is mapped: borrowed, or copied where they are not
    /// aligned.
    pub(crate) fn borrowed(
        &self,
        id: &str,
        ty: FloatType,
        shape: &[usize],
        bytes: Range<u64>,
    ) -> Option<Result<Tensor, RecordError>> {
        let map = self.map.as_ref()?;
        // The file has these bytes, and its map has all of them.
        let [start, end] = [bytes.start, bytes.end].map(|at| (self.header + at) as usize);
        map.will_need(start..end);
        let made = map.floats(shape, ty, start..end).map(Tensor::from);
        let error = |source| RecordFormatError::Tensor { id: id.into(), source };
        Some(made.map_err(|source| RecordError::from(error(source)).in_file(self.path())))
    }

    /// Maps the file into memory.
    ///
    /// # Safety
    /// As [`open_mapped`](crate::open_mapped).
    #[cfg(feature = "mmap")]
    pub(crate) unsafe fn map(&mut self) -> Result<(), RecordError> {
        // SAFETY: the caller promises that the file is not changed.
        let mapped = unsafe { FileMap::new(&self.file.file, self.file.len) };
        self.map = Some(mapped.map_err(|error| RecordError::from(error).in_file(self.path()))?);
        Ok(())
    }
}

#[cfg(not(feature = "mmap"))]
mod absent {
    use std::ops::Range;

    use quant::tensor::{FloatType, SharedTensor, TensorError};

    /// A file in memory: without the feature `mmap`, there is none.
    #[derive(Debug)]
    pub(crate) enum FileMap {}

    impl FileMap {
        pub(crate) fn will_need(&self, _: Range<usize>) {
            match *self {}
        }

        pub(crate) fn floats(
            &self,
            _: &[usize],
            _: FloatType,
            _: Range<usize>,
        ) -> Result<SharedTensor, TensorError> {
            match *self {}
        }
    }
}
