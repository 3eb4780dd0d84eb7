//! Scales, zero points and codes against those of ONNX Runtime and torch.

use quant::kernel::Kernel;
use quant::quantize::quantize_values;
use quant::scheme::Quantization;
use quant::scheme::{Axis, Granularity, Grid, Mapping, QuantParams, Range, ScaleType};
use quant::scheme::{Groups, fit};
use quant::{MinMaxCalibration, QuantizationScheme, QuantizationType};
use serde_json::Value;
use tests::golden::{float, floats, int, ints, rows, ulps};

fn params(row: &Value) -> QuantParams {
    QuantParams::new(float(&row["scale"]), int(&row["zero_point"])).unwrap()
}

#[test]
fn golden_onnxruntime_qparams_are_equal() {
    for row in rows("onnxruntime.json", "qparams") {
        let range = Range::of(&floats(&row["values"])).unwrap();
        for (column, mapping, codes) in [
            ("affine", Mapping::Affine, (-128, 127)),
            ("symmetric", Mapping::Symmetric, (-127, 127)),
            ("affine_reduced", Mapping::Affine, (-64, 64)),
            ("symmetric_reduced", Mapping::Symmetric, (-64, 64)),
        ] {
            assert_eq!(fit(range, mapping, codes), params(&row[column]), "{column} of {row}");
        }
    }
}

#[test]
fn golden_onnxruntime_codes_are_equal_on_every_kernel() {
    for row in rows("onnxruntime.json", "quantize_linear") {
        let (x, params) = (floats(&row["x"]), params(&row));
        for kernel in Kernel::available() {
            assert_eq!(codes(kernel, &x, params), ints::<i8>(&row["quantized"]), "{kernel}");
        }
        let back: Vec<f32> =
            ints(&row["quantized"]).into_iter().map(|code| params.dequantize(code)).collect();
        assert_eq!(back, floats(&row["dequantized"]));
    }
}

fn codes(kernel: Kernel, x: &[f32], params: QuantParams) -> Vec<i8> {
    let mut codes = vec![0; x.len()];
    kernel.quantize(x, Quantization::full_range(params), &mut codes);
    codes
}

#[test]
fn golden_onnxruntime_blocked_codes_are_equal() {
    for row in rows("onnxruntime.json", "quantize_linear_blocked") {
        let (x, block) = (floats(&row["x"]), int::<usize>(&row["block"]));
        let scales = floats(&row["scale"]);
        let expected = (ints::<i8>(&row["quantized"]), floats(&row["dequantized"]));
        let blocks = x.chunks(block).zip(&scales).zip(expected.0.chunks(block));
        for (((x, &scale), expected_codes), back) in blocks.zip(expected.1.chunks(block)) {
            let params = QuantParams::new(scale, 0).unwrap();
            assert_eq!(codes(Kernel::current(), x, params), expected_codes);
            let values: Vec<_> =
                expected_codes.iter().map(|&code| params.dequantize(code)).collect();
            assert_eq!(values, back);
        }
    }
}

#[test]
fn golden_onnxruntime_dynamic_codes_are_equal() {
    for row in rows("onnxruntime.json", "dynamic_quantize_linear") {
        let x = floats(&row["x"]);
        let scheme = QuantizationScheme::PerTensorAffine(QuantizationType::QInt8);
        let tensor = quantize_values(&[x.len()], &x, scheme, &MinMaxCalibration {}).unwrap();
        // ONNX Runtime's codes are unsigned; signed ones are the same, shifted.
        let expected: Vec<i16> = ints(&row["quantized_u8"]);
        assert_eq!(
            tensor.codes().into_iter().map(|code| i16::from(code) + 128).collect::<Vec<_>>(),
            expected
        );
        // Its kernel subtracts in f32 where its calibrators, and rule 2, use f64.
        assert!(ulps(tensor.scales()[0], float(&row["scale"])) <= 1, "{row}");
        assert_eq!(i16::from(tensor.zero_points()[0]) + 128, int::<i16>(&row["zero_point_u8"]));
    }
}

/// torch's scales have a floor, which this project has not.
const TORCH_FLOOR: f32 = f32::EPSILON;

#[test]
fn golden_torch_qparams_agree_within_one_ulp() {
    for row in rows("torch.json", "qparams") {
        let range = Range::new(float(&row["min"]), float(&row["max"])).unwrap();
        for (column, mapping, codes) in [
            ("affine", Mapping::Affine, (-128, 127)),
            ("symmetric_narrow", Mapping::Symmetric, (-127, 127)),
            ("affine_reduced", Mapping::Affine, (-64, 63)),
        ] {
            let (ours, theirs) = (fit(range, mapping, codes), params(&row[column]));
            if theirs.scale() <= TORCH_FLOOR {
                assert!(ours.scale() <= TORCH_FLOOR || ours.scale() == 1.0, "{row}");
                continue;
            }
            assert!(same_zero_point(range, codes, ours, theirs), "{column} of {row}");
            let allowed = u32::from(mapping == Mapping::Affine);
            assert!(ulps(ours.scale(), theirs.scale()) <= allowed, "{column} of {row}");
        }
    }
}

/// Whether the zero points are equal, or neighbours at an exact tie: there torch's quotient, which
/// is rounded to f32, falls to one side, and ONNX Runtime's, like ours, to the even one.
fn same_zero_point(
    range: Range,
    (qmin, qmax): (i32, i32),
    ours: QuantParams,
    theirs: QuantParams,
) -> bool {
    let step = (f64::from(range.hi()) - f64::from(range.lo())) / f64::from(qmax - qmin);
    let is_tie = (f64::from(range.lo()) / step).fract().abs() == 0.5;
    let apart = ours.zero_point().abs_diff(theirs.zero_point());
    apart == 0 || is_tie && apart == 1
}

#[test]
fn golden_torch_affine_channels_agree() {
    let mut off = (0, 0);
    for row in rows("torch.json", "per_channel") {
        if row["mapping"] != "affine" {
            continue;
        }
        let axis = Axis::new(int(&row["axis"]));
        let scheme = QuantizationScheme::PerChannelAffine(QuantizationType::QInt8, axis);
        let (shape, values) = (ints::<usize>(&row["shape"]), floats(&row["values"]));
        let ours = quantize_values(&shape, &values, scheme, &MinMaxCalibration {}).unwrap();
        for (ours, theirs) in ours.scales().iter().zip(floats(&row["scale"])) {
            assert!(ulps(*ours, theirs) <= 1, "{row}");
        }
        assert_eq!(ours.zero_points(), ints::<i8>(&row["zero_point"]), "{row}");
        off.0 += off_by_one(&row, &ours.codes());
        off.1 += values.len();
    }
    check_share(off);
}

/// torch's symmetric channels use −128 too, so the codes are compared for its scales.
#[test]
fn golden_torch_channel_codes_agree_for_torchs_scales() {
    let mut off = (0, 0);
    for row in rows("torch.json", "per_channel") {
        let groups = Groups::new(
            &ints::<usize>(&row["shape"]),
            Granularity::PerChannel(Axis::new(int(&row["axis"]))),
        );
        let groups = groups.unwrap();
        let (scales, zero_points) = (floats(&row["scale"]), ints::<i8>(&row["zero_point"]));
        let params = |at| {
            let group = groups.group_of(at);
            QuantParams::new(scales[group], zero_points[group]).unwrap()
        };
        let grid = Grid::new(QuantizationType::QInt8, Mapping::Affine, ScaleType::F32);
        let values = floats(&row["values"]);
        let codes: Vec<i8> =
            values.iter().enumerate().map(|(at, &x)| grid.quantize(x, params(at))).collect();
        off.0 += off_by_one(&row, &codes);
        off.1 += values.len();
        for (at, code) in ints::<i8>(&row["quantized"]).into_iter().enumerate() {
            assert_eq!(params(at).dequantize(code), float(&row["dequantized"][at]));
        }
    }
    check_share(off);
}

/// The number of codes that differ from torch's. It multiplies by a reciprocal, so that near a tie
/// its code may be the neighbour.
fn off_by_one(row: &Value, codes: &[i8]) -> usize {
    let theirs = ints::<i8>(&row["quantized"]);
    let apart: Vec<_> = codes.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).collect();
    assert!(apart.iter().all(|&apart| apart <= 1), "{row}");
    apart.into_iter().filter(|&apart| apart > 0).count()
}

/// At most 2 % of a table's codes are off by one.
fn check_share((off, total): (usize, usize)) {
    assert!(off * 50 <= total, "{off} of {total} codes are off by one");
}
