//! The kinds of convolutions: along a sequence or over an image, transposed or not.
//!
//! A convolution along a sequence is one of images of height 1, so that one function computes both.

use core::fmt;

use super::conv_shape::{Axes, ConvGeometry, ConvTransposeGeometry, Shapes};
use super::shape::LayerInput;
use crate::error::ForwardError;
use crate::ops::{Conv1dOptions, Conv2dOptions, ConvTranspose1dOptions, ConvTranspose2dOptions};
use quant::activation::ActivationQuantizer;

/// The options of a kind of convolution.
pub(crate) trait ConvOptions: Copy + fmt::Debug {
    /// The same over an image.
    type In2d: Copy;
    /// The sizes of a convolution.
    type Geometry;
    /// What the kernel moves along.
    const AXES: Axes;
    /// The operation, in errors.
    const OPERATION: &'static str;

    fn in_2d(self) -> Self::In2d;

    /// The sizes of a convolution of `x` with `weight`, if they fit.
    fn geometry(
        self,
        x: &[usize],
        weight: &[usize],
        layer: LayerInput<'_>,
    ) -> Result<Self::Geometry, ForwardError>;

    /// The layer of a quantizer, for errors.
    fn layer(self, quantizer: &ActivationQuantizer) -> LayerInput<'_> {
        LayerInput { operation: Self::OPERATION, quantizer }
    }
}

macro_rules! options {
    ($options:ty, $in_2d:ty, $geometry:ty, $operation:literal, $axes:expr, $of:expr) => {
        impl ConvOptions for $options {
            type In2d = $in_2d;
            type Geometry = $geometry;
            const AXES: Axes = $axes;
            const OPERATION: &'static str = $operation;

            fn in_2d(self) -> $in_2d {
                $of(self)
            }

            fn geometry(
                self,
                x: &[usize],
                weight: &[usize],
                layer: LayerInput<'_>,
            ) -> Result<$geometry, ForwardError> {
                let shapes = Shapes { x, weight, axes: Self::AXES, options: &self, layer };
                <$geometry>::new(shapes, self.in_2d())
            }
        }
    };
}

options!(Conv2dOptions, Self, ConvGeometry, "conv2d", Axes::Image, |of| of);
options!(Conv1dOptions, Conv2dOptions, ConvGeometry, "conv1d", Axes::Sequence, conv_over_image);
options!(
    ConvTranspose2dOptions,
    Self,
    ConvTransposeGeometry,
    "conv_transpose2d",
    Axes::Image,
    |of| of
);
options!(
    ConvTranspose1dOptions,
    ConvTranspose2dOptions,
    ConvTransposeGeometry,
    "conv_transpose1d",
    Axes::Sequence,
    conv_transpose_over_image
);

/// The options over an image of height 1. Stride and dilation along its height have no effect; they
/// are those of its width, because candle has one for both.
fn conv_over_image(of: Conv1dOptions) -> Conv2dOptions {
    let Conv1dOptions { stride, padding, dilation, groups } = of;
    Conv2dOptions::new()
        .stride([stride; 2])
        .padding_sides([[0, 0], padding])
        .dilation([dilation; 2])
        .groups(groups)
}

/// As [`conv_over_image`].
fn conv_transpose_over_image(of: ConvTranspose1dOptions) -> ConvTranspose2dOptions {
    let ConvTranspose1dOptions { stride, padding, output_padding, dilation, groups } = of;
    ConvTranspose2dOptions::new()
        .stride([stride; 2])
        .padding_sides([[0, 0], padding])
        .output_padding([0, output_padding])
        .dilation([dilation; 2])
        .groups(groups)
}
