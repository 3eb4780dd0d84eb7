//! What the kernels with 256-bit vectors share.

use core::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_add_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_ps,
    _mm256_storeu_si256,
};

/// A proof of AVX2.
///
/// # Safety
/// A value of an implementing type exists only where the CPU has AVX2.
pub(super) unsafe trait Ymm: Copy {
    #[inline(always)]
    fn ymm_zero(self) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn ymm_load(self, from: &[i8; 32]) -> __m256i {
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn ymm_broadcast(self, values: u32) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_epi32(values as i32) }
    }

    #[inline(always)]
    fn ymm_add(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    fn ymm_store(self, sums: __m256i, out: &mut [i32]) {
        let out: &mut [i32; 8] = out.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) }
    }

    #[inline(always)]
    fn ymm_splat(self, value: f32) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    fn ymm_load_floats(self, from: &[f32]) -> __m256 {
        let from: &[f32; 8] = from.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are read.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn ymm_store_floats(self, floats: __m256, out: &mut [f32]) {
        let out: &mut [f32; 8] = out.try_into().expect("a lane each");
        // SAFETY: `self` proves AVX2; the reference is to the 32 bytes that are written.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), floats) }
    }

    #[inline(always)]
    fn ymm_add_product(self, sum: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        let product = unsafe { _mm256_mul_ps(a, b) };
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_ps(sum, product) }
    }
}

/// The part of [`Isa`](crate::kernel::isa::Isa) that is the same for all of them.
macro_rules! ymm_isa {
    () => {
        type Sums = core::arch::x86_64::__m256i;
        type Floats = core::arch::x86_64::__m256;

        const LANES: usize = 8;

        #[inline(always)]
        fn zero(self) -> Self::Sums {
            self.ymm_zero()
        }

        #[inline(always)]
        fn store(self, sums: Self::Sums, out: &mut [i32]) {
            self.ymm_store(sums, out);
        }

        #[inline(always)]
        fn splat(self, value: f32) -> Self::Floats {
            self.ymm_splat(value)
        }

        #[inline(always)]
        fn load_floats(self, from: &[f32]) -> Self::Floats {
            self.ymm_load_floats(from)
        }

        #[inline(always)]
        fn store_floats(self, floats: Self::Floats, out: &mut [f32]) {
            self.ymm_store_floats(floats, out);
        }

        #[inline(always)]
        fn add_product(self, sum: Self::Floats, a: Self::Floats, b: Self::Floats) -> Self::Floats {
            self.ymm_add_product(sum, a, b)
        }
    };
}
