//! `#[derive(Module)]` for the `quant` crate.

use proc_macro::TokenStream;

/// Derives `quant::Module`.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}
