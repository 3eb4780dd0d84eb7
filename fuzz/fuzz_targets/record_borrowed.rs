//! A record in borrowed bytes: the reader without a heap takes what `quant` takes, within its limits, and
//! finds the same values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::BincodeRecorder;
use quant::record::Recorder;
use quant_record::RecordError::{HeaderTooLong, TooManyAxes, TooManyEntries};

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    quant_fuzz::reseal_record(&mut bytes);
    let owned = BincodeRecorder::default().load(&mut bytes.as_slice(), Some(bytes.len() as u64));
    let borrowed = match quant_record::Record::new(&bytes) {
        Err(HeaderTooLong { .. } | TooManyAxes { .. } | TooManyEntries { .. }) => return,
        borrowed => borrowed,
    };
    assert_eq!(borrowed.is_ok(), owned.is_ok(), "{borrowed:?} and {owned:?}");
    let (Ok(borrowed), Ok(owned)) = (borrowed, owned) else { return };
    assert_eq!(borrowed.tensors().count(), owned.iter().count());
    for (tensor, (id, own)) in borrowed.tensors().zip(&owned) {
        assert_eq!((tensor.name(), &**tensor.shape()), (id.as_str(), own.shape()));
        let values = (0..).map_while(|position| tensor.value(position)).map(f32::to_bits);
        assert!(values.eq(own.values().iter().map(|value| value.to_bits())));
    }
});
