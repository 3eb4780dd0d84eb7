//! The methods of [`Isa`](crate::isa::Isa) that are the same for all kernels of aarch64.

/// Methods that are functions of [`vector`](super::vector).
macro_rules! by_vector {
    ($(fn $name:ident $(<const $j:ident>)? ($($argument:ident: $type:ty),*) $(-> $out:ty)?;)+) => {
        $(
            #[inline(always)]
            fn $name $(<const $j: usize>)? (self, $($argument: $type),*) $(-> $out)? {
                // SAFETY: the function needs NEON, which every CPU has where this is compiled.
                unsafe { $crate::isa::aarch64::vector::$name $(::<$j>)? ($($argument),*) }
            }
        )+
    };
}

/// The methods that have nothing to do with integer products, and the layout of panels.
macro_rules! neon_isa {
    () => {
        type Ints = $crate::isa::aarch64::vector::Ints;
        type Floats = $crate::isa::aarch64::vector::Floats;
        type KStep = [$crate::isa::aarch64::vector::Codes; 2];
        type Nibbles = $crate::isa::aarch64::vector::Nibbles;

        const LANES: usize = 8;
        const KR: usize = 4;
        const GEMV_ROWS: usize = 4;
        const SIGNED_ACTIVATIONS: bool = true;
        const UNSIGNED_BITS: &'static [usize] = &[4];
        // There are instructions for both at a time, and unpacking takes two for 32 codes.
        const UNPACK_ABOVE: usize = usize::MAX;

        #[inline(always)]
        fn lanes(self, step: &Self::KStep, v: usize) -> Self::Ints {
            // SAFETY: the function needs NEON, which every CPU has where this is compiled.
            unsafe { $crate::isa::aarch64::vector::codes_as_lanes(&step[v]) }
        }

        by_vector! {
            fn byte<const J>(lanes: Self::Ints) -> Self::Floats;
        }
        vector_methods!(by_vector);
    };
}
