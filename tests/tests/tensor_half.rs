//! Parameters of half precision: they take two bytes an element in memory, in plans and in files.

use half::{bf16, f16};
use ndarray::{Array1, Array2};
use quant::record::{Record, RecordVersion, Recorder};
use quant::tensor::{FloatType, SharedTensor, TensorError};
use quant::{BincodeRecorder, Module, Param, Recipe, Tensor};

#[derive(Clone, Module)]
struct Dense {
    weight: Param<Array2<bf16>>,
    bias: Param<Array1<f16>>,
    shared: Param<SharedTensor>,
}

/// All halves but NaN, in a shape.
fn dense() -> Dense {
    let bits: Vec<u16> = (0..=u16::MAX).filter(|&bits| !bf16::from_bits(bits).is_nan()).collect();
    let weight = bits.iter().map(|&bits| bf16::from_bits(bits)).collect();
    let halves: Vec<u16> = (0..=u16::MAX).filter(|&bits| !f16::from_bits(bits).is_nan()).collect();
    Dense {
        weight: Array2::from_shape_vec((bits.len() / 2, 2), weight).unwrap().into(),
        bias: halves.iter().map(|&bits| f16::from_bits(bits)).collect::<Array1<f16>>().into(),
        shared: SharedTensor::from_half_bits(&[2], FloatType::F16, vec![0x3C00, 1]).unwrap().into(),
    }
}

fn finite() -> Dense {
    let at = |i: usize, j: usize| bf16::from_f32((i as f32 - 30.0) * 0.01 + j as f32 * 0.003);
    Dense { weight: Array2::from_shape_fn((64, 48), |(i, j)| at(i, j)).into(), ..dense() }
}

#[test]
fn every_half_is_saved_and_loaded_bit_for_bit() {
    let (model, recorder) = (dense(), BincodeRecorder::default());
    let bytes = model.save_bytes(&recorder).unwrap();
    assert_eq!(u32::from(bytes[8]), RecordVersion::V2.number());
    let elements = model.num_params();
    assert!(bytes.len() < 2 * elements + 1024, "{} bytes for {elements}", bytes.len());
    let mut empty = model.clone();
    empty.weight = Array2::from_elem(model.weight.as_float().unwrap().dim(), bf16::ONE).into();
    let loaded = empty.load_bytes(&bytes, &recorder).unwrap();
    let same = |a: &Array2<bf16>, b: &Array2<bf16>| {
        a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
    };
    assert!(same(loaded.weight.as_float().unwrap(), model.weight.as_float().unwrap()));
    assert_eq!(loaded.shared.as_float().unwrap().half_bits(), Some(&[0x3C00, 1][..]));
    let record = recorder.load(&mut bytes.as_slice(), None).unwrap();
    assert_eq!(record.get("weight").unwrap().float_type(), Some(FloatType::Bf16));
    assert_eq!(record.get("bias").unwrap().float_type(), Some(FloatType::F16));
}

#[test]
fn arrays_of_any_memory_order_have_the_bits_of_their_logical_order() {
    let array = Array2::from_shape_fn((3, 4), |(i, j)| f16::from_f32((4 * i + j) as f32));
    let turned = array.clone().reversed_axes();
    let bits = |array: Array2<f16>| {
        let record = Record::from_module(&Param::new(array)).unwrap();
        let (_, tensor) = record.iter().next().unwrap();
        tensor.half_bits().unwrap().to_vec()
    };
    let expected: Vec<u16> = turned.iter().map(|half| half.to_bits()).collect();
    assert_eq!(bits(turned), expected);
    assert_eq!(bits(array)[5], f16::from_f32(5.0).to_bits());
}

#[test]
fn plans_count_two_bytes_and_weights_are_quantized_from_their_exact_values() {
    let model = finite();
    let recipe = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
    let plan = recipe.plan(&model).unwrap();
    assert_eq!(plan.params()[0].bytes_before, 2 * 64 * 48);
    let quantized = model.clone().quantize_weights(&recipe).unwrap();
    let single: Array2<f32> = model.weight.as_float().unwrap().mapv(bf16::to_f32);
    let expected = Param::new(single.clone()).quantize_weights(&recipe).unwrap();
    assert_eq!(quantized.weight.quantized(), expected.quantized());
    // Back to halves, rounded to the nearest.
    let again = quantized.dequantize();
    let float = expected.dequantize().into_float().unwrap();
    assert_eq!(again.weight.as_float().unwrap(), float.mapv(bf16::from_f32));
}

#[test]
fn values_in_single_precision_are_rounded_to_the_nearest_half() {
    let record = Record::from_iter([(
        "",
        Tensor::from_values(&[1, 2], vec![1.0 + 1.0 / 512.0, 3.0]).unwrap(),
    )]);
    let param = Param::new(Array2::from_elem((1, 2), bf16::ZERO));
    let loaded = param.load_record(record).unwrap();
    assert_eq!(loaded.as_float().unwrap()[[0, 0]].to_f32(), 1.0);
    let error = SharedTensor::from_half_bits(&[1], FloatType::F32, vec![0]).unwrap_err();
    assert_eq!(error, TensorError::Storage("f32 does not have 16 bits".into()));
}

#[test]
fn functions_run_on_halves_as_on_the_floats_that_they_are() {
    use quant::activation::ActivationQuantizer;
    let model = finite();
    let x = Array2::from_shape_fn((5, 48), |(i, j)| (i as f32 - 2.0) * 0.1 + j as f32 * 0.01);
    let float: Param<Array2<f32>> = model.weight.as_float().unwrap().mapv(bf16::to_f32).into();
    let input = ActivationQuantizer::new();
    let run = |weight: &dyn quant_nn::CpuParam| quant_nn::linear(&x, weight, None, &input).unwrap();
    assert_eq!(run(&model.weight), run(&float));
    let recipe = Recipe::new().scheme("per-channel-symmetric-int8".parse().unwrap());
    let halves = model.weight.quantize_weights(&recipe).unwrap();
    assert_eq!(run(&halves), run(&float.quantize_weights(&recipe).unwrap()));
}
