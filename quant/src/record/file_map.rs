//! A file mapped into memory, whose elements tensors borrow.

use alloc::sync::Arc;
use core::ops::Range;
use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

use crate::record::read::elements::{Element, fix_endian};
use crate::tensor::{Buffer, Bytes, FloatType, HalfType, Owner, SharedTensor, TensorError};

/// A file in memory, which the tensors in it keep alive.
#[derive(Clone, Debug)]
pub struct FileMap(Owner);

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
            // A failure only affects speed.
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

impl FileMap {
    /// Maps a file up to the length that its header has been validated against.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Safety
    /// As long as the map or a tensor in it exists, the file is not modified in place, nor truncated.
    pub unsafe fn new(file: &File, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut options = MmapOptions::new();
        options.len(len);
        // SAFETY: the caller promises that the file is not changed while it is mapped.
        let map = unsafe { options.map(file) }?;
        // Reading ahead would bring in the neighbours of a tensor, which may never be used.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Random);
        Ok(Self(Arc::new(Map(map))))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }

    /// Announces that these bytes are about to be read.
    pub fn will_need(&self, bytes: Range<usize>) {
        self.0.will_need(bytes.start, bytes.len());
    }

    /// The float tensor whose elements are these bytes: borrowed, or copied if they are not aligned.
    ///
    /// # Errors
    /// They are not as many as the shape has.
    ///
    /// # Panics
    /// If bytes are beyond the file, or parts of elements.
    pub fn floats(
        &self,
        shape: &[usize],
        ty: FloatType,
        bytes: Range<usize>,
    ) -> Result<SharedTensor, TensorError> {
        match HalfType::of(ty) {
            None => SharedTensor::from_buffer(shape, self.elements(bytes)),
            Some(half) => SharedTensor::from_bits(shape, half, self.elements(bytes)),
        }
    }

    /// The elements in these bytes: borrowed, or copied if they are not aligned, or if the byte order of
    /// the machine differs.
    pub(crate) fn elements<T: Element>(&self, bytes: Range<usize>) -> Buffer<T> {
        if (cfg!(target_endian = "little") || size_of::<T>() == 1)
            && let Some(elements) = Buffer::shared(&self.0, bytes.clone())
        {
            return elements;
        }
        let mut elements: Vec<T> = bytemuck::pod_collect_to_vec(&self.bytes()[bytes]);
        fix_endian(&mut elements);
        elements.into()
    }
}
