//! The second moments of the layers of a model.

use alloc::collections::BTreeMap;
use std::sync::Arc;

use super::error::MomentsError;
use super::layer::LayerMoments;
use crate::module::{ParamId, parent_of};

/// Second moments by path: of a layer, such as `layers.0.query`, or of its weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecondMoments {
    layers: BTreeMap<ParamId, Arc<LayerMoments>>,
}

impl SecondMoments {
    /// Of no layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the moments of a layer, or of a weight.
    pub fn insert(&mut self, id: impl Into<ParamId>, moments: LayerMoments) {
        self.layers.insert(id.into(), Arc::new(moments));
    }

    /// The moments with this path.
    pub fn get(&self, id: &str) -> Option<&LayerMoments> {
        self.layers.get(id).map(|moments| &**moments)
    }

    /// All paths and moments, in the order of paths.
    pub fn iter(&self) -> impl Iterator<Item = (&ParamId, &LayerMoments)> {
        self.layers.iter().map(|(id, moments)| (id, &**moments))
    }

    /// The moments for a parameter: its own, or those of the layer that it is a field of.
    pub(super) fn of_param(&self, id: &ParamId) -> Option<&Arc<LayerMoments>> {
        self.layers.get(id).or_else(|| self.layers.get(parent_of(id.as_str())))
    }

    /// Adds the rows of another part of the data, for the layers that both have, and its other layers.
    ///
    /// # Errors
    /// The first layer whose moments cannot be merged, with the reason. Layers before it are merged.
    pub fn merge(&mut self, other: &Self) -> Result<(), (ParamId, MomentsError)> {
        for (id, moments) in &other.layers {
            match self.layers.get_mut(id) {
                Some(own) => {
                    Arc::make_mut(own).merge(moments).map_err(|error| (id.clone(), error))?;
                }
                None => drop(self.layers.insert(id.clone(), moments.clone())),
            }
        }
        Ok(())
    }
}
