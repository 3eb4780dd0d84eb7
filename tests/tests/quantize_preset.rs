//! Recipes with a name: what they keep wider, and what comes before them.

use quant::moments::{LayerMoments, SecondMoments};
use quant::quantize::Planner;
use quant::{Module, Param, Recipe, Rule};

/// A network of four layers with an embedding and an output layer.
fn layers() -> Layers {
    let layer = || vec![Param::new([[0.25f32; 64]; 8])];
    Layers {
        embed: Param::new([[0.5; 32]; 4]),
        pinned: Param::new([[0.5; 32]; 4]),
        layers: vec![layer(), layer(), layer(), layer()],
        head: Param::new([[1.0; 32]; 4]),
        norm: Param::new([1.0; 32]),
    }
}

#[derive(Module)]
struct Layers {
    embed: Param<[[f32; 32]; 4]>,
    #[module(scheme = "per-tensor-affine-int8")]
    pinned: Param<[[f32; 32]; 4]>,
    layers: Vec<Vec<Param<[[f32; 64]; 8]>>>,
    head: Param<[[f32; 32]; 4]>,
    norm: Param<[f32; 32]>,
}

fn outcomes(recipe: &Recipe) -> Vec<String> {
    let plan = recipe.plan(&layers()).unwrap();
    plan.params().iter().map(|one| format!("{}: {} ({})", one.id, one.action, one.reason)).collect()
}

#[test]
fn presets_keep_embeddings_outputs_and_outer_layers_wider() {
    let wider = "per-channel-symmetric-int8 by least-squares";
    let inner = "per-block-minimum-int4:scale=f16 by least-squares";
    let expected = [
        format!("embed: {wider} (embedding)"),
        "pinned: per-tensor-affine-int8 by least-squares (attribute of the field)".into(),
        format!("layers.0.0: {wider} (first layer)"),
        format!("layers.1.0: {inner} (rank 2)"),
        format!("layers.2.0: {inner} (rank 2)"),
        format!("layers.3.0: {wider} (last layer)"),
        format!("head: {wider} (output layer)"),
        "norm: float (rank 1)".into(),
    ];
    let recipe = Recipe::preset("w4").unwrap();
    assert_eq!(outcomes(&recipe), expected);
    assert_eq!(toml::from_str::<Recipe>("preset = \"w4\"").unwrap(), recipe);
    assert_eq!(toml::to_string(&recipe).unwrap().trim(), "preset = \"w4\"");
    let float = outcomes(&Recipe::preset("w8a8").unwrap());
    assert_eq!(float[6], "head: float (output layer)");
    assert_eq!(float[2], "layers.0.0: per-channel-symmetric-int8 by least-squares (rank 2)");
}

#[test]
fn what_a_recipe_says_besides_comes_before_its_preset() {
    let scheme = "per-block-symmetric-int4".parse().unwrap();
    let recipe = Recipe::preset("w4")
        .unwrap()
        .scheme(scheme)
        .calibration("mse".parse().unwrap())
        .rule(Rule::keep("layers.0.*"))
        .rule(Rule::quantize("head", scheme));
    let outcomes = outcomes(&recipe);
    assert_eq!(outcomes[2], "layers.0.0: float (rule 0 `layers.0.*`)");
    assert_eq!(outcomes[3], "layers.1.0: per-block-symmetric-int4 by mse (rank 2)");
    assert_eq!(outcomes[6], "head: per-block-symmetric-int4 by mse (rule 1 `head`)");
    assert!(!recipe.uses_moments() && !recipe.needs_moments());
}

#[test]
fn presets_use_the_moments_that_there_are() {
    let mut inputs = LayerMoments::for_inputs_up_to(1.0, 64).unwrap();
    inputs.add(&(0..20 * 64).map(|i| (i as f32 * 0.37).cos()).collect::<Vec<_>>()).unwrap();
    let mut moments = SecondMoments::new();
    moments.insert("layers.2", LayerMoments::from_diagonal(inputs.diagonal(), 20).unwrap());
    moments.insert("layers.1", inputs);
    let recipe = Recipe::preset("w3").unwrap().moments(moments);
    assert!(recipe.uses_moments() && !recipe.needs_moments());
    let outcomes = outcomes(&recipe);
    assert_eq!(outcomes[3], "layers.1.0: per-block-minimum-int3:scale=f16 by gptq (rank 2)");
    assert_eq!(
        outcomes[4],
        "layers.2.0: per-block-minimum-int3:scale=f16 by weighted-mse (rank 2)"
    );
    let last = "layers.3.0: per-block-minimum-int4:scale=f16 by least-squares (last layer)";
    assert_eq!(outcomes[5], last);
}

#[test]
fn presets_say_how_inputs_are_quantized() {
    for (name, inputs) in [
        ("w8a8", "dynamic-per-row-affine"),
        ("w4a8", "dynamic-per-block-32-affine"),
        ("w4", "float"),
        ("w3", "float"),
    ] {
        let recipe = Recipe::preset(name).unwrap();
        let planned = recipe.decide_activations(&["layers.0.input".into()]).unwrap();
        assert_eq!(planned[0].scheme.to_string(), inputs, "{name}");
        assert_eq!(recipe.quantizes_inputs(), inputs != "float", "{name}");
    }
}

#[test]
fn an_unknown_preset_is_refused_with_the_names_that_there_are() {
    let error = Recipe::preset("w5").unwrap_err().to_string();
    assert_eq!(error, "`w5` is not a preset; expected w8a8, w4a8, w4 or w3");
    let error = toml::from_str::<Recipe>("preset = \"w5\"").unwrap_err();
    assert!(error.to_string().contains("`w5` is not a preset"), "{error}");
}
