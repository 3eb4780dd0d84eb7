//! From a checkpoint, or a record, to a model.

use std::error::Error;
use std::path::Path;

use quant::Module;
use quant_formats::{Rename, SafetensorsRecorder};
use quant_nn::FoldNorms;

use crate::EfficientNet;

/// Why a model cannot be loaded.
pub type LoadError = Box<dyn Error + Send + Sync>;

/// The model whose weights are in `weights`, which `prepare.py` writes, with its norms folded.
///
/// # Errors
/// A file that is missing, or has other tensors.
pub fn load(weights: &Path) -> Result<EfficientNet, LoadError> {
    let rename = Rename::new()
        .replace(r"^_conv_stem\.", "stem.conv.")?
        .replace(r"^_bn0\.", "stem.norm.")?
        .replace(r"^_conv_head\.", "head.conv.")?
        .replace(r"^_bn1\.", "head.norm.")?
        .replace(r"^_fc\.", "classifier.")?
        .replace(r"^_blocks\.(\d+)\._(expand|depthwise|project)_conv\.", "blocks.$1.$2.conv.")?
        .replace(r"^_blocks\.(\d+)\._bn0\.", "blocks.$1.expand.norm.")?
        .replace(r"^_blocks\.(\d+)\._bn1\.", "blocks.$1.depthwise.norm.")?
        .replace(r"^_blocks\.(\d+)\._bn2\.", "blocks.$1.project.norm.")?;
    let recorder = SafetensorsRecorder::default().rename(rename);
    Ok(EfficientNet::new().load_file(weights, &recorder)?.fold_norms()?)
}
