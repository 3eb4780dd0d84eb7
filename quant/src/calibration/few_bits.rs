//! Methods for weights of few bits, which look further than ranges.

use alloc::borrow::Cow;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use super::{Calibration, Histogram, MseCalibration};
use crate::scheme::{Grid, NonFinite, Range};

/// How the scales and codes of a weight are found; see [`Calibration::weight_method`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightMethod {
    /// Scales from the range of each group, codes by rounding.
    Range,
    /// Scales, and minimums, fitted to the codes; see [`LeastSquaresCalibration`].
    LeastSquares,
    /// As `LeastSquares`, with errors weighted by second moments; see [`WeightedMseCalibration`].
    WeightedMse,
    /// See [`HqqCalibration`].
    Hqq,
    /// See [`GptqCalibration`].
    Gptq {
        /// Columns with large second moments are first.
        descending: bool,
    },
}

impl WeightMethod {
    /// Whether the method needs the [second moments](crate::moments) of the layer's inputs.
    pub fn needs_moments(self) -> bool {
        matches!(self, Self::WeightedMse | Self::Gptq { .. })
    }
}

/// Scales with the least squared error, and minimums likewise; without data.
///
/// Where [`MseCalibration`] tries ranges, this fits the scale to the codes that it gives, and tries wider
/// scales, too: `s = Σ x·q / Σ q²`. Over minimums it fits a line, and it is the only method without data
/// beside [`HqqCalibration`] that finds them. Never worse than min-max; for symmetric and full-range
/// codes never worse than `mse`. With zero points it is `mse`. Rule 19 of `docs/numerics.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct LeastSquaresCalibration {}

/// Scales with the least squared error, where the error in each input counts as much as the inputs of the
/// layer have squares: `Σ_k h_k (w_k - ŵ_k)²` with `h_k = Σ x_k²`.
///
/// It needs the [second moments](crate::moments) of the layer's inputs, of which the diagonal is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct WeightedMseCalibration {}

/// Half-quadratic quantization ("HQQ", Badri and Shaji, 2023): the minimum of each group for which errors
/// are small but for a few, with the scale of min-max; without data. For schemes over minimums.
///
/// Rule 20 of `docs/numerics.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct HqqCalibration {}

/// GPTQ (Frantar and others, 2022): one column of a weight after the other is rounded, and those that
/// follow make up for the errors, as far as the inputs of the layer are alike.
///
/// It needs the matrix of the [second moments](crate::moments) of the layer's inputs. The scales are found
/// before the first column, as by [`WeightedMseCalibration`]. Where a row of outputs gets worse than by
/// [`MseCalibration`], it is rounded as that does. Rule 21 of `docs/numerics.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct GptqCalibration {
    /// Columns are rounded in the descending order of their second moments, in place of the order of
    /// storage.
    pub descending: bool,
}

/// Ranges of activations, and of weights where only ranges can be used, are those of `mse`.
macro_rules! beyond_ranges {
    ($($calibration:ty, $name:expr, $method:expr;)*) => {$(
        impl Calibration for $calibration {
            type Observer = Histogram;

            fn name(&self) -> Cow<'static, str> {
                let name: fn(&Self) -> &'static str = $name;
                name(self).into()
            }

            fn observer(&self) -> Histogram {
                Histogram::default()
            }

            fn range(&self, histogram: &Histogram, grid: Grid) -> Option<Range> {
                MseCalibration {}.range(histogram, grid)
            }

            fn weight_range(&self, values: &[f32], grid: Grid) -> Result<Range, NonFinite> {
                MseCalibration {}.weight_range(values, grid)
            }

            fn finds_minimums(&self) -> bool {
                true
            }

            fn weight_method(&self) -> WeightMethod {
                let method: fn(&Self) -> WeightMethod = $method;
                method(self)
            }
        }
    )*};
}

beyond_ranges! {
    LeastSquaresCalibration, |_| "least-squares", |_| WeightMethod::LeastSquares;
    WeightedMseCalibration, |_| "weighted-mse", |_| WeightMethod::WeightedMse;
    HqqCalibration, |_| "hqq", |_| WeightMethod::Hqq;
    GptqCalibration, |of| if of.descending { "gptq:descending" } else { "gptq" },
        |of| WeightMethod::Gptq { descending: of.descending };
}
