//! Layers between which factors can move.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::module::ParamId;

/// A layer, and the layers that take its outputs.
///
/// The outputs must go nowhere else, and only through functions with `f(s · y) = s · f(y)` for `s > 0`: ReLU,
/// pooling, sums over positions, no function at all. A clipped ReLU has a ceiling, which is a state that moves
/// along. Nobody can check this but you; shapes are checked.
///
/// ```
/// use quant::channels::ChannelPair;
///
/// // What follows a norm.
/// let pair = ChannelPair::new("layers.0.norm", ["layers.0.query", "layers.0.key", "layers.0.value"]);
/// // A clipped ReLU between.
/// let pair = ChannelPair::new("expand", ["depthwise"]).ceiling("relu.ceiling");
/// assert_eq!(pair.ceiling, Some("relu.ceiling".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ChannelPair {
    /// The path of the layer whose outputs are divided: its parameters `weight` and, if it has one, `bias`.
    pub first: ParamId,
    /// The path of the state that holds the ceiling of the function between, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<ParamId>,
    /// The paths of the layers that take the outputs.
    pub then: Vec<ParamId>,
}

impl ChannelPair {
    /// The pair without a ceiling.
    pub fn new(
        first: impl Into<ParamId>,
        then: impl IntoIterator<Item = impl Into<ParamId>>,
    ) -> Self {
        let then = then.into_iter().map(Into::into).collect();
        Self { first: first.into(), ceiling: None, then }
    }

    /// With the state at this path, which holds a ceiling.
    #[must_use]
    pub fn ceiling(self, path: impl Into<ParamId>) -> Self {
        Self { ceiling: Some(path.into()), ..self }
    }
}

/// The path of a field of a layer.
pub(super) fn field(layer: &ParamId, name: &str) -> ParamId {
    match layer.as_str() {
        "" => name.into(),
        layer => ParamId::from(alloc::format!("{layer}.{name}") as String),
    }
}
