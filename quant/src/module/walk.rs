//! The walk over a model's parameters, by reference and in place.

use alloc::string::String;
use core::fmt::Write;

use super::Module;
use super::param::{ParamMut, ParamView};
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
    pub(crate) directive: Option<Directive>,
}

/// The path of a walk, grown and cut back as it goes.
#[derive(Default)]
struct Cursor {
    path: String,
    directive: Option<Directive>,
}

impl Cursor {
    fn site(&self) -> Site<'_> {
        Site { path: &self.path, directive: self.directive }
    }

    /// Appends a step; the length before it undoes that.
    fn enter(&mut self, step: impl core::fmt::Display) -> usize {
        let before = self.path.len();
        let dot = if before == 0 { "" } else { "." };
        write!(self.path, "{dot}{step}").expect("a string takes what is written to it");
        before
    }

    fn leave(&mut self, before: usize) {
        self.path.truncate(before);
    }
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
}

/// Takes what a walk in place comes by.
pub(crate) trait LeavesMut {
    fn param(&mut self, site: Site<'_>, param: &mut dyn ParamMut);
}

macro_rules! walker {
    ($(#[$doc:meta])* $name:ident, $leaves:ident, $walk:ident, $child:ty) => {
        $(#[$doc])*
        pub struct $name<'a> {
            cursor: Cursor,
            leaves: &'a mut dyn $leaves,
        }

        impl<'a> $name<'a> {
            pub(crate) fn new(leaves: &'a mut dyn $leaves) -> Self {
                Self { cursor: Cursor::default(), leaves }
            }

            /// Walks a child under this name; a name with dots is several steps of the path.
            pub fn field<M: Module + ?Sized>(&mut self, name: &str, child: $child) {
                self.step(name, child);
            }

            /// Walks a child under this name, with a directive for the parameters below it.
            pub fn field_with<M: Module + ?Sized>(
                &mut self,
                name: &str,
                directive: Directive,
                child: $child,
            ) {
                let outer = self.cursor.directive.replace(directive);
                self.step(name, child);
                self.cursor.directive = outer;
            }

            /// Walks a child under its position or key.
            pub(crate) fn step<M: Module + ?Sized>(
                &mut self,
                step: impl core::fmt::Display,
                child: $child,
            ) {
                let before = self.cursor.enter(step);
                child.$walk(self);
                self.cursor.leave(before);
            }
        }
    };
}

walker! {
    /// Shows a model's children by reference; see [`Module::walk`].
    Walker, Leaves, walk, &M
}

walker! {
    /// Shows a model's children to be changed in place; see [`Module::walk_mut`].
    WalkerMut, LeavesMut, walk_mut, &mut M
}

impl Walker<'_> {
    pub(crate) fn param(&mut self, param: ParamView<'_>) {
        self.leaves.param(self.cursor.site(), param);
    }

    #[cfg(feature = "std")]
    pub(crate) fn metadata(&mut self, key: &str, value: &str) {
        self.leaves.metadata(key, value);
    }

    #[cfg(feature = "std")]
    pub(crate) fn state(&mut self, kind: &str, data: &[u8]) {
        self.leaves.state(self.cursor.site(), kind, data);
    }
}

impl WalkerMut<'_> {
    pub(crate) fn param(&mut self, param: &mut dyn ParamMut) {
        self.leaves.param(self.cursor.site(), param);
    }
}
