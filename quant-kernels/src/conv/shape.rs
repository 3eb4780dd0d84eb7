//! The shape of a convolution, and the sizes that follow from it.

use crate::error::{ConvError, PackError};

/// The shape of a convolution's weights, and how they are moved over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the window.
    pub window: [usize; 2],
    /// Steps of the window, down and to the right.
    pub stride: [usize; 2],
    /// Rows added above and below, columns added left and right.
    pub padding: [usize; 2],
    /// Distance of neighbours in the window.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl ConvShape {
    /// Height and width of the output for an input of this height and width; `None` if the window
    /// does not fit into it.
    pub fn output_size(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let reach = self.dilation[i] * (self.window[i] - 1) + 1;
            Some((input[i] + 2 * self.padding[i]).checked_sub(reach)? / self.stride[i] + 1)
        };
        Some([along(0)?, along(1)?])
    }

    pub(super) fn group_in(&self) -> usize {
        self.in_channels / self.groups
    }

    pub(super) fn group_out(&self) -> usize {
        self.out_channels / self.groups
    }

    pub(super) fn window_size(&self) -> usize {
        self.window[0] * self.window[1]
    }

    /// Whether the output of a pixel depends on that pixel alone, and every pixel has one.
    pub(super) fn is_pointwise(&self) -> bool {
        let ones = [self.window, self.stride];
        ones.as_flattened().iter().all(|of| *of == 1) && self.padding == [0, 0]
    }

    fn padded(&self, input: [usize; 2]) -> [usize; 2] {
        [input[0] + 2 * self.padding[0], input[1] + 2 * self.padding[1]]
    }

    /// What every other method relies on: nothing is divided by 0, and groups are whole.
    pub(super) fn check(&self) -> Result<(), PackError> {
        let Self { in_channels, out_channels, groups, .. } = *self;
        if groups == 0 || in_channels % groups != 0 {
            return Err(PackError::Groups { groups, channels: in_channels });
        }
        if out_channels % groups != 0 {
            return Err(PackError::Groups { groups, channels: out_channels });
        }
        let sizes = [self.window, self.stride, self.dilation];
        if sizes.as_flattened().contains(&0) || in_channels == 0 {
            return Err(PackError::EmptyWindow);
        }
        Ok(())
    }
}

/// Sizes that follow from the shape and the image.
pub(super) struct Geometry<'a> {
    pub(super) shape: &'a ConvShape,
    pub(super) input: [usize; 2],
    pub(super) padded: [usize; 2],
    pub(super) out: [usize; 2],
}

impl<'a> Geometry<'a> {
    pub(super) fn new(shape: &'a ConvShape, input: [usize; 2]) -> Result<Self, ConvError> {
        let out = shape.output_size(input).ok_or(ConvError::Window { size: input })?;
        Ok(Self { shape, input, padded: shape.padded(input), out })
    }

    /// Values of an image.
    pub(super) fn image(&self) -> usize {
        let [height, width] = self.input;
        self.shape.in_channels.saturating_mul(height).saturating_mul(width)
    }

    /// Values of a channel of the output.
    pub(super) fn pixels(&self) -> usize {
        self.out[0].saturating_mul(self.out[1])
    }

    /// Values of the output of an image.
    pub(super) fn output(&self) -> usize {
        self.shape.out_channels.saturating_mul(self.pixels())
    }
}
