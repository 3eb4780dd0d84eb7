//! The instruction set of wasm32: vectors of 128 bits.
//!
//! A module cannot ask at run time which instructions there are: one with vectors is refused as a whole where they
//! are not known. So this module is compiled only where the compiler was told to use them
//! (`-C target-feature=+simd128`), and nothing has to be detected.

mod vector;
#[macro_use]
mod methods;
mod simd128;
mod wide;

pub(crate) use simd128::Simd128;
