//! One call quantizes; what was forgotten is an error with the path; `?` works with `anyhow`.

use anyhow::{Result, ensure};
use ndarray::Array2;
use new_user::{Model, batch, recipe};
use quant::prelude::*;

fn assert_close(a: &Array2<f32>, b: &Array2<f32>) {
    let largest = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 0.15, "{largest}");
}

/// Quantized, saved and loaded, the model gives the same outputs, bit for bit.
fn survives_a_file(model: &Model) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("model.quant");
    model.save_file(&path, &BincodeRecorder::default())?;
    let loaded = Model::trained().load_file(&path, &BincodeRecorder::default())?;
    ensure!(loaded.forward(&batch(9))? == model.forward(&batch(9))?);
    Ok(())
}

#[test]
fn dynamic_inputs_take_one_call() -> Result<()> {
    let model = Model::trained().quantize(&recipe("dynamic")?)?;
    assert_close(&model.forward(&batch(9))?, &Model::trained().forward(&batch(9))?);
    survives_a_file(&model)
}

#[test]
fn static_inputs_take_one_call_with_batches() -> Result<()> {
    let batches = (0..4).map(batch);
    let model = Model::trained()
        .quantize_with(&recipe("static")?, batches, |model, batch| model.forward(&batch))?;
    assert_close(&model.forward(&batch(9))?, &Model::trained().forward(&batch(9))?);
    survives_a_file(&model)
}

/// The message of an error and of its sources.
fn message(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[test]
fn a_forgotten_preparation_is_an_error_with_the_path() -> Result<()> {
    for activations in ["dynamic", "static"] {
        let model = Model::trained().quantize_weights(&recipe(activations)?)?;
        let error = message(model.forward(&batch(0)).unwrap_err());
        assert!(error.contains("hidden.input: "), "{error}");
    }
    Ok(())
}

#[test]
fn a_forgotten_calibration_is_an_error_with_the_path() -> Result<()> {
    let recipe = recipe("static")?;
    let model = Model::trained().quantize_weights(&recipe)?;
    let error = message(model.clone().convert().unwrap_err().into());
    assert!(error.contains("hidden.input, output.input: "), "{error}");
    let error = message(model.quantize(&recipe).unwrap_err().into());
    assert!(error.contains("hidden.input, output.input: "), "{error}");
    Ok(())
}

#[test]
fn a_forgotten_conversion_is_an_error_with_the_path() -> Result<()> {
    let recipe = recipe("static")?;
    let model = Model::trained().quantize_weights(&recipe)?;
    let model = model.calibrate(&recipe, [batch(0)], |model, batch| model.forward(&batch))?;
    let error = message(model.forward(&batch(0)).unwrap_err());
    assert!(error.contains("hidden.input: "), "{error}");
    Ok(())
}

#[test]
fn forgotten_weights_are_an_error_with_the_path() -> Result<()> {
    let recipe: Recipe = toml::from_str("activations = \"dynamic\"")?;
    let model = Model::trained().prepare(&recipe)?;
    let error = message(model.forward(&batch(0)).unwrap_err());
    assert!(error.starts_with("hidden: "), "{error}");
    Ok(())
}

#[test]
fn a_misspelled_rule_is_an_error_that_names_the_nearest_path() -> Result<()> {
    let recipe: Recipe = toml::from_str("[[rules]]\npath = \"ouput.weight\"\nkeep = true")?;
    let error = message(Model::trained().quantize(&recipe).unwrap_err().into());
    assert!(error.contains("output.weight"), "{error}");
    Ok(())
}
