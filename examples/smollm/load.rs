//! From a GGUF file to a model.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use quant::kernel::scheme::KeyValueScheme;
use quant::module::TryModuleMapper;
use quant::quantize::requantize;
use quant::{
    MinMaxCalibration, Module, ParamId, QuantizationScheme, QuantizeError, Recipe, Tensor,
};
use quant_formats::GgufMetadata;
use quant_nn::Linear;

use crate::model::Layer;
use crate::{Config, Llama, Saved, SmolError, Tokenizer};

/// An open file of a model.
#[derive(Debug)]
pub struct Checkpoint {
    pub(crate) checkpoint: quant_formats::Checkpoint,
    metadata: GgufMetadata,
    config: Config,
    saved: Option<Saved>,
}

/// How weights and inputs of a model are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Floats: what the codes of the file stand for.
    Float,
    /// The codes of the file; inputs stay float.
    WeightOnly,
    /// The codes of the file; inputs in 8 bits, in blocks of 32.
    AsStored,
    /// Weights and inputs in 8 bits, in blocks of 32.
    Int8,
    /// Weights in 4 bits and inputs in 8, in blocks of 32.
    W4a8,
    /// Weights in 4 bits, in blocks of 32; inputs stay float.
    W4,
}

/// The name on the command line.
impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

impl Scheme {
    fn weights(self) -> Option<QuantizationScheme> {
        let name = match self {
            Self::Float | Self::WeightOnly | Self::AsStored => return None,
            Self::Int8 => "per-block-symmetric-int8:scale=f16",
            Self::W4a8 | Self::W4 => "per-block-full-range-int4:scale=f16",
        };
        Some(name.parse().expect("a name of a scheme"))
    }

    /// A model, or a part of one, whose weights are those of a file, quantized so.
    ///
    /// # Errors
    /// Weights that cannot be quantized.
    pub fn apply<M: Module>(self, model: M, keys_values: KeyValueScheme) -> Result<M, SmolError> {
        let recipe = self.recipe(keys_values);
        let model = match self.weights() {
            Some(scheme) => model.try_map(&mut Requantize(scheme))?,
            None if self == Self::Float => model.dequantize(),
            None => model,
        };
        Ok(model.quantize(recipe)?)
    }

    /// The recipe for a model whose weights are those of the file.
    fn recipe(self, keys_values: KeyValueScheme) -> Recipe {
        let mut recipe = Recipe::new().keys_values(keys_values);
        if let Some(scheme) = self.weights() {
            recipe = recipe.scheme(scheme);
        }
        if matches!(self, Self::AsStored | Self::Int8 | Self::W4a8) {
            let inputs = "dynamic-per-block-32-symmetric".parse().expect("a name of a scheme");
            recipe = recipe.activations(inputs);
        }
        recipe
    }
}

/// Quantizes the weights of the file again. What is float there is left to the recipe.
struct Requantize(QuantizationScheme);

impl TryModuleMapper for Requantize {
    type Error = QuantizeError;

    fn try_map_float(&mut self, id: ParamId, weight: Tensor) -> Result<Tensor, QuantizeError> {
        let Some(codes) = weight.quantized() else { return Ok(weight) };
        let again = requantize(codes, self.0, &MinMaxCalibration {});
        let scheme = self.0;
        Ok(again.map_err(|source| QuantizeError::Param { id, scheme, source })?.into())
    }
}

impl Checkpoint {
    /// Opens a GGUF file, or what was made of one.
    ///
    /// # Errors
    /// A file that cannot be read, or a model of another architecture.
    pub fn open(path: &Path) -> Result<Self, SmolError> {
        let checkpoint = quant_formats::open(path)?;
        let metadata = GgufMetadata::of(&checkpoint)?.ok_or(SmolError::NotGguf)?;
        let config = Config::read(&metadata)?;
        let saved = Saved::read(&checkpoint)?;
        Ok(Self { checkpoint, metadata, config, saved })
    }

    /// How the model in the file is quantized, if it was [saved](Self::save).
    pub fn saved(&self) -> Option<Saved> {
        self.saved
    }

    /// The sizes of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tokenizer in the file.
    ///
    /// # Errors
    /// There is none, or it is of another kind.
    pub fn tokenizer(&self) -> Result<Tokenizer, SmolError> {
        Tokenizer::read(&self.metadata)
    }

    /// The model, quantized so. One that was saved is given as it was saved, or as floats: what its codes
    /// stand for.
    ///
    /// # Errors
    /// Tensors that are missing, or that cannot be read or quantized; or a model that was saved with
    /// another scheme.
    pub fn model(&self, scheme: Scheme, keys_values: KeyValueScheme) -> Result<Llama, SmolError> {
        let wanted = Saved { scheme, keys_values };
        let as_saved = self.saved == Some(wanted);
        if let Some(saved) = self.saved
            && !as_saved
            && scheme != Scheme::Float
        {
            return Err(SmolError::OtherScheme { saved, wanted });
        }
        Llama::load(self.config, &Load { checkpoint: &self.checkpoint, how: wanted, as_saved })
    }
}

impl Llama {
    /// Loads the model, one layer after the other: each is packed before the next one is read.
    fn load(config: Config, from: &Load<'_>) -> Result<Self, SmolError> {
        let mut beside = Self::new(config)?;
        beside.layers.clear();
        let layers = 0..config.layers;
        let is_beside = |name: &str| layer_of(name).is_none_or(|index| !layers.contains(&index));
        let mut model = from.part(beside, is_beside)?;
        quant_nn::pack(&mut model.tokens.weight, &model.head_input)?;
        for index in layers.clone() {
            // In a map, it has the names that it has in the model.
            let layer = BTreeMap::from([(format!("blk.{index}"), Layer::new(&config))]);
            let layer = from.part(layer, |name| layer_of(name) == Some(index))?;
            for mut layer in layer.into_values() {
                layer.products().into_iter().try_for_each(Linear::pack)?;
                model.layers.push(layer);
            }
        }
        Ok(model)
    }
}

/// The layer of a tensor with this name.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// How the parts of a model are loaded.
struct Load<'a> {
    checkpoint: &'a quant_formats::Checkpoint,
    how: Saved,
    as_saved: bool,
}

impl Load<'_> {
    /// A part of the model, quantized: the tensors whose names are `in_part`.
    fn part<M: Module>(&self, part: M, in_part: impl Fn(&str) -> bool) -> Result<M, SmolError> {
        let part = self.checkpoint.load_part_into(part, in_part)?;
        if self.as_saved {
            return Ok(part);
        }
        self.how.scheme.apply(part, self.how.keys_values)
    }
}
