//! Loading a record into a model.

use std::collections::{HashMap, HashSet};

use super::collection::Record;
use super::difference::Difference;
use super::error::RecordError;
use crate::module::{
    Leaves, ParamId, ParamView, Site, Walk, for_each, for_each_mut, for_each_state_mut, walk,
};
use crate::record::format::entry::RecordState;
use crate::record::format::error::RecordFormatError;
use crate::tensor::Tensor;

/// Loads the tensors and states of `record` into `model`.
pub(crate) fn load<M: Walk>(mut model: M, record: Record) -> Result<M, RecordError> {
    let order: Vec<ParamId> = record.iter().map(|(id, _)| id.clone()).collect();
    let (tensors, states) = record.into_tensors_and_states();
    let mut comparison = Comparison { unmatched: tensors, ..Comparison::default() };
    comparison.rename_aliases(&model, &order);
    for_each(&model, |site, param| comparison.param(site.path.into(), &param.shape()));
    comparison.leftovers(order);
    comparison.differences.extend(put_states(&mut model, states));
    let matched = comparison.finish()?;
    match put(&mut model, matched) {
        refused if refused.is_empty() => Ok(model),
        refused => Err(RecordError::Differences(refused)),
    }
}

/// Paths of a model, and what stands in their place in other names.
#[derive(Default)]
struct Aliases(Vec<(String, String)>);

impl Leaves for Aliases {
    fn param(&mut self, _site: Site<'_>, _param: ParamView<'_>) {}

    fn alias(&mut self, path: &str, alias: &str) {
        self.0.push((path.into(), alias.into()));
    }
}

/// The name in which `path` stands in place of `alias`.
fn own_name(id: &ParamId, path: &str, alias: &str) -> Option<ParamId> {
    let rest = id.as_str().strip_prefix(alias)?;
    (rest.is_empty() || rest.starts_with('.')).then(|| ParamId::new(format!("{path}{rest}")))
}

/// The comparison of a record with the parameters of a model.
#[derive(Default)]
struct Comparison {
    unmatched: HashMap<ParamId, Tensor>,
    matched: HashMap<ParamId, Tensor>,
    differences: Vec<Difference>,
    /// A path that two parameters of the model have.
    duplicate: Option<ParamId>,
}

impl Comparison {
    /// Gives tensors that the record has under aliases the names of the model's parameters.
    fn rename_aliases(&mut self, model: &impl Walk, order: &[ParamId]) {
        let mut aliases = Aliases::default();
        walk(model, &mut aliases);
        if aliases.0.is_empty() {
            return;
        }
        let mut params = HashSet::new();
        for_each(model, |site, _| {
            params.insert(ParamId::new(site.path));
        });
        for (path, alias) in &aliases.0 {
            self.rename(path, alias, &params, order);
        }
    }

    /// Takes tensors with names below `alias` for the parameters below `path`.
    fn rename(&mut self, path: &str, alias: &str, params: &HashSet<ParamId>, order: &[ParamId]) {
        for id in order {
            let own = own_name(id, path, alias).filter(|own| params.contains(own));
            let Some(own) = own.filter(|_| !params.contains(id)) else { continue };
            let Some(tensor) = self.unmatched.remove(id) else { continue };
            match self.unmatched.get(&own) {
                Some(other) if *other != tensor => {
                    self.differences.push(Difference::Alias { id: own, alias: id.clone() });
                }
                Some(_) => {}
                None => drop(self.unmatched.insert(own, tensor)),
            }
        }
    }

    fn param(&mut self, id: ParamId, shape: &[usize]) {
        match self.unmatched.remove(&id) {
            Some(tensor) if tensor.shape() == shape => {
                self.matched.insert(id, tensor);
            }
            Some(tensor) => {
                let (model, record) = (shape.into(), tensor.shape().into());
                self.differences.push(Difference::Shape { id, model, record });
            }
            None if self.matched.contains_key(&id) => self.duplicate = Some(id),
            None => self.differences.push(Difference::Missing { id, shape: shape.into() }),
        }
    }

    /// Adds the tensors that are not parameters of the model.
    fn leftovers(&mut self, order: Vec<ParamId>) {
        self.differences.extend(order.into_iter().filter_map(|id| {
            let shape = self.unmatched.get(&id)?.shape().into();
            Some(Difference::Unexpected { id, shape })
        }));
    }

    fn finish(self) -> Result<HashMap<ParamId, Tensor>, RecordError> {
        match self.duplicate {
            Some(id) => Err(RecordFormatError::DuplicateName { id }.into()),
            None if self.differences.is_empty() => Ok(self.matched),
            None => Err(RecordError::Differences(self.differences)),
        }
    }
}

/// Moves tensors into the parameters with their names; returns those that do not fit.
fn put(model: &mut impl Walk, mut tensors: HashMap<ParamId, Tensor>) -> Vec<Difference> {
    let mut differences = Vec::new();
    for_each_mut(model, |site, param| {
        let id = ParamId::new(site.path);
        let Some(tensor) = tensors.remove(&id) else { return };
        if let Err(source) = param.put(tensor) {
            differences.push(Difference::Storage { id, source });
        }
    });
    differences
}

/// Loads the states of state leaves; returns those that are not valid, or that no leaf loads.
fn put_states(model: &mut impl Walk, states: Vec<RecordState>) -> Vec<Difference> {
    let order: Vec<ParamId> = states.iter().map(|state| state.id.clone()).collect();
    let mut states: HashMap<ParamId, RecordState> =
        states.into_iter().map(|state| (state.id.clone(), state)).collect();
    let mut differences = Vec::new();
    for_each_state_mut(model, |site, leaf| {
        let id = ParamId::new(site.path);
        let is_own = states.get(&id).is_some_and(|state| state.kind == leaf.kind());
        let state = if is_own { states.remove(&id) } else { None };
        let data = state.as_ref().map(|state| &*state.data);
        if let Err(reason) = leaf.load(&id, data) {
            differences.push(Difference::State { id, reason });
        }
    });
    let left = order.into_iter().filter_map(|id| states.remove(&id));
    let left = left.map(|state| Difference::UnexpectedState { id: state.id, kind: state.kind });
    differences.extend(left);
    differences
}
