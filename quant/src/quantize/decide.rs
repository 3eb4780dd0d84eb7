//! What a planner decides about each parameter of a model.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

#[cfg(feature = "candle")]
use super::planner::Choice;
use super::planner::{Candidate, Decision, Planner};
use super::{QuantizeError, Reason};
use crate::module::{Module, ParamInfo, ParamView, Site, for_each};
use crate::scheme::QuantizationScheme;

/// One parameter as it was found, with what was decided about it.
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
    model: &(impl Module + ?Sized),
) -> Result<Vec<Decided>, QuantizeError> {
    let mut all = Vec::new();
    for_each(model, |site: Site<'_>, param| {
        all.push(Candidate { info: ParamInfo::new(site.path, param), directive: site.directive });
    });
    decide_all(planner, all)
}

/// Each of `all` with the planner's decision.
pub fn decide_all(
    planner: &(impl Planner + ?Sized),
    all: Vec<Candidate>,
) -> Result<Vec<Decided>, QuantizeError> {
    check_unique(&all)?;
    let decisions = planner.decide(&all)?;
    if decisions.len() != all.len() {
        return Err(QuantizeError::Undecided { expected: all.len(), found: decisions.len() });
    }
    let decided = all.into_iter().zip(decisions).map(|(Candidate { info, .. }, decision)| {
        let decision = settled(&info).map_or(decision, Decision::keep);
        Decided { info, decision }
    });
    Ok(decided.collect())
}

/// How each parameter of `model` is to be quantized, if it is.
#[cfg(feature = "candle")]
pub(crate) fn choices(
    planner: &(impl Planner + ?Sized),
    model: &(impl Module + ?Sized),
) -> Result<Vec<Option<Choice>>, QuantizeError> {
    Ok(decide(planner, model)?.into_iter().map(|decided| decided.decision.choice).collect())
}

/// Why nothing can be decided about a parameter, if so.
fn settled(info: &ParamInfo) -> Option<Reason> {
    if info.scheme.is_some() {
        Some(Reason::AlreadyQuantized)
    } else if info.shape.contains(&0) {
        Some(Reason::Empty)
    } else {
        None
    }
}

fn check_unique(candidates: &[Candidate]) -> Result<(), QuantizeError> {
    let mut seen = BTreeSet::new();
    match candidates.iter().find(|candidate| !seen.insert(&candidate.info.id)) {
        Some(twice) => Err(QuantizeError::DuplicatePath { id: twice.info.id.clone() }),
        None => Ok(()),
    }
}

/// What `f` makes of each parameter of `model` and of what is known about it, or its first error.
pub(super) fn try_map<D, T, E>(
    known: impl IntoIterator<Item = D>,
    model: &(impl Module + ?Sized),
    mut f: impl FnMut(D, ParamView<'_>) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let (mut known, mut made) = (known.into_iter(), Ok(Vec::new()));
    for_each(model, |_, param| {
        if let (Ok(done), Some(known)) = (&mut made, known.next()) {
            match f(known, param) {
                Ok(one) => done.push(one),
                Err(error) => made = Err(error),
            }
        }
    });
    made
}
