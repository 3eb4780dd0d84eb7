//! Power loss during a save, tested as `SQLite` tests it.
//!
//! A save runs once on real files, and its operations are recorded. Then every state of the disk
//! that a crash may leave is rebuilt and opened. It must hold the complete old record, the complete
//! new record, or, if there was no old one, no record.
//!
//! For each prefix of the operations, the states are the combinations of
//! - every subset of the writes that were not followed by a sync of their file;
//! - every subset of the creations, renames and removals that were not followed by a sync of the
//!   directory (a rename is one operation; syncing a file does not sync its name);
//! - if the last operation is a write, that write torn after its first byte, before its last byte,
//!   and at every multiple of 512 bytes.
//!
//! The enumeration is complete for these operations. Equal states are opened once.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::atomic::{Files, System, replace};
use super::manifest::Manifest;
use super::model;
use super::shard_names::own_shards;
use super::stream::Stream;
use crate::record::collection::Record;
use crate::record::error::RecordError;
use crate::record::format::entry::RecordState;
use crate::record::read::record_file::RecordFile;
use crate::record::recorder::{BincodeRecorder, Recorder};
use crate::tensor::Tensor;

/// A file, regardless of its name.
type Inode = usize;

#[derive(Clone, Debug)]
enum Operation {
    Create { name: String, inode: Inode },
    Write { inode: Inode, at: usize, bytes: Vec<u8> },
    Sync { inode: Inode },
    Rename { inode: Inode, from: String, to: String },
    SyncDir,
    Remove { name: String },
}

/// The real file system, with a log of the operations.
#[derive(Clone, Default)]
struct Recording(Rc<RefCell<Log>>);

#[derive(Default)]
struct Log {
    operations: Vec<Operation>,
    inodes: BTreeMap<String, Inode>,
}

struct RecordedFile {
    file: File,
    inode: Inode,
    at: usize,
    recording: Recording,
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Recording {
    fn push(&self, operation: Operation) {
        self.0.borrow_mut().operations.push(operation);
    }
}

impl Files for Recording {
    type File = RecordedFile;

    fn create_new(
        &self,
        path: &Path,
        permissions: Option<&Permissions>,
    ) -> io::Result<RecordedFile> {
        let file = System.create_new(path, permissions)?;
        let inode = self.0.borrow().operations.len();
        self.0.borrow_mut().inodes.insert(name(path), inode);
        self.push(Operation::Create { name: name(path), inode });
        Ok(RecordedFile { file, inode, at: 0, recording: self.clone() })
    }

    fn set_permissions(&self, file: &RecordedFile, permissions: Permissions) -> io::Result<()> {
        System.set_permissions(&file.file, permissions)
    }

    fn sync(&self, file: &RecordedFile) -> io::Result<()> {
        self.push(Operation::Sync { inode: file.inode });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        System.rename(from, to)?;
        let inode = self.0.borrow_mut().inodes.remove(&name(from)).unwrap();
        self.0.borrow_mut().inodes.insert(name(to), inode);
        self.push(Operation::Rename { inode, from: name(from), to: name(to) });
        Ok(())
    }

    fn sync_dir(&self, _directory: &Path) -> io::Result<()> {
        self.push(Operation::SyncDir);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        System.remove(path)?;
        self.push(Operation::Remove { name: name(path) });
        Ok(())
    }
}

impl Write for RecordedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let (inode, at, bytes) = (self.inode, self.at, bytes[..written].to_vec());
        self.recording.push(Operation::Write { inode, at, bytes });
        self.at += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for RecordedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.file.seek(to)?;
        self.at = at as usize;
        Ok(at)
    }
}

/// The files of a directory, by name.
type Disk = BTreeMap<String, Vec<u8>>;

fn disk(directory: &Path) -> Disk {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (name(&path), fs::read(path).unwrap())).collect()
}

/// Calls `f` with every state of the disk that a crash after `operations` may leave, up to the first
/// error.
fn crashes(
    before: &Disk,
    operations: &[Operation],
    mut f: impl FnMut(Disk) -> Result<(), String>,
) -> Result<(), String> {
    let (durable, pending) = split(operations);
    assert!(pending.len() < 16, "too many states: {pending:?}");
    let last = operations.len().wrapping_sub(1);
    for lost in 0u32..1 << pending.len() {
        let kept = pending.iter().enumerate().filter(|(i, _)| lost & (1 << i) == 0);
        let mut kept: Vec<usize> = kept.map(|(_, &index)| index).chain(durable.clone()).collect();
        kept.sort_unstable();
        f(rebuilt(before, operations, &kept, None))?;
        if kept.last() == Some(&last)
            && let Operation::Write { bytes, .. } = &operations[last]
        {
            for torn in torn(bytes.len()) {
                f(rebuilt(before, operations, &kept, Some(torn)))?;
            }
        }
    }
    Ok(())
}

/// The lengths at which a write of `len` bytes is torn.
fn torn(len: usize) -> impl Iterator<Item = usize> {
    let sectors = (512..len).step_by(512);
    [1, len.saturating_sub(1)].into_iter().chain(sectors).filter(move |&torn| torn < len)
}

/// The operations that are certainly on the disk, and those that may be.
fn split(operations: &[Operation]) -> (Vec<usize>, Vec<usize>) {
    let synced = |index: usize| {
        operations[index..].iter().any(|later| match (&operations[index], later) {
            (Operation::Write { inode, .. }, Operation::Sync { inode: synced }) => inode == synced,
            (Operation::Write { .. }, _) => false,
            (_, later) => matches!(later, Operation::SyncDir),
        })
    };
    let steps = (0..operations.len())
        .filter(|&i| !matches!(operations[i], Operation::Sync { .. } | Operation::SyncDir));
    steps.partition(|&index| synced(index))
}

/// The disk after the operations `kept`, of which the last may be torn.
fn rebuilt(before: &Disk, operations: &[Operation], kept: &[usize], torn: Option<usize>) -> Disk {
    const OLD: Inode = 1 << 32;
    let mut contents: BTreeMap<Inode, Vec<u8>> = BTreeMap::new();
    let mut names: BTreeMap<String, Inode> = BTreeMap::new();
    for (number, (name, content)) in before.iter().enumerate() {
        names.insert(name.clone(), OLD + number);
        contents.insert(OLD + number, content.clone());
    }
    for (position, &index) in kept.iter().enumerate() {
        match &operations[index] {
            Operation::Create { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Operation::Write { inode, at, bytes } => {
                let last = position + 1 == kept.len();
                let bytes = &bytes[..torn.filter(|_| last).unwrap_or(bytes.len())];
                let content = contents.entry(*inode).or_default();
                content.resize(content.len().max(at + bytes.len()), 0);
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Operation::Rename { inode, from, to } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Operation::Remove { name } => {
                names.remove(name);
            }
            Operation::Sync { .. } | Operation::SyncDir => {}
        }
    }
    let content = |inode| contents.get(&inode).cloned().unwrap_or_default();
    names.into_iter().map(|(name, inode)| (name, content(inode))).collect()
}

/// A temporary directory, in memory if the system has a file system there.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Opens states of the disk, each once.
struct Opener {
    directory: tempfile::TempDir,
    present: Disk,
    seen: HashSet<Disk>,
}

impl Opener {
    fn new() -> Self {
        Self { directory: directory(), present: Disk::new(), seen: HashSet::new() }
    }

    /// The record at the path, or `None` if there is no file.
    fn open(&mut self, disk: &Disk) -> Result<Option<Record>, RecordError> {
        self.seen.insert(disk.clone());
        self.write(disk);
        let path = self.directory.path().join(PATH);
        let loaded = match BincodeRecorder::default().load_file(&path) {
            Err(RecordError::Io { path: Some(of), source })
                if of == path && source.kind() == io::ErrorKind::NotFound =>
            {
                return Ok(None);
            }
            other => other?,
        };
        let opened = RecordFile::open(&path)?;
        opened.verify_all().map_err(|mut errors| errors.remove(0))?;
        assert_eq!(opened.read_all()?, loaded);
        Ok(Some(loaded))
    }

    fn write(&mut self, disk: &Disk) {
        for name in self.present.keys().filter(|name| !disk.contains_key(*name)) {
            fs::remove_file(self.directory.path().join(name)).unwrap();
        }
        for (name, content) in disk {
            if self.present.get(name) != Some(content) {
                fs::write(self.directory.path().join(name), content).unwrap();
            }
        }
        self.present = disk.clone();
    }
}

const PATH: &str = "model.quant";

/// A record that takes several writes, and about four shards.
fn record(seed: f32) -> Record {
    let tensor = |len: usize| {
        let values = (0..len).map(|i| seed + i as f32).collect();
        Tensor::from_values(&[len], values).unwrap()
    };
    let mut record = Record::from_iter([("a", tensor(900)), ("b", tensor(2500)), ("c", tensor(7))]);
    record.insert_metadata("seed", seed.to_string());
    record.insert_state(RecordState {
        id: "s".into(),
        kind: "k".into(),
        data: vec![seed as u8; 3000],
    });
    record
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Plain,
    Streamed,
    Sharded,
    StreamedShards,
}

const WAYS: [Way; 4] = [Way::Plain, Way::Streamed, Way::Sharded, Way::StreamedShards];
const MAX: u64 = 4000;

fn save<F: Files>(way: Way, files: F, path: &Path, record: &Record) -> Result<(), RecordError> {
    let max = match way {
        Way::Plain => {
            return replace(&files, path, own_shards, |writer| {
                BincodeRecorder::default().save(record, writer)
            });
        }
        Way::Sharded => {
            return Ok(model::sharded(record, &BTreeMap::new(), None, MAX, files, path)?);
        }
        Way::Streamed => None,
        Way::StreamedShards => Some(MAX),
    };
    let manifest = Manifest { max_shard_size: max, ..Manifest::of_model(record, &BTreeMap::new()) };
    let mut stream = Stream::create(files, path, manifest)?;
    for (id, tensor) in record.iter() {
        stream.write(id.as_str(), tensor.into())?;
    }
    Ok(stream.finish()?)
}

/// The disk before a save, and the operations of the save.
fn recorded(old: Option<Way>, new: Way) -> (Disk, Vec<Operation>) {
    let directory = directory();
    let path: PathBuf = directory.path().join(PATH);
    if let Some(way) = old {
        save(way, System, &path, &record(1.0)).unwrap();
    }
    let (before, recording) = (disk(directory.path()), Recording::default());
    save(new, recording.clone(), &path, &record(2.0)).unwrap();
    let operations = recording.0.borrow().operations.clone();
    // The model of the disk agrees with the real one.
    let all: Vec<usize> = (0..operations.len()).collect();
    assert_eq!(rebuilt(&before, &operations, &all, None), disk(directory.path()));
    (before, operations)
}

/// Opens every state that a crash may leave; returns their number, or a message about the first
/// wrong one.
fn check(old: Option<Way>, before: &Disk, operations: &[Operation]) -> Result<usize, String> {
    let renamed = operations.iter().position(|step| matches!(step, Operation::Rename { .. }));
    let (old, new) = (old.map(|_| record(1.0)), Some(record(2.0)));
    let mut opener = Opener::new();
    for len in 0..=operations.len() {
        let may_be_old = len < operations.len();
        let may_be_new = len > renamed.unwrap();
        crashes(before, &operations[..len], |disk| {
            // After the last operation the save has returned, and only the new record is right.
            if may_be_old && opener.seen.contains(&disk) {
                return Ok(());
            }
            let found = opener.open(&disk);
            let right = match &found {
                Ok(found) => may_be_old && *found == old || may_be_new && *found == new,
                Err(_) => false,
            };
            if right {
                return Ok(());
            }
            let names: Vec<_> = disk.keys().collect();
            Err(format!("after {len} operations: {found:?} in {names:?}"))
        })?;
    }
    Ok(opener.seen.len())
}

#[test]
fn a_power_loss_leaves_the_old_record_or_the_new_one() {
    let mut states = 0;
    for old in [None, Some(Way::Plain), Some(Way::Sharded)] {
        for new in WAYS {
            let (before, operations) = recorded(old, new);
            let checked = check(old, &before, &operations);
            states += checked.unwrap_or_else(|wrong| panic!("{new:?} over {old:?}: {wrong}"));
        }
    }
    println!("{states} crash states");
    assert!(states > 1000, "{states}");
}

/// The enumeration finds the fault in a save that lacks the operations of one kind.
#[test]
fn a_save_without_a_sync_fails_the_test() {
    for old in [None, Some(Way::Plain), Some(Way::Sharded)] {
        for new in WAYS {
            let (before, operations) = recorded(old, new);
            for lacks in [
                |step: &Operation| matches!(step, Operation::Sync { .. }),
                |step: &Operation| matches!(step, Operation::SyncDir),
            ] {
                let rest: Vec<_> = operations.iter().filter(|step| !lacks(step)).cloned().collect();
                assert!(check(old, &before, &rest).is_err(), "{new:?} over {old:?}");
            }
        }
    }
}

/// The index gets its name before the names of its shards are on the disk.
#[test]
fn an_index_before_its_shards_fails_the_test() {
    let (before, mut operations) = recorded(Some(Way::Sharded), Way::Sharded);
    let first = operations.iter().position(|step| matches!(step, Operation::SyncDir)).unwrap();
    operations.remove(first);
    assert!(check(Some(Way::Sharded), &before, &operations).is_err());
}

/// The old shards are removed before the index that replaces theirs is on the disk.
#[test]
fn removing_old_shards_too_early_fails_the_test() {
    let (before, mut operations) = recorded(Some(Way::Sharded), Way::Plain);
    let renamed = operations.iter().position(|step| matches!(step, Operation::Rename { .. }));
    let removed = operations.iter().position(|step| matches!(step, Operation::Remove { .. }));
    let removal = operations.remove(removed.unwrap());
    operations.insert(renamed.unwrap() + 1, removal);
    assert!(check(Some(Way::Sharded), &before, &operations).is_err());
}
