//! Structs of every shape.

use quant::{Module, Param};

use crate::{doubled, param, paths};

#[derive(Module, Clone, Debug, Default, PartialEq)]
struct Dense {
    weight: Param<[[f32; 2]; 2]>,
    bias: Param<[f32; 2]>,
    inputs: usize,
}

#[derive(Module, Clone, Debug, Default, PartialEq)]
struct Mlp {
    fc1: Dense,
    fc2: Dense,
    name: String,
}

#[test]
fn fields_are_walked_in_the_order_of_their_declaration() {
    assert_eq!(paths(Mlp::default()), ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
}

#[test]
fn a_map_reaches_every_parameter_and_nothing_else() {
    let dense = Dense { weight: Param::new([[1.0, 2.0], [3.0, 4.0]]), ..Dense::default() };
    let mlp = Mlp { fc2: Dense { inputs: 2, ..dense }, name: "mlp".into(), ..Mlp::default() };
    let twice = doubled(mlp.clone());
    assert_eq!(*twice.fc2.weight.value(), [[2.0, 4.0], [6.0, 8.0]]);
    assert_eq!((twice.fc1, twice.fc2.inputs, twice.name), (mlp.fc1, 2, mlp.name));
}

#[test]
fn scalars_are_counted() {
    assert_eq!(Mlp::default().num_params(), 12);
}

#[test]
fn positions_name_the_fields_of_a_tuple_struct() {
    #[derive(Module)]
    struct Pair(Param<f32>, u8, Dense);
    let pair = Pair(param(1.0), 2, Dense::default());
    assert_eq!(paths(pair), ["0", "2.weight", "2.bias"]);
}

#[test]
fn a_newtype_adds_a_step() {
    #[derive(Module)]
    struct Scale(Param<f32>);
    assert_eq!(paths(Scale(param(1.0))), ["0"]);
    assert_eq!(*doubled(Scale(param(1.0))).0.value(), 2.0);
}

#[test]
fn structs_without_fields_have_no_parameters() {
    #[derive(Module, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    struct Unit;
    #[derive(Module)]
    struct Braces {}
    #[derive(Module)]
    struct Parentheses();
    assert_eq!(Unit.num_params() + Braces {}.num_params() + Parentheses().num_params(), 0);
    assert_eq!(doubled(Unit), Unit);
}

#[test]
fn constants_have_no_parameters() {
    #[derive(Module)]
    struct Constants {
        signed: (i8, i16, i32, i64, i128, isize),
        unsigned: (u8, u16, u32, u64, u128, usize),
        flag: bool,
        letter: char,
        owned: String,
        borrowed: &'static str,
        nothing: (),
    }
    let constants = Constants {
        signed: (0, 0, 0, 0, 0, 0),
        unsigned: (0, 0, 0, 0, 0, 0),
        flag: true,
        letter: 'q',
        owned: String::new(),
        borrowed: "",
        nothing: (),
    };
    assert!(paths(constants).is_empty());
}

#[test]
fn raw_names_are_stored_without_their_mark() {
    #[derive(Module)]
    struct Raw {
        r#type: Param<f32>,
        r#match: Param<f32>,
    }
    assert_eq!(paths(Raw { r#type: param(1.0), r#match: param(2.0) }), ["type", "match"]);
}

#[test]
fn a_module_may_hold_itself() {
    #[derive(Module)]
    struct Tree {
        value: Param<f32>,
        left: Option<Box<Tree>>,
        others: Vec<Self>,
    }
    let leaf = || Tree { value: param(1.0), left: None, others: vec![] };
    let tree = Tree { left: Some(Box::new(leaf())), others: vec![leaf(), leaf()], ..leaf() };
    assert_eq!(paths(tree), ["value", "left.value", "others.0.value", "others.1.value"]);
}

#[test]
fn modules_may_hold_each_other() {
    #[derive(Module)]
    struct Even {
        value: Param<f32>,
        next: Option<Box<Odd>>,
    }
    #[derive(Module)]
    struct Odd {
        value: Param<f32>,
        next: Option<Box<Even>>,
    }
    let odd = Odd { value: param(1.0), next: None };
    assert_eq!(paths(Even { value: param(0.0), next: Some(odd.into()) }), ["value", "next.value"]);
}

#[test]
fn a_borrowed_name_has_the_lifetime_of_its_struct() {
    #[derive(Module)]
    struct Named<'a> {
        name: &'a str,
        value: Param<f32>,
    }
    let name = String::from("layer");
    assert_eq!(paths(Named { name: &name, value: param(1.0) }), ["value"]);
}

#[test]
fn a_derived_module_is_object_safe() {
    let boxed: Box<dyn Module> = Box::new(Mlp::default());
    assert_eq!(boxed.num_params(), 12);
}
