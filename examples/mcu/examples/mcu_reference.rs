//! What the program on a board must print, by `quant` and `quant-nn`.

use std::error::Error;
use std::io::Write;

use examples::digits;
use examples::mlp::Mlp;
use quant::{BincodeRecorder, Module};

fn main() -> Result<(), Box<dyn Error>> {
    let (_, held_out) = digits::load();
    let fresh = Mlp::new(&mut fastrand::Rng::with_seed(0));
    let model = fresh.load_bytes(mcu::RECORD, &BincodeRecorder::default())?;
    let mut out = std::io::stdout().lock();
    for logits in model.forward(&held_out.images)?.rows() {
        let logits: Vec<f32> = logits.to_vec();
        out.write_all(&mcu::line(logits[..].try_into()?))?;
    }
    Ok(())
}
