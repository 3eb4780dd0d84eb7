//! Loading an invalid GGUF file takes at most a megabyte more memory than its blocks have as floats.
//!
//! This is the only test of its binary, since others would allocate at the same time.

use std::io::Read;

use quant::record::{Record, RecordState, Recorder};
use quant::{Module, Tensor};
use quant_formats::GgufRecorder;
use tests::memory::Counting;
use tests::random::Random;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn check(bytes: &[u8], what: &str) {
    const LIMIT: usize = 1 << 20;
    // The narrowest blocks have 256 floats in 50 bytes.
    let floats = bytes.len() * (4 * 256) / 50;
    for len in [Some(bytes.len() as u64), None] {
        let peak =
            Counting::peak(|| GgufRecorder::default().load(&mut { bytes } as &mut dyn Read, len));
        assert!(peak <= floats + LIMIT, "{what}: {peak} bytes for {} ({len:?})", bytes.len());
    }
}

/// Floats, integers and blocks, with metadata.
fn sample() -> Vec<u8> {
    let mut record = Record::new();
    record.insert_metadata("general.name", "sample");
    record.insert("norm", Tensor::from_values(&[3], vec![1.0; 3]).unwrap());
    for (id, kind, len) in [
        ("ids", "tensor/I64 [2]", 16),
        ("iq1", "tensor/IQ1_S [2, 256]", 100),
        ("q8", "tensor/Q8_0 [2, 32]", 68),
    ] {
        let data = vec![1; len];
        record.insert_state(RecordState { id: id.into(), kind: kind.into(), data });
    }
    record.save_bytes(&GgufRecorder::default()).unwrap()
}

/// A header of this many pairs or tensors, of which as many as possible are in the file.
fn dense(pairs: u64, tensors: u64) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend([tensors.to_le_bytes(), pairs.to_le_bytes()].concat());
    let name = |i: u64| [5u64.to_le_bytes().as_slice(), format!("{i:05}").as_bytes()].concat();
    // A pair is a flag, and a tensor a scalar.
    (0..pairs).for_each(|i| bytes.extend([name(i), vec![7, 0, 0, 0, 1]].concat()));
    (0..tensors).for_each(|i| bytes.extend([name(i), vec![0; 16]].concat()));
    bytes
}

#[test]
fn bad_files_take_less_than_a_megabyte_beyond_their_floats() {
    let sample = sample();
    check(&sample, "a good file");
    let mut random = Random(5);
    for position in 8..sample.len() - 8 {
        for number in [u64::MAX, 1 << 62, 1 << 40, 1 << 32, 1 << 26, random.bits()] {
            let mut bytes = sample.clone();
            bytes[position..position + 8].copy_from_slice(&number.to_le_bytes());
            check(&bytes, "number");
        }
        check(&sample[..position], "truncation");
    }
    check(&dense(20_000, 0), "pairs");
    check(&dense(0, 20_000), "tensors");
}
