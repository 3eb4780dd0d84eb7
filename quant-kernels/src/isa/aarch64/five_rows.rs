//! The product of the tallest tile of the kernel with `sdot`, in assembly.
//!
//! With 20 sums, 5 vectors of values and 6 or 7 for codes, it takes all registers, and no other instructions than
//! loads, products, and four to unpack two vectors. The compiler (of Rust 1.95) adds five for each four k-steps, or
//! leaves sums in memory if it unrolls more of them. Codes are loaded before the products of others, for CPUs that
//! work in order.

use super::vector::{Codes, Ints};
use crate::isa::Line;
use core::arch::aarch64::vdupq_n_u8;
use core::arch::asm;

/// The rows of the tile.
pub(super) const FIVE: usize = 5;

/// K-steps that are written together: half a line.
pub(super) const STEPS: usize = Line::STEPS / 2;

// In these macros each line is an instruction.

/// Loads four k-steps of each row.
macro_rules! values {
    ($group:tt) => {
        concat!(
            "ldr {a0:q}, [{a}, #64 * 0 + 16 * ",
            $group,
            "]\n",
            "ldr {a1:q}, [{a}, #64 * 1 + 16 * ",
            $group,
            "]\n",
            "ldr {a2:q}, [{a}, #64 * 2 + 16 * ",
            $group,
            "]\n",
            "ldr {a3:q}, [{a}, #64 * 3 + 16 * ",
            $group,
            "]\n",
            "ldr {a4:q}, [{a}, #64 * 4 + 16 * ",
            $group,
            "]\n",
        )
    };
}

/// Loads the codes of a vector of columns, which is number `$at` of the half line.
macro_rules! codes {
    ($x:tt, $y:tt, $at:tt) => {
        concat!("ldp {", $x, ":q}, {", $y, ":q}, [{b}, #32 * ", $at, "]\n")
    };
}

/// Adds the products of k-step `$lane` of all rows and a vector of columns, whose sums are `$i` and `$j`.
macro_rules! products {
    ($x:tt, $y:tt, $lane:tt, $i:tt, $j:tt) => {
        concat!(
            row!($x, $y, $lane, $i, $j, 0),
            row!($x, $y, $lane, $i, $j, 1),
            row!($x, $y, $lane, $i, $j, 2),
            row!($x, $y, $lane, $i, $j, 3),
            row!($x, $y, $lane, $i, $j, 4),
        )
    };
}

/// Adds the products of two packed k-steps, those of `$low` and `$high`: the low nibbles are in `l0` and `l1`.
macro_rules! packed_products {
    ($x:tt, $y:tt, $low:tt $high:tt, $i:tt, $j:tt) => {
        concat!(
            "and {l0:v}.16b, {",
            $x,
            ":v}.16b, {mask:v}.16b\n",
            "and {l1:v}.16b, {",
            $y,
            ":v}.16b, {mask:v}.16b\n",
            "ushr {",
            $x,
            ":v}.16b, {",
            $x,
            ":v}.16b, #4\n",
            "ushr {",
            $y,
            ":v}.16b, {",
            $y,
            ":v}.16b, #4\n",
            products!("l0", "l1", $low, $i, $j),
            products!($x, $y, $high, $i, $j),
        )
    };
}

/// [`products`] of row `$r`.
macro_rules! row {
    ($x:tt, $y:tt, $lane:tt, $i:tt, $j:tt, $r:tt) => {
        concat!(
            "sdot {s",
            $r,
            $i,
            ":v}.4s, {",
            $x,
            ":v}.16b, {a",
            $r,
            ":v}.4b[",
            $lane,
            "]\n",
            "sdot {s",
            $r,
            $j,
            ":v}.4s, {",
            $y,
            ":v}.16b, {a",
            $r,
            ":v}.4b[",
            $lane,
            "]\n",
        )
    };
}

/// Declares a function of the instructions for half a line, `$steps` k-steps as they are stored, which use further
/// registers.
macro_rules! five_rows {
    ($(#[$doc:meta])* $name:ident, $steps:expr, { $($instructions:tt)+ }, { $($registers:tt)+ }) => {
        $(#[$doc])*
        #[target_feature(enable = "dotprod")]
        #[inline]
        pub(super) fn $name(
            sums: &mut [[Ints; 2]; FIVE],
            a: &[Line; FIVE],
            half: usize,
            steps: &[[Codes; 2]; $steps],
        ) {
            assert!(half < Line::STEPS / STEPS, "a line has two halves");
            let a = a.as_ptr().cast::<[u32; STEPS]>().wrapping_add(half);
            let [
                [[s00, s01], [s02, s03]],
                [[s10, s11], [s12, s13]],
                [[s20, s21], [s22, s23]],
                [[s30, s31], [s32, s33]],
                [[s40, s41], [s42, s43]],
            ] = sums;
            // SAFETY: the instructions are those of NEON and of the dot product, which is enabled here. They read
            // all of `steps`, and 32 bytes of each line, 64 bytes from one to the next: `a` is one of the two
            // halves of the first one. They write registers that are outputs: no memory, no stack, no flags;
            // results depend on what is read alone.
            unsafe {
                asm!(
                    $($instructions)+
                    a = in(reg) a,
                    b = in(reg) steps,
                    s00 = inout(vreg) *s00, s01 = inout(vreg) *s01,
                    s02 = inout(vreg) *s02, s03 = inout(vreg) *s03,
                    s10 = inout(vreg) *s10, s11 = inout(vreg) *s11,
                    s12 = inout(vreg) *s12, s13 = inout(vreg) *s13,
                    s20 = inout(vreg) *s20, s21 = inout(vreg) *s21,
                    s22 = inout(vreg) *s22, s23 = inout(vreg) *s23,
                    s30 = inout(vreg) *s30, s31 = inout(vreg) *s31,
                    s32 = inout(vreg) *s32, s33 = inout(vreg) *s33,
                    s40 = inout(vreg) *s40, s41 = inout(vreg) *s41,
                    s42 = inout(vreg) *s42, s43 = inout(vreg) *s43,
                    a0 = out(vreg) _, a1 = out(vreg) _, a2 = out(vreg) _, a3 = out(vreg) _,
                    a4 = out(vreg) _,
                    $($registers)+
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
        }
    };
}

five_rows!(
    /// Adds the products of five rows and the k-steps of half a line.
    add_five_rows,
    STEPS,
    {
        codes!("c0", "c1", 0),
        values!(0),
        codes!("c2", "c3", 1),
        codes!("c4", "c5", 2), products!("c0", "c1", 0, 0, 1),
        codes!("c0", "c1", 3), products!("c2", "c3", 0, 2, 3),
        codes!("c2", "c3", 4), products!("c4", "c5", 1, 0, 1),
        codes!("c4", "c5", 5), products!("c0", "c1", 1, 2, 3),
        codes!("c0", "c1", 6), products!("c2", "c3", 2, 0, 1),
        codes!("c2", "c3", 7), products!("c4", "c5", 2, 2, 3),
        codes!("c4", "c5", 8), products!("c0", "c1", 3, 0, 1),
        codes!("c0", "c1", 9), products!("c2", "c3", 3, 2, 3),
        values!(1),
        codes!("c2", "c3", 10), products!("c4", "c5", 0, 0, 1),
        codes!("c4", "c5", 11), products!("c0", "c1", 0, 2, 3),
        codes!("c0", "c1", 12), products!("c2", "c3", 1, 0, 1),
        codes!("c2", "c3", 13), products!("c4", "c5", 1, 2, 3),
        codes!("c4", "c5", 14), products!("c0", "c1", 2, 0, 1),
        codes!("c0", "c1", 15), products!("c2", "c3", 2, 2, 3),
        products!("c4", "c5", 3, 0, 1),
        products!("c0", "c1", 3, 2, 3),
    },
    {
        c0 = out(vreg) _, c1 = out(vreg) _, c2 = out(vreg) _, c3 = out(vreg) _, c4 = out(vreg) _,
        c5 = out(vreg) _,
    }
);

five_rows!(
    /// [`add_five_rows`] for packed k-steps, each of which holds two.
    add_five_packed_rows,
    STEPS / 2,
    {
        codes!("c0", "c1", 0),
        values!(0),
        codes!("c2", "c3", 1), packed_products!("c0", "c1", 0 1, 0, 1),
        codes!("c0", "c1", 2), packed_products!("c2", "c3", 0 1, 2, 3),
        codes!("c2", "c3", 3), packed_products!("c0", "c1", 2 3, 0, 1),
        codes!("c0", "c1", 4), packed_products!("c2", "c3", 2 3, 2, 3),
        values!(1),
        codes!("c2", "c3", 5), packed_products!("c0", "c1", 0 1, 0, 1),
        codes!("c0", "c1", 6), packed_products!("c2", "c3", 0 1, 2, 3),
        codes!("c2", "c3", 7), packed_products!("c0", "c1", 2 3, 0, 1),
        packed_products!("c2", "c3", 2 3, 2, 3),
    },
    {
        c0 = out(vreg) _, c1 = out(vreg) _, c2 = out(vreg) _, c3 = out(vreg) _,
        l0 = out(vreg) _, l1 = out(vreg) _,
        mask = in(vreg) vdupq_n_u8(15),
    }
);
