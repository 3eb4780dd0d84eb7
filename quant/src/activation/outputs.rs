//! Comparing the outputs of the layers of two models.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::convert::{for_each_activation, for_each_activation_mut};
use super::taps::{OutputsSeen, Sums, Tap};
use crate::module::{ParamId, Walk, params, parent_of};
use crate::scheme::QuantizationScheme;
use crate::table;

/// How far the outputs of the layers of a quantized model are from those of the float model, on the same
/// batches. The worst layer comes first.
///
/// An error in a layer is in its weights, in its input, or in the layers before it. Keep wider the weights of
/// the layer whose ratio falls most against that of the layers before it.
///
/// ```
/// use quant::activation::{ActivationError, ActivationQuantizer, LayerComparison};
/// use quant::{Module, Param, Recipe};
///
/// #[derive(Clone, Module)]
/// struct Dense { weight: Param<[[f32; 2]; 2]>, input: ActivationQuantizer }
///
/// impl Dense {
///     fn forward(&self, x: &[f32; 2]) -> Result<[f32; 2], ActivationError> {
///         self.input.observe_rows(x, 2)?;
///         let y = self.weight.value().map(|[a, b]| a * x[0] + b * x[1]);
///         self.input.observe_outputs(&y); // layers of `quant-nn` do so
///         Ok(y)
///     }
/// }
///
/// let weight = Param::new([[0.7, -1.1], [0.2, 0.9]]);
/// let mut float = Dense { weight, input: ActivationQuantizer::new() };
/// let mut quantized = float.clone().quantize(Recipe::new().scheme("int8".parse()?))?;
/// let compared = LayerComparison::of(&mut float, &mut quantized, &[[1.0, 2.0]], Dense::forward)?;
/// println!("{compared}"); // a table
/// assert!(compared.layers[0].cosine > 0.999);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerComparison {
    /// The layers that the batches reached, the one with the lowest signal-to-noise ratio first.
    pub layers: Vec<ComparedLayer>,
    /// The layers that no batch reached.
    pub unreached: Vec<ParamId>,
}

/// A layer of two models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComparedLayer {
    /// The path of the layer, such as `layers.0.query`.
    pub id: ParamId,
    /// The scheme of its weight in the second model; `None` if it is float.
    pub scheme: Option<QuantizationScheme>,
    /// The number of outputs, over all batches.
    pub count: u64,
    /// `10 log10(Σ y² / Σ (y - ŷ)²)` in dB; `None` if all outputs are equal.
    pub sqnr_db: Option<f64>,
    /// The cosine of the angle between all outputs of both models.
    pub cosine: f64,
    /// The largest difference of an output.
    pub max_abs_error: f64,
}

impl LayerComparison {
    /// Runs both models on the same batches, and compares the outputs of layers that have an
    /// [`ActivationQuantizer`](super::ActivationQuantizer), which all layers of the crate `quant-nn` with weights
    /// have, but for embeddings and norms.
    ///
    /// The outputs of the first model for one batch are in memory. Both models are as before afterwards, also
    /// after an error. A layer that runs several times for a batch does so in the same order in both models.
    ///
    /// # Errors
    /// The first error of `forward`, with the position of the batch; a layer that only one of the models has or
    /// runs, or whose outputs are not as many; an output that is NaN or infinite.
    pub fn of<M: Walk, B: Copy, T, E>(
        reference: &mut M,
        quantized: &mut M,
        batches: impl IntoIterator<Item = B>,
        mut forward: impl FnMut(&M, B) -> Result<T, E>,
    ) -> Result<Self, CompareError<E>> {
        let paths = common_paths(reference, quantized)?;
        let mut sums: BTreeMap<ParamId, Sums> =
            paths.into_iter().map(|path| (path, Sums::default())).collect();
        let run = || -> Result<(), CompareError<E>> {
            for (batch, data) in batches.into_iter().enumerate() {
                let error = |source| CompareError::Forward { batch, source };
                set(reference, |_| Some(OutputsSeen::Kept(VecDeque::new())));
                forward(reference, data).map(drop).map_err(error)?;
                let mut kept = take(reference);
                set(quantized, |path| match kept.remove(path) {
                    Some(OutputsSeen::Kept(kept)) => Some(OutputsSeen::Compared(kept, sums[path])),
                    _ => None,
                });
                forward(quantized, data).map(drop).map_err(error)?;
                for (id, seen) in take(quantized) {
                    match seen {
                        OutputsSeen::Compared(rest, sum) if rest.is_empty() => {
                            if !sum.is_finite() {
                                return Err(CompareError::NonFinite { id: layer(&id), batch });
                            }
                            sums.insert(id, sum);
                        }
                        _ => return Err(CompareError::Outputs { id: layer(&id), batch }),
                    }
                }
            }
            Ok(())
        };
        let done = run();
        take(reference);
        take(quantized);
        done?;
        Ok(Self::of_sums(sums, quantized))
    }

    fn of_sums(sums: BTreeMap<ParamId, Sums>, quantized: &impl Walk) -> Self {
        let (reached, unreached): (Vec<_>, Vec<_>) =
            sums.into_iter().partition(|(_, sums)| sums.count > 0);
        let schemes = schemes(quantized);
        let compared = |(id, sums): (ParamId, Sums)| {
            let id = layer(&id);
            ComparedLayer {
                scheme: schemes.get(&id).copied(),
                count: sums.count,
                sqnr_db: sums.sqnr_db(),
                cosine: sums.cosine(),
                max_abs_error: sums.largest,
                id,
            }
        };
        let mut layers: Vec<_> = reached.into_iter().map(compared).collect();
        // Equal outputs are better than any ratio.
        let key = |layer: &ComparedLayer| layer.sqnr_db.unwrap_or(f64::INFINITY);
        layers.sort_by(|a, b| key(a).total_cmp(&key(b)));
        Self { layers, unreached: unreached.iter().map(|(id, _)| layer(id)).collect() }
    }
}

/// The path of the layer that an input belongs to.
fn layer(input: &ParamId) -> ParamId {
    parent_of(input.as_str()).into()
}

/// The paths of the inputs, which both models have.
fn common_paths<E>(
    reference: &impl Walk,
    quantized: &impl Walk,
) -> Result<BTreeSet<ParamId>, CompareError<E>> {
    let paths = |model: &dyn Walk| {
        let mut paths = BTreeSet::new();
        for_each_activation(model, |site, _| {
            paths.insert(ParamId::from(site.path));
        });
        paths
    };
    let (a, b) = (paths(reference), paths(quantized));
    match a.symmetric_difference(&b).next() {
        Some(id) => Err(CompareError::OtherLayers { id: layer(id) }),
        None => Ok(a),
    }
}

/// The scheme of the weight of each layer.
fn schemes(model: &impl Walk) -> BTreeMap<ParamId, QuantizationScheme> {
    let quantized = params(model).into_iter().filter_map(|param| Some((param.id, param.scheme?)));
    quantized.map(|(id, scheme)| (layer(&id), scheme)).collect()
}

fn set(model: &mut impl Walk, mut to: impl FnMut(&ParamId) -> Option<OutputsSeen>) {
    for_each_activation_mut(model, |site, activation| {
        let tap = to(&site.path.into()).map(Tap::new);
        activation.change_taps(site.path, |taps| taps.outputs = tap);
    });
}

/// Takes what was seen, by path.
fn take(model: &mut impl Walk) -> BTreeMap<ParamId, OutputsSeen> {
    let mut all = BTreeMap::new();
    for_each_activation_mut(model, |site, activation| {
        if let Some(tap) = activation.change_taps(site.path, |taps| taps.outputs.take()) {
            all.insert(site.path.into(), tap.into_seen());
        }
    });
    all
}

/// A table with a line for each layer.
impl fmt::Display for LayerComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |layer: &ComparedLayer| {
            [
                layer.id.to_string(),
                layer.scheme.map_or_else(|| String::from("float"), |scheme| scheme.to_string()),
                layer
                    .sqnr_db
                    .map_or_else(|| String::from("equal"), |ratio| alloc::format!("{ratio:.1}")),
                alloc::format!("{:.5}", layer.cosine),
                alloc::format!("{:.3e}", layer.max_abs_error),
            ]
        };
        let head = ["layer", "weight", "SQNR dB", "cosine", "max error"];
        table::write(f, head, self.layers.iter().map(row), 2..5)?;
        for id in &self.unreached {
            writeln!(f, "{id}: no batch reached this layer")?;
        }
        Ok(())
    }
}

/// The layers of two models could not be compared.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CompareError<E> {
    /// A forward pass failed.
    Forward {
        /// The position of the batch, from 0.
        batch: usize,
        /// The error of the forward pass.
        source: E,
    },
    /// Only one of the models has this layer.
    OtherLayers {
        /// The layer.
        id: ParamId,
    },
    /// An output of one of the models is NaN or infinite.
    NonFinite {
        /// The layer.
        id: ParamId,
        /// The position of the batch, from 0.
        batch: usize,
    },
    /// A layer ran more often in one model, or had more outputs.
    Outputs {
        /// The layer.
        id: ParamId,
        /// The position of the batch, from 0.
        batch: usize,
    },
}

impl<E: fmt::Display> fmt::Display for CompareError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { batch, source } => write!(f, "batch {batch}: {source}"),
            Self::OtherLayers { id } => write!(f, "{id}: only one of the models has this layer"),
            Self::NonFinite { id, batch } => {
                write!(f, "{id}: outputs for batch {batch} are NaN or infinite")
            }
            Self::Outputs { id, batch } => {
                write!(f, "{id}: the models have other numbers of outputs for batch {batch}")
            }
        }
    }
}

/// The error of the forward pass is part of the message, as it need not be an `Error`.
impl<E: fmt::Debug + fmt::Display> core::error::Error for CompareError<E> {}
