//! From the values of one tensor to its codes.

use alloc::vec::Vec;
use core::fmt;

use super::few_bits;
#[cfg(feature = "std")]
use crate::calibration;
use crate::calibration::{Calibration, WeightMethod};
use crate::kernel::Kernel;
#[cfg(feature = "std")]
use crate::kernel::QuantError;
#[cfg(feature = "std")]
use crate::moments::MomentsError;
use crate::scheme::{
    Grid, Groups, LayoutError, Mapping, MinimumParams, NonFinite, QuantParams, QuantizationScheme,
    Range, ScaleError,
};
use crate::tensor::{QuantizedTensor, TensorError};

/// The part of [`Calibration`] that is object-safe.
pub trait WeightRange: Send + Sync {
    /// The range for the values of one group.
    ///
    /// # Errors
    /// The first value that is NaN or infinite.
    fn weight_range(&self, values: &[f32], grid: Grid) -> Result<Range, NonFinite>;

    /// See [`Calibration::finds_minimums`].
    fn finds_minimums(&self) -> bool;

    /// See [`Calibration::least_values`].
    fn least_values(&self) -> usize;

    /// See [`Calibration::weight_method`].
    fn weight_method(&self) -> WeightMethod;
}

impl<C: Calibration + Send + Sync> WeightRange for C {
    fn weight_range(&self, values: &[f32], grid: Grid) -> Result<Range, NonFinite> {
        Calibration::weight_range(self, values, grid)
    }

    fn finds_minimums(&self) -> bool {
        Calibration::finds_minimums(self)
    }

    fn least_values(&self) -> usize {
        Calibration::least_values(self)
    }

    fn weight_method(&self) -> WeightMethod {
        Calibration::weight_method(self)
    }
}

/// Quantizes a tensor given by its shape and its values in row-major order.
///
/// [`quantize_weights`](crate::Module::quantize_weights) does the same to each parameter of a model.
///
/// ```
/// use quant::quantize::quantize_values;
/// use quant::{MinMaxCalibration, QuantizationScheme, QuantizationType};
///
/// let scheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8);
/// let tensor = quantize_values(&[3], &[-1.0, 0.5, 1.27], scheme, &MinMaxCalibration {})?;
/// assert_eq!(tensor.codes(), [-100, 50, 127]);
/// # Ok::<(), quant::quantize::WeightError>(())
/// ```
///
/// # Errors
/// A number of values that is not the product of the shape, a scheme that does not fit the shape, a
/// calibration that needs larger groups, a value that is not finite, a scale that has no normal value in
/// its stored type, or a value so near to the greatest f32 that its code stands for an infinity.
pub fn quantize_values<C: Calibration + Send + Sync>(
    shape: &[usize],
    values: &[f32],
    scheme: QuantizationScheme,
    calibration: &C,
) -> Result<QuantizedTensor, WeightError> {
    crate::tensor::check_len(shape, values.len()).map_err(WeightError::Tensor)?;
    let groups = Groups::new(shape, scheme.granularity())?;
    let params = group_params(groups, scheme.grid(), values, calibration, None)?;
    Ok(params.quantize(shape, scheme, groups, values))
}

/// What the codes of each group are computed with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum GroupParams {
    /// Scales and zero points.
    ZeroPoints(Vec<QuantParams>),
    /// Scales and minimums.
    Minimums(Vec<MinimumParams>),
}

impl GroupParams {
    /// The codes of `values`, a tensor of this shape.
    pub(super) fn quantize(
        &self,
        shape: &[usize],
        scheme: QuantizationScheme,
        groups: Groups,
        values: &[f32],
    ) -> QuantizedTensor {
        match self {
            Self::ZeroPoints(params) => {
                QuantizedTensor::quantize(shape, scheme, groups, values, params)
            }
            Self::Minimums(params) => {
                QuantizedTensor::quantize_over_minimums(shape, scheme, groups, values, params)
            }
        }
    }
}

/// What plans ask.
#[cfg(feature = "std")]
impl GroupParams {
    /// The number of groups.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::ZeroPoints(params) => params.len(),
            Self::Minimums(params) => params.len(),
        }
    }

    /// The value that the code of `value` in this group stands for.
    pub(super) fn value_of(&self, grid: Grid, group: usize, value: f32) -> f32 {
        match self {
            Self::ZeroPoints(params) => {
                let params = params[group];
                params.dequantize(grid.quantize(value, params))
            }
            Self::Minimums(params) => {
                let (qmin, _) = grid.code_range();
                let code = i32::from(grid.quantize_over_minimum(value, params[group]));
                params[group].dequantize(code - qmin)
            }
        }
    }

    /// Takes the parameters of some groups from others of the same kind.
    pub(super) fn copy_from(&mut self, other: &Self, groups: core::ops::Range<usize>) {
        match (self, other) {
            (Self::ZeroPoints(params), Self::ZeroPoints(others)) => {
                params[groups.clone()].copy_from_slice(&others[groups]);
            }
            (Self::Minimums(params), Self::Minimums(others)) => {
                params[groups.clone()].copy_from_slice(&others[groups]);
            }
            _ => unreachable!("the mapping decides the kind"),
        }
    }

    /// The magnitude of each scale.
    pub(super) fn scales(&self) -> impl Iterator<Item = f32> + '_ {
        (0..self.len()).map(move |group| match self {
            Self::ZeroPoints(params) => params[group].scale().abs(),
            Self::Minimums(params) => params[group].scale.abs(),
        })
    }

    /// The error of quantizing the values of a group.
    #[inline]
    pub(super) fn error(&self, grid: Grid, group: usize, values: &[f32]) -> QuantError {
        match self {
            Self::ZeroPoints(params) => calibration::quant_error(grid, values, params[group]),
            Self::Minimums(params) => calibration::minimum_error(grid, values, params[group]),
        }
    }
}

/// The scale and zero point of each group, by its range.
///
/// # Errors
/// As [`quantize_values`]; also a scheme with minimums.
pub fn params(
    groups: Groups,
    grid: Grid,
    values: &[f32],
    calibration: &dyn WeightRange,
) -> Result<Vec<QuantParams>, WeightError> {
    match group_params(groups, grid, values, calibration, None)? {
        GroupParams::ZeroPoints(params) => Ok(params),
        GroupParams::Minimums(_) => Err(WeightError::Calibration),
    }
}

/// The parameters of each group. `inputs` is what an error in each input of the layer costs, for methods
/// that weigh it.
pub(super) fn group_params(
    groups: Groups,
    grid: Grid,
    values: &[f32],
    calibration: &dyn WeightRange,
    inputs: Option<&[f64]>,
) -> Result<GroupParams, WeightError> {
    check_calibration(groups, grid, calibration)?;
    match calibration.weight_method() {
        WeightMethod::Range => range_params(groups, grid, values, calibration),
        WeightMethod::Hqq => few_bits::hqq(groups, grid, values),
        WeightMethod::LeastSquares => few_bits::least_squares(groups, grid, values, None),
        WeightMethod::WeightedMse | WeightMethod::Gptq { .. } => {
            let inputs = inputs.ok_or(WeightError::NoMoments)?;
            few_bits::least_squares(groups, grid, values, Some(inputs))
        }
    }
}

/// The parameters of each group, by its range.
fn range_params(
    groups: Groups,
    grid: Grid,
    values: &[f32],
    calibration: &dyn WeightRange,
) -> Result<GroupParams, WeightError> {
    match grid.mapping() {
        Mapping::Symmetric | Mapping::Affine => {
            zero_point_params(groups, grid, values, calibration, |range, _| range)
        }
        Mapping::FullRange => zero_point_params(groups, grid, values, calibration, one_sided),
        Mapping::Minimum => {
            each_minimum(groups, values, |_, _, (lo, hi)| grid.minimum_params(lo, hi))
        }
    }
}

/// `cut` makes the range of a group that of its parameters.
fn zero_point_params(
    groups: Groups,
    grid: Grid,
    values: &[f32],
    calibration: &dyn WeightRange,
    cut: impl Fn(Range, &[f32]) -> Range,
) -> Result<GroupParams, WeightError> {
    each_zero_point(groups, grid, values, |group, values| {
        let range = calibration
            .weight_range(values, grid)
            .map_err(|error| WeightError::NonFinite(within(groups, group, error)))?;
        let fitted = grid.params(cut(range, values));
        fitted.map_err(|source| WeightError::Scale { group, source })
    })
}

/// What `fit` finds for each group.
pub(super) fn each_zero_point(
    groups: Groups,
    grid: Grid,
    values: &[f32],
    mut fit: impl FnMut(usize, &[f32]) -> Result<QuantParams, WeightError>,
) -> Result<GroupParams, WeightError> {
    let mut params = Vec::with_capacity(groups.count());
    for_each_group(groups, values, |group, values| {
        params.push(fit(group, values)?);
        Ok::<_, WeightError>(())
    })?;
    check_values(groups, grid, values, &params)?;
    Ok(GroupParams::ZeroPoints(params))
}

/// Checks that the code of no value stands for an infinity (rule 3), for each group.
///
/// # Errors
/// The first group with such a value.
pub fn check_values(
    groups: Groups,
    grid: Grid,
    values: &[f32],
    params: &[QuantParams],
) -> Result<(), WeightError> {
    if params.iter().all(|&params| has_finite_codes(grid, params)) {
        return Ok(());
    }
    // A code at an end stands for an infinity; but it may be the code of no value.
    for_each_group(groups, values, |group, values| {
        let params = params[group];
        let is_infinite =
            |value: f32| params.dequantize(grid.quantize(value, params)).is_infinite();
        match values.iter().find(|&&value| is_infinite(value)) {
            Some(&value) => Err(WeightError::InfiniteCode { group, value }),
            None => Ok(()),
        }
    })
}

/// Whether every code of the grid stands for a finite value: the two at the ends do.
#[inline]
fn has_finite_codes(grid: Grid, params: QuantParams) -> bool {
    // A code is at most 255 steps from a zero point. This is asked for each group.
    const SURELY: f32 = f32::MAX / 256.0;
    if params.scale().abs() <= SURELY {
        return true;
    }
    let (qmin, qmax) = grid.code_range();
    [qmin, qmax].iter().all(|&code| params.dequantize(code as i8).is_finite())
}

/// A range with ends of equal magnitude, cut to the side of the first value of that magnitude.
fn one_sided(range: Range, values: &[f32]) -> Range {
    if range.hi() != -range.lo() {
        return range;
    }
    let first = values.iter().find(|value| value.abs() == range.hi());
    let cut = first.and_then(|&value| Range::new(value, value));
    cut.unwrap_or(range)
}

/// Checks that the calibration finds what the mapping needs, in groups of this size.
///
/// The first group counts, because the last block of a row may be shorter.
pub fn check_calibration(
    groups: Groups,
    grid: Grid,
    calibration: &dyn WeightRange,
) -> Result<(), WeightError> {
    if grid.mapping().has_minimums() && !calibration.finds_minimums() {
        return Err(WeightError::Calibration);
    }
    let least = calibration.least_values();
    if least == 0 || groups.count() == 0 {
        return Ok(());
    }
    let values = groups.runs_of(0).map(|run| run.len()).sum();
    if values < least { Err(WeightError::SmallGroups { values, least }) } else { Ok(()) }
}

/// What `fit` finds for the values of each group and their ends.
pub(super) fn each_minimum(
    groups: Groups,
    values: &[f32],
    mut fit: impl FnMut(usize, &[f32], (f32, f32)) -> Result<MinimumParams, ScaleError>,
) -> Result<GroupParams, WeightError> {
    let mut params = Vec::with_capacity(groups.count());
    for_each_group(groups, values, |group, values| {
        // Not by a `Range`, which holds zero.
        let ends =
            if values.is_empty() { Ok((0.0, 0.0)) } else { Kernel::current().min_max(values) };
        let (lo, hi) =
            ends.map_err(|error| WeightError::NonFinite(within(groups, group, error)))?;
        let fitted = fit(group, values, (lo, hi));
        params.push(fitted.map_err(|source| WeightError::Scale { group, source })?);
        Ok::<_, WeightError>(())
    })?;
    Ok(GroupParams::Minimums(params))
}

/// `error` with its index in the tensor, in place of the index in the group.
pub(super) fn within(groups: Groups, group: usize, error: NonFinite) -> NonFinite {
    let index = groups.runs_of(group).flatten().nth(error.index).unwrap_or(error.index);
    NonFinite { index, ..error }
}

/// Calls `f` with the values of each group, in order.
///
/// The values are borrowed if the group is contiguous, and copied otherwise.
pub(super) fn for_each_group<E>(
    groups: Groups,
    values: &[f32],
    mut f: impl FnMut(usize, &[f32]) -> Result<(), E>,
) -> Result<(), E> {
    if groups.is_interleaved() {
        return for_each_column(groups.count(), values, f);
    }
    let mut gathered = Vec::new();
    for group in 0..groups.count() {
        let mut runs = groups.runs_of(group);
        match (runs.next(), runs.next()) {
            (None, _) => f(group, &[])?,
            (Some(run), None) => f(group, &values[run])?,
            (Some(first), Some(second)) => {
                gathered.clear();
                for run in [first, second].into_iter().chain(runs) {
                    gathered.extend_from_slice(&values[run]);
                }
                f(group, &gathered)?;
            }
        }
    }
    Ok(())
}

/// Calls `f` with each column of rows of `columns` values.
///
/// Columns are gathered sixteen at a time: sixteen floats are a cache line, and each line is read
/// once.
fn for_each_column<E>(
    columns: usize,
    values: &[f32],
    mut f: impl FnMut(usize, &[f32]) -> Result<(), E>,
) -> Result<(), E> {
    const AT_ONCE: usize = 16;
    let rows = values.len() / columns.max(1);
    let mut gathered = alloc::vec![0.0; rows * AT_ONCE.min(columns)];
    for start in (0..columns).step_by(AT_ONCE) {
        let width = AT_ONCE.min(columns - start);
        for (r, row) in values.chunks(columns).enumerate() {
            for (c, &value) in row[start..start + width].iter().enumerate() {
                gathered[c * rows + r] = value;
            }
        }
        for c in 0..width {
            f(start + c, &gathered[c * rows..][..rows])?;
        }
    }
    Ok(())
}

/// A tensor cannot be quantized.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WeightError {
    /// A value is NaN or infinite.
    NonFinite(NonFinite),
    /// The scale of a group has no normal value in the type it is to be stored in.
    Scale {
        /// The group.
        group: usize,
        /// Why.
        source: ScaleError,
    },
    /// The code of a value stands for an infinity: the value is within a step of the greatest f32.
    InfiniteCode {
        /// The group.
        group: usize,
        /// The value, the first one of the group.
        value: f32,
    },
    /// The mapping of the scheme has minimums, which the calibration does not find.
    Calibration,
    /// The calibration finds minimums alone, and the mapping of the scheme has none.
    NeedsMinimums,
    /// The calibration needs the [second moments](crate::moments) of the layer's inputs, and there are
    /// none.
    NoMoments,
    /// The calibration needs the matrix of the second moments, and only the diagonal is known.
    DiagonalMoments,
    /// The second moments are not those of the inputs of this weight.
    MomentColumns {
        /// The inputs of each output of the weight.
        expected: usize,
        /// The columns of the second moments.
        found: usize,
    },
    /// The second moments cannot be had.
    #[cfg(feature = "std")]
    Moments(MomentsError),
    /// The groups have fewer values than the calibration [needs](Calibration::least_values).
    SmallGroups {
        /// The values of a group.
        values: usize,
        /// The least number of values.
        least: usize,
    },
    /// The scheme does not fit the shape.
    Layout(LayoutError),
    /// The values do not fit the shape.
    Tensor(TensorError),
}

#[cfg(feature = "std")]
impl WeightError {
    /// The error of a part of a tensor with positions in the whole tensor, which has so many elements and
    /// groups before the part.
    pub(super) fn in_part(self, elements: usize, groups: usize) -> Self {
        match self {
            Self::NonFinite(error) => {
                Self::NonFinite(NonFinite { index: elements + error.index, ..error })
            }
            Self::Scale { group, source } => Self::Scale { group: groups + group, source },
            Self::InfiniteCode { group, value } => {
                Self::InfiniteCode { group: groups + group, value }
            }
            other => other,
        }
    }
}

impl From<LayoutError> for WeightError {
    fn from(error: LayoutError) -> Self {
        Self::Layout(error)
    }
}

#[cfg(feature = "std")]
impl From<MomentsError> for WeightError {
    fn from(error: MomentsError) -> Self {
        Self::Moments(error)
    }
}

impl fmt::Display for WeightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonFinite(error) => error.fmt(f),
            Self::Scale { group, .. } => write!(f, "group {group}"),
            Self::InfiniteCode { group, value } => write!(
                f,
                "group {group}: the code of {value:e} stands for an infinity; divide the weight by 2, or \
                 keep it float"
            ),
            Self::Calibration => {
                f.write_str("the calibration finds no minimums; use min-max or least-squares, or another mapping")
            }
            Self::NeedsMinimums => f.write_str(
                "the calibration finds minimums, and the scheme has none; use a scheme over minimums, or \
                 least-squares",
            ),
            Self::NoMoments => f.write_str(
                "the calibration needs second moments of the inputs of this weight, and there are none; \
                 give the recipe moments that have them, or this weight another calibration",
            ),
            Self::DiagonalMoments => f.write_str(
                "the calibration needs the matrix of second moments, and only its diagonal is known; use \
                 weighted-mse",
            ),
            Self::MomentColumns { expected, found } => write!(
                f,
                "each output has {expected} inputs, and the second moments are those of {found}"
            ),
            #[cfg(feature = "std")]
            Self::Moments(error) => error.fmt(f),
            Self::SmallGroups { values, least } => write!(
                f,
                "the calibration needs groups of {least} values or more, and these have {values}; use mse, \
                 or larger groups"
            ),
            Self::Layout(error) => error.fmt(f),
            Self::Tensor(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for WeightError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            // The message is that of the error inside, and so is the source.
            Self::NonFinite(error) => error.source(),
            Self::Scale { source, .. } => Some(source),
            Self::InfiniteCode { .. }
            | Self::SmallGroups { .. }
            | Self::Calibration
            | Self::NeedsMinimums
            | Self::NoMoments
            | Self::DiagonalMoments
            | Self::MomentColumns { .. } => None,
            #[cfg(feature = "std")]
            Self::Moments(error) => error.source(),
            Self::Layout(error) => error.source(),
            Self::Tensor(error) => error.source(),
        }
    }
}
