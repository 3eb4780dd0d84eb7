//! An outcome for every parameter.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::apply::{self, Fitted};
use super::decide::{Decided, decide, try_map};
use super::measure::{bytes_now, measure};
use super::planner::{Choice, PlannedCalibration, Planner};
use super::{QuantizeError, Recipe, Rule, table};
use crate::activation::ActivationScheme;
use crate::calibration::{CalibrationMethod, CalibrationNameError};
use crate::module::{Module, ParamId, ParamView};
use crate::scheme::QuantizationScheme;
use crate::tensor::{QuantizedTensor, Tensor};

/// What becomes of every parameter of a model, and why.
///
/// It prints as a table, serializes, and is applied to the model it was made for (or another of
/// the same paths and shapes).
///
/// ```
/// use quant::{Action, Module, Param, Recipe};
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
}

/// How the input of a layer is quantized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedActivation {
    /// The path of the layer's [`ActivationQuantizer`](crate::ActivationQuantizer).
    pub id: ParamId,
    /// How.
    pub scheme: ActivationScheme,
    /// How ranges are found, if the scheme is static.
    pub calibration: CalibrationMethod,
    /// Why.
    pub reason: Reason,
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
    /// What quantization is going to do to it; `None` when it is not quantized.
    pub expected: Option<Expected>,
    #[serde(skip)]
    calibration: PlannedCalibration,
}

/// What is done to a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// It is quantized.
    Quantize {
        /// How.
        scheme: QuantizationScheme,
        /// The name of the calibration that finds the ranges.
        calibration: Cow<'static, str>,
    },
    /// It stays float.
    KeepFloat,
    /// It is quantized already and stays as it is.
    KeepQuantized {
        /// How.
        scheme: QuantizationScheme,
    },
}

/// Why something is done to a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// A rule of the recipe matched its path.
    Rule {
        /// The rule's position, from 0.
        rule: usize,
        /// Its pattern.
        pattern: String,
    },
    /// An attribute stands on its field, or on one around it.
    Attribute,
    /// By default, rank 2 and above is quantized, and rank 0 and 1 is not.
    Rank(usize),
    /// The recipe has no rule for it, and no scheme of its own.
    NoRule,
    /// The recipe says it for everything that no rule matches.
    Recipe,
    /// It is the best choice within a budget of bytes.
    Budget,
    /// It has no elements.
    Empty,
    /// It is quantized already.
    AlreadyQuantized,
}

/// What quantization is expected to do to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Expected {
    /// The least and the greatest scale of its groups.
    pub scales: (f32, f32),
    /// The signal-to-quantization-noise ratio `10 log10(Σ x² / Σ (x - x̂)²)` in dB; `None` when
    /// every value is kept exactly.
    pub sqnr_db: Option<f64>,
    /// The largest absolute error `max |x - x̂|`.
    pub max_abs_error: f32,
}

impl Plan {
    /// The parameters in the order of the model.
    pub fn params(&self) -> &[PlannedParam] {
        &self.params
    }

    /// The activations in the order of the model; empty if the planner has no say in them. They
    /// are for information: [`Module::prepare`] does what they say.
    pub fn activations(&self) -> &[PlannedActivation] {
        &self.activations
    }

    #[doc(hidden)]
    pub fn of_params(params: Vec<PlannedParam>) -> Self {
        Self { params, activations: Vec::new() }
    }

    pub(super) fn with_activations(self, activations: Vec<PlannedActivation>) -> Self {
        Self { activations, ..self }
    }

    /// The bytes of all parameters now.
    pub fn bytes_before(&self) -> u64 {
        self.params.iter().map(|param| param.bytes_before).sum()
    }

    /// The bytes of all parameters afterwards.
    pub fn bytes_after(&self) -> u64 {
        self.params.iter().map(|param| param.bytes_after).sum()
    }

    /// The recipe that plans the same for the same model: a rule for each parameter that is
    /// quantized, and for each activation, with the path written out. Everything else stays as
    /// it is.
    ///
    /// ```
    /// use quant::{Param, Recipe, Rule};
    ///
    /// let scheme = "per-channel-symmetric-int8".parse()?;
    /// let model = vec![Param::new([[0.5; 4]; 2])];
    /// let recipe = Recipe::new().scheme(scheme).plan(&model)?.to_recipe()?;
    /// let rule = Rule::quantize("0", scheme).calibration("min-max".parse()?);
    /// assert_eq!(recipe, Recipe::new().rule(rule));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`QuantizeError::UnknownCalibration`]: a recipe can only name calibrations of this crate.
    pub fn to_recipe(&self) -> Result<Recipe, QuantizeError> {
        let mut recipe = Recipe::new();
        for PlannedParam { id, action, .. } in &self.params {
            let Action::Quantize { scheme, calibration } = action else { continue };
            let calibration = calibration.parse().map_err(|CalibrationNameError { name }| {
                QuantizeError::UnknownCalibration { id: id.clone(), name }
            })?;
            let pattern = Rule::literal(id.as_str());
            recipe = recipe.rule(Rule::quantize(pattern, *scheme).calibration(calibration));
        }
        for PlannedActivation { id, scheme, calibration, .. } in &self.activations {
            let pattern = Rule::literal(id.as_str());
            recipe = recipe.rule(Rule::activations(pattern, *scheme).calibration(*calibration));
        }
        Ok(recipe)
    }

    /// Quantizes `model` as planned.
    ///
    /// Ranges are found anew, so a plan may be applied to weights that have changed since.
    ///
    /// # Errors
    /// The model's paths, shapes or types are not those of the plan, or a weight cannot be
    /// quantized. Nothing is changed unless everything can be.
    pub fn apply<M: Module>(&self, model: M) -> Result<M, QuantizeError> {
        apply::apply(self, model)
    }
}

impl PlannedParam {
    pub(super) fn choice(&self) -> Option<Choice> {
        match &self.action {
            Action::Quantize { scheme, calibration } => {
                Some(Choice::planned(*scheme, calibration.clone(), &self.calibration))
            }
            Action::KeepFloat | Action::KeepQuantized { .. } => None,
        }
    }
}

/// Makes a plan: decides, and measures what quantization would do.
pub(crate) fn plan(
    planner: &(impl Planner + ?Sized),
    model: &(impl Module + ?Sized),
) -> Result<Plan, QuantizeError> {
    let decided = decide(planner, model)?;
    Ok(Plan::of_params(try_map(decided, model, plan_one)?))
}

/// What is planned for one parameter.
pub fn plan_one(decided: Decided, param: ParamView<'_>) -> Result<PlannedParam, QuantizeError> {
    Ok(fit_one(decided, param)?.0)
}

/// Does to one tensor what was decided about its parameter, and says what that was: `None` if it
/// stays as it is.
pub fn quantize_one(
    decided: Decided,
    tensor: &Tensor,
) -> Result<(PlannedParam, Option<QuantizedTensor>), QuantizeError> {
    let (planned, fitted) = fit_one(decided, tensor.into())?;
    let quantized = fitted.map(|(scheme, groups, params)| {
        QuantizedTensor::quantize(tensor.shape(), scheme, groups, &tensor.values(), &params)
    });
    Ok((planned, quantized))
}

/// What is planned for one parameter, with the parameters of its groups if it is to be quantized.
fn fit_one(
    decided: Decided,
    param: ParamView<'_>,
) -> Result<(PlannedParam, Option<Fitted>), QuantizeError> {
    let Decided { info, decision } = decided;
    let mut fitted = None;
    let before = bytes_now(&info, param);
    let mut planned = PlannedParam {
        action: Action::KeepFloat,
        reason: decision.reason,
        bytes_before: before,
        bytes_after: before,
        expected: None,
        calibration: PlannedCalibration::default(),
        id: info.id,
        shape: info.shape,
    };
    if let Some(scheme) = info.scheme {
        planned.action = Action::KeepQuantized { scheme };
    } else if let Some(choice) = decision.choice {
        let measured = measure(&planned.id, &planned.shape, &param.values(), &choice)?;
        planned.bytes_after = measured.bytes;
        planned.expected = Some(measured.expected);
        planned.calibration = choice.to_planned();
        planned.action = Action::Quantize { scheme: choice.scheme, calibration: choice.name };
        fitted = Some(measured.fitted);
    }
    Ok((planned, fitted))
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
        self.fmt_activations(f)
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
            self.reason.to_string(),
        ]
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantize { scheme, calibration } => write!(f, "{scheme} by {calibration}"),
            Self::KeepFloat => f.write_str("float"),
            Self::KeepQuantized { scheme } => write!(f, "stays {scheme}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { rule, pattern } => write!(f, "rule {rule} `{pattern}`"),
            Self::Attribute => f.write_str("attribute of the field"),
            Self::Rank(rank) => write!(f, "rank {rank}"),
            Self::NoRule => f.write_str("no rule"),
            Self::Recipe => f.write_str("the recipe"),
            Self::Budget => f.write_str("within the budget"),
            Self::Empty => f.write_str("no elements"),
            Self::AlreadyQuantized => f.write_str("already quantized"),
        }
    }
}
