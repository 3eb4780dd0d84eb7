//! What can be asked for: code widths, mappings, granularities and their combinations.

use core::fmt;

use super::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// The signed integer type of the codes: its width is the number of bits that carry information.
///
/// Codes are stored in 8, 4 or 2 bits: `QInt3` takes the room of `QInt4`, and `QInt5` to `QInt7`
/// that of `QInt8`. See [`storage_bits`](Self::storage_bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum QuantizationType {
    /// 8 bits: −128 to 127.
    QInt8,
    /// 7 bits: −64 to 63, stored in 8.
    QInt7,
    /// 6 bits: −32 to 31, stored in 8.
    QInt6,
    /// 5 bits: −16 to 15, stored in 8.
    QInt5,
    /// 4 bits: −8 to 7, two to the byte.
    QInt4,
    /// 3 bits: −4 to 3, two to the byte.
    QInt3,
    /// 2 bits: −2 to 1, four to the byte.
    QInt2,
}

impl QuantizationType {
    /// Every type, widest first.
    pub const ALL: [Self; 7] =
        [Self::QInt8, Self::QInt7, Self::QInt6, Self::QInt5, Self::QInt4, Self::QInt3, Self::QInt2];

    /// The number of bits that carry information, 2 to 8.
    #[inline]
    pub const fn bits(self) -> u32 {
        match self {
            Self::QInt8 => 8,
            Self::QInt7 => 7,
            Self::QInt6 => 6,
            Self::QInt5 => 5,
            Self::QInt4 => 4,
            Self::QInt3 => 3,
            Self::QInt2 => 2,
        }
    }

    /// The type with this many bits, if there is one.
    #[inline]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            8 => Some(Self::QInt8),
            7 => Some(Self::QInt7),
            6 => Some(Self::QInt6),
            5 => Some(Self::QInt5),
            4 => Some(Self::QInt4),
            3 => Some(Self::QInt3),
            2 => Some(Self::QInt2),
            _ => None,
        }
    }

    /// The number of bits a code takes in memory and on disk: 8, 4 or 2.
    #[inline]
    pub const fn storage_bits(self) -> u32 {
        match self.bits() {
            5.. => 8,
            3..=4 => 4,
            _ => 2,
        }
    }

    /// The least and the greatest code under `mapping`.
    ///
    /// Symmetric codes leave the least value of the type out, so that the range is its own mirror
    /// image; all others use the whole type, `-2^(b-1) ..= 2^(b-1) - 1`.
    #[inline]
    pub const fn code_range(self, mapping: Mapping) -> (i32, i32) {
        let max = (1 << (self.bits() - 1)) - 1;
        match mapping {
            Mapping::Symmetric => (-max, max),
            Mapping::Affine | Mapping::FullRange | Mapping::Minimum => (-max - 1, max),
        }
    }
}

impl fmt::Display for QuantizationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "int{}", self.bits())
    }
}

/// How a range of floats is laid over the codes.
///
/// Activations are symmetric or affine; weights may have any mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Mapping {
    /// Centred on zero: the zero point is always 0.
    Symmetric,
    /// From the least to the greatest value, with a zero point.
    Affine,
    /// Symmetric over all codes of the type, with a scale of either sign: the value of largest
    /// magnitude has the least code, `-2^(b-1)`. For weights.
    FullRange,
    /// From the least to the greatest value, with the value of the least code, a float, in place of
    /// a zero point: `f32(q + 2^(b-1)) * scale + minimum`. For weights.
    Minimum,
}

impl Mapping {
    /// Every mapping.
    pub const ALL: [Self; 4] = [Self::Symmetric, Self::Affine, Self::FullRange, Self::Minimum];

    /// Whether each group has a zero point.
    #[inline]
    pub const fn has_zero_points(self) -> bool {
        matches!(self, Self::Affine)
    }

    /// Whether each group has a minimum.
    #[inline]
    pub const fn has_minimums(self) -> bool {
        matches!(self, Self::Minimum)
    }

    /// Whether scales are positive and normal. Otherwise they are any finite number, as in the files
    /// of other programs.
    #[inline]
    pub const fn has_positive_scales(self) -> bool {
        matches!(self, Self::Symmetric | Self::Affine)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symmetric => "symmetric",
            Self::Affine => "affine",
            Self::FullRange => "full-range",
            Self::Minimum => "minimum",
        })
    }
}

/// An axis of a tensor; a negative one counts from the end, as in `-1` for the last.
///
/// Whether it exists is known only with a tensor at hand; see [`Axis::resolve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Axis(i32);

impl Axis {
    /// The first axis: the output channels of `[out, in]` and `[out, in, kh, kw]` weights.
    pub const FIRST: Self = Self(0);
    /// The last axis: the output channels of `[in, out]` weights.
    pub const LAST: Self = Self(-1);

    /// The axis with this index.
    #[inline]
    pub const fn new(index: i32) -> Self {
        Self(index)
    }

    /// The index as it was given.
    #[inline]
    pub const fn index(self) -> i32 {
        self.0
    }

    /// The position among `rank` axes, or `None` if there is no such axis.
    ///
    /// ```
    /// use quant_kernels::scheme::Axis;
    /// assert_eq!(Axis::LAST.resolve(3), Some(2));
    /// assert_eq!(Axis::new(3).resolve(3), None);
    /// ```
    pub fn resolve(self, rank: usize) -> Option<usize> {
        let magnitude = usize::try_from(self.0.unsigned_abs()).ok()?;
        let position = if self.0 < 0 { rank.checked_sub(magnitude)? } else { magnitude };
        (position < rank).then_some(position)
    }
}

impl From<i32> for Axis {
    fn from(index: i32) -> Self {
        Self(index)
    }
}

/// The type the scales of blocks are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum ScaleType {
    /// Single precision: 4 bytes a scale.
    F32,
    /// Half precision: 2 bytes a scale, which is rounded before codes are computed.
    F16,
    /// bfloat16: 2 bytes a scale, which is rounded before codes are computed.
    Bf16,
}

impl ScaleType {
    /// The bytes one scale takes.
    #[inline]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The number of this type nearest to `value`, ties to even.
    #[inline]
    pub const fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16_to_f32(f32_to_f16(value)),
            Self::Bf16 => bf16_to_f32(f32_to_bf16(value)),
        }
    }

    /// The least positive number of this type, a subnormal one.
    pub(crate) const fn least(self) -> f32 {
        match self {
            Self::F32 => f32::from_bits(1),
            Self::F16 => f16_to_f32(1),
            Self::Bf16 => bf16_to_f32(1),
        }
    }

    /// Whether `scale` is a finite number of this type, exactly.
    #[inline]
    pub fn holds_finite(self, scale: f32) -> bool {
        scale.is_finite() && self.round(scale).to_bits() == scale.to_bits()
    }

    /// Whether `scale` is a positive normal number of this type, exactly.
    #[inline]
    pub fn holds(self, scale: f32) -> bool {
        match self {
            Self::F32 => scale.is_normal() && scale > 0.0,
            // From 2^-14, the least normal f16, to below 2^16, without the 13 bits that an f16 lacks.
            Self::F16 => {
                let bits = scale.to_bits();
                (0x3880_0000..0x4780_0000).contains(&bits) && bits & 0x1FFF == 0
            }
            Self::Bf16 => scale.is_normal() && scale > 0.0 && scale.to_bits() & 0xFFFF == 0,
        }
    }
}

impl fmt::Display for ScaleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// Blocks of consecutive elements along the last axis, each with parameters of its own.
///
/// A row whose length is no multiple of the block's ends in a shorter block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "RawBlock", into = "RawBlock"))]
pub struct Block {
    len: core::num::NonZeroU32,
    scale: ScaleType,
}

impl Block {
    /// Blocks of 32 elements with f32 scales.
    pub const DEFAULT: Self = Self::new(32).unwrap();

    /// Blocks of `len` elements with f32 scales, or `None` if `len` is 0.
    ///
    /// ```
    /// # use quant_kernels::scheme::Block;
    /// const BLOCK: Block = Block::new(64).unwrap().with_f16_scales();
    /// assert_eq!(BLOCK.len(), 64);
    /// ```
    #[inline]
    pub const fn new(len: u32) -> Option<Self> {
        match core::num::NonZeroU32::new(len) {
            Some(len) => Some(Self { len, scale: ScaleType::F32 }),
            None => None,
        }
    }

    /// The same blocks with scales stored in half precision.
    #[must_use]
    #[inline]
    pub const fn with_f16_scales(self) -> Self {
        Self { scale: ScaleType::F16, ..self }
    }

    /// The same blocks with scales stored as bfloat16.
    #[must_use]
    #[inline]
    pub const fn with_bf16_scales(self) -> Self {
        Self { scale: ScaleType::Bf16, ..self }
    }

    /// The number of elements in a full block; never 0.
    #[allow(clippy::len_without_is_empty)]
    #[inline]
    pub const fn len(self) -> usize {
        self.len.get() as usize
    }

    /// The type of the stored scales.
    #[inline]
    pub const fn scale_type(self) -> ScaleType {
        self.scale
    }
}

impl Default for Block {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// [`Block`] as it is serialized, before its length is checked.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct RawBlock {
    len: u32,
    scale: ScaleType,
}

#[cfg(feature = "serde")]
impl TryFrom<RawBlock> for Block {
    type Error = &'static str;

    fn try_from(raw: RawBlock) -> Result<Self, Self::Error> {
        let block = Self::new(raw.len).ok_or("a block has at least one element")?;
        Ok(Self { scale: raw.scale, ..block })
    }
}

#[cfg(feature = "serde")]
impl From<Block> for RawBlock {
    fn from(block: Block) -> Self {
        Self { len: block.len.get(), scale: block.scale }
    }
}

/// Which elements of a tensor share a scale and a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Granularity {
    /// All of them.
    PerTensor,
    /// Those with the same index along the axis.
    PerChannel(Axis),
    /// Runs along the last axis.
    PerBlock(Block),
}

/// How a tensor is quantized: code type, mapping and granularity.
///
/// The variants can hold nothing illegal: whether an axis exists depends on the tensor, and is
/// checked when the two meet. A scheme has a name, for command lines and recipes:
///
/// ```
/// use quant_kernels::scheme::{QuantizationScheme, QuantizationType};
///
/// let scheme: QuantizationScheme = "per-tensor-symmetric-int8".parse()?;
/// assert_eq!(scheme, QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt8));
/// let scheme: QuantizationScheme = "per-block-affine-int4:len=64:scale=f16".parse()?;
/// assert_eq!(scheme.to_string(), "per-block-affine-int4:len=64:scale=f16");
/// # Ok::<(), quant_kernels::scheme::NameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum QuantizationScheme {
    /// One scale for the tensor; zero point 0.
    PerTensorSymmetric(QuantizationType),
    /// One scale and zero point for the tensor.
    PerTensorAffine(QuantizationType),
    /// A scale for each index along an axis; zero points 0.
    PerChannelSymmetric(QuantizationType, Axis),
    /// A scale and zero point for each index along an axis.
    PerChannelAffine(QuantizationType, Axis),
    /// A scale for each block of a row; zero points 0.
    PerBlockSymmetric(QuantizationType, Block),
    /// A scale and zero point for each block of a row.
    PerBlockAffine(QuantizationType, Block),
    /// One scale of either sign for the tensor, over all codes of the type.
    PerTensorFullRange(QuantizationType),
    /// A scale of either sign for each index along an axis, over all codes of the type.
    PerChannelFullRange(QuantizationType, Axis),
    /// A scale of either sign for each block of a row, over all codes of the type.
    PerBlockFullRange(QuantizationType, Block),
    /// One scale and minimum for the tensor.
    PerTensorMinimum(QuantizationType),
    /// A scale and minimum for each index along an axis.
    PerChannelMinimum(QuantizationType, Axis),
    /// A scale and minimum for each block of a row, both of the block's scale type.
    PerBlockMinimum(QuantizationType, Block),
}

impl QuantizationScheme {
    /// The scheme made of these three choices.
    #[inline]
    pub const fn new(ty: QuantizationType, mapping: Mapping, granularity: Granularity) -> Self {
        use Granularity as G;
        use Mapping::{Affine, FullRange, Minimum, Symmetric};
        match (granularity, mapping) {
            (G::PerTensor, Symmetric) => Self::PerTensorSymmetric(ty),
            (G::PerTensor, Affine) => Self::PerTensorAffine(ty),
            (G::PerChannel(axis), Symmetric) => Self::PerChannelSymmetric(ty, axis),
            (G::PerChannel(axis), Affine) => Self::PerChannelAffine(ty, axis),
            (G::PerBlock(block), Symmetric) => Self::PerBlockSymmetric(ty, block),
            (G::PerBlock(block), Affine) => Self::PerBlockAffine(ty, block),
            (G::PerTensor, FullRange) => Self::PerTensorFullRange(ty),
            (G::PerChannel(axis), FullRange) => Self::PerChannelFullRange(ty, axis),
            (G::PerBlock(block), FullRange) => Self::PerBlockFullRange(ty, block),
            (G::PerTensor, Minimum) => Self::PerTensorMinimum(ty),
            (G::PerChannel(axis), Minimum) => Self::PerChannelMinimum(ty, axis),
            (G::PerBlock(block), Minimum) => Self::PerBlockMinimum(ty, block),
        }
    }

    /// The type of the codes.
    #[inline]
    pub const fn quantization_type(self) -> QuantizationType {
        match self {
            Self::PerTensorSymmetric(ty)
            | Self::PerTensorAffine(ty)
            | Self::PerChannelSymmetric(ty, _)
            | Self::PerChannelAffine(ty, _)
            | Self::PerBlockSymmetric(ty, _)
            | Self::PerBlockAffine(ty, _)
            | Self::PerTensorFullRange(ty)
            | Self::PerChannelFullRange(ty, _)
            | Self::PerBlockFullRange(ty, _)
            | Self::PerTensorMinimum(ty)
            | Self::PerChannelMinimum(ty, _)
            | Self::PerBlockMinimum(ty, _) => ty,
        }
    }

    /// The mapping.
    #[inline]
    pub const fn mapping(self) -> Mapping {
        match self {
            Self::PerTensorSymmetric(_)
            | Self::PerChannelSymmetric(..)
            | Self::PerBlockSymmetric(..) => Mapping::Symmetric,
            Self::PerTensorAffine(_) | Self::PerChannelAffine(..) | Self::PerBlockAffine(..) => {
                Mapping::Affine
            }
            Self::PerTensorFullRange(_)
            | Self::PerChannelFullRange(..)
            | Self::PerBlockFullRange(..) => Mapping::FullRange,
            Self::PerTensorMinimum(_) | Self::PerChannelMinimum(..) | Self::PerBlockMinimum(..) => {
                Mapping::Minimum
            }
        }
    }

    /// The granularity.
    #[inline]
    pub const fn granularity(self) -> Granularity {
        match self {
            Self::PerTensorSymmetric(_)
            | Self::PerTensorAffine(_)
            | Self::PerTensorFullRange(_)
            | Self::PerTensorMinimum(_) => Granularity::PerTensor,
            Self::PerChannelSymmetric(_, axis)
            | Self::PerChannelAffine(_, axis)
            | Self::PerChannelFullRange(_, axis)
            | Self::PerChannelMinimum(_, axis) => Granularity::PerChannel(axis),
            Self::PerBlockSymmetric(_, block)
            | Self::PerBlockAffine(_, block)
            | Self::PerBlockFullRange(_, block)
            | Self::PerBlockMinimum(_, block) => Granularity::PerBlock(block),
        }
    }

    /// The type the scales are stored in: f32 unless a block says otherwise.
    #[inline]
    pub const fn scale_type(self) -> ScaleType {
        match self.granularity() {
            Granularity::PerBlock(block) => block.scale_type(),
            Granularity::PerTensor | Granularity::PerChannel(_) => ScaleType::F32,
        }
    }
}
