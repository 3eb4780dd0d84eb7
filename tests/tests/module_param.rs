//! Parameters: what they say of themselves, and the traits they have.

use ndarray::Array2;
use quant::quantize::quantize_values;
use quant::{MinMaxCalibration, Module, Param, QuantizationScheme, QuantizationType, Quantizer};

const SCHEME: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);

fn quantized<M: Module>(model: M) -> M {
    let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme: SCHEME };
    model.quantize_weights(quantizer).unwrap()
}

fn weight() -> Param<[[f32; 2]; 2]> {
    Param::new([[1.0, -2.0], [0.5, 1.27]])
}

#[test]
fn a_float_parameter_lends_its_value() {
    let mut param = weight();
    assert!(!param.is_quantized());
    assert!(matches!(param.value(), std::borrow::Cow::Borrowed(_)));
    assert_eq!(param.shape(), [2usize, 2].as_slice());
    assert_eq!(param.quantized(), None);
    param.as_float_mut().unwrap()[0][0] = 4.0;
    assert_eq!(param.as_float().unwrap()[0][0], 4.0);
}

#[test]
fn a_quantized_parameter_shows_its_codes_and_dequantizes_its_value() {
    let mut param = quantized(weight());
    let tensor =
        quantize_values(&[2, 2], &[1.0, -2.0, 0.5, 1.27], SCHEME, &MinMaxCalibration {}).unwrap();
    assert!(param.is_quantized());
    assert_eq!(param.quantized(), Some(&tensor));
    assert_eq!(param.shape(), [2usize, 2].as_slice());
    assert_eq!(param.value().as_flattened(), tensor.dequantize());
    assert_eq!(param.as_float(), None);
    assert_eq!(param.as_float_mut(), None);
    assert_eq!(*param.clone().dequantize().value(), *param.value());
}

#[test]
fn the_std_traits_are_those_of_the_storage() {
    assert_eq!(Param::<Vec<f32>>::default(), Param::new(vec![]));
    assert_eq!(Param::from(2.0f32), Param::new(2.0));
    assert_eq!(weight(), weight());
    assert_eq!(quantized(weight()), quantized(weight()));
    assert_ne!(weight(), quantized(weight()));
    assert_ne!(Param::new(f32::NAN), Param::new(f32::NAN));
    assert_eq!(format!("{:?}", Param::new([1.0f32])), "Float([1.0])");
    assert!(format!("{:?}", quantized(weight())).starts_with("QuantizedTensor {"));

    fn shared<T: Send + Sync + Clone + Unpin + 'static>() {}
    shared::<Param<Array2<f32>>>();
}

#[test]
fn a_clone_is_independent() {
    let original = weight();
    let mut clone = original.clone();
    clone.as_float_mut().unwrap()[1][1] = 0.0;
    assert_eq!(original, weight());
}

#[test]
fn a_scalar_has_rank_zero_and_one_element() {
    let param = Param::new(3.0f32);
    assert_eq!((param.shape().len(), param.num_params()), (0, 1));
}
