//! Comparing the outputs of the layers of two models.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::compare_error::CompareError;
use super::output_taps::{common_paths, layer, schemes, set, take};
use super::taps::{OutputsSeen, Sums};
use crate::module::{ParamId, Walk};
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
///         self.input.observe_outputs(&y, 1); // layers of `quant-nn` do so
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
