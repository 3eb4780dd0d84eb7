//! The functions of language models over candle: the bits of those over arrays, and the gradients of
//! finite differences.

use candle_core::{DType, Device, Tensor, Var};
use candle_tests::{array, array_bits, bits, check_gradient, tensor, values, var};
use ndarray::ArrayD;
use proptest::prelude::*;
use quant::kernel::{Rope, RopeAngles, RopeLayout, RopeOptions, RopeScaling};
use quant_nn::{Backend, ForwardError, Unary};
use tests::errors::chain;

fn angles(rope: &Rope, positions: &[u32]) -> RopeAngles {
    let mut angles = RopeAngles::default();
    rope.angles(positions, &mut angles).unwrap();
    angles
}

/// Rotary embeddings of heads of 6 dimensions: both layouts, all dimensions and some, with and without a
/// factor.
fn ropes() -> Vec<Rope> {
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_context: 64,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
    };
    let mut ropes = Vec::new();
    for layout in [RopeLayout::Halves, RopeLayout::Pairs] {
        for (rotary_dim, scaling) in [(6, RopeScaling::None), (4, yarn)] {
            let options = RopeOptions { rotary_dim, layout, scaling, ..RopeOptions::new(6) };
            ropes.push(Rope::new(options).unwrap());
        }
    }
    ropes
}

/// A sum with a weight for each element.
fn weighted(y: Tensor) -> Tensor {
    (&y * tensor(y.dims(), 77)).unwrap().sum_all().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn functions_give_equal_bits_over_candle_and_arrays(
        lengths in proptest::collection::vec(0usize..40, 1..4),
        (key_heads, group) in (1usize..4, 1usize..4),
        dim in 1usize..40,
        seed in any::<u16>(),
    ) {
        let tokens: usize = lengths.iter().sum();
        let (heads, seed) = (key_heads * group, u32::from(seed));
        let q = tensor(&[tokens, heads * dim], seed);
        let [k, v] = [1, 2].map(|own| tensor(&[tokens, key_heads * dim], seed + own));
        // With gradients and without, the values are the same.
        for q in [q.clone(), var(&[tokens, heads * dim], seed).as_tensor().clone()] {
            let y = Tensor::causal_attention([&q, &k, &v], heads, &lengths).unwrap();
            let arrays = [&q, &k, &v].map(array);
            let expected = ArrayD::causal_attention(arrays.each_ref(), heads, &lengths).unwrap();
            prop_assert_eq!(y.dims(), expected.shape());
            prop_assert_eq!(bits(&y), array_bits(&expected));
            let y = Tensor::swiglu(q.clone(), &tensor(q.dims(), 9)).unwrap();
            let expected = ArrayD::swiglu(array(&q), &array(&tensor(q.dims(), 9))).unwrap();
            prop_assert_eq!(bits(&y), array_bits(&expected));
            let y = Tensor::unary(q.clone(), Unary::Silu).unwrap();
            prop_assert_eq!(bits(&y), array_bits(&ArrayD::unary(array(&q), Unary::Silu).unwrap()));
            let y = Var::add(q.clone(), &tensor(q.dims(), 9)).unwrap();
            let expected = ArrayD::add(array(&q), &array(&tensor(q.dims(), 9))).unwrap();
            prop_assert_eq!(bits(&y), array_bits(&expected));
        }
        let positions: Vec<u32> = (seed..).take(tokens).collect();
        for rope in ropes() {
            let (x, angles) = (tensor(&[tokens, heads * 6], seed), angles(&rope, &positions));
            let expected = ArrayD::rope(array(&x), heads, &rope, &angles).unwrap();
            let y = Tensor::rope(x, heads, &rope, &angles).unwrap();
            prop_assert_eq!(bits(&y), array_bits(&expected));
        }
    }

    /// Where the kernels do not run, candle's operations do.
    #[test]
    fn functions_in_double_precision_are_close(
        lengths in proptest::collection::vec(0usize..9, 1..4),
        (key_heads, group) in (1usize..3, 1usize..3),
        seed in any::<u16>(),
    ) {
        let tokens: usize = lengths.iter().sum();
        let (heads, seed) = (key_heads * group, u32::from(seed));
        let double = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
        let close = |double: Tensor, single: Tensor| {
            assert_eq!((double.dtype(), double.dims()), (DType::F64, single.dims()));
            for (a, b) in values(&double.to_dtype(DType::F32).unwrap()).iter().zip(values(&single)) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        };
        let q = tensor(&[tokens, heads * 6], seed);
        let [k, v] = [1, 2].map(|own| tensor(&[tokens, key_heads * 6], seed + own));
        close(
            Tensor::causal_attention([&double(&q), &double(&k), &double(&v)], heads, &lengths).unwrap(),
            Tensor::causal_attention([&q, &k, &v], heads, &lengths).unwrap(),
        );
        close(
            Tensor::swiglu(double(&q), &double(&q)).unwrap(),
            Tensor::swiglu(q.clone(), &q).unwrap(),
        );
        close(
            Tensor::unary(double(&q), Unary::Silu).unwrap(),
            Tensor::unary(q.clone(), Unary::Silu).unwrap(),
        );
        let positions: Vec<u32> = (seed..).take(tokens).collect();
        for rope in ropes() {
            let angles = angles(&rope, &positions);
            close(
                Tensor::rope(double(&q), heads, &rope, &angles).unwrap(),
                Tensor::rope(q.clone(), heads, &rope, &angles).unwrap(),
            );
        }
    }
}

#[test]
fn functions_have_the_gradients_of_finite_differences() {
    let x = var(&[5, 12], 1);
    let other = tensor(&[5, 12], 2);
    for rope in ropes() {
        let angles = angles(&rope, &[0, 3, 1, 60, 7]);
        check_gradient("rope", &x, &|x| {
            weighted(Tensor::rope(x.clone(), 2, &rope, &angles).unwrap())
        });
    }
    let wide = Var::from_tensor(&(x.as_tensor() * 6.0).unwrap()).unwrap();
    check_gradient("silu", &wide, &|x| weighted(Tensor::unary(x.clone(), Unary::Silu).unwrap()));
    check_gradient("swiglu by its gate", &wide, &|x| {
        weighted(Tensor::swiglu(x.clone(), &other).unwrap())
    });
    check_gradient("swiglu by what it lets through", &x, &|x| {
        weighted(Tensor::swiglu(other.clone(), x).unwrap())
    });
    check_gradient("swiglu of itself", &x, &|x| weighted(Tensor::swiglu(x.clone(), x).unwrap()));
    check_gradient("sum", &x, &|x| weighted(Var::add(other.clone(), x).unwrap()));
}

#[test]
fn attention_has_the_gradients_of_finite_differences() {
    for (heads, key_heads, lengths) in
        [(4, 2, [4, 0, 1, 2]), (2, 2, [7, 0, 0, 0]), (3, 1, [1, 1, 1, 4])]
    {
        let shape = |heads: usize| [7, heads * 3];
        let q = var(&shape(heads), 1);
        let [k, v] = [2, 3].map(|seed| var(&shape(key_heads), seed));
        let attend =
            |qkv: [&Tensor; 3]| weighted(Tensor::causal_attention(qkv, heads, &lengths).unwrap());
        check_gradient("queries", &q, &|q| attend([q, &k, &v]));
        check_gradient("keys", &k, &|k| attend([&q, k, &v]));
        check_gradient("values", &v, &|v| attend([&q, &k, v]));
        check_gradient("keys that are values", &k, &|k| attend([&q, k, k]));
    }
}

#[test]
fn only_earlier_tokens_of_the_same_sequence_get_gradients() {
    let q = tensor(&[5, 4], 1);
    let (k, v) = (var(&[5, 4], 2), var(&[5, 4], 3));
    let y = Tensor::causal_attention([&q, &k, &v], 1, &[2, 3]).unwrap();
    // The token in the middle of the second sequence.
    let gradients = y.narrow(0, 3, 1).unwrap().sum_all().unwrap().backward().unwrap();
    for of in [&k, &v] {
        for (token, row) in values(gradients.get(of).unwrap()).chunks(4).enumerate() {
            let seen = row.iter().any(|value| *value != 0.0);
            assert_eq!(seen, token == 2 || token == 3, "{token}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_alike_over_candle_and_arrays() {
    let check = |of_candle: Result<Tensor, ForwardError>, of_arrays: Result<ArrayD<f32>, _>| {
        let error = of_candle.unwrap_err();
        assert_eq!(error, of_arrays.unwrap_err());
        chain(&error)
    };
    let attend = |q: &[usize], k: &[usize], v: &[usize], heads, lengths: &[usize]| {
        let qkv = [q, k, v].map(|shape| tensor(shape, 1));
        let arrays = qkv.each_ref().map(array);
        let double = qkv.each_ref().map(|x| x.to_dtype(DType::F64).unwrap());
        let error = Tensor::causal_attention(double.each_ref(), heads, lengths).unwrap_err();
        let refused = check(
            Tensor::causal_attention(qkv.each_ref(), heads, lengths),
            ArrayD::causal_attention(arrays.each_ref(), heads, lengths),
        );
        assert_eq!(chain(&error), refused);
        refused
    };
    let all = [3, 8];
    for (q, k, v, heads, lengths, expected) in [
        (
            &[8][..],
            &all[..],
            &all[..],
            2,
            &[3][..],
            "queries of shape [tokens, heads · d], found [8]",
        ),
        (&all, &all, &all, 0, &[3], "queries of shape [tokens, a multiple of 0], found [3, 8]"),
        (&all, &all, &all, 3, &[3], "queries of shape [tokens, a multiple of 3], found [3, 8]"),
        (
            &[3, 0],
            &[3, 0],
            &[3, 0],
            3,
            &[3],
            "queries of shape [tokens, a multiple of 3], found [3, 0]",
        ),
        (&all, &[2, 8], &all, 2, &[3], "keys of shape [3, a divisor of 2 · 4], found [2, 8]"),
        (&all, &[3, 3], &all, 2, &[3], "keys of shape [3, a divisor of 2 · 4], found [3, 3]"),
        (&all, &[3, 12], &all, 2, &[3], "keys of shape [3, a divisor of 2 · 4], found [3, 12]"),
        (&all, &[3, 4], &all, 2, &[3], "values of shape [3, 4], found [3, 8]"),
        (&all, &all, &all, 2, &[1, 1], "lengths whose sum is 3, found [1, 1]"),
        (
            &all,
            &all,
            &all,
            2,
            &[usize::MAX, 4],
            "lengths whose sum is 3, found [18446744073709551615, 4]",
        ),
    ] {
        let expected = format!("causal_attention: expected {expected}");
        assert_eq!(attend(q, k, v, heads, lengths), expected);
    }
    let (x, nan) = (tensor(&[2, 4], 1), Tensor::full(f32::NAN, (2, 4), &Device::Cpu).unwrap());
    let refused = check(
        Tensor::causal_attention([&x, &nan, &x], 1, &[1, 1]),
        ArrayD::causal_attention([&array(&x), &array(&nan), &array(&x)], 1, &[1, 1]),
    );
    let expected = "causal_attention: attention failed: keys: an element is not finite: ";
    assert!(refused.starts_with(expected), "{refused}");

    let (x, y) = (tensor(&[2, 3], 1), tensor(&[3], 1));
    let refused = check(Tensor::swiglu(x.clone(), &y), ArrayD::swiglu(array(&x), &array(&y)));
    assert_eq!(refused, "swiglu: expected values of shape [2, 3], found [3]");
    let refused = check(Var::add(x.clone(), &y), ArrayD::add(array(&x), &array(&y)));
    assert_eq!(refused, "add: expected values of shape [2, 3], found [3]");

    let x = tensor(&[2, 12], 1);
    let ropes = ropes();
    for (rope, angles, expected) in [
        (&ropes[0], angles(&ropes[0], &[1]), "input: found 24 elements, expected 12"),
        (&ropes[0], angles(&ropes[1], &[1, 2]), "there are 2 angles for each token, expected 3"),
    ] {
        let refused = check(
            Tensor::rope(x.clone(), 2, rope, &angles),
            ArrayD::rope(array(&x), 2, rope, &angles),
        );
        assert_eq!(refused, format!("rope: the function failed: {expected}"));
        let double = Tensor::rope(x.to_dtype(DType::F64).unwrap(), 2, rope, &angles).unwrap_err();
        assert_eq!(chain(&double), refused);
    }
}
