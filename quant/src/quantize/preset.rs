//! Recipes with a name.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::outcome::{Reason, Role};
use super::planner::Decision;
use crate::calibration::{
    CalibrationMethod, GptqCalibration, LeastSquaresCalibration, WeightedMseCalibration,
};
use crate::module::ParamId;
use crate::moments::MomentSource;
use crate::scheme::{ActivationScheme, QuantizationScheme};

/// What quantized models usually are, by a short name.
///
/// | name | weights | inputs | embedding | output layer, router | first and last layer |
/// |---|---|---|---|---|---|
/// | `w8a8` | `per-channel-symmetric-int8` | `dynamic` | as weights | float | as weights |
/// | `w4` | `per-block-minimum-int4:scale=f16` | float | int8 | int8 | int8 |
/// | `w4a8` | `per-block-minimum-int4:scale=f16` | `dynamic-per-block-32-affine` | int8 | int8 | int8 |
/// | `w3` | `per-block-minimum-int3:scale=f16` | float | 4 bits | 4 bits | 4 bits |
///
/// Blocks have 32 elements, and `int8` is `per-channel-symmetric-int8`. The calibration is the best one that the
/// data allow: `gptq` for a weight of whose inputs the matrix of second moments is known, `weighted-mse` if only
/// the diagonal is, and `least-squares` otherwise, and for all that is kept wider.
///
/// What a parameter is, is told from its path; the plan shows it as the reason:
/// - an embedding has a step with `embed` or `embd` in it, or `wte`, `wpe`;
/// - an output layer is called `lm_head`, `embed_out`, `head`, `classifier`, `score`, `output_layer`, or at the
///   root of the model `output` or `fc`;
/// - a router is called `router`, `ffn_gate_inp`, or `gate` beside `experts`;
/// - a layer is an element of a list of four and more, such as `layers.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// `w8a8`
    W8A8,
    /// `w4`
    W4,
    /// `w4a8`
    W4A8,
    /// `w3`
    W3,
}

impl Preset {
    /// All, from the largest models to the smallest.
    pub const ALL: [Self; 4] = [Self::W8A8, Self::W4A8, Self::W4, Self::W3];

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::W8A8 => "w8a8",
            Self::W4 => "w4",
            Self::W4A8 => "w4a8",
            Self::W3 => "w3",
        }
    }

    pub(super) fn scheme(self) -> QuantizationScheme {
        const INT3: QuantizationScheme =
            QuantizationScheme::from_name("per-block-minimum-int3:scale=f16").unwrap();
        match self {
            Self::W8A8 => INT8,
            Self::W4 | Self::W4A8 => INT4,
            Self::W3 => INT3,
        }
    }

    pub(super) fn activations(self) -> Option<ActivationScheme> {
        match self {
            Self::W8A8 => Some(ActivationScheme::DYNAMIC),
            Self::W4A8 => "dynamic-per-block-32-affine".parse().ok(),
            Self::W4 | Self::W3 => None,
        }
    }

    /// The calibration of the weight at this path.
    pub(super) fn calibration(
        id: &ParamId,
        moments: Option<&dyn MomentSource>,
    ) -> CalibrationMethod {
        match moments.and_then(|moments| moments.describe(id)) {
            Some(moments) if moments.has_matrix => {
                CalibrationMethod::Gptq(GptqCalibration { descending: false })
            }
            Some(_) => CalibrationMethod::WeightedMse(WeightedMseCalibration {}),
            None => CalibrationMethod::LeastSquares(LeastSquaresCalibration {}),
        }
    }

    /// The decision about a parameter with this role. A rule and an attribute say more than a name.
    pub(super) fn with_role(self, decision: Decision, role: Role) -> Decision {
        let (Reason::Rank(2..), Some(choice)) = (&decision.reason, &decision.choice) else {
            return decision;
        };
        match self.scheme_of(role) {
            None => Decision::keep(Reason::Role(role)),
            Some(scheme) if scheme == choice.scheme => decision,
            Some(scheme) => {
                Decision::quantize(scheme, LeastSquaresCalibration {}, Reason::Role(role))
            }
        }
    }

    /// How a parameter with this role is quantized in place of [`scheme`](Self::scheme); `None` if it stays
    /// float.
    fn scheme_of(self, role: Role) -> Option<QuantizationScheme> {
        match (self, role) {
            (Self::W8A8, Role::Output | Role::Router) => None,
            (Self::W8A8 | Self::W4 | Self::W4A8, _) => Some(INT8),
            (Self::W3, _) => Some(INT4),
        }
    }
}

const INT8: QuantizationScheme =
    QuantizationScheme::from_name("per-channel-symmetric-int8").unwrap();
const INT4: QuantizationScheme =
    QuantizationScheme::from_name("per-block-minimum-int4:scale=f16").unwrap();

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, UnknownPreset> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == name);
        found.ok_or_else(|| UnknownPreset { name: name.into() })
    }
}

impl Serialize for Preset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Preset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// There is no preset of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownPreset {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a preset; expected w8a8, w4a8, w4 or w3", self.name)
    }
}

impl core::error::Error for UnknownPreset {}

/// The roles of parameters, told from all paths of a model.
pub(super) struct Roles<'a> {
    paths: BTreeSet<&'a str>,
    /// The last index of each list, by the path of the list.
    last: BTreeMap<&'a str, usize>,
}

/// Lists with fewer elements have no inner ones to speak of.
const LEAST_LAYERS: usize = 4;

impl<'a> Roles<'a> {
    pub(super) fn of(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let paths: BTreeSet<&str> = paths.into_iter().collect();
        let mut last = BTreeMap::new();
        for (list, index) in paths.iter().filter_map(|path| element(path)) {
            let last = last.entry(list).or_insert(index);
            *last = index.max(*last);
        }
        last.retain(|_, last| *last + 1 >= LEAST_LAYERS);
        Self { paths, last }
    }

    /// The role of the parameter at this path, if it has one.
    pub(super) fn role(&self, path: &str) -> Option<Role> {
        /// Layers whose outputs are those of the model.
        const OUTPUTS: [&str; 7] =
            ["lm_head", "embed_out", "head", "heads", "classifier", "score", "output_layer"];
        // The field that a weight is, or the layer that it is a field of.
        let layer = path.strip_suffix(".weight").unwrap_or(path);
        let last = layer.rsplit('.').next().unwrap_or(layer);
        let at_root = matches!(layer, "output" | "fc");
        if OUTPUTS.contains(&last) || at_root {
            return Some(Role::Output);
        }
        if path.split('.').any(is_embedding) {
            return Some(Role::Embedding);
        }
        if matches!(last, "router" | "ffn_gate_inp") || last == "gate" && self.has_experts(path) {
            return Some(Role::Router);
        }
        let (list, index) = element(path)?;
        match self.last.get(list)? {
            _ if index == 0 => Some(Role::FirstLayer),
            last if *last == index => Some(Role::LastLayer),
            _ => None,
        }
    }

    /// Whether there are experts beside the layer `gate` of this path.
    fn has_experts(&self, path: &str) -> bool {
        let Some((parent, _)) = path.rsplit_once("gate.") else { return false };
        let experts = alloc::format!("{parent}experts.");
        self.paths.range(&*experts..).next().is_some_and(|path| path.starts_with(&experts))
    }
}

fn is_embedding(step: &str) -> bool {
    step.contains("embed") || step.contains("embd") || matches!(step, "wte" | "wpe")
}

/// The path of the outermost list that a parameter is in, and its index there.
fn element(path: &str) -> Option<(&str, usize)> {
    let mut start = 0;
    for step in path.split('.') {
        if let Ok(index) = step.parse() {
            return Some((&path[..start], index));
        }
        start += step.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_told_from_paths() {
        let mut paths: Vec<String> = [
            "model.embed_tokens.weight",
            "embeddings.word_embeddings.weight",
            "transformer.wte.weight",
            "token_embd.weight",
            "lm_head.weight",
            "gpt_neox.embed_out.weight",
            "output.weight",
            "fc.weight",
            "encoder.layer.2.attention.output.dense.weight",
            "model.layers.2.mlp.gate.weight",
            "model.layers.2.mlp.experts.0.up_proj.weight",
            "layers.1.feed.gate.weight",
            "blk.1.ffn_gate_inp.weight",
            "two.0.weight",
            "two.1.weight",
        ]
        .map(Into::into)
        .into();
        for layer in 0..5 {
            paths.push(alloc::format!("model.layers.{layer}.self_attn.q_proj.weight"));
        }
        let roles = Roles::of(paths.iter().map(String::as_str));
        for (path, role) in [
            ("model.embed_tokens.weight", Some(Role::Embedding)),
            ("embeddings.word_embeddings.weight", Some(Role::Embedding)),
            ("transformer.wte.weight", Some(Role::Embedding)),
            ("token_embd.weight", Some(Role::Embedding)),
            ("lm_head.weight", Some(Role::Output)),
            ("gpt_neox.embed_out.weight", Some(Role::Output)),
            ("output.weight", Some(Role::Output)),
            ("fc.weight", Some(Role::Output)),
            ("encoder.layer.2.attention.output.dense.weight", None),
            ("model.layers.2.mlp.gate.weight", Some(Role::Router)),
            ("model.layers.2.mlp.experts.0.up_proj.weight", None),
            ("layers.1.feed.gate.weight", None),
            ("blk.1.ffn_gate_inp.weight", Some(Role::Router)),
            ("two.0.weight", None),
            ("model.layers.0.self_attn.q_proj.weight", Some(Role::FirstLayer)),
            ("model.layers.1.self_attn.q_proj.weight", None),
            ("model.layers.4.self_attn.q_proj.weight", Some(Role::LastLayer)),
            ("head.0", None),
            ("head", Some(Role::Output)),
            ("weight", None),
            ("", None),
        ] {
            assert_eq!(roles.role(path), role, "{path}");
        }
    }
}
