//! The continuation of a text.

use std::ops::ControlFlow;

use crate::{Buffers, Llama, Logits, Sampler, Sequence, SmolError, Step};

/// How a text is continued.
#[derive(Debug)]
pub struct Generation<'a> {
    /// The model.
    pub model: &'a Llama,
    /// The tokens so far, which it continues.
    pub sequence: &'a mut Sequence,
    /// Chooses tokens.
    pub sampler: &'a mut Sampler,
    /// Memory.
    pub buffers: &'a mut Buffers,
    /// The most tokens to add.
    pub most: usize,
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The caller said so.
    End,
    /// It has the most tokens that were asked for.
    Most,
    /// The sequence has no room for more.
    Full,
}

/// Adds `prompt` to the sequence, and then one token after the other, which `each` sees.
///
/// # Errors
/// An empty prompt, or one that is longer than the room, or what the model refuses.
pub fn generate(
    generation: Generation<'_>,
    prompt: &[u32],
    mut each: impl FnMut(u32) -> Result<ControlFlow<()>, SmolError>,
) -> Result<Stop, SmolError> {
    let Generation { model, sequence, sampler, buffers, most } = generation;
    let mut next = None;
    for _ in 0..most {
        let last = next.map(|token| [token]);
        let tokens = last.as_ref().map_or(prompt, |last| last);
        if last.is_some() && sequence.len() == sequence.capacity() {
            return Ok(Stop::Full);
        }
        let logits = model.forward(
            &mut [Step { tokens, sequence: &mut *sequence }],
            Logits::Last,
            buffers,
        )?;
        let logits = logits.as_slice().unwrap_or_default();
        let token = sampler.next(logits, sequence.len() - 1)?;
        if each(token)?.is_break() {
            return Ok(Stop::End);
        }
        next = Some(token);
    }
    Ok(Stop::Most)
}
