//! How good a quantized model is, on a text.

use quant::metrics::{LogitsComparison, LogitsSummary, negative_log_likelihood};

use crate::{Buffers, Llama, Logits, SmolError, Step};

/// Tokens of a window. Windows do not overlap; those of the second half are predicted from the ones
/// before them in the window, as `llama-perplexity` does.
pub const WINDOW: usize = 512;

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Quality {
    /// Tokens that were predicted.
    pub tokens: usize,
    /// `exp` of the mean of `-ln p`.
    pub perplexity: f64,
    /// The standard error of its logarithm.
    pub log_error: f64,
}

/// The perplexity of a model over the whole windows of a text. `progress` is called after each.
///
/// # Errors
/// A text that is shorter than a window, or what the model refuses.
pub fn perplexity(
    model: &Llama,
    tokens: &[u32],
    mut progress: impl FnMut(),
) -> Result<Quality, SmolError> {
    let mut losses = Vec::new();
    let mut reader = Reader::new(model);
    for window in windows(tokens)? {
        for (logits, &token) in reader.read(window)?.zip(&window[WINDOW / 2 + 1..]) {
            losses.push(negative_log_likelihood(logits, token as usize)?);
        }
        progress();
    }
    let count = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / count;
    let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let log_error = (variance / count).sqrt();
    Ok(Quality { tokens: losses.len(), perplexity: mean.exp(), log_error })
}

/// Compares a model with a reference over the whole windows of a text. `progress` is called after each.
///
/// # Errors
/// As [`perplexity`].
pub fn compare(
    [reference, model]: [&Llama; 2],
    tokens: &[u32],
    mut progress: impl FnMut(),
) -> Result<LogitsSummary, SmolError> {
    let mut comparison = LogitsComparison::new();
    let (mut reference, mut other) = (Reader::new(reference), Reader::new(model));
    for window in windows(tokens)? {
        let logits = reference.read(window)?.zip(other.read(window)?);
        for ((reference, logits), &token) in logits.zip(&window[WINDOW / 2 + 1..]) {
            comparison.add(reference, logits, Some(token as usize))?;
        }
        progress();
    }
    Ok(comparison.summary().expect("there is a window"))
}

fn windows(tokens: &[u32]) -> Result<impl Iterator<Item = &[u32]>, SmolError> {
    if tokens.len() < WINDOW {
        return Err(SmolError::Short { tokens: tokens.len(), least: WINDOW });
    }
    Ok(tokens.chunks_exact(WINDOW))
}

/// A model that reads windows.
struct Reader<'a> {
    model: &'a Llama,
    buffers: Buffers,
}

impl<'a> Reader<'a> {
    fn new(model: &'a Llama) -> Self {
        Self { model, buffers: Buffers::default() }
    }

    /// The logits of the second half of a window, but for the last token, which has no successor.
    fn read(&mut self, window: &[u32]) -> Result<impl Iterator<Item = &[f32]>, SmolError> {
        let mut sequence = self.model.sequence(window.len())?;
        let mut steps = [Step { tokens: window, sequence: &mut sequence }];
        let logits = self.model.forward(&mut steps, Logits::All, &mut self.buffers)?;
        let vocabulary = self.model.config().vocabulary.max(1);
        let logits = logits.as_slice().unwrap_or_default().chunks(vocabulary);
        Ok(logits.take(window.len() - 1).skip(WINDOW / 2))
    }
}
