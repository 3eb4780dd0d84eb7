//! Replacing parameters.

use core::convert::Infallible;
use core::fmt;

use super::id::ParamId;
use super::leaf::StateLeaf;
use super::walk::{LeavesMut, ParamMut, Site, Walk, walk_mut};
use crate::tensor::{Tensor, TensorError};

/// Replaces the parameters of a model one by one.
///
/// ```
/// use quant::{Module, ModuleMapper, Param, ParamId, Tensor};
///
/// struct Dequantize {}
/// impl ModuleMapper for Dequantize {
///     fn map_float(&mut self, _id: ParamId, tensor: Tensor) -> Tensor { tensor.dequantize() }
/// }
///
/// let param = Param::new([1.0f32, 2.0]).map(&mut Dequantize {});
/// assert_eq!(*param.value(), [1.0, 2.0]);
/// ```
pub trait ModuleMapper {
    /// Makes one parameter, float or quantized, into another of the same shape.
    fn map_float(&mut self, id: ParamId, tensor: Tensor) -> Tensor;
}

/// Replaces the parameters of a model one by one, up to the first error.
pub trait TryModuleMapper {
    /// The error that ends the map.
    type Error;

    /// Makes one parameter, float or quantized, into another of the same shape.
    ///
    /// # Errors
    /// Any error ends the map. It reaches the caller with the parameter's path.
    fn try_map_float(&mut self, id: ParamId, tensor: Tensor) -> Result<Tensor, Self::Error>;
}

/// A parameter could not be replaced.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MapError<E> {
    /// The mapper failed.
    Mapper {
        /// The path of the parameter.
        id: ParamId,
        /// The mapper's error.
        source: E,
    },
    /// The mapper returned a tensor of another shape, or one that the parameter's storage cannot
    /// hold.
    Tensor {
        /// The path of the parameter.
        id: ParamId,
        /// Why the tensor does not fit.
        source: TensorError,
    },
}

impl<E> fmt::Display for MapError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapper { id, .. } => write!(f, "{id}: the mapper failed"),
            Self::Tensor { id, .. } => write!(f, "{id}: the mapped tensor does not fit"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for MapError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Mapper { source, .. } => Some(source),
            Self::Tensor { source, .. } => Some(source),
        }
    }
}

/// Calls `f` with every parameter of `module`, to be changed in place.
pub fn for_each_mut(module: &mut (impl Walk + ?Sized), f: impl FnMut(Site<'_>, &mut dyn ParamMut)) {
    struct Each<F>(F);
    impl<F: FnMut(Site<'_>, &mut dyn ParamMut)> LeavesMut for Each<F> {
        fn param(&mut self, site: Site<'_>, param: &mut dyn ParamMut) {
            (self.0)(site, param);
        }
    }
    walk_mut(module, &mut Each(f));
}

/// Calls `f` with every state leaf of `module`, to be changed in place.
pub fn for_each_state_mut(
    module: &mut (impl Walk + ?Sized),
    f: impl FnMut(Site<'_>, &mut dyn StateLeaf),
) {
    struct Each<F>(F);
    impl<F: FnMut(Site<'_>, &mut dyn StateLeaf)> LeavesMut for Each<F> {
        fn param(&mut self, _site: Site<'_>, _param: &mut dyn ParamMut) {}

        fn state(&mut self, site: Site<'_>, leaf: &mut dyn StateLeaf) {
            (self.0)(site, leaf);
        }
    }
    walk_mut(module, &mut Each(f));
}

pub(crate) fn map<M: Walk>(module: M, mapper: &mut dyn ModuleMapper) -> M {
    struct Never<'a>(&'a mut dyn ModuleMapper);
    impl TryModuleMapper for Never<'_> {
        type Error = Infallible;
        fn try_map_float(&mut self, id: ParamId, tensor: Tensor) -> Result<Tensor, Infallible> {
            Ok(self.0.map_float(id, tensor))
        }
    }
    try_map(module, &mut Never(mapper)).unwrap_or_else(|error| match error {
        MapError::Mapper { source, .. } => match source {},
        MapError::Tensor { id, source } => panic!("{id}: {source}"),
    })
}

pub(crate) fn try_map<M: Walk, E>(
    mut module: M,
    mapper: &mut dyn TryModuleMapper<Error = E>,
) -> Result<M, MapError<E>> {
    let mut failed = None;
    for_each_mut(&mut module, |site, param| {
        if failed.is_some() {
            return;
        }
        let id = || ParamId::new(site.path);
        let shape = param.view().shape().into_owned();
        failed = match mapper.try_map_float(id(), param.take()) {
            Ok(tensor) => put_back(param, &shape, tensor)
                .err()
                .map(|source| MapError::Tensor { id: id(), source }),
            Err(source) => Some(MapError::Mapper { id: id(), source }),
        };
    });
    match failed {
        None => Ok(module),
        Some(error) => Err(error),
    }
}

/// Puts the mapped tensor, which must have the parameter's shape, into the parameter.
///
/// A quantized parameter would accept any shape, but could not be made float again.
fn put_back(param: &mut dyn ParamMut, shape: &[usize], tensor: Tensor) -> Result<(), TensorError> {
    if tensor.shape() == shape {
        param.put(tensor)
    } else {
        Err(TensorError::shape(shape, tensor.shape()))
    }
}

/// The mapper of `Module::dequantize`.
pub(crate) struct Dequantize;

impl ModuleMapper for Dequantize {
    fn map_float(&mut self, _id: ParamId, tensor: Tensor) -> Tensor {
        tensor.dequantize()
    }
}
