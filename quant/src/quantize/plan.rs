//! An outcome for every parameter.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::calibrated::PlannedCalibration;
use super::decide::{Decided, decide, decide_activations, decide_key_values, try_map};
use super::error::QuantizeError;
use super::fit::quantized_bytes;
use super::measure::Effect;
use super::outcome::{Action, Expected, PlannedActivation, PlannedKeyValues, Reason, Warning};
use super::planner::{Choice, Planner};
use super::spread::along;
use crate::module::{ParamId, ParamInfo, ParamView, Walk, parent_of};
use crate::scheme::{
    ActivationScheme, Axis, DynamicGranularity, DynamicQuantization, Granularity,
    QuantizationScheme,
};
use crate::table;
use crate::tensor::{QuantizedTensor, Tensor};

/// What becomes of every parameter of a model, and why.
///
/// It prints as a table and serializes. It can be applied to the model it was made for, or to another
/// model with the same paths and shapes.
///
/// ```
/// use quant::quantize::Action;
/// use quant::{Module, Param, Recipe};
///
/// #[derive(Module)]
/// struct Dense { weight: Param<[[f32; 64]; 8]>, bias: Param<[f32; 8]> }
///
/// let dense = Dense { weight: Param::new([[0.5; 64]; 8]), bias: Param::new([0.0; 8]) };
/// let plan = Recipe::new().scheme("per-channel-symmetric-int8".parse()?).plan(&dense)?;
/// println!("{plan}");
/// assert!(matches!(plan.params()[0].action, Action::Quantize { .. }));
/// assert_eq!((plan.bytes_before(), plan.bytes_after()), (2080, 576));
/// let dense = plan.apply(dense)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    params: Vec<PlannedParam>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    activations: Vec<PlannedActivation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    key_values: Vec<PlannedKeyValues>,
}

/// What becomes of one parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedParam {
    /// The path.
    pub id: ParamId,
    /// The extent of each axis.
    pub shape: Vec<usize>,
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The bytes of the parameter now.
    pub bytes_before: u64,
    /// Its bytes afterwards: codes, scales and zero points.
    pub bytes_after: u64,
    /// What quantization is going to do to it; `None` when it is not quantized, or its values were not
    /// read.
    pub expected: Option<Expected>,
    /// Something to look at before the plan is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Warning>,
    #[serde(skip)]
    pub(super) calibration: PlannedCalibration,
}

impl Plan {
    /// The parameters in the order of the model.
    pub fn params(&self) -> &[PlannedParam] {
        &self.params
    }

    /// The inputs of layers in the order of the model; empty if the planner decides about weights
    /// only. [`apply`](Self::apply) leaves inputs that are to be quantized pending, and
    /// [`Module::prepare`](crate::Module::prepare) does what they say.
    pub fn activations(&self) -> &[PlannedActivation] {
        &self.activations
    }

    /// How attention keeps keys and values, in the order of the model.
    pub fn key_values(&self) -> &[PlannedKeyValues] {
        &self.key_values
    }

    #[doc(hidden)]
    pub fn of_params(params: Vec<PlannedParam>) -> Self {
        Self { params, activations: Vec::new(), key_values: Vec::new() }
    }

    /// The bytes of all parameters now.
    pub fn bytes_before(&self) -> u64 {
        self.params.iter().map(|param| param.bytes_before).sum()
    }

    /// The bytes of all parameters afterwards.
    pub fn bytes_after(&self) -> u64 {
        self.params.iter().map(|param| param.bytes_after).sum()
    }
}

impl PlannedParam {
    /// How the parameter is going to be quantized, if it is.
    pub(super) fn choice(&self) -> Option<Choice> {
        match &self.action {
            Action::Quantize { scheme, calibration } => {
                Some(self.calibration.choice(*scheme, calibration.clone()))
            }
            Action::KeepFloat | Action::KeepQuantized { .. } => None,
        }
    }
}

/// Makes a plan: decides, and measures what quantization would do.
pub(crate) fn plan(
    planner: &(impl Planner + ?Sized),
    model: &(impl Walk + ?Sized),
) -> Result<Plan, QuantizeError> {
    let decided = decide(planner, model)?;
    let activations = decide_activations(planner, model, &decided)?;
    let params = try_map(decided, model, |decided, param| {
        let (effect, fitted) = decided.fit_part(0, param)?;
        let outputs = decided.info.outputs;
        let mut planned = decided.planned(param.byte_count(), effect);
        if let Some(fitted) = fitted {
            let input = activations.iter().find(|input| are_beside(&input.id, &planned.id));
            let shape = &planned.shape;
            let runs =
                |scheme| input.is_none_or(|input| runs(shape, outputs, scheme, input.scheme));
            planned.warning = match planned.warning {
                _ if !runs(fitted.scheme) => Some(Warning::NoKernel),
                // What no kernel runs is not better.
                Some(Warning::OtherAxis { axis, .. }) if !runs(along(fitted.scheme, axis)) => None,
                other => other,
            };
            planned.calibration.keep(fitted, &param.values());
        }
        Ok::<_, QuantizeError>(planned)
    })?;
    Ok(Plan { params, activations, key_values: decide_key_values(planner, model)? })
}

/// Whether two leaves have the same parent.
fn are_beside(a: &ParamId, b: &ParamId) -> bool {
    parent_of(a.as_str()) == parent_of(b.as_str())
}

/// Whether a layer with this input can run with a weight of this shape and scheme.
fn runs(
    shape: &[usize],
    outputs: Axis,
    scheme: QuantizationScheme,
    input: ActivationScheme,
) -> bool {
    if scheme.mapping().has_minimums() && shape.len() > 2 && input != ActivationScheme::Float {
        return false;
    }
    let inputs = match input {
        ActivationScheme::Dynamic(DynamicQuantization { granularity, .. }) => Some(granularity),
        _ => None,
    };
    if let Some(DynamicGranularity::Block(inputs)) = inputs {
        let divides = match scheme.granularity() {
            Granularity::PerBlock(block) => block.len().is_multiple_of(inputs.get() as usize),
            _ => true,
        };
        if !divides || shape.len() > 2 {
            return false;
        }
    }
    match scheme.granularity() {
        Granularity::PerChannel(axis) => axis.resolve(shape.len()) == outputs.resolve(shape.len()),
        Granularity::PerBlock(_) => shape.len() <= 2 || input == ActivationScheme::Float,
        _ => true,
    }
}

/// Quantizes one tensor as decided; `None` if it stays as it is.
pub fn quantize_one(
    decided: Decided,
    tensor: &Tensor,
) -> Result<(PlannedParam, Option<QuantizedTensor>), QuantizeError> {
    let param = ParamView::from(tensor);
    let (effect, quantized) = decided.quantize_part(0, param)?;
    Ok((decided.planned(param.byte_count(), effect), quantized))
}

impl Decided {
    /// What is planned for a parameter that takes `bytes` now, by the effect of all its parts.
    pub fn planned(self, bytes: u64, effect: Effect) -> PlannedParam {
        let expected = self.choice().map(|_| effect.expected());
        let warning = match self.choice() {
            Some(choice) => effect.other_axis(&self.info.shape, choice.scheme),
            None => effect.not_finite(),
        };
        PlannedParam { expected, warning, ..self.without_values(bytes, effect.bytes) }
    }

    /// As [`planned`](Self::planned), by the shape alone: what needs values is left out. A parameter that
    /// stays as it is takes `kept` bytes.
    ///
    /// # Errors
    /// The scheme does not fit the shape or the calibration.
    pub fn planned_by_shape(self, bytes: u64, kept: u64) -> Result<PlannedParam, QuantizeError> {
        let after = match self.choice() {
            Some(choice) => quantized_bytes(&self.info.id, &self.info.shape, choice)?,
            None => kept,
        };
        Ok(self.without_values(bytes, after))
    }

    fn without_values(self, bytes_before: u64, bytes_after: u64) -> PlannedParam {
        let Self { info: ParamInfo { id, shape, scheme, .. }, decision } = self;
        let mut planned = PlannedParam {
            action: Action::KeepFloat,
            reason: decision.reason,
            bytes_before,
            bytes_after,
            expected: None,
            warning: None,
            calibration: PlannedCalibration::default(),
            id,
            shape,
        };
        match (scheme, decision.choice) {
            (Some(scheme), _) => planned.action = Action::KeepQuantized { scheme },
            (None, Some(choice)) => {
                planned.calibration = PlannedCalibration::of(&choice);
                planned.action =
                    Action::Quantize { scheme: choice.scheme, calibration: choice.name };
            }
            (None, None) => {}
        }
        planned
    }
}

/// A table with a line for each parameter, and the sums.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head =
            ["parameter", "shape", "outcome", "bytes", "after", "SQNR", "max error", "because"];
        table::write(f, head, self.params.iter().map(PlannedParam::cells), 3..7)?;
        let (before, after) = (self.bytes_before(), self.bytes_after());
        write!(f, "{} parameters, {before} bytes before, {after} after", self.params.len())?;
        if after > 0 {
            write!(f, " ({:.2} times smaller)", before as f64 / after as f64)?;
        }
        self.fmt_activations(f)?;
        self.fmt_key_values(f)
    }
}

impl Plan {
    fn fmt_activations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.activations.iter().map(|it| it.id.as_str().chars().count()).max();
        let width = width.unwrap_or(0);
        for PlannedActivation { id, scheme, calibration, reason } in &self.activations {
            write!(f, "\n{id:<width$}  {scheme}")?;
            if matches!(scheme, ActivationScheme::Static { .. }) {
                write!(f, " by {calibration}")?;
            }
            write!(f, "  {reason}")?;
        }
        Ok(())
    }

    fn fmt_key_values(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.key_values.iter().map(|it| it.id.as_str().chars().count()).max();
        let width = width.unwrap_or(0);
        for PlannedKeyValues { id, scheme, reason } in &self.key_values {
            write!(f, "\n{id:<width$}  keys and values {scheme}  {reason}")?;
        }
        Ok(())
    }
}

impl PlannedParam {
    fn cells(&self) -> [String; 8] {
        let (sqnr, error) = match self.expected {
            None => (String::new(), String::new()),
            Some(expected) => (
                expected.sqnr_db.map_or("exact".into(), |db| alloc::format!("{db:.1} dB")),
                alloc::format!("{:.2e}", expected.max_abs_error),
            ),
        };
        [
            self.id.to_string(),
            alloc::format!("{:?}", self.shape),
            self.action.to_string(),
            self.bytes_before.to_string(),
            self.bytes_after.to_string(),
            sqnr,
            error,
            match self.warning {
                None => self.reason.to_string(),
                Some(warning) => alloc::format!("{}; {warning}", self.reason),
            },
        ]
    }
}
