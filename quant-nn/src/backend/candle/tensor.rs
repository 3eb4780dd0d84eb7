//! What `Tensor` and `Var` have in common as storages of parameters.

use candle_core::{DType, Tensor, Var};

use quant::FloatTensor;
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

/// Whether the functions on slices can compute with this tensor.
pub(super) fn on_cpu_in_f32(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}
