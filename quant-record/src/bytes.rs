//! Numbers, strings and lists from the bytes of a header, as bincode with fixed widths writes them.

/// What is left of a header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next `len` bytes, or `None` if there are fewer.
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string: its length, and its bytes in UTF-8.
    pub(crate) fn string(&mut self) -> Option<&'a str> {
        let len = self.u64()?;
        core::str::from_utf8(self.take(len.try_into().ok()?)?).ok()
    }

    /// The extents of a shape: their number, and 8 bytes for each.
    pub(crate) fn extents(&mut self) -> Option<&'a [u8]> {
        let rank = usize::try_from(self.u64()?).ok()?;
        self.take(rank.checked_mul(8)?)
    }
}
