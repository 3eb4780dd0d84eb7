//! Visiting parameters by reference.

use alloc::vec::Vec;

use super::id::ParamId;
use super::leaf::StateLeaf;
use super::view::ParamView;
use super::walk::{Attachment, Leaves, Site, Walk, walk};
use crate::scheme::{Axis, QuantizationScheme, element_count};

/// Sees the parameters of a model.
///
/// ```
/// use quant::module::{ModuleVisitor, ParamView};
/// use quant::{Module, Param, ParamId};
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

    /// Sees a state leaf, such as what quantizes the input of a layer; does nothing unless
    /// implemented. [`downcast_ref`](StateLeaf#method.downcast_ref) gives the leaf its type.
    fn visit_state(&mut self, _id: ParamId, _leaf: &dyn StateLeaf) {}
}

/// The path, shape and scheme of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParamInfo {
    /// The path.
    pub id: ParamId,
    /// The extent of each axis.
    pub shape: Vec<usize>,
    /// How the parameter is quantized; `None` when it is float.
    pub scheme: Option<QuantizationScheme>,
    /// The axis along which the outputs of the layer lie, and with them channels: the first one, unless the
    /// layer [says otherwise](super::Walker::field_with_outputs).
    pub outputs: Axis,
}

impl ParamInfo {
    pub(crate) fn new(site: Site<'_>, param: ParamView<'_>) -> Self {
        Self {
            id: site.path.into(),
            shape: param.shape().into_owned(),
            scheme: param.quantized().map(crate::tensor::QuantizedTensor::scheme),
            outputs: site.outputs,
        }
    }

    /// The number of elements.
    pub fn element_count(&self) -> usize {
        // A storage cannot have more elements than this.
        element_count(&self.shape).unwrap_or(usize::MAX)
    }
}

/// A closure that sees the parameters of a walk.
struct Each<F>(F);

impl<F: FnMut(Site<'_>, ParamView<'_>)> Leaves for Each<F> {
    fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
        (self.0)(site, param);
    }
}

/// Calls `f` with every parameter of `module`.
pub fn for_each(module: &(impl Walk + ?Sized), f: impl FnMut(Site<'_>, ParamView<'_>)) {
    walk(module, &mut Each(f));
}

/// Calls `f` with every state leaf of `module`.
pub fn for_each_state(module: &(impl Walk + ?Sized), f: impl FnMut(Site<'_>, &dyn StateLeaf)) {
    struct EachState<F>(F);
    impl<F: FnMut(Site<'_>, &dyn StateLeaf)> Leaves for EachState<F> {
        fn param(&mut self, _site: Site<'_>, _param: ParamView<'_>) {}

        fn state(&mut self, site: Site<'_>, leaf: &dyn StateLeaf) {
            (self.0)(site, leaf);
        }
    }
    walk(module, &mut EachState(f));
}

/// Calls `f` with the attachment of every parameter of `module` that has one.
pub fn for_each_attachment(
    module: &(impl Walk + ?Sized),
    f: impl FnMut(Site<'_>, &dyn Attachment),
) {
    struct EachAttachment<F>(F);
    impl<F: FnMut(Site<'_>, &dyn Attachment)> Leaves for EachAttachment<F> {
        fn param(&mut self, _site: Site<'_>, _param: ParamView<'_>) {}

        fn attachment(&mut self, site: Site<'_>, attachment: &dyn Attachment) {
            (self.0)(site, attachment);
        }
    }
    walk(module, &mut EachAttachment(f));
}

pub(crate) fn visit(module: &(impl Walk + ?Sized), visitor: &mut dyn ModuleVisitor) {
    struct Visit<'a>(&'a mut dyn ModuleVisitor);
    impl Leaves for Visit<'_> {
        fn param(&mut self, site: Site<'_>, param: ParamView<'_>) {
            self.0.visit_float(site.path.into(), param);
        }

        fn state(&mut self, site: Site<'_>, leaf: &dyn StateLeaf) {
            self.0.visit_state(site.path.into(), leaf);
        }
    }
    walk(module, &mut Visit(visitor));
}

pub(crate) fn params(module: &(impl Walk + ?Sized)) -> Vec<ParamInfo> {
    let mut params = Vec::new();
    for_each(module, |site, param| params.push(ParamInfo::new(site, param)));
    params
}
