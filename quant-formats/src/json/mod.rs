//! Checkpoints in JSON, for people and for text tools.
//!
//! [`reader`] reads a file whole, [`writer`] writes one tensor at a time; both import `quant` and
//! nothing of this crate. Start reading at [`JsonRecorder`].

mod error;
mod reader;
mod writer;

use std::collections::BTreeMap;
use std::io::{Read, Write};

pub use error::JsonError;
pub(crate) use reader::parse;
pub(crate) use writer::JsonWriter;

use quant::RecordError;
use quant::module::Walk;
use quant::record::{Manifest, Record, RecordEntry, Recorder};

use crate::sink::{Next, Part};

/// The value of the field `format`.
const FORMAT: &str = "quant-json/1";

/// Loads and saves models in JSON, with a line for each row of a tensor.
///
/// Values keep their bits. Use JSON for small models and for inspection: a record takes a tenth of
/// the bytes and a hundredth of the time.
///
/// ```
/// use quant::{Module, Param};
/// use quant_formats::JsonRecorder;
///
/// let json = vec![Param::new([[1.0f32, -0.1], [f32::INFINITY, 0.0]])].save_bytes(&JsonRecorder::default())?;
/// assert_eq!(String::from_utf8(json)?, r#"{
///   "format": "quant-json/1",
///   "metadata": {},
///   "states": {},
///   "tensors": {
///     "0": {
///       "shape": [2, 2],
///       "values": [
///         1.0, -0.1,
///         "inf", 0.0
///       ]
///     }
///   }
/// }
/// "#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A quantized tensor has `scheme`, `scales`, `zero_points` and `codes` instead of `values`. The
/// bytes of a state are pairs of hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonRecorder {
    metadata: BTreeMap<String, String>,
}

impl JsonRecorder {
    /// Adds a key and its value to the metadata of saved files.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }
}

impl Recorder for JsonRecorder {
    fn save(&self, model: &dyn Walk, writer: &mut dyn Write) -> Result<(), RecordError> {
        let record = Record::from_module(model)?;
        let mut json = JsonWriter::new(writer, Manifest::of_model(&record, &self.metadata))?;
        for (id, tensor) in record.iter() {
            json.begin(Next::Tensor(&RecordEntry::of(id.clone(), tensor)))?;
            json.part(Part::Tensor(tensor))?;
            json.end()?;
        }
        json.finish().map(drop)
    }

    fn load(&self, reader: &mut dyn Read, _len: Option<u64>) -> Result<Record, RecordError> {
        let mut text = Vec::new();
        reader.read_to_end(&mut text)?;
        parse(&text)
    }
}
