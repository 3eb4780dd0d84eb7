//! A value for each column of a panel, in two vectors.

use crate::isa::Isa;

/// Columns of the widest panel.
pub(crate) const WIDEST: usize = 32;

/// Loads an integer for each column of a panel.
#[inline(always)]
pub(crate) fn load_ints<I: Isa>(isa: I, lanes: &[i32]) -> [I::Ints; 2] {
    let lanes = halves(lanes, I::LANES);
    [isa.load_ints(lanes[0]), isa.load_ints(lanes[1])]
}

/// The slices for the two vectors of a panel.
#[inline(always)]
fn halves<T>(lanes: &[T], each: usize) -> [&[T]; 2] {
    [&lanes[..each], &lanes[each..2 * each]]
}

/// Loads a float for each column of a panel.
#[inline(always)]
pub(crate) fn load<I: Isa>(isa: I, lanes: &[f32]) -> [I::Floats; 2] {
    let lanes = halves(lanes, I::LANES);
    [isa.load(lanes[0]), isa.load(lanes[1])]
}

/// Loads a float in half precision for each column of a panel.
#[inline(always)]
pub(crate) fn load_halves<I: Isa>(isa: I, lanes: &[u16]) -> [I::Floats; 2] {
    let lanes = halves(lanes, I::LANES);
    [isa.load_halves(lanes[0]), isa.load_halves(lanes[1])]
}

#[inline(always)]
pub(crate) fn store<I: Isa>(isa: I, values: [I::Floats; 2], lanes: &mut [f32]) {
    isa.store(values[0], &mut lanes[..I::LANES]);
    isa.store(values[1], &mut lanes[I::LANES..I::NR]);
}

#[inline(always)]
pub(crate) fn mul<I: Isa>(isa: I, a: [I::Floats; 2], b: [I::Floats; 2]) -> [I::Floats; 2] {
    [isa.mul(a[0], b[0]), isa.mul(a[1], b[1])]
}

#[inline(always)]
pub(crate) fn add<I: Isa>(isa: I, a: [I::Floats; 2], b: [I::Floats; 2]) -> [I::Floats; 2] {
    [isa.add(a[0], b[0]), isa.add(a[1], b[1])]
}
