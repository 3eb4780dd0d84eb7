//! How good a quantized language model is, from the logits of its next tokens.
//!
//! Logits are a slice with one value for each token of the vocabulary. They need not be normalized:
//! `p = softmax(logits)`. `-∞` is a probability of 0. Everything is computed in f64, in the order of
//! tokens and positions (`docs/numerics.md`, rule 14).
//!
//! ```
//! use quant::metrics::LogitsComparison;
//!
//! let float = [[2.0, 0.5, -1.0], [0.0, 3.0, 1.0]];
//! let int8 = [[2.1, 0.4, -1.0], [0.1, 2.8, 1.0]];
//! let next_tokens = [0, 1];
//!
//! let mut comparison = LogitsComparison::new();
//! for ((float, int8), token) in float.iter().zip(&int8).zip(next_tokens) {
//!     comparison.add(float, int8, Some(token))?;
//! }
//! let summary = comparison.summary().expect("there are two positions");
//! assert_eq!(summary.same_top, 1.0);
//! assert!(summary.kl.mean < 0.01);
//! # Ok::<(), quant::metrics::LogitsError>(())
//! ```

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use serde::{Deserialize, Serialize};

/// Why logits cannot be used.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LogitsError {
    /// There are no logits, or all of them are `-∞`.
    Empty,
    /// A logit is NaN or `+∞`.
    NonFinite {
        /// The token.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// Two models have vocabularies of different sizes.
    Vocabulary {
        /// The number of logits of the reference.
        reference: usize,
        /// The number of logits of the other model.
        other: usize,
    },
    /// A token is not in the vocabulary.
    Token {
        /// The token.
        token: usize,
        /// The number of logits.
        vocabulary: usize,
    },
}

impl fmt::Display for LogitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no token has a probability above 0"),
            Self::NonFinite { token, value } => write!(f, "the logit of token {token} is {value}"),
            Self::Vocabulary { reference, other } => {
                write!(f, "{other} logits, but {reference} of the reference")
            }
            Self::Token { token, vocabulary } => {
                write!(f, "token {token} is not in a vocabulary of {vocabulary}")
            }
        }
    }
}

impl Error for LogitsError {}

/// Logits of one position, with what their softmax needs.
#[derive(Clone, Copy)]
struct Logits<'a> {
    values: &'a [f32],
    /// The first token with the largest logit.
    top: usize,
    /// `ln Σ exp(logit)`.
    log_sum: f64,
}

impl<'a> Logits<'a> {
    fn new(values: &'a [f32]) -> Result<Self, LogitsError> {
        let mut top = 0;
        for (token, &value) in values.iter().enumerate() {
            if value.is_nan() || value == f32::INFINITY {
                return Err(LogitsError::NonFinite { token, value });
            }
            if value > values[top] {
                top = token;
            }
        }
        let max = match values.get(top) {
            Some(&max) if max > f32::NEG_INFINITY => f64::from(max),
            _ => return Err(LogitsError::Empty),
        };
        let sum: f64 = values.iter().map(|&value| (f64::from(value) - max).exp()).sum();
        Ok(Self { values, top, log_sum: max + sum.ln() })
    }

    /// The logarithm of the probability of a token.
    fn log_probability(self, token: usize) -> Result<f64, LogitsError> {
        match self.values.get(token) {
            Some(&value) => Ok(f64::from(value) - self.log_sum),
            None => Err(LogitsError::Token { token, vocabulary: self.values.len() }),
        }
    }

    fn kl_divergence(self, other: Self) -> Result<f64, LogitsError> {
        let (reference, len) = (self.values.len(), other.values.len());
        if reference != len {
            return Err(LogitsError::Vocabulary { reference, other: len });
        }
        let terms = self.values.iter().zip(other.values).map(|(&p, &q)| {
            let log_p = f64::from(p) - self.log_sum;
            // A token that never comes adds nothing, whatever the other model says of it.
            if p == f32::NEG_INFINITY {
                return 0.0;
            }
            log_p.exp() * (log_p - (f64::from(q) - other.log_sum))
        });
        // The sum is not negative but for rounding.
        Ok(terms.sum::<f64>().max(0.0))
    }
}

/// The negative log-likelihood of a token, in nats. The perplexity of a text is `exp` of the mean.
///
/// # Errors
/// The logits or the token are not valid.
///
/// ```
/// use quant::metrics::negative_log_likelihood;
///
/// let nll = negative_log_likelihood(&[0.0, 0.0, 0.0, 0.0], 2)?;
/// assert!((nll.exp() - 4.0).abs() < 1e-12);
/// # Ok::<(), quant::metrics::LogitsError>(())
/// ```
pub fn negative_log_likelihood(logits: &[f32], token: usize) -> Result<f64, LogitsError> {
    Ok(-Logits::new(logits)?.log_probability(token)?)
}

/// The Kullback-Leibler divergence of the reference's distribution from that of `logits`, in nats:
/// `Σ p (ln p - ln q)`. It is `+∞` if a token with `p > 0` has `q = 0`.
///
/// # Errors
/// The logits are not valid, or not as many.
///
/// ```
/// use quant::metrics::kl_divergence;
///
/// assert_eq!(kl_divergence(&[1.0, 2.0], &[11.0, 12.0])?, 0.0);
/// # Ok::<(), quant::metrics::LogitsError>(())
/// ```
pub fn kl_divergence(reference: &[f32], logits: &[f32]) -> Result<f64, LogitsError> {
    Logits::new(reference)?.kl_divergence(Logits::new(logits)?)
}

/// The most likely token; the first one of several that are equal.
///
/// # Errors
/// The logits are not valid.
///
/// ```
/// assert_eq!(quant::metrics::top_token(&[0.5, 2.0, 2.0])?, 1);
/// # Ok::<(), quant::metrics::LogitsError>(())
/// ```
pub fn top_token(logits: &[f32]) -> Result<usize, LogitsError> {
    Ok(Logits::new(logits)?.top)
}

/// Compares the next-token distributions of two models, position by position.
///
/// It keeps one number for each position, and [`summary`](Self::summary) gives the figures. See the
/// [module](self) for an example.
#[derive(Clone, Debug, Default)]
pub struct LogitsComparison {
    divergences: Vec<f64>,
    same_top: usize,
    tokens: Vec<Likelihoods>,
}

/// Log-probabilities of the right token.
#[derive(Clone, Copy, Debug)]
struct Likelihoods {
    reference: f64,
    other: f64,
}

impl LogitsComparison {
    /// Without any position.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a position: the logits of the reference and of the other model, and the token that comes
    /// next in the text, if it is known.
    ///
    /// # Errors
    /// The logits or the token are not valid. The comparison is unchanged then.
    pub fn add(
        &mut self,
        reference: &[f32],
        other: &[f32],
        token: Option<usize>,
    ) -> Result<(), LogitsError> {
        let (reference, other) = (Logits::new(reference)?, Logits::new(other)?);
        let divergence = reference.kl_divergence(other)?;
        if let Some(token) = token {
            let of = |logits: Logits<'_>| logits.log_probability(token);
            self.tokens.push(Likelihoods { reference: of(reference)?, other: of(other)? });
        }
        self.divergences.push(divergence);
        self.same_top += usize::from(reference.top == other.top);
        Ok(())
    }

    /// The number of positions.
    pub fn len(&self) -> usize {
        self.divergences.len()
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.divergences.is_empty()
    }

    /// The figures over all positions; `None` without any.
    pub fn summary(&self) -> Option<LogitsSummary> {
        let kl = Distribution::of(&self.divergences)?;
        let same_top = self.same_top as f64 / self.len() as f64;
        Some(LogitsSummary { positions: self.len(), kl, same_top, text: self.text() })
    }

    fn text(&self) -> Option<TextSummary> {
        let change = |it: &Likelihoods| it.other.exp() - it.reference.exp();
        let squares = Mean::of(self.tokens.iter().map(|it| change(it) * change(it)))?;
        let reference = Mean::of(self.tokens.iter().map(|it| -it.reference))?;
        let other = Mean::of(self.tokens.iter().map(|it| -it.other))?;
        let log_ratio = Mean::of(self.tokens.iter().map(|it| it.reference - it.other))?;
        Some(TextSummary {
            tokens: self.tokens.len(),
            reference_perplexity: reference.value.exp(),
            perplexity: other.value.exp(),
            log_ratio,
            rms_change: squares.value.sqrt(),
        })
    }
}

/// A mean and its standard error, `s / √n` with the sample's standard deviation `s`; the error is 0
/// for a single value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// The standard error of the mean.
    pub error: f64,
}

impl Mean {
    fn of(values: impl ExactSizeIterator<Item = f64> + Clone) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let value = values.clone().sum::<f64>() / count as f64;
        let squares: f64 = values.map(|it| (it - value) * (it - value)).sum();
        let spread = (count.max(2) - 1) as f64 * count as f64;
        Some(Self { value, error: (squares / spread).sqrt() })
    }
}

/// The distribution of a figure over positions. Quantiles are interpolated linearly between
/// neighbours: quantile `f` of `n` sorted values is at position `f (n - 1)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Distribution {
    /// The mean.
    pub mean: f64,
    /// The standard error of the mean.
    pub error: f64,
    /// Half of the values are at most this.
    pub median: f64,
    /// 99 % of the values are at most this.
    pub percentile_99: f64,
    /// 99.9 % of the values are at most this.
    pub percentile_99_9: f64,
    /// The largest value.
    pub max: f64,
}

impl Distribution {
    fn of(values: &[f64]) -> Option<Self> {
        let Mean { value: mean, error } = Mean::of(values.iter().copied())?;
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |fraction: f64| {
            let at = fraction * (sorted.len() - 1) as f64;
            let (low, weight) = (sorted[at as usize], at.fract());
            let high = sorted[(at as usize + 1).min(sorted.len() - 1)];
            // Equal neighbours may be infinite.
            if weight == 0.0 || low == high { low } else { low + (high - low) * weight }
        };
        Some(Self {
            mean,
            error,
            median: quantile(0.5),
            percentile_99: quantile(0.99),
            percentile_99_9: quantile(0.999),
            max: quantile(1.0),
        })
    }
}

/// How far a model is from its reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogitsSummary {
    /// The number of positions.
    pub positions: usize,
    /// Kullback-Leibler divergences of the reference from the other model, in nats.
    pub kl: Distribution,
    /// The share of positions whose most likely token is the same, from 0 to 1.
    pub same_top: f64,
    /// Figures of the positions whose next token is known; `None` without any.
    pub text: Option<TextSummary>,
}

/// How well both models predict a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TextSummary {
    /// The number of tokens.
    pub tokens: usize,
    /// The perplexity of the reference: `exp` of its mean negative log-likelihood.
    pub reference_perplexity: f64,
    /// The perplexity of the other model.
    pub perplexity: f64,
    /// `ln(perplexity / reference_perplexity)`. Its error is that of the paired differences, which is
    /// smaller than the error of either perplexity.
    pub log_ratio: Mean,
    /// The root mean square of the change in the probability of the right token.
    pub rms_change: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * b.abs().max(1.0)
    }

    #[test]
    fn figures_are_those_of_the_definitions() {
        // p = (1/4, 3/4), q = (1/2, 1/2).
        let (p, q) = ([0.0, 3f32.ln()], [7.0, 7.0]);
        let kl = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        assert!((kl_divergence(&p, &q).unwrap() - kl).abs() < 1e-7);
        assert!((negative_log_likelihood(&p, 1).unwrap() - (4.0f64 / 3.0).ln()).abs() < 1e-7);

        let mut comparison = LogitsComparison::new();
        comparison.add(&p, &q, Some(1)).unwrap();
        comparison.add(&q, &q, Some(0)).unwrap();
        let summary = comparison.summary().unwrap();
        assert_eq!((summary.positions, summary.same_top), (2, 0.5));
        assert!((summary.kl.mean - kl / 2.0).abs() < 1e-7);
        assert!((summary.kl.median - kl / 2.0).abs() < 1e-7);
        assert!((summary.kl.max - kl).abs() < 1e-7);
        let text = summary.text.unwrap();
        assert!((text.reference_perplexity - (8.0f64 / 3.0).sqrt()).abs() < 1e-6);
        assert!(close(text.perplexity, 2.0));
        assert!((text.log_ratio.value - 1.5f64.ln() / 2.0).abs() < 1e-7);
        assert!((text.log_ratio.error - 1.5f64.ln() / 2.0).abs() < 1e-7);
        assert!((text.rms_change - 0.25 / 2f64.sqrt()).abs() < 1e-7);
    }

    #[test]
    fn a_shift_of_all_logits_changes_nothing() {
        let a = [1.0, -2.0, 0.5];
        let b = a.map(|it| it + 1024.0);
        assert_eq!(kl_divergence(&a, &b), Ok(0.0));
        assert!(close(
            negative_log_likelihood(&a, 1).unwrap(),
            negative_log_likelihood(&b, 1).unwrap()
        ));
    }

    #[test]
    fn a_masked_token_has_probability_0() {
        let masked = [0.0, f32::NEG_INFINITY];
        assert_eq!(kl_divergence(&masked, &[0.0, 0.0]).unwrap(), 2f64.ln());
        assert_eq!(kl_divergence(&[0.0, 0.0], &masked), Ok(f64::INFINITY));
        assert_eq!(negative_log_likelihood(&masked, 1), Ok(f64::INFINITY));
    }

    #[test]
    fn quantiles_are_interpolated() {
        let values: Vec<f64> = (0..=1000).rev().map(f64::from).collect();
        let distribution = Distribution::of(&values).unwrap();
        assert_eq!(distribution.median, 500.0);
        assert_eq!(distribution.percentile_99, 990.0);
        assert_eq!(distribution.percentile_99_9, 999.0);
        assert_eq!(distribution.max, 1000.0);
        assert_eq!(Distribution::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Distribution::of(&[f64::INFINITY; 3]).unwrap().percentile_99, f64::INFINITY);
        assert_eq!(Distribution::of(&[]), None);
    }

    #[test]
    fn invalid_logits_are_errors_that_leave_the_comparison_unchanged() {
        let mut comparison = LogitsComparison::new();
        let nan = comparison.add(&[0.0, f32::NAN], &[0.0, 0.0], None);
        assert!(matches!(nan, Err(LogitsError::NonFinite { token: 1, .. })));
        for (reference, other, token, expected) in [
            (&[][..], &[][..], None, LogitsError::Empty),
            (&[f32::NEG_INFINITY], &[0.0], None, LogitsError::Empty),
            (
                &[0.0],
                &[f32::INFINITY],
                None,
                LogitsError::NonFinite { token: 0, value: f32::INFINITY },
            ),
            (&[0.0], &[0.0, 0.0], None, LogitsError::Vocabulary { reference: 1, other: 2 }),
            (&[0.0], &[0.0], Some(1), LogitsError::Token { token: 1, vocabulary: 1 }),
        ] {
            assert_eq!(comparison.add(reference, other, token), Err(expected));
            assert!(!expected.to_string().is_empty());
        }
        assert!(comparison.is_empty());
        assert_eq!(comparison.summary(), None);
    }
}
