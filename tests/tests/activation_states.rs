//! Activation quantizers: what recipes make of them, what calibration finds, what records keep.

use ndarray::{ArrayD, IxDyn};
use quant::activation::{ActivationError, ActivationMode, ActivationQuantizer, ConvertError};
use quant::quantize::{CalibrateError, UnmatchedRule};
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, Module, QuantizeError, Recipe, Rule};
use quant_nn::{ForwardError, Linear};
use tests::errors::chain;

#[derive(Clone, Debug, Module)]
struct Net {
    first: Linear,
    second: Linear,
}

impl Net {
    fn new() -> Self {
        let weight = |seed| {
            ArrayD::from_shape_fn(IxDyn(&[4, 4]), |i| {
                ((i[0] * 7 + i[1] * 3 + seed) % 11) as f32 - 5.0
            })
        };
        Self {
            first: Linear::new(weight(0), None).unwrap(),
            second: Linear::new(weight(5), None).unwrap(),
        }
    }

    fn forward(&self, x: &ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
        self.second.forward(&self.first.forward(x)?)
    }
}

fn batch(scale: f32) -> ArrayD<f32> {
    ArrayD::from_shape_fn(IxDyn(&[3, 4]), |i| scale * (i[0] as f32 - i[1] as f32 * 0.4))
}

fn int8(activations: ActivationScheme) -> Recipe {
    let scheme = "per-channel-symmetric-int8".parse().unwrap();
    Recipe::new().scheme(scheme).activations(activations)
}

fn calibrated() -> Net {
    let recipe = int8(ActivationScheme::STATIC);
    let net = Net::new().quantize_weights(recipe.clone()).unwrap();
    net.calibrate(&recipe, [batch(1.0), batch(2.0)], |net, x| net.forward(&x)).unwrap()
}

#[test]
fn static_activations_have_the_range_of_all_batches() {
    let net = calibrated().convert().unwrap();
    let ActivationMode::Static(first) = net.first.input.mode() else { panic!("not static") };
    // The values go from -2.4 to 4: 255 steps.
    assert!((first.params.scale() - 6.4 / 255.0).abs() < 1e-6, "{first:?}");
    assert_eq!(net.first.input.id().unwrap(), &"first.input");
}

#[test]
fn rules_choose_activations_by_path() {
    let recipe = int8(ActivationScheme::DYNAMIC)
        .rule(Rule::activations("second.input", ActivationScheme::Float));
    let net = Net::new().prepare(&recipe).unwrap();
    assert!(matches!(net.first.input.mode(), ActivationMode::Dynamic(_)));
    assert_eq!(net.second.input.mode(), ActivationMode::Float);
    let plan = recipe.plan(&Net::new()).unwrap();
    let schemes: Vec<_> = plan.activations().iter().map(|it| it.scheme).collect();
    assert_eq!(schemes, [ActivationScheme::DYNAMIC, ActivationScheme::Float]);
}

#[test]
fn rules_about_activations_are_checked_like_others() {
    let recipe = Recipe::new().rule(Rule::activations("frist.input", ActivationScheme::DYNAMIC));
    let Err(QuantizeError::Rules(rules)) = Net::new().prepare(&recipe) else {
        panic!("a rule without effect")
    };
    let [UnmatchedRule::NoMatch { nearest, .. }] = &*rules else { panic!("{rules:?}") };
    assert_eq!(nearest[0], "first.input");
    let error = Net::new().quantize_weights(&recipe).unwrap_err();
    assert_eq!(error, QuantizeError::Rules(rules));
}

#[test]
fn recipes_with_activations_are_toml() {
    let recipe = int8(ActivationScheme::STATIC)
        .activation_calibration("percentile:99.9".parse().unwrap())
        .skip_non_finite()
        .rule(Rule::activations("second.input", ActivationScheme::DYNAMIC));
    let text = toml::to_string(&recipe).unwrap();
    assert!(text.contains("activation-calibration = \"percentile:99.9\""), "{text}");
    assert_eq!(toml::from_str::<Recipe>(&text).unwrap(), recipe);
}

#[test]
fn a_layer_that_no_data_reached_is_named() {
    let recipe = int8(ActivationScheme::STATIC);
    let net = Net::new();
    let net = net.calibrate(&recipe, [batch(1.0)], |net, x| net.first.forward(&x)).unwrap();
    let error = net.convert().unwrap_err();
    assert_eq!(error, ConvertError::Unreached(vec!["second.input".into()]));
    assert_eq!(error.to_string(), "second.input: no calibration data reached this input");
}

#[test]
fn calibration_without_data_reaches_nothing() {
    let recipe = int8(ActivationScheme::STATIC);
    let none: [ArrayD<f32>; 0] = [];
    let net = Net::new().calibrate(&recipe, none, |net, x| net.forward(&x)).unwrap();
    let Err(ConvertError::Unreached(ids)) = net.convert() else { panic!("converted") };
    assert_eq!(ids.len(), 2);
}

#[test]
fn converting_twice_changes_nothing() {
    let once = calibrated().convert().unwrap();
    let twice = once.clone().convert().unwrap();
    assert_eq!(twice.first.input, once.first.input);
    assert_eq!(twice.forward(&batch(1.5)).unwrap(), once.forward(&batch(1.5)).unwrap());
}

#[test]
fn calibration_goes_on_where_it_ended_even_after_saving() {
    let recipe = int8(ActivationScheme::STATIC);
    let recorder = BincodeRecorder::default();
    let half = Net::new().calibrate(&recipe, [batch(1.0)], |net, x| net.forward(&x)).unwrap();
    let half = Net::new().load_bytes(&half.save_bytes(&recorder).unwrap(), &recorder).unwrap();
    assert_eq!(half.first.input.mode(), ActivationMode::Observing);
    let whole = half.calibrate(&recipe, [batch(2.0)], |net, x| net.forward(&x)).unwrap();
    let at_once =
        Net::new().calibrate(&recipe, [batch(1.0), batch(2.0)], |net, x| net.forward(&x)).unwrap();
    assert_eq!(whole.first.input, at_once.first.input);
    assert_eq!(whole.second.input, at_once.second.input);
}

#[test]
fn saved_and_loaded_models_give_the_same_bits() {
    let recorder = BincodeRecorder::default();
    let dynamic = int8(ActivationScheme::DYNAMIC);
    let dynamic = Net::new().quantize_weights(dynamic.clone()).unwrap().prepare(&dynamic);
    let blocks = int8("dynamic-per-block-3-symmetric".parse().unwrap());
    let blocks = Net::new().quantize_weights(blocks.clone()).unwrap().prepare(&blocks);
    for net in [calibrated().convert().unwrap(), dynamic.unwrap(), blocks.unwrap()] {
        let bytes = net.save_bytes(&recorder).unwrap();
        let loaded = Net::new().load_bytes(&bytes, &recorder).unwrap();
        assert_eq!(loaded.first.input, net.first.input);
        let bits = |net: &Net| {
            let y = net.forward(&batch(0.7)).unwrap();
            y.iter().map(|y| y.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&loaded), bits(&net));
        assert_eq!(loaded.save_bytes(&recorder).unwrap(), bytes);
    }
}

#[test]
fn a_record_without_states_makes_activations_float() {
    let recorder = BincodeRecorder::default();
    let bytes = Net::new().save_bytes(&recorder).unwrap();
    let loaded = calibrated().convert().unwrap().load_bytes(&bytes, &recorder).unwrap();
    assert_eq!(loaded.first.input.mode(), ActivationMode::Float);
}

#[test]
fn a_nan_is_an_error_that_names_the_layer() {
    let dynamic = int8(ActivationScheme::DYNAMIC);
    let dynamic = Net::new().quantize_weights(dynamic.clone()).unwrap().prepare(&dynamic);
    let observing = Net::new().prepare(int8(ActivationScheme::STATIC)).unwrap();
    for net in [observing, calibrated().convert().unwrap(), dynamic.unwrap()] {
        let mut x = batch(1.0);
        x[[1, 2]] = f32::NAN;
        let Err(ForwardError::Activation(error)) = net.forward(&x) else { panic!("no error") };
        let ActivationError::NonFinite { id, source } = error else { panic!("{error}") };
        assert_eq!(id, "first.input");
        assert_eq!(source.index, 6);
    }
}

#[test]
fn infinity_saturates_where_the_range_is_fixed_and_is_an_error_where_it_is_found() {
    let mut x = batch(1.0);
    x[[0, 0]] = f32::INFINITY;
    assert!(calibrated().convert().unwrap().first.forward(&x).is_ok());
    let dynamic = int8(ActivationScheme::DYNAMIC);
    let net = Net::new().quantize_weights(dynamic.clone()).unwrap().prepare(&dynamic).unwrap();
    assert!(net.first.forward(&x).is_err());
}

#[test]
fn calibration_data_with_a_nan_is_an_error_or_counted() {
    let mut x = batch(1.0);
    x[[2, 0]] = f32::NAN;
    let recipe = int8(ActivationScheme::STATIC);
    let error = Net::new().calibrate(&recipe, [&x], |net, x| net.first.forward(x)).unwrap_err();
    assert!(matches!(error, CalibrateError::Forward { batch: 0, .. }), "{error}");
    let CalibrateError::Forward { source, .. } = &error else { panic!("{error}") };
    assert_eq!(chain(source), "first.input: the input is not finite: element 8 is NaN");

    let recipe = recipe.skip_non_finite();
    let net = Net::new().calibrate(&recipe, [&x], |net, x| net.first.forward(x)).unwrap();
    assert_eq!(net.first.input.skipped(), 1);
}

#[test]
fn a_float_weight_behind_a_quantized_input_is_an_error_with_the_path() {
    let recipe = Recipe::new().activations(ActivationScheme::DYNAMIC);
    let net = Net::new().prepare(&recipe).unwrap();
    let error = net.forward(&batch(1.0)).unwrap_err();
    assert!(matches!(error, ForwardError::FloatWeight { .. }), "{error}");
    assert!(error.to_string().starts_with("first: the input is to be quantized"), "{error}");
}

#[test]
fn a_hostile_state_is_an_error_with_the_path() {
    let recorder = BincodeRecorder::default();
    let bytes = calibrated().convert().unwrap().save_bytes(&recorder).unwrap();
    let record =
        quant::record::Recorder::load(&recorder, &mut bytes.as_slice(), Some(bytes.len() as u64))
            .unwrap();
    let good = record.states()[0].clone();
    for length in 0..good.data.len() {
        let mut record = record.clone();
        let data = good.data[..length].to_vec();
        record.insert_state(quant::record::RecordState { data, ..good.clone() });
        let error = Net::new().load_record(record).unwrap_err();
        assert!(error.to_string().contains("first.input"), "{error}");
    }
    for byte in 0..good.data.len() {
        for bit in 0..8 {
            let mut record = record.clone();
            let mut data = good.data.clone();
            data[byte] ^= 1 << bit;
            record.insert_state(quant::record::RecordState { data, ..good.clone() });
            // Refused, or a state that makes sense; never a panic.
            if let Ok(net) = Net::new().load_record(record) {
                let _ = net.forward(&batch(1.0));
            }
        }
    }
}

#[test]
fn a_saved_average_that_is_not_finite_is_refused_with_the_path() {
    let average = "moving-average".parse().unwrap();
    let recipe = int8(ActivationScheme::STATIC).activation_calibration(average);
    let net = Net::new().quantize_weights(recipe.clone()).unwrap();
    let net = net.calibrate(&recipe, [batch(1.0)], |net, x| net.forward(&x)).unwrap();
    let good = quant::record::Record::from_module(&net).unwrap();
    assert!(Net::new().load_record(good.clone()).is_ok());
    let state = good.states()[0].clone();
    // The two averages are the last eight bytes.
    for (from_end, value) in [(4, f32::NAN), (4, f32::INFINITY), (8, f32::NEG_INFINITY)] {
        let (mut record, mut state) = (good.clone(), state.clone());
        let at = state.data.len() - from_end;
        state.data[at..at + 4].copy_from_slice(&value.to_le_bytes());
        record.insert_state(state);
        let error = Net::new().load_record(record).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("first.input") && text.contains("not finite"), "{text}");
    }
}

#[test]
fn observers_are_shared_with_no_clone() {
    let recipe = Recipe::new().activations(ActivationScheme::STATIC);
    let one = ActivationQuantizer::new().prepare(&recipe).unwrap();
    let other = one.clone();
    one.observe(&[1.0]).unwrap();
    assert_ne!(one, other);
    assert!(other.convert().is_err());
}
