//! Products of a layer: of floats, with gradients; of integers, with the gradients of the floats
//! that the integers stand for.

use candle_core::{DType, Result as CandleResult, Tensor};

use super::fake::{FakeQuantize, one_group};
use super::op::{given1, given2};
use super::tensor::{Storage, values};
use super::{backend, device};
use crate::backend::ndarray::conv::{self, Geometry};
use crate::backend::ndarray::integer::{self, Operands, Rows};
use crate::backend::ndarray::{check_bias, check_linear};
use crate::error::ForwardError;
use crate::fake_quant::{FakeGroups, FakeQuantizer};
use crate::ops::Conv2dOptions;
use crate::training::{FakeWeight, learned_scale};
use quant::Param;
use quant::QuantizationType;
use quant::activation::{ActivationMode, ActivationQuantizer};
use quant::scheme::{DynamicQuantization, Grid, Mapping, Range, ScaleType};
use quant::tensor::QuantizedTensor;
use quant_kernels::Kernel;

/// A weight as a product takes it.
pub(super) enum Weight<'a, T: Storage> {
    Float(Tensor),
    /// In training: the codes, and their floats with gradients.
    Fake(QuantizedTensor, Tensor),
    Stored(&'a Param<T>, &'a QuantizedTensor),
}

impl<'a, T: Storage> Weight<'a, T> {
    pub(super) fn of(
        param: &'a Param<T>,
        input: &ActivationQuantizer,
    ) -> Result<Self, ForwardError> {
        match (param.as_float(), param.quantized()) {
            (_, Some(tensor)) => Ok(Self::Stored(param, tensor)),
            (Some(value), _) => {
                if param.attachment::<FakeWeight>().is_none() {
                    ForwardError::check_float(input)?;
                }
                Self::of_float(value.tensor(), FakeWeight::active(param), input)
            }
            (None, None) => unreachable!("a parameter is float or quantized"),
        }
    }

    /// A float weight that is quantized as `fake` says.
    pub(super) fn of_float(
        weight: &Tensor,
        fake: Option<&FakeWeight>,
        input: &ActivationQuantizer,
    ) -> Result<Self, ForwardError> {
        let Some(fake) = fake else { return Ok(Self::Float(weight.clone())) };
        let codes = fake
            .quantized(weight.dims(), &values(weight).map_err(backend)?)
            .map_err(|source| ForwardError::Weight { layer: input.name(), source })?;
        let scale = fake.learned_scale();
        let graph = fake_weight(weight, &codes, scale).map_err(backend)?;
        Ok(Self::Fake(codes, graph))
    }
}

/// What `codes` stand for, with the gradients of the weight they were made of and of its scales.
fn fake_weight(
    weight: &Tensor,
    codes: &QuantizedTensor,
    scale: Option<&Tensor>,
) -> CandleResult<Tensor> {
    let (groups, grid) = (codes.groups(), codes.scheme().grid());
    let fakes = (0..groups.count()).map(|group| FakeQuantizer::new(grid, codes.params(group)));
    let Some(fake) = FakeGroups::new(groups, fakes.collect()) else {
        candle_core::bail!("there is a quantizer for each group");
    };
    let y = codes.dequantize();
    if device::is_used(weight) {
        return device::fake_weight(weight, scale, &fake, y);
    }
    match scale {
        Some(scale) => FakeQuantize::learned(weight, scale, fake, y),
        None => FakeQuantize::straight(weight, fake, y),
    }
}

/// The input of an integer product as the floats that its codes stand for, with gradients.
/// `row` is the number of elements that share a dynamic range.
fn fake_input(
    x: &Tensor,
    held: &[f32],
    input: &ActivationQuantizer,
    row: usize,
) -> Result<Tensor, ForwardError> {
    match input.mode() {
        ActivationMode::Static(fixed) => {
            let fake = one_group(x.dims(), fixed.into());
            let y = fake.forward(held);
            match learned_scale(input) {
                Some(scale) => FakeQuantize::learned(x, scale, fake, y),
                None => FakeQuantize::straight(x, fake, y),
            }
            .map_err(backend)
        }
        ActivationMode::Dynamic(DynamicQuantization { mapping, per_row }) => {
            let grid = Grid::new(QuantizationType::QInt8, mapping, ScaleType::F32);
            let mut y = vec![0.0; held.len()];
            let row = if per_row { row } else { held.len() }.max(1);
            for (x, y) in held.chunks(row).zip(y.chunks_mut(row)) {
                // The product has refused what is not finite.
                let (lo, hi) = Kernel::current().min_max(x).unwrap_or((0.0, 0.0));
                if let Some(Ok(params)) = Range::new(lo, hi).map(|range| grid.params(range)) {
                    FakeQuantizer::new(grid, params).forward(x, y);
                }
            }
            // A range that the values have: none is outside.
            given1("fake-quantize-dynamic", x, x.shape(), y, |dy| Ok(dy.clone())).map_err(backend)
        }
        _ => Ok(x.clone()),
    }
}

/// Shows `x` to the quantizer, if it observes; refuses a learned scale that is not positive and normal.
fn enter(x: &Tensor, input: &ActivationQuantizer) -> Result<(), ForwardError> {
    if input.observes() {
        input.observe(&values(x).map_err(backend)?)?;
    }
    match input.mode() {
        ActivationMode::Static(fixed) => {
            let grid = Grid::new(QuantizationType::QInt8, Mapping::Affine, ScaleType::F32);
            let refused = |source| ForwardError::Scale { layer: input.name(), source };
            grid.store(fixed.params.scale()).map(drop).map_err(refused)
        }
        _ => Ok(()),
    }
}

/// `x · wᵀ + b`
pub(super) fn linear<T: Storage>(
    x: &Tensor,
    weight: &Param<T>,
    bias: Option<&Param<T>>,
    input: &ActivationQuantizer,
) -> Result<Tensor, ForwardError> {
    let (weight_shape, bias_shape) = (weight.shape(), bias.map(Param::shape));
    let shape = check_linear(x.dims(), &weight_shape, bias_shape.as_deref(), input)?;
    enter(x, input)?;
    let bias = bias.map(Param::value);
    let bias = bias.as_deref().map(Storage::tensor);
    let (outputs, inputs) = (weight_shape[0], weight_shape[1]);
    let rows: usize = x.dims()[..x.rank() - 1].iter().product();
    let weight = Weight::of(weight, input)?;
    if let Weight::Float(weight) = &weight {
        return float_linear(x, weight, bias, rows, &shape).map_err(backend);
    }
    if device::is_used(x)
        && let Weight::Fake(codes, graph) = &weight
    {
        return device::linear(x, codes, graph, bias, input);
    }
    let (dtype, x) = (x.dtype(), x.to_dtype(DType::F32).map_err(backend)?);
    let held = values(&x).map_err(backend)?;
    let bias_values = bias.map(values).transpose().map_err(backend)?;
    let mut y = vec![0.0; rows * outputs];
    let operands =
        Operands { x: Rows { values: &held, count: rows }, bias: bias_values.as_deref(), input };
    match &weight {
        Weight::Float(_) => {}
        Weight::Fake(codes, _) => integer::linear_once(operands, codes, &mut y)?,
        Weight::Stored(param, tensor) => {
            integer::linear(operands, tensor, param.cache(), &mut y)?;
        }
    }
    let Some(graph) = weight_graph(&weight, &x)? else {
        return Tensor::from_vec(y, shape, x.device())
            .and_then(|y| y.to_dtype(dtype))
            .map_err(backend);
    };
    let x = fake_input(&x, &held, input, inputs)?;
    linear_with_gradients(&x, &graph, rows, &shape, y)
        .and_then(|y| add_bias_gradient(y, bias, move |dy| dy.reshape((rows, outputs))?.sum(0)))
        .map_err(backend)
}

/// The floats of an integer weight, if there is a gradient to be computed with them.
fn weight_graph<T: Storage>(
    weight: &Weight<'_, T>,
    x: &Tensor,
) -> Result<Option<Tensor>, ForwardError> {
    match weight {
        Weight::Float(tensor) | Weight::Fake(_, tensor) => Ok(Some(tensor.clone())),
        Weight::Stored(_, tensor) if x.track_op() => {
            Tensor::from_vec(tensor.dequantize(), tensor.shape(), x.device())
                .map(Some)
                .map_err(backend)
        }
        Weight::Stored(..) => Ok(None),
    }
}

fn float_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    rows: usize,
    shape: &[usize],
) -> CandleResult<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let y = if rows * inputs * outputs == 0 {
        Tensor::zeros((rows, outputs), x.dtype(), x.device())?
    } else {
        x.reshape((rows, inputs))?.matmul(&weight.t()?)?
    };
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(shape)
}

/// The product's value `y`, with the gradients of the float product of `x` and `weight`.
fn linear_with_gradients(
    x: &Tensor,
    weight: &Tensor,
    rows: usize,
    shape: &[usize],
    y: Vec<f32>,
) -> CandleResult<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    if rows * inputs * outputs == 0 {
        return Tensor::from_vec(y, shape, x.device());
    }
    let (held_x, held_w) = (x.detach(), weight.detach());
    let (needs_x, needs_w) = (x.track_op(), weight.track_op());
    given2("linear", [x, weight], shape, y, move |dy| {
        let dy = dy.reshape((rows, outputs))?;
        let dx = || dy.matmul(&held_w)?.reshape(held_x.shape());
        let dw = || dy.t()?.matmul(&held_x.reshape((rows, inputs))?);
        let of = |needed: bool| needed.then_some(());
        Ok([of(needs_x).map(|()| dx()).transpose()?, of(needs_w).map(|()| dw()).transpose()?])
    })
}

/// `y`, which has the bias already, with the bias's gradient.
fn add_bias_gradient(
    y: Tensor,
    bias: Option<&Tensor>,
    gradient: impl Fn(&Tensor) -> CandleResult<Tensor> + Send + Sync + 'static,
) -> CandleResult<Tensor> {
    let Some(bias) = bias.filter(|bias| bias.track_op()) else { return Ok(y) };
    let held = values(&y)?;
    given2("bias", [&y, bias], y.shape(), held, move |dy| {
        Ok([Some(dy.clone()), Some(gradient(dy)?)])
    })
}

/// What a convolution needs besides its weight.
pub(super) struct Conv<'a> {
    pub(super) bias: Option<&'a Tensor>,
    pub(super) options: Conv2dOptions,
    pub(super) input: &'a ActivationQuantizer,
}

/// The convolution of `x` with a weight of this shape.
pub(super) fn conv2d<T: Storage>(
    x: &Tensor,
    weight: &Weight<'_, T>,
    weight_shape: &[usize],
    conv: &Conv<'_>,
) -> Result<Tensor, ForwardError> {
    let Conv { bias, options, input } = *conv;
    let geometry = conv::check(x.dims(), weight_shape, options, input)?;
    check_bias(bias.map(Tensor::dims), geometry.shape.out_channels, input)?;
    enter(x, input)?;
    let is_host = !device::is_used(x) && x.dtype() == DType::F32;
    match weight {
        Weight::Float(weight) if !is_host => {
            return device::float_conv2d(x, weight, bias, options).map_err(backend);
        }
        Weight::Fake(codes, graph) if !is_host => {
            return device::conv2d(x, codes, graph, conv);
        }
        _ => {}
    }
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32).map_err(backend)?;
    let held = values(&x).map_err(backend)?;
    let y = conv_values(&held, weight, &geometry, conv)?;
    let dims = geometry.output_dims();
    let Some(graph) = weight_graph(weight, &x)? else {
        return Tensor::from_vec(y, &dims, x.device())
            .and_then(|y| y.to_dtype(dtype))
            .map_err(backend);
    };
    let x = match weight {
        Weight::Float(_) => x,
        _ => fake_input(&x, &held, input, geometry.image_len())?,
    };
    conv_with_gradients(&x, &graph, geometry, y)
        .and_then(|y| add_bias_gradient(y, bias, |dy| dy.sum((0, 2, 3))))
        .map_err(backend)
}

/// What the host computes.
fn conv_values<T: Storage>(
    x: &[f32],
    weight: &Weight<'_, T>,
    geometry: &Geometry,
    conv: &Conv<'_>,
) -> Result<Vec<f32>, ForwardError> {
    let Conv { bias, input, .. } = *conv;
    let bias = bias.map(values).transpose().map_err(backend)?;
    let bias = bias.as_deref();
    let mut y = vec![0.0; geometry.output_dims().iter().product()];
    let is_float = integer::stays_float(input);
    let operands = Operands { x: geometry.images(x), bias, input };
    let mut in_floats = |weight: &[f32]| conv::conv2d(x, weight, bias, geometry, &mut y);
    match weight {
        Weight::Float(weight) => in_floats(&values(weight).map_err(backend)?),
        Weight::Fake(codes, _) if is_float => in_floats(&codes.dequantize()),
        Weight::Stored(param, tensor) if is_float => {
            let kept = param.cache().get_or_make(|| Ok::<_, ForwardError>(tensor.dequantize()))?;
            in_floats(&kept);
        }
        Weight::Fake(codes, _) => {
            integer::conv2d_once(operands, geometry.shape, codes, &mut y)?;
        }
        Weight::Stored(param, tensor) => {
            integer::conv2d(operands, geometry.shape, tensor, param.cache(), &mut y)?;
        }
    }
    Ok(y)
}

/// The value `y`, with the gradients of the float convolution of `x` and `weight`.
fn conv_with_gradients(
    x: &Tensor,
    weight: &Tensor,
    geometry: Geometry,
    y: Vec<f32>,
) -> CandleResult<Tensor> {
    let (held_x, held_w) = (x.detach(), weight.detach());
    given2("conv2d", [x, weight], &geometry.output_dims(), y, move |dy| {
        let (x, w, dy) = (values(&held_x)?, values(&held_w)?, values(dy)?);
        let (dx, dw) = conv::conv2d_backward(&x, &w, &geometry, &dy);
        let dx = Tensor::from_vec(dx, held_x.shape(), held_x.device())?;
        let dw = Tensor::from_vec(dw, held_w.shape(), held_w.device())?;
        Ok([Some(dx), Some(dw)])
    })
}
