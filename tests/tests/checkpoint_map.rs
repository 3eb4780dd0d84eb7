//! Checkpoints that are mapped into memory: the same tensors as those that are read, of which floats
//! borrow from the files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use quant::record::{Record, Recorder};
use quant::tensor::{FloatType, SharedTensor};
use quant::{BincodeRecorder, Module, Param, Recipe, Tensor};
use quant_formats::{Checkpoint, GgufRecorder, Inputs, JsonRecorder, Options, SafetensorsRecorder};

fn open_mapped(path: &Path) -> Checkpoint {
    // SAFETY: the tests do not change their files in place.
    unsafe { quant_formats::open_mapped(path) }.unwrap()
}

fn half(shape: &[usize], ty: FloatType) -> Tensor {
    let bits = (0..shape.iter().product()).map(|bits: usize| bits as u16).collect();
    SharedTensor::from_half_bits(shape, ty, bits).unwrap().into()
}

/// Floats of every type, and codes.
fn record() -> Record {
    let floats = |shape: &[usize]| {
        let count = shape.iter().product();
        let values = (0..count).map(|i: usize| (i as f32 - 9.0) / 7.0).collect();
        Tensor::from_values(shape, values).unwrap()
    };
    let mut record = Record::new();
    record.insert("layers.0.norm.weight", floats(&[3]));
    record.insert("layers.0.q_proj.weight", floats(&[6, 32]));
    record.insert("layers.1.q_proj.weight", half(&[2, 32], FloatType::Bf16));
    record.insert("layers.2.q_proj.weight", half(&[5, 32], FloatType::F16));
    let recipe = Recipe::new().scheme("per-block-full-range-int8:scale=f16".parse().unwrap());
    record.insert("layers.0.up_proj.weight", floats(&[4, 64]).quantize_weights(&recipe).unwrap());
    record
}

/// A file of each format, and shards.
fn files(directory: &Path) -> Vec<PathBuf> {
    let path = |name: &str| directory.join(name);
    let record = record();
    let save =
        |name: &str, recorder: &dyn Recorder| record.save_file(path(name), recorder).unwrap();
    save("one.quant", &BincodeRecorder::default());
    save("shards.quant", &BincodeRecorder::default().max_shard_size(500));
    save("one.safetensors", &SafetensorsRecorder::default());
    save("one.gguf", &GgufRecorder::default());
    save("one.json", &JsonRecorder::default());
    let folder = path("folder");
    let from = quant_formats::open(path("one.safetensors")).unwrap();
    let mut options = Options::default();
    options.max_shard_size = Some(500);
    quant_formats::convert_folder(&from, Inputs::Float, &folder, options).unwrap();
    let mut files: Vec<_> =
        ["one.quant", "shards.quant", "one.safetensors", "one.gguf", "one.json"].map(path).into();
    files.push(folder);
    files
}

#[test]
fn mapped_tensors_equal_those_that_are_read() {
    let directory = tempfile::tempdir().unwrap();
    for path in files(directory.path()) {
        let (read, mapped) = (quant_formats::open(&path).unwrap(), open_mapped(&path));
        assert_eq!(mapped.entries(), read.entries(), "{path:?}");
        assert_eq!(mapped.states().unwrap(), read.states().unwrap());
        for (index, entry) in read.entries().iter().enumerate() {
            assert_eq!(
                mapped.read(index).unwrap(),
                read.read(index).unwrap(),
                "{path:?}: {entry:?}"
            );
        }
    }
}

#[test]
fn a_model_borrows_its_floats_from_the_files() {
    let directory = tempfile::tempdir().unwrap();
    for path in files(directory.path()) {
        let mapped = open_mapped(&path);
        let zeros = |tensor: &Tensor| {
            Param::new(
                SharedTensor::new(tensor.shape(), vec![0.0; tensor.element_count()]).unwrap(),
            )
        };
        let model: BTreeMap<String, Param<SharedTensor>> =
            record().iter().map(|(id, tensor)| (id.to_string(), zeros(tensor))).collect();
        let model = mapped.load_into(model).unwrap();
        drop(mapped);
        let is_file = path.extension().is_none_or(|extension| extension != "json");
        for (name, param) in &model {
            let borrows = param.as_float().map(SharedTensor::is_borrowed);
            assert_eq!(
                borrows,
                (name != "layers.0.up_proj.weight").then_some(is_file),
                "{path:?}: {name}"
            );
            assert_eq!(param.value().values(), record().get(name).unwrap().values());
        }
    }
}

#[test]
fn mapped_checkpoints_are_rewritten_with_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let recipe = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
    for path in files(directory.path()) {
        let write = |name: &str, from: &Checkpoint| {
            let to = directory.path().join(name);
            // Pieces of few rows.
            let mut options = Options::default();
            // JSON, which is read whole, counts as memory.
            let is_json = path.extension().is_some_and(|extension| extension == "json");
            options.max_memory = (!is_json).then_some((24 << 20) + 4096);
            options.requantize = true;
            quant_formats::quantize(from, &recipe, &to, options).unwrap();
            fs::read(to).unwrap()
        };
        let read = write("read.out.quant", &quant_formats::open(&path).unwrap());
        assert!(read == write("mapped.out.quant", &open_mapped(&path)), "{path:?}");
    }
}

#[test]
fn floats_that_are_not_aligned_are_copied() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.safetensors");
    let header = br#"{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]}}"#;
    let len = (header.len() as u64).to_le_bytes();
    let values = [0x80, 0x3F, 0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0];
    fs::write(&path, [&len[..], header, &values].concat()).unwrap();
    let mapped = open_mapped(&path);
    for (index, expected) in [(0, &[1.0][..]), (1, &[1.0, -2.0])] {
        let tensor = mapped.read(index).unwrap();
        assert_eq!(*tensor.values(), *expected);
    }
}

#[test]
fn errors_of_a_mapped_file_name_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.gguf");
    fs::write(&path, b"GGUF").unwrap();
    // SAFETY: as above.
    let error = unsafe { quant_formats::open_mapped(&path) }.unwrap_err();
    assert_eq!(error.to_string(), quant_formats::open(&path).unwrap_err().to_string());
    assert!(error.to_string().contains("m.gguf"), "{error}");
}
