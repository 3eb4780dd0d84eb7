//! Losses.

use candle_core::{D, Result, Tensor};

/// `log softmax` over the last axis.
fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// The mean cross entropy of scores, `[n, classes]`, and `n` labels, as a scalar.
///
/// # Errors
/// Shapes that do not fit, or a label that is not below `classes`.
pub fn cross_entropy(scores: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let labels = Tensor::new(labels, scores.device())?.unsqueeze(1)?;
    log_softmax(scores)?.gather(&labels, 1)?.mean_all()?.neg()
}

/// The distillation loss `T² · mean Σ p log(p / q)`, as a scalar: `p` and `q` are the softmax of
/// the teacher's and of the student's scores divided by the temperature `T` (Hinton et al., 2015).
///
/// The teacher gets no gradient. It is often the float model.
///
/// # Errors
/// Scores of different shapes.
pub fn distillation(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    let log_p = log_softmax(&(teacher.detach() / temperature)?)?;
    let log_q = log_softmax(&(student / temperature)?)?;
    let divergence = (log_p.exp()? * (log_p - log_q)?)?.sum(D::Minus1)?;
    divergence.mean_all()? * (temperature * temperature)
}
