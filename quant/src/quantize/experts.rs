//! The weights of several experts in one tensor.

use crate::module::ParamInfo;
use crate::scheme::{Axis, Block, Granularity, QuantizationScheme};

/// Whether a parameter is stacked weights of experts, `[expert, out, in]`, by its rank and its name.
///
/// The names are those of Mixtral, Qwen, gpt-oss, `DeepSeek`, Llama 4 and Granite, and of GGUF files.
pub fn is_stacked(id: &str, shape: &[usize]) -> bool {
    let is_experts =
        |part: &str| part.contains("expert") || part.contains("moe") || part.ends_with("_exps");
    // A convolution is called `weight`, too, but not a projection that is a parameter itself.
    shape.len() == 3 && (id.split('.').any(is_experts) || id.ends_with("_proj"))
}

/// The scheme of a parameter that no rule names. Stacked experts have a scale for each row of each
/// expert in place of one for each expert.
pub(super) fn scheme_for(info: &ParamInfo, scheme: QuantizationScheme) -> QuantizationScheme {
    let Granularity::PerChannel(axis) = scheme.granularity() else { return scheme };
    // Only weights of convolutions have their outputs elsewhere.
    let is_linear = info.outputs == Axis::FIRST;
    if axis.resolve(3) != Some(0) || !is_linear || !is_stacked(info.id.as_str(), &info.shape) {
        return scheme;
    }
    let row = info.shape.last().and_then(|&row| Block::new(u32::try_from(row).ok()?));
    let granularity = row.map_or(scheme.granularity(), Granularity::PerBlock);
    QuantizationScheme::new(scheme.quantization_type(), scheme.mapping(), granularity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacked_experts_are_known_by_rank_and_name() {
        for (name, rank, expected) in [
            ("model.layers.0.mlp.experts.gate_up_proj", 3, true),
            ("model.layers.0.feed_forward.experts.down_proj", 3, true),
            ("model.layers.0.block_sparse_moe.input_linear.weight", 3, true),
            ("blk.0.ffn_gate_exps.weight", 3, true),
            ("layers.0.gate_up_proj", 3, true),
            ("model.layers.0.mlp.experts.7.down_proj.weight", 2, false),
            ("conv.weight", 3, false),
            ("input_proj.weight", 3, false),
        ] {
            assert_eq!(is_stacked(name, &vec![4; rank]), expected, "{name}");
        }
    }

    #[test]
    fn a_scale_for_each_channel_becomes_one_for_each_row_of_each_expert() {
        let info = |id: &str, shape: &[usize]| ParamInfo {
            id: id.into(),
            shape: shape.into(),
            scheme: None,
            outputs: Axis::FIRST,
        };
        let experts = info("experts.down_proj", &[2, 8, 24]);
        for (scheme, expected) in [
            ("per-channel-symmetric-int8", "per-block-symmetric-int8:len=24"),
            ("per-channel-affine-int4:axis=-3", "per-block-affine-int4:len=24"),
            ("per-channel-symmetric-int8:axis=2", "per-channel-symmetric-int8:axis=2"),
            ("per-tensor-symmetric-int8", "per-tensor-symmetric-int8"),
            ("per-block-symmetric-int4", "per-block-symmetric-int4"),
        ] {
            let scheme = scheme.parse().unwrap();
            assert_eq!(scheme_for(&experts, scheme), expected.parse().unwrap());
            assert_eq!(scheme_for(&info("conv.weight", &[2, 8, 3]), scheme), scheme);
            let transposed = ParamInfo { outputs: Axis::new(1), ..experts.clone() };
            assert_eq!(scheme_for(&transposed, scheme), scheme);
        }
    }
}
