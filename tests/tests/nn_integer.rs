//! Layers in integers, against the numerics written out as loops.

use ndarray::{ArrayD, IxDyn};
use quant::scheme::fit;
use quant::scheme::{ActivationScheme, Mapping, QuantParams, Range};
use quant::{Module, Param, QuantizationScheme, Recipe};
use quant_nn::{
    Backend, BatchNorm2d, Conv2d, Conv2dOptions, Embedding, ForwardError, Linear, Pool,
};
use tests::arrays::{bits, random};
use tests::kernels::in_pool;

fn recipe(scheme: &str, activations: ActivationScheme) -> Recipe {
    Recipe::new().scheme(scheme.parse().unwrap()).activations(activations)
}

fn quantized<M: Module>(module: M, recipe: &Recipe) -> M {
    module.quantize_weights(recipe.clone()).unwrap().prepare(recipe).unwrap()
}

/// Rule 7: the codes of a row, and its parameters.
fn quantize_row(row: &[f32]) -> (Vec<i32>, QuantParams) {
    let params = fit(Range::of(row).unwrap(), Mapping::Affine, (-128, 127));
    let code = |x: &f32| {
        let code = (x / params.scale()).round_ties_even() as i32 + i32::from(params.zero_point());
        code.clamp(-128, 127)
    };
    (row.iter().map(code).collect(), params)
}

#[test]
fn dynamic_linear_is_rule_6_to_the_bit() {
    for (scheme, k) in [
        ("per-tensor-affine-int8", 70),
        ("per-channel-symmetric-int8", 70),
        ("per-channel-affine-int4", 71),
        ("per-channel-symmetric-int2", 33),
        ("per-block-symmetric-int4", 70),
        ("per-block-affine-int8:len=16", 70),
    ] {
        let (x, b) = (random(&[5, k], 1), random(&[9], 2));
        let layer = Linear::new(random(&[9, k], 3), Some(b.clone())).unwrap();
        let layer = quantized(layer, &recipe(scheme, ActivationScheme::DYNAMIC));
        let weight = layer.weight.quantized().unwrap();
        let (codes, groups) = (weight.codes(), weight.groups());
        let expected: Vec<u32> = x
            .rows()
            .into_iter()
            .flat_map(|row| {
                let (qa, a) = quantize_row(row.as_slice().unwrap());
                let (codes, b, weight) = (&codes, &b, &weight);
                (0..9).map(move |n| {
                    let blocks = groups_of_row(groups, n, k);
                    let scaled = blocks.into_iter().map(|(group, range)| {
                        let w = weight.params(group);
                        let acc: i32 = range
                            .map(|at| {
                                let q = i32::from(codes[n * k + at]) - i32::from(w.zero_point());
                                (qa[at] - i32::from(a.zero_point())) * q
                            })
                            .sum();
                        acc as f32 * (a.scale() * w.scale())
                    });
                    let sum = scaled.reduce(|sum, block| sum + block).unwrap();
                    (sum + b[n]).to_bits()
                })
            })
            .collect();
        assert_eq!(bits(&layer.forward(&x).unwrap()), expected, "{scheme}");
    }
}

/// Runs of one group within row `n`, positions counted from its start.
fn groups_of_row(
    groups: quant::scheme::Groups,
    n: usize,
    k: usize,
) -> Vec<(usize, std::ops::Range<usize>)> {
    let mut runs: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
    for at in 0..k {
        let group = groups.group_of(n * k + at);
        match runs.last_mut() {
            Some((last, range)) if *last == group => range.end = at + 1,
            _ => runs.push((group, at..at + 1)),
        }
    }
    runs
}

#[test]
fn a_row_does_not_depend_on_its_batch_nor_on_threads() {
    let layer = Linear::new(random(&[96, 384], 3), None).unwrap();
    let layer = quantized(layer, &recipe("per-channel-symmetric-int8", ActivationScheme::DYNAMIC));
    let x = random(&[200, 384], 1);
    let all = layer.forward(&x).unwrap();
    for i in [0, 17, 199] {
        let row = x.index_axis(ndarray::Axis(0), i).insert_axis(ndarray::Axis(0)).to_owned();
        let alone = layer.forward(&row).unwrap();
        assert_eq!(bits(&alone), bits(&all)[i * 96..][..96]);
    }
    assert_eq!(bits(&in_pool(|| layer.forward(&x)).unwrap()), bits(&all));
}

#[test]
fn leading_axes_are_kept() {
    let layer = Linear::new(random(&[3, 4], 3), None).unwrap();
    assert_eq!(layer.forward(&random(&[2, 5, 4], 1)).unwrap().shape(), [2, 5, 3]);
    assert_eq!(layer.forward(&random(&[4], 1)).unwrap().shape(), [3]);
    assert_eq!((layer.in_features(), layer.out_features()), (4, 3));
}

#[test]
fn weight_only_is_near_the_dequantized_product() {
    let schemes = ["per-channel-symmetric-int8", "per-block-affine-int4", "per-tensor-affine-int2"];
    for scheme in schemes.into_iter().chain(["q4_1", "q5_1", "per-tensor-minimum-int2"]) {
        let layer = Linear::new(random(&[9, 70], 3), Some(random(&[9], 2))).unwrap();
        let layer = quantized(layer, &recipe(scheme, ActivationScheme::Float));
        let (x, float) = (random(&[5, 70], 1), layer.clone().dequantize());
        let (y, expected) = (layer.forward(&x).unwrap(), float.forward(&x).unwrap());
        assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{scheme}");
    }
}

#[test]
fn shapes_and_schemes_that_do_not_fit_are_errors_with_the_layer() {
    let layer = Linear::new(random(&[3, 4], 3), None).unwrap();
    let layer = layer.prepare(recipe("per-tensor-affine-int8", ActivationScheme::DYNAMIC)).unwrap();
    let error = layer.forward(&random(&[2, 5], 1)).unwrap_err();
    assert_eq!(error.to_string(), "linear: expected an input of shape […, 4], found [2, 5]");

    let by_column = recipe("per-channel-symmetric-int8:axis=1", ActivationScheme::DYNAMIC);
    let layer = quantized(Linear::new(random(&[3, 4], 3), None).unwrap(), &by_column);
    let error = layer.forward(&random(&[2, 4], 1)).unwrap_err();
    assert!(matches!(error, ForwardError::Pack { .. }), "{error}");
}

#[test]
fn embeddings_look_up_rows_float_or_quantized() {
    let table = Embedding::new(random(&[10, 7], 3)).unwrap();
    let rows = table.forward(&[3, 0, 3]).unwrap();
    let expected = table.weight.value();
    assert_eq!(rows.index_axis(ndarray::Axis(0), 0), expected.index_axis(ndarray::Axis(0), 3));
    for scheme in
        ["per-channel-symmetric-int8", "per-block-affine-int4:len=3", "per-tensor-symmetric-int2"]
    {
        let scheme: QuantizationScheme = scheme.parse().unwrap();
        let table = quantized(table.clone(), &Recipe::new().scheme(scheme));
        let (rows, all) = (table.forward(&[9, 4]).unwrap(), table.weight.value());
        assert_eq!(rows.index_axis(ndarray::Axis(0), 0), all.index_axis(ndarray::Axis(0), 9));
    }
    let error = table.forward(&[1, 10]).unwrap_err();
    assert_eq!(error, ForwardError::Index { position: 1, index: 10, rows: 10 });

    let narrow = Embedding::new(random(&[10, 0], 3)).unwrap();
    assert_eq!(narrow.forward(&[9, 9]).unwrap().shape(), [2, 0]);
    let error = narrow.forward(&[1, 10]).unwrap_err();
    assert_eq!(error, ForwardError::Index { position: 1, index: 10, rows: 10 });
}

/// Convolution as its definition says, in f64.
fn convolve(
    x: &ArrayD<f32>,
    w: &ArrayD<f32>,
    options: Conv2dOptions,
    out: &[usize],
) -> ArrayD<f32> {
    let (inputs, outputs) = (w.shape()[1], w.shape()[0] / options.groups);
    ArrayD::from_shape_fn(IxDyn(out), |i| {
        let mut sum = 0.0f64;
        for c in 0..inputs {
            for (down, right) in
                (0..w.shape()[2]).flat_map(|d| (0..w.shape()[3]).map(move |r| (d, r)))
            {
                let at = |axis: usize, place: usize| {
                    let position =
                        i[2 + axis] * options.stride[axis] + place * options.dilation[axis];
                    position.checked_sub(options.padding[axis][0])
                };
                let (Some(h), Some(v)) = (at(0, down), at(1, right)) else { continue };
                let channel = i[1] / outputs * inputs + c;
                if let Some(x) = x.get([i[0], channel, h, v]) {
                    sum += f64::from(*x) * f64::from(w[[i[1], c, down, right]]);
                }
            }
        }
        sum as f32
    })
}

#[test]
fn convolutions_agree_with_their_definition() {
    let cases = [
        (4, 6, Conv2dOptions::default()),
        (4, 6, Conv2dOptions::new().stride([2, 1]).padding([1, 2])),
        (4, 6, Conv2dOptions::new().dilation([2, 1]).groups(2)),
        (4, 4, Conv2dOptions::new().padding([1, 1]).groups(4)),
        (4, 6, Conv2dOptions::new().padding_sides([[2, 0], [0, 1]])),
        (4, 4, Conv2dOptions::new().padding_sides([[0, 1], [3, 0]]).stride([1, 2]).groups(4)),
    ];
    for (inputs, outputs, options) in cases {
        let (x, w) =
            (random(&[2, inputs, 9, 8], 1), random(&[outputs, inputs / options.groups, 3, 2], 2));
        let layer = Conv2d::new(w.clone(), Some(random(&[outputs], 3)), options).unwrap();
        let y = layer.forward(&x).unwrap();
        let mut expected = convolve(&x, &w, options, y.shape());
        for (i, y) in expected.indexed_iter_mut() {
            *y += layer.bias.as_ref().unwrap().value()[i[1]];
        }
        let far = |y: &ArrayD<f32>| {
            y.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!(far(&y) < 1e-4, "{options:?}");
        // Of the dequantized weight and, where the input is quantized, of each image's codes.
        for activations in [ActivationScheme::DYNAMIC, ActivationScheme::Float] {
            for scheme in ["int8", "int4", "int2"] {
                let scheme = format!("per-channel-symmetric-{scheme}");
                let layer = quantized(layer.clone(), &recipe(&scheme, activations));
                let x_hat = match activations {
                    ActivationScheme::Float => x.clone(),
                    _ => fake_quantized_images(&x),
                };
                let mut expected = convolve(&x_hat, &layer.weight.value(), options, y.shape());
                for (i, y) in expected.indexed_iter_mut() {
                    *y += layer.bias.as_ref().unwrap().value()[i[1]];
                }
                let y = layer.forward(&x).unwrap();
                for (y, expected) in y.iter().zip(&expected) {
                    assert!(
                        (y - expected).abs() < 1e-4,
                        "{options:?} {scheme} {activations}: {y} {expected}"
                    );
                }
            }
        }
    }
}

/// Each image quantized by its own range and dequantized.
fn fake_quantized_images(x: &ArrayD<f32>) -> ArrayD<f32> {
    let mut x = x.clone();
    for mut image in x.outer_iter_mut() {
        let values: Vec<f32> = image.iter().copied().collect();
        let (codes, params) = quantize_row(&values);
        for (x, code) in image.iter_mut().zip(codes) {
            *x = (code - i32::from(params.zero_point())) as f32 * params.scale();
        }
    }
    x
}

#[test]
fn a_folded_norm_computes_the_same() {
    let conv = Conv2d::new(random(&[5, 3, 3, 3], 1), None, Conv2dOptions::default()).unwrap();
    let positive = |seed| Param::new(random(&[5], seed).mapv(|x| x + 1.5));
    let norm = BatchNorm2d {
        weight: positive(2),
        bias: Param::new(random(&[5], 3)),
        running_mean: Param::new(random(&[5], 4)),
        running_var: positive(5),
        epsilon: 1e-5,
    };
    let x = random(&[2, 3, 6, 6], 6);
    let expected = norm.forward(&conv.forward(&x).unwrap()).unwrap();
    let folded = conv.fold(&norm).unwrap().forward(&x).unwrap();
    assert!(folded.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4));
    let quantized = quantized(conv, &recipe("per-channel-symmetric-int8", ActivationScheme::Float));
    assert!(quantized.fold(&norm).is_err());
}

#[test]
fn factors_of_either_sign_and_of_0_are_folded() {
    for (groups, bias) in [(1, None), (2, Some(random(&[4], 7))), (4, None)] {
        let options = Conv2dOptions::default().groups(groups);
        let conv = Conv2d::new(random(&[4, 4 / groups, 3, 3], 1), bias, options).unwrap();
        let norm = BatchNorm2d {
            weight: Param::new(
                ArrayD::from_shape_vec(vec![4], vec![-1.5, 0.0, 0.5, -0.1]).unwrap(),
            ),
            bias: Param::new(random(&[4], 3)),
            running_mean: Param::new(random(&[4], 4)),
            running_var: Param::new(
                ArrayD::from_shape_vec(vec![4], vec![1.0, 0.5, 0.25, 0.0]).unwrap(),
            ),
            epsilon: 1e-2,
        };
        let x = random(&[2, 4, 6, 6], 6);
        let expected = norm.forward(&conv.forward(&x).unwrap()).unwrap();
        let folded = conv.fold(&norm).unwrap().forward(&x).unwrap();
        assert!(folded.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs())));
    }
}

#[test]
fn a_variance_that_nothing_can_be_divided_by_is_not_folded() {
    let conv = Conv2d::new(random(&[2, 1, 1, 1], 1), None, Conv2dOptions::default()).unwrap();
    let of = |values: [f32; 2]| Param::new(ArrayD::from_shape_vec(vec![2], values.into()).unwrap());
    for (variance, epsilon) in
        [(-1.0, 0.0), (-1.0, 1e-5), (0.0, 0.0), (f32::NAN, 1e-5), (1e-45, 0.0)]
    {
        let norm = BatchNorm2d {
            weight: of([1.0; 2]),
            bias: of([0.0; 2]),
            running_mean: of([0.0; 2]),
            running_var: of([1.0, variance]),
            epsilon,
        };
        let error = conv.fold(&norm).unwrap_err().to_string();
        assert!(error.contains("the variance plus epsilon of channel 1 is"), "{error}");
    }
}

#[test]
fn a_norm_or_a_bias_of_another_number_of_channels_is_not_folded() {
    let conv = Conv2d::new(random(&[5, 3, 3, 3], 1), None, Conv2dOptions::default()).unwrap();
    let of = |channels: usize| Param::new(random(&[channels], 2).mapv(|x| x + 1.5));
    let norm = BatchNorm2d {
        weight: of(5),
        bias: of(5),
        running_mean: of(5),
        running_var: of(5),
        epsilon: 1e-5,
    };
    for channels in [4, 6] {
        for norm in [
            BatchNorm2d { weight: of(channels), ..norm.clone() },
            BatchNorm2d { bias: of(channels), ..norm.clone() },
            BatchNorm2d { running_mean: of(channels), ..norm.clone() },
            BatchNorm2d { running_var: of(channels), ..norm.clone() },
        ] {
            let error = conv.fold(&norm).unwrap_err();
            let expected = format!("a storage of 5 channels cannot hold shape [{channels}]");
            assert_eq!(error.to_string(), expected);
        }
        let biased = Conv2d { bias: Some(of(channels)), ..conv.clone() };
        assert!(biased.fold(&norm).is_err());
    }
    let scalar = Conv2d { weight: Param::new(random(&[], 1)), ..conv.clone() };
    assert!(scalar.fold(&norm).is_err());
}

#[test]
fn pools_take_the_greatest_or_the_mean() {
    let x = ArrayD::from_shape_fn(IxDyn(&[1, 1, 4, 5]), |i| (i[2] * 5 + i[3]) as f32);
    let (kernel_size, stride) = ([2, 2], [2, 2]);
    let max = ArrayD::pool2d(&x, Pool::Max { kernel_size, stride }).unwrap();
    assert_eq!(max.iter().copied().collect::<Vec<_>>(), [6.0, 8.0, 16.0, 18.0]);
    let mean = ArrayD::pool2d(&x, Pool::Average { kernel_size, stride }).unwrap();
    assert_eq!(mean.iter().copied().collect::<Vec<_>>(), [3.0, 5.0, 13.0, 15.0]);
    assert!(ArrayD::pool2d(&x, Pool::Max { kernel_size: [5, 1], stride }).is_err());
    for x in [x, random(&[1, 1, 0, 0], 1)] {
        for kernel_size in [[0, 0], [0, 1], [1, 0]] {
            assert!(ArrayD::pool2d(&x, Pool::Max { kernel_size, stride }).is_err());
            assert!(ArrayD::pool2d(&x, Pool::Average { kernel_size, stride }).is_err());
        }
    }
}

#[test]
fn changing_a_parameter_drops_what_was_packed() {
    let mut layer = Linear::new(random(&[3, 4], 3), None).unwrap();
    let x = random(&[2, 4], 1);
    let before = layer.forward(&x).unwrap();
    let clone = layer.clone();
    layer.weight.as_float_mut().unwrap().fill(0.0);
    assert!(layer.forward(&x).unwrap().iter().all(|&y| y == 0.0));
    assert_eq!(clone.forward(&x).unwrap(), before);
}

#[test]
fn tensors_without_elements_have_results_without_surprises() {
    let layer = Linear::new(random(&[3, 0], 1), Some(random(&[3], 2))).unwrap();
    let y = layer.forward(&random(&[5, 0], 1)).unwrap();
    assert_eq!(y.shape(), [5, 3]);
    assert_eq!(y.index_axis(ndarray::Axis(0), 4), layer.bias.as_ref().unwrap().value().view());

    let layer = Linear::new(random(&[3, 4], 1), None).unwrap();
    for activations in [ActivationScheme::Float, ActivationScheme::DYNAMIC] {
        let layer = quantized(layer.clone(), &recipe("per-channel-symmetric-int8", activations));
        assert_eq!(layer.forward(&random(&[0, 4], 1)).unwrap().shape(), [0, 3]);
    }

    // No channels, or nothing but padding: sums of no products.
    let padded = Conv2dOptions::new().padding([1, 1]);
    for (inputs, pixels) in [(0, 2), (2, 0)] {
        let (weight, bias) = (random(&[3, inputs, 1, 1], 1), random(&[3], 2));
        let layer = Conv2d::new(weight, Some(bias.clone()), padded).unwrap();
        let y = layer.forward(&random(&[1, inputs, pixels, pixels], 1)).unwrap();
        assert_eq!(y.shape(), [1, 3, pixels + 2, pixels + 2]);
        assert!(y.indexed_iter().all(|(i, &y)| y == bias[i[1]]), "{inputs} {pixels}");
    }
}

#[test]
fn impossible_convolutions_are_errors() {
    let weight = random(&[4, 2, 3, 3], 1);
    let default = Conv2dOptions::default();
    for options in [
        default.stride([0, 1]),
        default.dilation([1, 0]),
        default.groups(0),
        default.groups(3),
        default.dilation([9, 9]),
    ] {
        let layer = Conv2d::new(weight.clone(), None, options).unwrap();
        assert!(layer.forward(&random(&[1, 2, 8, 8], 1)).is_err(), "{options:?}");
    }
    let mut layer = Conv2d::new(weight, None, default).unwrap();
    layer.bias = Some(Param::new(random(&[5], 1)));
    let error = layer.forward(&random(&[1, 2, 8, 8], 1)).unwrap_err();
    assert_eq!(error.to_string(), "conv2d: expected a bias of shape [4], found [5]");
}
