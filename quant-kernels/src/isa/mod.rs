//! The operations that an instruction set provides.
//!
//! Imports [`scheme`](crate::scheme) alone. Start with [`Isa`]; [`scalar`] defines the results.

#[macro_use]
mod absent;
#[macro_use]
mod instruction_set;
pub(crate) mod lanes;
pub(crate) mod permuted;
mod reciprocal;
pub(crate) mod scalar;
#[macro_use]
mod vector_methods;
// Sanitizers take minutes to compile these, and the targets of `fuzz` read files.
#[cfg_attr(
    not(all(
        target_arch = "aarch64",
        target_feature = "neon",
        target_endian = "little",
        not(fuzzing)
    )),
    path = "aarch64/absent.rs"
)]
pub(crate) mod aarch64;
#[cfg_attr(
    not(all(target_arch = "wasm32", target_feature = "simd128", not(fuzzing))),
    path = "wasm32/absent.rs"
)]
pub(crate) mod wasm32;
#[cfg_attr(any(not(target_arch = "x86_64"), fuzzing), path = "x86_64/absent.rs")]
pub(crate) mod x86_64;

pub(crate) use reciprocal::{QUANTIZE_LANES, Reciprocal};

use permuted::PanelPermutation;

use bytemuck::Pod;

/// An operation that is compiled once for each instruction set.
///
/// `run`, and every function called in its loops, must be `#[inline(always)]`: only code that is inlined
/// into the function that enables an instruction set is compiled for it. A closure is a function of its
/// own and is not, so loops are written as loops.
pub(crate) trait Operation {
    type Output;
    fn run<I: Isa>(self, isa: I) -> Self::Output;
}

/// A cache line of packed activations: 16 groups of 32 bits, one for each k-step.
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

/// An instruction set. A value of an implementing type proves that the CPU supports it.
///
/// A *k-step* is the smallest unit of an integer product: 32 bits of activations of one row against
/// [`Isa::KR`] codes for each of the [`Isa::NR`] columns of a panel. Two vectors of accumulators hold one
/// row of a panel.
pub(crate) trait Isa: Copy + Send + Sync {
    /// i32, one lane per column.
    type Ints: Copy;
    /// f32, one lane per column.
    type Floats: Copy;
    /// The codes of a k-step for two vectors of columns.
    type KStep: Pod;

    /// Columns of a vector.
    const LANES: usize;
    /// Columns of a panel.
    const NR: usize = 2 * Self::LANES;
    /// Values along K in a k-step: four bytes, or two i16.
    const KR: usize;
    /// Rows of the tallest tile of an integer product.
    const MR: usize;
    /// The most rows for which float products have a specialized loop, [`Gemv`]; 0 if none.
    ///
    /// [`Gemv`]: crate::weight_only::gemv::Gemv
    const GEMV_ROWS: usize = 0;
    /// Segments are padded to a multiple of this many k-steps.
    const GROUP: usize = 1;
    /// Whether weights are stored in a [`permutation`](crate::pack::permutation).
    const PERMUTED: bool = false;
    /// Whether the product is computed as a Winograd inner product ("A new algorithm for inner product",
    /// 1968), which adds activations to codes before it multiplies. For two k-steps that hold `a` and `c` of
    /// a row and `w` and `x` of a column, `(a + x) · (c + w) = a · w + c · x + a · c + w · x`. The last two
    /// terms depend on the row or the column alone; they are subtracted once per accumulator, which saves half
    /// of the multiplications.
    const WINOGRAD: bool = false;
    /// The widths of codes that are multiplied as stored, unsigned (`code + half`), with signed activations. This
    /// shortens unpacking; `half · Σ (a - za)` is subtracted once per accumulator.
    const UNSIGNED_BITS: &'static [usize] = &[];
    /// Whether activations are multiplied as signed bytes, whatever the width of codes. Else they are `code + 128`,
    /// and `128 · Σ code` is subtracted once per accumulator.
    const SIGNED_ACTIVATIONS: bool = false;
    /// Flips the signs of the bytes in a line, which adds or subtracts 128.
    #[inline(always)]
    fn flip_signs(self, line: &mut Line) {
        for byte in line.bytes_mut() {
            *byte ^= 0x80;
        }
    }

    /// The part of [`Isa::WINOGRAD`] that depends on the row alone, for a line of i16 that come from bytes: the sum
    /// of the products of neighbouring k-steps.
    #[inline(always)]
    fn neighbour_products(self, _line: &Line) -> i32 {
        0
    }

    /// Zero in each lane.
    fn zero(self) -> Self::Ints;

    /// Adds the products of `a` and `b` to the accumulators, exactly. `b` has a multiple of [`Isa::GROUP`]
    /// k-steps, at most those of `a` from `first` on, which is 0 or 8.
    ///
    /// For codes of at most 4 bits, the number of k-steps is a multiple of 8, and `b` holds `code + half` if they
    /// are among [`Isa::UNSIGNED_BITS`].
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[Self::Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep],
    );

    /// The most rows for which [`Isa::accumulate_packed`] is faster than unpacking a panel once for all
    /// tiles; 0 if it is not implemented.
    const UNPACK_ABOVE: usize = 0;

    /// The most rows for which 8-bit codes are widened to i16 at each load, instead of once for all tiles; 0
    /// if they are not widened.
    const WIDEN_ABOVE: usize = 0;

    /// [`Isa::accumulate`] for packed k-steps of 4-bit codes, two k-steps in each, which are unpacked in
    /// registers.
    #[inline(always)]
    fn accumulate_packed<const R: usize>(
        self,
        _sums: &mut [[Self::Ints; 2]; R],
        _a: &[Line; R],
        _first: usize,
        _b: &[Self::KStep],
    ) {
    }

    /// Whether accumulators are better 0 before [`Isa::accumulate_half`], which then takes all registers.
    const FROM_ZERO: bool = false;

    /// [`Isa::accumulate`] for half a line. The accumulators are 0 before if [`Isa::FROM_ZERO`].
    #[inline(always)]
    fn accumulate_half<const R: usize>(
        self,
        sums: &mut [[Self::Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep; Line::STEPS / 2],
    ) {
        self.accumulate(sums, a, first, b);
    }

    /// [`Isa::accumulate_packed`], likewise.
    #[inline(always)]
    fn accumulate_half_packed<const R: usize>(
        self,
        sums: &mut [[Self::Ints; 2]; R],
        a: &[Line; R],
        first: usize,
        b: &[Self::KStep; Line::STEPS / 4],
    ) {
        self.accumulate_packed(sums, a, first, b);
    }

    /// [`Isa::accumulate`] for all codes of a panel, which are in a
    /// [`permutation`](crate::pack::permutation).
    #[inline(always)]
    fn accumulate_permuted<const R: usize>(
        self,
        _sums: &mut [[Self::Ints; 2]; R],
        _a: &[[Line; R]],
        _b: &[Self::KStep],
        _order: PanelPermutation<'_>,
    ) {
    }

    /// The codes of a k-step for the columns of vector `v`, 32 bits in each lane: the argument of
    /// [`Isa::byte`] and [`Isa::nibble`].
    fn lanes(self, step: &Self::KStep, v: usize) -> Self::Ints;

    /// Value `J` along K of a k-step of 8-bit codes.
    fn byte<const J: usize>(self, lanes: Self::Ints) -> Self::Floats;

    /// Prefetches what lies `bytes` after this value.
    #[inline(always)]
    fn prefetch<T>(self, _from: &T, _bytes: usize) {}

    /// The constants of [`Isa::nibble`] for a zero point.
    type Nibbles: Copy;

    /// The constants for 4-bit codes whose zero point is `zero`, counted as codes are stored: `code + 8`.
    fn nibbles(self, zero: f32) -> Self::Nibbles;

    /// Value `J` along K, 0 to 7, of a packed k-step of 4-bit codes, less the zero point: two k-steps of four values
    /// (see [`nibble_at`]). K-steps of two values are never packed.
    fn nibble<const J: usize>(self, lanes: Self::Ints, of: Self::Nibbles) -> Self::Floats;

    /// The same integer in each lane.
    fn splat_int(self, value: i32) -> Self::Ints;

    /// Loads a vector.
    fn load_ints(self, from: &[i32]) -> Self::Ints;

    /// Loads a vector of signed bytes.
    fn load_bytes(self, from: &[u8]) -> Self::Ints;

    /// Loads a vector of unsigned bytes.
    fn load_unsigned(self, from: &[u8]) -> Self::Ints;

    /// Loads a vector of floats in half precision.
    fn load_halves(self, from: &[u16]) -> Self::Floats;

    /// Stores a vector.
    fn store_ints(self, sums: Self::Ints, out: &mut [i32]);

    /// `a + b`, wrapping.
    fn add_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// `acc - a * b`, wrapping.
    fn subtract_product(self, sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// Rounded to the nearest float, ties to even.
    fn to_floats(self, sums: Self::Ints) -> Self::Floats;

    /// The same float in each lane.
    fn splat(self, value: f32) -> Self::Floats;

    /// Loads a vector.
    fn load(self, from: &[f32]) -> Self::Floats;

    /// Stores a vector.
    fn store(self, floats: Self::Floats, out: &mut [f32]);

    /// `a + b`.
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// `a - b`.
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// `a * b`. It must not be fused with an addition, which would give other bits.
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// `a / b`, correctly rounded.
    fn div(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// `a` if it is less than `b`, else `b`, also for NaN.
    fn least(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// `a` if it is greater than `b`, else `b`, also for NaN.
    fn greatest(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;

    /// The bits of floats.
    fn to_bits(self, floats: Self::Floats) -> Self::Ints;

    /// `a - b`, wrapping.
    fn sub_ints(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// Half of each integer, rounded down.
    fn half(self, a: Self::Ints) -> Self::Ints;

    /// `2^n` for `-126 ≤ n ≤ 127`; any float for other numbers.
    fn power_of_two(self, n: Self::Ints) -> Self::Floats;

    /// What [`Isa::dot_signed`] adds to each code of `k`.
    const KEY_OFFSET: i32 = 0;

    /// Adds four products of signed bytes, of `q` and of `k` with [`Isa::KEY_OFFSET`], to each lane. Bytes
    /// are -127 to 127. Implemented where attention runs, as are the following two.
    #[inline(always)]
    fn dot_signed(self, sums: Self::Ints, _q: Self::Ints, _k: Self::Ints) -> Self::Ints {
        sums
    }

    /// The low nibbles of bytes, and the high ones.
    #[inline(always)]
    fn split_nibbles(self, packed: Self::Ints) -> [Self::Ints; 2] {
        [packed; 2]
    }

    /// Adds four products of signed bytes of `q` and unsigned bytes of `u`, at most 15, to each lane.
    #[inline(always)]
    fn dot_unsigned(self, sums: Self::Ints, _q: Self::Ints, _u: Self::Ints) -> Self::Ints {
        sums
    }

    /// [`Isa::dot_unsigned`] for a row of eight words of `q` and four vectors of packed nibbles, the low
    /// ones first.
    #[inline(always)]
    fn dot_packed(self, sums: Self::Ints, q: &[i32; 8], packed: &[Self::Ints; 4]) -> Self::Ints {
        let mut sums = sums;
        for i in 0..4 {
            let [low, high] = self.split_nibbles(packed[i]);
            sums = self.dot_unsigned(sums, self.splat_int(q[2 * i]), low);
            sums = self.dot_unsigned(sums, self.splat_int(q[2 * i + 1]), high);
        }
        sums
    }

    /// Loads floats as their bits.
    fn bits(self, from: &[f32]) -> Self::Ints;

    /// The signed maximum.
    fn max(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// The unsigned maximum.
    fn max_unsigned(self, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// Writes `code + 128` of each value and returns `false`; or returns `true` if some may be wrong. See
    /// [`Affine::codes`](crate::elementwise::affine::Affine::codes).
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

    /// `a` if it is greater than 0, else `+0.0`.
    fn relu(self, a: Self::Floats) -> Self::Floats;
}

/// The position, counted in nibbles from the low end of a lane, of value `j` along K of a packed k-step of
/// 4-bit codes. The first k-step is in the low nibbles of the bytes.
pub(crate) const fn nibble_at(j: usize) -> usize {
    j % 4 * 2 + j / 4
}
