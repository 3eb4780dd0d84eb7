//! Rules about more than one attribute, or about the item as a whole.

use std::collections::HashSet;

use crate::ast::{Container, Data, Field, Name, Variant};
use crate::ctxt::Ctxt;

pub(crate) fn check(cx: &Ctxt, item: &Container<'_>) {
    union(cx, item);
    for field in item.fields() {
        skipped_alone(cx, field);
        kept_or_quantized(cx, field);
    }
    match &item.data {
        Data::Struct(fields) => unique_fields(cx, fields),
        Data::Enum(variants) => unique_variants(cx, variants),
        Data::Union(_) => {}
    }
}

/// Which field of a union holds a value is unknown to a walk.
fn union(cx: &Ctxt, item: &Container<'_>) {
    if let Data::Union(data) = &item.data {
        cx.error(data.union_token, "a union cannot be walked: write an enum");
    }
}

/// A skipped field has no parameters, so nothing can be said of them:
/// `#[module(skip, keep)] scratch: Scratch`.
fn skipped_alone(cx: &Ctxt, field: &Field<'_>) {
    let attrs = &field.attrs;
    if !attrs.skip.is_given() {
        return;
    }
    let names = [attrs.rename.key(), attrs.alias.key()];
    let outcomes = [attrs.quantize.key(), attrs.keep.key(), attrs.scheme.key()];
    for key in names.into_iter().chain(outcomes).flatten() {
        cx.error(key, format_args!("a skipped field is not walked: remove `{key}` or `skip`"));
    }
}

/// A field is kept float or it is not: `#[module(keep, scheme = "per-tensor-symmetric-int8")]`.
fn kept_or_quantized(cx: &Ctxt, field: &Field<'_>) {
    let attrs = &field.attrs;
    if !attrs.keep.is_given() || attrs.skip.is_given() {
        return;
    }
    for key in [attrs.quantize.key(), attrs.scheme.key()].into_iter().flatten() {
        cx.error(key, format_args!("a field is kept float or quantized: remove `{key}` or `keep`"));
    }
}

/// A path leads to one child: `#[module(rename = "bias")] b: Param<_>, bias: Param<_>`.
fn unique_fields(cx: &Ctxt, fields: &[Field<'_>]) {
    let children = || fields.iter().filter(|field| !field.is_skipped());
    unique(cx, "fields", children().map(|field| &field.name));
    for alias in children().filter_map(|field| field.attrs.alias.value()) {
        if children().any(|field| field.name.value == alias.value()) {
            let name = alias.value();
            cx.error(alias, format_args!("`{name}` is a field: an alias is another name"));
        }
    }
}

/// Two variants of one name cannot be told apart in a record.
fn unique_variants(cx: &Ctxt, variants: &[Variant<'_>]) {
    unique(cx, "variants", variants.iter().map(|variant| &variant.name));
    for variant in variants {
        unique_fields(cx, &variant.fields);
    }
}

fn unique<'a>(cx: &Ctxt, what: &str, names: impl Iterator<Item = &'a Name>) {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(&name.value) {
            cx.error(
                &name.tokens,
                format_args!("two {what} are named `{}`: rename one", name.value),
            );
        }
    }
}
