//! Opening a checkpoint, whose content decides its format.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use quant::__private::{OpenFile, is_record};
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

/// Opens a checkpoint as [`open`] does, and maps its files into memory.
///
/// Float tensors, in half precision too, borrow from the files: a `Param<SharedTensor>` that is loaded from
/// the checkpoint takes no memory for its values, and processes that map the same file share them. The
/// system reads the bytes when they are first used. Codes of a record are borrowed, too, and those of
/// other formats are read, since kernels take them in another order. Values that are not aligned in the file
/// are copied.
///
/// ```
/// use quant::tensor::SharedTensor;
/// use quant::{Module, Param};
/// use quant_formats::GgufRecorder;
///
/// # let directory = std::env::temp_dir().join(format!("quant-doc-mapped-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("model.gguf");
/// let tensor = |value| SharedTensor::new(&[2], vec![value; 2]);
/// vec![Param::new(tensor(1.0)?)].save_file(&path, &GgufRecorder::default())?;
///
/// // SAFETY: nothing changes the file in place; it has been made by `save_file` only.
/// let checkpoint = unsafe { quant_formats::open_mapped(&path)? };
/// let model = checkpoint.load_into(vec![Param::new(tensor(0.0)?)])?;
/// assert!(model[0].as_float().unwrap().is_borrowed());
/// assert_eq!(model[0].value().as_slice().unwrap(), [1.0, 1.0]);
/// # drop((checkpoint, model));
/// # std::fs::remove_dir_all(&directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`open`], or the system cannot map a file.
///
/// # Safety
/// As long as the checkpoint or a tensor of it exists, no process may modify its files in place, or
/// truncate them. Bytes that change behind a `&[u8]` are undefined behaviour, and reading beyond the end
/// of a truncated file kills the process. Renaming another file to the path and removing the file do not
/// modify it in place; the writers of this library do nothing else.
#[cfg(feature = "mmap")]
pub unsafe fn open_mapped(path: impl AsRef<Path>) -> Result<Checkpoint, RecordError> {
    let path = path.as_ref();
    let open = || {
        let mut checkpoint = open_as_stored(path, true)?;
        // SAFETY: the caller promises that the files are not changed.
        unsafe { checkpoint.source_mut().map() }?;
        prequantized::import(checkpoint)
    };
    open().map_err(|error: RecordError| error.in_file(path))
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
    let mut start = Vec::new();
    OpenFile::open(path)?.at(0).take(4096).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether a file starts with the length of a header, and with a header.
///
/// JSON may have a brace at byte 8, too; its first bytes are text, which as a length is beyond any
/// limit. Blanks before the header are allowed, as the format's own crate allows them.
fn is_safetensors(start: &[u8]) -> bool {
    let Some((len, header)) = start.split_first_chunk::<8>() else { return false };
    let is_text = len.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    !is_text && header.trim_ascii_start().first() == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::is_safetensors;

    #[test]
    fn json_with_a_brace_at_byte_8_is_not_safetensors() {
        assert!(!is_safetensors(br#"{"w":   {"shape": []}}"#));
        assert!(!is_safetensors(b" \t\n\r    {\"w\": {}}"));
        assert!(!is_safetensors(br#"["abcd",{"a": 1}]"#));
        assert!(is_safetensors(b"\x02\0\0\0\0\0\0\0{}"));
        assert!(is_safetensors(b"{\0\0\0\0\0\0\0 \n{}"));
        assert!(!is_safetensors(b"{}"));
    }
}
