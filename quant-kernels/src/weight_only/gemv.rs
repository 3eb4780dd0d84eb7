//! Few rows times quantized weights: codes are converted to floats in registers and used there. Storing
//! them, as for many rows, would not pay.
//!
//! ```text
//! for group of panels
//!   for segment
//!     for stored k-step
//!       for k in it, panel, vector of columns
//!         w = f32(q - z)
//!         for row: p = fma(x, w, p)
//!     y = y + p · s, or y + (p · s + t · m)
//! ```
//! An FMA waits four cycles for the previous one of the same accumulator, while the CPU could start eight
//! others, or four on vectors of 512 bits. So with few rows, several panels are processed together. Each panel
//! is a memory stream of its own.

use super::convert::{
    UnpackedSteps, codes as unpacked, float_zeros, stored_nibbles, subtracts_zeros, values,
};
use super::{AHEAD, FloatProduct, PIECE};
use crate::isa::lanes::{WIDEST, add, mul, store};
use crate::isa::{Isa, Operation};
use core::array::from_fn;

/// The panels that are processed together.
const fn group<I: Isa>(rows: usize) -> usize {
    match (I::LANES, rows) {
        (16, 1) => 4,
        (8, 1) => 3,
        (16 | 8, 2 | 3) => 2,
        _ => 1,
    }
}

/// Two vectors of columns of a panel.
type Vectors<I> = [<I as Isa>::Floats; 2];

/// Accumulators of some panels and rows.
type Sums<I, const R: usize, const P: usize> = [[Vectors<I>; R]; P];

/// Buffers for a group of panels, if codes are unpacked first. The alignment makes the compiler align the
/// stack, and with it every spilled vector.
#[repr(align(64))]
struct GemvBuffers<I: Isa, const P: usize>(Option<[UnpackedSteps<I>; P]>);

/// The product of all `R` rows. `PACKED` is whether codes have 4 bits, which are read as stored.
pub(crate) struct Gemv<'a, const R: usize, const PACKED: bool>(pub(super) FloatProduct<'a>);

impl<const R: usize, const PACKED: bool> Operation for Gemv<'_, R, PACKED> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // A `const` block, so that instances that never run are not compiled.
        if const { R > I::GEMV_ROWS || PACKED && I::KR != 4 } {
            unreachable!("more rows have other loops, and steps of two values are never packed");
        }
        if const { PACKED } {
            self.panels::<I, 8>(isa);
        } else if const { I::KR == 4 } {
            self.panels::<I, 4>(isa);
        } else {
            self.panels::<I, 2>(isa);
        }
    }
}

impl<const R: usize, const PACKED: bool> Gemv<'_, R, PACKED> {
    /// All panels. `V` is the number of values along K in a stored k-step.
    #[inline(always)]
    fn panels<I: Isa, const V: usize>(&self, isa: I) {
        if const { group::<I>(R) == 4 } {
            self.groups::<I, V, 4>(isa);
        } else if const { group::<I>(R) == 3 } {
            self.groups::<I, V, 3>(isa);
        } else if const { group::<I>(R) == 2 } {
            self.groups::<I, V, 2>(isa);
        } else {
            self.groups::<I, V, 1>(isa);
        }
    }

    #[inline(always)]
    fn groups<I: Isa, const V: usize, const P: usize>(&self, isa: I) {
        if subtracts_zeros(self.0.weights, PACKED) {
            self.groups_of::<I, V, P, true>(isa);
        } else {
            self.groups_of::<I, V, P, false>(isa);
        }
    }

    /// `ZEROS` is whether zero points are subtracted from codes.
    #[inline(always)]
    fn groups_of<I: Isa, const V: usize, const P: usize, const ZEROS: bool>(&self, isa: I) {
        let mut room = GemvBuffers::<I, P>(None);
        if !self.direct() {
            room.0 = Some(from_fn(|_| UnpackedSteps::new()));
        }
        // Keeps it in memory, where it forces the alignment of the stack.
        core::hint::black_box(&mut room);
        let panels = self.0.panels.clone();
        for first in panels.clone().step_by(P) {
            // The last panel stands for those that a last group lacks: a loop of its own for fewer panels would
            // be no faster, and another one to compile.
            let mut group = [panels.end - 1; P];
            for i in 0..P.min(panels.end - first) {
                group[i] = first + i;
            }
            self.group::<I, V, P, ZEROS>(isa, group, &mut room.0);
        }
    }

    #[inline(always)]
    fn group<I: Isa, const V: usize, const P: usize, const ZEROS: bool>(
        &self,
        isa: I,
        group: [usize; P],
        room: &mut Option<[UnpackedSteps<I>; P]>,
    ) {
        let weights = self.0.weights;
        let (segments, mut step) = (weights.segments(), 0);
        let adds = self.0.adds_to_zero();
        let mut y: Sums<I, R, P> = [[[isa.splat(0.0); 2]; R]; P];
        for segment in 0..segments {
            let mut zeros = [[isa.splat(0.0); 2]; P];
            if ZEROS {
                for i in 0..P {
                    zeros[i] = float_zeros(isa, weights, group[i], segment);
                }
            }
            let mut product = SegmentProduct::<I, R, P, ZEROS> {
                isa,
                nibbles: stored_nibbles(isa, weights),
                zeros,
                p: [[[isa.splat(0.0); 2]; R]; P],
            };
            let range = weights.segment_range(segment);
            let piece = if self.direct() { range.len().max(1) } else { PIECE };
            for k in range.clone().step_by(piece) {
                let len = piece.min(range.end - k);
                let at = step + (k - range.start) / I::KR;
                let mut codes: [&[I::KStep]; P] = [&[]; P];
                if let (false, Some(room)) = (PACKED, &mut *room) {
                    for (i, room) in room.iter_mut().enumerate() {
                        let steps = len.div_ceil(I::KR);
                        codes[i] = unpacked::<I>(weights, group[i], at, steps, room);
                    }
                } else {
                    for i in 0..P {
                        codes[i] = self.stored::<I>(group[i], at, len);
                    }
                }
                product.add::<V>(self.rows(k, len), codes);
            }
            for i in 0..P {
                let columns = weights.columns_of::<I>(group[i], segment);
                let mut scaled = product.p[i];
                let scales = columns.scales(isa);
                for r in 0..R {
                    scaled[r] = mul(isa, scaled[r], scales);
                }
                if let Some(minimums) = columns.minimums(isa) {
                    for r in 0..R {
                        let sum = [isa.splat(self.0.sums[segment * R + r]); 2];
                        scaled[r] = add(isa, scaled[r], mul(isa, sum, minimums));
                    }
                }
                for r in 0..R {
                    y[i][r] = if adds { add(isa, y[i][r], scaled[r]) } else { scaled[r] };
                }
            }
            step += weights.steps[segment];
        }
        for i in 0..P {
            let mut rows = [[0.0; WIDEST]; R];
            let rows = rows.as_flattened_mut();
            for r in 0..R {
                store(isa, y[i][r], &mut rows[r * I::NR..][..I::NR]);
            }
            self.0.finish::<I>(group[i], 0..R, rows);
        }
    }

    /// Whether codes are used as stored, without pieces.
    #[inline(always)]
    fn direct(&self) -> bool {
        PACKED || self.0.weights.bits == 8
    }

    /// The k-steps of `len` codes from k-step `step` on, as stored.
    #[inline(always)]
    fn stored<I: Isa>(&self, panel: usize, step: usize, len: usize) -> &[I::KStep] {
        let steps = len.div_ceil(I::KR);
        // Each packed k-step holds two of four values.
        let (step, steps) = if PACKED { (step / 2, steps.div_ceil(2)) } else { (step, steps) };
        &self.0.weights.panel(panel)[step..][..steps]
    }

    /// `len` values of each row.
    #[inline(always)]
    fn rows(&self, k: usize, len: usize) -> [&[f32]; R] {
        from_fn(|r| &self.0.x[r * self.0.weights.k + k..][..len])
    }
}

/// `p` of a segment.
struct SegmentProduct<I: Isa, const R: usize, const P: usize, const ZEROS: bool> {
    isa: I,
    nibbles: I::Nibbles,
    zeros: [Vectors<I>; P],
    p: Sums<I, R, P>,
}

impl<I: Isa, const R: usize, const P: usize, const ZEROS: bool> SegmentProduct<I, R, P, ZEROS> {
    /// Adds the products of values and codes; there is a k-step for each `V` values.
    #[inline(always)]
    fn add<const V: usize>(&mut self, x: [&[f32]; R], codes: [&[I::KStep]; P]) {
        let whole = x[0].len() / V;
        let mut sums = self.p;
        let (mut chunks, mut steps) = ([&[][..]; R], [&[][..]; P]);
        for r in 0..R {
            chunks[r] = &x[r].as_chunks::<V>().0[..whole];
        }
        for i in 0..P {
            steps[i] = &codes[i][..whole];
        }
        for s in 0..whole {
            let (mut x, mut step) = ([&[0.0; V]; R], [&codes[0][0]; P]);
            for r in 0..R {
                x[r] = &chunks[r][s];
            }
            for i in 0..P {
                step[i] = &steps[i][s];
                self.isa.prefetch(step[i], AHEAD);
            }
            self.add_step(x, step, &mut sums);
        }
        if !x[0].len().is_multiple_of(V) {
            // Padded by 0 like the codes, which does not change sums: they are never -0.
            let mut ends = [[0.0; V]; R];
            for r in 0..R {
                let rest = x[r].as_chunks::<V>().1;
                ends[r][..rest.len()].copy_from_slice(rest);
            }
            self.add_step(from_fn(|r| &ends[r]), from_fn(|i| &codes[i][whole]), &mut sums);
        }
        self.p = sums;
    }

    #[inline(always)]
    fn add_step<const V: usize>(
        &self,
        x: [&[f32; V]; R],
        step: [&I::KStep; P],
        sums: &mut Sums<I, R, P>,
    ) {
        let mut lanes = [[self.isa.zero(); 2]; P];
        for i in 0..P {
            lanes[i] = [self.isa.lanes(step[i], 0), self.isa.lanes(step[i], 1)];
        }
        macro_rules! each {
            ($method:ident: $($j:literal)+) => {
                $(for i in 0..P {
                    let codes = values!(self.isa, $method, $j, lanes[i], self.nibbles);
                    // `V` is greater than `$j`; this tells the compiler.
                    self.multiply(x, $j % V, codes, self.zeros[i], &mut sums[i]);
                })+
            };
        }
        if const { V == 8 } {
            each!(nibble: 0 1 2 3 4 5 6 7);
        } else {
            each!(byte: 0 1);
            if const { V == 4 } {
                each!(byte: 2 3);
            }
        }
    }

    /// Adds the products of value `j` of each row with the codes of a panel.
    #[inline(always)]
    fn multiply<const V: usize>(
        &self,
        x: [&[f32; V]; R],
        j: usize,
        codes: Vectors<I>,
        zeros: Vectors<I>,
        sums: &mut [Vectors<I>; R],
    ) {
        for v in 0..2 {
            let weights = if ZEROS { self.isa.sub(codes[v], zeros[v]) } else { codes[v] };
            for r in 0..R {
                sums[r][v] = self.isa.fused(self.isa.splat(x[r][j]), weights, sums[r][v]);
            }
        }
    }
}
