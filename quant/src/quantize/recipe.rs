//! Rules by path.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::error::UnmatchedRule;
use super::glob;
use super::planner::{Candidate, Choice, Decision, Planner};
use super::{Plan, QuantizeError, Reason, plan};
use crate::calibration::CalibrationMethod;
use crate::module::Module;
use crate::scheme::QuantizationScheme;

/// Rules that say, by path, how parameters are quantized.
///
/// The first rule whose pattern matches a parameter's path decides. Where none matches, the
/// recipe's own scheme is used as a [`Quantizer`](crate::Quantizer) uses one; without a scheme
/// the parameter stays float. A rule that matches no parameter, or only ones that earlier rules
/// have taken, is an error: a misspelled path does not pass in silence.
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
/// Patterns: `*` stands for any run of characters within one step of a path, `**` for any number
/// of steps, `?` for one character, `[ab]` for one of those, `{a,b}` for either.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<QuantizationScheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<CalibrationMethod>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule>,
}

impl Recipe {
    /// The recipe without rules or scheme, which keeps everything float.
    pub fn new() -> Self {
        Self::default()
    }

    /// The scheme for parameters that no rule matches.
    #[must_use]
    pub fn scheme(self, scheme: QuantizationScheme) -> Self {
        Self { scheme: Some(scheme), ..self }
    }

    /// The calibration where a rule names none; min-max if this is not called.
    #[must_use]
    pub fn calibration(self, calibration: CalibrationMethod) -> Self {
        Self { calibration: Some(calibration), ..self }
    }

    /// Adds a rule after those before.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What [`Module::quantize_weights`] would do, without doing it.
    ///
    /// # Errors
    /// See [`QuantizeError`].
    pub fn plan(&self, model: &(impl Module + ?Sized)) -> Result<Plan, QuantizeError> {
        plan(self, model)
    }

    /// The first rule that matches `path`, and its position.
    fn rule_for(&self, path: &str) -> Option<(usize, &Rule)> {
        self.rules.iter().enumerate().find(|(_, rule)| rule.matches(path))
    }

    fn decide_one(&self, candidate: &Candidate) -> Decision {
        let default = self.calibration.unwrap_or_default();
        match self.rule_for(candidate.info.id.as_str()) {
            Some((number, rule)) => rule.decide(number, default),
            None => match self.scheme {
                Some(scheme) => Decision::by_default(candidate, &Choice::new(scheme, default)),
                None => Decision::keep(Reason::NoRule),
            },
        }
    }

    /// A rule that matches nothing, or nothing that is left, was not meant so.
    fn check_rules(&self, candidates: &[Candidate]) -> Result<(), QuantizeError> {
        let paths = || candidates.iter().map(|candidate| candidate.info.id.as_str());
        let mut used = alloc::vec![false; self.rules.len()];
        for (number, _) in paths().filter_map(|path| self.rule_for(path)) {
            used[number] = true;
        }
        let unmatched: Vec<_> = self
            .rules
            .iter()
            .zip(used)
            .enumerate()
            .filter(|(_, (_, used))| !used)
            .map(|(number, (rule, _))| self.unmatched(number, rule, paths()))
            .collect();
        if unmatched.is_empty() { Ok(()) } else { Err(QuantizeError::Rules(unmatched)) }
    }

    fn unmatched<'a>(
        &self,
        number: usize,
        rule: &Rule,
        paths: impl Iterator<Item = &'a str> + Clone,
    ) -> UnmatchedRule {
        let shadow = paths.clone().find(|path| rule.matches(path)).and_then(|p| self.rule_for(p));
        match shadow {
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

/// The three paths that look most like `pattern`, most alike first.
fn nearest<'a>(pattern: &str, paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut ranked: Vec<_> =
        paths.map(|path| (strsim::normalized_levenshtein(pattern, path), path)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().take(3).map(|(_, path)| path.into()).collect()
}

impl Planner for Recipe {
    fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError> {
        self.check_rules(candidates)?;
        Ok(candidates.iter().map(|candidate| self.decide_one(candidate)).collect())
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

    /// The calibration, in place of the recipe's. A rule that keeps has no use for one.
    #[must_use]
    pub fn calibration(self, calibration: CalibrationMethod) -> Self {
        match self.action {
            RuleAction::Keep => self,
            RuleAction::Quantize(scheme, _) => {
                Self { action: RuleAction::Quantize(scheme, Some(calibration)), ..self }
            }
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
            RuleAction::Keep => Decision::keep(reason),
            RuleAction::Quantize(scheme, calibration) => {
                Decision::quantize(scheme, calibration.unwrap_or(default), reason)
            }
        }
    }
}

/// [`Rule`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    path: String,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    keep: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<QuantizationScheme>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<CalibrationMethod>,
}

impl TryFrom<RawRule> for Rule {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<Self, String> {
        let action = match (raw.keep, raw.scheme, raw.calibration) {
            (true, None, None) => RuleAction::Keep,
            (false, Some(scheme), calibration) => RuleAction::Quantize(scheme, calibration),
            (true, ..) => {
                let path = raw.path;
                return Err(alloc::format!(
                    "rule `{path}` keeps, so it has no scheme or calibration"
                ));
            }
            (false, None, _) => {
                let path = raw.path;
                return Err(alloc::format!(
                    "rule `{path}` says neither `keep = true` nor a `scheme`"
                ));
            }
        };
        Ok(Self { path: raw.path, action })
    }
}

impl From<Rule> for RawRule {
    fn from(Rule { path, action }: Rule) -> Self {
        match action {
            RuleAction::Keep => Self { path, keep: true, scheme: None, calibration: None },
            RuleAction::Quantize(scheme, calibration) => {
                Self { path, keep: false, scheme: Some(scheme), calibration }
            }
        }
    }
}
