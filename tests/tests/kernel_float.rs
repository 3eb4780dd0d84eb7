//! Functions of floats: the same bits on every kernel, near to the same in f64.

use quant::kernel::{
    FloatError, Kernel, Rope, RopeAngles, RopeError, RopeLayout, RopeOptions, RopeScaling,
};
use tests::kernels::kernels;
use tests::random::Random;

const LENGTHS: [usize; 10] = [1, 2, 15, 16, 17, 31, 33, 64, 576, 1000];

fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..len).map(|_| random.normal() * 6.0).collect()
}

/// Any bits: infinities, NaN and subnormal numbers are among them.
fn any_bits(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..len).map(|_| f32::from_bits(random.bits() as u32)).collect()
}

fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(same, "{what}, element {i}: {a:e}, not {b:e}");
    }
}

fn assert_near(found: &[f32], expected: &[f64], ulps: f64) {
    for (a, b) in found.iter().zip(expected) {
        let allowed = ulps * b.abs() * f64::from(f32::EPSILON) + 1e-44;
        assert!((f64::from(*a) - b).abs() <= allowed, "{a:e}, not {b:e}");
    }
}

#[test]
fn softmax_is_the_same_everywhere_and_near_to_f64() {
    for row in LENGTHS {
        let x = values(3 * row, row as u64);
        let mut expected = x.clone();
        Kernel::SCALAR.softmax(&mut expected, row).unwrap();
        for (x, found) in x.chunks(row).zip(expected.chunks(row)) {
            let most = x.iter().copied().fold(f32::MIN, f32::max);
            let all: Vec<f64> = x.iter().map(|x| f64::from(x - most).exp()).collect();
            let sum: f64 = all.iter().sum();
            let exact: Vec<f64> = all.iter().map(|x| x / sum).collect();
            assert_near(found, &exact, 8.0);
        }
        for kernel in kernels() {
            for x in [x.clone(), any_bits(3 * row, 5)] {
                let (mut found, mut expected) = (x.clone(), x);
                kernel.softmax(&mut found, row).unwrap();
                Kernel::SCALAR.softmax(&mut expected, row).unwrap();
                assert_same(&found, &expected, kernel.name());
            }
        }
    }
}

#[test]
fn rows_without_a_finite_maximum_become_nan() {
    for kernel in kernels() {
        for bad in [[f32::NAN, 1.0], [f32::INFINITY, 1.0], [f32::NEG_INFINITY; 2]] {
            let mut row = bad;
            kernel.softmax(&mut row, 2).unwrap();
            assert!(row[0].is_nan(), "{kernel} {bad:?}");
        }
        let mut row = [f32::NEG_INFINITY, 3.0];
        kernel.softmax(&mut row, 2).unwrap();
        assert_eq!(row, [0.0, 1.0]);
    }
}

#[test]
fn rms_norm_is_the_same_everywhere_and_near_to_f64() {
    for len in LENGTHS {
        let (x, weight) = (values(2 * len, 1), values(len, 2));
        let mut expected = vec![0.0; 2 * len];
        Kernel::SCALAR.rms_norm(&x, &weight, 1e-5, &mut expected).unwrap();
        for (x, found) in x.chunks(len).zip(expected.chunks(len)) {
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / len as f64;
            let by = (mean + f64::from(1e-5f32)).sqrt();
            let exact = x.iter().zip(&weight).map(|(x, w)| f64::from(*x) / by * f64::from(*w));
            assert_near(found, &exact.collect::<Vec<_>>(), 6.0);
        }
        for kernel in kernels() {
            for x in [x.clone(), any_bits(2 * len, 5)] {
                let (mut found, mut expected) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                kernel.rms_norm(&x, &weight, 1e-5, &mut found).unwrap();
                Kernel::SCALAR.rms_norm(&x, &weight, 1e-5, &mut expected).unwrap();
                assert_same(&found, &expected, kernel.name());
            }
        }
    }
}

#[test]
fn silu_and_swiglu_are_the_same_everywhere_and_near_to_f64() {
    for len in LENGTHS {
        let (gate, up) = (values(len, 3), values(len, 4));
        let exact: Vec<f64> =
            gate.iter().map(|x| f64::from(*x) / (1.0 + (-f64::from(*x)).exp())).collect();
        let mut expected = gate.clone();
        Kernel::SCALAR.silu(&mut expected);
        assert_near(&expected, &exact, 3.0);
        for kernel in kernels() {
            for gate in [gate.clone(), any_bits(len, 5)] {
                let (mut found, mut expected) = (gate.clone(), gate.clone());
                kernel.silu(&mut found);
                Kernel::SCALAR.silu(&mut expected);
                assert_same(&found, &expected, kernel.name());
                let mut gated = vec![0.0; len];
                kernel.swiglu(&gate, &up, &mut gated).unwrap();
                let products: Vec<f32> = expected.iter().zip(&up).map(|(a, b)| a * b).collect();
                assert_same(&gated, &products, kernel.name());
            }
        }
    }
}

#[test]
fn layer_norm_is_the_same_everywhere_and_near_to_f64() {
    for len in LENGTHS {
        let (x, weight, bias) = (values(2 * len, 1), values(len, 2), values(len, 3));
        let mut expected = vec![0.0; 2 * len];
        Kernel::SCALAR.layer_norm(&x, &weight, &bias, 1e-5, &mut expected).unwrap();
        for (x, found) in x.chunks(len).zip(expected.chunks(len)) {
            let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / len as f64;
            let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
            let by = (variance / len as f64 + 1e-5).sqrt();
            for i in 0..len {
                let exact = (f64::from(x[i]) - mean) / by * f64::from(weight[i]);
                let exact = exact + f64::from(bias[i]);
                // Where a row has one element, what is left of it is rounding.
                let bound = 1e-5 * (1.0 + exact.abs()) + 1e-6 / by * f64::from(weight[i].abs());
                assert!((f64::from(found[i]) - exact).abs() < bound, "{len} {i}");
            }
        }
        for kernel in kernels() {
            for x in [x.clone(), any_bits(2 * len, 5)] {
                let (mut found, mut expected) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                kernel.layer_norm(&x, &weight, &bias, 1e-5, &mut found).unwrap();
                Kernel::SCALAR.layer_norm(&x, &weight, &bias, 1e-5, &mut expected).unwrap();
                assert_same(&found, &expected, kernel.name());
            }
        }
    }
}

/// `erf`, by its Taylor series or, beyond 3, the continued fraction of its complement.
fn erf(x: f64) -> f64 {
    if x.abs() > 3.0 {
        let fraction = (1..200).rev().fold(0.0, |sum, i| f64::from(i) / 2.0 / (x.abs() + sum));
        let complement = (-x * x).exp() / std::f64::consts::PI.sqrt() / (x.abs() + fraction);
        return (1.0 - complement).copysign(x);
    }
    let (mut term, mut sum) = (x, x);
    for i in 1..100 {
        term *= -x * x / f64::from(i);
        sum += term / f64::from(2 * i + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn gelu_is_the_same_everywhere_and_near_to_f64() {
    let x: Vec<f32> = (-12_000..12_000).map(|i| i as f32 / 1000.0).collect();
    let (mut exact, mut tanh) = (x.clone(), x.clone());
    Kernel::SCALAR.gelu(&mut exact);
    Kernel::SCALAR.gelu_tanh(&mut tanh);
    for ((x, exact), tanh) in x.iter().zip(&exact).zip(&tanh) {
        let x = f64::from(*x);
        let bound = 3e-7 * x.abs();
        let expected = x / 2.0 * (1.0 + erf(x / 2f64.sqrt()));
        assert!((f64::from(*exact) - expected).abs() <= bound, "{x}: {exact}, {expected}");
        let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        let expected = x / 2.0 * (1.0 + z.tanh());
        assert!((f64::from(*tanh) - expected).abs() <= bound, "{x}: {tanh}, {expected}");
    }
    for kernel in kernels() {
        for len in LENGTHS {
            for x in [values(len, 3), any_bits(len, 5)] {
                let (mut found, mut expected) = (x.clone(), x.clone());
                kernel.gelu(&mut found);
                Kernel::SCALAR.gelu(&mut expected);
                assert_same(&found, &expected, kernel.name());
                kernel.gelu_tanh(&mut found);
                Kernel::SCALAR.gelu_tanh(&mut expected);
                assert_same(&found, &expected, kernel.name());
            }
        }
    }
}

#[test]
fn rotations_of_both_layouts_are_those_of_f64_and_the_same_everywhere() {
    let positions = [0, 1, 2, 511, 8191, (1 << 20) - 1];
    for (head_dim, rotary_dim) in [(64, 64), (80, 32), (10, 6), (128, 128)] {
        for layout in [RopeLayout::Halves, RopeLayout::Pairs] {
            let options =
                RopeOptions { rotary_dim, theta: 100_000.0, layout, ..RopeOptions::new(head_dim) };
            let rope = Rope::new(options).unwrap();
            let mut angles = RopeAngles::default();
            rope.angles(&positions, &mut angles).unwrap();
            let heads = 3;
            let x = values(positions.len() * heads * head_dim, 6);
            let mut expected = x.clone();
            Kernel::SCALAR.rope(&mut expected, heads, &rope, &angles).unwrap();
            let pairs = rotary_dim / 2;
            for (i, (x, found)) in x.chunks(head_dim).zip(expected.chunks(head_dim)).enumerate() {
                let position = f64::from(positions[i / heads]);
                for pair in 0..pairs {
                    let (a, b) = match layout {
                        RopeLayout::Halves => (pair, pair + pairs),
                        _ => (2 * pair, 2 * pair + 1),
                    };
                    let exponent = -2.0 * pair as f64 / rotary_dim as f64;
                    let (sin, cos) = (position * 100_000f64.powf(exponent)).sin_cos();
                    let (u, v) = (f64::from(x[a]), f64::from(x[b]));
                    let bound = 3e-7 * (u.abs() + v.abs()) + 1e-9;
                    assert!((f64::from(found[a]) - (u * cos - v * sin)).abs() < bound);
                    assert!((f64::from(found[b]) - (u * sin + v * cos)).abs() < bound);
                }
                assert_eq!(found[rotary_dim..], x[rotary_dim..]);
            }
            for kernel in kernels() {
                let mut found = x.clone();
                kernel.rope(&mut found, heads, &rope, &angles).unwrap();
                assert_same(&found, &expected, kernel.name());
            }
        }
    }
}

#[test]
fn a_rotation_in_the_opposite_direction_undoes_one_and_is_its_transpose() {
    for layout in [RopeLayout::Halves, RopeLayout::Pairs] {
        let rope = Rope::new(RopeOptions { rotary_dim: 6, layout, ..RopeOptions::new(8) }).unwrap();
        let mut angles = RopeAngles::default();
        assert_eq!(angles.opposite(), angles);
        rope.angles(&[0, 7, 511], &mut angles).unwrap();
        let turn = |x: &[f32], angles: &RopeAngles| {
            let mut y = x.to_vec();
            Kernel::current().rope(&mut y, 2, &rope, angles).unwrap();
            y
        };
        let [x, y] = [6, 7].map(|seed| values(3 * 2 * 8, seed));
        let back = turn(&turn(&x, &angles), &angles.opposite());
        assert!(x.iter().zip(&back).all(|(x, back)| (x - back).abs() < 1e-5), "{layout:?}");
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (left, right) =
            (product(&turn(&x, &angles), &y), product(&x, &turn(&y, &angles.opposite())));
        assert!((left - right).abs() < 1e-3, "{left} {right}");
        assert_eq!(angles.opposite().opposite(), angles);
    }
}

#[test]
fn pairs_are_the_dimensions_that_are_rotated_together() {
    for layout in [RopeLayout::Halves, RopeLayout::Pairs] {
        let rope = Rope::new(RopeOptions { rotary_dim: 6, layout, ..RopeOptions::new(8) }).unwrap();
        let mut angles = RopeAngles::default();
        rope.angles(&[1], &mut angles).unwrap();
        for pair in 0..rope.frequencies().len() {
            let [a, b] = rope.pair(pair);
            let mut x = [0.0; 8];
            x[a] = 1.0;
            Kernel::current().rope(&mut x, 1, &rope, &angles).unwrap();
            let (cos, sin) = angles.of(0);
            let mut expected = [0.0; 8];
            (expected[a], expected[b]) = (cos[pair], sin[pair]);
            assert_eq!(x, expected, "{layout:?} {pair}");
        }
    }
}

#[test]
fn frequencies_are_scaled_as_in_llama_3_and_yarn() {
    let frequencies = |scaling| {
        let options = RopeOptions { theta: 500_000.0, scaling, ..RopeOptions::new(64) };
        Rope::new(options).unwrap().frequencies().to_vec()
    };
    let plain = frequencies(RopeScaling::None);
    let linear = frequencies(RopeScaling::Linear { factor: 4.0 });
    assert!(plain.iter().zip(&linear).all(|(a, b)| a / 4.0 == *b));
    let llama = frequencies(RopeScaling::Llama3 {
        factor: 32.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_context: 8192,
    });
    let yarn = frequencies(RopeScaling::Yarn {
        factor: 32.0,
        original_context: 8192,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
    });
    for scaled in [llama, yarn] {
        assert_eq!(scaled[0], plain[0]);
        assert!((scaled[31] * 32.0 / plain[31] - 1.0).abs() < 1e-12);
        let between = scaled.iter().zip(&plain).filter(|(a, b)| **a < **b && **a > **b / 32.0);
        assert!(between.count() > 0);
    }
    let rope = Rope::new(RopeOptions::new(8)).unwrap().divided(&[1.0, 2.0, 4.0, 8.0]).unwrap();
    assert_eq!(rope.frequencies()[0], 1.0);
    assert!((rope.frequencies()[3] - 1e-3 / 8.0).abs() < 1e-18);
}

#[test]
fn cosines_of_yarn_are_multiplied() {
    let scaling = RopeScaling::Yarn {
        factor: 4.0,
        original_context: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: Some(1.25),
    };
    let rope = Rope::new(RopeOptions { scaling, ..RopeOptions::new(8) }).unwrap();
    let mut angles = RopeAngles::default();
    rope.angles(&[0], &mut angles).unwrap();
    assert_eq!(angles.of(0), ([1.25; 4].as_slice(), [0.0; 4].as_slice()));
    assert_eq!((angles.len(), angles.is_empty()), (1, false));
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let kernel = Kernel::current();
    assert_eq!(kernel.softmax(&mut [0.0; 5], 2), Err(FloatError::Rows { len: 5, row: 2 }));
    assert_eq!(kernel.softmax(&mut [0.0; 5], 0), Err(FloatError::Rows { len: 5, row: 0 }));
    assert_eq!(kernel.softmax(&mut [], 0), Ok(()));
    assert_eq!(
        kernel.rms_norm(&[0.0; 4], &[0.0; 3], 0.0, &mut [0.0; 4]),
        Err(FloatError::Rows { len: 4, row: 3 })
    );
    let error = FloatError::Length { of: "output", expected: 4, found: 3 };
    assert_eq!(kernel.rms_norm(&[0.0; 4], &[0.0; 2], 0.0, &mut [0.0; 3]), Err(error));
    assert_eq!(kernel.swiglu(&[0.0; 4], &[0.0; 4], &mut [0.0; 3]), Err(error));
    let bias = FloatError::Length { of: "bias", expected: 2, found: 1 };
    let found = kernel.layer_norm(&[0.0; 4], &[0.0; 2], &[0.0], 0.0, &mut [0.0; 4]);
    assert_eq!(found, Err(bias));
    assert_eq!(error.to_string(), "output: found 3 elements, expected 4");
    let rope = Rope::new(RopeOptions::new(8)).unwrap();
    let mut angles = RopeAngles::default();
    rope.angles(&[0, 1], &mut angles).unwrap();
    assert_eq!(
        kernel.rope(&mut [0.0; 31], 2, &rope, &angles),
        Err(FloatError::Length { of: "input", expected: 32, found: 31 })
    );
    let other = Rope::new(RopeOptions::new(16)).unwrap();
    assert_eq!(
        kernel.rope(&mut [0.0; 32], 1, &other, &angles),
        Err(FloatError::OtherAngles { expected: 8, found: 4 })
    );
}

#[test]
fn options_that_have_no_meaning_are_errors() {
    let plain = RopeOptions::new(8);
    for rotary_dim in [0, 3, 10] {
        let error = Rope::new(RopeOptions { rotary_dim, ..plain }).unwrap_err();
        assert_eq!(error, RopeError::Dimensions { rotary_dim, head_dim: 8 });
    }
    for theta in [0.0, -1.0, 1e31, f64::INFINITY] {
        let error = Rope::new(RopeOptions { theta, ..plain }).unwrap_err();
        assert_eq!(error, RopeError::Parameter { name: "theta", value: theta });
    }
    assert!(Rope::new(RopeOptions { theta: f64::NAN, ..plain }).is_err());
    let scaling = RopeScaling::Linear { factor: 0.5 };
    let error = Rope::new(RopeOptions { scaling, ..plain }).unwrap_err();
    assert_eq!(error.to_string(), "factor is 0.5, which is outside of its range");
    let rope = Rope::new(plain).unwrap();
    assert_eq!(rope.clone().divided(&[1.0]), Err(RopeError::Divisors { expected: 4, found: 1 }));
    let error = rope.clone().divided(&[0.5, 1.0, 1.0, 1.0]).unwrap_err();
    assert_eq!(error, RopeError::Frequency { pair: 0, frequency: 2.0 });
    assert!(rope.clone().divided(&[1.0, f32::NAN, 1.0, 1.0]).is_err());
    let mut angles = RopeAngles::default();
    assert_eq!(
        rope.angles(&[5, 1 << 20], &mut angles),
        Err(RopeError::Position { index: 1, position: 1 << 20, limit: 1 << 20 })
    );
    assert!(angles.is_empty());
}
