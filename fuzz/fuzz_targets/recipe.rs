//! A recipe in TOML: read, it is written to what reads the same, and makes plans.
#![no_main]

use libfuzzer_sys::fuzz_target;
use quant::activation::ActivationQuantizer;
use quant::{Param, Recipe};

fuzz_target!(|text: &str| {
    let Ok(recipe) = toml::from_str::<Recipe>(text) else { return };
    let written = toml::to_string(&recipe).expect("a recipe can be written");
    assert_eq!(toml::from_str::<Recipe>(&written).expect("it has been written"), recipe);
    let model = (Param::new([[1.0f32, -2.0], [0.5, 4.0]]), vec![Param::new([1.0f32; 3])]);
    let _ = recipe.plan(&model);
    let _ = recipe.plan(&ActivationQuantizer::new());
});
