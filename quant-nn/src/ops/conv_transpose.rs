//! How the kernels of transposed convolutions move.

use quant::scheme::Axis;

/// How the kernel of a transposed convolution moves over its output. Pairs are (vertical,
/// horizontal).
///
/// Along each axis, with `n` inputs and a kernel of `k`, the output has
/// `(n - 1) · stride + dilation · (k - 1) + 1 + output padding - padding` elements. The options mean
/// what they mean in `PyTorch`.
///
/// ```
/// use quant_nn::ConvTranspose2dOptions;
///
/// let twice = ConvTranspose2dOptions::new().stride([2, 2]).padding([1, 1]); // a kernel of 4 × 4
/// assert_eq!((twice.padding, twice.output_padding), ([[1, 1], [1, 1]], [0, 0]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvTranspose2dOptions {
    /// Pixels of the output between neighbouring pixels of the input; `[1, 1]` by default.
    pub stride: [usize; 2],
    /// Pixels left out on each side of the output, `[[top, bottom], [left, right]]`; none by
    /// default.
    pub padding: [[usize; 2]; 2],
    /// Pixels added to the output below and to the right; none by default. Less than the stride or
    /// the dilation along the axis.
    pub output_padding: [usize; 2],
    /// Pixels of the output between neighbouring elements of the kernel; `[1, 1]` by default.
    pub dilation: [usize; 2],
    /// Groups of channels that are convolved separately; 1 by default.
    pub groups: usize,
}

impl ConvTranspose2dOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            stride: [1, 1],
            padding: [[0; 2]; 2],
            output_padding: [0; 2],
            dilation: [1, 1],
            groups: 1,
        }
    }

    /// With this stride.
    #[must_use]
    pub const fn stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// With this padding: `[vertical, horizontal]`, the same on both sides.
    #[must_use]
    pub const fn padding(self, [vertical, horizontal]: [usize; 2]) -> Self {
        self.padding_sides([[vertical; 2], [horizontal; 2]])
    }

    /// With a padding for each side: `[[top, bottom], [left, right]]`.
    #[must_use]
    pub const fn padding_sides(self, padding: [[usize; 2]; 2]) -> Self {
        Self { padding, ..self }
    }

    /// With this output padding.
    #[must_use]
    pub const fn output_padding(self, output_padding: [usize; 2]) -> Self {
        Self { output_padding, ..self }
    }

    /// With this dilation.
    #[must_use]
    pub const fn dilation(self, dilation: [usize; 2]) -> Self {
        Self { dilation, ..self }
    }

    /// With this number of groups.
    #[must_use]
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The axis of a weight `[inputs, out / groups, …]` along which the channels of a scheme lie: 1, the
    /// outputs of a group.
    ///
    /// With several groups of one input channel each, as in a depthwise convolution, it is 0: each
    /// group has a scale of its own.
    pub fn channel_axis(self, inputs: usize) -> Axis {
        channel_axis(inputs, self.groups)
    }
}

impl Default for ConvTranspose2dOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// How the kernel of a transposed convolution moves along its output; as
/// [`ConvTranspose2dOptions`], with one axis.
///
/// A causal one with a kernel longer than the stride leaves out the end alone:
///
/// ```
/// use quant_nn::ConvTranspose1dOptions;
///
/// let (kernel, stride) = (16, 8);
/// let causal = ConvTranspose1dOptions::new().stride(stride).padding_sides([0, kernel - stride]);
/// assert_eq!(causal.padding, [0, 8]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConvTranspose1dOptions {
    /// Elements of the output between neighbouring elements of the input; 1 by default.
    pub stride: usize,
    /// Elements left out on each side of the output, `[start, end]`; none by default.
    pub padding: [usize; 2],
    /// Elements added at the end of the output; none by default. Less than the stride or the
    /// dilation.
    pub output_padding: usize,
    /// Elements of the output between neighbouring elements of the kernel; 1 by default.
    pub dilation: usize,
    /// Groups of channels that are convolved separately; 1 by default.
    pub groups: usize,
}

impl ConvTranspose1dOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self { stride: 1, padding: [0; 2], output_padding: 0, dilation: 1, groups: 1 }
    }

    /// With this stride.
    #[must_use]
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// With this padding, the same on both sides.
    #[must_use]
    pub const fn padding(self, padding: usize) -> Self {
        self.padding_sides([padding; 2])
    }

    /// With a padding for each side: `[start, end]`.
    #[must_use]
    pub const fn padding_sides(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    /// With this output padding.
    #[must_use]
    pub const fn output_padding(self, output_padding: usize) -> Self {
        Self { output_padding, ..self }
    }

    /// With this dilation.
    #[must_use]
    pub const fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// With this number of groups.
    #[must_use]
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The axis of a weight `[inputs, out / groups, …]` along which the channels of a scheme lie: 1, the
    /// outputs of a group.
    ///
    /// With several groups of one input channel each, as in a depthwise convolution, it is 0: each
    /// group has a scale of its own.
    pub fn channel_axis(self, inputs: usize) -> Axis {
        channel_axis(inputs, self.groups)
    }
}

impl Default for ConvTranspose1dOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The axis along which channels of the weight of a transposed convolution lie.
pub(crate) fn channel_axis(inputs: usize, groups: usize) -> Axis {
    Axis::new(if groups > 1 && inputs == groups { 0 } else { 1 })
}
