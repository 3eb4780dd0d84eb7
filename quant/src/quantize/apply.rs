//! Quantizing what a plan says.
//!
//! Two walks: the first finds the parameters of every group, and everything that can go wrong;
//! the second computes the codes, and cannot fail.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::decide::{Decided, decide};
use super::error::PlanDifference;
use super::plan::{Action, Plan};
use super::planner::{Choice, Planner};
use super::{QuantizeError, weights};
use crate::module::{Module, ParamId, ParamInfo, for_each, for_each_mut};
use crate::scheme::{Groups, QuantParams, QuantizationScheme};
use crate::tensor::QuantizedTensor;

/// Plans and applies, without measuring what quantization does.
pub(crate) fn quantize_weights<M: Module>(
    planner: &(impl Planner + ?Sized),
    model: M,
) -> Result<M, QuantizeError> {
    let decided = decide(planner, &model)?;
    let choices = decided.into_iter().map(|Decided { decision, .. }| decision.choice).collect();
    quantize(choices, model)
}

pub(super) fn apply<M: Module>(plan: &Plan, model: M) -> Result<M, QuantizeError> {
    let found = model.params();
    let differences = differences(plan, &found);
    if !differences.is_empty() {
        return Err(QuantizeError::PlanMismatch(differences));
    }
    let planned: BTreeMap<_, _> = plan.params().iter().map(|param| (&param.id, param)).collect();
    let choices = found.iter().map(|info| planned.get(&info.id)?.choice()).collect();
    quantize(choices, model)
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

/// The scheme, groups and parameters of a parameter that is to be quantized.
pub(super) type Fitted = (QuantizationScheme, Groups, Vec<QuantParams>);

fn quantize<M: Module>(choices: Vec<Option<Choice>>, mut model: M) -> Result<M, QuantizeError> {
    let mut fitted = fit_all(&choices, &model)?.into_iter();
    for_each_mut(&mut model, |_, param| {
        let Some(Some((scheme, groups, params))) = fitted.next() else { return };
        let view = param.view();
        let tensor =
            QuantizedTensor::quantize(&view.shape(), scheme, groups, &view.values(), &params);
        param.put(tensor.into()).expect("every storage can be replaced by a quantized tensor");
    });
    Ok(model)
}

fn fit_all(
    choices: &[Option<Choice>],
    model: &impl Module,
) -> Result<Vec<Option<Fitted>>, QuantizeError> {
    let mut choices = choices.iter();
    let mut fitted = Ok(Vec::new());
    for_each(model, |site, param| {
        let (Ok(done), Some(choice)) = (&mut fitted, choices.next()) else { return };
        let one = choice.as_ref().map(|choice| {
            let (groups, params) = fit(&site.path.into(), &param.shape(), &param.values(), choice)?;
            Ok((choice.scheme, groups, params))
        });
        match one.transpose() {
            Ok(one) => done.push(one),
            Err(error) => fitted = Err(error),
        }
    });
    fitted
}

/// The groups of a parameter, and the scale and zero point of each.
pub(super) fn fit(
    id: &ParamId,
    shape: &[usize],
    values: &[f32],
    choice: &Choice,
) -> Result<(Groups, Vec<QuantParams>), QuantizeError> {
    let Choice { scheme, name, calibration } = choice;
    let Some(calibration) = calibration else {
        let name: String = Cow::clone(name).into_owned();
        return Err(QuantizeError::UnknownCalibration { id: id.clone(), name });
    };
    let fit = || {
        let groups = Groups::new(shape, scheme.granularity())?;
        Ok((groups, weights::params(groups, scheme.grid(), values, &**calibration)?))
    };
    fit().map_err(|source| QuantizeError::Param { id: id.clone(), scheme: *scheme, source })
}
