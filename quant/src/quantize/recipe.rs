//! Rules for the parameters at given paths.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::error::{QuantizeError, UnmatchedRule};
use super::glob;
use super::outcome::{Action, PlannedActivation, PlannedKeyValues, Reason};
use super::plan::{Plan, PlannedParam, plan};
use super::planner::{Candidate, Choice, Decision, Planner};
use super::preset::{Preset, Roles, UnknownPreset};
use crate::calibration::{Calibration, CalibrationMethod, CalibrationNameError};
use crate::module::{ParamId, Walk};
use crate::moments::{MomentSource, SharedMoments};
use crate::scheme::{ActivationScheme, KeyValueScheme, QuantizationScheme};

/// Rules that say, by path, how parameters are quantized.
///
/// The first rule whose pattern matches a parameter's path decides. Where none matches, the
/// recipe's own scheme is used as a [`Quantizer`](crate::Quantizer) uses one; without a scheme
/// the parameter stays float. A rule that matches no parameter, or only parameters that earlier rules
/// match, is an error, so that a misspelled path is found.
///
/// A recipe is a Rust value and a file, here in TOML:
///
/// ```
/// use quant::{QuantizationScheme, QuantizationType, Recipe, Rule};
///
/// let from_file: Recipe = toml::from_str(r#"
///     scheme = "per-channel-symmetric-int8"
///
///     [[rules]]
///     path = "head.**"
///     keep = true
///
///     [[rules]]
///     path = "layers.*.weight"
///     scheme = "per-block-symmetric-int4"
///     calibration = "mse"
/// "#)?;
///
/// let from_code = Recipe::new()
///     .scheme("per-channel-symmetric-int8".parse()?)
///     .rule(Rule::keep("head.**"))
///     .rule(Rule::quantize("layers.*.weight", "per-block-symmetric-int4".parse()?)
///         .calibration("mse".parse()?));
/// assert_eq!(from_file, from_code);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In patterns, `*` matches any characters within one step of a path, `**` any number of steps, `?`
/// one character, `[ab]` one of these characters, and `{a,b}` one of these words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preset: Option<Preset>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<QuantizationScheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<CalibrationMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activations: Option<ActivationScheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activation_calibration: Option<CalibrationMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys_values: Option<KeyValueScheme>,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    skip_non_finite: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule>,
    /// Data, which no file of rules has.
    #[serde(skip)]
    moments: Option<SharedMoments>,
}

impl Recipe {
    /// The recipe without rules or scheme, which keeps everything float.
    pub fn new() -> Self {
        Self::default()
    }

    /// What quantized models usually are: `w8a8`, `w4a8`, `w4` or `w3`; see [`Preset`]. What is set besides, and
    /// rules, come first. In a file it is the line `preset = "w4"`.
    ///
    /// ```
    /// use quant::{Param, Recipe};
    ///
    /// let layer = || vec![Param::new([[0.5f32; 64]; 8])];
    /// let plan = Recipe::preset("w4")?.plan(&vec![layer(), layer(), layer(), layer()])?;
    /// assert_eq!(plan.params()[0].reason.to_string(), "first layer");
    /// assert_eq!(plan.params()[0].action.to_string(), "per-channel-symmetric-int8 by least-squares");
    /// assert_eq!(plan.params()[1].action.to_string(), "per-block-minimum-int4:scale=f16 by least-squares");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// There is no preset of this name.
    pub fn preset(name: &str) -> Result<Self, UnknownPreset> {
        Ok(name.parse::<Preset>()?.into())
    }

    /// The scheme for parameters that no rule matches.
    #[must_use]
    pub fn scheme(self, scheme: QuantizationScheme) -> Self {
        Self { scheme: Some(scheme), ..self }
    }

    /// The calibration for rules that name none. Default: min-max.
    #[must_use]
    pub fn calibration(self, calibration: CalibrationMethod) -> Self {
        Self { calibration: Some(calibration), ..self }
    }

    /// The scheme for inputs that no rule matches. Default: float.
    #[must_use]
    pub fn activations(self, scheme: ActivationScheme) -> Self {
        Self { activations: Some(scheme), ..self }
    }

    /// The calibration of static inputs, for rules that name none. Default: min-max.
    #[must_use]
    pub fn activation_calibration(self, calibration: CalibrationMethod) -> Self {
        Self { activation_calibration: Some(calibration), ..self }
    }

    /// How attention keeps keys and values that no rule matches. Default: as floats.
    #[must_use]
    pub fn keys_values(self, scheme: KeyValueScheme) -> Self {
        Self { keys_values: Some(scheme), ..self }
    }

    /// Calibration leaves NaN and infinite values out and counts them, where they would be an error
    /// otherwise; see [`ActivationQuantizer::skipped`](crate::activation::ActivationQuantizer::skipped).
    #[must_use]
    pub fn skip_non_finite(self) -> Self {
        Self { skip_non_finite: true, ..self }
    }

    /// The second moments of the inputs of layers, for calibrations that need them: `weighted-mse` and
    /// `gptq`. They are not part of the recipe's file.
    #[must_use]
    pub fn moments(self, moments: impl MomentSource + 'static) -> Self {
        Self { moments: Some(SharedMoments(Arc::new(moments))), ..self }
    }

    /// Whether the recipe says for some inputs that they are quantized.
    pub fn quantizes_inputs(&self) -> bool {
        let by_rule = |rule: &Rule| match rule.action {
            RuleAction::Activations(scheme, _) => Some(scheme),
            _ => None,
        };
        self.default_activations()
            .into_iter()
            .chain(self.rules.iter().filter_map(by_rule))
            .any(|scheme| scheme != ActivationScheme::Float)
    }

    /// Whether [moments](Self::moments) change what becomes of a model.
    pub fn uses_moments(&self) -> bool {
        (self.preset.is_some() && self.calibration.is_none()) || self.needs_moments()
    }

    /// Whether the calibration of the recipe, or of one of its rules, needs second moments.
    pub fn needs_moments(&self) -> bool {
        let of_rule = |rule: &Rule| match rule.action {
            RuleAction::Quantize(_, calibration) => calibration,
            _ => None,
        };
        let rules = self.rules.iter().filter_map(of_rule);
        rules.chain(self.calibration).any(|it| it.weight_method().needs_moments())
    }

    pub(super) fn of_moments(&self) -> Option<Arc<dyn MomentSource>> {
        self.moments.as_ref().map(|moments| moments.0.clone())
    }

    #[doc(hidden)]
    pub fn has_activation_calibration(&self) -> bool {
        self.activation_calibration.is_some()
    }

    /// Adds a rule after the existing ones.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What [`Module::quantize_weights`](crate::Module::quantize_weights) would do, without doing it.
    ///
    /// # Errors
    /// See [`QuantizeError`].
    pub fn plan(&self, model: &(impl Walk + ?Sized)) -> Result<Plan, QuantizeError> {
        plan(self, model)
    }

    /// The first rule of this kind that matches `path`, and its position.
    fn rule_for(&self, kind: Kind, path: &str) -> Option<(usize, &Rule)> {
        let mut rules = self.rules.iter().enumerate();
        rules.find(|(_, rule)| rule.kind() == kind && rule.matches(path))
    }

    /// The scheme of inputs that no rule matches.
    fn default_activations(&self) -> Option<ActivationScheme> {
        self.activations.or_else(|| self.preset.and_then(Preset::activations))
    }

    /// The calibration of the weight at this path, if its rule names none.
    pub(super) fn default_calibration(&self, id: &ParamId) -> CalibrationMethod {
        let moments = self.moments.as_ref().map(|moments| &*moments.0);
        let of_preset = || self.preset.map(|_| Preset::calibration(id, moments));
        self.calibration.or_else(of_preset).unwrap_or_default()
    }

    fn decide_one(&self, candidate: &Candidate) -> Decision {
        let id = &candidate.info.id;
        let default = self.default_calibration(id);
        if let Some((number, rule)) = self.rule_for(Kind::Weights, id.as_str()) {
            return rule.decide(number, default);
        }
        match self.scheme.or(self.preset.map(Preset::scheme)) {
            Some(scheme) => Decision::by_default(candidate, &Choice::new(scheme, default)),
            None => Decision::keep(Reason::NoRule),
        }
    }

    /// How the activation at this path is quantized.
    fn decide_activation(&self, id: ParamId) -> PlannedActivation {
        let default = self.activation_calibration.unwrap_or_default();
        let (scheme, calibration, reason) = match self.rule_for(Kind::Activations, id.as_str()) {
            Some((rule, Rule { path, action: RuleAction::Activations(scheme, calibration) })) => {
                let reason = Reason::Rule { rule, pattern: path.clone() };
                (*scheme, calibration.unwrap_or(default), reason)
            }
            _ => match self.default_activations() {
                Some(scheme) => (scheme, default, Reason::Recipe),
                None => (ActivationScheme::Float, default, Reason::NoRule),
            },
        };
        PlannedActivation { id, scheme, calibration, reason }
    }

    /// How the keys and values at this path are kept.
    fn decide_one_key_values(&self, id: ParamId) -> PlannedKeyValues {
        let (scheme, reason) = match self.rule_for(Kind::KeysValues, id.as_str()) {
            Some((rule, Rule { path, action: RuleAction::KeysValues(scheme) })) => {
                (*scheme, Reason::Rule { rule, pattern: path.clone() })
            }
            _ => match self.keys_values {
                Some(scheme) => (scheme, Reason::Recipe),
                None => (KeyValueScheme::F32, Reason::NoRule),
            },
        };
        PlannedKeyValues { id, scheme, reason }
    }

    /// Refuses rules that match no path, or only paths that earlier rules match.
    fn check_rules(&self, kind: Kind, paths: &[&str]) -> Result<(), QuantizeError> {
        let mut used = alloc::vec![false; self.rules.len()];
        for (number, _) in paths.iter().filter_map(|path| self.rule_for(kind, path)) {
            used[number] = true;
        }
        let rules = self.rules.iter().zip(used).enumerate();
        let unmatched: Vec<_> = rules
            .filter(|(_, (rule, used))| rule.kind() == kind && !used)
            .map(|(number, (rule, _))| self.unmatched(number, rule, paths))
            .collect();
        if unmatched.is_empty() { Ok(()) } else { Err(QuantizeError::Rules(unmatched)) }
    }

    fn unmatched(&self, number: usize, rule: &Rule, paths: &[&str]) -> UnmatchedRule {
        let taken = paths.iter().find(|path| rule.matches(path));
        match taken.and_then(|path| self.rule_for(rule.kind(), path)) {
            Some((by, first)) => UnmatchedRule::Shadowed {
                rule: number,
                pattern: rule.path.clone(),
                by,
                by_pattern: first.path.clone(),
            },
            None => UnmatchedRule::NoMatch {
                rule: number,
                pattern: rule.path.clone(),
                nearest: nearest(&rule.path, paths),
            },
        }
    }
}

impl From<Preset> for Recipe {
    fn from(preset: Preset) -> Self {
        Self { preset: Some(preset), ..Self::default() }
    }
}

impl Plan {
    /// The recipe that plans the same for the same model: a rule for each parameter that is
    /// quantized, for each activation, and for keys and values, with the path written out. Everything else stays as
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
        for PlannedParam { id, action, .. } in self.params() {
            let Action::Quantize { scheme, calibration } = action else { continue };
            let calibration = calibration.parse().map_err(|CalibrationNameError { name }| {
                QuantizeError::UnknownCalibration { id: id.clone(), name }
            })?;
            let pattern = Rule::literal(id.as_str());
            recipe = recipe.rule(Rule::quantize(pattern, *scheme).calibration(calibration));
        }
        for PlannedActivation { id, scheme, calibration, .. } in self.activations() {
            let pattern = Rule::literal(id.as_str());
            recipe = recipe.rule(Rule::activations(pattern, *scheme).calibration(*calibration));
        }
        for PlannedKeyValues { id, scheme, .. } in self.key_values() {
            recipe = recipe.rule(Rule::keys_values(Rule::literal(id.as_str()), *scheme));
        }
        Ok(recipe)
    }
}

/// The three paths most similar to `pattern`, the most similar first.
fn nearest(pattern: &str, paths: &[&str]) -> Vec<String> {
    let alike = |path: &&str| strsim::normalized_levenshtein(pattern, path);
    let mut ranked: Vec<_> = paths.iter().map(|path| (alike(path), *path)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().take(3).map(|(_, path)| path.into()).collect()
}

impl Planner for Recipe {
    fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError> {
        let paths: Vec<_> = candidates.iter().map(|it| it.info.id.as_str()).collect();
        self.check_rules(Kind::Weights, &paths)?;
        let decisions = candidates.iter().map(|candidate| self.decide_one(candidate));
        let Some(preset) = self.preset else { return Ok(decisions.collect()) };
        let roles = Roles::of(paths.iter().copied());
        let with_role = |(decision, path): (Decision, &&str)| match roles.role(path) {
            Some(role) => preset.with_role(decision, role),
            None => decision,
        };
        Ok(decisions.zip(&paths).map(with_role).collect())
    }

    fn decide_activations(&self, ids: &[ParamId]) -> Result<Vec<PlannedActivation>, QuantizeError> {
        let paths: Vec<_> = ids.iter().map(ParamId::as_str).collect();
        self.check_rules(Kind::Activations, &paths)?;
        Ok(ids.iter().map(|id| self.decide_activation(id.clone())).collect())
    }

    fn decide_key_values(&self, ids: &[ParamId]) -> Result<Vec<PlannedKeyValues>, QuantizeError> {
        let paths: Vec<_> = ids.iter().map(ParamId::as_str).collect();
        self.check_rules(Kind::KeysValues, &paths)?;
        Ok(ids.iter().map(|id| self.decide_one_key_values(id.clone())).collect())
    }

    fn moments(&self) -> Option<Arc<dyn MomentSource>> {
        self.of_moments()
    }

    fn skips_non_finite(&self) -> bool {
        self.skip_non_finite
    }
}

/// A pattern of paths, and what becomes of the parameters that match it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawRule", into = "RawRule")]
pub struct Rule {
    path: String,
    action: RuleAction,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum RuleAction {
    Keep,
    Quantize(QuantizationScheme, Option<CalibrationMethod>),
    Activations(ActivationScheme, Option<CalibrationMethod>),
    KeysValues(KeyValueScheme),
}

/// What a rule is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Weights,
    Activations,
    KeysValues,
}

impl Rule {
    /// Parameters whose path matches stay float.
    pub fn keep(path: impl Into<String>) -> Self {
        Self { path: path.into(), action: RuleAction::Keep }
    }

    /// Parameters whose path matches are quantized, whatever their rank.
    pub fn quantize(path: impl Into<String>, scheme: QuantizationScheme) -> Self {
        Self { path: path.into(), action: RuleAction::Quantize(scheme, None) }
    }

    /// Activations whose path matches are quantized so.
    pub fn activations(path: impl Into<String>, scheme: ActivationScheme) -> Self {
        Self { path: path.into(), action: RuleAction::Activations(scheme, None) }
    }

    /// Keys and values whose path matches are kept so.
    pub fn keys_values(path: impl Into<String>, scheme: KeyValueScheme) -> Self {
        Self { path: path.into(), action: RuleAction::KeysValues(scheme) }
    }

    /// The pattern that matches this path and no other: special characters are escaped.
    ///
    /// ```
    /// use quant::Rule;
    /// assert_eq!(Rule::literal("layers.0.weight"), "layers.0.weight");
    /// assert_eq!(Rule::literal("what*[0]"), r"what\*\[0\]");
    /// ```
    pub fn literal(path: &str) -> String {
        glob::escape(path)
    }

    /// The calibration, in place of the recipe's. A rule that keeps, or is about
    /// keys and values, ignores it.
    #[must_use]
    pub fn calibration(self, calibration: CalibrationMethod) -> Self {
        match self.action {
            RuleAction::Keep | RuleAction::KeysValues(_) => self,
            RuleAction::Quantize(scheme, _) => {
                Self { action: RuleAction::Quantize(scheme, Some(calibration)), ..self }
            }
            RuleAction::Activations(scheme, _) => {
                Self { action: RuleAction::Activations(scheme, Some(calibration)), ..self }
            }
        }
    }

    fn kind(&self) -> Kind {
        match self.action {
            RuleAction::Keep | RuleAction::Quantize(..) => Kind::Weights,
            RuleAction::Activations(..) => Kind::Activations,
            RuleAction::KeysValues(_) => Kind::KeysValues,
        }
    }

    /// The pattern.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the pattern matches the whole of `path`.
    pub fn matches(&self, path: &str) -> bool {
        glob::matches(&self.path, path)
    }

    fn decide(&self, rule: usize, default: CalibrationMethod) -> Decision {
        let reason = Reason::Rule { rule, pattern: self.path.clone() };
        match self.action {
            RuleAction::Quantize(scheme, calibration) => {
                Decision::quantize(scheme, calibration.unwrap_or(default), reason)
            }
            _ => Decision::keep(reason),
        }
    }
}

/// [`Rule`] as a file has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRule {
    path: String,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    keep: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<QuantizationScheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activations: Option<ActivationScheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys_values: Option<KeyValueScheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<CalibrationMethod>,
}

impl TryFrom<RawRule> for Rule {
    type Error = String;

    fn try_from(
        RawRule { path, keep, scheme, activations, keys_values, calibration }: RawRule,
    ) -> Result<Self, String> {
        let action = match (keep, scheme, activations, keys_values, calibration) {
            (true, None, None, None, None) => RuleAction::Keep,
            (false, Some(scheme), None, None, calibration) => {
                RuleAction::Quantize(scheme, calibration)
            }
            (false, None, Some(scheme), None, calibration) => {
                RuleAction::Activations(scheme, calibration)
            }
            (false, None, None, Some(scheme), None) => RuleAction::KeysValues(scheme),
            _ => {
                return Err(alloc::format!(
                    "rule `{path}` has to say one of `keep = true`, `scheme`, `activations` and \
                     `keys-values`; `scheme` and `activations` may have a `calibration`"
                ));
            }
        };
        Ok(Self { path, action })
    }
}

impl From<Rule> for RawRule {
    fn from(Rule { path, action }: Rule) -> Self {
        let raw = Self {
            path,
            keep: false,
            scheme: None,
            activations: None,
            keys_values: None,
            calibration: None,
        };
        match action {
            RuleAction::Keep => Self { keep: true, ..raw },
            RuleAction::Quantize(scheme, calibration) => {
                Self { scheme: Some(scheme), calibration, ..raw }
            }
            RuleAction::Activations(scheme, calibration) => {
                Self { activations: Some(scheme), calibration, ..raw }
            }
            RuleAction::KeysValues(scheme) => Self { keys_values: Some(scheme), ..raw },
        }
    }
}
