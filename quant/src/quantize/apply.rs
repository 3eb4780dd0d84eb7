//! Quantizing what a plan says.
//!
//! Two walks: the first finds the parameters of every group, and everything that can go wrong;
//! the second computes the codes, and cannot fail. What the first found is matched to the second
//! by path, so that a walk that visits in another order gives the same result.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::decide::{Decided, decide, decide_activations, decide_key_values};
use super::error::{PlanDifference, QuantizeError};
use super::fit::{Fitted, fit};
use super::outcome::{Action, PlannedActivation, PlannedKeyValues};
use super::plan::Plan;
use super::planner::Planner;
use crate::activation::{for_each_activation_mut, set_key_values};
use crate::module::{ParamId, ParamInfo, ParamView, Walk, for_each, for_each_mut, params};
use crate::scheme::{ActivationScheme, KeyValueScheme};

/// Plans and applies, without measuring what quantization does.
pub(crate) fn quantize_weights<M: Walk>(
    planner: &(impl Planner + ?Sized),
    model: M,
) -> Result<M, QuantizeError> {
    let decided = decide(planner, &model)?;
    let activations = decide_activations(planner, &model, &decided)?;
    let choices: BTreeMap<_, _> = decided
        .into_iter()
        .filter_map(|Decided { info, decision }| Some((info.id, decision.choice?)))
        .collect();
    let key_values = decide_key_values(planner, &model)?;
    let inputs = (&*activations, &*key_values);
    quantize(model, inputs, |id, param| {
        let Some(choice) = choices.get(id) else { return Ok(None) };
        fit(id, &param.shape(), &param.values(), choice).map(Some)
    })
}

impl Plan {
    /// Quantizes `model` as planned.
    ///
    /// What calibration found while the plan was made is used as it is. Where weights have changed
    /// since, or where the plan was read from a file, calibration runs again.
    ///
    /// # Errors
    /// The model's paths, shapes or types are not those of the plan, or a weight cannot be
    /// quantized. Nothing is changed unless everything can be.
    pub fn apply<M: Walk>(&self, model: M) -> Result<M, QuantizeError> {
        let differences = differences(self, &params(&model));
        if !differences.is_empty() {
            return Err(QuantizeError::PlanMismatch(differences));
        }
        let planned: BTreeMap<_, _> =
            self.params().iter().map(|param| (&param.id, param)).collect();
        quantize(model, (self.activations(), self.key_values()), |id, param| {
            let Some((planned, choice)) =
                planned.get(id).and_then(|planned| Some((planned, planned.choice()?)))
            else {
                return Ok(None);
            };
            let values = param.values();
            match planned.calibration.fitted(&values) {
                Some(fitted) => Ok(Some(fitted)),
                None => fit(id, &param.shape(), &values, &choice).map(Some),
            }
        })
    }
}

fn differences(plan: &Plan, found: &[ParamInfo]) -> Vec<PlanDifference> {
    let mut open: BTreeMap<_, _> = found.iter().map(|info| (&info.id, info)).collect();
    let mut differences = Vec::new();
    for planned in plan.params() {
        let id = planned.id.clone();
        let quantized = matches!(planned.action, Action::KeepQuantized { .. });
        match open.remove(&planned.id) {
            None => differences.push(PlanDifference::Missing { id }),
            Some(info) if info.shape != planned.shape => differences.push(PlanDifference::Shape {
                id,
                planned: planned.shape.clone(),
                found: info.shape.clone(),
            }),
            Some(info) if info.scheme.is_some() != quantized => {
                differences.push(PlanDifference::Type { id });
            }
            Some(_) => {}
        }
    }
    differences.extend(open.into_keys().map(|id| PlanDifference::Unplanned { id: id.clone() }));
    differences
}

/// Quantizes each parameter for which `fit` finds something, marks each input that is to be
/// quantized as pending, and sets how keys and values are kept.
fn quantize<M: Walk>(
    mut model: M,
    (activations, key_values): (&[PlannedActivation], &[PlannedKeyValues]),
    fit: impl FnMut(&ParamId, ParamView<'_>) -> Result<Option<Fitted>, QuantizeError>,
) -> Result<M, QuantizeError> {
    let mut fitted = fit_all(&model, fit)?;
    for_each_mut(&mut model, |site, param| {
        // A walk that shows another parameter at this path, too, finds it gone.
        let Some(fitted) = fitted.remove(site.path) else { return };
        let view = param.view();
        let tensor = fitted.quantize(&view.shape(), &view.values());
        param.put(tensor.into()).expect("every storage can be replaced by a quantized tensor");
    });
    if let Some(id) = fitted.into_keys().next() {
        return Err(QuantizeError::InconsistentWalk { id });
    }
    expect_activations(&mut model, activations);
    keep_key_values(&mut model, key_values);
    Ok(model)
}

fn fit_all(
    model: &impl Walk,
    mut fit: impl FnMut(&ParamId, ParamView<'_>) -> Result<Option<Fitted>, QuantizeError>,
) -> Result<BTreeMap<ParamId, Fitted>, QuantizeError> {
    let mut fitted = Ok(BTreeMap::new());
    for_each(model, |site, param| {
        let Ok(done) = &mut fitted else { return };
        let id = ParamId::from(site.path);
        match fit(&id, param) {
            Ok(None) => {}
            Ok(Some(one)) if done.contains_key(&id) => {
                drop(one);
                fitted = Err(QuantizeError::DuplicatePath { id });
            }
            Ok(Some(one)) => {
                done.insert(id, one);
            }
            Err(error) => fitted = Err(error),
        }
    });
    fitted
}

fn expect_activations(model: &mut impl Walk, planned: &[PlannedActivation]) {
    let schemes: BTreeMap<&str, ActivationScheme> =
        planned.iter().map(|planned| (planned.id.as_str(), planned.scheme)).collect();
    for_each_activation_mut(model, |site, activation| {
        if let Some(&scheme) = schemes.get(site.path) {
            activation.expect(site.path.into(), scheme);
        }
    });
}

/// Sets how keys and values are kept.
pub(super) fn keep_key_values(model: &mut impl Walk, planned: &[PlannedKeyValues]) {
    let schemes: BTreeMap<&str, KeyValueScheme> =
        planned.iter().map(|planned| (planned.id.as_str(), planned.scheme)).collect();
    set_key_values(model, |path| schemes.get(path).copied());
}
