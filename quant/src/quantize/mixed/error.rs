//! Why nothing can be chosen.

use core::fmt;

use crate::module::ParamId;
use crate::quantize::QuantizeError;

/// No selection can be made of these offers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SelectError {
    /// The smallest offers together take more than the budget.
    BudgetTooSmall {
        /// The budget in bytes.
        budget: u64,
        /// The bytes of the smallest offers: the least budget that there is a selection for.
        smallest: u64,
    },
    /// A tensor has no offers. Tensors are counted from 0.
    NoOffer {
        /// The tensor's position.
        tensor: usize,
    },
    /// An error that is negative, infinite or NaN.
    Error {
        /// The tensor's position.
        tensor: usize,
        /// The offer's position.
        offer: usize,
        /// Its error.
        error: f64,
    },
    /// The bytes of the largest offers together are no `u64`.
    TooManyBytes,
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BudgetTooSmall { budget, smallest } => {
                write!(f, "the budget is {budget} bytes, but the least possible is {smallest}")
            }
            Self::NoOffer { tensor } => write!(f, "tensor {tensor} has no offers"),
            Self::Error { tensor, offer, error } => {
                write!(f, "tensor {tensor}: the error of offer {offer} is {error}")
            }
            Self::TooManyBytes => f.write_str("the bytes of all tensors are too many to count"),
        }
    }
}

impl core::error::Error for SelectError {}

/// Precisions cannot be chosen for a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MixedPrecisionError {
    /// There is nothing to choose from.
    NoPrecision,
    /// The model cannot be quantized as asked.
    Quantize(QuantizeError),
    /// Nothing fits the budget.
    Select(SelectError),
    /// A weight that is negative, infinite or NaN.
    Weight {
        /// The parameter.
        id: ParamId,
        /// The weight.
        weight: f64,
    },
    /// There are weights, but none for this parameter, which is to be chosen for.
    Unweighted {
        /// The parameter.
        id: ParamId,
    },
    /// There is a weight for a parameter that the model has not.
    UnknownWeight {
        /// The path.
        id: ParamId,
    },
}

impl fmt::Display for MixedPrecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrecision => f.write_str("there are no precisions to choose from"),
            Self::Quantize(error) => error.fmt(f),
            Self::Select(error) => error.fmt(f),
            Self::Weight { id, weight } => {
                write!(f, "{id}: the weight {weight} is not a number from 0 on")
            }
            Self::Unweighted { id } => write!(f, "{id}: others have a weight, this has none"),
            Self::UnknownWeight { id } => write!(f, "{id}: has a weight, but is not in the model"),
        }
    }
}

impl core::error::Error for MixedPrecisionError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            // The message is that of the error inside, and so is the source.
            Self::Quantize(error) => error.source(),
            Self::Select(error) => error.source(),
            _ => None,
        }
    }
}

impl From<QuantizeError> for MixedPrecisionError {
    fn from(error: QuantizeError) -> Self {
        Self::Quantize(error)
    }
}

impl From<SelectError> for MixedPrecisionError {
    fn from(error: SelectError) -> Self {
        Self::Select(error)
    }
}
