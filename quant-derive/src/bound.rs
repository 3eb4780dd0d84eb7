//! Which bounds the impl of a generic type needs.
//!
//! For each field that is walked and whose type mentions a type parameter, the field's type has
//! to be a module: `Param<T>: Module`, `Vec<L>: Module`. A bound on the parameter itself would
//! ask too much, as the `T` of a `Param<T>` is no module.
//!
//! A type that mentions the item itself, `Vec<Tree<M>>` in `Tree<M>`, cannot be asked for: to
//! know whether it is a module, the compiler would have to know whether `Tree<M>` is one, which
//! is the question. Such a type is replaced by its parts that mention a parameter and not the
//! item, which is sound because an impl with too few bounds does not compile.

use std::collections::HashSet;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    DeriveInput, GenericArgument, Path, PathArguments, Type, WhereClause, WherePredicate,
    parse_quote_spanned,
};

use crate::ast::Container;

/// The item's where clause, with the bounds that its fields need.
pub(crate) fn where_clause(item: &Container<'_>) -> Option<WhereClause> {
    let mut generics = item.original.generics.clone();
    let bounds: Vec<_> = types(item).into_iter().map(bound).collect();
    if !bounds.is_empty() {
        generics.make_where_clause().predicates.extend(bounds);
    }
    generics.where_clause
}

/// Shown on the type, but as ours: the compiler must not offer to change it.
fn bound(ty: &Type) -> WherePredicate {
    parse_quote_spanned!(Span::call_site().located_at(ty.span())=> #ty: __M)
}

/// The types that have to be modules, each once.
fn types<'a>(item: &'a Container<'_>) -> Vec<&'a Type> {
    let names = Names::of(item.original);
    let mut types = Vec::new();
    for field in item.fields().into_iter().filter(|field| !field.is_skipped()) {
        names.collect(&field.original.ty, &mut types);
    }
    let mut seen = HashSet::new();
    types.retain(|ty| seen.insert(ty.to_token_stream().to_string()));
    types
}

/// The names that decide.
struct Names {
    params: HashSet<Ident>,
    /// The item's own, and `Self`.
    item: HashSet<Ident>,
}

impl Names {
    fn of(input: &DeriveInput) -> Self {
        let params = input.generics.type_params().map(|param| param.ident.unraw()).collect();
        let this = Ident::new("Self", Span::call_site());
        Self { params, item: HashSet::from([input.ident.unraw(), this]) }
    }

    /// Adds the type if it can be asked for, or else what can be of its parts.
    fn collect<'a>(&self, ty: &'a Type, types: &mut Vec<&'a Type>) {
        if !mentions(ty.to_token_stream(), &self.params) {
            return;
        }
        if mentions(ty.to_token_stream(), &self.item) {
            self.parts(ty).into_iter().for_each(|part| self.collect(part, types));
        } else {
            types.push(ty);
        }
    }

    fn parts<'a>(&self, ty: &'a Type) -> Vec<&'a Type> {
        match ty {
            Type::Path(ty) if !self.is_item(&ty.path) => arguments(&ty.path),
            Type::Tuple(ty) => ty.elems.iter().collect(),
            Type::Array(ty) => vec![&ty.elem],
            Type::Slice(ty) => vec![&ty.elem],
            Type::Group(ty) => vec![&ty.elem],
            Type::Paren(ty) => vec![&ty.elem],
            // Of the rest none is a module.
            _ => Vec::new(),
        }
    }

    fn is_item(&self, path: &Path) -> bool {
        path.segments.last().is_some_and(|segment| self.item.contains(&segment.ident.unraw()))
    }
}

/// The type arguments of a path.
fn arguments(path: &Path) -> Vec<&Type> {
    let mut types = Vec::new();
    for segment in &path.segments {
        if let PathArguments::AngleBracketed(arguments) = &segment.arguments {
            types.extend(arguments.args.iter().filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            }));
        }
    }
    types
}

/// Whether one of the names is among the tokens. Tokens, because a type may be a macro's.
fn mentions(tokens: TokenStream, names: &HashSet<Ident>) -> bool {
    let mut lifetime = false;
    tokens.into_iter().any(|token| {
        let after_tick = std::mem::replace(&mut lifetime, is_tick(&token));
        match token {
            TokenTree::Ident(ident) => !after_tick && names.contains(&ident.unraw()),
            TokenTree::Group(group) => mentions(group.stream(), names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        }
    })
}

/// Whether the next token is the name of a lifetime.
fn is_tick(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == '\'')
}
