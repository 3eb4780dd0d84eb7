//! Loading a record into a model, and what can be different between the two.

use core::fmt;
use std::collections::HashMap;

use super::{Record, RecordError, State};
use crate::activation::RECORD_KIND;
use crate::module::{Module, ParamId, for_each, for_each_activation_mut, for_each_mut};
use crate::tensor::{Tensor, TensorError};

/// Something in which a record and a model differ.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Difference {
    /// The model has a parameter that the record does not have.
    Missing {
        /// The parameter.
        id: ParamId,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The record has a tensor that the model has no parameter for.
    Unexpected {
        /// The tensor's name.
        id: ParamId,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A parameter has another shape in the record.
    Shape {
        /// The parameter.
        id: ParamId,
        /// Its shape in the model.
        model: Vec<usize>,
        /// Its shape in the record.
        record: Vec<usize>,
    },
    /// A parameter's storage cannot hold the tensor, though it has the right shape.
    Storage {
        /// The parameter.
        id: ParamId,
        /// Why.
        source: TensorError,
    },
    /// The record has a state that no module of the model takes.
    UnexpectedState {
        /// The state's path.
        id: ParamId,
        /// Its kind.
        kind: String,
    },
    /// The record's state of an activation does not make sense.
    State {
        /// The activation's path.
        id: ParamId,
        /// Why.
        reason: String,
    },
}

impl Difference {
    /// The path of the parameter or state.
    pub fn id(&self) -> &ParamId {
        match self {
            Self::Missing { id, .. }
            | Self::Unexpected { id, .. }
            | Self::Shape { id, .. }
            | Self::Storage { id, .. }
            | Self::UnexpectedState { id, .. }
            | Self::State { id, .. } => id,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.id())?;
        match self {
            Self::Missing { shape, .. } => write!(f, "missing in the record; shape {shape:?}"),
            Self::Unexpected { shape, .. } => {
                write!(f, "unexpected, the model has no such parameter; shape {shape:?}")
            }
            Self::Shape { model, record, .. } => {
                write!(f, "shape {record:?} in the record, but {model:?} in the model")
            }
            Self::Storage { source, .. } => source.fmt(f),
            Self::UnexpectedState { kind, .. } => {
                write!(f, "unexpected state of kind `{kind}`, no module takes it")
            }
            Self::State { reason, .. } => f.write_str(reason),
        }
    }
}

/// `model` with the parameters of `record`.
pub(crate) fn load<M: Module>(mut model: M, record: Record) -> Result<M, RecordError> {
    let order: Vec<ParamId> = record.iter().map(|(id, _)| id.clone()).collect();
    let (mut tensors, states) = record.into_parts();
    let mut differences = Vec::new();
    let mut matched = HashMap::new();
    let mut duplicate = None;
    for_each(&model, |site, param| {
        let (id, shape) = (ParamId::new(site.path), param.shape());
        match tensors.remove(&id) {
            Some(tensor) if tensor.shape() == &*shape => {
                matched.insert(id, tensor);
            }
            Some(tensor) => {
                let (model, record) = (shape.into_owned(), tensor.shape().into());
                differences.push(Difference::Shape { id, model, record });
            }
            None if matched.contains_key(&id) => duplicate = Some(id),
            None => differences.push(Difference::Missing { id, shape: shape.into_owned() }),
        }
    });
    if let Some(id) = duplicate {
        return Err(RecordError::DuplicateName { id });
    }
    differences.extend(order.into_iter().filter_map(|id| {
        let shape = tensors.get(&id)?.shape().into();
        Some(Difference::Unexpected { id, shape })
    }));
    differences.extend(put_states(&mut model, states));
    if differences.is_empty() {
        differences = put(&mut model, matched);
    }
    if differences.is_empty() { Ok(model) } else { Err(RecordError::Differences(differences)) }
}

/// Moves tensors into the parameters of their names, and says which did not fit.
fn put(model: &mut impl Module, mut tensors: HashMap<ParamId, Tensor>) -> Vec<Difference> {
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

/// Gives activations the states of their paths; returns those that fit nowhere, or make no sense.
fn put_states(model: &mut impl Module, mut states: Vec<State>) -> Vec<Difference> {
    let mut differences = Vec::new();
    for_each_activation_mut(model, |site, activation| {
        let own = |state: &State| state.id == *site.path && state.kind == RECORD_KIND;
        let state = states.iter().position(own).map(|position| states.remove(position));
        let data = state.as_ref().map(|state| &*state.data);
        if let Err(reason) = activation.decode(site.path.into(), data) {
            differences.push(Difference::State { id: site.path.into(), reason });
        }
    });
    let left = states.into_iter().map(|s| Difference::UnexpectedState { id: s.id, kind: s.kind });
    differences.extend(left);
    differences
}
