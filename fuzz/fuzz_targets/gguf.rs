//! A GGUF file: what is read of it is what is read of the file written anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::record::{Record, RecordFormatError, Recorder};
use quant::{BincodeRecorder, Module, RecordError};
use quant_formats::{GgufRecorder, Options};

/// The bytes of a record, in which a NaN is equal to itself; `None` if a tensor without elements has
/// extents whose product a record refuses.
fn native(record: &Record) -> Option<Vec<u8>> {
    match record.save_bytes(&BincodeRecorder::default()) {
        Ok(bytes) => Some(bytes),
        Err(RecordError::Format { source: RecordFormatError::Shape { .. }, .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let recorder = GgufRecorder::default();
    let known = recorder.load(&mut &*bytes, Some(bytes.len() as u64));
    let unknown = recorder.load(&mut &*bytes, None);
    assert_eq!(known.is_ok(), unknown.is_ok(), "{known:?} and {unknown:?}");

    let path = quant_fuzz::directory().join("file.gguf");
    let copy = quant_fuzz::directory().join("copy.gguf");
    std::fs::write(&path, bytes).expect("room in the directory");
    if let Ok(checkpoint) = quant_formats::open(&path) {
        for index in 0..checkpoint.entries().len() {
            // A scale may be infinite.
            let _ = checkpoint.read(index);
        }
        // A name may be too long for other programs.
        if quant_formats::convert(&checkpoint, &copy, Options::default()).is_ok() {
            let again = quant_formats::open(&copy).expect("just written");
            assert_eq!(again.metadata(), checkpoint.metadata());
            assert_eq!(again.entries().len(), checkpoint.entries().len());
        }
    }
    let Ok(record) = known else { return };
    let Ok(saved) = record.save_bytes(&recorder) else { return };
    let again = recorder.load(&mut &*saved, Some(saved.len() as u64)).expect("just written");
    assert!(native(&again) == native(&record));
});
