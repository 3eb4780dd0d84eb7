//! Which tensors of a file are parts of quantized ones.
//!
//! Each method has an anchor, the tensor with the codes: a suffix of its name, and its type. Scales
//! and other parts have the same prefix. A rule holds only where its scales are present, so that a
//! tensor of integers alone is nothing but that.

use std::collections::HashSet;

use quant::ParamId;

use super::component::{Component, Components};
use super::config::Config;
use crate::method::{Method, Refusal};
use crate::safetensors::Dtype;
use crate::source::Source;

/// The tensors of the file that make one quantized tensor.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) method: Method,
    /// The name of the float tensor.
    pub(super) id: ParamId,
    /// What the names of the other parts begin with.
    prefix: &'a str,
    pub(super) codes: &'a Component,
    /// The other parts, with their suffixes.
    pub(super) parts: Vec<(&'static str, &'a Component)>,
}

impl<'a> Found<'a> {
    pub(super) fn part(&self, suffix: &str) -> Option<&'a Component> {
        self.parts.iter().find(|(it, _)| *it == suffix).map(|&(_, component)| component)
    }

    /// A part without which nothing can be computed.
    pub(super) fn need(&self, suffix: &str) -> Result<&'a Component, Refusal> {
        let missing = || Refusal::Missing { component: format!("{}{suffix}", self.prefix).into() };
        self.part(suffix).ok_or_else(missing)
    }

    pub(super) fn components(&self) -> impl Iterator<Item = &'a Component> {
        std::iter::once(self.codes).chain(self.parts.iter().map(|&(_, part)| part))
    }
}

/// How a method names and types its tensors.
struct Rule {
    method: Method,
    /// The suffix of the codes; the rest of the name is the prefix of all parts.
    anchor: &'static str,
    /// Whether the codes may have this type.
    dtype: fn(&Component) -> bool,
    /// Parts one of which has to be present.
    scales: &'static [&'static str],
    /// Further parts.
    others: &'static [&'static str],
    /// The suffix of the float tensor.
    weight: &'static str,
}

/// In this order: the first rule that holds is used.
const RULES: &[Rule] = &[
    Rule {
        // Or AWQ, which `method` tells by shapes.
        method: Method::Gptq,
        anchor: ".qweight",
        dtype: Component::is_words,
        scales: &[".scales"],
        others: &[".qzeros", ".g_idx"],
        weight: ".weight",
    },
    Rule {
        method: Method::CompressedTensors,
        anchor: "_packed",
        dtype: Component::may_be_codes,
        scales: &["_scale"],
        others: &["_zero_point", "_shape", "_g_idx", "_global_scale"],
        weight: "",
    },
    Rule {
        method: Method::Mxfp4,
        anchor: "_blocks",
        dtype: |it| it.dtype == Dtype::U8,
        scales: &["_scales"],
        others: &[],
        weight: "",
    },
    Rule {
        method: Method::Exl2,
        anchor: ".q_weight",
        dtype: Component::is_words,
        scales: &[".q_scale"],
        others: &[".q_scale_max", ".q_groups", ".q_group_map", ".q_invperm", ".q_perm"],
        weight: ".weight",
    },
    Rule {
        method: Method::Exl3,
        anchor: ".trellis",
        dtype: |_| true,
        scales: &[".suh", ".su", ".svh", ".sv"],
        others: &[".suh", ".su", ".svh", ".sv", ".mcg", ".mul1"],
        weight: ".weight",
    },
    Rule {
        method: Method::Hqq,
        anchor: ".W_q",
        dtype: |_| true,
        scales: &[".scale", ".zero"],
        others: &[".scale", ".zero", ".shape", ".nbits", ".group_size", ".axis", ".packing"],
        weight: ".weight",
    },
    Rule {
        method: Method::Aqlm,
        anchor: ".codes",
        dtype: Component::may_be_codes,
        scales: &[".codebooks"],
        others: &[".scales"],
        weight: ".weight",
    },
    Rule {
        method: Method::QuipSharp,
        anchor: ".Qidxs",
        dtype: |_| true,
        scales: &[".SU", ".SV", ".Wscale"],
        others: &[".SU", ".SV", ".Wscale", ".codebook_id"],
        weight: ".weight",
    },
    Rule {
        method: Method::Quanto,
        anchor: "._data",
        dtype: |_| true,
        scales: &["._scale"],
        others: &["._shift", "._zeropoint"],
        weight: "",
    },
    Rule {
        // The codes may be stored as if they were of another type.
        method: Method::BitsAndBytes,
        anchor: "",
        dtype: |_| true,
        scales: &[".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"],
        others: &[".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"],
        weight: "",
    },
    Rule {
        method: Method::BitsAndBytes,
        anchor: "",
        dtype: |it| it.dtype == Dtype::U8,
        scales: &[".absmax"],
        others: &[".quant_map", ".nested_absmax", ".nested_quant_map"],
        weight: "",
    },
    Rule {
        method: Method::BitsAndBytes,
        anchor: ".weight",
        dtype: |it| it.dtype == Dtype::I8,
        scales: &[".SCB"],
        others: &[".weight_format"],
        weight: ".weight",
    },
    Rule {
        method: Method::Mlx,
        anchor: ".weight",
        dtype: |it| it.dtype == Dtype::U32,
        scales: &[".scales"],
        others: &[".biases"],
        weight: ".weight",
    },
    Rule {
        method: Method::Nvfp4,
        anchor: "",
        dtype: |it| it.dtype == Dtype::U8,
        scales: &["_scale_2"],
        others: &["_scale"],
        weight: "",
    },
    Rule {
        method: Method::Fp8,
        anchor: "",
        dtype: Component::is_float8,
        scales: &["_scale_inv", "_scale"],
        others: &["_zero_point"],
        weight: "",
    },
    Rule {
        // As ComfyUI names them.
        method: Method::Fp8,
        anchor: ".weight",
        dtype: Component::is_float8,
        scales: &[".scale_weight"],
        others: &[],
        weight: ".weight",
    },
    Rule {
        method: Method::CompressedTensors,
        anchor: "",
        dtype: |it| it.dtype == Dtype::I8,
        scales: &["_scale"],
        others: &["_zero_point"],
        weight: "",
    },
    Rule {
        method: Method::Unknown,
        anchor: "",
        dtype: Component::may_be_codes,
        scales: &["_scale", "_scales", ".scale", ".scales", "_scale_inv"],
        others: &["_zero_point", "_zeros", ".zero_point", ".zeros", "_bias", "_biases"],
        weight: "",
    },
    Rule {
        method: Method::Unknown,
        anchor: ".qweight",
        dtype: Component::may_be_codes,
        scales: &[".scale", ".scales"],
        others: &[".zero_point", ".zeros", ".qzeros"],
        weight: ".weight",
    },
    Rule {
        method: Method::Unknown,
        anchor: ".weight",
        dtype: Component::may_be_codes,
        scales: &[".scale", ".scales", ".weight_scale"],
        others: &[".zero_point", ".zeros"],
        weight: ".weight",
    },
];

/// Whether a file may have quantized tensors. Most files have floats only, very many of them, of which
/// no list need be made.
pub(super) fn may_have_any(source: &dyn Source, config: &Config) -> bool {
    let is_scales = |id: &ParamId| {
        RULES.iter().flat_map(|rule| rule.scales).any(|suffix| id.as_str().ends_with(suffix))
    };
    config.method.is_some()
        || source.entries().iter().any(|entry| is_scales(&entry.id))
        || source.state_entries().iter().any(|state| is_scales(&state.id))
}

/// The quantized tensors of a file, in the order of its codes.
pub(super) fn recognize<'a>(components: &'a Components, config: &Config) -> Vec<Found<'a>> {
    let mut taken: HashSet<&ParamId> = HashSet::new();
    let mut found = Vec::new();
    for rule in RULES {
        for codes in components.iter() {
            if let Some(layer) = rule.apply(codes, components, config)
                && layer.components().all(|part| !taken.contains(&part.id))
            {
                taken.extend(layer.components().map(|part| &part.id));
                found.push(layer);
            }
        }
    }
    if found.is_empty() && config.method.is_some() {
        found = components.iter().filter_map(suspect).collect();
    }
    found.sort_by_key(|layer| layer.codes.place());
    found
}

/// A matrix of codes in a file that is quantized as its configuration says, by a method not known
/// here.
fn suspect(codes: &Component) -> Option<Found<'_>> {
    let is_matrix = codes.shape.len() >= 2 && codes.may_be_codes();
    let id = codes.id.clone();
    let prefix = codes.id.as_str();
    is_matrix.then(|| Found { method: Method::Unknown, id, prefix, codes, parts: vec![] })
}

impl Rule {
    fn apply<'a>(
        &self,
        codes: &'a Component,
        components: &'a Components,
        config: &Config,
    ) -> Option<Found<'a>> {
        // Most tensors of a file are floats, and the type is known at once.
        if !(self.dtype)(codes) {
            return None;
        }
        let prefix = codes.id.as_str().strip_suffix(self.anchor)?;
        let part =
            |suffix: &&'static str| Some((*suffix, components.get(&format!("{prefix}{suffix}"))?));
        let scales: Vec<_> = self.scales.iter().filter_map(part).collect();
        if scales.is_empty() {
            return None;
        }
        let others = self.others.iter().filter(|it| !self.scales.contains(it)).filter_map(part);
        let parts: Vec<_> = scales.iter().copied().chain(others).collect();
        let id = ParamId::new(format!("{prefix}{}", self.weight));
        let mut found = Found { method: self.method, id, prefix, codes, parts };
        found.method = method(&found, config);
        Some(found)
    }
}

/// The method of a quantized tensor, where names do not tell.
fn method(found: &Found<'_>, config: &Config) -> Method {
    let is_compressed = config.method.as_deref() == Some("compressed-tensors");
    match found.method {
        Method::Gptq if config.method.as_deref() == Some("awq") || is_awq(found) => Method::Awq,
        Method::CompressedTensors if found.codes.dtype == Dtype::U8 => {
            if found.part("_global_scale").is_some() { Method::Nvfp4 } else { Method::Mxfp4 }
        }
        Method::Fp8 if found.part("_scale").is_some_and(|it| !it.is_float()) => Method::Mxfp8,
        Method::Fp8 if is_compressed => Method::CompressedTensors,
        method => method,
    }
}

/// Whether codes are packed along the outputs, of which scales have one column each.
fn is_awq(found: &Found<'_>) -> bool {
    let columns = |part: Option<&Component>| part.and_then(|it| it.shape.last().copied());
    let (codes, zeros) = (columns(Some(found.codes)), columns(found.part(".qzeros")));
    codes == zeros && codes.is_some() && codes != columns(found.part(".scales"))
}
