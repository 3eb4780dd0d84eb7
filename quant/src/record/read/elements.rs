//! Elements as they lie in a file, read straight to where they stay.

use std::io;

use crate::record::format::layout::CHUNK;
use crate::scheme::f16_to_f32;

/// A type of element that bytes can be read into.
pub trait Element: bytemuck::Pod {
    /// Makes the element right whose bytes were read little end first.
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

/// Makes elements right whose bytes were read little end first.
pub fn fix_endian(elements: &mut [impl Element]) {
    if cfg!(target_endian = "big") {
        elements.iter_mut().for_each(Element::fix_endian);
    }
}

/// Reads elements until there are `count`: `fill` is called with the bytes of some at a time.
///
/// The count has been compared with the input's length if that is `known`; if not, room grows with
/// the bytes that have arrived.
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
        // Zeros that stay in the cache until they are overwritten there.
        elements.resize(start + more, T::zeroed());
        fill(bytemuck::cast_slice_mut(&mut elements[start..]))?;
    }
    Ok(())
}

/// Makes room for `more` elements of the `left` that are claimed to follow.
pub fn reserve<T>(to: &mut Vec<T>, more: usize, left: usize, known: bool) -> io::Result<()> {
    if to.capacity() - to.len() < more {
        to.try_reserve_exact(if known { left } else { (to.len() / 4).clamp(more, left) })?;
    }
    Ok(())
}

/// Scales read in half precision.
pub(crate) fn widen(halves: &[u16]) -> Vec<f32> {
    halves.iter().map(|&bits| f16_to_f32(bits)).collect()
}
