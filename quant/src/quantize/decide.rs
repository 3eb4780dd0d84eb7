//! What a planner decides about each parameter of a model.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::error::QuantizeError;
use super::outcome::{PlannedActivation, PlannedKeyValues, Reason};
use super::outputs::along_outputs;
use super::planner::{Candidate, Choice, Decision, Planner};
use crate::activation::{for_each_activation, key_value_paths};
use crate::module::{ParamId, ParamInfo, ParamView, Site, Walk, for_each};
use crate::scheme::{ActivationScheme, QuantizationScheme};

/// A parameter, and the planner's decision about it.
#[derive(Clone)]
pub struct Decided {
    /// The parameter's path, shape and scheme.
    pub info: ParamInfo,
    pub(super) decision: Decision,
}

impl Decided {
    /// How the parameter is going to be quantized, if it is.
    pub fn scheme(&self) -> Option<QuantizationScheme> {
        self.decision.choice.as_ref().map(|choice| choice.scheme)
    }
}

/// Every parameter of `model` with the planner's decision.
pub(super) fn decide(
    planner: &(impl Planner + ?Sized),
    model: &(impl Walk + ?Sized),
) -> Result<Vec<Decided>, QuantizeError> {
    let mut all = Vec::new();
    for_each(model, |site: Site<'_>, param| {
        all.push(Candidate { info: ParamInfo::new(site, param), directive: site.directive });
    });
    decide_all(planner, all)
}

/// Each of `all` with the planner's decision.
pub fn decide_all(
    planner: &(impl Planner + ?Sized),
    all: Vec<Candidate>,
) -> Result<Vec<Decided>, QuantizeError> {
    check_unique(all.iter().map(|candidate| &candidate.info.id))?;
    let decisions = planner.decide(&all)?;
    if decisions.len() != all.len() {
        return Err(QuantizeError::Undecided { expected: all.len(), found: decisions.len() });
    }
    let moments = planner.moments();
    let decided = all.into_iter().zip(decisions).map(|(Candidate { info, .. }, decision)| {
        let mut decision = settled(&info).map_or(decision, Decision::keep);
        if let Some(choice) = decision.choice {
            let scheme = along_outputs(&info, choice.scheme);
            let choice = Choice { scheme, ..choice }.with_moments(&info.id, moments.as_ref());
            choice.check_moments(&info)?;
            decision.choice = Some(choice);
        }
        Ok(Decided { info, decision })
    });
    decided.collect()
}

/// The parameters of `model` that are to be quantized, and how.
pub fn choices(
    planner: &(impl Planner + ?Sized),
    model: &(impl Walk + ?Sized),
) -> Result<BTreeMap<ParamId, Choice>, QuantizeError> {
    let decided = decide(planner, model)?.into_iter();
    Ok(decided.filter_map(|one| Some((one.info.id, one.decision.choice?))).collect())
}

/// What the planner decides about the inputs of `model`, whose weights were `decided`.
///
/// An input whose layer keeps its weights float stays float: there is no integer product to
/// quantize it for.
pub(super) fn decide_activations(
    planner: &(impl Planner + ?Sized),
    model: &(impl Walk + ?Sized),
    decided: &[Decided],
) -> Result<Vec<PlannedActivation>, QuantizeError> {
    let mut ids: Vec<ParamId> = Vec::new();
    for_each_activation(model, |site, _| ids.push(site.path.into()));
    check_unique(&ids)?;
    let mut planned = planner.decide_activations(&ids)?;
    for one in planned.iter_mut().filter(|one| one.scheme != ActivationScheme::Float) {
        if keeps_float_weights(decided, &one.id) {
            one.scheme = ActivationScheme::Float;
            one.reason = Reason::FloatWeights;
        }
    }
    Ok(planned)
}

/// What the planner decides about the keys and values of `model`.
pub(super) fn decide_key_values(
    planner: &(impl Planner + ?Sized),
    model: &(impl Walk + ?Sized),
) -> Result<Vec<PlannedKeyValues>, QuantizeError> {
    let ids = key_value_paths(model);
    check_unique(&ids)?;
    planner.decide_key_values(&ids)
}

/// Whether the weights beside the input at this path stay float on purpose.
///
/// If no weight of the model is quantized, before or by this planner, then the planner decides about
/// inputs only, and another planner quantizes the weights.
fn keeps_float_weights(decided: &[Decided], input: &ParamId) -> bool {
    let layer = input.as_str().rfind('.').map_or("", |dot| &input.as_str()[..=dot]);
    let becomes_integer = |one: &Decided| one.info.scheme.is_some() || one.scheme().is_some();
    let mut weights = decided
        .iter()
        .filter(|one| one.info.id.as_str().starts_with(layer) && one.info.shape.len() >= 2)
        .peekable();
    weights.peek().is_some() && !weights.any(becomes_integer) && decided.iter().any(becomes_integer)
}

/// The reason why a parameter stays as it is, whatever the planner says.
fn settled(info: &ParamInfo) -> Option<Reason> {
    if info.scheme.is_some() {
        Some(Reason::AlreadyQuantized)
    } else if info.shape.contains(&0) {
        Some(Reason::Empty)
    } else {
        None
    }
}

fn check_unique<'a>(ids: impl IntoIterator<Item = &'a ParamId>) -> Result<(), QuantizeError> {
    let mut seen = BTreeSet::new();
    match ids.into_iter().find(|id| !seen.insert(*id)) {
        Some(twice) => Err(QuantizeError::DuplicatePath { id: twice.clone() }),
        None => Ok(()),
    }
}

/// Something known about the parameter at a path.
pub(super) trait Known {
    fn id(&self) -> &ParamId;
}

impl Known for Decided {
    fn id(&self) -> &ParamId {
        &self.info.id
    }
}

impl<K: Known> Known for &K {
    fn id(&self) -> &ParamId {
        (*self).id()
    }
}

/// What `f` makes of each parameter of `model` and of what is known about the parameter at its
/// path, in the order of `known`; or the first error.
pub(super) fn try_map<K: Known, T, E: From<QuantizeError>>(
    known: impl IntoIterator<Item = K>,
    model: &(impl Walk + ?Sized),
    mut f: impl FnMut(K, ParamView<'_>) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let mut open = BTreeMap::new();
    for (position, known) in known.into_iter().enumerate() {
        open.insert(known.id().clone(), (position, known));
    }
    let mut made = Ok(BTreeMap::new());
    for_each(model, |site, param| {
        if let (Ok(done), Some((position, known))) = (&mut made, open.remove(site.path)) {
            match f(known, param) {
                Ok(one) => drop(done.insert(position, one)),
                Err(error) => made = Err(error),
            }
        }
    });
    let made = made?;
    match open.into_keys().next() {
        Some(id) => Err(QuantizeError::InconsistentWalk { id }.into()),
        None => Ok(made.into_values().collect()),
    }
}
