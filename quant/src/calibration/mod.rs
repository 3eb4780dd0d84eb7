//! From values to the range that codes must cover: calibrations and their observers.
//!
//! A [`Calibration`] is a setting, which a recipe or a [`Quantizer`](crate::Quantizer) holds. It makes
//! an [`Observer`], which is a state: it receives values batch by batch, can be merged with another
//! observer of the same calibration, and gives a range at the end. A weight is known as a whole, so
//! [`Calibration::weight_range`] may use better methods than an observer. This room imports `scheme`
//! and the kernels only. Start reading in `min_max.rs`.

#[cfg(feature = "std")]
mod any;
#[cfg(feature = "std")]
mod entropy;
mod few_bits;
mod histogram;
pub(crate) mod hqq;
pub(crate) mod least_squares;
#[cfg(feature = "std")]
mod method;
pub(crate) mod min_max;
mod moving_average;
pub(crate) mod mse;
mod percentile;

use alloc::borrow::Cow;

#[cfg(feature = "std")]
pub use any::AnyObserver;
#[cfg(feature = "std")]
pub use entropy::EntropyCalibration;
pub use few_bits::{
    GptqCalibration, HqqCalibration, LeastSquaresCalibration, WeightMethod, WeightedMseCalibration,
};
pub use histogram::{Bin, Histogram};
#[cfg(feature = "std")]
pub use method::{CalibrationMethod, CalibrationNameError};
pub(crate) use min_max::MinMaxCalibration;
pub use min_max::MinMaxObserver;
pub use moving_average::{MovingAverageCalibration, MovingAverageObserver};
pub use mse::MseCalibration;
pub use percentile::PercentileCalibration;

use crate::kernel::{Kernel, QuantError};
#[cfg(feature = "std")]
use crate::scheme::MinimumParams;
use crate::scheme::{Grid, NonFinite, QuantParams, Quantization, Range};

/// How the range of a tensor is found.
///
/// ```
/// use quant::calibration::{Calibration, Observer};
/// use quant::scheme::{Grid, NonFinite, Range};
/// use quant::MinMaxCalibration;
///
/// /// Half the range: large values saturate.
/// #[derive(Clone)]
/// struct Half;
///
/// impl Calibration for Half {
///     type Observer = quant::calibration::MinMaxObserver;
///     fn name(&self) -> std::borrow::Cow<'static, str> { "half".into() }
///     fn observer(&self) -> Self::Observer { MinMaxCalibration {}.observer() }
///     fn range(&self, observer: &Self::Observer, _grid: Grid) -> Option<Range> {
///         let range = observer.range()?;
///         Range::new(range.lo() / 2.0, range.hi() / 2.0)
///     }
/// }
/// ```
pub trait Calibration {
    /// The observer that receives values for this calibration.
    type Observer: Observer;

    /// The name in plans and recipes, with parameters if there are any.
    fn name(&self) -> Cow<'static, str>;

    /// A new observer that has seen no values.
    fn observer(&self) -> Self::Observer;

    /// The range that the codes of `grid` should cover, or `None` if nothing was seen.
    fn range(&self, observer: &Self::Observer, grid: Grid) -> Option<Range>;

    /// The range for all values of one group of a weight.
    ///
    /// # Errors
    /// The first value that is NaN or infinite.
    fn weight_range(&self, values: &[f32], grid: Grid) -> Result<Range, NonFinite> {
        let mut observer = self.observer();
        observer.observe(values)?;
        Ok(self.range(&observer, grid).unwrap_or(Range::ZERO))
    }

    /// Whether the calibration also finds the minimums of weights under
    /// [`Mapping::Minimum`](crate::scheme::Mapping::Minimum), as that of least and greatest values does. By
    /// default it does not, and such a scheme is an error.
    fn finds_minimums(&self) -> bool {
        false
    }

    /// How the scales and codes of a weight are found. The default goes by
    /// [`weight_range`](Self::weight_range); other methods are those of this crate.
    fn weight_method(&self) -> WeightMethod {
        WeightMethod::Range
    }

    /// The number of values that a group of a weight must have; fewer are an error. 0 by default.
    fn least_values(&self) -> usize {
        0
    }
}

/// The state of a calibration: what it has seen of a stream of values.
pub trait Observer {
    /// Receives a batch of values.
    ///
    /// # Errors
    /// The first value that is NaN or infinite. The observer is then unchanged.
    fn observe(&mut self, values: &[f32]) -> Result<(), NonFinite>;

    /// Merges what another observer of the same calibration has seen.
    fn merge(&mut self, other: &Self);
}

/// The error of quantizing `values` on `grid` over a minimum, with sums in the order of the kernels'.
#[cfg(feature = "std")]
pub(crate) fn minimum_error(grid: Grid, values: &[f32], params: MinimumParams) -> QuantError {
    let (qmin, _) = grid.code_range();
    let mut lanes = [QuantError::default(); 16];
    for (at, &value) in values.iter().enumerate() {
        let code = i32::from(grid.quantize_over_minimum(value, params));
        let error = value - params.dequantize(code - qmin);
        let lane = &mut lanes[at % 16];
        *lane = lane.and(QuantError {
            signal: f64::from(value) * f64::from(value),
            noise: f64::from(error) * f64::from(error),
            largest: error.abs(),
        });
    }
    lanes.into_iter().fold(QuantError::default(), QuantError::and)
}

/// The error of quantizing `values` on `grid`.
pub(crate) fn quant_error(grid: Grid, values: &[f32], params: QuantParams) -> QuantError {
    Kernel::current().quant_error(values, Quantization::new(params, grid))
}
