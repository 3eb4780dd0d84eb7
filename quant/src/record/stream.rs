//! Writing a record one tensor at a time.
//!
//! The length of a header depends on names and ranks only: room is left for it, the payloads are
//! written, and it is filled in at the end with their checksums.

use alloc::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::atomic::{Files, NewFile, System, Target};
use super::header::{Encoding, Header, Section, StateEntry, TensorEntry};
use super::layout::Prelude;
use super::payload::Payload;
use super::validate::{section_lens, validate};
use super::writer::{Sink, lay_out, metadata_entries, sections_end};
use super::{RecordEntry, RecordError, State};
use crate::module::ParamView;
use crate::tensor::Tensor;

/// Writes a record to a file, one tensor at a time: no more than one need be in memory.
///
/// What is to be written is declared first, and then written in this order. The file has its old
/// content, or none, until [`finish`](Self::finish) returns; a writer that is dropped before
/// leaves nothing behind. The bytes are those that
/// [`BincodeRecorder`](super::BincodeRecorder) writes.
///
/// ```
/// use quant::{RecordEntry, RecordFile, RecordWriter, Tensor};
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-writer-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("model.quant");
/// let entries = vec![RecordEntry::new("a", [2], None), RecordEntry::new("b", [], None)];
/// let mut writer = RecordWriter::create(&path, Default::default(), entries, vec![])?;
/// writer.write("a", &Tensor::from_values(&[2], vec![1.0, 2.0])?)?;
/// writer.write("b", &Tensor::from_values(&[], vec![3.0])?)?;
/// writer.finish()?;
///
/// assert_eq!(*RecordFile::open(&path)?.read(1)?.values(), [3.0]);
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a record that is not finished is removed"]
pub struct RecordWriter {
    stream: Stream<System>,
    path: PathBuf,
}

impl RecordWriter {
    /// Begins a record of these tensors, with the user's own pairs and the states of modules.
    ///
    /// # Errors
    /// A name that is there twice; a shape and scheme that make no tensor; a header beyond the
    /// limit: all before anything is written. The system's, with the path.
    pub fn create(
        path: impl AsRef<Path>,
        metadata: BTreeMap<String, String>,
        entries: Vec<RecordEntry>,
        states: Vec<State>,
    ) -> Result<Self, RecordError> {
        let path = path.as_ref();
        let stream = Stream::create(System, path, metadata, entries, states)
            .map_err(|error| error.in_file(path))?;
        Ok(Self { stream, path: path.into() })
    }

    /// Writes the next tensor.
    ///
    /// # Errors
    /// Another name, shape or scheme than was declared: nothing is written then, and the right
    /// tensor may follow. The system's, with the path; nothing can be written after it.
    pub fn write(&mut self, id: &str, tensor: &Tensor) -> Result<(), RecordError> {
        self.stream.write(id, tensor.into()).map_err(|error| error.in_file(&self.path))
    }

    /// Writes states and header, brings the record to the disk and gives it its name.
    ///
    /// # Errors
    /// A tensor that was declared and not written. The system's, with the path.
    pub fn finish(self) -> Result<(), RecordError> {
        let Self { stream, path } = self;
        stream.finish().map_err(|error| error.in_file(&path))
    }
}

/// The declared record on its way to a file.
pub(super) struct Stream<F: Files> {
    target: Target,
    entries: Vec<RecordEntry>,
    states: Vec<State>,
    next: usize,
    /// `None` after an error.
    body: Option<Body<NewFile<F>>>,
}

impl<F: Files> Stream<F> {
    pub(super) fn create(
        files: F,
        path: &Path,
        metadata: BTreeMap<String, String>,
        entries: Vec<RecordEntry>,
        states: Vec<State>,
    ) -> Result<Self, RecordError> {
        let header = header(metadata, &entries, &states)?;
        let target = Target::find(path)?;
        let body = Some(Body::begin(NewFile::beside(&files, &target)?, header)?);
        Ok(Self { target, entries, states, next: 0, body })
    }

    pub(super) fn write(&mut self, id: &str, param: ParamView<'_>) -> Result<(), RecordError> {
        self.expect(id, param)?;
        let mut body = self.body.take().ok_or(RecordError::Unfinished { id: None })?;
        body.tensor(param)?;
        self.body = Some(body);
        self.next += 1;
        Ok(())
    }

    /// Compares a tensor with the declared one.
    fn expect(&self, id: &str, param: ParamView<'_>) -> Result<(), RecordError> {
        let expected = self.entries.get(self.next);
        let scheme = param.quantized().map(crate::QuantizedTensor::scheme);
        let found = RecordEntry::new(id, param.shape(), scheme);
        if expected == Some(&found) {
            return Ok(());
        }
        let expected = expected.cloned().map(Box::new);
        Err(RecordError::NotDeclared { id: found.id.clone(), expected, found: Box::new(found) })
    }

    pub(super) fn finish(self) -> Result<(), RecordError> {
        if let Some(entry) = self.entries.get(self.next) {
            return Err(RecordError::Unfinished { id: Some(entry.id.clone()) });
        }
        let mut body = self.body.ok_or(RecordError::Unfinished { id: None })?;
        for state in &self.states {
            body.state(&state.data)?;
        }
        let (file, _) = body.finish()?;
        file.put_in_place(self.target)
    }
}

/// The header of these tensors and states, checked and laid out; checksums are still to come.
fn header(
    metadata: BTreeMap<String, String>,
    entries: &[RecordEntry],
    states: &[State],
) -> Result<Header<'static>, RecordError> {
    let mut header = Header {
        metadata: metadata_entries(metadata),
        tensors: entries.iter().map(tensor_entry).collect::<Result<_, _>>()?,
        states: states.iter().map(state_entry).collect(),
    };
    let start = lay_out(&mut header)?;
    validate(header.clone(), start, sections_end(&header, start))?;
    Ok(header)
}

fn tensor_entry(entry: &RecordEntry) -> Result<TensorEntry<'static>, RecordError> {
    let RecordEntry { id, shape, scheme } = entry;
    let shape: Vec<u64> = shape.iter().map(|&extent| extent as u64).collect();
    let lens = match section_lens(&entry.shape, *scheme) {
        Ok(Some(lens)) => lens,
        Ok(None) => return Err(RecordError::Shape { id: id.clone(), shape }),
        Err(source) => return Err(RecordError::Tensor { id: id.clone(), source }),
    };
    Ok(TensorEntry {
        name: id.as_str().to_owned().into(),
        shape,
        encoding: Encoding::of(*scheme),
        sections: lens.map(|len| Section { len, ..Section::default() }),
    })
}

fn state_entry(state: &State) -> StateEntry<'static> {
    StateEntry {
        name: state.id.as_str().to_owned().into(),
        kind: state.kind.clone().into(),
        section: Section { len: state.data.len() as u64, ..Section::default() },
    }
}

/// A record whose sections are being written, after room for its header.
struct Body<W> {
    sink: Sink<W>,
    header: Header<'static>,
    tensors: usize,
    states: usize,
}

impl<W: Write + Seek> Body<W> {
    fn begin(mut writer: W, mut header: Header<'static>) -> Result<Self, RecordError> {
        let at = lay_out(&mut header)?;
        writer.seek(SeekFrom::Start(at))?;
        Ok(Self { sink: Sink { writer, at }, header, tensors: 0, states: 0 })
    }

    /// Writes the next tensor, which is the declared one.
    fn tensor(&mut self, param: ParamView<'_>) -> Result<(), RecordError> {
        let entry = &mut self.header.tensors[self.tensors];
        for (payload, section) in Payload::of(param).iter().zip(&mut entry.sections) {
            if !put(&mut self.sink, payload, section)? {
                return Err(RecordError::Changed { id: entry.name.clone().into_owned().into() });
            }
        }
        self.tensors += 1;
        Ok(())
    }

    /// Writes the next state, which is the declared one.
    fn state(&mut self, data: &[u8]) -> Result<(), RecordError> {
        let entry = &mut self.header.states[self.states];
        if !put(&mut self.sink, &Payload::Bytes(data), &mut entry.section)? {
            return Err(RecordError::Changed { id: entry.name.clone().into_owned().into() });
        }
        self.states += 1;
        Ok(())
    }

    /// Writes the header into the room that was left for it.
    fn finish(mut self) -> Result<(W, Prelude), RecordError> {
        let bytes = self.header.encode()?;
        let prelude = Prelude::new(&bytes, self.sink.at);
        self.sink.writer.seek(SeekFrom::Start(0))?;
        self.sink.at = 0;
        self.sink.write(&prelude.encode())?;
        self.sink.write(&bytes)?;
        self.sink.pad()?;
        Ok((self.sink.writer, prelude))
    }
}

/// Writes a section and its checksum; says whether it has the place and length laid out for it.
fn put<W: Write>(
    sink: &mut Sink<W>,
    payload: &Payload<'_>,
    section: &mut Section,
) -> Result<bool, RecordError> {
    let written = sink.section(payload)?;
    section.crc32 = written.crc32;
    Ok(*section == written)
}
