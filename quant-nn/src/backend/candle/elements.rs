//! Functions of elements, with gradients.

use candle_core::{Result as CandleResult, Tensor};
use quant_kernels::Kernel;

use super::backend_error;
use super::op::{precomputed_binary, precomputed_unary};
use super::tensor::{on_cpu_in_f32, values};
use crate::backend::ndarray::{float, language};
use crate::backend::shape;
use crate::error::ForwardError;
use crate::ops::Unary;

pub(super) fn unary(x: &Tensor, function: Unary) -> Result<Tensor, ForwardError> {
    if !on_cpu_in_f32(x) {
        return graph(x, function).map_err(backend_error);
    }
    let arguments = values(x).map_err(backend_error)?;
    let mut y = arguments.clone();
    float::unary(&mut y, function)?;
    let of_slope = match function {
        Unary::Gelu | Unary::Silu => arguments,
        Unary::Relu | Unary::Tanh | Unary::Sigmoid => y.clone(),
    };
    precomputed_unary("unary", x, x.shape(), y, move |dy| {
        let slopes = of_slope.iter().map(|&value| slope(function, value));
        dy.mul(&Tensor::from_vec(slopes.collect(), dy.shape(), dy.device())?)
    })
    .map_err(backend_error)
}

fn graph(x: &Tensor, function: Unary) -> CandleResult<Tensor> {
    match function {
        Unary::Relu => x.relu(),
        Unary::Gelu => x.gelu_erf(),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
        Unary::Silu => x.silu(),
    }
}

/// `min(max(x, 0), ceiling)` for `[batch, channels, …]`, with one ceiling or one for each channel.
pub(super) fn clipped_relu(x: &Tensor, ceilings: &[f32]) -> CandleResult<Tensor> {
    let mut shape = vec![1; x.rank()];
    if let (Some(channels), 2..) = (shape.get_mut(1), ceilings.len()) {
        *channels = ceilings.len();
    }
    let ceilings = Tensor::new(ceilings, x.device())?.to_dtype(x.dtype())?.reshape(shape)?;
    x.relu()?.broadcast_minimum(&ceilings)
}

/// The derivative of a function, given its value; of GELU and `SiLU`, given its argument.
fn slope(function: Unary, value: f32) -> f32 {
    match function {
        Unary::Relu => f32::from(u8::from(value > 0.0)),
        Unary::Tanh => 1.0 - value * value,
        Unary::Sigmoid => value * (1.0 - value),
        Unary::Gelu => {
            let x = f64::from(value);
            let density = (-0.5 * x * x).exp() / core::f64::consts::TAU.sqrt();
            (0.5 * (1.0 + candle_core::cpu::erf::erf_f64(x / core::f64::consts::SQRT_2))
                + x * density) as f32
        }
        Unary::Silu => {
            let sigmoid = 1.0 / (1.0 + (-value).exp());
            sigmoid * (1.0 + value * (1.0 - sigmoid))
        }
    }
}

/// `silu(gate) · up`
pub(super) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor, ForwardError> {
    shape::check_equal("swiglu", gate.dims(), up.dims())?;
    if !on_cpu_in_f32(gate) || !on_cpu_in_f32(up) {
        return gate.silu().and_then(|gate| gate.mul(up)).map_err(backend_error);
    }
    let gate_values = values(gate).map_err(backend_error)?;
    let up_values = values(up).map_err(backend_error)?;
    let mut y = gate_values.clone();
    language::swiglu(&mut y, &up_values)?;
    let up_value = up.detach();
    precomputed_binary("swiglu", [gate, up], gate.shape(), y, move |dy| {
        let tensor = |values| Tensor::from_vec(values, dy.shape(), dy.device());
        let slopes = gate_values.iter().map(|&gate| slope(Unary::Silu, gate));
        let mut silu = gate_values.clone();
        Kernel::current().silu(&mut silu);
        let of_gate = dy.mul(&up_value)?.mul(&tensor(slopes.collect())?)?;
        Ok([Some(of_gate), Some(dy.mul(&tensor(silu)?)?)])
    })
    .map_err(backend_error)
}
