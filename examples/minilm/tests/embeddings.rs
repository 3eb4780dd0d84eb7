//! The encoder in integers against itself in floats, on the real model.
//!
//! `QUANT_MINILM` names the folder of the checkpoint; without it the tests say that they were
//! skipped.

use std::path::PathBuf;

use minilm::{MiniLm, Tokenizer, Tokens, load};
use ndarray::Array2;
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, Module, Recipe};

const SENTENCES: &str = include_str!("../sentences.txt");

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("QUANT_MINILM").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: QUANT_MINILM does not name the folder of the checkpoint");
    }
    folder
}

fn recipe(activations: ActivationScheme) -> Recipe {
    let scheme = "per-channel-symmetric-int8".parse().unwrap();
    Recipe::new().scheme(scheme).activations(activations)
}

fn embed(model: &MiniLm, batches: &[Tokens]) -> Vec<Array2<f32>> {
    batches.iter().map(|batch| model.forward(batch).unwrap()).collect()
}

/// The mean and the least cosine.
fn cosines(a: &[Array2<f32>], b: &[Array2<f32>]) -> (f32, f32) {
    let rows = a.iter().zip(b).flat_map(|(a, b)| a.rows().into_iter().zip(b.rows()));
    let cosines: Vec<f32> = rows.map(|(a, b)| a.dot(&b)).collect();
    let mean = cosines.iter().sum::<f32>() / cosines.len() as f32;
    (mean, cosines.into_iter().fold(1.0, f32::min))
}

#[test]
fn integer_embeddings_are_near_the_float_ones() {
    let Some(folder) = folder() else { return };
    let sentences: Vec<String> = SENTENCES.lines().map(Into::into).collect();
    assert_eq!(sentences.len(), 300);
    let tokenizer = Tokenizer::load(&folder, 256).unwrap();
    let batches: Vec<_> =
        sentences.chunks(30).map(|chunk| tokenizer.encode(chunk).unwrap()).collect();
    let float = load(&folder, None).unwrap();
    let reference = embed(&float, &batches);

    let dynamic = recipe(ActivationScheme::DYNAMIC);
    let weight_only = float.quantize_weights(recipe(ActivationScheme::Float)).unwrap();
    let (mean, _) = cosines(&reference, &embed(&weight_only, &batches));
    assert!(mean >= 0.9995, "weight-only: {mean}");

    let model = weight_only.prepare(&dynamic).unwrap();
    let embeddings = embed(&model, &batches);
    let (mean, least) = cosines(&reference, &embeddings);
    assert!(mean >= 0.9985 && least >= 0.996, "dynamic: {mean}, {least}");

    // A sentence's embedding does not depend on what else is in its batch.
    let alone = tokenizer.encode(&sentences[..1]).unwrap();
    assert_eq!(model.forward(&alone).unwrap().row(0), embeddings[0].row(0));

    // Nor on having been saved and loaded.
    let file = tempfile::NamedTempFile::new().unwrap();
    model.save_file(file.path(), &BincodeRecorder::default()).unwrap();
    let loaded = load(&folder, Some(file.path())).unwrap();
    assert_eq!(loaded.forward(&batches[0]).unwrap(), embeddings[0]);

    // Nor on the number of threads.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(pool.install(|| loaded.forward(&batches[1])).unwrap(), embeddings[1]);
}
