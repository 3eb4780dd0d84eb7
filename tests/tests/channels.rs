//! Factors of channels that move from one layer to the next.

use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use quant::channels::{ChannelMethod, ChannelPair, RescaleError, Rescaled, rescale};
use quant::moments::{LayerMoments, SecondMoments};
use quant::scheme::{Axis, Granularity, Mapping};
use quant::{BincodeRecorder, Module, Param, QuantizationScheme, QuantizationType};
use quant_nn::{
    ClippedRelu, Conv2d, Conv2dOptions, ConvTranspose2d, ConvTranspose2dOptions, ForwardError,
    LayerNorm, Linear,
};
use tests::random::Random;

#[derive(Clone, Debug, Module)]
struct Net {
    expand: Conv2d,
    expand_relu: ClippedRelu,
    depthwise: Conv2d,
    depthwise_relu: ClippedRelu,
    grow: ConvTranspose2d,
    project: Conv2d,
}

fn array(shape: &[usize], random: &mut Random) -> ArrayD<f32> {
    ArrayD::from_shape_simple_fn(shape, || random.normal())
}

fn net(seed: u64) -> Net {
    let random = &mut Random(seed);
    // Channels of very different sizes.
    let mut uneven = |shape: &[usize]| {
        let mut values = array(shape, random);
        for (channel, mut of) in values.outer_iter_mut().enumerate() {
            of.mapv_inplace(|w| w * 4f32.powi(channel as i32 % 4 - 2));
        }
        values
    };
    let (expand, depthwise) = (uneven(&[6, 3, 1, 1]), uneven(&[6, 1, 3, 3]));
    let (grow, project) = (uneven(&[6, 5, 2, 2]), uneven(&[4, 5, 1, 1]));
    let random = &mut Random(seed + 1);
    let mut bias = |count: usize| Some(array(&[count], random));
    let stride = ConvTranspose2dOptions::new().stride([2, 2]);
    Net {
        expand: Conv2d::new(expand, bias(6), Conv2dOptions::new()).unwrap(),
        expand_relu: ClippedRelu::new(2.0),
        depthwise: Conv2d::new(depthwise, bias(6), Conv2dOptions::new().groups(6)).unwrap(),
        depthwise_relu: ClippedRelu::new(2.0),
        grow: ConvTranspose2d::new(grow, bias(5), stride).unwrap(),
        project: Conv2d::new(project, bias(4), Conv2dOptions::new()).unwrap(),
    }
}

impl Net {
    fn forward(&self, x: &ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
        let y = self.expand_relu.forward(self.expand.forward(x)?)?;
        let y = self.depthwise_relu.forward(self.depthwise.forward(&y)?)?;
        self.project.forward(&self.grow.forward(&y)?)
    }
}

fn pairs() -> Vec<ChannelPair> {
    vec![
        ChannelPair::new("expand", ["depthwise"]).ceiling("expand_relu.ceiling"),
        ChannelPair::new("depthwise", ["grow"]).ceiling("depthwise_relu.ceiling"),
        ChannelPair::new("grow", ["project"]),
    ]
}

/// The largest difference, as a share of the largest output.
fn distance(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f32 {
    let largest = a.iter().fold(0f32, |largest, a| largest.max(a.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest
}

proptest! {
    #[test]
    fn a_model_computes_the_same_after_its_channels_were_equalized(seed in 0u64..1000) {
        let before = net(seed);
        let mut after = before.clone();
        rescale(&mut after, &pairs(), &ChannelMethod::Equalize).unwrap();
        let x = array(&[2, 3, 5, 5], &mut Random(seed + 2));
        let outputs = [&before, &after].map(|net| net.forward(&x).unwrap());
        let distance = distance(&outputs[0], &outputs[1]);
        prop_assert!(distance < 1e-5, "{distance}");
    }
}

/// The largest weights of the channels of a tensor.
fn largest(values: &Param<ArrayD<f32>>, axis: usize) -> Vec<f32> {
    let values = values.value();
    let of = |channel: ndarray::ArrayViewD<'_, f32>| {
        channel.iter().fold(0f32, |largest, w| largest.max(w.abs()))
    };
    values.axis_iter(ndarray::Axis(axis)).map(of).collect()
}

#[test]
fn channels_have_the_same_largest_weight_in_both_layers_afterwards() {
    let mut net = net(7);
    let rescaled = rescale(&mut net, &pairs(), &ChannelMethod::Equalize).unwrap();
    let same = |a: Vec<f32>, b: Vec<f32>| {
        let ratios: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a / b).collect();
        assert!(ratios.iter().all(|ratio| (ratio - 1.0).abs() < 0.01), "{ratios:?}");
    };
    same(largest(&net.expand.weight, 0), largest(&net.depthwise.weight, 0));
    same(largest(&net.depthwise.weight, 0), largest(&net.grow.weight, 0));
    same(largest(&net.grow.weight, 1), largest(&net.project.weight, 1));

    let ceilings = net.expand_relu.ceiling.channels().unwrap();
    for (ceiling, factor) in ceilings.iter().zip(&rescaled.pairs[0].factors) {
        assert!((f64::from(*ceiling) * factor - 2.0).abs() < 1e-6);
    }
    let table = rescaled.to_string();
    assert!(table.contains("expand_relu.ceiling / s"), "{table}");
    let json = serde_json::to_value(&rescaled).unwrap();
    assert_eq!(serde_json::from_value::<Rescaled>(json).unwrap(), rescaled);
}

#[test]
fn divided_ceilings_are_saved_and_loaded() {
    let mut before = net(9);
    rescale(&mut before, &pairs(), &ChannelMethod::Equalize).unwrap();
    let bytes = before.save_bytes(&BincodeRecorder::default()).unwrap();
    let loaded = net(10).load_bytes(&bytes, &BincodeRecorder::default()).unwrap();
    assert_eq!(loaded.expand_relu, before.expand_relu);
    let x = array(&[1, 3, 5, 5], &mut Random(3));
    assert_eq!(loaded.forward(&x).unwrap(), before.forward(&x).unwrap());

    // A record without ceilings leaves them as they were built.
    let bytes = net(9).save_bytes(&BincodeRecorder::default()).unwrap();
    let loaded = before.load_bytes(&bytes, &BincodeRecorder::default()).unwrap();
    assert_eq!(loaded.expand_relu, ClippedRelu::new(2.0));
}

#[test]
fn a_channel_without_weights_keeps_its_factor_of_one() {
    let mut net = net(11);
    let weight = net.expand.weight.as_float_mut().unwrap();
    weight.index_axis_mut(ndarray::Axis(0), 2).fill(0.0);
    let rescaled = rescale(&mut net, &pairs()[..1], &ChannelMethod::Equalize).unwrap();
    assert_eq!(rescaled.pairs[0].factors[2], 1.0);
}

/// A norm that two layers follow.
#[derive(Clone, Debug, Module)]
struct Block {
    norm: LayerNorm,
    query: Linear,
    key: Linear,
}

const N: usize = 32;

fn block() -> (Block, ArrayD<f32>) {
    let random = &mut Random(12);
    let ones = ArrayD::ones(IxDyn(&[N]));
    // One input in eight is twenty times larger.
    let gains = ArrayD::from_shape_fn(IxDyn(&[N]), |at| if at[0] % 8 == 0 { 20.0 } else { 1.0 });
    let mut linear = || Linear::new(array(&[16, N], random), None).unwrap();
    let (query, key) = (linear(), linear());
    let norm = LayerNorm::new(gains, ones * 0.1, 1e-5);
    (Block { norm, query, key }, array(&[64, N], &mut Random(13)))
}

impl Block {
    fn forward(&self, x: &ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
        let x = self.norm.forward(x)?;
        Ok(self.query.forward(&x)? + self.key.forward(&x)?)
    }
}

fn after_norm() -> [ChannelPair; 1] {
    [ChannelPair::new("norm", ["query", "key"])]
}

fn moments(block: &Block, x: &ArrayD<f32>) -> SecondMoments {
    SecondMoments::observe(&mut block.clone(), [x], |_| true, Block::forward).unwrap()
}

fn error_in_int4(float: &Block, changed: &Block, x: &ArrayD<f32>) -> f64 {
    let scheme = "per-channel-symmetric-int4".parse().unwrap();
    let quantized = changed.clone().quantize(quant::Recipe::new().scheme(scheme)).unwrap();
    let outputs = [float, &quantized].map(|block| block.forward(x).unwrap());
    let squares = outputs[0].iter().zip(&outputs[1]).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum()
}

#[test]
fn weights_that_meet_large_inputs_get_a_finer_grid() {
    let (float, x) = block();
    let scheme = "per-channel-symmetric-int4".parse().unwrap();
    let method = ChannelMethod::activation_aware(moments(&float, &x), scheme);
    let mut aware = float.clone();
    let rescaled = rescale(&mut aware, &after_norm(), &method).unwrap();
    let factors = &rescaled.pairs[0].factors;
    assert!(factors[0] > 1.5 * factors[1], "{factors:?}");
    assert!(distance(&float.forward(&x).unwrap(), &aware.forward(&x).unwrap()) < 1e-5);
    let [before, after] = [&float, &aware].map(|block| error_in_int4(&float, block, &x));
    assert!(after < 0.7 * before, "{before} to {after}");
}

#[test]
fn inputs_are_as_large_as_the_exponent_says() {
    let (float, x) = block();
    let ratio = |exponent: f64| {
        let moments = std::sync::Arc::new(moments(&float, &x));
        let method = ChannelMethod::Smooth { moments, exponent };
        let mut smooth = float.clone();
        rescale(&mut smooth, &after_norm(), &method).unwrap();
        assert!(distance(&float.forward(&x).unwrap(), &smooth.forward(&x).unwrap()) < 1e-5);
        let inputs = smooth.norm.forward(&x).unwrap();
        let largest = inputs.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let squares: f32 = inputs.iter().map(|x| x * x).sum();
        largest / (squares / inputs.len() as f32).sqrt()
    };
    let [weights_alone, half, inputs_alone] = [0.0, 0.5, 1.0].map(ratio);
    assert!(
        weights_alone > 1.05 * half && half > 1.5 * inputs_alone,
        "{weights_alone} {half} {inputs_alone}"
    );
    let method = ChannelMethod::smooth(moments(&float, &x));
    assert!(matches!(method, ChannelMethod::Smooth { exponent: 0.5, .. }));
}

/// The error, after which the model is as before.
fn refused(pairs: &[ChannelPair], method: &ChannelMethod) -> RescaleError {
    let mut net = net(20);
    let bytes = net.save_bytes(&BincodeRecorder::default()).unwrap();
    let error = rescale(&mut net, pairs, method).unwrap_err();
    assert_eq!(net.save_bytes(&BincodeRecorder::default()).unwrap(), bytes);
    error
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    use ChannelMethod::Equalize;
    let good = || pairs()[0].clone();
    let with = |pair: ChannelPair| [good(), pair];

    let error = refused(&with(ChannelPair::new("expend", ["depthwise"])), &Equalize);
    assert_eq!(error.to_string(), "expend.weight: the model has no such parameter");
    let error = refused(&with(ChannelPair::new("expand", ["project"])), &Equalize);
    assert_eq!(error.to_string(), "project.weight: shape [4, 5, 1, 1] does not take 6 channels");
    let none: [&str; 0] = [];
    let error = refused(&with(ChannelPair::new("expand", none)), &Equalize);
    assert!(matches!(error, RescaleError::Pair { .. }), "{error}");
    let error = refused(&with(ChannelPair::new("expand", ["expand"])), &Equalize);
    assert!(matches!(error, RescaleError::Pair { .. }), "{error}");

    let ceiling = |path: &str| with(ChannelPair::new("depthwise", ["grow"]).ceiling(path));
    let error = refused(&ceiling("relu"), &Equalize);
    assert_eq!(error.to_string(), "relu: the model has no such state");
    let error = refused(&ceiling("expand.input"), &Equalize);
    assert_eq!(error.to_string(), "expand.input: this state has nothing that belongs to channels");

    let scheme = "int4".parse().unwrap();
    let mut others = SecondMoments::new();
    let aware = ChannelMethod::activation_aware(others.clone(), scheme);
    assert!(matches!(refused(&[good()], &aware), RescaleError::Moments { source: None, .. }));
    others.insert("depthwise", LayerMoments::from_diagonal(vec![1.0; 5], 1).unwrap());
    let aware = ChannelMethod::activation_aware(others.clone(), scheme);
    assert!(matches!(refused(&[good()], &aware), RescaleError::Moments { source: None, .. }));
    others.insert("depthwise", LayerMoments::from_diagonal(vec![1.0; 6], 1).unwrap());
    let axis = Granularity::PerChannel(Axis::new(7));
    let scheme = QuantizationScheme::new(QuantizationType::QInt8, Mapping::Symmetric, axis);
    let aware = ChannelMethod::activation_aware(others.clone(), scheme);
    let error = refused(&[good()], &aware);
    assert!(error.to_string().starts_with("depthwise.weight: cannot be quantized as"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    for exponent in [-0.1, 1.1, f64::NAN] {
        let moments = std::sync::Arc::new(others.clone());
        let method = ChannelMethod::Smooth { moments, exponent };
        assert!(matches!(refused(&[good()], &method), RescaleError::Exponent { .. }));
    }
}

#[test]
fn quantized_parameters_and_values_that_are_not_finite_are_refused() {
    let recipe = quant::Recipe::new().scheme("int8".parse().unwrap());
    let mut quantized = net(21).quantize_weights(&recipe).unwrap();
    let error = rescale(&mut quantized, &pairs(), &ChannelMethod::Equalize).unwrap_err();
    assert!(matches!(&error, RescaleError::Quantized { id } if id == "expand.weight"), "{error}");

    let mut broken = net(21);
    broken.grow.weight.as_float_mut().unwrap()[[0, 0, 0, 0]] = f32::NAN;
    let error = rescale(&mut broken, &pairs(), &ChannelMethod::Equalize).unwrap_err();
    assert!(matches!(&error, RescaleError::NonFinite { id } if id == "grow.weight"), "{error}");

    // A bias that becomes infinite.
    let mut large = net(21);
    large.grow.bias.as_mut().unwrap().as_float_mut().unwrap().fill(1e38);
    large.grow.weight.as_float_mut().unwrap().mapv_inplace(|w| w * 1e-8);
    let before = large.save_bytes(&BincodeRecorder::default()).unwrap();
    let error = rescale(&mut large, &pairs(), &ChannelMethod::Equalize).unwrap_err();
    assert!(matches!(&error, RescaleError::NonFinite { id } if id == "grow.bias"), "{error}");
    assert_eq!(large.save_bytes(&BincodeRecorder::default()).unwrap(), before);
}

#[test]
fn pairs_are_read_from_toml() {
    type Pairs = std::collections::BTreeMap<String, Vec<ChannelPair>>;
    let text = r#"
        [[pairs]]
        first = "expand"
        ceiling = "expand_relu.ceiling"
        then = ["depthwise"]
        [[pairs]]
        first = "norm"
        then = ["query", "key"]
    "#;
    let read: Pairs = toml::from_str(text).unwrap();
    assert_eq!(read["pairs"][0], pairs()[0]);
    assert_eq!(read["pairs"][1], after_norm()[0]);
    assert!(toml::from_str::<Pairs>("[[pairs]]\nfirst = 'a'\nthen = []\nand = 1").is_err());
}

#[test]
fn a_clipped_relu_takes_one_ceiling_or_one_for_each_channel() {
    let x = || ArrayD::from_shape_vec(vec![1, 2, 2], vec![-1.0, 9.0, f32::NAN, 1.0]).unwrap();
    let mut relu = ClippedRelu::new(6.0);
    assert_eq!(relu.forward(x()).unwrap().into_raw_vec_and_offset().0, [0.0, 6.0, 0.0, 1.0]);
    use quant::module::StateLeaf;
    relu.ceiling.divide_channels(&[2.0, 12.0], false).unwrap();
    assert_eq!(relu.ceiling.channels(), Some(&[3.0, 0.5][..]));
    assert_eq!(relu.forward(x()).unwrap().into_raw_vec_and_offset().0, [0.0, 3.0, 0.0, 0.5]);
    let error = relu.forward(ArrayD::zeros(vec![1, 3])).unwrap_err().to_string();
    assert!(error.contains("[batch, 2, …]"), "{error}");
    assert!(relu.ceiling.divide_channels(&[1.0; 3], true).is_err());
    assert!(relu.ceiling.load(&"".into(), Some(&[0; 7])).is_err());
    assert!(relu.ceiling.load(&"".into(), Some(&(-1f32).to_le_bytes())).is_err());
}
