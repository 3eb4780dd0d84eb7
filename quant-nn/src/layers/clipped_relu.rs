//! ReLU with a ceiling.

use std::sync::Arc;

use quant::ParamId;
use quant::module::{StateLeaf, Walk, Walker, WalkerMut};

use crate::backend::Backend;
use crate::error::ForwardError;

/// The name of the state in records.
const RECORD_KIND: &str = "ceiling/1";

/// `min(max(x, 0), ceiling)`, such as ReLU6.
///
/// ```
/// use ndarray::arr2;
/// use quant_nn::ClippedRelu;
///
/// let y = ClippedRelu::new(6.0).forward(arr2(&[[-1.0f32, 2.0, 7.0]]).into_dyn())?;
/// assert_eq!(y, arr2(&[[0.0, 2.0, 6.0]]).into_dyn());
/// # Ok::<(), quant_nn::ForwardError>(())
/// ```
#[derive(Clone, Debug, PartialEq, quant::Module)]
pub struct ClippedRelu {
    /// The ceiling.
    pub ceiling: Ceiling,
}

impl ClippedRelu {
    /// The function with the same ceiling for all channels.
    pub fn new(ceiling: f32) -> Self {
        Self { ceiling: Ceiling { initial: ceiling, channels: None } }
    }

    /// The function of each element of `x`, `[batch, channels, …]`.
    ///
    /// # Errors
    /// Another number of channels than the ceiling has.
    pub fn forward<A>(&self, x: A) -> Result<A, ForwardError>
    where
        A: Backend<Activation = A>,
    {
        A::clipped_relu(x, self.ceiling.channels().unwrap_or(&[self.ceiling.initial]))
    }
}

/// The ceiling of a [`ClippedRelu`]: one number, or one for each channel.
///
/// It is a state leaf, so that [`rescale`](quant::channels::rescale) can move factors through the function.
/// A record stores it once it is one for each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// Of all channels, before it was divided.
    initial: f32,
    channels: Option<Arc<[f32]>>,
}

impl Ceiling {
    /// The ceiling of each channel; `None` while all have the same.
    pub fn channels(&self) -> Option<&[f32]> {
        self.channels.as_deref()
    }
}

impl StateLeaf for Ceiling {
    fn kind(&self) -> &str {
        RECORD_KIND
    }

    fn save(&self) -> Option<Vec<u8>> {
        Some(self.channels()?.iter().flat_map(|ceiling| ceiling.to_le_bytes()).collect())
    }

    fn load(&mut self, _path: &ParamId, data: Option<&[u8]>) -> Result<(), String> {
        let Some(data) = data else {
            self.channels = None;
            return Ok(());
        };
        let (words, rest) = data.as_chunks();
        if !rest.is_empty() || words.is_empty() {
            return Err("the ceiling has not 4 bytes for each channel".into());
        }
        let ceilings: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        check(&ceilings)?;
        self.channels = Some(ceilings.into());
        Ok(())
    }

    fn divide_channels(&mut self, factors: &[f64], is_trial: bool) -> Result<(), String> {
        let before = self.channels().unwrap_or(std::slice::from_ref(&self.initial));
        if before.len() != 1 && before.len() != factors.len() {
            return Err(format!(
                "there are {} ceilings for {} channels",
                before.len(),
                factors.len()
            ));
        }
        let before = before.iter().cycle();
        let divided = before.zip(factors).map(|(&c, factor)| (f64::from(c) / factor) as f32);
        let divided: Vec<f32> = divided.collect();
        check(&divided)?;
        if !is_trial {
            self.channels = Some(divided.into());
        }
        Ok(())
    }
}

fn check(ceilings: &[f32]) -> Result<(), String> {
    match ceilings.iter().find(|ceiling| !(ceiling.is_finite() && **ceiling >= 0.0)) {
        Some(ceiling) => Err(format!("a ceiling is {ceiling}")),
        None => Ok(()),
    }
}

impl Walk for Ceiling {
    fn walk(&self, walker: &mut Walker<'_>) {
        walker.state(self);
    }

    fn walk_mut(&mut self, walker: &mut WalkerMut<'_>) {
        walker.state(self);
    }
}
