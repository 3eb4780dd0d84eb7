//! Each step that is forgotten is an error with the path.

use ndarray::{Array, ArrayD, IxDyn};
use quant::activation::{ActivationError, ActivationMode, ConvertError};
use quant::quantize::{CalibrateError, Reason, Warning};
use quant::scheme::ActivationScheme;
use quant::{BincodeRecorder, Module, QuantizeError, Recipe, Rule};
use quant_nn::{ForwardError, Linear};

#[derive(Clone, Debug, Module)]
struct Net {
    fc: Linear,
}

fn net() -> Net {
    let weight = Array::from_shape_fn((2, 3), |(i, j)| i as f32 - j as f32).into_dyn();
    Net { fc: Linear::new(weight, None).unwrap() }
}

fn x() -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![0.5, -1.0, 2.0]).unwrap()
}

fn recipe(activations: ActivationScheme) -> Recipe {
    Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap()).activations(activations)
}

fn forward(net: &Net, x: ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
    net.fc.forward(&x)
}

#[test]
fn a_forward_pass_without_prepare_is_refused() {
    for scheme in [ActivationScheme::DYNAMIC, ActivationScheme::STATIC] {
        let net = net().quantize_weights(recipe(scheme)).unwrap();
        assert_eq!(net.fc.input.mode(), ActivationMode::Pending(scheme));
        let error = forward(&net, x()).unwrap_err();
        let expected = ActivationError::Pending { id: "fc.input".into(), scheme };
        assert_eq!(error, ForwardError::Activation(expected));
        assert!(error.to_string().starts_with("fc.input: "), "{error}");
    }
}

#[test]
fn a_plan_leaves_inputs_pending_too() {
    let plan = recipe(ActivationScheme::DYNAMIC).plan(&net()).unwrap();
    let net = plan.apply(net()).unwrap();
    assert_eq!(net.fc.input.mode(), ActivationMode::Pending(ActivationScheme::DYNAMIC));
}

#[test]
fn a_pending_input_is_saved_and_loaded() {
    let recorder = BincodeRecorder::default();
    let pending = net().quantize_weights(recipe(ActivationScheme::STATIC)).unwrap();
    let loaded = net().load_bytes(&pending.save_bytes(&recorder).unwrap(), &recorder).unwrap();
    assert_eq!(loaded.fc.input.mode(), ActivationMode::Pending(ActivationScheme::STATIC));
}

#[test]
fn a_conversion_without_calibration_is_refused() {
    let recipe = recipe(ActivationScheme::STATIC);
    let net = net().quantize_weights(&recipe).unwrap();
    let error = net.clone().convert().unwrap_err();
    assert_eq!(error, ConvertError::Pending(vec!["fc.input".into()]));
    assert!(error.to_string().starts_with("fc.input: "), "{error}");
    let error = net.prepare(&recipe).unwrap().convert().unwrap_err();
    assert_eq!(error, ConvertError::Unreached(vec!["fc.input".into()]));
}

#[test]
fn a_forward_pass_without_convert_is_refused() {
    let recipe = recipe(ActivationScheme::STATIC);
    let net = net().quantize_weights(&recipe).unwrap();
    let net = net.calibrate(&recipe, [x()], forward).unwrap();
    let error = forward(&net, x()).unwrap_err();
    let expected = ActivationError::Unconverted { id: "fc.input".into() };
    assert_eq!(error, ForwardError::Activation(expected));
    // A second calibration goes on.
    assert!(net.calibrate(&recipe, [x()], forward).is_ok());
}

#[test]
fn one_call_quantizes_and_prepares() {
    let steps = recipe(ActivationScheme::DYNAMIC);
    let by_steps = net().quantize_weights(&steps).unwrap().prepare(&steps).unwrap();
    let at_once = net().quantize(&steps).unwrap();
    assert_eq!(forward(&at_once, x()), forward(&by_steps, x()));

    let steps = recipe(ActivationScheme::STATIC);
    let by_steps = net().quantize_weights(&steps).unwrap();
    let by_steps = by_steps.calibrate(&steps, [x()], forward).unwrap().convert().unwrap();
    let at_once = net().quantize_with(&steps, [x()], forward).unwrap();
    assert!(matches!(at_once.fc.input.mode(), ActivationMode::Static(_)));
    assert_eq!(forward(&at_once, x()), forward(&by_steps, x()));
}

#[test]
fn static_inputs_want_batches() {
    let error = net().quantize(recipe(ActivationScheme::STATIC)).unwrap_err();
    assert_eq!(error, QuantizeError::Uncalibrated(vec!["fc.input".into()]));
    assert!(error.to_string().starts_with("fc.input: "), "{error}");
    let none: [ArrayD<f32>; 0] = [];
    let error = net().quantize_with(recipe(ActivationScheme::STATIC), none, forward).unwrap_err();
    assert!(matches!(error, CalibrateError::Convert(ConvertError::Unreached(_))), "{error}");
}

#[test]
fn an_input_stays_float_where_the_recipe_keeps_its_weights() {
    let recipe = recipe(ActivationScheme::DYNAMIC).rule(Rule::keep("1.fc.weight"));
    let plan = recipe.plan(&(net(), net())).unwrap();
    let planned = plan.activations();
    assert_eq!(planned[0].scheme, ActivationScheme::DYNAMIC);
    assert_eq!(planned[1].scheme, ActivationScheme::Float);
    assert_eq!(planned[1].reason, Reason::FloatWeights);
    let (integers, floats) = (net(), net()).quantize(&recipe).unwrap();
    assert!(matches!(integers.fc.input.mode(), ActivationMode::Dynamic(_)));
    assert_eq!(floats.fc.input.mode(), ActivationMode::Float);
    assert_eq!(forward(&floats, x()), forward(&net(), x()));
}

#[test]
fn a_closure_may_return_a_boxed_error_and_the_question_mark_takes_it() {
    fn run() -> Result<Net, Box<dyn std::error::Error>> {
        let fails = |_: &Net, _: ()| -> Result<(), Box<dyn std::error::Error>> {
            Err("no such file".into())
        };
        Ok(net().calibrate(recipe(ActivationScheme::STATIC), [()], fails)?)
    }
    assert_eq!(run().unwrap_err().to_string(), "batch 0: no such file");
}

#[test]
fn a_plan_warns_of_a_scheme_that_no_kernel_runs() {
    let schemes = [
        ("per-channel-symmetric-int8", None),
        ("per-block-symmetric-int4:len=3", None),
        ("per-block-minimum-int5:len=3", None),
        ("per-channel-symmetric-int8:axis=-1", Some(Warning::NoKernel)),
    ];
    let inputs = [ActivationScheme::DYNAMIC, ActivationScheme::Float];
    for (input, (scheme, warning)) in inputs.into_iter().flat_map(|i| schemes.map(|s| (i, s))) {
        let recipe = Recipe::new().scheme(scheme.parse().unwrap()).activations(input);
        let plan = recipe.plan(&net()).unwrap();
        assert_eq!(plan.params()[0].warning, warning, "{scheme}");
        assert_eq!(plan.to_string().contains("no kernel runs this scheme"), warning.is_some());
        let result = forward(&net().quantize(&recipe).unwrap(), x());
        assert_eq!(result.is_err(), warning.is_some(), "{scheme}");
    }
}

#[test]
fn a_plan_warns_of_inputs_in_blocks_that_do_not_divide_those_of_the_weights() {
    for (inputs, warning) in [
        ("dynamic-per-block-4-symmetric", None),
        ("dynamic-per-block-2-affine", None),
        ("dynamic-per-block-3-symmetric", Some(Warning::NoKernel)),
        ("dynamic-per-block-8-symmetric", Some(Warning::NoKernel)),
    ] {
        let scheme = "per-block-symmetric-int4:len=4".parse().unwrap();
        let recipe = Recipe::new().scheme(scheme).activations(inputs.parse().unwrap());
        assert_eq!(recipe.plan(&net()).unwrap().params()[0].warning, warning, "{inputs}");
        let result = forward(&net().quantize(&recipe).unwrap(), x());
        assert_eq!(result.is_err(), warning.is_some(), "{inputs}");
    }
    let scheme = "per-channel-symmetric-int8".parse().unwrap();
    for inputs in ["dynamic-per-block-3-symmetric", "dynamic-per-block-100-affine"] {
        let recipe = Recipe::new().scheme(scheme).activations(inputs.parse().unwrap());
        assert!(forward(&net().quantize(&recipe).unwrap(), x()).is_ok(), "{inputs}");
    }
}

#[test]
fn a_dequantized_model_runs_in_floats() {
    let float = net().quantize(recipe(ActivationScheme::DYNAMIC)).unwrap().dequantize();
    assert_eq!(float.fc.input.mode(), ActivationMode::Float);
    assert!(forward(&float, x()).is_ok());
}
