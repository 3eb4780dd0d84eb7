//! In which order a panel of 8-bit codes is stored, so that `vpmaddubsw` is exact (AVX2).
//!
//! `vpmaddubsw` adds two products of an unsigned activation, `0 ..= 255`, and a signed code in
//! i16. That saturates only where the two codes sum to more than [`LIMIT`], in some column of the
//! panel: known when weights are packed. In real ones it is rare for a column (1 to 4 % of the
//! pairs), but not for one of the 16 columns of a panel. A sum does not depend on the order of its
//! terms, though, so K is reordered:
//!
//! ```text
//! for panel, for BLOCK of K
//!   find pairs such that no column of the panel leaves the limit
//!   store the codes pair by pair, and the order they are in
//! ```
//! The product brings a block of activations into the same order by one `vpshufb`, a sixteenth of
//! the work it does with them. Where one pair of neighbours in five does not fit, nearly every block
//! has an order in which all of them do. Pairs that are left over have
//! [`remainders`](super::remainders).

use core::array::from_fn;

/// Codes that are ordered together: those a 128-bit shuffle can reach.
pub(super) const BLOCK: usize = 16;

/// `128 · 255 = 32640` fits i16, `129 · 255` does not.
pub(super) const LIMIT: i16 = 128;

/// Columns of a panel.
const COLUMNS: usize = 16;

/// More pairs than this part of all may not be left over: `vpmaddwd` for everything is faster then.
///
/// Measured on one core of a Zen 4: a percent of K with remainders costs two percent of the speed,
/// and without any of them, this is a quarter faster than `vpmaddwd`.
const MOST: usize = 10;

/// A bit for each code of a block.
type Set = u16;

/// The codes of a block, each for all columns.
type Codes = [[i16; COLUMNS]; BLOCK];

/// Whether all columns stay within the limit.
#[inline(always)]
fn fits(a: &[i16; COLUMNS], b: &[i16; COLUMNS]) -> bool {
    let mut over = 0i16;
    for column in 0..COLUMNS {
        // Different signs cannot leave the limit: their products are on different sides of 0.
        let sum = a[column] + b[column];
        over |= if sum.abs() > LIMIT { -1 } else { 0 };
    }
    over == 0
}

/// For each code those it can be a pair with.
fn partners(codes: &Codes) -> [Set; BLOCK] {
    let mut partners = [0; BLOCK];
    for i in 0..BLOCK {
        for j in i + 1..BLOCK {
            if fits(&codes[i], &codes[j]) {
                partners[i] |= 1 << j;
                partners[j] |= 1 << i;
            }
        }
    }
    partners
}

/// The other one of each code's pair, and how many of the eight pairs do not fit.
///
/// Whoever has the fewest partners left chooses first, and chooses the one with the fewest.
fn pair(partners: &[Set; BLOCK]) -> ([usize; BLOCK], usize) {
    let fewest = |among: Set, left: Set| {
        let among = (0..BLOCK).filter(|i| among >> i & 1 == 1);
        among.min_by_key(|i| (partners[*i] & left).count_ones())
    };
    let mut other = [0; BLOCK];
    let (mut left, mut unmatched, mut misfits) = (Set::MAX, None, 0);
    while let Some(first) = fewest(left, left) {
        left &= !(1 << first);
        let second = match fewest(partners[first] & left, left) {
            Some(second) => {
                left &= !(1 << second);
                second
            }
            // Whoever is left over has no partner among the others: there is an even number of them.
            None => match unmatched.take() {
                Some(second) => {
                    misfits += 1;
                    second
                }
                None => {
                    unmatched = Some(first);
                    continue;
                }
            },
        };
        (other[first], other[second]) = (second, first);
    }
    (other, misfits)
}

/// An order in which neighbours fit, and how many of the eight pairs do not. Done twice, it is the
/// stored order again, so it says where a value is as well as which one is there.
///
/// The pairs wanted and the pairs of neighbours together make rings, in which every other step is
/// one to a neighbour. Mirroring a ring at one of its codes exchanges the two kinds of steps.
fn order(codes: &Codes) -> ([u8; BLOCK], usize) {
    let mut order = from_fn(|i| i as u8);
    if (0..BLOCK / 2).all(|i| fits(&codes[2 * i], &codes[2 * i + 1])) {
        return (order, 0);
    }
    let (other, misfits) = pair(&partners(codes));
    let mut seen: Set = 0;
    for start in 0..BLOCK {
        let (mut ring, mut len, mut at) = ([0; BLOCK], 0, start);
        while seen >> at & 1 == 0 {
            seen |= 1 << at | 1 << (at ^ 1);
            (ring[len], ring[len + 1]) = (at, at ^ 1);
            len += 2;
            at = other[at ^ 1];
        }
        for i in 0..len {
            order[ring[i]] = ring[(len - i) % len] as u8;
        }
    }
    (order, misfits)
}

/// A block of a panel's rows, of which there are at most [`COLUMNS`].
fn block<'a>(rows: impl Iterator<Item = &'a [i8]>, start: usize) -> Codes {
    let mut codes = [[0; COLUMNS]; BLOCK];
    for (column, row) in rows.enumerate().take(COLUMNS) {
        for (codes, code) in codes.iter_mut().zip(&row[start..]) {
            codes[column] = i16::from(*code);
        }
    }
    codes
}

/// Orders the codes of a panel, rows of `orders.len()` codes at a distance of `stride`, and writes
/// where in its block each of them was.
pub(super) fn arrange(rows: &mut [i8], stride: usize, orders: &mut [u8]) {
    for (i, to) in orders.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let codes = block(rows.chunks_exact(stride), i * BLOCK);
        let (order, _) = order(&codes);
        *to = order;
        for (column, row) in rows.chunks_exact_mut(stride).enumerate() {
            let row = &mut row[i * BLOCK..][..BLOCK];
            for (code, from) in row.iter_mut().zip(order) {
                *code = codes[usize::from(from)][column] as i8;
            }
        }
    }
}

/// Whether ordering these codes, `n` rows of `k`, is faster than `vpmaddwd`: judged by some panels,
/// evenly spread.
pub(super) fn pays(codes: &[i8], n: usize, k: usize) -> bool {
    let (mut misfits, mut all) = (0, 0);
    for panel in (0..n.div_ceil(COLUMNS)).step_by((n / 512).max(1)) {
        let rows = || codes.chunks_exact(k.max(1)).skip(panel * COLUMNS).take(COLUMNS);
        for start in (0..k).step_by(BLOCK) {
            misfits += order(&block(rows(), start)).1;
            all += BLOCK / 2;
        }
    }
    misfits * MOST <= all
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Codes of one column.
    fn column(codes: [i16; BLOCK]) -> Codes {
        codes.map(|code| [code; COLUMNS])
    }

    #[test]
    fn an_order_undoes_itself_and_pairs_what_fits() {
        let mut state = 1u32;
        for large in 0..=BLOCK {
            for _ in 0..50 {
                let mut codes = [1; BLOCK];
                for _ in 0..large {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    codes[(state >> 28) as usize] = if state >> 27 & 1 == 0 { 127 } else { -128 };
                }
                let codes = column(codes);
                let (order, misfits) = order(&codes);
                let twice: Vec<u8> = order.iter().map(|at| order[usize::from(*at)]).collect();
                assert!(twice.iter().enumerate().all(|(i, at)| i == usize::from(*at)));
                let at = |i: usize| &codes[usize::from(order[i])];
                let unfit = (0..BLOCK / 2).filter(|i| !fits(at(2 * i), at(2 * i + 1))).count();
                assert_eq!(unfit, misfits);
                // Nine of a kind cannot all find a partner, eight can.
                let most = [127, -128].map(|kind| codes.iter().filter(|c| c[0] == kind).count());
                let needed = most.map(|count| count.saturating_sub(BLOCK / 2));
                assert_eq!(misfits, needed[0].max(needed[1]), "{codes:?}");
            }
        }
    }
}
