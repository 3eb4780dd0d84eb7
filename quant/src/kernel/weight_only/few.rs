//! One row to four: codes become floats in registers, and are used there. What few rows would read
//! from a piece is not worth writing it.

use super::{FloatProduct, PIECE, Rearranged, code_at};
use crate::kernel::isa::Isa;
use crate::kernel::order::{BLOCK, MIRRORED};
use crate::kernel::product::WIDEST;
use core::array::from_fn;

/// A piece of each row.
type Rows<'a, const R: usize> = [&'a [f32; PIECE]; R];

impl FloatProduct<'_> {
    /// `R` rows, which are all.
    #[inline(always)]
    pub(super) fn few<I: Isa, const R: usize>(&self, isa: I) {
        let (mut room, mut ends) = (Rearranged::new(), [[0.0; PIECE]; R]);
        for panel in self.panels.clone() {
            self.few_rows::<I, R>(isa, panel, &mut room, &mut ends);
        }
    }

    #[inline(always)]
    fn few_rows<I: Isa, const R: usize>(
        &self,
        isa: I,
        panel: usize,
        room: &mut Rearranged<I>,
        ends: &mut [[f32; PIECE]; R],
    ) {
        let mut y = [[isa.splat(0.0); 2]; R];
        let (segments, mut step) = (self.weights.segments(), 0);
        for segment in 0..segments {
            let p = self.few_products::<I, R>(isa, (panel, segment, step), room, ends);
            let scales = self.weights.columns_of(panel, segment).scales;
            let scales = [isa.load(&scales[..I::LANES]), isa.load(&scales[I::LANES..I::COLUMNS])];
            for r in 0..R {
                for v in 0..2 {
                    let scaled = isa.mul(p[r][v], scales[v]);
                    y[r][v] = if segments == 1 { scaled } else { isa.add(y[r][v], scaled) };
                }
            }
            step += self.weights.steps[segment];
        }
        let mut rows = [[0.0; WIDEST]; R];
        for r in 0..R {
            isa.store(y[r][0], &mut rows[r][..I::LANES]);
            isa.store(y[r][1], &mut rows[r][I::LANES..I::COLUMNS]);
        }
        self.finish::<I>(isa, panel, 0..R, &mut rows);
    }

    /// `p` of a segment that starts with `step`.
    #[inline(always)]
    fn few_products<I: Isa, const R: usize>(
        &self,
        isa: I,
        (panel, segment, step): (usize, usize, usize),
        room: &mut Rearranged<I>,
        ends: &mut [[f32; PIECE]; R],
    ) -> [[I::Floats; 2]; R] {
        let range = self.weights.segment_range(segment);
        let zeros = self.zeros::<I>(isa, panel, segment);
        let mut p = [[isa.splat(0.0); 2]; R];
        for k in range.clone().step_by(PIECE) {
            let len = PIECE.min(range.end - k);
            let step = step + (k - range.start) / I::VALUES;
            let steps = len.div_ceil(I::VALUES).next_multiple_of(I::GROUP);
            let x = self.piece_of_rows(k, len, ends);
            if self.weights.bits == 4 && (I::LOOKS_UP || I::UNPACKS) {
                // Two steps of four values in each packed one.
                let packed = &self.weights.panel(panel)[step / 2..][..steps.div_ceil(2)];
                if I::LOOKS_UP && !self.weights.has_zeros() {
                    looked_up::<I, R>(isa, &mut p, packed, &x);
                } else {
                    unpacked::<I, R>(isa, &mut p, packed, &x, zeros);
                }
                continue;
            }
            if I::ORDERED {
                self.ordered::<I, R>(isa, &mut p, panel, k / BLOCK, steps / 4, &x);
            } else {
                let codes = self.codes::<I>(panel, step, steps, room);
                stored::<I, R>(isa, &mut p, codes, &x, zeros);
            }
        }
        p
    }

    /// Products with codes of a byte in an [`order`](crate::kernel::order): `count` blocks of K from
    /// `first` on.
    #[inline(always)]
    fn ordered<I: Isa, const R: usize>(
        &self,
        isa: I,
        p: &mut [[I::Floats; 2]; R],
        panel: usize,
        first: usize,
        count: usize,
        x: &Rows<'_, R>,
    ) {
        let places = self.weights.orders.places(panel);
        let blocks = self.weights.panel::<I::Step>(panel).as_chunks::<4>().0;
        let zeros = self.signed_zeros::<I>(isa, panel);
        for b in 0..count {
            let codes = &blocks[usize::from(places.blocks[first + b])];
            for (i, place) in places.positions[first + b].iter().enumerate() {
                let at = usize::from(place % MIRRORED) % BLOCK;
                let mirrored = usize::from(place / MIRRORED) % 2;
                let weights = code_at(isa, zeros[mirrored], &codes[at / 4], at % 4);
                for r in 0..R {
                    let x = isa.splat([1.0, -1.0][mirrored] * x[r][(b * BLOCK + i) % PIECE]);
                    for v in 0..2 {
                        p[r][v] = isa.add(p[r][v], isa.mul(x, weights[v]));
                    }
                }
            }
        }
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

/// Products with packed codes of 4 bits without zero points: for each value of `x` there are 16,
/// which are multiplied once and then looked up for all columns.
#[inline(always)]
fn looked_up<I: Isa, const R: usize>(
    isa: I,
    p: &mut [[I::Floats; 2]; R],
    packed: &[I::Step],
    x: &Rows<'_, R>,
) {
    let codes: [f32; WIDEST] = from_fn(|code| code as f32 - 8.0);
    let codes = isa.load(&codes[..I::LANES]);
    for (s, step) in packed.iter().enumerate().take(PIECE / 8) {
        for i in 0..8 {
            // Two steps of four values: the first in the low halves of the bytes.
            let at = i % 4 * 2 + i / 4;
            for r in 0..R {
                let products = isa.mul(isa.splat(x[r][s * 8 + i]), codes);
                for v in 0..2 {
                    p[r][v] = isa.add(p[r][v], isa.look_up(products, step, v, at));
                }
            }
        }
    }
}

/// Products with packed codes of 4 bits.
#[inline(always)]
fn unpacked<I: Isa, const R: usize>(
    isa: I,
    p: &mut [[I::Floats; 2]; R],
    packed: &[I::Step],
    x: &Rows<'_, R>,
    zeros: [I::Zeros; 2],
) {
    for (s, step) in packed.iter().enumerate() {
        let lanes = [isa.unpacked(step, 0), isa.unpacked(step, 1)];
        for i in 0..8 {
            let weights = [
                isa.code(zeros[0], lanes[0][i / 4], i % 4),
                isa.code(zeros[1], lanes[1][i / 4], i % 4),
            ];
            add_products::<I, R>(isa, p, x, s * 8 + i, weights);
        }
    }
}

/// Products with codes of a byte in the order in which they are stored.
#[inline(always)]
fn stored<I: Isa, const R: usize>(
    isa: I,
    p: &mut [[I::Floats; 2]; R],
    codes: &[I::Step],
    x: &Rows<'_, R>,
    zeros: [I::Zeros; 2],
) {
    for (s, step) in codes.iter().enumerate().take(PIECE / I::VALUES) {
        for j in 0..I::VALUES {
            let weights = code_at(isa, zeros, step, j);
            add_products::<I, R>(isa, p, x, s * I::VALUES + j, weights);
        }
    }
}

#[inline(always)]
fn add_products<I: Isa, const R: usize>(
    isa: I,
    p: &mut [[I::Floats; 2]; R],
    x: &Rows<'_, R>,
    k: usize,
    weights: [I::Floats; 2],
) {
    for r in 0..R {
        // `k` is less; the compiler cannot know.
        let x = isa.splat(x[r][k % PIECE]);
        for v in 0..2 {
            p[r][v] = isa.add(p[r][v], isa.mul(x, weights[v]));
        }
    }
}
