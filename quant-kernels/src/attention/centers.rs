//! What is subtracted from keys of 4 bits before they are quantized: the mean of the panel before theirs.
//!
//! Most of a key is the same for all tokens, or changes slowly with their positions. Codes are spent on the
//! rest.

use super::cache::KeyValueCache;
use super::panels::{Panels, Step};
use super::sizes::{BLOCK, PANEL};
use crate::isa::Isa;
use crate::scheme::f16_to_f32;
use core::array::from_fn;

impl KeyValueCache {
    /// Sets the centers of a panel, before its first keys are quantized; `None` if one is too large.
    #[inline(always)]
    pub(super) fn set_centers<I: Isa>(&mut self, isa: I, panel: usize) -> Option<()> {
        let Self { keys, centers, turned: center, .. } = self;
        for head in 0..self.shape.heads {
            match panel.checked_sub(1) {
                None => center.fill(0.0),
                Some(before) => {
                    for (center, before) in center.iter_mut().zip(centers.bytes_of(head, before)) {
                        *center = before;
                    }
                    add_mean(keys, head, before, center);
                }
            }
            centers.set_bytes(isa, [head, panel], center)?;
        }
        Some(())
    }
}

/// Adds the mean of what the codes of a panel stand for.
fn add_mean(keys: &Panels, head: usize, panel: usize, out: &mut [f32]) {
    let steps = keys.panel(head, panel);
    let positions = panel * PANEL..(panel + 1) * PANEL;
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        let halves = keys.parameters.halves(head, block, positions.clone());
        let scales: [f32; PANEL] = from_fn(|lane| f16_to_f32(halves[lane]));
        let mut zeros = keys.parameters.zeros(head, block, positions.clone());
        let zeros: [i32; PANEL] = from_fn(|_| zeros.next().map_or(0, i32::from));
        let steps = &steps[block * (BLOCK / 8)..];
        for (dim, out) in out.iter_mut().enumerate() {
            let codes = nibbles(&steps[dim / 8], dim % 8);
            let mut sum = 0.0;
            for lane in 0..PANEL {
                sum += (codes[lane] - zeros[lane]) as f32 * scales[lane];
            }
            *out += sum * (1.0 / PANEL as f32);
        }
    }
}

/// The codes of one of eight dimensions.
#[inline(always)]
fn nibbles(step: &Step, dim: usize) -> [i32; PANEL] {
    let shift = dim % 4 * 8 + dim / 4 * 4;
    step.map(|word| word >> shift & 15)
}

impl Panels {
    /// What the 8-bit codes of a row stand for, in whole words.
    #[inline(always)]
    pub(super) fn bytes_of(&self, head: usize, position: usize) -> impl Iterator<Item = f32> {
        let blocks = self.panel(head, position / PANEL).chunks(BLOCK / 4).enumerate();
        blocks.flat_map(move |(block, steps)| {
            let half = self.parameters.halves(head, block, position..position + 1)[0];
            let scale = f16_to_f32(half);
            let codes = steps.iter().flat_map(move |step| step[position % PANEL].to_ne_bytes());
            codes.map(move |code| f32::from(code as i8) * scale)
        })
    }
}
