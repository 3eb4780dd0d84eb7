//! Codes of a panel to floats, a piece of K at a time.

use super::PIECE;
use crate::isa::Isa;
use crate::isa::lanes::load_ints;
use crate::isa::permuted::NEGATED;
use crate::pack::b::PackedWeights;
use crate::pack::permutation::InversePermutation;
use crate::pack::unpack::UnpackSteps;
use bytemuck::Zeroable;

/// `f32(q - z)` of [`PIECE`] values along K, for the columns of a panel.
pub(super) type Piece<I> = [[<I as Isa>::Floats; 2]; PIECE];

/// Memory for the k-steps of a piece in unpacked order, and up to 8 more.
pub(super) struct UnpackedSteps<I: Isa> {
    steps: [I::KStep; PIECE / 2 + 8],
}

impl<I: Isa> UnpackedSteps<I> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { steps: [I::KStep::zeroed(); PIECE / 2 + 8] }
    }
}

/// Where a piece is: its panel and segment, and its first k-step, which starts with a whole byte.
#[derive(Clone, Copy)]
pub(super) struct PieceAt {
    pub(super) panel: usize,
    pub(super) segment: usize,
    pub(super) step: usize,
}

/// Writes `q - z` of `len` values as floats, exactly.
#[inline(always)]
pub(super) fn dequantize<I: Isa>(
    isa: I,
    weights: &PackedWeights,
    at: PieceAt,
    len: usize,
    piece: &mut Piece<I>,
    room: &mut UnpackedSteps<I>,
) {
    let steps = len.div_ceil(I::KR);
    if I::KR == 4 && weights.bits == 4 {
        // Each packed k-step holds two of four values.
        let packed = &weights.panel(at.panel)[at.step / 2..][..steps.div_ceil(2)];
        nibbles(isa, packed, stored_nibbles(isa, weights), piece);
    } else {
        bytes(isa, codes::<I>(weights, at.panel, at.step, steps, room), piece);
    }
    if subtracts_zeros(weights, I::KR == 4 && weights.bits == 4) {
        let zeros = float_zeros(isa, weights, at.panel, at.segment);
        for codes in &mut piece[..len] {
            *codes = [isa.sub(codes[0], zeros[0]), isa.sub(codes[1], zeros[1])];
        }
    }
}

/// K-steps of a panel, unpacked and in the order of K. `step` is the first k-step of a whole byte.
#[inline(always)]
pub(super) fn codes<'b, I: Isa>(
    weights: &'b PackedWeights,
    panel: usize,
    step: usize,
    steps: usize,
    room: &'b mut UnpackedSteps<I>,
) -> &'b [I::KStep] {
    let codes: &[I::KStep] = weights.panel(panel);
    if const { I::PERMUTED } {
        let places = weights.permutations.places(panel);
        along_k::<I>(codes, places, step / 4, &mut room.steps[..steps.next_multiple_of(4)]);
    } else if const { I::KR == 2 } || weights.bits == 8 {
        return &codes[step..][..steps];
    } else {
        // Segments are padded to 8 k-steps, which are whole bytes.
        let bits = weights.bits;
        let packed = &codes[step * bits / 8..][..(steps * bits).div_ceil(8)];
        let (packed, out) =
            (bytemuck::cast_slice(packed), bytemuck::cast_slice_mut(&mut room.steps));
        weights.kernel.run(UnpackSteps { bits, packed, out });
    }
    &room.steps[..steps]
}

/// The constants for 4-bit codes, with the zero point if all codes have the same.
#[inline(always)]
pub(super) fn stored_nibbles<I: Isa>(isa: I, weights: &PackedWeights) -> I::Nibbles {
    let zero = if weights.words.zero_points { 0 } else { weights.zero_point() };
    isa.nibbles((8 + zero) as f32)
}

/// Whether zero points are subtracted from converted codes; `nibbles` is whether they are converted by
/// [`stored_nibbles`].
pub(super) fn subtracts_zeros(weights: &PackedWeights, nibbles: bool) -> bool {
    weights.words.zero_points || !nibbles && weights.has_zero_points()
}

/// The zero points of a panel.
#[inline(always)]
pub(super) fn float_zeros<I: Isa>(
    isa: I,
    weights: &PackedWeights,
    panel: usize,
    segment: usize,
) -> [I::Floats; 2] {
    let Some(zeros) = weights.columns_of::<I>(panel, segment).zero_points() else {
        return [isa.splat(weights.zero_point() as f32); 2];
    };
    let [a, b] = load_ints(isa, zeros);
    let less = isa.splat_int(-weights.shift);
    [isa.to_floats(isa.add_ints(a, less)), isa.to_floats(isa.add_ints(b, less))]
}

/// Value `$j` of both vectors of a k-step, by [`Isa::byte`] or [`Isa::nibble`].
macro_rules! values {
    ($isa:expr, byte, $j:literal, $lanes:expr, $of:expr) => {
        [$isa.byte::<$j>($lanes[0]), $isa.byte::<$j>($lanes[1])]
    };
    ($isa:expr, nibble, $j:literal, $lanes:expr, $of:expr) => {
        [$isa.nibble::<$j>($lanes[0], $of), $isa.nibble::<$j>($lanes[1], $of)]
    };
}
pub(super) use values;

/// Converts each value of a k-step.
macro_rules! convert_each {
    ($isa:ident.$method:ident($step:ident, $of:expr): $($j:literal)+ => $out:ident) => {
        let lanes = [$isa.lanes($step, 0), $isa.lanes($step, 1)];
        $($out[$j] = values!($isa, $method, $j, lanes, $of);)+
    };
}

/// Converts packed 4-bit codes.
#[inline(always)]
fn nibbles<I: Isa>(isa: I, packed: &[I::KStep], of: I::Nibbles, piece: &mut Piece<I>) {
    for (step, out) in packed.iter().zip(piece.as_chunks_mut::<8>().0) {
        convert_each!(isa.nibble(step, of): 0 1 2 3 4 5 6 7 => out);
    }
}

/// Converts 8-bit codes.
#[inline(always)]
fn bytes<I: Isa>(isa: I, codes: &[I::KStep], piece: &mut Piece<I>) {
    for (step, out) in codes.iter().zip(piece.chunks_exact_mut(I::KR)) {
        convert_each!(isa.byte(step, ()): 0 1 => out);
        if const { I::KR == 4 } {
            convert_each!(isa.byte(step, ()): 2 3 => out);
        }
    }
}

/// Restores the order of K of permuted blocks from `first` on, byte by byte: weights for floats are packed
/// without a permutation.
#[inline(always)]
fn along_k<I: Isa>(
    codes: &[I::KStep],
    places: InversePermutation<'_>,
    first: usize,
    out: &mut [I::KStep],
) {
    let columns = I::NR;
    let codes: &[[i8; 4]] = bytemuck::cast_slice(codes);
    let out: &mut [[i8; 4]] = bytemuck::cast_slice_mut(out);
    for (b, out) in out.chunks_exact_mut(4 * columns).enumerate() {
        let codes = &codes[usize::from(places.blocks[first + b]) * 4 * columns..][..4 * columns];
        for (i, place) in places.positions[first + b].iter().enumerate() {
            let at = usize::from(place % NEGATED);
            for column in 0..columns {
                let code = codes[at / 4 * columns + column][at % 4];
                let negated = place / NEGATED == 1;
                out[i / 4 * columns + column][i % 4] = if negated { -code } else { code };
            }
        }
    }
}
