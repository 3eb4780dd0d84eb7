//! What is trained is what is shipped: the forward pass in training, the converted model over
//! candle, and the exported model over arrays give the same bits.

use candle_core::{Tensor, Var};
use candle_tests::{LEARNED, RANGES, array, array_bits, bits, random, recipe, tensor, values, var};
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use quant::activation::LayerComparison;
use quant::scheme::{ActivationMapping, ActivationScheme};
use quant::scheme::{DynamicGranularity, DynamicQuantization};
use quant::{FloatTensor, Module, Param, QuantizationType, Recipe};
use quant_nn::candle::emulate_device;
use quant_nn::training::{Adam, Qat, QatOptions};
use quant_nn::{
    Backend, BatchNorm2d, Conv2d, Conv2dOptions, ConvNorm2d, Embedding, FoldNorms, ForwardError,
    InputOrder, LayerNorm, Linear, Pool, Unary,
};
use std::num::NonZero;

/// Every layer type in one model.
#[derive(Clone, Debug, Module)]
struct Everything<T: FloatTensor> {
    table: Embedding<T>,
    first: ConvNorm2d<T>,
    depthwise: Conv2d<T>,
    norm: BatchNorm2d<T>,
    second: ConvNorm2d<T>,
    layer_norm: LayerNorm<T>,
    hidden: Linear<T>,
    last: Linear<T>,
}

const WORDS: usize = 11;
const CHANNELS: usize = 6;

/// Makes each parameter of a model.
type Make<'a, T> = &'a dyn Fn(&[usize], u32) -> T;

fn param<T: FloatTensor>(make: Make<'_, T>, shape: &[usize], seed: u32) -> Param<T> {
    Param::new(make(shape, seed))
}

fn batch_norm<T: FloatTensor>(make: Make<'_, T>, seed: u32) -> BatchNorm2d<T> {
    let variance = {
        let raw = make(&[CHANNELS], seed + 3);
        let positive = raw.values().iter().map(|v| v + 1.5).collect();
        T::from_values(&[CHANNELS], positive, &raw.device()).unwrap()
    };
    BatchNorm2d {
        weight: param(make, &[CHANNELS], seed),
        bias: param(make, &[CHANNELS], seed + 1),
        running_mean: param(make, &[CHANNELS], seed + 2),
        running_var: Param::new(variance),
        epsilon: 1e-5,
    }
}

impl<T: FloatTensor> Everything<T> {
    fn new(make: Make<'_, T>) -> Self {
        let conv = |groups: usize, window: [usize; 2], bias: bool, seed, options| {
            let shape =
                [CHANNELS, if groups == 1 { 1 } else { CHANNELS / groups }, window[0], window[1]];
            let shape = if seed == 30 { [CHANNELS, CHANNELS, window[0], window[1]] } else { shape };
            let bias = bias.then(|| make(&[CHANNELS], seed + 1));
            Conv2d::new(make(&shape, seed), bias, options).unwrap()
        };
        let plain = Conv2dOptions::default();
        let padded = plain.stride([2, 1]).padding([1, 2]).dilation([1, 2]);
        let depthwise = plain.groups(CHANNELS);
        Self {
            table: Embedding::new(make(&[WORDS, 16], 9)).unwrap(),
            first: ConvNorm2d::new(conv(1, [3, 3], true, 10, plain), batch_norm(make, 12)),
            depthwise: conv(CHANNELS, [3, 2], true, 20, depthwise),
            norm: batch_norm(make, 22),
            second: ConvNorm2d::new(conv(1, [2, 3], false, 30, padded), batch_norm(make, 32)),
            layer_norm: LayerNorm::new(make(&[12], 40), make(&[12], 41), 1e-5),
            hidden: Linear::new(make(&[20, 12], 50), Some(make(&[20], 51))).unwrap(),
            last: Linear::new(make(&[7, 20], 60), None).unwrap(),
        }
    }
}

/// Numbers of any storage as the activation of a model.
trait Shaped: Backend {
    fn reshaped(x: &Self::Activation, shape: &[usize]) -> Self::Activation;
    fn elements(x: &Self::Activation) -> usize;
}

impl Shaped for Var {
    fn reshaped(x: &Tensor, shape: &[usize]) -> Tensor {
        x.reshape(shape).unwrap()
    }
    fn elements(x: &Tensor) -> usize {
        x.elem_count()
    }
}

impl Shaped for ArrayD<f32> {
    fn reshaped(x: &Self, shape: &[usize]) -> Self {
        ArrayD::from_shape_vec(IxDyn(shape), x.iter().copied().collect()).unwrap()
    }
    fn elements(x: &Self) -> usize {
        x.len()
    }
}

impl<T: Shaped> Everything<T> {
    /// 16 words to an image of 16 × 16, and on through every layer.
    fn forward(&self, words: &[u32]) -> Result<T::Activation, ForwardError> {
        let x = self.table.forward(words)?;
        let x = T::reshaped(&x, &[words.len() / 16, 1, 16, 16]);
        let x = T::unary(self.first.forward(&x)?, Unary::Relu)?;
        let (kernel_size, stride) = ([2, 2], [2, 2]);
        let x = T::pool2d(&x, Pool::Max { kernel_size, stride })?;
        let x = T::unary(self.depthwise.forward(&x)?, Unary::Gelu)?;
        let x = self.norm.forward(&x)?;
        let x = T::unary(self.second.forward(&x)?, Unary::Tanh)?;
        let x = T::pool2d(&x, Pool::Average { kernel_size, stride: [1, 2] })?;
        let rows = T::elements(&x) / 12;
        let x = self.layer_norm.forward(&T::reshaped(&x, &[rows, 12]))?;
        let x = T::unary(self.hidden.forward(&x)?, Unary::Sigmoid)?;
        T::softmax(self.last.forward(&x)?)
    }
}

fn words(images: usize, seed: u32) -> Vec<u32> {
    random(images * 16, seed).iter().map(|x| ((x + 1.0) * 1e6) as u32 % WORDS as u32).collect()
}

fn host() -> Everything<ArrayD<f32>> {
    Everything::new(&|shape, _| ArrayD::zeros(IxDyn(shape)))
}

/// Trains a little, and compares; returns how many outputs there were.
fn compare(recipe: &Recipe, options: QatOptions, images: usize, seed: u32) -> usize {
    let model = Everything::new(&|shape, own| var(shape, own + seed));
    let mut qat = Qat::new(model, recipe, options).unwrap();
    let mut adam = Adam::new(qat.model()).unwrap();
    for step in 0..8 {
        match step {
            3 => qat.enable_fake_quant().unwrap(),
            6 => qat.freeze().unwrap(),
            _ => {}
        }
        let y = qat.train(|model| model.forward(&words(4, seed + step))).unwrap();
        let target = tensor(y.dims(), step);
        let loss = (y - target).unwrap().sqr().unwrap().mean_all().unwrap();
        adam.step(qat.model(), &loss.backward().unwrap(), 0.01).unwrap();
    }
    let words = words(images, 77);
    let trained = bits(&qat.model().forward(&words).unwrap());
    let in_training = qat.train(|model| model.forward(&words)).unwrap();
    assert_eq!(bits(&in_training), trained, "in training");
    let exported = host().fold_norms().unwrap().load_record(qat.export().unwrap()).unwrap();
    let converted = qat.convert().unwrap();
    assert!(converted.params().iter().all(|p| p.scheme.is_some() == (p.shape.len() > 1)));
    assert_eq!(bits(&converted.forward(&words).unwrap()), trained, "converted");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let y = pool.install(|| exported.forward(&words)).unwrap();
        assert_eq!(array_bits(&y), trained, "exported, {threads} threads");
    }
    trained.len()
}

#[test]
fn every_layer_in_every_granularity_gives_equal_bits() {
    let mut outputs = 0;
    for weights in ["tensor-symmetric", "tensor-affine", "channel-symmetric", "channel-affine"] {
        for bits in 2..=8 {
            let scheme = format!("per-{weights}-int{bits}");
            for options in [LEARNED, RANGES] {
                let recipe = recipe(&scheme, ActivationScheme::STATIC);
                outputs += compare(&recipe, options, 60, bits);
            }
        }
    }
    println!("{outputs} outputs of every layer");
}

#[test]
fn dynamic_and_narrow_activations_give_equal_bits() {
    for mapping in [ActivationMapping::Affine, ActivationMapping::Symmetric] {
        for granularity in [DynamicGranularity::Row, DynamicGranularity::Tensor] {
            let dynamic = ActivationScheme::Dynamic(DynamicQuantization { mapping, granularity });
            compare(&recipe("per-channel-symmetric-int8", dynamic), LEARNED, 5, 1);
        }
        for ty in [QuantizationType::QInt4, QuantizationType::QInt2] {
            let narrow = ActivationScheme::Static { ty, mapping };
            compare(&recipe("per-channel-affine-int4", narrow), LEARNED, 5, 2);
        }
    }
    compare(&recipe("per-channel-symmetric-int4", ActivationScheme::Float), LEARNED, 5, 3);
}

/// Convolutions have no blocks.
#[test]
fn activations_in_blocks_give_equal_bits_in_linear_layers() {
    for mapping in [ActivationMapping::Affine, ActivationMapping::Symmetric] {
        let granularity = DynamicGranularity::Block(NonZero::new(8).unwrap());
        let dynamic = ActivationScheme::Dynamic(DynamicQuantization { mapping, granularity });
        let recipe = recipe("per-channel-symmetric-int8", dynamic);
        let qat = linear([71, 13], &recipe, LEARNED, 4);
        let x = tensor(&[6, 71], 5);
        let trained = bits(&qat.train(|layer| layer.forward(&x)).unwrap());
        let host = Linear::new(ArrayD::zeros(IxDyn(&[13, 71])), Some(ArrayD::zeros(IxDyn(&[13]))));
        let host = host.unwrap().load_record(qat.export().unwrap()).unwrap();
        assert_eq!(array_bits(&host.forward(&array(&x)).unwrap()), trained, "{mapping}");
    }
}

/// A linear layer in the phase that quantizes, over random numbers.
fn linear([k, n]: [usize; 2], recipe: &Recipe, options: QatOptions, seed: u32) -> Qat<Linear<Var>> {
    let layer = Linear::new(var(&[n, k], seed), Some(var(&[n], seed + 1))).unwrap();
    let mut qat = Qat::new(layer, recipe, options).unwrap();
    qat.train(|layer| layer.forward(&tensor(&[16, k], seed + 2))).unwrap();
    qat.enable_fake_quant().unwrap();
    qat
}

#[test]
fn a_million_outputs_of_linear_layers_have_equal_bits() {
    let mut outputs = 0;
    for (number, scheme) in [
        "per-tensor-symmetric-int8",
        "per-tensor-affine-int8",
        "per-channel-symmetric-int8",
        "per-channel-affine-int4",
        "per-block-symmetric-int4",
        "per-block-affine-int8:len=16",
        "per-block-symmetric-int4:scale=f16",
        "per-block-affine-int2:len=7",
        "per-channel-symmetric-int3",
    ]
    .into_iter()
    .enumerate()
    {
        for (turn, options) in [LEARNED, RANGES].into_iter().enumerate() {
            let seed = (number * 2 + turn) as u32;
            let recipe = recipe(scheme, ActivationScheme::STATIC);
            let qat = linear([71, 130], &recipe, options, seed);
            let x = tensor(&[512, 71], 5);
            let trained = bits(&qat.train(|layer| layer.forward(&x)).unwrap());
            let moved = bits(&qat.model().forward(&x).unwrap());
            // Ranges have moved while the first was computed, but no further.
            assert_eq!(trained, moved, "{scheme}");
            let host =
                Linear::new(ArrayD::zeros(IxDyn(&[130, 71])), Some(ArrayD::zeros(IxDyn(&[130]))));
            let host = host.unwrap().load_record(qat.export().unwrap()).unwrap();
            for threads in [1, 2] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let y = pool.install(|| host.forward(&array(&x))).unwrap();
                assert_eq!(array_bits(&y), trained, "{scheme}");
            }
            outputs += trained.len();
        }
    }
    assert!(outputs >= 1_000_000, "{outputs}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_layers_give_equal_bits_on_kernels_and_on_whole_numbers(
        (k, n) in (1usize..90, 1usize..40),
        bits_of_weights in 2u32..=8,
        granularity in 0usize..3,
        affine in any::<bool>(),
        activation_bits in 2u32..=8,
        affine_activations in any::<bool>(),
        learned in any::<bool>(),
        seed in any::<u16>(),
    ) {
        let granularity = ["per-tensor", "per-channel", "per-block"][granularity];
        let mapping = if affine { "affine" } else { "symmetric" };
        let ty = QuantizationType::from_bits(activation_bits).unwrap();
        let of_activations =
            if affine_activations { ActivationMapping::Affine } else { ActivationMapping::Symmetric };
        let activations = ActivationScheme::Static { ty, mapping: of_activations };
        let recipe = recipe(&format!("{granularity}-{mapping}-int{bits_of_weights}"), activations);
        let options = if learned { LEARNED } else { RANGES };
        let qat = linear([k, n], &recipe, options, seed.into());
        let x = tensor(&[9, k], 5);
        let trained = qat.model().forward(&x).unwrap();
        let whole = emulate_device(|| qat.model().forward(&x)).unwrap();
        prop_assert_eq!(bits(&whole), bits(&trained));
        let gradients = |y: &Tensor| {
            let loss = (y * tensor(y.dims(), 8)).unwrap().sum_all().unwrap();
            let store = loss.backward().unwrap();
            let weight = qat.model().weight.as_float().unwrap();
            values(store.get(weight).unwrap())
        };
        for (a, b) in gradients(&trained).into_iter().zip(gradients(&whole)) {
            prop_assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{} {}", a, b);
        }
        let converted = qat.convert().unwrap();
        prop_assert_eq!(bits(&converted.forward(&x).unwrap()), bits(&trained));
    }

    #[test]
    fn random_convolutions_give_equal_bits_on_kernels_and_on_whole_numbers(
        (inputs, outputs) in (1usize..40, 1usize..9),
        (height, width) in (1usize..4, 1usize..4),
        stride in 1usize..3,
        padding in [[0usize..3, 0usize..3], [1usize..3, 1usize..3]],
        learned in any::<bool>(),
        affine in any::<bool>(),
        seed in any::<u16>(),
    ) {
        let options = Conv2dOptions::new().stride([stride; 2]).padding_sides(padding);
        let weight = var(&[outputs, inputs, height, width], seed.into());
        let layer = Conv2d::new(weight, Some(var(&[outputs], 1)), options).unwrap();
        let scheme = if affine { "per-channel-affine-int8" } else { "per-tensor-symmetric-int8" };
        let recipe = recipe(scheme, ActivationScheme::STATIC);
        let mut qat = Qat::new(layer, &recipe, if learned { LEARNED } else { RANGES }).unwrap();
        let x = tensor(&[2, inputs, 7, 6], 4);
        qat.train(|layer| layer.forward(&x)).unwrap();
        qat.enable_fake_quant().unwrap();
        let trained = bits(&qat.model().forward(&x).unwrap());
        let whole = emulate_device(|| qat.model().forward(&x)).unwrap();
        prop_assert_eq!(bits(&whole), trained.clone());
        let converted = qat.convert().unwrap();
        prop_assert_eq!(bits(&converted.forward(&x).unwrap()), trained);
    }
}

/// K · 255 · 127 > 2^24 from K = 519 on.
#[test]
fn sums_beyond_the_whole_numbers_of_a_float_are_cut() {
    let recipe = recipe("per-channel-symmetric-int8", ActivationScheme::STATIC);
    let layer = Linear::new(
        Var::from_vec(vec![1.0f32; 2 * 3001], (2, 3001), &candle_core::Device::Cpu).unwrap(),
        None,
    );
    let mut qat = Qat::new(layer.unwrap(), &recipe, RANGES).unwrap();
    let x = Tensor::ones((3, 3001), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let x = (x + tensor(&[3, 3001], 1).affine(0.01, 0.0).unwrap()).unwrap();
    qat.train(|layer| layer.forward(&x)).unwrap();
    qat.enable_fake_quant().unwrap();
    let trained = bits(&qat.model().forward(&x).unwrap());
    let whole = emulate_device(|| qat.model().forward(&x)).unwrap();
    assert_eq!(bits(&whole), trained);
}

#[test]
fn an_order_of_inputs_gives_equal_bits_and_gradients_of_the_inputs_in_their_order() {
    let order = InputOrder::from_indices(vec![5, 0, 4, 1, 2, 3]).unwrap();
    let recipe = recipe("per-channel-symmetric-int8", ActivationScheme::DYNAMIC);
    let mut host = Linear::new(array(&tensor(&[4, 6], 1)), None).unwrap();
    host.input_order = order.clone();
    let mut layer = Linear::new(var(&[4, 6], 1), None).unwrap();
    layer.input_order = order;
    let x = var(&[2, 3, 6], 2);

    let y = layer.forward(&x).unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    let dx = values(gradients.get(&x).unwrap());
    let weight = values(&tensor(&[4, 6], 1));
    let sum = |column: usize| (0..4).map(|row| weight[6 * row + column]).sum::<f32>();
    for (input, column) in [(5, 0), (0, 1), (4, 2), (1, 3), (2, 4), (3, 5)] {
        assert!((dx[input] - sum(column)).abs() < 1e-5, "{input}");
    }

    let (host, layer) = (host.quantize(&recipe).unwrap(), layer.quantize(&recipe).unwrap());
    let expected = array_bits(&host.forward(&array(&x)).unwrap());
    assert_eq!(bits(&layer.forward(&x).unwrap()), expected);
    assert!(layer.forward(&tensor(&[2, 5], 1)).is_err());
    let none = tensor(&[0, 6], 1);
    assert_eq!(layer.forward(&none).unwrap().dims(), [0, 4]);
}

#[test]
fn outputs_of_layers_are_compared_as_over_arrays() {
    fn compared<T>(make: Make<'_, T>, x: &T::Activation) -> LayerComparison
    where
        T: Backend + Clone,
    {
        let mut float = Linear::<T>::new(make(&[8, 16], 1), None).unwrap();
        let int8 = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
        let recipe = int8.activations("dynamic".parse().unwrap());
        let mut quantized = float.clone().quantize(&recipe).unwrap();
        LayerComparison::of(&mut float, &mut quantized, [x], Linear::forward).unwrap()
    }
    let made = |shape: &[usize], seed| array(&tensor(shape, seed));
    let over_arrays = compared::<ArrayD<f32>>(&made, &made(&[5, 16], 2));
    let over_candle = compared::<Tensor>(&tensor, &tensor(&[5, 16], 2));
    // Float products of candle have another order of sums.
    let close = |a: f64, b: f64| (a - b).abs() < 1e-2;
    let [a, b] = [&over_arrays, &over_candle].map(|compared| &compared.layers[0]);
    assert!(close(a.sqnr_db.unwrap(), b.sqnr_db.unwrap()), "{over_arrays}{over_candle}");
    assert!(close(a.cosine, b.cosine) && (a.count, a.scheme) == (b.count, b.scheme));
}
