//! The backend over the tensors of candle (feature `candle`).
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
//! On the CPU and in f32, the functions that also run over `ndarray` compute the outputs of a
//! layer, and candle's graph is used for gradients. So a model over candle gives the bits of the
//! same model over `ndarray`, except for float products, whose sums have no fixed order. The
//! weights of a quantized model run on the integer kernels of the CPU (rule 6), on whatever device
//! they are.
//!
//! [`training`](crate::training) trains models for few bits.
//!
//! `linear.rs`, `conv.rs`, `attention.rs`, `rope.rs`, `batch_norm.rs`, `elements.rs` and
//! `functions.rs` are the operations; `weight.rs` and `input.rs` prepare their arguments. Start
//! reading in `linear.rs`.

mod attention;
mod batch_norm;
mod conv;
mod elements;
mod emulated;
mod emulated_conv;
mod fake_quantize;
mod functions;
mod input;
mod linear;
mod op;
mod rope;
mod tensor;
mod weight;

pub use emulated::emulate_device;
pub use fake_quantize::FakeQuantize;

use candle_core::{Tensor, Var};
use quant::Param;
use quant::activation::ActivationQuantizer;
use quant_kernels::{Rope, RopeAngles};

use super::Backend;
use super::shape::{self, LayerInput};
use crate::error::ForwardError;
use crate::ops::{
    BatchNormParams, Conv1dOptions, ConvParams, ConvTranspose1dOptions, ConvTranspose2dOptions,
    Pool, Unary,
};

macro_rules! backend {
    ($storage:ty) => {
        impl Backend for $storage {
            type Activation = Tensor;

            fn linear(
                x: &Tensor,
                weight: &Param<Self>,
                bias: Option<&Param<Self>>,
                input: &ActivationQuantizer,
            ) -> Result<Tensor, ForwardError> {
                linear::linear(x, weight, bias, LayerInput::linear(input))
            }

            fn conv2d(x: &Tensor, conv: ConvParams<'_, Self>) -> Result<Tensor, ForwardError> {
                conv::convolve(x, conv)
            }

            fn conv1d(
                x: &Tensor,
                conv: ConvParams<'_, Self, Conv1dOptions>,
            ) -> Result<Tensor, ForwardError> {
                conv::convolve(x, conv)
            }

            fn conv_transpose2d(
                x: &Tensor,
                conv: ConvParams<'_, Self, ConvTranspose2dOptions>,
            ) -> Result<Tensor, ForwardError> {
                conv::convolve(x, conv)
            }

            fn conv_transpose1d(
                x: &Tensor,
                conv: ConvParams<'_, Self, ConvTranspose1dOptions>,
            ) -> Result<Tensor, ForwardError> {
                conv::convolve(x, conv)
            }

            fn conv2d_norm(
                x: &Tensor,
                conv: ConvParams<'_, Self>,
                norm: BatchNormParams<'_, Self>,
            ) -> Result<Tensor, ForwardError> {
                conv::conv2d_norm(x, conv, norm)
            }

            fn batch_norm(
                x: &Tensor,
                norm: BatchNormParams<'_, Self>,
            ) -> Result<Tensor, ForwardError> {
                batch_norm::batch_norm(x, norm)
            }

            fn pool2d(x: &Tensor, pool: Pool) -> Result<Tensor, ForwardError> {
                functions::pool2d(x, pool)
            }

            fn embedding(indices: &[u32], weight: &Param<Self>) -> Result<Tensor, ForwardError> {
                functions::embedding(indices, weight)
            }

            fn rms_norm(
                x: &Tensor,
                weight: &Param<Self>,
                epsilon: f32,
            ) -> Result<Tensor, ForwardError> {
                functions::rms_norm(x, weight, epsilon)
            }

            fn layer_norm(
                x: &Tensor,
                weight: &Param<Self>,
                bias: &Param<Self>,
                epsilon: f32,
            ) -> Result<Tensor, ForwardError> {
                functions::layer_norm(x, weight, bias, epsilon)
            }

            fn permute_columns(x: &Tensor, order: &[u32]) -> Result<Tensor, ForwardError> {
                functions::permute_columns(x, order)
            }

            fn flatten(x: Tensor, axis: usize) -> Result<Tensor, ForwardError> {
                let shape = shape::flatten(x.dims(), axis)?;
                x.reshape(shape).map_err(backend_error)
            }

            fn add(x: Tensor, y: &Tensor) -> Result<Tensor, ForwardError> {
                shape::check_equal("add", x.dims(), y.dims())?;
                x.add(y).map_err(backend_error)
            }

            fn rope(
                x: Tensor,
                heads: usize,
                rope: &Rope,
                angles: &RopeAngles,
            ) -> Result<Tensor, ForwardError> {
                rope::rope(&x, heads, rope, angles)
            }

            fn causal_attention(
                qkv: [&Tensor; 3],
                heads: usize,
                lengths: &[usize],
            ) -> Result<Tensor, ForwardError> {
                attention::causal_attention(qkv, heads, lengths)
            }

            fn swiglu(gate: Tensor, up: &Tensor) -> Result<Tensor, ForwardError> {
                elements::swiglu(&gate, up)
            }

            fn unary(x: Tensor, function: Unary) -> Result<Tensor, ForwardError> {
                elements::unary(&x, function)
            }

            fn clipped_relu(x: Tensor, ceilings: &[f32]) -> Result<Tensor, ForwardError> {
                shape::clipped_relu(x.dims(), ceilings.len())?;
                elements::clipped_relu(&x, ceilings).map_err(backend_error)
            }

            fn softmax(x: Tensor) -> Result<Tensor, ForwardError> {
                functions::softmax(&x).map_err(backend_error)
            }
        }
    };
}

backend!(Tensor);
backend!(Var);

fn backend_error(error: candle_core::Error) -> ForwardError {
    ForwardError::Backend(error.to_string())
}
