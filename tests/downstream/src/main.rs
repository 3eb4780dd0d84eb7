//! The snippet of `docs/design.md`, word for word, and what it needs to run.

use ndarray::{Array1, Array2};
use quant::{BincodeRecorder, MinMaxCalibration, Module, ModuleMapper, Param, ParamId, QuantizationScheme, QuantizationType, Quantizer, Tensor};

#[derive(Module)]
struct Mlp { fc1: Dense, fc2: Dense, #[module(skip)] name: String }

#[derive(Module)]
struct Dense { weight: Param<Array2<f32>>, bias: Param<Array1<f32>> }

impl Mlp {
    fn new() -> Self {
        Mlp { fc1: Dense::new(2, 3), fc2: Dense::new(3, 1), name: "mlp".into() }
    }
}

impl Dense {
    fn new(inputs: usize, outputs: usize) -> Self {
        let weight = Array2::from_shape_fn((inputs, outputs), |(i, j)| i as f32 - 0.3 * j as f32);
        let bias = Array1::from_elem(outputs, 0.25);
        Dense { weight: Param::new(weight), bias: Param::new(bias) }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Mlp::new();

    let mut quantizer = Quantizer {
        calibration: MinMaxCalibration {},
        scheme: QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8),
    };
    let model = model.quantize_weights(&mut quantizer)?;      // Mlp
    assert!(model.fc1.weight.is_quantized() && !model.fc1.bias.is_quantized());
    let before = model.fc1.weight.value().into_owned();

    model.save_file("mlp.quant", &BincodeRecorder::default())?;

    struct Dequantize {}
    impl ModuleMapper for Dequantize {
        fn map_float(&mut self, _id: ParamId, tensor: Tensor) -> Tensor { tensor.dequantize() }
    }
    let model = Mlp::new().load_file("mlp.quant", &BincodeRecorder::default())?.map(&mut Dequantize {});

    assert!(!model.fc1.weight.is_quantized());
    assert_eq!(*model.fc1.weight.value(), before);
    let far = &before - &*Mlp::new().fc1.weight.value();
    assert!(far.iter().all(|far| far.abs() <= 0.5 / 127.0 + f32::EPSILON));
    println!("{}: {} parameters", model.name, model.num_params());
    Ok(())
}
