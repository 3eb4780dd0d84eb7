//! The runtime under other names, where `::quant` is something else.

extern crate core as quant;
extern crate quant as runtime;

use runtime::{Module, Param};

#[derive(Module)]
#[module(crate = runtime)]
struct ByPath {
    #[module(scheme = "per-tensor-symmetric-int8")]
    value: Param<f32>,
}

#[derive(Module)]
#[module(crate = "runtime")]
enum ByString<M> {
    Inner(#[module(keep)] M),
}

/// As of a crate that offers `quant` under its own name.
pub mod facade {
    pub extern crate quant as inner;

    macro_rules! module {
        ($name:ident { $($field:ident: $ty:ty),* }) => {
            #[derive($crate::facade::inner::Module)]
            #[module(crate = $crate::facade::inner)]
            struct $name { $($field: $ty),* }
        };
    }
    pub(crate) use module;
}

facade::module!(ByMacro { first: ByPath, second: Vec<ByString<Param<f32>>> });

mod relative {
    use runtime::{Module, Param};

    #[derive(Module)]
    #[module(crate = super::facade::inner)]
    pub(crate) struct Relative(pub Param<f32>);
}

#[test]
fn the_runtime_is_found_by_the_path_that_is_given() {
    let first = ByPath { value: Param::new(1.0) };
    let second = vec![ByString::Inner(Param::new(2.0))];
    let model = (ByMacro { first, second }, relative::Relative(Param::new(3.0)));
    let paths: Vec<_> = model.params().into_iter().map(|info| info.id.to_string()).collect();
    assert_eq!(paths, ["0.first.value", "0.second.0.Inner.0", "1.0"]);
    assert!(quant::mem::size_of::<ByPath>() > 0);
}
