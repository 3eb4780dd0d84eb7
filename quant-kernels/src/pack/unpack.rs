//! Unpacking of k-steps, and widening of 8-bit ones, once for all rows.

use crate::isa::Operation;
use crate::isa::{Isa, Line};
use crate::pack::b::PackedWeights;

/// Unpacks a panel into the k-steps that are multiplied.
pub(crate) struct Unpack<'a> {
    pub(crate) weights: &'a PackedWeights,
    pub(crate) panel: usize,
    pub(crate) unpacked: &'a mut [Line],
}

impl Operation for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Self { weights, panel, unpacked } = self;
        if weights.bits == 8 {
            let (codes, wide): (&[i8], &mut [i16]) =
                (weights.panel(panel), bytemuck::cast_slice_mut(unpacked));
            for (wide, code) in wide.iter_mut().zip(codes) {
                *wide = i16::from(*code);
            }
            return;
        }
        unpack_steps::<I>(weights, weights.panel(panel), bytemuck::cast_slice_mut(unpacked));
    }
}

/// Unpacks k-steps as they are multiplied: unsigned if their width is one of [`Isa::UNSIGNED_BITS`].
#[inline(always)]
pub(crate) fn unpack_steps<I: Isa>(
    weights: &PackedWeights,
    packed: &[I::KStep],
    out: &mut [I::KStep],
) {
    let half = if weights.shift == 0 { weights.half() } else { 0 };
    unpack::<I>(weights.bits, packed, out, half);
}

/// Unpacks k-steps, as bytes, for products of floats: code that all numbers of rows share.
pub(crate) struct UnpackSteps<'a> {
    pub(crate) bits: usize,
    pub(crate) packed: &'a [u8],
    pub(crate) out: &'a mut [u8],
}

impl Operation for UnpackSteps<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let Self { bits, packed, out } = self;
        let half = 1 << (bits - 1);
        unpack::<I>(bits, bytemuck::cast_slice(packed), bytemuck::cast_slice_mut(out), half);
    }
}

/// Unpacks k-steps: each holds `8 / bits` of them, the first in the low bits, as `code + 2^(bits-1)`, and is
/// written less `half`.
#[inline(always)]
fn unpack<I: Isa>(bits: usize, packed: &[I::KStep], out: &mut [I::KStep], half: u8) {
    match bits {
        4 => unpack_bits::<I, 4>(packed, out, half),
        _ => unpack_bits::<I, 2>(packed, out, half),
    }
}

#[inline(always)]
fn unpack_bits<I: Isa, const BITS: usize>(packed: &[I::KStep], out: &mut [I::KStep], half: u8) {
    let mask = ((1u16 << BITS) - 1) as u8;
    for (packed, out) in packed.iter().zip(out.chunks_exact_mut(8 / BITS)) {
        let packed = &bytemuck::bytes_of(packed)[..size_of::<I::KStep>()];
        for (j, out) in out.iter_mut().enumerate() {
            let out = &mut bytemuck::bytes_of_mut(out)[..size_of::<I::KStep>()];
            for i in 0..size_of::<I::KStep>() {
                out[i] = (packed[i] >> (j * BITS) & mask).wrapping_sub(half);
            }
        }
    }
}
