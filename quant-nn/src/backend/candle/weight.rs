//! The weight of a product: float, in training, or quantized.

use candle_core::{Result as CandleResult, Tensor};
use quant::Param;
use quant::tensor::QuantizedTensor;

use super::fake_quantize::FakeQuantize;
use super::tensor::{Storage, values};
use super::{backend_error, emulated};
use crate::backend::shape::LayerInput;
use crate::error::ForwardError;
use crate::fake_quant::{FakeGroups, FakeQuantizer};
use crate::train_state::FakeWeight;

/// The weight of a product.
pub(super) enum Weight<'a, T: Storage> {
    Float(Tensor),
    /// In training: the codes, and the values they stand for, with gradients.
    Fake(QuantizedTensor, Tensor),
    Quantized(&'a Param<T>, &'a QuantizedTensor),
}

impl<'a, T: Storage> Weight<'a, T> {
    pub(super) fn of(param: &'a Param<T>, layer: LayerInput<'_>) -> Result<Self, ForwardError> {
        match (param.as_float(), param.quantized()) {
            (_, Some(tensor)) => Ok(Self::Quantized(param, tensor)),
            (Some(value), _) => {
                if param.attachment::<FakeWeight>().is_none() {
                    layer.check_float()?;
                }
                Self::of_float(value.tensor(), FakeWeight::active(param), layer)
            }
            (None, None) => unreachable!("a parameter is float or quantized"),
        }
    }

    /// A float weight, fake-quantized if it is in training.
    pub(super) fn of_float(
        weight: &Tensor,
        fake: Option<&FakeWeight>,
        layer: LayerInput<'_>,
    ) -> Result<Self, ForwardError> {
        let Some(fake) = fake else { return Ok(Self::Float(weight.clone())) };
        let codes = fake
            .quantized(weight.dims(), &values(weight).map_err(backend_error)?)
            .map_err(|source| ForwardError::Weight { layer: layer.layer(), source })?;
        let scale = fake.learned_scale();
        let graph = fake_weight(weight, &codes, scale).map_err(backend_error)?;
        Ok(Self::Fake(codes, graph))
    }
}

/// The values that `codes` stand for, with the gradients of `weight`, which was quantized to them,
/// and of its scales.
fn fake_weight(
    weight: &Tensor,
    codes: &QuantizedTensor,
    scale: Option<&Tensor>,
) -> CandleResult<Tensor> {
    let (groups, grid) = (codes.groups(), codes.scheme().grid());
    let fakes = (0..groups.count()).map(|group| FakeQuantizer::new(grid, codes.params(group)));
    let Some(fake) = FakeGroups::new(groups, fakes.collect()) else {
        unreachable!("there is a quantizer for each group");
    };
    let y = codes.dequantize();
    if emulated::is_used(weight) {
        return emulated::fake_weight(weight, scale, &fake, y);
    }
    match scale {
        Some(scale) => FakeQuantize::learned(weight, scale, fake, y),
        None => FakeQuantize::straight(weight, fake, y),
    }
}

/// The weight as floats in candle's graph; `None` if no gradient needs them.
pub(super) fn weight_graph<T: Storage>(
    weight: &Weight<'_, T>,
    x: &Tensor,
) -> Result<Option<Tensor>, ForwardError> {
    match weight {
        Weight::Float(tensor) | Weight::Fake(_, tensor) => Ok(Some(tensor.clone())),
        Weight::Quantized(_, tensor) if x.track_op() => {
            Tensor::from_vec(tensor.dequantize(), tensor.shape(), x.device())
                .map(Some)
                .map_err(backend_error)
        }
        Weight::Quantized(..) => Ok(None),
    }
}
