//! Writes the impl. Nothing here can fail.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Path, parse_quote};

use crate::ast::{Container, Data, Directive, Field, Role, Variant};
use crate::attr::{Scheme, Slot};
use crate::bound;
use crate::check;
use crate::ctxt::Ctxt;

/// The impl of `Walk` for an item, and what is wrong with it.
pub(crate) fn derive(input: TokenStream) -> TokenStream {
    match syn::parse2(input) {
        Ok(input) => expand(&input),
        Err(error) => error.into_compile_error(),
    }
}

fn expand(input: &DeriveInput) -> TokenStream {
    let cx = Ctxt::new();
    let mut item = Container::from_syn(&cx, input);
    check::check(&cx, &item);
    let Err(error) = cx.check() else { return module(&item) };
    let errors = error.into_compile_error();
    if let Slot::Refused = item.attrs.krate {
        return errors;
    }
    // The impl is there and the other fields are checked, so that what is shown is all that is
    // wrong, and nothing that follows from it.
    item.skip_misread();
    let module = module(&item);
    quote!(#errors #module)
}

fn module(item: &Container<'_>) -> TokenStream {
    let quant = quant(item);
    let schemes = item.fields().into_iter().filter_map(scheme);
    let ident = &item.original.ident;
    let (impl_generics, ty_generics, _) = item.original.generics.split_for_impl();
    let where_clause = bound::where_clause(item);
    let [walk, walk_mut] = [Walk::Ref, Walk::Mut].map(|walk| body(item, walk));
    quote! {
        const _: () = {
            #quant
            use __quant::module::Walk as __M;
            #(#schemes)*
            #[automatically_derived]
            #[allow(deprecated)]
            impl #impl_generics __M for #ident #ty_generics #where_clause {
                fn walk(&self, __walker: &mut __quant::module::Walker<'_>) { #walk }
                fn walk_mut(&mut self, __walker: &mut __quant::module::WalkerMut<'_>) { #walk_mut }
            }
        };
    }
}

/// Names the runtime. Its path stands in what is written this once, so that a wrong one is one
/// error, shown on the path.
fn quant(item: &Container<'_>) -> TokenStream {
    let default = parse_quote!(::quant);
    let path: &Path = item.attrs.krate.value().unwrap_or(&default);
    quote_spanned!(path.span()=> use #path as __quant;)
}

/// A field's scheme, evaluated by the compiler once and for both methods. A wrong constant would
/// be an error here and a note where it is used; a static is an error here.
fn scheme(field: &Field<'_>) -> Option<TokenStream> {
    let Role::Child(Some(Directive::Scheme(scheme))) = &field.role else { return None };
    let name = scheme_name(field);
    let value = match scheme {
        Scheme::Name(name) => quote_spanned!(name.span()=> __quant::__private::scheme(#name)),
        Scheme::Expr(expr) => quote!(const { #expr }),
    };
    Some(quote!(static #name: __quant::QuantizationScheme = #value;))
}

fn scheme_name(field: &Field<'_>) -> Ident {
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
            let calls = fields.iter().map(|field| call(field, "", walk));
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
    let outer = format!("{}.", variant.name.value);
    let calls = variant.fields.iter().map(|field| call(field, &outer, walk));
    quote!(Self::#ident #pattern => { #(#calls)* })
}

/// Names every field; braces suit structs, tuples and units alike.
fn pattern(fields: &[Field<'_>]) -> TokenStream {
    let bindings = fields.iter().map(|field| {
        let member = &field.member;
        let binding = match field.role {
            Role::Skip => quote!(_),
            Role::Child(_) => binding(field).into_token_stream(),
        };
        quote!(#member: #binding)
    });
    quote!({ #(#bindings),* })
}

/// A reference to the field, which a packed struct does not give: shown on the type.
fn binding(field: &Field<'_>) -> Ident {
    format_ident!("__{}", field.index, span = field.original.ty.span())
}

/// Walks a child, if the field is one. Its path starts with `outer`.
///
/// When the child is no module, both methods are wrong, and the compiler shows one of two equal
/// errors. Hence the field's type as it was written: it takes the blame, and it is the same in
/// both, where a type inferred from a shared reference would have lost its lifetimes.
fn call(field: &Field<'_>, outer: &str, walk: Walk) -> Option<TokenStream> {
    let Role::Child(directive) = &field.role else { return None };
    let name = format!("{outer}{}", field.name.value);
    let (ty, child) = (&field.original.ty, binding(field));
    let walker = match directive {
        None => quote!(__walker.field(#name)),
        Some(directive) => {
            let directive = self::directive(field, directive);
            quote!(__walker.field_with(#name, __quant::module::Directive::#directive))
        }
    };
    Some(match walk {
        Walk::Ref => {
            let alias = field.attrs.alias.value().map(|alias| {
                let alias = format!("{outer}{}", alias.value());
                quote!(__walker.alias(#name, #alias);)
            });
            quote!(#alias <#ty as __M>::walk(#child, &mut #walker);)
        }
        Walk::Mut => quote!(<#ty as __M>::walk_mut(#child, &mut #walker);),
    })
}

fn directive(field: &Field<'_>, directive: &Directive) -> TokenStream {
    match directive {
        Directive::Quantize => quote!(Quantize),
        Directive::Keep => quote!(Keep),
        Directive::Scheme(_) => {
            let scheme = scheme_name(field);
            quote!(Scheme(#scheme))
        }
    }
}
