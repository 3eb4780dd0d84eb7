//! Sharded records: an index, and shards that are records themselves.

use std::fs;
use std::path::{Path, PathBuf};

use quant::record::{Manifest, RecordFormatError, RecordState, ShardIndexError};
use quant::record::{Record, RecordEntry, RecordFile, RecordWriter, Recorder};
use quant::{BincodeRecorder, Module, RecordError, Tensor};
use tests::files::names;
use tests::mutate::mutate;
use tests::random::Random;
use tests::record::{bytes_of_everything, chain, of_everything, reason, version_1};

fn shards(directory: &Path) -> Vec<PathBuf> {
    let shards = names(directory).into_iter().filter(|name| name.ends_with(".part"));
    shards.map(|name| directory.join(name)).collect()
}

fn recorder(max: u64) -> BincodeRecorder {
    BincodeRecorder::default().max_shard_size(max)
}

fn load(path: &Path) -> Record {
    BincodeRecorder::default().load_file(path).unwrap()
}

/// A temporary directory, in memory if the system has a file system there.
fn fast_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A directory with `model.quant`, in shards of at most 700 bytes.
fn sharded() -> (tempfile::TempDir, PathBuf) {
    let directory = fast_directory();
    let path = directory.path().join("model.quant");
    of_everything().save_file(&path, &recorder(700)).unwrap();
    (directory, path)
}

/// An index of these shards, with the right checksum.
fn index(shards: &[(&str, u64, u32)]) -> Vec<u8> {
    let mut bytes = b"\x89QNI\r\n\x1a\n\x01\0\0\0\0\0\0\0".to_vec();
    bytes.extend((shards.len() as u64).to_le_bytes());
    for (name, len, checksum) in shards {
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

/// The length and header checksum of a record, as an index has them.
fn length_and_checksum(record: &Path) -> (u64, u32) {
    let bytes = fs::read(record).unwrap();
    (bytes.len() as u64, u32::from_le_bytes(bytes[12..16].try_into().unwrap()))
}

#[test]
fn a_sharded_record_loads() {
    for max in [0, 500, 700, 1000, 2000] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.quant");
        let record = of_everything();
        record.save_file(&path, &recorder(max)).unwrap();
        assert_eq!(load(&path), record, "{max}");
        let opened = RecordFile::open(&path).unwrap();
        assert_eq!(opened.read_all().unwrap(), record);
        opened.verify_all().unwrap();
        assert_eq!(opened.paths().count(), shards(directory.path()).len());
        let bytes: u64 = names(directory.path())
            .iter()
            .map(|name| fs::metadata(directory.path().join(name)).unwrap().len())
            .sum();
        assert_eq!(opened.byte_count(), bytes);
    }
}

#[test]
fn every_shard_is_a_record_within_the_limit() {
    for max in [0, 500, 700, 1000, 2000] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.quant");
        of_everything().save_file(&path, &recorder(max)).unwrap();
        let shards = shards(directory.path());
        assert!(shards.len() > 1);
        for shard in &shards {
            let record = load(shard);
            let single = record.len() + record.states().len() == 1;
            assert!(single || fs::metadata(shard).unwrap().len() <= max, "{max}: {record:?}");
        }
        let tensors: usize = shards.iter().map(|shard| load(shard).len()).sum();
        assert_eq!(tensors, of_everything().len());
    }
}

#[test]
fn a_record_of_one_shard_has_no_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let whole = bytes_of_everything();
    let recorder = |max| version_1().max_shard_size(max);
    of_everything().save_file(&path, &recorder(whole.len() as u64)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(names(directory.path()).len(), 1);
    of_everything().save_file(&path, &recorder(whole.len() as u64 - 1)).unwrap();
    assert_eq!(names(directory.path()).len(), 3);
}

#[test]
fn metadata_of_the_recorder_is_added() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    of_everything().save_file(&path, &recorder(700).metadata("a", "b")).unwrap();
    let opened = RecordFile::open(&path).unwrap();
    assert_eq!(opened.metadata()["a"], "b");
    assert_eq!(opened.metadata()["author"], "quant");
}

#[test]
fn streamed_shards_equal_saved_ones() {
    let (directory, _) = sharded();
    let other = tempfile::tempdir().unwrap();
    let record = of_everything();
    let entries =
        record.iter().map(|(id, tensor)| RecordEntry::of(id.clone(), tensor)).collect::<Vec<_>>();
    let (metadata, states) = (record.metadata().clone(), record.states().to_vec());
    let path = other.path().join("model.quant");
    let manifest = Manifest::new(entries).metadata(metadata).states(states).max_shard_size(700);
    let mut writer = RecordWriter::create(&path, manifest).unwrap();
    for (id, tensor) in record.iter() {
        writer.write(id.as_str(), tensor).unwrap();
        assert!(!path.exists());
    }
    writer.finish().unwrap();
    let bytes = |directory: &Path| -> Vec<Vec<u8>> {
        shards(directory).iter().map(|shard| fs::read(shard).unwrap()).collect()
    };
    assert_eq!(bytes(directory.path()), bytes(other.path()));
    assert_eq!(load(&path), record);
}

#[test]
fn dropping_a_writer_removes_its_shards() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let record = of_everything();
    let entries =
        record.iter().map(|(id, tensor)| RecordEntry::of(id.clone(), tensor)).collect::<Vec<_>>();
    let mut writer =
        RecordWriter::create(&path, Manifest::new(entries).max_shard_size(700)).unwrap();
    for (id, tensor) in record.iter() {
        writer.write(id.as_str(), tensor).unwrap();
    }
    assert!(shards(directory.path()).len() > 2);
    drop(writer);
    assert!(names(directory.path()).is_empty());
}

#[test]
fn the_shards_of_a_replaced_record_are_removed() {
    let (directory, path) = sharded();
    let first = shards(directory.path());
    of_everything().save_file(&path, &recorder(700)).unwrap();
    let second = shards(directory.path());
    assert!(first.len() == second.len() && first.iter().all(|shard| !second.contains(shard)));
    assert_eq!(load(&path), of_everything());

    of_everything().save_file(&path, &BincodeRecorder::default()).unwrap();
    assert_eq!(names(directory.path()), ["model.quant"]);
    assert_eq!(load(&path), of_everything());
    of_everything().save_file(&path, &recorder(700)).unwrap();
    assert_eq!(shards(directory.path()).len(), first.len());
    assert_eq!(load(&path), of_everything());
}

#[test]
fn an_open_record_keeps_its_shards_when_it_is_replaced() {
    let (_directory, path) = sharded();
    let opened = RecordFile::open(&path).unwrap();
    Record::new().save_file(&path, &BincodeRecorder::default()).unwrap();
    assert_eq!(opened.read_all().unwrap(), of_everything());
    assert!(load(&path).is_empty());
}

#[test]
fn only_shards_of_the_replaced_index_are_removed() {
    let (directory, path) = sharded();
    // A copy of the index under another name does not own the shards.
    let copy = directory.path().join("copy.quant");
    fs::copy(&path, &copy).unwrap();
    assert_eq!(load(&copy), of_everything());
    Record::new().save_file(&copy, &BincodeRecorder::default()).unwrap();
    assert_eq!(load(&path), of_everything());

    // An untrusted index that lists another record of the user.
    let precious = directory.path().join("precious.quant");
    of_everything().save_file(&precious, &BincodeRecorder::default()).unwrap();
    let (len, checksum) = length_and_checksum(&precious);
    let stranger = directory.path().join("stranger.quant");
    fs::write(&stranger, index(&[("precious.quant", len, checksum)])).unwrap();
    assert_eq!(load(&stranger), of_everything());
    Record::new().save_file(&stranger, &BincodeRecorder::default()).unwrap();
    assert_eq!(load(&precious), of_everything());

    // A file with the name of a shard but other content.
    let shard = shards(directory.path()).remove(0);
    fs::write(&shard, "notes").unwrap();
    Record::new().save_file(&path, &BincodeRecorder::default()).unwrap();
    assert_eq!(fs::read(&shard).unwrap(), b"notes");
    assert_eq!(shards(directory.path()), [shard]);
}

#[test]
fn errors_name_missing_wrong_and_damaged_shards() {
    let (directory, path) = sharded();
    let files = shards(directory.path());
    let bytes = fs::read(&files[1]).unwrap();

    fs::remove_file(&files[1]).unwrap();
    let error = RecordFile::open(&path).unwrap_err();
    assert!(
        matches!(&error, RecordError::Io { path: Some(of), .. } if of.file_name() == files[1].file_name()),
        "{error:?}"
    );

    let refused = |text: &str| {
        let error = RecordFile::open(&path).unwrap_err();
        let shard = files[1].canonicalize().unwrap();
        let message = chain(&error);
        assert!(message.starts_with(&format!("{}: invalid record: ", shard.display())));
        assert!(message.contains(text), "{message}");
        reason(error)
    };
    fs::copy(&files[0], &files[1]).unwrap();
    let error = refused("");
    assert!(
        matches!(
            error,
            RecordFormatError::WrongShard { .. } | RecordFormatError::MetadataOrder { .. }
        ),
        "{error:?}"
    );
    let other = Tensor::from_values(&[3], vec![1.0; 3]).unwrap();
    other.save_file(&files[1], &BincodeRecorder::default()).unwrap();
    let error = refused("not the shard of this index: it has 256 bytes, expected ");
    let RecordFormatError::WrongShard { expected_len, found_len, .. } = error else {
        panic!("{error:?}")
    };
    assert!(expected_len == bytes.len() as u64 && found_len != expected_len);

    // The same length, another header.
    let mut same_len = bytes.clone();
    let name = same_len.windows(4).position(|bytes| bytes == b"int8").unwrap();
    same_len[name] = b'x';
    tests::record::reseal(&mut same_len);
    fs::write(&files[1], &same_len).unwrap();
    let error = refused("not the shard of this index: the checksum of its header is ");
    assert!(matches!(error, RecordFormatError::WrongShard { .. }), "{error:?}");

    fs::write(&files[1], &bytes[..bytes.len() - 1]).unwrap();
    let error = refused("truncated");
    assert!(matches!(error, RecordFormatError::Truncated { .. }), "{error:?}");

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
fn rejects_names_and_keys_in_two_shards() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let save = |record: &Record, name: &str| {
        record.save_file(path(name), &BincodeRecorder::default()).unwrap();
    };
    let tensor = || Tensor::from_values(&[1], vec![1.0]).unwrap();
    let named = |name: &str| Record::from_iter([(name, tensor())]);
    let opened = || {
        let entries = ["a", "b"].map(|name| {
            let (len, checksum) = length_and_checksum(&path(name));
            (name, len, checksum)
        });
        fs::write(path("index"), index(&entries)).unwrap();
        RecordFile::open(path("index"))
    };
    save(&named("v"), "a");
    save(&named("w"), "b");
    assert_eq!(opened().unwrap().entries().len(), 2);
    save(&named("v"), "b");
    assert!(matches!(
        opened(),
        Err(RecordError::Format { source: RecordFormatError::DuplicateName { .. }, .. })
    ));
    let mut states = named("w");
    states.insert_state(RecordState { id: "s".into(), kind: "k".into(), data: vec![] });
    save(&states, "b");
    opened().unwrap();
    let mut states = named("v");
    states.insert_state(RecordState { id: "s".into(), kind: "k".into(), data: vec![1] });
    save(&states, "a");
    assert!(matches!(
        opened(),
        Err(RecordError::Format { source: RecordFormatError::DuplicateName { .. }, .. })
    ));
    for name in ["a", "b"] {
        let mut record = named(name);
        record.insert_metadata("key", name);
        save(&record, name);
    }
    let error = opened().unwrap_err();
    assert!(chain(&error).contains("b: invalid record: "), "{error:?}");
    assert!(matches!(reason(error), RecordFormatError::MetadataOrder { .. }));
}

#[test]
fn rejects_invalid_indices() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        RecordFile::open(&path).unwrap_err()
    };
    for name in ["../x", "/etc/passwd", "", "..", "a/b", "a\\b", "c:", "nul\0"] {
        let error = open(&index(&[(name, 1, 1)]));
        assert!(
            matches!(
                error,
                RecordError::Format {
                    source: RecordFormatError::ShardIndex(ShardIndexError::ShardName { .. }),
                    ..
                }
            ),
            "{error:?}"
        );
    }
    let error = open(&index(&[("a", 1, 1), ("a", 1, 1)]));
    assert!(
        matches!(
            error,
            RecordError::Format {
                source: RecordFormatError::ShardIndex(ShardIndexError::DuplicateShard { .. }),
                ..
            }
        ),
        "{error:?}"
    );
    let error = open(&index(&[]));
    assert!(
        matches!(
            error,
            RecordError::Format {
                source: RecordFormatError::ShardIndex(ShardIndexError::NoShards),
                ..
            }
        ),
        "{error:?}"
    );
    // The index itself.
    let error = reason(open(&index(&[("model.quant", 1, 1)])));
    assert!(matches!(error, RecordFormatError::IsShardIndex), "{error:?}");
    let good = index(&[("a", 1, 1)]);
    let error = open(&[good.as_slice(), &vec![0; 1 << 20]].concat());
    assert!(
        matches!(
            error,
            RecordError::Format {
                source: RecordFormatError::ShardIndex(ShardIndexError::TooLong { .. }),
                ..
            }
        ),
        "{error:?}"
    );
    for len in 8..good.len() {
        let error = open(&good[..len]);
        assert!(
            matches!(
                error,
                RecordError::Format { source: RecordFormatError::Truncated { .. }, .. }
                    | RecordError::Format {
                        source: RecordFormatError::ShardIndex(ShardIndexError::Checksum { .. }),
                        ..
                    }
            ),
            "{error:?}"
        );
        let mut sealed = good[..len].to_vec();
        reseal(&mut sealed);
        let error = open(&sealed);
        assert!(
            matches!(
                error,
                RecordError::Format { source: RecordFormatError::Truncated { .. }, .. }
                    | RecordError::Format {
                        source: RecordFormatError::ShardIndex(ShardIndexError::Encoding { .. }),
                        ..
                    }
            ),
            "{error:?}"
        );
    }
    let mut surplus = [good.as_slice(), &[0]].concat();
    reseal(&mut surplus);
    assert!(matches!(
        open(&surplus),
        RecordError::Format { source: RecordFormatError::TrailingBytes { .. }, .. }
    ));
    let mut version = good.clone();
    version[8] = 2;
    assert!(matches!(
        open(&version),
        RecordError::Format {
            source: RecordFormatError::UnsupportedVersion { found: 2, newest: 1 },
            ..
        }
    ));
    // A stream has no directory with shards.
    let error = BincodeRecorder::default().load(&mut good.as_slice(), None);
    if good.len() >= 32 {
        assert!(
            matches!(
                error,
                Err(RecordError::Format { source: RecordFormatError::IsShardIndex, .. })
            ),
            "{error:?}"
        );
    }
}

/// Opening a FIFO in place of a record or shard would block.
#[cfg(unix)]
#[test]
fn rejects_fifos_without_blocking() {
    let (directory, path) = sharded();
    let fifo = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let shard = shards(directory.path()).remove(0);
    fs::remove_file(&shard).unwrap();
    fifo(&shard);
    let error = RecordFile::open(&path).unwrap_err();
    assert!(chain(&error).ends_with(": not a regular file"), "{error}");
    Record::new().save_file(&path, &BincodeRecorder::default()).unwrap();
    assert!(load(&path).is_empty());
    let error = RecordFile::open(&shard).unwrap_err();
    assert!(chain(&error).ends_with(": not a regular file"), "{error}");
}

#[test]
fn rejects_an_index_that_would_be_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("n".repeat(200));
    let entries = (0..5000).map(|i| RecordEntry::new(i.to_string(), [], None));
    let manifest = Manifest::new(entries).max_shard_size(0);
    let Err(error) = RecordWriter::create(&path, manifest) else { panic!("refused") };
    assert!(
        matches!(
            error,
            RecordError::Format {
                source: RecordFormatError::ShardIndex(ShardIndexError::TooLong { .. }),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(names(directory.path()).is_empty());
}

#[test]
fn survives_a_hundred_thousand_mutated_indices() {
    let (directory, path) = sharded();
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
