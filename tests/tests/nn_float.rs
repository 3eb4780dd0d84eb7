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

#[test]
fn functions_are_what_they_are_called() {
    let x = random(&[1000], 4) * 5.0;
    let apply = |function| ArrayD::unary(x.clone(), function).unwrap();
    close(&apply(Unary::Relu), &x.mapv(|x| x.max(0.0)));
    close(&apply(Unary::Tanh), &x.mapv(f32::tanh));
    close(&apply(Unary::Sigmoid), &x.mapv(|x| 1.0 / (1.0 + (-x).exp())));
    let softmax = ArrayD::softmax(random(&[3, 10], 5)).unwrap();
    for row in softmax.rows() {
        assert!((row.sum() - 1.0).abs() < 1e-6);
    }
}
