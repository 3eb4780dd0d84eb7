//! Loading an invalid record takes at most a megabyte more memory than the record has bytes.
//!
//! This is the only test of its binary, since others would allocate at the same time.

use std::io::Read;

use quant::record::Recorder;
use quant::{BincodeRecorder, Module, Tensor};
use tests::memory::Counting;
use tests::random::Random;
use tests::record::{Draft, Entry, bytes_of_everything, of_everything, reseal};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The maximum of the memory that loading takes.
fn peak(bytes: &[u8], len: Option<u64>) -> usize {
    Counting::peak(|| BincodeRecorder::default().load(&mut { bytes } as &mut dyn Read, len))
}

fn check(bytes: &[u8], what: &str) {
    const LIMIT: usize = 1 << 20;
    for len in [Some(bytes.len() as u64), None] {
        let peak = peak(bytes, len);
        assert!(peak <= bytes.len() + LIMIT, "{what}: {peak} bytes for {} ({len:?})", bytes.len());
    }
}

fn sample() -> Vec<u8> {
    let mut random = Random(5);
    let values: Vec<f32> = (0..1 << 19).map(|_| random.unit()).collect();
    let mut record = of_everything();
    record.insert("large", Tensor::from_values(&[1 << 10, 1 << 9], values).unwrap());
    record.save_bytes(&BincodeRecorder::default()).unwrap()
}

fn flips_and_truncations(sample: &[u8]) {
    let mut bytes = sample.to_vec();
    let mut random = Random(6);
    for round in 0..400 {
        // Half of them in the header, where the sizes are.
        let end = if round % 2 == 0 { 2000 } else { bytes.len() };
        let (position, bit) = (random.below(end), random.below(8));
        bytes[position] ^= 1 << bit;
        check(&bytes, "flip");
        check(&bytes[..position], "truncation");
        reseal(&mut bytes);
        check(&bytes, "flip with the right checksum");
        bytes.copy_from_slice(sample);
    }
}

/// Replaces every number of the header by large ones.
fn absurd_numbers() {
    let small = bytes_of_everything();
    for position in 16..1500 {
        for number in [u64::MAX, 1 << 62, 1 << 40, 1 << 32, 1 << 26] {
            let mut bytes = small.clone();
            bytes[position..position + 8].copy_from_slice(&number.to_le_bytes());
            reseal(&mut bytes);
            check(&bytes, "number");
        }
    }
}

/// A tensor of a terabyte in a record that claims to have as many bytes.
fn consistent_lies() {
    let elements = 1u64 << 38;
    let draft = Draft {
        tensors: vec![Entry {
            shape: vec![elements],
            sections: [(0, 4 * elements, 0), (4 * elements, 0, 0), (4 * elements, 0, 0)],
            ..Entry::floats("w")
        }],
        file_len: Some(4 * elements + 192),
        payload: vec![0; 4096],
        ..Draft::default()
    };
    check(&draft.bytes(), "terabyte");
}

/// Many entries in few bytes.
fn dense_headers() {
    let tensors = (0..3000).map(|i| Entry { shape: vec![], ..Entry::floats(&i.to_string()) });
    check(&Draft { tensors: tensors.collect(), ..Draft::default() }.bytes(), "tensors");
    let pair = |i: u32| (format!("{i:05}").into(), Vec::new());
    check(&Draft { metadata: (0..5000).map(pair).collect(), ..Draft::default() }.bytes(), "pairs");
    let shape = Entry { shape: vec![1; 50_000], ..Entry::floats("w") };
    check(&Draft { tensors: vec![shape], ..Draft::default() }.bytes(), "rank");
}

#[test]
fn bad_records_take_less_than_a_megabyte_beyond_their_size() {
    let sample = sample();
    check(&sample, "a good record");
    flips_and_truncations(&sample);
    absurd_numbers();
    consistent_lies();
    dense_headers();
}
