//! Opening a checkpoint, whose content decides its format.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use quant::__private::is_record;
use quant::RecordError;

use crate::checkpoint::Checkpoint;
use crate::format::{ForeignFile, FormatError};
use crate::gguf::GgufFile;
use crate::in_memory::InMemory;
use crate::json;
use crate::prequantized;
use crate::record::Record;
use crate::safetensors::{SafetensorsFile, Shards};

/// Opens a checkpoint. The first bytes of the file decide its format, not the extension. Of a
/// directory, the index of its safetensors or its only safetensors file is opened.
///
/// Tensors that another program has quantized, as GPTQ and others do, are recognized, also by
/// `config.json` or `quantize_config.json` in the same directory. They become entries: with
/// their codes where a scheme has them exactly, and otherwise with values that are computed when they
/// are read. Where that is not possible, they keep the form of the file. [`Checkpoint::prequantized`]
/// tells.
///
/// # Errors
/// The path is not that of a regular file or of a directory with one checkpoint, the file cannot be
/// read, it has none of the formats ([`FormatError`] as the source of [`RecordError::Recorder`]), or it is damaged.
pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint, RecordError> {
    let path = path.as_ref();
    open_path(path, true).map_err(|error| error.in_file(path))
}

/// Opens a checkpoint as [`open`] does, but takes the tensors of safetensors shards from the shards,
/// where their index differs: it may be stale. A tensor in two shards is that of the shard which the
/// index names.
///
/// # Errors
/// Those of [`open`], except that the index lists other tensors than a shard has. A shard that the index
/// names, and that does not exist, is an error.
pub fn open_ignoring_index(path: impl AsRef<Path>) -> Result<Checkpoint, RecordError> {
    let path = path.as_ref();
    open_path(path, false).map_err(|error| error.in_file(path))
}

fn open_path(path: &Path, trusted: bool) -> Result<Checkpoint, RecordError> {
    prequantized::import(open_as_stored(path, trusted)?)
}

/// Opens a checkpoint with the tensors that its file has; `trusted` is an index of shards.
fn open_as_stored(path: &Path, trusted: bool) -> Result<Checkpoint, RecordError> {
    if path.is_dir() {
        let inside = in_directory(path)?;
        return open_as_stored(&inside, trusted).map_err(|error| error.in_file(&inside));
    }
    let start = read_start(path)?;
    if is_record(&start) {
        return Ok(Checkpoint::new(Record::open(path)?));
    }
    if start.starts_with(b"GGUF") {
        return Ok(Checkpoint::new(GgufFile::open(path)?));
    }
    if let Some(found) = ForeignFile::recognize(&start) {
        return Err(FormatError::Foreign { found }.into());
    }
    if is_safetensors(&start) {
        return Ok(Checkpoint::new(SafetensorsFile::open(path)?));
    }
    if start.trim_ascii_start().first() != Some(&b'{') {
        return Err(FormatError::Unknown.into());
    }
    let text = fs::read(path)?;
    if Shards::is_index(&text) {
        return Ok(Checkpoint::new(Shards::open(path, &text, trusted)?));
    }
    Ok(Checkpoint::new(InMemory::new(path, json::parse(&text)?)))
}

/// The checkpoint in a directory: the index of its shards, or its only safetensors file. The names
/// that transformers uses come first.
fn in_directory(directory: &Path) -> Result<PathBuf, RecordError> {
    for name in ["model.safetensors.index.json", "model.safetensors"] {
        let path = directory.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    let with = |end: &str| -> Vec<&OsString> {
        names.iter().filter(|name| name.to_string_lossy().ends_with(end)).collect()
    };
    let (indices, files) = (with(".safetensors.index.json"), with(".safetensors"));
    match (&indices[..], &files[..]) {
        ([only], _) | ([], [only]) => Ok(directory.join(only)),
        _ => Err(FormatError::Directory { checkpoints: indices.len() + files.len() }.into()),
    }
}

/// The first bytes of a regular file.
fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a FIFO would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut start = Vec::new();
    File::open(path)?.take(4096).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether a file starts with the length of a header, and with a header.
///
/// JSON may have a brace at byte 8, too; its first bytes are text, which as a length is beyond any
/// limit. Blanks before the header are allowed, as the format's own crate allows them.
fn is_safetensors(start: &[u8]) -> bool {
    let Some((len, header)) = start.split_first_chunk::<8>() else { return false };
    let is_text = len[0] == b'{' && len.iter().all(|&byte| byte != 0);
    !is_text && header.trim_ascii_start().first() == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::is_safetensors;

    #[test]
    fn json_with_a_brace_at_byte_8_is_not_safetensors() {
        assert!(!is_safetensors(br#"{"w":   {"shape": []}}"#));
        assert!(is_safetensors(b"\x02\0\0\0\0\0\0\0{}"));
        assert!(is_safetensors(b"{\0\0\0\0\0\0\0 \n{}"));
        assert!(!is_safetensors(b"{}"));
    }
}
