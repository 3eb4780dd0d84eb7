//! Parts of 8-bit codes that are multiplied apart, so that `vpmaddubsw` is exact (AVX2).
//!
//! Of a pair that leaves the limit in every [`order`](super::order), the first code keeps what fits,
//! and the rest is its *remainder*.
//!
//! ```text
//! panel          steps as in `weights`, pairs within the limit
//! remainders     places (which k): those where some column of the panel has a remainder
//!                steps, VALUES places each: the remainders of all columns there, mostly 0
//! ```
//! The product gathers the activations of these places and goes on as with any other steps.
//! Multiplying single remainders of single columns instead has no vectors at all. (FBGEMM has a
//! sparse outlier matrix for the same purpose.)

use super::isa::Line;
use super::order::{BLOCK, LIMIT};
use alloc::vec::Vec;

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

    /// Adds to the codes of some steps of a panel, a line of them at most, what was split off them.
    ///
    /// `place` is where the last call ended; steps come in order, and the first one starts anew.
    #[inline(always)]
    pub(super) fn put_back(
        &self,
        panel: usize,
        first: usize,
        place: &mut usize,
        order: &Line,
        steps: &mut [i8],
    ) {
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
            let at = k / BLOCK * BLOCK + usize::from(order.bytes()[k % 64]);
            let step = &mut steps[at / 4 * step_bytes..][..step_bytes];
            let rests = &self.codes[i / 4 * step_bytes..][..step_bytes];
            for (code, rest) in step[at % 4..].iter_mut().zip(&rests[i % 4..]).step_by(4) {
                *code = code.wrapping_add(*rest);
            }
        }
    }

    /// Whether a panel has any.
    pub(super) fn some(&self, panel: usize) -> bool {
        self.start(panel) < self.ends[panel]
    }

    fn start(&self, panel: usize) -> usize {
        if panel == 0 { 0 } else { self.ends[panel - 1] }
    }

    /// Splits the codes of the next panel, rows at a distance of `stride` whose `k` are in this
    /// order within their blocks.
    pub(super) fn split(&mut self, rows: &mut [i8], stride: usize, orders: &[u8]) {
        let start = self.places.len();
        for at in (0..orders.len()).step_by(2) {
            if rows.chunks_exact(stride).any(|row| rest(row, at) != 0) {
                let k = at / BLOCK * BLOCK + usize::from(orders[at]);
                self.push(rows, stride, at, Place::new(k));
            }
        }
        // What fills up has remainder 0 everywhere.
        let last = self.places.last().copied().unwrap_or(Place::new(0));
        let len = (self.places.len() - start).next_multiple_of(4);
        self.places.resize(start + len, last);
        self.ends.push(self.places.len());
    }

    fn push(&mut self, rows: &mut [i8], stride: usize, at: usize, place: Place) {
        let mut fits = true;
        if !self.places.len().is_multiple_of(2) {
            let before = self.places.len() - 1;
            for (column, row) in rows.chunks_exact(stride).enumerate() {
                fits &= excess(self.codes[self.index(before, column)], rest(row, at)) == 0;
            }
        }
        if !fits {
            self.places.push(place);
        }
        let to = self.places.len();
        self.places.push(place);
        let len = self.places.len().next_multiple_of(4) * self.columns;
        self.codes.resize(len, 0);
        for (column, row) in rows.chunks_exact_mut(stride).enumerate() {
            let rest = rest(row, at);
            row[at] = row[at].wrapping_sub(rest);
            let index = self.index(to, column);
            self.codes[index] = rest;
        }
    }

    fn index(&self, place: usize, column: usize) -> usize {
        (place / 4 * self.columns + column) * 4 + place % 4
    }
}

/// What two codes sum to beyond the limit.
fn excess(a: i8, b: i8) -> i16 {
    let sum = i16::from(a) + i16::from(b);
    if sum > LIMIT {
        sum - LIMIT
    } else if sum < -LIMIT {
        sum + LIMIT
    } else {
        0
    }
}

/// What is split off the code at `at`, -128 ..= 126, towards 0: what it keeps has the same sign.
fn rest(row: &[i8], at: usize) -> i8 {
    excess(row[at], row[at + 1]) as i8
}
