//! Arrays in files of numpy (`.npy`), row by row.
//!
//! Such a file has a magic, a version, the length of a header, the header as the literal of a Python
//! dictionary, and the elements.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use quant::__private::OpenFile;
use quant::kernel::scheme::f16_to_f32;

/// The longest header that is read; numpy pads headers to multiples of 64 bytes.
const MAX_HEADER: usize = 1 << 16;

/// Why a file cannot be read as an array.
#[derive(Debug)]
pub(crate) enum NpyError {
    Io(io::Error),
    /// The file is not of numpy, or its header is not one that numpy writes.
    Header,
    /// The elements have another type than `expected`.
    Type {
        found: String,
        expected: &'static str,
    },
    /// The array is stored column by column.
    ColumnMajor,
    /// The array has no axis, or more elements than can be counted.
    Shape {
        shape: Vec<usize>,
    },
    /// The file has another length than its header says.
    Len {
        expected: u64,
        found: u64,
    },
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("cannot be read"),
            Self::Header => f.write_str("not an array of NumPy (.npy)"),
            Self::Type { found, expected } => {
                write!(f, "elements of type `{found}`, but {expected} are expected")
            }
            Self::ColumnMajor => f.write_str("stored column by column; np.ascontiguousarray helps"),
            Self::Shape { shape } => write!(f, "shape {shape:?} cannot be read in rows"),
            Self::Len { expected, found } => {
                write!(f, "the header says {expected} bytes, but the file has {found}")
            }
        }
    }
}

impl Error for NpyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(source) => Some(source),
            _ => None,
        }
    }
}

impl From<io::Error> for NpyError {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

/// The type of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    F16,
    F32,
    F64,
    I32,
    U32,
    I64,
    U64,
}

impl Element {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "<f2" => Self::F16,
            "<f4" => Self::F32,
            "<f8" => Self::F64,
            "<i4" => Self::I32,
            "<u4" => Self::U32,
            "<i8" => Self::I64,
            "<u8" => Self::U64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }
}

/// An array that is read in rows along its last axis.
pub(crate) struct Npy {
    file: BufReader<File>,
    element: Element,
    type_name: String,
    shape: Vec<usize>,
    row: Vec<u8>,
}

impl Npy {
    /// Opens an array of at least one axis, and checks the length of the file.
    pub(crate) fn open(path: &Path) -> Result<Self, NpyError> {
        let OpenFile { file, len: found, .. } = OpenFile::open(path)?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        let (header, start) = header(&mut file)?;
        let type_name = field(&header, "descr").and_then(quoted).ok_or(NpyError::Header)?;
        let Some(element) = Element::parse(type_name) else {
            let expected = "little-endian floats or integers of 2, 4 or 8 bytes";
            return Err(NpyError::Type { found: type_name.into(), expected });
        };
        match field(&header, "fortran_order") {
            Some(order) if order.starts_with("False") => {}
            Some(order) if order.starts_with("True") => return Err(NpyError::ColumnMajor),
            _ => return Err(NpyError::Header),
        }
        let shape = field(&header, "shape").and_then(extents).ok_or(NpyError::Header)?;
        let count = shape.iter().try_fold(element.bytes(), |n, &extent| n.checked_mul(extent));
        let count = count.filter(|_| !shape.is_empty());
        let Some(count) = count else { return Err(NpyError::Shape { shape }) };
        let expected = start.saturating_add(count as u64);
        if expected != found {
            return Err(NpyError::Len { expected, found });
        }
        Ok(Self { file, element, type_name: type_name.into(), shape, row: Vec::new() })
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of rows, and of elements in each; all of them in one row for an array of one axis.
    pub(crate) fn rows(&self) -> (usize, usize) {
        let (len, outer) = self.shape.split_last().expect("there is an axis");
        (if *len == 0 { 0 } else { outer.iter().product() }, *len)
    }

    /// Reads the next row of floats; those of double precision are rounded.
    pub(crate) fn read_floats(&mut self, row: &mut Vec<f32>) -> Result<(), NpyError> {
        if !self.element.is_float() {
            return Err(self.unexpected("floats"));
        }
        self.read_row()?;
        row.clear();
        match self.element {
            Element::F16 => row.extend(elements(&self.row, half)),
            Element::F32 => row.extend(elements(&self.row, f32::from_le_bytes)),
            _ => row.extend(elements(&self.row, |it| f64::from_le_bytes(it) as f32)),
        }
        Ok(())
    }

    /// Reads the next row of integers; those that are not positions are `None`.
    pub(crate) fn read_integers(&mut self) -> Result<Vec<Option<usize>>, NpyError> {
        if self.element.is_float() {
            return Err(self.unexpected("integers"));
        }
        self.read_row()?;
        let row = &self.row;
        Ok(match self.element {
            Element::I32 => elements(row, |it| i32::from_le_bytes(it).try_into().ok()).collect(),
            Element::U32 => elements(row, |it| u32::from_le_bytes(it).try_into().ok()).collect(),
            Element::I64 => elements(row, |it| i64::from_le_bytes(it).try_into().ok()).collect(),
            _ => elements(row, |it| u64::from_le_bytes(it).try_into().ok()).collect(),
        })
    }

    fn read_row(&mut self) -> Result<(), NpyError> {
        // Not more than the file has, which was checked.
        self.row.resize(self.rows().1 * self.element.bytes(), 0);
        Ok(self.file.read_exact(&mut self.row)?)
    }

    fn unexpected(&self, expected: &'static str) -> NpyError {
        NpyError::Type { found: self.type_name.clone(), expected }
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    f16_to_f32(u16::from_le_bytes(bytes))
}

fn elements<'a, const N: usize, T>(
    row: &'a [u8],
    read: impl Fn([u8; N]) -> T + 'a,
) -> impl Iterator<Item = T> + 'a {
    row.as_chunks::<N>().0.iter().map(move |bytes| read(*bytes))
}

/// The header, and where the elements start.
fn header(file: &mut impl Read) -> Result<(String, u64), NpyError> {
    let mut start = [0; 10];
    read_header(file, &mut start)?;
    let [0x93, b'N', b'U', b'M', b'P', b'Y', major, _, low, high] = start else {
        return Err(NpyError::Header);
    };
    let mut len = usize::from(low) | usize::from(high) << 8;
    let mut at = start.len() as u64;
    if major > 1 {
        // Versions 2 and 3 have four bytes.
        let mut more = [0; 2];
        read_header(file, &mut more)?;
        len |= usize::from(more[0]) << 16 | usize::from(more[1]) << 24;
        at += 2;
    }
    if len > MAX_HEADER || !(1..=3).contains(&major) {
        return Err(NpyError::Header);
    }
    let mut text = vec![0; len];
    read_header(file, &mut text)?;
    Ok((String::from_utf8(text).map_err(|_| NpyError::Header)?, at + len as u64))
}

fn read_header(file: &mut impl Read, bytes: &mut [u8]) -> Result<(), NpyError> {
    file.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => NpyError::Header,
        _ => error.into(),
    })
}

/// What follows the key of a Python dictionary.
fn field<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let after = header.split_once(&format!("'{key}'"))?.1;
    Some(after.trim_start().strip_prefix(':')?.trim_start())
}

fn quoted(text: &str) -> Option<&str> {
    Some(text.strip_prefix('\'')?.split_once('\'')?.0)
}

/// The elements of a tuple of integers.
fn extents(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('(')?.split_once(')')?.0;
    let extents = inner.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    extents.map(|extent| extent.parse().ok()).collect()
}
