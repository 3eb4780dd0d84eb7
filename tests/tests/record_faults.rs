//! Full and read-only disks, and directories without write permission.
//!
//! The disks are mounted, which takes root. Where that is not possible, the tests say so and check
//! what they can.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quant::record::{Manifest, MappedRecord, Verify};
use quant::record::{Record, RecordEntry, RecordFile, RecordWriter, Recorder};
use quant::{BincodeRecorder, Module, RecordError, Tensor};
use tests::files::names;

/// A small file system in memory.
///
/// There is one at a time: a process that is being started, such as `mount` for another test,
/// inherits the open files for a moment, and a disk in use can be neither remounted nor unmounted.
struct Disk(tempfile::TempDir, #[expect(dead_code)] MutexGuard<'static, ()>);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl Disk {
    /// A disk of this many bytes, or `None` with a message if it cannot be mounted.
    fn new(bytes: usize) -> Option<Self> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = mount(&["-t", "tmpfs", "-o", &size, "quant-test"], directory.path());
        if !mounted {
            skipped("no file system can be mounted here; it takes root");
        }
        mounted.then(|| Self(directory, alone))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("model.quant")
    }
}

/// Writes to the real standard error, since the output of passing tests is captured.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn mount(options: &[&str], directory: &Path) -> bool {
    let mount = Command::new("mount").args(options).arg(directory).status();
    mount.is_ok_and(|status| status.success())
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{:?}", self.0.path());
    }
}

/// A record of about 40 kB.
fn record(value: f32) -> Record {
    let tensor = Tensor::from_values(&[2500], vec![value; 2500]).unwrap();
    (0..4).map(|i| (i.to_string(), tensor.clone())).collect()
}

type Save = fn(&Record, &Path) -> Result<(), RecordError>;

const WAYS: [Save; 4] = [
    |record, path| record.save_file(path, &BincodeRecorder::default()),
    |record, path| record.save_file(path, &BincodeRecorder::default().max_shard_size(15_000)),
    |record, path| stream(record, path, u64::MAX),
    |record, path| stream(record, path, 15_000),
];

fn stream(record: &Record, path: &Path, max: u64) -> Result<(), RecordError> {
    let entries = record.iter().map(|(id, tensor)| RecordEntry::of(id.clone(), tensor));
    let manifest = Manifest::new(entries).max_shard_size(max);
    let mut writer = RecordWriter::create(path, manifest)?;
    for (id, tensor) in record.iter() {
        writer.write(id.as_str(), tensor)?;
    }
    writer.finish()
}

fn kind(error: &RecordError) -> ErrorKind {
    let RecordError::Io { path: Some(_), source } = error else { panic!("{error:?}") };
    source.kind()
}

#[test]
fn a_full_disk_keeps_only_the_old_record() {
    let (mut full, mut enough) = (0, 0);
    for (number, save) in WAYS.into_iter().enumerate() {
        // From too little for one record to more than enough for two.
        for pages in 0..32 {
            let Some(disk) = Disk::new((pages + 1) * 4096) else { return };
            let first = save(&record(1.0), &disk.path());
            if let Err(error) = &first {
                assert_eq!(kind(error), ErrorKind::StorageFull, "{number}: {error:?}");
                assert!(names(disk.0.path()).is_empty(), "{number}: {:?}", names(disk.0.path()));
                full += 1;
                continue;
            }
            let before = names(disk.0.path());
            match save(&record(2.0), &disk.path()) {
                Ok(()) => enough += 1,
                Err(error) => {
                    full += 1;
                    assert_eq!(kind(&error), ErrorKind::StorageFull, "{number}: {error:?}");
                    assert_eq!(names(disk.0.path()), before);
                    let loaded = BincodeRecorder::default().load_file(&disk.path()).unwrap();
                    assert_eq!(loaded, record(1.0));
                    continue;
                }
            }
            let loaded = BincodeRecorder::default().load_file(&disk.path()).unwrap();
            assert_eq!(loaded, record(2.0));
        }
    }
    assert!(full > 40 && enough > 10, "{full} and {enough}");
}

/// Checks that a directory can be read but not written, and does not change.
fn check_read_only(directory: &Path, expected: ErrorKind) {
    let path = directory.join("model.quant");
    let before = names(directory);
    for save in WAYS {
        let error = save(&record(2.0), &path).unwrap_err();
        assert_eq!(kind(&error), expected, "{error:?}");
        let error = save(&record(2.0), &directory.join("new.quant")).unwrap_err();
        assert_eq!(kind(&error), expected, "{error:?}");
    }
    assert_eq!(names(directory), before);
    assert_eq!(BincodeRecorder::default().load_file(&path).unwrap(), record(1.0));
    RecordFile::open(&path).unwrap().verify_all().unwrap();
    // SAFETY: nothing can be changed here.
    let mapped = unsafe { MappedRecord::open(&path, Verify::Eager) }.unwrap();
    assert_eq!(mapped.to_record().unwrap(), record(1.0));
}

#[test]
fn a_read_only_disk_is_read_and_not_written() {
    for save in WAYS {
        let Some(disk) = Disk::new(1 << 20) else { return };
        save(&record(1.0), &disk.path()).unwrap();
        assert!(mount(&["-o", "remount,ro"], disk.0.path()));
        check_read_only(disk.0.path(), ErrorKind::ReadOnlyFilesystem);
    }
}

#[test]
fn a_folder_without_permission_is_read_and_not_written() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    WAYS[0](&record(1.0), &directory.path().join("model.quant")).unwrap();
    let permit = |mode| {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
    };
    permit(0o555);
    if fs::write(directory.path().join("probe"), "").is_ok() {
        skipped("permissions do not keep this user, probably root, from writing");
        return;
    }
    check_read_only(directory.path(), ErrorKind::PermissionDenied);
    permit(0o755);
}
