//! Quantizing again in parts gives what quantizing the whole gives.

use quant::quantize::{WeightError, quantize_values, requantize};
use quant::tensor::QuantizedTensor;
use quant::{MinMaxCalibration, QuantizationScheme};

/// More than two parts, of which the last is short; rows of codes have padding.
const SHAPE: [usize; 3] = [1100, 33, 31];

fn scheme(name: &str) -> QuantizationScheme {
    name.parse().unwrap()
}

fn quantized(name: &str) -> QuantizedTensor {
    let count = SHAPE.iter().product::<usize>();
    let values: Vec<f32> =
        (0..count).map(|i| (i as f32 * 0.37).sin() * (1.0 + (i / 1000) as f32)).collect();
    quantize_values(&SHAPE, &values, scheme(name), &MinMaxCalibration {}).unwrap()
}

#[test]
fn quantizing_again_in_parts_gives_what_the_whole_gives() {
    let schemes = [
        "per-tensor-symmetric-int8",
        "per-channel-affine-int4",
        "per-channel-symmetric-int8:axis=-1",
        "per-block-affine-int8",
        "per-block-full-range-int4:scale=f16",
        "per-block-minimum-int3:len=16:scale=f16",
    ];
    for from in schemes {
        let tensor = quantized(from);
        let values = tensor.dequantize();
        for to in schemes {
            let found = requantize(&tensor, scheme(to), &MinMaxCalibration {}).unwrap();
            let expected =
                quantize_values(&SHAPE, &values, scheme(to), &MinMaxCalibration {}).unwrap();
            assert!(found == expected, "{from} to {to}");
        }
    }
}

#[test]
fn an_error_in_a_part_has_its_position_in_the_whole() {
    // The last code stands for an infinity.
    let (rows, row) = (600, 1000);
    let full_range = scheme("per-channel-full-range-int8");
    let mut scales = vec![1.0; rows];
    scales[rows - 1] = f32::MAX;
    let mut codes = vec![1; rows * row];
    codes[rows * row - 1] = 100;
    let tensor =
        QuantizedTensor::from_parts(&[rows, row], full_range, codes, scales, vec![]).unwrap();
    let to = scheme("per-channel-symmetric-int8");
    let error = requantize(&tensor, to, &MinMaxCalibration {}).unwrap_err();
    let WeightError::NonFinite(error) = error else { panic!("{error:?}") };
    assert_eq!(error.index, rows * row - 1);

    let to = scheme("per-block-minimum-int8");
    let error = requantize(&tensor, to, &quant::calibration::MseCalibration {}).unwrap_err();
    assert_eq!(error, WeightError::Calibration);
}
