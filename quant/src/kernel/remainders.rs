//! Parts of 8-bit codes that are multiplied apart, so that `vpmaddubsw` is exact (AVX2).
//!
//! `vpmaddubsw` adds two products of an unsigned activation, `0 ..= 255`, and a signed code in
//! i16. That saturates only where two neighbouring codes of a column have the same sign and sum to
//! more than [`LIMIT`]: known when weights are packed, and rare in real ones (1 to 4 % of the
//! pairs). Of such a pair the first code keeps what fits, and the rest is its *remainder*.
//!
//! ```text
//! panel          steps as in `weights`, pairs within the limit
//! remainders     places (which k): those where some column of the panel has a remainder
//!                steps, VALUES places each: the remainders of all columns there, mostly 0
//! ```
//! The product gathers the activations of these places and goes on as with any other steps. So
//! with `p` of the pairs of a column split, a panel of 16 has `(1 - (1 - p)^16) / 2` more steps:
//! 11 % for 1.6 %. Multiplying single remainders of single columns instead has no vectors at all.
//! (FBGEMM has a sparse outlier matrix for the same purpose.)

use alloc::vec::Vec;

/// `128 · 255 = 32640` fits i16, `129 · 255` does not.
const LIMIT: i32 = 128;

/// With more places than this part of K, `vpmaddwd` for everything is faster: the two meet at about
/// 15 % (between the measurements in `x86_64::avx2`).
const MOST: usize = 8;

/// Where a value of a prepared row is: a line, and a byte of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) line: u32,
    pub(super) byte: u8,
}

impl Place {
    fn new(k: usize) -> Self {
        Self { line: (k / 64) as u32, byte: (k % 64) as u8 }
    }

    pub(super) fn k(self) -> usize {
        self.line as usize * 64 + usize::from(self.byte)
    }
}

/// The remainders of all panels.
#[derive(Clone, Debug, Default)]
pub(super) struct Remainders {
    columns: usize,
    places: Vec<Place>,
    /// `[place / 4][column][place % 4]`.
    codes: Vec<i8>,
    /// Where the places of each panel end; a whole number of steps.
    ends: Vec<usize>,
}

impl Remainders {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.places.len() * size_of::<Place>() + self.codes.len() + self.ends.len() * 8
    }

    /// Places and steps of a panel.
    #[inline(always)]
    pub(super) fn of<T: bytemuck::AnyBitPattern>(&self, panel: usize) -> (&[Place], &[T]) {
        let range = self.start(panel)..self.ends[panel];
        let codes = &self.codes[range.start * self.columns..range.end * self.columns];
        (&self.places[range], bytemuck::cast_slice(codes))
    }

    /// Adds to the codes of some steps of a panel what was split off them.
    ///
    /// `place` is where the last call ended; steps come in order, and the first one starts anew.
    #[inline(always)]
    pub(super) fn put_back(&self, panel: usize, first: usize, place: &mut usize, steps: &mut [i8]) {
        let step_bytes = 4 * self.columns;
        let ks = 4 * first..4 * (first + steps.len() / step_bytes);
        if first == 0 {
            *place = self.start(panel);
        }
        let places = &self.places[..self.ends[panel]];
        while *place < places.len() && places[*place].k() < ks.end {
            let i = *place;
            *place += 1;
            let k = places[i].k() - ks.start;
            let step = &mut steps[k / 4 * step_bytes..][..step_bytes];
            let rests = &self.codes[i / 4 * step_bytes..][..step_bytes];
            let (from, to) = (i % 4 * 8, k % 4 * 8);
            let step: &mut [[[u8; 4]; 8]] = bytemuck::cast_slice_mut(step);
            let rests: &[[[u8; 4]; 8]] = bytemuck::cast_slice(rests);
            // Eight columns at a time, so that the compiler sees whole vectors.
            for (codes, rests) in step.iter_mut().zip(rests) {
                for column in 0..8 {
                    let old = u32::from_le_bytes(codes[column]);
                    let rest = u32::from_le_bytes(rests[column]) >> from << to;
                    let (sum, byte) = (old.wrapping_add(rest), 0xff << to);
                    codes[column] = (old & !byte | sum & byte).to_le_bytes();
                }
            }
        }
    }

    fn start(&self, panel: usize) -> usize {
        if panel == 0 { 0 } else { self.ends[panel - 1] }
    }

    /// Splits the codes of the next panel: rows of length `stride`, which is even.
    pub(super) fn split(&mut self, rows: &mut [i8], stride: usize, touched: &mut [bool]) {
        touched.fill(false);
        for row in rows.chunks_exact(stride) {
            mark(row, touched);
        }
        let start = self.places.len();
        let marked = (0..touched.len()).filter(|pair| touched[*pair]).map(|pair| 2 * pair);
        for k in marked {
            self.push(rows, stride, k);
        }
        // What fills up has remainder 0 everywhere.
        let last = self.places.last().copied().unwrap_or(Place::new(0));
        let len = (self.places.len() - start).next_multiple_of(4);
        self.places.resize(start + len, last);
        self.ends.push(self.places.len());
    }

    fn push(&mut self, rows: &mut [i8], stride: usize, k: usize) {
        let mut fits = true;
        if !self.places.len().is_multiple_of(2) {
            let before = self.places.len() - 1;
            for (column, row) in rows.chunks_exact(stride).enumerate() {
                fits &= excess(self.codes[self.index(before, column)], rest(row, k)) == 0;
            }
        }
        if !fits {
            self.places.push(Place::new(k));
        }
        let at = self.places.len();
        self.places.push(Place::new(k));
        let len = self.places.len().next_multiple_of(4) * self.columns;
        self.codes.resize(len, 0);
        for (column, row) in rows.chunks_exact_mut(stride).enumerate() {
            let rest = rest(row, k);
            row[k] = row[k].wrapping_sub(rest);
            let index = self.index(at, column);
            self.codes[index] = rest;
        }
    }

    fn index(&self, place: usize, column: usize) -> usize {
        (place / 4 * self.columns + column) * 4 + place % 4
    }
}

/// What two codes sum to beyond the limit.
fn excess(a: i8, b: i8) -> i32 {
    let sum = i32::from(a) + i32::from(b);
    // Different signs cannot leave the limit: their products are on different sides of 0.
    if sum > LIMIT {
        sum - LIMIT
    } else if sum < -LIMIT {
        sum + LIMIT
    } else {
        0
    }
}

/// What is split off the code at `k`, -128 ..= 126, towards 0: what it keeps has the same sign.
fn rest(row: &[i8], k: usize) -> i8 {
    excess(row[k], row[k + 1]) as i8
}

/// Marks the pairs that leave the limit.
fn mark(row: &[i8], touched: &mut [bool]) {
    for (pair, touched) in row.as_chunks::<2>().0.iter().zip(touched) {
        let sum = i16::from(pair[0]) + i16::from(pair[1]);
        *touched |= sum.unsigned_abs() > LIMIT as u16;
    }
}

/// Whether splitting these codes, `n` rows of `k`, is faster than `vpmaddwd`: judged by some
/// panels of 16 columns, evenly spread.
pub(super) fn pays(codes: &[i8], n: usize, k: usize) -> bool {
    let mut touched = alloc::vec![false; k / 2];
    let (mut count, mut all) = (0, 0);
    for panel in (0..n.div_ceil(16)).step_by((n / 512).max(1)) {
        touched.fill(false);
        for row in codes.chunks_exact(k.max(1)).skip(panel * 16).take(16) {
            mark(row, &mut touched);
        }
        count += touched.iter().filter(|touched| **touched).count();
        all += k;
    }
    count * MOST <= all
}
