//! Convolutions on devices that have no integer kernels.

use candle_core::{Result as CandleResult, Tensor};

use super::backend_error;
use super::emulated::{Input, exact_terms, offset_codes, scales, sum_of_segments};
use super::input::ConvArgs;
use super::op::straight_through;
use crate::error::ForwardError;
use crate::ops::Conv2dOptions;
use quant::tensor::QuantizedTensor;

/// The convolution in floats, by candle.
pub(super) fn float_conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    options: Conv2dOptions,
) -> CandleResult<Tensor> {
    let Conv2dOptions { stride, padding, dilation, groups } = options;
    if stride[0] != stride[1] || dilation[0] != dilation[1] {
        candle_core::bail!(
            "candle convolves with equal strides and equal dilations only, not with {options:?}"
        );
    }
    let [[top, bottom], [left, right]] = padding;
    let x = x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?;
    let y = x.conv2d(weight, 0, stride[0], dilation[0], groups)?;
    match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
        None => Ok(y),
    }
}

/// The convolution in whole numbers, cut along the input channels.
pub(super) fn conv2d(
    x: &Tensor,
    codes: &QuantizedTensor,
    weight: &Tensor,
    args: ConvArgs<'_>,
) -> Result<Tensor, ForwardError> {
    let ConvArgs { bias, options, layer } = args;
    let x = Input::new(x, layer)?;
    let run = || {
        let (outputs, channels, height, width) = weight.dims4()?;
        let (w, largest) = offset_codes(codes, weight)?;
        let at_once = exact_terms(&x, largest) / (height * width).max(1);
        if at_once == 0 || (options.groups > 1 && channels > at_once) {
            candle_core::bail!(
                "{}: sums over {channels} channels of {height} × {width} kernel positions can reach \
                 2^24, and cannot be cut",
                layer.layer()
            );
        }
        let acc = if options.groups > 1 {
            float_conv2d(&x.offset_codes, &w, None, options)?
        } else {
            sum_of_segments(channels, at_once, |at, len| {
                let of = |t: &Tensor| t.narrow(1, at, len)?.contiguous();
                float_conv2d(&of(&x.offset_codes)?, &of(&w)?, None, options)
            })?
        };
        let scales = scales(codes, &x, outputs, 1, 0)?.reshape((1, outputs, 1, 1))?;
        let y = acc.broadcast_mul(&scales)?;
        let y = match bias {
            Some(bias) => y.broadcast_add(&bias.detach().reshape((1, outputs, 1, 1))?)?,
            None => y,
        };
        straight_through(&y, &float_conv2d(&x.graph, weight, bias, options)?)
    };
    run().map_err(backend_error)
}
