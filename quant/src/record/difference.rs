//! Differences between a record and a model.

use core::fmt;

use crate::module::ParamId;
use crate::tensor::TensorError;

/// A difference between a record and the model that it was to be loaded into.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Difference {
    /// The record has no tensor for a parameter of the model.
    Missing {
        /// The parameter.
        id: ParamId,
        /// The shape in the model.
        shape: Vec<usize>,
    },
    /// The model has no parameter for a tensor of the record.
    Unexpected {
        /// The name of the tensor.
        id: ParamId,
        /// The shape in the record.
        shape: Vec<usize>,
    },
    /// The shapes of a parameter differ.
    Shape {
        /// The parameter.
        id: ParamId,
        /// The shape in the model.
        model: Vec<usize>,
        /// The shape in the record.
        record: Vec<usize>,
    },
    /// The record has a parameter under its own name and under an alias, with different values.
    Alias {
        /// The parameter.
        id: ParamId,
        /// The other name.
        alias: ParamId,
    },
    /// The storage of a parameter cannot hold the tensor, although the shapes are equal.
    Storage {
        /// The parameter.
        id: ParamId,
        /// The reason.
        source: TensorError,
    },
    /// No module of the model loads a state of the record.
    UnexpectedState {
        /// The path of the state.
        id: ParamId,
        /// The kind of the state.
        kind: String,
    },
    /// The state of an activation in the record is not valid.
    State {
        /// The path of the activation.
        id: ParamId,
        /// The reason.
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
            | Self::Alias { id, .. }
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
                write!(f, "not a parameter of the model; shape {shape:?}")
            }
            Self::Shape { model, record, .. } => {
                write!(f, "shape {record:?} in the record, but {model:?} in the model")
            }
            Self::Alias { alias, .. } => {
                write!(f, "differs from `{alias}`, an alias of this parameter")
            }
            Self::Storage { source, .. } => source.fmt(f),
            Self::UnexpectedState { kind, .. } => {
                write!(f, "no module of the model loads the state of kind `{kind}`")
            }
            Self::State { reason, .. } => f.write_str(reason),
        }
    }
}
