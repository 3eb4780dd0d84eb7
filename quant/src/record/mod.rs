//! Records: models in files.
//!
//! ```
//! use quant::{BincodeRecorder, MinMaxCalibration, Module, Param, Quantizer};
//!
//! # let directory = std::env::temp_dir().join(format!("quant-doc-record-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory)?;
//! # let path = directory.join("model.quant");
//! let recorder = BincodeRecorder::default().with_metadata("source", "an example");
//! let model = vec![Param::new([[1.0f32, -2.0], [0.5, 4.0]])];
//! let mut quantizer = Quantizer {
//!     calibration: MinMaxCalibration {},
//!     scheme: "per-channel-symmetric-int8".parse()?,
//! };
//! model.quantize_weights(&mut quantizer)?.save_file(&path, &recorder)?;
//!
//! // Into a model of the same shape, float until then…
//! let fresh = vec![Param::new([[0.0f32; 2]; 2])];
//! assert!(fresh.load_file(&path, &recorder)?[0].is_quantized());
//!
//! // …or without its types.
//! let record = quant::Recorder::load_file(&recorder, &path)?;
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
//!   8 │ version    1                  │  u32
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
//!     │ section    zero points        │  its zero points; those it does not have are empty
//!     │ zeros      to a multiple of 64│
//!     │ …                             │
//!     │ section    state              │  for each state
//!     │ zeros      to a multiple of 64│
//!     └───────────────────────────────┘  the file length, a multiple of 64
//! ```
//!
//! All numbers are little endian. Sections start on multiples of 64, a cache line and the widest
//! vector register, so that they can be used where they lie in a mapped file; they are padded to
//! the next multiple, the last one too, so that whole registers can be read to their end. They
//! lie end to end in the header's order and fill the file: every byte is covered by a checksum or
//! is a padding byte, which is checked to be zero. `docs/record-format.md` describes every byte.
//!
//! A record may be cut into parts, which are records themselves, with an index of them at its path:
//! [`BincodeRecorder::with_max_part_size`]. [`RecordFile`] and [`RecordWriter`] take either kind one
//! tensor at a time.
//!
//! # Hostile input
//! A record is checked before anything is made of it: a claim is compared with the bytes present
//! before room is made for it, so that a bad record takes no more memory than it has bytes and
//! some. No record makes this library panic.
//!
//! # Compatibility
//! This library reads every record of version 1, and always will. Whatever changes gets a new
//! version, which older libraries refuse by its number; there is no change that they would not
//! notice, since nothing in a record is ignored.

mod collection;
mod difference;
mod error;
mod format;
mod load;
#[cfg(feature = "mmap")]
#[allow(unsafe_code)]
mod map;
mod read;
mod recorder;
mod write;

pub use collection::Record;
pub use difference::Difference;
pub use error::{IndexError, RecordError};
pub use format::{
    entry::{RecordEntry, State},
    section::{Part, RecordSection},
};
pub(crate) use load::load as load_into;
#[cfg(feature = "mmap")]
pub use map::{MappedRecord, Verify};
pub use read::record_file::RecordFile;
pub use recorder::{BincodeRecorder, Recorder};
pub use write::manifest::Outline;
pub use write::writer::RecordWriter;

/// For other crates that read and write files; see [`__private`](crate::__private).
pub(crate) mod hooks {
    pub use super::format::{layout::is_record, validate::distinct};
    pub use super::read::{
        elements::{Element, fix_endian, read_elements, reserve},
        open_file::At,
    };
    pub use super::write::{
        atomic::{Files, NewFile, Settled, System, Target},
        declared::InOrder,
        payload::Payload,
    };
}
