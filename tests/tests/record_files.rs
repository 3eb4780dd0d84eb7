//! A file has its old or its new content, complete, and nothing is left beside it.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use quant::{BincodeRecorder, Module, Param, Record, RecordError, Recorder};
use tests::files::names;

/// A directory of the test's own.
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
fn a_file_is_made_and_replaced() {
    let directory = directory();
    let path = directory.path().join("model.quant");
    for value in [1.0, 2.0] {
        save(value, &path).unwrap();
        assert_eq!(loaded(&path), value);
        assert_eq!(names(directory.path()), ["model.quant"]);
    }
}

/// Writes some bytes, then fails.
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
fn a_failed_save_leaves_the_old_file_and_no_other() {
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
fn a_file_that_cannot_be_opened_is_named() {
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
    assert!(error.to_string().ends_with("not a file"), "{error}");
    assert_eq!(names(directory.path()), ["model.quant"]);
}

#[test]
fn names_as_long_as_names_can_be_are_written() {
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
        assert!(error.to_string().ends_with("not a file"), "{error}");
        // Read as a stream of unknown length, and found to be none.
        let error = param(0.0).load_file("/dev/zero", &BincodeRecorder::default()).unwrap_err();
        assert!(matches!(error, RecordError::BadMagic { .. }), "{error:?}");
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
