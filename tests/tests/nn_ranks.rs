//! Layers of one's own over parameters of fixed rank, and the errors of every layer by name.

use ndarray::{Array1, Array2, Array3, Array4, ArrayD, Ix1, Ix2, Ix4, arr1, arr2};
use quant::activation::{ActivationError, ActivationQuantizer};
use quant::kernel::{Activations, Epilogue, Kernel, Output, Scratch};
use quant::scheme::{ActivationScheme, DynamicQuantization};
use quant::tensor::SharedTensor;
use quant::{Module, Param, Recipe};
use quant_nn::{
    BatchNorm2d, Conv2d, Conv2dOptions, ForwardError, LayerNorm, Linear, PackWeightsError,
    pack_weights, pack_weights_for_floats,
};
use tests::arrays::random;
use tests::errors::chain;

fn recipe(scheme: &str, activations: ActivationScheme) -> Recipe {
    Recipe::new().scheme(scheme.parse().unwrap()).activations(activations)
}

fn fixed<D: ndarray::Dimension>(x: &ArrayD<f32>) -> ndarray::Array<f32, D> {
    x.clone().into_dimensionality().unwrap()
}

/// The layers of the front page.
#[derive(Clone, Debug, Module)]
struct Net {
    conv: Param<Array4<f32>>,
    conv_bias: Param<Array1<f32>>,
    conv_input: ActivationQuantizer,
    weight: Param<Array2<f32>>,
    bias: Param<Vec<f32>>,
    input: ActivationQuantizer,
}

impl Net {
    fn new() -> Self {
        Self {
            conv: fixed::<Ix4>(&random(&[4, 3, 3, 3], 1)).into(),
            conv_bias: fixed::<Ix1>(&random(&[4], 2)).into(),
            conv_input: ActivationQuantizer::new(),
            weight: fixed::<Ix2>(&random(&[5, 6], 3)).into(),
            bias: random(&[5], 4).into_raw_vec_and_offset().0.into(),
            input: ActivationQuantizer::new(),
        }
    }

    fn convolve(&self, x: &Array4<f32>) -> Result<Array4<f32>, ForwardError> {
        let options = Conv2dOptions::new().padding([1, 1]);
        quant_nn::conv2d(x, &self.conv, Some(&self.conv_bias), options, &self.conv_input)
    }

    fn multiply(&self, x: &Array3<f32>) -> Result<Array3<f32>, ForwardError> {
        quant_nn::linear(x, &self.weight, Some(&self.bias), &self.input)
    }
}

/// The same parameters in the layers of the crate.
fn layers(net: &Net) -> (Conv2d, Linear) {
    let options = Conv2dOptions::new().padding([1, 1]);
    let conv = Conv2d::new(random(&[4, 3, 3, 3], 1), Some(random(&[4], 2)), options).unwrap();
    let linear = Linear::new(random(&[5, 6], 3), Some(random(&[5], 4))).unwrap();
    assert_eq!(net.bias.value().len(), 5);
    (conv, linear)
}

#[test]
fn parameters_of_fixed_rank_give_the_bits_of_dynamic_ones() {
    let (images, rows) = (random(&[2, 3, 8, 7], 5), random(&[2, 3, 6], 6));
    for activations in [ActivationScheme::Float, ActivationScheme::DYNAMIC] {
        for scheme in ["per-channel-symmetric-int8", "per-tensor-affine-int4"] {
            let recipe = recipe(scheme, activations);
            let net = Net::new();
            let (conv, linear) = layers(&net);
            let (conv, linear) = (conv, linear).quantize(&recipe).unwrap();
            for (net, conv, linear) in [
                (Net::new(), layers(&net).0, layers(&net).1),
                (net.quantize(&recipe).unwrap(), conv, linear),
            ] {
                let y = net.convolve(&fixed(&images)).unwrap();
                assert_eq!(y.into_dyn(), conv.forward(&images).unwrap(), "{scheme} {activations}");
                let y = net.multiply(&fixed(&rows)).unwrap();
                assert_eq!(y.into_dyn(), linear.forward(&rows).unwrap(), "{scheme} {activations}");
            }
        }
    }
}

#[test]
fn every_storage_in_memory_runs() {
    let x = arr2(&[[1.0f32, -2.0]]);
    let (float, expected) = (ActivationQuantizer::new(), arr2(&[[-3.0f32, -5.0]]));
    let nested = Param::new([[1.0f32, 2.0], [3.0, 4.0]]);
    assert_eq!(quant_nn::linear(&x, &nested, None, &float).unwrap(), expected);
    let shared = SharedTensor::new(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!(quant_nn::linear(&x, &Param::new(shared), None, &float).unwrap(), expected);
    // In columns, and a slice of a larger array.
    let columns = Param::new(arr2(&[[1.0f32, 3.0], [2.0, 4.0]]).reversed_axes());
    assert_eq!(quant_nn::linear(&x, &columns, None, &float).unwrap(), expected);

    let (ones, zeros) = (Param::new(arr1(&[1.0f32, 1.0])), Param::new(vec![0.0f32; 2]));
    let y = quant_nn::layer_norm(&x, &ones, &zeros, 0.0).unwrap();
    assert!((y[[0, 0]] - 1.0).abs() < 1e-6 && (y[[0, 1]] + 1.0).abs() < 1e-6);
    assert_eq!(quant_nn::embedding(&[1, 0], &nested).unwrap(), arr2(&[[3.0, 4.0], [1.0, 2.0]]));
}

#[test]
fn packed_weights_are_made_once_and_give_the_bits_of_the_layer() {
    let weight: Param<Array2<f32>> = fixed::<Ix2>(&random(&[9, 40], 1)).into();
    let weight =
        weight.quantize_weights(recipe("per-channel-symmetric-int8", ActivationScheme::Float));
    let weight = weight.unwrap();
    let (kernel, tensor) = (Kernel::selected().unwrap(), weight.quantized().unwrap());
    let packed = weight.cache().get_or_make(|| pack_weights(kernel, tensor)).unwrap();
    let again = weight.clone();
    let again = again.cache().get_or_make(|| pack_weights(kernel, tensor)).unwrap();
    assert!(std::sync::Arc::ptr_eq(&packed, &again));

    let x = random(&[3, 40], 2);
    let values = x.as_slice().unwrap();
    let input = ActivationQuantizer::new();
    let input = input.prepare(recipe("per-channel-symmetric-int8", ActivationScheme::DYNAMIC));
    let expected = quant_nn::linear(&x, &weight, None, &input.unwrap()).unwrap();
    let mut y = vec![0.0; 27];
    let quantization = DynamicQuantization::default();
    let activations = Activations::Dynamic { values, m: 3, quantization };
    let epilogue = Epilogue { bias: None, relu: false };
    let output = Output::F32(&mut y);
    kernel.linear(&packed, activations, &epilogue, output, &mut Scratch::new()).unwrap();
    assert_eq!(expected.as_slice().unwrap(), y);

    let packed = pack_weights_for_floats(kernel, tensor).unwrap();
    let expected = quant_nn::linear(&x, &weight, None, &ActivationQuantizer::new()).unwrap();
    let activations = Activations::Float { values, m: 3 };
    let output = Output::F32(&mut y);
    kernel.linear(&packed, activations, &epilogue, output, &mut Scratch::new()).unwrap();
    assert_eq!(expected.as_slice().unwrap(), y);
}

#[test]
fn weights_that_no_kernel_executes_are_not_packed() {
    let kernel = Kernel::selected().unwrap();
    let quantized = |shape: &[usize], scheme: &str| {
        let param = Param::new(random(shape, 1));
        param.quantize_weights(recipe(scheme, ActivationScheme::Float)).unwrap()
    };
    let by_column = quantized(&[3, 4], "per-channel-symmetric-int8:axis=1");
    let error = pack_weights(kernel, by_column.quantized().unwrap()).unwrap_err();
    assert!(matches!(error, PackWeightsError::Channels { .. }));
    let expected = "no kernel executes a weight quantized as per-channel-symmetric-int8:axis=1: \
                    channels must lie along the first axis, the outputs";
    assert_eq!(error.to_string(), expected);
    let cube = quantized(&[3, 4, 5], "per-channel-symmetric-int8");
    for error in [
        pack_weights(kernel, cube.quantized().unwrap()).unwrap_err(),
        pack_weights_for_floats(kernel, cube.quantized().unwrap()).unwrap_err(),
    ] {
        assert_eq!(error, PackWeightsError::Rank { shape: vec![3, 4, 5] });
        assert_eq!(error.to_string(), "expected a weight of rank 2, found [3, 4, 5]");
    }

    let blocks = recipe("per-block-symmetric-int8", ActivationScheme::DYNAMIC);
    let net = Net::new().quantize(&blocks).unwrap();
    let error = net.convolve(&fixed(&random(&[1, 3, 8, 8], 1))).unwrap_err();
    let ForwardError::Pack { source: PackWeightsError::Pack(_), .. } = error else {
        panic!("{error}")
    };
    assert!(chain(&error).starts_with("conv2d: the weight does not run in integers: "), "{error}");
}

#[test]
fn errors_name_the_layer_by_its_path_or_by_its_operation() {
    let (x, images) = (random(&[2, 7], 1), random(&[1, 2, 4, 4], 2));
    let message = |error: ForwardError| error.to_string();
    let linear = Linear::new(random(&[3, 4], 3), None).unwrap();
    let expected = "linear: expected an input of shape […, 4], found [2, 7]";
    assert_eq!(message(linear.forward(&x).unwrap_err()), expected);
    let recipe = recipe("per-channel-symmetric-int8", ActivationScheme::DYNAMIC);
    let layers = vec![linear].quantize(&recipe).unwrap();
    let expected = "0: expected an input of shape […, 4], found [2, 7]";
    assert_eq!(message(layers[0].forward(&x).unwrap_err()), expected);

    let conv = Conv2d::new(random(&[5, 3, 3, 3], 4), None, Conv2dOptions::new()).unwrap();
    let error = message(conv.forward(&images).unwrap_err());
    assert!(error.starts_with("conv2d: expected an input of shape [batch, 3, "), "{error}");
    let error = message(conv.forward(&x).unwrap_err());
    assert_eq!(error, "conv2d: expected an input of shape [batch, 3, height, width], found [2, 7]");

    let norm = LayerNorm::new(random(&[3], 5), random(&[3], 6), 1e-5);
    let expected = "layer_norm: expected weight and bias of shape [7], found [3]";
    assert_eq!(message(norm.forward(&x).unwrap_err()), expected);
    let norm = batch_norm([3; 4]).unwrap();
    let expected = "batch_norm: expected parameters of shape [2], found [3]";
    assert_eq!(message(norm.forward(&images).unwrap_err()), expected);

    let table = Param::new(random(&[3, 2], 7));
    let expected = "embedding: index 3 at position 1 is out of range; there are 3 rows";
    assert_eq!(message(quant_nn::embedding(&[0, 3], &table).unwrap_err()), expected);
}

fn batch_norm(lengths: [usize; 4]) -> Result<BatchNorm2d, quant::tensor::TensorError> {
    let [weight, bias, mean, variance] = lengths.map(|n| random(&[n], 1).mapv(|x| x + 1.5));
    BatchNorm2d::new(weight, bias, mean, variance, 1e-5)
}

#[test]
fn a_batch_norm_has_parameters_of_one_length() {
    assert!(batch_norm([3; 4]).is_ok());
    for i in 1..4 {
        let mut lengths = [3; 4];
        lengths[i] = 4;
        assert_eq!(
            batch_norm(lengths).unwrap_err().to_string(),
            "a storage of shape [3] cannot hold shape [4]"
        );
    }
    let image = || random(&[1, 1], 1);
    assert!(BatchNorm2d::new(image(), image(), image(), image(), 1e-5).is_err());
}

#[test]
fn a_convolution_refuses_forgotten_steps_as_a_product_does() {
    let x = fixed(&random(&[1, 3, 8, 8], 1));
    let dynamic = recipe("per-channel-symmetric-int8", ActivationScheme::DYNAMIC);
    let error = Net::new().prepare(&dynamic).unwrap().convolve(&x).unwrap_err();
    assert!(matches!(error, ForwardError::FloatWeight { .. }), "{error}");
    let error = Net::new().quantize_weights(&dynamic).unwrap().convolve(&x).unwrap_err();
    let ForwardError::Activation(ActivationError::Pending { id, .. }) = error else { panic!() };
    assert_eq!(id, "conv_input");
    let fixed_ranges = recipe("per-channel-symmetric-int8", ActivationScheme::STATIC);
    let net = Net::new().quantize_weights(&fixed_ranges).unwrap();
    let net = net.calibrate(&fixed_ranges, [&x], Net::convolve).unwrap();
    let error = net.convolve(&x).unwrap_err();
    let ForwardError::Activation(ActivationError::Unconverted { id }) = error else { panic!() };
    assert_eq!(id, "conv_input");
}

#[test]
fn a_value_that_is_not_finite_is_named_once() {
    let net = Net::new().quantize(recipe("per-channel-symmetric-int8", ActivationScheme::DYNAMIC));
    let mut x = fixed(&random(&[1, 2, 6], 1));
    x[[0, 1, 2]] = f32::NAN;
    let error = net.unwrap().multiply(&x).unwrap_err();
    assert_eq!(chain(&error), "input: the input is not finite: element 8 is NaN");
}
