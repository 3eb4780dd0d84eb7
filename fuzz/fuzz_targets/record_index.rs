//! The index of a record in parts, beside parts that are right.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use quant::record::{RecordFile, Recorder};
use quant::{BincodeRecorder, Module};

/// The parts of the sample, under names that the seeds have too.
fn parts() -> &'static PathBuf {
    static PARTS: OnceLock<PathBuf> = OnceLock::new();
    PARTS.get_or_init(|| {
        let directory = quant_fuzz::directory();
        for (number, (id, tensor)) in quant_fuzz::sample().into_iter().enumerate() {
            let part = quant::record::Record::from_iter([(id, tensor)]);
            let path = directory.join(number.to_string());
            part.save_file(path, &BincodeRecorder::default()).expect("room in the directory");
        }
        directory
    })
}

fuzz_target!(|bytes: &[u8]| {
    let path = parts().join("index");
    let mut bytes = bytes.to_vec();
    quant_fuzz::reseal_index(&mut bytes);
    std::fs::write(&path, &bytes).expect("room in the directory");
    let opened = RecordFile::open(&path);
    let loaded = BincodeRecorder::default().load_file(&path);
    assert_eq!(opened.is_ok(), loaded.is_ok(), "the parts are right");
    if let Ok(file) = opened {
        let directory = parts().canonicalize().expect("it is there");
        assert!(file.paths().all(|part| part.parent() == Some(&directory)));
        file.verify_all().expect("the parts are right");
    }
    // What it claims to be its parts stays when it is replaced.
    let before = std::fs::read_dir(parts()).expect("it is there").count();
    quant::record::Record::new().save_file(&path, &BincodeRecorder::default()).expect("it is a file");
    assert_eq!(std::fs::read_dir(parts()).expect("it is there").count(), before);
});
