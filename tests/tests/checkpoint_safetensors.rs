//! safetensors: what others write is read here, what is written here is read by others, and what
//! is neither is refused.

use std::borrow::Cow;
use std::path::Path;

use quant::record::{Manifest, ManifestError, RecordState};
use quant::record::{Record, Recorder};
use quant::tensor::TensorError;
use quant::{BincodeRecorder, FloatTensor, Module, Param, RecordError, Tensor};
use quant_formats::{SafetensorsError, SafetensorsRecorder, Stored};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use tests::random::Random;
use tests::record::{chain, load_both, native, of_everything};

fn recorder() -> SafetensorsRecorder {
    SafetensorsRecorder::default()
}

fn load(bytes: &[u8]) -> Result<Record, RecordError> {
    load_both(&recorder(), bytes)
}

/// What the file on disk holds, read one tensor at a time.
fn gathered(path: &Path) -> Record {
    let checkpoint = quant_formats::open(path).unwrap();
    let mut record = Record::new();
    for (key, value) in checkpoint.metadata() {
        record.insert_metadata(key, value);
    }
    for (index, entry) in checkpoint.entries().iter().enumerate() {
        checkpoint.verify(index).unwrap();
        record.insert(entry.id.clone(), checkpoint.read(index).unwrap());
    }
    for state in checkpoint.states().unwrap() {
        record.insert_state(state);
    }
    record
}

fn bytes<T, const N: usize>(values: &[T], encode: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(encode).collect()
}

#[test]
fn every_kind_of_tensor_comes_back_with_its_metadata_and_states() {
    let record = of_everything();
    let saved = record.save_bytes(&recorder()).unwrap();
    assert!(native(&load(&saved).unwrap()) == native(&record));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.safetensors");
    record.save_file(&path, &recorder()).unwrap();
    assert!(native(&gathered(&path)) == native(&record));
}

#[test]
fn a_file_written_one_tensor_at_a_time_has_the_recorder_s_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.quant"), directory.path().join("b.safetensors"));
    let record = of_everything();
    record.save_file(&from, &BincodeRecorder::default()).unwrap();
    quant_formats::convert(&quant_formats::open(&from).unwrap(), &to, Default::default()).unwrap();
    assert!(std::fs::read(&to).unwrap() == record.save_bytes(&recorder()).unwrap());
}

#[test]
fn the_format_s_own_crate_reads_what_is_written_here() {
    let saved = of_everything().save_bytes(&recorder()).unwrap();
    let theirs = SafeTensors::deserialize(&saved).unwrap();
    let matrix = theirs.tensor("float.matrix").unwrap();
    assert_eq!((matrix.dtype(), matrix.shape()), (Dtype::F32, [2, 3].as_slice()));
    let expected = [0.0, -0.0, 1.5, -2.25, f32::MAX, 1e-45];
    assert_eq!(matrix.data(), bytes(&expected, |v: &f32| v.to_le_bytes()));
    // The weight is (codes - zero point) * scale, with shapes that broadcast.
    let codes = theirs.tensor("int8.tensor_affine").unwrap();
    assert_eq!((codes.dtype(), codes.data()), (Dtype::I8, [0x80, 0x00, 0x7F].as_slice()));
    let scale = theirs.tensor("int8.tensor_affine_scale").unwrap();
    assert_eq!((scale.shape(), scale.data()), ([].as_slice(), 0.25f32.to_le_bytes().as_slice()));
    let zero_point = theirs.tensor("int8.tensor_affine_zero_point").unwrap();
    assert_eq!((zero_point.dtype(), zero_point.data()), (Dtype::I8, [-7i8 as u8].as_slice()));
    let channels = theirs.tensor("int4.channel_affine_scale").unwrap();
    assert_eq!(channels.shape(), [2, 1]);
    let last = theirs.tensor("int2.channel_last_scale").unwrap();
    assert_eq!(last.shape(), [1, 5]);
    let blocks = theirs.tensor("int4.block_f16_scale").unwrap();
    assert_eq!((blocks.dtype(), blocks.shape()), (Dtype::F16, [2, 2].as_slice()));
    // Every tensor can be used where it lies.
    for (name, tensor) in theirs.tensors() {
        let offset = tensor.data().as_ptr() as usize - saved.as_ptr() as usize;
        assert_eq!(offset % (tensor.dtype().bitsize() / 8), 0, "{name}");
    }
}

#[test]
fn files_of_the_format_s_own_crate_are_read_with_equal_values() {
    let mut random = Random(3);
    let f32s: Vec<f32> = (0..15).map(|_| random.unit()).collect();
    let f16s: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    let bf16s: Vec<half::bf16> = (0..=u16::MAX).map(half::bf16::from_bits).collect();
    let data = [
        bytes(&f32s, |v| v.to_le_bytes()),
        bytes(&f16s, |v| v.to_le_bytes()),
        bytes(&bf16s, |v| v.to_le_bytes()),
        bytes(&[7i64, -1], |v| v.to_le_bytes()),
    ];
    let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.into(), data).unwrap();
    let views = [
        ("single", view(Dtype::F32, &[3, 5], &data[0])),
        ("half", view(Dtype::F16, &[256, 256], &data[1])),
        ("brain", view(Dtype::BF16, &[65536], &data[2])),
        ("indices", view(Dtype::I64, &[1, 2], &data[3])),
    ];
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let file = serialize(views, Some(metadata)).unwrap();

    let record = load(&file).unwrap();
    assert_eq!(record.metadata()["format"], "pt");
    assert_eq!(*record.get("single").unwrap().values(), f32s);
    let bits = |name: &str| -> Vec<u32> {
        record.get(name).unwrap().values().iter().map(|v| v.to_bits()).collect()
    };
    let quiet = |v: f32| if v.is_nan() { v.to_bits() | 0x0040_0000 } else { v.to_bits() };
    assert_eq!(bits("half"), f16s.iter().map(|v| quiet(v.to_f32())).collect::<Vec<_>>());
    let widened = |v: &half::bf16| u32::from(v.to_bits()) << 16;
    assert_eq!(bits("brain"), bf16s.iter().map(widened).collect::<Vec<_>>());

    // What is no float is carried, and written as it was.
    let state = RecordState {
        id: "indices".into(),
        kind: "tensor/I64 [1, 2]".into(),
        data: data[3].clone(),
    };
    assert_eq!(record.states(), [state]);
    let saved = record.save_bytes(&recorder()).unwrap();
    let again = SafeTensors::deserialize(&saved).unwrap();
    let indices = again.tensor("indices").unwrap();
    assert_eq!((indices.dtype(), indices.data()), (Dtype::I64, &*data[3]));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("theirs.safetensors");
    std::fs::write(&path, &file).unwrap();
    assert!(native(&gathered(&path)) == native(&record));
    let stored: Vec<Stored> =
        quant_formats::open(&path).unwrap().entries().iter().map(|entry| entry.stored).collect();
    for expected in [Stored::F32, Stored::F16, Stored::Bf16] {
        assert!(stored.contains(&expected));
    }
}

/// A file of one F32 tensor `w` of one element.
fn one(name: &str) -> Vec<u8> {
    let data = 1.0f32.to_le_bytes();
    serialize([(name, TensorView::new(Dtype::F32, vec![1], &data).unwrap())], None).unwrap()
}

#[test]
fn shards_are_read_as_one_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let index = at("model.safetensors.index.json");
    std::fs::write(at("model-1.safetensors"), one("a")).unwrap();
    std::fs::write(at("model-2.safetensors"), one("b")).unwrap();
    let write = |map: &str| {
        let text = format!(r#"{{"metadata": {{"total_size": 8}}, "weight_map": {{{map}}}}}"#);
        std::fs::write(&index, text).unwrap();
    };
    write(r#""a": "model-1.safetensors", "b": "model-2.safetensors""#);
    let record = gathered(&index);
    let names: Vec<_> = record.iter().map(|(id, _)| id.as_str().to_owned()).collect();
    assert_eq!(names, ["a", "b"]);

    let error = || match quant_formats::open(&index) {
        Ok(_) => panic!("refused"),
        Err(error) => chain(&error),
    };
    write(r#""a": "model-1.safetensors", "b": "model-1.safetensors""#);
    assert!(error().ends_with(": b: missing in `model-1.safetensors`, where the index lists it"));
    write(r#""a": "model-1.safetensors", "c": "model-2.safetensors""#);
    assert!(error().ends_with(": b: the index does not list this tensor of `model-2.safetensors`"));
    for name in ["../model-1.safetensors", "/etc/passwd", "a/b", "..", ""] {
        write(&format!(r#""a": "{name}""#));
        assert!(
            error()
                .ends_with(&format!(": the index names `{name}`, which is not a file beside it"))
        );
    }
    write(r#""a": "missing.safetensors""#);
    assert!(error().contains("missing.safetensors"));
    write(r#""a": 7"#);
    assert!(error().contains(": the header is not valid JSON"));
}

/// A file with this header, and zeros for data.
fn file(json: &str, data_len: usize) -> Vec<u8> {
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file.resize(file.len() + data_len, 0);
    file
}

#[test]
fn rejects_wrong_descriptions_of_quantized_tensors() {
    let codes = r#""w":{"dtype":"I8","shape":[2,2],"data_offsets":[8,12]}"#;
    let scale = r#""w_scale":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}"#;
    let said = |key: &str, value: &str| format!(r#""__metadata__":{{"{key}":"{value}"}}"#);
    let int8 = said("quant.tensor.w", "per-channel-symmetric-int8 [2, 2]");
    for (metadata, tensors, expected) in [
        (&int8, vec![codes, scale], "w: not a valid tensor: "),
        (
            &said("quant.tensor.w", "per-channel-affine-int8 [2, 2]"),
            vec![codes, scale],
            "w: `w_zero_point` is missing",
        ),
        (
            &said("quant.tensor.w", "per-tensor-symmetric-int8 [2, 2]"),
            vec![codes, scale],
            "w_scale: expected F32 [], found F32 [2, 1]",
        ),
        (
            &said("quant.tensor.w", "per-channel-symmetric-int8 [4]"),
            vec![codes, scale],
            "w: expected I8 [4], found I8 [2, 2]",
        ),
        (
            &said("quant.tensor.w", "per-channel-symmetric-int9 [2, 2]"),
            vec![codes, scale],
            "w: invalid description of a quantized tensor: `per-channel-symmetric-int9 [2, 2]`: ",
        ),
        (
            &said("quant.tensor.w", "per-channel-symmetric-int8"),
            vec![codes, scale],
            "w: invalid description of a quantized tensor: `per-channel-symmetric-int8`",
        ),
        (
            &said("quant.tensor.w", "per-channel-symmetric-int8:axis=5 [2, 2]"),
            vec![codes, scale],
            "w: ",
        ),
        (
            &said("quant.tensor.v", "per-channel-symmetric-int8 [2, 2]"),
            vec![codes, scale],
            "v: `v` is missing",
        ),
    ] {
        let json = format!("{{{metadata},{}}}", tensors.join(","));
        let error = chain(&load(&file(&json, 12)).expect_err(expected));
        assert!(error.contains(&format!(": {expected}")), "{error:?} should be {expected:?}");
    }
}

#[test]
fn a_model_that_would_be_read_as_another_is_not_written() {
    let write = |record: &Record| record.save_bytes(&recorder()).unwrap_err();
    let mut record = of_everything();
    record.insert("int8.tensor_scale", Tensor::from_values(&[], vec![1.0]).unwrap());
    let error = write(&record);
    let RecordError::Recorder { source, .. } = error else { panic!("of the recorder") };
    assert!(matches!(*source.downcast().unwrap(), SafetensorsError::DuplicateName { .. }));

    let mut record = Record::new();
    record.insert("__metadata__", Tensor::from_values(&[], vec![1.0]).unwrap());
    let RecordError::Recorder { source, .. } = write(&record) else { panic!("of the recorder") };
    assert!(matches!(*source.downcast().unwrap(), SafetensorsError::ReservedName { .. }));

    let mut record = Record::new();
    record.insert_metadata("long", "x".repeat(100_000_001));
    let RecordError::Recorder { source, .. } = write(&record) else { panic!("of the recorder") };
    assert!(matches!(*source.downcast().unwrap(), SafetensorsError::HeaderTooLong { .. }));
}

/// A storage with a number of values that its shape does not have.
#[derive(Debug)]
struct Shifted(Vec<f32>);

impl FloatTensor for Shifted {
    type Device = ();

    fn device(&self) {}

    fn shape(&self) -> Cow<'_, [usize]> {
        Cow::Owned(vec![2, 2])
    }

    fn values(&self) -> Cow<'_, [f32]> {
        Cow::Borrowed(&self.0)
    }

    fn from_values(_: &[usize], values: Vec<f32>, (): &()) -> Result<Self, TensorError> {
        Ok(Self(values))
    }
}

#[test]
fn a_storage_whose_values_do_not_fit_its_shape_is_refused_by_every_recorder() {
    // Together they have as many values as their shapes.
    let model = || [5, 3].map(|count| Param::new(Shifted(vec![1.0; count])));
    let recorders: [&dyn Recorder; 4] = [
        &recorder(),
        &quant_formats::GgufRecorder::default(),
        &quant_formats::JsonRecorder::default(),
        &quant::BincodeRecorder::default(),
    ];
    for recorder in recorders {
        let error = recorder.save(&model(), &mut Vec::new()).unwrap_err();
        let RecordError::Format { .. } = error else { panic!("{error:?}") };
    }
}

#[test]
fn metadata_of_other_programs_survives() {
    let mut record = Record::new();
    for key in ["quant.tensor.w", "quant.method", "foreign.quant.x", "format"] {
        record.insert_metadata(key, "theirs");
    }
    let bytes = record.save_bytes(&recorder()).unwrap();
    assert_eq!(load(&bytes).unwrap(), record);
    // Without a tensor that they could describe, keys like those of this crate are theirs, too.
    for key in ["quant.method", "quant.state.x", "quant.tensor.x"] {
        let foreign = file(&format!(r#"{{"__metadata__":{{"{key}":"theirs"}}}}"#), 0);
        let record = load(&foreign).unwrap();
        assert_eq!(record.metadata()[key], "theirs");
        assert_eq!(load(&record.save_bytes(&recorder()).unwrap()).unwrap(), record);
    }
}

#[test]
fn a_float_state_is_not_read_as_a_parameter() {
    let mut record = Record::new();
    let (id, kind, data) = ("s".into(), "tensor/F32 [1]".into(), vec![0; 4]);
    record.insert_state(quant::record::RecordState { id, kind, data });
    let bytes = record.save_bytes(&recorder()).unwrap();
    assert_eq!(load(&bytes).unwrap(), record);
}

#[test]
fn headers_with_leading_blanks_and_other_fields_are_read() {
    let json =
        " \n{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"extra\":{\"a\":1}}}";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.safetensors");
    std::fs::write(&path, file(json, 4)).unwrap();
    assert_eq!(*quant_formats::open(&path).unwrap().read(0).unwrap().values(), [0.0]);
}

#[test]
fn truncated_and_prolonged_files_are_refused() {
    let whole = of_everything().save_bytes(&recorder()).unwrap();
    for len in 0..whole.len() {
        load(&whole[..len]).expect_err("truncated");
    }
    let mut longer = whole.clone();
    longer.push(0);
    load(&longer).expect_err("prolonged");
}

#[test]
fn a_hundred_thousand_mutations_are_read_or_refused_within_their_size() {
    let whole = of_everything().save_bytes(&recorder()).unwrap();
    let mut random = Random(11);
    let mut read = 0;
    for _ in 0..100_000 {
        let mut mutated = whole.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(mutated.len());
            match random.below(3) {
                0 => mutated[at] = random.bits() as u8,
                1 => mutated[at] ^= 1 << random.below(8),
                _ => mutated.truncate(at + 1),
            }
        }
        read += usize::from(recorder().load(&mut &*mutated, Some(mutated.len() as u64)).is_ok());
    }
    // Changed floats and codes are still floats and codes.
    assert!(read > 0);
}

#[test]
fn tensors_are_written_in_the_order_that_was_declared() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.safetensors");
    let tensor = Tensor::from_values(&[2], vec![1.0, 2.0]).unwrap();
    let manifest =
        || Manifest::new(["a", "b"].map(|name| quant::record::RecordEntry::new(name, [2], None)));
    let mut writer = quant_formats::create(&path, manifest()).unwrap();
    assert!(matches!(
        writer.write("b", &tensor),
        Err(RecordError::Manifest(ManifestError::Unexpected { .. }))
    ));
    writer.write("a", &tensor).unwrap();
    assert!(matches!(writer.finish(), Err(RecordError::Manifest(_))));
    drop(quant_formats::create(&path, manifest()).unwrap());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_stale_index_can_be_ignored_and_a_missing_shard_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (name, tensors) in [("one", ["a", "b"]), ("two", ["b", "c"])] {
        let value = if name == "one" { 1.0 } else { 2.0 };
        let tensor = || Tensor::from_values(&[1], vec![value]).unwrap();
        let record: Record = tensors.map(|name| (name, tensor())).into_iter().collect();
        let path = at(&format!("{name}.safetensors"));
        record.save_file(path, &SafetensorsRecorder::default()).unwrap();
    }
    let index = at("model.safetensors.index.json");
    let list = |map: &str| {
        std::fs::write(&index, format!(r#"{{"weight_map": {{{map}}}}}"#)).unwrap();
    };
    // Lists one that does not exist, and none of two.
    list(r#""a": "one.safetensors", "b": "two.safetensors", "gone": "one.safetensors""#);
    quant_formats::open(&index).unwrap_err();
    let read = quant_formats::open_ignoring_index(&index).unwrap();
    let names: Vec<&str> = read.entries().iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let value = |name: &str| read.read(read.position(name).unwrap()).unwrap().values()[0];
    assert_eq!((value("a"), value("b"), value("c")), (1.0, 2.0, 2.0));

    // Two copies, of which the index names none.
    list(r#""a": "one.safetensors", "c": "two.safetensors""#);
    let error = quant_formats::open_ignoring_index(&index).unwrap_err();
    assert!(chain(&error).contains("b: "), "{error}");

    // Names the wrong shard of each, which does not have it.
    list(r#""a": "two.safetensors", "b": "two.safetensors", "c": "one.safetensors""#);
    let read = quant_formats::open_ignoring_index(&index).unwrap();
    let mut names: Vec<&str> = read.entries().iter().map(|entry| entry.id.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c"]);

    list(r#""a": "one.safetensors", "b": "one.safetensors", "d": "three.safetensors""#);
    for error in [quant_formats::open(&index), quant_formats::open_ignoring_index(&index)] {
        let error = error.unwrap_err();
        assert!(chain(&error).contains("three.safetensors"), "{error}");
    }
}
