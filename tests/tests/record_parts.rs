//! Records in parts: an index, and files that are records themselves.

use std::fs;
use std::path::{Path, PathBuf};

use quant::record::{IndexError, State};
use quant::{
    BincodeRecorder, Module, Record, RecordEntry, RecordError, RecordFile, RecordWriter, Recorder,
    Tensor,
};
use tests::files::names;
use tests::kernels::Random;
use tests::mutate::mutate;
use tests::record::{bytes_of_everything, of_everything};

fn parts(directory: &Path) -> Vec<PathBuf> {
    let parts = names(directory).into_iter().filter(|name| name.ends_with(".part"));
    parts.map(|name| directory.join(name)).collect()
}

fn recorder(max: u64) -> BincodeRecorder {
    BincodeRecorder::default().with_max_part_size(max)
}

fn load(path: &Path) -> Record {
    BincodeRecorder::default().load_file(path).unwrap()
}

/// A directory, in memory where the system has one there.
fn fast_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A directory with `model.quant`, everything in parts of up to 700 bytes.
fn in_parts() -> (tempfile::TempDir, PathBuf) {
    let directory = fast_directory();
    let path = directory.path().join("model.quant");
    of_everything().save_file(&path, &recorder(700)).unwrap();
    (directory, path)
}

/// The index with these parts, well sealed.
fn index(parts: &[(&str, u64, u32)]) -> Vec<u8> {
    let mut bytes = b"\x89QNI\r\n\x1a\n\x01\0\0\0\0\0\0\0".to_vec();
    bytes.extend((parts.len() as u64).to_le_bytes());
    for (name, len, checksum) in parts {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(checksum.to_le_bytes());
    }
    reseal(&mut bytes);
    bytes
}

fn reseal(bytes: &mut [u8]) {
    if bytes.len() < 16 {
        return;
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..]);
    let crc = crc.finalize();
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// Length and header checksum of a record, as an index has them.
fn pinned(record: &Path) -> (u64, u32) {
    let bytes = fs::read(record).unwrap();
    (bytes.len() as u64, u32::from_le_bytes(bytes[12..16].try_into().unwrap()))
}

#[test]
fn a_record_in_parts_loads_as_one() {
    for max in [0, 500, 700, 1000, 2000] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.quant");
        let record = of_everything();
        record.save_file(&path, &recorder(max)).unwrap();
        assert_eq!(load(&path), record, "{max}");
        let opened = RecordFile::open(&path).unwrap();
        assert_eq!(opened.read_all().unwrap(), record);
        opened.verify_all().unwrap();
        assert_eq!(opened.paths().count(), parts(directory.path()).len());
        let bytes: u64 = names(directory.path())
            .iter()
            .map(|name| fs::metadata(directory.path().join(name)).unwrap().len())
            .sum();
        assert_eq!(opened.byte_count(), bytes);
    }
}

#[test]
fn no_part_is_larger_than_it_may_be_and_each_is_a_record() {
    for max in [0, 500, 700, 1000, 2000] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.quant");
        of_everything().save_file(&path, &recorder(max)).unwrap();
        let parts = parts(directory.path());
        assert!(parts.len() > 1);
        for part in &parts {
            let record = load(part);
            let single = record.len() + record.states().len() == 1;
            assert!(single || fs::metadata(part).unwrap().len() <= max, "{max}: {record:?}");
        }
        let tensors: usize = parts.iter().map(|part| load(part).len()).sum();
        assert_eq!(tensors, of_everything().len());
    }
}

#[test]
fn a_record_that_fits_into_one_part_has_no_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let whole = bytes_of_everything();
    of_everything().save_file(&path, &recorder(whole.len() as u64)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(names(directory.path()).len(), 1);
    of_everything().save_file(&path, &recorder(whole.len() as u64 - 1)).unwrap();
    assert_eq!(names(directory.path()).len(), 3);
}

#[test]
fn metadata_of_the_recorder_is_added_to_the_first_part() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    of_everything().save_file(&path, &recorder(700).with_metadata("a", "b")).unwrap();
    let opened = RecordFile::open(&path).unwrap();
    assert_eq!(opened.metadata()["a"], "b");
    assert_eq!(opened.metadata()["author"], "quant");
}

#[test]
fn streamed_parts_are_those_that_are_saved() {
    let (directory, _) = in_parts();
    let other = tempfile::tempdir().unwrap();
    let record = of_everything();
    let entries =
        record.iter().map(|(id, tensor)| RecordEntry::of(id.clone(), tensor)).collect::<Vec<_>>();
    let (metadata, states) = (record.metadata().clone(), record.states().to_vec());
    let path = other.path().join("model.quant");
    let mut writer = RecordWriter::create_in_parts(&path, 700, metadata, entries, states).unwrap();
    for (id, tensor) in record.iter() {
        writer.write(id.as_str(), tensor).unwrap();
        assert!(!path.exists());
    }
    writer.finish().unwrap();
    let bytes = |directory: &Path| -> Vec<Vec<u8>> {
        parts(directory).iter().map(|part| fs::read(part).unwrap()).collect()
    };
    assert_eq!(bytes(directory.path()), bytes(other.path()));
    assert_eq!(load(&path), record);
}

#[test]
fn a_writer_that_is_dropped_leaves_no_part() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let record = of_everything();
    let entries =
        record.iter().map(|(id, tensor)| RecordEntry::of(id.clone(), tensor)).collect::<Vec<_>>();
    let mut writer =
        RecordWriter::create_in_parts(&path, 700, Default::default(), entries, vec![]).unwrap();
    for (id, tensor) in record.iter() {
        writer.write(id.as_str(), tensor).unwrap();
    }
    assert!(parts(directory.path()).len() > 2);
    drop(writer);
    assert!(names(directory.path()).is_empty());
}

#[test]
fn the_parts_of_what_is_replaced_are_removed() {
    let (directory, path) = in_parts();
    let first = parts(directory.path());
    of_everything().save_file(&path, &recorder(700)).unwrap();
    let second = parts(directory.path());
    assert!(first.len() == second.len() && first.iter().all(|part| !second.contains(part)));
    assert_eq!(load(&path), of_everything());

    of_everything().save_file(&path, &BincodeRecorder::default()).unwrap();
    assert_eq!(names(directory.path()), ["model.quant"]);
    assert_eq!(load(&path), of_everything());
    of_everything().save_file(&path, &recorder(700)).unwrap();
    assert_eq!(parts(directory.path()).len(), first.len());
    assert_eq!(load(&path), of_everything());
}

#[test]
fn an_open_record_keeps_its_parts_when_it_is_replaced() {
    let (_directory, path) = in_parts();
    let opened = RecordFile::open(&path).unwrap();
    Record::new().save_file(&path, &BincodeRecorder::default()).unwrap();
    assert_eq!(opened.read_all().unwrap(), of_everything());
    assert!(load(&path).is_empty());
}

#[test]
fn only_parts_of_the_very_index_are_removed() {
    let (directory, path) = in_parts();
    // A copy of the index under another name: its parts are not its own.
    let copy = directory.path().join("copy.quant");
    fs::copy(&path, &copy).unwrap();
    assert_eq!(load(&copy), of_everything());
    Record::new().save_file(&copy, &BincodeRecorder::default()).unwrap();
    assert_eq!(load(&path), of_everything());

    // An index of a stranger that names another file of the user's, and it is a record.
    let precious = directory.path().join("precious.quant");
    of_everything().save_file(&precious, &BincodeRecorder::default()).unwrap();
    let (len, checksum) = pinned(&precious);
    let stranger = directory.path().join("stranger.quant");
    fs::write(&stranger, index(&[("precious.quant", len, checksum)])).unwrap();
    assert_eq!(load(&stranger), of_everything());
    Record::new().save_file(&stranger, &BincodeRecorder::default()).unwrap();
    assert_eq!(load(&precious), of_everything());

    // A file with the name of a part that is not the part any more.
    let part = parts(directory.path()).remove(0);
    fs::write(&part, "notes").unwrap();
    Record::new().save_file(&path, &BincodeRecorder::default()).unwrap();
    assert_eq!(fs::read(&part).unwrap(), b"notes");
    assert_eq!(parts(directory.path()), [part]);
}

#[test]
fn parts_that_are_missing_foreign_or_damaged_are_named() {
    let (directory, path) = in_parts();
    let files = parts(directory.path());
    let bytes = fs::read(&files[1]).unwrap();

    fs::remove_file(&files[1]).unwrap();
    let error = RecordFile::open(&path).unwrap_err();
    assert!(
        matches!(&error, RecordError::Io { path: Some(of), .. } if of.file_name() == files[1].file_name()),
        "{error:?}"
    );

    fs::copy(&files[0], &files[1]).unwrap();
    let error = RecordFile::open(&path).unwrap_err();
    assert!(
        matches!(&error, RecordError::ForeignPart { .. } | RecordError::InPart { .. }),
        "{error:?}"
    );
    let other = Tensor::from_values(&[3], vec![1.0; 3]).unwrap();
    other.save_file(&files[1], &BincodeRecorder::default()).unwrap();
    let error = RecordFile::open(&path).unwrap_err();
    let RecordError::ForeignPart { expected_len, found_len, .. } = error else {
        panic!("{error:?}")
    };
    assert!(expected_len == bytes.len() as u64 && found_len != expected_len);
    assert!(error.to_string().contains("but the part that the index names"), "{error}");

    // The same length, another header.
    let mut same_len = bytes.clone();
    let name = same_len.windows(4).position(|bytes| bytes == b"int8").unwrap();
    same_len[name] = b'x';
    tests::record::reseal(&mut same_len);
    fs::write(&files[1], &same_len).unwrap();
    let error = BincodeRecorder::default().load_file(&path).unwrap_err();
    assert!(matches!(error, RecordError::ForeignPart { .. }), "{error:?}");
    assert!(error.to_string().contains("as in the index"), "{error}");

    fs::write(&files[1], &bytes[..bytes.len() - 1]).unwrap();
    let error = RecordFile::open(&path).unwrap_err();
    let RecordError::InPart { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**source, RecordError::Truncated { .. }));
    assert!(std::error::Error::source(&error).is_some());
    assert!(error.to_string().contains("truncated"), "{error}");

    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() = 1;
    fs::write(&files[1], &flipped).unwrap();
    let opened = RecordFile::open(&path).unwrap();
    assert_eq!(opened.verify_all().unwrap_err().len(), 1);
    assert!(BincodeRecorder::default().load_file(&path).is_err());
    fs::write(&files[1], &bytes).unwrap();
    assert_eq!(load(&path), of_everything());
}

#[test]
fn parts_with_one_name_or_key_twice_make_no_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let save = |record: &Record, name: &str| {
        record.save_file(path(name), &BincodeRecorder::default()).unwrap();
    };
    let tensor = || Tensor::from_values(&[1], vec![1.0]).unwrap();
    let named = |name: &str| Record::from_iter([(name, tensor())]);
    let opened = || {
        let entries = ["a", "b"].map(|name| {
            let (len, checksum) = pinned(&path(name));
            (name, len, checksum)
        });
        fs::write(path("index"), index(&entries)).unwrap();
        RecordFile::open(path("index"))
    };
    save(&named("v"), "a");
    save(&named("w"), "b");
    assert_eq!(opened().unwrap().entries().len(), 2);
    save(&named("v"), "b");
    assert!(matches!(opened(), Err(RecordError::DuplicateName { .. })));
    let mut states = named("w");
    states.insert_state(State { id: "s".into(), kind: "k".into(), data: vec![] });
    save(&states, "b");
    opened().unwrap();
    let mut states = named("v");
    states.insert_state(State { id: "s".into(), kind: "k".into(), data: vec![1] });
    save(&states, "a");
    assert!(matches!(opened(), Err(RecordError::DuplicateName { .. })));
    for name in ["a", "b"] {
        let mut record = named(name);
        record.insert_metadata("key", name);
        save(&record, name);
    }
    let error = opened().unwrap_err();
    assert!(
        matches!(&error, RecordError::InPart { source, .. }
        if matches!(**source, RecordError::MetadataOrder { .. })),
        "{error:?}"
    );
}

#[test]
fn what_is_no_index_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        RecordFile::open(&path).unwrap_err()
    };
    for name in ["../x", "/etc/passwd", "", "..", "a/b", "a\\b", "c:", "nul\0"] {
        let error = open(&index(&[(name, 1, 1)]));
        assert!(matches!(error, RecordError::Index(IndexError::PartName { .. })), "{error:?}");
    }
    let error = open(&index(&[("a", 1, 1), ("a", 1, 1)]));
    assert!(matches!(error, RecordError::Index(IndexError::DuplicatePart { .. })), "{error:?}");
    let error = open(&index(&[]));
    assert!(matches!(error, RecordError::Index(IndexError::NoParts)), "{error:?}");
    // Itself.
    let error = open(&index(&[("model.quant", 1, 1)]));
    assert!(
        matches!(&error, RecordError::InPart { source, .. }
        if matches!(**source, RecordError::IsIndex)),
        "{error:?}"
    );
    let good = index(&[("a", 1, 1)]);
    let error = open(&[good.as_slice(), &vec![0; 1 << 20]].concat());
    assert!(matches!(error, RecordError::Index(IndexError::TooLong { .. })), "{error:?}");
    for len in 8..good.len() {
        let error = open(&good[..len]);
        assert!(
            matches!(
                error,
                RecordError::Truncated { .. } | RecordError::Index(IndexError::Checksum { .. })
            ),
            "{error:?}"
        );
        let mut sealed = good[..len].to_vec();
        reseal(&mut sealed);
        let error = open(&sealed);
        assert!(
            matches!(
                error,
                RecordError::Truncated { .. } | RecordError::Index(IndexError::Encoding { .. })
            ),
            "{error:?}"
        );
    }
    let mut surplus = [good.as_slice(), &[0]].concat();
    reseal(&mut surplus);
    assert!(matches!(open(&surplus), RecordError::TrailingBytes { .. }));
    let mut version = good.clone();
    version[8] = 2;
    assert!(matches!(open(&version), RecordError::UnknownVersion { found: 2, newest: 1 }));
    // As a stream, it cannot know where its parts are.
    let error = BincodeRecorder::default().load(&mut good.as_slice(), None);
    if good.len() >= 32 {
        assert!(matches!(error, Err(RecordError::IsIndex)), "{error:?}");
    }
}

/// A pipe that nobody writes to, where a record or its part should be.
#[cfg(unix)]
#[test]
fn pipes_are_not_waited_for() {
    let (directory, path) = in_parts();
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let part = parts(directory.path()).remove(0);
    fs::remove_file(&part).unwrap();
    pipe(&part);
    let error = RecordFile::open(&path).unwrap_err();
    assert!(error.to_string().ends_with("not a file"), "{error}");
    Record::new().save_file(&path, &BincodeRecorder::default()).unwrap();
    assert!(load(&path).is_empty());
    assert!(RecordFile::open(&part).unwrap_err().to_string().ends_with("not a file"));
}

#[test]
fn an_index_has_room_for_all_parts_or_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("n".repeat(200));
    let entries = (0..5000).map(|i| RecordEntry::new(i.to_string(), [], None)).collect();
    let Err(error) = RecordWriter::create_in_parts(&path, 0, Default::default(), entries, vec![])
    else {
        panic!("refused")
    };
    assert!(matches!(error, RecordError::Index(IndexError::TooLong { .. })), "{error:?}");
    assert!(names(directory.path()).is_empty());
}

#[test]
fn survives_a_hundred_thousand_mutated_indices() {
    let (directory, path) = in_parts();
    let sample = fs::read(&path).unwrap();
    let mutated = directory.path().join("mutated.quant");
    let mut random = Random(7);
    let mut accepted = 0;
    for round in 0..100_000 {
        let mut bytes = sample.clone();
        if round % 5 == 0 {
            bytes.truncate(16);
            bytes.extend((0..random.below(100)).map(|_| random.bits() as u8));
        }
        for _ in 0..random.below(4) {
            mutate(&mut bytes, usize::MAX, b"\0\x01/.\x7F\x80\xFF", &mut random);
        }
        if round % 10 != 0 {
            reseal(&mut bytes);
        }
        fs::write(&mutated, &bytes).unwrap();
        if let Ok(opened) = RecordFile::open(&mutated) {
            accepted += 1;
            assert_eq!(opened.entries().len(), of_everything().len());
        }
    }
    assert!((1_000..60_000).contains(&accepted), "{accepted}");
}
