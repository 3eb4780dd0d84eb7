//! Biases that give the outputs of a quantized model their means back.

use ndarray::{ArrayD, Axis};
use quant::activation::{BiasCorrection, CompareError};
use quant::moments::SecondMoments;
use quant::scheme::ActivationScheme;
use quant::{Module, Param, Recipe, Rule};
use quant_nn::{Conv2d, Conv2dOptions, ForwardError, Linear};
use tests::random::Random;

/// Runs `conv` before `first`, which is declared before it.
#[derive(Clone, Debug, PartialEq, Module)]
struct Net {
    first: Dense,
    conv: Image,
    unused: Dense,
    bare: Dense,
}

#[derive(Clone, Debug, Module)]
struct Dense(Linear);

#[derive(Clone, Debug, Module)]
struct Image(Conv2d);

impl PartialEq for Dense {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.weight, &self.0.bias) == (&other.0.weight, &other.0.bias)
    }
}

impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.weight, &self.0.bias) == (&other.0.weight, &other.0.bias)
    }
}

fn array(shape: &[usize], random: &mut Random) -> ArrayD<f32> {
    ArrayD::from_shape_simple_fn(shape, || random.normal())
}

fn net() -> Net {
    let mut random = Random(1);
    let mut dense = |shape: &[usize], has_bias: bool| {
        let bias = has_bias.then(|| array(&shape[..1], &mut random));
        Dense(Linear::new(array(shape, &mut random), bias).unwrap())
    };
    let [first, unused, bare] =
        [dense(&[8, 64], true), dense(&[4, 4], true), dense(&[4, 8], false)];
    let mut random = Random(3);
    let (weight, bias) = (array(&[4, 2, 3, 3], &mut random), array(&[4], &mut random));
    let conv = Conv2d::new(weight, Some(bias), Conv2dOptions::new().padding([1, 0])).unwrap();
    Net { first, conv: Image(conv), unused, bare }
}

impl Net {
    fn outputs(&self, x: &ArrayD<f32>) -> Result<[ArrayD<f32>; 2], ForwardError> {
        let images = self.conv.0.forward(x)?;
        let rows = vec![images.len() / 64, 64];
        let rows = images.mapv(|x| x.max(0.0)).into_shape_with_order(rows);
        let y = self.first.0.forward(&rows.unwrap())?;
        self.bare.0.forward(&y)?;
        Ok([images, y])
    }

    fn forward(&self, x: &ArrayD<f32>) -> Result<(), ForwardError> {
        self.outputs(x).map(drop)
    }
}

/// Two images of 4 × 6, whose mean is not 0.
fn batches() -> Vec<ArrayD<f32>> {
    let mut random = Random(2);
    (0..3).map(|_| array(&[2, 2, 4, 6], &mut random).mapv(|x| x + 1.0)).collect()
}

fn quantized(float: &Net) -> Net {
    let recipe = Recipe::new()
        .scheme("per-tensor-symmetric-int2".parse().unwrap())
        .activations(ActivationScheme::DYNAMIC);
    float.clone().quantize(&recipe).unwrap()
}

/// The mean of each channel, the second axis, over all batches.
fn means(net: &Net, output: usize) -> Vec<f64> {
    let all: Vec<ArrayD<f32>> =
        batches().iter().map(|x| net.outputs(x).unwrap()[output].clone()).collect();
    let channels = all[0].shape()[1];
    let mean = |channel| {
        let values: Vec<f64> = all
            .iter()
            .flat_map(|y| {
                y.index_axis(Axis(1), channel).iter().map(|&y| f64::from(y)).collect::<Vec<_>>()
            })
            .collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    (0..channels).map(mean).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn every_channel_has_the_mean_of_the_float_model_afterwards() {
    let mut float = net();
    let mut model = quantized(&float);
    let before = [0, 1].map(|output| distance(&means(&float, output), &means(&model, output)));
    let corrected =
        BiasCorrection::apply(&mut float, &mut model, &batches(), Net::forward).unwrap();
    for (output, before) in before.into_iter().enumerate() {
        let after = distance(&means(&float, output), &means(&model, output));
        assert!(before > 0.1 && after < 1e-5, "{before} to {after}");
    }
    // In the order in which they run, each after those before it.
    let ids: Vec<&str> = corrected.layers.iter().map(|layer| layer.id.as_str()).collect();
    assert_eq!(ids, ["conv.0", "first.0"]);
    assert_eq!(corrected.without_bias, ["bare.0"]);
    assert_eq!(corrected.unreached, ["unused.0"]);
    assert!((corrected.layers[0].largest - before[0]).abs() < 1e-9);
    assert!(corrected.layers[0].relative > 0.0);
    let table = corrected.to_string();
    assert!(table.contains("bare.0: the layer has no bias"), "{table}");
    assert!(table.contains("unused.0: no batch reached this layer"), "{table}");
    let json = serde_json::to_value(&corrected).unwrap();
    assert_eq!(serde_json::from_value::<BiasCorrection>(json).unwrap(), corrected);
}

#[test]
fn layers_with_float_weights_stay_as_they_are() {
    let mut float = net();
    let rules = Recipe::new()
        .scheme("int4".parse().unwrap())
        .rule(Rule::keep("conv.**"))
        .rule(Rule::keep("bare.**"));
    let mut model = float.clone().quantize(&rules).unwrap();
    let corrected =
        BiasCorrection::apply(&mut float, &mut model, &batches(), Net::forward).unwrap();
    assert_eq!(corrected.layers.len(), 1);
    assert_eq!(model.conv, float.conv);
    assert!(corrected.without_bias.is_empty());
}

#[test]
fn after_an_error_the_biases_are_as_before() {
    let mut float = net();
    let mut model = quantized(&float);
    let before = model.clone();

    // The layer that runs second has a bias that cannot be changed.
    let bias = model.first.0.bias.take().unwrap();
    let scheme = "per-tensor-symmetric-int8".parse().unwrap();
    let rule = Recipe::new().rule(Rule::quantize("", scheme));
    model.first.0.bias = Some(bias.quantize_weights(&rule).unwrap());
    let conv = model.conv.clone();
    let error = BiasCorrection::apply(&mut float, &mut model, &batches(), Net::forward);
    let error = error.unwrap_err();
    assert!(matches!(&error, CompareError::Bias { id, .. } if id == "first.0.bias"), "{error}");
    assert_eq!(model.conv, conv);

    let mut model = before.clone();
    let fails = |net: &Net, x: &ArrayD<f32>| {
        net.forward(x)?;
        Err(ForwardError::Backend("no more".into()))
    };
    let error = BiasCorrection::apply::<_, _, (), _>(&mut float, &mut model, &batches(), fails);
    assert!(matches!(error, Err(CompareError::Forward { batch: 0, .. })));
    assert_eq!(model, before);

    let mut huge = float.clone();
    huge.first.0.weight = Param::new(ArrayD::from_elem(&[8, 64][..], 1e38f32));
    let error = BiasCorrection::apply(&mut huge, &mut model, &batches(), Net::forward);
    assert!(matches!(error, Err(CompareError::NonFinite { batch: 0, .. })));
    assert_eq!(model, before);
}

#[test]
fn the_moments_of_a_convolution_are_those_of_the_values_under_its_kernel() {
    let mut random = Random(5);
    let options =
        Conv2dOptions::new().stride([2, 1]).padding_sides([[1, 0], [0, 2]]).dilation([1, 2]);
    let mut conv = Conv2d::new(array(&[3, 2, 2, 3], &mut random), None, options).unwrap();
    let images: Vec<ArrayD<f32>> = (0..2).map(|_| array(&[2, 2, 5, 7], &mut random)).collect();
    let moments = SecondMoments::observe(&mut conv, &images, |_| true, Conv2d::forward).unwrap();
    let moments = moments.get("").unwrap();
    assert_eq!(moments.columns(), 2 * 2 * 3);

    // A kernel that is 1 at one position gives one column of the rows.
    let column = |at: usize| -> Vec<f64> {
        let mut weight = vec![0.0; 12];
        weight[at] = 1.0;
        let weight = ArrayD::from_shape_vec(vec![1, 2, 2, 3], weight).unwrap();
        let conv = Conv2d::new(weight, None, options).unwrap();
        let all = images.iter().flat_map(|x| conv.forward(x).unwrap().into_iter().map(f64::from));
        all.collect()
    };
    for i in 0..12 {
        for j in 0..=i {
            let expected: f64 = column(i).iter().zip(column(j)).map(|(a, b)| a * b).sum();
            let found = moments.product(i, j).unwrap();
            assert!((found - expected).abs() < 1e-3, "{i}, {j}: {found} and {expected}");
        }
    }
    assert_eq!(moments.rows() as usize, column(0).len());
}

#[test]
fn convolutions_in_groups_have_no_second_moments() {
    let mut random = Random(6);
    let options = Conv2dOptions::new().groups(2);
    let mut conv = Conv2d::new(array(&[2, 1, 1, 1], &mut random), None, options).unwrap();
    let images = [array(&[1, 2, 2, 2], &mut random)];
    let moments = SecondMoments::observe(&mut conv, &images, |_| true, Conv2d::forward).unwrap();
    assert!(moments.get("").is_none());
    let recipe = Recipe::new()
        .scheme("per-channel-symmetric-int8".parse().unwrap())
        .calibration("gptq".parse::<quant::calibration::CalibrationMethod>().unwrap())
        .moments(moments);
    let error = conv.quantize(&recipe).unwrap_err().to_string();
    assert!(error.starts_with("weight"), "{error}");
}
