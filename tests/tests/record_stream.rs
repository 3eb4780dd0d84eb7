//! Records written one tensor at a time.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use quant::quantize::quantize_values;
use quant::record::{Manifest, ManifestError, RecordFormatError, RecordState};
use quant::record::{Record, RecordEntry, RecordWriter};
use quant::{BincodeRecorder, MinMaxCalibration, Module, Quantizer, RecordError, Tensor};
use tests::files::names;
use tests::record::{chain, of_everything};

fn entries(record: &Record) -> Vec<RecordEntry> {
    record.iter().map(|(id, tensor)| RecordEntry::of(id.clone(), tensor)).collect()
}

fn begin(record: &Record, path: &Path) -> RecordWriter {
    let (metadata, states) = (record.metadata().clone(), record.states().to_vec());
    let manifest = Manifest::new(entries(record)).metadata(metadata).states(states);
    RecordWriter::create(path, manifest).unwrap()
}

fn streamed(record: &Record, path: &Path) {
    let mut writer = begin(record, path);
    for (id, tensor) in record.iter() {
        writer.write(id.as_str(), tensor).unwrap();
    }
    writer.finish().unwrap();
}

#[track_caller]
fn assert_same_bytes(record: &Record) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    streamed(record, &path);
    let whole = record.save_bytes(&BincodeRecorder::default()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(names(directory.path()), ["model.quant"]);
}

#[test]
fn a_streamed_record_has_the_bytes_of_a_saved_one() {
    assert_same_bytes(&of_everything());
    assert_same_bytes(&Record::new());
    let mut states = Record::new();
    states.insert_state(RecordState { id: "".into(), kind: "k".into(), data: vec![9; 100] });
    assert_same_bytes(&states);
    let large: Vec<f32> = (0..300_000).map(|i| i as f32).collect();
    let large = Tensor::from_values(&[300, 1000], large).unwrap();
    assert_same_bytes(&Record::from_iter([("a", large.clone()), ("b", large)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_streamed_record_has_the_bytes_of_a_saved_one(
        tensors in prop::collection::vec(("[a-z.]{0,90}", prop::collection::vec(0usize..5, 0..4), 0usize..4), 0..8),
        metadata in prop::collection::btree_map(".{0,9}", ".{0,90}", 0..4),
    ) {
        let mut record = Record::new();
        for (key, value) in metadata {
            record.insert_metadata(key, value);
        }
        for (name, shape, kind) in tensors {
            let count = shape.iter().product();
            let values = (0..count).map(|i| i as f32 - 3.0).collect();
            let tensor = Tensor::from_values(&shape, values).unwrap();
            let scheme = [
                "per-tensor-affine-int8",
                "per-block-affine-int3:len=2",
                "per-block-symmetric-int4:len=3:scale=f16",
            ]
            .get(kind)
            .copied();
            record.insert(name, match scheme {
                Some(scheme) => {
                    let scheme = scheme.parse().unwrap();
                    quantize_values(&shape, &tensor.values(), scheme, &MinMaxCalibration {}).unwrap().into()
                }
                None => tensor,
            });
        }
        assert_same_bytes(&record);
    }
}

#[test]
fn the_old_record_stays_until_the_new_one_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let old = Record::from_iter([("old", Tensor::from_values(&[1], vec![1.0]).unwrap())]);
    streamed(&old, &path);
    let before = fs::read(&path).unwrap();

    let new = of_everything();
    let mut writer = begin(&new, &path);
    for (id, tensor) in new.iter() {
        writer.write(id.as_str(), tensor).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(directory.path()), ["model.quant"]);
    streamed(&new, &path);
    assert_ne!(fs::read(&path).unwrap(), before);
}

#[test]
fn rejects_undeclared_tensors_and_accepts_the_declared_one_after() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let record = of_everything();
    let mut writer = begin(&record, &path);
    let matrix = record.get("float.matrix").unwrap();
    let refused = |writer: &mut RecordWriter, id: &str, tensor: &Tensor, text: &str| {
        let error = writer.write(id, tensor).unwrap_err();
        assert!(
            matches!(error, RecordError::Manifest(ManifestError::Unexpected { .. })),
            "{error:?}"
        );
        let expected = format!("the tensors do not match their declaration: {text}");
        assert_eq!(chain(&error), expected);
    };
    refused(&mut writer, "w", matrix, "w: written where float.matrix was declared");
    let flat = Tensor::from_values(&[6], vec![0.0; 6]).unwrap();
    refused(&mut writer, "float.matrix", &flat, "float.matrix: shape [6], declared as [2, 3]");
    let quantizer = Quantizer {
        calibration: MinMaxCalibration {},
        scheme: "per-tensor-symmetric-int8".parse().unwrap(),
    };
    let codes = Tensor::from_values(&[2, 3], vec![0.5; 6]).unwrap();
    let codes = codes.quantize_weights(quantizer).unwrap();
    refused(
        &mut writer,
        "float.matrix",
        &codes,
        "float.matrix: per-tensor-symmetric-int8, declared as f32",
    );
    for (id, tensor) in record.iter() {
        writer.write(id.as_str(), tensor).unwrap();
    }
    refused(&mut writer, "w", matrix, "w: written after the last declared tensor");
    writer.finish().unwrap();
    let whole = record.save_bytes(&BincodeRecorder::default()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn rejects_a_record_with_a_missing_tensor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let error = begin(&of_everything(), &path).finish().unwrap_err();
    assert!(
        matches!(&error, RecordError::Manifest(ManifestError::Missing { id }) if *id == "float.matrix")
    );
    assert!(chain(&error).ends_with(": float.matrix: declared, but not written"), "{error}");
    assert!(names(directory.path()).is_empty());
}

#[test]
fn rejects_invalid_declarations_before_a_file_is_created() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.quant");
    let refused = |entries: Vec<RecordEntry>, states: Vec<RecordState>| {
        let Err(error) = RecordWriter::create(&path, Manifest::new(entries).states(states)) else {
            panic!("refused")
        };
        assert!(names(directory.path()).is_empty());
        error
    };
    let float = |shape: &[usize]| RecordEntry::new("w", shape, None);
    let error = refused(vec![float(&[1]), float(&[1])], vec![]);
    assert!(
        matches!(
            error,
            RecordError::Format { source: RecordFormatError::DuplicateName { .. }, .. }
        ),
        "{error:?}"
    );
    let state = RecordState { id: "w".into(), kind: "k".into(), data: vec![] };
    let error = refused(vec![], vec![state.clone(), state]);
    assert!(
        matches!(
            error,
            RecordError::Format { source: RecordFormatError::DuplicateName { .. }, .. }
        ),
        "{error:?}"
    );
    for shape in [&[usize::MAX, 2][..], &[usize::MAX / 2], &[0, usize::MAX, 2]] {
        let error = refused(vec![float(shape)], vec![]);
        assert!(
            matches!(error, RecordError::Format { source: RecordFormatError::Shape { .. }, .. }),
            "{shape:?}: {error:?}"
        );
    }
    let error = refused(vec![float(&[usize::MAX / 4])], vec![]);
    assert!(
        matches!(error, RecordError::Format { source: RecordFormatError::PastEnd { .. }, .. }),
        "{error:?}"
    );
    let scheme = "per-channel-symmetric-int8:axis=3".parse().ok();
    let error = refused(vec![RecordEntry::new("w", [2], scheme)], vec![]);
    assert!(
        matches!(error, RecordError::Format { source: RecordFormatError::Tensor { .. }, .. }),
        "{error:?}"
    );
}
