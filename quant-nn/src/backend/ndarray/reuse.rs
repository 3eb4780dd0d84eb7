//! The operations whose outputs are arrays that the caller keeps. Once these have grown to the largest
//! call, the operations of quantized weights allocate nothing.

use core::mem;

use ndarray::{Array, ArrayD, Dimension};
use quant::FloatTensor;
use quant::activation::{ActivationMode, ActivationQuantizer};
use quant_kernels::{KeyValueCache, Rope, RopeAngles};

use super::integer::{self, Operands, Rows};
use super::param::CpuParam;
use super::{float, language};
use crate::backend::shape::{self, LayerInput, shape_error};
use crate::error::ForwardError;

/// What [`linear_into`] takes beside its input, for one of several products of the same input.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) weight: &'a dyn CpuParam,
    pub(crate) bias: Option<&'a dyn CpuParam>,
    pub(crate) input: &'a ActivationQuantizer,
}

/// [`linear`](crate::linear) into `y`, which takes the shape of the result.
///
/// ```
/// use ndarray::{Array2, arr2};
/// use quant::Param;
/// use quant::activation::{ActivationMode, ActivationQuantizer};
///
/// let weight: Param<Array2<f32>> = arr2(&[[1.0, 2.0], [3.0, -4.0]]).into();
/// let mut y = Array2::zeros((0, 0));
/// let input = ActivationQuantizer::new();
/// quant_nn::linear_into(&arr2(&[[1.0, 0.5]]), &weight, None, &input, &mut y)?;
/// assert_eq!(y, arr2(&[[2.0, 1.0]]));
/// # Ok::<(), quant_nn::ForwardError>(())
/// ```
///
/// # Errors
/// As for [`linear`](crate::linear); `y` is then unspecified.
pub fn linear_into<D: Dimension>(
    x: &Array<f32, D>,
    weight: &dyn CpuParam,
    bias: Option<&dyn CpuParam>,
    input: &ActivationQuantizer,
    y: &mut Array<f32, D>,
) -> Result<(), ForwardError> {
    product_into(x, Product { weight, bias, input }, y)
}

fn product_into<D: Dimension>(
    x: &Array<f32, D>,
    Product { weight, bias, input }: Product<'_>,
    y: &mut Array<f32, D>,
) -> Result<(), ForwardError> {
    let layer = LayerInput::linear(input);
    let bias_shape = bias.map(CpuParam::shape);
    let outputs = shape::linear(x.shape(), &weight.shape(), bias_shape.as_deref(), layer)?;
    let values = FloatTensor::values(x);
    let count = x.shape()[..x.ndim() - 1].iter().product();
    input.observe_rows(&values, inputs(x))?;
    let bias = bias.map(CpuParam::values);
    let bias = bias.as_deref();
    let y = reshaped(y, with_columns(x.raw_dim(), outputs));
    match weight.quantized() {
        None => {
            layer.check_float()?;
            float::linear(&values, count, weight, bias, y)?;
        }
        Some(tensor) => {
            let x = Rows { values: &values, count };
            integer::linear(Operands { x, bias, layer }, tensor, weight.cache(), y)?;
        }
    }
    input.observe_outputs(y, 1);
    Ok(())
}

/// Several products of the same input. Where all quantize it alike, it is quantized once.
pub(crate) fn products_into<D: Dimension, const N: usize>(
    x: &Array<f32, D>,
    products: [Product<'_>; N],
    mut outputs: [&mut Array<f32, D>; N],
) -> Result<(), ForwardError> {
    // If something fails, each alone says which layer it is.
    if share_input(&products) && together(x, &products, outputs.each_mut())? {
        return Ok(());
    }
    for (product, y) in products.into_iter().zip(outputs) {
        product_into(x, product, y)?;
    }
    Ok(())
}

/// Whether several products quantize their input, all alike, and none shows its outputs.
fn share_input(products: &[Product<'_>]) -> bool {
    let [first, _, ..] = products else { return false };
    let mode = first.input.mode();
    matches!(mode, ActivationMode::Dynamic(_) | ActivationMode::Static(_))
        && products.iter().all(|of| of.weight.quantized().is_some() && of.input.mode() == mode)
        && !products.iter().any(|of| of.input.observes_outputs())
}

/// Products that share their quantized input; whether all could be computed.
fn together<D: Dimension, const N: usize>(
    x: &Array<f32, D>,
    products: &[Product<'_>; N],
    outputs: [&mut &mut Array<f32, D>; N],
) -> Result<bool, ForwardError> {
    let values = FloatTensor::values(x);
    let biases = products.map(|of| of.bias.map(CpuParam::values));
    let mut parts = products.iter().zip(&biases).zip(outputs);
    let mut shared = [const { None }; N];
    for shared in &mut shared {
        let Some(((of, bias), y)) = parts.next() else { break };
        let layer = LayerInput::linear(of.input);
        let bias_shape = of.bias.map(CpuParam::shape);
        let columns = shape::linear(x.shape(), &of.weight.shape(), bias_shape.as_deref(), layer)?;
        of.input.observe_rows(&values, inputs(x))?;
        let Some(weight) = of.weight.quantized() else { return Ok(false) };
        let y = reshaped(y, with_columns(x.raw_dim(), columns));
        let (bias, cache) = (bias.as_deref(), of.weight.cache());
        *shared = Some(integer::Product { bias, layer, weight, cache, y });
    }
    let count = x.shape()[..x.ndim() - 1].iter().product();
    let shared = shared.map(|product| product.expect("one for each"));
    Ok(integer::linears(Rows { values: &values, count }, shared).is_ok())
}

/// [`embedding`](crate::embedding) into `y`.
///
/// # Errors
/// As for [`embedding`](crate::embedding).
pub fn embedding_into(
    indices: &[u32],
    weight: &dyn CpuParam,
    y: &mut ArrayD<f32>,
) -> Result<(), ForwardError> {
    let columns = shape::embedding(indices, &weight.shape())?;
    let y = reshaped(y, ndarray::IxDyn(&[indices.len(), columns]));
    language::embedding(indices, weight, columns, y)
}

/// `x / sqrt(mean(x²) + ε) · w` over the last axis of `x`, `[…, n]`, into `y`; `w` is `[n]`. By rule 16 of
/// `docs/numerics.md`, with the same bits on every CPU.
///
/// # Errors
/// Shapes that do not fit.
pub fn rms_norm_into<D: Dimension>(
    x: &Array<f32, D>,
    weight: &dyn CpuParam,
    epsilon: f32,
    y: &mut Array<f32, D>,
) -> Result<(), ForwardError> {
    shape::check_rms_norm(x.shape(), &weight.shape())?;
    let y = reshaped(y, x.raw_dim());
    language::rms_norm(&FloatTensor::values(x), &weight.values(), epsilon, y)
}

/// `silu(gate) · up`, in the place of `gate`, where `silu(x) = x / (1 + exp(-x))`. By rule 16 of
/// `docs/numerics.md`, with the same bits on every CPU.
///
/// ```
/// use ndarray::arr1;
/// let mut gate = arr1(&[0.0, 2.0]);
/// quant_nn::swiglu(&mut gate, &arr1(&[1.0, 3.0]))?;
/// assert_eq!(gate, arr1(&[0.0, 5.2847824]));
/// # Ok::<(), quant_nn::ForwardError>(())
/// ```
///
/// # Errors
/// Shapes that differ.
pub fn swiglu<D: Dimension>(
    gate: &mut Array<f32, D>,
    up: &Array<f32, D>,
) -> Result<(), ForwardError> {
    shape::check_equal("swiglu", gate.shape(), up.shape())?;
    let dim = gate.raw_dim();
    language::swiglu(reshaped(gate, dim), &FloatTensor::values(up))
}

/// Turns each head of queries or keys, `[tokens, heads · head_dim]`, by the angles of its position, in
/// place. By rule 16 of `docs/numerics.md`, with the same bits on every CPU.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn rope<D: Dimension>(
    x: &mut Array<f32, D>,
    heads: usize,
    rope: &Rope,
    angles: &RopeAngles,
) -> Result<(), ForwardError> {
    let dim = x.raw_dim();
    language::rope(reshaped(x, dim), heads, rope, angles)
}

/// Attention of new tokens of some sequences to all tokens of their own sequence so far, into `y`,
/// `[tokens, heads · head_dim]`.
///
/// `queries` are `[tokens, heads · head_dim]`, `keys` and `values` have as many columns as the heads of
/// the caches. `caches` has, for each sequence, the number of its new tokens, whose rows follow each
/// other, and its cache, to which their keys and values are appended. A token attends to itself and to
/// earlier ones, with numbers of rule 17 of `docs/numerics.md`: results do not depend on the batch, on how
/// many tokens come at a time, on threads or on the CPU.
///
/// # Errors
/// Shapes that do not fit, a cache that is full, or keys and values that are not finite. The new tokens of
/// earlier sequences are then in their caches.
pub fn causal_attention_into<'c, D: Dimension>(
    [queries, keys, values]: [&Array<f32, D>; 3],
    heads: usize,
    caches: impl IntoIterator<Item = (usize, &'c mut KeyValueCache)>,
    y: &mut Array<f32, D>,
) -> Result<(), ForwardError> {
    let dim = queries.raw_dim();
    for other in [keys, values] {
        if other.ndim() != 2 || dim.ndim() != 2 || other.shape()[0] != dim.slice()[0] {
            let expected = format!("queries, keys and values of {} tokens", dim.slice()[0]);
            return Err(shape_error("causal_attention", expected, other.shape()));
        }
    }
    let y = reshaped(y, dim);
    let inputs = [queries, keys, values].map(FloatTensor::values);
    let rows = queries.shape()[0];
    language::causal_attention(inputs.each_ref().map(|values| &**values), rows, heads, caches, y)
}

/// Keeps these rows of `x`, which are ascending, and drops the others.
///
/// ```
/// use ndarray::arr2;
/// let mut x = arr2(&[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
/// quant_nn::keep_rows(&mut x, [0, 2])?;
/// assert_eq!(x, arr2(&[[1.0, 2.0], [5.0, 6.0]]));
/// # Ok::<(), quant_nn::ForwardError>(())
/// ```
///
/// # Errors
/// A row that does not exist, or that is not after the one before it.
pub fn keep_rows<D: Dimension>(
    x: &mut Array<f32, D>,
    rows: impl IntoIterator<Item = usize>,
) -> Result<(), ForwardError> {
    let mut dim = x.raw_dim();
    let [all, rest @ ..] = dim.slice() else {
        return Err(shape_error("keep_rows", "an input of at least one axis", &[]));
    };
    let (all, row) = (*all, rest.iter().product::<usize>());
    let slice = reshaped(x, dim.clone());
    let (mut kept, mut next) = (0, 0);
    for index in rows {
        if index < next || index >= all {
            let expected = format!("ascending rows of which {index} is one");
            return Err(shape_error("keep_rows", expected, &[all, row]));
        }
        slice.copy_within(index * row..(index + 1) * row, kept * row);
        (kept, next) = (kept + 1, index + 1);
    }
    dim[0] = kept;
    reshaped(x, dim);
    Ok(())
}

/// The extent of the last axis.
fn inputs<D: Dimension>(x: &Array<f32, D>) -> usize {
    x.shape().last().copied().unwrap_or(1)
}

/// The shape with another number of columns.
fn with_columns<D: Dimension>(mut dim: D, columns: usize) -> D {
    if let Some(last) = dim.slice_mut().last_mut() {
        *last = columns;
    }
    dim
}

/// The values of `y`, which gets this shape. Those that it had first, in row-major order, stay; others are
/// unspecified.
fn reshaped<D: Dimension>(y: &mut Array<f32, D>, dim: D) -> &mut [f32] {
    if y.raw_dim() != dim || !y.is_standard_layout() {
        let old = mem::replace(y, Array::zeros(D::zeros(dim.ndim())));
        let mut values = if old.is_standard_layout() {
            let (values, offset) = old.into_raw_vec_and_offset();
            if offset.unwrap_or(0) == 0 { values } else { Vec::new() }
        } else {
            old.into_values()
        };
        values.resize(dim.size(), 0.0);
        *y = Array::from_shape_vec(dim, values).expect("as many values as the shape has elements");
    }
    y.as_slice_mut().expect("it is in standard layout")
}
