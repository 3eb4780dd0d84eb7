//! One shard: its header, then its tensors in any order.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use crc32fast::Hasher;
use quant::record::AtomicFile;

use super::compressed::Slot;
use super::journal::in_file;
use crate::error::CheckpointError;
use crate::safetensors::{self, Header};

/// A shard that is being written.
pub(super) struct ShardWriter {
    file: AtomicFile,
    header: Header,
    /// The offset of the first tensor.
    data: u64,
    /// The bytes that are written of each tensor.
    written: Vec<u64>,
    /// The checksum of the header, and that of each tensor.
    checksums: (Hasher, Vec<Hasher>),
}

impl ShardWriter {
    /// Writes the header.
    pub(super) fn create(
        path: &Path,
        slots: &[Slot],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, CheckpointError> {
        let tensors = slots.iter().map(|(name, dtype, shape)| safetensors::Slot {
            name: name.clone(),
            dtype: *dtype,
            shape: shape.clone(),
            bytes: 0..dtype.byte_count(shape).unwrap_or(0),
        });
        let mut header = Header { metadata: metadata.clone(), tensors: tensors.collect() };
        header.place();
        let encoded = header.encode().map_err(quant::RecordError::from)?;
        let mut checksum = Hasher::new();
        checksum.update(&encoded);
        let create = || -> io::Result<AtomicFile> {
            let mut file = AtomicFile::create(path)?;
            file.write_all(&encoded)?;
            Ok(file)
        };
        let file = create().map_err(|error| in_file(path, error))?;
        let checksums = (checksum, vec![Hasher::new(); slots.len()]);
        let written = vec![0; slots.len()];
        Ok(Self { file, header, data: encoded.len() as u64, written, checksums })
    }

    /// Writes what follows in the tensor at a position in the list of slots.
    pub(super) fn append(&mut self, slot: usize, bytes: &[u8]) -> io::Result<()> {
        let (range, written) = (&self.header.tensors[slot].bytes, &mut self.written[slot]);
        self.file.seek(SeekFrom::Start(self.data + range.start + *written))?;
        *written += bytes.len() as u64;
        debug_assert!(*written <= range.end - range.start, "within the tensor");
        self.checksums.1[slot].update(bytes);
        self.file.write_all(bytes)
    }

    /// Gives the file its name. Returns its length and checksum.
    pub(super) fn finish(mut self) -> io::Result<(u64, u32)> {
        self.file.flush()?;
        self.file.commit()?;
        let (mut whole, tensors) = self.checksums;
        self.header.by_offset().into_iter().for_each(|slot| whole.combine(&tensors[slot]));
        Ok((self.data + self.header.data_len(), whole.finalize()))
    }
}
