//! Methods of [`Isa`](crate::isa::Isa) that have nothing to do with integer products.

/// Methods that are functions of [`vector`](super::vector).
macro_rules! by_vector {
    ($(fn $name:ident $(<const $j:ident>)? ($($argument:ident: $type:ty),*) $(-> $out:ty)?;)+) => {
        $(
            #[inline(always)]
            fn $name $(<const $j: usize>)? (self, $($argument: $type),*) $(-> $out)? {
                $crate::isa::wasm32::vector::$name $(::<$j>)? ($($argument),*)
            }
        )+
    };
}

/// What all products have in common.
macro_rules! simd128_isa {
    () => {
        type Ints = core::arch::wasm32::v128;
        type Floats = core::arch::wasm32::v128;
        type Nibbles = core::arch::wasm32::v128;

        const LANES: usize = 4;

        by_vector! {
            fn dot_signed(sums: Self::Ints, q: Self::Ints, k: Self::Ints) -> Self::Ints;
        }
        vector_methods!(by_vector);
    };
}
