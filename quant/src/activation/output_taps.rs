//! Taps of the outputs of all layers of a model.

use alloc::collections::{BTreeMap, BTreeSet};

use super::compare_error::CompareError;
use super::convert::{for_each_activation, for_each_activation_mut};
use super::taps::{OutputsSeen, Tap};
use crate::module::{ParamId, Walk, params, parent_of};
use crate::scheme::QuantizationScheme;

/// The path of the layer that an input belongs to.
pub(super) fn layer(input: &ParamId) -> ParamId {
    parent_of(input.as_str()).into()
}

/// The paths of the inputs, which both models have.
pub(super) fn common_paths<E>(
    reference: &impl Walk,
    quantized: &impl Walk,
) -> Result<BTreeSet<ParamId>, CompareError<E>> {
    let paths = |model: &dyn Walk| {
        let mut paths = BTreeSet::new();
        for_each_activation(model, |site, _| {
            paths.insert(ParamId::from(site.path));
        });
        paths
    };
    let (a, b) = (paths(reference), paths(quantized));
    match a.symmetric_difference(&b).next() {
        Some(id) => Err(CompareError::OtherLayers { id: layer(id) }),
        None => Ok(a),
    }
}

/// The scheme of the weight of each layer.
pub(super) fn schemes(model: &impl Walk) -> BTreeMap<ParamId, QuantizationScheme> {
    let quantized = params(model).into_iter().filter_map(|param| Some((param.id, param.scheme?)));
    quantized.map(|(id, scheme)| (layer(&id), scheme)).collect()
}

pub(super) fn set(model: &mut impl Walk, mut to: impl FnMut(&ParamId) -> Option<OutputsSeen>) {
    for_each_activation_mut(model, |site, activation| {
        let tap = to(&site.path.into()).map(Tap::new);
        activation.change_taps(site.path, |taps| taps.outputs = tap);
    });
}

/// Takes what was seen, by path.
pub(super) fn take(model: &mut impl Walk) -> BTreeMap<ParamId, OutputsSeen> {
    let mut all = BTreeMap::new();
    for_each_activation_mut(model, |site, activation| {
        if let Some(tap) = activation.change_taps(site.path, |taps| taps.outputs.take()) {
            all.insert(site.path.into(), tap.into_seen());
        }
    });
    all
}
