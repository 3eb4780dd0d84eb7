//! What shapes the operations take: the checks that every backend shares.

use quant::ParamId;
use quant::activation::{ActivationMode, ActivationQuantizer};

use crate::error::ForwardError;
use quant_kernels::{ConvError, LinearError};

/// The quantizer of a layer's input, and the operation that the layer runs.
#[derive(Clone, Copy)]
pub(crate) struct LayerInput<'a> {
    pub(crate) operation: &'static str,
    pub(crate) quantizer: &'a ActivationQuantizer,
}

impl<'a> LayerInput<'a> {
    pub(crate) fn linear(quantizer: &'a ActivationQuantizer) -> Self {
        Self { operation: "linear", quantizer }
    }

    /// The layer in errors: its path, or its operation where the quantizer does not know the path.
    pub(crate) fn layer(self) -> ParamId {
        let path = self.quantizer.id().and_then(|id| id.as_str().rsplit_once('.'));
        path.map_or(self.operation, |(layer, _)| layer).into()
    }

    /// Refuses to run a float weight where the input is to be quantized.
    pub(crate) fn check_float(self) -> Result<(), ForwardError> {
        match self.quantizer.mode() {
            ActivationMode::Dynamic(_) | ActivationMode::Static(_) => {
                Err(ForwardError::FloatWeight { layer: self.layer() })
            }
            _ => Ok(()),
        }
    }

    /// The error of a failed product; a value that is not finite is the error of the activation.
    pub(crate) fn product_error(self, source: LinearError) -> ForwardError {
        match source {
            LinearError::NonFinite(source) => {
                ForwardError::Activation(self.quantizer.non_finite(source))
            }
            source => ForwardError::Product { layer: self.layer(), source },
        }
    }

    /// The error of a failed convolution; a value that is not finite is the error of the
    /// activation.
    pub(crate) fn convolution_error(self, source: ConvError) -> ForwardError {
        match source {
            ConvError::Linear(source) => self.product_error(source),
            source => ForwardError::Convolution { layer: self.layer(), source },
        }
    }

    /// The error that a tensor of this layer has the wrong shape.
    pub(crate) fn shape_error(self, expected: impl Into<String>, found: &[usize]) -> ForwardError {
        ForwardError::Shape { layer: self.layer(), expected: expected.into(), found: found.into() }
    }
}

/// The error that a tensor of an operation without a path has the wrong shape.
pub(crate) fn shape_error(
    operation: &str,
    expected: impl Into<String>,
    found: &[usize],
) -> ForwardError {
    ForwardError::Shape { layer: operation.into(), expected: expected.into(), found: found.into() }
}

/// The number of outputs of `x · wᵀ + b`.
pub(crate) fn linear(
    x: &[usize],
    weight: &[usize],
    bias: Option<&[usize]>,
    input: LayerInput<'_>,
) -> Result<usize, ForwardError> {
    let &[outputs, inputs] = weight else {
        return Err(input.shape_error("a weight of shape [out, in]", weight));
    };
    if x.last() != Some(&inputs) {
        return Err(input.shape_error(format!("an input of shape […, {inputs}]"), x));
    }
    check_bias(bias, outputs, input)?;
    Ok(outputs)
}

/// Checks that a bias has one element for each output.
pub(crate) fn check_bias(
    bias: Option<&[usize]>,
    outputs: usize,
    input: LayerInput<'_>,
) -> Result<(), ForwardError> {
    match bias {
        Some(shape) if *shape != [outputs] => {
            Err(input.shape_error(format!("a bias of shape [{outputs}]"), shape))
        }
        _ => Ok(()),
    }
}

/// The number of columns of an embedding's weight; every index is a row of it.
pub(crate) fn embedding(indices: &[u32], weight: &[usize]) -> Result<usize, ForwardError> {
    let &[rows, columns] = weight else {
        return Err(shape_error("embedding", "a weight of shape [rows, columns]", weight));
    };
    match indices.iter().position(|&index| index as usize >= rows) {
        Some(position) => Err(ForwardError::Index { position, index: indices[position], rows }),
        None => Ok(columns),
    }
}

/// Checks that an order has one index for each column of `x`, and no other.
pub(crate) fn check_permutation(x: &[usize], order: &[u32]) -> Result<(), ForwardError> {
    let columns = order.len();
    if x.last() != Some(&columns) {
        let expected = format!("an input of shape […, {columns}]");
        return Err(shape_error("permute_columns", expected, x));
    }
    match order.iter().position(|&index| index as usize >= columns) {
        Some(position) => {
            Err(ForwardError::Index { position, index: order[position], rows: columns })
        }
        None => Ok(()),
    }
}

/// Checks that the weight and the bias of a layer norm have one element for each column of `x`.
pub(crate) fn check_layer_norm(
    x: &[usize],
    weight: &[usize],
    bias: &[usize],
) -> Result<(), ForwardError> {
    let columns = x.last().copied().unwrap_or(1);
    for shape in [weight, bias] {
        if shape.iter().product::<usize>() != columns {
            let expected = format!("weight and bias of shape [{columns}]");
            return Err(shape_error("layer_norm", expected, shape));
        }
    }
    Ok(())
}

/// Checks that the weight of an RMS norm has one element for each column of `x`.
pub(crate) fn check_rms_norm(x: &[usize], weight: &[usize]) -> Result<(), ForwardError> {
    let columns = x.last().copied().unwrap_or(1);
    if weight.iter().product::<usize>() == columns {
        return Ok(());
    }
    Err(shape_error("rms_norm", format!("a weight of shape [{columns}]"), weight))
}

/// Checks that two activations of an operation have the same shape.
pub(crate) fn check_equal(operation: &str, x: &[usize], y: &[usize]) -> Result<(), ForwardError> {
    if x == y {
        return Ok(());
    }
    Err(shape_error(operation, format!("values of shape {x:?}"), y))
}

/// The heads of attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Heads of queries.
    pub(crate) queries: usize,
    /// Heads of keys, and of values.
    pub(crate) keys: usize,
    /// Columns of one head.
    pub(crate) dim: usize,
}

/// The heads of queries, keys and values of these shapes, whose sequences have these lengths.
pub(crate) fn causal_attention(
    [q, k, v]: [&[usize]; 3],
    heads: usize,
    lengths: &[usize],
) -> Result<Heads, ForwardError> {
    const OPERATION: &str = "causal_attention";
    let refuse = |expected: String, found: &[usize]| Err(shape_error(OPERATION, expected, found));
    let &[tokens, columns] = q else {
        return refuse("queries of shape [tokens, heads · d]".into(), q);
    };
    if heads == 0 || columns == 0 || !columns.is_multiple_of(heads) {
        return refuse(format!("queries of shape [tokens, a multiple of {heads}]"), q);
    }
    let dim = columns / heads;
    let key_heads = k.last().map_or(0, |columns| columns / dim);
    if *k != [tokens, key_heads * dim] || key_heads == 0 || !heads.is_multiple_of(key_heads) {
        let expected = format!("keys of shape [{tokens}, a divisor of {heads} · {dim}]");
        return refuse(expected, k);
    }
    if v != k {
        return refuse(format!("values of shape {k:?}"), v);
    }
    check_lengths(OPERATION, lengths, tokens)?;
    Ok(Heads { queries: heads, keys: key_heads, dim })
}

/// Checks that sequences of these lengths have as many tokens together.
pub(crate) fn check_lengths(
    operation: &str,
    lengths: &[usize],
    tokens: usize,
) -> Result<(), ForwardError> {
    let sum = lengths.iter().try_fold(0usize, |sum, &length| sum.checked_add(length));
    if sum == Some(tokens) {
        return Ok(());
    }
    Err(shape_error(operation, format!("lengths whose sum is {tokens}"), lengths))
}

/// `[batch, channels, height, width]` of images.
pub(crate) fn images(operation: &str, x: &[usize]) -> Result<[usize; 4], ForwardError> {
    let expected = "an input of shape [batch, channels, height, width]";
    x.try_into().map_err(|_| shape_error(operation, expected, x))
}

/// The images that a batch norm takes: it has as many channels as each of its parameters.
pub(crate) fn batch_norm(x: &[usize], params: [&[usize]; 4]) -> Result<[usize; 4], ForwardError> {
    let images = images("batch_norm", x)?;
    let channels = images[1];
    match params.into_iter().find(|shape| shape.iter().product::<usize>() != channels) {
        Some(shape) => {
            Err(shape_error("batch_norm", format!("parameters of shape [{channels}]"), shape))
        }
        None => Ok(images),
    }
}

/// Checks that there is one ceiling, or one for each channel of `[batch, channels, …]`; how many neighbours
/// belong to a channel.
pub(crate) fn clipped_relu(x: &[usize], ceilings: usize) -> Result<usize, ForwardError> {
    match x {
        _ if ceilings == 1 => Ok(x.iter().product()),
        &[_, channels, ref rest @ ..] if channels == ceilings => Ok(rest.iter().product()),
        _ => {
            let expected = format!("an input of shape [batch, {ceilings}, …]");
            Err(shape_error("clipped_relu", expected, x))
        }
    }
}

/// The shape with the axes from `axis` on joined.
pub(crate) fn flatten(shape: &[usize], axis: usize) -> Result<Vec<usize>, ForwardError> {
    if axis >= shape.len() {
        return Err(shape_error("flatten", format!("an input that has an axis {axis}"), shape));
    }
    let (outer, joined) = shape.split_at(axis);
    Ok(outer.iter().copied().chain([joined.iter().product()]).collect())
}
