//! The backend over `ndarray`: integer products by `quant-kernels`, float products and functions by
//! the crates of `rten`.
//!
//! The public operations are in `functions.rs` and `conv_functions.rs`; start reading there.
//! `integer.rs`, `float.rs`, `integer_conv.rs`, `float_conv.rs` and `pool.rs` compute on slices, and serve the
//! candle backend, too; `convolution.rs` chooses between the two kinds of convolutions.

mod attention;
mod conv_functions;
pub(crate) mod convolution;
mod elements;
pub(crate) mod float;
mod float_conv;
mod functions;
pub(crate) mod integer;
mod integer_conv;
pub(crate) mod language;
mod param;
pub(crate) mod pool;
mod reuse;

use ndarray::ArrayD;

pub use attention::{attention, causal_attention};
pub use conv_functions::{conv_transpose1d, conv_transpose2d, conv1d, conv2d};
pub use float::matmul;
pub use functions::{embedding, layer_norm, linear, permute_columns};
pub use integer::pack;
pub use param::{CpuParam, CpuStorage};
pub use reuse::{
    causal_attention_into, embedding_into, keep_rows, linear_into, rms_norm_into, rope, swiglu,
};

use convolution::Convolution;
use functions::array;

use super::conv_options::ConvOptions;
use super::{Backend, shape};
use crate::error::ForwardError;
use crate::ops::{
    BatchNormParams, Conv1dOptions, ConvParams, ConvTranspose1dOptions, ConvTranspose2dOptions,
    LinearParams, Pool, Unary,
};
use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;
use quant_kernels::{Rope, RopeAngles};
use reuse::{Product, products_into};

impl Backend for ArrayD<f32> {
    type Activation = Self;

    fn linear(
        x: &Self,
        weight: &Param<Self>,
        bias: Option<&Param<Self>>,
        input: &ActivationQuantizer,
    ) -> Result<Self, ForwardError> {
        linear(x, weight, bias.map(|bias| bias as &dyn CpuParam), input)
    }

    fn linear_into<const N: usize>(
        x: &Self,
        products: [LinearParams<'_, Self>; N],
        outputs: [&mut Self; N],
    ) -> Result<(), ForwardError> {
        let products = products.map(|LinearParams { weight, bias, input }| Product {
            weight,
            bias: bias.map(|bias| bias as &dyn CpuParam),
            input,
        });
        products_into(x, products, outputs)
    }

    fn conv2d(x: &Self, conv: ConvParams<'_, Self>) -> Result<Self, ForwardError> {
        convolve(x, conv)
    }

    fn conv1d(x: &Self, conv: ConvParams<'_, Self, Conv1dOptions>) -> Result<Self, ForwardError> {
        convolve(x, conv)
    }

    fn conv_transpose2d(
        x: &Self,
        conv: ConvParams<'_, Self, ConvTranspose2dOptions>,
    ) -> Result<Self, ForwardError> {
        convolve(x, conv)
    }

    fn conv_transpose1d(
        x: &Self,
        conv: ConvParams<'_, Self, ConvTranspose1dOptions>,
    ) -> Result<Self, ForwardError> {
        convolve(x, conv)
    }

    fn batch_norm(x: &Self, norm: BatchNormParams<'_, Self>) -> Result<Self, ForwardError> {
        let params = norm.params();
        let shapes = params.map(Param::shape);
        let shapes = shapes.each_ref().map(|shape| &**shape);
        let [_, _, height, width] = shape::batch_norm(x.shape(), shapes)?;
        let values = params.map(CpuParam::values);
        let mut y = FloatTensor::values(x).into_owned();
        let values = values.each_ref().map(|values| &**values);
        float::batch_norm(&mut y, height * width, values, norm.epsilon);
        Ok(array(x.shape(), y))
    }

    fn pool2d(x: &Self, pool: Pool) -> Result<Self, ForwardError> {
        let geometry = pool::PoolGeometry::new(x.shape(), pool)?;
        let y = geometry.forward(&FloatTensor::values(x));
        Ok(array(&geometry.output_dims(), y))
    }

    fn embedding(indices: &[u32], weight: &Param<Self>) -> Result<Self, ForwardError> {
        embedding(indices, weight).map(ndarray::ArrayBase::into_dyn)
    }

    fn embedding_into(
        indices: &[u32],
        weight: &Param<Self>,
        y: &mut Self,
    ) -> Result<(), ForwardError> {
        embedding_into(indices, weight, y)
    }

    fn rms_norm(x: &Self, weight: &Param<Self>, epsilon: f32) -> Result<Self, ForwardError> {
        let mut y = array(&[0], Vec::new());
        rms_norm_into(x, weight, epsilon, &mut y)?;
        Ok(y)
    }

    fn rms_norm_into(
        x: &Self,
        weight: &Param<Self>,
        epsilon: f32,
        y: &mut Self,
    ) -> Result<(), ForwardError> {
        rms_norm_into(x, weight, epsilon, y)
    }

    fn layer_norm(
        x: &Self,
        weight: &Param<Self>,
        bias: &Param<Self>,
        epsilon: f32,
    ) -> Result<Self, ForwardError> {
        layer_norm(x, weight, bias, epsilon)
    }

    fn permute_columns(x: &Self, order: &[u32]) -> Result<Self, ForwardError> {
        permute_columns(x, order)
    }

    fn flatten(x: Self, axis: usize) -> Result<Self, ForwardError> {
        let shape = shape::flatten(x.shape(), axis)?;
        Ok(array(&shape, x.into_values()))
    }

    fn unary(x: Self, function: Unary) -> Result<Self, ForwardError> {
        in_place(x, |values| float::unary(values, function))
    }

    fn clipped_relu(x: Self, ceilings: &[f32]) -> Result<Self, ForwardError> {
        let run = shape::clipped_relu(x.shape(), ceilings.len())?;
        in_place(x, |values| {
            elements::clipped_relu(values, run, ceilings);
            Ok(())
        })
    }

    fn softmax(x: Self) -> Result<Self, ForwardError> {
        let row = x.shape().last().copied().unwrap_or(1).max(1);
        in_place(x, |values| {
            float::softmax(values, row);
            Ok(())
        })
    }

    fn add(mut x: Self, y: &Self) -> Result<Self, ForwardError> {
        shape::check_equal("add", x.shape(), y.shape())?;
        x += y;
        Ok(x)
    }

    fn rope(
        mut x: Self,
        heads: usize,
        of: &Rope,
        angles: &RopeAngles,
    ) -> Result<Self, ForwardError> {
        rope(&mut x, heads, of, angles)?;
        Ok(x)
    }

    fn causal_attention(
        qkv: [&Self; 3],
        heads: usize,
        lengths: &[usize],
    ) -> Result<Self, ForwardError> {
        causal_attention(qkv, heads, lengths)
    }

    fn swiglu(mut gate: Self, up: &Self) -> Result<Self, ForwardError> {
        swiglu(&mut gate, up)?;
        Ok(gate)
    }
}

fn convolve<O: ConvOptions<Geometry: Convolution>>(
    x: &ArrayD<f32>,
    ConvParams { weight, bias, options, input }: ConvParams<'_, ArrayD<f32>, O>,
) -> Result<ArrayD<f32>, ForwardError> {
    conv_functions::convolve(x, weight, bias.map(|bias| bias as &dyn CpuParam), options, input)
}

/// `x` after `f` has changed its values, in row-major order, in place.
fn in_place(
    x: ArrayD<f32>,
    f: impl FnOnce(&mut [f32]) -> Result<(), ForwardError>,
) -> Result<ArrayD<f32>, ForwardError> {
    let shape = x.shape().to_vec();
    let mut values = x.into_values();
    f(&mut values)?;
    Ok(array(&shape, values))
}
