//! Writing a declared record one tensor at a time, to one file or to shards and their index.

use std::io::Write;
use std::path::Path;

use super::atomic::{Files, NewFile, Synced, Target};
use super::body::Body;
use super::declared::{DeclaredOrder, LaterStates};
use super::error::{ManifestError, WriteError};
use super::manifest::Manifest;
use super::shard_names::{ShardNames, own_shards};
use super::shards::{PlannedFile, plan};
use crate::module::ParamView;
use crate::record::format::entry::{RecordEntry, RecordState};
use crate::record::format::layout::Prelude;
use crate::record::format::shard_index::{ShardFile, ShardIndex};

/// A declared record that is being written to one file, or to shards and their index.
pub(super) struct Stream<F: Files> {
    files: F,
    target: Target,
    order: DeclaredOrder,
    /// States that have not been written; empty once a later one was.
    states: Vec<RecordState>,
    later: LaterStates,
    /// The files that have not been begun.
    planned: std::vec::IntoIter<PlannedFile>,
    /// The file that is being written, or `None` after an error.
    body: Option<Body<NewFile<F>>>,
    /// `None` if the record is a single file.
    shards: Option<Shards<F>>,
}

/// The shards of a record.
struct Shards<F: Files> {
    names: ShardNames,
    /// The name of the shard that is being written.
    name: String,
    /// The finished shards.
    index: Vec<ShardFile>,
    files: Vec<Synced<F>>,
}

impl<F: Files> Stream<F> {
    pub(super) fn create(files: F, path: &Path, manifest: Manifest) -> Result<Self, WriteError> {
        let planned = plan(&manifest)?;
        let target = Target::find(path)?;
        let shards = (planned.len() > 1).then(|| Shards::new(&target.path));
        if let Some(shards) = &shards {
            shards.names.check_room(planned.len())?;
        }
        let Manifest { entries, states, later_states, .. } = manifest;
        let (order, later) = (DeclaredOrder::new(entries), LaterStates::new(later_states));
        let (planned, body) = (planned.into_iter(), None);
        let mut stream = Self { files, target, order, states, later, planned, body, shards };
        stream.begin_file()?;
        Ok(stream)
    }

    /// Begins the next file of the plan.
    fn begin_file(&mut self) -> Result<(), WriteError> {
        let planned = self.planned.next().ok_or(ManifestError::Failed)?;
        let file = match &mut self.shards {
            None => NewFile::beside(&self.files, &self.target)?,
            Some(shards) => {
                shards.name = shards.names.next();
                NewFile::named(&self.files, &self.target, &shards.name)?
            }
        };
        self.body = Some(Body::begin(file, planned)?);
        Ok(())
    }

    /// The file of the next tensor or state.
    fn body(&mut self) -> Result<Body<NewFile<F>>, WriteError> {
        loop {
            let body = self.body.take().ok_or(ManifestError::Failed)?;
            if !body.is_full() {
                return Ok(body);
            }
            self.finish_shard(body)?;
            self.begin_file()?;
        }
    }

    fn finish_shard(&mut self, body: Body<NewFile<F>>) -> Result<(), WriteError> {
        let shards = self.shards.as_mut().ok_or(ManifestError::Failed)?;
        let (file, Prelude { file_len: len, checksum, .. }) = body.finish()?;
        shards.files.push(file.sync(&self.target)?);
        let name = core::mem::take(&mut shards.name);
        shards.index.push(ShardFile { name, len, checksum });
        Ok(())
    }

    pub(super) fn write(&mut self, id: &str, param: ParamView<'_>) -> Result<(), WriteError> {
        self.begin(&RecordEntry::of_param(id, param))?;
        self.part(param)?;
        self.end()
    }

    /// Begins the next tensor, which is written in parts.
    pub(super) fn begin(&mut self, entry: &RecordEntry) -> Result<(), WriteError> {
        self.order.begin_entry(entry)?;
        self.with_body(|body| {
            body.begin_tensor();
            Ok(())
        })
    }

    /// Writes the next part of the tensor: elements of the same type that follow in row-major order.
    pub(super) fn part(&mut self, part: ParamView<'_>) -> Result<(), WriteError> {
        self.order.check_part(part)?;
        self.with_body(|body| body.tensor_part(part))
    }

    /// Ends the tensor.
    pub(super) fn end(&mut self) -> Result<(), WriteError> {
        self.with_body(Body::end_tensor)?;
        self.order.end();
        Ok(())
    }

    /// Does something to the file of the next tensor or state, which is lost if that fails.
    fn with_body(
        &mut self,
        work: impl FnOnce(&mut Body<NewFile<F>>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let mut body = self.body()?;
        work(&mut body)?;
        self.body = Some(body);
        Ok(())
    }

    /// Writes the next of the states that were declared without their bytes.
    pub(super) fn write_state(&mut self, id: &str, data: &[u8]) -> Result<(), WriteError> {
        self.begin_state(id, data.len() as u64)?;
        self.state_part(data)?;
        self.end_state()
    }

    /// Begins the next of the states that were declared without their bytes.
    pub(super) fn begin_state(&mut self, id: &str, len: u64) -> Result<(), WriteError> {
        self.order.check_finished()?;
        self.later.next(id, len)?;
        self.put_states()?;
        self.with_body(|body| {
            body.begin_state();
            Ok(())
        })
    }

    /// Writes the next bytes of the state.
    pub(super) fn state_part(&mut self, data: &[u8]) -> Result<(), WriteError> {
        self.with_body(|body| body.state_part(data))
    }

    /// Ends the state.
    pub(super) fn end_state(&mut self) -> Result<(), WriteError> {
        self.with_body(Body::end_state)
    }

    /// Writes the states that are in memory, if that has not been done.
    fn put_states(&mut self) -> Result<(), WriteError> {
        let states = core::mem::take(&mut self.states);
        states.iter().try_for_each(|state| self.put_state(&state.data))
    }

    fn put_state(&mut self, data: &[u8]) -> Result<(), WriteError> {
        self.with_body(|body| {
            body.begin_state();
            body.state_part(data)?;
            body.end_state()
        })
    }

    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        self.order.check_finished()?;
        self.later.check_finished()?;
        self.put_states()?;
        // A state that was begun may not have ended.
        let body = self.body.take().filter(Body::is_full).ok_or(ManifestError::Failed)?;
        if self.shards.is_none() {
            let (file, _) = body.finish()?;
            return Ok(file.put_in_place(self.target, Vec::new(), own_shards)?);
        }
        self.finish_shard(body)?;
        self.put_index_in_place()
    }

    fn put_index_in_place(self) -> Result<(), WriteError> {
        let Some(Shards { index, files, .. }) = self.shards else { return Ok(()) };
        let bytes = ShardIndex { shards: index }.encode()?;
        let mut file = NewFile::beside(&self.files, &self.target)?;
        file.write_all(&bytes)?;
        Ok(file.put_in_place(self.target, files, own_shards)?)
    }
}

impl<F: Files> Shards<F> {
    fn new(index: &Path) -> Self {
        let names = ShardNames::new(index);
        Self { names, name: String::new(), index: Vec::new(), files: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use std::cell::Cell;
    use std::fs::{self, File, Permissions};
    use std::io::{self, Seek, SeekFrom};
    use std::path::PathBuf;
    use std::rc::Rc;

    use super::super::atomic::System;
    use super::*;
    use crate::record::collection::Record;
    use crate::record::read::record_file::RecordFile;
    use crate::record::recorder::{BincodeRecorder, Recorder};
    use crate::tensor::Tensor;

    /// A disk with room for this many more bytes.
    #[derive(Clone)]
    struct Limited(Rc<Cell<usize>>);

    struct LimitedFile(File, Rc<Cell<usize>>);

    impl Files for Limited {
        type File = LimitedFile;

        fn create_new(
            &self,
            path: &Path,
            permissions: Option<&Permissions>,
        ) -> io::Result<LimitedFile> {
            System.create_new(path, permissions).map(|file| LimitedFile(file, self.0.clone()))
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
        record.insert_state(RecordState { id: "s".into(), kind: "k".into(), data: vec![1; 99] });
        record
    }

    fn save(files: Limited, path: &Path, max: Option<u64>, value: f32) -> Result<(), WriteError> {
        let record = record(value);
        let manifest =
            Manifest { max_shard_size: max, ..Manifest::of_model(&record, &BTreeMap::new()) };
        let mut stream = Stream::create(files, path, manifest)?;
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
    fn a_full_disk_keeps_the_old_record() {
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
                let WriteError::Io(source) = error else { panic!("{bytes}: {error:?}") };
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
        let manifest = Manifest { entries, ..Manifest::default() };
        let mut stream = Stream::create(room, &path, manifest).unwrap();
        let error = stream.write("a", (&large).into()).unwrap_err();
        assert!(matches!(error, WriteError::Io(_)), "{error:?}");
        let error = stream.write("a", (&large).into()).unwrap_err();
        assert!(matches!(error, WriteError::Manifest(ManifestError::Failed)), "{error:?}");
        assert!(stream.finish().is_err());
        assert!(names(directory.path()).is_empty());
    }
}
