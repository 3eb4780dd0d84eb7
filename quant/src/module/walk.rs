//! The walk over a model's parameters, by reference and in place.

use alloc::string::String;
use core::fmt::Write;

use super::Module;
use super::param::{ParamMut, ParamView};
#[cfg(feature = "std")]
use crate::activation::ActivationQuantizer;
use crate::scheme::QuantizationScheme;

/// What an attribute on a field asks of the parameters below it.
///
/// The innermost one wins.
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
pub(crate) struct Site<'a> {
    pub(crate) path: &'a str,
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "plans need `std`"))]
    pub(crate) directive: Option<Directive>,
    /// Whether it is the scale of the parameter above, in training.
    #[cfg(feature = "candle")]
    pub(crate) is_step_size: bool,
}

/// Takes what a walk by reference comes by.
pub(crate) trait Leaves {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>);

    /// A pair of the user's; only records have any.
    #[cfg(feature = "std")]
    fn metadata(&mut self, _key: &str, _value: &str) {}

    /// What a module keeps besides parameters, in a format named `kind`.
    #[cfg(feature = "std")]
    fn state(&mut self, _site: Site<'_>, _kind: &str, _data: &[u8]) {}

    #[cfg(feature = "std")]
    fn activation(&mut self, _site: Site<'_>, _activation: &ActivationQuantizer) {}
}

/// Takes what a walk in place comes by.
pub(crate) trait LeavesMut {
    fn param(&mut self, site: Site<'_>, param: &mut dyn ParamMut);

    #[cfg(feature = "std")]
    fn activation(&mut self, _site: Site<'_>, _activation: &mut ActivationQuantizer) {}

    /// A layer that has a norm of its own to fold, before its parameters.
    #[cfg(feature = "nn")]
    fn foldable(&mut self, _site: Site<'_>, _layer: &mut dyn Fold) {}
}

/// A layer with a norm that can become a part of its weights.
#[cfg(feature = "nn")]
pub(crate) trait Fold {
    fn fold(&mut self) -> Result<(), crate::tensor::TensorError>;
}

macro_rules! walker {
    ($(#[$doc:meta])* $name:ident, $leaves:ident) => {
        $(#[$doc])*
        pub struct $name<'a> {
            /// Grown by each child's walker, and cut back when that is dropped.
            path: &'a mut String,
            outer: usize,
            directive: Option<Directive>,
            #[cfg(feature = "candle")]
            is_step_size: bool,
            leaves: &'a mut (dyn $leaves + 'a),
        }

        impl<'a> $name<'a> {
            fn new(path: &'a mut String, leaves: &'a mut (dyn $leaves + 'a)) -> Self {
                Self {
                    outer: path.len(),
                    path,
                    directive: None,
                    #[cfg(feature = "candle")]
                    is_step_size: false,
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

            /// The walker for the child at this position or key.
            pub(crate) fn step(&mut self, step: impl core::fmt::Display) -> $name<'_> {
                let outer = self.path.len();
                let dot = if outer == 0 { "" } else { "." };
                write!(self.path, "{dot}{step}").expect("a string takes what is written to it");
                $name {
                    path: self.path,
                    outer,
                    directive: self.directive,
                    #[cfg(feature = "candle")]
                    is_step_size: false,
                    leaves: self.leaves,
                }
            }

            /// The walker for what training keeps below a parameter or activation; it stays float.
            #[cfg(feature = "candle")]
            pub(crate) fn kept(&mut self, name: &str) -> $name<'_> {
                self.field_with(name, Directive::Keep)
            }

            /// The walker for the scale that training keeps.
            #[cfg(feature = "candle")]
            pub(crate) fn step_size(&mut self) -> $name<'_> {
                let mut walker = self.kept("scale");
                walker.is_step_size = true;
                walker
            }

            /// Where the walk stands, and who wants to know.
            fn site(&mut self) -> (Site<'_>, &mut (dyn $leaves + 'a)) {
                let site = Site {
                    path: self.path,
                    directive: self.directive,
                    #[cfg(feature = "candle")]
                    is_step_size: self.is_step_size,
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
    /// Stands at a module of a walk by reference; see [`Module::walk`].
    Walker, Leaves
}

walker! {
    /// Stands at a module of a walk in place; see [`Module::walk_mut`].
    WalkerMut, LeavesMut
}

/// Walks the whole of `module` by reference.
pub(crate) fn walk(module: &(impl Module + ?Sized), leaves: &mut dyn Leaves) {
    module.walk(&mut Walker::new(&mut String::new(), leaves));
}

/// Walks the whole of `module` in place.
pub(crate) fn walk_mut(module: &mut (impl Module + ?Sized), leaves: &mut dyn LeavesMut) {
    module.walk_mut(&mut WalkerMut::new(&mut String::new(), leaves));
}

impl Walker<'_> {
    pub(crate) fn param(&mut self, param: ParamView<'_>) {
        let (site, leaves) = self.site();
        leaves.param(site, param);
    }

    #[cfg(feature = "std")]
    pub(crate) fn metadata(&mut self, key: &str, value: &str) {
        self.leaves.metadata(key, value);
    }

    #[cfg(feature = "std")]
    pub(crate) fn state(&mut self, kind: &str, data: &[u8]) {
        let (site, leaves) = self.site();
        leaves.state(site, kind, data);
    }

    #[cfg(feature = "std")]
    pub(crate) fn activation(&mut self, activation: &ActivationQuantizer) {
        let (site, leaves) = self.site();
        leaves.activation(site, activation);
    }
}

impl WalkerMut<'_> {
    pub(crate) fn param(&mut self, param: &mut dyn ParamMut) {
        let (site, leaves) = self.site();
        leaves.param(site, param);
    }

    #[cfg(feature = "std")]
    pub(crate) fn activation(&mut self, activation: &mut ActivationQuantizer) {
        let (site, leaves) = self.site();
        leaves.activation(site, activation);
    }

    #[cfg(feature = "nn")]
    pub(crate) fn foldable(&mut self, layer: &mut dyn Fold) {
        let (site, leaves) = self.site();
        leaves.foldable(site, layer);
    }
}
