//! What can be different between a record and a model.

use crate::module::ParamId;
use crate::tensor::TensorError;
use core::fmt;

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
