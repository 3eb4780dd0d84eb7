//! Parameters whose values are in packed weights alone.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use ndarray::ArrayD;
use quant::activation::ActivationQuantizer;
use quant::tensor::{HoldsTensor, QuantizedTensor, TensorError};
use quant::{BincodeRecorder, Module, Param, Recipe};
use quant_nn::{Embedding, ForwardError, Linear};
use tests::random::Random;

fn random(shape: &[usize], seed: u64) -> ArrayD<f32> {
    let mut random = Random(seed);
    ArrayD::from_shape_simple_fn(shape, || random.normal())
}

fn layer(weights: &str, inputs: &str) -> Linear {
    let recipe =
        Recipe::new().scheme(weights.parse().unwrap()).activations(inputs.parse().unwrap());
    Linear::new(random(&[37, 96], 1), None).unwrap().quantize(recipe).unwrap()
}

const WEIGHTS: [&str; 8] = [
    "per-tensor-symmetric-int8",
    "per-channel-symmetric-int8",
    "per-channel-affine-int8",
    "per-block-symmetric-int8",
    "per-block-full-range-int4:scale=f16",
    "per-block-minimum-int4:scale=f16",
    "per-block-affine-int4",
    "per-channel-symmetric-int2",
];

#[test]
fn a_packed_layer_has_the_same_outputs_values_and_record() {
    for weights in WEIGHTS {
        for inputs in ["float", "dynamic", "dynamic-per-block-32-symmetric"] {
            let mut packed = layer(weights, inputs);
            let before = packed.clone();
            packed.pack().unwrap();
            let tensor = packed.weight.quantized().unwrap();
            assert!(!tensor.is_here(), "{weights} {inputs}");
            let x = random(&[5, 96], 2);
            assert_eq!(packed.forward(&x).unwrap(), before.forward(&x).unwrap());
            assert!(!packed.weight.quantized().unwrap().is_here());

            let recorder = BincodeRecorder::default();
            let bytes = packed.clone().save_bytes(&recorder).unwrap();
            assert_eq!(bytes, before.save_bytes(&recorder).unwrap(), "{weights} {inputs}");
            assert_eq!(packed.weight, before.weight);
            assert!(
                packed.weight.quantized().unwrap().is_here(),
                "values that were asked for stay"
            );
            assert_eq!(packed.dequantize().weight, before.dequantize().weight);
        }
    }
}

#[test]
fn rows_are_looked_up_in_packed_weights() {
    for weights in WEIGHTS {
        let table: Param<ArrayD<f32>> = layer(weights, "float").weight;
        let mut table = Embedding { weight: table };
        let ids = [0, 36, 17, 36];
        let before = table.forward(&ids).unwrap();
        quant_nn::pack(&mut table.weight, &ActivationQuantizer::new()).unwrap();
        assert_eq!(table.forward(&ids).unwrap(), before, "{weights}");
        assert!(!table.weight.quantized().unwrap().is_here());
        let error = table.forward(&[3, 37]).unwrap_err();
        assert!(
            matches!(error, ForwardError::Index { position: 1, index: 37, rows: 37 }),
            "{error}"
        );
    }
}

#[test]
fn a_float_weight_is_not_packed_and_one_that_no_kernel_runs_is_refused() {
    let mut float = Linear::new(random(&[4, 8], 1), None).unwrap();
    float.pack().unwrap();
    assert!(!float.weight.is_quantized());
    let mut columns = layer("per-channel-symmetric-int8:axis=1", "float");
    let error = columns.pack().unwrap_err();
    assert!(error.to_string().starts_with("linear: "), "{error}");
    assert!(columns.weight.quantized().unwrap().is_here());
}

#[derive(Debug)]
struct Other(QuantizedTensor);

impl HoldsTensor for Other {
    fn tensor(&self) -> Result<QuantizedTensor, TensorError> {
        Ok(self.0.clone())
    }

    fn row(&self, _: usize, _: &mut [f32]) {}
}

#[test]
fn a_parameter_is_released_only_to_a_form_that_has_it() {
    let one = layer("int8", "float").weight;
    let other = Linear::new(random(&[37, 96], 9), None).unwrap();
    let other = other.quantize(Recipe::new().scheme("int8".parse().unwrap())).unwrap().weight;
    let holder = Arc::new(Other(one.quantized().unwrap().clone()));
    let mut released = other;
    let error = released.release(holder.clone()).unwrap_err();
    assert_eq!(error.to_string(), "it holds another tensor");
    assert!(released.quantized().unwrap().is_here());
    let mut float = Param::new(random(&[2], 1));
    let error = float.release(holder.clone()).unwrap_err();
    assert_eq!(error.to_string(), "the parameter is not quantized");

    let mut released = one.clone();
    released.release(holder).unwrap();
    let debug = format!("{released:?}");
    assert!(debug.ends_with(".. }") && !released.quantized().unwrap().is_here(), "{debug}");
    assert_eq!(released.params().len(), 1);
    assert_eq!(released.quantized().unwrap().scales(), one.quantized().unwrap().scales());
}

fn crosses_threads_and_panics<T: UnwindSafe + RefUnwindSafe + Send + Sync>() {}

#[test]
fn tensors_cross_threads_and_panics() {
    crosses_threads_and_panics::<QuantizedTensor>();
}
