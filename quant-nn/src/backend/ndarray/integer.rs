//! Products of quantized weights, by the kernels of `quant-kernels`.

use std::cell::Cell;
use std::sync::Arc;

use crate::backend::shape::LayerInput;
use crate::error::ForwardError;
use crate::weights::{
    PackedTensor, pack_weights, pack_weights_for_dynamic, pack_weights_for_floats, weights,
};
use quant::activation::{ActivationMode, ActivationQuantizer};
use quant::module::Cache;
use quant::scheme::{DynamicGranularity, DynamicQuantization};
use quant::tensor::{HoldsTensor, QuantizedTensor};
use quant::{FloatTensor, Param};
use quant_kernels::{
    Activations, EmbeddingWeights, Epilogue, Kernel, LookupError, Output, PackedWeights, Scratch,
    Weights,
};

/// The input, the bias and the layer of a product.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a, X> {
    pub(crate) x: X,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) layer: LayerInput<'a>,
}

/// The rows of a matrix, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) count: usize,
}

/// A product of a weight of a parameter, whose packed form stays in `cache`, into `y`.
pub(crate) struct Product<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) layer: LayerInput<'a>,
    pub(crate) weight: &'a QuantizedTensor,
    pub(crate) cache: &'a Cache,
    pub(crate) y: &'a mut [f32],
}

/// `x · wᵀ + b` into `y`, for the weight of a parameter. The packed weight stays in `cache`.
pub(crate) fn linear(
    Operands { x, bias, layer }: Operands<'_, Rows<'_>>,
    weight: &QuantizedTensor,
    cache: &Cache,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    linears(x, [Product { bias, layer, weight, cache, y }])
}

/// Products of the same rows, whose layers quantize them alike.
pub(crate) fn linears<const N: usize>(
    x: Rows<'_>,
    products: [Product<'_>; N],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let mut packed = [const { None }; N];
    for (packed, of) in packed.iter_mut().zip(&products) {
        *packed = Some(packed_weight(kernel, of.weight, of.cache, of.layer)?);
    }
    let Some(layer) = products.first().map(|first| first.layer) else { return Ok(()) };
    let mut packed = packed.iter().flatten();
    let mut products = products.map(|Product { bias, y, .. }| quant_kernels::Product {
        weights: packed.next().expect("one for each product"),
        epilogue: Epilogue { bias, relu: false },
        output: Output::F32(y),
    });
    let x = activations(x, layer);
    with_scratch(|scratch| kernel.linears(x, &mut products, scratch))
        .map_err(|error| layer.product_error(error))
}

/// Packs a quantized weight, `[out, in]`, for products with this input, now and not in the first one, and frees the
/// memory of what is packed. A float weight is left alone.
///
/// The parameter stays what it is. Rows that [`embedding`](crate::embedding) looks up come from the packed weight.
/// To be saved or changed, the weight is made again. [`Linear::pack`](crate::Linear::pack) is this for a layer; call
/// it yourself where one weight serves two layers.
///
/// # Errors
/// A weight whose scheme no kernel executes.
pub fn pack<T: FloatTensor>(
    weight: &mut Param<T>,
    input: &ActivationQuantizer,
) -> Result<(), ForwardError> {
    let Some(tensor) = weight.quantized() else { return Ok(()) };
    let layer = LayerInput::linear(input);
    let packed = packed_weight(Kernel::selected()?, tensor, weight.cache(), layer)?;
    let holder = PackedTensor::new(packed, tensor);
    weight.release(Arc::new(holder)).map_err(|error| ForwardError::Backend(error.to_string()))
}

/// The weight as the layer needs it, from the cache or for it. The cache has one value of each type: a
/// layer may run weight-only, while it is calibrated, before it runs in integers.
fn packed_weight(
    kernel: Kernel,
    weight: &QuantizedTensor,
    cache: &Cache,
    layer: LayerInput<'_>,
) -> Result<Arc<PackedWeights>, ForwardError> {
    let make = || packed_for(kernel, weight, layer);
    if stays_float(layer.quantizer) {
        let cached = cache.get_or_make(|| make().map(|packed| ForFloats(Arc::new(packed))))?;
        return Ok(Arc::clone(&cached.0));
    }
    let Some(quantization) = in_blocks(layer.quantizer) else {
        return cache.get_or_make(make);
    };
    let make = || make().map(|packed| ForBlocks(quantization, Arc::new(packed)));
    let cached = cache.get_or_make(make)?;
    if cached.0 == quantization {
        return Ok(Arc::clone(&cached.1));
    }
    // Two layers of different blocks that share a weight are rare: pack each time.
    make().map(|made| made.1)
}

/// Weights that are packed for activations that stay floats.
struct ForFloats(Arc<PackedWeights>);

/// Weights that are packed for activations in blocks.
struct ForBlocks(DynamicQuantization, Arc<PackedWeights>);

/// How an input is quantized, if it is in blocks.
fn in_blocks(input: &ActivationQuantizer) -> Option<DynamicQuantization> {
    match input.mode() {
        ActivationMode::Dynamic(quantization) => {
            let blocks = matches!(quantization.granularity, DynamicGranularity::Block(_));
            blocks.then_some(quantization)
        }
        _ => None,
    }
}

/// Whether a product takes its input as floats.
pub(crate) fn stays_float(input: &ActivationQuantizer) -> bool {
    !matches!(input.mode(), ActivationMode::Dynamic(_) | ActivationMode::Static(_))
}

/// As [`linear`], for a weight that no parameter holds.
#[cfg(feature = "candle")]
pub(crate) fn linear_once(
    operands: Operands<'_, Rows<'_>>,
    weight: &QuantizedTensor,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    let kernel = Kernel::selected()?;
    let Operands { x, bias, layer } = operands;
    let packed = packed_for(kernel, weight, layer)?;
    let epilogue = Epilogue { bias, relu: false };
    let (x, output) = (activations(x, layer), Output::F32(y));
    with_scratch(|scratch| kernel.linear(&packed, x, &epilogue, output, scratch))
        .map_err(|error| layer.product_error(error))
}

/// The rows as the kernel takes them for a layer.
fn activations<'a>(Rows { values, count: m }: Rows<'a>, layer: LayerInput<'_>) -> Activations<'a> {
    match layer.quantizer.mode() {
        ActivationMode::Dynamic(quantization) => Activations::Dynamic { values, m, quantization },
        ActivationMode::Static(quantization) => Activations::Static { values, m, quantization },
        _ => Activations::Float { values, m },
    }
}

fn packed_for(
    kernel: Kernel,
    tensor: &QuantizedTensor,
    layer: LayerInput<'_>,
) -> Result<PackedWeights, ForwardError> {
    let packed = if stays_float(layer.quantizer) {
        pack_weights_for_floats(kernel, tensor)
    } else if let Some(quantization) = in_blocks(layer.quantizer) {
        pack_weights_for_dynamic(kernel, tensor, quantization)
    } else {
        pack_weights(kernel, tensor)
    };
    packed.map_err(|source| ForwardError::Pack { layer: layer.layer(), source })
}

/// Rows of a quantized table, `[rows, columns]`, into `y`.
pub(crate) fn embedding(
    indices: &[u32],
    tensor: &QuantizedTensor,
    y: &mut [f32],
) -> Result<(), ForwardError> {
    if let (Some(holder), &[rows, columns]) = (tensor.holder(), tensor.shape()) {
        return rows_of(holder, (rows, columns), indices, y);
    }
    let Weights { n: rows, k: columns, codes, granularity, scales, zero_points, minimums } =
        weights(tensor)
            .map_err(|source| ForwardError::Pack { layer: "embedding".into(), source })?;
    let table =
        EmbeddingWeights { rows, columns, codes, granularity, scales, zero_points, minimums };
    Kernel::selected()?.embedding(&table, indices, y).map_err(|error| match error {
        LookupError::UnknownRow { position, id, rows } => {
            ForwardError::Index { position, index: id, rows }
        }
        error => ForwardError::Backend(error.to_string()),
    })
}

/// Rows of a packed table.
fn rows_of(
    holder: &dyn HoldsTensor,
    (rows, columns): (usize, usize),
    indices: &[u32],
    y: &mut [f32],
) -> Result<(), ForwardError> {
    for (position, (&index, y)) in indices.iter().zip(y.chunks_mut(columns.max(1))).enumerate() {
        if index as usize >= rows {
            return Err(ForwardError::Index { position, index, rows });
        }
        holder.row(index as usize, y);
    }
    Ok(())
}

thread_local! {
    /// The buffers of the products of a thread.
    static SCRATCH: Cell<Option<Scratch>> = const { Cell::new(None) };
}

/// Calls `f` with the buffers of this thread.
///
/// They are taken out while in use, because a thread that waits for the pool may run another
/// product.
pub(super) fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    let threads = rayon::current_num_threads();
    let mut scratch = SCRATCH
        .take()
        .filter(|scratch| scratch.threads() == threads)
        .unwrap_or_else(|| Scratch::with_threads(threads));
    let result = f(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}
