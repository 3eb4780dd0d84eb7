//! What the kernels of aarch64 and wasm32 have in common.

/// Methods of [`Isa`](super::Isa) that are functions of the kernel's vectors and have nothing to do with integer
/// products: `$by_vector` makes each of its function. Kernels of x86-64 have them as methods.
// On other machines nothing uses it.
#[allow(unused_macros)]
macro_rules! vector_methods {
    ($by_vector:ident) => {
        $by_vector! {
            fn flip_signs(line: &mut $crate::isa::Line);
            fn zero() -> Self::Ints;
            fn nibbles(zero: f32) -> Self::Nibbles;
            fn nibble<const J>(lanes: Self::Ints, of: Self::Nibbles) -> Self::Floats;
            fn splat_int(value: i32) -> Self::Ints;
            fn load_ints(from: &[i32]) -> Self::Ints;
            fn load_bytes(from: &[u8]) -> Self::Ints;
            fn load_unsigned(from: &[u8]) -> Self::Ints;
            fn load_halves(from: &[u16]) -> Self::Floats;
            fn store_ints(sums: Self::Ints, out: &mut [i32]);
            fn add_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
            fn subtract_product(sum: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;
            fn to_floats(sums: Self::Ints) -> Self::Floats;
            fn splat(value: f32) -> Self::Floats;
            fn load(from: &[f32]) -> Self::Floats;
            fn store(floats: Self::Floats, out: &mut [f32]);
            fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
            fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats;
            fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
            fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats;
            fn least(a: Self::Floats, b: Self::Floats) -> Self::Floats;
            fn greatest(a: Self::Floats, b: Self::Floats) -> Self::Floats;
            fn to_bits(floats: Self::Floats) -> Self::Ints;
            fn sub_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
            fn half(a: Self::Ints) -> Self::Ints;
            fn power_of_two(n: Self::Ints) -> Self::Floats;
            fn split_nibbles(packed: Self::Ints) -> [Self::Ints; 2];
            fn bits(from: &[f32]) -> Self::Ints;
            fn max(a: Self::Ints, b: Self::Ints) -> Self::Ints;
            fn max_unsigned(a: Self::Ints, b: Self::Ints) -> Self::Ints;
            fn quantize(
                by: $crate::isa::Reciprocal,
                values: &[f32; $crate::isa::QUANTIZE_LANES],
                codes: &mut [u8; $crate::isa::QUANTIZE_LANES]
            ) -> bool;
            fn fused(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
            fn relu(a: Self::Floats) -> Self::Floats;
        }

        #[inline(always)]
        fn dot_unsigned(self, sums: Self::Ints, q: Self::Ints, u: Self::Ints) -> Self::Ints {
            // Codes of 4 bits are positive as signed bytes, too.
            self.dot_signed(sums, q, u)
        }
    };
}
