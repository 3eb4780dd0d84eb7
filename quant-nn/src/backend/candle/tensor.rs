//! `Tensor` and `Var` seen as one: both are storages of parameters.

use candle_core::{DType, Tensor, Var};

use quant::FloatTensor;
use quant::module::ParamView;
use quant::tensor::CandleDevice;

/// The values in row-major order, as f32.
pub(super) fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// A storage of candle.
pub(super) trait Storage: FloatTensor<Device = CandleDevice> + Clone + 'static {
    fn tensor(&self) -> &Tensor;
}

impl Storage for Tensor {
    fn tensor(&self) -> &Tensor {
        self
    }
}

impl Storage for Var {
    fn tensor(&self) -> &Tensor {
        self
    }
}

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

/// Whether the functions on slices can compute with this tensor.
pub(super) fn on_cpu_in_f32(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}
