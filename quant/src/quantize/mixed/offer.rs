//! What each precision would cost a parameter.

use alloc::vec::Vec;

use super::Precision;
use crate::module::ParamId;
use crate::quantize::error::QuantizeError;
use crate::quantize::measure::{Effect, measure};
use crate::quantize::outcome::Expected;
use crate::quantize::planner::Choice;
use crate::quantize::weights::WeightError;
use crate::tensor::check_len;

/// What a precision costs one parameter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Offer {
    /// What becomes of it.
    pub precision: Precision,
    /// Its bytes afterwards: codes, scales and zero points, or floats.
    pub bytes: u64,
    /// `Σ (x - x̂)²`, or a multiple of it where parameters are not equally important.
    pub error: f64,
    /// What quantization does to it; `None` when it stays float.
    pub expected: Option<Expected>,
}

impl Offer {
    /// The offer of these costs.
    pub fn new(precision: Precision, bytes: u64, error: f64) -> Self {
        Self { precision, bytes, error, expected: None }
    }

    /// The offer of a precision that has this effect on all of a parameter.
    pub(super) fn of(precision: Precision, effect: &Effect) -> Self {
        let (bytes, error) = (effect.bytes, effect.noise());
        match precision {
            Precision::Float => Self::float(bytes),
            Precision::Quantized { .. } => {
                Self { precision, bytes, error, expected: Some(effect.expected()) }
            }
        }
    }

    /// The offer to leave a parameter of `bytes` as it is.
    pub fn float(bytes: u64) -> Self {
        Self::new(Precision::Float, bytes, 0.0)
    }
}

/// The offers of `precisions`, in their order, to one tensor. Float values count 4 bytes each.
///
/// ```
/// use quant::quantize::mixed;
/// use quant::quantize::mixed::Budget;
///
/// let precisions = ["per-tensor-symmetric-int8".parse()?, "per-tensor-symmetric-int4".parse()?];
/// let mut tensors = Vec::new();
/// for name in ["a", "b"] {
///     // One tensor in memory at a time.
///     let values: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
///     tensors.push(mixed::offers(&name.into(), &[8, 8], &values, &precisions)?);
/// }
/// let selection = mixed::select(&tensors, Budget::bytes(110).of(512))?;
/// assert_eq!((selection.choices, selection.bytes), (vec![0, 1], 104));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`QuantizeError::Param`]: the values do not fit the shape, a precision does not fit the tensor,
/// or a value is not finite.
pub fn offers(
    id: &ParamId,
    shape: &[usize],
    values: &[f32],
    precisions: &[Precision],
) -> Result<Vec<Offer>, QuantizeError> {
    let offer = |&precision: &Precision| match precision {
        Precision::Float => Ok(Offer::float(4 * values.len() as u64)),
        Precision::Quantized { scheme, calibration } => {
            check_len(shape, values.len()).map_err(|source| QuantizeError::Param {
                id: id.clone(),
                scheme,
                source: WeightError::Tensor(source),
            })?;
            let choice = Choice::new(scheme, calibration);
            Ok(Offer::of(precision, &measure(id, shape, values, &choice)?.effect))
        }
    };
    precisions.iter().map(offer).collect()
}
