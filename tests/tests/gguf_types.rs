//! Types of GGUF: blocks become the floats that the Python package `gguf` makes of them, floats
//! become its blocks, and every type of the format is in the documentation.
//!
//! `golden/types.gguf` is written by `python/make_gguf_golden.py`.

use std::path::{Path, PathBuf};

use quant::record::Record;
use quant::tensor::QuantizedTensor;
use quant::{BincodeRecorder, Module, Recipe};
use quant_formats::{Checkpoint, GgufEncoding, GgufType, Options, Stored};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/types.gguf")
}

fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let position = checkpoint.position(name).unwrap_or_else(|| panic!("no tensor {name}"));
    checkpoint.read(position).unwrap().values().to_vec()
}

/// Equal bits; all NaN are alike, because a processor may choose their payload.
fn assert_same(found: &[f32], expected: &[f32], name: &str) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
        assert!(same, "{name}[{i}]: {found:e}, not {expected:e}");
    }
}

/// Types of blocks that the package does not know.
const UNKNOWN_TO_PYTHON: [GgufType; 1] = [GgufType::Q2_0];

#[test]
fn blocks_of_every_type_are_the_floats_of_the_python_package() {
    let checkpoint = quant_formats::open(golden()).unwrap();
    let mut compared = 0;
    for entry in checkpoint.entries() {
        let Some(ty) = entry.gguf_type.filter(|ty| ty.block_len() > 1) else { continue };
        let is_described = matches!(entry.stored, Stored::Quantized(_));
        assert_eq!(entry.scheme(), ty.scheme());
        assert_eq!(is_described, ty.scheme().is_some());
        if entry.id.as_str() == ty.name() {
            let expected = values(&checkpoint, &format!("{ty}.floats"));
            assert_same(&values(&checkpoint, ty.name()), &expected, ty.name());
            compared += 1;
        }
    }
    let blocks = GgufType::ALL.iter().filter(|ty| ty.block_len() > 1);
    assert_eq!(compared, blocks.count() - UNKNOWN_TO_PYTHON.len());
}

#[test]
fn halves_are_read_exactly() {
    let checkpoint = quant_formats::open(golden()).unwrap();
    assert_same(
        &values(&checkpoint, "F16"),
        &[0.0, -0.0, 65504.0, 5.9604645e-8, 0.099975586],
        "F16",
    );
    let brain = values(&checkpoint, "BF16");
    assert_same(&brain[..2], &[1.0, -2.5], "BF16");
    let stored = |name| checkpoint.entries()[checkpoint.position(name).unwrap()].stored;
    assert_eq!((stored("F16"), stored("BF16")), (Stored::F16, Stored::Bf16));
}

#[test]
fn integers_and_doubles_are_carried_as_they_are() {
    let checkpoint = quant_formats::open(golden()).unwrap();
    let states = checkpoint.states().unwrap();
    let data = |name: &str| {
        let state = states.iter().find(|state| state.id.as_str() == name).unwrap();
        (&*state.kind, &*state.data)
    };
    assert_eq!(data("I16"), ("tensor/I16 [2, 2]", &[254, 255, 255, 255, 0, 0, 1, 0][..]));
    assert_eq!(data("I8"), ("tensor/I8 [2, 2]", &[254, 255, 0, 1][..]));
    let (kind, doubles) = data("F64");
    assert_eq!((kind, &doubles[..8]), ("tensor/F64 [3]", &0.1f64.to_le_bytes()[..]));
}

/// The codes and scales of a tensor.
fn quantized(path: &Path, name: &str) -> QuantizedTensor {
    let checkpoint = quant_formats::open(path).unwrap();
    let tensor = checkpoint.read(checkpoint.position(name).unwrap()).unwrap();
    tensor.quantized().unwrap_or_else(|| panic!("{name} is float")).clone()
}

#[test]
fn encodings_are_the_blocks_of_the_python_package() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let golden = golden();
    let checkpoint = quant_formats::open(&golden).unwrap();
    let input = checkpoint.read(checkpoint.position("input").unwrap()).unwrap();
    Record::from_iter([("input", input)])
        .save_file(at("input.quant"), &BincodeRecorder::default())
        .unwrap();
    let from = quant_formats::open(at("input.quant")).unwrap();
    let recipe = Recipe::new().scheme("per-tensor-symmetric-int8".parse().unwrap());
    for encoding in [GgufEncoding::Q4_0, GgufEncoding::Q4_1, GgufEncoding::Q8_0] {
        for to in ["blocks.gguf", "blocks.quant", "blocks.safetensors", "blocks.json"] {
            let (to, options) = (at(to), Options::default());
            let encoded =
                quant_formats::quantize_to_blocks(&from, encoding, &recipe, &to, options).unwrap();
            assert_eq!((encoded.quantized, encoded.tensors), (1, 1));
            let expected = quantized(&golden, &format!("encoded.{encoding}"));
            assert_eq!(quantized(&to, "input"), expected, "{}", to.display());
        }
    }
}

/// The cells of each row of the table of types in the documentation.
fn documented() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gguf.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = text.split("## Types\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells =
        |row: &str| row.trim_matches('|').split('|').map(|it| it.trim().to_owned()).collect();
    rows.map(cells).collect()
}

#[test]
fn the_documentation_has_every_type_of_the_format() {
    let documented = documented();
    for ty in GgufType::ALL {
        let row = documented.iter().find(|row| row[0] == ty.id().to_string());
        let row = row.unwrap_or_else(|| panic!("{ty} is missing"));
        assert_eq!(row[1], ty.name());
        assert_eq!(row[2], format!("{} in {}", ty.block_len(), ty.block_bytes()), "{ty}");
        assert!(!row[3].contains("refused"), "{ty}");
    }
    // No other number is read.
    for row in &documented {
        let id: u32 = row[0].parse().unwrap();
        let is_read = GgufType::ALL.iter().any(|ty| ty.id() == id);
        assert_eq!(is_read, !row[3].contains("refused"), "{row:?}");
    }
    let mut ids: Vec<u32> = documented.iter().map(|row| row[0].parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..=42).collect::<Vec<_>>(), "every number up to the last one, once");
}
