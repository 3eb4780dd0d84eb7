//! What the integration tests share.

pub mod arrays;
pub mod errors;
pub mod files;
pub mod golden;
pub mod kernels;
pub mod mutate;
pub mod random;
pub mod record;

/// The examples of the README and the guide are compiled and run as tests of this crate: the
/// packages have the README, but not where the repository has it.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    pub struct ReadMe;
    #[doc = include_str!("../../docs/guide.md")]
    pub struct Guide;
}
