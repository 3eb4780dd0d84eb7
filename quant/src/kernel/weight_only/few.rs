//! Few rows: codes become floats in registers, and are used there. What few rows would read from a
//! piece is not worth writing it.
//!
//! ```text
//! for group of P panels
//!   for segment, piece, step
//!     for value j of the step
//!       for panel, vector of columns
//!         w = f32(q - z)                        on ports that have no multiplication, mostly
//!         for row: p = fma(x, w, p)
//! ```
//! A sum waits for the one before it, four cycles where two can be started in each: so eight sums
//! that do not depend on each other have to be on their way, and where the rows are not as many,
//! they are those of several panels. Each panel is a stream of memory of its own, read to its end.

use super::{FloatProduct, PIECE, Rearranged, float_zeros};
use crate::kernel::isa::{Isa, Line};
use crate::kernel::order::BLOCK;
use crate::kernel::product::WIDEST;
use core::array::from_fn;

/// A piece of each row.
type Rows<'a, const R: usize> = [&'a [f32; PIECE]; R];

/// Two vectors of columns of each panel.
type Vectors<T, const P: usize> = [[T; 2]; P];

/// `p` of each row.
type Sums<I, const R: usize, const P: usize> = [Vectors<<I as Isa>::Floats, P>; R];

/// The codes of a piece in each panel.
type Codes<'a, I, const P: usize> = [&'a [<I as Isa>::Step]; P];

/// What a group of panels has room in.
struct Room<I: Isa, const R: usize, const P: usize> {
    rearranged: [Rearranged<I>; P],
    ends: [[f32; PIECE]; R],
}

impl FloatProduct<'_> {
    /// `R` rows, which are all, with `P` panels at a time.
    #[inline(always)]
    pub(super) fn few<I: Isa, const R: usize, const P: usize>(&self, isa: I) {
        let mut room = Room { rearranged: from_fn(|_| Rearranged::new()), ends: [[0.0; PIECE]; R] };
        for first in self.panels.clone().step_by(P) {
            // Where there are not as many left, the last one is done again: alone it would have to
            // wait for its sums as long.
            let panels = from_fn(|p| (first + p).min(self.panels.end - 1));
            if self.weights.has_zeros() {
                self.group::<I, R, P, true>(isa, panels, &mut room);
            } else {
                self.group::<I, R, P, false>(isa, panels, &mut room);
            }
        }
    }

    /// `ZEROS` is whether there are zero points: one operation more for each code.
    #[inline(always)]
    fn group<I: Isa, const R: usize, const P: usize, const ZEROS: bool>(
        &self,
        isa: I,
        panels: [usize; P],
        room: &mut Room<I, R, P>,
    ) {
        let mut y = [[[isa.splat(0.0); 2]; P]; R];
        let (segments, mut step) = (self.weights.segments(), 0);
        for segment in 0..segments {
            let p = self.products::<I, R, P, ZEROS>(isa, panels, (segment, step), room);
            for panel in 0..P {
                let scales = self.weights.columns_of(panels[panel], segment).scales;
                let scales =
                    [isa.load(&scales[..I::LANES]), isa.load(&scales[I::LANES..I::COLUMNS])];
                for r in 0..R {
                    for v in 0..2 {
                        let (y, p) = (&mut y[r][panel][v], p[r][panel][v]);
                        let scaled = isa.mul(p, scales[v]);
                        *y = if segments == 1 { scaled } else { isa.add(*y, scaled) };
                    }
                }
            }
            step += self.weights.steps[segment];
        }
        for panel in 0..P {
            let mut rows = [[0.0; WIDEST]; R];
            for r in 0..R {
                isa.store(y[r][panel][0], &mut rows[r][..I::LANES]);
                isa.store(y[r][panel][1], &mut rows[r][I::LANES..I::COLUMNS]);
            }
            self.finish::<I>(panels[panel], 0..R, &mut rows);
        }
    }

    /// `p` of a segment that starts with `step`.
    #[inline(always)]
    fn products<I: Isa, const R: usize, const P: usize, const ZEROS: bool>(
        &self,
        isa: I,
        panels: [usize; P],
        (segment, step): (usize, usize),
        room: &mut Room<I, R, P>,
    ) -> Sums<I, R, P> {
        let range = self.weights.segment_range(segment);
        let mut zeros = [[isa.splat(0.0); 2]; P];
        if ZEROS {
            for panel in 0..P {
                zeros[panel] = float_zeros(isa, self.weights.columns_of(panels[panel], segment));
            }
        }
        let mut piece = PieceProduct { isa, p: [[[isa.splat(0.0); 2]; P]; R], zeros };
        for k in range.clone().step_by(PIECE) {
            let len = PIECE.min(range.end - k);
            let step = step + (k - range.start) / I::VALUES;
            let steps = len.div_ceil(I::VALUES);
            let x = self.piece_of_rows(k, len, &mut room.ends);
            if self.weights.bits == 4 && I::VALUES == 4 {
                // Two steps of four values in each packed one.
                let packed = panels.map(|panel| {
                    &self.weights.panel::<I::Step>(panel)[step / 2..][..steps.div_ceil(2)]
                });
                piece.add_packed::<ZEROS>(&packed, &x);
                continue;
            }
            let mut codes: Codes<'_, I, P> = [&[]; P];
            for (panel, room) in room.rearranged.iter_mut().enumerate() {
                codes[panel] = self.codes::<I>(panels[panel], step, steps, room);
            }
            if I::ORDERED {
                let orders = panels.map(|panel| &self.weights.orders(panel)[step / Line::STEPS]);
                piece.add_ordered::<ZEROS>(&codes, &orders, &x);
            } else {
                piece.add_stored::<ZEROS>(&codes, &x);
            }
        }
        piece.p
    }

    /// A piece of each row; where a segment ends, one that is filled up by 0 as far as codes are. So
    /// are the products: sums are never -0, and nothing else would change by adding 0.
    #[inline(always)]
    fn piece_of_rows<'b, const R: usize>(
        &'b self,
        k: usize,
        len: usize,
        ends: &'b mut [[f32; PIECE]; R],
    ) -> Rows<'b, R> {
        let row = |r: usize| &self.x[r * self.weights.k + k..];
        if len < PIECE {
            for r in 0..R {
                ends[r][..len].copy_from_slice(&row(r)[..len]);
                ends[r][len..len.next_multiple_of(BLOCK)].fill(0.0);
            }
            return ends.each_ref();
        }
        from_fn(|r| row(r).first_chunk().unwrap_or(&ends[r]))
    }
}

/// Pieces of rows times pieces of panels.
struct PieceProduct<I: Isa, const R: usize, const P: usize> {
    isa: I,
    p: Sums<I, R, P>,
    zeros: Vectors<I::Floats, P>,
}

/// Calls a method for each number, which it is compiled for.
macro_rules! each {
    ($($j:literal)+; $self:ident.$method:ident::<$zeros:ident> $arguments:tt) => {
        $($self.$method::<$j, $zeros>$arguments;)+
    };
}

impl<I: Isa, const R: usize, const P: usize> PieceProduct<I, R, P> {
    /// Products with packed codes of 4 bits.
    #[inline(always)]
    fn add_packed<const ZEROS: bool>(&mut self, packed: &Codes<'_, I, P>, x: &Rows<'_, R>) {
        for s in 0..packed[0].len().min(PIECE / 8) {
            let lanes = self.lanes(packed, s);
            each!(0 1 2 3 4 5 6 7; self.add_nibble::<ZEROS>(&lanes, x, 8 * s));
        }
    }

    /// Products with codes of a byte in the order in which they are stored.
    #[inline(always)]
    fn add_stored<const ZEROS: bool>(&mut self, codes: &Codes<'_, I, P>, x: &Rows<'_, R>) {
        for s in 0..codes[0].len().min(PIECE / I::VALUES) {
            let lanes = self.lanes(codes, s);
            each!(0 1; self.add_byte::<ZEROS>(&lanes, x, I::VALUES * s));
            if I::VALUES == 4 {
                each!(2 3; self.add_byte::<ZEROS>(&lanes, x, I::VALUES * s));
            }
        }
    }

    /// Products with codes of a byte in an [`order`](crate::kernel::order).
    #[inline(always)]
    fn add_ordered<const ZEROS: bool>(
        &mut self,
        codes: &Codes<'_, I, P>,
        orders: &[&Line; P],
        x: &Rows<'_, R>,
    ) {
        for b in 0..(codes[0].len() / 4).min(PIECE / BLOCK) {
            for i in 0..BLOCK {
                let mut weights = [[self.isa.splat(0.0); 2]; P];
                for panel in 0..P {
                    let at = usize::from(orders[panel].bytes()[b * BLOCK + i]) % BLOCK;
                    let step = &codes[panel][b * 4 + at / 4];
                    for v in 0..2 {
                        weights[panel][v] = self.isa.code(self.isa.lanes(step, v), at % 4);
                    }
                }
                self.add::<ZEROS>(&weights, x, b * BLOCK + i);
            }
        }
    }

    /// The lanes of a step.
    #[inline(always)]
    fn lanes(&self, codes: &Codes<'_, I, P>, s: usize) -> Vectors<I::Sums, P> {
        let mut lanes = [[self.isa.zero(); 2]; P];
        for panel in 0..P {
            for v in 0..2 {
                lanes[panel][v] = self.isa.lanes(&codes[panel][s], v);
            }
        }
        lanes
    }

    #[inline(always)]
    fn add_nibble<const J: usize, const ZEROS: bool>(
        &mut self,
        lanes: &Vectors<I::Sums, P>,
        x: &Rows<'_, R>,
        k: usize,
    ) {
        let mut weights = [[self.isa.splat(0.0); 2]; P];
        for panel in 0..P {
            for v in 0..2 {
                weights[panel][v] = self.isa.nibble::<J>(lanes[panel][v]);
            }
        }
        self.add::<ZEROS>(&weights, x, k + J);
    }

    #[inline(always)]
    fn add_byte<const J: usize, const ZEROS: bool>(
        &mut self,
        lanes: &Vectors<I::Sums, P>,
        x: &Rows<'_, R>,
        k: usize,
    ) {
        let mut weights = [[self.isa.splat(0.0); 2]; P];
        for panel in 0..P {
            for v in 0..2 {
                weights[panel][v] = self.isa.byte::<J>(lanes[panel][v]);
            }
        }
        self.add::<ZEROS>(&weights, x, k + J);
    }

    /// Products of `x[k]` with codes that are floats already.
    #[inline(always)]
    fn add<const ZEROS: bool>(&mut self, codes: &Vectors<I::Floats, P>, x: &Rows<'_, R>, k: usize) {
        let isa = self.isa;
        for panel in 0..P {
            for v in 0..2 {
                let mut weights = codes[panel][v];
                if ZEROS {
                    weights = isa.sub(weights, self.zeros[panel][v]);
                }
                for r in 0..R {
                    // `k` is less; the compiler cannot know.
                    let x = isa.splat(x[r][k % PIECE]);
                    let p = &mut self.p[r][panel][v];
                    *p = isa.fused(x, weights, *p);
                }
            }
        }
    }
}
