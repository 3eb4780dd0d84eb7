//! From a GGUF file to a model.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use quant::kernel::scheme::KeyValueScheme;
use quant::module::TryModuleMapper;
use quant::{Module, ParamId, QuantizationScheme, QuantizeError, Recipe, Tensor};
use quant_formats::GgufMetadata;

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

    /// A model whose weights are those of a file, quantized so.
    ///
    /// # Errors
    /// Weights that cannot be quantized.
    pub fn apply(self, model: Llama, keys_values: KeyValueScheme) -> Result<Llama, SmolError> {
        let recipe = self.recipe(keys_values);
        let model = match self {
            Self::WeightOnly | Self::AsStored => model,
            Self::Float => model.dequantize(),
            Self::Int8 | Self::W4a8 | Self::W4 => model.try_map(&mut OneByOne(&recipe))?,
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

/// Quantizes one weight after the other. If all were floats at a time, they would take five times the memory
/// of the file.
struct OneByOne<'a>(&'a Recipe);

impl TryModuleMapper for OneByOne<'_> {
    type Error = QuantizeError;

    fn try_map_float(&mut self, _: ParamId, weight: Tensor) -> Result<Tensor, QuantizeError> {
        weight.dequantize().quantize_weights(self.0)
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
        let mut model = self.checkpoint.load_into(Llama::new(self.config)?)?;
        if !as_saved {
            model = scheme.apply(model, keys_values)?;
        }
        model.pack()?;
        Ok(model)
    }
}
