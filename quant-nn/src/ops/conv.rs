//! How the kernels of convolutions move.

use quant::FloatTensor;
use quant::Param;
use quant::activation::ActivationQuantizer;

/// How the kernel of a convolution moves over an image. Pairs are (vertical, horizontal).
///
/// ```
/// use quant_nn::Conv2dOptions;
///
/// let options = Conv2dOptions::new().stride([2, 2]).padding([1, 1]);
/// assert_eq!((options.dilation, options.groups), ([1, 1], 1));
/// assert_eq!(options.padding, [[1, 1], [1, 1]]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conv2dOptions {
    /// Pixels between neighbouring kernel positions; `[1, 1]` by default.
    pub stride: [usize; 2],
    /// Zeros added on each side, `[[top, bottom], [left, right]]`; none by default.
    pub padding: [[usize; 2]; 2],
    /// Pixels between neighbouring elements of the kernel; `[1, 1]` by default.
    pub dilation: [usize; 2],
    /// Groups of channels that are convolved separately; 1 by default. As many as there are input
    /// channels make a depthwise convolution.
    pub groups: usize,
}

impl Conv2dOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self { stride: [1, 1], padding: [[0; 2]; 2], dilation: [1, 1], groups: 1 }
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
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// How the kernel of a convolution moves along a sequence.
///
/// A causal convolution pads the start alone, by `dilation · (kernel - 1)`, so that no output
/// depends on later inputs:
///
/// ```
/// use quant_nn::Conv1dOptions;
///
/// let (kernel, dilation) = (3, 2);
/// let causal = Conv1dOptions::new().dilation(dilation).padding_sides([dilation * (kernel - 1), 0]);
/// assert_eq!(causal.padding, [4, 0]);
/// assert_eq!(Conv1dOptions::new().padding(1).padding, [1, 1]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conv1dOptions {
    /// Elements between neighbouring kernel positions; 1 by default.
    pub stride: usize,
    /// Zeros added on each side, `[start, end]`; none by default.
    pub padding: [usize; 2],
    /// Elements of the sequence between neighbouring elements of the kernel; 1 by default.
    pub dilation: usize,
    /// Groups of channels that are convolved separately; 1 by default. As many as there are input
    /// channels make a depthwise convolution.
    pub groups: usize,
}

impl Conv1dOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self { stride: 1, padding: [0; 2], dilation: 1, groups: 1 }
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
}

impl Default for Conv1dOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What a convolution takes besides its input; see [`Backend::conv2d`](crate::Backend::conv2d).
///
/// `O` is the type of its options, which says how many axes it has and whether it is transposed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConvParams<'a, T: FloatTensor, O = Conv2dOptions> {
    /// `[out, in / groups, …]`, or `[in, out / groups, …]` of a transposed convolution.
    pub weight: &'a Param<T>,
    /// `[out]`
    pub bias: Option<&'a Param<T>>,
    /// How the kernel moves.
    pub options: O,
    /// How the input is quantized.
    pub input: &'a ActivationQuantizer,
}

impl<'a, T: FloatTensor> ConvParams<'a, T> {
    /// A convolution without bias, with the default options.
    pub const fn new(weight: &'a Param<T>, input: &'a ActivationQuantizer) -> Self {
        Self { weight, bias: None, options: Conv2dOptions::new(), input }
    }

    /// With these options, of any kind of convolution.
    #[must_use]
    pub fn options<O>(self, options: O) -> ConvParams<'a, T, O> {
        let Self { weight, bias, input, .. } = self;
        ConvParams { weight, bias, options, input }
    }
}

impl<'a, T: FloatTensor, O> ConvParams<'a, T, O> {
    /// With this bias, `[out]`.
    #[must_use]
    pub fn bias(self, bias: Option<&'a Param<T>>) -> Self {
        Self { bias, ..self }
    }
}

impl<T: FloatTensor, O: Copy> Clone for ConvParams<'_, T, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: FloatTensor, O: Copy> Copy for ConvParams<'_, T, O> {}
