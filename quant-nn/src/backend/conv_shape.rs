//! What shapes convolutions take: the checks that every backend shares.

use super::shape::LayerInput;
use crate::error::ForwardError;
use crate::ops::Conv2dOptions;
use quant_kernels::ConvShape;

/// The sizes of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct ConvGeometry {
    pub(crate) batch: usize,
    /// Height and width of an image.
    pub(crate) size: [usize; 2],
    pub(crate) shape: ConvShape,
    /// Height and width of the result.
    pub(crate) output: [usize; 2],
}

impl ConvGeometry {
    /// The sizes of a convolution of `x` with `weight`, if they fit.
    pub(crate) fn new(
        x: &[usize],
        weight: &[usize],
        options: Conv2dOptions,
        input: LayerInput<'_>,
    ) -> Result<Self, ForwardError> {
        let Ok(weight) = <&[usize; 4]>::try_from(weight) else {
            let expected = "a weight of shape [out, in / groups, height, width]";
            return Err(input.shape_error(expected, weight));
        };
        let shape = conv_shape(weight, options);
        let channels = shape.in_channels;
        let &[batch, found, height, width] = x else {
            let expected = format!("an input of shape [batch, {channels}, height, width]");
            return Err(input.shape_error(expected, x));
        };
        let size = [height, width];
        let output = Some(shape).filter(can_run).and_then(|shape| shape.output_size(size));
        match output.filter(|_| found == channels) {
            Some(output) => Ok(Self { batch, size, shape, output }),
            None => {
                let expected = format!(
                    "an input of shape [batch, {channels}, height, width] that holds the kernel \
                     {:?} with {options:?}",
                    shape.kernel_size
                );
                Err(input.shape_error(expected, x))
            }
        }
    }

    /// The shape of the result: `[batch, out, height, width]`.
    pub(crate) fn output_dims(&self) -> [usize; 4] {
        [self.batch, self.shape.out_channels, self.output[0], self.output[1]]
    }

    /// Input and output channels of a group.
    pub(crate) fn group_channels(&self) -> [usize; 2] {
        let ConvShape { in_channels, out_channels, groups, .. } = self.shape;
        [in_channels / groups, out_channels / groups]
    }

    /// Elements of a channel of an image, and of a channel of the result.
    pub(crate) fn pixels(&self) -> [usize; 2] {
        [self.size, self.output].map(|[height, width]| height * width)
    }

    /// Elements of an image.
    pub(crate) fn image_len(&self) -> usize {
        self.shape.in_channels * self.pixels()[0]
    }

    /// Positions of the kernel: its height times its width.
    pub(crate) fn kernel_len(&self) -> usize {
        self.shape.kernel_size[0] * self.shape.kernel_size[1]
    }

    /// Elements that one output of a group is a sum over: the rows of the im2col matrix.
    pub(crate) fn im2col_rows(&self) -> usize {
        self.group_channels()[0] * self.kernel_len()
    }
}

/// The shape that the kernels know for a weight `[out, in / groups, height, width]`.
fn conv_shape(weight: &[usize; 4], options: Conv2dOptions) -> ConvShape {
    let [out_channels, group_in, height, width] = *weight;
    let Conv2dOptions { stride, padding, dilation, groups } = options;
    ConvShape {
        in_channels: group_in * groups,
        out_channels,
        kernel_size: [height, width],
        stride,
        padding,
        dilation,
        groups,
    }
}

/// Whether a convolution of this shape is defined for any image.
fn can_run(shape: &ConvShape) -> bool {
    let ConvShape { out_channels, groups, kernel_size, stride, dilation, .. } = *shape;
    let extents = [kernel_size, stride, dilation];
    groups > 0 && out_channels.is_multiple_of(groups) && !extents.as_flattened().contains(&0)
}
