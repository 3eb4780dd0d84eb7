//! The search for quads of codes whose products can be summed in i16: see
//! [`permutation`](super::permutation).

use super::permutation::{BlockPermutation, Set};
use crate::dispatch::Kernel;
use crate::isa::permuted::{BLOCK, BlockKind};
use crate::isa::{Isa, Operation};
use crate::parallel::both;
use alloc::vec;
use alloc::vec::Vec;
use core::array::from_fn;

/// `128 · 255 = 32640` fits i16, `129 · 255` does not.
const LIMIT: i16 = 128;

/// Columns of a panel.
const NR: usize = 16;

/// A code for each column.
type Lanes = [i16; NR];

/// The codes of a block.
type Codes = [Lanes; BLOCK];

/// The time of a block, measured on one core of a Zen 4, in the unit of [`FULL_RANGE_COST`].
const fn cost(kind: BlockKind) -> usize {
    match kind {
        BlockKind::Quads => 83,
        BlockKind::HalfQuads => 92,
        BlockKind::Pairs => 100,
        BlockKind::Wide => 150,
    }
}

/// The time of a block in [`Arithmetic::FullRange`](crate::dispatch::Arithmetic::FullRange) with few rows;
/// with many, which are not known when weights are packed, it is a twentieth less.
const FULL_RANGE_COST: usize = 113;

/// Some codes of a block, and the set of those that are negated.
#[derive(Clone, Copy, Debug)]
struct Group<const N: usize> {
    codes: [u8; N],
    negated: Set,
}

/// Finds the permutation of a block.
struct FindPermutation<'a> {
    codes: &'a Codes,
}

impl Operation for FindPermutation<'_> {
    type Output = BlockPermutation;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> BlockPermutation {
        let block = Block::new(self.codes);
        let (mut order, mut negated) = (from_fn(|i| i as u8), 0);
        let kind = match block.quads() {
            Found::Quads(quads) => {
                place_quads(&quads, &mut order, &mut negated);
                BlockKind::Quads
            }
            Found::HalfQuads(quads, pairs) => {
                place_quads(&quads, &mut order, &mut negated);
                place_pairs(&pairs[..4], &mut order[8..], &mut negated);
                BlockKind::HalfQuads
            }
            Found::Nothing => match block.pairs(Set::MAX) {
                Some(pairs) => {
                    place_pairs(&pairs, &mut order, &mut negated);
                    BlockKind::Pairs
                }
                None => BlockKind::Wide,
            },
        };
        BlockPermutation { kind, order, negated }
    }
}

/// A k-step holds two pairs in each lane, and two k-steps are added in i16: a quad is half of two k-steps.
fn place_quads(quads: &[Group<4>], order: &mut [u8; BLOCK], negated: &mut Set) {
    for (i, quad) in quads.iter().enumerate() {
        let first = i / 2 * 8 + i % 2 * 2;
        for (at, code) in [0, 1, 4, 5].into_iter().zip(quad.codes) {
            order[first + at] = code;
        }
        *negated |= quad.negated;
    }
}

fn place_pairs(pairs: &[Group<2>], order: &mut [u8], negated: &mut Set) {
    for (pair, to) in pairs.iter().zip(order.as_chunks_mut::<2>().0) {
        *to = pair.codes;
        *negated |= pair.negated;
    }
}

enum Found {
    Quads([Group<4>; 4]),
    HalfQuads([Group<4>; 2], [Group<2>; 8]),
    Nothing,
}

struct Block<'a> {
    codes: &'a Codes,
    /// Codes that cannot be negated, because `128` is not a code.
    pinned: Set,
    /// The codes, largest first: they have the fewest partners.
    by_size: [u8; BLOCK],
}

/// The number of quads that are tried before the search gives up: a few microseconds.
const TRIES: usize = 1000;

impl<'a> Block<'a> {
    #[inline(always)]
    fn new(codes: &'a Codes) -> Self {
        let (mut pinned, mut sizes) = (0, [0i32; BLOCK]);
        for i in 0..BLOCK {
            for code in codes[i] {
                sizes[i] += i32::from(code) * i32::from(code);
                pinned |= Set::from(code == -LIMIT) << i;
            }
        }
        let mut by_size: [u8; BLOCK] = from_fn(|i| i as u8);
        by_size.sort_by_key(|i| -sizes[usize::from(*i)]);
        Self { codes, pinned, by_size }
    }

    /// Disjoint quads. The largest code left takes three others, of middle size first, which leaves partners
    /// for the last codes.
    #[inline(always)]
    fn quads(&self) -> Found {
        let (mut tries, mut found) = (TRIES, Found::Nothing);
        for three in &THREES_OF_15 {
            let Some(first) = self.quad(&self.by_size, three, &mut tries) else { continue };
            let rest: [u8; 12] = without(&self.by_size, three);
            for three in &THREES_OF_11 {
                let Some(second) = self.quad(&rest, three, &mut tries) else { continue };
                let rest: [u8; 8] = without(&rest, three);
                for three in &THREES_OF_7 {
                    let Some(third) = self.quad(&rest, three, &mut tries) else { continue };
                    let rest: [u8; 4] = without(&rest, three);
                    if let Some(last) = self.quad(&rest, &[0, 1, 2], &mut tries) {
                        return Found::Quads([first, second, third, last]);
                    }
                }
                if let Found::Nothing = found {
                    let left = rest.iter().fold(0, |left, code| left | 1 << code);
                    if let Some(pairs) = self.pairs(left) {
                        found = Found::HalfQuads([first, second], pairs);
                    }
                }
                if tries == 0 {
                    return found;
                }
            }
            if tries == 0 {
                return found;
            }
        }
        found
    }

    /// The first of `among` and three others, if their sums stay within the limit.
    #[inline(always)]
    fn quad<const N: usize>(
        &self,
        among: &[u8; N],
        three: &[u8; 3],
        tries: &mut usize,
    ) -> Option<Group<4>> {
        *tries = tries.checked_sub(1)?;
        let [i, j, k] = three.map(|at| among[usize::from(at) + 1]);
        let codes = [among[0], i, j, k];
        let [a, b, c, d] = codes.map(|code| &self.codes[usize::from(code)]);
        let (mut room, mut least) = ([0; NR], 0);
        for i in 0..NR {
            room[i] = 2 * LIMIT - a[i].abs() - b[i].abs() - c[i].abs() - d[i].abs();
            least |= room[i];
        }
        // If magnitudes alone exceed the limit, no choice of signs helps.
        if least < 0 {
            return None;
        }
        let (ab, cd) = ([sum(a, b), difference(a, b)], [sum(c, d), difference(c, d)]);
        for signs in 0..8 {
            let [b, d, cd_too] = [signs & 1, signs >> 1 & 1, signs >> 2];
            let (x, y) = (&ab[b], &cd[d]);
            if within(&if cd_too == 1 { difference(x, y) } else { sum(x, y) }, &room) {
                let signs = [0, b, cd_too, cd_too ^ d];
                if let Some(negated) = self.negated(&codes, &signs) {
                    return Some(Group { codes, negated });
                }
            }
        }
        None
    }

    #[inline(always)]
    fn pair(&self, codes: [u8; 2]) -> Option<Group<2>> {
        let [a, b] = codes.map(|code| &self.codes[usize::from(code)]);
        let mut room = [0; NR];
        for i in 0..NR {
            room[i] = 2 * LIMIT - a[i].abs() - b[i].abs();
        }
        if within(&sum(a, b), &room) {
            return Some(Group { codes, negated: 0 });
        }
        let fits = within(&difference(a, b), &room);
        let negated = fits.then(|| self.negated(&codes, &[0, 1])).flatten()?;
        Some(Group { codes, negated })
    }

    /// The codes whose sign is 1, or else the others: only relative signs matter.
    #[inline(always)]
    fn negated<const N: usize>(&self, codes: &[u8; N], signs: &[usize; N]) -> Option<Set> {
        let of = |sign| {
            let those = codes.iter().zip(signs).filter(|of| *of.1 == sign);
            those.fold(0, |set: Set, of| set | 1 << of.0)
        };
        [of(1), of(0)].into_iter().find(|set| set & self.pinned == 0)
    }

    /// Pairs of all codes in `among`, at the start of the result.
    ///
    /// The code with the fewest possible partners chooses first, and takes the partner with the fewest.
    #[inline(always)]
    fn pairs(&self, among: Set) -> Option<[Group<2>; 8]> {
        let mut partners = [0; BLOCK];
        for i in 0..BLOCK {
            for j in i + 1..BLOCK {
                let both: Set = 1 << i | 1 << j;
                if among & both == both && self.pair([i as u8, j as u8]).is_some() {
                    partners[i] |= 1 << j;
                    partners[j] |= 1 << i;
                }
            }
        }
        let fewest = |of: Set, left: Set| {
            let of = (0..BLOCK).filter(|i| of >> i & 1 == 1);
            of.min_by_key(|i| (partners[*i] & left).count_ones())
        };
        let (mut pairs, mut count, mut left) = ([Group { codes: [0; 2], negated: 0 }; 8], 0, among);
        while let Some(first) = fewest(left, left) {
            left &= !(1 << first);
            let second = fewest(partners[first] & left, left)?;
            left &= !(1 << second);
            pairs[count] = self.pair([first as u8, second as u8])?;
            count += 1;
        }
        Some(pairs)
    }
}

#[inline(always)]
fn sum(a: &Lanes, b: &Lanes) -> Lanes {
    from_fn(|i| a[i] + b[i])
}

#[inline(always)]
fn difference(a: &Lanes, b: &Lanes) -> Lanes {
    from_fn(|i| a[i] - b[i])
}

/// The larger of the sums of positive and of negative codes is half of the sum of magnitudes and the
/// magnitude of the sum.
#[inline(always)]
fn within(sum: &Lanes, room: &Lanes) -> bool {
    let mut over = 0;
    for i in 0..NR {
        over |= room[i] - sum[i].abs();
    }
    over >= 0
}

/// A list without its first element and three others.
#[inline(always)]
fn without<const N: usize, const M: usize>(list: &[u8; N], three: &[u8; 3]) -> [u8; M] {
    let (mut rest, mut count) = ([0; M], 0);
    for (i, code) in list[1..].iter().enumerate() {
        if !three.contains(&(i as u8)) && count < M {
            rest[count] = *code;
            count += 1;
        }
    }
    rest
}

const THREES_OF_15: [[u8; 3]; 455] = threes(15);
const THREES_OF_11: [[u8; 3]; 165] = threes(11);
const THREES_OF_7: [[u8; 3]; 35] = threes(7);

/// All subsets of three of `0 .. n`, those of middle size first.
const fn threes<const COUNT: usize>(n: u8) -> [[u8; 3]; COUNT] {
    let (mut all, mut count, mut distance) = ([[0; 3]; COUNT], 0, 0);
    while count < COUNT {
        let (mut i, mut j, mut k) = (0, 1, 2);
        while i + 2 < n {
            if (2 * (i + j + k)).abs_diff(3 * (n - 1)) == distance {
                all[count] = [i, j, k];
                count += 1;
            }
            k += 1;
            if k == n {
                (j, k) = (j + 1, j + 2);
            }
            if k == n {
                (i, j, k) = (i + 1, i + 2, i + 3);
            }
        }
        distance += 1;
    }
    all
}

/// A block of the rows of a panel, of which there are at most [`NR`].
fn block<'a>(rows: impl Iterator<Item = &'a [i8]>, start: usize) -> Codes {
    let mut codes = [[0; NR]; BLOCK];
    for (column, row) in rows.enumerate().take(NR) {
        for (codes, code) in codes.iter_mut().zip(row.get(start..).unwrap_or_default()) {
            codes[column] = i16::from(*code);
        }
    }
    codes
}

/// Finds the permutations of all panels, of `blocks` blocks each, for `n` rows of `k` codes. A block takes a
/// few microseconds; threads share the blocks.
pub(crate) fn arrange(
    kernel: Kernel,
    codes: &[i8],
    (n, k): (usize, usize),
    blocks: usize,
) -> Vec<BlockPermutation> {
    let natural = BlockPermutation { kind: BlockKind::Wide, order: [0; BLOCK], negated: 0 };
    let mut permutations = vec![natural; n.div_ceil(NR) * blocks];
    let panels = Panels { kernel, codes, k: k.max(1), blocks: blocks.max(1) };
    panels.arrange(0, &mut permutations);
    permutations
}

#[derive(Clone, Copy)]
struct Panels<'a> {
    kernel: Kernel,
    codes: &'a [i8],
    k: usize,
    blocks: usize,
}

impl Panels<'_> {
    /// The panels from `first` on.
    fn arrange(self, first: usize, out: &mut [BlockPermutation]) {
        let count = out.len() / self.blocks;
        if count > 1 {
            let (left, right) = out.split_at_mut(count / 2 * self.blocks);
            let middle = first + count / 2;
            return both(|| self.arrange(first, left), || self.arrange(middle, right));
        }
        for (i, out) in out.iter_mut().enumerate() {
            let rows = self.codes.chunks_exact(self.k).skip(first * NR).take(NR);
            *out = self.kernel.run_search(FindPermutation { codes: &block(rows, i * BLOCK) });
        }
    }
}

/// Panels that are sampled to judge all of them.
const SAMPLES: usize = 8;

/// Whether permuting these codes, `n` rows of `k`, makes products faster than at full range.
pub(crate) fn pays(kernel: Kernel, codes: &[i8], n: usize, k: usize) -> bool {
    let (mut total, mut blocks) = (0, 0);
    let panels = n.div_ceil(NR);
    for panel in (0..panels).step_by(panels.div_ceil(SAMPLES).max(1)) {
        let rows = || codes.chunks_exact(k.max(1)).skip(panel * NR).take(NR);
        for start in (0..k).step_by(BLOCK) {
            let codes = &block(rows(), start);
            total += cost(kernel.run_search(FindPermutation { codes }).kind);
            blocks += 1;
        }
    }
    total <= blocks * FULL_RANGE_COST
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of at most this magnitude, with different frequencies.
    fn codes(state: &mut u32, largest: i16) -> Codes {
        let mut next = || {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 16) as i16
        };
        from_fn(|_| from_fn(|_| next() % (largest + 1) * (next() & 1)))
    }

    /// The sums of the positive and of the negative codes at some positions.
    fn sums(
        codes: &Codes,
        permutation: &BlockPermutation,
        at: &[usize],
        column: usize,
    ) -> [i32; 2] {
        let mut sums = [0; 2];
        for at in at {
            let code = usize::from(permutation.order[*at]);
            let value = i32::from(codes[code][column]);
            let negated = permutation.negated >> code & 1 == 1;
            let value = if negated { -value } else { value };
            assert!(!negated || value < 128, "an i8 holds what is negated");
            sums[usize::from(value < 0)] += value.abs();
        }
        sums
    }

    #[test]
    fn an_arrangement_keeps_all_codes_and_its_sums_within_i16() {
        let (mut state, mut kinds) = (1, [0; 4]);
        for largest in 1..=128 {
            for _ in 0..20 {
                let codes = codes(&mut state, largest);
                let of = Kernel::SCALAR.run_search(FindPermutation { codes: &codes });
                kinds[of.kind as usize] += 1;
                let all = of.order.iter().fold(0u16, |all, code| all | 1 << code);
                assert_eq!(all, Set::MAX);
                let quads = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]];
                let count = [4, 2, 0, 0][of.kind as usize];
                let pairs = if of.kind == BlockKind::Wide { 0..0 } else { 2 * count..8 };
                for column in 0..NR {
                    for four in &quads[..count] {
                        assert!(sums(&codes, &of, four, column).iter().all(|sum| *sum <= 128));
                    }
                    for pair in pairs.clone() {
                        let pair = [2 * pair, 2 * pair + 1];
                        assert!(sums(&codes, &of, &pair, column).iter().all(|sum| *sum <= 128));
                    }
                }
            }
        }
        assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
    }

    #[test]
    fn a_code_that_has_no_negative_is_not_mirrored() {
        let mut codes = [[1; NR]; BLOCK];
        codes[3][5] = -128;
        codes[7] = [100; NR];
        let of = Kernel::SCALAR.run_search(FindPermutation { codes: &codes });
        assert_eq!(of.negated >> 3 & 1, 0);
        assert_eq!(of.kind, BlockKind::Quads);
    }

    #[test]
    fn all_threes_are_there_once() {
        for (i, three) in THREES_OF_15.iter().enumerate() {
            assert!(three[0] < three[1] && three[1] < three[2] && three[2] < 15);
            assert!(!THREES_OF_15[..i].contains(three));
        }
    }
}
