//! The loops of the kernels with `vpdpbusd`, which differ only in vector width.

use crate::isa::{Isa, Line};

/// The sign bits of bytes. Flipping them adds 128.
pub(super) const SIGNS: i32 = i32::from_ne_bytes([0x80; 4]);

/// The low nibbles of bytes.
pub(super) const LOW: i32 = i32::from_ne_bytes([15; 4]);

/// The operations that the loops need beside those of [`Isa`].
pub(super) trait Vnni: Isa {
    /// Adds four products of an unsigned byte of `a` and a signed byte of `b` to each accumulator, exactly.
    /// Activations are the unsigned side (`code + 128`) of 8-bit and 2-bit codes, and the signed side of 4-bit
    /// codes, which are unsigned as they are stored (`code + 8`).
    fn dot(self, sums: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;

    /// The 4-bit codes for the columns of vector `v`, plus 8: those in the low nibbles, and those in the high
    /// nibbles.
    fn unpacked(self, step: &Self::KStep, v: usize) -> [Self::Ints; 2];
}

/// Accumulators of a tile.
type Sums<V, const R: usize> = [[<V as Isa>::Ints; 2]; R];

/// An accumulator waits four or five cycles for its previous product, while two pipes could start eight or ten.
/// With fewer rows than this, each column has two accumulators, used alternately.
const ROWS_WITH_SUMS_ENOUGH: usize = 4;

/// [`Isa::accumulate`].
#[inline(always)]
pub(super) fn accumulate<V: Vnni, const R: usize>(
    vnni: V,
    sums: &mut Sums<V, R>,
    a: &[Line; R],
    first: usize,
    b: &[V::KStep],
) {
    let mut others = [[vnni.zero(); 2]; R];
    const { assert!(V::GROUP == 2) };
    let pairs = (first / 2..Line::STEPS / 2).zip(b.as_chunks().0);
    for (s, [first, second]) in pairs {
        add(vnni, sums, a, 2 * s, [vnni.lanes(first, 0), vnni.lanes(first, 1)]);
        let sums = in_turn::<V, R>(sums, &mut others);
        add(vnni, sums, a, 2 * s + 1, [vnni.lanes(second, 0), vnni.lanes(second, 1)]);
    }
    join(vnni, sums, &others);
}

/// [`Isa::accumulate_packed`].
#[inline(always)]
pub(super) fn accumulate_packed<V: Vnni, const R: usize>(
    vnni: V,
    sums: &mut Sums<V, R>,
    a: &[Line; R],
    first: usize,
    b: &[V::KStep],
) {
    let mut others = [[vnni.zero(); 2]; R];
    for (s, step) in (first / 2..Line::STEPS / 2).zip(b) {
        let [left, right] = [vnni.unpacked(step, 0), vnni.unpacked(step, 1)];
        add_unsigned(vnni, sums, a, 2 * s, [left[0], right[0]]);
        let sums = in_turn::<V, R>(sums, &mut others);
        add_unsigned(vnni, sums, a, 2 * s + 1, [left[1], right[1]]);
    }
    join(vnni, sums, &others);
}

/// Adds a k-step of every row.
#[inline(always)]
fn add<V: Vnni, const R: usize>(
    vnni: V,
    sums: &mut Sums<V, R>,
    a: &[Line; R],
    step: usize,
    codes: [V::Ints; 2],
) {
    for r in 0..R {
        let values = vnni.splat_int(a[r].0[step] as i32);
        sums[r][0] = vnni.dot(sums[r][0], values, codes[0]);
        sums[r][1] = vnni.dot(sums[r][1], values, codes[1]);
    }
}

/// Adds a k-step of every row, whose codes are unsigned.
#[inline(always)]
fn add_unsigned<V: Vnni, const R: usize>(
    vnni: V,
    sums: &mut Sums<V, R>,
    a: &[Line; R],
    step: usize,
    codes: [V::Ints; 2],
) {
    for r in 0..R {
        let values = vnni.splat_int(a[r].0[step] as i32);
        sums[r][0] = vnni.dot(sums[r][0], codes[0], values);
        sums[r][1] = vnni.dot(sums[r][1], codes[1], values);
    }
}

/// The accumulators to use after `sums`.
#[inline(always)]
fn in_turn<'a, V: Vnni, const R: usize>(
    sums: &'a mut Sums<V, R>,
    others: &'a mut Sums<V, R>,
) -> &'a mut Sums<V, R> {
    if R < ROWS_WITH_SUMS_ENOUGH { others } else { sums }
}

/// Adds the second accumulators to the first.
#[inline(always)]
fn join<V: Vnni, const R: usize>(vnni: V, sums: &mut Sums<V, R>, others: &Sums<V, R>) {
    if R < ROWS_WITH_SUMS_ENOUGH {
        for r in 0..R {
            for v in 0..2 {
                sums[r][v] = vnni.add_ints(sums[r][v], others[r][v]);
            }
        }
    }
}
