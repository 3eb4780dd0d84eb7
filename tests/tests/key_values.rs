//! How attention keeps keys and values: planned, set, saved and reported by path.

use quant::activation::KeyValueQuantizer;
use quant::quantize::Reason;
use quant::scheme::KeyValueScheme;
use quant::{BincodeRecorder, Module, Param, QuantizeError, Recipe, Rule};

#[derive(Module)]
struct Attention {
    weight: Param<[[f32; 4]; 2]>,
    keys_values: KeyValueQuantizer,
}

fn model() -> Vec<Attention> {
    let layer =
        || Attention { weight: Param::new([[0.5; 4]; 2]), keys_values: KeyValueQuantizer::new() };
    vec![layer(), layer()]
}

fn recipe() -> Recipe {
    toml::from_str(
        r#"
            keys-values = "int8"

            [[rules]]
            path = "0.keys_values"
            keys-values = "int4"
        "#,
    )
    .unwrap()
}

fn schemes(model: &[Attention]) -> Vec<KeyValueScheme> {
    model.iter().map(|layer| layer.keys_values.scheme()).collect()
}

#[test]
fn a_recipe_says_by_path_how_keys_and_values_are_kept() {
    let same = Recipe::new()
        .keys_values(KeyValueScheme::Int8)
        .rule(Rule::keys_values("0.keys_values", KeyValueScheme::Int4));
    assert_eq!(recipe(), same);
    let expected = [KeyValueScheme::Int4, KeyValueScheme::Int8];
    assert_eq!(schemes(&model().quantize(recipe()).unwrap()), expected);
    assert_eq!(schemes(&model().quantize_weights(recipe()).unwrap()), expected);
    assert_eq!(schemes(&model().prepare(recipe()).unwrap()), expected);
    assert_eq!(schemes(&model()), [KeyValueScheme::F32; 2]);
}

#[test]
fn a_plan_lists_them_and_prints_them() {
    let plan = recipe().plan(&model()).unwrap();
    let [first, second] = plan.key_values() else { panic!("two leaves") };
    let pattern = "0.keys_values".into();
    assert_eq!((first.id.as_str(), first.scheme), ("0.keys_values", KeyValueScheme::Int4));
    assert_eq!(first.reason, Reason::Rule { rule: 0, pattern });
    assert_eq!((second.scheme, &second.reason), (KeyValueScheme::Int8, &Reason::Recipe));
    let printed = plan.to_string();
    assert!(printed.contains("1.keys_values  keys and values int8"), "{printed}");
    assert_eq!(schemes(&plan.apply(model()).unwrap())[0], KeyValueScheme::Int4);
    let again = plan.to_recipe().unwrap().plan(&model()).unwrap();
    assert_eq!(again.key_values()[1].scheme, KeyValueScheme::Int8);
}

#[test]
fn a_rule_that_matches_none_is_an_error() {
    let recipe = Recipe::new().rule(Rule::keys_values("0.key_values", KeyValueScheme::Int8));
    let Err(QuantizeError::Rules(unmatched)) = recipe.plan(&model()) else { panic!("no match") };
    assert_eq!(unmatched.len(), 1);
    let nothing: Result<Recipe, _> = toml::from_str("rules = [{ path = \"a\" }]");
    assert!(nothing.unwrap_err().to_string().contains("`keys-values`"));
}

#[test]
fn a_record_keeps_the_scheme() {
    let recorder = BincodeRecorder::default();
    let bytes = model().quantize(recipe()).unwrap().save_bytes(&recorder).unwrap();
    let loaded = model().load_bytes(&bytes, &recorder).unwrap();
    assert_eq!(schemes(&loaded), [KeyValueScheme::Int4, KeyValueScheme::Int8]);
    let floats = model().save_bytes(&recorder).unwrap();
    assert_eq!(schemes(&loaded.load_bytes(&floats, &recorder).unwrap()), [KeyValueScheme::F32; 2]);
}

#[test]
fn a_damaged_state_is_an_error() {
    use quant::module::StateLeaf;
    let mut leaf = KeyValueQuantizer::new();
    let load = |leaf: &mut KeyValueQuantizer, data| leaf.load(&"a".into(), Some(data));
    assert!(load(&mut leaf, b"int9").unwrap_err().contains("int8"));
    assert_eq!(load(&mut leaf, &[0xff]).unwrap_err(), "the scheme is not UTF-8");
}
