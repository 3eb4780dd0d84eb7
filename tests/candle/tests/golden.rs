//! Fake quantization in candle's graph against `PyTorch`: values and gradients.

use candle_core::{Device, Tensor, Var};
use candle_tests::values;
use quant::scheme::Groups;
use quant::scheme::{Axis, Granularity};
use quant_nn::candle::FakeQuantize;
use quant_nn::fake_quant::{FakeGroups, FakeQuantizer};
use serde_json::Value;
use tests::golden::{float, floats, int, rows};
use tests::kernels::quantization;

fn fake(row: &Value) -> FakeQuantizer {
    let range = (int(&row["quant_min"]), int(&row["quant_max"]));
    quantization(float(&row["scale"]), int(&row["zero_point"]), range).into()
}

fn plus_zero(values: Vec<f32>) -> Vec<f32> {
    // torch's gradients outside are `dy * 0`, which may be -0.
    values.into_iter().map(|value| value + 0.0).collect()
}

/// The loss whose gradient for `y` is `dy`.
fn loss(y: &Tensor, dy: &[f32]) -> Tensor {
    let dy = Tensor::from_slice(dy, y.shape(), &Device::Cpu).unwrap();
    (y * dy).unwrap().sum_all().unwrap()
}

#[test]
fn golden_torch_gradients_are_equal_and_values_those_of_the_plain_functions() {
    for table in ["fake_quantize", "learnable_scale"] {
        for row in rows("torch.json", table) {
            let (x, dy) = (floats(&row["x"]), floats(&row["grad_y"]));
            let var = Var::from_slice(&x, x.len(), &Device::Cpu).unwrap();
            let y = FakeQuantize::per_tensor(fake(&row)).apply(&var).unwrap();
            let mut plain = vec![0.0; x.len()];
            fake(&row).forward(&x, &mut plain);
            assert_eq!(values(&y), plain);
            let gradients = loss(&y, &dy).backward().unwrap();
            let dx = values(gradients.get(&var).unwrap());
            assert_eq!(plus_zero(dx), plus_zero(floats(&row["grad_x"])), "{table}");
        }
    }
}

#[test]
fn golden_torch_gradients_of_learned_scales_agree() {
    for row in rows("torch.json", "learnable_scale") {
        let (x, dy) = (floats(&row["x"]), floats(&row["grad_y"]));
        let var = Var::from_slice(&x, x.len(), &Device::Cpu).unwrap();
        let scale = Var::from_slice(&[float(&row["scale"])], 1, &Device::Cpu).unwrap();
        let y = FakeQuantize::per_tensor(fake(&row)).apply_learned(&var, &scale).unwrap();
        let gradients = loss(&y, &dy).backward().unwrap();
        let found = values(gradients.get(&scale).unwrap())[0];
        let expected = float(&row["grad_scale"]);
        assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{found} {expected}");
        let dx = values(gradients.get(&var).unwrap());
        assert_eq!(plus_zero(dx), plus_zero(floats(&row["grad_x"])));
    }
}

/// Every golden row becomes a channel, along either axis.
#[test]
fn per_channel_is_per_tensor_of_each_channel() {
    let all = rows("torch.json", "learnable_scale");
    let (n, k) = (all.len(), floats(&all[0]["x"]).len());
    let gathered = |key: &str| all.iter().flat_map(|row| floats(&row[key])).collect::<Vec<_>>();
    let by_row = |key: &str| Tensor::from_vec(gathered(key), (n, k), &Device::Cpu).unwrap();
    let scales: Vec<f32> = all.iter().map(|row| float(&row["scale"])).collect();
    for axis in [0, 1] {
        let turned = |t: Tensor| if axis == 0 { t } else { t.t().unwrap().contiguous().unwrap() };
        let x = Var::from_tensor(&turned(by_row("x"))).unwrap();
        let granularity = Granularity::PerChannel(Axis::new(axis));
        let groups = Groups::new(x.dims(), granularity).unwrap();
        let fakes = FakeGroups::new(groups, all.iter().map(fake).collect()).unwrap();
        let scale = Var::from_slice(&scales, n, &Device::Cpu).unwrap();
        let y = FakeQuantize::grouped(fakes).apply_learned(&x, &scale).unwrap();
        let gradients = loss(&y, &values(&turned(by_row("grad_y")))).backward().unwrap();
        let dx = values(gradients.get(&x).unwrap());
        assert_eq!(plus_zero(dx), plus_zero(values(&turned(by_row("grad_x")))));
        for (found, row) in values(gradients.get(&scale).unwrap()).iter().zip(&all) {
            let expected = float(&row["grad_scale"]);
            assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{found} {expected}");
        }
    }
}

#[test]
fn scales_and_shapes_that_do_not_fit_are_errors() {
    let row = &rows("torch.json", "learnable_scale")[0];
    let x = Var::from_slice(&floats(&row["x"]), 32, &Device::Cpu).unwrap();
    let fake = FakeQuantize::per_tensor(fake(row));
    for scale in [0.0f32, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        let scale = Var::from_slice(&[scale], 1, &Device::Cpu).unwrap();
        let error = fake.apply_learned(&x, &scale).unwrap_err().to_string();
        assert!(error.contains("is not a positive normal number"), "{error}");
    }
    let two = Var::from_slice(&[1.0f32, 1.0], 2, &Device::Cpu).unwrap();
    assert!(
        fake.apply_learned(&x, &two).unwrap_err().to_string().contains("2 scales for 1 groups")
    );
    let half = x.to_dtype(candle_core::DType::F64).unwrap();
    assert!(fake.apply(&half).is_err());
}
