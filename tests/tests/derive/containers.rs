//! The modules of the standard library as fields.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use quant::{Module, Param};

use crate::{doubled, param, paths};

#[derive(Module, Clone, Debug, Default, PartialEq)]
struct Scale {
    by: Param<f32>,
}

fn scale(by: f32) -> Scale {
    Scale { by: param(by) }
}

#[derive(Module, Clone, Debug, Default, PartialEq)]
struct All {
    option: Option<Scale>,
    vec: Vec<Scale>,
    array: [Scale; 2],
    tuple: (Scale, u8, Param<f32>),
    boxed: Box<Scale>,
    map: BTreeMap<String, Scale>,
    phantom: PhantomData<Scale>,
    deep: Vec<Option<Box<(Scale,)>>>,
}

#[test]
fn positions_and_keys_are_steps_and_wrappers_are_not() {
    let all = All {
        option: Some(scale(1.0)),
        vec: vec![scale(1.0), scale(2.0)],
        map: [("b".to_owned(), scale(1.0)), ("a".to_owned(), scale(2.0))].into(),
        deep: vec![None, Some(Box::new((scale(1.0),)))],
        ..All::default()
    };
    let expected = [
        "option.by",
        "vec.0.by",
        "vec.1.by",
        "array.0.by",
        "array.1.by",
        "tuple.0.by",
        "tuple.2",
        "boxed.by",
        "map.a.by",
        "map.b.by",
        "deep.1.0.by",
    ];
    assert_eq!(paths(all), expected);
}

#[test]
fn a_map_reaches_into_containers() {
    let all = All { vec: vec![scale(3.0)], boxed: Box::new(scale(2.0)), ..All::default() };
    let twice = doubled(all);
    assert_eq!((twice.vec, *twice.boxed), (vec![scale(6.0)], scale(4.0)));
}

#[test]
fn empty_containers_have_no_parameters() {
    #[derive(Module, Default)]
    struct Empty {
        option: Option<Scale>,
        vec: Vec<Scale>,
        map: BTreeMap<String, Scale>,
        array: [Scale; 0],
    }
    assert!(paths(Empty::default()).is_empty());
}
