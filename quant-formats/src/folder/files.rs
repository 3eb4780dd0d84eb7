//! The files of a model directory that are not tensors: copied as they are.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::journal::in_file;
use crate::error::CheckpointError;

/// What holds tensors, whatever its format; copies of the float model are not copied along.
const TENSORS: [&str; 11] =
    ["safetensors", "bin", "pt", "pth", "ckpt", "gguf", "onnx", "h5", "msgpack", "npz", "quant"];

/// The configuration, which is not copied but changed.
const CONFIG: &str = "config.json";

/// Files that say how a model is quantized, in a way that holds no longer.
const STALE: [&str; 3] = ["quantize_config.json", "quant_config.json", "hf_quant_config.json"];

/// The files of a directory to be copied, in the order of their names: tokenizers, templates, code,
/// licences. Hidden files and directories are left out.
pub(super) fn others(directory: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let listed = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    let mut files = listed.map_err(|error| in_file(directory, error))?;
    // Links, as in a download cache, are followed.
    files.retain(|path| is_copied(path) && path.is_file());
    files.sort();
    Ok(files)
}

fn is_copied(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let is_tensors = TENSORS.iter().any(|extension| {
        name.strip_suffix(extension).is_some_and(|name| name.ends_with('.'))
            || name.ends_with(&format!(".{extension}.index.json"))
    });
    !name.starts_with('.') && name != CONFIG && !STALE.contains(&name) && !is_tensors
}

/// Copies files to a directory.
pub(super) fn copy(files: &[PathBuf], to: &Path) -> Result<(), CheckpointError> {
    for path in files {
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        let copied = File::open(path).and_then(|mut file| {
            quant::record::write_file::<io::Error>(&target, |writer| {
                io::copy(&mut file, writer).map(drop)
            })
        });
        copied.map_err(|error| in_file(path, error))?;
    }
    Ok(())
}

/// The text of the configuration in a directory, if there is one.
pub(super) fn config(directory: &Path) -> Result<Option<(PathBuf, String)>, CheckpointError> {
    let path = directory.join(CONFIG);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(in_file(&path, error)),
    }
}

/// Writes a text file.
pub(super) fn write(directory: &Path, name: &str, text: &str) -> Result<(), CheckpointError> {
    let path = directory.join(name);
    let written =
        quant::record::write_file::<io::Error>(&path, |file| file.write_all(text.as_bytes()));
    written.map_err(|error| in_file(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokenizers_are_copied_and_tensors_are_not() {
        for (name, expected) in [
            ("tokenizer.json", true),
            ("tokenizer.model", true),
            ("chat_template.jinja", true),
            ("generation_config.json", true),
            ("LICENSE", true),
            ("model.safetensors", false),
            ("model.safetensors.index.json", false),
            ("pytorch_model.bin.index.json", false),
            ("pytorch_model.bin", false),
            ("config.json", false),
            ("quantize_config.json", false),
            (".gitattributes", false),
        ] {
            assert_eq!(is_copied(Path::new(name)), expected, "{name}");
        }
    }
}
