//! Compatibility with version 1: the committed record loads, is written again byte for byte, and is
//! read by a reader in another language.
//!
//! `QUANT_BLESS=1` rewrites the fixture, which is only right before a version is released.

use std::path::{Path, PathBuf};
use std::process::Command;

use quant::record::{Manifest, Record, RecordEntry, RecordWriter, Recorder};
use quant::{BincodeRecorder, Module, Tensor};
use serde_json::json;
use tests::random::Random;
use tests::record::{bytes_of_everything, chain, of_everything, of_version_2, version_1};

fn fixture() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/record-v1.quant");
    if std::env::var_os("QUANT_BLESS").is_some() {
        of_everything().save_file(&path, &version_1()).unwrap();
    }
    path
}

/// The values of every tensor, computed by hand from codes, scales and zero points.
const VALUES: [(&str, &[usize], &[f32]); 10] = [
    ("float.matrix", &[2, 3], &[0.0, -0.0, 1.5, -2.25, f32::MAX, 1e-45]),
    ("float.scalar", &[], &[42.0]),
    ("float.empty", &[0, 4], &[]),
    ("int8.tensor", &[2, 2], &[63.5, -63.5, 0.0, 0.5]),
    ("int8.tensor_affine", &[3], &[-30.25, 1.75, 33.5]),
    ("int4.channel_affine", &[2, 3], &[-0.25, -0.125, -1.375, 30.0, 14.0, 16.0]),
    ("int2.channel_last", &[2, 5], &[1.0, -0.5, 0.0, 0.75, -3.0, 0.0, 0.0, 0.25, 0.0, 3.0]),
    ("int3.block_affine", &[2, 3], &[-2.5, 1.0, 6.0, 0.1, 0.2, -28.0]),
    ("int4.block_f16", &[2, 3], &[3.5, -3.5, 1.000_976_6, 0.0, 196_512.0, -0.000_183_105_47]),
    ("int6.scalar", &[], &[-15.5]),
];

#[test]
fn version_1_fixture_loads() {
    let record = BincodeRecorder::default().load_file(&fixture()).unwrap();
    assert_eq!(record, of_everything());
    let names: Vec<_> = record.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, VALUES.map(|(name, ..)| name));
    for (name, shape, values) in VALUES {
        let tensor = record.get(name).unwrap();
        assert_eq!(tensor.shape(), shape, "{name}");
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensor.values()), bits(values), "{name}");
    }
    assert_eq!(record.metadata()["author"], "quant");
    assert_eq!(record.states()[0].data, [1, 2, 3]);
}

#[test]
fn version_1_fixture_is_written_byte_for_byte() {
    let bytes = bytes_of_everything();
    assert!(bytes == std::fs::read(fixture()).unwrap(), "the writer has changed");
}

/// The values of every tensor of version 2, computed by hand.
const VALUES_2: [(&str, &[usize], &[f32]); 10] = [
    ("f16", &[2, 2], &[1.0, -2.0, 5.960_464_5e-8, f32::INFINITY]),
    ("bf16", &[3], &[1.0, -2.0, 9.183_55e-41]),
    ("f16.empty", &[0, 3], &[]),
    ("int3.dense", &[2, 3], &[-2.5, 1.0, -0.5, 0.0, 0.5, -1.0]),
    ("int5.dense", &[5], &[7.5, -7.5, 0.0, 0.5, -0.5]),
    ("int6.dense", &[], &[-15.5]),
    ("int7.dense", &[1, 2], &[254.0, 0.0]),
    ("int4.full_range", &[1, 3], &[4.0, -0.0, 5.960_464_5e-8]),
    ("int4.minimum", &[1, 3], &[-1.0, 6.5, -13.0]),
    ("int8.minimum_last", &[1, 2], &[7.0, 255.0 * 0.1 + 0.3]),
];

#[test]
fn version_2_fixture_loads_and_is_written_byte_for_byte() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/record-v2.quant");
    if std::env::var_os("QUANT_BLESS").is_some() {
        of_version_2().save_file(&path, &BincodeRecorder::default()).unwrap();
    }
    let record = BincodeRecorder::default().load_file(&path).unwrap();
    let names: Vec<_> = record.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, VALUES_2.map(|(name, ..)| name));
    for (name, shape, values) in VALUES_2 {
        let tensor = record.get(name).unwrap();
        assert_eq!(tensor.shape(), shape, "{name}");
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensor.values()), bits(values), "{name}");
    }
    let bytes = of_version_2().save_bytes(&BincodeRecorder::default()).unwrap();
    assert_eq!(bytes[8], 2);
    assert!(bytes == std::fs::read(path).unwrap(), "the writer has changed");
}

#[test]
fn what_version_1_cannot_store_is_an_error_with_the_name() {
    for name in ["f16", "bf16", "int4.full_range", "int4.minimum"] {
        let tensor = of_version_2().get(name).unwrap().clone();
        let error = Record::from_iter([(name, tensor)]).save_bytes(&version_1()).unwrap_err();
        let expected = format!("{name}: needs version 2 of the format, not 1");
        assert!(chain(&error).ends_with(&expected), "{}", chain(&error));
    }
    let dense = of_version_2().get("int3.dense").unwrap().clone();
    let bytes = Record::from_iter([("w", dense.clone())]).save_bytes(&version_1()).unwrap();
    let loaded = BincodeRecorder::default().load(&mut bytes.as_slice(), None).unwrap();
    assert_eq!((bytes[8], loaded.get("w")), (1, Some(&dense)));
}

/// The table of bytes in `docs/record-format.md`.
fn documented_example() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/record-format.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, example) = page.split_once("## An example").unwrap();
    let mut bytes = Vec::new();
    for line in example.lines().take_while(|line| !line.starts_with("##")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, offset, content, ..] = cells[..] else { continue };
        let Ok(offset) = offset.parse::<usize>() else { continue };
        assert_eq!(offset, bytes.len(), "{line}");
        match content.strip_suffix(" zeros") {
            Some(count) => bytes.resize(bytes.len() + count.parse::<usize>().unwrap(), 0),
            None => bytes.extend(
                content
                    .trim_matches('`')
                    .split(' ')
                    .map(|hex| u8::from_str_radix(hex, 16).unwrap()),
            ),
        }
    }
    bytes
}

#[test]
fn the_documented_example_is_written_byte_for_byte() {
    let model = Record::from_iter([("w", Tensor::from_values(&[2], vec![1.0, -2.0]).unwrap())]);
    let bytes = model.save_bytes(&BincodeRecorder::default()).unwrap();
    assert_eq!(bytes, documented_example());
}

/// What the reader in another language must find, as bits.
fn expected(record: &Record) -> serde_json::Value {
    let tensor = |tensor: &Tensor| {
        let bits: Vec<_> = tensor.values().iter().map(|value| value.to_bits()).collect();
        json!({ "shape": tensor.shape(), "bits": bits })
    };
    let tensors = record.iter().map(|(id, own)| (id.to_string(), tensor(own)));
    let states = record.states().iter();
    let states =
        states.map(|own| (own.id.to_string(), json!({ "kind": own.kind, "data": own.data })));
    json!({
        "metadata": record.metadata(),
        "tensors": tensors.collect::<serde_json::Map<_, _>>(),
        "states": states.collect::<serde_json::Map<_, _>>(),
    })
}

/// The fixture, and random tensors under every kind of scheme.
fn larger() -> Record {
    let mut random = Random(11);
    let mut record = of_everything();
    for (id, tensor) in of_version_2() {
        record.insert(format!("new.{id}"), tensor);
    }
    for (number, scheme) in [
        "per-tensor-symmetric-int8",
        "per-channel-affine-int7:axis=1",
        "per-channel-symmetric-int5:axis=-3",
        "per-block-affine-int4:len=7",
        "per-block-symmetric-int3:len=4:scale=f16",
        "per-block-affine-int2:len=64:scale=f16",
        "per-channel-full-range-int6:axis=1",
        "per-block-full-range-int3:len=8:scale=bf16",
        "per-block-minimum-int5:len=3:scale=f16",
        "per-channel-minimum-int7:axis=-1",
    ]
    .into_iter()
    .enumerate()
    {
        let values: Vec<f32> = (0..5 * 6 * 11).map(|_| 100.0 * random.unit()).collect();
        let quantizer = quant::Quantizer {
            calibration: quant::MinMaxCalibration {},
            scheme: scheme.parse().unwrap(),
        };
        let tensor = Tensor::from_values(&[5, 6, 11], values).unwrap();
        record.insert(format!("random.{number}"), tensor.quantize_weights(quantizer).unwrap());
    }
    record
}

/// The interpreter, or the reason why none can be used.
fn python() -> Result<&'static str, String> {
    let found = Command::new("python3").args(["-c", "import numpy"]).output();
    match found {
        Ok(output) if output.status.success() => Ok("python3"),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
        Err(error) => Err(format!("python3: {error}")),
    }
}

#[test]
fn a_reader_in_another_language_finds_the_same_values() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return eprintln!("skipped: the Python reader was not run: {why}"),
    };
    let directory = tempfile::tempdir().unwrap();
    let [record, expectation] = ["record.quant", "expected.json"].map(|n| directory.path().join(n));
    larger().save_file(&record, &BincodeRecorder::default()).unwrap();
    std::fs::write(&expectation, expected(&larger()).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/read_record.py");
    let output = Command::new(python).arg(&script).args([&record, &expectation]).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}\n{}", text[0], text[1]);
    assert!(text[0].ends_with("30 tensors equal\n"), "{}", text[0]);

    // The reader rejects a damaged record.
    let mut bytes = std::fs::read(&record).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&record, bytes).unwrap();
    let output = Command::new(python).arg(&script).arg(&record).output().unwrap();
    assert!(!output.status.success());
}

/// A record of version 2 in which `head` is another name of `embed`.
fn write_aliases(path: &Path) {
    let manifest = Manifest::new([RecordEntry::new("embed", [2, 2], None)]);
    let mut writer = RecordWriter::create(path, manifest.alias("head", "embed")).unwrap();
    writer.write("embed", &embed()).unwrap();
    writer.finish().unwrap();
}

fn embed() -> Tensor {
    Tensor::from_values(&[2, 2], vec![1.0, -2.0, 0.5, 4.0]).unwrap()
}

#[test]
fn version_2_fixture_with_an_alias_loads_and_is_written_again() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/record-v2-alias.quant");
    if std::env::var_os("QUANT_BLESS").is_some() {
        write_aliases(&path);
    }
    let record = BincodeRecorder::default().load_file(&path).unwrap();
    assert_eq!(record, Record::from_iter([("embed", embed()), ("head", embed())]));
    let directory = tempfile::tempdir().unwrap();
    write_aliases(&directory.path().join("a.quant"));
    let again = std::fs::read(directory.path().join("a.quant")).unwrap();
    assert_eq!(again, std::fs::read(&path).unwrap());

    let python = match python() {
        Ok(python) => python,
        Err(why) => return eprintln!("SKIPPED: the Python reader was not run: {why}"),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/read_record.py");
    let output = Command::new(python).arg(script).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "embed: [2, 2]\nhead: [2, 2]\n", "{output:?}");
}
