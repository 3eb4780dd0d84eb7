//! Tensors made of parts: what fits, and the error for each part that does not.

use std::error::Error;

use quant::QuantizationType::{QInt2, QInt4, QInt6, QInt8};
use quant::quantize::quantize_values;
use quant::scheme::packing;
use quant::scheme::{Axis, Block, LayoutError, Range, ScaleError, ScaleType};
use quant::tensor::{QuantizedTensor, TensorError};
use quant::{FloatTensor, MinMaxCalibration, QuantizationScheme, Tensor};

const TENSOR8: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QInt8);
const AFFINE4: QuantizationScheme = QuantizationScheme::PerTensorAffine(QInt4);

fn parts(
    shape: &[usize],
    scheme: QuantizationScheme,
    codes: &[u8],
    scales: &[f32],
    zero_points: &[i8],
) -> Result<QuantizedTensor, TensorError> {
    QuantizedTensor::from_parts(shape, scheme, codes.into(), scales.into(), zero_points.into())
}

/// Checks an error, and its message.
fn refused<T: std::fmt::Debug>(found: Result<T, TensorError>, expected: TensorError, text: &str) {
    let found = found.unwrap_err();
    assert_eq!(found, expected);
    assert_eq!(found.to_string(), text);
    // Messages say all there is, also those of the error inside `Layout`.
    assert!(found.source().is_none());
}

#[test]
fn parts_are_given_back_as_they_were() {
    let block = QuantizationScheme::PerBlockAffine(QInt4, Block::new(2).unwrap());
    let tensor = parts(&[1, 3], block, &[0x21, 0x0F], &[0.5, 2.0], &[1, -8]).unwrap();
    assert_eq!(tensor.codes(), [1, 2, -1]);
    assert_eq!(tensor.dequantize(), [0.0, 0.5, 14.0]);
    assert_eq!(tensor.packed_codes(), [0x21, 0x0F]);
    assert_eq!(tensor.scales(), [0.5, 2.0]);
    assert_eq!(tensor.zero_points(), [1, -8]);
    assert_eq!(tensor.byte_count(), 2 + 8 + 2);
    assert_eq!((tensor.shape(), tensor.scheme()), (&[1, 3][..], block));
    assert_eq!(tensor.params(1).dequantize(-1), 14.0);
}

#[test]
fn a_wrong_number_of_values_is_refused() {
    refused(
        Tensor::from_values(&[2, 3], vec![0.0; 5]),
        TensorError::Len { shape: vec![2, 3], expected: 6, found: 5 },
        "shape [2, 3] has 6 elements, but 5 values are given",
    );
    refused(
        f32::from_values(&[], vec![], &()),
        TensorError::Len { shape: vec![], expected: 1, found: 0 },
        "shape [] has 1 elements, but 0 values are given",
    );
}

#[test]
fn storages_refuse_shapes_that_are_not_theirs() {
    refused(
        Vec::<f32>::from_values(&[2, 3], vec![0.0; 6], &()),
        TensorError::rank(1, &[2, 3]),
        "a storage of rank 1 cannot hold shape [2, 3]",
    );
    refused(
        f32::from_values(&[1], vec![0.0], &()),
        TensorError::rank(0, &[1]),
        "a storage of rank 0 cannot hold shape [1]",
    );
    refused(
        <[[f32; 3]; 2]>::from_values(&[3, 2], vec![0.0; 6], &()),
        TensorError::shape(&[2, 3], &[3, 2]),
        "a storage of shape [2, 3] cannot hold shape [3, 2]",
    );
    refused(
        ndarray::Array2::<f32>::from_values(&[6], vec![0.0; 6], &()),
        TensorError::rank(2, &[6]),
        "a storage of rank 2 cannot hold shape [6]",
    );
}

#[test]
fn shapes_beyond_counting_are_refused() {
    let shape = vec![usize::MAX, 2];
    let text = format!("a tensor of shape {shape:?} has too many elements to count");
    let expected = || TensorError::Layout(LayoutError::TooManyElements { shape: shape.clone() });
    refused(Tensor::from_values(&shape, vec![]), expected(), &text);
    refused(parts(&shape, TENSOR8, &[], &[1.0], &[]), expected(), &text);
}

#[test]
fn an_axis_that_is_not_there_is_refused() {
    let scheme = QuantizationScheme::PerChannelSymmetric(QInt8, Axis::new(-3));
    refused(
        parts(&[2, 3], scheme, &[0; 6], &[1.0], &[]),
        TensorError::Layout(LayoutError::NoSuchAxis { axis: Axis::new(-3), shape: vec![2, 3] }),
        "a tensor of shape [2, 3] has no axis -3",
    );
}

#[test]
fn codes_must_be_as_many_bytes_as_the_shape_packs_into() {
    refused(
        parts(&[2, 3], AFFINE4, &[0; 3], &[1.0], &[0]),
        TensorError::CodeBytes { expected: 4, found: 3 },
        "the codes take 4 bytes, but 3 are given",
    );
}

#[test]
fn codes_outside_of_the_scheme_are_refused() {
    let int6 = QuantizationScheme::PerTensorAffine(QInt6);
    for (scheme, bytes, byte) in [
        (TENSOR8, &[127, 0x80][..], 1), // −128 is no symmetric code
        (int6, &[31, 0xE0, 32], 2),
        (QuantizationScheme::PerTensorSymmetric(QInt4), &[0x07, 0x80], 1),
        (QuantizationScheme::PerTensorSymmetric(QInt2), &[0b01_11_00_10], 0),
    ] {
        let len = bytes.len() * 8 / scheme.quantization_type().storage_bits() as usize;
        let zero_points = vec![0; usize::from(scheme == int6)];
        refused(
            parts(&[len], scheme, bytes, &[1.0], &zero_points),
            TensorError::Code { byte, scheme },
            &format!("byte {byte} of the codes holds a code outside of {scheme}"),
        );
    }
}

#[test]
fn padding_that_is_not_zero_is_refused() {
    refused(
        parts(&[2, 3], AFFINE4, &[0, 0, 0, 0x10], &[1.0], &[0]),
        TensorError::Padding { byte: 3 },
        "byte 3 of the codes has padding bits that are not zero",
    );
}

#[test]
fn scales_must_be_as_many_as_groups() {
    let scheme = QuantizationScheme::PerChannelSymmetric(QInt8, Axis::LAST);
    refused(
        parts(&[2, 3], scheme, &[0; 6], &[1.0; 2], &[]),
        TensorError::ScaleCount { expected: 3, found: 2 },
        "there are 3 groups, but 2 scales",
    );
}

#[test]
fn scales_must_be_positive_normal_numbers_of_their_type() {
    for scale in [0.0, -1.0, 1e-39, f32::INFINITY] {
        refused(
            parts(&[1], TENSOR8, &[0], &[scale], &[]),
            TensorError::Scale { group: 0, scale, stored_as: ScaleType::F32 },
            &format!("scale 0 is {scale:e}, not a positive normal f32"),
        );
    }
    assert!(parts(&[1], TENSOR8, &[0], &[f32::NAN], &[]).is_err());
    let block = Block::new(1).unwrap().with_f16_scales();
    let scheme = QuantizationScheme::PerBlockSymmetric(QInt8, block);
    // Not representable, subnormal and infinite in half precision.
    for scale in [0.1, 3e-5, 7e4] {
        refused(
            parts(&[2], scheme, &[0, 0], &[1.0, scale], &[]),
            TensorError::Scale { group: 1, scale, stored_as: ScaleType::F16 },
            &format!("scale 1 is {scale:e}, not a positive normal f16"),
        );
    }
}

#[test]
fn full_range_scales_are_any_finite_number_of_their_type() {
    let scheme = QuantizationScheme::PerTensorFullRange(QInt8);
    for scale in [0.0, -0.0, -1.5, 1e-45, f32::MIN] {
        let tensor = parts(&[2], scheme, &[0x80, 1], &[scale], &[]).unwrap();
        let values = [-128.0 * scale, scale].map(f32::to_bits);
        assert_eq!(tensor.dequantize().iter().map(|v| v.to_bits()).collect::<Vec<_>>(), values);
    }
    for scale in [f32::NEG_INFINITY, f32::INFINITY] {
        refused(
            parts(&[1], scheme, &[0], &[scale], &[]),
            TensorError::SignedScale { group: 0, scale, stored_as: ScaleType::F32 },
            &format!("scale 0 is {scale:e}, not a finite f32"),
        );
    }
    let block = Block::new(1).unwrap();
    for (block, stored_as) in
        [(block.with_f16_scales(), ScaleType::F16), (block.with_bf16_scales(), ScaleType::Bf16)]
    {
        refused(
            parts(&[1], QuantizationScheme::PerBlockFullRange(QInt8, block), &[0], &[0.1], &[]),
            TensorError::SignedScale { group: 0, scale: 0.1, stored_as },
            &format!("scale 0 is 1e-1, not a finite {stored_as}"),
        );
    }
}

#[test]
fn minimums_must_be_finite_and_as_many_as_groups() {
    let with = |scheme, minimums: &[f32]| {
        QuantizedTensor::with_minimums(&[2], scheme, vec![0x78], vec![0.5], minimums.to_vec())
    };
    let scheme = QuantizationScheme::PerTensorMinimum(quant::QuantizationType::QInt4);
    let tensor = with(scheme, &[-0.25]).unwrap();
    assert_eq!((tensor.minimums(), tensor.zero_points()), (&[-0.25][..], &[][..]));
    assert_eq!(tensor.dequantize(), [-0.25, 7.25]);
    refused(
        with(scheme, &[]),
        TensorError::MinimumCount { expected: 1, found: 0 },
        "1 minimums are needed, but 0 are given",
    );
    refused(
        with(QuantizationScheme::PerTensorSymmetric(quant::QuantizationType::QInt4), &[1.0]),
        TensorError::MinimumCount { expected: 0, found: 1 },
        "0 minimums are needed, but 1 are given",
    );
    refused(
        with(scheme, &[f32::INFINITY]),
        TensorError::Minimum { group: 0, minimum: f32::INFINITY, stored_as: ScaleType::F32 },
        "minimum 0 is inf, not a finite f32",
    );
}

#[test]
fn zero_points_must_fit_the_mapping_and_the_codes() {
    refused(
        parts(&[1], TENSOR8, &[0], &[1.0], &[0]),
        TensorError::ZeroPointCount { expected: 0, found: 1 },
        "0 zero points are needed, but 1 are given",
    );
    refused(
        parts(&[1], AFFINE4, &[0], &[1.0], &[]),
        TensorError::ZeroPointCount { expected: 1, found: 0 },
        "1 zero points are needed, but 0 are given",
    );
    refused(
        parts(&[1], AFFINE4, &[0], &[1.0], &[8]),
        TensorError::ZeroPoint { group: 0, zero_point: 8 },
        "zero point 0 is 8, which is not a code of the scheme",
    );
}

#[test]
fn a_storages_own_reason_is_the_message() {
    let error = TensorError::Storage("the device is gone".into());
    assert_eq!(error.to_string(), "the device is gone");
}

#[test]
fn scale_errors_name_the_scale_and_the_remedy() {
    let scheme = QuantizationScheme::PerBlockSymmetric(QInt2, Block::DEFAULT.with_f16_scales());
    let error: ScaleError = scheme.grid().params(Range::new(0.0, 1e-9).unwrap()).unwrap_err();
    assert_eq!((error.scale, error.stored_as), (1e-9, ScaleType::F16));
    assert_eq!(error.to_string(), "the scale 1e-9 is not a normal f16; store it in f32");
}

#[test]
fn empty_tensors_of_any_shape_are_quantized_to_nothing() {
    let schemes = [
        "per-tensor-symmetric-int8",
        "per-tensor-affine-int3",
        "per-channel-affine-int4",
        "per-channel-symmetric-int8:axis=-1",
        "per-channel-symmetric-int2:axis=-1",
        "per-block-affine-int2:len=3:scale=f16",
    ];
    // Factors beside a zero may be beyond counting.
    for shape in [&[0][..], &[0, 3], &[3, 0], &[2, 0, 2], &[usize::MAX, 4, 0], &[0, usize::MAX, 4]]
    {
        for scheme in schemes {
            let scheme: QuantizationScheme = scheme.parse().unwrap();
            // A channel each has a scale, so that many channels take that much memory.
            if shape.contains(&usize::MAX) && scheme.to_string().contains("channel") {
                continue;
            }
            let tensor = quantize_values(shape, &[], scheme, &MinMaxCalibration {}).unwrap();
            assert_eq!(tensor.dequantize(), [0.0f32; 0], "{shape:?} {scheme}");
            let again = QuantizedTensor::from_parts(
                shape,
                scheme,
                tensor.packed_codes().into(),
                tensor.scales().into(),
                tensor.zero_points().into(),
            );
            assert_eq!(again.as_ref(), Ok(&tensor), "{shape:?} {scheme}");
            let tensor = Tensor::from(tensor);
            assert_eq!((tensor.element_count(), tensor.dequantize().shape()), (0, shape));
            assert_eq!(packing::packed_bytes(shape, QInt2), Some(0));
        }
    }
}

#[test]
fn a_scalar_is_one_group_by_every_granularity() {
    for name in ["per-tensor-symmetric-int8", "per-channel-affine-int8", "per-block-affine-int4"] {
        let scheme = name.parse().unwrap();
        let tensor = quantize_values(&[], &[-3.0], scheme, &MinMaxCalibration {}).unwrap();
        assert_eq!(tensor.scales().len(), 1);
        assert_eq!(tensor.shape(), [0usize; 0]);
        assert!((tensor.dequantize()[0] + 3.0).abs() <= 1e-6, "{name}");
    }
}
