//! Models as trees of parameters: the trait that `#[derive(Module)]` implements, and its walk.

mod containers;
mod id;
mod map;
mod param;
mod visit;
mod walk;

pub use id::ParamId;
pub use map::{MapError, ModuleMapper, TryModuleMapper};
pub use param::{Param, ParamView};
pub use visit::{ModuleVisitor, ParamInfo};
pub use walk::{Directive, Walker, WalkerMut};

#[cfg(feature = "std")]
pub(crate) use self::{map::for_each_mut, visit::for_each, walk::Site};

use alloc::vec::Vec;

/// A tree of named parameters.
///
/// Derive it; a model is then visited, mapped, quantized, saved and loaded by the methods below.
/// The two required methods show the children, in order and under their names, to a walker;
/// everything else is written once, here.
///
/// Besides derived types, these are modules: [`Param`]; `Option`, `Box`, `Vec`, arrays and tuples
/// of modules, and `BTreeMap<String, _>`; and, as plain constants that hold no parameter,
/// integers, `bool`, `char`, `String`, `&str` and `PhantomData`. Floats are not: a bare
/// `f32` may be a parameter somebody forgot to wrap, so the compiler asks. Neither are `Rc` and
/// `Arc`: two names for one parameter cannot both be mapped in place.
///
/// ```
/// use quant::{Module, Param};
///
/// #[derive(Module)]
/// struct Dense { weight: Param<[[f32; 2]; 2]>, bias: Param<[f32; 2]> }
///
/// #[derive(Module)]
/// struct Mlp { layers: Vec<Dense>, #[module(skip)] name: String }
///
/// let dense = || Dense { weight: Param::new([[1.0; 2]; 2]), bias: Param::new([0.0; 2]) };
/// let mlp = Mlp { layers: vec![dense(), dense()], name: "tiny".into() };
/// let paths: Vec<_> = mlp.params().into_iter().map(|param| param.id.to_string()).collect();
/// assert_eq!(paths, ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]);
/// assert_eq!(mlp.num_params(), 12);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a module",
    label = "neither a module, nor a parameter, nor a plain constant",
    note = "a parameter is wrapped: `Param<Array2<f32>>`, `Param<Vec<f32>>`, `Param<f32>`",
    note = "a struct or enum of your own derives it: `#[derive(Module)]`",
    note = "what is no part of the model is left out by name: `#[module(skip)]`"
)]
pub trait Module {
    /// Shows each child to `walker`, in declaration order.
    fn walk(&self, walker: &mut Walker<'_>);

    /// Shows each child to `walker`, in the same order and under the same names as
    /// [`walk`](Self::walk), to be changed in place.
    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>);

    /// Shows every parameter to `visitor`, in declaration order.
    fn visit(&self, visitor: &mut dyn ModuleVisitor) {
        visit::visit(self, visitor);
    }

    /// Replaces every parameter by what `mapper` makes of it.
    ///
    /// # Panics
    /// If the mapper returns a tensor that the parameter's storage cannot hold, such as one of
    /// another rank. [`try_map`](Self::try_map) returns an error instead.
    #[must_use]
    fn map(self, mapper: &mut dyn ModuleMapper) -> Self
    where
        Self: Sized,
    {
        map::map(self, mapper)
    }

    /// Replaces every parameter by what `mapper` makes of it, up to the first error.
    ///
    /// # Errors
    /// The mapper's own, or a tensor that the parameter's storage cannot hold, with the path.
    fn try_map<E>(self, mapper: &mut dyn TryModuleMapper<Error = E>) -> Result<Self, MapError<E>>
    where
        Self: Sized,
    {
        map::try_map(self, mapper)
    }

    /// Makes every quantized parameter float again.
    #[must_use]
    fn dequantize(self) -> Self
    where
        Self: Sized,
    {
        self.map(&mut map::Dequantize)
    }

    /// The number of scalar parameters.
    fn num_params(&self) -> usize {
        self.params().iter().map(|param| param.shape.iter().product::<usize>()).sum()
    }

    /// The path, shape and type of every parameter, in declaration order.
    fn params(&self) -> Vec<ParamInfo> {
        visit::params(self)
    }

    /// Quantizes the parameters as `planner`, a [`Quantizer`](crate::Quantizer) or a
    /// [`Recipe`](crate::Recipe), decides.
    ///
    /// Parameters that are quantized already, or have no elements, stay as they are. To see the
    /// decisions first, make a [`Plan`](crate::Plan).
    ///
    /// # Errors
    /// See [`QuantizeError`](crate::QuantizeError); all of it is found before anything is changed.
    #[cfg(feature = "std")]
    fn quantize_weights<P: crate::Planner + ?Sized>(
        self,
        planner: &mut P,
    ) -> Result<Self, crate::QuantizeError>
    where
        Self: Sized,
    {
        crate::quantize::quantize_weights(planner, self)
    }
}
