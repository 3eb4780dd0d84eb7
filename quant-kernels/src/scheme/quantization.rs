//! What rule 3 needs for one group of elements: parameters and the codes in use.

use core::fmt;

use super::ScaleType;

/// The scale and zero point that one group of elements shares.
///
/// ```
/// use quant_kernels::scheme::QuantParams;
/// let params = QuantParams::new(0.5, 3)?;
/// assert_eq!(params.dequantize(7), 2.0);
/// assert!(QuantParams::new(0.0, 3).is_err() && QuantParams::new(f32::NAN, 3).is_err());
/// # Ok::<(), quant_kernels::scheme::ScaleError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "RawParams", into = "RawParams"))]
pub struct QuantParams {
    scale: f32,
    zero_point: i8,
}

impl QuantParams {
    /// Scale 1 and zero point 0.
    pub const UNIT: Self = Self { scale: 1.0, zero_point: 0 };

    /// The parameters with this scale and zero point.
    ///
    /// # Errors
    /// The scale is not a positive normal f32.
    #[inline]
    pub fn new(scale: f32, zero_point: i8) -> Result<Self, ScaleError> {
        if scale.is_normal() && scale > 0.0 {
            Ok(Self { scale, zero_point })
        } else {
            Err(ScaleError { scale, stored_as: ScaleType::F32 })
        }
    }

    /// [`QuantParams::new`] for a scale that was checked before. A wrong scale gives wrong values
    /// and nothing worse.
    #[doc(hidden)]
    #[inline]
    pub const fn from_checked(scale: f32, zero_point: i8) -> Self {
        Self { scale, zero_point }
    }

    /// The difference between the values of neighbouring codes: positive, finite and normal; finite
    /// and of either sign for full-range codes.
    #[inline]
    pub const fn scale(self) -> f32 {
        self.scale
    }

    /// The code of 0.
    #[inline]
    pub const fn zero_point(self) -> i8 {
        self.zero_point
    }

    /// The value of `code`: `f32(q - z) * s`.
    #[inline]
    pub fn dequantize(self, code: i8) -> f32 {
        (i32::from(code) - i32::from(self.zero_point)) as f32 * self.scale
    }
}

/// The scale and the minimum that one group of elements shares, in place of a zero point.
///
/// ```
/// use quant_kernels::scheme::MinimumParams;
/// let params = MinimumParams { scale: 0.5, minimum: -1.0 };
/// assert_eq!(params.dequantize(3), 0.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinimumParams {
    /// The difference between the values of neighbouring codes: finite.
    pub scale: f32,
    /// The value of the least code: finite.
    pub minimum: f32,
}

impl MinimumParams {
    /// The value that lies `steps` codes above the least one: `f32(u) * s + m`, product and sum each
    /// rounded.
    #[inline]
    pub fn dequantize(self, steps: i32) -> f32 {
        steps as f32 * self.scale + self.minimum
    }
}

/// [`QuantParams`] as it is serialized, before the scale is checked.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct RawParams {
    scale: f32,
    zero_point: i8,
}

#[cfg(feature = "serde")]
impl TryFrom<RawParams> for QuantParams {
    type Error = ScaleError;

    fn try_from(raw: RawParams) -> Result<Self, ScaleError> {
        Self::new(raw.scale, raw.zero_point)
    }
}

#[cfg(feature = "serde")]
impl From<QuantParams> for RawParams {
    fn from(params: QuantParams) -> Self {
        Self { scale: params.scale, zero_point: params.zero_point }
    }
}

/// The codes that values are clamped to, `min ..= max`; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeRange {
    min: i8,
    max: i8,
}

impl CodeRange {
    /// `-128 ..= 127`.
    pub const FULL: Self = Self { min: i8::MIN, max: i8::MAX };

    /// `min ..= max`, or `None` if that is empty.
    ///
    /// ```
    /// use quant_kernels::scheme::CodeRange;
    /// assert_eq!(CodeRange::new(-127, 127).unwrap().min(), -127);
    /// assert_eq!(CodeRange::new(1, 0), None);
    /// ```
    #[inline]
    pub const fn new(min: i8, max: i8) -> Option<Self> {
        if min <= max { Some(Self { min, max }) } else { None }
    }

    /// The smallest code.
    #[inline]
    pub const fn min(self) -> i8 {
        self.min
    }

    /// The largest code.
    #[inline]
    pub const fn max(self) -> i8 {
        self.max
    }
}

impl fmt::Display for CodeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.min, self.max)
    }
}

/// How values become codes: `clamp(rne(x / scale) + zero_point, codes.min(), codes.max())`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// Scale and zero point.
    pub params: QuantParams,
    /// The codes in use.
    pub codes: CodeRange,
}

impl Quantization {
    /// On the codes of a grid.
    #[inline]
    pub fn new(params: QuantParams, codes: impl Into<CodeRange>) -> Self {
        Self { params, codes: codes.into() }
    }

    /// On all 8-bit codes.
    #[inline]
    pub const fn full_range(params: QuantParams) -> Self {
        Self { params, codes: CodeRange::FULL }
    }
}

/// A scale has no normal value in the type it is to be stored in.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScaleError {
    /// The scale, before it is stored.
    pub scale: f32,
    /// The type that cannot hold it.
    pub stored_as: ScaleType,
}

impl fmt::Display for ScaleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scale, stored_as } = self;
        write!(f, "the scale {scale:e} is not a normal {stored_as}")?;
        if *stored_as == ScaleType::F16 { f.write_str("; store it in f32") } else { Ok(()) }
    }
}

impl core::error::Error for ScaleError {}
