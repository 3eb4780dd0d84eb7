//! Formats that are commonly mistaken for a record, recognized by their first bytes.

use core::fmt;

/// A format other than a record, as the first bytes of a file tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignFormat {
    /// A header length of 8 bytes, then JSON.
    Safetensors,
    /// An object or a list in JSON.
    Json,
    /// A model of llama.cpp.
    Gguf,
    /// A zip archive, such as `PyTorch` and `NumPy` write.
    Zip,
    /// The text that Git LFS leaves in place of a file that was not downloaded.
    LfsPointer,
}

impl ForeignFormat {
    /// The format of a file that starts with these bytes; 32 are enough.
    pub(crate) fn of_start(start: &[u8]) -> Option<Self> {
        let json = start.trim_ascii_start().first();
        match start {
            [b'G', b'G', b'U', b'F', ..] => Some(Self::Gguf),
            [b'P', b'K', 3, 4, ..] => Some(Self::Zip),
            _ if start.starts_with(b"version https://git-lfs") => Some(Self::LfsPointer),
            // A header of less than 4 GiB.
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Some(Self::Safetensors),
            _ if matches!(json, Some(b'{' | b'[')) => Some(Self::Json),
            _ => None,
        }
    }

    /// What to do to get a record.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Self::Safetensors | Self::Json => {
                "convert it with `quant convert`, or load it with the crate `quant-formats`"
            }
            Self::Gguf => "convert it with `quant convert` if that supports its types",
            Self::Zip => "save the tensors as safetensors, then use `quant convert`",
            Self::LfsPointer => "download the file itself with `git lfs pull`",
        }
    }
}

impl fmt::Display for ForeignFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "a safetensors file",
            Self::Json => "a JSON file",
            Self::Gguf => "a GGUF file",
            Self::Zip => "a zip archive, such as a PyTorch checkpoint",
            Self::LfsPointer => "a Git LFS pointer, not the file itself",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_recognized_by_their_first_bytes() {
        for (start, format) in [
            (&b"\x40\0\0\0\0\0\0\0{\"w\""[..], Some(ForeignFormat::Safetensors)),
            (b" \n{\"format\"", Some(ForeignFormat::Json)),
            (b"[1, 2]", Some(ForeignFormat::Json)),
            (b"GGUF\x03\0\0\0", Some(ForeignFormat::Gguf)),
            (b"PK\x03\x04\0\0", Some(ForeignFormat::Zip)),
            (b"version https://git-lfs.github.c", Some(ForeignFormat::LfsPointer)),
            (b"", None),
            (b"GGU", None),
            (b"{", Some(ForeignFormat::Json)),
            (b"\x89PNG\r\n\x1A\n", None),
        ] {
            assert_eq!(ForeignFormat::of_start(start), format, "{}", start.escape_ascii());
        }
    }
}
