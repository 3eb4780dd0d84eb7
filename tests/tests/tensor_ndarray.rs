//! Arrays of every rank and memory layout have the same values wherever they go.

use ndarray::{
    Array, Array0, Array1, Array2, Array3, Array4, Array5, Array6, ArrayD, Axis, Dimension, IxDyn,
    s,
};
use quant::{
    BincodeRecorder, FloatTensor, MinMaxCalibration, Module, ModuleMapper, Param, ParamId,
    QuantizationScheme, Quantizer, Recipe, Rule, Tensor,
};
use tests::errors::chain;

fn iota(shape: &[usize]) -> ArrayD<f32> {
    let len = shape.iter().product::<usize>();
    ArrayD::from_shape_vec(IxDyn(shape), (0..len).map(|i| i as f32 - 3.25).collect()).unwrap()
}

/// Doubles each value.
struct Double;

impl ModuleMapper for Double {
    fn map_float(&mut self, _id: ParamId, tensor: Tensor) -> Tensor {
        let shape = tensor.shape().to_vec();
        let values = tensor.into_values().into_iter().map(|x| 2.0 * x).collect();
        Tensor::from_values(&shape, values).unwrap()
    }
}

/// Sends an array through everything there is, and compares with its elements in logical order.
fn check<D: Dimension>(array: Array<f32, D>) {
    let logical: Vec<f32> = array.iter().copied().collect();
    let shape = array.shape().to_vec();
    assert_eq!(FloatTensor::shape(&array).as_ref(), shape);
    assert_eq!(FloatTensor::values(&array).as_ref(), logical);
    assert_eq!(array.clone().into_values(), logical);
    let again = Array::<f32, D>::from_values(&shape, logical.clone(), &()).unwrap();
    assert_eq!(again, array);

    let param = Param::new(array.clone());
    let doubled = param.clone().map(&mut Double);
    assert_eq!(*doubled.value(), array.mapv(|x| 2.0 * x));

    let recorder = BincodeRecorder::default();
    let bytes = param.save_bytes(&recorder).unwrap();
    let blank = || Param::new(Array::<f32, D>::zeros(array.raw_dim()));
    assert_eq!(*blank().load_bytes(&bytes, &recorder).unwrap().value(), array);

    let scheme: QuantizationScheme = "per-channel-affine-int8".parse().unwrap();
    let mut recipe = Recipe::new().rule(Rule::quantize("**", scheme));
    let quantized = param.quantize_weights(&mut recipe).unwrap();
    let tensor =
        quant::quantize::quantize_values(&shape, &logical, scheme, &MinMaxCalibration {}).unwrap();
    assert_eq!(quantized.quantized(), (!logical.is_empty()).then_some(&tensor));
    let values: Vec<f32> = quantized.value().iter().copied().collect();
    assert_eq!(values, tensor.dequantize());
    assert_eq!(quantized.dequantize().value().shape(), shape);
}

#[test]
fn every_rank_is_a_tensor() {
    check(Array0::from_elem((), -2.5));
    check(iota(&[7]).into_dimensionality::<ndarray::Ix1>().unwrap());
    check(iota(&[2, 3]).into_dimensionality::<ndarray::Ix2>().unwrap());
    check(iota(&[2, 3, 2]).into_dimensionality::<ndarray::Ix3>().unwrap());
    check(iota(&[2, 1, 3, 2]).into_dimensionality::<ndarray::Ix4>().unwrap());
    check(iota(&[2, 1, 3, 2, 2]).into_dimensionality::<ndarray::Ix5>().unwrap());
    check(iota(&[2, 1, 3, 2, 1, 2]).into_dimensionality::<ndarray::Ix6>().unwrap());
    for rank in 0..8 {
        check(iota(&[2, 3, 1, 2, 1, 2, 2, 1][..rank]));
    }
}

#[test]
fn ranks_have_their_names() {
    fn storage<T: FloatTensor>() {}
    storage::<Array0<f32>>();
    storage::<Array1<f32>>();
    storage::<Array2<f32>>();
    storage::<Array3<f32>>();
    storage::<Array4<f32>>();
    storage::<Array5<f32>>();
    storage::<Array6<f32>>();
    storage::<ArrayD<f32>>();
}

#[test]
fn memory_order_does_not_matter() {
    let array = iota(&[3, 4, 2]).into_dimensionality::<ndarray::Ix3>().unwrap();
    check(array.clone().reversed_axes());
    check(array.clone().permuted_axes([1, 2, 0]));
    check(array.clone().slice_move(s![1.., ..;2, ..]));
    check(array.clone().slice_move(s![.., 1..3, 1..]));
    check(array.clone().slice_move(s![1..2, .., ..]));
    check(array.clone().slice_move(s![..;-1, .., ..;-1]));
    check(array.clone().slice_move(s![2, .., ..]));
    check(array.clone().slice_move(s![.., 2, ..]).reversed_axes());
    check(array.clone().slice_move(s![3.., .., ..]));
    check(array.clone().slice_move(s![1..2;-1, 3..;-1, ..]));
    let mut inverted = array;
    inverted.invert_axis(Axis(1));
    check(inverted);
}

#[test]
fn nan_in_a_transposed_array_is_named_by_its_logical_index() {
    let mut array = Array2::zeros((3, 4));
    array[[1, 2]] = f32::NAN;
    let quantizer = Quantizer {
        calibration: MinMaxCalibration {},
        scheme: "per-tensor-symmetric-int8".parse().unwrap(),
    };
    let error = Param::new(array.reversed_axes()).quantize_weights(quantizer).unwrap_err();
    // [2, 1] of shape [4, 3].
    assert!(chain(&error).ends_with("element 7 is NaN"), "{error}");
}
