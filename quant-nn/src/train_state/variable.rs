//! The variables of candle behind parameters.

use candle_core::{Tensor, Var};
use quant::module::ParamView;

/// The variable that a parameter holds, if it does: a `Var`, or a `Tensor` made from one.
pub(crate) fn variable(param: ParamView<'_>) -> Option<Var> {
    if let Some(var) = param.downcast_ref::<Var>() {
        return Some(var.clone());
    }
    param.downcast_ref::<Tensor>().and_then(as_variable)
}

/// The tensor as a variable, if it is one: another handle to the same memory.
pub(crate) fn as_variable(tensor: &Tensor) -> Option<Var> {
    if tensor.is_variable() { Var::from_tensor(tensor).ok() } else { None }
}
