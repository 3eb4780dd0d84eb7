//! Candle's tensors as storages: derived, planned, quantized, mapped, saved, loaded.

use candle_core::{DType, Device, Tensor, Var};
use candle_tests::{random, tensor, values, var};
use quant::tensor::TensorError;
use quant::{
    BincodeRecorder, FloatTensor, MinMaxCalibration, Module, ModuleMapper, Param, ParamId,
    QuantizationScheme, QuantizationType, Quantizer, Recipe,
};

#[derive(Module)]
struct Mlp {
    fc1: Dense,
    fc2: Dense,
    #[module(skip)]
    name: String,
}

#[derive(Module)]
struct Dense {
    weight: Param<Tensor>,
    bias: Param<Var>,
}

impl Mlp {
    fn new(seed: u32) -> Self {
        let dense = |outputs, inputs, seed| Dense {
            weight: tensor(&[outputs, inputs], seed).into(),
            bias: var(&[outputs], seed + 1).into(),
        };
        Self { fc1: dense(8, 5, seed), fc2: dense(3, 8, seed + 2), name: "mlp".into() }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let dense = |x: &Tensor, Dense { weight, bias }: &Dense| {
            let y = x.matmul(&weight.value().t().unwrap()).unwrap();
            y.broadcast_add(&bias.value()).unwrap()
        };
        dense(&dense(x, &self.fc1).relu().unwrap(), &self.fc2)
    }
}

/// The flow of the framework whose users asked for this crate, on a model of candle.
#[test]
fn quantized_saved_loaded_and_dequantized() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mlp.quant");
    let model = Mlp::new(1);
    let x = tensor(&[4, 5], 9);
    let float = values(&model.forward(&x));

    let quantizer = Quantizer {
        calibration: MinMaxCalibration {},
        scheme: QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8),
    };
    let model = model.quantize_weights(quantizer).unwrap();
    assert!(model.fc1.weight.is_quantized() && !model.fc1.bias.is_quantized());
    let quantized = values(&model.forward(&x));
    model.save_file(&path, &BincodeRecorder::default()).unwrap();

    struct Dequantize {}
    impl ModuleMapper for Dequantize {
        fn map_float(&mut self, _id: ParamId, tensor: quant::Tensor) -> quant::Tensor {
            tensor.dequantize()
        }
    }
    let model =
        Mlp::new(77).load_file(&path, &BincodeRecorder::default()).unwrap().map(&mut Dequantize {});
    assert!(!model.fc1.weight.is_quantized());
    assert_eq!(values(&model.forward(&x)), quantized);
    let far = quantized.iter().zip(&float).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far > 0.0 && far < 0.05, "{far}");
    assert_eq!(model.name, "mlp");
    assert_eq!(model.num_params(), 8 * 5 + 8 + 3 * 8 + 3);
}

#[test]
fn recipes_plan_candle_models() {
    let recipe: Recipe = Recipe::new().scheme("per-channel-symmetric-int4".parse().unwrap());
    let plan = recipe.plan(&Mlp::new(1)).unwrap();
    let paths: Vec<_> = plan.params().iter().map(|param| param.id.as_str()).collect();
    assert_eq!(paths, ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
    let model = plan.apply(Mlp::new(1)).unwrap();
    assert_eq!(model.fc2.weight.quantized().unwrap().scales().len(), 3);
}

#[test]
fn what_replaces_a_tensor_is_of_its_type_and_a_variable_if_it_was_one() {
    struct Double;
    impl ModuleMapper for Double {
        fn map_float(&mut self, _id: ParamId, tensor: quant::Tensor) -> quant::Tensor {
            let twice = tensor.values().iter().map(|value| 2.0 * value).collect();
            quant::Tensor::from_values(tensor.shape(), twice).unwrap()
        }
    }
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let constant = tensor(&[2, 3], 1).to_dtype(dtype).unwrap();
        let variable = Var::from_tensor(&constant).unwrap().into_inner();
        for value in [constant, variable] {
            let is_variable = value.is_variable();
            let before = values(&value.to_dtype(DType::F32).unwrap());
            let param = Param::new(value).map(&mut Double);
            let after = param.as_float().unwrap();
            assert_eq!((after.dtype(), after.is_variable()), (dtype, is_variable));
            let after = values(&after.to_dtype(DType::F32).unwrap());
            assert!(before.iter().zip(after).all(|(a, b)| 2.0 * a == b), "{dtype:?}");
            let place = FloatTensor::device(param.as_float().unwrap());
            assert_eq!((place.dtype(), place.is_variable()), (dtype, is_variable));
            assert!(place.device().is_cpu());
        }
    }
}

#[test]
fn values_are_row_major_whatever_the_layout_and_the_rank() {
    let x = tensor(&[3, 4], 1);
    let turned = x.t().unwrap();
    assert_eq!(FloatTensor::shape(&turned), [4, 3].as_slice());
    assert_eq!(FloatTensor::values(&turned)[1], values(&x)[4]);
    let part = x.narrow(1, 1, 2).unwrap();
    assert_eq!(FloatTensor::values(&part)[..3], [values(&x)[1], values(&x)[2], values(&x)[5]]);
    let scalar = Tensor::new(2.5f32, &Device::Cpu).unwrap();
    assert_eq!(
        (&*FloatTensor::shape(&scalar), &*FloatTensor::values(&scalar)),
        (&[][..], &[2.5][..])
    );
    let place = FloatTensor::device(&scalar);
    let empty = Tensor::from_values(&[0, 3], vec![], &place).unwrap();
    assert_eq!(empty.dims(), [0, 3]);
    let error = Tensor::from_values(&[2, 2], vec![1.0], &place).unwrap_err();
    assert!(matches!(error, TensorError::Len { expected: 4, found: 1, .. }));
}

#[test]
fn a_variable_is_found_behind_its_parameter() {
    let variable = var(&[2], 1);
    let param = Param::new(variable.clone());
    struct Find(bool);
    impl quant::module::ModuleVisitor for Find {
        fn visit_float(&mut self, _: ParamId, param: quant::module::ParamView<'_>) {
            self.0 = param.downcast_ref::<Var>().is_some()
                && param.downcast_ref::<ndarray::ArrayD<f32>>().is_none();
        }
    }
    let mut find = Find(false);
    param.visit(&mut find);
    assert!(find.0);
    assert_eq!(random(2, 1), values(&variable));
}
