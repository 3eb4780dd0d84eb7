//! Models whose tensors are candle's (feature `candle`).
//!
//! [`FloatTensor`](quant::FloatTensor) is implemented for [`Tensor`](candle_core::Tensor) and
//! [`Var`](candle_core::Var), so a model of theirs is derived, planned, quantized, mapped, saved
//! and loaded like any other; a record is loaded onto the device where the model's tensors live.
//! [`Backend`](crate::Backend) is implemented for both, too: the layers of [this crate](crate)
//! run over them, and gradients flow.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use quant_nn::{Linear, Unary, Backend};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let weight = Var::from_vec(vec![1.0f32, -2.0, 0.5, 3.0], (2, 2), &Device::Cpu)?;
//! let layer = Linear::new(weight.clone(), None)?;
//! let x = Tensor::new(&[[1.0f32, 2.0]], &Device::Cpu)?;
//! let y = Var::unary(layer.forward(&x)?, Unary::Relu)?;
//! let gradients = y.sum_all()?.backward()?;
//! let dw = gradients.get(&weight).unwrap().to_vec2::<f32>()?;
//! assert_eq!(dw, [[0.0, 0.0], [1.0, 2.0]]); // the first output is below 0
//! # Ok(())
//! # }
//! ```
//!
//! # Where numbers are computed
//!
//! On the CPU and in f32, what a layer *returns* is computed by the functions that also run over
//! `ndarray`, and candle's graph is used for gradients: so a model gives the same bits as its
//! twin on the host, but for float products and convolutions, whose sums have no fixed order.
//! Quantized weights run on the CPU's integer kernels (rule 6) wherever the model lives.
//!
//! How a model is trained so that its integers are good is said in [`training`](crate::training).

mod device;
mod execute;
mod fake;
mod op;
mod product;
mod tensor;

pub use fake::FakeQuantize;

pub use device::as_on_a_device;

pub(crate) use tensor::{as_variable, variable};

use crate::error::ForwardError;

fn backend(error: candle_core::Error) -> ForwardError {
    ForwardError::Backend(error.to_string())
}
