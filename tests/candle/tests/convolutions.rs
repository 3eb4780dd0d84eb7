//! Convolutions along sequences and transposed ones, trained: what is trained is what is shipped, and
//! gradients are those of finite differences.

use candle_core::{Tensor, Var};
use candle_tests::{
    LEARNED, RANGES, array, array_bits, bits, check_gradient, recipe, tensor, values, var,
};
use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use quant::scheme::ActivationScheme;
use quant::{FloatTensor, Module, Recipe};
use quant_nn::candle::emulate_device;
use quant_nn::training::{Qat, QatOptions};
use quant_nn::{
    Backend, Conv1d, Conv1dOptions, Conv2d, Conv2dOptions, ConvTranspose1d, ConvTranspose1dOptions,
    ConvTranspose2d, ConvTranspose2dOptions, ForwardError,
};

#[derive(Clone, Copy, Debug)]
struct Sizes {
    groups: usize,
    channels: [usize; 2],
    kernel: usize,
    line: Conv1dOptions,
    up_line: ConvTranspose1dOptions,
    up_image: ConvTranspose2dOptions,
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (1usize..3, [1usize..5, 1usize..4], 1usize..4, 1usize..4, 1usize..3, [0usize..3, 0usize..3])
        .prop_map(|(groups, channels, kernel, stride, dilation, padding)| {
            let line = Conv1dOptions::new().stride(stride).dilation(dilation).groups(groups);
            let up = ConvTranspose1dOptions::new().stride(stride).dilation(dilation).groups(groups);
            let extra = padding[1] % stride.max(dilation);
            // candle's convolutions have one dilation for both axes, and any strides of a transposed one.
            let up_image = ConvTranspose2dOptions::new()
                .stride([stride, 2])
                .dilation([dilation; 2])
                .padding_sides([padding, [1, 0]])
                .output_padding([extra, 1])
                .groups(groups);
            Sizes {
                groups,
                channels,
                kernel,
                line: line.padding_sides(padding),
                up_line: up.padding_sides(padding).output_padding(extra),
                up_image,
            }
        })
}

/// A layer of each kind, all on the same input.
#[derive(Clone, Debug, Module)]
struct Layers<T: FloatTensor> {
    line: Conv1d<T>,
    up_line: ConvTranspose1d<T>,
    up_image: ConvTranspose2d<T>,
}

impl<T: FloatTensor> Layers<T> {
    fn new(sizes: Sizes, make: impl Fn(&[usize], u32) -> T) -> Self {
        let Sizes { groups, channels: [group_in, group_out], kernel, .. } = sizes;
        let (inputs, outputs) = (groups * group_in, groups * group_out);
        let bias = |seed| Some(make(&[outputs], seed));
        let weight = make(&[outputs, group_in, kernel], 1);
        let line = Conv1d::new(weight, bias(2), sizes.line).unwrap();
        let weight = make(&[inputs, group_out, kernel], 3);
        let up_line = ConvTranspose1d::new(weight, bias(4), sizes.up_line).unwrap();
        let weight = make(&[inputs, group_out, kernel, 2], 5);
        let up_image = ConvTranspose2d::new(weight, bias(6), sizes.up_image).unwrap();
        Self { line, up_line, up_image }
    }
}

impl<T: Backend> Layers<T> {
    fn forward(
        &self,
        line: &T::Activation,
        image: &T::Activation,
    ) -> Result<[T::Activation; 3], ForwardError> {
        let (a, b) = (self.line.forward(line)?, self.up_line.forward(line)?);
        Ok([a, b, self.up_image.forward(image)?])
    }
}

fn all_bits(all: &[Tensor; 3]) -> [Vec<u32>; 3] {
    all.each_ref().map(bits)
}

/// A model in the phase that quantizes.
fn training(sizes: Sizes, recipe: &Recipe, options: QatOptions) -> Qat<Layers<Var>> {
    let mut qat = Qat::new(Layers::new(sizes, var), recipe, options).unwrap();
    let (line, image) = inputs(sizes);
    qat.train(|layers| layers.forward(&line, &image)).unwrap();
    qat.enable_fake_quant().unwrap();
    qat
}

fn inputs(sizes: Sizes) -> (Tensor, Tensor) {
    let channels = sizes.groups * sizes.channels[0];
    (tensor(&[2, channels, 11], 7), tensor(&[2, channels, 5, 4], 8))
}

fn gradients(layers: &Layers<Var>, all: &[Tensor; 3]) -> Vec<f32> {
    let loss = |y: &Tensor| (y * tensor(y.dims(), 9)).unwrap().sum_all().unwrap();
    let loss = all.iter().map(loss).reduce(|a, b| (a + b).unwrap()).unwrap();
    let store = loss.backward().unwrap();
    let weights = [&layers.line.weight, &layers.up_line.weight, &layers.up_image.weight];
    weights
        .into_iter()
        .flat_map(|weight| values(store.get(weight.as_float().unwrap()).unwrap()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn training_the_converted_model_and_the_exported_one_give_equal_bits(
        sizes in sizes(),
        learned in any::<bool>(),
        scheme in prop::sample::select(vec![
            "per-channel-symmetric-int8",
            "per-channel-affine-int4",
            "per-tensor-symmetric-int8",
        ]),
    ) {
        let recipe = recipe(scheme, ActivationScheme::STATIC);
        let qat = training(sizes, &recipe, if learned { LEARNED } else { RANGES });
        let (line, image) = inputs(sizes);
        let y = qat.model().forward(&line, &image).unwrap();
        let trained = all_bits(&y);
        let whole = emulate_device(|| qat.model().forward(&line, &image)).unwrap();
        prop_assert_eq!(&all_bits(&whole), &trained);
        let both = gradients(qat.model(), &y).into_iter().zip(gradients(qat.model(), &whole));
        for (a, b) in both {
            prop_assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{} {}", a, b);
        }
        let host = Layers::new(sizes, |shape, _| ArrayD::zeros(IxDyn(shape)));
        let host = host.load_record(qat.export().unwrap()).unwrap();
        let exported = host.forward(&array(&line), &array(&image)).unwrap();
        prop_assert_eq!(&exported.each_ref().map(array_bits), &trained);
        let converted = qat.convert().unwrap();
        prop_assert_eq!(&all_bits(&converted.forward(&line, &image).unwrap()), &trained);
    }

    #[test]
    fn over_candle_and_over_arrays_the_bits_of_quantized_models_are_equal(
        sizes in sizes(),
        dynamic in any::<bool>(),
    ) {
        let activations = if dynamic { ActivationScheme::DYNAMIC } else { ActivationScheme::STATIC };
        let recipe = recipe("per-channel-symmetric-int8", activations);
        let (line, image) = inputs(sizes);
        let over_candle = Layers::new(sizes, tensor);
        let over_candle = over_candle
            .quantize_with(&recipe, [()], |layers, ()| layers.forward(&line, &image))
            .unwrap();
        let (host_line, host_image) = (array(&line), array(&image));
        let host = Layers::new(sizes, |shape, seed| array(&tensor(shape, seed)));
        let host = host
            .quantize_with(&recipe, [()], |layers, ()| layers.forward(&host_line, &host_image))
            .unwrap();
        let expected = host.forward(&host_line, &host_image).unwrap();
        let y = over_candle.forward(&line, &image).unwrap();
        prop_assert_eq!(all_bits(&y), expected.each_ref().map(array_bits));
    }

    #[test]
    fn float_products_agree_on_the_cpu_and_elsewhere(sizes in sizes()) {
        let (line, image) = inputs(sizes);
        let layers = Layers::new(sizes, tensor);
        let y = layers.forward(&line, &image).unwrap();
        let elsewhere = emulate_device(|| layers.forward(&line, &image)).unwrap();
        for (a, b) in y.iter().zip(&elsewhere) {
            prop_assert_eq!(a.dims(), b.dims());
            for (a, b) in values(a).into_iter().zip(values(b)) {
                prop_assert!((a - b).abs() < 1e-4, "{} {}", a, b);
            }
        }
    }
}

fn weighted(y: Result<Tensor, ForwardError>) -> Tensor {
    let y = y.unwrap();
    (&y * tensor(y.dims(), 77)).unwrap().sum_all().unwrap()
}

#[test]
fn transposed_convolutions_have_the_gradients_of_finite_differences() {
    for groups in [1, 2] {
        let options = ConvTranspose2dOptions::new()
            .stride([2, 1])
            .padding_sides([[1, 0], [0, 2]])
            .output_padding([1, 0])
            .dilation([1, 2])
            .groups(groups);
        let (image, weight, bias) =
            (var(&[2, 2, 3, 4], 1), var(&[2, 3, 3, 2], 2), var(&[3 * groups], 3));
        let layer = |weight: &Tensor, bias: &Tensor| {
            ConvTranspose2d::new(weight.clone(), Some(bias.clone()), options).unwrap()
        };
        check_gradient("input", &image, &|x| weighted(layer(&weight, &bias).forward(x)));
        check_gradient("weight", &weight, &|weight| weighted(layer(weight, &bias).forward(&image)));
        check_gradient("bias", &bias, &|bias| weighted(layer(&weight, bias).forward(&image)));
    }
}

#[test]
fn convolutions_along_a_sequence_have_the_gradients_of_finite_differences() {
    let options = Conv1dOptions::new().stride(2).dilation(2).padding_sides([3, 0]);
    let (line, weight, bias) = (var(&[2, 3, 7], 1), var(&[4, 3, 3], 2), var(&[4], 3));
    let layer = |weight: &Tensor, bias: &Tensor| {
        Conv1d::new(weight.clone(), Some(bias.clone()), options).unwrap()
    };
    check_gradient("input", &line, &|x| weighted(layer(&weight, &bias).forward(x)));
    check_gradient("weight", &weight, &|weight| weighted(layer(weight, &bias).forward(&line)));
    check_gradient("bias", &bias, &|bias| weighted(layer(&weight, bias).forward(&line)));
    let options = ConvTranspose1dOptions::new().stride(3).padding_sides([0, 2]);
    let weight = var(&[3, 4, 5], 4);
    check_gradient("transposed", &weight, &|weight| {
        ConvTranspose1d::new(weight.clone(), None, options)
            .unwrap()
            .forward(&line)
            .map_or_else(|error| panic!("{error}"), |y| weighted(Ok(y)))
    });
}

/// On the kernels and elsewhere, in training.
#[test]
fn channels_and_blocks_that_no_kernel_runs_are_refused_everywhere() {
    let refused =
        |error: ForwardError| assert!(matches!(error, ForwardError::Pack { .. }), "{error}");
    for scheme in ["per-channel-symmetric-int8:axis=2", "per-block-symmetric-int8:len=2"] {
        let recipe = recipe(scheme, ActivationScheme::STATIC);
        let line = Conv1d::new(var(&[3, 2, 2], 1), None, Conv1dOptions::new()).unwrap();
        let up = ConvTranspose1dOptions::new().stride(2);
        let up = ConvTranspose1d::new(var(&[2, 3, 2], 1), None, up).unwrap();
        let x = tensor(&[1, 2, 6], 2);
        let mut qat = Qat::new((line, up), &recipe, LEARNED).unwrap();
        let both =
            |(line, up): &(Conv1d<Var>, ConvTranspose1d<Var>)| (line.forward(&x), up.forward(&x));
        let (line, up) = qat.train(both);
        assert!(line.is_ok() && up.is_ok());
        qat.enable_fake_quant().unwrap();
        for (line, up) in [both(qat.model()), emulate_device(|| both(qat.model()))] {
            refused(line.unwrap_err());
            refused(up.unwrap_err());
        }
    }
}

#[test]
fn a_causal_image_is_padded_on_one_side_everywhere() {
    let options = Conv2dOptions::new().padding_sides([[2, 0], [1, 1]]);
    let conv = Conv2d::new(tensor(&[3, 2, 3, 3], 1), None, options).unwrap();
    let x = tensor(&[1, 2, 4, 5], 2);
    let (y, elsewhere) = (conv.forward(&x).unwrap(), emulate_device(|| conv.forward(&x)).unwrap());
    assert_eq!((y.dims(), elsewhere.dims()), (&[1, 3, 4, 5][..], &[1, 3, 4, 5][..]));
    for (a, b) in values(&y).into_iter().zip(values(&elsewhere)) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}
