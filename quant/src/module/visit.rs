//! Visiting parameters by reference.

use alloc::vec::Vec;

use super::walk::walk;
use super::walk::{Leaves, Site};
use super::{Module, ParamId, ParamView};
#[cfg(feature = "std")]
use crate::activation::ActivationQuantizer;
use crate::scheme::{QuantizationScheme, element_count};

/// Sees the parameters of a model.
///
/// ```
/// use quant::{Module, ModuleVisitor, Param, ParamId, ParamView};
///
/// struct Largest(f32);
/// impl ModuleVisitor for Largest {
///     fn visit_float(&mut self, _id: ParamId, param: ParamView<'_>) {
///         self.0 = param.values().iter().fold(self.0, |max, value| max.max(value.abs()));
///     }
/// }
///
/// let mut largest = Largest(0.0);
/// (Param::new([1.0f32, -3.0]), Param::new(2.0f32)).visit(&mut largest);
/// assert_eq!(largest.0, 3.0);
/// ```
pub trait ModuleVisitor {
    /// Sees one parameter, float or quantized.
    fn visit_float(&mut self, id: ParamId, param: ParamView<'_>);

    /// Sees what quantizes the input of a layer; does nothing unless implemented.
    #[cfg(feature = "std")]
    fn visit_activation(&mut self, _id: ParamId, _activation: &ActivationQuantizer) {}
}

/// What is known of a parameter without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParamInfo {
    /// The path.
    pub id: ParamId,
    /// The extent of each axis.
    pub shape: Vec<usize>,
    /// How the parameter is quantized; `None` when it is float.
    pub scheme: Option<QuantizationScheme>,
}

impl ParamInfo {
    pub(crate) fn new(path: &str, param: ParamView<'_>) -> Self {
        Self {
            id: path.into(),
            shape: param.shape().into_owned(),
            scheme: param.quantized().map(crate::QuantizedTensor::scheme),
        }
    }

    /// The number of elements.
    pub fn element_count(&self) -> usize {
        // A storage that counts its elements has no more of them than this.
        element_count(&self.shape).unwrap_or(usize::MAX)
    }
}

/// A closure that sees the parameters of a walk.
pub(crate) struct Each<F>(pub(crate) F);

impl<F: FnMut(Site<'_>, ParamView<'_>)> Leaves for Each<F> {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        (self.0)(site, param);
    }
}

/// Calls `f` with every parameter of `module`.
pub(crate) fn for_each(module: &(impl Module + ?Sized), f: impl FnMut(Site<'_>, ParamView<'_>)) {
    walk(module, &mut Each(f));
}

/// Calls `f` with every activation quantizer of `module`.
#[cfg(feature = "std")]
pub(crate) fn for_each_activation(
    module: &(impl Module + ?Sized),
    f: impl FnMut(Site<'_>, &ActivationQuantizer),
) {
    struct EachActivation<F>(F);
    impl<F: FnMut(Site<'_>, &ActivationQuantizer)> Leaves for EachActivation<F> {
        fn param(&mut self, _site: Site<'_>, _param: ParamView<'_>) {}

        fn activation(&mut self, site: Site<'_>, activation: &ActivationQuantizer) {
            (self.0)(site, activation);
        }
    }
    walk(module, &mut EachActivation(f));
}

pub(super) fn visit(module: &(impl Module + ?Sized), visitor: &mut dyn ModuleVisitor) {
    struct Visit<'a>(&'a mut dyn ModuleVisitor);
    impl Leaves for Visit<'_> {
        fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
            self.0.visit_float(site.path.into(), param);
        }

        #[cfg(feature = "std")]
        fn activation(&mut self, site: Site<'_>, activation: &ActivationQuantizer) {
            self.0.visit_activation(site.path.into(), activation);
        }
    }
    walk(module, &mut Visit(visitor));
}

pub(super) fn params(module: &(impl Module + ?Sized)) -> Vec<ParamInfo> {
    let mut params = Vec::new();
    for_each(module, |site, param| params.push(ParamInfo::new(site.path, param)));
    params
}
