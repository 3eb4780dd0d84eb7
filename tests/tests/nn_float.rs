//! Float layers against plain loops.

use ndarray::{ArrayD, IxDyn};
use quant_nn::{Backend, LayerNorm, Linear, Unary, attention};
use tests::arrays::random;

fn close(a: &ArrayD<f32>, b: &ArrayD<f32>) {
    assert_eq!(a.shape(), b.shape());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn linear_is_the_sum_of_products_and_bias() {
    for (m, k, n) in [(1, 3, 5), (7, 64, 33), (100, 384, 48)] {
        let (x, w, b) = (random(&[m, k], 1), random(&[n, k], 2), random(&[n], 3));
        let layer = Linear::new(w.clone(), Some(b.clone())).unwrap();
        let expected = ArrayD::from_shape_fn(IxDyn(&[m, n]), |i| {
            b[i[1]] + (0..k).map(|k| x[[i[0], k]] * w[[i[1], k]]).sum::<f32>()
        });
        close(&layer.forward(&x).unwrap(), &expected);
    }
}

#[test]
fn layer_norm_has_mean_zero_and_variance_one_before_its_weights() {
    let (x, w, b) = (random(&[5, 384], 1), random(&[384], 2), random(&[384], 3));
    let y = LayerNorm::new(w.clone(), b.clone(), 1e-12).forward(&x).unwrap();
    let expected = ArrayD::from_shape_fn(IxDyn(&[5, 384]), |i| {
        let row = (0..384).map(|k| x[[i[0], k]]);
        let mean = row.clone().sum::<f32>() / 384.0;
        let variance = row.map(|x| (x - mean) * (x - mean)).sum::<f32>() / 384.0;
        (x[[i[0], i[1]]] - mean) / (variance + 1e-12).sqrt() * w[i[1]] + b[i[1]]
    });
    close(&y, &expected);
}

#[test]
fn attention_sees_each_sequence_and_head_alone() {
    let (heads, width, lengths) = (3, 4, [2, 5]);
    let [q, k, v] = [1, 2, 3].map(|seed| random(&[7, heads * width], seed));
    let y = attention(&q, &k, &v, heads, &lengths).unwrap();
    let expected = ArrayD::from_shape_fn(IxDyn(&[7, heads * width]), |i| {
        let (start, length) = if i[0] < 2 { (0, 2) } else { (2, 5) };
        let first = i[1] / width * width;
        let score = |t: usize| {
            let dot: f32 = (first..first + width).map(|c| q[[i[0], c]] * k[[t, c]]).sum();
            (dot / (width as f32).sqrt()).exp()
        };
        let all: f32 = (start..start + length).map(score).sum();
        (start..start + length).map(|t| score(t) / all * v[[t, i[1]]]).sum()
    });
    close(&y, &expected);
}

#[test]
fn attention_of_no_columns_has_none() {
    let empty = random(&[7, 0], 1);
    assert_eq!(attention(&empty, &empty, &empty, 3, &[2, 5]).unwrap().shape(), [7, 0]);
}

/// `erf` by its Taylor series in f64; exact to 1e-9 where |x| ≤ 4.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn the_reference_of_erf_has_published_values() {
    for (x, expected) in
        [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)]
    {
        assert!((erf(x) - expected).abs() < 1e-9, "{x}");
    }
}

#[test]
fn functions_are_their_formulas_in_f64() {
    let x = random(&[1000], 4) * 5.0;
    for (function, formula) in [
        (Unary::Relu, (|x| x.max(0.0)) as fn(f64) -> f64),
        (Unary::Tanh, f64::tanh),
        (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Unary::Gelu, |x| x / 2.0 * (1.0 + erf(x / std::f64::consts::SQRT_2))),
    ] {
        let y = ArrayD::unary(x.clone(), function).unwrap();
        for (&x, &y) in x.iter().zip(&y) {
            let expected = formula(f64::from(x));
            assert!((f64::from(y) - expected).abs() < 2e-6, "{function:?} of {x}: {y} {expected}");
        }
    }
}

#[test]
fn softmax_is_its_formula_in_f64_for_large_scores_too() {
    for factor in [1.0, 30.0, 1000.0] {
        let x = random(&[3, 10], 5) * factor;
        let y = ArrayD::softmax(x.clone()).unwrap();
        for (x, y) in x.rows().into_iter().zip(y.rows()) {
            let greatest = x.iter().fold(f32::NEG_INFINITY, |greatest, &x| greatest.max(x));
            let exp: Vec<f64> =
                x.iter().map(|x| (f64::from(*x) - f64::from(greatest)).exp()).collect();
            let sum: f64 = exp.iter().sum();
            for (y, exp) in y.iter().zip(exp) {
                assert!((f64::from(*y) - exp / sum).abs() < 1e-6, "{y} {}", exp / sum);
            }
        }
    }
}
