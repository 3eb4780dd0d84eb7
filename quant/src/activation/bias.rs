//! Bias correction.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::AtomicUsize;

use serde::{Deserialize, Serialize};

use super::compare_error::CompareError;
use super::output_taps::{common_paths, layer, schemes, set, take};
use super::taps::{ChannelSums, OutputsSeen};
use crate::module::map::for_each_mut;
use crate::module::{ParamId, Walk, change_values, params};
use crate::table;

/// What was added to the biases of a quantized model, so that the mean of each output is again that of the
/// float model.
///
/// Rounded weights change the mean of what a layer computes, by another number for each output. Layers are
/// corrected in the order in which they run, each after those before it, by
/// `b ← b + mean(y) - mean(ŷ)` over all batches (Nagel et al., "Data-Free Quantization Through Weight
/// Equalization and Bias Correction", section 4.2, with the means taken from data).
///
/// ```
/// use quant::activation::{ActivationError, ActivationQuantizer, BiasCorrection};
/// use quant::{Module, Param, Recipe};
///
/// #[derive(Clone, Module)]
/// struct Dense { weight: Param<[f32; 3]>, bias: Param<[f32; 1]>, input: ActivationQuantizer }
///
/// impl Dense {
///     fn forward(&self, x: &[f32; 3]) -> Result<f32, ActivationError> {
///         self.input.observe_rows(x, 3)?;
///         let products = self.weight.value().iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
///         let y = products + self.bias.value()[0];
///         self.input.observe_outputs(&[y], 1); // layers of `quant-nn` do so
///         Ok(y)
///     }
/// }
///
/// let weight = Param::new([0.7, -1.1, 0.2]);
/// let bias = Param::new([0.0]);
/// let mut float = Dense { weight, bias, input: ActivationQuantizer::new() };
/// let mut quantized = float.clone().quantize(Recipe::new().scheme("int4".parse()?))?;
/// let batches = [[1.0, 2.0, 1.0], [2.0, 1.0, 1.0]];
/// let corrected = BiasCorrection::apply(&mut float, &mut quantized, &batches, Dense::forward)?;
/// println!("{corrected}"); // a table
/// let means = [&float, &quantized].map(|model| model.forward(&[1.5, 1.5, 1.0]).unwrap());
/// assert!((means[0] - means[1]).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BiasCorrection {
    /// The layers that were corrected, in the order in which they run.
    pub layers: Vec<CorrectedLayer>,
    /// Layers with a quantized weight that have no parameter `bias`, and stay as they are.
    pub without_bias: Vec<ParamId>,
    /// Layers with a quantized weight that no batch reached, and that stay as they are.
    pub unreached: Vec<ParamId>,
}

/// A layer whose bias was corrected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CorrectedLayer {
    /// The path of the layer, such as `blocks.0.project`.
    pub id: ParamId,
    /// The largest number that was added to an output, without its sign.
    pub largest: f64,
    /// `sqrt(Σ added² / Σ mean(y)²)` over the outputs; infinite where every mean of the float model is 0.
    pub relative: f64,
}

impl BiasCorrection {
    /// Corrects the biases of the layers of `quantized` that have a quantized weight, a parameter `bias` beside
    /// it, and an [`ActivationQuantizer`](super::ActivationQuantizer).
    ///
    /// The float model is shown the batches once, the quantized one once for each layer. Sums are of `f64`, in
    /// the order of the batches. Convert calibrated inputs first, so that they are quantized as they will be.
    ///
    /// # Errors
    /// The first error of `forward`; a layer that only one of the models has; outputs that are NaN or infinite,
    /// or not whole rows of as many channels as the bias has; a bias that is quantized. The biases are as before
    /// then.
    pub fn apply<M: Walk, B, T, E>(
        reference: &mut M,
        quantized: &mut M,
        batches: impl IntoIterator<Item = B, IntoIter: Clone>,
        mut forward: impl FnMut(&M, B) -> Result<T, E>,
    ) -> Result<Self, CompareError<E>> {
        let paths = common_paths(reference, quantized)?;
        let batches = batches.into_iter();
        let Biases { channels, missing } = Biases::of(quantized, &paths);
        let seen = observe(reference, channels, &batches, &mut forward)?;
        let mut corrected =
            Self { layers: Vec::new(), without_bias: missing, unreached: Vec::new() };
        let mut order = Vec::new();
        for (input, sums) in seen {
            match (sums.position, sums.means()) {
                (Some(position), Some(means)) => order.push((position, input, means)),
                _ => corrected.unreached.push(layer(&input)),
            }
        }
        order.sort_by_key(|&(position, ..)| position);
        let mut undo = Vec::new();
        for (_, input, expected) in order {
            let one = BTreeMap::from([(input.clone(), expected.len())]);
            let step = observe(quantized, one, &batches, &mut forward).and_then(|mut seen| {
                let found = seen.remove(&input).and_then(|sums| sums.means());
                let found = found.ok_or(CompareError::Outputs { id: layer(&input), batch: 0 })?;
                add_to_bias(quantized, &layer(&input), &expected, &found)
            });
            match step {
                Ok((layer, before)) => {
                    undo.push((layer.id.clone(), before));
                    corrected.layers.push(layer);
                }
                Err(error) => {
                    for (id, before) in undo {
                        // It was changed before, and has the same length.
                        let _: Result<_, CompareError<E>> =
                            change_bias(quantized, &id, |bias| bias.copy_from_slice(&before));
                    }
                    return Err(error);
                }
            }
        }
        Ok(corrected)
    }
}

/// The biases of the layers with a quantized weight and an input.
struct Biases {
    /// The length of each, by the path of the layer's input.
    channels: BTreeMap<ParamId, usize>,
    /// The layers without.
    missing: Vec<ParamId>,
}

impl Biases {
    fn of(model: &impl Walk, inputs: &BTreeSet<ParamId>) -> Self {
        let quantized = schemes(model);
        let lengths: BTreeMap<ParamId, usize> =
            params(model).into_iter().map(|info| (info.id.clone(), info.element_count())).collect();
        let (mut channels, mut missing) = (BTreeMap::new(), Vec::new());
        for input in inputs {
            let layer = layer(input);
            match lengths.get(&bias_of(&layer)) {
                _ if !quantized.contains_key(&layer) => {}
                Some(&length) => drop(channels.insert(input.clone(), length)),
                None => missing.push(layer),
            }
        }
        Self { channels, missing }
    }
}

/// The path of the bias of a layer.
fn bias_of(layer: &ParamId) -> ParamId {
    match layer.as_str() {
        "" => "bias".into(),
        layer => alloc::format!("{layer}.bias").into(),
    }
}

/// The sums of the outputs of the layers with these inputs, which have so many channels, over all batches.
fn observe<M: Walk, B, T, E>(
    model: &mut M,
    channels: BTreeMap<ParamId, usize>,
    batches: &(impl Iterator<Item = B> + Clone),
    forward: &mut impl FnMut(&M, B) -> Result<T, E>,
) -> Result<BTreeMap<ParamId, ChannelSums>, CompareError<E>> {
    let layers = Arc::new(AtomicUsize::new(0));
    let mut sums: BTreeMap<ParamId, ChannelSums> = channels
        .into_iter()
        .map(|(input, channels)| (input, ChannelSums::new(channels, &layers)))
        .collect();
    for (batch, data) in batches.clone().enumerate() {
        set(model, |input| sums.remove(input).map(OutputsSeen::Channels));
        let done = forward(model, data);
        let seen = take(model);
        done.map_err(|source| CompareError::Forward { batch, source })?;
        for (id, seen) in seen {
            match seen {
                OutputsSeen::Channels(of) if of.is_finite() => drop(sums.insert(id, of)),
                OutputsSeen::Channels(_) => {
                    return Err(CompareError::NonFinite { id: layer(&id), batch });
                }
                _ => return Err(CompareError::Outputs { id: layer(&id), batch }),
            }
        }
    }
    Ok(sums)
}

/// Adds `expected - found` to the bias of a layer; returns what the bias was, too.
fn add_to_bias<E>(
    model: &mut impl Walk,
    layer: &ParamId,
    expected: &[f64],
    found: &[f64],
) -> Result<(CorrectedLayer, Vec<f32>), CompareError<E>> {
    let added: Vec<f64> = expected.iter().zip(found).map(|(y, other)| y - other).collect();
    let mut before = Vec::new();
    change_bias(model, layer, |bias| {
        before = bias.to_vec();
        for (b, added) in bias.iter_mut().zip(&added) {
            *b = (f64::from(*b) + added) as f32;
        }
    })?;
    let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let (noise, signal) = (squares(&added), squares(expected));
    let corrected = CorrectedLayer {
        id: layer.clone(),
        largest: added.iter().fold(0.0, |largest, added| added.abs().max(largest)),
        relative: if noise == 0.0 { 0.0 } else { (noise / signal).sqrt() },
    };
    Ok((corrected, before))
}

fn change_bias<E>(
    model: &mut impl Walk,
    layer: &ParamId,
    change: impl FnOnce(&mut [f32]),
) -> Result<(), CompareError<E>> {
    let id = bias_of(layer);
    let (mut change, mut changed) = (Some(change), Ok(()));
    for_each_mut(model, |site, param| {
        if id == site.path {
            // A path names one parameter.
            if let Some(change) = change.take() {
                changed = change_values(param, change);
            }
        }
    });
    changed.map_err(|source| CompareError::Bias { id, source })
}

/// A table with a line for each layer.
impl fmt::Display for BiasCorrection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |layer: &CorrectedLayer| {
            [
                layer.id.to_string(),
                alloc::format!("{:.3e}", layer.largest),
                alloc::format!("{:.4}", layer.relative),
            ]
        };
        let head = ["layer", "largest added", "relative"];
        table::write(f, head, self.layers.iter().map(row), 1..3)?;
        for id in &self.without_bias {
            writeln!(f, "{id}: the layer has no bias")?;
        }
        for id in &self.unreached {
            writeln!(f, "{id}: no batch reached this layer")?;
        }
        Ok(())
    }
}
