//! Parameters are matched by path: a walk by hand may visit in another order the second time.

use std::cell::Cell;

use quant::activation::ActivationQuantizer;
use quant::module::{Walk, Walker, WalkerMut};
use quant::quantize::Sensitivity;
use quant::scheme::ActivationScheme;
use quant::{
    BincodeRecorder, MinMaxCalibration, Module, Param, QuantizationScheme, QuantizationType,
    QuantizeError, Quantizer, Recipe, Rule,
};

const INT8: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);

/// Two parameters and two inputs of equal shape, which each walk in place visits in reverse.
#[derive(Clone)]
struct Reversed {
    a: Param<[[f32; 2]; 2]>,
    b: Param<[[f32; 2]; 2]>,
    first: ActivationQuantizer,
    second: ActivationQuantizer,
    /// How many walks by reference there were: each second one is reversed, too.
    walks: Cell<u32>,
}

impl Walk for Reversed {
    fn walk(&self, walker: &mut Walker<'_>) {
        self.walks.set(self.walks.get() + 1);
        if self.walks.get().is_multiple_of(2) {
            self.b.walk(&mut walker.field("b"));
            self.a.walk(&mut walker.field("a"));
            self.second.walk(&mut walker.field("second"));
            self.first.walk(&mut walker.field("first"));
        } else {
            self.a.walk(&mut walker.field("a"));
            self.b.walk(&mut walker.field("b"));
            self.first.walk(&mut walker.field("first"));
            self.second.walk(&mut walker.field("second"));
        }
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        self.second.walk_mut(&mut walker.field("second"));
        self.first.walk_mut(&mut walker.field("first"));
        self.b.walk_mut(&mut walker.field("b"));
        self.a.walk_mut(&mut walker.field("a"));
    }
}

fn reversed() -> Reversed {
    Reversed {
        a: Param::new([[1.27, -0.5], [0.25, 0.0]]),
        b: Param::new([[127.0, -50.0], [25.0, 1.0]]),
        first: ActivationQuantizer::new(),
        second: ActivationQuantizer::new(),
        walks: Cell::new(0),
    }
}

fn scales(model: &Reversed) -> [f32; 2] {
    [&model.a, &model.b].map(|param| param.quantized().unwrap().params(0).scale())
}

#[test]
fn each_parameter_gets_its_own_scale() {
    let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme: INT8 };
    let model = reversed().quantize_weights(quantizer).unwrap();
    assert_eq!(scales(&model), [0.01, 1.0]);
    let plan = quantizer.plan(&reversed()).unwrap();
    assert_eq!(scales(&plan.apply(reversed()).unwrap()), [0.01, 1.0]);
}

#[test]
fn each_rule_reaches_its_own_parameter_and_input() {
    let recipe = Recipe::new()
        .rule(Rule::quantize("a", INT8))
        .rule(Rule::keep("b"))
        .rule(Rule::activations("second", ActivationScheme::DYNAMIC));
    let model = reversed().quantize(&recipe).unwrap();
    assert!(model.a.is_quantized() && !model.b.is_quantized());
    assert_eq!(model.first, ActivationQuantizer::new());
    assert_ne!(model.second, ActivationQuantizer::new());
}

#[test]
fn a_trial_replaces_the_parameter_it_names() {
    let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme: INT8 };
    let loss = |model: &Reversed| Ok::<_, String>(f64::from(u8::from(model.b.is_quantized())));
    let sensitivity = Sensitivity::measure(&quantizer, &mut reversed(), loss).unwrap();
    let losses: Vec<_> =
        sensitivity.layers().iter().map(|layer| (layer.id.to_string(), layer.loss)).collect();
    assert_eq!(losses, [("b".to_owned(), 1.0), ("a".to_owned(), 0.0)]);
}

#[test]
fn a_record_loads_into_the_parameters_of_its_names() {
    let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme: INT8 };
    // Saving walks twice, and an order that changes in between is an error; a record is not.
    let record =
        quant::record::Record::from_module(&reversed().quantize_weights(quantizer).unwrap())
            .unwrap();
    let bytes = record.save_bytes(&BincodeRecorder::default()).unwrap();
    let model = reversed().load_bytes(&bytes, &BincodeRecorder::default()).unwrap();
    assert_eq!(scales(&model), [0.01, 1.0]);
}

/// Shows a parameter to walks by reference that walks in place do not show.
struct Hidden(Param<[[f32; 1]; 1]>);

impl Walk for Hidden {
    fn walk(&self, walker: &mut Walker<'_>) {
        self.0.walk(&mut walker.field("weight"));
    }

    fn walk_mut(&mut self, _walker: &mut WalkerMut<'_>) {}
}

#[test]
fn a_parameter_that_one_of_the_walks_leaves_out_is_an_error_with_the_path() {
    let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme: INT8 };
    let error = Hidden(Param::new([[1.0]])).quantize_weights(quantizer).err().unwrap();
    assert_eq!(error, QuantizeError::InconsistentWalk { id: "weight".into() });
    assert_eq!(
        error.to_string(),
        "weight: `walk` and `walk_mut` of the model show different paths"
    );
}
