//! Sixteen values in vectors of any width, and their sum in one order.

use crate::isa::Isa;

/// Elements that are processed together: those with the same index modulo this number are summed apart.
pub(crate) const LANES: usize = 16;

/// The most vectors that sixteen values take.
const MOST: usize = 4;

/// A value for each index modulo [`LANES`]: `LANES / I::LANES` vectors, and others that are not used.
pub(crate) type Lanes<I> = [<I as Isa>::Floats; MOST];

/// The vectors that sixteen values take.
#[inline(always)]
pub(crate) const fn vectors<I: Isa>() -> usize {
    const { assert!(LANES.is_multiple_of(I::LANES) && LANES / I::LANES <= MOST) };
    LANES / I::LANES
}

/// The same value sixteen times.
#[inline(always)]
pub(crate) fn splat<I: Isa>(isa: I, value: f32) -> Lanes<I> {
    [isa.splat(value); MOST]
}

#[inline(always)]
pub(crate) fn load<I: Isa>(isa: I, values: &[f32; LANES]) -> Lanes<I> {
    let mut lanes = splat(isa, 0.0);
    for v in 0..vectors::<I>() {
        lanes[v] = isa.load(&values[v * I::LANES..][..I::LANES]);
    }
    lanes
}

#[inline(always)]
pub(crate) fn store<I: Isa>(isa: I, lanes: Lanes<I>, values: &mut [f32; LANES]) {
    for v in 0..vectors::<I>() {
        isa.store(lanes[v], &mut values[v * I::LANES..][..I::LANES]);
    }
}

/// Up to sixteen values, followed by `filler`.
#[inline(always)]
pub(crate) fn padded(values: &[f32], filler: f32) -> [f32; LANES] {
    let mut lanes = [filler; LANES];
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

/// The sum of sixteen partial sums: the upper half is added to the lower one until one is left.
#[inline(always)]
pub(crate) fn total<I: Isa>(isa: I, sums: Lanes<I>) -> f32 {
    let mut all = [0.0; LANES];
    store(isa, sums, &mut all);
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            all[i] += all[i + half];
        }
        half /= 2;
    }
    all[0]
}
