//! What `#[derive(Module)]` does, seen through the public interface.

#![allow(dead_code, reason = "fields are there to be walked")]
#![allow(unreachable_pub, reason = "the files of `ui/accepted` are programs and modules")]
#![allow(clippy::large_enum_variant, clippy::type_complexity, reason = "shapes are what is tested")]

mod accepted;
mod attributes;
mod containers;
mod enums;
mod generics;
mod hygiene;
mod lints;
mod structs;

use quant::{Module, ModuleMapper, Param, ParamId, Tensor};

/// A parameter of one value.
fn param(value: f32) -> Param<f32> {
    Param::new(value)
}

/// The paths of a model's parameters, which are the same by reference and in place.
fn paths<M: Module>(model: M) -> Vec<String> {
    let by_reference: Vec<_> = model.params().into_iter().map(|info| info.id).collect();
    let mut seen = Seen(Vec::new());
    let _ = model.map(&mut seen);
    assert_eq!(by_reference, seen.0);
    seen.0.into_iter().map(|id| id.to_string()).collect()
}

/// A model in which every parameter was doubled.
fn doubled<M: Module>(model: M) -> M {
    model.map(&mut Double {})
}

struct Seen(Vec<ParamId>);

impl ModuleMapper for Seen {
    fn map_float(&mut self, id: ParamId, tensor: Tensor) -> Tensor {
        self.0.push(id);
        tensor
    }
}

struct Double {}

impl ModuleMapper for Double {
    fn map_float(&mut self, _id: ParamId, tensor: Tensor) -> Tensor {
        let values = tensor.values().iter().map(|value| 2.0 * value).collect();
        Tensor::from_values(tensor.shape(), values).unwrap()
    }
}
