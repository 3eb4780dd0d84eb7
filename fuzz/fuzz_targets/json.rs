//! A checkpoint in JSON, or the index of one in parts: read, it is written and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant_formats::{JsonRecorder};
use quant::record::{Record, Recorder};
use quant::{BincodeRecorder, Module};

/// The bytes of a record, in which a NaN is equal to itself.
fn native(record: &Record) -> Vec<u8> {
    record.save_bytes(&BincodeRecorder::default()).expect("every record can be saved")
}

fuzz_target!(|bytes: &[u8]| {
    let path = quant_fuzz::directory().join("model.safetensors.index.json");
    std::fs::write(&path, bytes).expect("room in the directory");
    let _ = quant_formats::open(&path);

    let recorder = JsonRecorder::default();
    let Ok(record) = recorder.load(&mut &*bytes, Some(bytes.len() as u64)) else { return };
    let saved = record.save_bytes(&recorder).expect("every record can be saved");
    let again = recorder.load(&mut &*saved, Some(saved.len() as u64)).expect("just written");
    assert!(native(&again) == native(&record));
});
