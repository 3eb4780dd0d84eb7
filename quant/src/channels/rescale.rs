//! Moving the factors.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::error::RescaleError;
use super::factors::ChannelMethod;
use super::pair::ChannelPair;
use super::weights::Weights;
use crate::module::{ParamId, Walk, for_each_state_mut};
use crate::table;

/// What [`rescale`] did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rescaled {
    /// The pairs, as they were given.
    pub pairs: Vec<RescaledPair>,
}

/// The factors of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RescaledPair {
    /// The layers.
    pub pair: ChannelPair,
    /// By what each output of the first layer was divided.
    pub factors: Vec<f64>,
}

/// Moves factors of channels between the layers of each pair. The model computes the same as before, but for
/// rounding, and is easier to quantize.
///
/// ```
/// use quant::channels::{ChannelMethod, ChannelPair, rescale};
/// use quant::{Module, Param};
///
/// #[derive(Module)]
/// struct Dense { weight: Param<[[f32; 2]; 2]>, bias: Param<[f32; 2]> }
/// #[derive(Module)]
/// struct Net { first: Dense, second: Dense } // with ReLU between
///
/// let dense = |weight: [[f32; 2]; 2]| Dense { weight: weight.into(), bias: [1.0, -2.0].into() };
/// let (first, second) = ([[8.0, -4.0], [0.5, 0.25]], [[1.0, 2.0], [0.5, -1.0]]);
/// let mut net = Net { first: dense(first), second: dense(second) };
///
/// let pairs = [ChannelPair::new("first", ["second"])];
/// rescale(&mut net, &pairs, &ChannelMethod::Equalize)?;
/// // The largest weight of each channel is now the same in both layers.
/// assert!((net.first.weight.value()[0][0] - 8f32.sqrt()).abs() < 1e-6);
/// assert!((net.second.weight.value()[0][0] - 8f32.sqrt()).abs() < 1e-6);
/// # Ok::<(), quant::channels::RescaleError>(())
/// ```
///
/// # Errors
/// A parameter that the model does not have, that is quantized already, whose shape does not fit, or with
/// values that are NaN or infinite; a ceiling that cannot move; moments that are missing. The model is as
/// before then.
///
/// # Panics
/// If a storage refuses to hold its own shape, which only a faulty [`FloatTensor`](crate::FloatTensor) does.
pub fn rescale<M: Walk>(
    model: &mut M,
    pairs: &[ChannelPair],
    method: &ChannelMethod,
) -> Result<Rescaled, RescaleError> {
    let mut weights = Weights::of(model, pairs)?;
    let mut all: Vec<Vec<f64>> = alloc::vec![Vec::new(); pairs.len()];
    for _ in 0..method.sweeps() {
        let mut change = 0.0f64;
        for (pair, all) in pairs.iter().zip(&mut all) {
            let factors = method.factors(&weights, pair)?;
            weights.scale(pair, &factors)?;
            let largest = factors.iter().map(|factor| factor.ln().abs()).fold(0.0, f64::max);
            change = change.max(largest);
            if all.is_empty() {
                *all = factors;
            } else {
                all.iter_mut().zip(factors).for_each(|(all, factor)| *all *= factor);
            }
        }
        if change < 1e-3 {
            break;
        }
    }
    weights.check()?;
    divide_ceilings(model, pairs, &all)?;
    weights.write(model);
    let rescaled =
        |(pair, factors): (&ChannelPair, _)| RescaledPair { pair: pair.clone(), factors };
    Ok(Rescaled { pairs: pairs.iter().zip(all).map(rescaled).collect() })
}

/// Divides the ceilings of all pairs, or none.
fn divide_ceilings(
    model: &mut impl Walk,
    pairs: &[ChannelPair],
    factors: &[Vec<f64>],
) -> Result<(), RescaleError> {
    let ceilings = || {
        let with = |(pair, factors): (&ChannelPair, _)| Some((pair.ceiling.clone()?, factors));
        pairs.iter().zip(factors).filter_map(with)
    };
    // The first time, nothing changes: a leaf only says whether it could.
    for is_trial in [true, false] {
        for (path, factors) in ceilings() {
            let mut done = Err(String::from("the model has no such state"));
            for_each_state_mut(model, |site, leaf| {
                if site.path == path.as_str() {
                    done = leaf.divide_channels(factors, is_trial);
                }
            });
            done.map_err(|reason| RescaleError::Ceiling { id: path, reason })?;
        }
    }
    Ok(())
}

/// A table with a line for each pair.
impl fmt::Display for Rescaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |RescaledPair { pair, factors }: &RescaledPair| {
            let then: Vec<&str> = pair.then.iter().map(ParamId::as_str).collect();
            let ceiling = match &pair.ceiling {
                Some(ceiling) => alloc::format!("{ceiling} / s"),
                None => String::new(),
            };
            let least = factors.iter().copied().fold(f64::INFINITY, f64::min);
            let largest = factors.iter().copied().fold(0.0, f64::max);
            let number = |value: f64| alloc::format!("{value:.3e}");
            [pair.first.to_string(), then.join(", "), ceiling, number(least), number(largest)]
        };
        let head = ["divided", "multiplied", "ceiling", "least s", "largest s"];
        table::write(f, head, self.pairs.iter().map(row), 3..5)
    }
}
