//! Trains the model of the `digits` example and writes it beside this file: the same bytes on
//! every machine, so that anybody can check where they come from.
//!
//! ```text
//! cargo run --release --example train_digits
//! ```

use std::error::Error;

use examples::digits::{self, Samples};
use examples::mlp::{Mlp, accuracy};
use examples::train;
use quant::{BincodeRecorder, Module};
use quant_nn::ForwardError;

fn main() -> Result<(), Box<dyn Error>> {
    let (train_on, held_out) = digits::load();
    let model = train::train(&train_on, 0, |epoch, loss| {
        if epoch % 10 == 0 {
            println!("epoch {epoch:>3}  loss {loss:.4}");
        }
    });
    println!("accuracy {:.4} on what it saw", measure(&model, &train_on)?);
    println!("accuracy {:.4} on what was held out", measure(&model, &held_out)?);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/digits/digits-f32.quant");
    model.save_file(path, &BincodeRecorder::default())?;
    println!("wrote digits-f32.quant");
    Ok(())
}

fn measure(model: &Mlp, samples: &Samples) -> Result<f64, ForwardError> {
    Ok(accuracy(&model.predict(&samples.images)?, &samples.digits))
}
