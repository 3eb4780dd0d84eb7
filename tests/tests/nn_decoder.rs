//! A decoder of layers of every kind of convolution: planned, quantized, saved, loaded and run; and the
//! errors of its layers.

use ndarray::{ArrayD, IxDyn};
use quant::quantize::{Action, Warning};
use quant::scheme::{ActivationScheme, Axis};
use quant::{BincodeRecorder, Module, Param, Recipe, Rule};
use quant_nn::{
    Backend, Conv1d, Conv1dOptions, Conv2d, Conv2dOptions, ConvParams, ConvTranspose1d,
    ConvTranspose1dOptions, ConvTranspose2d, ConvTranspose2dOptions, ForwardError,
    PackWeightsError,
};
use tests::arrays::{bits, random};
use tests::errors::chain;

fn recipe(scheme: &str, activations: ActivationScheme) -> Recipe {
    Recipe::new().scheme(scheme.parse().unwrap()).activations(activations)
}

/// A decoder with a layer of each kind.
#[derive(Clone, Debug, Module)]
struct Decoder {
    causal: Conv1d,
    up: ConvTranspose1d,
    depthwise: ConvTranspose1d,
    image: Conv2d,
    image_up: ConvTranspose2d,
}

impl Decoder {
    fn new(value: impl Fn(&[usize], u32) -> ArrayD<f32>) -> Self {
        let bias = |n: usize| Some(value(&[n], 9));
        let causal = Conv1dOptions::new().dilation(2).padding_sides([4, 0]);
        let up = ConvTranspose1dOptions::new().stride(4).padding_sides([0, 4]);
        let twice = ConvTranspose1dOptions::new().stride(2).padding(1).groups(6);
        let one_side = Conv2dOptions::new().padding_sides([[1, 0], [2, 0]]);
        let image_up =
            ConvTranspose2dOptions::new().stride([2, 2]).padding([1, 1]).output_padding([1, 1]);
        Self {
            causal: Conv1d::new(value(&[8, 3, 3], 1), bias(8), causal).unwrap(),
            up: ConvTranspose1d::new(value(&[8, 6, 8], 2), bias(6), up).unwrap(),
            depthwise: ConvTranspose1d::new(value(&[6, 1, 4], 3), None, twice).unwrap(),
            image: Conv2d::new(value(&[5, 1, 2, 3], 4), None, one_side).unwrap(),
            image_up: ConvTranspose2d::new(value(&[5, 2, 3, 3], 5), bias(2), image_up).unwrap(),
        }
    }

    /// `[batch, 3, length]` to `[batch, 2, 12, 16 · length]`.
    fn forward(&self, x: &ArrayD<f32>) -> Result<ArrayD<f32>, ForwardError> {
        let x = self.causal.forward(x)?;
        let x = self.up.forward(&x)?;
        let x = self.depthwise.forward(&x)?;
        let x = x.insert_axis(ndarray::Axis(1));
        self.image_up.forward(&self.image.forward(&x)?)
    }
}

#[test]
fn padding_beyond_the_memory_is_an_error_in_floats_and_in_integers() {
    fn check<M: Module + Clone>(
        layer: M,
        forward: impl Fn(&M) -> Result<ArrayD<f32>, ForwardError>,
    ) {
        let integers = || {
            let recipe = recipe("per-channel-symmetric-int8", ActivationScheme::DYNAMIC);
            layer.clone().quantize(&recipe).unwrap()
        };
        for layer in [layer.clone(), integers()] {
            let error = forward(&layer).unwrap_err();
            assert!(matches!(error, ForwardError::Shape { .. }), "{error}");
        }
    }
    let most = usize::MAX;
    let (image, sequence) = (random(&[2, 3, 4, 4], 1), random(&[2, 3, 4], 2));
    // Beyond isize::MAX bytes; beyond usize when channels and images are counted; and beyond usize alone.
    for padding in [most / 4, most / 8, most / 40, most / 64, most - 3] {
        for sides in [[padding / 2, padding / 2], [padding, 0], [0, padding]] {
            let options = Conv2dOptions::new().padding_sides([[1, 1], sides]);
            let layer = Conv2d::new(random(&[2, 3, 3, 3], 3), None, options).unwrap();
            check(layer, |layer| layer.forward(&image));
            let options = Conv1dOptions::new().padding_sides(sides);
            let layer = Conv1d::new(random(&[2, 3, 3], 3), None, options).unwrap();
            check(layer, |layer| layer.forward(&sequence));
        }
        let options = ConvTranspose2dOptions::new().stride([1, padding]);
        let layer = ConvTranspose2d::new(random(&[3, 2, 3, 3], 3), None, options).unwrap();
        check(layer, |layer| layer.forward(&image));
        let options = ConvTranspose1dOptions::new().dilation(padding);
        let layer = ConvTranspose1d::new(random(&[3, 2, 3], 3), None, options).unwrap();
        check(layer, |layer| layer.forward(&sequence));
    }
    // The result would fit, and the im2col matrix would not.
    let options = Conv2dOptions::new().padding([1 << 28, 1 << 28]).stride([2, 2]);
    let layer = Conv2d::new(random(&[1, 1, 9, 9], 3), None, options).unwrap();
    assert!(layer.forward(&random(&[1, 1, 4, 4], 1)).is_err());
    // No image at all.
    let options = Conv2dOptions::new().padding([most / 8, most / 8]);
    let layer = Conv2d::new(random(&[2, 3, 3, 3], 3), None, options).unwrap();
    let error = layer.forward(&random(&[0, 3, 4, 4], 1)).unwrap_err();
    assert!(chain(&error).contains("fits into memory"), "{}", chain(&error));
}

#[test]
fn a_decoder_is_planned_quantized_saved_loaded_and_run() {
    let (decoder, x) = (Decoder::new(random), random(&[2, 3, 5], 7));
    let float = decoder.forward(&x).unwrap();
    assert_eq!(float.shape(), [2, 2, 12, 80]);
    for activations in [ActivationScheme::DYNAMIC, ActivationScheme::STATIC] {
        let recipe = recipe("per-channel-symmetric-int8", activations);
        let plan = recipe.plan(&decoder).unwrap();
        assert!(plan.params().iter().all(|param| param.warning.is_none()), "{plan}");
        let schemes: Vec<_> = plan
            .params()
            .iter()
            .filter_map(|param| match &param.action {
                Action::Quantize { scheme, .. } => Some((param.id.as_str(), scheme.to_string())),
                _ => None,
            })
            .collect();
        let (first, second) = ("per-channel-symmetric-int8", "per-channel-symmetric-int8:axis=1");
        let expected = [
            ("causal.weight", first),
            ("up.weight", second),
            ("depthwise.weight", first),
            ("image.weight", first),
            ("image_up.weight", second),
        ];
        assert_eq!(schemes, expected.map(|(id, scheme)| (id, scheme.to_owned())));

        let model = decoder.clone().quantize_with(&recipe, [&x], Decoder::forward).unwrap();
        let applied = plan.apply(decoder.clone()).unwrap();
        assert_eq!(applied.up.weight, model.up.weight);
        let y = model.forward(&x).unwrap();
        let (mut noise, mut signal) = (0.0, 0.0);
        for (y, float) in y.iter().zip(&float) {
            noise += f64::from(y - float).powi(2);
            signal += f64::from(*float).powi(2);
        }
        assert!(noise < 1e-3 * signal, "{activations}: {noise} of {signal}");

        let bytes = model.save_bytes(&BincodeRecorder::default()).unwrap();
        let empty = Decoder::new(|shape, _| ArrayD::zeros(IxDyn(shape)));
        let loaded = empty.load_bytes(&bytes, &BincodeRecorder::default()).unwrap();
        assert_eq!(bits(&loaded.forward(&x).unwrap()), bits(&y), "{activations}");
    }
}

#[test]
fn a_plan_puts_channels_along_the_outputs_of_a_transposed_convolution() {
    let decoder = Decoder::new(random);
    let scheme_of = |recipe: &Recipe, id: &str| {
        let plan = recipe.plan(&decoder).unwrap();
        let param = plan.params().iter().find(|param| param.id == id).unwrap().clone();
        let Action::Quantize { scheme, .. } = param.action else { panic!("{plan}") };
        (scheme.to_string(), param.warning)
    };
    let on = |pattern: &str, scheme: &str| {
        let rule = Rule::quantize(pattern, scheme.parse().unwrap());
        Recipe::new().activations(ActivationScheme::DYNAMIC).rule(rule)
    };
    let dynamic = |scheme: &str| on("**.weight", scheme);
    let second = "per-channel-affine-int4:axis=1";
    // A rule that leaves the axis to the default means the outputs, too.
    let by_rule = dynamic("per-channel-affine-int4");
    assert_eq!(scheme_of(&by_rule, "up.weight"), (second.into(), None));
    assert_eq!(scheme_of(&by_rule, "depthwise.weight"), ("per-channel-affine-int4".into(), None));
    // Another axis is kept, and the plan says that no kernel runs it.
    let elsewhere = dynamic("per-channel-affine-int4:axis=-1");
    let expected = ("per-channel-affine-int4:axis=-1".into(), Some(Warning::NoKernel));
    assert_eq!(scheme_of(&elsewhere, "image_up.weight"), expected);
    let first = on("image*.weight", "per-channel-affine-int4:axis=-4");
    assert_eq!(scheme_of(&first, "image_up.weight").1, Some(Warning::NoKernel));
    assert_eq!(scheme_of(&first, "image.weight").1, None);
    let second = dynamic("per-channel-affine-int4:axis=1");
    assert_eq!(scheme_of(&second, "up.weight").1, None);
    assert_eq!(scheme_of(&second, "depthwise.weight").1, Some(Warning::NoKernel));
    let blocks = dynamic("per-block-symmetric-int8");
    assert_eq!(scheme_of(&blocks, "up.weight").1, Some(Warning::NoKernel));
    let axes: Vec<_> = decoder.params().into_iter().map(|param| param.outputs).collect();
    assert_eq!(axes.iter().filter(|axis| **axis == Axis::new(1)).count(), 2);
}

#[test]
fn a_budget_is_spent_on_channels_along_the_outputs() {
    use quant::quantize::mixed::{MixedPrecision, Precision};
    let decoder = Decoder::new(random);
    let precisions: [Precision; 1] = ["per-channel-symmetric-int8".parse().unwrap()];
    let mixed = MixedPrecision::new("50%".parse().unwrap(), precisions).plan(&decoder).unwrap();
    let model = decoder.quantize_weights(mixed.plan.to_recipe().unwrap()).unwrap();
    let scheme = model.up.weight.quantized().unwrap().scheme();
    assert_eq!(scheme.to_string(), "per-channel-symmetric-int8:axis=1");
}

#[test]
fn weights_of_transposed_convolutions_that_do_not_run_are_errors_with_the_layer() {
    let x = random(&[2, 3, 5], 7);
    let by_rule = |scheme: &str| {
        let rule = Rule::quantize("**.weight", scheme.parse().unwrap());
        let recipe = Recipe::new().activations(ActivationScheme::DYNAMIC).rule(rule);
        let up = Decoder::new(random).up;
        vec![up].quantize(&recipe).unwrap().remove(0)
    };
    let x = ArrayD::from_shape_fn(IxDyn(&[1, 8, 5]), |i| x[[0, i[1] % 3, i[2]]]);
    let error = by_rule("per-channel-symmetric-int8:axis=2").forward(&x).unwrap_err();
    let ForwardError::Pack { source: PackWeightsError::TransposedChannels { axis, .. }, .. } =
        &error
    else {
        panic!("{error}")
    };
    assert_eq!(*axis, Axis::new(1));
    assert_eq!(
        chain(&error),
        "0: the weight does not run in integers: no kernel executes the weight of a transposed \
         convolution quantized as per-channel-symmetric-int8:axis=2: channels must lie along axis 1, \
         the outputs"
    );
    for scheme in ["per-block-symmetric-int8", "q4_1", "per-tensor-minimum-int4"] {
        let error = by_rule(scheme).forward(&x).unwrap_err();
        assert!(chain(&error).starts_with("0: the weight does not run in integers: "), "{error}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors_with_the_layer() {
    let message = |error: ForwardError| error.to_string();
    let flat = random(&[2, 7], 1);
    let (line, image) = (random(&[1, 3, 9], 1), random(&[1, 3, 9, 9], 1));
    let conv = Conv1d::new(random(&[4, 2, 3], 1), None, Conv1dOptions::new()).unwrap();
    let error = message(conv.forward(&flat).unwrap_err());
    assert_eq!(error, "conv1d: expected an input of shape [batch, 2, length], found [2, 7]");
    let error = message(conv.forward(&line).unwrap_err());
    assert!(
        error.starts_with(
            "conv1d: expected an input of shape [batch, 2, length] that holds the kernel [3] with \
             Conv1dOptions {"
        ),
        "{error}"
    );
    // More input channels than can be counted.
    let options = Conv1dOptions::new().groups(usize::MAX);
    let conv = Conv1d::new(random(&[4, 2, 3], 1), None, options).unwrap();
    let error = message(conv.forward(&line).unwrap_err());
    assert!(error.starts_with("conv1d: expected a weight of shape [out, in / groups, "), "{error}");
    let up = ConvTranspose1d::new(random(&[4, 2, 3], 1), None, ConvTranspose1dOptions::new());
    let error = message(up.unwrap().forward(&flat).unwrap_err());
    assert_eq!(
        error,
        "conv_transpose1d: expected an input of shape [batch, 4, length], found [2, 7]"
    );

    let weight = random(&[3, 2, 3, 3], 1);
    let options = ConvTranspose2dOptions::new();
    for bad in [
        options.stride([0, 1]),
        options.dilation([1, 0]),
        options.groups(0),
        options.groups(2),
        options.output_padding([1, 0]),
        options.padding([6, 6]),
    ] {
        let up = ConvTranspose2d::new(weight.clone(), None, bad).unwrap();
        let error = message(up.forward(&image).unwrap_err());
        assert!(
            error.starts_with("conv_transpose2d: expected an input of shape [batch, 3, "),
            "{error}"
        );
    }
    let mut up = ConvTranspose2d::new(weight, None, options).unwrap();
    up.bias = Some(Param::new(random(&[5], 1)));
    let error = message(up.forward(&image).unwrap_err());
    assert_eq!(error, "conv_transpose2d: expected a bias of shape [2], found [5]");
    up.weight = Param::new(random(&[3, 2, 3], 1));
    let error = message(up.forward(&image).unwrap_err());
    let expected = "conv_transpose2d: expected a weight of shape [in, out / groups, height, width], \
                    found [3, 2, 3]";
    assert_eq!(error, expected);

    let input = quant::activation::ActivationQuantizer::new();
    let weight = Param::new(random(&[4, 3], 1));
    let params = ConvParams::new(&weight, &input).options(Conv1dOptions::new());
    let error = message(ArrayD::conv1d(&line, params).unwrap_err());
    assert_eq!(
        error,
        "conv1d: expected a weight of shape [out, in / groups, length], found [4, 3]"
    );
}

#[test]
fn layers_check_the_shapes_of_their_parameters() {
    let bias = |n: usize| Some(random(&[n], 1));
    let options = Conv1dOptions::new();
    assert!(Conv1d::new(random(&[4, 2, 3, 3], 1), None, options).is_err());
    assert!(Conv1d::new(random(&[4, 2, 3], 1), bias(2), options).is_err());
    let options = ConvTranspose1dOptions::new().groups(2);
    assert!(ConvTranspose1d::new(random(&[4, 2], 1), None, options).is_err());
    let error = ConvTranspose1d::new(random(&[4, 2, 3], 1), bias(2), options).unwrap_err();
    assert_eq!(error.to_string(), "a storage of shape [4] cannot hold shape [2]");
    assert!(ConvTranspose1d::new(random(&[4, 2, 3], 1), bias(4), options).is_ok());
    let options = ConvTranspose2dOptions::new();
    assert!(ConvTranspose2d::new(random(&[4, 2, 3], 1), None, options).is_err());
    assert!(ConvTranspose2d::new(random(&[4, 2, 3, 3], 1), bias(4), options).is_err());
}

#[test]
fn forgotten_steps_are_errors_with_the_layer() {
    let x = random(&[1, 8, 5], 7);
    let recipe = recipe("per-channel-symmetric-int8", ActivationScheme::DYNAMIC);
    let up = vec![Decoder::new(random).up].prepare(&recipe).unwrap();
    let error = up[0].forward(&x).unwrap_err();
    assert_eq!(error, ForwardError::FloatWeight { layer: "0".into() });
    let mut bad = x.clone();
    bad[[0, 1, 2]] = f32::NAN;
    let up = up.quantize_weights(&recipe).unwrap();
    let error = up[0].forward(&bad).unwrap_err();
    assert_eq!(chain(&error), "0.input: the input is not finite: element 7 is NaN");
}
