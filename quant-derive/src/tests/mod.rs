//! The expansion as a function of tokens. What it means is tested in the `tests` member.

mod corpus;
mod golden;

use proc_macro2::TokenStream;

use crate::expand;

/// The expansion of an item, as the file it would be.
fn expand(item: &str) -> syn::File {
    let tokens: TokenStream = item.parse().unwrap_or_else(|e| panic!("{item}: {e}"));
    let expansion = expand::derive(tokens);
    syn::parse2(expansion.clone()).unwrap_or_else(|e| panic!("{item}: {e}: {expansion}"))
}
