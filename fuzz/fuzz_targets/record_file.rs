//! A record on disk, read piece by piece and mapped: both come to what reading it whole comes to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::record::{MappedRecord, Verify};
use quant::record::{RecordFile, Recorder};
use quant::{BincodeRecorder, Module};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    quant_fuzz::reseal_record(&mut bytes);
    let path = quant_fuzz::directory().join("record.quant");
    std::fs::write(&path, &bytes).expect("room in the directory");
    let recorder = BincodeRecorder::default();
    let whole = recorder.load(&mut bytes.as_slice(), Some(bytes.len() as u64));
    let whole = whole.and_then(|record| record.save_bytes(&recorder)).ok();

    let opened = RecordFile::open(&path).ok();
    let pieces = opened.as_ref().and_then(|file| file.read_all().ok());
    assert_eq!(pieces.and_then(|record| record.save_bytes(&recorder).ok()), whole);
    if let Some(file) = opened {
        let sound = file.verify_all().is_ok();
        assert!(sound || whole.is_none());
        for index in 0..file.entries().len() {
            let _ = file.read(index);
            assert!(file.verify(index).is_ok() || !sound);
        }
    }
    for verify in [Verify::Lazy, Verify::Explicit, Verify::Eager] {
        // SAFETY: the file is written again only after the map, which nothing outlives.
        let Ok(mapped) = (unsafe { MappedRecord::open(&path, verify) }) else { continue };
        for index in 0..mapped.entries().len() {
            let _ = mapped.tensor(index).map(|tensor| tensor.values().len());
        }
        let record = mapped.to_record();
        let found = record.ok().and_then(|record| record.save_bytes(&recorder).ok());
        assert!(found == whole || verify == Verify::Explicit && whole.is_none());
    }
});
