//! Writing one tensor at a time.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use quant::__private::{DeclaredOrder, LaterStates, check_distinct};
use quant::ParamId;
use quant::RecordError;
use quant::Tensor;
use quant::record::{Manifest, ManifestError, RecordState};
use quant::tensor::FloatType;

use super::FORMAT;
use crate::sink::{Next, Part};

/// Writes tensors in the order of a manifest.
pub(crate) struct JsonWriter<W> {
    file: W,
    order: DeclaredOrder,
    later: LaterStates,
    /// States that are written after the tensors, because some of them have not arrived.
    states: Vec<RecordState>,
    /// Written before the next tensor.
    separator: &'static str,
    /// The tensor that was begun, and is not written yet.
    id: Option<ParamId>,
}

impl<W: Write> JsonWriter<W> {
    pub(crate) fn new(mut file: W, manifest: Manifest) -> Result<Self, RecordError> {
        let Manifest { metadata, entries, mut states, later_states, .. } = manifest;
        check_distinct(entries.iter().map(|entry| entry.id.as_str()))?;
        let ids = states.iter().map(|state| &state.id);
        check_distinct(ids.chain(later_states.iter().map(|it| &it.id)).map(ParamId::as_str))?;
        write!(file, "{{\n  \"format\": \"{FORMAT}\",\n  \"metadata\": {{")?;
        write_metadata(&mut file, &metadata)?;
        write!(file, "}},")?;
        if later_states.is_empty() {
            write_states(&mut file, &states)?;
            states.clear();
            write!(file, ",")?;
        }
        write!(file, "\n  \"tensors\": {{")?;
        let (order, later) = (DeclaredOrder::new(entries), LaterStates::new(later_states));
        Ok(Self { file, order, later, states, separator: "\n", id: None })
    }

    /// Begins the next tensor, or the next state that the manifest declares without its bytes, which
    /// is kept.
    pub(crate) fn begin(&mut self, next: Next<'_>) -> Result<(), RecordError> {
        match next {
            Next::Tensor(entry) => {
                self.order.begin_entry(entry)?;
                self.id = Some(entry.id.clone());
            }
            Next::State { id, len } => {
                self.order.check_finished()?;
                let kind = self.later.next(id, len)?.kind.clone();
                self.states.push(RecordState { id: id.into(), kind, data: Vec::new() });
            }
        }
        Ok(())
    }

    /// Writes all of the tensor, which is not divided, or keeps the next bytes of the state.
    pub(crate) fn part(&mut self, part: Part<'_>) -> Result<(), RecordError> {
        match (part, self.id.take(), self.states.last_mut()) {
            (Part::Tensor(tensor), Some(id), _) => self.tensor(id.as_str(), tensor),
            (Part::Bytes(bytes), None, Some(state)) => {
                state.data.extend(bytes);
                Ok(())
            }
            _ => Err(ManifestError::Failed.into()),
        }
    }

    /// Ends a tensor or state.
    pub(crate) fn end(&mut self) -> Result<(), RecordError> {
        if self.id.is_some() {
            return Err(ManifestError::Failed.into());
        }
        if self.order.is_writing() {
            self.order.end();
        }
        Ok(())
    }

    fn tensor(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError> {
        self.order.check_part(tensor.into())?;
        let file = &mut self.file;
        writeln!(file, "{}    {}: {{", self.separator, Quoted(id))?;
        self.separator = ",\n";
        let shape = tensor.shape();
        match tensor.quantized() {
            None => {
                if let Some(ty @ (FloatType::F16 | FloatType::Bf16)) = tensor.float_type() {
                    writeln!(file, "      \"type\": \"{ty}\",")?;
                }
                write!(file, "      \"shape\": {shape:?},\n      \"values\": ")?;
                let values = tensor.values();
                rows(file, shape, &values.iter().map(|&v| Value(v)).collect::<Vec<_>>())?;
            }
            Some(quantized) => {
                writeln!(file, "      \"scheme\": \"{}\",", quantized.scheme())?;
                write!(file, "      \"shape\": {shape:?},\n      \"scales\": [")?;
                list(file, quantized.scales().iter().map(|&scale| Value(scale)))?;
                write!(file, "],\n      \"zero_points\": [")?;
                list(file, quantized.zero_points().iter())?;
                if !quantized.minimums().is_empty() {
                    write!(file, "],\n      \"minimums\": [")?;
                    list(file, quantized.minimums().iter().map(|&minimum| Value(minimum)))?;
                }
                write!(file, "],\n      \"codes\": ")?;
                rows(file, shape, &quantized.codes())?;
            }
        }
        Ok(write!(file, "\n    }}")?)
    }

    pub(crate) fn finish(mut self) -> Result<W, RecordError> {
        let end = if self.order.is_empty() { "" } else { "\n  " };
        self.order.check_finished()?;
        self.later.check_finished()?;
        write!(self.file, "{end}}}")?;
        if !self.states.is_empty() {
            write!(self.file, ",")?;
            write_states(&mut self.file, &self.states)?;
        }
        write!(self.file, "\n}}\n")?;
        self.file.flush()?;
        Ok(self.file)
    }
}

fn write_metadata(file: &mut impl Write, pairs: &BTreeMap<String, String>) -> io::Result<()> {
    for (number, (key, value)) in pairs.iter().enumerate() {
        let separator = if number > 0 { ",\n" } else { "\n" };
        write!(file, "{separator}    {}: {}", Quoted(key), Quoted(value))?;
    }
    file.write_all(if pairs.is_empty() { b"" } else { b"\n  " })
}

fn write_states(file: &mut impl Write, states: &[RecordState]) -> io::Result<()> {
    write!(file, "\n  \"states\": {{")?;
    for (number, state) in states.iter().enumerate() {
        let separator = if number > 0 { ",\n" } else { "\n" };
        let (id, kind) = (Quoted(state.id.as_str()), Quoted(&state.kind));
        write!(file, "{separator}    {id}: {{\"kind\": {kind}, \"bytes\": \"")?;
        state.data.iter().try_for_each(|byte| write!(file, "{byte:02x}"))?;
        write!(file, "\"}}")?;
    }
    file.write_all(if states.is_empty() { b"}" } else { b"\n  }" })
}

/// A list with a line for each row of the last axis.
fn rows(file: &mut impl Write, shape: &[usize], values: &[impl Display]) -> io::Result<()> {
    let row = shape.last().copied().unwrap_or(1).max(1);
    file.write_all(b"[")?;
    for (number, row) in values.chunks(row).enumerate() {
        write!(file, "{}\n        ", if number > 0 { "," } else { "" })?;
        list(file, row.iter())?;
    }
    file.write_all(if values.is_empty() { b"]" } else { b"\n      ]" })
}

fn list(file: &mut impl Write, values: impl Iterator<Item = impl Display>) -> io::Result<()> {
    for (number, value) in values.enumerate() {
        write!(file, "{}{value}", if number > 0 { ", " } else { "" })?;
    }
    Ok(())
}

/// A float in the fewest digits that are parsed as the same float.
struct Value(f32);

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            v if v.is_finite() => write!(f, "{v:?}"),
            v if v.is_infinite() => write!(f, "\"{v}\""),
            v if v.to_bits() == f32::NAN.to_bits() => f.write_str("\"nan\""),
            v => write!(f, "\"nan 0x{:08x}\"", v.to_bits()),
        }
    }
}

/// A string with JSON's quotes and escapes.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}
