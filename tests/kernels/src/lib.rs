//! What the tests of kernels share, with few dependencies: emulators of other CPUs run them, for which all of `tests`
//! would take minutes to build.

#[path = "../../src/conv.rs"]
pub mod conv;
#[path = "../../src/golden.rs"]
pub mod golden;
#[path = "../../src/kernels.rs"]
pub mod kernels;
#[path = "../../src/random.rs"]
pub mod random;
