//! The outputs of layers of a float and a quantized model, side by side.

use ndarray::ArrayD;
use quant::activation::{CompareError, LayerComparison};
use quant::moments::SecondMoments;
use quant::{Module, Recipe, Rule};
use quant_nn::{Conv2d, Conv2dOptions, ForwardError, Linear};
use tests::random::Random;

#[derive(Clone, Module)]
struct Net {
    conv: Conv2d,
    first: Linear,
    second: Linear,
    unused: Linear,
    #[module(skip)]
    runs: usize,
}

fn array(shape: &[usize], random: &mut Random) -> ArrayD<f32> {
    ArrayD::from_shape_simple_fn(shape, || random.normal())
}

fn net() -> Net {
    let mut random = Random(1);
    let mut linear = |shape: &[usize]| Linear::new(array(shape, &mut random), None).unwrap();
    let [first, second, unused] = [linear(&[32, 64]), linear(&[8, 32]), linear(&[4, 4])];
    let conv = Conv2d::new(array(&[4, 1, 3, 3], &mut random), None, Conv2dOptions::default());
    Net { conv: conv.unwrap(), first, second, unused, runs: 1 }
}

impl Net {
    fn forward(&self, x: &ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
        let y = self.conv.forward(x)?;
        let rows = y.len() / 64;
        let y = y.into_shape_with_order(vec![rows, 64]).unwrap();
        for _ in 1..self.runs {
            self.first.forward(&y)?;
        }
        self.second.forward(&self.first.forward(&y)?)
    }
}

fn batches() -> Vec<ArrayD<f32>> {
    let mut random = Random(2);
    (0..3).map(|_| array(&[2, 1, 6, 6], &mut random)).collect()
}

fn scheme(name: &str) -> quant::QuantizationScheme {
    name.parse().unwrap()
}

#[test]
fn layers_are_compared_and_the_worst_comes_first() {
    let mut float = net();
    let recipe = Recipe::new()
        .scheme(scheme("int8"))
        .rule(Rule::quantize("first.weight", scheme("per-tensor-symmetric-int2")))
        .rule(Rule::keep("conv.weight"));
    let mut quantized = float.clone().quantize_weights(&recipe).unwrap();
    let compared =
        LayerComparison::of(&mut float, &mut quantized, &batches(), Net::forward).unwrap();
    let ids: Vec<&str> = compared.layers.iter().map(|layer| layer.id.as_str()).collect();
    assert_eq!(ids[2], "conv", "a float layer of float inputs is equal");
    assert_eq!(compared.unreached, ["unused"]);
    let conv = &compared.layers[2];
    assert_eq!((conv.sqnr_db, conv.cosine, conv.max_abs_error), (None, 1.0, 0.0));
    assert_eq!((conv.scheme, conv.count), (None, 3 * 2 * 4 * 4 * 4));

    // The definitions, by the outputs of the layer.
    let first = compared.layers.iter().find(|layer| layer.id == "first").unwrap();
    assert_eq!(first.scheme, Some(scheme("per-tensor-symmetric-int2")));
    let outputs = |net: &Net| -> Vec<f64> {
        let of_batch = |x: &ArrayD<f32>| {
            let y = net.conv.forward(x).unwrap();
            let rows = y.len() / 64;
            let y = y.into_shape_with_order(vec![rows, 64]).unwrap();
            net.first.forward(&y).unwrap().into_iter().map(f64::from).collect::<Vec<_>>()
        };
        batches().iter().flat_map(of_batch).collect()
    };
    let (y, other) = (outputs(&float), outputs(&quantized));
    let sum = |f: &dyn Fn(f64, f64) -> f64| y.iter().zip(&other).map(|(&y, &o)| f(y, o)).sum();
    let (signal, noise): (f64, f64) = (sum(&|y, _| y * y), sum(&|y, o| (y - o).powi(2)));
    let cosine: f64 = sum(&|y, o| y * o) / (signal * sum(&|_, o| o * o)).sqrt();
    let ratio = 10.0 * (signal / noise).log10();
    assert!((first.sqnr_db.unwrap() - ratio).abs() < 1e-9);
    assert!((first.cosine - cosine).abs() < 1e-12);
    let largest = y.iter().zip(&other).map(|(y, o)| (y - o).abs()).fold(0.0, f64::max);
    assert_eq!(first.max_abs_error, largest);

    let table = compared.to_string();
    assert!(table.starts_with("layer"), "{table}");
    assert!(table.contains("unused: no batch reached this layer"), "{table}");
    let json = serde_json::to_value(&compared).unwrap();
    assert_eq!(serde_json::from_value::<LayerComparison>(json.clone()).unwrap(), compared);
    assert_eq!(json["layers"][2]["id"], "conv");
    assert_eq!(json["layers"][2]["sqnr_db"], serde_json::Value::Null);
}

#[test]
fn integer_layers_are_compared_whether_they_share_their_input_or_not() {
    #[derive(Clone, Module)]
    struct Pair {
        a: Linear,
        b: Linear,
    }
    let forward = |pair: &Pair, x: &ArrayD<f32>| {
        let mut outputs = [ArrayD::zeros(vec![0, 0]), ArrayD::zeros(vec![0, 0])];
        Linear::forward_all([&pair.a, &pair.b], x, outputs.each_mut())?;
        Ok::<_, ForwardError>(outputs)
    };
    let mut random = Random(3);
    let mut linear = || Linear::new(array(&[16, 64], &mut random), None).unwrap();
    let mut float = Pair { a: linear(), b: linear() };
    let recipe = Recipe::new().scheme(scheme("int8")).activations("dynamic".parse().unwrap());
    let mut quantized = float.clone().quantize(&recipe).unwrap();
    let x = array(&[5, 64], &mut random);
    let before = forward(&quantized, &x).unwrap();
    let compared = LayerComparison::of(&mut float, &mut quantized, [&x], forward).unwrap();
    assert_eq!(compared.layers.len(), 2);
    assert!(compared.layers.iter().all(|layer| layer.sqnr_db.unwrap() > 30.0), "{compared}");
    assert_eq!(forward(&quantized, &x).unwrap(), before, "nothing stays behind");
}

#[test]
fn models_that_do_not_fit_are_refused_and_left_as_they_were() {
    let (mut float, mut more) = (net(), Net { runs: 2, ..net() });
    let error = LayerComparison::of(&mut float, &mut more, &batches(), Net::forward).unwrap_err();
    assert!(matches!(&error, CompareError::Outputs { id, batch: 0 } if id == "first"), "{error}");
    let error = LayerComparison::of(&mut more, &mut float, &batches(), Net::forward).unwrap_err();
    assert!(matches!(&error, CompareError::Outputs { id, batch: 0 } if id == "first"), "{error}");

    let wrong = [array(&[2, 1, 6, 6], &mut Random(4)), array(&[2, 2, 6, 6], &mut Random(5))];
    let mut other = float.clone();
    let error = LayerComparison::of(&mut float, &mut other, &wrong, Net::forward).unwrap_err();
    assert!(matches!(error, CompareError::Forward { batch: 1, .. }), "{error}");

    let mut huge = float.clone();
    huge.second.weight = array(&[8, 32], &mut Random(6)).mapv(|value| value * 1e38).into();
    let error = LayerComparison::of(&mut float, &mut huge, &batches(), Net::forward).unwrap_err();
    assert!(matches!(error, CompareError::NonFinite { batch: 0, .. }), "{error}");

    let mut lists = [vec![net().first], vec![net().first, net().first]];
    let [one, two] = &mut lists;
    let error = LayerComparison::of(one, two, [()], |_, ()| Ok::<_, ForwardError>(())).unwrap_err();
    assert!(matches!(&error, CompareError::OtherLayers { id } if id == "1"), "{error}");

    // Taps were taken away: moments can be observed as before.
    let moments = SecondMoments::observe(&mut float, &batches(), |_| true, Net::forward).unwrap();
    let ids: Vec<&str> = moments.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["conv", "first", "second"]);
}
