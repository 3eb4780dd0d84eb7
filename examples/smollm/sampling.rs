//! The choice of the next token.

use crate::SmolError;

/// Chooses tokens by their logits.
#[derive(Clone, Debug)]
pub struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    random: fastrand::Rng,
    /// Tokens and their probabilities, reused.
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// Always the most likely token; the first of several.
    pub fn greedy() -> Self {
        Self::random(0.0, 1, 1.0, 0)
    }

    /// One of the `top_k` most likely tokens (all if 0), and of those that share the greatest `top_p` of
    /// the probability, at a temperature. The same seed makes the same choices.
    pub fn random(temperature: f32, top_k: usize, top_p: f32, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { temperature, top_k, top_p, random, candidates: Vec::new() }
    }

    /// The next token; `position` is that of the logits, for errors.
    ///
    /// # Errors
    /// A logit that is not finite.
    pub fn next(&mut self, logits: &[f32], position: usize) -> Result<u32, SmolError> {
        let mut best = 0;
        for (token, logit) in logits.iter().enumerate() {
            if !logit.is_finite() {
                return Err(SmolError::NotFinite { position });
            }
            if *logit > logits[best] {
                best = token;
            }
        }
        if self.temperature <= 0.0 || self.top_k == 1 {
            return Ok(best as u32);
        }
        self.weigh(logits, logits.get(best).copied().unwrap_or(0.0));
        Ok(self.draw().unwrap_or(best as u32))
    }

    /// The candidates, the most likely first, with numbers in proportion to their probabilities.
    fn weigh(&mut self, logits: &[f32], most: f32) {
        let weight = |logit: &f32| ((logit - most) / self.temperature).exp();
        self.candidates.clear();
        self.candidates.extend((0..).zip(logits.iter().map(weight)));
        let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if (1..self.candidates.len()).contains(&self.top_k) {
            self.candidates.select_nth_unstable_by(self.top_k - 1, order);
            self.candidates.truncate(self.top_k);
        }
        self.candidates.sort_unstable_by(order);
        let mut left = self.top_p * self.candidates.iter().map(|(_, weight)| weight).sum::<f32>();
        let enough = self.candidates.iter().position(|(_, weight)| {
            left -= weight;
            left <= 0.0
        });
        self.candidates.truncate(enough.map_or(usize::MAX, |last| last + 1));
    }

    fn draw(&mut self) -> Option<u32> {
        let all: f32 = self.candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.f32() * all;
        let drawn = self.candidates.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        drawn.or(self.candidates.last()).map(|(token, _)| *token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -1.0];

    fn drawn(mut sampler: Sampler) -> Vec<u32> {
        let mut tokens: Vec<u32> = (0..500).map(|_| sampler.next(&LOGITS, 0).unwrap()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    #[test]
    fn greedy_takes_the_first_of_the_most_likely() {
        assert_eq!(Sampler::greedy().next(&[0.0, 2.0, 2.0], 0).unwrap(), 1);
    }

    #[test]
    fn only_candidates_are_drawn() {
        assert_eq!(drawn(Sampler::random(1.0, 0, 1.0, 1)), [0, 1, 2, 3]);
        assert_eq!(drawn(Sampler::random(1.0, 2, 1.0, 1)), [1, 2]);
        assert_eq!(drawn(Sampler::random(1.0, 0, 0.6, 1)), [1]);
        assert_eq!(drawn(Sampler::random(1.0, 0, 0.7, 1)), [1, 2]);
    }

    #[test]
    fn a_seed_repeats_its_choices() {
        let draw = |seed| {
            let mut sampler = Sampler::random(2.0, 0, 1.0, seed);
            (0..50).map(|_| sampler.next(&LOGITS, 0).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_logit_that_is_not_finite_is_an_error() {
        let error = Sampler::greedy().next(&[0.0, f32::NAN], 3).unwrap_err();
        assert_eq!(error.to_string(), "the logits at position 3 are not finite");
    }
}
