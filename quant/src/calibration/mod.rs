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
pub(crate) use min_max::MinMaxCalibration;
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

/// The error of quantizing `values` on `grid`.
pub(crate) fn quant_error(grid: Grid, values: &[f32], params: QuantParams) -> QuantError {
    Kernel::current().quant_error(values, Quantization::new(params, grid))
}
