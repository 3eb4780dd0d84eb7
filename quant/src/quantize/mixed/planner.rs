//! Choosing for the parameters of a model.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Budget, MixedPrecisionError, Offer, Precision, select};
use crate::module::{Directive, ParamId, ParamInfo, ParamView, Walk, params};
use crate::moments::MomentSource;
use crate::quantize::decide::{Decided, decide, decide_all, try_map};
use crate::quantize::error::QuantizeError;
use crate::quantize::experts::scheme_for;
use crate::quantize::measure::Effect;
use crate::quantize::outcome::{PlannedActivation, PlannedKeyValues, Reason};
use crate::quantize::outputs::along_outputs;
use crate::quantize::plan::{self, Plan};
use crate::quantize::planner::{Candidate, Choice, Decision, Planner};
use crate::quantize::recipe::Recipe;
use crate::tensor::common_grain;

/// Chooses a precision for each parameter, so that the expected error is the least that fits a
/// budget of bytes.
///
/// Chosen for is what a [`Quantizer`](crate::Quantizer) would quantize: rank 2 and above, and what
/// `#[module(quantize)]` says. What an attribute or a rule of [`recipe`](Self::recipe) decides,
/// and everything else, is not chosen for; its bytes count, and its error is the same whatever is
/// chosen.
///
/// # What is minimised
///
/// ```text
/// Σ weight · Σ (x - x̂)²     over parameters, and over the values x of each
/// ```
///
/// The least sum is found, not approached; see [`select`] for how, and for what the result says
/// where that would take too long. The sum itself is a stand-in for what a model loses. To second
/// order a small change `e` of the weights adds `½ eᵀHe` to a loss at its minimum; the stand-in
/// keeps one number `weight` for each parameter in place of its part of the Hessian `H`, and
/// leaves out what connects two. With all weights 1, as without [`weights`](Self::weights), a
/// parameter whose values are small counts little, though the layer may be the one that matters.
/// [`Sensitivity`](crate::quantize::Sensitivity) measures weights with a loss of one's own.
///
/// ```
/// use quant::quantize::Action;
/// use quant::quantize::mixed::{Budget, MixedPrecision, Precision};
/// use quant::Param;
///
/// let wide = Param::new([[4.0f32, -3.1, 2.2, 0.3]; 16]);
/// let narrow = Param::new([[0.4f32, -0.31, 0.22, 0.03]; 16]);
/// let precisions: [Precision; 2] =
///     ["per-tensor-symmetric-int8".parse()?, "per-tensor-symmetric-int4".parse()?];
/// let mixed = MixedPrecision::new("21%".parse()?, precisions).plan(&(wide, narrow))?;
/// println!("{}", mixed.plan);
/// let schemes: Vec<_> = mixed.plan.params().iter().map(|it| it.action.to_string()).collect();
/// assert_eq!(schemes, [precisions[0].to_string(), precisions[1].to_string()]);
/// assert!(mixed.plan.bytes_after() <= mixed.budget);
/// let recipe = mixed.plan.to_recipe()?; // the same, to be kept in a file
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct MixedPrecision {
    budget: Budget,
    precisions: Vec<Precision>,
    recipe: Recipe,
    weights: Option<BTreeMap<ParamId, f64>>,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MixedPlan {
    /// What becomes of every parameter; its [`to_recipe`](Plan::to_recipe) can be kept.
    pub plan: Plan,
    /// The budget in bytes.
    pub budget: u64,
    /// The weighted sum of squared errors.
    pub error: f64,
    /// The error is at most this much above the least that fits: 0 if it is the least.
    pub gap: f64,
}

impl MixedPrecision {
    /// Chooses among `precisions` within `budget`, whose share is one of all the bytes now.
    pub fn new<P: Into<Precision>>(
        budget: Budget,
        precisions: impl IntoIterator<Item = P>,
    ) -> Self {
        let precisions = precisions.into_iter().map(Into::into).collect();
        Self { budget, precisions, recipe: Recipe::new(), weights: None }
    }

    /// Parameters that a rule of `recipe` matches become what it says, and activations too. Its
    /// own scheme has no say.
    #[must_use]
    pub fn recipe(self, recipe: Recipe) -> Self {
        Self { recipe, ..self }
    }

    /// How much a squared error counts in each parameter. Every parameter that is chosen for must
    /// have a weight then.
    #[must_use]
    pub fn weights(self, weights: impl IntoIterator<Item = (ParamId, f64)>) -> Self {
        Self { weights: Some(weights.into_iter().collect()), ..self }
    }

    /// The best plan for `model` within the budget.
    ///
    /// # Errors
    /// A budget that is too small; a precision that does not fit a parameter; no precisions;
    /// weights that do not fit the model; or what [`Recipe::plan`] can find wrong.
    pub fn plan(&self, model: &(impl Walk + ?Sized)) -> Result<MixedPlan, MixedPrecisionError> {
        self.check_weights(params(model).iter())?;
        let decided = decide(&Base(self), model)?;
        let (tensors, bytes) = self.offers(&decided, model)?;
        let choice = self.choose(decided, &tensors, bytes)?;
        let plan = plan::plan(&choice, model)?;
        let MixedChoice { budget, error, gap, .. } = choice;
        Ok(MixedPlan { plan, budget, error, gap })
    }

    /// What is decided before anything is chosen.
    #[doc(hidden)]
    pub fn decide(&self, all: Vec<Candidate>) -> Result<Vec<Decided>, MixedPrecisionError> {
        self.check_weights(all.iter().map(|candidate| &candidate.info))?;
        Ok(decide_all(&Base(self), all)?)
    }

    /// The choice among the offers to parameters that take `bytes` now.
    #[doc(hidden)]
    pub fn choose(
        &self,
        mut decided: Vec<Decided>,
        tensors: &[Vec<Offer>],
        bytes: u64,
    ) -> Result<MixedChoice, MixedPrecisionError> {
        let budget = self.budget.of(bytes);
        let selection = select(tensors, budget)?;
        for ((one, offers), &choice) in decided.iter_mut().zip(tensors).zip(&selection.choices) {
            if one.decision.reason == Reason::Budget {
                one.decision = chosen(offers[choice].precision);
            }
        }
        let decisions = decided.into_iter().map(|one| (one.info.id, one.decision)).collect();
        let recipe = self.recipe.clone();
        Ok(MixedChoice { budget, error: selection.error, gap: selection.gap, decisions, recipe })
    }

    fn check_weights<'a>(
        &self,
        params: impl Iterator<Item = &'a ParamInfo> + Clone,
    ) -> Result<(), MixedPrecisionError> {
        for (id, &weight) in self.weights.iter().flatten() {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(MixedPrecisionError::Weight { id: id.clone(), weight });
            }
            if !params.clone().any(|param| param.id == *id) {
                return Err(MixedPrecisionError::UnknownWeight { id: id.clone() });
            }
        }
        Ok(())
    }

    fn weight(&self, id: &ParamId) -> Result<f64, MixedPrecisionError> {
        let Some(weights) = &self.weights else { return Ok(1.0) };
        let missing = || MixedPrecisionError::Unweighted { id: id.clone() };
        weights.get(id).copied().ok_or_else(missing)
    }

    /// The offers for every parameter, and the bytes of all now.
    fn offers(
        &self,
        decided: &[Decided],
        model: &(impl Walk + ?Sized),
    ) -> Result<(Vec<Vec<Offer>>, u64), MixedPrecisionError> {
        let mut bytes = 0;
        let tensors = try_map(decided, model, |one, param| {
            bytes += param.byte_count();
            self.offers_to(one, param)
        })?;
        Ok((tensors, bytes))
    }

    /// The offers for one parameter.
    fn offers_to(
        &self,
        one: &Decided,
        param: ParamView<'_>,
    ) -> Result<Vec<Offer>, MixedPrecisionError> {
        self.offers_of(one, &self.effects_on(one, 0, param)?)
    }

    /// The number of elements at multiples of which a part may start; `None` if the parameter cannot
    /// be divided.
    #[doc(hidden)]
    pub fn grain(&self, one: &Decided) -> Option<usize> {
        if one.decision.reason != Reason::Budget {
            return one.grain();
        }
        let grain = |choice: Option<Choice>| choice.map_or(Some(1), |it| it.grain(&one.info.shape));
        self.choices(one).map(grain).reduce(common_grain).flatten()
    }

    /// The bytes of the second moments that choosing for each part needs.
    #[doc(hidden)]
    pub fn beside(&self, one: &Decided) -> u64 {
        if one.decision.reason != Reason::Budget {
            return one.beside();
        }
        self.choices(one).flatten().map(|choice| choice.moment_bytes()).max().unwrap_or(0)
    }

    /// What each precision does to the part of a parameter that starts at the element `at`; or only
    /// what was decided.
    #[doc(hidden)]
    pub fn effects_on(
        &self,
        one: &Decided,
        at: usize,
        part: ParamView<'_>,
    ) -> Result<Vec<Effect>, MixedPrecisionError> {
        if one.decision.reason != Reason::Budget {
            return Ok(alloc::vec![one.measure_part(at, part)?]);
        }
        if self.precisions.is_empty() {
            return Err(MixedPrecisionError::NoPrecision);
        }
        let values = part.values();
        let effect = |choice: Option<Choice>| match choice {
            None => Ok(Effect::kept(part.byte_count(), 0)),
            Some(choice) => {
                choice.check_moments(&one.info)?;
                Ok(one.measure(at, &values, &choice)?.effect)
            }
        };
        self.choices(one).map(effect).collect()
    }

    /// What may be chosen for a parameter; `None` for a float.
    fn choices(&self, one: &Decided) -> impl Iterator<Item = Option<Choice>> {
        let moments = self.recipe.of_moments();
        self.precisions_for(&one.info).into_iter().map(move |precision| match precision {
            Precision::Float => None,
            Precision::Quantized { scheme, calibration } => {
                let choice = Choice::new(scheme, calibration);
                Some(choice.with_moments(&one.info.id, moments.as_ref()))
            }
        })
    }

    /// The precisions that may be chosen for a parameter.
    fn precisions_for(&self, info: &ParamInfo) -> Vec<Precision> {
        let of = |&precision: &Precision| match precision {
            Precision::Float => precision,
            Precision::Quantized { scheme, calibration } => {
                Precision::new(along_outputs(info, scheme_for(info, scheme)), calibration)
            }
        };
        self.precisions.iter().map(of).collect()
    }

    /// The offers by the [effects](Self::effects_on) on all of a parameter.
    #[doc(hidden)]
    pub fn offers_of(
        &self,
        one: &Decided,
        effects: &[Effect],
    ) -> Result<Vec<Offer>, MixedPrecisionError> {
        if one.decision.reason != Reason::Budget {
            // Its error is no one's choice, so that it need not be in the sum.
            return Ok(effects.iter().map(|effect| Offer::float(effect.bytes)).collect());
        }
        let weight = self.weight(&one.info.id)?;
        let precisions = self.precisions_for(&one.info).into_iter();
        let offers = precisions.zip(effects).map(|(precision, effect)| {
            let offer = Offer::of(precision, effect);
            Offer { error: offer.error * weight, ..offer }
        });
        Ok(offers.collect())
    }
}

/// The decision for a parameter that was chosen for.
fn chosen(precision: Precision) -> Decision {
    match precision {
        Precision::Float => Decision::keep(Reason::Budget),
        Precision::Quantized { scheme, calibration } => {
            Decision::quantize(scheme, calibration, Reason::Budget)
        }
    }
}

/// Decides what is not chosen for; the rest has [`Reason::Budget`].
struct Base<'a>(&'a MixedPrecision);

impl Planner for Base<'_> {
    fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError> {
        let by_recipe = self.0.recipe.decide(candidates)?;
        let decide = |(candidate, by_recipe): (&Candidate, Decision)| {
            let rank = candidate.info.shape.len();
            match (&by_recipe.reason, candidate.directive) {
                (Reason::Rule { .. }, _) => by_recipe,
                (_, Some(Directive::Keep)) => Decision::keep(Reason::Attribute),
                (_, Some(Directive::Scheme(scheme))) => {
                    let calibration = self.0.recipe.default_calibration(&candidate.info.id);
                    Decision::quantize(scheme, calibration, Reason::Attribute)
                }
                (_, None) if rank < 2 => Decision::keep(Reason::Rank(rank)),
                (_, None | Some(Directive::Quantize)) => Decision::keep(Reason::Budget),
            }
        };
        Ok(candidates.iter().zip(by_recipe).map(decide).collect())
    }

    fn moments(&self) -> Option<Arc<dyn MomentSource>> {
        self.0.recipe.of_moments()
    }
}

/// The choice for a model, to be planned or applied.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MixedChoice {
    /// The budget in bytes.
    pub budget: u64,
    /// The weighted sum of squared errors.
    pub error: f64,
    /// The error is at most this much above the least that fits: 0 if it is the least.
    pub gap: f64,
    decisions: BTreeMap<ParamId, Decision>,
    /// Decides about activations.
    recipe: Recipe,
}

/// For the parameters that were chosen for, and no others.
impl Planner for MixedChoice {
    fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError> {
        let of = |candidate: &Candidate| self.decisions.get(&candidate.info.id).cloned();
        Ok(candidates.iter().filter_map(of).collect())
    }

    fn moments(&self) -> Option<Arc<dyn MomentSource>> {
        self.recipe.of_moments()
    }

    fn decide_activations(&self, ids: &[ParamId]) -> Result<Vec<PlannedActivation>, QuantizeError> {
        self.recipe.decide_activations(ids)
    }

    fn decide_key_values(&self, ids: &[ParamId]) -> Result<Vec<PlannedKeyValues>, QuantizeError> {
        self.recipe.decide_key_values(ids)
    }
}
