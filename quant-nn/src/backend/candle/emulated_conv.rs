//! Convolutions on devices that have no integer kernels.
//!
//! candle's convolutions have one stride and one dilation for both axes. A transposed convolution is
//! one of the input with zeros between its pixels, with the kernel turned, so that it needs no
//! stride at all.

use candle_core::{Result as CandleResult, Tensor};

use super::backend_error;
use super::emulated::{Input, exact_terms, offset_codes, sum_of_segments};
use super::input::ConvArgs;
use super::op::straight_through;
use crate::backend::conv_options::ConvOptions;
use crate::backend::conv_shape::Axes;
use crate::backend::shape::LayerInput;
use crate::error::ForwardError;
use crate::ops::{Conv2dOptions, ConvTranspose2dOptions};
use crate::weights::{PackWeightsError, check_conv, check_transposed, output_channels};
use quant::tensor::QuantizedTensor;

/// A convolution over an image that candle can compute.
pub(super) trait Emulated: Copy {
    /// The images, the weights and the options of an ordinary convolution with the same result, but for what is
    /// [cut off](Self::cut).
    fn as_conv(self, x: &Tensor, weight: &Tensor) -> CandleResult<(Tensor, Tensor, Conv2dOptions)>;

    /// How many pixels of the result lie above and left of those that are wanted.
    fn cut(self) -> [usize; 2] {
        [0, 0]
    }

    /// Refuses what the kernels refuse.
    fn check(self, weight: &QuantizedTensor) -> Result<(), PackWeightsError>;

    /// The index of the scale of each output channel, if there is more than one.
    fn channels(self, weight: &[usize]) -> Vec<usize>;
}

impl Emulated for Conv2dOptions {
    fn as_conv(self, x: &Tensor, weight: &Tensor) -> CandleResult<(Tensor, Tensor, Self)> {
        Ok((x.clone(), weight.clone(), self))
    }

    fn check(self, weight: &QuantizedTensor) -> Result<(), PackWeightsError> {
        check_conv(weight)
    }

    fn channels(self, weight: &[usize]) -> Vec<usize> {
        (0..weight[0]).collect()
    }
}

impl Emulated for ConvTranspose2dOptions {
    fn as_conv(self, x: &Tensor, weight: &Tensor) -> CandleResult<(Tensor, Tensor, Conv2dOptions)> {
        let Self { stride, output_padding, dilation, groups, .. } = self;
        let (_, _, height, width) = weight.dims4()?;
        let x = spread(&spread(x, 2, stride[0])?, 3, stride[1])?;
        let reach = [(height - 1) * dilation[0], (width - 1) * dilation[1]];
        let padding = [0, 1].map(|i| [reach[i], reach[i] + output_padding[i]]);
        let options = Conv2dOptions::new().padding_sides(padding).dilation(dilation).groups(groups);
        Ok((x, turned(weight, groups)?, options))
    }

    fn cut(self) -> [usize; 2] {
        self.padding.map(|[before, _]| before)
    }

    fn check(self, weight: &QuantizedTensor) -> Result<(), PackWeightsError> {
        check_transposed(weight, self.groups)
    }

    fn channels(self, weight: &[usize]) -> Vec<usize> {
        output_channels(weight, self.groups).collect()
    }
}

/// A convolution of any kind [as an ordinary one](Emulated::as_conv) over an image.
fn as_conv<O: ConvOptions<In2d: Emulated>>(
    options: O,
    x: &Tensor,
    weight: &Tensor,
) -> CandleResult<(Tensor, Tensor, Conv2dOptions)> {
    match O::AXES {
        Axes::Sequence => options.in_2d().as_conv(&x.unsqueeze(2)?, &weight.unsqueeze(2)?),
        Axes::Image => options.in_2d().as_conv(x, weight),
    }
}

/// `x` with `stride - 1` zeros between neighbours along an axis.
fn spread(x: &Tensor, axis: usize, stride: usize) -> CandleResult<Tensor> {
    let mut dims = x.dims().to_vec();
    let len = (dims[axis] - 1) * stride + 1;
    dims[axis] *= stride;
    let with_zeros = x.unsqueeze(axis + 1)?.pad_with_zeros(axis + 1, 0, stride - 1)?;
    with_zeros.reshape(dims)?.narrow(axis, 0, len)?.contiguous()
}

/// `[in, out / groups, height, width]` as `[out, in / groups, height, width]`, with each kernel turned
/// by half a turn.
fn turned(weight: &Tensor, groups: usize) -> CandleResult<Tensor> {
    let (inputs, group_out, height, width) = weight.dims4()?;
    let by_output = weight
        .reshape((groups, inputs / groups, group_out, height * width))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((groups * group_out, inputs / groups, height * width))?;
    let reversed: Vec<u32> = (0..(height * width) as u32).rev().collect();
    by_output
        .index_select(&Tensor::from_vec(reversed, height * width, weight.device())?, 2)?
        .reshape((groups * group_out, inputs / groups, height, width))
}

/// The convolution in floats, by candle.
pub(super) fn in_floats<O: ConvOptions<In2d: Emulated>>(
    x: &Tensor,
    weight: &Tensor,
    args: ConvArgs<'_, O>,
    dims: &[usize],
) -> Result<Tensor, ForwardError> {
    let run = || {
        let (x, weight, conv) = as_conv(args.options, x, weight)?;
        let y = wanted(&conv2d(&x, &weight, conv)?, args.options.in_2d(), dims)?;
        add_bias(&y, args.bias)?.reshape(dims)
    };
    run().map_err(backend_error)
}

/// The convolution in whole numbers.
pub(super) fn in_whole_numbers<O: ConvOptions<In2d: Emulated>>(
    x: &Tensor,
    codes: &QuantizedTensor,
    weight: &Tensor,
    args: ConvArgs<'_, O>,
    dims: &[usize],
) -> Result<Tensor, ForwardError> {
    let ConvArgs { bias, options: kind, layer } = args;
    let options = kind.in_2d();
    let refused = |source| ForwardError::Pack { layer: layer.layer(), source };
    options.check(codes).map_err(refused)?;
    let input = Input::new(x, layer)?;
    let run = || {
        let (w, largest) = offset_codes(codes, weight)?;
        let (x, w, conv) = as_conv(kind, &input.offset_codes, &w)?;
        let acc = exact_sums(&x, &w, conv, exact_terms(&input, largest), layer)?;
        let acc = wanted(&acc, options, dims)?;
        let scales = scales(codes, &input, options.channels(weight.dims()))?;
        let y = acc.broadcast_mul(&scales)?;
        let y = add_bias(&y, bias.map(Tensor::detach).as_ref())?;
        let (x, weight, conv) = as_conv(kind, &input.graph, weight)?;
        let float = add_bias(&wanted(&conv2d(&x, &weight, conv)?, options, dims)?, bias)?;
        straight_through(&y, &float)?.reshape(dims)
    };
    run().map_err(backend_error)
}

/// Sums of whole numbers, cut along the input channels so that each is exact.
fn exact_sums(
    x: &Tensor,
    w: &Tensor,
    options: Conv2dOptions,
    terms: usize,
    layer: LayerInput<'_>,
) -> CandleResult<Tensor> {
    let (_, channels, height, width) = w.dims4()?;
    let at_once = terms / (height * width).max(1);
    if at_once == 0 || (options.groups > 1 && channels > at_once) {
        candle_core::bail!(
            "{}: sums over {channels} channels of {height} × {width} kernel positions can reach \
             2^24, and cannot be cut",
            layer.layer()
        );
    }
    if options.groups > 1 {
        return conv2d(x, w, options);
    }
    sum_of_segments(channels, at_once, |at, len| {
        let of = |t: &Tensor| t.narrow(1, at, len)?.contiguous();
        conv2d(&of(x)?, &of(w)?, options)
    })
}

/// `sa · sw` for each output channel, `[1, out, 1, 1]`.
fn scales(codes: &QuantizedTensor, input: &Input, channels: Vec<usize>) -> CandleResult<Tensor> {
    let all = codes.scales();
    let scale = |&channel: &usize| all[if all.len() == 1 { 0 } else { channel }];
    let scales: Vec<f32> =
        channels.iter().map(|channel| input.fixed.params.scale() * scale(channel)).collect();
    Tensor::from_vec(scales, (1, channels.len(), 1, 1), input.offset_codes.device())
}

fn add_bias(y: &Tensor, bias: Option<&Tensor>) -> CandleResult<Tensor> {
    match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
        None => Ok(y.clone()),
    }
}

/// The part of a result that is the result of these options, `[batch, out, height, width]`.
fn wanted(y: &Tensor, options: impl Emulated, dims: &[usize]) -> CandleResult<Tensor> {
    let [top, left] = options.cut();
    let (height, width) = match *dims {
        [_, _, height, width] => (height, width),
        [.., width] => (1, width),
        [] => (1, 1),
    };
    y.narrow(2, top, height)?.narrow(3, left, width)?.contiguous()
}

/// An ordinary convolution.
fn conv2d(x: &Tensor, weight: &Tensor, options: Conv2dOptions) -> CandleResult<Tensor> {
    let Conv2dOptions { stride, padding, dilation, groups } = options;
    if stride[0] != stride[1] || dilation[0] != dilation[1] {
        candle_core::bail!(
            "candle convolves with equal strides and equal dilations only, not with {options:?}"
        );
    }
    let [[top, bottom], [left, right]] = padding;
    let mut x = x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?;
    // candle's gradient fails where the last positions of an axis are not used.
    for axis in [2, 3] {
        let reach = dilation[0] * (weight.dim(axis)? - 1) + 1;
        let used = (x.dim(axis)? - reach) / stride[0] * stride[0] + reach;
        x = x.narrow(axis, 0, used)?;
    }
    x.contiguous()?.conv2d(weight, 0, stride[0], dilation[0], groups)
}
