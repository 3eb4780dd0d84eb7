//! Convolutions and transposed ones, to be run alike.

use super::float_conv;
use super::integer::Operands;
use super::integer_conv;
use crate::backend::conv_shape::{ConvGeometry, ConvTransposeGeometry};
use crate::backend::shape::LayerInput;
use crate::error::ForwardError;
use quant::activation::{ActivationError, ActivationQuantizer};
use quant::module::Cache;
use quant::tensor::QuantizedTensor;

/// A convolution of known sizes.
pub(crate) trait Convolution: Copy + Send + Sync + 'static {
    /// The shape of the result.
    fn output_dims(&self) -> Vec<usize>;

    fn out_channels(&self) -> usize;

    /// Elements of an image.
    #[cfg(feature = "candle")]
    fn image_len(&self) -> usize;

    /// Shows a quantizer the rows that the weight is multiplied with, if it observes second moments. There
    /// is one matrix of them for a layer, so that convolutions in groups, and transposed ones, show none.
    fn observe_moments(
        &self,
        _x: &[f32],
        _input: &ActivationQuantizer,
    ) -> Result<(), ActivationError> {
        Ok(())
    }

    /// Computes `y`, whose elements are 0, in floats.
    fn in_floats(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]);

    /// Computes `y` in integers. The packed weight stays in `cache`.
    fn in_integers(
        &self,
        operands: Operands<'_, &[f32]>,
        weight: &QuantizedTensor,
        cache: Option<&Cache>,
        y: &mut [f32],
    ) -> Result<(), ForwardError>;

    /// The gradients of the images and of the weight.
    #[cfg(feature = "candle")]
    fn backward(&self, x: &[f32], weight: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>);

    /// The result for a quantized weight and an input that may be float. `cache` is that of its
    /// parameter.
    fn with_quantized(
        &self,
        x: &[f32],
        weight: &QuantizedTensor,
        cache: &Cache,
        (bias, layer): (Option<&[f32]>, LayerInput<'_>),
        y: &mut [f32],
    ) -> Result<(), ForwardError> {
        if super::integer::stays_float(layer.quantizer) {
            let weight = super::float::dequantized(weight, cache)?;
            self.in_floats(x, &weight, bias, y);
            return Ok(());
        }
        self.in_integers(Operands { x, bias, layer }, weight, Some(cache), y)
    }
}

impl Convolution for ConvGeometry {
    fn output_dims(&self) -> Vec<usize> {
        Self::output_dims(self)
    }

    fn out_channels(&self) -> usize {
        self.shape.out_channels
    }

    #[cfg(feature = "candle")]
    fn image_len(&self) -> usize {
        Self::image_len(self)
    }

    fn in_floats(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        float_conv::conv2d(x, weight, bias, self, y);
    }

    fn observe_moments(
        &self,
        x: &[f32],
        input: &ActivationQuantizer,
    ) -> Result<(), ActivationError> {
        if self.shape.groups > 1 || !input.observes_moments() {
            return Ok(());
        }
        let columns = self.im2col_rows();
        float_conv::im2col_of_each(x, self, |rows| input.observe_moments(rows, columns))
    }

    fn in_integers(
        &self,
        Operands { x, bias, layer }: Operands<'_, &[f32]>,
        weight: &QuantizedTensor,
        cache: Option<&Cache>,
        y: &mut [f32],
    ) -> Result<(), ForwardError> {
        let x = float_conv::FloatImages { values: x, batch: self.batch, size: self.size };
        integer_conv::conv2d(Operands { x, bias, layer }, self.shape, weight, cache, y)
    }

    #[cfg(feature = "candle")]
    fn backward(&self, x: &[f32], weight: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        float_conv::conv2d_backward(x, weight, self, dy)
    }
}

impl Convolution for ConvTransposeGeometry {
    fn output_dims(&self) -> Vec<usize> {
        Self::output_dims(self)
    }

    fn out_channels(&self) -> usize {
        self.shape.out_channels
    }

    #[cfg(feature = "candle")]
    fn image_len(&self) -> usize {
        self.adjoint.result_len()
    }

    fn in_floats(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        float_conv::conv_transpose2d(x, weight, bias, self, y);
    }

    fn in_integers(
        &self,
        Operands { x, bias, layer }: Operands<'_, &[f32]>,
        weight: &QuantizedTensor,
        cache: Option<&Cache>,
        y: &mut [f32],
    ) -> Result<(), ForwardError> {
        let (batch, size) = (self.adjoint.batch, self.adjoint.output);
        let x = float_conv::FloatImages { values: x, batch, size };
        integer_conv::conv_transpose2d(Operands { x, bias, layer }, self.shape, weight, cache, y)
    }

    #[cfg(feature = "candle")]
    fn backward(&self, x: &[f32], weight: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        float_conv::conv_transpose2d_backward(x, weight, self, dy)
    }
}
