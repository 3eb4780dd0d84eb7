//! `#[derive(Module)]` for the `quant` crate, which re-exports it: depend on that.
//!
//! Data flows in one direction: from syn's tree to our own (`ast`, whose attributes `attr` reads),
//! through the rules that involve several attributes (`check`), to the impl (`expand`, with the bounds
//! of `bound`). Mistakes are collected in `ctxt` and reported together.

mod ast;
mod attr;
mod bound;
mod check;
mod ctxt;
mod expand;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Implements `quant::module::Walk`, the walk over the parameters of a struct or enum. The type is a
/// `quant::Module` by that.
///
/// ```
/// use quant::{Module, Param};
///
/// #[derive(Module)]
/// struct Dense {
///     weight: Param<[[f32; 2]; 2]>,
///     bias: Param<[f32; 2]>,
///     inputs: usize,
/// }
///
/// #[derive(Module)]
/// enum Layer {
///     Identity,
///     Dense(Dense),
///     Residual { inner: Box<Layer>, scale: Param<f32> },
/// }
/// #
/// # let dense = Dense { weight: Param::new([[0.0; 2]; 2]), bias: Param::new([0.0; 2]), inputs: 2 };
/// # let layer = Layer::Residual { inner: Box::new(Layer::Dense(dense)), scale: Param::new(1.0) };
/// # let paths: Vec<_> = layer.params().into_iter().map(|info| info.id.to_string()).collect();
/// # assert_eq!(paths[1..], ["Residual.inner.Dense.0.bias", "Residual.scale"]);
/// ```
///
/// # Fields
///
/// The children of a struct are its fields, in order and under their names; of a tuple struct, under
/// their positions; of a variant, under the variant's name, a dot and the field's name or position.
/// `r#type` is named `type`.
///
/// A field that is not skipped has a type that implements `Module`: a `Param`, a type that derives
/// it, a container of such, or a plain constant (an integer, `bool`, `char`, a string,
/// `PhantomData`). Nothing is decided from how the type is spelled, and no field is left out that
/// does not say so. A float outside a `Param` is an error, and so is a type of another crate:
///
/// ```compile_fail
/// # use quant::{Module, Param};
/// #[derive(Module)]
/// struct Norm {
///     weight: Param<[f32; 2]>,
///     epsilon: f32, // `f32` is not a module
/// }
/// # fn main() {}
/// ```
///
/// # Attributes
///
/// On a field:
///
/// | attribute | the field |
/// | --- | --- |
/// | [`skip`](#skip) | is no part of the model |
/// | [`rename = "…"`](#rename) | has another name |
/// | [`alias = "…"`](#alias) | may have another name in a record |
/// | [`quantize`](#quantize-and-keep) | has its parameters quantized, whatever their rank |
/// | [`keep`](#quantize-and-keep) | has its parameters kept float |
/// | [`scheme = …`](#scheme) | has its parameters quantized so |
///
/// On a variant: [`rename = "…"`](#rename). On the struct or enum: [`crate = …`](#crate).
///
/// Several stand in one `#[module(…)]` with commas between them, or in several. Each may be given
/// once.
///
/// ## `skip`
///
/// On a field. It is not walked, may have any type, and keeps its value in a map and a load.
///
/// ```
/// # use quant::{Module, Param};
/// #[derive(Module)]
/// struct Norm {
///     weight: Param<[f32; 2]>,
///     #[module(skip)]
///     epsilon: f32,
/// }
/// ```
///
/// Nothing else can be said of a skipped field:
///
/// ```compile_fail
/// # use quant::{Module, Param};
/// #[derive(Module)]
/// struct Norm {
///     #[module(skip, keep)] // a skipped field is not walked: remove `keep` or `skip`
///     epsilon: f32,
/// }
/// # fn main() {}
/// ```
///
/// ## `rename`
///
/// On a field or variant. It replaces the name, for checkpoints that others wrote. A name with dots is
/// several steps of the path.
///
/// ```
/// # use quant::{Module, Param};
/// #[derive(Module)]
/// struct Norm {
///     #[module(rename = "gamma")]
///     weight: Param<[f32; 2]>,
///     #[module(rename = "affine.beta")]
///     bias: Param<[f32; 2]>,
/// }
/// ```
///
/// No name and no step is empty, and no two fields of one struct or variant, and no two variants, have
/// the same name:
///
/// ```compile_fail
/// # use quant::{Module, Param};
/// #[derive(Module)]
/// struct Norm {
///     weight: Param<[f32; 2]>,
///     #[module(rename = "weight")] // two fields are named `weight`: rename one
///     gamma: Param<[f32; 2]>,
/// }
/// # fn main() {}
/// ```
///
/// ## `alias`
///
/// On a field whose parameters are used twice, and that a checkpoint may have under two names. A record
/// is loaded if it has the parameters under either name, or under both with the same values; they are
/// planned, quantized and saved once, under the name of the field. Like the name, an alias is a path
/// from the struct.
///
/// ```
/// # use quant::{BincodeRecorder, Module, Param};
/// #[derive(Module)]
/// struct Embedding {
///     weight: Param<Vec<f32>>,
/// }
///
/// /// `forward` looks up rows of the weight, and multiplies by it in the end.
/// #[derive(Module)]
/// struct Model {
///     #[module(alias = "lm_head")]
///     embed_tokens: Embedding,
/// }
/// # #[derive(Module)]
/// # struct Other { lm_head: Embedding }
/// # let other = Other { lm_head: Embedding { weight: Param::new(vec![1.0, 2.0]) } };
/// # let saved = other.save_bytes(&BincodeRecorder::default())?;
///
/// // A record with `lm_head.weight` only.
/// let model = Model { embed_tokens: Embedding { weight: Param::new(vec![0.0; 2]) } };
/// let model = model.load_bytes(&saved, &BincodeRecorder::default())?;
/// assert_eq!(*model.embed_tokens.weight.value(), [1.0, 2.0]);
/// assert_eq!(model.params()[0].id, "embed_tokens.weight");
/// # Ok::<(), quant::RecordError>(())
/// ```
///
/// The name of a field is not an alias:
///
/// ```compile_fail
/// # use quant::{Module, Param};
/// #[derive(Module)]
/// struct Model {
///     #[module(alias = "head")] // `head` is a field: an alias is another name
///     embedding: Param<Vec<f32>>,
///     head: Param<Vec<f32>>,
/// }
/// # fn main() {}
/// ```
///
/// ## `quantize` and `keep`
///
/// On a field. By default a parameter of rank 2 or more is quantized, and one of rank 0 or 1 (a bias,
/// a norm) is kept float. These overrule the rank for every parameter below the field, up to an
/// attribute on a field further in. A rule of a recipe overrules all of them.
///
/// ```
/// # use quant::{Module, Param};
/// # #[derive(Module)] struct Head { weight: Param<[[f32; 2]; 2]> }
/// #[derive(Module)]
/// struct Net {
///     #[module(quantize)]
///     table: Param<Vec<f32>>,
///     #[module(keep)]
///     head: Head,
/// }
/// ```
///
/// ```compile_fail
/// # use quant::{Module, Param};
/// #[derive(Module)]
/// struct Net {
///     #[module(keep, quantize)] // a field is kept float or quantized: remove `quantize` or `keep`
///     table: Param<Vec<f32>>,
/// }
/// # fn main() {}
/// ```
///
/// ## `scheme`
///
/// On a field. Like `quantize`, which may stand beside it and adds nothing, with a scheme of its own:
/// a name, as `QuantizationScheme::from_name` reads it, or a constant expression.
///
/// ```
/// # use quant::{Module, Param, QuantizationScheme, QuantizationType};
/// const INT4: QuantizationScheme = QuantizationScheme::PerTensorSymmetric(QuantizationType::QInt4);
///
/// #[derive(Module)]
/// struct Net {
///     #[module(scheme = "per-channel-symmetric-int8:axis=-1")]
///     embedding: Param<Vec<f32>>,
///     #[module(scheme = INT4)]
///     head: Param<Vec<f32>>,
/// }
/// ```
///
/// Both are checked when the model is compiled:
///
/// ```compile_fail
/// # use quant::{Module, Param};
/// #[derive(Module)]
/// struct Net {
///     #[module(scheme = "int9")] // not the name of a quantization scheme, which is …
///     head: Param<Vec<f32>>,
/// }
/// # fn main() {}
/// ```
///
/// The expression stands outside the impl: it cannot name the item's generic parameters, nor `Self`.
///
/// ## `crate`
///
/// On the struct or enum. Where the runtime is, when it is not `::quant`: a path, bare or as a string.
///
/// ```
/// extern crate quant as runtime;
///
/// #[derive(runtime::Module)]
/// #[module(crate = runtime)]
/// struct Dense {
///     weight: runtime::Param<Vec<f32>>,
/// }
/// ```
///
/// ```compile_fail
/// # use quant::{Module, Param};
/// #[derive(Module)]
/// struct Dense {
///     #[module(crate = quant)] // `crate` belongs on the struct or enum
///     weight: Param<Vec<f32>>,
/// }
/// # fn main() {}
/// ```
///
/// # Generic types
///
/// The impl has the bounds of the item and one more for each field that is walked and whose type
/// mentions a type parameter: that this type is a module. So the `T` of a `Param<T>` has the bounds of
/// the item, the `L` of a `Vec<L>` has to be a module, and a `PhantomData<B>` needs no bound on `B`.
///
/// ```
/// # use quant::{FloatTensor, Module, Param};
/// #[derive(Module)]
/// struct Residual<L, T: FloatTensor> {
///     layers: Vec<L>,      // Vec<L>: Module
///     scale: Param<T>,     // Param<T>: Module
///     inner: Option<Box<Residual<L, T>>>,
/// }
/// ```
///
/// For a field whose type mentions the item itself, such as `inner`, a bound would be circular. In its
/// place are bounds for those type arguments, elements and items of the type that mention a parameter
/// but not the item. The item is recognized by its own name or `Self`, not behind an alias, and two
/// generic items that contain each other cannot both derive `Module`.
///
/// # What is written
///
/// One `impl` of `quant::module::Walk`. Both methods destructure `self` without leaving out a field. For
/// a struct of three layers that is 23 lines of `rustc -Zunpretty=expanded`. The code needs no
/// prelude, and its own names begin with two underscores.
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    expand::derive(input.into()).into()
}
