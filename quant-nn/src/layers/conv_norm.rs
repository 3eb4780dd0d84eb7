//! A convolution with the norm that follows it.

use core::fmt;

use ndarray::ArrayD;

use super::batch_norm::BatchNorm2d;
use super::conv::Conv2d;
use crate::backend::Backend;
use crate::error::ForwardError;
use quant::FloatTensor;
use quant::ParamId;
use quant::module::{FoldNorm, LeavesMut, ParamMut, Site, Walk, Walker, WalkerMut, walk_mut};
use quant::tensor::TensorError;

/// A convolution and, until it is folded, its [`BatchNorm2d`].
///
/// [`FoldNorms::fold_norms`] multiplies the norm into the convolution. Quantization-aware training
/// quantizes the folded weight, with the statistics learned while the model was float, so that the
/// trained model is the deployed one.
#[derive(Clone, Debug)]
pub struct ConvNorm2d<T: FloatTensor = ArrayD<f32>> {
    /// The convolution.
    pub conv: Conv2d<T>,
    /// The norm; `None` once it is folded.
    pub norm: Option<BatchNorm2d<T>>,
}

impl<T: FloatTensor> ConvNorm2d<T> {
    /// The layer that computes `conv` and then `norm`.
    pub fn new(conv: Conv2d<T>, norm: BatchNorm2d<T>) -> Self {
        Self { conv, norm: Some(norm) }
    }
}

impl<T: Backend> ConvNorm2d<T> {
    /// `[batch, in, height, width]` to `[batch, out, height', width']`.
    ///
    /// # Errors
    /// See [`Backend::conv2d_norm`].
    pub fn forward(&self, x: &T::Activation) -> Result<T::Activation, ForwardError> {
        match &self.norm {
            Some(norm) => T::conv2d_norm(x, self.conv.params(), norm.params()),
            None => self.conv.forward(x),
        }
    }
}

impl<T: FloatTensor> Walk for ConvNorm2d<T> {
    fn walk(&self, walker: &mut Walker<'_>) {
        self.conv.walk(&mut walker.field("conv"));
        self.norm.walk(&mut walker.field("norm"));
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        walker.foldable(self);
        self.conv.walk_mut(&mut walker.field("conv"));
        self.norm.walk_mut(&mut walker.field("norm"));
    }
}

impl<T: FloatTensor> FoldNorm for ConvNorm2d<T> {
    fn fold(&mut self) -> Result<(), TensorError> {
        let Some(norm) = &self.norm else { return Ok(()) };
        let Conv2d { weight, bias, .. } = self.conv.fold(norm)?;
        // The value changes in place, so that the parameter keeps its attachment.
        if let (Some(own), Some(folded)) = (self.conv.weight.as_float_mut(), weight.into_float()) {
            *own = folded;
        }
        self.conv.bias = bias;
        self.norm = None;
        Ok(())
    }
}

/// Folding of norms; implemented for every model.
pub trait FoldNorms: Walk + Sized {
    /// Folds the norm of every [`ConvNorm2d`] into its convolution. Call it before quantizing.
    ///
    /// # Errors
    /// A weight that is quantized already, or a norm of another number of channels; with the path.
    fn fold_norms(self) -> Result<Self, FoldError> {
        fold(self)
    }
}

impl<M: Walk> FoldNorms for M {}

fn fold<M: Walk>(mut model: M) -> Result<M, FoldError> {
    struct All(Option<FoldError>);
    impl LeavesMut for All {
        fn param(&mut self, _: Site<'_>, _: &mut dyn ParamMut) {}

        fn foldable(&mut self, site: Site<'_>, layer: &mut dyn FoldNorm) {
            if self.0.is_none() {
                let failed = layer.fold().err();
                self.0 = failed.map(|source| FoldError { id: site.path.into(), source });
            }
        }
    }
    let mut all = All(None);
    walk_mut(&mut model, &mut all);
    all.0.map_or(Ok(model), Err)
}

/// A norm cannot be folded into its convolution.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FoldError {
    /// The layer.
    pub id: ParamId,
    /// Why the two do not fit, or which of them is quantized.
    pub source: TensorError,
}

impl fmt::Display for FoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the norm cannot be folded into the convolution", self.id)
    }
}

impl core::error::Error for FoldError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}
