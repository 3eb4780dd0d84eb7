//! A record in memory: loaded, it is saved in the same version to the very bytes it was loaded from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::record::{RecordVersion, Recorder};
use quant::{BincodeRecorder, Module};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    quant_fuzz::reseal_record(&mut bytes);
    let version = match bytes.get(8) {
        Some(1) => RecordVersion::V1,
        _ => RecordVersion::V2,
    };
    let recorder = BincodeRecorder::default().version(version);
    let known = recorder.load(&mut bytes.as_slice(), Some(bytes.len() as u64));
    let unknown = recorder.load(&mut bytes.as_slice(), None);
    assert_eq!(known.is_ok(), unknown.is_ok(), "{known:?} and {unknown:?}");
    for record in [known, unknown].into_iter().flatten() {
        assert_eq!(record.save_bytes(&recorder).expect("it has been loaded"), bytes);
    }
});
