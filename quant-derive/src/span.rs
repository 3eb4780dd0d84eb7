//! Tokens that are shown where the user's are.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::ToTokens;

/// The first and the last span of some tokens. rustc joins them again when an expression begins
/// with a token of the one and ends with a token of the other; on stable, a macro cannot.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) first: Span,
    pub(crate) last: Span,
}

impl Ends {
    pub(crate) fn of(tokens: impl ToTokens) -> Self {
        let mut ends = None;
        extend(&mut ends, tokens.into_token_stream());
        ends.unwrap_or(Self { first: Span::call_site(), last: Span::call_site() })
    }
}

fn extend(ends: &mut Option<Ends>, tokens: TokenStream) {
    for token in tokens {
        let (first, last) = match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                extend(ends, group.stream());
                continue;
            }
            TokenTree::Group(group) => (group.span_open(), group.span_close()),
            token => (token.span(), token.span()),
        };
        *ends = Some(Ends { first: ends.map_or(first, |ends| ends.first), last });
    }
}
