//! The tensors that engines take quantized: the matrices of linear layers.

use std::sync::Arc;

use quant::__private::is_stacked_experts;
use quant::ParamId;
use quant::QuantizeError;
use quant::moments::MomentSource;
use quant::quantize::{Candidate, Decision, PlannedActivation, PlannedKeyValues, Planner, Reason};

/// Whether engines take this tensor quantized: a matrix called `….weight` that is not an embedding
/// or the output layer.
pub(super) fn is_linear(id: &str, shape: &[usize]) -> bool {
    /// Parts of names of layers that engines load as floats: embeddings, also under the names that
    /// GPT-2 and BERT have for them, output layers, and routers of experts.
    const FLOAT: [&str; 7] = ["wte", "wpe", "lm_head", "classifier", "score", "router", "gate"];
    let Some(module) = id.strip_suffix(".weight") else { return false };
    let is_float = |part: &str| part.contains("embed") || FLOAT.contains(&part);
    shape.len() == 2 && !module.split('.').any(is_float)
}

/// Leaves float what engines load as floats, unless a rule names it.
pub(super) struct LinearOnly<'a>(pub(super) &'a dyn Planner);

impl Planner for LinearOnly<'_> {
    fn decide(&self, candidates: &[Candidate]) -> Result<Vec<Decision>, QuantizeError> {
        let decisions = self.0.decide(candidates)?.into_iter().zip(candidates);
        let decide = |(decision, candidate): (Decision, &Candidate)| {
            let info = &candidate.info;
            let by_default = !matches!(decision.reason(), Reason::Rule { .. });
            let is_float =
                by_default && decision.is_quantized() && !is_linear(info.id.as_str(), &info.shape);
            match is_float {
                false => decision,
                true if is_stacked_experts(info.id.as_str(), &info.shape) => {
                    Decision::keep(Reason::StackedInFormat)
                }
                true => Decision::keep(Reason::Format),
            }
        };
        Ok(decisions.map(decide).collect())
    }

    fn decide_activations(&self, ids: &[ParamId]) -> Result<Vec<PlannedActivation>, QuantizeError> {
        self.0.decide_activations(ids)
    }

    fn decide_key_values(&self, ids: &[ParamId]) -> Result<Vec<PlannedKeyValues>, QuantizeError> {
        self.0.decide_key_values(ids)
    }

    fn moments(&self) -> Option<Arc<dyn MomentSource>> {
        self.0.moments()
    }

    fn skips_non_finite(&self) -> bool {
        self.0.skips_non_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::is_linear;

    #[test]
    fn embeddings_routers_and_output_layers_stay_float() {
        for (name, expected) in [
            ("model.layers.0.self_attn.q_proj.weight", true),
            ("model.layers.0.mlp.gate_proj.weight", true),
            ("model.layers.0.mlp.gate.weight", false),
            ("model.embed_tokens.weight", false),
            ("embeddings.word_embeddings.weight", false),
            ("transformer.wte.weight", false),
            ("lm_head.weight", false),
            ("experts.gate_up_proj", false),
        ] {
            assert_eq!(is_linear(name, &[8, 8]), expected, "{name}");
        }
        assert!(!is_linear("conv.weight", &[8, 8, 3, 3]));
    }
}
