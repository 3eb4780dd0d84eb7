//! The kernel without any instruction set: always compiled, and what the others are tested against.

use super::isa::{Isa, Line};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scalar;

impl Isa for Scalar {
    type Sums = [i32; 4];
    type Floats = [f32; 4];
    type Step = [[[i8; 4]; 4]; 2];

    const LANES: usize = 4;
    const VALUES: usize = 4;
    const ROWS: usize = 2;

    #[inline(always)]
    fn zero(self) -> Self::Sums {
        [0; 4]
    }

    #[inline(always)]
    fn accumulate<const R: usize>(
        self,
        sums: &mut [[Self::Sums; 2]; R],
        a: &[Line; R],
        b: &[Self::Step],
    ) {
        for (s, step) in b.iter().enumerate() {
            for (sums, a) in sums.iter_mut().zip(a) {
                let values = a.0[s].to_le_bytes();
                for (sum, codes) in sums.as_flattened_mut().iter_mut().zip(step.as_flattened()) {
                    for (value, code) in values.iter().zip(codes) {
                        *sum = sum.wrapping_add(i32::from(*value) * i32::from(*code));
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn lanes(self, step: &Self::Step, v: usize) -> Self::Sums {
        step[v].map(|codes| i32::from_le_bytes(codes.map(|code| code as u8)))
    }

    type Zeros = [i32; 4];

    #[inline(always)]
    fn zeros(self, from: &[i32]) -> Self::Zeros {
        self.load_sums(from)
    }

    #[inline(always)]
    fn code(self, zeros: Self::Zeros, lanes: Self::Sums, j: usize) -> Self::Floats {
        [0, 1, 2, 3].map(|i| {
            let code = lanes[i].to_le_bytes()[j] as i8;
            (i32::from(code) - zeros[i]) as f32
        })
    }

    #[inline(always)]
    fn splat_sum(self, value: i32) -> Self::Sums {
        [value; 4]
    }

    #[inline(always)]
    fn load_sums(self, from: &[i32]) -> Self::Sums {
        [from[0], from[1], from[2], from[3]]
    }

    #[inline(always)]
    fn store_sums(self, sums: Self::Sums, out: &mut [i32]) {
        out.copy_from_slice(&sums);
    }

    #[inline(always)]
    fn subtract(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        [0, 1, 2, 3].map(|i| a[i].wrapping_sub(b[i]))
    }

    #[inline(always)]
    fn subtract_product(self, sum: Self::Sums, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        [0, 1, 2, 3].map(|i| sum[i].wrapping_sub(a[i].wrapping_mul(b[i])))
    }

    #[inline(always)]
    fn to_floats(self, sums: Self::Sums) -> Self::Floats {
        sums.map(|sum| sum as f32)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Floats {
        [value; 4]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::Floats {
        [from[0], from[1], from[2], from[3]]
    }

    #[inline(always)]
    fn store(self, floats: Self::Floats, out: &mut [f32]) {
        out.copy_from_slice(&floats);
    }

    #[inline(always)]
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [0, 1, 2, 3].map(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        [0, 1, 2, 3].map(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn bits(self, from: &[f32]) -> Self::Sums {
        [0, 1, 2, 3].map(|i| from[i].to_bits() as i32)
    }

    #[inline(always)]
    fn max(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        [0, 1, 2, 3].map(|i| a[i].max(b[i]))
    }

    #[inline(always)]
    fn max_unsigned(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        [0, 1, 2, 3].map(|i| (a[i] as u32).max(b[i] as u32) as i32)
    }

    #[inline(always)]
    fn relu(self, a: Self::Floats) -> Self::Floats {
        a.map(|a| if a > 0.0 { a } else { 0.0 })
    }
}
