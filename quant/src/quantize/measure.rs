//! The bytes and the expected error of quantizing one parameter.

use super::error::QuantizeError;
use super::fit::{Fitted, fit};
use super::outcome::Expected;
use super::planner::Choice;
use super::weights;
use crate::calibration;
use crate::kernel::QuantError;
use crate::module::ParamId;
use crate::scheme::{Mapping, QuantizationScheme, packing};

/// The bytes of a tensor once it is quantized.
fn byte_count(shape: &[usize], scheme: QuantizationScheme, groups: usize) -> u64 {
    let codes = packing::packed_bytes(shape, scheme.quantization_type());
    let zero_point = match scheme.mapping() {
        Mapping::Symmetric => 0,
        Mapping::Affine => 1,
    };
    (codes.unwrap_or(0) + groups * (scheme.scale_type().bytes() + zero_point)) as u64
}

/// The result of quantizing one tensor.
pub(super) struct Measured {
    pub(super) bytes: u64,
    /// `Σ (x - x̂)²`.
    pub(super) noise: f64,
    pub(super) expected: Expected,
    /// What its codes are computed with.
    pub(super) fitted: Fitted,
}

pub(super) fn measure(
    id: &ParamId,
    shape: &[usize],
    values: &[f32],
    choice: &Choice,
) -> Result<Measured, QuantizeError> {
    let fitted = fit(id, shape, values, choice)?;
    let bytes = byte_count(shape, choice.scheme, fitted.params.len());
    let (expected, noise) = expect(&fitted, values);
    Ok(Measured { bytes, noise, expected, fitted })
}

fn expect(Fitted { scheme, groups, params }: &Fitted, values: &[f32]) -> (Expected, f64) {
    let grid = scheme.grid();
    let mut error = QuantError::default();
    let each = weights::for_each_group(*groups, values, |group, values| {
        error = error.and(calibration::quant_error(grid, values, params[group]));
        Ok::<(), core::convert::Infallible>(())
    });
    let Ok(()) = each;
    let scales = params.iter().map(|params| params.scale());
    let expected = Expected {
        scales: (scales.clone().fold(f32::INFINITY, f32::min), scales.fold(0.0, f32::max)),
        sqnr_db: error.sqnr_db(),
        max_abs_error: error.largest,
    };
    (expected, error.noise)
}
