//! Equal tensors of a checkpoint are stored once in a record, and come back under all their names.

use std::fs;
use std::path::Path;

use quant::quantize::Reason;
use quant::record::{
    Manifest, Record, RecordEntry, RecordFile, RecordFormatError, RecordVersion, RecordWriter,
};
use quant::{BincodeRecorder, Module, Param, Recipe, RecordError, Rule, Tensor};
use quant_formats::{Checkpoint, Options, SafetensorsRecorder};
use tests::random::Random;
use tests::record::chain;

const INT8: &str = "per-channel-symmetric-int8";

#[derive(Module)]
struct Tied {
    embed: Param<Vec<f32>>,
    body: Param<Vec<f32>>,
    head: Param<Vec<f32>>,
}

fn matrix(seed: u64) -> Tensor {
    let mut random = Random(seed);
    let values = (0..64 * 48).map(|_| random.unit() - 0.5).collect();
    Tensor::from_values(&[64, 48], values).unwrap()
}

/// A file in which `head` is equal to `embed`, and `body` is not.
fn tied(directory: &Path) -> Checkpoint {
    let path = directory.join("tied.safetensors");
    let tensors = [("embed", 1), ("body", 2), ("head", 1), ("other.head", 3)];
    let record: Record = tensors.map(|(name, seed)| (name, matrix(seed))).into_iter().collect();
    record.save_file(&path, &SafetensorsRecorder::default()).unwrap();
    quant_formats::open(path).unwrap()
}

fn recipe() -> Recipe {
    Recipe::new().scheme(INT8.parse().unwrap())
}

#[test]
fn equal_tensors_are_stored_once_and_found_under_both_names() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (tied(directory.path()), directory.path().join("a.quant"));
    let plan = quant_formats::quantize(&from, &recipe(), &to, Options::default()).unwrap();
    assert_eq!(quant_formats::plan(&from, &recipe(), Options::default()).unwrap(), plan);
    let param = |name: &str| plan.params().iter().find(|it| it.id == *name).unwrap();
    assert_eq!(param("head").reason, Reason::EqualTo { id: "embed".into() });
    assert_eq!((param("head").bytes_after, param("embed").bytes_after), (0, 64 * 48 + 64 * 4));
    assert_eq!(param("head").expected, param("embed").expected);
    assert_eq!(plan.params().len(), 4);
    assert!(fs::metadata(&to).unwrap().len() < 4 * 64 * 48, "three of four are stored");

    let read = quant_formats::open(&to).unwrap();
    let tensor = |name: &str| read.read(read.position(name).unwrap()).unwrap();
    assert_eq!(read.entries().len(), 4);
    assert_eq!(tensor("head"), tensor("embed"));
    assert_ne!(tensor("head"), tensor("body"));
    assert!(read.metadata().is_empty(), "{:?}", read.metadata());
    RecordFile::open(&to).unwrap().verify_all().unwrap();

    let empty = || Tensor::from_values(&[0], vec![]).unwrap();
    let mut whole = BincodeRecorder::default().load_bytes(&fs::read(&to).unwrap());
    assert_eq!(whole.get("head"), whole.get("embed"));
    assert_eq!(whole.insert("other.head", empty()).unwrap().shape(), [64, 48]);
}

trait LoadBytes {
    fn load_bytes(&self, bytes: &[u8]) -> Record;
}

impl LoadBytes for BincodeRecorder {
    fn load_bytes(&self, bytes: &[u8]) -> Record {
        use quant::record::Recorder;
        self.load(&mut &*bytes, Some(bytes.len() as u64)).unwrap()
    }
}

#[test]
fn a_struct_with_both_fields_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join("a.quant");
    let path = directory.path().join("tied.safetensors");
    let values = |seed| Param::new(matrix(seed).into_values());
    let model = Tied { embed: values(1), body: values(2), head: values(1) };
    model.save_file(&path, &SafetensorsRecorder::default()).unwrap();
    let from = quant_formats::open(&path).unwrap();
    let rule = Rule::quantize("{embed,head}", "per-tensor-symmetric-int8".parse().unwrap());
    quant_formats::quantize(&from, &Recipe::new().rule(rule), &to, Options::default()).unwrap();
    assert!(fs::metadata(&to).unwrap().len() < (64 * 48) * 5 + 2048);

    let zeros = || Param::new(vec![0.0; 64 * 48]);
    let fresh = Tied { embed: zeros(), body: zeros(), head: zeros() };
    let loaded = fresh.load_file(&to, &BincodeRecorder::default()).unwrap();
    assert!(loaded.embed.is_quantized() && loaded.head.is_quantized());
    assert_eq!(loaded.head.quantized(), loaded.embed.quantized());
    assert_eq!(*loaded.body.value(), matrix(2).into_values());
}

#[test]
fn other_formats_and_other_decisions_keep_both() {
    let directory = tempfile::tempdir().unwrap();
    let from = tied(directory.path());
    let at = |name: &str| directory.path().join(name);
    // A copy of a copy has both again, and a record of that stores one.
    quant_formats::convert(&from, at("a.quant"), Options::default()).unwrap();
    quant_formats::convert(
        &quant_formats::open(at("a.quant")).unwrap(),
        at("b.quant"),
        Options::default(),
    )
    .unwrap();
    assert_eq!(fs::read(at("a.quant")).unwrap(), fs::read(at("b.quant")).unwrap());
    let back = quant_formats::open(at("b.quant")).unwrap();
    quant_formats::convert(&back, at("b.safetensors"), Options::default()).unwrap();
    let bytes = fs::read(at("b.safetensors")).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("head").unwrap(), read.tensor("embed").unwrap());

    for rule in [
        Rule::keep("head"),
        Rule::quantize("head", INT8.parse().unwrap()).calibration("mse".parse().unwrap()),
    ] {
        let to = at("c.quant");
        quant_formats::quantize(&from, &recipe().rule(rule), &to, Options::default()).unwrap();
        assert_eq!(fs::read(&to).unwrap()[8], 1, "nothing of version 2");
    }
    let mut sharded = Options::default();
    sharded.max_shard_size = Some(20_000);
    quant_formats::convert(&from, at("d.quant"), sharded).unwrap();
    assert_eq!(quant_formats::open(at("d.quant")).unwrap().entries().len(), 4);
}

/// The error of writing a record of `embed` with these other names, and nothing is written.
fn refused(aliases: &[(&str, &str)], version: Option<RecordVersion>) -> RecordFormatError {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.quant");
    let manifest = Manifest::new([RecordEntry::new("embed", [64, 48], None)]).version(version);
    let manifest = aliases.iter().fold(manifest, |manifest, (id, of)| manifest.alias(*id, *of));
    let Err(error) = RecordWriter::create(&path, manifest) else { panic!("refused") };
    assert!(!path.exists());
    match error {
        RecordError::Format { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn aliases_that_a_reader_would_refuse_are_not_written() {
    let error = refused(&[("head", "none")], None);
    assert!(matches!(error, RecordFormatError::Alias { .. }), "{error:?}");
    assert_eq!(error.to_string(), "head: another name of `none`, which is missing");
    let error = refused(&[("embed", "embed")], None);
    assert!(matches!(error, RecordFormatError::DuplicateName { .. }), "{error:?}");
    // Another name of another name.
    let error = refused(&[("a", "embed"), ("b", "a")], None);
    assert!(matches!(error, RecordFormatError::Alias { .. }), "{error:?}");
    // A small file that would fill the memory.
    let error = refused(&[("a", "embed"), ("b", "embed")], None);
    assert!(matches!(error, RecordFormatError::AliasBytes { .. }), "{error:?}");
    let error = refused(&[("a", "embed")], Some(RecordVersion::V1));
    assert!(matches!(error, RecordFormatError::NewerVersion { .. }), "{error:?}");
    assert!(chain(&error).starts_with("a: "), "{error}");
}

#[test]
fn a_damaged_target_of_an_alias_is_an_error_of_the_header() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.quant");
    let manifest = Manifest::new([RecordEntry::new("embed", [64, 48], None)]);
    let mut writer = RecordWriter::create(&path, manifest.alias("head", "embed")).unwrap();
    writer.write("embed", &matrix(1)).unwrap();
    writer.finish().unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes[8], 2);
    for at in 0..200 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        RecordFile::open(&path).unwrap_err();
    }
}
