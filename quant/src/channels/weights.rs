//! The parameters of the layers of pairs, while factors are found.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::error::RescaleError;
use super::pair::{ChannelPair, field};
use crate::module::map::for_each_mut;
use crate::module::{ParamId, Walk, change_values, for_each};

/// A weight or a bias.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) shape: Vec<usize>,
    /// In row-major order. In `f64`, since several pairs may share a weight.
    pub(super) values: Vec<f64>,
    /// The axis of the outputs of the layer.
    outputs: usize,
}

/// How channels lie in a tensor: `inner` neighbours belong to one, `channels` of them follow each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) channels: usize,
    inner: usize,
}

impl Layout {
    fn along(shape: &[usize], axis: usize) -> Self {
        Self { channels: shape[axis], inner: shape[axis + 1..].iter().product() }
    }

    /// The channel of each element.
    fn of_each(self) -> impl Iterator<Item = usize> {
        (0..).map(move |at| at / self.inner.max(1) % self.channels.max(1))
    }

    /// The largest magnitude of each channel.
    pub(super) fn magnitudes(self, values: &[f64]) -> Vec<f64> {
        let mut largest = alloc::vec![0.0f64; self.channels];
        for (value, channel) in values.iter().zip(self.of_each()) {
            largest[channel] = largest[channel].max(value.abs());
        }
        largest
    }

    /// Multiplies each channel by its factor.
    pub(super) fn scale(self, values: &mut [f64], factor: impl Fn(usize) -> f64) {
        for (value, channel) in values.iter_mut().zip(self.of_each()) {
            *value *= factor(channel);
        }
    }
}

/// The parameters of all layers of pairs, by path.
pub(super) struct Weights(BTreeMap<ParamId, Values>);

impl Weights {
    /// Reads the parameters that the pairs name.
    pub(super) fn of(model: &impl Walk, pairs: &[ChannelPair]) -> Result<Self, RescaleError> {
        let (mut wanted, mut found) = (BTreeSet::new(), BTreeMap::new());
        for pair in pairs {
            if pair.then.is_empty() || pair.then.contains(&pair.first) {
                return Err(RescaleError::Pair { id: pair.first.clone() });
            }
            wanted.insert(field(&pair.first, "bias"));
            wanted.extend(layers(pair).map(|layer| field(layer, "weight")));
        }
        let mut failed = None;
        for_each(model, |site, param| {
            let id = ParamId::from(site.path);
            if !wanted.contains(&id) {
                return;
            }
            if param.is_quantized() {
                failed.get_or_insert(RescaleError::Quantized { id });
                return;
            }
            let values: Vec<f64> = param.values().iter().map(|&value| f64::from(value)).collect();
            if values.iter().any(|value| !value.is_finite()) {
                failed.get_or_insert(RescaleError::NonFinite { id });
                return;
            }
            let shape = param.shape().into_owned();
            let outputs = site.outputs.resolve(shape.len()).unwrap_or(0);
            found.insert(id, Values { shape, values, outputs });
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Self(found)),
        }
    }

    pub(super) fn get(&self, layer: &ParamId) -> Result<&Values, RescaleError> {
        let id = field(layer, "weight");
        self.0.get(&id).ok_or(RescaleError::Missing { id })
    }

    /// How the outputs of a layer lie in its weight.
    pub(super) fn outputs(&self, layer: &ParamId) -> Result<Layout, RescaleError> {
        let Values { shape, outputs, .. } = self.get(layer)?;
        if shape.len() <= *outputs {
            let id = field(layer, "weight");
            return Err(RescaleError::Channels { id, shape: shape.clone(), channels: 1 });
        }
        Ok(Layout::along(shape, *outputs))
    }

    /// How the inputs of a layer, which are so many, lie in its weight.
    pub(super) fn inputs(&self, layer: &ParamId, channels: usize) -> Result<Layout, RescaleError> {
        let Values { shape, outputs, .. } = self.get(layer)?;
        match (&shape[..], outputs) {
            // A depthwise convolution has a kernel for each channel.
            (&[first, 1, _, ..], 0) if first == channels => Ok(Layout::along(shape, 0)),
            (&[_, second, ..], 0) if second == channels => Ok(Layout::along(shape, 1)),
            (&[first, _, ..], 1) if first == channels => Ok(Layout::along(shape, 0)),
            _ => {
                let id = field(layer, "weight");
                Err(RescaleError::Channels { id, shape: shape.clone(), channels })
            }
        }
    }

    /// Divides the outputs of the first layer, and multiplies the inputs of those that follow.
    pub(super) fn scale(
        &mut self,
        pair: &ChannelPair,
        factors: &[f64],
    ) -> Result<(), RescaleError> {
        let outputs = self.outputs(&pair.first)?;
        let inputs: Vec<Layout> = pair
            .then
            .iter()
            .map(|layer| self.inputs(layer, factors.len()))
            .collect::<Result<_, _>>()?;
        let (weight, bias) = (field(&pair.first, "weight"), field(&pair.first, "bias"));
        if let Some(bias) = self.0.get_mut(&bias) {
            if bias.values.len() != factors.len() {
                let (id, shape) = (field(&pair.first, "bias"), bias.shape.clone());
                return Err(RescaleError::Channels { id, shape, channels: factors.len() });
            }
            bias.values.iter_mut().zip(factors).for_each(|(value, factor)| *value /= factor);
        }
        let values = |weights: &mut Self, id: &ParamId, layout: Layout, invert: bool| {
            if let Some(weight) = weights.0.get_mut(id) {
                layout.scale(&mut weight.values, |channel| match invert {
                    true => factors[channel].recip(),
                    false => factors[channel],
                });
            }
        };
        values(self, &weight, outputs, true);
        for (layer, layout) in pair.then.iter().zip(inputs) {
            values(self, &field(layer, "weight"), layout, false);
        }
        Ok(())
    }

    /// Checks that every value is finite when it is rounded.
    pub(super) fn check(&self) -> Result<(), RescaleError> {
        let is_finite = |of: &Values| of.values.iter().all(|&value| (value as f32).is_finite());
        match self.0.iter().find(|(_, values)| !is_finite(values)) {
            Some((id, _)) => Err(RescaleError::NonFinite { id: id.clone() }),
            None => Ok(()),
        }
    }

    /// Writes the values back.
    pub(super) fn write(self, model: &mut impl Walk) {
        for_each_mut(model, |site, param| {
            if let Some(new) = self.0.get(site.path) {
                change_values(param, |values| {
                    values.iter_mut().zip(&new.values).for_each(|(to, &value)| *to = value as f32);
                })
                .expect("the parameter is float, and its storage holds its own shape");
            }
        });
    }
}

/// The layers of a pair.
fn layers(pair: &ChannelPair) -> impl Iterator<Item = &ParamId> {
    core::iter::once(&pair.first).chain(&pair.then)
}
