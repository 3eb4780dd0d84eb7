//! The shape of a convolution, and the sizes that follow from it.

use crate::error::{ConvError, PackError};

/// Output positions of a row that a depthwise kernel sums at a time: a vector of AVX-512. The last ones may
/// lie beyond the row, and read what follows.
pub(super) const PIXELS: usize = 16;

/// The shape of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Input channels, of all groups.
    pub in_channels: usize,
    /// Output channels, of all groups.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Distance of output positions, down and to the right.
    pub stride: [usize; 2],
    /// Rows added above and below, columns added left and right: `[[top, bottom], [left, right]]`.
    pub padding: [[usize; 2]; 2],
    /// Distance of the positions of the kernel; 1 if they are adjacent.
    pub dilation: [usize; 2],
    /// Groups of channels that are convolved separately; 1 for an ordinary convolution.
    pub groups: usize,
}

impl ConvShape {
    /// Height and width of the output for an input of this height and width.
    ///
    /// `None` if the kernel does not fit into the padded input, if the kernel, the stride or the
    /// dilation is 0 along an axis, or if a size leaves `usize`.
    pub fn output_size(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let gaps = self.kernel_size[i].checked_sub(1)?;
            let extent = self.dilation[i].checked_mul(gaps)?.checked_add(1)?;
            let room = self.padded_along(input, i)?.checked_sub(extent)?;
            if self.dilation[i] == 0 {
                return None;
            }
            room.checked_div(self.stride[i])?.checked_add(1)
        };
        Some([along(0)?, along(1)?])
    }

    fn padded_along(&self, input: [usize; 2], i: usize) -> Option<usize> {
        let [before, after] = self.padding[i];
        before.checked_add(after)?.checked_add(input[i])
    }

    pub(super) fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }

    pub(super) fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Positions of the kernel; saturated.
    pub(super) fn kernel_len(&self) -> usize {
        self.kernel_size[0].saturating_mul(self.kernel_size[1])
    }

    /// Whether each output position depends on the input at the same position alone.
    pub(super) fn is_pointwise(&self) -> bool {
        let ones = [self.kernel_size, self.stride];
        ones.as_flattened().iter().all(|of| *of == 1) && self.padding == [[0; 2]; 2]
    }

    /// The conditions of all other methods: sizes are not 0, and groups divide the channels.
    pub(super) fn check(&self) -> Result<(), PackError> {
        let Self { in_channels, out_channels, groups, .. } = *self;
        if groups == 0 || in_channels % groups != 0 {
            return Err(PackError::Groups { groups, channels: in_channels });
        }
        if out_channels % groups != 0 {
            return Err(PackError::Groups { groups, channels: out_channels });
        }
        let sizes = [self.kernel_size, self.stride, self.dilation];
        if sizes.as_flattened().contains(&0) || in_channels == 0 {
            return Err(PackError::EmptyKernel);
        }
        Ok(())
    }
}

/// Sizes that follow from the shape and an image.
pub(super) struct Geometry<'a> {
    pub(super) shape: &'a ConvShape,
    pub(super) input: [usize; 2],
    pub(super) padded: [usize; 2],
    pub(super) out: [usize; 2],
}

impl<'a> Geometry<'a> {
    pub(super) fn new(shape: &'a ConvShape, input: [usize; 2]) -> Result<Self, ConvError> {
        let out = shape.output_size(input).ok_or(ConvError::KernelTooLarge { size: input })?;
        let too_large = ConvError::TooLarge { size: input };
        let padded = [0, 1].map(|i| shape.padded_along(input, i).unwrap_or(usize::MAX));
        // The size of the laid out image, and what a depthwise kernel reads beyond it.
        let size = padded[0].checked_mul(padded[1]).and_then(|size| {
            let beyond = shape.stride[1].checked_mul(PIXELS)?;
            size.checked_mul(shape.group_in())?.checked_add(beyond)
        });
        match size {
            Some(size) if size <= isize::MAX as usize => Ok(Self { shape, input, padded, out }),
            _ => Err(too_large),
        }
    }

    /// Elements of an image.
    pub(super) fn image(&self) -> usize {
        let [height, width] = self.input;
        self.shape.in_channels.saturating_mul(height).saturating_mul(width)
    }

    /// Positions of an output channel.
    pub(super) fn pixels(&self) -> usize {
        self.out[0].saturating_mul(self.out[1])
    }

    /// Elements of the output of an image.
    pub(super) fn output(&self) -> usize {
        self.shape.out_channels.saturating_mul(self.pixels())
    }
}
