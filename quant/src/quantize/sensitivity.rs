//! The loss with each parameter quantized alone.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::decide::{Decided, decide, try_map};
use super::error::QuantizeError;
use super::measure::{Measured, measure};
use super::planner::Planner;
use crate::module::{ParamId, ParamInfo, ParamView, Walk, for_each, for_each_mut};
use crate::scheme::QuantizationScheme;
use crate::table;
use crate::tensor::{QuantizedTensor, Tensor};

/// What quantizing each parameter alone does to a loss, most harmful first.
///
/// It prints as a table, serializes, and gives the weights for a choice within a budget:
///
/// ```
/// use std::convert::Infallible;
/// use quant::quantize::Sensitivity;
/// use quant::quantize::mixed::{MixedPrecision, Precision};
/// use quant::{MinMaxCalibration, Module, Param, QuantizationScheme, QuantizationType, Quantizer};
///
/// #[derive(Module)]
/// struct Net { first: Param<[[f32; 3]; 2]>, last: Param<[[f32; 3]; 2]> }
///
/// // Any measure that is smaller when the model is better, here a sum that should stay as it is.
/// fn loss(net: &Net) -> Result<f64, Infallible> {
///     let sum = |w: &Param<[[f32; 3]; 2]>| w.value().as_flattened().iter().sum::<f32>();
///     let change = sum(&net.first) - 1.0 + 10.0 * (sum(&net.last) - 1.0);
///     Ok(f64::from(change).powi(2))
/// }
///
/// let weight = || Param::new([[0.9f32, -0.31, 0.22], [0.13, 0.05, 0.01]]);
/// let mut net = Net { first: weight(), last: weight() };
/// let int4 = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt4);
/// let quantizer = Quantizer { calibration: MinMaxCalibration {}, scheme: int4 };
/// let sensitivity = Sensitivity::measure(&quantizer, &mut net, loss)?;
/// println!("{sensitivity}");
/// assert_eq!(sensitivity.layers()[0].id, "last");
///
/// let int8 = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);
/// let mixed = MixedPrecision::new("40%".parse()?, [int8, int4])
///     .weights(sensitivity.weights())
///     .plan(&net)?;
/// let chosen: Vec<_> = mixed.plan.params().iter().map(|it| it.action.to_string()).collect();
/// assert_eq!(chosen, ["per-tensor-symmetric-int4 by min-max", "per-tensor-symmetric-int8 by min-max"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    baseline: f64,
    layers: Vec<LayerSensitivity>,
}

/// What quantizing one parameter alone does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerSensitivity {
    /// The path of the parameter.
    pub id: ParamId,
    /// The scheme it was quantized by.
    pub scheme: QuantizationScheme,
    /// The loss with only this parameter quantized.
    pub loss: f64,
    /// `loss - baseline`; negative where quantizing improves the loss.
    pub delta: f64,
    /// `Σ (x - x̂)²` over the parameter's values.
    pub noise: f64,
    /// The bytes of the parameter now.
    pub bytes_before: u64,
    /// Its bytes when quantized.
    pub bytes_after: u64,
}

impl LayerSensitivity {
    /// The bytes that quantizing saves; 0 if it saves none.
    pub fn bytes_saved(&self) -> u64 {
        self.bytes_before.saturating_sub(self.bytes_after)
    }
}

impl Sensitivity {
    /// Quantizes one parameter at a time as `planner`, a [`Quantizer`](crate::Quantizer) or a
    /// [`Recipe`](crate::Recipe), decides, evaluates `loss`, and puts the parameter back.
    ///
    /// Parameters that the planner keeps, quantized ones and inputs stay as they are. The model is not
    /// copied; memory holds one more parameter. Afterwards the model is unchanged, also after an
    /// error. The loss is computed once more than there are parameters to quantize.
    ///
    /// # Errors
    /// The planner's, or a weight that cannot be quantized, before any loss is computed; the
    /// first that `loss` returns; a loss that is NaN or infinite. The latter two name the
    /// parameter that was quantized, or none where the model was as it is.
    pub fn measure<M: Walk, E>(
        planner: &(impl Planner + ?Sized),
        model: &mut M,
        mut loss: impl FnMut(&M) -> Result<f64, E>,
    ) -> Result<Self, SensitivityError<E>> {
        let trials = trials(planner, model)?;
        let baseline = evaluate(None, model, &mut loss)?;
        let mut layers = Vec::with_capacity(trials.len());
        for trial in trials {
            let id = trial.info.id.clone();
            let float = swap(model, &id, trial.quantized(model)?.into())?;
            let loss = evaluate(Some(&id), model, &mut loss);
            swap(model, &id, float)?;
            layers.push(trial.into_layer(loss?, baseline));
        }
        // The sort is stable: equal losses keep the order of the model.
        layers.sort_by(|a, b| b.delta.total_cmp(&a.delta));
        Ok(Self { baseline, layers })
    }

    /// The loss of the model as it is.
    pub fn baseline(&self) -> f64 {
        self.baseline
    }

    /// The parameters that were quantized, most harmful first.
    pub fn layers(&self) -> &[LayerSensitivity] {
        &self.layers
    }

    /// What a squared error costs in each parameter, for
    /// [`MixedPrecision::weights`](crate::quantize::mixed::MixedPrecision::weights):
    ///
    /// ```text
    /// weight = (loss - baseline) / Σ (x - x̂)²
    /// ```
    ///
    /// This assumes that the loss grows with the squared error, which holds for small errors near a
    /// minimum of the loss. A parameter whose loss did not grow, or that has no error, gets the least
    /// weight of the others, or 1 if there are none. A weight of 0 would allow any number of bits.
    pub fn weights(&self) -> BTreeMap<ParamId, f64> {
        let weight = |layer: &LayerSensitivity| {
            let weight = layer.delta / layer.noise;
            (weight > 0.0 && weight.is_finite()).then_some(weight)
        };
        let least = self.layers.iter().filter_map(weight).min_by(f64::total_cmp).unwrap_or(1.0);
        let pair = |layer: &LayerSensitivity| (layer.id.clone(), weight(layer).unwrap_or(least));
        self.layers.iter().map(pair).collect()
    }
}

/// A parameter that is to be quantized alone.
struct Trial {
    info: ParamInfo,
    scheme: QuantizationScheme,
    bytes_before: u64,
    measured: Measured,
}

impl Trial {
    fn quantized(&self, model: &impl Walk) -> Result<QuantizedTensor, QuantizeError> {
        let Self { info, measured, .. } = self;
        let mut made = None;
        for_each(model, |site, param| {
            if made.is_none() && info.id == *site.path {
                made = Some(measured.fitted.quantize(&info.shape, &param.values()));
            }
        });
        made.ok_or_else(|| QuantizeError::InconsistentWalk { id: info.id.clone() })
    }

    fn into_layer(self, loss: f64, baseline: f64) -> LayerSensitivity {
        LayerSensitivity {
            id: self.info.id,
            scheme: self.scheme,
            loss,
            delta: loss - baseline,
            noise: self.measured.effect.noise(),
            bytes_before: self.bytes_before,
            bytes_after: self.measured.effect.bytes,
        }
    }
}

/// What is to be tried, and all that could go wrong with it.
fn trials(
    planner: &(impl Planner + ?Sized),
    model: &impl Walk,
) -> Result<Vec<Trial>, QuantizeError> {
    let trial = |Decided { info, decision }, param: ParamView<'_>| {
        let Some(choice) = decision.choice else { return Ok(None) };
        let bytes_before = param.byte_count();
        let measured = measure(&info.id, &info.shape, &param.values(), &choice)?;
        Ok(Some(Trial { info, scheme: choice.scheme, bytes_before, measured }))
    };
    let trials = try_map::<_, _, QuantizeError>(decide(planner, model)?, model, trial)?;
    Ok(trials.into_iter().flatten().collect())
}

/// Replaces the parameter at `id`, and returns what it was.
fn swap(model: &mut impl Walk, id: &ParamId, tensor: Tensor) -> Result<Tensor, QuantizeError> {
    let mut new = Some(tensor);
    let mut old = None;
    for_each_mut(model, |site, param| {
        if *id == *site.path
            && let Some(new) = new.take()
        {
            old = Some(param.take());
            param.put(new).expect("a storage holds what it held, and what is quantized");
        }
    });
    old.ok_or_else(|| QuantizeError::InconsistentWalk { id: id.clone() })
}

fn evaluate<M, E>(
    id: Option<&ParamId>,
    model: &M,
    loss: &mut impl FnMut(&M) -> Result<f64, E>,
) -> Result<f64, SensitivityError<E>> {
    let id = || id.cloned();
    match loss(model) {
        Ok(loss) if loss.is_finite() => Ok(loss),
        Ok(loss) => Err(SensitivityError::NonFinite { id: id(), loss }),
        Err(source) => Err(SensitivityError::Loss { id: id(), source }),
    }
}

/// A table, most harmful first.
impl fmt::Display for Sensitivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["parameter", "scheme", "loss", "delta", "bytes saved"];
        table::write(f, head, self.layers.iter().map(LayerSensitivity::cells), 2..5)?;
        write!(
            f,
            "loss {:.6e} before, {} parameters quantized one by one",
            self.baseline,
            self.layers.len()
        )
    }
}

impl LayerSensitivity {
    fn cells(&self) -> [String; 5] {
        [
            self.id.to_string(),
            self.scheme.to_string(),
            alloc::format!("{:.6e}", self.loss),
            alloc::format!("{:+.3e}", self.delta),
            self.bytes_saved().to_string(),
        ]
    }
}

/// The sensitivity of a model cannot be measured; the model is as it was.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SensitivityError<E> {
    /// The model cannot be quantized as asked.
    Quantize(QuantizeError),
    /// The loss could not be computed.
    Loss {
        /// The parameter that was quantized; `None` where none was.
        id: Option<ParamId>,
        /// Why.
        source: E,
    },
    /// The loss is NaN or infinite.
    NonFinite {
        /// The parameter that was quantized; `None` where none was.
        id: Option<ParamId>,
        /// The loss.
        loss: f64,
    },
}

impl<E> From<QuantizeError> for SensitivityError<E> {
    fn from(error: QuantizeError) -> Self {
        Self::Quantize(error)
    }
}

impl<E: fmt::Display> fmt::Display for SensitivityError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantized = |id: &Option<ParamId>| match id {
            Some(id) => alloc::format!("{id}: with this parameter quantized"),
            None => "with nothing quantized".into(),
        };
        match self {
            Self::Quantize(error) => error.fmt(f),
            Self::Loss { id, source } => {
                write!(f, "{}, the loss cannot be computed: {source}", quantized(id))
            }
            Self::NonFinite { id, loss } => write!(f, "{}, the loss is {loss}", quantized(id)),
        }
    }
}

/// An error of the loss need not be an `Error`: a `Box<dyn Error>` will do. It is part of the
/// message then, and not a source.
impl<E: fmt::Debug + fmt::Display> core::error::Error for SensitivityError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            // The message is that of the error inside, and so is the source.
            Self::Quantize(error) => error.source(),
            Self::Loss { .. } | Self::NonFinite { .. } => None,
        }
    }
}
