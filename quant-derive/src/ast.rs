//! The item as the derive sees it: each node with its attributes, and the role of each field.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{DataUnion, DeriveInput, LitStr, Member, Type};

use crate::attr::{self, ContainerAttrs, FieldAttrs, Scheme, Slot, VariantAttrs};
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
    /// The position among all fields of the item.
    pub(crate) index: usize,
    pub(crate) ty: &'a Type,
    pub(crate) member: Member,
    pub(crate) name: Name,
    pub(crate) attrs: FieldAttrs,
}

/// What a walk does with a field.
pub(crate) enum Role<'a> {
    Skip,
    /// Walks it; whether it is a parameter, a module or a constant is for its type to say.
    Child(Option<Directive<'a>>),
}

/// What the parameters below a field are told.
pub(crate) enum Directive<'a> {
    Quantize,
    Keep,
    Scheme(&'a Scheme),
}

/// What a field or variant is called in a path, and the tokens that say so.
pub(crate) struct Name {
    pub(crate) value: String,
    pub(crate) tokens: TokenStream,
}

impl<'a> Container<'a> {
    pub(crate) fn from_syn(cx: &Ctxt, original: &'a DeriveInput) -> Self {
        attr::refuse_on_generics(cx, &original.generics);
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
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field<'a>> {
        let (fields, variants) = match &self.data {
            Data::Struct(fields) => (fields.as_slice(), [].as_slice()),
            Data::Enum(variants) => ([].as_slice(), variants.as_slice()),
            Data::Union(_) => ([].as_slice(), [].as_slice()),
        };
        fields.iter().chain(variants.iter().flat_map(|variant| &variant.fields))
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
        let attrs = FieldAttrs::from_syn(cx, &original.attrs);
        let ty = &original.ty;
        let name = match &member {
            Member::Named(ident) => Name::new(&attrs.rename, ident.unraw().to_string(), ident),
            Member::Unnamed(index) => Name::new(&attrs.rename, index.index.to_string(), ty),
        };
        Self { index, ty, member, name, attrs }
    }

    pub(crate) fn role(&self) -> Role<'_> {
        let attrs = &self.attrs;
        if attrs.skip.get().is_some() {
            return Role::Skip;
        }
        Role::Child(if let Some(scheme) = attrs.scheme.get() {
            Some(Directive::Scheme(&scheme.value))
        } else if attrs.quantize.get().is_some() {
            Some(Directive::Quantize)
        } else if attrs.keep.get().is_some() {
            Some(Directive::Keep)
        } else {
            None
        })
    }

    pub(crate) fn is_skipped(&self) -> bool {
        matches!(self.role(), Role::Skip)
    }
}

impl Name {
    fn new(rename: &Slot<LitStr>, default: String, named: &impl ToTokens) -> Self {
        match rename.get() {
            Some(rename) => {
                Self { value: rename.value.value(), tokens: rename.value.to_token_stream() }
            }
            None => Self { value: default, tokens: named.to_token_stream() },
        }
    }
}
