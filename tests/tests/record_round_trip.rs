//! What is saved is what is loaded.

use quant::{
    BincodeRecorder, MinMaxCalibration, Module, Param, QuantizationScheme, QuantizationType,
    Quantizer,
};

#[test]
fn float_and_quantized() {
    let model = (Param::new([[1.0f32, -2.0], [3.0, 0.5]]), Param::new(vec![1.0f32; 5]));
    let bytes = model.save_bytes(&BincodeRecorder::default()).unwrap();
    let fresh = || (Param::new([[0.0f32; 2]; 2]), Param::new(vec![0.0f32; 5]));
    let again = fresh().load_bytes(&bytes, &BincodeRecorder::default()).unwrap();
    assert!(again == model);
    let mut quantizer = Quantizer {
        calibration: MinMaxCalibration {},
        scheme: QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8),
    };
    let model = model.quantize_weights(&mut quantizer).unwrap();
    let dir = std::env::temp_dir().join("quant-x.quant");
    model.save_file(&dir, &BincodeRecorder::default()).unwrap();
    let again = fresh().load_file(&dir, &BincodeRecorder::default()).unwrap();
    assert!(again == model);
    println!("{:?}", bytes);
}
