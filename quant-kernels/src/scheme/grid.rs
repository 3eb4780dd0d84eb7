//! Rules 2 and 3: scale, zero point, codes, and back.

use super::{
    CodeRange, Mapping, MinimumParams, QuantParams, QuantizationScheme, QuantizationType, Range,
    ScaleError, ScaleType, f16_to_f32, f32_to_f16,
};

/// The codes and scales that one group of elements may use: a scheme without its granularity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Grid {
    ty: QuantizationType,
    mapping: Mapping,
    scale: ScaleType,
}

impl Grid {
    /// The grid of this code type and mapping, with scales stored as `scale`.
    #[inline]
    pub const fn new(ty: QuantizationType, mapping: Mapping, scale: ScaleType) -> Self {
        Self { ty, mapping, scale }
    }

    /// The type of the codes.
    #[inline]
    pub const fn quantization_type(self) -> QuantizationType {
        self.ty
    }

    /// The mapping.
    #[inline]
    pub const fn mapping(self) -> Mapping {
        self.mapping
    }

    /// The least and the greatest code.
    #[inline]
    pub const fn code_range(self) -> (i32, i32) {
        self.ty.code_range(self.mapping)
    }

    /// The parameters that lay `range` over the codes (rule 2).
    ///
    /// Affine: `s = (hi - lo) / (qmax - qmin)`, `z = clamp(rne(qmin - lo / s), qmin, qmax)`;
    /// symmetric: `s = max(-lo, hi) / qmax`, `z = 0`; full range: `s = m / qmin`, `z = 0`, where `m`
    /// is the end of larger magnitude, or `lo` if both are equal; computed in f64, `s` rounded once
    /// at the end. A range too narrow for a normal f32 scale gives `s = 1`, `z = 0`.
    ///
    /// A mapping with a minimum has its own [`minimum_params`](Self::minimum_params).
    ///
    /// # Errors
    /// A scale that would be zero, subnormal or infinite in the type it is stored in; for full range,
    /// one that would be infinite.
    ///
    /// # Panics
    /// If the mapping has minimums.
    #[inline]
    pub fn params(self, range: Range) -> Result<QuantParams, ScaleError> {
        if self.mapping == Mapping::FullRange {
            return self.full_range_params(range);
        }
        let fitted = fit(range, self.mapping, self.code_range());
        QuantParams::new(self.store(fitted.scale())?, fitted.zero_point())
    }

    /// `m / qmin` in the type it is stored in; `m` is the end of larger magnitude (rule 12).
    #[inline(never)]
    fn full_range_params(self, range: Range) -> Result<QuantParams, ScaleError> {
        let m = if range.hi() > -range.lo() { range.hi() } else { range.lo() };
        let (qmin, _) = self.code_range();
        let scale = self.store_signed(f64::from(m) / f64::from(qmin))?;
        Ok(QuantParams::from_checked(scale, 0))
    }

    /// A scale of either sign, rounded to the type it is stored in: 1 if an f32 could not hold it as a
    /// normal number, and not 0.
    fn store_signed(self, exact: f64) -> Result<f32, ScaleError> {
        if exact.abs() < f64::from(f32::MIN_POSITIVE) {
            return Ok(1.0);
        }
        let (scale, rounded) = (exact as f32, self.scale.round(exact as f32));
        match rounded {
            0.0 => Ok(self.scale.least().copysign(scale)),
            _ if rounded.is_finite() => Ok(rounded),
            _ => Err(ScaleError { scale, stored_as: self.scale }),
        }
    }

    /// The scale and the minimum that lay the values `lo ..= hi` over the codes (rule 13):
    /// `m = lo`, `s = (hi - m) / (2^b - 1)`, each rounded to the type it is stored in. Zero need not
    /// be among the values. A range too narrow for a normal f32 scale gives `s = 1`.
    ///
    /// # Errors
    /// A scale or minimum that would be infinite in its type, or codes whose values would be.
    pub fn minimum_params(self, lo: f32, hi: f32) -> Result<MinimumParams, ScaleError> {
        let minimum = self.scale.round(lo);
        let error = |scale| ScaleError { scale, stored_as: self.scale };
        if !minimum.is_finite() {
            return Err(error(lo));
        }
        let (qmin, qmax) = self.code_range();
        let scale =
            self.store_signed((f64::from(hi) - f64::from(minimum)) / f64::from(qmax - qmin))?;
        let params = MinimumParams { scale, minimum };
        if params.dequantize(qmax - qmin).is_finite() { Ok(params) } else { Err(error(scale)) }
    }

    /// The code of `value` under `params` (rule 13): `clamp(rne((x - m) / s), 0, 2^b - 1)`, moved to
    /// the codes of the type by `-2^(b-1)`.
    #[inline]
    pub fn quantize_over_minimum(self, value: f32, params: MinimumParams) -> i8 {
        let (qmin, qmax) = self.code_range();
        let steps = round_code((value - params.minimum) / params.scale);
        (steps.clamp(0, qmax - qmin) + qmin) as i8
    }

    /// `scale` rounded to the type it is stored in.
    ///
    /// # Errors
    /// The rounded scale is zero, subnormal, negative or not finite.
    #[inline]
    pub fn store(self, scale: f32) -> Result<f32, ScaleError> {
        match self.scale {
            // The difference of two f32 over 3 can still exceed f32: (MAX − −MAX) / 3 does not,
            // so an f32 scale is always finite.
            ScaleType::F32 if scale.is_normal() && scale > 0.0 => Ok(scale),
            ScaleType::F32 => Err(ScaleError { scale, stored_as: ScaleType::F32 }),
            ScaleType::Bf16 => {
                let stored = self.scale.round(scale);
                let error = ScaleError { scale, stored_as: ScaleType::Bf16 };
                if self.scale.holds(stored) { Ok(stored) } else { Err(error) }
            }
            ScaleType::F16 => {
                let bits = f32_to_f16(scale);
                // 0x0400 is the smallest normal, 0x7C00 infinity.
                match bits {
                    0x0400..0x7C00 => Ok(f16_to_f32(bits)),
                    _ => Err(ScaleError { scale, stored_as: ScaleType::F16 }),
                }
            }
        }
    }

    /// The code of `value` under `params` (rule 3): `clamp(rne(x / s) + z, qmin, qmax)`.
    ///
    /// Infinities saturate. What a NaN gives is not specified; callers refuse it before.
    #[inline]
    pub fn quantize(self, value: f32, params: QuantParams) -> i8 {
        let (qmin, qmax) = self.code_range();
        (round_code(value / params.scale()) + i32::from(params.zero_point())).clamp(qmin, qmax)
            as i8
    }
}

impl QuantizationScheme {
    /// The codes and scales one group of elements may use.
    #[inline]
    pub const fn grid(self) -> Grid {
        Grid::new(self.quantization_type(), self.mapping(), self.scale_type())
    }
}

impl From<Grid> for CodeRange {
    #[inline]
    fn from(grid: Grid) -> Self {
        // Every type and mapping has codes, which are 8-bit.
        let (min, max) = grid.code_range();
        Self::new(min as i8, max as i8).unwrap_or(Self::FULL)
    }
}

/// The parameters that lay `range` over the codes `qmin ..= qmax` (rule 2), with an f32 scale.
///
/// [`Grid::params`] for codes that are no [`QuantizationType`]'s. Symmetric ones are
/// `-qmax ..= qmax`, whatever `qmin` says.
///
/// # Panics
/// If the mapping is neither symmetric nor affine.
///
/// ```
/// use quant_kernels::scheme::{self, Mapping, Range};
/// let range = Range::new(-1.8, 0.5).unwrap();
/// let params = scheme::fit(range, Mapping::Affine, (-64, 64));
/// assert_eq!(params.zero_point(), 36);
/// ```
#[inline]
pub fn fit(range: Range, mapping: Mapping, (qmin, qmax): (i32, i32)) -> QuantParams {
    let (lo, hi) = (f64::from(range.lo()), f64::from(range.hi()));
    let scale = match mapping {
        Mapping::Symmetric => f64::from(range.magnitude()) / f64::from(qmax),
        Mapping::Affine => (hi - lo) / f64::from(qmax - qmin),
        Mapping::FullRange | Mapping::Minimum => refuse(mapping),
    };
    if scale < f64::from(f32::MIN_POSITIVE) {
        return QuantParams::UNIT;
    }
    let zero_point = match mapping {
        Mapping::Symmetric | Mapping::FullRange | Mapping::Minimum => 0,
        Mapping::Affine => {
            rne(f64::from(qmin) - lo / scale).clamp(f64::from(qmin), f64::from(qmax)) as i8
        }
    };
    // Of finite ends, the scale is finite: (MAX − MIN) / 3 still is, and checked above not to be
    // subnormal. Codes of fewer than two bits, whose scale may be infinite, keep the unit scale.
    QuantParams::new(scale as f32, zero_point).unwrap_or(QuantParams::UNIT)
}

/// Out of the way of loops over groups.
#[cold]
#[inline(never)]
fn refuse(mapping: Mapping) -> ! {
    panic!("{mapping} has parameters of its own")
}

/// `rne(v)` for codes: exact where `|v| ≤ 512`, saturated to ±512 beyond.
///
/// A code and a zero point have 8 bits, so what lies beyond ±512 saturates whatever is added.
/// Adding 1.5 · 2^23 leaves no bit for a fraction: the addition itself rounds half to even, and
/// the integer stands in the low bits of the sum. No branch, no library call, no dependence on
/// the CPU. A NaN becomes 512. The kernels are compiled from this function too.
#[inline(always)]
pub fn round_code(v: f32) -> i32 {
    // Written as comparisons, each of which is one instruction: `f32::min` promises more of NaN.
    let v = if v < 512.0 { v } else { 512.0 };
    let v = if v > -512.0 { v } else { -512.0 };
    rounded_code(v + ROUNDING)
}

/// What rounds by being added: 1.5 · 2^23.
pub(crate) const ROUNDING: f32 = 12_582_912.0;

/// The integer in a sum with [`ROUNDING`].
#[inline(always)]
pub(crate) fn rounded_code(sum: f32) -> i32 {
    sum.to_bits().wrapping_sub(ROUNDING.to_bits()) as i32
}

/// Round half to even for `|v| < 2^51`; `f64::round_ties_even` is not in `core`.
fn rne(v: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0; // 1.5 · 2^52
    (v + MAGIC) - MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const AFFINE8: Grid = Grid::new(QuantizationType::QInt8, Mapping::Affine, ScaleType::F32);
    const SYM8: Grid = Grid::new(QuantizationType::QInt8, Mapping::Symmetric, ScaleType::F32);

    #[test]
    fn code_rounding_is_half_to_even_and_saturates() {
        for (v, code) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (126.5, 126),
            (127.5, 128),
            (511.5, 512),
            (600.0, 512),
            (f32::INFINITY, 512),
            (f32::NEG_INFINITY, -512),
            (f32::MAX, 512),
            (f32::MIN_POSITIVE, 0),
        ] {
            assert_eq!(round_code(v), code, "{v}");
        }
    }

    #[test]
    fn code_rounding_equals_the_standard_library() {
        let mut v = -513.0f32;
        while v < 513.0 {
            assert_eq!(round_code(v), (v.round_ties_even() as i32).clamp(-512, 512), "{v}");
            v += 0.015_625;
        }
    }

    #[test]
    fn narrow_ranges_get_the_unit_scale() {
        for range in [Range::ZERO, Range::new(-1e-45, 1e-44).unwrap()] {
            for grid in [AFFINE8, SYM8] {
                assert_eq!(grid.params(range), Ok(QuantParams::UNIT));
            }
        }
    }

    #[test]
    fn tiny_weights_keep_their_resolution() {
        let params = SYM8.params(Range::new(-1e-30, 1e-30).unwrap()).unwrap();
        assert_eq!(SYM8.quantize(1e-30, params), 127);
    }

    #[test]
    fn the_widest_range_has_a_finite_scale() {
        let range = Range::new(f32::MIN, f32::MAX).unwrap();
        for ty in QuantizationType::ALL {
            let grid = Grid::new(ty, Mapping::Affine, ScaleType::F32);
            let params = grid.params(range).unwrap();
            assert!(params.scale().is_finite());
        }
    }

    #[test]
    fn f16_scales_are_rounded_first_and_refused_when_not_normal() {
        let grid = Grid::new(QuantizationType::QInt4, Mapping::Symmetric, ScaleType::F16);
        let params = grid.params(Range::new(-1.0, 1.0).unwrap()).unwrap();
        assert_eq!(params.scale(), f16_to_f32(f32_to_f16(1.0 / 7.0)));
        for magnitude in [1e-6, 1e9] {
            let error = grid.params(Range::new(0.0, magnitude).unwrap()).unwrap_err();
            assert_eq!(error.stored_as, ScaleType::F16);
            assert!(error.to_string().contains("f16"));
        }
    }
}
