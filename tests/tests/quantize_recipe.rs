//! Recipes: rules by path, as values and as files.

use ndarray::Array2;
use quant::calibration::CalibrationMethod;
use quant::quantize::{Action, Reason, UnmatchedRule};
use quant::{Module, Param, QuantizationScheme, QuantizationType, QuantizeError, Recipe, Rule};

const INT8: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);
const INT4: QuantizationScheme = QuantizationScheme::PerTensorAffine(QuantizationType::QInt4);
const INT2: QuantizationScheme = QuantizationScheme::PerTensorAffine(QuantizationType::QInt2);

#[derive(Clone, Debug, PartialEq, Module)]
struct Dense {
    weight: Param<Array2<f32>>,
    bias: Param<Vec<f32>>,
}

#[derive(Clone, Debug, PartialEq, Module)]
struct Net {
    layers: Vec<Dense>,
    #[module(keep)]
    head: Dense,
    #[module(scheme = "per-tensor-affine-int2")]
    tail: Dense,
    empty: Param<Vec<f32>>,
}

fn dense() -> Dense {
    Dense {
        weight: Param::new(Array2::from_shape_fn((2, 3), |(i, j)| i as f32 - j as f32)),
        bias: Param::new(vec![0.5, 1.0]),
    }
}

fn net() -> Net {
    Net { layers: vec![dense(); 2], head: dense(), tail: dense(), empty: Param::new(vec![]) }
}

/// The scheme and reason of each parameter.
fn outcomes(recipe: &Recipe) -> Vec<(Option<QuantizationScheme>, Reason)> {
    let plan = recipe.plan(&net()).unwrap();
    let outcome = |param: &quant::quantize::PlannedParam| {
        let scheme = match &param.action {
            Action::Quantize { scheme, .. } => Some(*scheme),
            _ => None,
        };
        (scheme, param.reason.clone())
    };
    plan.params().iter().map(outcome).collect()
}

fn rule(rule: usize, pattern: &str) -> Reason {
    Reason::Rule { rule, pattern: pattern.into() }
}

#[test]
fn without_rules_attributes_beat_ranks() {
    assert_eq!(
        outcomes(&Recipe::new().scheme(INT8)),
        [
            (Some(INT8), Reason::Rank(2)),
            (None, Reason::Rank(1)),
            (Some(INT8), Reason::Rank(2)),
            (None, Reason::Rank(1)),
            (None, Reason::Attribute),
            (None, Reason::Attribute),
            (Some(INT2), Reason::Attribute),
            (Some(INT2), Reason::Attribute),
            (None, Reason::Empty),
        ]
    );
}

#[test]
fn rules_beat_attributes_and_the_first_that_matches_wins() {
    let recipe = Recipe::new()
        .scheme(INT8)
        .rule(Rule::quantize("layers.0.bias", INT2))
        .rule(Rule::quantize("{layers.0,head}.**", INT4))
        .rule(Rule::keep("tail.*"));
    assert_eq!(
        outcomes(&recipe),
        [
            (Some(INT4), rule(1, "{layers.0,head}.**")),
            (Some(INT2), rule(0, "layers.0.bias")),
            (Some(INT8), Reason::Rank(2)),
            (None, Reason::Rank(1)),
            (Some(INT4), rule(1, "{layers.0,head}.**")),
            (Some(INT4), rule(1, "{layers.0,head}.**")),
            (None, rule(2, "tail.*")),
            (None, rule(2, "tail.*")),
            (None, Reason::Empty),
        ]
    );
}

#[test]
fn without_a_scheme_what_no_rule_matches_stays_float() {
    let recipe = Recipe::new().rule(Rule::quantize("layers.*.weight", INT8));
    let outcomes = outcomes(&recipe);
    assert_eq!(outcomes[0], (Some(INT8), rule(0, "layers.*.weight")));
    assert_eq!(outcomes[1], (None, Reason::NoRule));
    let kept = net().quantize_weights(Recipe::new()).unwrap();
    assert_eq!(kept, net());
}

#[test]
fn calibrations_are_the_rules_or_else_the_recipes_or_else_min_max() {
    let named = |recipe: &Recipe| -> Vec<String> {
        let plan = recipe.plan(&net()).unwrap();
        let name = |param: &quant::quantize::PlannedParam| match &param.action {
            Action::Quantize { calibration, .. } => Some(calibration.to_string()),
            _ => None,
        };
        plan.params()[..4].iter().filter_map(name).collect()
    };
    let mse: CalibrationMethod = "mse".parse().unwrap();
    let rules = || {
        Recipe::new()
            .rule(Rule::quantize("layers.0.weight", INT8).calibration(mse))
            .rule(Rule::quantize("layers.1.weight", INT8))
    };
    assert_eq!(named(&rules()), ["mse", "min-max"]);
    assert_eq!(named(&rules().calibration("percentile".parse().unwrap())), ["mse", "percentile"]);
}

#[test]
fn a_rule_may_match_a_parameter_that_cannot_be_quantized() {
    let recipe = Recipe::new().rule(Rule::quantize("empty", INT8));
    assert_eq!(outcomes(&recipe)[8], (None, Reason::Empty));
    let once = net().quantize_weights(Recipe::new().scheme(INT8)).unwrap();
    let again =
        once.clone().quantize_weights(Recipe::new().rule(Rule::quantize("layers.0.weight", INT4)));
    assert_eq!(again.unwrap(), once);
}

#[test]
fn rules_without_effect_are_all_reported_with_the_nearest_paths() {
    let recipe = Recipe::new()
        .scheme(INT8)
        .rule(Rule::keep("layers.0.wieght"))
        .rule(Rule::keep("layers.**"))
        .rule(Rule::quantize("layers.1.weight", INT4))
        .rule(Rule::keep("["));
    let error = recipe.plan(&net()).unwrap_err();
    assert_eq!(error, net().quantize_weights(recipe.clone()).unwrap_err());
    let QuantizeError::Rules(rules) = &error else { panic!() };
    assert_eq!(
        rules[0],
        UnmatchedRule::NoMatch {
            rule: 0,
            pattern: "layers.0.wieght".into(),
            nearest: ["layers.0.weight", "layers.1.weight", "layers.0.bias"].map(Into::into).into(),
        }
        .clone()
    );
    assert_eq!(
        rules[1].to_string(),
        "rule 2 `layers.1.weight` has no effect: rule 1 `layers.**` matches the same paths first"
    );
    assert_eq!(rules.len(), 3);
    assert_eq!(
        error.to_string().split("; ").next().unwrap(),
        "rules without effect: rule 0 `layers.0.wieght` matches no parameter (nearest: \
         layers.0.weight, layers.1.weight, layers.0.bias)"
    );
}

#[test]
fn a_rule_for_a_model_without_parameters_matches_nothing() {
    let error = Recipe::new().rule(Rule::keep("**")).plan(&()).unwrap_err();
    assert_eq!(error.to_string(), "rules without effect: rule 0 `**` matches no parameter");
}

fn full() -> Recipe {
    Recipe::new()
        .scheme(INT8)
        .calibration("percentile:99.9".parse().unwrap())
        .rule(Rule::keep("head.**"))
        .rule(Rule::quantize("*.weight", INT4).calibration("mse".parse().unwrap()))
        .rule(Rule::quantize("tail", INT2))
}

#[test]
fn recipes_survive_toml_and_json() {
    for recipe in [Recipe::new(), full()] {
        let text = toml::to_string(&recipe).unwrap();
        assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), recipe, "{text}");
        let text = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe, "{text}");
    }
}

#[test]
fn a_recipe_is_written_as_one_would_write_it() {
    let text = r#"scheme = "per-tensor-symmetric-int8"
calibration = "percentile:99.9"

[[rules]]
path = "head.**"
keep = true

[[rules]]
path = "*.weight"
scheme = "per-tensor-affine-int4"
calibration = "mse"

[[rules]]
path = "tail"
scheme = "per-tensor-affine-int2"
"#;
    assert_eq!(toml::to_string(&full()).unwrap(), text);
}

#[test]
fn mistakes_in_files_are_refused_with_a_reason() {
    for (text, reason) in [
        ("shceme = \"per-tensor-symmetric-int8\"", "unknown field `shceme`"),
        ("scheme = \"per-tensor-symmetric-int9\"", "not the name of a quantization scheme"),
        ("calibration = \"magic\"", "`magic` is not a calibration"),
        ("[[rules]]\nkeep = true", "missing field `path`"),
        (
            "[[rules]]\npath = \"a\"",
            "rule `a` has to say one of `keep = true`, `scheme`, `activations` and",
        ),
        ("[[rules]]\npath = \"a\"\nkeep = false", "rule `a` has to say one of"),
        ("[[rules]]\npath = \"a\"\nkept = true", "unknown field `kept`"),
        (
            "[[rules]]\npath = \"a\"\nkeep = true\nscheme = \"per-tensor-symmetric-int8\"",
            "rule `a` has to say one of",
        ),
        (
            "[[rules]]\npath = \"a\"\nkeep = true\ncalibration = \"mse\"",
            "`scheme` and `activations` may have a `calibration`",
        ),
        ("[[rules]]\npath = \"a\"\ncalibration = \"mse\"", "rule `a` has to say one of"),
    ] {
        let error = toml::from_str::<Recipe>(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn rules_say_what_they_are() {
    let recipe = full();
    assert_eq!(recipe.rules().len(), 3);
    assert_eq!(recipe.rules()[1].path(), "*.weight");
    assert!(recipe.rules()[1].matches("fc1.weight"));
    assert!(!recipe.rules()[1].matches("layers.0.weight"));
    let keep = Rule::keep("a").calibration("mse".parse().unwrap());
    assert_eq!(keep, Rule::keep("a"));
}

#[test]
fn serialized_parts_of_schemes_are_checked_when_they_are_read() {
    let error =
        serde_json::from_str::<quant::scheme::Block>(r#"{"len":0,"scale":"F32"}"#).unwrap_err();
    assert!(error.to_string().contains("a block has at least one element"));
    let error =
        serde_json::from_value::<quant::scheme::Range>(serde_json::json!([0.0, 1e39])).unwrap_err();
    assert!(error.to_string().contains("finite"), "{error}");
}
