//! A checkpoint that another program has quantized: every tensor that it is said to have can be read,
//! or says why not. The first two bytes are the length of the `config.json` that follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant_formats::__private::import_bytes;

fuzz_target!(|bytes: &[u8]| {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return };
    let Some((config, file)) = rest.split_at_checked(u16::from_le_bytes(*len).into()) else { return };
    let Ok(checkpoint) = import_bytes(file, config) else { return };
    for (index, entry) in checkpoint.entries().iter().enumerate() {
        if let Ok(tensor) = checkpoint.read(index) {
            assert_eq!(tensor.shape(), entry.shape);
        }
    }
    checkpoint.states().expect("states of a file in memory");
});
