//! The files of a checkpoint: one, or several that llama.cpp has split.
//!
//! A file of a split one is named `<prefix>-00001-of-00003.gguf`. Its metadata has the number of all
//! files; the other metadata is in the first one.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use quant::RecordError;

use super::error::GgufError;
use super::header::Header;
use crate::tensor_file::TensorFile;

/// The prefix of keys that say how a file is split. They mean nothing in one file.
const SPLIT: &str = "split.";

/// The key for the number of files.
const COUNT: &str = "split.count";

/// An open file of a checkpoint.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: TensorFile,
    /// The number of its tensors.
    pub(super) tensors: usize,
}

/// Opens a file and those that belong to it: the files in order, and one header of all.
pub(super) fn open(path: &Path) -> Result<(Vec<Part>, Header), RecordError> {
    let (part, header) = open_one(path)?;
    let count = split_count(&header);
    if count < 2 {
        return Ok((vec![part], header));
    }
    drop(part);
    let (mut parts, mut headers) = (Vec::new(), Vec::new());
    for path in paths(path, count).map_err(|error| RecordError::from(error).in_file(path))? {
        let (part, header) = open_one(&path)?;
        let found = split_count(&header);
        if found != count {
            let error = GgufError::SplitCount { found, expected: count };
            return Err(RecordError::from(error).in_file(&path));
        }
        parts.push(part);
        headers.push(header);
    }
    let merged = Header::merge(&headers, SPLIT).map_err(|error| error.in_file(path))?;
    Ok((parts, merged))
}

fn open_one(path: &Path) -> Result<(Part, Header), RecordError> {
    let (file, header) = TensorFile::open(path, |reader, len| {
        let header = Header::read(&mut BufReader::new(reader), Some(len))?;
        let data = header.data();
        Ok((header, data))
    })?;
    Ok((Part { file, tensors: header.tensors.len() }, header))
}

/// The number of files; 1 if nothing is said about it.
fn split_count(header: &Header) -> u64 {
    let pair = header.pairs.iter().find(|pair| pair.key == COUNT);
    pair.and_then(|pair| pair.text(&header.bytes)?.parse().ok()).unwrap_or(1)
}

/// The paths of all files of a split one, of which one path is known.
fn paths(path: &Path, count: u64) -> Result<Vec<PathBuf>, GgufError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let end = format!("-of-{count:05}.gguf");
    let prefix = name.strip_suffix(&end).and_then(|start| start.rsplit_once('-'));
    match prefix {
        // Five digits, so that the number of files is bounded, too.
        Some((prefix, number)) if number.len() == 5 && count < 100_000 => {
            let path = |number| path.with_file_name(format!("{prefix}-{number:05}{end}"));
            Ok((1..=count).map(path).collect())
        }
        _ => Err(GgufError::SplitName { count }),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io;

    use super::*;
    use crate::gguf::header::start;
    use crate::gguf::metadata::{ValueType, parsed_pair};

    #[test]
    fn a_fifo_in_the_place_of_a_file_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] =
            [1, 2].map(|no| directory.path().join(format!("m-0000{no}-of-00002.gguf")));
        let count = parsed_pair(COUNT, ValueType::U16, "2").unwrap();
        std::fs::write(&first, [start(3, 0, 1), count].concat()).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&second).status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: no FIFO could be made");
            return;
        }
        let error = open(&first).unwrap_err();
        let RecordError::Io { path, source } = error else { panic!("{error:?}") };
        assert_eq!((path, source.kind()), (Some(second), io::ErrorKind::InvalidInput));
    }
}
