//! The factors of the channels of a pair.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::error::RescaleError;
use super::pair::{ChannelPair, field};
use super::weights::Weights;
use crate::calibration::min_max::MinMaxCalibration;
use crate::module::ParamId;
use crate::moments::MomentSource;
use crate::quantize::quantize_values;
use crate::scheme::QuantizationScheme;

/// The exponents that are tried for the factors that lose least: `0, 1/20 … 1`.
const EXPONENTS: u32 = 20;

/// How the factors of channels are found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChannelMethod {
    /// Cross-layer equalization, without data: channel `c` has the same largest weight `sqrt(r_c · t_c)` in both
    /// layers, with `s_c = sqrt(r_c / t_c)`, where `r_c` and `t_c` are its largest weights in the first
    /// layer and in those that follow. It is for scales per tensor, and repeated until the largest change of a
    /// factor is below 0.1 %, at most 100 times, since pairs share layers (Nagel et al., "Data-Free Quantization Through
    /// Weight Equalization and Bias Correction").
    Equalize,
    /// SmoothQuant: inputs become smoother at the expense of weights, `s_c = x_c^a / t_c^(1 - a)`, so that
    /// inputs can be quantized. `x_c` is the root of the mean square of input `c`, of which the second
    /// moments are known, in place of its maximum; the authors' exponent is .5 (Xiao et al., "SmoothQuant").
    Smooth {
        /// The second moments of the inputs of the layers that follow.
        moments: Arc<dyn MomentSource>,
        /// The share `a` that moves into weights, from 0 to 1.
        exponent: f64,
    },
    /// AWQ: weights that meet large inputs get a finer grid. `s_c = x_c^a / sqrt(min · max)` over the channels,
    /// with the exponent of `0, 1/20 … 1` whose weights lose least by
    /// `Σ x_c² (w - ŵ)²`. With 0, nothing changes, so that the result is never worse (Lin et al., "AWQ").
    ActivationAware {
        /// The second moments of the inputs of the layers that follow.
        moments: Arc<dyn MomentSource>,
        /// The scheme that the weights will have.
        scheme: QuantizationScheme,
    },
}

impl ChannelMethod {
    /// SmoothQuant with these moments and the exponent .5.
    pub fn smooth(moments: impl MomentSource + 'static) -> Self {
        Self::Smooth { moments: Arc::new(moments), exponent: 0.5 }
    }

    /// AWQ with these moments, for this scheme.
    pub fn activation_aware(
        moments: impl MomentSource + 'static,
        scheme: QuantizationScheme,
    ) -> Self {
        Self::ActivationAware { moments: Arc::new(moments), scheme }
    }

    /// How often the pairs are gone through.
    pub(super) fn sweeps(&self) -> usize {
        if matches!(self, Self::Equalize) { 100 } else { 1 }
    }

    /// The factors of a pair.
    pub(super) fn factors(
        &self,
        weights: &Weights,
        pair: &ChannelPair,
    ) -> Result<Vec<f64>, RescaleError> {
        let outputs = weights.outputs(&pair.first)?;
        let following = following(weights, pair, outputs.channels)?;
        match self {
            Self::Equalize => {
                let own = outputs.magnitudes(&weights.get(&pair.first)?.values);
                let ratio = |(own, following): (&f64, &f64)| (own / following).sqrt();
                Ok(own.iter().zip(&following).map(ratio).map(usable).collect())
            }
            Self::Smooth { moments, exponent } => {
                if !(0.0..=1.0).contains(exponent) {
                    return Err(RescaleError::Exponent { value: *exponent });
                }
                let inputs = input_magnitudes(&**moments, pair, outputs.channels)?;
                let factor = |(x, w): (&f64, &f64)| x.powf(*exponent) / w.powf(1.0 - exponent);
                Ok(inputs.iter().zip(&following).map(factor).map(usable).collect())
            }
            Self::ActivationAware { moments, scheme } => {
                let inputs = input_magnitudes(&**moments, pair, outputs.channels)?;
                let mut best = (f64::INFINITY, Vec::new());
                for step in 0..=EXPONENTS {
                    let exponent = f64::from(step) / f64::from(EXPONENTS);
                    let factors = balanced(&inputs, exponent);
                    let error = error_of(weights, pair, &factors, &inputs, *scheme)?;
                    if error < best.0 {
                        best = (error, factors);
                    }
                }
                Ok(best.1)
            }
        }
    }
}

/// 1 for a channel without weights or inputs.
fn usable(factor: f64) -> f64 {
    if factor.is_normal() { factor } else { 1.0 }
}

/// The largest weight of each channel in the layers that take it.
fn following(
    weights: &Weights,
    pair: &ChannelPair,
    channels: usize,
) -> Result<Vec<f64>, RescaleError> {
    let mut largest = alloc::vec![0.0f64; channels];
    for layer in &pair.then {
        let of_layer = weights.inputs(layer, channels)?.magnitudes(&weights.get(layer)?.values);
        largest.iter_mut().zip(of_layer).for_each(|(to, value)| *to = to.max(value));
    }
    Ok(largest)
}

/// `sqrt(Σ x² / rows)` of each input of the layers that follow, which all have the same inputs.
fn input_magnitudes(
    moments: &dyn MomentSource,
    pair: &ChannelPair,
    channels: usize,
) -> Result<Vec<f64>, RescaleError> {
    let layer = &pair.then[0];
    let missing = |source| RescaleError::Moments { id: layer.clone(), source };
    let loaded = moments.load(&field(layer, "weight")).map_err(|source| missing(Some(source)))?;
    let moments = loaded.filter(|moments| moments.columns() == channels).ok_or(missing(None))?;
    let rows = moments.rows().max(1) as f64;
    Ok(moments.diagonal().into_iter().map(|square| (square / rows).sqrt()).collect())
}

/// `x^a`, with the geometric mean of the least and the largest as its unit.
fn balanced(inputs: &[f64], exponent: f64) -> Vec<f64> {
    let powers = || inputs.iter().filter(|&&x| x > 0.0).map(|x| x.powf(exponent));
    let least = powers().fold(f64::INFINITY, f64::min);
    let unit = (least * powers().fold(0.0, f64::max)).sqrt();
    inputs.iter().map(|x| usable(x.powf(exponent) / unit)).collect()
}

/// `Σ x_c² (w - ŵ)²` over the weights that follow, quantized with their channels multiplied by factors.
fn error_of(
    weights: &Weights,
    pair: &ChannelPair,
    factors: &[f64],
    inputs: &[f64],
    scheme: QuantizationScheme,
) -> Result<f64, RescaleError> {
    let mut error = 0.0;
    for layer in &pair.then {
        let layout = weights.inputs(layer, factors.len())?;
        let weight = weights.get(layer)?;
        let mut scaled = weight.values.clone();
        layout.scale(&mut scaled, |channel| factors[channel]);
        let values: Vec<f32> = scaled.iter().map(|&value| value as f32).collect();
        let id: ParamId = field(layer, "weight");
        let quantized = quantize_values(&weight.shape, &values, scheme, &MinMaxCalibration {})
            .map_err(|source| RescaleError::Weight { id, scheme, source })?;
        let mut errors: Vec<f64> =
            quantized.dequantize().iter().zip(&scaled).map(|(&q, w)| f64::from(q) - w).collect();
        layout.scale(&mut errors, |channel| inputs[channel] / factors[channel]);
        error += errors.iter().map(|error| error * error).sum::<f64>();
    }
    Ok(error)
}
