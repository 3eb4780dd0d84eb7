//! The attributes.

use quant::quantize::{Action, Reason};
use quant::{MinMaxCalibration, Module, Param, QuantizationScheme, QuantizationType, Quantizer};

use crate::{doubled, param, paths};

/// No module.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Foreign(f32);

#[test]
fn a_skipped_field_is_not_walked_and_may_have_any_type() {
    #[derive(Module)]
    struct Layer {
        #[module(skip)]
        temperature: f32,
        #[module(skip)]
        cache: Vec<Foreign>,
        #[module(skip)]
        frozen: Param<f32>,
        value: Param<f32>,
    }
    let layer = Layer { temperature: 1.5, cache: vec![], frozen: param(1.0), value: param(1.0) };
    let layer = doubled(layer);
    assert_eq!((layer.temperature, layer.cache.len(), *layer.frozen.value()), (1.5, 0, 1.0));
    assert_eq!(paths(layer), ["value"]);
}

#[test]
fn fields_of_variants_are_skipped_alone() {
    #[derive(Module, Debug, PartialEq)]
    enum Layer {
        Tuple(#[module(skip)] Foreign, Param<f32>),
        Struct {
            #[module(skip)]
            foreign: Foreign,
            value: Param<f32>,
        },
    }
    assert_eq!(paths(Layer::Tuple(Foreign(1.0), param(1.0))), ["Tuple.1"]);
    let layer = Layer::Struct { foreign: Foreign(1.0), value: param(1.0) };
    assert_eq!(paths(layer), ["Struct.value"]);
}

#[test]
fn a_renamed_field_has_its_new_name() {
    #[derive(Module)]
    struct Norm {
        #[module(rename = "gamma")]
        weight: Param<f32>,
        #[module(rename = "weight")]
        bias: Param<f32>,
    }
    #[derive(Module)]
    struct Net(#[module(rename = "encoder.layers.0")] Norm);
    let net = Net(Norm { weight: param(1.0), bias: param(2.0) });
    assert_eq!(paths(net), ["encoder.layers.0.gamma", "encoder.layers.0.weight"]);
}

#[test]
fn a_renamed_variant_has_its_new_name() {
    #[derive(Module)]
    enum Layer {
        #[module(rename = "linear.inner")]
        Linear(#[module(rename = "w")] Param<f32>),
    }
    assert_eq!(paths(Layer::Linear(param(1.0))), ["linear.inner.w"]);
}

#[test]
fn a_name_may_be_any_text() {
    #[derive(Module)]
    struct Layer {
        #[module(rename = r#"{weight} "größe""#)]
        value: Param<f32>,
    }
    assert_eq!(paths(Layer { value: param(1.0) }), [r#"{weight} "größe""#]);
}

const INT4: QuantizationScheme = QuantizationScheme::PerTensorAffine(QuantizationType::QInt4);

struct Schemes;
impl Schemes {
    const fn by_bits<const BITS: u32>() -> QuantizationScheme {
        QuantizationScheme::PerTensorSymmetric(QuantizationType::from_bits(BITS).unwrap())
    }
}

#[derive(Module, Clone, Debug, Default, PartialEq)]
struct Block {
    matrix: Param<[[f32; 2]; 2]>,
    vector: Param<[f32; 2]>,
}

#[derive(Module, Clone, Debug, Default, PartialEq)]
struct Net {
    by_default: Block,
    #[module(quantize)]
    quantized: Block,
    #[module(keep)]
    kept: Block,
    #[module(scheme = "per-channel-symmetric-int8:axis=-1")]
    named: Block,
    #[module(scheme = INT4)]
    constant: Block,
    #[module(scheme = Schemes::by_bits::<2>())]
    computed: Block,
    #[module(quantize, scheme = INT4)]
    both: Block,
    #[module(scheme = "per-tensor-affine-int8")]
    inner_wins: Inner,
}

#[derive(Module, Clone, Debug, Default, PartialEq)]
enum Inner {
    #[default]
    None,
    Some(#[module(keep)] Param<[f32; 2]>, Param<[f32; 2]>),
}

/// What a plan for `Net` does: a scheme or, for none, float.
fn plan() -> Vec<(String, Option<String>, Reason)> {
    let inner_wins = Inner::Some(Param::new([1.0; 2]), Param::new([1.0; 2]));
    let net = doubled(Net { inner_wins, ..Net::default() });
    let quantizer = Quantizer {
        calibration: MinMaxCalibration {},
        scheme: QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8),
    };
    let plan = quantizer.plan(&net).unwrap();
    let outcome = |action: &Action| match action {
        Action::Quantize { scheme, .. } => Some(scheme.to_string()),
        _ => None,
    };
    let params = plan.params().iter();
    params.map(|p| (p.id.to_string(), outcome(&p.action), p.reason.clone())).collect()
}

#[track_caller]
fn assert_planned(field: &str, matrix: Option<&str>, vector: Option<&str>) {
    let find = |path: String| plan().into_iter().find(|(id, ..)| *id == path).unwrap();
    let (_, found_matrix, _) = find(format!("{field}.matrix"));
    let (_, found_vector, _) = find(format!("{field}.vector"));
    assert_eq!((found_matrix.as_deref(), found_vector.as_deref()), (matrix, vector));
}

#[test]
fn without_a_directive_rank_decides() {
    assert_planned("by_default", Some("per-tensor-symmetric-int8"), None);
}

#[test]
fn quantize_overrules_the_rank() {
    let scheme = Some("per-tensor-symmetric-int8");
    assert_planned("quantized", scheme, scheme);
}

#[test]
fn keep_keeps_every_rank_float() {
    assert_planned("kept", None, None);
}

#[test]
fn a_scheme_is_a_name_or_a_constant_of_any_form() {
    let named = Some("per-channel-symmetric-int8:axis=-1");
    assert_planned("named", named, named);
    let constant = Some("per-tensor-affine-int4");
    assert_planned("constant", constant, constant);
    assert_planned("both", constant, constant);
    let computed = Some("per-tensor-symmetric-int2");
    assert_planned("computed", computed, computed);
}

#[test]
fn the_innermost_directive_wins() {
    let inner: Vec<_> = plan().into_iter().filter(|(id, ..)| id.starts_with("inner")).collect();
    let outcome = |i: usize| (inner[i].0.as_str(), inner[i].1.as_deref(), inner[i].2.clone());
    assert_eq!(outcome(0), ("inner_wins.Some.0", None, Reason::Attribute));
    let scheme = Some("per-tensor-affine-int8");
    assert_eq!(outcome(1), ("inner_wins.Some.1", scheme, Reason::Attribute));
}

#[test]
fn a_directive_ends_with_its_field() {
    #[derive(Module)]
    struct Layer {
        #[module(quantize)]
        first: Param<[f32; 2]>,
        second: Param<[f32; 2]>,
    }
    let layer = Layer { first: Param::new([1.0; 2]), second: Param::new([1.0; 2]) };
    let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme: INT4 };
    let layer = layer.quantize_weights(quantizer).unwrap();
    assert!(layer.first.is_quantized() && !layer.second.is_quantized());
}
