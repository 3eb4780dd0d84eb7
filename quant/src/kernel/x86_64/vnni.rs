//! The loops of the kernels with `vpdpbusd`, whose vectors differ in width only.
//!
//! It adds four products of an unsigned and a signed byte to an i32 lane, exactly. Activations are
//! the unsigned side (their code plus 128).

use crate::kernel::isa::Line;

/// What the loops ask of a vector.
pub(super) trait Vnni: Copy {
    /// Sums, or as many bytes.
    type Vector: Copy;
    /// The codes of a vector.
    type Codes;

    fn none(self) -> Self::Vector;

    fn codes(self, from: &Self::Codes) -> Self::Vector;

    /// Codes of 4 bits: those in the low halves of the bytes, and those in the high halves.
    fn unpacked(self, from: &Self::Codes) -> [Self::Vector; 2];

    fn broadcast(self, values: u32) -> Self::Vector;

    /// Adds four products of an unsigned byte of `a` and a signed byte of `b` to each sum.
    fn dot(self, sums: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    fn sum(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
}

/// Sums of the rows of a tile.
type Sums<V, const R: usize> = [[<V as Vnni>::Vector; 2]; R];

/// A sum waits four or five cycles for the one before it, in which two pipes could start eight or
/// ten. Fewer rows than this have two sums for each column, in turns.
const ROWS_WITH_SUMS_ENOUGH: usize = 4;

/// [`Isa::accumulate`](crate::kernel::isa::Isa::accumulate).
#[inline(always)]
pub(super) fn accumulate<V: Vnni, const R: usize>(
    vnni: V,
    sums: &mut Sums<V, R>,
    a: &[Line; R],
    b: &[[V::Codes; 2]],
) {
    let mut others = [[vnni.none(); 2]; R];
    let (pairs, last) = b.as_chunks::<2>();
    for (s, [first, second]) in pairs.iter().enumerate().take(Line::STEPS / 2) {
        let codes = [vnni.codes(&first[0]), vnni.codes(&first[1])];
        add(vnni, sums, a, 2 * s, codes);
        let codes = [vnni.codes(&second[0]), vnni.codes(&second[1])];
        add(vnni, in_turn::<V, R>(sums, &mut others), a, 2 * s + 1, codes);
    }
    for step in last {
        let codes = [vnni.codes(&step[0]), vnni.codes(&step[1])];
        add(vnni, sums, a, (b.len() - 1) % Line::STEPS, codes);
    }
    join(vnni, sums, &others);
}

/// [`Isa::accumulate_packed`](crate::kernel::isa::Isa::accumulate_packed).
#[inline(always)]
pub(super) fn accumulate_packed<V: Vnni, const R: usize>(
    vnni: V,
    sums: &mut Sums<V, R>,
    a: &[Line; R],
    b: &[[V::Codes; 2]],
) {
    let mut others = [[vnni.none(); 2]; R];
    for (s, step) in b.iter().enumerate().take(Line::STEPS / 2) {
        let [left, right] = [vnni.unpacked(&step[0]), vnni.unpacked(&step[1])];
        add(vnni, sums, a, 2 * s, [left[0], right[0]]);
        add(vnni, in_turn::<V, R>(sums, &mut others), a, 2 * s + 1, [left[1], right[1]]);
    }
    join(vnni, sums, &others);
}

/// A step of every row.
#[inline(always)]
fn add<V: Vnni, const R: usize>(
    vnni: V,
    sums: &mut Sums<V, R>,
    a: &[Line; R],
    step: usize,
    codes: [V::Vector; 2],
) {
    for r in 0..R {
        let values = vnni.broadcast(a[r].0[step]);
        sums[r][0] = vnni.dot(sums[r][0], values, codes[0]);
        sums[r][1] = vnni.dot(sums[r][1], values, codes[1]);
    }
}

#[inline(always)]
fn in_turn<'a, V: Vnni, const R: usize>(
    sums: &'a mut Sums<V, R>,
    others: &'a mut Sums<V, R>,
) -> &'a mut Sums<V, R> {
    if R < ROWS_WITH_SUMS_ENOUGH { others } else { sums }
}

#[inline(always)]
fn join<V: Vnni, const R: usize>(vnni: V, sums: &mut Sums<V, R>, others: &Sums<V, R>) {
    if R < ROWS_WITH_SUMS_ENOUGH {
        for r in 0..R {
            for v in 0..2 {
                sums[r][v] = vnni.sum(sums[r][v], others[r][v]);
            }
        }
    }
}
