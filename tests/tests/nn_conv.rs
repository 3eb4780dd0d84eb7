//! Convolutions along sequences, paddings of one side and transposed convolutions, as layers: against
//! their definitions in plain loops.

use ndarray::{ArrayD, IxDyn};
use proptest::prelude::*;
use quant::activation::{ActivationMode, ActivationQuantizer};
use quant::scheme::{ActivationScheme, Mapping, QuantParams, Range, fit};
use quant::{Module, Param, Recipe};
use quant_nn::{
    Conv1d, Conv1dOptions, Conv2d, Conv2dOptions, ConvTranspose1d, ConvTranspose1dOptions,
    ConvTranspose2d, ConvTranspose2dOptions, ForwardError,
};
use tests::arrays::{bits, random};

fn recipe(scheme: &str, activations: ActivationScheme) -> Recipe {
    Recipe::new().scheme(scheme.parse().unwrap()).activations(activations)
}

fn quantized<M: Module>(module: M, recipe: &Recipe) -> M {
    module.quantize_weights(recipe.clone()).unwrap().prepare(recipe).unwrap()
}

/// The same elements with an axis of extent 1 before the last one.
fn over_image(x: &ArrayD<f32>) -> ArrayD<f32> {
    x.clone().insert_axis(ndarray::Axis(x.ndim() - 1))
}

/// A product that is to be added to an output: `[image, output channel, y, x]`, that of the input, and
/// that of the weight.
type Term = ([usize; 4], [usize; 4], [usize; 4]);

/// Every product of a transposed convolution, by its definition.
fn transposed_terms(
    x: &[usize],
    w: &[usize],
    options: ConvTranspose2dOptions,
    out: [usize; 2],
) -> Vec<Term> {
    let (group_in, group_out) = (w[0] / options.groups, w[1]);
    let mut terms = Vec::new();
    let all = ndarray::indices((x[0], x[1], x[2], x[3]));
    for (image, channel, i, j) in all {
        for (of_group, down, right) in ndarray::indices((group_out, w[2], w[3])) {
            let to = |axis: usize, from: usize, at: usize| {
                let position = from * options.stride[axis] + at * options.dilation[axis];
                let position = position.checked_sub(options.padding[axis][0])?;
                (position < out[axis]).then_some(position)
            };
            let (Some(y), Some(x)) = (to(0, i, down), to(1, j, right)) else { continue };
            let output = channel / group_in * group_out + of_group;
            terms.push((
                [image, output, y, x],
                [image, channel, i, j],
                [channel, of_group, down, right],
            ));
        }
    }
    terms
}

/// The codes of each image minus its zero point, and its parameters: those of a static input, or by rule 7.
fn quantize_images(
    x: &ArrayD<f32>,
    input: &ActivationQuantizer,
) -> (ArrayD<i32>, Vec<QuantParams>) {
    let mut codes = ArrayD::zeros(x.raw_dim());
    let mut params = Vec::new();
    for (image, mut codes) in x.outer_iter().zip(codes.outer_iter_mut()) {
        let values: Vec<f32> = image.iter().copied().collect();
        let of_image = match input.mode() {
            ActivationMode::Static(fixed) => fixed.params,
            _ => fit(Range::of(&values).unwrap(), Mapping::Affine, (-128, 127)),
        };
        let zero = i32::from(of_image.zero_point());
        for (code, value) in codes.iter_mut().zip(values) {
            let rounded = (value / of_image.scale()).round_ties_even() as i32 + zero;
            *code = rounded.clamp(-128, 127) - zero;
        }
        params.push(of_image);
    }
    (codes, params)
}

/// Rule 6 for a transposed convolution.
fn in_integers(
    x: &ArrayD<f32>,
    layer: &ConvTranspose2d,
    scale_of: impl Fn(usize) -> usize,
    out: &[usize],
) -> Vec<u32> {
    let weight = layer.weight.quantized().unwrap();
    let shape = weight.shape().to_vec();
    let mut w = weight.codes().into_iter().map(i32::from).collect::<Vec<_>>();
    for (at, code) in w.iter_mut().enumerate() {
        *code -= i32::from(weight.params(weight.groups().group_of(at)).zero_point());
    }
    let w = ArrayD::from_shape_vec(IxDyn(&shape), w).unwrap();
    let (qx, params) = quantize_images(x, &layer.input);
    let mut sums = ArrayD::<i32>::zeros(IxDyn(out));
    for (to, from, at) in transposed_terms(x.shape(), &shape, layer.options, [out[2], out[3]]) {
        sums[to] += qx[from] * w[at];
    }
    let bias = layer.bias.as_ref().unwrap().value();
    sums.indexed_iter()
        .map(|(i, sum)| {
            let scale = params[i[0]].scale() * weight.params(scale_of(i[1])).scale();
            (*sum as f32 * scale + bias[i[1]]).to_bits()
        })
        .collect()
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    groups: usize,
    channels: [usize; 2],
    kernel: [usize; 2],
    options: ConvTranspose2dOptions,
    image: [usize; 2],
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    (
        (1usize..4, pair(1..5), pair(1..4), pair(1..4), pair(1..3), pair(1..6)),
        [pair(0..3), pair(0..3)],
        pair(0..3),
    )
        .prop_map(|((groups, channels, kernel, stride, dilation, image), padding, extra)| {
            let extra = [0, 1].map(|i| extra[i] % stride[i].max(dilation[i]));
            let all = [0, 1]
                .map(|i| (image[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 + extra[i]);
            let padding = [0, 1].map(|i| {
                let before = padding[i][0].min(all[i] - 1);
                [before, padding[i][1].min(all[i] - 1 - before)]
            });
            let options = ConvTranspose2dOptions::new()
                .stride(stride)
                .padding_sides(padding)
                .output_padding(extra)
                .dilation(dilation)
                .groups(groups);
            Sizes { groups, channels, kernel, options, image }
        })
}

impl Sizes {
    fn layer(&self) -> ConvTranspose2d {
        let Self { groups, channels: [group_in, group_out], kernel, options, .. } = *self;
        let weight = random(&[groups * group_in, group_out, kernel[0], kernel[1]], 1);
        ConvTranspose2d::new(weight, Some(random(&[groups * group_out], 2)), options).unwrap()
    }

    fn images(&self) -> ArrayD<f32> {
        random(&[2, self.groups * self.channels[0], self.image[0], self.image[1]], 3)
    }

    fn out(&self) -> Vec<usize> {
        let options = self.options;
        let along = |i: usize| {
            (self.image[i] - 1) * options.stride[i]
                + options.dilation[i] * (self.kernel[i] - 1)
                + 1
                + options.output_padding[i]
                - options.padding[i][0]
                - options.padding[i][1]
        };
        vec![2, self.groups * self.channels[1], along(0), along(1)]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn transposed_convolutions_are_their_definition(sizes in sizes()) {
        let (layer, x, out) = (sizes.layer(), sizes.images(), sizes.out());
        let y = layer.forward(&x).unwrap();
        prop_assert_eq!(y.shape(), &*out);
        let (weight, bias) = (layer.weight.value(), layer.bias.as_ref().unwrap().value());
        let mut expected = ArrayD::<f64>::from_shape_fn(IxDyn(&out), |i| bias[i[1]].into());
        let terms = transposed_terms(x.shape(), weight.shape(), sizes.options, [out[2], out[3]]);
        for (to, from, at) in terms {
            expected[to] += f64::from(x[from]) * f64::from(weight[at]);
        }
        for (y, expected) in y.iter().zip(&expected) {
            prop_assert!((f64::from(*y) - expected).abs() < 1e-4, "{} {}", y, expected);
        }
        // Weight-only is the float product of the dequantized weight.
        let layer = quantized(layer, &recipe("per-channel-affine-int4", ActivationScheme::Float));
        let float = ConvTranspose2d { weight: Param::new(layer.weight.value().into_owned()), ..layer.clone() };
        prop_assert_eq!(bits(&layer.forward(&x).unwrap()), bits(&float.forward(&x).unwrap()));
    }

    #[test]
    fn transposed_convolutions_in_integers_are_rule_6_to_the_bit(
        sizes in sizes(),
        scheme in prop::sample::select(vec![
            "per-tensor-affine-int8",
            "per-tensor-symmetric-int4",
            "per-channel-symmetric-int8",
            "per-channel-affine-int8",
            "per-channel-affine-int3",
            "per-channel-symmetric-int2",
        ]),
        activations in
            prop::sample::select(vec![ActivationScheme::DYNAMIC, ActivationScheme::STATIC]),
    ) {
        let (x, out) = (sizes.images(), sizes.out());
        let recipe = recipe(scheme, activations);
        let layer = sizes.layer().quantize_with(recipe, [&x], ConvTranspose2d::forward).unwrap();
        let [group_in, group_out] = sizes.channels;
        let scale_of = |output: usize| match scheme.starts_with("per-tensor") {
            true => 0,
            // A group of one channel has a scale of its own; others share those of their outputs.
            false if group_in == 1 && sizes.groups > 1 => output / group_out,
            false => output % group_out,
        };
        let y = layer.forward(&x).unwrap();
        prop_assert_eq!(bits(&y), in_integers(&x, &layer, scale_of, &out));
    }

    #[test]
    fn along_a_sequence_everything_is_as_in_an_image_of_height_1(
        (groups, channels, kernel) in (1usize..4, [1usize..5, 1usize..5], 1usize..6),
        (stride, dilation, length) in (1usize..4, 1usize..3, 11usize..30),
        (padding, extra) in ([0usize..5, 0usize..5], 0usize..3),
        scheme in prop::sample::select(vec!["per-channel-symmetric-int8", "per-tensor-affine-int4"]),
    ) {
        let [group_in, group_out] = channels;
        let (inputs, outputs) = (groups * group_in, groups * group_out);
        let (bias, x) = (random(&[outputs], 2), random(&[2, inputs, length], 3));
        let of_image = [[0, 0], padding];

        let options = Conv1dOptions::new().stride(stride).dilation(dilation).groups(groups);
        let in_2d = Conv2dOptions::new().stride([1, stride]).dilation([1, dilation]).groups(groups);
        let weight = random(&[outputs, group_in, kernel], 1);
        let line =
            Conv1d::new(weight.clone(), Some(bias.clone()), options.padding_sides(padding)).unwrap();
        let image =
            Conv2d::new(over_image(&weight), Some(bias.clone()), in_2d.padding_sides(of_image));
        let conv = (line, image.unwrap());

        let extra = extra % stride.max(dilation);
        let padding = padding.map(|side| side.min(4));
        let options = ConvTranspose1dOptions::new().stride(stride).dilation(dilation).groups(groups);
        let options = options.padding_sides(padding).output_padding(extra);
        let in_2d =
            ConvTranspose2dOptions::new().stride([1, stride]).dilation([1, dilation]).groups(groups);
        let in_2d = in_2d.padding_sides([[0, 0], padding]).output_padding([0, extra]);
        let weight = random(&[inputs, group_out, kernel], 1);
        let line = ConvTranspose1d::new(weight.clone(), Some(bias.clone()), options).unwrap();
        let image = ConvTranspose2d::new(over_image(&weight), Some(bias), in_2d).unwrap();
        let transposed = (line, image);

        let float = (conv, transposed);
        let calibrated = |activations| {
            let forward = |((a, b), (c, d)): &(_, _), x: &ArrayD<f32>| {
                run((a, b), (c, d), x).map(drop)
            };
            float.clone().quantize_with(recipe(scheme, activations), [&x], forward).unwrap()
        };
        let all = [
            float.clone(),
            quantized(float.clone(), &recipe(scheme, ActivationScheme::Float)),
            quantized(float.clone(), &recipe(scheme, ActivationScheme::DYNAMIC)),
            calibrated(ActivationScheme::STATIC),
        ];
        for ((line, image), (up_line, up_image)) in &all {
            for (line, image) in run((line, image), (up_line, up_image), &x).unwrap() {
                let dims = over_image(&line).shape().to_vec();
                prop_assert_eq!(&*dims, image.shape());
                prop_assert_eq!(bits(&line), bits(&image));
            }
        }
    }
}

/// A result along a sequence, and over an image.
type OverBoth = (ArrayD<f32>, ArrayD<f32>);

/// The results of each pair of layers, along a sequence and over an image.
fn run(
    (line, image): (&Conv1d, &Conv2d),
    (up_line, up_image): (&ConvTranspose1d, &ConvTranspose2d),
    x: &ArrayD<f32>,
) -> Result<[OverBoth; 2], ForwardError> {
    let in_2d = over_image(x);
    Ok([
        (line.forward(x)?, image.forward(&in_2d)?),
        (up_line.forward(x)?, up_image.forward(&in_2d)?),
    ])
}

/// Codes are whole numbers, so that static inputs with a scale of 1 give sums that can be read.
#[test]
fn padding_of_one_side_is_the_value_0_whatever_the_zero_point() {
    let weight = ArrayD::from_shape_vec(vec![1, 1, 2], vec![1.0, 2.0]).unwrap();
    let causal = Conv1d::new(weight, None, Conv1dOptions::new().padding_sides([1, 0])).unwrap();
    // The range 0 ..= 255 has the zero point -128.
    let x = ArrayD::from_shape_vec(vec![1, 1, 4], vec![255.0, 0.0, 51.0, 102.0]).unwrap();
    let expected = [510.0, 255.0, 102.0, 255.0];
    assert_eq!(causal.forward(&x).unwrap().as_slice().unwrap(), expected);
    let recipe = recipe("per-tensor-symmetric-int8", ActivationScheme::STATIC);
    let causal = causal.quantize_with(&recipe, [&x], Conv1d::forward).unwrap();
    for (y, expected) in causal.forward(&x).unwrap().iter().zip(expected) {
        assert!((y - expected).abs() < 2.5, "{y} {expected}");
    }
    let later = ArrayD::from_shape_vec(vec![1, 1, 4], vec![255.0, 0.0, 51.0, 0.0]).unwrap();
    let [a, b] = [&x, &later].map(|x| causal.forward(x).unwrap());
    assert_eq!(bits(&a)[..3], bits(&b)[..3]);
}

#[test]
fn transposed_convolutions_without_channels_give_the_bias() {
    let bias = random(&[3], 2);
    let options = ConvTranspose2dOptions::new().stride([2, 2]);
    let layer =
        ConvTranspose2d::new(random(&[0, 3, 2, 2], 1), Some(bias.clone()), options).unwrap();
    let y = layer.forward(&random(&[1, 0, 2, 3], 1)).unwrap();
    assert_eq!(y.shape(), [1, 3, 4, 6]);
    assert!(y.indexed_iter().all(|(i, y)| *y == bias[i[1]]));
    let layer = ConvTranspose2d::new(random(&[2, 3, 2, 2], 1), None, options).unwrap();
    assert_eq!(layer.forward(&random(&[0, 2, 2, 3], 1)).unwrap().shape(), [0, 3, 4, 6]);
    assert!(layer.forward(&random(&[1, 2, 0, 3], 1)).is_err());
}
