//! The walk over a model's leaves, by reference and in place.

use alloc::boxed::Box;
use alloc::string::String;
use core::any::Any;
use core::fmt::Write;

use super::leaf::StateLeaf;
use super::view::ParamView;
use crate::scheme::{Axis, QuantizationScheme};
use crate::tensor::{Tensor, TensorError};

/// A tree of named leaves: what `#[derive(Module)]` implements.
///
/// The two methods show the children, in the same order and under the same names, to a walker.
/// Everything a model can do is written once on top of them, in [`Module`](crate::Module).
///
/// Besides derived types, these are walked: [`Param`](crate::Param);
/// [`Tensor`](crate::Tensor), a parameter without a storage type of its own; `Option`,
/// `Box`, `Vec`, arrays and tuples of modules, and `BTreeMap<String, _>`; and, as plain constants
/// without parameters, integers, `bool`, `char`, `String`, `&str` and `PhantomData`. Floats are not:
/// a bare `f32` may be a parameter that somebody forgot to wrap, so the compiler asks. Neither are
/// `Rc` and `Arc`: two names for one parameter cannot both be changed in place.
///
/// Implement it by hand for a type that cannot derive it:
///
/// ```
/// use quant::module::{Walk, Walker, WalkerMut};
/// use quant::{Module, Param};
///
/// struct Scale { by: Param<f32>, epsilon: f32 }
///
/// impl Walk for Scale {
///     fn walk(&self, walker: &mut Walker<'_>) {
///         self.by.walk(&mut walker.field("by"));
///     }
///
///     fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
///         self.by.walk_mut(&mut walker.field("by"));
///     }
/// }
///
/// let scale = Scale { by: Param::new(2.0), epsilon: 1e-5 };
/// assert_eq!(scale.params()[0].id, "by");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a module",
    label = "neither a module, nor a parameter, nor a plain constant",
    note = "a parameter is wrapped: `Param<Array2<f32>>`, `Param<Vec<f32>>`, `Param<f32>`",
    note = "a struct or enum of your own derives it: `#[derive(Module)]`",
    note = "what is no part of the model is left out by name: `#[module(skip)]`"
)]
pub trait Walk {
    /// Walks each child with a walker of its name, in declaration order.
    fn walk(&self, walker: &mut Walker<'_>);

    /// Walks each child, to be changed in place, under the same names as [`walk`](Self::walk).
    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>);
}

/// What an attribute on a field says about the parameters below it. The innermost attribute counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Directive {
    /// `#[module(quantize)]`: quantize, whatever the rank.
    Quantize,
    /// `#[module(keep)]`: keep float.
    Keep,
    /// `#[module(scheme = …)]`: quantize, with this scheme.
    Scheme(QuantizationScheme),
}

/// Where a walk stands: the path, and the innermost directive.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The steps joined by dots.
    pub path: &'a str,
    /// The directive of the innermost field that has one.
    pub directive: Option<Directive>,
    /// Whether the leaf is the scale of the parameter or activation above it, in training.
    pub is_scale: bool,
    /// The axis of a weight along which the outputs of its layer lie.
    pub outputs: Axis,
}

/// Receives the leaves of a shared walk.
pub trait Leaves {
    /// Receives a parameter.
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>);

    /// Receives another name for the parameters below a path: `alias` in place of `path`.
    fn alias(&mut self, _path: &str, _alias: &str) {}

    /// Receives a pair of metadata; only records have any.
    fn metadata(&mut self, _key: &str, _value: &str) {}

    /// Receives the saved state of a leaf whose type is unknown; only records have any.
    fn saved_state(&mut self, _site: Site<'_>, _kind: &str, _data: &[u8]) {}

    /// Receives a state leaf.
    fn state(&mut self, _site: Site<'_>, _leaf: &dyn StateLeaf) {}

    /// Receives the attachment of a parameter, after the parameter and before its own leaves.
    fn attachment(&mut self, _site: Site<'_>, _attachment: &dyn Attachment) {}
}

/// Receives the leaves of a walk in place.
pub trait LeavesMut {
    /// Receives a parameter.
    fn param(&mut self, site: Site<'_>, param: &mut dyn ParamMut);

    /// Receives a state leaf.
    fn state(&mut self, _site: Site<'_>, _leaf: &mut dyn StateLeaf) {}

    /// Receives a layer that holds a norm, before the layer's parameters.
    fn foldable(&mut self, _site: Site<'_>, _layer: &mut dyn FoldNorm) {}
}

/// A layer with a norm that can become a part of its weights.
pub trait FoldNorm {
    /// Multiplies the norm into the weights.
    ///
    /// # Errors
    /// A weight that is quantized, or a norm of another number of channels.
    fn fold(&mut self) -> Result<(), TensorError>;
}

/// A parameter to be changed in place, whatever its storage.
pub trait ParamMut {
    /// The parameter by reference.
    fn view(&self) -> ParamView<'_>;

    /// Moves the tensor out; until one is [`put`](Self::put) back the parameter is empty.
    fn take(&mut self) -> Tensor;

    /// Moves a tensor in.
    ///
    /// # Errors
    /// The storage cannot hold the tensor.
    fn put(&mut self, tensor: Tensor) -> Result<(), TensorError>;

    /// The attachment, if there is one.
    fn attached(&self) -> Option<&dyn Attachment>;

    /// The attachment to be changed, if there is one.
    fn attached_mut(&mut self) -> Option<&mut dyn Attachment>;

    /// Attaches `attachment`, or drops the one there is.
    ///
    /// # Errors
    /// The parameter is quantized, or has no storage type of its own.
    fn attach(&mut self, attachment: Option<Box<dyn Attachment>>) -> Result<(), TensorError>;
}

/// What a crate on top of this one keeps beside a float parameter: training, for example, its
/// scales and its phase.
///
/// The parameter owns its attachment, and has at most one. Walks visit it after the parameter,
/// below the parameter's path, so that its own parameters are saved, loaded and optimized. Clones
/// of the parameter get [a clone](Self::boxed_clone). It is dropped when the parameter is
/// quantized or another attachment takes its place; changing the float value keeps it.
pub trait Attachment: Walk + Any + Send + Sync {
    /// The attachment of a clone of the parameter.
    fn boxed_clone(&self) -> Box<dyn Attachment>;
}

impl dyn Attachment {
    /// The attachment as a `T`, if it is one.
    pub fn downcast_ref<T: Attachment>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }

    /// The attachment as a `T` to be changed, if it is one.
    pub fn downcast_mut<T: Attachment>(&mut self) -> Option<&mut T> {
        (self as &mut dyn Any).downcast_mut()
    }
}

macro_rules! walker {
    ($(#[$doc:meta])* $name:ident, $leaves:ident) => {
        $(#[$doc])*
        pub struct $name<'a> {
            /// Each child's walker appends its name, and removes it when dropped.
            path: &'a mut String,
            outer: usize,
            directive: Option<Directive>,
            is_scale: bool,
            outputs: Axis,
            leaves: &'a mut (dyn $leaves + 'a),
        }

        impl<'a> $name<'a> {
            fn new(path: &'a mut String, leaves: &'a mut (dyn $leaves + 'a)) -> Self {
                Self {
                    outer: path.len(),
                    path,
                    directive: None,
                    is_scale: false,
                    outputs: Axis::FIRST,
                    leaves,
                }
            }

            /// The walker for the child of this name; a name with dots is several steps.
            pub fn field(&mut self, name: &str) -> $name<'_> {
                self.step(name)
            }

            /// The walker for the child of this name, with a directive for the parameters below.
            pub fn field_with(&mut self, name: &str, directive: Directive) -> $name<'_> {
                let mut walker = self.step(name);
                walker.directive = Some(directive);
                walker
            }

            /// The walker for a weight whose outputs lie along `axis`, in place of the first axis.
            ///
            /// A plan puts the channels of a scheme that has them along the first axis, the default, along
            /// `axis`. It warns of other axes.
            pub fn field_with_outputs(&mut self, name: &str, axis: Axis) -> $name<'_> {
                let mut walker = self.step(name);
                walker.outputs = axis;
                walker
            }

            /// The walker for the child at this position or key.
            pub(crate) fn step(&mut self, step: impl core::fmt::Display) -> $name<'_> {
                let outer = self.path.len();
                let dot = if outer == 0 { "" } else { "." };
                write!(self.path, "{dot}{step}").expect("a string takes what is written to it");
                $name {
                    path: self.path,
                    outer,
                    directive: self.directive,
                    is_scale: false,
                    outputs: Axis::FIRST,
                    leaves: self.leaves,
                }
            }

            /// The walker for a leaf that an attachment keeps below its parameter; it stays float.
            #[doc(hidden)]
            pub fn attached(&mut self, name: &str) -> $name<'_> {
                self.field_with(name, Directive::Keep)
            }

            /// The walker for the scale that training keeps below a parameter or an activation.
            #[doc(hidden)]
            pub fn scale(&mut self) -> $name<'_> {
                let mut walker = self.attached("scale");
                walker.is_scale = true;
                walker
            }

            /// Where the walk stands, and what receives its leaves.
            fn site(&mut self) -> (Site<'_>, &mut (dyn $leaves + 'a)) {
                let site = Site {
                    path: self.path,
                    directive: self.directive,
                    is_scale: self.is_scale,
                    outputs: self.outputs,
                };
                (site, self.leaves)
            }
        }

        impl Drop for $name<'_> {
            fn drop(&mut self) {
                self.path.truncate(self.outer);
            }
        }
    };
}

walker! {
    /// Stands at a module of a walk by reference; see [`Walk::walk`].
    Walker, Leaves
}

walker! {
    /// Stands at a module of a walk in place; see [`Walk::walk_mut`].
    WalkerMut, LeavesMut
}

/// Walks the whole of `module` by reference.
pub fn walk(module: &(impl Walk + ?Sized), leaves: &mut dyn Leaves) {
    module.walk(&mut Walker::new(&mut String::new(), leaves));
}

/// Walks the whole of `module` in place.
pub fn walk_mut(module: &mut (impl Walk + ?Sized), leaves: &mut dyn LeavesMut) {
    module.walk_mut(&mut WalkerMut::new(&mut String::new(), leaves));
}

impl Walker<'_> {
    /// Declares another name for the child of this name: `#[module(alias = "…")]`.
    ///
    /// A record may have the parameters below the child under either name, or under both if they are
    /// equal. They are walked, planned and saved under the first name alone.
    pub fn alias(&mut self, name: &str, alias: &str) {
        let dot = if self.path.is_empty() { "" } else { "." };
        let [path, alias] = [name, alias].map(|name| alloc::format!("{}{dot}{name}", self.path));
        self.leaves.alias(&path, &alias);
    }

    /// Shows a parameter at the path of this walker.
    pub(crate) fn param(&mut self, param: ParamView<'_>) {
        let (site, leaves) = self.site();
        leaves.param(site, param);
    }

    /// Shows a state leaf at the path of this walker.
    pub fn state(&mut self, leaf: &dyn StateLeaf) {
        let (site, leaves) = self.site();
        leaves.state(site, leaf);
    }

    /// Shows the attachment of the parameter at the path of this walker, and what it keeps.
    pub(crate) fn attachment(&mut self, attachment: &dyn Attachment) {
        let (site, leaves) = self.site();
        leaves.attachment(site, attachment);
        attachment.walk(self);
    }

    #[cfg(feature = "std")]
    pub(crate) fn metadata(&mut self, key: &str, value: &str) {
        self.leaves.metadata(key, value);
    }

    #[cfg(feature = "std")]
    pub(crate) fn saved_state(&mut self, kind: &str, data: &[u8]) {
        let (site, leaves) = self.site();
        leaves.saved_state(site, kind, data);
    }
}

impl WalkerMut<'_> {
    /// Shows a parameter at the path of this walker.
    pub(crate) fn param(&mut self, param: &mut dyn ParamMut) {
        let (site, leaves) = self.site();
        leaves.param(site, param);
    }

    /// Shows a state leaf at the path of this walker.
    pub fn state(&mut self, leaf: &mut dyn StateLeaf) {
        let (site, leaves) = self.site();
        leaves.state(site, leaf);
    }

    /// Shows a layer that holds a norm.
    #[doc(hidden)]
    pub fn foldable(&mut self, layer: &mut dyn FoldNorm) {
        let (site, leaves) = self.site();
        leaves.foldable(site, layer);
    }
}
