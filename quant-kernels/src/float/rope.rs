//! Rotary embeddings.
//!
//! Start with [`Rope`]. Frequencies and angles are computed in f64 and rounded once; a rotation is a
//! few operations on f32.

use super::double::{exp, ln, sin_cos};
use super::error::{FloatError, RopeError, length};
use super::lanes::{LANES, load, padded, store, vectors};
use crate::dispatch::Kernel;
use crate::isa::{Isa, Operation};
use alloc::vec::Vec;
use core::f64::consts::PI;

/// Positions are below this number, for which the reduction of angles is exact.
const POSITIONS: u32 = 1 << 20;

/// The largest base, whose square f64 can hold.
const LARGEST_THETA: f64 = 1e30;

/// Which dimensions of a head are rotated together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RopeLayout {
    /// Dimension `i` with `i + rotary_dim / 2`, as in GPT-NeoX and in checkpoints of Hugging Face.
    #[default]
    Halves,
    /// Dimension `2 i` with `2 i + 1`, as in the original and in GGUF files of the Llama family.
    Pairs,
}

/// How frequencies are changed for contexts that are longer than those of training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// All are divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// The low ones are divided by a factor, as in Llama 3.1.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original_context / low_frequency_factor` are divided.
        low_frequency_factor: f64,
        /// Wavelengths below `original_context / high_frequency_factor` are kept.
        high_frequency_factor: f64,
        /// The context of training.
        original_context: u32,
    },
    /// As in the paper "YaRN": the low ones are divided by a factor, and all cosines and sines are multiplied.
    Yarn {
        /// The factor.
        factor: f64,
        /// The context of training.
        original_context: u32,
        /// Pairs that turn more often than this in the context of training are kept; usually 32.
        beta_fast: f64,
        /// Pairs that turn less often are divided; usually 1.
        beta_slow: f64,
        /// Multiplies cosines and sines; usually `0.1 ln(factor) + 1`, which `None` stands for.
        attention_factor: Option<f64>,
    },
}

/// What [`Rope::new`] makes embeddings of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeOptions {
    /// The number of dimensions of a head.
    pub head_dim: usize,
    /// The number of dimensions that are rotated, the first ones of each head: even, mostly all.
    pub rotary_dim: usize,
    /// The base of the frequencies: that of pair `i` is `theta^(-2 i / rotary_dim)`. From 1 to 1e30.
    pub theta: f64,
    /// Which dimensions are rotated together.
    pub layout: RopeLayout,
    /// How frequencies are changed.
    pub scaling: RopeScaling,
}

impl RopeOptions {
    /// All dimensions in halves, with base 10000 and no scaling.
    pub const fn new(head_dim: usize) -> Self {
        Self {
            head_dim,
            rotary_dim: head_dim,
            theta: 10_000.0,
            layout: RopeLayout::Halves,
            scaling: RopeScaling::None,
        }
    }
}

/// Rotary embeddings: the frequencies of a model.
///
/// ```
/// use quant_kernels::{Kernel, Rope, RopeAngles, RopeOptions};
///
/// let rope = Rope::new(RopeOptions::new(4))?;
/// let mut angles = RopeAngles::default();
/// rope.angles(&[0, 1], &mut angles)?;
/// // Two tokens, one head of four dimensions.
/// let mut x = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
/// Kernel::current().rope(&mut x, 1, &rope, &angles)?;
/// assert_eq!(x[..4], [1.0, 0.0, 0.0, 0.0]);
/// // The cosine and the sine of 1 radian.
/// assert_eq!(x[4..], [0.5403023, 0.0, 0.84147096, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    head_dim: usize,
    layout: RopeLayout,
    /// One for each pair.
    frequencies: Vec<f64>,
    /// Multiplies cosines and sines.
    factor: f64,
}

/// The cosines and sines of some positions. They serve all layers of a forward pass, and the memory
/// serves all forward passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RopeAngles {
    /// For each position the cosines of all pairs, then the sines.
    values: Vec<f32>,
    pairs: usize,
    tokens: usize,
}

impl RopeAngles {
    /// The number of positions.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// The cosines and the sines of position `token`, one for each pair.
    ///
    /// # Panics
    /// `token` is not less than [`RopeAngles::len`].
    pub fn of(&self, token: usize) -> (&[f32], &[f32]) {
        assert!(token < self.tokens, "one of the positions");
        self.values[token * 2 * self.pairs..][..2 * self.pairs].split_at(self.pairs)
    }

    /// The same angles in the opposite direction: cosines stay, sines change their sign.
    ///
    /// A rotation by them is the transpose of that by `self`: it turns gradients of rotated values into
    /// those of the values. Where cosines and sines have no factor (see [`RopeScaling::Yarn`]), it undoes
    /// the rotation.
    #[must_use]
    pub fn opposite(&self) -> Self {
        let mut opposite = self.clone();
        for row in opposite.values.chunks_exact_mut((2 * self.pairs).max(1)) {
            row[self.pairs..].iter_mut().for_each(|sin| *sin = -*sin);
        }
        opposite
    }
}

impl Rope {
    /// Computes the frequencies.
    ///
    /// # Errors
    /// - `rotary_dim` is odd, 0 or more than `head_dim`.
    /// - A parameter is outside of its range, or a frequency would be.
    pub fn new(options: RopeOptions) -> Result<Self, RopeError> {
        let RopeOptions { head_dim, rotary_dim, theta, layout, scaling } = options;
        if rotary_dim == 0 || rotary_dim % 2 == 1 || rotary_dim > head_dim {
            return Err(RopeError::Dimensions { rotary_dim, head_dim });
        }
        if !(1.0..=LARGEST_THETA).contains(&theta) {
            return Err(RopeError::Parameter { name: "theta", value: theta });
        }
        scaling.check()?;
        let base = ln(theta);
        let exponent = |pair: usize| 2.0 * pair as f64 / rotary_dim as f64;
        let plain = (0..rotary_dim / 2).map(|pair| exp(-exponent(pair) * base));
        let frequencies = plain
            .enumerate()
            .map(|(pair, frequency)| scaling.apply(frequency, pair, rotary_dim, base))
            .collect();
        let factor = match scaling {
            RopeScaling::Yarn { factor, attention_factor, .. } => {
                attention_factor.unwrap_or_else(|| 0.1 * ln(factor) + 1.0)
            }
            _ => 1.0,
        };
        Self { head_dim, layout, frequencies, factor }.checked()
    }

    /// The same with each frequency divided by a number, as in GGUF's `rope_freqs.weight`.
    ///
    /// # Errors
    /// There is not one divisor for each pair, or a frequency is not between 0 and 1 afterwards.
    pub fn divided(mut self, divisors: &[f32]) -> Result<Self, RopeError> {
        let (expected, found) = (self.frequencies.len(), divisors.len());
        if expected != found {
            return Err(RopeError::Divisors { expected, found });
        }
        for (frequency, divisor) in self.frequencies.iter_mut().zip(divisors) {
            *frequency /= f64::from(*divisor);
        }
        self.checked()
    }

    fn checked(self) -> Result<Self, RopeError> {
        for (pair, &frequency) in self.frequencies.iter().enumerate() {
            if !(0.0..=1.0).contains(&frequency) {
                return Err(RopeError::Frequency { pair, frequency });
            }
        }
        Ok(self)
    }

    /// The number of dimensions of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The two dimensions of a head that are rotated together as pair `pair`, one of those that have
    /// [frequencies](Self::frequencies). Dimensions of no pair are not rotated.
    pub fn pair(&self, pair: usize) -> [usize; 2] {
        match self.layout {
            RopeLayout::Halves => [pair, pair + self.frequencies.len()],
            RopeLayout::Pairs => [2 * pair, 2 * pair + 1],
        }
    }

    /// The frequency of each pair: the angle between neighbouring positions.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// Computes the cosines and sines of some positions, in memory that is kept.
    ///
    /// # Errors
    /// A position is not below 2^20; `angles` is unchanged.
    pub fn angles(&self, positions: &[u32], angles: &mut RopeAngles) -> Result<(), RopeError> {
        if let Some(index) = positions.iter().position(|position| *position >= POSITIONS) {
            let position = positions[index];
            return Err(RopeError::Position { index, position, limit: POSITIONS });
        }
        let pairs = self.frequencies.len();
        angles.values.clear();
        angles.values.resize(positions.len().saturating_mul(2 * pairs), 0.0);
        (angles.pairs, angles.tokens) = (pairs, positions.len());
        for (position, row) in positions.iter().zip(angles.values.chunks_exact_mut(2 * pairs)) {
            let (cos_row, sin_row) = row.split_at_mut(pairs);
            for (pair, frequency) in self.frequencies.iter().enumerate() {
                let (sin, cos) = sin_cos(f64::from(*position) * frequency);
                cos_row[pair] = (cos * self.factor) as f32;
                sin_row[pair] = (sin * self.factor) as f32;
            }
        }
        Ok(())
    }
}

impl RopeScaling {
    fn check(self) -> Result<(), RopeError> {
        match self {
            Self::None => Ok(()),
            Self::Linear { factor } => at_least(1.0, "factor", factor),
            Self::Llama3 {
                factor, low_frequency_factor: low, high_frequency_factor: high, ..
            } => {
                at_least(1.0, "factor", factor)?;
                at_least(f64::MIN_POSITIVE, "low frequency factor", low)?;
                at_least(low, "high frequency factor", high)
            }
            Self::Yarn { factor, beta_fast, beta_slow, attention_factor, .. } => {
                at_least(1.0, "factor", factor)?;
                at_least(f64::MIN_POSITIVE, "slow beta", beta_slow)?;
                at_least(beta_slow, "fast beta", beta_fast)?;
                at_least(f64::MIN_POSITIVE, "attention factor", attention_factor.unwrap_or(1.0))
            }
        }
    }

    /// The frequency that a pair has in the place of `frequency`. `base` is `ln(theta)`.
    fn apply(self, frequency: f64, pair: usize, rotary_dim: usize, base: f64) -> f64 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_context,
            } => {
                let turns = f64::from(original_context) * frequency / (2.0 * PI);
                if turns > high {
                    frequency
                } else if turns < low {
                    frequency / factor
                } else {
                    let kept = if high > low { (turns - low) / (high - low) } else { 1.0 };
                    (1.0 - kept) * (frequency / factor) + kept * frequency
                }
            }
            Self::Yarn { factor, original_context, beta_fast, beta_slow, .. } => {
                // The pair that turns so often in the context of training.
                let pair_of = |turns: f64| {
                    let wavelength = f64::from(original_context.max(1)) / (turns * 2.0 * PI);
                    rotary_dim as f64 * ln(wavelength) / (2.0 * base)
                };
                let low = floor(pair_of(beta_fast)).max(0.0);
                let high = (-floor(-pair_of(beta_slow))).min(rotary_dim as f64 - 1.0);
                let width = if high == low { 0.001 } else { high - low };
                let divided = ((pair as f64 - low) / width).clamp(0.0, 1.0);
                frequency / factor * divided + frequency * (1.0 - divided)
            }
        }
    }
}

/// The greatest integer that is not above `x`, which `core` does not have; NaN and large numbers stay.
fn floor(x: f64) -> f64 {
    let truncated = x as i64 as f64;
    let large = x.is_nan() || x.abs() >= 9e15;
    if large {
        x
    } else if truncated > x {
        truncated - 1.0
    } else {
        truncated
    }
}

fn at_least(least: f64, name: &'static str, value: f64) -> Result<(), RopeError> {
    let fits = value >= least && value.is_finite();
    if fits { Ok(()) } else { Err(RopeError::Parameter { name, value }) }
}

impl Kernel {
    /// Rotates each head of `x`, `[tokens, heads · head_dim]`, in place: `a cos - b sin` and
    /// `a sin + b cos`.
    ///
    /// # Errors
    /// The angles are those of other embeddings, or `x` does not have a row for each of their positions.
    pub fn rope(
        self,
        x: &mut [f32],
        heads: usize,
        rope: &Rope,
        angles: &RopeAngles,
    ) -> Result<(), FloatError> {
        let pairs = rope.frequencies.len();
        if angles.tokens > 0 && angles.pairs != pairs {
            return Err(FloatError::OtherAngles { expected: pairs, found: angles.pairs });
        }
        let row = heads.saturating_mul(rope.head_dim);
        length("input", angles.tokens.saturating_mul(row), x.len())?;
        if !x.is_empty() {
            self.run(Rotate { x, row, rope, angles });
        }
        Ok(())
    }
}

struct Rotate<'a> {
    x: &'a mut [f32],
    row: usize,
    rope: &'a Rope,
    angles: &'a RopeAngles,
}

impl Operation for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Rope { head_dim, layout, .. } = *self.rope;
        let pairs = self.angles.pairs;
        for (token, row) in self.x.chunks_exact_mut(self.row).enumerate() {
            let (cos, sin) = self.angles.of(token);
            for head in row.chunks_exact_mut(head_dim) {
                let rotated = &mut head[..2 * pairs];
                match layout {
                    RopeLayout::Halves => halves(isa, rotated, cos, sin),
                    RopeLayout::Pairs => interleaved(rotated, cos, sin),
                }
            }
        }
    }
}

#[inline(always)]
fn halves<I: Isa>(isa: I, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (a, b) = x.split_at_mut(cos.len());
    let (a, a_rest) = a.as_chunks_mut();
    let (b, b_rest) = b.as_chunks_mut();
    let ((cos, cos_rest), (sin, sin_rest)) = (cos.as_chunks(), sin.as_chunks());
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        rotate(isa, a, b, cos, sin);
    }
    if !a_rest.is_empty() {
        let (mut a, mut b) = (padded(a_rest, 0.0), padded(b_rest, 0.0));
        rotate(isa, &mut a, &mut b, &padded(cos_rest, 0.0), &padded(sin_rest, 0.0));
        a_rest.copy_from_slice(&a[..a_rest.len()]);
        b_rest.copy_from_slice(&b[..b_rest.len()]);
    }
}

#[inline(always)]
fn rotate<I: Isa>(
    isa: I,
    a: &mut [f32; LANES],
    b: &mut [f32; LANES],
    cos: &[f32; LANES],
    sin: &[f32; LANES],
) {
    let (mut x, mut y) = (load(isa, a), load(isa, b));
    let (cos, sin) = (load(isa, cos), load(isa, sin));
    for v in 0..vectors::<I>() {
        (x[v], y[v]) = (
            isa.sub(isa.mul(x[v], cos[v]), isa.mul(y[v], sin[v])),
            isa.add(isa.mul(x[v], sin[v]), isa.mul(y[v], cos[v])),
        );
    }
    store(isa, x, a);
    store(isa, y, b);
}

/// Pairs are few operations, which the compiler turns into vectors.
#[inline(always)]
fn interleaved(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, cos), sin) in x.as_chunks_mut().0.iter_mut().zip(cos).zip(sin) {
        let [a, b] = *pair;
        *pair = [a * cos - b * sin, a * sin + b * cos];
    }
}
