//! Quantized tensors in parts: runs of elements whose codes and groups are apart from the others.

use alloc::vec::Vec;

use crate::scheme::{Granularity, QuantizationScheme};

/// The least run of elements in which a tensor can be divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grain {
    pub(crate) elements: usize,
    pub(crate) groups: usize,
    /// The elements of a channel, or of a row of blocks.
    unit: usize,
}

impl Grain {
    /// About so many elements are a grain, so that what is kept of each is small beside it.
    const ELEMENTS: usize = 1024;

    /// `None` if groups have elements all over the tensor, or there is nothing to divide.
    pub(crate) fn of(shape: &[usize], scheme: QuantizationScheme) -> Option<Self> {
        // Codes of a row share bytes, so that a row is not divided.
        let [_, inner @ .., row] = shape else { return None };
        if shape.contains(&0) {
            return None;
        }
        let (unit, groups) = match scheme.granularity() {
            Granularity::PerBlock(block) => (*row, row.div_ceil(block.len())),
            Granularity::PerChannel(axis) if axis.resolve(shape.len()) == Some(0) => {
                (inner.iter().product::<usize>() * row, 1)
            }
            _ => return None,
        };
        let units = Self::ELEMENTS.div_ceil(unit);
        Some(Self { elements: units * unit, groups: units * groups, unit })
    }

    /// The shape of a part of so many elements.
    pub(crate) fn part_shape(
        self,
        shape: &[usize],
        scheme: QuantizationScheme,
        count: usize,
    ) -> Vec<usize> {
        let inner = match scheme.granularity() {
            Granularity::PerBlock(_) => &shape[shape.len() - 1..],
            _ => &shape[1..],
        };
        let mut part = alloc::vec![count / self.unit];
        part.extend(inner);
        part
    }

    /// The number of groups before an element at which a grain starts.
    pub(crate) fn groups_before(self, element: usize) -> usize {
        element / self.elements * self.groups
    }
}

/// The number of elements at multiples of which a part of a quantized tensor may start; `None` if the
/// tensor cannot be divided.
pub fn grain(shape: &[usize], scheme: QuantizationScheme) -> Option<usize> {
    Some(Grain::of(shape, scheme)?.elements)
}

/// The number of elements at multiples of which two tensors, or one in two schemes, may be divided.
pub fn common_grain(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    let (a, b) = (a?, b?);
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor).checked_mul(b)
}

/// The number of groups before an element at which a grain starts; 0 if the tensor cannot be divided.
pub(crate) fn groups_before(shape: &[usize], scheme: QuantizationScheme, element: usize) -> usize {
    Grain::of(shape, scheme).map_or(0, |grain| grain.groups_before(element))
}

/// The shape of a part of so many elements, if the tensor can be divided.
pub fn part_shape(shape: &[usize], scheme: QuantizationScheme, count: usize) -> Option<Vec<usize>> {
    Some(Grain::of(shape, scheme)?.part_shape(shape, scheme, count))
}
