//! Quantizing, dequantizing, saving and loading one weight, beside copies of its bytes.
//!
//! Everything runs on one thread. A result goes either into memory that is there (`quant`,
//! `memcpy`) or into memory that the system has to find first (`quant_fresh`, `memcpy_fresh`), page
//! by page, which for 64 MiB takes longer than filling it: like is to be compared with like. The
//! codes that `quantize_*` returns are always in fresh memory.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use quant::quantize::quantize_values;
use quant::tensor::QuantizedTensor;
use quant::{BincodeRecorder, MinMaxCalibration, Module, QuantizationScheme, Tensor};

use crate::data::Random;
use crate::measure::{Report, Subject};

const SHAPE: [usize; 2] = [4096, 4096];
const ROUNDS: usize = 15;

const SCHEMES: [(&str, &str); 5] = [
    ("per_tensor_symmetric", "per-tensor-symmetric-int8"),
    ("per_tensor_affine", "per-tensor-affine-int8"),
    ("per_channel_symmetric", "per-channel-symmetric-int8"),
    ("per_channel_affine", "per-channel-affine-int8"),
    ("per_block_int4", "per-block-symmetric-int4"),
];

pub(crate) fn run(report: &Report) {
    let mut random = Random(7);
    let values: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(|_| random.normal() * 0.05).collect();
    for (name, scheme) in SCHEMES {
        let scheme = scheme.parse().expect("the name of a scheme");
        let tensor = quantized(&values, scheme);
        compute(report, name, &values, &tensor);
    }
    let directory = Directory::new();
    let int8 = SCHEMES[0].1.parse().expect("the name of a scheme");
    store(report, "int8", &quantized(&values, int8).into(), &directory);
    let float = Tensor::from_values(&SHAPE, values).expect("as many values as the shape says");
    store(report, "float", &float, &directory);
}

fn quantized(values: &[f32], scheme: QuantizationScheme) -> QuantizedTensor {
    quantize_values(&SHAPE, values, scheme, &MinMaxCalibration {}).expect("finite values")
}

fn compute(report: &Report, name: &str, values: &[f32], tensor: &QuantizedTensor) {
    let mut copy = vec![0.0f32; values.len()];
    let mut subjects = vec![
        Subject::new("quant", || drop(black_box(quantized(values, tensor.scheme())))),
        Subject::new("memcpy", || copy.copy_from_slice(black_box(values))),
        Subject::new("memcpy_fresh", || drop(black_box(values.to_vec()))),
    ];
    report.rows("quantize", &format!("quantize_{name}"), 1, ROUNDS, &mut subjects);
    drop(subjects);

    let mut output = vec![0.0f32; values.len()];
    let mut subjects = vec![
        Subject::new("quant", || tensor.dequantize_into(black_box(&mut output))),
        Subject::new("quant_fresh", || drop(black_box(tensor.dequantize()))),
        Subject::new("memcpy", || copy.copy_from_slice(black_box(values))),
        Subject::new("memcpy_fresh", || drop(black_box(values.to_vec()))),
    ];
    report.rows("quantize", &format!("dequantize_{name}"), 1, ROUNDS, &mut subjects);
}

/// Saves and loads a model of one parameter.
fn store(report: &Report, name: &str, tensor: &Tensor, directory: &Directory) {
    let recorder = BincodeRecorder::default();
    let (path, other) = (directory.file("record"), directory.file("copy"));
    tensor.save_file(&path, &recorder).expect("a record is saved");
    let bytes = fs::read(&path).expect("the record was saved");

    let mut subjects = vec![
        Subject::new("quant", || tensor.save_file(&path, &recorder).expect("a record is saved")),
        Subject::new("write_crc32", || {
            black_box(crc32fast::hash(&bytes));
            fs::write(&other, &bytes).expect("the copy is written");
        }),
    ];
    report.rows("quantize", &format!("save_{name}"), 1, ROUNDS, &mut subjects);
    drop(subjects);

    // Zeros that nobody reads take no memory.
    let blank = || Tensor::from_values(&SHAPE, vec![0.0; SHAPE[0] * SHAPE[1]]).expect("its shape");
    let mut subjects = vec![
        Subject::new("quant", || {
            drop(black_box(blank().load_file(&path, &recorder).expect("the record loads")));
        }),
        Subject::new("read_crc32", || {
            let bytes = fs::read(&other).expect("the copy is there");
            black_box(crc32fast::hash(&bytes));
        }),
    ];
    report.rows("quantize", &format!("load_{name}"), 1, ROUNDS, &mut subjects);
}

/// A folder of our own, in memory where the system has such a place.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let shared = Path::new("/dev/shm");
        let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("quant-bench-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for records");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind is in a temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
