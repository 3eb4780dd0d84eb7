//! What shapes convolutions take: the checks that every backend shares.

use core::fmt;

use super::shape::LayerInput;
use crate::error::ForwardError;
use crate::ops::{Conv2dOptions, ConvTranspose2dOptions};
use quant_kernels::{ConvShape, ConvTransposeShape};

/// What a kernel moves along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axes {
    /// The length of a sequence.
    Sequence,
    /// The height and the width of an image.
    Image,
}

impl Axes {
    /// The axes in errors.
    const fn names(self) -> &'static str {
        match self {
            Self::Sequence => "length",
            Self::Image => "height, width",
        }
    }

    /// A shape as one over an image: a sequence has the height 1. `None` if it has another rank.
    fn over_image(self, shape: &[usize]) -> Option<[usize; 4]> {
        match (self, shape) {
            (Self::Sequence, &[first, second, length]) => Some([first, second, 1, length]),
            (Self::Image, &[first, second, height, width]) => Some([first, second, height, width]),
            _ => None,
        }
    }

    /// The shape of which this is the one [over an image](Self::over_image).
    fn dims(self, [first, second, height, width]: [usize; 4]) -> Vec<usize> {
        match self {
            Self::Sequence => vec![first, second, width],
            Self::Image => vec![first, second, height, width],
        }
    }

    /// The extents of a kernel along these axes.
    fn of_kernel(self, size: &[usize; 2]) -> &[usize] {
        match self {
            Self::Sequence => &size[1..],
            Self::Image => size,
        }
    }
}

/// The shapes of the operands of a convolution, and what errors say of it.
#[derive(Clone, Copy)]
pub(crate) struct Shapes<'a> {
    pub(crate) x: &'a [usize],
    pub(crate) weight: &'a [usize],
    pub(crate) axes: Axes,
    pub(crate) options: &'a dyn fmt::Debug,
    pub(crate) layer: LayerInput<'a>,
}

impl Shapes<'_> {
    /// The input over an image, for a weight of so many input channels.
    fn images(self, channels: usize) -> Result<Images, ForwardError> {
        match self.axes.over_image(self.x) {
            Some([batch, channels, height, width]) => {
                Ok(Images { batch, channels, size: [height, width] })
            }
            None => {
                let expected =
                    format!("an input of shape [batch, {channels}, {}]", self.axes.names());
                Err(self.layer.shape_error(expected, self.x))
            }
        }
    }

    /// The error that the weight is not of shape `[channels, …]`.
    fn weight_error(self, channels: &str) -> ForwardError {
        let expected = format!("a weight of shape [{channels}, {}]", self.axes.names());
        self.layer.shape_error(expected, self.weight)
    }

    /// The error that the input has other channels, or does not do what it must with this kernel.
    fn input_error(self, channels: usize, what: &str, kernel_size: [usize; 2]) -> ForwardError {
        let Self { axes, options, .. } = self;
        let (names, kernel) = (axes.names(), axes.of_kernel(&kernel_size));
        let expected = format!(
            "an input of shape [batch, {channels}, {names}] {what} {kernel:?} with {options:?}"
        );
        self.layer.shape_error(expected, self.x)
    }
}

/// The sizes of an input.
#[derive(Clone, Copy)]
struct Images {
    batch: usize,
    channels: usize,
    size: [usize; 2],
}

/// The sizes of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct ConvGeometry {
    pub(crate) batch: usize,
    /// Height and width of an image.
    pub(crate) size: [usize; 2],
    pub(crate) shape: ConvShape,
    /// Height and width of the result.
    pub(crate) output: [usize; 2],
    axes: Axes,
}

impl ConvGeometry {
    pub(super) fn new(of: Shapes<'_>, options: Conv2dOptions) -> Result<Self, ForwardError> {
        let weight = of.axes.over_image(of.weight);
        let Some(shape) = weight.and_then(|weight| conv_shape(weight, options)) else {
            return Err(of.weight_error("out, in / groups"));
        };
        let images = of.images(shape.in_channels)?;
        let output = Some(shape).filter(can_run).and_then(|shape| shape.output_size(images.size));
        match output.filter(|_| images.channels == shape.in_channels) {
            Some(output) => {
                let Images { batch, size, .. } = images;
                let geometry = Self { batch, size, shape, output, axes: of.axes };
                geometry.check(geometry.output_dims(), of)
            }
            None => {
                Err(of.input_error(shape.in_channels, "that holds the kernel", shape.kernel_size))
            }
        }
    }

    /// Checks that the result, of shape `result`, and the im2col matrix of an image can be in memory, so that
    /// no later product of sizes overflows.
    fn check(self, result: Vec<usize>, of: Shapes<'_>) -> Result<Self, ForwardError> {
        let ConvShape { in_channels, groups, kernel_size: [height, width], .. } = self.shape;
        let columns = [in_channels / groups, height, width, self.output[0], self.output[1]];
        if fits_into_memory(&result) && fits_into_memory(&columns) {
            return Ok(self);
        }
        let Shapes { axes, options, .. } = of;
        let expected = format!(
            "an input of shape [batch, channels, {}] whose result fits into memory, with {options:?}",
            axes.names()
        );
        Err(of.layer.shape_error(expected, of.x))
    }

    /// The shape of the result: `[batch, out, height, width]`, or `[batch, out, length]`.
    pub(crate) fn output_dims(&self) -> Vec<usize> {
        let [height, width] = self.output;
        self.axes.dims([self.batch, self.shape.out_channels, height, width])
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

    /// Elements of the result of an image.
    pub(crate) fn result_len(&self) -> usize {
        self.shape.out_channels * self.pixels()[1]
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

/// The sizes of a transposed convolution.
#[derive(Clone, Copy)]
pub(crate) struct ConvTransposeGeometry {
    pub(crate) shape: ConvTransposeShape,
    /// The convolution of which this is the gradient by its input: from the result to the input.
    pub(crate) adjoint: ConvGeometry,
}

impl ConvTransposeGeometry {
    pub(super) fn new(
        of: Shapes<'_>,
        options: ConvTranspose2dOptions,
    ) -> Result<Self, ForwardError> {
        let weight = of.axes.over_image(of.weight);
        let Some(shape) = weight.and_then(|weight| conv_transpose_shape(weight, options)) else {
            return Err(of.weight_error("in, out / groups"));
        };
        let images = of.images(shape.in_channels)?;
        let output = Some(shape).filter(can_be_transposed);
        let output = output.and_then(|shape| shape.output_size(images.size));
        match output.filter(|_| images.channels == shape.in_channels) {
            Some(output) => {
                let geometry = Self { shape, adjoint: adjoint(shape, images, output, of.axes) };
                geometry.adjoint.check(geometry.output_dims(), of)?;
                Ok(geometry)
            }
            None => {
                let what = "with an output by the kernel";
                Err(of.input_error(shape.in_channels, what, shape.kernel_size))
            }
        }
    }

    /// The shape of the result: `[batch, out, height, width]`, or `[batch, out, length]`.
    pub(crate) fn output_dims(&self) -> Vec<usize> {
        let ConvGeometry { batch, size: [height, width], axes, .. } = self.adjoint;
        axes.dims([batch, self.shape.out_channels, height, width])
    }
}

/// The convolution from the result of a transposed convolution to its input. Its result has the size of that
/// input also where the output padding would make it larger.
fn adjoint(
    shape: ConvTransposeShape,
    Images { batch, size, .. }: Images,
    result: [usize; 2],
    axes: Axes,
) -> ConvGeometry {
    let ConvTransposeShape { in_channels, out_channels, kernel_size, stride, .. } = shape;
    let ConvTransposeShape { padding, dilation, groups, .. } = shape;
    let shape = ConvShape {
        in_channels: out_channels,
        out_channels: in_channels,
        kernel_size,
        stride,
        padding,
        dilation,
        groups,
    };
    ConvGeometry { batch, size: result, shape, output: size, axes }
}

/// The shape that the kernels know for a weight `[out, in / groups, height, width]`; `None` if it has
/// more inputs than can be counted.
fn conv_shape(
    [out_channels, group_in, height, width]: [usize; 4],
    of: Conv2dOptions,
) -> Option<ConvShape> {
    let Conv2dOptions { stride, padding, dilation, groups } = of;
    Some(ConvShape {
        in_channels: group_in.checked_mul(groups)?,
        out_channels,
        kernel_size: [height, width],
        stride,
        padding,
        dilation,
        groups,
    })
}

/// The shape that the kernels know for a weight `[in, out / groups, height, width]`; `None` if it has
/// more outputs than can be counted.
fn conv_transpose_shape(
    [in_channels, group_out, height, width]: [usize; 4],
    of: ConvTranspose2dOptions,
) -> Option<ConvTransposeShape> {
    let ConvTranspose2dOptions { stride, padding, output_padding, dilation, groups } = of;
    Some(ConvTransposeShape {
        in_channels,
        out_channels: group_out.checked_mul(groups)?,
        kernel_size: [height, width],
        stride,
        padding,
        output_padding,
        dilation,
        groups,
    })
}

/// Whether an array of floats of this shape can be in memory. Axes of length 0 count as 1, because array
/// types multiply all others.
fn fits_into_memory(shape: &[usize]) -> bool {
    let most = isize::MAX as usize / size_of::<f32>();
    let len = shape.iter().try_fold(1usize, |len, &extent| len.checked_mul(extent.max(1)));
    len.is_some_and(|len| len <= most)
}

/// Whether a convolution of this shape is defined for any image.
fn can_run(shape: &ConvShape) -> bool {
    let ConvShape { out_channels, groups, kernel_size, stride, dilation, .. } = *shape;
    let extents = [kernel_size, stride, dilation];
    groups > 0 && out_channels.is_multiple_of(groups) && !extents.as_flattened().contains(&0)
}

/// Whether a transposed convolution of this shape is defined for any image.
fn can_be_transposed(shape: &ConvTransposeShape) -> bool {
    let ConvTransposeShape { in_channels, groups, stride, dilation, output_padding, .. } = *shape;
    let is_less = |i: usize| output_padding[i] < stride[i].max(dilation[i]);
    groups > 0 && in_channels.is_multiple_of(groups) && is_less(0) && is_less(1)
}
