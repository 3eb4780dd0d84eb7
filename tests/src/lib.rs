//! What the integration tests share.

pub mod arrays;
pub mod conv;
pub mod errors;
pub mod files;
pub mod golden;
pub mod kernels;
pub mod memory;
pub mod mutate;
pub mod random;
pub mod record;
pub mod safetensors;

/// The examples of the guide and of READMEs are compiled and run as tests of this crate: a package
/// has its README, but not where the repository has it.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    pub struct ReadMe;
    #[doc = include_str!("../../docs/guide.md")]
    pub struct Guide;
    #[doc = include_str!("../../docs/language-models.md")]
    pub struct LanguageModels;
    #[doc = include_str!("../../quant-formats/README.md")]
    pub struct QuantFormats;
    #[doc = include_str!("../../quant-nn/README.md")]
    pub struct QuantNn;
    #[doc = include_str!("../../quant-record/README.md")]
    pub struct QuantRecord;
}
