//! What an algorithm may ask of an instruction set.
//!
//! Imports [`scheme`](crate::scheme) alone. Start with [`Isa`]; [`scalar`] defines the answer.

pub(crate) mod lanes;
pub(crate) mod permuted;
mod reciprocal;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86_64;

pub(crate) use reciprocal::{QUANTIZE_LANES, Reciprocal};

use permuted::PanelPermutation;

use bytemuck::Pod;

/// A piece of work that is compiled once for every instruction set.
///
/// `run` has to be `#[inline(always)]`, as has everything it calls in its loops: only what is
/// inlined into the function that enables an instruction set is compiled with it. A closure is not:
/// it is a function of its own, so loops are written as loops.
pub(crate) trait Operation {
    type Output;
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// A cache line of prepared activations: 16 groups of 32 bits, each the input of one step.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u32; Self::STEPS]);

impl Line {
    pub(crate) const STEPS: usize = 16;
    pub(crate) const ZERO: Self = Self([0; Self::STEPS]);

    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8; 64] {
        bytemuck::cast_ref(self)
    }

    #[inline(always)]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; 64] {
        bytemuck::cast_mut(self)
    }
}

// SAFETY: 16 words of 4 bytes fill the 64 bytes of a line, so there is no padding; every bit
// pattern is an array of words, all zeros included; `Line` is `Copy` and holds no reference.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl Pod for Line {}

/// An instruction set; holding a value of it is the proof that this CPU has it.
///
/// A *step* is the smallest piece of an integer product: 32 bits of activations of one row
/// against [`Isa::KR`] codes for each of the [`Isa::NR`] columns of a panel. The
/// accumulators of two vectors hold one row of a panel.
pub(crate) trait Isa: Copy + Send + Sync {
    /// Sums in i32, one lane per column.
    type Ints: Copy;
    /// Floats, one lane per column.
    type Floats: Copy;
    /// The codes of one step, for two vectors of columns.
    type KStep: Pod;

    /// Columns in a vector.
    const LANES: usize;
    /// Columns in a panel.
    const NR: usize = 2 * Self::LANES;
    /// Values along K in a step: four bytes, or two i16.
    const KR: usize;
    /// Rows of the mr tile of integer products.
    const MR: usize;
    /// The most rows for which products of floats have loops of their own: [`Gemv`]; 0 where those for
    /// any number of rows do.
    ///
    /// [`Gemv`]: crate::weight_only::gemv::Gemv
    const GEMV_ROWS: usize = 0;
    /// Segments are filled up to so many steps.
    const GROUP: usize = 1;
    /// Whether sums start with what is known of the codes of a column.
    const COLUMN_INIT: bool = false;
    /// Whether weights are in an [`order`](super::order) of their own.
    const PERMUTED: bool = false;
    /// Whether activations are added to codes before they are multiplied (Winograd, "A new algorithm
    /// for inner product", 1968): of two steps, which hold `a` and `c` of a row and `w` and `x` of a
    /// column, `(a + x) · (c + w) = a · w + c · x + a · c + w · x`. What rows and columns give for
    /// themselves is subtracted once per sum, and the other half of the products is saved.
    const WINOGRAD: bool = false;
    /// Whether codes of at most 4 bits are multiplied as they are stored, which is unsigned, code +
    /// half, and activations are signed. Unpacking is shorter then; `half · Σ a` is subtracted once per
    /// sum.
    const UNSIGNED_CODES: bool = false;
    /// Whether sums start with something of a row alone.
    const ROW_INIT: bool = Self::WINOGRAD || Self::UNSIGNED_CODES;

    /// No sum yet.
    fn zero(self) -> Self::Ints;

    /// Adds the products of `a` and `b`, exactly: a line, or less of it at the end of a segment, but a
    /// multiple of [`Isa::GROUP`] steps.
    ///
    /// Where codes are of at most 4 bits, the number of steps is a multiple of 8, and `b` holds them
    /// plus half of their range if that is how they are multiplied ([`Isa::UNSIGNED_CODES`]).
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[Self::Ints; 2]; R],
        a: &[Line; R],
        b: &[Self::KStep],
    );

    /// The most rows for which [`Isa::accumulate_packed`] is faster than unpacking a panel once, for
    /// all tiles; 0 where it is not there.
    const UNPACK_ABOVE: usize = 0;

    /// As [`Isa::UNPACK_ABOVE`] for codes of 8 bits, which are widened to i16 as they are loaded, or once for
    /// all tiles; 0 where they are multiplied as they are.
    const WIDEN_ABOVE: usize = 0;

    /// [`Isa::accumulate`] for packed steps of 4 bits, which hold two steps each: without a way
    /// through memory.
    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        _sums: &mut [[Self::Ints; 2]; R],
        _a: &[Line; R],
        _b: &[Self::KStep],
    ) {
    }

    /// [`Isa::accumulate`] for all codes of a panel, which are in an [`order`](super::order).
    #[inline(always)]
    fn accumulate_permuted<const R: usize>(
        self,
        _sums: &mut [[Self::Ints; 2]; R],
        _a: &[[Line; R]],
        _b: &[Self::KStep],
        _order: PanelPermutation<'_>,
    ) {
    }

    /// The codes of a step for the columns of vector `v`, a lane of 32 bits for each: what
    /// [`Isa::byte`] and [`Isa::nibble`] take apart.
    fn lanes(self, step: &Self::KStep, v: usize) -> Self::Ints;

    /// Value `J` along K of a step, whose codes have a byte each.
    fn byte<const J: usize>(self, lanes: Self::Ints) -> Self::Floats;

    /// Asks for a step so many bytes further on, if there is one.
    #[inline(always)]
    fn prefetch(self, _step: &Self::KStep, _bytes: usize) {}

    /// Value `J` along K, of eight, of each lane of a packed step of 4 bits: two steps of four values
    /// (see [`nibble_at`]). Steps of two values are never packed.
    fn nibble<const J: usize>(self, lanes: Self::Ints) -> Self::Floats;

    /// The same sum in each lane.
    fn splat_int(self, value: i32) -> Self::Ints;

    /// Reads the lanes.
    fn load_ints(self, from: &[i32]) -> Self::Ints;

    /// Writes the lanes.
    fn store_ints(self, sums: Self::Ints, out: &mut [i32]);

    /// `a + b`, wrapping.
    fn add_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// `sum - a * b`, wrapping.
    fn subtract_product(self, sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// Rounded to the nearest float, ties to even.
    fn to_floats(self, sums: Self::Ints) -> Self::Floats;

    /// The same value in each lane.
    fn splat(self, value: f32) -> Self::Floats;

    /// Reads the lanes.
    fn load(self, from: &[f32]) -> Self::Floats;

    /// Writes the lanes.
    fn store(self, floats: Self::Floats, out: &mut [f32]);

    /// `a + b`.
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// `a - b`.
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// `a * b`. Never fused with an addition: that would give other bits.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// The bits of floats.
    fn bits(self, from: &[f32]) -> Self::Ints;

    /// The larger one as a signed number.
    fn max(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// The larger one as an unsigned number.
    fn max_unsigned(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// Codes plus 128, if the result is `false`; some may be wrong if it is `true`: see
    /// [`Affine::codes`](super::elementwise::Affine::codes).
    #[inline(always)]
    fn quantize(
        self,
        by: Reciprocal,
        values: &[f32; QUANTIZE_LANES],
        codes: &mut [u8; QUANTIZE_LANES],
    ) -> bool {
        by.quantize(values, codes)
    }

    /// `a * b + c`, rounded once.
    fn fused(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;

    /// `a` where it is greater than 0, else `+0.0`.
    fn relu(self, a: Self::Floats) -> Self::Floats;
}

/// Which four bits of a lane, from the low end, are value `j` along K of a packed step of 4 bits: its
/// first step is in the low halves of the bytes.
pub(crate) const fn nibble_at(j: usize) -> usize {
    j % 4 * 2 + j / 4
}
