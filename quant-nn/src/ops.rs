//! The parameters of operations: plain values that layers and backends share.

/// How a window is moved over an image. Pairs are (down, right).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Steps of the window.
    pub stride: [usize; 2],
    /// Zeros added on either side.
    pub padding: [usize; 2],
    /// Distance of neighbours in the window.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other; as many as there are channels: depthwise.
    pub groups: usize,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unary {
    /// `max(x, 0)`
    Relu,
    /// `x / 2 · (1 + erf(x / √2))`
    Gelu,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
}

/// How a window of an image becomes one number. Pairs are (down, right).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The greatest.
    Max {
        /// The size of the window.
        size: [usize; 2],
        /// Its steps.
        stride: [usize; 2],
    },
    /// The mean.
    Average {
        /// The size of the window.
        size: [usize; 2],
        /// Its steps.
        stride: [usize; 2],
    },
}

impl Pool {
    /// The size of the window.
    pub const fn size(self) -> [usize; 2] {
        match self {
            Self::Max { size, .. } | Self::Average { size, .. } => size,
        }
    }

    /// Its steps.
    pub const fn stride(self) -> [usize; 2] {
        match self {
            Self::Max { stride, .. } | Self::Average { stride, .. } => stride,
        }
    }

    /// Height and width of the output; `None` if the window is empty, does not fit or does not
    /// move.
    pub fn output_size(self, input: [usize; 2]) -> Option<[usize; 2]> {
        let along = |i: usize| {
            let size = Some(self.size()[i]).filter(|&size| size > 0)?;
            let room = input[i].checked_sub(size)?;
            Some(room.checked_div(self.stride()[i])? + 1)
        };
        Some([along(0)?, along(1)?])
    }
}
