//! The state of an activation quantizer: loaded, it works, and is saved to what loads again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::record::RecordState;
use quant::activation::ActivationQuantizer;
use quant::record::Record;
use quant::Module;

fn record(data: &[u8]) -> Record {
    let mut record = Record::new();
    let kind = "activation/1".into();
    record.insert_state(RecordState { id: "".into(), kind, data: data.to_vec() });
    record
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(activation) = ActivationQuantizer::new().load_record(record(bytes)) else { return };
    let saved = Record::from_module(&activation).expect("one state");
    if let [state] = saved.states() {
        let again = ActivationQuantizer::new().load_record(record(&state.data));
        let again = again.expect("what has been saved can be loaded");
        assert_eq!(Record::from_module(&again).expect("one state").states(), saved.states());
    }
    let _ = activation.mode();
    let _ = activation.observe(&[1.0, -2.0, 0.0, 1e30, 1e-40]);
    let _ = activation.convert();
});
