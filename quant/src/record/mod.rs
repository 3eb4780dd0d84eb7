//! Records: models in files.
//!
//! ```
//! use quant::{BincodeRecorder, MinMaxCalibration, Module, Param, Quantizer};
//!
//! # let directory = std::env::temp_dir().join(format!("quant-doc-record-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! # let path = directory.join("model.quant");
//! let recorder = BincodeRecorder::default().metadata("source", "an example");
//! let model = vec![Param::new([[1.0f32, -2.0], [0.5, 4.0]])];
//! let mut quantizer = Quantizer {
//!     calibration: MinMaxCalibration {},
//!     scheme: "per-channel-symmetric-int8".parse()?,
//! };
//! model.quantize_weights(&mut quantizer)?.save_file(&path, &recorder)?;
//!
//! // Load it into a model of the same shape…
//! let fresh = vec![Param::new([[0.0f32; 2]; 2])];
//! assert!(fresh.load_file(&path, &recorder)?[0].is_quantized());
//!
//! // …or without the types of the model.
//! let record = quant::record::Recorder::load_file(&recorder, &path)?;
//! assert_eq!(record.metadata()["source"], "an example");
//! assert_eq!(record.get("0").unwrap().shape(), [2, 2]);
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//! ```text
//!   0 ┌───────────────────────────────┐
//!     │ magic      89 'QNT' 0D0A 1A0A │  8 bytes
//!   8 │ version    1 or 2             │  u32
//!  12 │ checksum   of all but itself  │  u32    CRC-32 of bytes 0..12, 16..32 and the header
//!  16 │ header length                 │  u64
//!  24 │ file length                   │  u64
//!  32 ├───────────────────────────────┤
//!     │ header     metadata           │  bincode: fixed width, little endian, at most 64 MiB
//!     │            tensors            │
//!     │            states             │
//!     ├───────────────────────────────┤
//!     │ zeros      to a multiple of 64│
//!     ├───────────────────────────────┤
//!     │ section    values             │  for each tensor: floats or packed codes,
//!     │ zeros      to a multiple of 64│
//!     │ section    scales             │  its scales,
//!     │ zeros      to a multiple of 64│
//!     │ section    zero points        │  its zero points; empty where there are none
//!     │ zeros      to a multiple of 64│
//!     │ …                             │
//!     │ section    state              │  for each state
//!     │ zeros      to a multiple of 64│
//!     └───────────────────────────────┘  the file length, a multiple of 64
//! ```
//!
//! All numbers are little endian. Sections start on multiples of 64 bytes, the size of a cache line
//! and of the widest vector register, so that they can be used in place in a mapped file. Each
//! section is padded to the next multiple, so that it can be read in whole registers. Sections lie
//! end to end in the order of the header and fill the file: every byte is covered by a checksum or is
//! a padding byte, which must be zero. `docs/record-format.md` describes every byte.
//!
//! A record may be split into shards, which are records themselves, with an index of them at its
//! path; see [`BincodeRecorder::max_shard_size`](crate::BincodeRecorder::max_shard_size). [`RecordFile`] and [`RecordWriter`] read and
//! write both kinds one tensor at a time.
//!
//! # Untrusted input
//! A record is validated before it is used. Every claimed size is compared with the bytes present
//! before memory is allocated for it, so a bad record takes little more memory than it has bytes. No
//! record makes this library panic.
//!
//! # Compatibility
//! This library reads every record of versions 1 and 2, for good. A record is written as version 1
//! if that is as small; see [`RecordVersion`]. Any change of the format gets a new version, which
//! older versions of this library reject by its number. Nothing in a record is
//! ignored, so no change goes unnoticed.

// Start at `format`, which defines the bytes; `read` and `write` import it, and `recorder` and `map`
// import those. `collection`, `load` and `write` walk models. Nothing here imports plans or layers.

mod collection;
mod difference;
pub(crate) mod error;
#[cfg(feature = "mmap")]
#[allow(unsafe_code)]
mod file_map;
mod format;
mod load;
#[cfg(feature = "mmap")]
#[allow(unsafe_code)]
mod map;
mod read;
pub(crate) mod recorder;
mod regular;
mod write;

pub use collection::{Iter, Record};
pub use difference::Difference;
pub(crate) use error::RecordError;
pub use format::{
    entry::{RecordEntry, RecordState, Stored},
    error::{RecordFormatError, ShardIndexError},
    foreign::ForeignFormat,
    section::{RecordSection, SectionKind},
    version::RecordVersion,
};
pub(crate) use load::load as load_into;
#[cfg(feature = "mmap")]
pub use map::{MappedRecord, Verify};
pub use read::record_file::RecordFile;
pub use recorder::Recorder;
pub use write::{
    atomic_file::{AtomicFile, write_file},
    error::ManifestError,
    manifest::{LaterState, Manifest},
    writer::RecordWriter,
};

/// What crates for other file formats share with this one; see [`__private`](crate::__private).
pub(crate) mod hooks {
    #[cfg(feature = "mmap")]
    pub use super::file_map::FileMap;
    pub use super::format::layout::is_record;
    pub use super::format::validate::check_distinct;
    pub use super::read::elements::{Element, fix_endian, read_elements, reserve};
    pub use super::read::open_file::{FileReader, OpenFile};
    pub use super::read::part::SectionPart;
    pub use super::write::atomic::is_temporary_name;
    pub use super::write::declared::{DeclaredOrder, LaterStates};
    pub use super::write::payload::Payload;
}
