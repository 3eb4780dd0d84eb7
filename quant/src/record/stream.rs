//! Writing a record one tensor at a time.
//!
//! The length of a header depends on names and ranks only: room is left for it, the payloads are
//! written, and it is filled in at the end with their checksums.

use alloc::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::atomic::{Files, NewFile, Settled, System, Target};
use super::header::{Encoding, Header, MetadataEntry, Section, StateEntry, TensorEntry};
use super::index::{Index, Names, PartFile};
use super::layout::{ALIGNMENT, PRELUDE_LEN, Prelude};
use super::order::InOrder;
use super::outline::Outline;
use super::payload::Payload;
use super::validate::{distinct, padded_end, section_lens, validate};
use super::writer::{Sink, lay_out, metadata_entries, sections_end};
use super::{RecordEntry, RecordError, State};
use crate::module::{Leaves, Module, ParamView, Site, walk};
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
        let outline = Outline { metadata, entries, states, max_part_size: None };
        Self::begin(path.as_ref(), outline)
    }

    /// Begins a record in parts of at most `max_part_size` bytes, or of one tensor where that
    /// alone is larger; see
    /// [`BincodeRecorder::with_max_part_size`](super::BincodeRecorder::with_max_part_size).
    ///
    /// # Errors
    /// Those of [`create`](Self::create).
    pub fn create_in_parts(
        path: impl AsRef<Path>,
        max_part_size: u64,
        metadata: BTreeMap<String, String>,
        entries: Vec<RecordEntry>,
        states: Vec<State>,
    ) -> Result<Self, RecordError> {
        let max_part_size = Some(max_part_size);
        Self::begin(path.as_ref(), Outline { metadata, entries, states, max_part_size })
    }

    pub(crate) fn begin(path: &Path, outline: Outline) -> Result<Self, RecordError> {
        let stream = Stream::create(System, path, outline).map_err(|error| error.in_file(path))?;
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

/// Writes a model in parts, with `metadata` added to what the model itself brings.
pub(super) fn save_in_parts<F: Files>(
    files: F,
    path: &Path,
    max_part_size: u64,
    metadata: &BTreeMap<String, String>,
    model: &dyn Module,
) -> Result<(), RecordError> {
    let outline =
        Outline { max_part_size: Some(max_part_size), ..Outline::of_model(model, metadata) };
    let mut stream = Stream::create(files, path, outline)?;
    let mut writing = Writing { stream: &mut stream, result: Ok(()) };
    walk(model, &mut writing);
    writing.result.and_then(|()| stream.finish()).map_err(changed)
}

/// What a model declares is its own: another tensor means that it has changed.
fn changed(error: RecordError) -> RecordError {
    match error {
        RecordError::NotDeclared { id, .. } | RecordError::Unfinished { id: Some(id) } => {
            RecordError::Changed { id }
        }
        other => other,
    }
}

/// Writes the tensors that a walk comes by, up to the first error.
struct Writing<'a, F: Files> {
    stream: &'a mut Stream<F>,
    result: Result<(), RecordError>,
}

impl<F: Files> Leaves for Writing<'_, F> {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        if self.result.is_ok() {
            self.result = self.stream.write(site.path, param);
        }
    }
}

/// The declared record on its way to a file, or to several and their index.
pub(super) struct Stream<F: Files> {
    files: F,
    target: Target,
    order: InOrder,
    states: Vec<State>,
    /// Headers of the files that are to come.
    planned: std::vec::IntoIter<Header<'static>>,
    /// The file that is being written; `None` after an error.
    body: Option<Body<NewFile<F>>>,
    parts: Option<Parts<F>>,
}

/// The finished parts of a record.
struct Parts<F: Files> {
    names: Names,
    /// The one that is being written.
    name: String,
    index: Vec<PartFile>,
    settled: Vec<Settled<F>>,
}

impl<F: Files> Stream<F> {
    pub(super) fn create(files: F, path: &Path, outline: Outline) -> Result<Self, RecordError> {
        let headers = headers(&outline)?;
        let target = Target::find(path)?;
        let parts = (headers.len() > 1).then(|| Parts::new(&target.path));
        if let Some(parts) = &parts {
            parts.names.check_room(headers.len())?;
        }
        let Outline { entries, states, .. } = outline;
        let (order, planned, body) = (InOrder::new(entries), headers.into_iter(), None);
        let mut stream = Self { files, target, order, states, planned, body, parts };
        stream.begin_file()?;
        Ok(stream)
    }

    /// Begins the next file of the plan.
    fn begin_file(&mut self) -> Result<(), RecordError> {
        let header = self.planned.next().ok_or(RecordError::Unfinished { id: None })?;
        let file = match &mut self.parts {
            None => NewFile::beside(&self.files, &self.target)?,
            Some(parts) => {
                parts.name = parts.names.next();
                NewFile::part(&self.files, &self.target, &parts.name)?
            }
        };
        self.body = Some(Body::begin(file, header)?);
        Ok(())
    }

    /// The file that the next tensor or state goes to.
    fn body(&mut self) -> Result<Body<NewFile<F>>, RecordError> {
        loop {
            let body = self.body.take().ok_or(RecordError::Unfinished { id: None })?;
            if !body.is_full() {
                return Ok(body);
            }
            self.finish_part(body)?;
            self.begin_file()?;
        }
    }

    fn finish_part(&mut self, body: Body<NewFile<F>>) -> Result<(), RecordError> {
        let parts = self.parts.as_mut().ok_or(RecordError::Unfinished { id: None })?;
        let (file, Prelude { file_len: len, checksum, .. }) = body.finish()?;
        parts.settled.push(file.settle(&self.target)?);
        let name = core::mem::take(&mut parts.name);
        parts.index.push(PartFile { name, len, checksum });
        Ok(())
    }

    pub(super) fn write(&mut self, id: &str, param: ParamView<'_>) -> Result<(), RecordError> {
        self.order.check(id, param)?;
        let mut body = self.body()?;
        body.tensor(param)?;
        self.body = Some(body);
        self.order.advance();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), RecordError> {
        self.order.check_finished()?;
        for state in core::mem::take(&mut self.states) {
            let mut body = self.body()?;
            body.state(&state.data)?;
            self.body = Some(body);
        }
        let body = self.body.take().ok_or(RecordError::Unfinished { id: None })?;
        if self.parts.is_none() {
            let (file, _) = body.finish()?;
            return file.put_in_place(self.target, Vec::new());
        }
        self.finish_part(body)?;
        self.put_index_in_place()
    }

    fn put_index_in_place(self) -> Result<(), RecordError> {
        let Some(Parts { index, settled, .. }) = self.parts else { return Ok(()) };
        let bytes = Index { parts: index }.encode()?;
        let mut file = NewFile::beside(&self.files, &self.target)?;
        file.write_all(&bytes)?;
        file.put_in_place(self.target, settled)
    }
}

impl<F: Files> Parts<F> {
    fn new(index: &Path) -> Self {
        let names = Names::new(index);
        Self { names, name: String::new(), index: Vec::new(), settled: Vec::new() }
    }
}

/// The headers of the files that are to hold what is outlined, checked; places and checksums of
/// sections are still to come.
fn headers(outline: &Outline) -> Result<Vec<Header<'static>>, RecordError> {
    let whole = Header {
        metadata: metadata_entries(outline.metadata.clone()),
        tensors: outline.entries.iter().map(tensor_entry).collect::<Result<_, _>>()?,
        states: outline.states.iter().map(state_entry).collect(),
    };
    distinct(whole.tensors.iter().map(|tensor| &*tensor.name))?;
    distinct(whole.states.iter().map(|state| &*state.name))?;
    let headers = match outline.max_part_size {
        None => vec![whole],
        Some(max) => split(whole, max),
    };
    for header in &headers {
        let mut header = header.clone();
        let start = lay_out(&mut header)?;
        let end = sections_end(&header, start);
        validate(header, start, end)?;
    }
    Ok(headers)
}

/// Cuts a record, in order, into files of at most `max` bytes, or of one tensor or state.
fn split(whole: Header<'static>, max: u64) -> Vec<Header<'static>> {
    let mut files = vec![Header { metadata: whole.metadata, ..Header::default() }];
    let metadata: usize = files[0].metadata.iter().map(MetadataEntry::encoded_len).sum();
    let mut size = FileSize { header: Header::EMPTY_LEN + metadata, sections: 0 };
    for tensor in whole.tensors {
        let more = FileSize::of(tensor.encoded_len(), &tensor.sections);
        size.add(more, max, &mut files);
        files.last_mut().expect("there is a first").tensors.push(tensor);
    }
    for state in whole.states {
        let more = FileSize::of(state.encoded_len(), &[state.section]);
        size.add(more, max, &mut files);
        files.last_mut().expect("there is a first").states.push(state);
    }
    files
}

/// The bytes of a file, or of what is to be added to it.
#[derive(Clone, Copy)]
struct FileSize {
    header: usize,
    /// With their padding.
    sections: u64,
}

impl FileSize {
    fn of(header: usize, sections: &[Section]) -> Self {
        let padded = sections.iter().map(|section| padded_end(*section).unwrap_or(u64::MAX));
        Self { header, sections: padded.fold(0, u64::saturating_add) }
    }

    fn file_len(self) -> u64 {
        let header = (PRELUDE_LEN + self.header) as u64;
        header.next_multiple_of(ALIGNMENT).saturating_add(self.sections)
    }

    /// Adds to the last file, or to a new one if that would become too large.
    fn add(&mut self, more: Self, max: u64, files: &mut Vec<Header<'static>>) {
        let sections = self.sections.saturating_add(more.sections);
        let sum = Self { header: self.header + more.header, sections };
        let first =
            files.last().is_none_or(|file| file.tensors.is_empty() && file.states.is_empty());
        if first || sum.file_len() <= max {
            *self = sum;
            return;
        }
        files.push(Header::default());
        *self = Self { header: Header::EMPTY_LEN + more.header, ..more };
    }
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

    /// Whether all tensors and states of the header have been written.
    fn is_full(&self) -> bool {
        self.tensors == self.header.tensors.len() && self.states == self.header.states.len()
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::{self, File, Permissions};
    use std::io;
    use std::rc::Rc;

    use super::super::{BincodeRecorder, Record, RecordFile, Recorder};
    use super::*;

    /// A disk with room for so many more bytes.
    #[derive(Clone)]
    struct Limited(Rc<Cell<usize>>);

    struct LimitedFile(File, Rc<Cell<usize>>);

    impl Files for Limited {
        type File = LimitedFile;

        fn create_new(&self, path: &Path) -> io::Result<LimitedFile> {
            System.create_new(path).map(|file| LimitedFile(file, self.0.clone()))
        }

        fn set_permissions(&self, file: &LimitedFile, permissions: Permissions) -> io::Result<()> {
            System.set_permissions(&file.0, permissions)
        }

        fn sync(&self, _file: &LimitedFile) -> io::Result<()> {
            Ok(())
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            System.rename(from, to)
        }

        fn sync_dir(&self, _directory: &Path) -> io::Result<()> {
            Ok(())
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            System.remove(path)
        }
    }

    impl Write for LimitedFile {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.1.get());
            if len == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.set(self.1.get() - len);
            self.0.write_all(&bytes[..len])?;
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for LimitedFile {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    fn record(value: f32) -> Record {
        let tensor = || Tensor::from_values(&[40], vec![value; 40]).unwrap();
        let mut record = Record::from_iter([("a", tensor()), ("b", tensor())]);
        record.insert_state(State { id: "s".into(), kind: "k".into(), data: vec![1; 99] });
        record
    }

    fn save(files: Limited, path: &Path, max: Option<u64>, value: f32) -> Result<(), RecordError> {
        let record = record(value);
        let outline =
            Outline { max_part_size: max, ..Outline::of_model(&record, &BTreeMap::new()) };
        let mut stream = Stream::create(files, path, outline)?;
        for (id, tensor) in record.iter() {
            stream.write(id.as_str(), tensor.into())?;
        }
        stream.finish()
    }

    fn names(directory: &Path) -> Vec<PathBuf> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    }

    #[cfg_attr(miri, ignore = "thousands of files")]
    #[test]
    fn a_disk_that_is_full_after_any_byte_keeps_the_old_record() {
        for max in [None, Some(300)] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("model.quant");
            let room = |bytes| Limited(Rc::new(Cell::new(bytes)));
            save(room(usize::MAX), &path, max, 1.0).unwrap();
            let before = names(directory.path());
            assert_eq!(before.len() > 1, max.is_some());
            let needed = RecordFile::open(&path).unwrap().byte_count() as usize;
            for bytes in 0..needed - 1 {
                let error = save(room(bytes), &path, max, 2.0).unwrap_err();
                let RecordError::Io { source, .. } = error else { panic!("{bytes}: {error:?}") };
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
                assert_eq!(names(directory.path()), before, "{bytes}");
            }
            let loaded = BincodeRecorder::default().load_file(&path).unwrap();
            assert_eq!(loaded, record(1.0));
            save(room(needed), &path, max, 2.0).unwrap();
            assert_eq!(BincodeRecorder::default().load_file(&path).unwrap(), record(2.0));
        }
    }

    #[test]
    fn nothing_can_be_written_after_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.quant");
        let large = Tensor::from_values(&[5000], vec![1.0; 5000]).unwrap();
        let entries = ["a", "b"].map(|name| RecordEntry::of(name, &large)).into();
        let room = Limited(Rc::new(Cell::new(10_000)));
        let outline = Outline { entries, ..Outline::default() };
        let mut stream = Stream::create(room, &path, outline).unwrap();
        let error = stream.write("a", (&large).into()).unwrap_err();
        assert!(matches!(error, RecordError::Io { .. }), "{error:?}");
        let error = stream.write("a", (&large).into()).unwrap_err();
        assert!(matches!(error, RecordError::Unfinished { id: None }), "{error:?}");
        assert_eq!(error.to_string(), "an earlier error left the record unfinished");
        assert!(stream.finish().is_err());
        assert!(names(directory.path()).is_empty());
    }
}
