//! What can be wrong with a record, and with loading one into a model.

use core::fmt;
use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::difference::Difference;
use super::format::section::Part;
use crate::module::ParamId;
use crate::record::format::entry::RecordEntry;
use crate::tensor::TensorError;

/// A record could not be written, read, or loaded into a model.
///
/// Where it concerns one parameter or state, its path comes first.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// The system could not read or write.
    Io {
        /// The file, if it is known.
        path: Option<PathBuf>,
        /// The system's reason.
        source: io::Error,
    },
    /// The bytes do not start like a record.
    BadMagic {
        /// How they start.
        found: [u8; 8],
    },
    /// The record's version is not one that this library reads.
    UnknownVersion {
        /// The record's version.
        found: u32,
        /// The newest version that this library reads.
        newest: u32,
    },
    /// The record ends too early.
    Truncated {
        /// Where it ends.
        at: u64,
        /// Where it should end, as far as that could be read.
        expected: u64,
    },
    /// Something follows the record's last byte.
    TrailingBytes {
        /// Where the record should end.
        expected: u64,
    },
    /// The header is longer than any that is written or read.
    HeaderTooLong {
        /// Its length.
        len: u64,
        /// The limit.
        limit: u64,
    },
    /// The checksum of prelude and header is not the stored one.
    HeaderChecksum {
        /// The checksum in the prelude.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The header is not what its encoding says: a string is no UTF-8, a list does not fit.
    Header {
        /// The decoder's reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The header ends before the length that the prelude gives it.
    HeaderLen {
        /// The length in the prelude.
        said: usize,
        /// The bytes that belong to the header.
        read: usize,
    },
    /// A byte between sections is not zero.
    Padding {
        /// Its position.
        at: u64,
    },
    /// The checksum of a section is not the stored one.
    Checksum {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        part: Part,
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// Two parameters, or two states, have one name.
    DuplicateName {
        /// The name.
        id: ParamId,
    },
    /// The keys of the metadata do not ascend: one is there twice, or out of order.
    MetadataOrder {
        /// The first key that is not greater than the one before it.
        key: String,
    },
    /// A number that describes how a tensor is stored has no meaning there.
    Encoding {
        /// The parameter.
        id: ParamId,
        /// The field.
        field: &'static str,
        /// The number.
        value: i64,
    },
    /// The elements of a shape cannot be counted on this machine.
    Shape {
        /// The parameter.
        id: ParamId,
        /// The shape.
        shape: Vec<u64>,
    },
    /// A section has not the length that shape and scheme ask for.
    SectionLen {
        /// The parameter.
        id: ParamId,
        /// Which of its sections.
        part: Part,
        /// The length that is needed, in bytes.
        expected: u64,
        /// The length in the header.
        found: u64,
    },
    /// A section does not start on a boundary.
    Unaligned {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        part: Part,
        /// Where it starts.
        offset: u64,
    },
    /// A section starts before the end of the one before it, or of the header.
    Overlap {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        part: Part,
        /// Where it starts.
        offset: u64,
        /// Where it should start.
        expected: u64,
    },
    /// A section starts later than the one before it ends: the bytes between belong to nothing.
    Gap {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        part: Part,
        /// Where it starts.
        offset: u64,
        /// Where it should start.
        expected: u64,
    },
    /// A section reaches past the end of the record.
    PastEnd {
        /// The parameter or state.
        id: ParamId,
        /// Which of its sections.
        part: Part,
        /// Its length.
        len: u64,
        /// The bytes from its start to the end of the record.
        available: u64,
    },
    /// The sections end before the end that the prelude gives the record.
    FileLen {
        /// The length in the prelude.
        said: u64,
        /// Where the last section ends.
        needed: u64,
    },
    /// The parts of a tensor do not fit each other.
    Tensor {
        /// The parameter.
        id: ParamId,
        /// Why.
        source: TensorError,
    },
    /// A parameter or state was another one when it was written than when it was measured.
    Changed {
        /// The parameter or state.
        id: ParamId,
    },
    /// The index of a record in parts is not right.
    Index(IndexError),
    /// The bytes are the index of a record in parts, which are read by the path of the index only.
    IsIndex,
    /// A part of a record is another file than the one that its index names.
    ForeignPart {
        /// The part.
        file: PathBuf,
        /// The length in the index.
        expected_len: u64,
        /// The part's length.
        found_len: u64,
        /// The checksum in the index.
        expected_checksum: u32,
        /// The checksum in the part's prelude.
        found_checksum: u32,
    },
    /// A part of a record is no record.
    InPart {
        /// The part.
        file: PathBuf,
        /// Why.
        source: Box<RecordError>,
    },
    /// A [`RecordWriter`](super::RecordWriter) was given another tensor than the next one declared.
    NotDeclared {
        /// The tensor's name.
        id: ParamId,
        /// The declared tensor whose turn it is; `None` after the last one.
        expected: Option<Box<RecordEntry>>,
        /// What was given.
        found: Box<RecordEntry>,
    },
    /// A [`RecordWriter`](super::RecordWriter) was finished before all tensors were written, or
    /// used after an error.
    Unfinished {
        /// The first tensor that is missing; `None` if the error came later.
        id: Option<ParamId>,
    },
    /// The record is not one of this model.
    Differences(Vec<Difference>),
    /// A reason of another [`Recorder`](super::Recorder)'s own.
    Recorder {
        /// The reason.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// The index of a record in parts is not right.
#[derive(Debug)]
#[non_exhaustive]
pub enum IndexError {
    /// It is longer than any that is written or read.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// Its checksum is not the stored one.
    Checksum {
        /// The checksum in the index.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// It is not what its encoding says: a string is no UTF-8, a list does not fit.
    Encoding {
        /// The decoder's reason.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It names no part.
    NoParts,
    /// The name of a part is not that of a file beside the index.
    PartName {
        /// The name.
        name: String,
    },
    /// A part is there twice.
    DuplicatePart {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "the index has more than {limit} bytes"),
            Self::Checksum { stored, computed } => {
                write!(f, "the index is damaged: its checksum is {computed:08x}, not {stored:08x}")
            }
            Self::Encoding { source } => write!(f, "the index cannot be decoded: {source}"),
            Self::NoParts => f.write_str("the index names no part"),
            Self::PartName { name } => {
                write!(f, "the index names the part {name:?}, which is no plain file name")
            }
            Self::DuplicatePart { name } => write!(f, "the index names the part {name:?} twice"),
        }
    }
}

impl Error for IndexError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Encoding { source } => Some(&**source),
            _ => None,
        }
    }
}

impl From<IndexError> for RecordError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path: Some(path), source } => write!(f, "{}: {source}", path.display()),
            Self::Io { path: None, source } => source.fmt(f),
            Self::BadMagic { found } => {
                write!(f, "not a record: it starts with \"{}\"", found.escape_ascii())
            }
            Self::UnknownVersion { found, newest } => {
                write!(f, "the record has version {found}, and the newest known is {newest}")
            }
            Self::Truncated { at, expected } => {
                write!(f, "truncated: the record ends at byte {at} of at least {expected}")
            }
            Self::TrailingBytes { expected } => {
                write!(f, "trailing bytes: the record ends at byte {expected}, the input does not")
            }
            Self::HeaderTooLong { len, limit } => {
                write!(f, "the header has {len} bytes, and the limit is {limit}")
            }
            Self::HeaderChecksum { stored, computed } => {
                write!(f, "the header is damaged: its checksum is {computed:08x}, not {stored:08x}")
            }
            Self::Header { source } => write!(f, "the header cannot be decoded: {source}"),
            Self::HeaderLen { said, read } => {
                write!(f, "the header takes {said} bytes, but its content only {read}")
            }
            Self::Padding { at } => write!(f, "byte {at} is padding, and not zero"),
            Self::Checksum { id, part, stored, computed } => {
                write!(f, "{id}: {part} damaged: the checksum is {computed:08x}, not {stored:08x}")
            }
            Self::DuplicateName { id } => write!(f, "{id}: the name is there twice"),
            Self::MetadataOrder { key } => {
                write!(f, "metadata `{key}`: the key is there twice, or out of order")
            }
            Self::Encoding { id, field, value } => {
                write!(f, "{id}: the {field} {value} has no meaning")
            }
            Self::Shape { id, shape } => {
                write!(f, "{id}: shape {shape:?} has too many elements to count")
            }
            Self::SectionLen { id, part, expected, found } => {
                write!(f, "{id}: {part} take {expected} bytes, but have {found}")
            }
            Self::Unaligned { id, part, offset } => {
                write!(f, "{id}: {part} unaligned, at byte {offset}")
            }
            Self::Overlap { id, part, offset, expected } => {
                write!(f, "{id}: {part} at byte {offset} overlap what ends at {expected}")
            }
            Self::Gap { id, part, offset, expected } => {
                write!(f, "{id}: {part} at byte {offset} leave a gap from {expected}")
            }
            Self::PastEnd { id, part, len, available } => {
                write!(f, "{id}: {part} take {len} bytes, but the record has {available} left")
            }
            Self::FileLen { said, needed } => {
                write!(f, "the record says it has {said} bytes, but its sections end at {needed}")
            }
            Self::Tensor { id, source } => write!(f, "{id}: {source}"),
            Self::Changed { id } => write!(f, "{id}: changed while it was being saved"),
            Self::Index(error) => error.fmt(f),
            Self::IsIndex => f.write_str("an index of parts: it is read by its path only"),
            Self::ForeignPart { file, expected_len, found_len, .. }
                if expected_len != found_len =>
            {
                write!(
                    f,
                    "{}: has {found_len} bytes, but the part that the index names {expected_len}",
                    file.display()
                )
            }
            Self::ForeignPart { file, expected_checksum, found_checksum, .. } => write!(
                f,
                "{}: the header's checksum is {found_checksum:08x}, not {expected_checksum:08x} as in the index",
                file.display()
            ),
            Self::InPart { file, source } => write!(f, "{}: {source}", file.display()),
            Self::NotDeclared { id, expected: None, .. } => {
                write!(f, "{id}: written after the last tensor that was declared")
            }
            Self::NotDeclared { expected: Some(expected), found, .. } => {
                not_declared(expected, found, f)
            }
            Self::Unfinished { id: Some(id) } => write!(f, "{id}: declared, and never written"),
            Self::Unfinished { id: None } => {
                f.write_str("an earlier error left the record unfinished")
            }
            Self::Differences(differences) => list(differences, f),
            Self::Recorder { source } => source.fmt(f),
        }
    }
}

/// The first thing in which a tensor is not the declared one.
fn not_declared(
    expected: &RecordEntry,
    found: &RecordEntry,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let id = &found.id;
    if *id != expected.id {
        return write!(f, "{id}: written where {} was declared", expected.id);
    }
    if found.shape != expected.shape {
        return write!(f, "{id}: shape {:?}, declared as {:?}", found.shape, expected.shape);
    }
    let name = |entry: &RecordEntry| match entry.scheme {
        Some(scheme) => scheme.to_string(),
        None => "float32".into(),
    };
    write!(f, "{id}: {}, declared as {}", name(found), name(expected))
}

fn list(differences: &[Difference], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "the record does not fit the model:")?;
    differences.iter().try_for_each(|difference| write!(f, "\n  {difference}"))
}

impl Error for RecordError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Header { source } | Self::Recorder { source } => Some(&**source),
            Self::Tensor { source, .. } => Some(source),
            Self::InPart { source, .. } => Some(&**source),
            Self::Index(error) => error.source(),
            _ => None,
        }
    }
}

impl From<io::Error> for RecordError {
    fn from(source: io::Error) -> Self {
        Self::Io { path: None, source }
    }
}

impl RecordError {
    /// The same error with the file it is about, where that says something.
    #[must_use]
    pub fn in_file(self, file: &std::path::Path) -> Self {
        match self {
            Self::Io { path: None, source } => Self::Io { path: Some(file.into()), source },
            other => other,
        }
    }

    /// The same error with the part of a record it is about.
    pub(super) fn in_part(self, file: &std::path::Path) -> Self {
        match self.in_file(file) {
            named @ (Self::Io { .. } | Self::ForeignPart { .. }) => named,
            other => Self::InPart { file: file.into(), source: Box::new(other) },
        }
    }
}
