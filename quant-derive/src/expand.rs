//! Writes the impl. Nothing here can fail.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{DeriveInput, Path, WhereClause, parse_quote};

use crate::ast::{Container, Data, Directive, Field, Role, Variant};
use crate::attr::Scheme;
use crate::bound;
use crate::check;
use crate::ctxt::Ctxt;
use crate::span::Ends;

/// The impl of `Module` for an item; if there are mistakes in it, they and an empty impl.
pub(crate) fn derive(input: TokenStream) -> TokenStream {
    match syn::parse2(input) {
        Ok(input) => expand(&input),
        Err(error) => error.into_compile_error(),
    }
}

fn expand(input: &DeriveInput) -> TokenStream {
    let cx = Ctxt::new();
    let item = Container::from_syn(&cx, input);
    check::check(&cx, &item);
    match cx.check() {
        Ok(()) => module(&item),
        Err(error) => {
            let errors = error.into_compile_error();
            let empty = empty(&item);
            quote!(#errors #empty)
        }
    }
}

fn module(item: &Container<'_>) -> TokenStream {
    let where_clause = bound::where_clause(item);
    let schemes = item.fields().filter_map(scheme).collect();
    let bodies = [Walk::Ref, Walk::Mut].map(|walk| body(item, walk));
    block(item, where_clause.as_ref(), schemes, bodies)
}

/// An impl without children, so that no mistake brings a second one: "not a module".
fn empty(item: &Container<'_>) -> TokenStream {
    let where_clause = item.original.generics.where_clause.as_ref();
    block(item, where_clause, TokenStream::new(), Default::default())
}

fn block(
    item: &Container<'_>,
    where_clause: Option<&WhereClause>,
    schemes: TokenStream,
    [walk, walk_mut]: [TokenStream; 2],
) -> TokenStream {
    let quant = quant(item);
    let ident = &item.original.ident;
    let (impl_generics, ty_generics, _) = item.original.generics.split_for_impl();
    quote! {
        const _: () = {
            use #quant as __quant;
            #schemes
            #[automatically_derived]
            impl #impl_generics __quant::Module for #ident #ty_generics #where_clause {
                fn walk(&self, __walker: &mut __quant::Walker<'_>) { #walk }
                fn walk_mut(&mut self, __walker: &mut __quant::WalkerMut<'_>) { #walk_mut }
            }
        };
    }
}

/// The path of the runtime. It stands once in what is written, so that a wrong one is one error.
fn quant(item: &Container<'_>) -> Path {
    item.attrs.krate.get().map_or_else(|| parse_quote!(::quant), |path| path.value.clone())
}

/// A field's scheme as a constant: the compiler checks it once, and shows what is wrong with it on
/// the tokens of the attribute.
fn scheme(field: &Field<'_>) -> Option<TokenStream> {
    let Role::Child(Some(Directive::Scheme(scheme))) = field.role() else { return None };
    let name = scheme_const(field);
    let value = match scheme {
        Scheme::Name(name) => {
            quote_spanned!(name.span()=> __quant::__private::scheme(#name))
        }
        Scheme::Expr(expr) => expr.to_token_stream(),
    };
    Some(quote!(const #name: __quant::QuantizationScheme = #value;))
}

fn scheme_const(field: &Field<'_>) -> Ident {
    format_ident!("__SCHEME{}", field.index)
}

/// One of the two methods.
#[derive(Clone, Copy)]
enum Walk {
    Ref,
    Mut,
}

/// Takes `self` apart, leaving no field out, and walks the children.
fn body(item: &Container<'_>, walk: Walk) -> TokenStream {
    match &item.data {
        Data::Struct(fields) => {
            let pattern = pattern(fields);
            let calls = fields.iter().map(|field| call(field, &field.name.value, walk));
            quote!(let Self #pattern = self; #(#calls)*)
        }
        Data::Enum(variants) if variants.is_empty() => quote!(match *self {}),
        Data::Enum(variants) => {
            let arms = variants.iter().map(|variant| arm(variant, walk));
            quote!(match self { #(#arms)* })
        }
        Data::Union(_) => TokenStream::new(),
    }
}

fn arm(variant: &Variant<'_>, walk: Walk) -> TokenStream {
    let ident = &variant.original.ident;
    let pattern = pattern(&variant.fields);
    let calls = variant.fields.iter().map(|field| {
        let name = format!("{}.{}", variant.name.value, field.name.value);
        call(field, &name, walk)
    });
    quote!(Self::#ident #pattern => { #(#calls)* })
}

/// Names every field; braces suit structs, tuples and units alike.
fn pattern(fields: &[Field<'_>]) -> TokenStream {
    let bindings = fields.iter().map(|field| {
        let member = &field.member;
        let binding = match field.role() {
            Role::Skip => quote!(_),
            Role::Child(_) => binding(field).into_token_stream(),
        };
        quote!(#member: #binding)
    });
    quote!({ #(#bindings),* })
}

/// The last token of the argument that the compiler blames; see [`call`].
fn binding(field: &Field<'_>) -> Ident {
    format_ident!("__field{}", field.index, span = Ends::of(field.ty).last)
}

/// Walks a child, if the field is one.
///
/// Both methods have to blame the same tokens in the same words when the child is no module,
/// because the compiler shows one of two equal errors. So they call the trait, whose errors do
/// not name the method, and both its path and the argument reach from the first token of the
/// field's type to the last.
fn call(field: &Field<'_>, name: &str, walk: Walk) -> Option<TokenStream> {
    let Role::Child(directive) = field.role() else { return None };
    let Ends { first, last } = Ends::of(field.ty);
    let binding = binding(field);
    let walker = match directive {
        None => quote!(__walker.field(#name)),
        Some(directive) => {
            let directive = self::directive(field, &directive);
            quote!(__walker.field_with(#name, __quant::Directive::#directive))
        }
    };
    let (method, child) = match walk {
        Walk::Ref => ("walk", quote_spanned!(first=> &*#binding)),
        Walk::Mut => ("walk_mut", quote_spanned!(first=> &mut *#binding)),
    };
    let method = Ident::new(method, last);
    let module = quote_spanned!(first=> __quant::Module::#method);
    Some(quote!(#module(#child, &mut #walker);))
}

fn directive(field: &Field<'_>, directive: &Directive<'_>) -> TokenStream {
    match directive {
        Directive::Quantize => quote!(Quantize),
        Directive::Keep => quote!(Keep),
        Directive::Scheme(_) => {
            let scheme = scheme_const(field);
            quote!(Scheme(#scheme))
        }
    }
}
