//! Records: models in files.
//!
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
//! # Compatibility
//! This library reads every record of version 1, and always will. A change that an existing
//! reader would misunderstand gets a new version, which older libraries refuse by name; there is
//! no change that they would not notice, since nothing in a record is ignored.

mod atomic;
mod collection;
mod difference;
mod error;
mod header;
mod layout;
mod payload;
mod reader;
mod recorder;
mod validate;
mod writer;

pub use collection::{Record, State};
pub use difference::Difference;
pub(crate) use difference::load as load_into;
pub use error::{Part, RecordError};
pub use recorder::{BincodeRecorder, Recorder};
