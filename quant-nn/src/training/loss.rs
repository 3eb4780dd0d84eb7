//! What is minimized.

use candle_core::{D, Result, Tensor};

/// `log softmax` over the last axis.
fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// The mean cross entropy of scores, `[n, classes]`, and the right classes, as a scalar.
///
/// # Errors
/// Shapes that do not fit, or a label that is no class.
pub fn cross_entropy(scores: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let labels = Tensor::new(labels, scores.device())?.unsqueeze(1)?;
    log_softmax(scores)?.gather(&labels, 1)?.mean_all()?.neg()
}

/// What a student loses on its teacher: `T² · mean Σ p log(p / q)`, with `p` and `q` the softmax of
/// the teacher's and the student's scores over `T` (Hinton et al., 2015), as a scalar.
///
/// Gradients do not reach the teacher: often the float model that quantization began with.
///
/// # Errors
/// Scores of different shapes.
pub fn distillation(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Tensor> {
    let log_p = log_softmax(&(teacher.detach() / temperature)?)?;
    let log_q = log_softmax(&(student / temperature)?)?;
    let divergence = (log_p.exp()? * (log_p - log_q)?)?.sum(D::Minus1)?;
    divergence.mean_all()? * (temperature * temperature)
}
