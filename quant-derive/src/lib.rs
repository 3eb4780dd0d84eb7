//! `#[derive(Module)]` for the `quant` crate.

mod ast;
mod attr;
mod bound;
mod check;
mod ctxt;
mod expand;

use proc_macro::TokenStream;

/// Derives `quant::Module`.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    expand::derive(input.into()).into()
}
