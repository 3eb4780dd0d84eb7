#![no_std]
#![forbid(unsafe_code)]
//! Reads the records of [`quant`](https://docs.rs/quant) from borrowed bytes: no `std`, no heap.
//!
//! A record is a file with the parameters of a model, float or quantized. This reader leaves it where
//! it is, in flash or in a mapped file, at any address, and copies nothing.
//!
//! ```
//! use quant_record::Record;
//!
//! # use quant::{BincodeRecorder, MinMaxCalibration, Module, Param, Quantizer};
//! # let model = vec![Param::new([[1.0f32, -2.0], [0.5, 4.0]])];
//! # let scheme = "per-channel-symmetric-int8".parse()?;
//! # let model = model.quantize_weights(Quantizer { calibration: MinMaxCalibration {}, scheme })?;
//! # let file: &[u8] = &model.save_bytes(&BincodeRecorder::default())?;
//! // On a device: `let file = include_bytes!("model.quant");`
//! let record = Record::new(file).map_err(|error| error.to_string())?;
//! let tensor = record.tensor("0").ok_or("no such tensor")?;
//! assert_eq!(**tensor.shape(), [2, 2]);
//!
//! let weight = tensor.quantized().ok_or("a float tensor")?;
//! let row = weight.codes().row(0).ok_or("no such row")?;
//! assert_eq!(row.as_i8(), Some(&[64, -127][..]));
//! assert_eq!(weight.scales().get(0), Some(2.0 / 127.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is checked
//!
//! [`Record::new`] believes nothing. It compares every length and offset with the bytes present, computes
//! every checksum, and checks padding, codes, scales and zero points, in a time in proportion to the
//! file and with a small stack without recursion. After that, nothing that is asked of a record fails
//! or panics: what is not there is `None`.
//!
//! # What is read
//!
//! Versions 1 and 2, all of them: floats in `f32`, `f16` and `bf16`, codes of 2 to 8 bits in both
//! layouts, scales per tensor, channel and block, zero points, minimums, aliases, metadata and states. The
//! limits are [`ENTRY_LIMIT`], [`HEADER_LIMIT`] and [`RANK_LIMIT`], since names are compared without
//! memory for a table. `quant` reads what exceeds them, and records in shards.
//!
//! The format is specified in
//! [docs/record-format.md](https://github.com/quant-rs/quant/blob/main/docs/record-format.md).
//! [`quant_kernels::row`] has the products.

// Modules import downwards, in the order of `docs/rooms.txt`. Start at `record`.

mod aliases;
mod bytes;
mod codes;
mod crc32;
mod encoding;
mod error;
mod floats;
mod header;
mod limits;
mod prelude;
mod record;
mod sections;
mod state;
mod tensor;

pub use codes::{CodeRow, Codes};
pub use error::{RecordError, SectionFault, SectionKind};
pub use floats::{FloatType, Floats};
pub use limits::{ENTRY_LIMIT, HEADER_LIMIT, RANK_LIMIT};
pub use record::Record;
pub use state::State;
pub use tensor::{Quantized, Shape, Tensor, Values};
