//! Full-range codes and codes over a float minimum (`docs/numerics.md`, rules 12 and 13).

use quant::calibration::MseCalibration;
use quant::quantize::{WeightError, quantize_values};
use quant::record::{Record, RecordVersion};
use quant::scheme::{CodeRange, Grid, Mapping, QuantParams, Quantization, Range, ScaleType};
use quant::tensor::QuantizedTensor;
use quant::{BincodeRecorder, MinMaxCalibration, Module, QuantizationScheme, QuantizationType};
use tests::kernels::kernels;
use tests::random::Random;

fn quantized(values: &[f32], scheme: &str) -> QuantizedTensor {
    let scheme = scheme.parse().unwrap();
    quantize_values(&[values.len()], values, scheme, &MinMaxCalibration {}).unwrap()
}

fn noise(values: &[f32], tensor: &QuantizedTensor) -> f64 {
    let errors = values.iter().zip(tensor.dequantize());
    errors.map(|(&x, y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

#[test]
fn the_value_of_largest_magnitude_has_the_least_code_and_is_exact() {
    for (values, scale, codes) in [
        ([1.0f32, -4.0, 0.5, 2.0], 0.5, [2, -8, 1, 4]),
        ([1.0, 4.0, -0.5, -2.0], -0.5, [-2, -8, 1, 4]),
        // Of two the first one counts; the other one saturates.
        ([4.0, -4.0, 0.0, 0.0], -0.5, [-8, 7, 0, 0]),
        ([-4.0, 4.0, 0.0, 0.0], 0.5, [-8, 7, 0, 0]),
        ([0.0, -0.0, 1e-40, 0.0], 1.0, [0, 0, 0, 0]),
    ] {
        let tensor = quantized(&values, "per-tensor-full-range-int4");
        assert_eq!((tensor.scales(), &*tensor.codes()), (&[scale][..], &codes[..]), "{values:?}");
    }
}

#[test]
fn full_range_scales_of_half_precision_are_never_zero_and_never_infinite() {
    let of = |value: f32, ty: &str| {
        let scheme = format!("per-block-full-range-int4:scale={ty}").parse().unwrap();
        quantize_values(&[1], &[value], scheme, &MinMaxCalibration {})
    };
    // 1e-9 / 8 is below half of the least subnormal f16.
    assert_eq!(of(-1e-9, "f16").unwrap().scales(), [f32::powi(2.0, -24)]);
    assert_eq!(of(1e-9, "f16").unwrap().scales(), [-f32::powi(2.0, -24)]);
    assert!(matches!(of(1e6, "f16"), Err(WeightError::Scale { group: 0, .. })));
    assert!(of(1e6, "bf16").is_ok());
}

#[test]
fn kernels_give_the_codes_of_the_definition_under_negative_scales() {
    let mut random = Random(5);
    for ty in QuantizationType::ALL {
        let grid = Grid::new(ty, Mapping::FullRange, ScaleType::F32);
        let values: Vec<f32> = (0..1000).map(|_| random.normal()).collect();
        let range = Range::new(0.0, 2.5).unwrap();
        let params = grid.params(range).unwrap();
        assert!(params.scale() < 0.0);
        let expected: Vec<i8> = values.iter().map(|&value| grid.quantize(value, params)).collect();
        let decoded: Vec<f32> = expected.iter().map(|&code| params.dequantize(code)).collect();
        for kernel in kernels() {
            let mut codes = vec![0; values.len()];
            kernel.quantize(&values, Quantization::new(params, grid), &mut codes);
            assert_eq!(codes, expected, "{kernel} {ty}");
            let mut again = vec![0.0; values.len()];
            kernel.dequantize(&codes, params, &mut again);
            assert_eq!(again, decoded, "{kernel} {ty}");
        }
        assert_eq!(CodeRange::from(grid).min(), grid.code_range().0 as i8);
    }
}

#[test]
fn mse_is_never_worse_than_min_max_over_the_full_range() {
    let mut random = Random(6);
    for case in 0..200 {
        let values: Vec<f32> = (0..32).map(|_| random.normal()).collect();
        let scheme = if case % 2 == 0 { "q4_0" } else { "per-tensor-full-range-int3" };
        let scheme: QuantizationScheme = scheme.parse().unwrap();
        let of = |tensor: &QuantizedTensor| noise(&values, tensor);
        let min_max = quantize_values(&[32], &values, scheme, &MinMaxCalibration {}).unwrap();
        let mse = quantize_values(&[32], &values, scheme, &MseCalibration {}).unwrap();
        assert!(of(&mse) <= of(&min_max) * (1.0 + 1e-6), "{} > {}", of(&mse), of(&min_max));
    }
}

#[test]
fn codes_over_a_minimum_need_no_zero() {
    let tensor = quantized(&[3.0, 3.5, 4.5, 4.0], "per-tensor-minimum-int2");
    assert_eq!((tensor.scales(), tensor.minimums()), (&[0.5][..], &[3.0][..]));
    assert_eq!(tensor.dequantize(), [3.0, 3.5, 4.5, 4.0]);
    assert_eq!(tensor.codes(), [-2, -1, 1, 0]);
    assert_eq!(tensor.params(0), QuantParams::new(0.5, -2).unwrap());
    let equal = quantized(&[7.0; 3], "per-tensor-minimum-int4");
    assert_eq!((equal.scales(), equal.dequantize()), (&[1.0][..], vec![7.0; 3]));
    let empty = quantized(&[], "per-tensor-minimum-int4");
    assert_eq!((empty.scales(), empty.minimums()), (&[1.0][..], &[0.0][..]));
}

#[test]
fn values_over_a_minimum_come_back_within_half_a_step() {
    let mut random = Random(7);
    for name in ["q4_1", "q5_1", "per-channel-minimum-int8:axis=-1", "per-block-minimum-int3:len=5"]
    {
        let scheme: QuantizationScheme = name.parse().unwrap();
        let values: Vec<f32> = (0..7 * 40).map(|_| 5.0 + random.normal()).collect();
        let tensor = quantize_values(&[7, 40], &values, scheme, &MinMaxCalibration {}).unwrap();
        let coarse = if scheme.scale_type() == ScaleType::F16 { 0.02 } else { 1e-5 };
        for (at, (x, y)) in values.iter().zip(tensor.dequantize()).enumerate() {
            let step = tensor.params(tensor.groups().group_of(at)).scale();
            assert!((x - y).abs() <= step * 0.5 + coarse, "{name}: {x} became {y}");
        }
    }
}

#[test]
fn calibrations_that_find_no_minimum_are_refused() {
    let scheme = "per-tensor-minimum-int4".parse().unwrap();
    let error = quantize_values(&[1], &[1.0], scheme, &MseCalibration {}).unwrap_err();
    assert_eq!(error, WeightError::Calibration);
    assert_eq!(
        error.to_string(),
        "the calibration finds no minimums; use min-max or least-squares, or another mapping"
    );
    let error = quantize_values(&[2], &[1.0, f32::NAN], scheme, &MinMaxCalibration {});
    assert!(matches!(error, Err(WeightError::NonFinite(error)) if error.index == 1));
    // The greatest code would be infinite.
    let error = quantize_values(&[2], &[f32::MIN, f32::MAX], scheme, &MinMaxCalibration {});
    assert!(matches!(error, Err(WeightError::Scale { group: 0, .. })), "{error:?}");
}

#[test]
fn records_of_new_mappings_have_version_2_and_come_back() {
    let mut random = Random(8);
    let values: Vec<f32> = (0..5 * 33).map(|_| random.normal()).collect();
    for name in ["q4_0", "q4_1", "q5_0", "q5_1", "per-block-full-range-int8:len=7:scale=bf16"] {
        let scheme = name.parse().unwrap();
        let made = quantize_values(&[5, 33], &values, scheme, &MinMaxCalibration {}).unwrap();
        let record = Record::from_iter([("w", made.clone().into())]);
        let bytes = record.save_bytes(&BincodeRecorder::default()).unwrap();
        assert_eq!(u32::from(bytes[8]), RecordVersion::V2.number());
        let again =
            quant::record::Recorder::load(&BincodeRecorder::default(), &mut bytes.as_slice(), None);
        assert_eq!(again.unwrap().get("w").unwrap().quantized(), Some(&made), "{name}");
    }
}
