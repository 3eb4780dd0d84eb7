//! Few rows times quantized weights: codes are converted to floats in registers and used there. Storing
//! them, as for many rows, would not pay.
//!
//! ```text
//! for group of panels
//!   for segment, piece of K, chunk of 8 k
//!     for panel
//!       for k in chunk, vector of columns
//!         w = f32(q - z)
//!         for row: p = fma(x, w, p)
//! ```
//! An FMA waits four cycles for the previous one of the same accumulator, while the CPU could start eight
//! others. So panels are interleaved: the CPU begins with the next panel while accumulators of the last one
//! are still pending. A chunk is short enough that two fit into the reorder window, and not shorter, because
//! the accumulators of a panel are in memory while others are processed. Each panel is a memory stream of its
//! own.
//!
//! With one row, registers suffice for the accumulators of several panels, which are processed together.
//!
//! Measured on one core of a Zen 4, which reads 26 GB/s and multiplies 118 GOP/s: with 4-bit codes and
//! AVX-512, one row of 4096² takes 61 GOP/s, and 65 from a cache. Without dependences, as in a synthetic loop,
//! the same operations reach 82; other mixtures of them change little.

use super::{AHEAD, FloatProduct, PIECE, UnpackedSteps, float_zeros};
use crate::isa::lanes::{WIDEST, load, store};
use crate::isa::permuted::BLOCK;
use crate::isa::{Isa, Operation};
use core::array::from_fn;
use core::ops::Range;

/// The most panels that are processed together. `G` is how many are for a number of rows: arrays of
/// their accumulators are no longer than needed, because clearing and copying them takes time and code.
const GROUP: usize = 4;

/// Values along K in a chunk: one packed k-step of 4-bit codes, or two of 8-bit codes.
const K_CHUNK: usize = 8;

/// Whether a single panel has enough accumulators to hide latency, and registers for them, so that panels
/// are not interleaved.
const fn one_panel<I: Isa, const R: usize>() -> bool {
    R * I::LANES >= 64
}

/// A piece of each row, in chunks.
type Rows<'a, const R: usize> = [&'a [[f32; K_CHUNK]]; R];

/// Two vectors of columns of a panel.
type Vectors<I> = [<I as Isa>::Floats; 2];

/// Accumulators of a panel.
type Sums<I, const R: usize> = [Vectors<I>; R];

/// Buffers for a group of panels. The alignment makes the compiler align the stack, and with it every
/// spilled vector.
#[repr(align(64))]
struct GemvBuffers<I: Isa, const R: usize, const G: usize> {
    unpacked: [UnpackedSteps<I>; G],
    ends: [[f32; BLOCK]; R],
}

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
        if const { one_panel::<I, R>() } {
            self.groups::<I, 1>(isa);
        } else if const { R == 1 } {
            self.groups::<I, GROUP>(isa);
        } else {
            self.groups::<I, 2>(isa);
        }
    }
}

impl<const R: usize, const PACKED: bool> Gemv<'_, R, PACKED> {
    /// All panels, `G` or fewer at a time.
    #[inline(always)]
    fn groups<I: Isa, const G: usize>(&self, isa: I) {
        let mut room = GemvBuffers::<I, R, G> {
            unpacked: from_fn(|_| UnpackedSteps::new()),
            ends: [[0.0; BLOCK]; R],
        };
        // Keeps them in memory, where they force the alignment of the stack.
        core::hint::black_box(&mut room);
        let count = match self.panels_in_registers::<I>() {
            count if R == 1 && count > 0 => count,
            _ => G,
        };
        for first in self.0.panels.clone().step_by(count) {
            let panels = first..self.0.panels.end.min(first + count);
            if self.0.weights.has_zero_points() {
                self.group::<I, G, true>(isa, panels, &mut room);
            } else {
                self.group::<I, G, false>(isa, panels, &mut room);
            }
        }
    }

    /// `ZEROS` is whether some zero points are not 0, which costs a subtraction per code.
    #[inline(always)]
    fn group<I: Isa, const G: usize, const ZEROS: bool>(
        &self,
        isa: I,
        panels: Range<usize>,
        room: &mut GemvBuffers<I, R, G>,
    ) {
        let mut y: [Sums<I, R>; G] = [[[isa.splat(0.0); 2]; R]; G];
        let (segments, mut step) = (self.0.weights.segments(), 0);
        for segment in 0..segments {
            let p = self.products::<I, G, ZEROS>(isa, panels.clone(), (segment, step), room);
            for ((panel, y), p) in panels.clone().zip(&mut y).zip(&p) {
                let scales = self.0.weights.columns_of::<I>(panel, segment).scales;
                let scales = load(isa, scales);
                for r in 0..R {
                    for v in 0..2 {
                        let scaled = isa.mul(p[r][v], scales[v]);
                        y[r][v] = if segments == 1 { scaled } else { isa.add(y[r][v], scaled) };
                    }
                }
            }
            step += self.0.weights.steps[segment];
        }
        for (panel, y) in panels.zip(&y) {
            let mut rows = [[0.0; WIDEST]; R];
            for r in 0..R {
                store(isa, y[r], &mut rows[r]);
            }
            self.0.finish::<I>(panel, 0..R, &mut rows, 0);
        }
    }

    /// `p` of a segment that starts with k-step `step`.
    #[inline(always)]
    fn products<I: Isa, const G: usize, const ZEROS: bool>(
        &self,
        isa: I,
        panels: Range<usize>,
        (segment, step): (usize, usize),
        room: &mut GemvBuffers<I, R, G>,
    ) -> [Sums<I, R>; G] {
        let range = self.0.weights.segment_range(segment);
        let mut p: [Sums<I, R>; G] = [[[isa.splat(0.0); 2]; R]; G];
        let mut zeros = [[isa.splat(0.0); 2]; G];
        if ZEROS {
            for (panel, zeros) in panels.clone().zip(&mut zeros) {
                *zeros = float_zeros(isa, self.0.weights, (panel, segment));
            }
        }
        // Chunks of a panel that are processed in a row.
        let visit = if const { one_panel::<I, R>() } { PIECE / K_CHUNK } else { 1 };
        let piece = if self.direct() { range.len().max(1) } else { PIECE };
        for k in range.clone().step_by(piece) {
            let len = piece.min(range.end - k);
            let step = step + (k - range.start) / I::KR;
            let mut codes: [&[I::KStep]; G] = [&[]; G];
            for (i, (panel, unpacked)) in panels.clone().zip(&mut room.unpacked).enumerate() {
                codes[i] = self.codes_of(panel, step, len, unpacked);
            }
            let (whole, rest) = self.rows(k, len, &mut room.ends);
            if const { R == 1 } && panels.len() == self.panels_in_registers::<I>() {
                for (x, first) in [(whole[0], 0), (rest[0], len / BLOCK * (BLOCK / K_CHUNK))] {
                    let sums = p.as_flattened_mut();
                    if !PACKED {
                        row_of_bytes::<I, 3, G, ZEROS>(isa, x, codes, first, &zeros, sums);
                    } else if const { I::LANES == 16 } {
                        row_of_nibbles::<I, 4, G, ZEROS>(isa, x, codes, first, &zeros, sums);
                    } else {
                        row_of_nibbles::<I, 3, G, ZEROS>(isa, x, codes, first, &zeros, sums);
                    }
                }
                continue;
            }
            for (x, first) in [(whole, 0), (rest, len / BLOCK * (BLOCK / K_CHUNK))] {
                for start in (0..x[0].len()).step_by(visit) {
                    let codes = codes[..panels.len()].iter();
                    for ((codes, zeros), p) in core::hint::black_box(codes.zip(&zeros).zip(&mut p))
                    {
                        let x_of = |turn: usize| x.map(|x| &x[turn]);
                        let mut sums = TurnSums { isa, x: x_of(start), zeros: *zeros, p: *p };
                        for turn in start..x[0].len().min(start + visit) {
                            sums.x = x_of(turn);
                            let turn = first + turn;
                            if PACKED {
                                sums.add_packed::<ZEROS>(&codes[turn]);
                            } else {
                                sums.add_stored::<ZEROS>(codes, turn);
                            }
                        }
                        *p = sums.p;
                    }
                }
            }
        }
        p
    }

    /// The number of panels whose accumulators of one row are in registers together, 8 vectors of 32 or 6 of
    /// 16; 0 if interleaving is as fast.
    #[inline(always)]
    fn panels_in_registers<I: Isa>(&self) -> usize {
        match I::LANES {
            16 if PACKED => 4,
            8 if self.direct() => 3,
            _ => 0,
        }
    }

    /// Whether codes are used as stored, without pieces.
    #[inline(always)]
    fn direct(&self) -> bool {
        PACKED || self.0.weights.bits == 8
    }

    /// The `len` codes from k-step `step` on.
    #[inline(always)]
    fn codes_of<'b, I: Isa>(
        &'b self,
        panel: usize,
        step: usize,
        len: usize,
        room: &'b mut UnpackedSteps<I>,
    ) -> &'b [I::KStep] {
        let steps = len.div_ceil(I::KR);
        if PACKED {
            // Each packed k-step holds two of four values.
            &self.0.weights.panel(panel)[step / 2..][..steps.div_ceil(2)]
        } else {
            self.0.codes::<I>(panel, step, steps, room)
        }
    }

    /// A piece of each row, in chunks: those in whole blocks, and the rest, which is padded by 0 like the codes.
    /// The padding does not change sums, which are never -0.
    #[inline(always)]
    fn rows<'b>(
        &'b self,
        k: usize,
        len: usize,
        ends: &'b mut [[f32; BLOCK]; R],
    ) -> (Rows<'b, R>, Rows<'b, R>) {
        let (whole, rest) = (len / BLOCK * BLOCK, len % BLOCK);
        let row = |r: usize| &self.0.x[r * self.0.weights.k + k..][..len];
        for r in 0..R {
            ends[r] = [0.0; BLOCK];
            ends[r][..rest].copy_from_slice(&row(r)[whole..]);
        }
        (
            from_fn(|r| row(r)[..whole].as_chunks().0),
            from_fn(|r| &ends[r].as_chunks().0[..rest.div_ceil(K_CHUNK)]),
        )
    }
}

/// Adds products of `x` with some values of the lanes of a panel.
macro_rules! add {
    ($isa:ident.$method:ident: $($j:literal)+; $x:ident, $lanes:expr, $zeros:expr, $sums:expr) => {
        $(
            let value = $isa.splat($x[$j]);
            for v in 0..2 {
                let code = $isa.$method::<$j>($lanes[v]);
                let weight = if ZEROS { $isa.sub(code, $zeros[v]) } else { code };
                $sums[v] = $isa.fused(value, weight, $sums[v]);
            }
        )+
    };
}

/// One row times `P` panels of packed 4-bit codes, with accumulators in registers.
#[inline(always)]
fn row_of_nibbles<I: Isa, const P: usize, const G: usize, const ZEROS: bool>(
    isa: I,
    x: &[[f32; K_CHUNK]],
    codes: [&[I::KStep]; G],
    first: usize,
    zeros: &[Vectors<I>; G],
    p: &mut [Vectors<I>],
) {
    let mut sums = [[isa.splat(0.0); 2]; P];
    sums.copy_from_slice(&p[..P]);
    for (turn, x) in x.iter().enumerate() {
        let mut lanes = [[isa.zero(); 2]; P];
        for i in 0..P {
            let step = &codes[i][first + turn];
            isa.prefetch(step, AHEAD);
            lanes[i] = [isa.lanes(step, 0), isa.lanes(step, 1)];
        }
        macro_rules! each {
            ($($j:literal)+) => {
                $(for i in 0..P {
                    add!(isa.nibble: $j; x, lanes[i], zeros[i], sums[i]);
                })+
            };
        }
        each!(0 1 2 3 4 5 6 7);
    }
    p[..P].copy_from_slice(&sums);
}

/// One row times `P` panels of 8-bit codes, with accumulators in registers.
#[inline(always)]
fn row_of_bytes<I: Isa, const P: usize, const G: usize, const ZEROS: bool>(
    isa: I,
    x: &[[f32; K_CHUNK]],
    codes: [&[I::KStep]; G],
    first: usize,
    zeros: &[Vectors<I>; G],
    p: &mut [Vectors<I>],
) {
    let mut sums = [[isa.splat(0.0); 2]; P];
    sums.copy_from_slice(&p[..P]);
    let first = first * (K_CHUNK / I::KR);
    // Beyond the last code, `x` is padded by 0.
    let count = (x.len() * (K_CHUNK / I::KR)).min(codes[0].len().saturating_sub(first));
    let codes = codes.map(|codes| codes.get(first..first + count).unwrap_or_default());
    for (s, x) in x.as_flattened().chunks_exact(I::KR).enumerate().take(count) {
        for i in 0..P {
            let step = &codes[i][s];
            isa.prefetch(step, AHEAD);
            let lanes = [isa.lanes(step, 0), isa.lanes(step, 1)];
            add!(isa.byte: 0 1; x, lanes, zeros[i], sums[i]);
            if const { I::KR == 4 } {
                add!(isa.byte: 2 3; x, lanes, zeros[i], sums[i]);
            }
        }
    }
    p[..P].copy_from_slice(&sums);
}

/// The accumulators of a panel while it is processed.
struct TurnSums<'a, I: Isa, const R: usize> {
    isa: I,
    x: [&'a [f32; K_CHUNK]; R],
    zeros: Vectors<I>,
    p: Sums<I, R>,
}

impl<I: Isa, const R: usize> TurnSums<'_, I, R> {
    /// Adds products with a packed k-step of 4-bit codes.
    #[inline(always)]
    fn add_packed<const ZEROS: bool>(&mut self, step: &I::KStep) {
        self.isa.prefetch(step, AHEAD);
        let lanes = [self.isa.lanes(step, 0), self.isa.lanes(step, 1)];
        macro_rules! each {
            ($($j:literal)+) => {
                $(self.add::<ZEROS>($j, [self.isa.nibble::<$j>(lanes[0]), self.isa.nibble::<$j>(lanes[1])]);)+
            };
        }
        each!(0 1 2 3 4 5 6 7);
    }

    /// Adds products with k-steps of 8-bit codes.
    #[inline(always)]
    fn add_stored<const ZEROS: bool>(&mut self, codes: &[I::KStep], turn: usize) {
        let per_turn = K_CHUNK / I::KR;
        for (s, step) in codes[turn * per_turn..].iter().enumerate().take(per_turn) {
            self.isa.prefetch(step, AHEAD);
            let lanes = [self.isa.lanes(step, 0), self.isa.lanes(step, 1)];
            let first = s * I::KR;
            macro_rules! each {
                ($($j:literal)+) => {
                    $(self.add::<ZEROS>(
                        first + $j,
                        [self.isa.byte::<$j>(lanes[0]), self.isa.byte::<$j>(lanes[1])],
                    );)+
                };
            }
            each!(0 1);
            if const { I::KR == 4 } {
                each!(2 3);
            }
        }
    }

    /// Adds products of value `j` of the chunk with codes as floats.
    #[inline(always)]
    fn add<const ZEROS: bool>(&mut self, j: usize, codes: Vectors<I>) {
        for v in 0..2 {
            let weights = if ZEROS { self.isa.sub(codes[v], self.zeros[v]) } else { codes[v] };
            for r in 0..R {
                // `j` is less than `K_CHUNK`; this tells the compiler.
                let x = self.isa.splat(self.x[r][j % K_CHUNK]);
                self.p[r][v] = self.isa.fused(x, weights, self.p[r][v]);
            }
        }
    }
}
