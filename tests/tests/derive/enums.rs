//! Enums: the variant is the first step of the path.

use quant::{Module, Param};

use crate::{doubled, param, paths};

#[derive(Module, Clone, Debug, Default, PartialEq)]
enum Layer {
    #[default]
    Identity,
    Scale(Param<f32>),
    Affine {
        weight: Param<f32>,
        steps: u8,
        bias: Param<f32>,
    },
    Both(Box<Layer>, u8, Box<Layer>),
}

fn affine() -> Layer {
    Layer::Affine { weight: param(1.0), steps: 3, bias: param(2.0) }
}

#[test]
fn a_unit_variant_has_no_parameters() {
    assert!(paths(Layer::Identity).is_empty());
    assert_eq!(doubled(Layer::Identity), Layer::Identity);
}

#[test]
fn variant_and_position_name_the_field_of_a_tuple_variant() {
    assert_eq!(paths(Layer::Scale(param(1.0))), ["Scale.0"]);
}

#[test]
fn variant_and_field_name_the_field_of_a_struct_variant() {
    assert_eq!(paths(affine()), ["Affine.weight", "Affine.bias"]);
}

#[test]
fn variants_nest() {
    let both = Layer::Both(affine().into(), 1, Layer::Scale(param(1.0)).into());
    let expected = ["Both.0.Affine.weight", "Both.0.Affine.bias", "Both.2.Scale.0"];
    assert_eq!(paths(both), expected);
}

#[test]
fn a_map_keeps_the_variant() {
    let expected = Layer::Affine { weight: param(2.0), steps: 3, bias: param(4.0) };
    assert_eq!(doubled(affine()), expected);
}

#[test]
fn an_enum_without_variants_is_a_module() {
    #[derive(Module, Clone, Copy, Debug)]
    enum Never {}
    #[derive(Module)]
    struct Layer {
        never: Option<Never>,
        value: Param<f32>,
    }
    assert_eq!(paths(Layer { never: None, value: param(1.0) }), ["value"]);
}

#[test]
fn discriminants_do_not_matter() {
    #[derive(Module)]
    #[repr(u8)]
    enum Numbered {
        Zero(Param<f32>) = 0,
        Seven { value: Param<f32> } = 7,
    }
    assert_eq!(paths(Numbered::Zero(param(1.0))), ["Zero.0"]);
    assert_eq!(paths(Numbered::Seven { value: param(1.0) }), ["Seven.value"]);
}

#[test]
fn raw_names_are_stored_without_their_mark() {
    #[derive(Module)]
    #[allow(non_camel_case_types)]
    enum r#enum {
        r#struct { r#fn: Param<f32> },
    }
    assert_eq!(paths(r#enum::r#struct { r#fn: param(1.0) }), ["struct.fn"]);
}
