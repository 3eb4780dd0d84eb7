//! The outcomes of a plan, and their reasons.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::calibration::CalibrationMethod;
use crate::module::ParamId;
use crate::scheme::{ActivationScheme, KeyValueScheme, QuantizationScheme};

/// How the input of a layer is quantized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedActivation {
    /// The path of the layer's [`ActivationQuantizer`](crate::activation::ActivationQuantizer).
    pub id: ParamId,
    /// The scheme of the input.
    pub scheme: ActivationScheme,
    /// How ranges are found, if the scheme is static.
    pub calibration: CalibrationMethod,
    /// The reason for the scheme.
    pub reason: Reason,
}

/// How attention keeps keys and values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedKeyValues {
    /// The path of the [`KeyValueQuantizer`](crate::activation::KeyValueQuantizer).
    pub id: ParamId,
    /// The scheme.
    pub scheme: KeyValueScheme,
    /// The reason for the scheme.
    pub reason: Reason,
}

/// What happens to a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// It is quantized.
    Quantize {
        /// The scheme.
        scheme: QuantizationScheme,
        /// The name of the calibration that finds the ranges.
        calibration: Cow<'static, str>,
    },
    /// It stays float.
    KeepFloat,
    /// It is quantized already and stays as it is.
    KeepQuantized {
        /// The scheme.
        scheme: QuantizationScheme,
    },
}

/// The reason for an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// A rule of the recipe matched its path.
    Rule {
        /// The rule's position, from 0.
        rule: usize,
        /// Its pattern.
        pattern: String,
    },
    /// An attribute of its field, or of an outer field.
    Attribute,
    /// By default, rank 2 and above is quantized, and rank 0 and 1 is not.
    Rank(usize),
    /// By default, the stacked weights of experts, `[expert, out, in]`, have a scale for each row in
    /// place of one for each expert.
    Experts,
    /// The recipe is a [preset](super::Preset), which makes a difference for what it is in the model.
    Role(Role),
    /// The recipe has no rule for it, and no scheme of its own.
    NoRule,
    /// The recipe's own scheme, for what no rule matches.
    Recipe,
    /// It is the best choice within a budget of bytes.
    Budget,
    /// It has no elements.
    Empty,
    /// It is quantized already.
    AlreadyQuantized,
    /// It is equal to an earlier tensor of the file, and stored once.
    EqualTo {
        /// The other tensor.
        id: ParamId,
    },
    /// An input whose layer keeps its weights float.
    FloatWeights,
    /// The format of the output has it as a float only.
    Format,
    /// The format of the output has no agreed form for quantized weights of experts that are stacked in
    /// one tensor.
    StackedInFormat,
}

/// What a parameter is in a model, as [presets](super::Preset) tell it from its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// A table of vectors for tokens or positions, or what makes vectors of patches.
    Embedding,
    /// The layer whose outputs are those of the model.
    Output,
    /// The layer that chooses experts.
    Router,
    /// In the first layer of a list of layers.
    FirstLayer,
    /// In the last layer of a list of layers.
    LastLayer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedding => "embedding",
            Self::Output => "output layer",
            Self::Router => "router",
            Self::FirstLayer => "first layer",
            Self::LastLayer => "last layer",
        })
    }
}

/// What quantization is expected to do to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Expected {
    /// The least and the greatest scale of its groups.
    pub scales: (f32, f32),
    /// The signal-to-quantization-noise ratio `10 log10(Σ x² / Σ (x - x̂)²)` in dB; `None` when
    /// every value is kept exactly.
    pub sqnr_db: Option<f64>,
    /// The largest absolute error `max |x - x̂|`.
    pub max_abs_error: f32,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantize { scheme, calibration } => write!(f, "{scheme} by {calibration}"),
            Self::KeepFloat => f.write_str("float"),
            Self::KeepQuantized { scheme } => write!(f, "stays {scheme}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { rule, pattern } => write!(f, "rule {rule} `{pattern}`"),
            Self::Attribute => f.write_str("attribute of the field"),
            Self::Rank(rank) => write!(f, "rank {rank}"),
            Self::Experts => f.write_str("stacked experts, a scale for each row"),
            Self::Role(role) => role.fmt(f),
            Self::NoRule => f.write_str("no rule"),
            Self::Recipe => f.write_str("the recipe"),
            Self::Budget => f.write_str("within the budget"),
            Self::Empty => f.write_str("no elements"),
            Self::EqualTo { id } => write!(f, "equal to {id}"),
            Self::AlreadyQuantized => f.write_str("already quantized"),
            Self::Format => f.write_str("float in the format of the output"),
            Self::StackedInFormat => {
                f.write_str("stacked experts, which engines load quantized one by one only")
            }
            Self::FloatWeights => f.write_str("the weights stay float"),
        }
    }
}

/// Something that a plan points out about a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// The parameter is the weight of a layer with an activation quantizer, and no kernel runs its
    /// scheme. The layer's forward pass will be an error. Such schemes are
    /// - channels that are not the outputs (the first axis, or the one that the layer declares);
    /// - minimums in a convolution whose inputs are quantized;
    /// - where inputs are quantized, blocks in a convolution, or blocks whose length is not a multiple of
    ///   that of the blocks of the input.
    NoKernel,
    /// The parameter stays float, and has values that are NaN or infinite.
    NonFinite {
        /// The number of such values.
        count: u64,
    },
    /// Channels along another axis would be better by far. Along that axis a few channels are large, and
    /// the scales are made for them.
    OtherAxis {
        /// The axis, from 0.
        axis: usize,
        /// An estimate of how much the signal-to-quantization-noise ratio of a usual channel would grow,
        /// in whole dB; at least 20.
        gain_db: u32,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKernel => f.write_str("no kernel runs this scheme"),
            Self::NonFinite { count: 1 } => f.write_str("1 value is not finite"),
            Self::NonFinite { count } => write!(f, "{count} values are not finite"),
            Self::OtherAxis { axis, gain_db } => {
                write!(f, "channels along axis {axis} would be better by about {gain_db} dB")
            }
        }
    }
}
