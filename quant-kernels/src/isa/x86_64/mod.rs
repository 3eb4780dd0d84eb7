//! The instruction sets of x86-64.

use core::arch::x86_64::{__m128i, _MM_HINT_T0, _mm_loadl_epi64, _mm_loadu_si128, _mm_prefetch};

/// Whether the CPU has a feature; without `std`, whether it is enabled at compile time.
macro_rules! detected {
    ($feature:tt) => {{
        #[cfg(feature = "std")]
        let detected = std::arch::is_x86_feature_detected!($feature);
        #[cfg(not(feature = "std"))]
        let detected = cfg!(target_feature = $feature);
        detected
    }};
}

/// Prefetches the lines of a value that lies `bytes` further on.
#[inline(always)]
fn prefetch<T>(from: &T, bytes: usize) {
    let from: *const i8 = core::ptr::from_ref(from).cast();
    for line in (0..size_of::<T>()).step_by(64) {
        // SAFETY: every x86-64 CPU has SSE; nothing is read or written, wherever the pointer points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(bytes + line)) }
    }
}

/// Loads 16 bytes.
#[inline(always)]
fn load_16(from: &[u8]) -> __m128i {
    let from: &[u8; 16] = from.try_into().expect("16 bytes");
    // SAFETY: every x86-64 CPU has SSE2; the reference is to the 16 bytes that are read.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

/// Loads 8 bytes into the low half.
#[inline(always)]
fn load_8(from: &[u8]) -> __m128i {
    let from: &[u8; 8] = from.try_into().expect("8 bytes");
    // SAFETY: every x86-64 CPU has SSE2; the reference is to the 8 bytes that are read.
    unsafe { _mm_loadl_epi64(from.as_ptr().cast()) }
}

#[macro_use]
mod ymm;
mod avx2;
mod avx512_vnni;
mod avx_vnni;
mod vnni;

pub(crate) use avx_vnni::AvxVnni;
pub(crate) use avx2::Avx2;
pub(crate) use avx512_vnni::Avx512Vnni;
