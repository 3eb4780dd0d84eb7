//! The sections of a record: end to end, each followed by zeros up to the next multiple of 64.

use crate::crc32::crc32;
use crate::error::{RecordError, SectionFault, SectionKind};
use crate::header::Section;
use crate::prelude::ALIGNMENT;

/// The bytes of a section that has been checked; empty if it is not within the file.
pub(crate) fn bytes(file: &[u8], section: Section) -> &[u8] {
    let range = || {
        let start = usize::try_from(section.offset).ok()?;
        file.get(start..start.checked_add(section.len.try_into().ok()?)?)
    };
    range().unwrap_or_default()
}

/// Checks sections in the order of the file.
pub(crate) struct Sections<'a> {
    file: &'a [u8],
    /// The end of the last section, without padding.
    end: usize,
}

impl<'a> Sections<'a> {
    /// Those after a header that ends at `end`.
    pub(crate) const fn new(file: &'a [u8], end: usize) -> Self {
        Self { file, end }
    }

    /// Checks the place of the next section, its length if one is `expected`, its checksum, and the
    /// padding before it; returns its bytes.
    pub(crate) fn next(
        &mut self,
        (name, kind): (&'a str, SectionKind),
        section: Section,
        expected: Option<usize>,
    ) -> Result<&'a [u8], RecordError<'a>> {
        let fail = |fault| Err(RecordError::Section { name, kind, fault });
        let start = self.pad()?;
        if section.offset != start as u64 {
            return fail(SectionFault::Offset { expected: start as u64, found: section.offset });
        }
        if let Some(expected) = expected.filter(|expected| *expected as u64 != section.len) {
            return fail(SectionFault::Length { expected: expected as u64, found: section.len });
        }
        let len = usize::try_from(section.len).ok();
        let rest = self.file.get(start..).unwrap_or_default();
        let Some(bytes) = len.and_then(|len| rest.get(..len)) else {
            return fail(SectionFault::PastEnd { len: section.len });
        };
        let (stored, computed) = (section.crc32, crc32(&[bytes]));
        if stored != computed {
            return fail(SectionFault::Checksum { stored, computed });
        }
        self.end = start + bytes.len();
        Ok(bytes)
    }

    /// Checks that the last section, with its padding, ends where the file does.
    pub(crate) fn finish(mut self) -> Result<(), RecordError<'a>> {
        match self.pad()? {
            needed if needed == self.file.len() => Ok(()),
            needed => Err(RecordError::UnusedBytes { needed }),
        }
    }

    /// Checks that all bytes up to the next multiple of 64 are there, and zero; returns the multiple.
    fn pad(&mut self) -> Result<usize, RecordError<'a>> {
        let next = self.end.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX);
        let Some(padding) = self.file.get(self.end..next) else {
            let (expected, found) = (next as u64, self.file.len());
            return Err(RecordError::FileLen { expected, found });
        };
        match padding.iter().position(|byte| *byte != 0) {
            Some(at) => Err(RecordError::Padding { at: self.end + at }),
            None => Ok(next),
        }
    }
}
