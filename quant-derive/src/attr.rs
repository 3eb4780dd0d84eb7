//! Reads `#[module(…)]`: which arguments there are, where each may stand, and of what form.

use proc_macro2::{TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, ExprPath, Ident, Lit, LitStr, Meta, Path, Token};

use crate::ctxt::Ctxt;

/// An argument that was given, with the word that names it.
pub(crate) struct Given<T> {
    pub(crate) key: Ident,
    pub(crate) value: T,
}

/// A place for an argument that may be given once.
#[derive(Default)]
pub(crate) enum Slot<T> {
    #[default]
    Empty,
    /// Given, but wrong; that has been reported.
    Refused,
    Given(Given<T>),
}

impl<T> Slot<T> {
    pub(crate) fn value(&self) -> Option<&T> {
        match self {
            Self::Given(given) => Some(&given.value),
            Self::Empty | Self::Refused => None,
        }
    }

    pub(crate) fn key(&self) -> Option<&Ident> {
        match self {
            Self::Given(given) => Some(&given.key),
            Self::Empty | Self::Refused => None,
        }
    }

    pub(crate) fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    /// Stores what `read` makes of the argument; the one place that refuses a second.
    fn set(&mut self, cx: &Ctxt, arg: Arg, read: impl FnOnce(&Arg) -> syn::Result<T>) {
        if !matches!(self, Self::Empty) {
            return cx.error(&arg.key, format_args!("duplicate `{}`: say it once", arg.key));
        }
        *self = match read(&arg) {
            Ok(value) => Self::Given(Given { key: arg.key, value }),
            Err(error) => {
                cx.syn_error(error);
                Self::Refused
            }
        };
    }
}

/// `scheme = …`.
#[derive(Clone)]
pub(crate) enum Scheme {
    /// The name of a scheme, for the compiler to check.
    Name(LitStr),
    /// A constant expression, for the compiler to check.
    Expr(Expr),
}

/// What stands on a struct or enum.
#[derive(Default)]
pub(crate) struct ContainerAttrs {
    pub(crate) krate: Slot<Path>,
}

/// What stands on a variant.
#[derive(Default)]
pub(crate) struct VariantAttrs {
    pub(crate) rename: Slot<LitStr>,
}

/// What stands on a field.
#[derive(Default)]
pub(crate) struct FieldAttrs {
    pub(crate) skip: Slot<()>,
    pub(crate) rename: Slot<LitStr>,
    pub(crate) alias: Slot<LitStr>,
    pub(crate) quantize: Slot<()>,
    pub(crate) keep: Slot<()>,
    pub(crate) scheme: Slot<Scheme>,
}

impl ContainerAttrs {
    pub(crate) fn from_syn(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let mut found = Self::default();
        for arg in args(cx, attrs) {
            match arg.name().as_str() {
                "crate" => found.krate.set(cx, arg, Arg::path),
                _ => arg.refuse(cx, Place::Container),
            }
        }
        found
    }
}

impl VariantAttrs {
    pub(crate) fn from_syn(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let mut found = Self::default();
        for arg in args(cx, attrs) {
            match arg.name().as_str() {
                "rename" => found.rename.set(cx, arg, Arg::steps),
                _ => arg.refuse(cx, Place::Variant),
            }
        }
        found
    }
}

impl FieldAttrs {
    pub(crate) fn from_syn(cx: &Ctxt, attrs: &[Attribute]) -> Self {
        let mut found = Self::default();
        for arg in args(cx, attrs) {
            match arg.name().as_str() {
                "skip" => found.skip.set(cx, arg, Arg::flag),
                "rename" => found.rename.set(cx, arg, Arg::steps),
                "alias" => found.alias.set(cx, arg, Arg::steps),
                "quantize" => found.quantize.set(cx, arg, Arg::flag),
                "keep" => found.keep.set(cx, arg, Arg::flag),
                "scheme" => found.scheme.set(cx, arg, Arg::scheme),
                _ => arg.refuse(cx, Place::Field),
            }
        }
        found
    }
}

/// Where an attribute can be written.
#[derive(Clone, Copy)]
enum Place {
    Container,
    Variant,
    Field,
}

impl Place {
    /// The place and what it takes.
    fn takes(self) -> &'static str {
        match self {
            Self::Container => "a struct or enum takes `crate = path`",
            Self::Variant => "a variant takes `rename = \"…\"`",
            Self::Field => {
                "a field takes `skip`, `rename = \"…\"`, `alias = \"…\"`, `quantize`, `keep`, `scheme = \"…\"`"
            }
        }
    }
}

/// Where an argument of this name belongs, if there is one.
fn home(name: &str) -> Option<&'static str> {
    match name {
        "crate" => Some("the struct or enum"),
        "rename" => Some("a field or variant"),
        "skip" | "alias" | "quantize" | "keep" | "scheme" => Some("a field"),
        _ => None,
    }
}

/// One argument of `#[module(…)]`, of any form: what it may be depends on its name.
struct Arg {
    key: Ident,
    value: Value,
}

enum Value {
    None,
    /// `= expression`.
    Expr(Expr),
    /// What follows the key up to the next comma, and cannot be read.
    Unreadable(TokenStream),
}

impl Parse for Arg {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let Ok(key) = input.call(Ident::parse_any) else {
            return Err(input.error("expected the name of an argument, such as `skip`"));
        };
        if at_end(input) {
            return Ok(Self { key, value: Value::None });
        }
        let ahead = input.fork();
        if ahead.parse::<Token![=]>().is_ok() && ahead.parse::<Expr>().is_ok() && at_end(&ahead) {
            input.parse::<Token![=]>()?;
            return Ok(Self { key, value: Value::Expr(input.parse()?) });
        }
        Ok(Self { key, value: Value::Unreadable(up_to_comma(input)?) })
    }
}

/// Whether an argument ends here.
fn at_end(input: ParseStream<'_>) -> bool {
    input.is_empty() || input.peek(Token![,])
}

fn up_to_comma(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !at_end(input) {
        tokens.extend([input.parse::<TokenTree>()?]);
    }
    Ok(tokens)
}

/// The arguments of every `#[module(…)]` among these attributes.
fn args(cx: &Ctxt, attrs: &[Attribute]) -> Vec<Arg> {
    let mut args = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("module")) {
        let Meta::List(list) = &attr.meta else {
            cx.error(&attr.meta, "expected arguments in parentheses: `#[module(…)]`");
            continue;
        };
        match Punctuated::<Arg, Token![,]>::parse_terminated.parse2(list.tokens.clone()) {
            Ok(found) => args.extend(found),
            Err(error) => cx.syn_error(error),
        }
    }
    args
}

impl Arg {
    fn name(&self) -> String {
        self.key.to_string()
    }

    /// An error on what the argument has for a value, or on its key if it has none.
    fn error(&self, message: &str) -> syn::Error {
        match &self.value {
            Value::Expr(expr) => syn::Error::new_spanned(expr, message),
            Value::Unreadable(tokens) => syn::Error::new_spanned(tokens, message),
            Value::None => syn::Error::new(self.key.span(), message),
        }
    }

    /// Reports an argument that this place does not take.
    fn refuse(&self, cx: &Ctxt, place: Place) {
        let (key, takes) = (&self.key, place.takes());
        match home(&self.name()) {
            Some(home) => cx.error(key, format_args!("`{key}` belongs on {home}; {takes}")),
            None => cx.error(key, format_args!("unknown attribute `{key}`; {takes}")),
        }
    }

    fn flag(&self) -> syn::Result<()> {
        match self.value {
            Value::None => Ok(()),
            _ => Err(self.error(&format!("`{}` takes no value: write it alone", self.key))),
        }
    }

    /// A name, perhaps of several steps.
    fn steps(&self) -> syn::Result<LitStr> {
        let Some(name) = self.string() else {
            return Err(self.error(&format!("expected a string: `{} = \"…\"`", self.key)));
        };
        let steps = name.value();
        if steps.is_empty() {
            let message = format!("the name is empty: write one, or remove `{}`", self.key);
            return Err(syn::Error::new(name.span(), message));
        }
        if steps.split('.').any(str::is_empty) {
            let message = "the name has an empty step: write it as in `layer.weight`";
            return Err(syn::Error::new(name.span(), message));
        }
        Ok(name)
    }

    /// A path, bare or in a string.
    fn path(&self) -> syn::Result<Path> {
        let expected = "expected the path of the quant crate: `crate = path`";
        if let Some(path) = self.string() {
            return path
                .parse_with(Path::parse_mod_style)
                .map_err(|_| syn::Error::new(path.span(), expected));
        }
        match self.expr() {
            Some(Expr::Path(ExprPath { attrs, qself: None, path }))
                if attrs.is_empty() && path.segments.iter().all(|s| s.arguments.is_none()) =>
            {
                Ok(path.clone())
            }
            _ => Err(self.error(expected)),
        }
    }

    fn scheme(&self) -> syn::Result<Scheme> {
        if let Some(name) = self.string() {
            return Ok(Scheme::Name(name));
        }
        match self.expr() {
            Some(expr) => Ok(Scheme::Expr(expr.clone())),
            None => {
                Err(self.error("expected the name of a scheme or a constant: `scheme = \"…\"`"))
            }
        }
    }

    /// The value, out of the invisible groups in which `macro_rules` wraps it.
    fn expr(&self) -> Option<&Expr> {
        let Value::Expr(expr) = &self.value else { return None };
        let mut expr = expr;
        while let Expr::Group(group) = expr {
            expr = &group.expr;
        }
        Some(expr)
    }

    fn string(&self) -> Option<LitStr> {
        match self.expr() {
            Some(Expr::Lit(ExprLit { lit: Lit::Str(string), .. })) => Some(string.clone()),
            _ => None,
        }
    }
}
