//! Sizes that the order of rows in memory depends on.

use alloc::vec::Vec;
use bytemuck::Zeroable;
use bytemuck::allocation::try_zeroed_vec;

/// Positions of a panel.
pub(super) const PANEL: usize = 32;

/// Dimensions of a head that share a scale at 4 bits.
pub(super) const BLOCK: usize = 32;

/// Zeros, in pages that the system hands out when they are first used.
pub(super) fn zeroed<T: Zeroable>(len: usize) -> Option<Vec<T>> {
    try_zeroed_vec(len).ok()
}
