//! Files that are mapped into memory, with the feature `mmap`.

use std::ops::Range;

use quant::record::RecordFormatError;
use quant::tensor::FloatType;
use quant::{RecordError, Tensor};

#[cfg(not(feature = "mmap"))]
pub(crate) use absent::FileMap;
#[cfg(feature = "mmap")]
pub(crate) use quant::__private::FileMap;

/// A float tensor that borrows these bytes of a file, or copies them where they are not aligned.
pub(crate) fn borrowed(
    map: &FileMap,
    id: &str,
    shape: &[usize],
    ty: FloatType,
    bytes: Range<u64>,
) -> Result<Tensor, RecordError> {
    // The file has these bytes, and its map has all of them.
    let bytes = bytes.start as usize..bytes.end as usize;
    map.will_need(bytes.clone());
    let made = map.floats(shape, ty, bytes);
    made.map(Tensor::from)
        .map_err(|source| RecordFormatError::Tensor { id: id.into(), source }.into())
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
