//! Fake quantization against `PyTorch`: values and gradients.

use quant_nn::fake_quant::{FakeQuantizer, gradient_scale};
use serde_json::Value;
use tests::golden::{float, floats, int, rows};
use tests::kernels::quantization;

fn fake(row: &Value) -> FakeQuantizer {
    let range = (int(&row["quant_min"]), int(&row["quant_max"]));
    quantization(float(&row["scale"]), int(&row["zero_point"]), range).into()
}

fn bits(values: &[f32]) -> Vec<u32> {
    // torch's gradients outside are `dy * 0`, which may be -0.
    values.iter().map(|value| (value + 0.0).to_bits()).collect()
}

/// Equal bits; but near a tie, where torch's product with a reciprocal may fall to the other side,
/// one step may lie between.
fn assert_values(row: &Value, x: &[f32], y: &[f32]) {
    let scale = float(&row["scale"]);
    for ((x, y), expected) in x.iter().zip(y).zip(floats(&row["y"])) {
        let steps = f64::from(*x) / f64::from(scale);
        let from_tie = (steps - steps.floor() - 0.5).abs();
        let is_near = ((y - expected) / scale).abs() < 1.001;
        assert!(
            y.to_bits() == expected.to_bits() || from_tie < 1e-5 && is_near,
            "{x} {y} {expected}"
        );
    }
}

#[test]
fn golden_torch_values_and_gradients_are_equal() {
    for table in ["fake_quantize", "learnable_scale"] {
        for row in rows("torch.json", table) {
            let (x, dy) = (floats(&row["x"]), floats(&row["grad_y"]));
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            fake(&row).forward(&x, &mut y);
            assert_values(&row, &x, &y);
            fake(&row).backward(&x, &dy, &mut dx);
            assert_eq!(bits(&dx), bits(&floats(&row["grad_x"])), "{table}");
        }
    }
}

#[test]
fn golden_torch_gradients_of_learned_scales_agree() {
    for row in rows("torch.json", "learnable_scale") {
        let (x, dy) = (floats(&row["x"]), floats(&row["grad_y"]));
        let g = gradient_scale(x.len(), int(&row["quant_max"]));
        assert!((g / float(&row["grad_factor"]) - 1.0).abs() < 1e-6);
        let (found, expected) = (fake(&row).scale_gradient(&x, &dy, g), float(&row["grad_scale"]));
        assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{found} {expected}");
    }
}

/// The parts of the forward function that are smooth: between two ties.
#[test]
fn gradients_are_finite_differences_where_the_function_is_smooth() {
    let at = |scale| -> FakeQuantizer { quantization(scale, 3, (-8, 7)).into() };
    let (scale, h) = (0.125, 1.0 / 4096.0);
    let value = |x: f32, scale: f32| {
        let mut y = [0.0];
        at(scale).forward(&[x], &mut y);
        y[0]
    };
    for i in -400..400 {
        let x = i as f32 * 0.01 + 0.003;
        let steps = x / scale;
        if (steps - steps.floor() - 0.5).abs() < 0.1 {
            continue; // near a tie
        }
        // Along (x, s) → (x + h·x/s, s + h) the code stays: what moves is `code · s`.
        let together = (value(x + h * x / scale, scale + h) - value(x, scale)) / h;
        let mut dx = [0.0];
        at(scale).backward(&[x], &[1.0], &mut dx);
        let ds = at(scale).scale_gradient(&[x], &[1.0], 1.0);
        assert!((together - (dx[0] * x / scale + ds)).abs() < 1e-2, "{x}: {together} {dx:?} {ds}");
        if dx[0] == 0.0 {
            // Where it saturates, the derivatives are exact one by one.
            let along_s = (value(x, scale + h) - value(x, scale)) / h;
            assert!((along_s - ds).abs() < 1e-2, "{x}: {along_s} {ds}");
            assert_eq!(value(x + h, scale), value(x, scale));
        }
    }
}

#[test]
fn a_tie_goes_to_the_even_code_and_an_infinity_saturates() {
    let fake: FakeQuantizer = quantization(1.0, 0, (-2, 1)).into();
    let x = [0.5, -0.5, -1.5, f32::INFINITY, f32::NEG_INFINITY];
    let (mut y, mut dx) = ([9.0; 5], [9.0; 5]);
    fake.forward(&x, &mut y);
    assert_eq!(y, [0.0, 0.0, -2.0, 1.0, -2.0]);
    fake.backward(&x, &[1.0; 5], &mut dx);
    assert_eq!(dx, [1.0, 1.0, 1.0, 0.0, 0.0]);
}
