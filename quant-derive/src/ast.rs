//! The item as the derive sees it: each node with its attributes, and the role of each field.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{DataUnion, DeriveInput, LitStr, Member};

use crate::attr::{ContainerAttrs, FieldAttrs, Scheme, Slot, VariantAttrs};
use crate::ctxt::Ctxt;

pub(crate) struct Container<'a> {
    pub(crate) original: &'a DeriveInput,
    pub(crate) attrs: ContainerAttrs,
    pub(crate) data: Data<'a>,
}

pub(crate) enum Data<'a> {
    Struct(Vec<Field<'a>>),
    Enum(Vec<Variant<'a>>),
    /// Refused by `check`.
    Union(&'a DataUnion),
}

pub(crate) struct Variant<'a> {
    pub(crate) original: &'a syn::Variant,
    pub(crate) name: Name,
    pub(crate) fields: Vec<Field<'a>>,
}

pub(crate) struct Field<'a> {
    pub(crate) original: &'a syn::Field,
    /// The position among all fields of the item.
    pub(crate) index: usize,
    pub(crate) member: Member,
    pub(crate) name: Name,
    pub(crate) attrs: FieldAttrs,
    pub(crate) role: Role,
    /// Whether there was a mistake in the attributes.
    misread: bool,
}

/// What a walk does with a field.
pub(crate) enum Role {
    Skip,
    /// Walks it; whether it is a parameter, a module or a constant is for its type to say.
    Child(Option<Directive>),
}

/// What the parameters below a field are told.
pub(crate) enum Directive {
    Quantize,
    Keep,
    Scheme(Scheme),
}

/// What a field or variant is called in a path, and the tokens that say so.
pub(crate) struct Name {
    pub(crate) value: String,
    pub(crate) tokens: TokenStream,
}

impl<'a> Container<'a> {
    pub(crate) fn from_syn(cx: &Ctxt, original: &'a DeriveInput) -> Self {
        let attrs = ContainerAttrs::from_syn(cx, &original.attrs);
        let mut indices = 0..;
        let data = match &original.data {
            syn::Data::Struct(data) => Data::Struct(fields(cx, &mut indices, &data.fields)),
            syn::Data::Enum(data) => {
                let variants = data.variants.iter();
                Data::Enum(
                    variants.map(|variant| Variant::from_syn(cx, &mut indices, variant)).collect(),
                )
            }
            syn::Data::Union(data) => Data::Union(data),
        };
        Self { original, attrs, data }
    }

    /// The fields, of every variant if it is an enum.
    pub(crate) fn fields(&self) -> Vec<&Field<'a>> {
        match &self.data {
            Data::Struct(fields) => fields.iter().collect(),
            Data::Enum(variants) => variants.iter().flat_map(|variant| &variant.fields).collect(),
            Data::Union(_) => Vec::new(),
        }
    }

    /// Skips the fields whose attributes were misread: the mistake may have been meant as `skip`.
    pub(crate) fn skip_misread(&mut self) {
        let fields = match &mut self.data {
            Data::Struct(fields) => fields.iter_mut().collect(),
            Data::Enum(variants) => variants.iter_mut().flat_map(|v| &mut v.fields).collect(),
            Data::Union(_) => Vec::new(),
        };
        for field in fields {
            if field.misread {
                field.role = Role::Skip;
            }
        }
    }
}

impl<'a> Variant<'a> {
    fn from_syn(
        cx: &Ctxt,
        indices: &mut impl Iterator<Item = usize>,
        original: &'a syn::Variant,
    ) -> Self {
        let attrs = VariantAttrs::from_syn(cx, &original.attrs);
        let ident = &original.ident;
        let name = Name::new(&attrs.rename, ident.unraw().to_string(), ident);
        Self { original, name, fields: fields(cx, indices, &original.fields) }
    }
}

fn fields<'a>(
    cx: &Ctxt,
    indices: &mut impl Iterator<Item = usize>,
    fields: &'a syn::Fields,
) -> Vec<Field<'a>> {
    let fields = indices.zip(fields.iter().zip(fields.members()));
    fields.map(|(index, (field, member))| Field::from_syn(cx, index, field, member)).collect()
}

impl<'a> Field<'a> {
    fn from_syn(cx: &Ctxt, index: usize, original: &'a syn::Field, member: Member) -> Self {
        let mistakes = cx.count();
        let attrs = FieldAttrs::from_syn(cx, &original.attrs);
        let misread = cx.count() > mistakes;
        let name = match &member {
            Member::Named(ident) => Name::new(&attrs.rename, ident.unraw().to_string(), ident),
            Member::Unnamed(i) => Name::new(&attrs.rename, i.index.to_string(), &original.ty),
        };
        let role = Role::of(&attrs);
        Self { original, index, member, name, attrs, role, misread }
    }

    pub(crate) fn is_skipped(&self) -> bool {
        matches!(self.role, Role::Skip)
    }
}

impl Role {
    fn of(attrs: &FieldAttrs) -> Self {
        if attrs.skip.is_given() {
            return Self::Skip;
        }
        Self::Child(if let Some(scheme) = attrs.scheme.value() {
            Some(Directive::Scheme(scheme.clone()))
        } else if attrs.quantize.is_given() {
            Some(Directive::Quantize)
        } else if attrs.keep.is_given() {
            Some(Directive::Keep)
        } else {
            None
        })
    }
}

impl Name {
    fn new(rename: &Slot<LitStr>, default: String, named: &impl ToTokens) -> Self {
        match rename.value() {
            Some(rename) => Self { value: rename.value(), tokens: rename.to_token_stream() },
            None => Self { value: default, tokens: named.to_token_stream() },
        }
    }
}
