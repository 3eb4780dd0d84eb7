//! The order in which a layer takes its inputs.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use quant::ParamId;
use quant::module::{StateLeaf, Walk, Walker, WalkerMut};

use crate::backend::Backend;
use crate::error::ForwardError;

/// The name of the state in records.
const RECORD_KIND: &str = "input-order/1";

/// The order in which a layer takes its inputs: a state leaf beside the layer's weight, whose columns
/// have this order.
///
/// A new one leaves the inputs as they are, and stores nothing in a record. Weights whose groups have
/// inputs that are not next to each other, as GPTQ makes them with act-order, are stored with their
/// columns sorted by group; then the layer takes its inputs in that order, too.
///
/// ```
/// use ndarray::arr2;
/// use quant_nn::{InputOrder, Linear};
///
/// let mut layer = Linear::new(arr2(&[[10.0f32, 1.0, 100.0]]).into_dyn(), None)?;
/// layer.input_order = InputOrder::from_indices(vec![1, 0, 2])?;
/// let y = layer.forward(&arr2(&[[1.0, 2.0, 3.0]]).into_dyn())?;
/// assert_eq!(y[[0, 0]], 2.0 * 10.0 + 1.0 * 1.0 + 3.0 * 100.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputOrder(Option<Arc<[u32]>>);

impl InputOrder {
    /// Inputs in the order in which they come.
    pub fn new() -> Self {
        Self::default()
    }

    /// Column `i` of the weight belongs to input `indices[i]`.
    ///
    /// # Errors
    /// `indices` is not a permutation of `0 .. indices.len()`.
    pub fn from_indices(indices: Vec<u32>) -> Result<Self, InputOrderError> {
        let mut is_taken = vec![false; indices.len()];
        for (position, &index) in indices.iter().enumerate() {
            match is_taken.get_mut(index as usize) {
                Some(is_taken) if !*is_taken => *is_taken = true,
                Some(_) => return Err(InputOrderError::Repeated { position, index }),
                None => {
                    let inputs = indices.len();
                    return Err(InputOrderError::Index { position, index, inputs });
                }
            }
        }
        let is_identity = indices.iter().zip(0..).all(|(&index, position)| index == position);
        Ok(Self((!is_identity).then(|| indices.into())))
    }

    /// For each column of the weight, its input; `None` if they are in order.
    pub fn indices(&self) -> Option<&[u32]> {
        self.0.as_deref()
    }

    /// The inputs `x`, `[…, in]`, in this order.
    ///
    /// # Errors
    /// `x` has another number of inputs.
    pub fn apply<'a, T: Backend>(
        &self,
        x: &'a T::Activation,
    ) -> Result<Cow<'a, T::Activation>, ForwardError> {
        match self.indices() {
            None => Ok(Cow::Borrowed(x)),
            Some(indices) => T::permute_columns(x, indices).map(Cow::Owned),
        }
    }
}

impl StateLeaf for InputOrder {
    fn kind(&self) -> &str {
        RECORD_KIND
    }

    fn save(&self) -> Option<Vec<u8>> {
        Some(self.indices()?.iter().flat_map(|index| index.to_le_bytes()).collect())
    }

    fn load(&mut self, _path: &ParamId, data: Option<&[u8]>) -> Result<(), String> {
        let (words, rest) = data.unwrap_or_default().as_chunks();
        if !rest.is_empty() {
            return Err("the order of inputs has not 4 bytes for each".into());
        }
        let indices = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        *self = Self::from_indices(indices).map_err(|error| error.to_string())?;
        Ok(())
    }
}

impl Walk for InputOrder {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.state(self);
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        walker.state(self);
    }
}

/// Indices are not a permutation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputOrderError {
    /// There is no such input.
    Index {
        /// The position of the index, from 0.
        position: usize,
        /// The index.
        index: u32,
        /// The number of inputs, which is that of indices.
        inputs: usize,
    },
    /// An input occurs twice.
    Repeated {
        /// The second position of the index, from 0.
        position: usize,
        /// The index.
        index: u32,
    },
}

impl fmt::Display for InputOrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { position, index, inputs } => {
                write!(f, "position {position} of the order has input {index} of {inputs}")
            }
            Self::Repeated { position, index } => {
                write!(f, "position {position} of the order has input {index} a second time")
            }
        }
    }
}

impl std::error::Error for InputOrderError {}
