//! Sensitivity: each parameter quantized alone, evaluated, put back, ranked.

use std::convert::Infallible;
use std::error::Error;

use ndarray::{Array1, Array2};
use quant::activation::ActivationQuantizer;
use quant::quantize::mixed::MixedPrecision;
use quant::quantize::{Sensitivity, SensitivityError};
use quant::scheme::ActivationScheme;
use quant::{
    MinMaxCalibration, Module, Param, QuantizationScheme, QuantizationType, QuantizeError,
    Quantizer, Recipe, Rule,
};

const INT2: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt2);
const INT8: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);

/// A perceptron: its middle layer counts ten times, and its last is nearly left out.
#[derive(Clone, Debug, Module)]
struct Mlp {
    fc1: Dense,
    fc2: Dense,
    fc3: Dense,
}

#[derive(Clone, Debug, Module)]
struct Dense {
    weight: Param<Array2<f32>>,
    bias: Param<Array1<f32>>,
    input: ActivationQuantizer,
}

impl Dense {
    fn new(seed: usize) -> Self {
        let value = |(i, j): (usize, usize)| ((i * 37 + j * 101 + seed * 7) as f32).sin();
        Self {
            weight: Param::new(Array2::from_shape_fn((8, 8), value)),
            bias: Param::new(Array1::from_elem(8, 0.1)),
            input: ActivationQuantizer::new(),
        }
    }

    fn forward(&self, x: &Array2<f32>) -> Array2<f32> {
        x.dot(&self.weight.value().t()) + &*self.bias.value()
    }
}

impl Mlp {
    fn new() -> Self {
        Self { fc1: Dense::new(1), fc2: Dense::new(2), fc3: Dense::new(3) }
    }

    fn forward(&self, x: &Array2<f32>) -> Array2<f32> {
        let x = self.fc1.forward(x).mapv(|x| x.max(0.0)) * 0.01;
        // Around the middle layer, nothing makes up for its error.
        let middle = self.fc2.forward(&Array2::eye(8)) * 10.0;
        self.fc3.forward(&x) * 0.01 + middle
    }
}

fn loss(reference: &Mlp) -> impl FnMut(&Mlp) -> Result<f64, Infallible> {
    let input = Array2::from_shape_fn((8, 8), |(i, j)| (i as f32 - j as f32) / 8.0);
    let expected = reference.forward(&input);
    move |mlp| Ok(f64::from((mlp.forward(&input) - &expected).mapv(|x| x * x).sum()))
}

fn quantizer(scheme: QuantizationScheme) -> Quantizer<MinMaxCalibration> {
    Quantizer { calibration: MinMaxCalibration {}, scheme }
}

#[test]
fn the_layer_that_matters_comes_first_and_the_model_is_as_it_was() {
    let mut mlp = Mlp::new();
    let before = format!("{mlp:?}");
    let sensitivity = Sensitivity::measure(&quantizer(INT2), &mut mlp, loss(&Mlp::new())).unwrap();
    assert_eq!(format!("{mlp:?}"), before);
    assert_eq!(sensitivity.baseline(), 0.0);
    let layers = sensitivity.layers();
    assert_eq!(layers.len(), 3, "biases stay float");
    assert_eq!(layers[0].id, "fc2.weight");
    assert!(layers.is_sorted_by(|a, b| a.delta >= b.delta));
    assert_eq!((layers[0].bytes_before, layers[0].bytes_after), (256, 16 + 4));
    assert_eq!(layers[0].bytes_saved(), 236);
    assert_eq!(layers[0].scheme, INT2);
}

#[test]
fn each_loss_is_that_of_one_parameter_quantized() {
    let mut mlp = Mlp::new();
    let recipe = Recipe::new()
        .rule(Rule::quantize("fc1.*", INT8))
        .rule(Rule::quantize("fc3.weight", INT2).calibration("mse".parse().unwrap()));
    let sensitivity = Sensitivity::measure(&recipe, &mut mlp, loss(&Mlp::new())).unwrap();
    assert_eq!(sensitivity.layers().len(), 3);
    for layer in sensitivity.layers() {
        let calibration = if layer.scheme == INT2 { "mse" } else { "min-max" };
        let rule = Rule::quantize(layer.id.as_str(), layer.scheme);
        let mut alone = Recipe::new().rule(rule.calibration(calibration.parse().unwrap()));
        let plan = alone.plan(&mlp).unwrap();
        assert_eq!(
            layer.bytes_after,
            plan.params().iter().find(|it| it.id == layer.id).unwrap().bytes_after
        );
        let quantized = mlp.clone().quantize_weights(&mut alone).unwrap();
        assert_eq!(Ok(layer.loss), loss(&mlp)(&quantized));
        assert_eq!(layer.delta, layer.loss - sensitivity.baseline());
    }
}

#[test]
fn it_prints_as_a_table_and_is_read_back() {
    let mut mlp = Mlp::new();
    let sensitivity = Sensitivity::measure(&quantizer(INT2), &mut mlp, loss(&Mlp::new())).unwrap();
    let table = sensitivity.to_string();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("parameter") && lines[0].ends_with("bytes saved"));
    assert!(lines[1].starts_with("fc2.weight  per-tensor-symmetric-int2"), "{table}");
    assert!(lines[1].ends_with("236"), "{table}");
    assert_eq!(lines.len(), 1 + 3 + 1);
    let json = serde_json::to_string(&sensitivity).unwrap();
    assert_eq!(serde_json::from_str::<Sensitivity>(&json).unwrap(), sensitivity);
}

#[test]
fn weights_lead_the_bytes_to_the_layer_that_matters() {
    let mut mlp = Mlp::new();
    let sensitivity = Sensitivity::measure(&quantizer(INT2), &mut mlp, loss(&Mlp::new())).unwrap();
    let weights = sensitivity.weights();
    let layer = &sensitivity.layers()[0];
    assert_eq!(weights["fc2.weight"], layer.delta / layer.noise);
    let chosen = MixedPrecision::new("45%".parse().unwrap(), [INT8, INT2])
        .weights(weights)
        .plan(&mlp)
        .unwrap();
    let of = |id: &str| chosen.plan.params().iter().find(|it| it.id == id).unwrap();
    assert_eq!(of("fc2.weight").bytes_after, 64 + 4);
}

#[test]
fn where_the_loss_does_not_grow_the_weight_is_the_least_of_the_others() {
    let mut mlp = Mlp::new();
    // Only the second layer matters, and the third is better when it is quantized.
    let loss = |mlp: &Mlp| -> Result<f64, Infallible> {
        let quantized = |layer: &Dense| f64::from(u8::from(layer.weight.is_quantized()));
        Ok(5.0 + quantized(&mlp.fc2) - quantized(&mlp.fc3))
    };
    let sensitivity = Sensitivity::measure(&quantizer(INT2), &mut mlp, loss).unwrap();
    let order: Vec<_> = sensitivity.layers().iter().map(|it| (it.id.as_str(), it.delta)).collect();
    assert_eq!(order, [("fc2.weight", 1.0), ("fc1.weight", 0.0), ("fc3.weight", -1.0)]);
    let weights = sensitivity.weights();
    assert!(weights["fc2.weight"] > 0.0);
    assert_eq!(weights["fc1.weight"], weights["fc2.weight"]);
    assert_eq!(weights["fc3.weight"], weights["fc2.weight"]);
    let flat = |_: &Mlp| Ok::<_, Infallible>(1.0);
    let sensitivity = Sensitivity::measure(&quantizer(INT2), &mut mlp, flat).unwrap();
    assert!(sensitivity.weights().values().all(|&weight| weight == 1.0));
}

#[test]
fn activations_are_left_as_they_are() {
    let recipe = Recipe::new().activations(ActivationScheme::DYNAMIC).scheme(INT8);
    let mut mlp = Mlp::new().prepare(&recipe).unwrap();
    let before = format!("{mlp:?}");
    let mut seen = 0;
    let loss = |mlp: &Mlp| -> Result<f64, Infallible> {
        seen += u32::from(mlp.fc1.input == mlp.fc2.input);
        Ok(0.0)
    };
    Sensitivity::measure(&recipe, &mut mlp, loss).unwrap();
    assert_eq!(seen, 4);
    assert_eq!(format!("{mlp:?}"), before);
}

#[test]
fn a_loss_that_fails_names_the_parameter_and_leaves_the_model() {
    let mut mlp = Mlp::new();
    let before = format!("{mlp:?}");
    for (bad, words) in [(Ok(f64::NAN), "the loss is NaN"), (Err("no data"), "no data")] {
        let failing = |mlp: &Mlp| if mlp.fc2.weight.is_quantized() { bad } else { Ok(1.0) };
        let error = Sensitivity::measure(&quantizer(INT2), &mut mlp, failing).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("fc2.weight: "), "{message}");
        assert!(message.ends_with(words), "{message}");
        assert_eq!(format!("{mlp:?}"), before);
    }
    let error =
        Sensitivity::measure(&quantizer(INT2), &mut mlp, |_| Ok::<_, Infallible>(f64::INFINITY));
    let error = error.unwrap_err();
    assert!(matches!(error, SensitivityError::NonFinite { id: None, loss: f64::INFINITY }));
    assert_eq!(error.to_string(), "with nothing quantized, the loss is inf");
    assert!(error.source().is_none());
    let failing = |_: &Mlp| Err(std::io::Error::other("gone"));
    let error = Sensitivity::measure(&quantizer(INT2), &mut mlp, failing).unwrap_err();
    assert!(error.source().is_none() && error.to_string().ends_with("gone"), "{error}");
    let SensitivityError::Loss { id: None, source } = error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::Other);
}

#[test]
fn a_weight_that_cannot_be_quantized_is_found_before_any_loss_is_computed() {
    let mut mlp = Mlp::new();
    mlp.fc3.weight.as_float_mut().unwrap()[[0, 0]] = f32::NAN;
    let never = |_: &Mlp| -> Result<f64, Infallible> { panic!("no loss is needed") };
    let error = Sensitivity::measure(&quantizer(INT2), &mut mlp, never).unwrap_err();
    let SensitivityError::Quantize(QuantizeError::Param { ref id, .. }) = error else { panic!() };
    assert_eq!(id, "fc3.weight");
    assert!(error.source().is_some());
    assert!(error.to_string().starts_with("fc3.weight: "));
}
