//! GGUF: what llama.cpp's tools write is read here, comes back as it was through every other format,
//! and what is not GGUF is refused.

use std::path::{Path, PathBuf};

use quant::record::{LaterState, Manifest, Record, RecordEntry, RecordState, Recorder};
use quant::tensor::FloatType;
use quant::{
    BincodeRecorder, Module, Param, QuantizationScheme, Recipe, RecordError, Rule, Tensor,
};
use quant_formats::{
    CheckpointError, GgufEncoding, GgufError, GgufRecorder, GgufType, Options, Rename, Stored,
};
use tests::mutate::mutate;
use tests::random::Random;
use tests::record::{chain, load_both, native, of_everything};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/types.gguf")
}

fn recorder() -> GgufRecorder {
    GgufRecorder::default()
}

fn load(bytes: &[u8]) -> Result<Record, RecordError> {
    load_both(&recorder(), bytes)
}

fn reason(error: RecordError) -> GgufError {
    match error {
        RecordError::Recorder { source, .. } => *source.downcast().expect("an error of GGUF"),
        other => panic!("not of a recorder: {other:?}"),
    }
}

fn convert(from: &Path, to: &Path) {
    let checkpoint = quant_formats::open(from).unwrap();
    quant_formats::convert(&checkpoint, to, Options::default()).unwrap();
}

/// A record of a float, an integer, blocks and a header with a tokenizer.
fn small() -> Record {
    let mut record = Record::new();
    record.insert("norm.weight", Tensor::from_values(&[3], vec![1.0, -2.5, 0.0]).unwrap());
    record.insert("scalar", Tensor::from_values(&[], vec![7.0]).unwrap());
    for (id, kind, len) in [
        ("positions", "tensor/I64 [1, 2]", 16),
        ("down.weight", "tensor/Q4_K [2, 256]", 288),
        ("up.weight", "tensor/Q8_0 [1, 64]", 68),
    ] {
        let data = (0..len).map(|i| (i * 7) as u8 & 0x3F).collect();
        record.insert_state(RecordState { id: id.into(), kind: kind.into(), data });
    }
    record.insert_state(RecordState {
        id: "gguf.header".into(),
        kind: "gguf/header".into(),
        data: header(),
    });
    record
}

/// A header with a scalar, a string, an array of strings, and names in an order of their own.
fn header() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(2u64.to_le_bytes());
    bytes.extend(4u64.to_le_bytes());
    bytes.extend([text("general.file_type"), vec![4, 0, 0, 0, 15, 0, 0, 0]].concat());
    bytes.extend([text("general.name"), vec![8, 0, 0, 0], text("small")].concat());
    bytes.extend([text("block_count"), vec![4, 0, 0, 0, 9, 0, 0, 0]].concat());
    bytes.extend([text("tokens"), vec![9, 0, 0, 0, 8, 0, 0, 0]].concat());
    bytes.extend([2u64.to_le_bytes().to_vec(), text("a"), text("\u{2581}b")].concat());
    for (name, offset) in [("down.weight", 0u64), ("norm.weight", 288)] {
        bytes.extend(
            [text(name), 1u32.to_le_bytes().to_vec(), 3u64.to_le_bytes().to_vec()].concat(),
        );
        bytes.extend([0u32.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()].concat());
    }
    bytes
}

/// A GGUF file with the content of [`small`].
fn small_file(directory: &Path) -> PathBuf {
    let (record, file) = (directory.join("small.quant"), directory.join("small.gguf"));
    small().save_file(&record, &BincodeRecorder::default()).unwrap();
    convert(&record, &file);
    file
}

#[test]
fn a_file_comes_back_byte_for_byte_through_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let small = small_file(directory.path());
    for file in [&small, &golden()] {
        let bytes = std::fs::read(file).unwrap();
        for between in ["a.gguf", "a.quant", "a.safetensors", "a.json"] {
            convert(file, &at(between));
            convert(&at(between), &at("b.gguf"));
            assert!(std::fs::read(at("b.gguf")).unwrap() == bytes, "{between}");
        }
    }
}

#[test]
fn metadata_is_read_as_text_and_written_with_its_types() {
    let checkpoint = quant_formats::open(golden()).unwrap();
    let metadata = checkpoint.metadata();
    for (key, value) in [
        ("general.architecture", "golden"),
        ("value.uint8", "255"),
        ("value.int64", "9223372036854775807"),
        ("value.float32", "0.00001"),
        ("value.bool", "true"),
        ("value.string", "a line\nand another"),
    ] {
        assert_eq!(metadata[key], value, "{key}");
    }
    assert!(!metadata.contains_key("array.ints"), "arrays may be long");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.gguf");
    let manifest = |key: &str, value: &str| {
        let record = small();
        let states = record.states().to_vec();
        Manifest::new([]).states(states).metadata([(key.to_owned(), value.to_owned())])
    };
    // A value that has changed keeps its type; a new one is a string.
    for (key, value) in [("block_count", "12"), ("general.name", "other"), ("author", "me")] {
        quant_formats::create(&path, manifest(key, value)).unwrap().finish().unwrap();
        assert_eq!(quant_formats::open(&path).unwrap().metadata()[key], value);
    }
    for (key, ty) in [("block_count", "u32"), ("tokens", "array")] {
        let error = quant_formats::create(&path, manifest(key, "many")).err().unwrap();
        assert_eq!(reason(error), GgufError::Metadata { key: key.into(), ty });
    }
}

#[test]
fn tensors_keep_the_order_of_the_file_that_they_come_from() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(small_file(directory.path())).unwrap();
    let position = |name: &str| bytes.windows(name.len()).position(|it| it == name.as_bytes());
    // Those of the header first, in its order; then the others.
    assert!(position("down.weight") < position("norm.weight"));
    assert!(position("norm.weight") < position("positions"));
}

#[test]
fn blocks_are_tensors_that_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let file = small_file(directory.path());
    for other in ["a.quant", "a.safetensors", "a.json", "small.gguf"] {
        if other != "small.gguf" {
            convert(&file, &at(other));
        }
        let checkpoint = quant_formats::open(at(other)).unwrap();
        let position = checkpoint.position("down.weight").unwrap();
        let entry = &checkpoint.entries()[position];
        assert_eq!((&*entry.shape, entry.bytes), (&[2, 256][..], 288), "{other}");
        assert_eq!((entry.stored, entry.scheme()), (Stored::Blocks(GgufType::Q4_K), None));
        assert_eq!(entry.stored.to_string(), "Q4_K");
        let values = checkpoint.read(position).unwrap().values().to_vec();
        // The scale is 0x0700 times 28, the minimum 0x150E times 56, and the first code 0.
        assert_eq!((values.len(), values[0]), (512, -56.0 * 0.0012340546), "{other}");
        checkpoint.verify(position).unwrap();
        let states: Vec<_> = checkpoint.state_entries().into_iter().map(|it| it.id).collect();
        assert_eq!(states.len(), 2, "{other}: {states:?}");
        assert_eq!(checkpoint.states().unwrap().len(), 2, "{other}");
    }
}

#[test]
fn dequantizing_makes_every_block_float() {
    let directory = tempfile::tempdir().unwrap();
    let (file, to) = (small_file(directory.path()), directory.path().join("floats.gguf"));
    let checkpoint = quant_formats::open(&file).unwrap();
    quant_formats::dequantize(&checkpoint, &to, Options::default()).unwrap();
    let floats = quant_formats::open(&to).unwrap();
    assert_eq!(checkpoint.metadata()["general.file_type"], "15");
    assert_eq!(floats.metadata()["general.file_type"], "0");
    assert_eq!(floats.entries().len(), 4);
    for (position, entry) in floats.entries().iter().enumerate() {
        assert_eq!(entry.stored, Stored::F32);
        let other = checkpoint.position(entry.id.as_str()).unwrap();
        assert_eq!(floats.read(position).unwrap(), checkpoint.read(other).unwrap().dequantize());
    }
}

#[test]
fn blocks_are_quantized_again_only_if_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let (file, to) = (small_file(directory.path()), directory.path().join("int8.quant"));
    let checkpoint = quant_formats::open(&file).unwrap();
    let recipe = Recipe::new().scheme("per-tensor-symmetric-int8".parse().unwrap());
    let mut options = Options::default();
    let error = quant_formats::quantize(&checkpoint, &recipe, &to, options).unwrap_err();
    assert!(matches!(error, CheckpointError::NothingToQuantize { tensors: 4, quantized: 2 }));
    assert!(error.to_string().ends_with("; 2 are quantized already"));
    let error =
        quant_formats::quantize_to_blocks(&checkpoint, GgufEncoding::Q8_0, &recipe, &to, options);
    assert!(matches!(error, Err(CheckpointError::NothingToQuantize { .. })));
    // The plan is about floats, and about codes that a scheme describes.
    assert_eq!(quant_formats::plan(&checkpoint, &recipe, options).unwrap().params().len(), 3);

    options.requantize = true;
    let plan = quant_formats::quantize(&checkpoint, &recipe, &to, options).unwrap();
    assert_eq!(plan.params().len(), 4);
    let quantized = quant_formats::open(&to).unwrap();
    let count = quantized.entries().iter().filter(|it| it.scheme().is_some()).count();
    assert_eq!(count, 2);

    // Those that a rule keeps stay as they are.
    let recipe = recipe.rule(Rule::keep("down.weight"));
    let plan = quant_formats::plan(&checkpoint, &recipe, options).unwrap();
    assert_eq!(plan.params().len(), 3);
    let to = directory.path().join("q8.gguf");
    let encoded =
        quant_formats::quantize_to_blocks(&checkpoint, GgufEncoding::Q8_0, &recipe, &to, options)
            .unwrap();
    assert_eq!((encoded.quantized, encoded.tensors), (1, 4));
    assert_eq!(quant_formats::open(&to).unwrap().metadata()["general.file_type"], "7");
    let stored = |name: &str| {
        let checkpoint = quant_formats::open(&to).unwrap();
        checkpoint.entries()[checkpoint.position(name).unwrap()].stored
    };
    assert_eq!(stored("down.weight"), Stored::Blocks(GgufType::Q4_K));
    assert_eq!(Some(stored("up.weight")), GgufType::Q8_0.scheme().map(Stored::Quantized));
}

#[test]
fn codes_that_a_scheme_describes_are_quantized_tensors() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let file = small_file(directory.path());
    let read = |path: &Path| {
        let checkpoint = quant_formats::open(path).unwrap();
        let position = checkpoint.position("up.weight").unwrap();
        (checkpoint.entries()[position].clone(), checkpoint.read(position).unwrap())
    };
    let (entry, tensor) = read(&file);
    assert_eq!((entry.gguf_type, entry.bytes), (Some(GgufType::Q8_0), 68));
    assert_eq!(entry.scheme(), GgufType::Q8_0.scheme());
    let quantized = tensor.quantized().unwrap();
    // The scale is 0x0700, the first code 14.
    assert_eq!((quantized.scales()[0], quantized.codes()[0]), (0.00010681152, 14));
    for name in ["a.quant", "a.safetensors", "a.json"] {
        convert(&file, &at(name));
        let (entry, same) = read(&at(name));
        assert_eq!((entry.gguf_type, entry.scheme()), (None, GgufType::Q8_0.scheme()), "{name}");
        assert_eq!(same, tensor, "{name}");
    }
    // Schemes of the same blocks are written, too, and read as the ones above.
    let (from, to) = (at("symmetric.quant"), at("symmetric.gguf"));
    let values = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
    Record::from_iter([("w", Tensor::from_values(&[2, 32], values).unwrap())])
        .quantize_weights(
            Recipe::new().scheme("per-block-symmetric-int4:scale=f16".parse().unwrap()),
        )
        .unwrap()
        .save_file(&from, &BincodeRecorder::default())
        .unwrap();
    convert(&from, &to);
    let values = |path: &Path| quant_formats::open(path).unwrap().read(0).unwrap().dequantize();
    assert_eq!(values(&to), values(&from));
    assert_eq!(quant_formats::open(&to).unwrap().entries()[0].gguf_type, Some(GgufType::Q4_0));
}

#[test]
fn scales_that_are_not_finite_are_errors_with_the_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.gguf");
    let data = vec![0xFF; 34];
    let kind = "tensor/Q8_0 [1, 32]".into();
    let manifest = Manifest::new([]).states([RecordState { id: "w".into(), kind, data }]);
    quant_formats::create(&path, manifest).unwrap().finish().unwrap();
    let error = quant_formats::open(&path).unwrap().read(0).unwrap_err();
    assert!(chain(&error).contains("w: "), "{}", chain(&error));
}

#[test]
fn rows_without_whole_blocks_stay_float_and_are_listed() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.quant"), directory.path().join("b.gguf"));
    let zeros = |shape: &[usize]| Tensor::from_values(shape, vec![0.0; shape.iter().product()]);
    let mut record = Record::new();
    record.insert("ragged", zeros(&[2, 33]).unwrap());
    record.insert("whole", zeros(&[2, 64]).unwrap());
    record.insert("vector", zeros(&[64]).unwrap());
    record.save_file(&from, &BincodeRecorder::default()).unwrap();
    let checkpoint = quant_formats::open(&from).unwrap();
    let recipe = Recipe::new().scheme("per-tensor-symmetric-int8".parse().unwrap());
    let encode = |to: &Path| {
        let (encoding, options) = (GgufEncoding::Q4_0, Options::default());
        quant_formats::quantize_to_blocks(&checkpoint, encoding, &recipe, to, options)
    };
    let encoded = encode(&to).unwrap();
    assert_eq!((encoded.quantized, encoded.tensors), (1, 3));
    assert_eq!(encoded.ragged, ["ragged"]);
    assert_eq!((encoded.bytes_before, encoded.bytes_after), (4 * (66 + 128 + 64), 4 * 130 + 72));
}

#[test]
fn values_that_blocks_cannot_hold_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.quant"), directory.path().join("b.gguf"));
    for value in [f32::INFINITY, 1e30] {
        let mut values = vec![0.0; 64];
        values[40] = value;
        let tensor = Tensor::from_values(&[2, 32], values).unwrap();
        Record::from_iter([("w", tensor)]).save_file(&from, &BincodeRecorder::default()).unwrap();
        let checkpoint = quant_formats::open(&from).unwrap();
        let recipe = Recipe::new().scheme("per-tensor-symmetric-int8".parse().unwrap());
        let (encoding, options) = (GgufEncoding::Q8_0, Options::default());
        let error = quant_formats::quantize_to_blocks(&checkpoint, encoding, &recipe, &to, options);
        let Err(CheckpointError::Record(error)) = error else { panic!("{error:?}") };
        let (id, ty) = ("w".into(), GgufType::Q8_0);
        assert_eq!(reason(error), GgufError::Value { id, index: 40, value, ty });
        assert!(!to.exists());
    }
}

#[test]
fn a_model_is_loaded_by_renaming_rules_and_saved() {
    #[derive(Module)]
    struct Layer {
        down: Param<[[f32; 256]; 2]>,
        norm: Param<[f32; 3]>,
    }

    let directory = tempfile::tempdir().unwrap();
    let file = small_file(directory.path());
    let rename = Rename::new()
        .omit("up.weight")
        .omit("scalar")
        .omit("positions")
        .replace(r"\.weight$", "")
        .unwrap();
    let layer = Layer { down: Param::new([[0.0; 256]; 2]), norm: Param::new([0.0; 3]) };
    let layer = layer.load_file(&file, &recorder().rename(rename)).unwrap();
    assert_eq!(*layer.norm.value(), [1.0, -2.5, 0.0]);
    let checkpoint = quant_formats::open(&file).unwrap();
    let down = checkpoint.read(checkpoint.position("down.weight").unwrap()).unwrap();
    assert_eq!(*layer.down.value().as_flattened(), *down.values());

    let bytes = layer.save_bytes(&recorder().metadata("general.name", "layer")).unwrap();
    let saved = load(&bytes).unwrap();
    assert_eq!(saved.metadata()["general.name"], "layer");
    assert_eq!(*saved.get("norm").unwrap().values(), [1.0, -2.5, 0.0]);
    assert_eq!(saved.get("down").unwrap().shape(), [2, 256]);
}

#[test]
fn a_file_written_one_tensor_at_a_time_has_the_recorder_s_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.quant"), directory.path().join("b.gguf"));
    let mut record = Record::new();
    record.insert_metadata("format", "pt");
    record.insert("a", Tensor::from_values(&[2, 3], vec![1.0; 6]).unwrap());
    record.insert("b", Tensor::from_values(&[0, 4], vec![]).unwrap());
    let data = vec![7; 16];
    record.insert_state(RecordState { id: "i".into(), kind: "tensor/I64 [2]".into(), data });
    record.save_file(&from, &BincodeRecorder::default()).unwrap();
    convert(&from, &to);
    let bytes = std::fs::read(&to).unwrap();
    assert!(bytes == record.save_bytes(&recorder()).unwrap());
    assert!(native(&load(&bytes).unwrap()) == native(&record));
}

#[test]
fn what_the_format_cannot_hold_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.gguf");
    let entry = |name: &str, shape: &[usize]| RecordEntry::new(name, shape, FloatType::F32);
    let state = |id: &str, kind: &str, len: usize| RecordState {
        id: id.into(),
        kind: kind.into(),
        data: vec![0; len],
    };
    let long = "x".repeat(64);
    let int8 = RecordEntry::new(
        "w",
        [2, 32],
        "per-tensor-symmetric-int8".parse::<QuantizationScheme>().ok(),
    );
    let q8_0 = "q8_0".parse::<QuantizationScheme>().ok();
    let ragged = RecordEntry::new("w", [2, 33], q8_0);
    let no_type =
        |id: &str, stored: &str| GgufError::NoType { id: id.into(), stored: stored.into() };
    let mut longer = header();
    longer.push(0);
    for (manifest, expected) in [
        (Manifest::new([int8]), no_type("w", "per-tensor-symmetric-int8")),
        (Manifest::new([ragged]), GgufError::Row { id: "w".into(), row: 33, ty: GgufType::Q8_0 }),
        (Manifest::new([]).states([state("s", "histogram/1", 3)]), no_type("s", "histogram/1")),
        (
            Manifest::new([]).states([state("s", "tensor/BOOL [3]", 3)]),
            no_type("s", "tensor/BOOL [3]"),
        ),
        (
            Manifest::new([]).later_states([LaterState {
                id: "s".into(),
                kind: "tensor/I64 [3]".into(),
                len: 23,
            }]),
            no_type("s", "tensor/I64 [3]"),
        ),
        (
            Manifest::new([entry(&long, &[1])]),
            GgufError::NameTooLong { id: long.as_str().into(), limit: 63 },
        ),
        (Manifest::new([entry("w", &[1; 5])]), GgufError::Rank { id: "w".into(), rank: 5 }),
        (
            Manifest::new([entry("w", &[usize::MAX, 2])]),
            GgufError::Shape { id: "w".into(), shape: vec![u64::MAX, 2] },
        ),
        (
            Manifest::new([entry("w", &[1])]).states([state("w", "tensor/I8 [1]", 1)]),
            GgufError::DuplicateName { id: "w".into() },
        ),
        (
            Manifest::new([]).states([RecordState {
                id: "gguf.header".into(),
                kind: "gguf/header".into(),
                data: longer,
            }]),
            GgufError::HeaderState {
                len: header().len() as u64 + 1,
                expected: header().len() as u64,
            },
        ),
    ] {
        let error = quant_formats::create(&path, manifest).err().unwrap();
        assert_eq!(reason(error), expected);
    }
    let long = Manifest::new([]).metadata([("k".to_owned(), "x".repeat(100_000_000))]);
    let error = quant_formats::create(&path, long).err().unwrap();
    assert_eq!(reason(error), GgufError::HeaderTooLong { limit: 100_000_000 });
    assert!(!path.exists());
    // Quantized schemes of this project have no blocks.
    let error = of_everything().save_bytes(&recorder()).unwrap_err();
    assert!(chain(&error).ends_with("GGUF has no type for per-tensor-symmetric-int8"));
}

#[test]
fn later_states_are_written_in_the_order_that_was_declared() {
    let directory = tempfile::tempdir().unwrap();
    let tensor = Tensor::from_values(&[1], vec![1.0]).unwrap();
    let later = |name: &str| LaterState { id: name.into(), kind: "tensor/I8 [2]".into(), len: 2 };
    for name in ["a.gguf", "a.quant", "a.safetensors", "a.json"] {
        let path = directory.path().join(name);
        let manifest =
            Manifest::new([RecordEntry::of("w", &tensor)]).later_states(["s", "t"].map(later));
        let mut writer = quant_formats::create(&path, manifest).unwrap();
        let said = |result: Result<(), RecordError>| chain(&result.unwrap_err());
        assert!(said(writer.write_state("s", &[1, 2])).ends_with("w: declared, but not written"));
        writer.write("w", &tensor).unwrap();
        let order = said(writer.write_state("t", &[1, 2]));
        assert!(order.ends_with("t: written where s was declared"), "{order}");
        let len = said(writer.write_state("s", &[1]));
        assert!(len.ends_with("s: 1 bytes, declared with 2"), "{len}");
        writer.write_state("s", &[1, 2]).unwrap();
        writer.write_state("t", &[3, 4]).unwrap();
        let end = said(writer.write_state("u", &[]));
        assert!(end.ends_with("u: written after the last declared state"), "{end}");
        writer.finish().unwrap();
        let states = quant_formats::open(&path).unwrap().states().unwrap();
        let data = |name: &str| {
            states.iter().find(|state| state.id.as_str() == name).unwrap().data.clone()
        };
        assert_eq!((data("s"), data("t")), (vec![1, 2], vec![3, 4]), "{name}");

        let manifest = Manifest::new([]).later_states(["s"].map(later));
        let writer = quant_formats::create(&path, manifest).unwrap();
        assert!(said(writer.finish()).ends_with("s: declared, but not written"));
    }
}

#[test]
fn truncated_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = std::fs::read(small_file(directory.path())).unwrap();
    load(&whole).unwrap();
    // The padding after the last tensor may be missing.
    let last = whole.len() - whole.len() % 32 - 1;
    for len in (0..whole.len()).filter(|&len| len + 32 <= last) {
        load(&whole[..len]).expect_err("truncated");
    }
}

#[test]
fn a_hundred_thousand_mutations_are_read_or_refused_within_their_size() {
    let directory = tempfile::tempdir().unwrap();
    let whole = std::fs::read(small_file(directory.path())).unwrap();
    let mut random = Random(11);
    let mut read = 0;
    for _ in 0..100_000 {
        let mut mutated = whole.clone();
        for _ in 0..1 + random.below(3) {
            // Most of the file is data, in which nothing can go wrong.
            mutate(&mut mutated, 600, &[0, 1, 4, 8, 9, 12, 32, 255], &mut random);
        }
        read += usize::from(recorder().load(&mut &*mutated, Some(mutated.len() as u64)).is_ok());
    }
    assert!(read > 0);
}

/// A header that says that its file is one of `count`.
fn split_header(no: u16, count: u16) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(3u64.to_le_bytes());
    bytes.extend([text("general.name"), vec![8, 0, 0, 0], text("split")].concat());
    for (key, value) in [("split.no", no), ("split.count", count)] {
        bytes.extend([text(key), vec![2, 0, 0, 0], value.to_le_bytes().to_vec()].concat());
    }
    bytes
}

#[test]
fn a_split_file_is_read_as_one() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let write = |path: &Path, no: u16, count: u16| {
        let state = |id: &str, kind: &str, data: Vec<u8>| RecordState {
            id: id.into(),
            kind: kind.into(),
            data,
        };
        let blocks = state(&format!("q{no}"), "tensor/Q4_K [1, 256]", vec![no as u8 + 1; 144]);
        let header = state("gguf.header", "gguf/header", split_header(no, count));
        let tensor = Tensor::from_values(&[3], vec![f32::from(no); 3]).unwrap();
        let name = format!("f{no}");
        let manifest = Manifest::new([RecordEntry::of(&*name, &tensor)]);
        let manifest = manifest.states([header, blocks]);
        let mut writer = quant_formats::create(path, manifest).unwrap();
        writer.write(&name, &tensor).unwrap();
        writer.finish().unwrap();
    };
    let (first, second) = (at("m-00001-of-00002.gguf"), at("m-00002-of-00002.gguf"));
    write(&first, 0, 2);
    write(&second, 1, 2);
    for path in [&first, &second] {
        let checkpoint = quant_formats::open(path).unwrap();
        let names: Vec<_> = checkpoint.entries().iter().map(|it| it.id.as_str()).collect();
        assert_eq!(names, ["f0", "f1", "q0", "q1"]);
        assert_eq!(checkpoint.files().collect::<Vec<_>>(), [&first, &second]);
        assert_eq!(*checkpoint.read(1).unwrap().values(), [1.0; 3]);
        assert_eq!(checkpoint.metadata().keys().collect::<Vec<_>>(), ["general.name"]);
    }
    convert(&first, &at("one.gguf"));
    let one = std::fs::read(at("one.gguf")).unwrap();
    let position = |name: &str| one.windows(2).position(|it| it == name.as_bytes());
    // The order of the files, of which each had its float first.
    let order = ["f0", "q0", "f1", "q1"].map(position);
    assert!(order.is_sorted() && order[0].is_some(), "{order:?}");
    assert_eq!(quant_formats::open(at("one.gguf")).unwrap().entries().len(), 4);

    let error = |path: &Path| reason(quant_formats::open(path).unwrap_err());
    write(&second, 1, 3);
    assert_eq!(error(&first), GgufError::SplitCount { found: 3, expected: 2 });
    write(&at("other.gguf"), 0, 2);
    assert_eq!(error(&at("other.gguf")), GgufError::SplitName { count: 2 });
    std::fs::remove_file(&second).unwrap();
    let RecordError::Io { path, .. } = quant_formats::open(&first).unwrap_err() else { panic!() };
    assert_eq!(path, Some(second));
}
