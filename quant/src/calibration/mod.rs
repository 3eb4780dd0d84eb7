//! From values to the range that codes must cover: calibrations and their observers.
//!
//! A [`Calibration`] is a setting: what a user writes down, puts into a recipe, or passes to a
//! [`Quantizer`](crate::Quantizer). The [`Observer`] it makes is a state: it sees values piece by
//! piece, can be merged with one that saw others, and names a range in the end. Weights are seen
//! whole, so [`Calibration::weight_range`] may do better than stream them.

#[cfg(feature = "std")]
mod any;
#[cfg(feature = "std")]
mod entropy;
mod histogram;
#[cfg(feature = "std")]
mod method;
pub(crate) mod min_max;
mod moving_average;
mod mse;
mod percentile;

use alloc::borrow::Cow;

#[cfg(feature = "std")]
pub use any::AnyObserver;
#[cfg(feature = "std")]
pub use entropy::EntropyCalibration;
pub use histogram::{Bin, Histogram};
#[cfg(feature = "std")]
pub use method::{CalibrationMethod, CalibrationNameError};
#[doc(hidden)]
pub use min_max::MinMaxCalibration;
pub use min_max::MinMaxObserver;
pub use moving_average::{MovingAverageCalibration, MovingAverageObserver};
pub use mse::MseCalibration;
pub use percentile::PercentileCalibration;

use crate::kernel::{Kernel, QuantError};
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
    /// What sees the values.
    type Observer: Observer;

    /// The name in plans and recipes, with parameters if there are any.
    fn name(&self) -> Cow<'static, str>;

    /// A new observer, which has seen nothing.
    fn observer(&self) -> Self::Observer;

    /// The range that the codes of `grid` should cover, or `None` if nothing was seen.
    fn range(&self, observer: &Self::Observer, grid: Grid) -> Option<Range>;

    /// The range for the values of one group of a weight, all at hand.
    ///
    /// # Errors
    /// The first value that is NaN or infinite.
    fn weight_range(&self, values: &[f32], grid: Grid) -> Result<Range, NonFinite> {
        let mut observer = self.observer();
        observer.observe(values)?;
        Ok(self.range(&observer, grid).unwrap_or(Range::ZERO))
    }
}

/// What has been seen of a stream of values.
pub trait Observer {
    /// Sees a batch of values.
    ///
    /// # Errors
    /// The first value that is NaN or infinite; the observer is then as it was before the batch.
    fn observe(&mut self, values: &[f32]) -> Result<(), NonFinite>;

    /// Takes in what another observer of the same calibration has seen.
    fn merge(&mut self, other: &Self);
}

/// What quantizing `values` on `grid` does to them.
pub(crate) fn quant_error(grid: Grid, values: &[f32], params: QuantParams) -> QuantError {
    Kernel::current().quant_error(values, Quantization::new(params, grid))
}
