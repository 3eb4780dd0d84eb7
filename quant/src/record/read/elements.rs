//! Typed elements, read directly into their final buffer.

use std::io;

use crate::record::format::layout::CHUNK;

/// An element type that can be read from little-endian bytes.
pub trait Element: bytemuck::Pod {
    /// Converts an element whose bytes are little endian to the byte order of this machine.
    fn fix_endian(&mut self);
}

impl Element for u8 {
    fn fix_endian(&mut self) {}
}

impl Element for i8 {
    fn fix_endian(&mut self) {}
}

impl Element for u16 {
    fn fix_endian(&mut self) {
        *self = Self::from_le(*self);
    }
}

impl Element for f32 {
    fn fix_endian(&mut self) {
        *self = Self::from_bits(u32::from_le(self.to_bits()));
    }
}

/// Converts elements whose bytes are little endian to the byte order of this machine.
pub fn fix_endian(elements: &mut [impl Element]) {
    if cfg!(target_endian = "big") {
        elements.iter_mut().for_each(Element::fix_endian);
    }
}

/// Appends elements until there are `count`; `fill` is called with the bytes of one chunk at a time.
///
/// If the length of the input is `known`, the caller has compared `count` with it, and memory is
/// reserved at once. Otherwise memory grows with the bytes that have arrived.
pub fn read_elements<T: Element, E: From<io::Error>>(
    elements: &mut Vec<T>,
    count: usize,
    known: bool,
    mut fill: impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    while elements.len() < count {
        let (start, left) = (elements.len(), count - elements.len());
        let more = left.min(CHUNK / size_of::<T>());
        reserve(elements, more, left, known)?;
        // The zeros of one chunk stay in the cache until they are overwritten.
        elements.resize(start + more, T::zeroed());
        fill(bytemuck::cast_slice_mut(&mut elements[start..]))?;
    }
    Ok(())
}

/// Reserves memory for `more` elements, of `left` that are claimed to follow.
pub fn reserve<T>(to: &mut Vec<T>, more: usize, left: usize, known: bool) -> io::Result<()> {
    if to.capacity() - to.len() < more {
        to.try_reserve_exact(if known { left } else { (to.len() / 4).clamp(more, left) })?;
    }
    Ok(())
}
