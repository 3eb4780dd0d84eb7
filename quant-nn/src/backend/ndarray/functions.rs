//! The operations as functions over arrays of any rank, for layers of your own.

use ndarray::{Array, Array2, ArrayD, Dimension, Ix2, IxDyn};
use quant::FloatTensor;
use quant::activation::ActivationQuantizer;

use super::param::CpuParam;
use super::reuse::linear_into;
use super::{float, language};
use crate::backend::shape;
use crate::error::ForwardError;

/// `x · wᵀ + b`: `x` is `[…, in]`, `w` is `[out, in]`, `b` is `[out]`, the result `[…, out]`.
///
/// Weight and bias may be of any rank type: `Param<Array2<f32>>`, `Param<ArrayD<f32>>`. What is
/// computed depends on the weight and on `input`; see [the crate](crate). Packed weights stay in
/// the [cache](quant::Param::cache) of `weight`, so that they are packed once.
///
/// ```
/// use ndarray::{Array1, Array2, arr2};
/// use quant::activation::ActivationQuantizer;
/// use quant::scheme::ActivationScheme;
/// use quant::{Module, Param, Recipe};
///
/// #[derive(Module)]
/// struct Dense { weight: Param<Array2<f32>>, bias: Param<Array1<f32>>, input: ActivationQuantizer }
///
/// impl Dense {
///     fn forward(&self, x: &Array2<f32>) -> Result<Array2<f32>, quant_nn::ForwardError> {
///         quant_nn::linear(x, &self.weight, Some(&self.bias), &self.input)
///     }
/// }
///
/// let dense = Dense {
///     weight: arr2(&[[1.0, 2.0], [3.0, -4.0]]).into(),
///     bias: Array1::zeros(2).into(),
///     input: ActivationQuantizer::new(),
/// };
/// let recipe = Recipe::new()
///     .scheme("per-channel-symmetric-int8".parse()?)
///     .activations(ActivationScheme::DYNAMIC);
/// let dense = dense.quantize(&recipe)?;
/// let y = dense.forward(&arr2(&[[1.0, 0.5]]))?; // in integers
/// assert!((y[[0, 0]] - 2.0).abs() < 0.05 && (y[[0, 1]] - 1.0).abs() < 0.05);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Shapes that do not fit, an activation that is not finite where it is quantized, a weight whose
/// scheme no kernel executes, or an input that is to be quantized in front of a float weight.
pub fn linear<D: Dimension>(
    x: &Array<f32, D>,
    weight: &dyn CpuParam,
    bias: Option<&dyn CpuParam>,
    input: &ActivationQuantizer,
) -> Result<Array<f32, D>, ForwardError> {
    let mut y = Array::zeros(D::zeros(x.ndim()));
    linear_into(x, weight, bias, input, &mut y)?;
    Ok(y)
}

/// The rows of `w`, `[rows, n]`, at `indices`: `[indices, n]`. Rows of a quantized weight are
/// dequantized when they are looked up.
///
/// # Errors
/// An index out of range, or a weight that is not of rank 2.
pub fn embedding(indices: &[u32], weight: &dyn CpuParam) -> Result<Array2<f32>, ForwardError> {
    let columns = shape::embedding(indices, &weight.shape())?;
    let mut y = vec![0.0; indices.len() * columns];
    language::embedding(indices, weight, columns, &mut y)?;
    Ok(array::<Ix2>(&[indices.len(), columns], y))
}

/// `(x - mean) / sqrt(variance + ε) · w + b` over the last axis of `x`, `[…, n]`; `w` and `b` are
/// `[n]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn layer_norm<D: Dimension>(
    x: &Array<f32, D>,
    weight: &dyn CpuParam,
    bias: &dyn CpuParam,
    epsilon: f32,
) -> Result<Array<f32, D>, ForwardError> {
    shape::check_layer_norm(x.shape(), &weight.shape(), &bias.shape())?;
    let mut y = FloatTensor::values(x).into_owned();
    float::layer_norm(&mut y, &weight.values(), &bias.values(), epsilon);
    Ok(array(x.shape(), y))
}

/// The columns of `x`, `[…, n]`, in another order: column `i` is that at `order[i]`. A layer of your
/// own that has an [`InputOrder`](crate::InputOrder) calls this with its indices.
///
/// ```
/// use ndarray::arr2;
/// let y = quant_nn::permute_columns(&arr2(&[[1.0, 2.0, 3.0]]), &[2, 0, 1])?;
/// assert_eq!(y, arr2(&[[3.0, 1.0, 2.0]]));
/// # Ok::<(), quant_nn::ForwardError>(())
/// ```
///
/// # Errors
/// `order` does not have `n` indices, each below `n`.
pub fn permute_columns<D: Dimension>(
    x: &Array<f32, D>,
    order: &[u32],
) -> Result<Array<f32, D>, ForwardError> {
    shape::check_permutation(x.shape(), order)?;
    let values = FloatTensor::values(x);
    let mut y = Vec::with_capacity(values.len());
    for row in values.chunks(order.len().max(1)) {
        y.extend(order.iter().map(|&index| row[index as usize]));
    }
    Ok(array(x.shape(), y))
}

/// The array of as many values as the shape has elements; `D` has the rank of the shape.
pub(super) fn array<D: Dimension>(shape: &[usize], values: Vec<f32>) -> Array<f32, D> {
    ArrayD::from_shape_vec(IxDyn(shape), values)
        .expect("as many values as the shape has elements")
        .into_dimensionality()
        .expect("an operation keeps the rank of its input")
}
