//! Formats of files, and how they are told apart.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use quant::{ParamId, RecordError};

/// The format of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The [record](quant::record) of the crate `quant`, in one file or shards.
    Record,
    /// safetensors, in one file or shards.
    Safetensors,
    /// GGUF, the format of llama.cpp.
    Gguf,
    /// JSON, for people and for text tools.
    Json,
}

impl Format {
    /// The format in which a file of this name is written.
    ///
    /// # Errors
    /// The extension is not `.quant`, `.safetensors`, `.gguf` or `.json`.
    pub fn of_path(path: &Path) -> Result<Self, FormatError> {
        let extension = path.extension().unwrap_or_default();
        let known = [Self::Record, Self::Safetensors, Self::Gguf, Self::Json];
        let found = known.into_iter().find(|format| extension == format.extension());
        found.ok_or_else(|| FormatError::Extension { path: path.into() })
    }

    /// The extension of its files, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Record => "quant",
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Record => "record",
            Self::Safetensors => "safetensors",
            Self::Gguf => "GGUF",
            Self::Json => "JSON",
        })
    }
}

/// A well-known kind of file that this crate does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignFile {
    /// A zip archive, as `torch.save` and `numpy.savez` write.
    Zip,
    /// An HDF5 file, as Keras writes.
    Hdf5,
    /// The pointer that Git LFS leaves where a large file has not been downloaded.
    LfsPointer,
}

impl ForeignFile {
    /// The kind of a file that starts with these bytes.
    pub(crate) fn recognize(start: &[u8]) -> Option<Self> {
        const STARTS: [(&[u8], ForeignFile); 3] = [
            (b"PK\x03\x04", ForeignFile::Zip),
            (b"\x89HDF\r\n\x1a\n", ForeignFile::Hdf5),
            (b"version https://git-lfs.github.com/spec/", ForeignFile::LfsPointer),
        ];
        STARTS.iter().find(|(bytes, _)| start.starts_with(bytes)).map(|&(_, kind)| kind)
    }
}

impl fmt::Display for ForeignFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => {
                "a zip archive, as torch.save writes; save the tensors with the Python package \
                 safetensors"
            }
            Self::Hdf5 => "an HDF5 file, which is not supported; convert it to safetensors",
            Self::LfsPointer => {
                "a Git LFS pointer; `git lfs pull` downloads the file that it stands for"
            }
        })
    }
}

/// The format of a file is not supported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The extension of an output is not `.quant`, `.safetensors`, `.gguf` or `.json`.
    Extension {
        /// The path of the output.
        path: PathBuf,
    },
    /// Only records are written in shards.
    Shards {
        /// The path of the output.
        path: PathBuf,
        /// The format of its extension.
        format: Format,
    },
    /// Only records have other names of tensors.
    Aliases {
        /// The path of the output.
        path: PathBuf,
        /// The format of its extension.
        format: Format,
        /// The first other name.
        name: ParamId,
    },
    /// An input is a file of another kind.
    Foreign {
        /// The kind of file.
        found: ForeignFile,
    },
    /// An input is a directory without a checkpoint, or with several.
    Directory {
        /// The number of safetensors files and indices in it.
        checkpoints: usize,
    },
    /// An input starts like a file of no known format.
    Unknown,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension { path } => write!(
                f,
                "{}: unknown extension; expected .quant, .safetensors, .gguf or .json",
                path.display()
            ),
            Self::Shards { path, format } => {
                write!(f, "{}: only records can be written in shards, not {format}", path.display())
            }
            Self::Aliases { path, format, name } => write!(
                f,
                "{}: only records store a tensor once under several names, not {format}; `{name}` \
                 is another name",
                path.display()
            ),
            Self::Foreign { found } => found.fmt(f),
            Self::Directory { checkpoints: 0 } => {
                f.write_str("a directory without safetensors; name a file")
            }
            Self::Directory { checkpoints } => {
                write!(f, "a directory with {checkpoints} checkpoints; name one of them")
            }
            Self::Unknown => {
                f.write_str("neither a record, nor safetensors, nor GGUF, nor quant's JSON")
            }
        }
    }
}

impl Error for FormatError {}

impl From<FormatError> for RecordError {
    fn from(error: FormatError) -> Self {
        Self::recorder(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_files_of_other_kinds_by_their_first_bytes() {
        for (start, expected) in [
            (&b"PK\x03\x04"[..], Some(ForeignFile::Zip)),
            (b"GGUF\x03\0\0\0", None),
            (b"version https://git-lfs.github.com/spec/v1\n", Some(ForeignFile::LfsPointer)),
            (b"{}", None),
            (b"", None),
        ] {
            assert_eq!(ForeignFile::recognize(start), expected);
        }
    }
}
