//! The codes, scales and offsets of a quantized tensor, in memory or in another form that has them.

use super::buffer::Buffer;
#[cfg(feature = "std")]
use alloc::boxed::Box;
use alloc::vec::Vec;
#[cfg(feature = "std")]
use core::panic::{RefUnwindSafe, UnwindSafe};
#[cfg(feature = "std")]
use {
    super::error::TensorError, super::quantized::QuantizedTensor, std::sync::Arc,
    std::sync::OnceLock,
};

/// What a quantized tensor is made of, besides its shape and scheme.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parts {
    pub(crate) codes: Buffer<u8>,
    pub(crate) scales: Buffer<f32>,
    pub(crate) offsets: Offsets,
}

/// What each group has besides a scale.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Offsets {
    /// Nothing, under symmetric and full-range mappings, or zero points.
    ZeroPoints(Buffer<i8>),
    /// The values of the least codes.
    Minimums(Buffer<f32>),
}

impl Offsets {
    pub(crate) fn none() -> Self {
        Self::ZeroPoints(Vec::new().into())
    }
}

/// Another form of a quantized tensor, such as packed weights, which can give the tensor back.
///
/// A parameter that is [released](crate::Param::release) to it keeps no values of its own. Values that somebody
/// asks for, to save the model for example, are made again, and then stay.
#[cfg(feature = "std")]
pub trait HoldsTensor: Send + Sync + UnwindSafe + RefUnwindSafe {
    /// The tensor, the same at every call.
    ///
    /// # Errors
    /// This form does not have the whole tensor.
    fn tensor(&self) -> Result<QuantizedTensor, TensorError>;

    /// Writes the values of a row, an index of the first axis, as [`QuantizedTensor::dequantize`] has them.
    fn row(&self, row: usize, values: &mut [f32]);
}

/// [`Parts`], here or elsewhere.
#[derive(Clone)]
pub(crate) enum Values {
    Here(Parts),
    #[cfg(feature = "std")]
    Elsewhere(Box<Elsewhere>),
}

/// [`Parts`] that another form of the tensor has.
#[cfg(feature = "std")]
#[derive(Clone)]
pub(crate) struct Elsewhere {
    holder: Arc<dyn HoldsTensor>,
    /// Made when somebody asks for them.
    again: OnceLock<Parts>,
}

impl Values {
    pub(crate) fn parts(&self) -> &Parts {
        match self {
            Self::Here(parts) => parts,
            #[cfg(feature = "std")]
            Self::Elsewhere(of) => of.again.get_or_init(|| {
                let tensor = of.holder.tensor().expect("it had the tensor when it was released");
                tensor.into_parts()
            }),
        }
    }

    #[cfg(feature = "std")]
    pub(crate) fn into_parts(self) -> Parts {
        match self {
            Self::Here(parts) => parts,
            Self::Elsewhere(_) => self.parts().clone(),
        }
    }

    #[cfg(feature = "std")]
    pub(crate) fn held_by(holder: Arc<dyn HoldsTensor>) -> Self {
        Self::Elsewhere(Box::new(Elsewhere { holder, again: OnceLock::new() }))
    }

    /// The other form, if values are there alone.
    #[cfg(feature = "std")]
    pub(crate) fn holder(&self) -> Option<&dyn HoldsTensor> {
        match self {
            Self::Here(_) => None,
            Self::Elsewhere(of) => of.again.get().is_none().then_some(&*of.holder),
        }
    }

    /// Whether they are in memory here.
    pub(crate) fn is_here(&self) -> bool {
        match self {
            Self::Here(_) => true,
            #[cfg(feature = "std")]
            Self::Elsewhere(of) => of.again.get().is_some(),
        }
    }
}
