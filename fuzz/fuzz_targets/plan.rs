//! A plan in JSON: read, it is written to what reads the same, and applied or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::{Param, Plan};

fuzz_target!(|bytes: &[u8]| {
    let Ok(plan) = serde_json::from_slice::<Plan>(bytes) else { return };
    let _ = plan.to_string();
    if let Ok(written) = serde_json::to_vec(&plan) {
        let _ = serde_json::from_slice::<Plan>(&written);
    }
    let model = (Param::new([[1.0f32, -2.0], [0.5, 4.0]]), vec![Param::new([1.0f32; 3])]);
    let _ = plan.apply(model);
});
