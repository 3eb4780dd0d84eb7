//! Embeddings.

use ndarray::ArrayD;

use crate::backend::Backend;
use crate::error::ForwardError;
use quant::FloatTensor;
use quant::Param;
use quant::tensor::TensorError;

/// A vector for each index: rows of a weight.
#[derive(Clone, Debug, quant::Module)]
pub struct Embedding<T: FloatTensor = ArrayD<f32>> {
    /// `[num_embeddings, embedding_dim]`
    pub weight: Param<T>,
}

impl<T: FloatTensor> Embedding<T> {
    /// The layer with this weight, `[num_embeddings, embedding_dim]`.
    ///
    /// # Errors
    /// `weight` is not of rank 2.
    pub fn new(weight: T) -> Result<Self, TensorError> {
        match &*weight.shape() {
            [_, _] => {}
            shape => return Err(TensorError::rank(2, shape)),
        }
        Ok(Self { weight: Param::new(weight) })
    }
}

impl<T: Backend> Embedding<T> {
    /// The rows of the weight at `indices`: `[indices, embedding_dim]`.
    ///
    /// # Errors
    /// An index out of range.
    pub fn forward(&self, indices: &[u32]) -> Result<T::Activation, ForwardError> {
        T::embedding(indices, &self.weight)
    }

    /// [`forward`](Self::forward) into an activation that the caller keeps.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn forward_into(&self, indices: &[u32], y: &mut T::Activation) -> Result<(), ForwardError> {
        T::embedding_into(indices, &self.weight, y)
    }
}
