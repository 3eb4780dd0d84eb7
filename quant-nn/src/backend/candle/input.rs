//! The input of a product: what is observed, refused and quantized before the product runs.

use candle_core::Tensor;
use quant::QuantizationType;
use quant::activation::ActivationMode;
use quant::scheme::{DynamicGranularity, DynamicQuantization, Grid, Mapping, Range, ScaleType};
use quant_kernels::Kernel;

use super::backend_error;
use super::fake_quantize::{FakeQuantize, one_group};
use super::op::precomputed_unary;
use super::tensor::values;
use crate::backend::shape::LayerInput;
use crate::error::ForwardError;
use crate::fake_quant::FakeQuantizer;
use crate::train_state::learned_scale;

/// What a convolution takes besides its input and its weight.
#[derive(Clone, Copy)]
pub(super) struct ConvArgs<'a, O> {
    pub(super) bias: Option<&'a Tensor>,
    pub(super) options: O,
    pub(super) layer: LayerInput<'a>,
}

/// Shows `x` to the quantizer, if it observes; `columns` is that of rows that a weight is multiplied
/// with, for second moments. Refuses a learned scale that is not positive and
/// normal.
pub(super) fn observe(
    x: &Tensor,
    layer: LayerInput<'_>,
    columns: Option<usize>,
) -> Result<(), ForwardError> {
    if layer.quantizer.observes() {
        let values = values(x).map_err(backend_error)?;
        match columns {
            Some(columns) => layer.quantizer.observe_rows(&values, columns)?,
            None => layer.quantizer.observe(&values)?,
        }
    }
    match layer.quantizer.mode() {
        ActivationMode::Static(fixed) => {
            let grid = Grid::new(QuantizationType::QInt8, Mapping::Affine, ScaleType::F32);
            let refused = |source| ForwardError::Scale { layer: layer.layer(), source };
            grid.store(fixed.params.scale()).map(drop).map_err(refused)
        }
        _ => Ok(()),
    }
}

/// Shows the outputs of a layer, whose channels lie along `axis`, if they are compared with those of
/// another model.
pub(super) fn observe_outputs(
    y: Tensor,
    axis: usize,
    layer: LayerInput<'_>,
) -> Result<Tensor, ForwardError> {
    if layer.quantizer.observes_outputs() {
        let run = y.dims()[axis + 1..].iter().product();
        layer.quantizer.observe_outputs(&values(&y).map_err(backend_error)?, run);
    }
    Ok(y)
}

/// The input of an integer product as the floats that its codes stand for, with gradients.
/// `row` is the number of elements that share a dynamic range.
pub(super) fn fake_quantized(
    x: &Tensor,
    x_values: &[f32],
    layer: LayerInput<'_>,
    row: usize,
) -> Result<Tensor, ForwardError> {
    match layer.quantizer.mode() {
        ActivationMode::Static(fixed) => {
            let fake = one_group(x.dims(), fixed.into());
            let y = fake.forward(x_values);
            match learned_scale(layer.quantizer) {
                Some(scale) => FakeQuantize::learned(x, scale, fake, y),
                None => FakeQuantize::straight(x, fake, y),
            }
            .map_err(backend_error)
        }
        ActivationMode::Dynamic(DynamicQuantization { mapping, granularity }) => {
            let grid = Grid::new(QuantizationType::QInt8, mapping.into(), ScaleType::F32);
            let mut y = vec![0.0; x_values.len()];
            let (row, block) = match granularity {
                DynamicGranularity::Tensor => (x_values.len(), x_values.len()),
                DynamicGranularity::Row => (row, row),
                DynamicGranularity::Block(len) => (row, len.get() as usize),
            };
            let (row, block) = (row.max(1), block.max(1));
            let rows = x_values.chunks(row).zip(y.chunks_mut(row));
            for (x, y) in rows.flat_map(|(x, y)| x.chunks(block).zip(y.chunks_mut(block))) {
                // The product has refused values that are not finite.
                let (lo, hi) = Kernel::current().min_max(x).unwrap_or((0.0, 0.0));
                if let Some(Ok(params)) = Range::new(lo, hi).map(|range| grid.params(range)) {
                    FakeQuantizer::new(grid, params).forward(x, y);
                }
            }
            // The range is that of the values, so none saturates.
            precomputed_unary("fake-quantize-dynamic", x, x.shape(), y, |dy| Ok(dy.clone()))
                .map_err(backend_error)
        }
        _ => Ok(x.clone()),
    }
}
