//! Saving replaces a file in one step and leaves no other file behind.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use quant::record::{AtomicFile, RecordFormatError, write_file};
use quant::record::{Record, Recorder};
use quant::{BincodeRecorder, Module, Param, RecordError};
use tests::files::names;
use tests::record::chain;

/// A temporary directory of the test.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn param(value: f32) -> Param<[f32; 2]> {
    Param::new([value; 2])
}

fn loaded(path: &Path) -> f32 {
    param(0.0).load_file(path, &BincodeRecorder::default()).unwrap().value()[0]
}

fn save(value: f32, path: &Path) -> Result<(), RecordError> {
    param(value).save_file(path, &BincodeRecorder::default())
}

#[test]
fn files_are_created_and_replaced() {
    let directory = directory();
    let path = directory.path().join("model.quant");
    for value in [1.0, 2.0] {
        save(value, &path).unwrap();
        assert_eq!(loaded(&path), value);
        assert_eq!(names(directory.path()), ["model.quant"]);
    }
}

/// Writes some bytes, and then fails.
struct HalfWay;

impl Recorder for HalfWay {
    fn save(&self, _: &dyn quant::module::Walk, writer: &mut dyn Write) -> Result<(), RecordError> {
        writer.write_all(&[0; 100_000])?;
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into())
    }

    fn load(&self, _: &mut dyn Read, _: Option<u64>) -> Result<Record, RecordError> {
        Ok(Record::new())
    }
}

#[test]
fn a_failed_save_leaves_only_the_old_file() {
    let directory = directory();
    let path = directory.path().join("model.quant");
    save(1.0, &path).unwrap();
    let error = param(2.0).save_file(&path, &HalfWay).unwrap_err();
    assert!(matches!(&error, RecordError::Io { path: Some(of), .. } if *of == path), "{error:?}");
    assert!(error.to_string().starts_with(&path.display().to_string()));
    assert_eq!(loaded(&path), 1.0);
    assert_eq!(names(directory.path()), ["model.quant"]);

    let first = directory.path().join("first.quant");
    param(2.0).save_file(&first, &HalfWay).unwrap_err();
    assert_eq!(names(directory.path()), ["model.quant"]);
}

#[test]
fn errors_name_the_file() {
    let directory = directory();
    let missing = directory.path().join("missing.quant");
    let error = param(0.0).load_file(&missing, &BincodeRecorder::default()).unwrap_err();
    assert!(matches!(&error, RecordError::Io { path: Some(of), .. } if *of == missing));
    assert!(std::error::Error::source(&error).is_some());
    let error = save(1.0, &directory.path().join("no/such/directory")).unwrap_err();
    assert!(matches!(error, RecordError::Io { path: Some(_), .. }));
}

#[test]
fn a_directory_is_not_replaced() {
    let directory = directory();
    let path = directory.path().join("model.quant");
    fs::create_dir(&path).unwrap();
    let error = save(1.0, &path).unwrap_err();
    assert!(chain(&error).ends_with(": is a directory"), "{error}");
    assert_eq!(names(directory.path()), ["model.quant"]);
}

#[test]
fn files_with_the_longest_names_are_written() {
    let directory = directory();
    let path = directory.path().join("n".repeat(255));
    save(1.0, &path).unwrap();
    assert_eq!(loaded(&path), 1.0);
}

#[test]
fn a_record_loads_from_a_file_without_types() {
    let directory = directory();
    let path = directory.path().join("model.quant");
    save(3.0, &path).unwrap();
    let record = BincodeRecorder::default().load_file(&path).unwrap();
    assert_eq!(*record.get("").unwrap().values(), [3.0; 2]);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn permissions_are_kept() {
        let directory = directory();
        let path = directory.path().join("model.quant");
        save(1.0, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        save(2.0, &path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(loaded(&path), 2.0);
    }

    #[test]
    fn links_are_followed() {
        let (directory, elsewhere) = (directory(), directory());
        let (link, target) = (directory.path().join("link"), elsewhere.path().join("target"));
        save(1.0, &target).unwrap();
        symlink(&target, &link).unwrap();
        save(2.0, &link).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(loaded(&target), 2.0);
        assert_eq!(names(elsewhere.path()), ["target"]);
    }

    #[test]
    fn devices_are_not_replaced() {
        let error = save(1.0, Path::new("/dev/null")).unwrap_err();
        assert!(chain(&error).ends_with(": not a regular file"), "{error}");
        // Loading reads a device as a stream of unknown length.
        let error = param(0.0).load_file("/dev/zero", &BincodeRecorder::default()).unwrap_err();
        assert!(
            matches!(error, RecordError::Format { source: RecordFormatError::BadMagic { .. }, .. }),
            "{error:?}"
        );
    }

    #[test]
    fn dangling_links_are_followed() {
        let (directory, elsewhere) = (directory(), directory());
        let target = elsewhere.path().join("target");
        let (first, second) = (directory.path().join("first"), directory.path().join("second"));
        symlink(&target, &first).unwrap();
        symlink("first", &second).unwrap();
        save(1.0, &second).unwrap();
        assert_eq!(loaded(&target), 1.0);
        for link in [&first, &second] {
            assert!(fs::symlink_metadata(link).unwrap().is_symlink());
        }
        assert_eq!(names(elsewhere.path()), ["target"]);
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let directory = directory();
        let (first, second) = (directory.path().join("first"), directory.path().join("second"));
        symlink(&first, &second).unwrap();
        symlink(&second, &first).unwrap();
        assert!(matches!(save(1.0, &first), Err(RecordError::Io { path: Some(_), .. })));
        assert_eq!(names(directory.path()), ["first", "second"]);
    }

    /// The permissions of the temporary file of a save, while it is being written.
    struct Permissions<'a>(&'a Path);

    impl Recorder for Permissions<'_> {
        fn save(&self, _: &dyn quant::module::Walk, _: &mut dyn Write) -> Result<(), RecordError> {
            let temporary = names(self.0).into_iter().find(|name| name.ends_with(".tmp")).unwrap();
            let mode = fs::metadata(self.0.join(temporary))?.permissions().mode() & 0o777;
            Err(RecordError::recorder(format!("{mode:o}")))
        }

        fn load(&self, _: &mut dyn Read, _: Option<u64>) -> Result<Record, RecordError> {
            Ok(Record::new())
        }
    }

    #[test]
    fn temporary_files_are_never_accessible_to_more_users() {
        let directory = directory();
        let path = directory.path().join("model.quant");
        for mode in [0o600, 0o400, 0o640] {
            let _ = fs::remove_file(&path);
            save(1.0, &path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = param(2.0).save_file(&path, &Permissions(directory.path())).unwrap_err();
            let RecordError::Recorder { source, .. } = error else { panic!("{error:?}") };
            let found = u32::from_str_radix(&source.to_string(), 8).unwrap();
            assert_eq!(found & !mode, 0, "{found:o} for {mode:o}");
        }
    }

    #[test]
    fn other_files_are_replaced_in_one_step_too() {
        let directory = directory();
        let path = directory.path().join("page.html");
        let write =
            |text: &'static str| write_file(&path, |writer| writer.write_all(text.as_bytes()));
        write("old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let failed = write_file(&path, |writer| {
            writer.write_all(b"half")?;
            Err(std::io::Error::other("failed"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "failed");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write("new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(directory.path()), ["page.html"]);
    }

    #[test]
    fn devices_and_fifos_are_written_directly() {
        write_file("/dev/null", |writer| writer.write_all(b"text")).unwrap();
        let directory = directory();
        let fifo = directory.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| fs::read(&fifo).unwrap());
            write_file(&fifo, |writer| writer.write_all(b"text")).unwrap();
            assert_eq!(reader.join().unwrap(), b"text");
        });
        assert_eq!(names(directory.path()), ["fifo"]);
        // A file whose parts are written out of order cannot be written to a FIFO.
        let error = AtomicFile::create(&fifo).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file");
    }

    #[test]
    fn an_uncommitted_file_leaves_nothing_behind() {
        let directory = directory();
        let path = directory.path().join("file");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"text").unwrap();
        drop(file);
        assert!(names(directory.path()).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = param(1.0).save_to(full, &BincodeRecorder::default()).unwrap_err();
        let RecordError::Io { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    }

    #[test]
    fn an_open_file_keeps_its_old_content_to_the_end() {
        let directory = directory();
        let path = directory.path().join("model.quant");
        save(1.0, &path).unwrap();
        let open = fs::File::open(&path).unwrap();
        save(2.0, &path).unwrap();
        let old = param(0.0).load_from(open, &BincodeRecorder::default()).unwrap();
        assert_eq!(old.value()[0], 1.0);
        assert_eq!(loaded(&path), 2.0);
    }
}

#[test]
fn saves_at_the_same_time_leave_one_of_them_complete() {
    let directory = directory();
    let path = directory.path().join("model.quant");
    save(0.0, &path).unwrap();
    std::thread::scope(|scope| {
        for writer in 1..4u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..30 {
                    save(f32::from(writer), path).unwrap();
                    assert!(loaded(path) >= 0.0);
                }
            });
        }
    });
    assert!((1.0..4.0).contains(&loaded(&path)));
    assert_eq!(names(directory.path()), ["model.quant"]);
}
