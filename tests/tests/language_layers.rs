//! The functions of language models in `quant-nn`: shapes, errors, and arrays that are used again.

use ndarray::{Array2, ArrayD, IxDyn, arr1, arr2};
use quant::activation::ActivationQuantizer;
use quant::kernel::scheme::KeyValueScheme;
use quant::kernel::{Kernel, KeyValueCache, KeyValueShape, Rope, RopeAngles, RopeOptions};
use quant::{Module, Param, Recipe};
use quant_nn::{Backend, Embedding, ForwardError, Linear, RmsNorm, Unary};

fn values(shape: &[usize]) -> ArrayD<f32> {
    let mut next = 0.0f32;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        next += 1.0;
        (next * 0.7).sin()
    })
}

#[test]
fn outputs_are_those_of_the_functions_that_allocate() {
    let recipe = Recipe::new()
        .scheme("per-block-symmetric-int8".parse().unwrap())
        .activations("dynamic-per-block-32-symmetric".parse().unwrap());
    let layer =
        Linear::new(values(&[5, 64]), Some(values(&[5]))).unwrap().quantize(&recipe).unwrap();
    let norm = RmsNorm::new(values(&[64]), 1e-5);
    let table = Embedding::new(values(&[7, 64])).unwrap().quantize(&recipe).unwrap();
    let mut y = values(&[1]);
    for rows in [3, 1, 4] {
        let x = values(&[rows, 64]);
        layer.forward_into(&x, &mut y).unwrap();
        assert_eq!(y, layer.forward(&x).unwrap());
        norm.forward_into(&x, &mut y).unwrap();
        assert_eq!(y, norm.forward(&x).unwrap());
        table.forward_into(&[6, 0], &mut y).unwrap();
        assert_eq!(y, table.forward(&[6, 0]).unwrap());
    }
}

#[test]
fn several_layers_of_one_input_are_each_alone() {
    for activations in ["float", "dynamic", "dynamic-per-block-32-symmetric"] {
        let recipe = Recipe::new()
            .scheme("per-block-symmetric-int8".parse().unwrap())
            .activations(activations.parse().unwrap());
        let layers = [3, 8, 5].map(|outputs| {
            Linear::new(values(&[outputs, 64]), None).unwrap().quantize(&recipe).unwrap()
        });
        let x = values(&[6, 64]);
        let mut outputs = [values(&[1]), values(&[2, 2]), values(&[1])];
        Linear::forward_all(layers.each_ref(), &x, outputs.each_mut()).unwrap();
        for (layer, y) in layers.iter().zip(&outputs) {
            assert_eq!(*y, layer.forward(&x).unwrap(), "{activations}");
        }
    }
}

#[test]
fn arrays_in_another_order_are_taken_in_theirs() {
    let weight: Param<Array2<f32>> = arr2(&[[1.0, 2.0], [3.0, -4.0]]).into();
    let x = arr2(&[[1.0, 3.0], [0.5, 1.0]]);
    let mut y = Array2::zeros((2, 2)).reversed_axes();
    quant_nn::linear_into(&x.t().to_owned(), &weight, None, &ActivationQuantizer::new(), &mut y)
        .unwrap();
    assert_eq!(y, arr2(&[[2.0, 1.0], [5.0, 5.0]]));
    let mut x = arr2(&[[1.0f32, 4.0], [2.0, 5.0], [3.0, 6.0]]).reversed_axes();
    quant_nn::keep_rows(&mut x, [1]).unwrap();
    assert_eq!(x, arr2(&[[4.0, 5.0, 6.0]]));
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let refuse = |error: ForwardError| match error {
        ForwardError::Shape { layer, expected, found } => format!("{layer}: {expected}, {found:?}"),
        error => panic!("{error}"),
    };
    let norm = RmsNorm::new(values(&[3]), 1e-5);
    let error = refuse(norm.forward(&values(&[2, 4])).unwrap_err());
    assert_eq!(error, "rms_norm: a weight of shape [4], [3]");
    let error = quant_nn::swiglu(&mut arr1(&[1.0, 2.0]), &arr1(&[1.0])).unwrap_err();
    assert_eq!(refuse(error), "swiglu: values of shape [2], [1]");
    for rows in [[1, 0], [0, 3]] {
        let error = quant_nn::keep_rows(&mut values(&[3, 2]), rows).unwrap_err();
        assert!(refuse(error).starts_with("keep_rows: ascending rows"));
    }
    let rope = Rope::new(RopeOptions::new(4)).unwrap();
    let mut angles = RopeAngles::default();
    rope.angles(&[0, 1], &mut angles).unwrap();
    let error = quant_nn::rope(&mut values(&[3, 4]), 1, &rope, &angles).unwrap_err();
    assert!(matches!(error, ForwardError::Function { .. }), "{error}");
}

#[test]
fn operations_of_the_backend_are_the_functions() {
    let (x, up) = (values(&[3, 8]), values(&[3, 8]) + 1.0);
    let mut expected = x.clone();
    quant_nn::swiglu(&mut expected, &up).unwrap();
    assert_eq!(ArrayD::swiglu(x.clone(), &up).unwrap(), expected);
    let rope = Rope::new(RopeOptions::new(4)).unwrap();
    let mut angles = RopeAngles::default();
    rope.angles(&[5, 6, 0], &mut angles).unwrap();
    let mut expected = x.clone();
    quant_nn::rope(&mut expected, 2, &rope, &angles).unwrap();
    assert_eq!(<ArrayD<f32> as Backend>::rope(x.clone(), 2, &rope, &angles).unwrap(), expected);
    assert_eq!(<ArrayD<f32> as Backend>::add(x.clone(), &up).unwrap(), &x + &up);
    for count in [1, 8, 40_000] {
        let x = values(&[count]);
        let mut expected = x.iter().copied().collect::<Vec<_>>();
        Kernel::current().silu(&mut expected);
        assert_eq!(ArrayD::unary(x, Unary::Silu).unwrap().as_slice().unwrap(), expected);
    }
}

#[test]
fn attention_within_sequences_is_attention_over_caches_of_floats() {
    for (heads, key_heads, dim, lengths) in
        [(6, 2, 5, &[4, 0, 1, 70][..]), (2, 2, 32, &[33]), (3, 1, 1, &[]), (1, 1, 8, &[0, 0])]
    {
        let tokens = lengths.iter().sum();
        let (q, k) = (values(&[tokens, heads * dim]), values(&[tokens, key_heads * dim]));
        let v = k.mapv(f32::cos);
        let shape = KeyValueShape { heads: key_heads, head_dim: dim, capacity: 70 };
        let cache = |_: &usize| KeyValueCache::new(shape, KeyValueScheme::F32).unwrap();
        let mut caches: Vec<_> = lengths.iter().map(cache).collect();
        let (mut expected, caches) = (values(&[1]), lengths.iter().copied().zip(&mut caches));
        quant_nn::causal_attention_into([&q, &k, &v], heads, caches, &mut expected).unwrap();
        let y = quant_nn::causal_attention([&q, &k, &v], heads, lengths).unwrap();
        assert_eq!(y, expected, "{lengths:?}");
    }
}

#[test]
fn attention_that_does_not_fit_is_an_error() {
    let cache = |capacity| {
        let shape = KeyValueShape { heads: 1, head_dim: 4, capacity };
        KeyValueCache::new(shape, KeyValueScheme::Int8).unwrap()
    };
    let attend = |queries: &[usize], keys: &[usize], counts: &[usize], capacity| {
        let mut caches: Vec<_> = counts.iter().map(|_| cache(capacity)).collect();
        let (q, k, mut y) = (values(queries), values(keys), values(&[1]));
        let caches = counts.iter().copied().zip(&mut caches);
        quant_nn::causal_attention_into([&q, &k, &k], 2, caches, &mut y).map(|()| y)
    };
    assert_eq!(attend(&[3, 8], &[3, 4], &[2, 1], 2).unwrap().shape(), [3, 8]);
    let error = attend(&[3, 8], &[3, 4], &[3], 2).unwrap_err();
    assert!(matches!(error, ForwardError::Attention { .. }), "{error}");
    for (queries, keys, counts) in [
        (&[3, 8][..], &[2, 4][..], &[3][..]),
        (&[3, 8], &[3, 4], &[2]),
        (&[3, 8], &[3, 4], &[2, 2]),
        (&[3, 8, 1], &[3, 4, 1], &[3]),
    ] {
        let error = attend(queries, keys, counts, 8).unwrap_err();
        assert!(matches!(error, ForwardError::Shape { .. }), "{error}");
    }
}
