//! Nothing that stands around an item disturbs its expansion, nor the other way round.

use quant::Module as _;

use crate::{param, paths};

/// Names that the expansion might have used.
mod names {
    #![allow(non_camel_case_types, non_upper_case_globals)]

    use quant::{Module, Param};

    #[derive(Module)]
    pub(crate) struct Fields {
        pub mapper: Param<f32>,
        pub visitor: Param<f32>,
        pub self_: Param<f32>,
        pub walker: Param<f32>,
        pub __walker: Param<f32>,
        pub __0: Param<f32>,
        pub __field0: Param<f32>,
        pub __quant: Param<f32>,
        pub quant: Param<f32>,
        pub walk: Param<f32>,
    }

    #[derive(Module)]
    pub(crate) struct Generics<V, T, M, W, Self_>(pub V, pub T, pub M, pub W, pub Self_);

    #[derive(Module)]
    pub(crate) struct walker<'walker, quant, const field: usize>(
        pub &'walker str,
        pub [quant; field],
    );
}

#[test]
fn fields_and_generics_may_have_any_name() {
    let f = || param(1.0);
    let fields = names::Fields {
        mapper: f(),
        visitor: f(),
        self_: f(),
        walker: f(),
        __walker: f(),
        __0: f(),
        __field0: f(),
        __quant: f(),
        quant: f(),
        walk: f(),
    };
    assert_eq!(fields.num_params(), 10);
    assert_eq!(paths(fields)[4..6], ["__walker", "__0"]);
    assert_eq!(paths(names::Generics(f(), f(), f(), f(), f())), ["0", "1", "2", "3", "4"]);
    assert_eq!(paths(names::walker("", [f(), f()])), ["1.0", "1.1"]);
}

/// Types and functions that shadow what the expansion might have meant.
mod shadows {
    pub(crate) struct Option;
    pub(crate) struct Result;
    pub(crate) struct String;
    pub(crate) struct Box;
    pub(crate) struct Vec;
    pub(crate) struct Walker;
    pub(crate) struct WalkerMut;
    pub(crate) struct Directive;
    pub(crate) struct QuantizationScheme;
    pub(crate) mod quant {}
    pub(crate) mod core {}
    pub(crate) trait Module {
        fn walk(&self) {}
        fn walk_mut(&mut self) {}
        fn field(&self) {}
    }
    impl<T> Module for T {}
    #[allow(unused_macros)]
    macro_rules! compile_error {
        () => {};
    }

    #[derive(::quant::Module)]
    pub(crate) struct Param {
        #[module(skip)]
        pub option: Option,
        #[module(skip)]
        pub others: (Result, String, Box, Vec, Walker, WalkerMut, Directive, QuantizationScheme),
        #[module(scheme = "per-tensor-symmetric-int8")]
        pub value: ::quant::Param<f32>,
        #[module(keep)]
        pub next: ::std::option::Option<::std::boxed::Box<Param>>,
    }

    #[derive(::quant::Module)]
    pub(crate) enum Some {
        None,
        Ok(::quant::Param<f32>),
    }
}

#[test]
fn types_around_the_item_may_have_any_name() {
    use shadows::*;
    let param = shadows::Param {
        option: Option,
        others: (Result, String, Box, Vec, Walker, WalkerMut, Directive, QuantizationScheme),
        value: param(1.0),
        next: None,
    };
    assert_eq!(paths(param), ["value"]);
    assert_eq!(paths(Some::Ok(crate::param(1.0))), ["Ok.0"]);
    assert_eq!(paths(Some::None).len(), 0);
}

/// Nothing is imported, not even by the compiler.
mod no_prelude {
    #![no_implicit_prelude]

    use ::core::prelude::v1::derive;

    #[derive(::quant::Module)]
    pub(crate) struct Layer<'a, T: ::quant::FloatTensor, L, const N: usize> {
        pub value: ::quant::Param<T>,
        #[module(rename = "others", keep)]
        pub layers: [L; N],
        #[module(scheme = "per-tensor-symmetric-int8")]
        pub next: ::core::option::Option<::std::boxed::Box<Layer<'a, T, L, N>>>,
        #[module(skip)]
        pub name: &'a str,
    }

    #[derive(::quant::Module)]
    pub(crate) enum Choice {
        None,
        Tuple(::quant::Param<f32>, #[module(skip)] f32),
        Struct { value: ::quant::Param<f32> },
    }

    #[derive(::quant::Module)]
    pub(crate) enum Never {}

    #[derive(::quant::Module)]
    pub(crate) struct Unit;
}

#[test]
fn no_prelude_is_needed() {
    let layer = no_prelude::Layer { value: param(1.0), layers: [param(2.0)], next: None, name: "" };
    assert_eq!(paths(layer), ["value", "others.0"]);
    assert_eq!(paths(no_prelude::Choice::Tuple(param(1.0), 0.0)), ["Tuple.0"]);
    assert_eq!(paths(no_prelude::Choice::Struct { value: param(1.0) }), ["Struct.value"]);
    assert!(paths(no_prelude::Unit).is_empty());
}

macro_rules! layer {
    ($(#[$attr:meta])* $name:ident<$generic:ident> { $($(#[$field_attr:meta])* $field:ident: $ty:ty),* }) => {
        $(#[$attr])*
        #[derive(quant::Module)]
        struct $name<$generic> {
            own: quant::Param<f32>,
            generic: $generic,
            $($(#[$field_attr])* $field: $ty),*
        }
    };
}

macro_rules! renamed {
    ($name:ident, $new:literal, $scheme:expr, $krate:path, $ty:ty) => {
        #[derive(quant::Module)]
        #[module(crate = $krate)]
        struct $name {
            #[module(rename = $new, scheme = $scheme)]
            value: $ty,
            others: Vec<$ty>,
        }
    };
}

#[test]
fn items_may_come_from_macros() {
    layer!(Layer<T> { #[module(skip)] cache: f32, value: Option<T>, __walker: quant::Param<f32> });
    let layer = Layer {
        own: param(1.0),
        generic: param(2.0),
        cache: 0.0,
        value: None,
        __walker: param(3.0),
    };
    assert_eq!(layer.cache, 0.0);
    assert_eq!(paths(layer), ["own", "generic", "__walker"]);

    renamed!(Renamed, "new.name", "per-tensor-symmetric-int8", ::quant, quant::Param<f32>);
    let renamed = Renamed { value: param(1.0), others: vec![param(2.0)] };
    assert_eq!(paths(renamed), ["new.name", "others.0"]);
}

#[test]
fn types_may_come_from_macros() {
    macro_rules! param_of {
        ($ty:ty) => { quant::Param<$ty> };
    }
    #[derive(quant::Module)]
    struct Layer<T: quant::FloatTensor> {
        value: param_of!(T),
        other: Vec<param_of![f32]>,
    }
    let layer = Layer { value: param(1.0), other: vec![param(2.0)] };
    assert_eq!(paths(layer), ["value", "other.0"]);
}

#[test]
fn items_may_stand_in_functions() {
    use quant::{Module, Param};
    const SCHEME: quant::QuantizationScheme =
        quant::QuantizationScheme::PerTensorSymmetric(quant::QuantizationType::QInt8);
    #[derive(Module)]
    struct Local {
        #[module(scheme = SCHEME)]
        value: Param<f32>,
    }
    assert_eq!(paths(Local { value: param(1.0) }), ["value"]);
}
