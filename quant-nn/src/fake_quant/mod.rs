//! Fake quantization: quantizing and dequantizing in one step, with gradients (rule 8 of
//! `docs/numerics.md`).
//!
//! These are functions on slices, for training with tensors of any library; the feature `candle`
//! has operations of candle on top of them. With `v = rne(x / s) + z`, `q = clamp(v, qmin, qmax)`
//! and the gradient `dy` of the output:
//!
//! ```text
//! forward            y = f32(q - z) * s
//! straight-through   dx = dy where qmin ≤ v ≤ qmax, else 0
//! learned step size  ds = g · Σ dy · (qmin ≤ v ≤ qmax ? (q - z) - x / s : q - z)
//!                    g = 1 / sqrt(N · qmax)
//! ```
//!
//! The derivative of rounding is 0 almost everywhere, so the straight-through estimator replaces it
//! by that of the identity (Bengio et al., 2013). The gradient of the scale is that of learned step
//! size quantization (LSQ; Esser et al., 2020).
//!
//! This room imports `scheme` and the kernels only. Start reading here; `groups.rs` is the same for
//! whole tensors.
//!
//! ```
//! use quant_nn::fake_quant::FakeQuantizer;
//! use quant::scheme::{Grid, Mapping, Range, ScaleType};
//! use quant::QuantizationType;
//!
//! let grid = Grid::new(QuantizationType::QInt4, Mapping::Symmetric, ScaleType::F32);
//! let fake = FakeQuantizer::new(grid, grid.params(Range::new(-0.7, 0.7).unwrap())?);
//! let x = [0.26, -0.04, 5.0];
//! let mut y = [0.0; 3];
//! fake.forward(&x, &mut y);
//! assert_eq!(y, [0.3, 0.0, 0.7]);
//!
//! let mut dx = [0.0; 3];
//! fake.backward(&x, &[1.0; 3], &mut dx);
//! assert_eq!(dx, [1.0, 1.0, 0.0]); // 5.0 saturates
//! # Ok::<(), quant::scheme::ScaleError>(())
//! ```

mod groups;

pub use groups::FakeGroups;

use quant::scheme::{CodeRange, Grid, QuantParams, Quantization, round_code};
use quant_kernels::Kernel;

/// Fake quantization with one scale and one zero point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FakeQuantizer {
    scale: f32,
    zero_point: i32,
    qmin: i32,
    qmax: i32,
}

impl FakeQuantizer {
    /// The quantizer with the code range of `grid` and these parameters.
    pub fn new(grid: Grid, params: QuantParams) -> Self {
        let (qmin, qmax) = grid.code_range();
        Self { scale: params.scale(), zero_point: params.zero_point().into(), qmin, qmax }
    }

    /// The same with another scale.
    #[must_use]
    pub fn with_scale(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// The scale.
    pub fn scale(self) -> f32 {
        self.scale
    }

    /// The fake-quantized values: `f32(clamp(rne(x / s) + z, qmin, qmax) - z) * s`.
    ///
    /// NaN becomes the greatest value; check for it before, where it would be an error.
    ///
    /// # Panics
    /// If `y` is not as long as `x`.
    pub fn forward(self, x: &[f32], y: &mut [f32]) {
        /// Values of a chunk, whose codes stay in the first-level cache between the two loops.
        const CHUNK: usize = 4096;
        assert_eq!(x.len(), y.len(), "one output for each value");
        let (kernel, mut codes) = (Kernel::current(), [0; CHUNK]);
        let quantization = self.quantization();
        for (x, y) in x.chunks(CHUNK).zip(y.chunks_mut(CHUNK)) {
            let codes = &mut codes[..x.len()];
            kernel.quantize(x, quantization, codes);
            kernel.dequantize(codes, quantization.params, y);
        }
    }

    /// The gradient of the values, by the straight-through estimator: `dy` where the value does
    /// not saturate, else 0.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn backward(self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        assert!(x.len() == dy.len() && x.len() == dx.len(), "one gradient for each value");
        for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
            *dx = if self.is_inside(self.code(x)) { dy } else { 0.0 };
        }
    }

    /// The gradient of the scale, `g · Σ dy · (inside ? (q - z) - x / s : q - z)`, summed in f64.
    ///
    /// See [`gradient_scale`] for `g`.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn scale_gradient(self, x: &[f32], dy: &[f32], g: f32) -> f32 {
        (f64::from(g) * self.scale_sum(x, dy)) as f32
    }

    /// `Σ dy · ∂y / ∂s`
    fn scale_sum(self, x: &[f32], dy: &[f32]) -> f64 {
        assert_eq!(x.len(), dy.len(), "one gradient for each value");
        let terms = x.iter().zip(dy).map(|(&x, &dy)| f64::from(dy) * f64::from(self.slope(x)));
        terms.sum()
    }

    /// `∂y / ∂s` for one value.
    pub(crate) fn slope(self, x: f32) -> f32 {
        let code = self.code(x);
        let steps = (code.clamp(self.qmin, self.qmax) - self.zero_point) as f32;
        if self.is_inside(code) { steps - x / self.scale } else { steps }
    }

    #[cfg(feature = "candle")]
    pub(crate) fn qmax(self) -> i32 {
        self.qmax
    }

    /// `rne(x / s) + z`, not clamped. Beyond ±512 only the sign is right.
    fn code(self, x: f32) -> i32 {
        round_code(x / self.scale) + self.zero_point
    }

    fn quantization(self) -> Quantization {
        let [zero_point, qmin, qmax] =
            [self.zero_point, self.qmin, self.qmax].map(|code| code as i8);
        let codes = CodeRange::new(qmin, qmax).unwrap_or(CodeRange::FULL);
        Quantization { params: QuantParams::from_checked(self.scale, zero_point), codes }
    }

    fn is_inside(self, code: i32) -> bool {
        (self.qmin..=self.qmax).contains(&code)
    }
}

/// The quantizer of a static activation.
impl From<Quantization> for FakeQuantizer {
    fn from(Quantization { params, codes }: Quantization) -> Self {
        let [zero_point, qmin, qmax] =
            [params.zero_point(), codes.min(), codes.max()].map(i32::from);
        Self { scale: params.scale(), zero_point, qmin, qmax }
    }
}

/// `g = 1 / sqrt(N · qmax)`, the factor of the gradient of a learned scale. With it the relative
/// change of the scale is about that of the `count` values that share it (LSQ, 2.2).
pub fn gradient_scale(count: usize, qmax: i32) -> f32 {
    let product = count.max(1) as f64 * f64::from(qmax.max(1));
    (1.0 / product.sqrt()) as f32
}
